"""Slices of lazy arrays, as they travel to functions: what they are made of, and how they are computed there.

A slice of a file is a lazy variable of Xarray with the encoding of its target; one of a dask array is the part of
the graph that its chunks need, and no more. Where they are written is not known here.
"""

from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import xarray as xr
from xarray.backends.zarr import encode_zarr_variable

from frazil_functions.reading.encoding import Values

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


def _whole(chunks: Any) -> Values:  # noqa: ANN401 - lists in lists, as deep as dimensions
    """Chunks put together; one alone is not copied."""
    one = chunks
    while isinstance(one, _NESTED) and len(one) == 1:
        (one,) = one
    if isinstance(one, _NESTED):
        from dask.array.core import concatenate3  # noqa: PLC0415 - as above

        one = concatenate3(chunks)  # type: ignore[no-untyped-call]
    return np.asarray(one)
