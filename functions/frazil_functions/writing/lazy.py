"""Slices of lazy arrays, as they travel to functions: what they are made of, and how they are computed there.

A slice of a file is a lazy variable of Xarray with the encoding of its target; one of a dask array is the part of
the graph that its chunks need, and no more. Where they are written is not known here.
"""

import io
import pickle
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Final, Protocol

import numpy as np
import xarray as xr
from xarray.backends import CachingFileManager
from xarray.backends.zarr import encode_zarr_variable

from frazil_functions.errors import FrazilError, SourceError, UnreachableSourceError
from frazil_functions.reading.encoding import Values
from frazil_functions.regions import Region
from frazil_functions.text import words

_ZARR_FORMAT: Final = 3

_NESTED: Final = (list, tuple)
"""What dask returns for keys that are nested in lists."""


_APART_BYTES: Final = 1 << 20
"""Chunks of dask that are larger than this are faster written one by one than put together first."""


type Part = tuple[Region, Values]
"""Where values belong, and the values."""


class Slices(Protocol):
    """Slices of lazy arrays that are computed together."""

    def compute(self) -> list[Values]:
        """Their values, as their targets store them."""
        ...


@dataclass(frozen=True, slots=True)
class FileSlices:
    """Slices of variables that lie in files.

    Attributes
    ----------
    variables
        Lazy variables, each with the encoding of its target, by the variable's name.
    """

    variables: tuple[tuple[str, xr.Variable], ...]

    def compute(self) -> list[Values]:
        """Read them and encode them, as Xarray does when it writes to Zarr."""
        encoded = (encode_zarr_variable(one, name=name, zarr_format=_ZARR_FORMAT) for name, one in self.variables)
        return [np.asarray(one.values) for one in encoded]


@dataclass(frozen=True, slots=True)
class GraphSlice:
    """A slice of one dask array.

    Attributes
    ----------
    keys
        The keys of the chunks that hold it, nested in a list for each dimension.
    inside
        Where it lies within these chunks.
    lengths
        How long these chunks say that they are, along every dimension.
    """

    keys: Any
    inside: tuple[slice, ...]
    lengths: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class GraphSlices:
    """Slices of dask arrays.

    Attributes
    ----------
    graph
        What their chunks are computed with.
    slices
        Where they are in it.
    """

    graph: dict[Any, Any]
    slices: tuple[GraphSlice, ...]

    def compute(self) -> list[Values]:
        """Compute every chunk once, on threads of this process."""
        return [_whole(chunks)[one.inside] for one, chunks in zip(self.slices, self._chunks(), strict=True)]

    def compute_parts(self, regions: Sequence[Region], units: Sequence[tuple[int, ...]]) -> list[Part]:
        """Compute every chunk once, and put together only those that are small or share a write unit.

        Parameters
        ----------
        regions, units
            Where each slice belongs, and the write units there.
        """
        found: list[Part] = []
        for one, chunks, region, unit in zip(self.slices, self._chunks(), regions, units, strict=True):
            found += _apart(chunks, one, region, unit) or [(region, _whole(chunks)[one.inside])]
        return found

    def _chunks(self) -> list[Any]:
        """The chunks of every slice, in lists in lists, as deep as dimensions."""
        from dask.threaded import get  # noqa: PLC0415 - dask is there where data is dask, and only there

        found = list(get(self.graph, [one.keys for one in self.slices]))
        for one, chunks in zip(self.slices, found, strict=True):
            for index in np.ndindex(*map(len, one.lengths)):
                own, said = np.shape(_at(chunks, index)), _shape(one, index)
                if own != said:
                    raise ValueError(f"a chunk was computed with the shape {own}, and says it has {said}")
        return found


@dataclass(frozen=True, slots=True)
class ArraySlices:
    """Slices of arrays in memory, which travel as they are.

    Attributes
    ----------
    arrays
        Their values, as their targets store them.
    """

    arrays: tuple[Values, ...]

    def compute(self) -> list[Values]:
        """The values."""
        return list(self.arrays)


def pack(pickled: Sequence[bytes]) -> bytes:
    """Pickles in few bytes: those of neighbouring slices differ in little."""
    return zlib.compress(pickle.dumps(list(pickled)), 1)


def unpack(packed: bytes) -> list[bytes]:
    """What `pack` packed; the pickles in it stay what they are."""
    found: list[bytes] = pickle.loads(zlib.decompress(packed))  # noqa: S301 - from the client, as the code is
    return found


def computed(pickled: bytes, buffers: Sequence[bytes], regions: Sequence[Region]) -> list[Values]:
    """Compute slices that a client pickled, each as a whole; see `computed_parts`."""
    return _run(pickled, buffers, regions, lambda slices: slices.compute())


def computed_anew(pickled: bytes, buffers: Sequence[bytes], regions: Sequence[Region]) -> list[Values]:
    """As `computed`, with files that are opened again: Xarray keeps them open, for other slices of the same dataset."""
    return _run(pickled, buffers, regions, lambda slices: slices.compute(), _Reopening)


def computed_parts(
    pickled: bytes, buffers: Sequence[bytes], regions: Sequence[Region], units: Sequence[tuple[int, ...]]
) -> list[Part]:
    """Compute slices that a client pickled, in parts that share no write unit.

    Parameters
    ----------
    pickled, buffers
        The slices, and what they carry apart.
    regions, units
        Where they belong, and the write units there.

    Raises
    ------
    SourceError
        If that fails; an UnreachableSourceError if it may pass.
    """

    def parts(slices: Slices) -> list[Part]:
        """Whole slices, unless dask computes them chunk by chunk."""
        if isinstance(slices, GraphSlices):
            return slices.compute_parts(regions, units)
        return list(zip(regions, slices.compute(), strict=True))

    return _run(pickled, buffers, regions, parts)


class _Reopened(CachingFileManager[Any]):
    """A file that is closed for all who share it, so that the next who reads it opens it again."""

    def __setstate__(self, state: Any) -> None:  # noqa: ANN401 - Xarray's own
        super().__setstate__(state)
        self.close()


class _Reopening(pickle.Unpickler):
    """Loads slices whose files are opened again."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - a class or a function
        found = super().find_class(module, name)
        return _Reopened if found is CachingFileManager else found


def _run[T](
    pickled: bytes,
    buffers: Sequence[bytes],
    regions: Sequence[Region],
    how: Callable[[Slices], T],
    unpickler: type[pickle.Unpickler] = pickle.Unpickler,
) -> T:
    """Load slices and compute them somehow; raises as `computed_parts` does."""
    where = ", ".join(map(str, regions))
    try:
        slices: Slices = unpickler(io.BytesIO(pickled), buffers=buffers).load()
        return how(slices)
    except FrazilError:
        raise
    except (ConnectionError, TimeoutError) as error:
        raise UnreachableSourceError(f"{where} could not be read: {words(error)}") from error
    except Exception as error:  # what somebody's own graph or file raises is up to them
        raise SourceError(f"{where} could not be computed: {type(error).__name__}: {words(error)}") from error


def _apart(chunks: Any, of: GraphSlice, region: Region, unit: Sequence[int]) -> list[Part]:  # noqa: ANN401 - as above
    """Chunks and where each belongs; none if there is one, or if some are small or share write units."""
    held = {index: np.asarray(_at(chunks, index)) for index in np.ndindex(*map(len, of.lengths))}
    if len(held) == 1 or any(one.nbytes < _APART_BYTES for one in held.values()):
        return []
    spans = []
    for lengths, inside, own, size in zip(of.lengths, of.inside, region.slices, unit, strict=True):
        edges = list(accumulate(lengths, initial=own.start - inside.start))
        if any(edge % size for edge in edges[1:-1]):
            return []
        spans.append(list(pairwise(edges)))
    found = []
    for index, values in held.items():
        box = [along[at] for along, at in zip(spans, index, strict=True)]
        places = list(zip(region.ranges, box, strict=True))
        ranges = tuple((dim, max(first, start), min(last, stop)) for (dim, first, last), (start, stop) in places)
        cut = (slice(first - start, last - start) for (_, first, last), (start, _) in zip(ranges, box, strict=True))
        found.append((Region(region.array, ranges), values[tuple(cut)]))
    return found


def _shape(of: GraphSlice, index: Sequence[int]) -> tuple[int, ...]:
    return tuple(lengths[at] for lengths, at in zip(of.lengths, index, strict=True))


def _at(chunks: Any, index: Sequence[int]) -> Any:  # noqa: ANN401 - as above
    for at in index:
        chunks = chunks[at]
    return chunks


def _whole(chunks: Any) -> Values:  # noqa: ANN401 - lists in lists, as deep as dimensions
    """Chunks put together; one alone is not copied."""
    one = chunks
    while isinstance(one, _NESTED) and len(one) == 1:
        (one,) = one
    if isinstance(one, _NESTED):
        from dask.array.core import concatenate3  # noqa: PLC0415 - as above

        one = concatenate3(chunks)  # type: ignore[no-untyped-call]
    return np.asarray(one)
