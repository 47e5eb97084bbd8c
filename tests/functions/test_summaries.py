import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from frazil_functions.summaries import Summary, summarise


@given(hnp.arrays("f4", hnp.array_shapes(max_dims=2, max_side=20), elements=st.floats(width=32)))
def test_floats_are_summarised_as_numpy_does_it_without_what_is_missing(values: np.ndarray) -> None:
    found = summarise(values, "<f4", {"_FillValue": 7.5})
    absent = np.isnan(values) | (values == 7.5)
    kept = values[~absent & np.isfinite(values)]
    assert (found.count, found.missing) == (values.size, np.count_nonzero(absent))
    assert found.infinite == np.count_nonzero(np.isinf(values))
    assert (found.low, found.high) == ((kept.min(), kept.max()) if kept.size else (None, None))


@given(
    hnp.arrays("i2", 30, elements=st.integers(-(1 << 15), (1 << 15) - 1)),
    st.sampled_from([0.5, -0.25, 3]),
    st.sampled_from([None, "true"]),
)
def test_packed_numbers_are_summarised_as_xarray_decodes_them(
    values: np.ndarray, scale: float, unsigned: str | None
) -> None:
    attributes = {"_FillValue": -1, "scale_factor": scale, "add_offset": 100.0}
    attributes |= {"_Unsigned": unsigned} if unsigned else {}
    variable = xr.Variable("x", values, {**attributes, "_FillValue": np.int16(-1)})
    meant = xr.conventions.decode_cf_variable("x", variable).values
    found = summarise(values, "<i2", attributes)
    assert found.missing == np.count_nonzero(np.isnan(meant))
    if found.low is None:
        assert np.isnan(meant).all()
    else:
        assert (found.low, found.high) == (np.nanmin(meant), np.nanmax(meant))


@pytest.mark.parametrize("at", range(0, 600_000, 90_001))
def test_every_piece_of_many_values_counts(at: int) -> None:
    values = np.zeros(600_000, "f8")
    values[at], values[-1 - at] = 5, np.nan
    assert summarise(values, "<f8", {}) == Summary(600_000, 1, 0, 0.0, 5.0)


def test_summaries_of_parts_add_up_to_that_of_the_whole() -> None:
    values = np.array([3, 1, 1 << 62, -9, 4], "i8")
    whole = summarise(values, "<i8", {"_FillValue": -9})
    parts = (summarise(values[:2], "<i8", {"_FillValue": -9}), summarise(values[2:], "<i8", {"_FillValue": -9}))
    assert parts[0].beside(parts[1]) == whole == Summary(5, 1, 0, 1, 1 << 62)


@pytest.mark.parametrize("values", [np.array(["a", "b"], object), np.array([b"ab"]), np.array([1j])])
def test_what_is_no_real_number_has_no_bounds(values: np.ndarray) -> None:
    dtype = "string" if values.dtype == object else values.dtype.str
    assert summarise(values, dtype, {}) == Summary(values.size)


def test_truth_has_bounds_and_nothing_missing() -> None:
    assert summarise(np.array([True, False]), "|b1", {}) == Summary(2, low=False, high=True)
    assert summarise(np.zeros((0, 3), "f4"), "<f4", {}) == Summary()
