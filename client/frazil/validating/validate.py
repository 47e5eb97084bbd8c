"""Validating, as a story: open, read labels, check metadata, look at chunks, compare with files, add up."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import icechunk
import numpy as np

from frazil.execution.executor import Executor
from frazil.report import Listener, silent
from frazil.running import using
from frazil.validating.against import compared
from frazil.validating.coordinates import range_faults, unit_faults
from frazil.validating.coverage import LabelValues, along_of, coverage_of, place
from frazil.validating.labels import LabelArray, label_faults
from frazil.validating.looking import Effort, look, open_regions, parts_of
from frazil.validating.metadata import attribute_faults, dimension_faults, units_faults, xarray_fault
from frazil.validating.notes import notes_of
from frazil.validating.opening import opened
from frazil.validating.references import FILE_FAULTS, Broken, check_references
from frazil.validating.report import ArrayFound, Fault, Validation
from frazil.validating.tree import Member, Tree, read_tree
from frazil_functions.authorising import VirtualContainers
from frazil_functions.damage import FILE_REFUSED
from frazil_functions.errors import InvalidInputError
from frazil_functions.locations import Location
from frazil_functions.reading.encoding import Attributes, Values, is_time_unit
from frazil_functions.regions import Region
from frazil_functions.summaries import Summary
from frazil_functions.template import check_group
from frazil_functions.validating.tasks import ChunkFault, PartCheck
from frazil_functions.validating.values import read_values, summary_of

_LABEL_BYTES: Final = 64 << 20
"""The largest coordinate whose labels are looked at."""

_UNLIKE: Final = "Convert the files to the type that the array has, or leave it out (--variables)"
_RESET: Final = "Reset the branch to a snapshot that is whole, or restore the object from a copy"
_REWRITE: Final = (
    "Write it again from its files (--mode region), or reset the branch to a snapshot whose chunks are whole"
)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is validated, beyond the tree."""

    against: tuple[str, ...]
    variables: tuple[str, ...] | None
    complete: bool
    containers: dict[str, bool]
    effort: Effort


@dataclass(slots=True)
class _Tally:
    """What was found in the arrays so far."""

    summaries: dict[str, Summary] = field(default_factory=dict)
    decoded: dict[str, int] = field(default_factory=dict)
    faults: dict[tuple[str, tuple[int, ...] | None], Fault] = field(default_factory=dict)
    more: dict[str, int] = field(default_factory=dict)
    differing: dict[str, list[PartCheck]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    compared: int = 0
    broken: Broken = field(default_factory=Broken)


def validate(  # noqa: PLR0913 - the options of the command, each once
    repo: str | Path | Location | icechunk.Repository,
    *,
    group: str = "",
    branch: str | None = None,
    snapshot: str | None = None,
    against: str | Path | Iterable[str | Path] | None = None,
    variables: str | Iterable[str] | None = None,
    full: bool = False,
    complete: bool = False,
    containers: VirtualContainers = None,
    executor: Executor | None = None,
    listener: Listener = silent,
    effort: Effort | None = None,
) -> Validation:
    """Look whether what a repository holds is whole, readable and consistent. Writes nothing.

    Every chunk that the manifests promise must be in the storage, to its last byte, and a sample of them, or all, must
    decode; the files that references lead into must be there, whole and unchanged; labels must be there, finite, in
    order and without gaps; metadata must name what exists; Xarray must be able to decode every group.

    Parameters
    ----------
    repo
        The repository, open, or where it is. Frazil need not have written it.
    group
        The group that is validated, with all that lies below it; the root by default.
    branch, snapshot
        What is validated: the tip of a branch ("main" by default), or a snapshot by its id.
    against
        Files to compare values with, as `frazil.plan` takes them, placed by their labels; none by default.
    variables
        Arrays to look at, by path within the group; all by default.
    full
        Whether every chunk is decoded, or only a sample.
    complete
        Whether chunks that were never written are faults; by default they read as fill, as in any Zarr array.
    containers
        The containers whose files may be read, as `open_repository` takes them in `virtual_containers`; what a
        repository that is open has authorised stays so. References into others are a fault of each.
    executor
        Where functions look at large stores; Lithops as it is configured by default. Small ones are read here.
    listener
        Told how far the work is.
    effort
        How much is looked at, and where, in place of `full`.

    Returns
    -------
    Validation
        Faults, and what each array is like.

    Raises
    ------
    InvalidInputError
        If there is no such repository, branch, snapshot, group, variable or container, or files to compare with cannot
        be read.
    BackendError
        If the storage does not answer, or refuses.

    Examples
    --------
    >>> from frazil_functions.repositories import open_repository
    >>> _ = open_repository("archive-to-validate.icechunk")
    >>> validate("archive-to-validate.icechunk").ok
    True
    """
    began = time.perf_counter()
    group = group.strip("/")
    check_group(group)
    source = opened(repo, branch, snapshot, containers)
    chosen = (variables,) if isinstance(variables, str) else None if variables is None else tuple(variables)
    files = None if against is None else (against,) if isinstance(against, str | Path) else tuple(against)
    if files is not None and not all(map(str, files or ("",))):
        raise InvalidInputError(
            "no files were named to compare with (--against); name some (paths, URLs, globs), or leave it out"
        )
    asked = _Asked(tuple(map(str, files or ())), chosen, complete, source.containers, effort or Effort(full=full))
    tree = read_tree(source.session, group, chosen)
    with using(executor) as calls:
        found = _found(tree, asked, calls, listener)
    return replace(found, seconds=time.perf_counter() - began)


def _found(tree: Tree, asked: _Asked, calls: Executor, listener: Listener) -> Validation:
    tally = _Tally()
    for member in tree.members.values():
        if member.fault:
            _add(tally, Fault("manifest", member.path, f"its manifest cannot be read: {member.fault}", _REWRITE))
    checked = check_references(tree, asked.containers, asked.effort, calls, listener)
    tree, tally.broken = checked.tree, checked.broken
    labels, faults = _labels(tree, tally)
    faults += checked.faults
    if tree.fault:
        what = f"the snapshot {tree.session.snapshot_id} cannot be read, and nothing of it was looked at: {tree.fault}"
        faults.append(Fault("snapshot", "", what, _RESET))
    faults += [*dimension_faults(tree), *attribute_faults(tree)]
    for member in tree.members.values():
        faults += [*units_faults(member), *unit_faults(member)]
    rest = [member for member in tree.members.values() if member.path not in tally.decoded and not member.fault]
    left = replace(tree, members={member.path: member for member in rest})
    for check in look(tree, list(parts_of(left, asked.effort)), None, asked.effort, calls, listener):
        _count(check, tree, labels, tally)
    faults += _undecodable(tree, [*faults, *tally.faults.values()])
    if asked.against:
        faults += _compare(tree, asked, labels, tally, calls, listener)
    faults += tally.broken.faults(tree)
    faults += tally.faults.values()
    faults += [_unnamed(path, count) for path, count in tally.more.items()]
    faults += [_differing(tree.members[path], checks, labels) for path, checks in tally.differing.items()]
    faults += [Fault("difference", path, f"cannot be compared: {why}", _UNLIKE) for path, why in tally.refused.items()]
    arrays = tuple(_array(member, labels.get(member.group, {}), tally) for member in tree.members.values())
    if asked.complete:
        faults += [fault for one in arrays if (fault := _incomplete(one, tree.members[one.path])) is not None]
    faults += [
        fault
        for path, member in tree.members.items()
        for fault in range_faults(member, tally.summaries.get(path, Summary()))
    ]
    notes = notes_of(tree, _LABEL_BYTES, altered=asked.effort.full and not asked.against)
    return Validation(
        tree.session.snapshot_id,
        tree.group,
        arrays,
        tuple(faults),
        notes,
        asked.effort.full,
        len(tree.files),
        tally.compared,
        0.0,
    )


def _labels(tree: Tree, tally: _Tally) -> tuple[dict[str, LabelValues], list[Fault]]:
    """The labels of every group that could be read, and what is wrong with them."""
    found: dict[str, dict[str, tuple[Values, Attributes]]] = {group: {} for group in tree.groups}
    faults: list[Fault] = []
    for member in tree.members.values():
        if not member.is_label or member.fault or not member.array.size or member.array.nbytes > _LABEL_BYTES:
            continue
        if member.shut is not None:  # what can be read of it is looked at with everything else
            continue
        region = Region(member.path, ((member.dims[0], 0, member.array.shape[0]),))
        pieces, damaged = read_values(member.array, region)
        tally.summaries[member.path] = summary_of(member.array, pieces)
        tally.decoded[member.path] = member.count - len(damaged)
        if damaged:
            for fault in damaged:
                _damaged(tally, tree, member, fault, "")
            continue
        values = pieces[0]
        found[member.group][member.name] = (values, member.attributes)
        faults += label_faults(LabelArray(member.path, values, member.attributes))
    for member in tree.beside.values():
        if member.shut is not None:
            tally.unread.append(member.path)
        elif member.array.size and member.array.nbytes <= _LABEL_BYTES:
            pieces, damaged = read_values(
                member.array, Region(member.path, ((member.dims[0], 0, member.array.shape[0]),))
            )
            if damaged:
                tally.unread.append(member.path)
            else:
                found[member.group][member.name] = (pieces[0], member.attributes)
    return dict(found), faults


def _undecodable(tree: Tree, faults: Sequence[Fault]) -> Iterator[Fault]:
    """Groups that Xarray cannot decode, unless what is wrong with them is known already."""
    for group in tree.groups:
        inside = [member for member in tree.members.values() if member.group == group]
        known = {fault.array for fault in faults if fault.kind in {"dimension", "units", "chunk", "manifest"}}
        if known & {member.path for member in inside} or any(m.array.ndim and m.names is None for m in inside):
            continue
        if any(m.shut is not None and _read_by_xarray(m) for m in (*inside, *tree.beside.values())):
            continue
        fault = xarray_fault(tree, group)
        if fault is not None:
            yield fault


def _read_by_xarray(member: Member) -> bool:
    """Whether some of its values are read when its group is opened: of labels, and of times."""
    return member.is_label or is_time_unit(member.attributes.get("units"))


def _damaged(tally: _Tally, tree: Tree, member: Member, one: ChunkFault, where: str) -> None:
    """Add what is wrong with a chunk, or with the file that it lies in."""
    file = None if one.index is None else member.file_of(one.index)
    if file is None:
        _add(tally, Fault("chunk", member.path, f"{one.what}{where}", _REWRITE, one.index))
    elif one.what in FILE_FAULTS or one.what.startswith(FILE_REFUSED):
        assert one.index is not None
        tally.broken.add(file, one.what, member.path, one.index)
    else:
        what = f"{one.what}; it lies in {tree.files[file]}{where}"
        _add(tally, Fault("chunk", member.path, what, _REWRITE, one.index))


def _add(tally: _Tally, fault: Fault) -> None:
    tally.faults.setdefault((fault.array, fault.chunk), fault)


def _count(check: PartCheck, tree: Tree, labels: dict[str, LabelValues], tally: _Tally) -> None:
    """Add what was found in a part."""
    region = check.part.region
    member = tree.members[region.array]
    for one in check.faults:
        where = ""
        if one.index is not None:
            named = member.region_of(one.index)
            first = place(member, tuple(start for _, start, _ in named.ranges), labels.get(member.group, {}))
            where = f" (it holds {named}" + (f", from {first})" if first else ")")
        _damaged(tally, tree, member, one, where)
    if check.failed > len(check.faults):
        tally.more[member.path] = tally.more.get(member.path, 0) + check.failed - len(check.faults)
    if check.summary is not None:
        tally.summaries[member.path] = tally.summaries.get(member.path, Summary()).beside(check.summary)
        tally.decoded[member.path] = tally.decoded.get(member.path, 0) + member.stored_in(region) - check.failed
    if check.part.look == "compare":
        tally.compared += 0 if check.failed or check.refused else region.size
        if check.refused:
            tally.refused.setdefault(member.path, check.refused)
        if check.difference is not None:
            tally.differing.setdefault(member.path, []).append(check)


def _compare(
    tree: Tree, asked: _Asked, labels: dict[str, LabelValues], tally: _Tally, calls: Executor, listener: Listener
) -> list[Fault]:
    if not tree.members:
        what = f"group /{tree.group} holds no arrays that files could be compared with"
        return [] if tree.fault else [Fault("difference", "", what, "Write them, or leave out --against")]
    damaged = [path for path, _ in tally.faults if tree.members[path].is_label and not tree.members[path].group]
    damaged += [one.path for one in tree.members.values() if one.shut is not None and one.is_label and not one.group]
    damaged += [path for path in tally.unread if "/" not in path]
    if damaged:
        what = f"the files were not compared, for the labels {damaged[0]!r} cannot be read"
        return [Fault("difference", damaged[0], what, "Mend them first")]
    comparisons, faults = compared(tree, asked.against, asked.variables, calls, listener)
    for one in comparisons:
        parts = [
            replace(part, region=region)
            for part in one.parts
            for region in open_regions(tree.members[part.region.array], part.region)
        ]
        for check in look(tree, parts, one.against, asked.effort, calls, listener):
            _count(check, tree, labels, tally)
    return faults


def _unnamed(path: str, count: int) -> Fault:
    return Fault("chunk", path, f"{count} more chunks are damaged beside those that are named", _REWRITE)


def _differing(member: Member, checks: Sequence[PartCheck], labels: dict[str, LabelValues]) -> Fault:
    """One fault for all that differs from files in an array."""
    found = [check.difference for check in checks if check.difference is not None]
    first = min(found, key=lambda one: one.index)
    where = place(member, first.index, labels.get(member.group, {}))
    count = sum(one.count for one in found)
    at = f"; the first is at index {list(first.index)}{f' ({where})' if where else ''}" if first.index else ""
    return Fault(
        "difference",
        member.path,
        f"{count} value{'s differ' if count > 1 else ' differs'} from the files{at}: {first.target} here, and "
        f"{first.source} there",
        "Write them again (--mode region), or find out which of the two is right",
    )


def _array(member: Member, labels: LabelValues, tally: _Tally) -> ArrayFound:
    summary, decoded = tally.summaries.get(member.path, Summary()), tally.decoded.get(member.path, 0)
    whole = decoded == member.count and not any(path == member.path for path, _ in tally.faults)
    filled = member.array.size - summary.count
    if whole and filled > 0:  # what was never written was not decoded, for it is known
        summary = summary.beside(_of_fill(member, filled))
    return ArrayFound(
        path=member.path,
        dims=member.dims,
        shape=member.array.shape,
        dtype="string" if member.array.dtype.kind in "OT" else str(member.array.dtype),
        units=member.grid.total,
        stored=member.count,
        referred=len(member.referred.units),
        files=len(np.unique(member.referred.files)),
        decoded=decoded,
        summary=summary,
        whole=whole,
        along=along_of(member, labels),
        coverage=coverage_of(member, labels),
    )


def _of_fill(member: Member, count: int) -> Summary:
    fill = np.full(1, member.array.fill_value, member.array.dtype)
    one = summary_of(member.array, [fill])
    return replace(one, count=count, missing=one.missing * count, infinite=one.infinite * count)


def _incomplete(found: ArrayFound, member: Member) -> Fault | None:
    """Chunks that were never written; labels and scalars tell by their values, which may all be the fill value."""
    if found.stored == found.units or member.is_label or not found.dims:
        return None
    first = member.region_of(tuple(int(at) for at in np.argwhere(~member.stored)[0]))
    empty = next(span for span in found.coverage if span.state != "written")
    where = f", {empty.labels[0]} to {empty.labels[1]}" if empty.labels else ""
    return Fault(
        "coverage",
        found.path,
        f"{found.units - found.stored} of {found.units} write units were never written, or hold nothing but fill; the "
        f"first is {first} ({found.along} {empty.start}:{empty.stop} is {empty.state}{where})",
        "Write what is missing (--mode region)",
    )
