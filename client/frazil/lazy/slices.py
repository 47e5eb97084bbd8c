"""Lazy arrays cut into steps: slices that are computed together, each with what it takes to compute it and no more.

Cuts follow write units, so that no two steps write one; and borders of dask's chunks where both meet, so that no chunk
is computed twice. Who computes the steps is not known here.
"""

import pickle
import sys
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Final

from frazil.planning.cut import REGION_BYTES, REGION_UNITS
from frazil_functions.errors import InvalidInputError
from frazil_functions.grids import WriteGrid
from frazil_functions.regions import Region
from frazil_functions.writing.lazy import FileSlices, GraphSlice, GraphSlices
from frazil_functions.writing.slices import SliceStep

STEP_PAYLOAD: Final = 40_000
"""How many bytes the graph of a step takes at most, compressed, unless it is that of a single cut."""

_STEP_CHUNKS: Final = 512
"""How many chunks of dask a step has at most, unless more of them share a write unit."""

_DATA_BYTES: Final = 4_096
"""An array of so many bytes within a graph is data in memory, which a slice is made of."""

_TOGETHER_BYTES: Final = 1 << 30
"""More bytes than this are cut though chunks of dask are then computed in two steps."""


class Deferred:
    """What stands for a variable in files, of which the values are encoded by functions.

    It has what Xarray asks of an array to make another for it, and no values.

    Parameters
    ----------
    name, variable
        The variable, lazy, with the encoding of its target.
    dtype
        What it is encoded to.
    """

    __array_ufunc__ = None

    def __init__(self, name: str, variable: Any, dtype: Any) -> None:  # noqa: ANN401 - as Xarray has them
        self.name = name
        self.variable = variable
        self.dtype = dtype
        self.shape: tuple[int, ...] = variable.shape
        self.ndim = len(self.shape)

    def __array_function__(self, *_: object) -> Any:  # noqa: ANN401 - as NumPy has it
        return NotImplemented

    def transpose(self, order: Sequence[int]) -> "Deferred":
        """The same with its dimensions in another order."""
        dims = self.variable.dims
        return Deferred(self.name, self.variable.transpose(*(dims[axis] for axis in order)), self.dtype)


@dataclass(frozen=True, slots=True)
class Lazy:
    """A lazy array, and where it belongs.

    Attributes
    ----------
    source
        A dask array, a `Deferred`, or an array in memory.
    grid
        The write grid of its target; the grid's array is the target's path in the store.
    region
        Where it belongs within the target.
    """

    source: Any
    grid: WriteGrid
    region: Region

    @property
    def itemsize(self) -> int:
        """The size of an element in bytes."""
        return int(self.source.dtype.itemsize)

    @property
    def chunks(self) -> tuple[tuple[int, ...], ...] | None:
        """The lengths of dask's chunks along every dimension; None if it is no dask array."""
        return self.source.chunks if is_dask(self.source) else None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A step, its pickled slices, and its place among all: the share of the first dimension that lies before it."""

    step: SliceStep
    pickled: bytes
    place: float


def is_dask(source: object) -> bool:
    """Whether something is computed with a dask graph; imports nothing."""
    return "dask" in sys.modules and hasattr(type(source), "__dask_graph__")


def prepare(lazies: Sequence[Lazy]) -> list[Prepared]:
    """Every lazy array in steps.

    Raises
    ------
    InvalidInputError
        If what computes one of them cannot be pickled; it names the array.
    """
    some = [lazy for lazy in lazies if lazy.region.size]
    families: dict[object, list[Lazy]] = {}
    for number, lazy in enumerate(some):
        # Arrays in the same chunks often are made of the same data; what they share is computed once for all of them.
        alike = (lazy.region.ranges, lazy.grid.unit, lazy.chunks) if lazy.chunks is not None else number
        families.setdefault(alike, []).append(lazy)
    graph = GraphOf([lazy for lazy in some if lazy.chunks is not None])
    found = [one for family in families.values() for one in _Family(family, graph).steps()]
    return sorted(found, key=lambda one: one.place)


class GraphOf:
    """The graph of all dask arrays, optimised once."""

    def __init__(self, lazies: Sequence[Lazy]) -> None:
        self._graph: dict[Any, Any] = {}
        if not lazies:
            return
        # Whoever has a dask array has imported it.
        from dask.array.optimization import optimize  # noqa: PLC0415
        from dask.core import flatten  # noqa: PLC0415
        from dask.highlevelgraph import HighLevelGraph  # noqa: PLC0415

        sources = [lazy.source for lazy in lazies]
        keys = list(flatten([source.__dask_keys__() for source in sources]))  # type: ignore[no-untyped-call]
        # Optimised one by one, arrays would each compute again what they share.
        whole = HighLevelGraph.merge(*(source.__dask_graph__() for source in sources))
        self._graph.update(optimize(whole, keys))  # type: ignore[no-untyped-call, unused-ignore]

    def slices(self, regions: Sequence[tuple[Lazy, Region]]) -> GraphSlices:
        """What it takes to compute some regions."""
        from dask.core import flatten  # noqa: PLC0415 - as above
        from dask.optimization import cull  # noqa: PLC0415 - as above

        slices = tuple(self._slice(lazy, region) for lazy, region in regions)
        culled, _ = cull(self._graph, list(flatten([one.keys for one in slices])))  # type: ignore[no-untyped-call, unused-ignore]
        return GraphSlices(dict(culled), slices)

    def _slice(self, lazy: Lazy, region: Region) -> GraphSlice:
        held: list[range] = []
        inside: list[slice] = []
        assert lazy.chunks is not None
        for lengths, own, whole in zip(lazy.chunks, region.slices, lazy.region.slices, strict=True):
            edges = [0, *accumulate(lengths)]
            start, stop = own.start - whole.start, own.stop - whole.start
            first = bisect_right(edges, start) - 1
            last = bisect_right(edges, stop - 1)
            held.append(range(first, last))
            inside.append(slice(start - edges[first], stop - edges[first]))
        said = tuple(along[at.start : at.stop] for along, at in zip(lazy.chunks, held, strict=True))
        return GraphSlice(_nested((lazy.source.name,), held), tuple(inside), said)


def _nested(key: tuple[Any, ...], axes: Sequence[range]) -> Any:  # noqa: ANN401 - lists in lists, as deep as dimensions
    """The keys of a box of chunks, nested in a list for each dimension."""
    return [_nested((*key, at), axes[1:]) for at in axes[0]] if axes else key


class _Family:
    """Lazy arrays of one shape in the same chunks and write units, or one array in files."""

    def __init__(self, members: Sequence[Lazy], graph: GraphOf) -> None:
        self._members = members
        self._graph = graph
        self._one = members[0]
        self._nbytes = sum(member.itemsize for member in members)
        self._edges, self._limit = self._borders()

    def steps(self) -> Iterator[Prepared]:
        """The steps, in C order."""
        counts = tuple(len(edges) - 1 for edges in self._edges)
        cuts = WriteGrid("", self._one.region.dims, counts, (1,) * len(counts))
        for box in cuts.cut(self._together()):
            yield from self._prepared(box)

    def _borders(self) -> tuple[list[list[int]], int]:
        """Where each dimension may be cut, and how many bytes a step should have."""
        one = self._one
        units = [_units(part, unit) for part, unit in zip(one.region.slices, one.grid.unit, strict=True)]
        if one.chunks is None:
            return units, REGION_BYTES
        both: list[list[int]] = []
        for part, lengths, unit in zip(one.region.slices, one.chunks, one.grid.unit, strict=True):
            own = (part.start + edge for edge in accumulate(lengths))
            inner = [edge for edge in own if edge % unit == 0 and part.start < edge < part.stop]
            both.append([part.start, *dict.fromkeys(inner), part.stop])
        limit = REGION_BYTES
        for axis, lengths in enumerate(one.chunks):
            # A cut that is one chunk is computed as a whole, however large it is.
            if _largest(both) * self._nbytes > _TOGETHER_BYTES and _widest(both[axis]) > max(lengths):
                both[axis], limit = units[axis], _TOGETHER_BYTES // 2
        return both, limit

    def _together(self) -> int:
        """How many cuts a step is made of."""
        one, largest = self._one, _largest(self._edges)
        units = chunks = 1
        for axis, edges in enumerate(self._edges):
            units *= -(-_widest(edges) // one.grid.unit[axis])
            if one.chunks is not None:
                chunks *= -(-_widest(edges) // max(one.chunks[axis]))
        return min(
            self._limit // max(1, largest * self._nbytes),
            REGION_UNITS // units,
            _STEP_CHUNKS // (chunks * len(self._members)),
        )

    def _prepared(self, box: Region) -> Iterator[Prepared]:
        """A step of a box of cuts, or two where the graph takes too much room."""
        spans = zip(self._edges, box.ranges, strict=True)
        ranges = tuple((dim, edges[start], edges[stop]) for edges, (dim, start, stop) in spans)
        regions = [(member, Region(member.grid.array, ranges)) for member in self._members]
        pickled, buffers = self._pickled(regions)
        if len(pickled) > STEP_PAYLOAD and box.size > 1 and len(zlib.compress(pickled, 1)) > STEP_PAYLOAD:
            for half in _halves(box):
                yield from self._prepared(half)
            return
        place = 0.0
        if ranges:
            first = self._one.region.ranges[0]
            place = (ranges[0][1] - first[1]) / (first[2] - first[1])
        nbytes = sum(region.size * member.itemsize for member, region in regions)
        yield Prepared(SliceStep(tuple(region for _, region in regions), nbytes, buffers), pickled, place)

    def _pickled(self, regions: Sequence[tuple[Lazy, Region]]) -> tuple[bytes, tuple[bytes, ...]]:
        names = ", ".join(repr(member.grid.array) for member in self._members)
        if self._one.chunks is not None:
            import cloudpickle  # noqa: PLC0415 - dask brings it

            return pickled(self._graph.slices(regions), f"the dask graph of {names}", cloudpickle.dumps)
        deferred, ((_, region),) = self._one.source, regions
        whole = self._one.region.slices
        inside = tuple(
            slice(part.start - own.start, part.stop - own.start) for part, own in zip(region.slices, whole, strict=True)
        )
        part = deferred.variable[inside]
        return pickled(FileSlices(((deferred.name, part),)), f"the lazy variable {names}", pickle.dumps)


def pickled(value: object, what: str, dumps: Callable[..., bytes]) -> tuple[bytes, tuple[bytes, ...]]:
    """A value as a pickle, and the arrays in memory that it carries apart from it.

    Raises
    ------
    InvalidInputError
        If it cannot be pickled.
    """
    buffers: list[pickle.PickleBuffer] = []

    def apart(buffer: pickle.PickleBuffer) -> bool:
        """Take what is data; small arrays belong to what computes it, and stay in the pickle (True)."""
        if buffer.raw().nbytes < _DATA_BYTES:
            return True
        buffers.append(buffer)
        return False

    try:
        content = dumps(value, protocol=5, buffer_callback=apart)
    except Exception as error:  # what an object's own pickling raises is up to the object
        raise InvalidInputError(
            f"{what} cannot be pickled, so it cannot reach a function: {error}. Open files and connections inside of "
            "what is computed, read from a read-only session, or load the data first"
        ) from error
    return content, tuple(buffer.raw().tobytes() for buffer in buffers)


def _units(part: slice, unit: int) -> list[int]:
    """The borders of write units within a range, and its ends."""
    return [part.start, *range((part.start // unit + 1) * unit, part.stop, unit), part.stop]


def _widest(edges: Sequence[int]) -> int:
    return max(stop - start for start, stop in pairwise(edges))


def _largest(axes: Sequence[Sequence[int]]) -> int:
    """How many elements the largest cut has."""
    size = 1
    for edges in axes:
        size *= _widest(edges)
    return size


def _halves(box: Region) -> tuple[Region, Region]:
    axis = max(range(len(box.ranges)), key=lambda at: box.shape[at])
    dim, start, stop = box.ranges[axis]
    middle = (start + stop) // 2
    low, high = (
        Region(box.array, (*box.ranges[:axis], (dim, *ends), *box.ranges[axis + 1 :]))
        for ends in ((start, middle), (middle, stop))
    )
    return low, high
