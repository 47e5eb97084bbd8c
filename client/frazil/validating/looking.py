"""Looking: which parts of arrays are looked at, and what was found in them, added up.

The parts and the counts are known here from the manifests, so that a function cannot leave one out.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from frazil.execution.executor import Executor
from frazil.execution.results import results
from frazil.report import Listener, Progress
from frazil.validating.tree import Member, Tree
from frazil_functions import handler
from frazil_functions.errors import ReceiptError
from frazil_functions.plan import sources_of
from frazil_functions.regions import Region
from frazil_functions.template import itemsize_of
from frazil_functions.validating.task import validate_task
from frazil_functions.validating.tasks import (
    Against,
    Part,
    PartCheck,
    ValidateTask,
    dump_session,
    load_part_checks,
)
from frazil_functions.validating.values import dtype_of

REGION_BYTES: Final = 64 << 20
"""Values that are decoded at once; a write unit may exceed it."""
_UNITS: Final = 4096
"""Write units that are looked for in one part."""
_UNIT_COST: Final = 16 << 10
"""How many bytes can be decoded in the time that it takes to look whether a write unit is there."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is looked at, and where.

    Attributes
    ----------
    full
        Whether every chunk is decoded; else whether it is there, and a sample is decoded.
    sample_bytes
        How many bytes a sample has at most, beyond one write unit of each array.
    sample_units
        How many write units of one array are in it.
    whole_bytes
        The size of arrays that are decoded whole all the same.
    here_bytes
        What is read by this process; functions read more.
    files
        How many files are looked at for each array that refers to them; of more, each is looked at once for all.
    """

    full: bool = False
    sample_bytes: int = 128 << 20
    sample_units: int = 8
    whole_bytes: int = 8 << 20
    here_bytes: int = 64 << 20
    files: int = 1 << 16


def parts_of(tree: Tree, effort: Effort) -> Iterator[Part]:
    """What is to be looked at of every array: its write units' presence, and the values of some of them, or of all.

    Write units that are references are decoded alone: what can be told of their files without is known already.
    """
    left = effort.sample_bytes
    for member in tree.members.values():
        count = int(np.count_nonzero(member.readable))
        if not count:
            continue
        nbytes = count * unit_bytes(member)
        if effort.full or nbytes <= min(effort.whole_bytes, left):
            left -= nbytes
            for region in member.grid.cut(REGION_BYTES // unit_bytes(member)):
                yield from (Part("decode", one) for one in open_regions(member, region) if member.stored_in(one))
            continue
        yield from _present(member)
        seed = random.Random(f"{tree.session.snapshot_id}/{member.path}")  # noqa: S311 - what is sampled is no secret
        for mask in (member.readable & ~member.outside, member.readable & member.outside):
            units = np.flatnonzero(mask)
            picked = seed.sample(range(len(units)), min(len(units), effort.sample_units))
            for number, at in enumerate(sorted(picked)):
                left -= unit_bytes(member)
                if number and left < 0:
                    break
                yield Part("decode", member.region_of(member.index_of(int(units[at]))))


def _present(member: Member) -> Iterator[Part]:
    """Regions of some write units, less those that hold none that are stored here."""
    for region in member.grid.cut(_UNITS):
        inside = member.grid.unit_slices(region)
        if not member.outside[inside].any():
            if member.stored_in(region):
                yield Part("present", region)
            continue
        first = [one.start for one in inside]
        own = np.argwhere(member.stored[inside] & ~member.outside[inside]) + np.asarray(first, np.int64)
        if len(own):
            yield Part("present", region, tuple(tuple(index) for index in own.tolist()))


def open_regions(member: Member, region: Region) -> Iterator[Region]:
    """What of a region can be read: all of it, or the parts of it in write units that are not shut."""
    spans = zip(region.ranges, member.grid.unit, strict=True)
    inside = tuple(slice(start // unit, -(-stop // unit)) for (_, start, stop), unit in spans)
    if member.shut is None or not member.shut[inside].any():
        yield region
        return
    for index in np.argwhere(~member.shut[inside]) + np.asarray([one.start for one in inside], np.int64):
        unit = member.region_of(tuple(index.tolist()))
        yield unit.within({dim: (start, stop) for dim, start, stop in region.ranges})


def unit_bytes(member: Member) -> int:
    """The size of a write unit's values."""
    return max(1, int(np.prod(member.grid.unit, dtype=np.int64)) * itemsize_of(dtype_of(member.array)))


def look(
    tree: Tree,
    parts: Sequence[Part],
    against: Against | None,
    effort: Effort,
    executor: Executor,
    listener: Listener,
) -> Iterator[PartCheck]:
    """Look at the parts, in this process if that is little work, else by functions.

    Raises
    ------
    ReceiptError
        If a function returned something else than what it was asked for.
    BackendError
        If the storage or the backend does not answer.
    """
    costs = [_cost(part, tree) for part in parts]
    done, total = 0, sum(costs)
    listener(Progress("verify", 0, len(parts), 0, total))
    seen = 0
    for checks in _answers(tree, parts, costs, against, effort, executor):
        for check in checks:
            _admit(check, tree.found(check.part.region.array))
            yield check
        seen += len(checks)
        done += sum(_cost(check.part, tree) for check in checks)
        listener(Progress("verify", seen, len(parts), done, total))


def _answers(
    tree: Tree,
    parts: Sequence[Part],
    costs: Sequence[int],
    against: Against | None,
    effort: Effort,
    executor: Executor,
) -> Iterator[list[PartCheck]]:
    if sum(costs) <= effort.here_bytes:
        for part in parts:
            yield validate_task(ValidateTask(tree.group, b"", (part,), _needed((part,), against)), tree.session)
        return
    session = dump_session(tree.session)
    shares = _shared(parts, costs, executor.workers)
    tasks = [ValidateTask(tree.group, session, share, _needed(share, against)) for share in shares]
    for number, value in results(executor, handler.validate, tasks):
        checks = load_part_checks(value)
        if tuple(check.part for check in checks) != tasks[number].parts:
            raise ReceiptError("a function returned what it found in other parts than it was asked for")
        yield checks


def _cost(part: Part, tree: Tree) -> int:
    member = tree.found(part.region.array)
    if part.look in {"present", "follow"}:
        return _looked_for(part, member) * _UNIT_COST
    return part.region.size * itemsize_of(dtype_of(member.array))


def _looked_for(part: Part, member: Member) -> int:
    """How many write units are there to be looked for."""
    return len(part.units) or member.stored_in(part.region)


def _shared(parts: Sequence[Part], costs: Sequence[int], workers: int) -> list[tuple[Part, ...]]:
    """Parts that follow each other, in shares of about the same work; more than workers, for some are slower."""
    most = max(1, sum(costs) // (4 * workers))
    shares: list[list[Part]] = [[]]
    held = 0
    for part, cost in zip(parts, costs, strict=True):
        if shares[-1] and held + cost > most:
            shares.append([])
            held = 0
        shares[-1].append(part)
        held += cost
    return [tuple(share) for share in shares]


def _needed(parts: Iterable[Part], against: Against | None) -> Against | None:
    """The files that parts are compared with."""
    compared = [part.region for part in parts if part.look == "compare"]
    if against is None or not compared:
        return None
    spans = [(source.start, source.stop) for source in against.sources]
    first, behind = sources_of(compared, against.append_dim, spans)
    return replace(against, sources=against.sources[first:behind])


def _admit(check: PartCheck, member: Member) -> None:
    """Refuse an answer that cannot be true: it would hide what is wrong."""
    region, what = check.part.region, "a function's answer about"
    if (check.failed > 0) != bool(check.faults) or check.failed < len(check.faults):
        raise ReceiptError(f"{what} {region} counts {check.failed} faults, and names {len(check.faults)}")
    for fault in check.faults:
        if fault.index is not None and not _within(fault.index, member.grid.counts):
            raise ReceiptError(f"{what} {region} names the chunk {fault.index}, which {region.array!r} does not have")
    if check.part.look in {"present", "follow"} and check.stored != _looked_for(check.part, member):
        there = _looked_for(check.part, member)
        raise ReceiptError(f"{what} {region} counts {check.stored} chunks, and the manifest {there}")
    if check.part.look == "follow":
        told = [fault.index for fault in check.faults]
        if check.failed != len(told) or len(set(told)) < len(told) or not set(check.part.units).issuperset(told):
            raise ReceiptError(f"{what} the files of {region} is of other chunks than it was asked for")
    counted = check.summary.count if check.summary is not None else -1
    if check.part.look == "decode" and not (0 <= counted <= region.size and (check.failed or counted == region.size)):
        raise ReceiptError(f"{what} {region} does not cover its {region.size} values")
    differing = check.difference
    if differing is not None and not (
        0 < differing.count <= region.size and _within(differing.index, member.grid.shape)
    ):
        raise ReceiptError(f"{what} {region} names a difference that does not lie in it")


def _within(index: tuple[int, ...], counts: tuple[int, ...]) -> bool:
    return len(index) == len(counts) and all(0 <= at < count for at, count in zip(index, counts, strict=True))
