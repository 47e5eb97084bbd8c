"""Slices of lazy arrays, as they travel to functions: what they are made of, and how they are computed there.

A slice of a file is a lazy variable of Xarray with the encoding of its target; one of a dask array is the part of
the graph that its chunks need, and no more. Where they are written is not known here.
"""

import pickle
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import xarray as xr
from xarray.backends.zarr import encode_zarr_variable

from frazil_functions.errors import FrazilError, SourceError, UnreachableSourceError
from frazil_functions.reading.encoding import Values
from frazil_functions.regions import Region
from frazil_functions.text import words

_ZARR_FORMAT: Final = 3

_NESTED: Final = (list, tuple)
"""What dask returns for keys that are nested in lists."""


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
    """

    keys: Any
    inside: tuple[slice, ...]


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
        from dask.threaded import get  # noqa: PLC0415 - dask is there where data is dask, and only there

        found = get(self.graph, [one.keys for one in self.slices])
        return [_whole(chunks)[one.inside] for one, chunks in zip(self.slices, found, strict=True)]


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
    """Compute slices that a client pickled.

    Parameters
    ----------
    pickled, buffers
        The slices, and what they carry apart.
    regions
        Where they belong, for messages.

    Raises
    ------
    SourceError
        If that fails; an UnreachableSourceError if it may pass.
    """
    where = ", ".join(map(str, regions))
    try:
        slices: Slices = pickle.loads(pickled, buffers=buffers)  # noqa: S301 - from the client, as the code is
        return slices.compute()
    except FrazilError:
        raise
    except (ConnectionError, TimeoutError) as error:
        raise UnreachableSourceError(f"{where} could not be read: {words(error)}") from error
    except Exception as error:  # what somebody's own graph or file raises is up to them
        raise SourceError(f"{where} could not be computed: {type(error).__name__}: {words(error)}") from error


def _whole(chunks: Any) -> Values:  # noqa: ANN401 - lists in lists, as deep as dimensions
    """Chunks put together; one alone is not copied."""
    one = chunks
    while isinstance(one, _NESTED) and len(one) == 1:
        (one,) = one
    if isinstance(one, _NESTED):
        from dask.array.core import concatenate3  # noqa: PLC0415 - as above

        one = concatenate3(chunks)  # type: ignore[no-untyped-call]
    return np.asarray(one)
