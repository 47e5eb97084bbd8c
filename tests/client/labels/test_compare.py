"""What files must have in common, and along which dimension they follow each other."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import frazil
from frazil.labels.compare import calendar_of
from frazil.planning.scan import Wanted, scan_sources
from frazil.report import silent
from frazil_functions.reading.scanning import VariableMetadata


@pytest.fixture
def append_dim_of(write: Callable[..., list[Path]]) -> Callable[..., str | None]:
    def append_dim_of(*datasets: xr.Dataset) -> str | None:
        urls = [str(path) for path in write(datasets)]
        return scan_sources(urls, Wanted(), frazil.SerialExecutor(), silent).append_dim

    return append_dim_of


def test_a_single_file_grows_along_its_time(append_dim_of: Any, series: Any) -> None:
    assert append_dim_of(series().transpose("lat", "time", "lon")) == "time"


def test_a_single_file_without_time_grows_along_its_first_dimension(append_dim_of: Any) -> None:
    assert append_dim_of(xr.Dataset({"t": (("y", "x"), np.ones((2, 3)))})) == "y"


def test_a_file_of_scalars_grows_along_nothing(append_dim_of: Any) -> None:
    assert append_dim_of(xr.Dataset({"t": ((), 1.0)})) is None


def test_the_dimension_whose_labels_differ_is_the_one(append_dim_of: Any, series: Any) -> None:
    assert append_dim_of(series(3), series(3, start=3)) == "time"
    whole = series(3, lat=6)
    assert append_dim_of(whole.isel(lat=slice(0, 3)), whole.isel(lat=slice(3, 6))) == "lat"


def test_a_dimension_whose_length_differs_is_the_one(append_dim_of: Any) -> None:
    assert append_dim_of(*(xr.Dataset({"t": (("n", "x"), np.ones((length, 3)))}) for length in (2, 5))) == "n"


@pytest.mark.parametrize(
    "change",
    [
        lambda lat: lat + 1e-6,
        lambda lat: lat[::-1],
        lambda lat: lat[[1, 0, 2, 3]],
        lambda lat: lat + 7,
    ],
)
def test_labels_that_do_not_follow_each_other_leave_no_doubt_about_time(
    change: Any, append_dim_of: Any, series: Any
) -> None:
    second = series(3, start=3)
    second = second.assign_coords(lat=change(second.lat.values))
    assert append_dim_of(series(3), second) == "time"


def test_time_is_told_apart_by_its_units_as_well(append_dim_of: Any, series: Any) -> None:
    assert append_dim_of(series(3), series(3, units="hours since 2000-01-02")) == "time"


def test_two_dimensions_that_differ_are_in_doubt_unless_one_is_time(append_dim_of: Any, series: Any) -> None:
    whole = series(6, lat=6, lon=6)
    tiles = [whole.isel(lat=slice(0, 3), lon=slice(0, 3)), whole.isel(lat=slice(3, 6), lon=slice(3, 6))]
    with pytest.raises(frazil.LabelError, match=r"part-000.nc and part-001.nc differ along 'lat', 'lon'.*--append-dim"):
        append_dim_of(*tiles)


@pytest.mark.parametrize(
    ("name", "means"),
    [
        ("gregorian", "standard"),
        ("Standard", "standard"),
        ("noleap", "365_day"),
        ("365_day", "365_day"),
        ("all_leap", "366_day"),
        ("360_day", "360_day"),
        (None, "standard"),
    ],
)
def test_calendars_go_by_several_names(name: str | None, means: str) -> None:
    attributes = {} if name is None else {"calendar": name}
    assert calendar_of(VariableMetadata(("time",), (1,), "<f8", attributes, None)) == means


def test_calendars_of_the_same_meaning_do_not_differ(series: Any, write: Any, plan_of: Any) -> None:
    parts = [series(3, calendar="noleap"), series(3, start=3, calendar="365_day")]
    assert plan_of(write(parts)).template.sizes["time"] == 6


@pytest.mark.parametrize("first", ["standard", "gregorian", "proleptic_gregorian"])
@pytest.mark.parametrize("second", ["standard", "proleptic_gregorian"])
@pytest.mark.parametrize("units", ["hours since 2000-01-01", "minutes since 2000-01-01"])
def test_calendars_that_agree_on_the_dates_of_both_do_not_differ(
    first: str, second: str, units: str, series: Any, write: Any, convert: Any
) -> None:
    per = 60 if units.startswith("minutes") else 1
    parts = [series(3, calendar=first), series([n * per for n in range(3, 6)], calendar=second, units=units)]
    found = convert(write(parts), accept="units")
    assert [str(one)[:13] for one in found["time"].values] == [f"2000-01-01T{hour:02}" for hour in range(6)]


@pytest.mark.parametrize("units", ["days since 1500-01-01", "days since 1582-10-10", "days since 1850-01-01"])
def test_calendars_that_part_among_the_dates_are_refused(units: str, series: Any, write: Any, plan_of: Any) -> None:
    start = -120_000 if "1850" in units else 0
    parts = [
        series(range(start, start + 3), units=units, calendar="standard"),
        series(range(start + 3, start + 6), units=units, calendar="proleptic_gregorian"),
    ]
    with pytest.raises(frazil.LabelError, match="counts in the calendar 'proleptic_gregorian'"):
        plan_of(write(parts))


def test_attributes_may_differ_and_the_first_file_gives_them(series: Any, write: Any, plan_of: Any) -> None:
    first, second = series(3).assign_attrs(history="first"), series(3, start=3).assign_attrs(history="second")
    second.tas.attrs["comment"] = "added"
    plan = plan_of(write([first, second]))
    assert plan.template.attributes["history"] == "first"
    assert "comment" not in plan.template.arrays["tas"].attributes


def test_time_units_accepted_and_times_that_would_be_rounded_are_refused(series: Any, write: Any, plan_of: Any) -> None:
    first, second = series(24), series([n * 30 for n in range(48)], units="minutes since 2000-01-02")
    with pytest.raises(frazil.InvalidInputError, match="'time' has times that <i8 cannot hold in 'hours since"):
        plan_of(write([first, second]), accept=("units",))


def test_accepted_units_join_whole_and_fractional_times(series: Any, write: Any, plan_of: Any) -> None:
    first, second = series(24), series([n / 24 for n in range(24)], units="days since 2000-01-02")
    plan = plan_of(write([first, second]), accept=("units",))
    assert plan.template.labels["time"].values().tolist() == list(range(48))
    assert [file.recode for file in plan.sources] == [(), ("time",)]


def test_every_file_that_cannot_be_read_is_counted(series: Any, split: Any, write: Any, plan_of: Any) -> None:
    paths = write(split(series(6), "time", [1] * 6))
    for path in paths[2:5]:
        path.write_bytes(b"")
    with pytest.raises(frazil.SourceError, match=r"part-002.nc is empty.*2 more of 6 files"):
        plan_of(paths)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"_FillValue": 1.0}, {"_FillValue": 2.0}),
        ({"_FillValue": 1.0}, {}),
        ({}, {"missing_value": 1.0}),
        ({"missing_value": [1.0, 2.0]}, {"missing_value": [1.0]}),
        ({"_FillValue": 1.0}, {"_FillValue": np.inf}),
    ],
)
def test_static_values_that_another_mask_lies_on_are_refused(
    first: dict[str, Any], second: dict[str, Any], series: Any, write: Any, plan_of: Any
) -> None:
    parts = [series(3), series(3, start=3)]
    for part, marks in zip(parts, (first, second), strict=True):
        part["orography"] = ("lat", "lon"), np.arange(24.0).reshape(4, 6), {"units": "m"}
        part.orography.encoding["_FillValue"] = marks.get("_FillValue")
        if "missing_value" in marks:
            part.orography.attrs["missing_value"] = marks["missing_value"]
    with pytest.raises(
        frazil.MismatchedSourceError, match=r"'orography' is stored in another way in .*part-001.nc.*--variables"
    ):
        plan_of(write(parts))


def test_marks_that_mean_the_same_do_not_differ(series: Any, write: Any, plan_of: Any) -> None:
    parts = [series(3), series(3, start=3)]
    for part in parts:
        part["orography"] = ("lat", "lon"), np.ones((4, 6))
    parts[0].orography.encoding["_FillValue"] = np.nan
    parts[1].orography.encoding["_FillValue"] = None
    for part, key in zip(parts, ("_FillValue", "missing_value"), strict=True):
        part["mask"] = ("lat", "lon"), np.ones((4, 6), "i2")
        part.mask.encoding["_FillValue"] = None
        part.mask.encoding[key] = np.int16(-9)
    assert plan_of(write(parts)).template.sizes["time"] == 6


@pytest.mark.parametrize(
    ("key", "first", "second"),
    [
        ("flag_values", np.array([1, 2], "i1"), np.array([2, 1], "i1")),
        ("flag_meanings", "land sea", "sea land"),
        ("flag_meanings", "land sea", None),
        ("flag_masks", None, np.array([1, 2], "i1")),
        ("positive", "up", "down"),
        ("grid_mapping", "crs", "other"),
        ("standard_name", "air_temperature", "surface_temperature"),
        ("cell_methods", "time: mean", "time: maximum"),
    ],
)
@pytest.mark.parametrize("name", ["tas", "orography"])
def test_attributes_that_give_values_another_meaning_are_refused(
    key: str, first: Any, second: Any, name: str, series: Any, write: Any, plan_of: Any
) -> None:
    parts = [series(3), series(3, start=3)]
    for part, value in zip(parts, (first, second), strict=True):
        part["orography"] = ("lat", "lon"), np.ones((4, 6), "f4")
        part[name].attrs |= {} if value is None else {key: value}
    with pytest.raises(frazil.MismatchedSourceError) as told:
        plan_of(write(parts))
    values = [repr(value.tolist() if isinstance(value, np.ndarray) else value) for value in (first, second)]
    for part in ("part-001.nc", repr(name), key, "--variables", *values):
        assert part in str(told.value)


@pytest.mark.parametrize(
    ("key", "first", "second"),
    [
        ("long_name", "temperature", "air temperature"),
        ("history", "a", None),
        ("comment", "a", "b"),
        ("standard_name", "air_temperature", None),
        ("cell_methods", None, "time: mean"),
        ("cell_methods", "time: mean", "time:  mean "),
        ("flag_values", np.array([1], "i1"), np.int8(1)),
    ],
)
def test_attributes_that_leave_the_meaning_as_it_is_may_differ(
    key: str, first: Any, second: Any, series: Any, write: Any, plan_of: Any
) -> None:
    parts = [series(3), series(3, start=3)]
    for part, value in zip(parts, (first, second), strict=True):
        part.tas.attrs |= {} if value is None else {key: value}
    assert plan_of(write(parts)).template.sizes["time"] == 6


def test_grid_mappings_of_other_parameters_are_refused(series: Any, write: Any, plan_of: Any) -> None:
    parts = [series(3), series(3, start=3)]
    for part, radius in zip(parts, (6371229.0, 6378137.0), strict=True):
        part["crs"] = (
            (),
            0,
            {"grid_mapping_name": "latitude_longitude", "earth_radius": radius, "long_name": f"{radius}"},
        )
    with pytest.raises(frazil.MismatchedSourceError, match=r"part-001.nc: 'crs' .*earth_radius.*6378137.*6371229"):
        plan_of(write(parts))
