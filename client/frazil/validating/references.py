"""References: do the files that chunks refer to exist, reach far enough and lie where they may be read, unchanged.

The manifests say which files those are and how far each must reach. Of the chunk that ends last in a file the last byte
is asked for; that tells of the whole file. Everything else is counted from the manifests alone.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import batched, takewhile
from typing import Final

import numpy as np

from frazil.execution.executor import Executor
from frazil.report import Listener
from frazil.validating.looking import Effort, look
from frazil.validating.manifests import Mask, Numbers, Referred, ends_of_runs
from frazil.validating.report import Fault, Kind
from frazil.validating.tree import Member, Tree
from frazil_functions.damage import FILE_CHANGED, FILE_GONE, FILE_REFUSED, FILE_SHORT
from frazil_functions.regions import Region
from frazil_functions.validating.tasks import Part, PartCheck

FILE_FAULTS: Final[Mapping[str, str]] = {
    FILE_GONE: "Bring it back, or write what it held from other files (--mode region)",
    FILE_CHANGED: "Write what it holds again (--mode region), or bring it back as it was",
    FILE_SHORT: "Bring it back whole, or write what it held from other files (--mode region)",
}
"""What can be wrong with a file, and what helps."""

_UNITS: Final = 4096
"""Chunks whose files are looked at in one part."""
_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class _Chunks:
    """Chunks of one array: how many, and the index of the first."""

    count: int
    first: tuple[int, ...]

    def beside(self, other: "_Chunks | None") -> "_Chunks":
        return self if other is None else _Chunks(self.count + other.count, min(self.first, other.first))


@dataclass(slots=True)
class Broken:
    """What is wrong with files: by file and what that is, the chunks of each array that it was found by.

    Attributes
    ----------
    prefixes
        Of the repository's containers.
    found
        What is wrong.
    """

    prefixes: tuple[str, ...] = ()
    found: dict[tuple[int, str], dict[str, _Chunks]] = field(default_factory=dict)

    def add(self, file: int, what: str, path: str, first: tuple[int, ...], count: int = 1) -> None:
        """Say what is wrong with a file for so many chunks of an array."""
        arrays = self.found.setdefault((file, what), {})
        arrays[path] = _Chunks(count, first).beside(arrays.get(path))

    def faults(self, tree: Tree) -> Iterator[Fault]:
        """One fault for each file, and each thing that is wrong with it; one for each container that refuses."""
        refused: dict[tuple[str, str], list[int]] = {}
        for (file, what), arrays in sorted(self.found.items(), key=lambda one: (tree.files[one[0][0]], one[0][1])):
            if not arrays.keys() & tree.members.keys():  # labels beside what is validated
                continue
            if what.startswith(FILE_REFUSED):
                prefix = self.prefixes[_container(tree.files[file], self.prefixes)]
                refused.setdefault((prefix, what), []).append(file)
            else:
                cure = FILE_FAULTS.get(what, "Write what it held again (--mode region)")
                yield _fault(tree, "file", arrays, f"{what}: {tree.files[file]}", cure)
        for (prefix, what), files in refused.items():
            arrays = {}
            for file in files:
                for path, chunks in self.found[file, what].items():
                    arrays[path] = chunks.beside(arrays.get(path))
            why = what.removeprefix(FILE_REFUSED)
            told = f"reading {_counted(len(files), 'file')} in the container {prefix} was refused{why}: "
            told += f"{tree.files[files[0]]}{' and others' if len(files) > 1 else ''}"
            yield _fault(tree, "container", arrays, told, "Mend the credentials, or what they allow")


@dataclass(frozen=True, slots=True)
class Checked:
    """What is known of references once their files were looked at.

    Attributes
    ----------
    tree
        With the chunks shut that lie in files that cannot be read.
    faults
        What is wrong with where files lie.
    broken
        What is wrong with files.
    """

    tree: Tree
    faults: tuple[Fault, ...]
    broken: Broken


def check_references(
    tree: Tree, containers: Mapping[str, bool], effort: Effort, executor: Executor, listener: Listener
) -> Checked:
    """Look at the files that chunks refer to.

    Parameters
    ----------
    tree
        What is validated.
    containers
        The prefixes of the repository's containers, each with whether files there may be read.
    effort, executor, listener
        As `look` takes them.

    Raises
    ------
    BackendError
        If the storage of a file does not answer.
    """
    if not tree.files:
        return Checked(tree, (), Broken())
    prefixes = sorted(containers)
    lies = np.fromiter((_container(url, prefixes) for url in tree.files), np.int64, len(tree.files))
    allowed: Mask = np.array([*map(containers.__getitem__, prefixes), False])[lies]  # -1 is the last of them
    faults = (*_unauthorised(tree, prefixes, lies, allowed), *_outside(tree, lies))
    broken = Broken(tuple(prefixes))
    bad = _look(_Asking(tree, effort, executor, listener), allowed, broken, effort.files)
    left = replace(
        tree,
        members={path: _shut(one, ~allowed, bad.get(path)) for path, one in tree.members.items()},
        beside={path: _shut(one, ~allowed, bad.get(path)) for path, one in tree.beside.items()},
    )
    return Checked(left, faults, broken)


def _container(url: str, prefixes: Sequence[str]) -> int:
    """Which container a file lies in: that of the longest prefix, as Icechunk takes it; -1 for none."""
    inside = (at for at, prefix in enumerate(prefixes) if url.startswith(prefix))
    return max(inside, key=lambda at: len(prefixes[at]), default=-1)


def _shut(member: Member, files: Mask, units: Numbers | None) -> Member:
    """An array without the chunks of some files, and without some chunks."""
    mask: Mask = np.zeros(member.stored.shape, bool)
    mask.reshape(-1)[member.referred.units[files[member.referred.files]]] = True
    if units is not None:
        mask.reshape(-1)[units] = True
    return replace(member, shut=mask) if mask.any() else member


def _unauthorised(tree: Tree, prefixes: Sequence[str], lies: Numbers, allowed: Mask) -> Iterator[Fault]:
    """One fault for each container that nobody authorised."""
    for at in sorted(set(lies[~allowed & (lies >= 0)].tolist())):
        arrays, files = _chunks_in(tree, lies == at)
        if arrays:
            what = f"nobody authorised reading from the container {prefixes[at]}, so {_counted(files, 'file')} there"
            what += f" {'was' if files == 1 else 'were'} not looked at"
            yield _fault(tree, "container", arrays, what, f"Authorise it (--container {prefixes[at]})")


def _outside(tree: Tree, lies: Numbers) -> Iterator[Fault]:
    """One fault for each host, bucket or disk that no container is declared for."""
    places: dict[str, list[int]] = {}
    for number in np.flatnonzero(lies < 0).tolist():
        places.setdefault("/".join(tree.files[number].split("/")[:3]), []).append(number)
    for numbers in places.values():
        among: Mask = np.zeros(len(tree.files), bool)
        among[numbers] = True
        arrays, files = _chunks_in(tree, among)
        if not arrays:
            continue
        urls = sorted(tree.files[number] for number in numbers)
        what = f"{_counted(files, 'file')} {'lies' if files == 1 else 'lie'} in no container of the repository, so "
        what += f"nobody can follow references there: {urls[0]}{' and others' if files > 1 else ''}"
        ends = zip(urls[0].split("/")[:-1], urls[-1].split("/")[:-1], strict=False)  # what they share, all share
        holding = "/".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], ends))
        yield _fault(tree, "container", arrays, what, f"Declare one that holds them, such as {holding}/")


def _chunks_in(tree: Tree, files: Mask) -> tuple[dict[str, _Chunks], int]:
    """The chunks of each array that is validated that lie in some files, and how many files those are."""
    found, numbers = {}, set()
    for path, member in tree.members.items():
        inside = files[member.referred.files]
        units = member.referred.units[inside]
        if len(units):
            found[path] = _Chunks(len(units), member.index_of(int(units[0])))
            numbers.update(np.unique(member.referred.files[inside]).tolist())
    return found, len(numbers)


class _Asking:
    """Asks for the last bytes of chunks that lie in files."""

    def __init__(self, tree: Tree, effort: Effort, executor: Executor, listener: Listener) -> None:
        self.members = tree.members | tree.beside
        self._ask: Callable[[list[Part]], Iterator[PartCheck]] = lambda parts: look(
            tree, parts, None, effort, executor, listener
        )

    def __call__(self, chosen: Mapping[str, Referred]) -> Iterator[tuple[str, int, int, str]]:
        """Of those of them that cannot be read: array, place in its flattened grid, file, and what is wrong with it."""
        parts = [part for path, one in chosen.items() for part in _parts(self.members[path], one)]
        for check in self._ask(parts) if parts else ():
            member = self.members[check.part.region.array]
            for fault in check.faults:
                assert fault.index is not None
                unit = member.unit_of(fault.index)
                file = member.referred.file_of(unit)
                assert file is not None
                yield member.path, unit, file, fault.what


def _look(ask: _Asking, allowed: Mask, broken: Broken, most: int) -> dict[str, Numbers]:
    """By array, the chunks that cannot be read, for something is wrong with their files."""
    every = {path: one.referred.of(allowed[one.referred.files]) for path, one in ask.members.items()}
    last = {path: one.last_of_each for path, one in every.items()}
    if sum(len(one.units) for one in last.values()) <= most:
        found = list(ask(last))
    else:
        # Arrays may have been referred to a file at different times, before it changed and after.
        suspect = [file for _, _, file, _ in ask(_one_of_each(last))]
        found = list(ask({path: one.of(np.isin(one.files, suspect)) for path, one in last.items()}))
    # Of a file that is too short, chunks before its end can be read.
    short: dict[str, set[int]] = {}
    bad: dict[str, dict[int, str]] = {}
    for path, _, file, what in found:
        if what == FILE_SHORT:
            short.setdefault(path, set()).add(file)
        else:
            bad.setdefault(path, {})[file] = what
    shut: dict[str, list[int]] = {}
    for path, unit, file, what in ask({path: _in(every[path], files) for path, files in short.items()}):
        shut.setdefault(path, []).append(unit)
        broken.add(file, what, path, ask.members[path].index_of(unit))
    units = {path: [np.asarray(one, np.int64)] for path, one in shut.items()}
    for path, said in bad.items():
        inside = _in(every[path], said)
        units.setdefault(path, []).append(inside.units)
        for file, first, count in zip(*(one.tolist() for one in inside.first_of_each), strict=True):
            broken.add(file, said[file], path, ask.members[path].index_of(first), count)
    return {path: np.concatenate(parts) for path, parts in units.items()}


def _in(referred: Referred, files: Iterable[int]) -> Referred:
    """Those that lie in some files."""
    return referred.of(np.isin(referred.files, list(files)))


def _one_of_each(last: Mapping[str, Referred]) -> dict[str, Referred]:
    """Of each file, the one chunk of all arrays that ends last in it."""
    files = np.concatenate([one.files for one in last.values()])
    ends = np.concatenate([one.ends for one in last.values()])
    owner = np.repeat(np.arange(len(last)), [len(one.units) for one in last.values()])
    order = np.lexsort((ends, files))
    kept: Mask = np.zeros(len(files), bool)
    kept[order[ends_of_runs(files[order])]] = True
    return {path: one.of(kept[owner == at]) for at, (path, one) in enumerate(last.items())}


def _parts(member: Member, chosen: Referred) -> Iterator[Part]:
    region = Region(
        member.path, tuple((dim, 0, size) for dim, size in zip(member.dims, member.array.shape, strict=True))
    )
    for units in batched(np.sort(chosen.units).tolist(), _UNITS):
        yield Part("follow", region, tuple(member.index_of(unit) for unit in units))


def _fault(tree: Tree, kind: Kind, arrays: Mapping[str, _Chunks], what: str, cure: str) -> Fault:
    """One fault for chunks of several arrays; it names the first of the first."""
    path = next(one for one in tree.members if one in arrays)
    chunks = arrays[path]
    others = [repr(one) for one in tree.members if one in arrays and one != path]
    more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
    beside = f", and chunks of {', '.join(others[:_NAMED])}{more}" if others else ""
    refer = "refers" if chunks.count == 1 else "refer"
    count = _counted(chunks.count, "chunk")
    return Fault(kind, path, f"{what} ({count} of it {refer} there{beside})", cure, chunks.first)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"
