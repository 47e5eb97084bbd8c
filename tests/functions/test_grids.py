from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from frazil_functions.errors import InvalidInputError, UnalignedRegionError
from frazil_functions.grids import WriteGrid, prove
from frazil_functions.regions import Region


@st.composite
def grids(draw: st.DrawFn, *, least: int = 0) -> WriteGrid:
    ndim = draw(st.integers(0, 4))
    shape = tuple(draw(st.integers(least, 12)) for _ in range(ndim))
    unit = tuple(draw(st.integers(1, 7)) for _ in range(ndim))
    return WriteGrid("a", tuple(f"d{axis}" for axis in range(ndim)), shape, unit)


def moved(region: Region, axis: int, start: int, stop: int) -> Region:
    ranges = list(region.ranges)
    ranges[axis] = (ranges[axis][0], start, stop)
    return Region(region.array, tuple(ranges))


@given(grids(), st.integers(-1, 50))
def test_cut_covers_every_element_once_with_whole_units(grid: WriteGrid, max_units: int) -> None:
    seen = np.zeros(grid.shape, int)
    units = 0
    for region in grid.cut(max_units):
        assert 1 <= grid.count(region) <= max(1, max_units)
        seen[*region.slices, ...] += 1
        units += grid.count(region)
    assert (seen == 1).all()
    assert units == grid.total


@given(grids(), st.integers(1, 50))
def test_prove_accepts_what_cut_cuts_in_any_order(grid: WriteGrid, max_units: int) -> None:
    prove([grid], reversed(list(grid.cut(max_units))))


@given(grids(least=1), st.integers(1, 20), st.data())
def test_a_region_that_is_missing_is_refused(grid: WriteGrid, max_units: int, data: st.DataObject) -> None:
    regions = list(grid.cut(max_units))
    regions.remove(data.draw(st.sampled_from(regions)))
    with pytest.raises(InvalidInputError, match="no region owns"):
        prove([grid], regions)


@given(grids(least=1), st.integers(1, 20), st.data())
def test_a_region_that_stands_twice_is_refused(grid: WriteGrid, max_units: int, data: st.DataObject) -> None:
    regions = list(grid.cut(max_units))
    regions.insert(data.draw(st.integers(0, len(regions))), data.draw(st.sampled_from(regions)))
    with pytest.raises(InvalidInputError, match="shares a write unit"):
        prove([grid], regions)


@given(grids(least=1), st.integers(1, 20), st.data())
def test_a_region_whose_edge_moved_is_refused(grid: WriteGrid, max_units: int, data: st.DataObject) -> None:
    regions = list(grid.cut(max_units))
    assume(grid.dims)
    at = data.draw(st.integers(0, len(regions) - 1))
    axis = data.draw(st.integers(0, len(grid.dims) - 1))
    _, start, stop = regions[at].ranges[axis]
    low, high = data.draw(st.integers(0, 14)), data.draw(st.integers(1, 15))
    assume(low < high and (low, high) != (start, stop))
    regions[at] = moved(regions[at], axis, low, high)
    with pytest.raises(InvalidInputError):
        prove([grid], regions)


@given(grids(least=1), st.data())
def test_a_region_merged_with_its_neighbour_is_refused_beside_it(grid: WriteGrid, data: st.DataObject) -> None:
    regions = list(grid.cut(1))
    assume(grid.dims)
    axis = data.draw(st.integers(0, len(grid.dims) - 1))
    pairs = [(i, j) for i, j in pairwise(range(len(regions))) if regions[i].ranges[axis] != regions[j].ranges[axis]]
    assume(pairs)
    at, other = data.draw(st.sampled_from(pairs))
    ends = [*regions[at].ranges[axis][1:], *regions[other].ranges[axis][1:]]
    regions[at] = moved(regions[at], axis, min(ends), max(ends))
    with pytest.raises(InvalidInputError, match="shares a write unit"):
        prove([grid], regions)


def test_a_region_that_splits_a_write_unit_is_refused_with_the_one_that_does_not() -> None:
    grid = WriteGrid("tas", ("time",), (10,), (4,))
    with pytest.raises(UnalignedRegionError, match=r"splits a write unit.*Use time 4:10"):
        grid.unit_slices(Region("tas", (("time", 5, 9),)))


def test_the_last_unit_may_be_shorter_than_the_others() -> None:
    grid = WriteGrid("tas", ("time",), (10,), (4,))
    assert grid.unit_slices(Region("tas", (("time", 8, 10),))) == (slice(2, 3),)


def test_a_region_beyond_the_end_is_refused() -> None:
    grid = WriteGrid("tas", ("time",), (10,), (4,))
    with pytest.raises(UnalignedRegionError, match="beyond the end"):
        grid.unit_slices(Region("tas", (("time", 8, 12),)))


@pytest.mark.parametrize(
    "region",
    [
        Region("tas", (("y", 0, 4), ("x", 0, 4))),
        Region("tas", (("x", 0, 4),)),
        Region("pr", (("x", 0, 4), ("y", 0, 4))),
    ],
)
def test_a_region_with_other_dimensions_or_of_another_array_is_refused(region: Region) -> None:
    with pytest.raises(UnalignedRegionError, match="does not name the dimensions"):
        WriteGrid("tas", ("x", "y"), (4, 4), (4, 4)).unit_slices(region)


def test_a_region_of_an_array_without_a_grid_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="the template does not have"):
        prove([], [Region("tas", ())])


def test_a_scalar_is_one_write_unit_that_one_region_owns() -> None:
    grid = WriteGrid("crs", (), (), ())
    assert list(grid.cut(1)) == [Region("crs", ())]
    prove([grid], grid.cut(1))
    with pytest.raises(InvalidInputError, match="shares a write unit"):
        prove([grid], [Region("crs", ()), Region("crs", ())])
    with pytest.raises(InvalidInputError, match="no region owns"):
        prove([grid], [])


def test_trailing_dimensions_stay_whole() -> None:
    grid = WriteGrid("tas", ("time", "lat"), (8, 4), (1, 2))
    assert {region.shape for region in grid.cut(4)} == {(2, 4)}


@pytest.mark.parametrize("unit", [(0,), (-1,)])
def test_an_empty_write_unit_is_no_grid(unit: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="empty"):
        WriteGrid("tas", ("x",), (4,), unit)


def test_names_lengths_and_units_must_be_as_many() -> None:
    with pytest.raises(ValueError, match="differ in length"):
        WriteGrid("tas", ("x",), (4, 4), (1, 1))
