"""The template as data: a dataset with final shapes, types, chunks, attributes and labels, and no values."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from frazil_functions.compression import Compression
from frazil_functions.errors import InvalidInputError
from frazil_functions.grids import WriteGrid
from frazil_functions.layouts import Layout
from frazil_functions.reading.encoding import STRING, Attributes, has_fill
from frazil_functions.reading.scanning import Labels

type Role = Literal["labels", "static", "data", "kept", "empty"]
"""`labels`: a dimension's coordinate, known from the scan. `static`: does not have the append
dimension; read once, when the run begins. `data`: written by functions, region by region. `kept`: is there
already, and its values stay as they are. `empty`: is made, and not written by this run; it reads as missing."""


def itemsize_of(dtype: str) -> int:
    """Bytes of one element; strings of any length count as 16."""
    return 16 if dtype == "string" else np.dtype(dtype).itemsize


def reads_as_missing(dtype: str, attributes: Attributes) -> bool:
    """Whether what nobody has written can be told from values; of text, it reads as text without letters."""
    return dtype == STRING or np.dtype(dtype).kind == "S" or has_fill(dtype, attributes)


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
    before
        The shape that the array has already; None if the run makes it.
    changes
        Attributes that an array which is there already gets, or gets anew.
    compression
        How the run that makes the array has it compressed; None is Zarr's own default.
    layout
        How the chunks of its sources are stored, which it refers to; None for an array whose values are copied.
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
    before: tuple[int, ...] | None = None
    changes: Attributes = field(default_factory=dict)
    compression: Compression | None = None
    layout: Layout | None = None

    @property
    def grid(self) -> WriteGrid:
        """The array cut into write units."""
        return WriteGrid(self.name, self.dims, self.shape, self.shards or self.chunks)

    @property
    def nbytes(self) -> int:
        """The size of the values in bytes, before compression."""
        return int(np.prod(self.shape, dtype=np.int64)) * itemsize_of(self.dtype)

    @property
    def refers(self) -> bool:
        """Whether it refers to the chunks of its sources."""
        return self.layout is not None

    @property
    def chunk_nbytes(self) -> int:
        """The size of a chunk in bytes, before compression."""
        return math.prod(self.chunks) * itemsize_of(self.dtype)


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
        The group's, where the run makes it.
    arrays
        By name, in the files' order.
    labels
        The values of the arrays whose role is `labels`, by name; of a dimension that has an extent, those within it.
    extents
        The part of a dimension that is written, as (start, stop), where that is not all of it: what an append adds, or
        the place of a region. What lies outside stays as it is.
    changes
        Attributes that a group which is there already gets, or gets anew.
    groups
        The attributes of groups below, by path; arrays of theirs are named by their paths, and dimensions by that of
        the group that has them first.
    """

    sizes: dict[str, int]
    append_dim: str | None
    attributes: Attributes
    arrays: dict[str, ArrayTemplate]
    labels: dict[str, Labels]
    extents: dict[str, tuple[int, int]] = field(default_factory=dict)
    changes: Attributes = field(default_factory=dict)
    groups: dict[str, Attributes] = field(default_factory=dict)

    def extent(self, dim: str) -> tuple[int, int]:
        """The part of a dimension that is written, as (start, stop)."""
        return self.extents.get(dim, (0, self.sizes[dim]))

    @property
    def empty(self) -> bool:
        """Whether nothing is to be written along some dimension."""
        return any(start == stop for start, stop in self.extents.values())

    def owned(self, name: str) -> tuple[slice, ...]:
        """What of an array is written, in write units: all of it, or those that the extents reach into.

        A write unit that lies in an extent only in part is written again as a whole, by one task.
        """
        grid = self.arrays[name].grid
        if self.empty:
            return tuple(slice(count, count) for count in grid.counts)
        extents = (self.extents.get(dim, (0, length)) for dim, length in zip(grid.dims, grid.shape, strict=True))
        return tuple(
            slice(start // unit, -(-stop // unit)) for (start, stop), unit in zip(extents, grid.unit, strict=True)
        )

    def owned_nbytes(self, name: str) -> int:
        """The size of that in bytes, before compression."""
        array = self.arrays[name]
        lengths: Iterator[int] = (
            max(0, min(length, part.stop * unit) - part.start * unit)
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
