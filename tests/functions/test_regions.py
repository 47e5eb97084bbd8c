import pytest

from frazil_functions.regions import Region

REGION = Region("tas", (("time", 24, 48), ("lat", 0, 37)))


def test_a_region_says_its_ranges_in_the_arrays_order() -> None:
    assert REGION.dims == ("time", "lat")
    assert REGION.shape == (24, 37)
    assert REGION.size == 24 * 37
    assert REGION.slices == (slice(24, 48), slice(0, 37))
    assert str(REGION) == "tas[time 24:48, lat 0:37]"


def test_the_span_on_a_dimension_that_the_array_lacks_is_none() -> None:
    assert REGION.span("lat") == (0, 37)
    assert REGION.span("lon") is None


def test_a_scalar_is_one_element_without_ranges() -> None:
    scalar = Region("crs", ())
    assert (scalar.shape, scalar.size, scalar.slices) == ((), 1, ())


@pytest.mark.parametrize(("start", "stop"), [(3, 3), (5, 2), (-1, 2)])
def test_an_empty_or_negative_range_is_no_region(start: int, stop: int) -> None:
    with pytest.raises(ValueError, match="empty or negative"):
        Region("tas", (("time", start, stop),))


def test_equal_regions_are_one_key() -> None:
    assert len({REGION, Region("tas", (("time", 24, 48), ("lat", 0, 37)))}) == 1
