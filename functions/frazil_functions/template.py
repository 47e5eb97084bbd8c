"""The template as data: a dataset with final shapes, types, chunks, attributes and labels, and no values."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from frazil_functions.errors import InvalidInputError
from frazil_functions.grids import WriteGrid
from frazil_functions.reading.encoding import Attributes
from frazil_functions.reading.scanning import Labels

type Role = Literal["labels", "static", "data"]
"""`labels`: a dimension's coordinate, known from the scan. `static`: does not have the append
dimension; read once, when the run begins. `data`: written by functions, region by region."""


def itemsize_of(dtype: str) -> int:
    """Bytes of one element; strings of any length count as 16."""
    return 16 if dtype == "string" else np.dtype(dtype).itemsize


@dataclass(frozen=True, slots=True)
class ArrayTemplate:
    """One array of the template.

    Attributes
    ----------
    name, dims, shape, dtype
        As in Zarr; the type is NumPy's in little-endian order, or "string".
    chunks, shards
        The shapes of a chunk and of a shard; no shards if None.
    attributes
        As the files have them; `frazil_functions.reading.encoding.stored_attributes` stores them.
    role
        Who writes the values.
    digest
        Of the values, where they are known from the scan.
    """

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None
    attributes: Attributes
    role: Role
    digest: str | None = None

    @property
    def grid(self) -> WriteGrid:
        """The array cut into write units."""
        return WriteGrid(self.name, self.dims, self.shape, self.shards or self.chunks)

    @property
    def nbytes(self) -> int:
        """The size of the values in bytes, before compression."""
        return int(np.prod(self.shape, dtype=np.int64)) * itemsize_of(self.dtype)


@dataclass(frozen=True, slots=True)
class DatasetTemplate:
    """The target group as it will be.

    Attributes
    ----------
    sizes
        The length of every dimension.
    append_dim
        The dimension that the sources follow each other on.
    attributes
        The group's.
    arrays
        By name, in the files' order.
    labels
        The values of the arrays whose role is `labels`, by name; of the append dimension, those from `offset` on.
    offset
        How many labels the append dimension has already, which stay as they are; 0 for a group that is created.
    """

    sizes: dict[str, int]
    append_dim: str | None
    attributes: Attributes
    arrays: dict[str, ArrayTemplate]
    labels: dict[str, Labels]
    offset: int = 0

    def owned(self, name: str) -> tuple[slice, ...]:
        """What of an array is written, in write units: all of it, or what an append adds.

        The write unit that the array ends in, if it is half full, is written again as a whole, by one task.
        """
        array = self.arrays[name]
        grid = array.grid
        added = self.sizes.get(self.append_dim or "", 0) > self.offset
        return tuple(
            slice((self.offset // unit if added else count) if dim == self.append_dim and self.offset else 0, count)
            for dim, unit, count in zip(grid.dims, grid.unit, grid.counts, strict=True)
        )

    def owned_nbytes(self, name: str) -> int:
        """The size of that in bytes, before compression."""
        array = self.arrays[name]
        lengths: Iterator[int] = (
            max(0, length - part.start * unit)
            for part, unit, length in zip(self.owned(name), array.grid.unit, array.shape, strict=True)
        )
        return math.prod(lengths) * itemsize_of(array.dtype)


def check_group(group: str) -> None:
    """Refuse what is no path of a group.

    Raises
    ------
    InvalidInputError
        If a part of it is empty or made of dots alone.
    """
    if group and not all(part.strip(".") for part in group.split("/")):
        raise InvalidInputError(
            f"{group!r} is no path of a group; use names with / between them, and none of dots alone"
        )
