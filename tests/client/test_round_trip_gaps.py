"""Labels that no file has: kept free for what may come, or left out, as the user says."""

from typing import Any

import numpy as np
import pytest
import xarray as xr

import frazil


def test_missing_hours_are_filled_and_read_as_missing(series: Any, write: Any, convert: Any) -> None:
    source = series(30)
    paths = write([source.isel(time=slice(0, 7)), source.isel(time=slice(12, 20)), source.isel(time=slice(21, 30))])
    got = convert(paths, gaps="fill", chunks={"time": 5})
    want = xr.decode_cf(source)
    want.tas[7:12] = np.nan
    want.tas[20] = np.nan
    xr.testing.assert_identical(got, want)


def test_missing_days_are_filled_in_packed_integers_with_their_fill_value(
    series: Any, write: Any, convert: Any
) -> None:
    source = xr.decode_cf(series([0, 24, 48, 72, 96, 120]))
    source.tas.encoding = {"dtype": "i2", "scale_factor": 0.01, "_FillValue": -1}
    got = convert(
        write([source.isel(time=slice(0, 2)), source.isel(time=slice(4, 6))]), gaps="fill", chunks={"time": 1}
    )
    np.testing.assert_array_equal(got.time, source.time)
    assert np.isnan(got.tas[2:4]).all()
    np.testing.assert_allclose(got.tas[[0, 1, 4, 5]], source.tas[[0, 1, 4, 5]], atol=0.01)


@pytest.mark.parametrize("calendar", ["standard", "noleap", "360_day", "julian", "all_leap", "proleptic_gregorian"])
@pytest.mark.parametrize("freq", ["MS", "QS", "YS", "D", "6h"])
def test_a_gap_on_a_real_calendar_is_filled_with_its_own_labels(
    calendar: str, freq: str, write: Any, convert: Any
) -> None:
    times = xr.date_range("1999-01-01", periods=40, freq=freq, calendar=calendar, use_cftime=True)
    source = xr.Dataset({"x": ("time", np.arange(40.0))}, {"time": times})
    source.time.encoding = {"units": "days since 1990-01-01", "calendar": calendar, "dtype": "f8"}
    paths = write([source.isel(time=slice(0, 22)), source.isel(time=slice(27, 40))])
    got = convert(paths, gaps="fill", chunks={"time": 9})
    decoded = xr.open_mfdataset(paths, combine="nested", concat_dim="time", combine_attrs="override").load()
    np.testing.assert_array_equal(got.x, [*range(22), *[np.nan] * 5, *range(27, 40)])
    assert got.sizes["time"] == 40
    np.testing.assert_array_equal(got.time[[*range(22), *range(27, 40)]], decoded.time)
    units = {"units": "hours since 1990-01-01", "calendar": calendar}
    stamps = xr.coders.CFDatetimeCoder().encode(xr.Variable("time", got.time.values, encoding=units)).values
    wanted = xr.coders.CFDatetimeCoder().encode(xr.Variable("time", times.values, encoding=units)).values
    np.testing.assert_allclose(stamps, wanted)


@pytest.mark.parametrize("order", [1, -1])
def test_a_filled_gap_runs_the_way_that_the_labels_run(order: int, write: Any, convert: Any) -> None:
    levels = np.arange(10, 100, 10)[::order]
    source = xr.Dataset({"t": ("level", np.arange(9.0))}, {"level": levels})
    paths = write([source.isel(level=slice(0, 4)), source.isel(level=slice(6, 9))])
    got = convert(paths, gaps="fill")
    assert got.level.values.tolist() == levels.tolist()
    np.testing.assert_array_equal(got.t, [0, 1, 2, 3, np.nan, np.nan, 6, 7, 8])


def test_a_kept_gap_leaves_the_axis_uneven(series: Any, write: Any, convert: Any) -> None:
    source = series(20)
    first, second = source.isel(time=slice(0, 7)), source.isel(time=slice(12, 20))
    got = convert(write([first, second]), gaps="keep", chunks={"time": 4})
    xr.testing.assert_identical(got, xr.decode_cf(source.isel(time=[*range(7), *range(12, 20)])))


def test_what_is_filled_is_counted_in_the_plan(series: Any, write: Any, plan_of: Any) -> None:
    source = series(20)
    paths = write([source.isel(time=slice(0, 7)), source.isel(time=slice(12, 20))])
    plan = plan_of(paths, gaps="fill")
    assert plan.filled == 5
    assert "5 labels that no file has" in repr(plan)
    assert [(file.start, file.stop) for file in plan.sources] == [(0, 7), (12, 20)]


def test_a_gap_is_not_filled_where_emptiness_would_read_as_a_value(series: Any, write: Any, plan_of: Any) -> None:
    source = series(20)
    source["count"] = "time", np.arange(20)
    paths = write([source.isel(time=slice(0, 7)), source.isel(time=slice(12, 20))])
    with pytest.raises(frazil.InvalidInputError, match=r"'count' .* has no fill value.*--variables.*--gaps keep"):
        plan_of(paths, gaps="fill")
    assert plan_of(paths, gaps="fill", variables=["tas"]).filled == 5


def test_bounds_of_a_filled_gap_read_as_missing(series: Any, write: Any, convert: Any) -> None:
    source = series(20)
    source.time.attrs["bounds"] = "time_bnds"
    source["time_bnds"] = ("time", "bnds"), source.time.values[:, None] + np.array([0.0, 1.0])
    paths = write([source.isel(time=slice(0, 7)), source.isel(time=slice(12, 20))])
    got = convert(paths, gaps="fill")
    assert np.isnat(got.time_bnds[7:12]).all()
    assert not np.isnat(got.time_bnds[12:]).any()


def test_labels_missing_from_an_irregular_axis_cannot_be_told(write: Any, plan_of: Any) -> None:
    days = [0, 1, 2.4, 3.6, 20, 21, 22.2]
    source = xr.Dataset({"x": ("time", days)}, {"time": ("time", days, {"units": "days since 2000-01-01"})})
    paths = write([source.isel(time=slice(0, 4)), source.isel(time=slice(4, 7))])
    with pytest.raises(frazil.LabelError, match=r"not regular.*cannot be told; use --gaps keep"):
        plan_of(paths, gaps="fill")


def test_a_gap_within_a_file_is_kept_and_not_filled(series: Any, write: Any, plan_of: Any) -> None:
    paths = write([series([0, 1, 2, 7, 8])])
    with pytest.raises(frazil.LabelError, match=r"leaves 1 gap.* in .*part-000.nc: 2000-01-01 02:00:00 is followed by"):
        plan_of(paths)
    with pytest.raises(frazil.LabelError, match=r"within a file.*--gaps keep"):
        plan_of(paths, gaps="fill")
    assert plan_of(paths, gaps="keep").template.sizes["time"] == 5
