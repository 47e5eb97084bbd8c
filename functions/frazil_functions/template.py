"""The template as data: a dataset with final shapes, types, chunks, attributes and labels, and no values."""

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
        The values of the arrays whose role is `labels`, by name.
    """

    sizes: dict[str, int]
    append_dim: str | None
    attributes: Attributes
    arrays: dict[str, ArrayTemplate]
    labels: dict[str, Labels]


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
