"""Regions: named half-open index ranges of one array."""

import math
from collections.abc import Mapping
from dataclasses import dataclass


def plain_dim(dim: str) -> str:
    """A dimension's name without the path of the group that has it first.

    Examples
    --------
    >>> plain_dim("ocean/depth"), plain_dim("time")
    ('depth', 'time')
    """
    return dim.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Region:
    """Half-open index ranges of one array, one for each of its dimensions, in their order.

    Attributes
    ----------
    array
        The array's name within its group.
    ranges
        `(dimension, start, stop)` for every dimension; empty for a scalar.

    Examples
    --------
    >>> region = Region("tas", (("time", 24, 48), ("lat", 0, 37)))
    >>> str(region), region.shape, region.span("time")
    ('tas[time 24:48, lat 0:37]', (24, 37), (24, 48))
    """

    array: str
    ranges: tuple[tuple[str, int, int], ...]

    def __post_init__(self) -> None:
        for dim, start, stop in self.ranges:
            if not 0 <= start < stop:
                raise ValueError(
                    f"the range {start}:{stop} on dimension {dim!r} of {self.array!r} is empty or negative"
                )

    def __str__(self) -> str:
        return f"{self.array}[{', '.join(f'{dim} {start}:{stop}' for dim, start, stop in self.ranges)}]"

    @property
    def dims(self) -> tuple[str, ...]:
        """The dimensions' names, in the array's order."""
        return tuple(dim for dim, _, _ in self.ranges)

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each range."""
        return tuple(stop - start for _, start, stop in self.ranges)

    @property
    def plain_dims(self) -> tuple[str, ...]:
        """The dimensions' names as their array has them, without the group that has them first."""
        return tuple(map(plain_dim, self.dims))

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def slices(self) -> tuple[slice, ...]:
        """The ranges as slices, for indexing an array."""
        return tuple(slice(start, stop) for _, start, stop in self.ranges)

    def within(self, extents: Mapping[str, tuple[int, int]]) -> "Region":
        """The part of it that lies within an extent of each dimension that has one.

        Raises
        ------
        ValueError
            If there is none.

        Examples
        --------
        >>> str(Region("tas", (("time", 24, 48), ("lat", 0, 37))).within({"time": (30, 100)}))
        'tas[time 30:48, lat 0:37]'
        """
        if not extents:
            return self
        clipped = (
            (dim, max(start, extents[dim][0]), min(stop, extents[dim][1])) if dim in extents else (dim, start, stop)
            for dim, start, stop in self.ranges
        )
        return Region(self.array, tuple(clipped))

    def span(self, dim: str) -> tuple[int, int] | None:
        """`(start, stop)` on one dimension, or None if the array does not have it."""
        return next(((start, stop) for name, start, stop in self.ranges if name == dim), None)
