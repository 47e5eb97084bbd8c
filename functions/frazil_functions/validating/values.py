"""Values: decode a region, say which of its chunks cannot be, and summarise the rest."""

import struct
from collections.abc import Iterable
from typing import Any

import numpy as np
import zarr

from frazil_functions.damage import damage
from frazil_functions.grids import WriteGrid
from frazil_functions.reading.encoding import (
    STRING,
    Attributes,
    Values,
    json_attributes,
    native,
    native_attributes,
    plain_attributes,
)
from frazil_functions.regions import Region
from frazil_functions.summaries import Summary, summarise
from frazil_functions.validating.tasks import ChunkFault


def grid_of(array: zarr.Array[Any], name: str, dims: tuple[str, ...]) -> WriteGrid:
    """An array's write units; its dimensions may have no names of their own."""
    return WriteGrid(name, dims, array.shape, array.shards or array.chunks)


def dtype_of(array: zarr.Array[Any]) -> str:
    """The type that values have once they are read, as templates name it."""
    return STRING if array.dtype.kind in "OTU" else native(np.empty(0, array.dtype)).dtype.str


def attributes_of(array: zarr.Array[Any]) -> Attributes:
    """What gives the numbers meaning; a fill value that nobody can read is left out."""
    stored = json_attributes(array.attrs.asdict())
    try:
        plain = plain_attributes(dtype_of(array), stored)
    except (ValueError, struct.error):
        plain = {name: value for name, value in stored.items() if name != "_FillValue"}
    return native_attributes(array.dtype, plain)


def read_values(array: zarr.Array[Any], region: Region) -> tuple[list[Values], list[ChunkFault]]:
    """The values of a region as the array stores them: in one piece, or those of the write units that can be read.

    Raises
    ------
    BackendError
        If the storage does not answer.
    """
    try:
        return [native(np.asarray(array[region.slices]))], []
    except Exception as error:  # noqa: BLE001 - every codec raises errors of its own, and `damage` tells them apart
        grid = grid_of(array, region.array, region.dims)
        found = [_read_unit(array, grid, unit) for unit in grid.units(_whole(region, grid))]
        faults = [one for one in found if isinstance(one, ChunkFault)]
        pieces = [one for one in found if not isinstance(one, ChunkFault)]
        return pieces, faults or [ChunkFault(None, damage(error, str(region)))]


def summary_of(array: zarr.Array[Any], pieces: Iterable[Values]) -> Summary:
    """What values of an array are like, decoded."""
    dtype, attributes, found = dtype_of(array), attributes_of(array), Summary()
    for values in pieces:
        found = found.beside(summarise(values, dtype, attributes))
    return found


def _read_unit(array: zarr.Array[Any], grid: WriteGrid, index: tuple[int, ...]) -> Values | ChunkFault:
    slices = tuple(slice(at * length, (at + 1) * length) for at, length in zip(index, grid.unit, strict=True))
    try:
        return native(np.asarray(array[slices]))
    except Exception as error:  # noqa: BLE001 - as above
        return ChunkFault(index, damage(error, f"the chunk {list(index)} of {grid.array!r}"))


def _whole(region: Region, grid: WriteGrid) -> Region:
    """The write units that a region reaches into."""
    return Region(
        region.array,
        tuple(
            (dim, start - start % length, min(size, -(-stop // length) * length))
            for (dim, start, stop), length, size in zip(region.ranges, grid.unit, grid.shape, strict=True)
        ),
    )
