"""Write grids: an array's shape cut into write units, the smallest thing that one writer may own."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from frazil_functions.errors import InvalidInputError, UnalignedRegionError
from frazil_functions.regions import Region


@dataclass(frozen=True, slots=True)
class WriteGrid:
    """One array's write units.

    Attributes
    ----------
    array
        The array's name within its group.
    dims, shape
        Names and lengths of its dimensions.
    unit
        The shape of a write unit: the shard's if the array is sharded, else the chunk's.
        The last unit along a dimension may reach beyond the array's end.

    Examples
    --------
    >>> grid = WriteGrid("tas", ("time", "lat"), (10, 4), (4, 4))
    >>> grid.counts, grid.total
    ((3, 1), 3)
    >>> [str(region) for region in grid.cut(max_units=2)]
    ['tas[time 0:4, lat 0:4]', 'tas[time 4:10, lat 0:4]']
    """

    array: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    unit: tuple[int, ...]

    def __post_init__(self) -> None:
        if not len(self.dims) == len(self.shape) == len(self.unit):
            raise ValueError(f"{self.array!r}: dims, shape and unit differ in length: {self}")
        if any(length < 1 for length in self.unit):
            raise ValueError(f"{self.array!r}: write units of shape {self.unit} are empty")

    @property
    def counts(self) -> tuple[int, ...]:
        """How many write units there are along each dimension."""
        return tuple(-(-length // unit) for length, unit in zip(self.shape, self.unit, strict=True))

    @property
    def total(self) -> int:
        """How many write units there are: 1 for a scalar, 0 for an array without elements."""
        return math.prod(self.counts)

    def unit_slices(self, region: Region) -> tuple[slice, ...]:
        """The region in write units rather than in elements.

        Raises
        ------
        UnalignedRegionError
            If the region splits a write unit, reaches out of the array, or has other dimensions.
        """
        if region.array != self.array or region.dims != self.dims:
            raise UnalignedRegionError(
                f"{region} does not name the dimensions {self.dims} of {self.array!r} in their order"
            )
        return tuple(
            self._unit_slice(region, dim, start, stop, length, unit)
            for (dim, start, stop), length, unit in zip(region.ranges, self.shape, self.unit, strict=True)
        )

    def _unit_slice(self, region: Region, dim: str, start: int, stop: int, length: int, unit: int) -> slice:
        if stop > length:
            raise UnalignedRegionError(
                f"{region} reaches beyond the end of {self.array!r}, which has {length} along {dim!r}"
            )
        if start % unit or (stop % unit and stop != length):
            wide = (start - start % unit, min(length, -(-stop // unit) * unit))
            raise UnalignedRegionError(
                f"{region} splits a write unit of {self.array!r} ({unit} along {dim!r}); two functions "
                f"would overwrite each other. Use {dim} {wide[0]}:{wide[1]}, or chunks that divide it."
            )
        return slice(start // unit, -(-stop // unit))

    def count(self, region: Region) -> int:
        """How many write units the region is made of."""
        return math.prod(part.stop - part.start for part in self.unit_slices(region))

    def units(self, region: Region) -> Iterator[tuple[int, ...]]:
        """The indices of the write units that the region is made of, in C order."""
        return product(*(range(part.start, part.stop) for part in self.unit_slices(region)))

    def cut(self, max_units: int, owned: Sequence[slice] | None = None) -> Iterator[Region]:
        """Regions of at most `max_units` whole write units that cover the array once, in C order.

        Trailing dimensions are kept whole as far as the bound lets them be, so that a region
        is as contiguous in its sources as it can be; what must be split is split evenly. `owned`
        says which write units are to be covered, if not all of them.
        """
        parts = owned if owned is not None else [slice(0, count) for count in self.counts]
        first, counts = [part.start for part in parts], [part.stop - part.start for part in parts]
        if not math.prod(counts):
            return
        room = max(1, max_units)
        pieces = [1] * len(counts)
        for axis in reversed(range(len(counts))):
            length = min(counts[axis], room)
            pieces[axis] = -(-counts[axis] // length)
            room = max(1, room // -(-counts[axis] // pieces[axis])) if pieces[axis] == 1 else 1
        edges = [
            [min(length, (start + count * piece // parts) * unit) for piece in range(parts + 1)]
            for start, count, parts, unit, length in zip(first, counts, pieces, self.unit, self.shape, strict=True)
        ]
        for index in product(*(range(parts) for parts in pieces)):
            yield Region(
                self.array,
                tuple((dim, edge[at], edge[at + 1]) for dim, edge, at in zip(self.dims, edges, index, strict=True)),
            )


def prove(
    grids: Sequence[WriteGrid], regions: Iterable[Region], owned_units: Mapping[str, Sequence[slice]] | None = None
) -> None:
    """Show that regions cover every write unit of every grid exactly once, or those that are owned, and no other.

    Icechunk's merge keeps only the last of two writers of one write unit, and an array nobody
    wrote reads as fill; neither raises. So both are excluded here, before anything is written.

    Raises
    ------
    UnalignedRegionError
        If a region splits a write unit or reaches out of its array.
    InvalidInputError
        If two regions share a write unit, or a write unit belongs to none, or a region names
        an array that has no grid.
    """
    owned = {grid.array: np.zeros(grid.counts, dtype=bool) for grid in grids}
    outside: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.bool_]]] = {}
    for array, parts in (owned_units or {}).items():
        outside[array] = np.ones_like(owned[array])
        outside[array][tuple(parts)] = False
    by_array = {grid.array: grid for grid in grids}
    for region in regions:
        if region.array not in by_array:
            raise InvalidInputError(f"{region} names an array that the template does not have")
        units, part = owned[region.array], by_array[region.array].unit_slices(region)
        if np.any(units[part]):
            raise InvalidInputError(
                f"{region} shares a write unit with another region; one of the two would be lost in the merge"
            )
        if region.array in outside and np.any(outside[region.array][part]):
            raise InvalidInputError(f"{region} reaches into a part of the array that is to stay as it is")
        units[part] = True
    for array, units in owned.items():
        lacking = ~units & ~outside[array] if array in outside else ~units
        missing = np.count_nonzero(lacking)
        if missing:
            first = tuple(int(at) for at in np.argwhere(lacking)[0])
            raise InvalidInputError(
                f"no region owns {missing} of the {units.size} write units of {array!r}; the first is {first}"
            )
