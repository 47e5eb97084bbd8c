"""Admitting receipts: hold each against the run, and what was merged against the plan."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import icechunk
import numpy as np

from frazil_functions.errors import ReceiptError, VerificationError
from frazil_functions.forks import ChunkIndex, ForkState, read_fork
from frazil_functions.grids import WriteGrid
from frazil_functions.regions import Region
from frazil_functions.tasks import Receipt
from frazil_functions.text import escaped

type _Indices = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
"""Chunk indices, one in each row."""


@dataclass(frozen=True, slots=True)
class ExpectedFork:
    """What a receipt's fork of one repository must agree with.

    Attributes
    ----------
    base
        The template's snapshot.
    state
        The state of the clean fork that every task was given.
    nodes
        Icechunk's id of every array that functions write, and the array's name.
    """

    base: str
    state: ForkState
    nodes: dict[bytes, str]


@dataclass(frozen=True, slots=True)
class Expected:
    """What a receipt of this run must agree with.

    Attributes
    ----------
    run_id, plan_hash
        As the tasks were given them.
    forks
        One for each repository that the run publishes to, the primary last.
    regions
        Every region of the plan.
    grids
        The write grid of every array that functions write, by name.
    places
        The URLs of files, or with a slash in the end those of folders of chunks, that references may lead to.
    referring
        The names of arrays that may refer to them.
    group
        The path of the group that is written.
    """

    run_id: str
    plan_hash: str
    forks: tuple[ExpectedFork, ...]
    regions: frozenset[Region]
    grids: dict[str, WriteGrid]
    places: frozenset[str] = frozenset()
    referring: frozenset[str] = frozenset()
    group: str = ""

    def holds(self, url: str) -> bool:
        """Whether a reference may lead to a URL."""
        if url in self.places:
            return True
        return any(f"{parent}/" in self.places for parent in _parents(url)) and not {"..", "."} & set(url.split("/"))


def admit(receipt: Receipt, expected: Expected) -> tuple[ForkState, ...]:
    """The receipt's forks, if the receipt belongs to the run and each fork holds its regions exactly.

    Icechunk's merge checks none of this: it takes forks of other repositories, bases and arrays.

    Raises
    ------
    ReceiptError
        Saying what does not agree.
    """
    for what, ours, theirs in (
        ("run", expected.run_id, receipt.run_id),
        ("plan", expected.plan_hash, receipt.plan_hash),
        ("base snapshots", [fork.base for fork in expected.forks], list(receipt.bases)),
    ):
        if ours != theirs:
            raise ReceiptError(f"a receipt of task {receipt.number} is of the {what} {theirs!r}, and this is {ours!r}")
    regions = [written.region for written in receipt.regions]
    for region in regions:
        if region not in expected.regions:
            raise ReceiptError(f"a receipt of task {receipt.number} names {region}, which the plan does not have")
    if len(set(regions)) != len(regions):
        raise ReceiptError(f"a receipt of task {receipt.number} names a region twice")
    if len(receipt.forks) != len(expected.forks):
        raise ReceiptError(f"a receipt of task {receipt.number} has forks of {len(receipt.forks)} repositories")
    states = tuple(read_fork(fork) for fork in receipt.forks)
    for state, fork in zip(states, expected.forks, strict=True):
        if state.frame != fork.state.frame:
            raise ReceiptError(
                f"the fork in a receipt of task {receipt.number} is not one of this run's: its repository, "
                "credentials, base snapshot or metadata differ from the fork that the task was given"
            )
        _check_chunks(receipt, state.written(), fork.nodes, expected.grids)
        _check_places(receipt, state.referred(), fork.nodes, expected)
    return states


def _check_places(
    receipt: Receipt, referred: Mapping[bytes, set[str]], nodes: Mapping[bytes, str], expected: Expected
) -> None:
    """Refuse references that lead elsewhere than into the plan's files: whoever reads would follow them."""
    for node, urls in referred.items():
        array = nodes[node]
        strange = sorted(urls) if array not in expected.referring else [url for url in urls if not expected.holds(url)]
        if strange:
            raise ReceiptError(
                f"the fork in a receipt of task {receipt.number} lets {array!r} refer to {escaped(strange[0])}, which "
                "is none of the plan's files"
            )


def _parents(url: str) -> Iterator[str]:
    while "/" in url:
        url = url.rpartition("/")[0]
        yield url


def _check_chunks(
    receipt: Receipt,
    written: Mapping[bytes, list[ChunkIndex]],
    nodes: Mapping[bytes, str],
    grids: Mapping[str, WriteGrid],
) -> None:
    owned: dict[str, list[Region]] = {}
    for one in receipt.regions:
        owned.setdefault(one.region.array, []).append(one.region)
    for node in written.keys() - nodes.keys():
        raise ReceiptError(
            f"the fork in a receipt of task {receipt.number} writes an array that is none of the template's "
            f"(node {node.hex()})"
        )
    by_array = {nodes[node]: indices for node, indices in written.items()}
    for array in owned.keys() | by_array.keys():
        problem = difference(grids[array], owned.get(array, []), by_array.get(array, []))
        if problem:
            raise ReceiptError(f"the fork in a receipt of task {receipt.number} {problem}")


def difference(grid: WriteGrid, regions: list[Region], indices: Collection[Sequence[int]]) -> str:
    """How a list of chunks differs from the write units of some regions; empty if it does not.

    What it costs grows with the box around the regions, not with the array: a receipt's regions
    are neighbours.
    """
    ndim = len(grid.counts)
    if not set(map(len, indices)) <= {ndim}:
        return f"names chunks outside of {grid.array!r}"
    at = np.fromiter(chain.from_iterable(indices), np.int64, len(indices) * ndim).reshape(len(indices), ndim)
    parts = [grid.unit_slices(region) for region in regions]
    low = [min((part[axis].start for part in parts), default=0) for axis in range(ndim)]
    high = [max((part[axis].stop for part in parts), default=0) for axis in range(ndim)]
    box = tuple(stop - start for start, stop in zip(low, high, strict=True))
    owned = np.zeros(box if parts else 0, bool)
    for part in parts:
        owned[tuple(slice(one.start - start, one.stop - start) for one, start in zip(part, low, strict=True))] = True
    inside = _within(at, low, high) if parts else np.zeros(len(at), bool)
    if not inside.all():
        if not _within(at, [0] * ndim, grid.counts).all():
            return f"names chunks outside of {grid.array!r}"
        return f"writes {_chunks(grid, at[~inside])}, which no region of it owns"
    found = np.zeros_like(owned)
    if len(at):
        found[tuple(column - start for column, start in zip(at.T, low, strict=True))] = True
    if np.array_equal(found, owned):
        return ""
    outside, lacking = np.argwhere(found & ~owned) + low, np.argwhere(owned & ~found) + low
    if len(outside):
        return f"writes {_chunks(grid, outside)}, which no region of it owns"
    return f"lacks {_chunks(grid, lacking)}, which its regions own"


def _within(at: _Indices, low: Sequence[int], high: Sequence[int]) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """Which of some chunk indices lie in a box."""
    inside = np.ones(len(at), bool)
    for column, start, stop in zip(at.T, low, high, strict=True):
        inside &= (column >= start) & (column < stop)
    return inside


def _chunks(grid: WriteGrid, indices: _Indices) -> str:
    first = min(tuple(int(part) for part in index) for index in indices)
    more = f" and {len(indices) - 1} more" if len(indices) > 1 else ""
    return f"chunk {first}{more} of {grid.array!r}"


def check_merged(session: icechunk.Session, group: str, grids: list[WriteGrid], regions: frozenset[Region]) -> None:
    """Hold what the merged session says it changed against the plan.

    Raises
    ------
    VerificationError
        If it changed anything but the plan's chunks, or not all of them.
    """
    status = session.status()
    updated = dict(status.updated_chunks)
    by_array: dict[str, list[Region]] = {}
    for region in regions:
        by_array.setdefault(region.array, []).append(region)
    for grid in grids:
        path = "/" + "/".join(part for part in (group, grid.array) if part)
        problem = difference(grid, by_array.get(grid.array, []), updated.pop(path, []))
        if problem:
            raise VerificationError(f"the merged session {problem}; nothing was published")
    changed = [
        *updated,
        *status.new_arrays,
        *status.new_groups,
        *status.deleted_arrays,
        *status.deleted_groups,
        *status.updated_arrays,
        *status.updated_groups,
    ]
    if changed:
        raise VerificationError(
            f"the merged session changes {changed[0]!r}, which the plan does not; nothing was published"
        )
