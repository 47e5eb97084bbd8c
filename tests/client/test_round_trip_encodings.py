"""However a file stores its values and says what they mean, both survive."""

from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import xarray as xr

import frazil

TIME_ENCODINGS = [
    (units, calendar, dtype)
    for units in ("seconds", "minutes", "hours", "days")
    for calendar in ("standard", "proleptic_gregorian", "noleap", "360_day", "julian", "all_leap")
    for dtype in ("f8", "i4")
    if not (units == "days" and dtype == "i4")
]


@pytest.mark.parametrize(("units", "calendar", "dtype"), TIME_ENCODINGS)
def test_times_keep_their_calendar_units_and_type(
    units: str, calendar: str, dtype: str, write: Any, split: Any, convert: Any, opened: Any
) -> None:
    per_hour = {"seconds": 3600, "minutes": 60, "hours": 1, "days": 1 / 24}[units]
    stamps = (np.arange(20) * 6 * per_hour).astype(dtype)
    told = {"units": f"{units} since 1999-02-26 03:00:00", "calendar": calendar}
    dataset = xr.Dataset({"x": ("time", np.arange(20.0))}, {"time": ("time", stamps, told)})
    paths = write(split(dataset, "time", [9, 11]))
    got = convert(paths, chunks={"time": 6})
    xr.testing.assert_identical(got, opened(paths, "time"))
    assert got.time.encoding["units"] == told["units"]
    assert got.time.encoding["dtype"] == np.dtype(dtype)


PACKINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("f4", {}),
    "fill value": ("f4", {"_FillValue": np.float32(-999)}),
    "NaN as fill value": ("f8", {"_FillValue": np.nan}),
    "fill value of an integer": ("i2", {"_FillValue": np.int16(-999)}),
    "missing_value": ("f4", {"missing_value": np.float32(-999)}),
    "missing_value of an integer": ("i2", {"missing_value": np.int16(-999)}),
    "NaN as missing_value": ("f4", {"missing_value": np.float32(np.nan)}),
    "both fill values": ("f4", {"_FillValue": np.float32(-999), "missing_value": np.float32(-999)}),
    "scale and offset": ("i2", {"scale_factor": 0.5, "add_offset": 100.0, "_FillValue": np.int16(-999)}),
    "a large fill value": ("f4", {"_FillValue": np.float32(1e20)}),
    "a large missing_value": ("f4", {"missing_value": np.float32(1e20)}),
    "an uneven fill value": ("f4", {"_FillValue": np.float32(-9.1)}),
    "offset alone": ("i4", {"add_offset": -3.0}),
    "scale of floats": ("f4", {"scale_factor": 2.0}),
    "unsigned in signed": ("i1", {"_Unsigned": "true", "_FillValue": np.int8(-1)}),
    "unsigned and packed": ("i1", {"_Unsigned": "true", "_FillValue": np.int8(-1), "scale_factor": 0.1}),
    "signed in unsigned": ("u1", {"_Unsigned": "false", "_FillValue": np.uint8(255)}),
    "64-bit integers": ("i8", {"_FillValue": np.int64(-(2**63))}),
    "64-bit unsigned": ("u8", {}),
    "booleans": ("i1", {"dtype": "bool"}),
}


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("engine", ["netcdf4", "h5netcdf"])
def test_packing_is_kept_as_it_is(packing: str, engine: str, tmp_path: Path, convert: Any, opened: Any) -> None:
    dtype, attributes = PACKINGS[packing]
    paths = [tmp_path / f"{number}.nc" for number in range(2)]
    for number, path in enumerate(paths):
        with netCDF4.Dataset(path, "w") as file:
            file.set_auto_maskandscale(False)
            file.createDimension("time", 5)
            file.createDimension("x", 3)
            time = file.createVariable("time", "i4", ("time",))
            time.units, time[:] = "days since 2001-01-01", number * 5 + np.arange(5)
            rest = dict(attributes)
            fill = rest.pop("_FillValue", None)
            variable = file.createVariable("v", dtype, ("time", "x"), fill_value=fill)
            variable.setncatts(rest)
            values = (np.arange(15).reshape(5, 3) % (2 if packing == "booleans" else 100)).astype(dtype)
            missing = fill if fill is not None else rest.get("missing_value")
            if missing is not None:
                values[2, 1] = missing
            variable[:] = values
    got = convert(paths, chunks={"time": 4}, engine=engine)
    want = opened(paths, "time", engine=engine)
    if packing == "NaN as missing_value":
        del want.v.encoding["missing_value"]
    xr.testing.assert_identical(got, want)
    assert got.v.dtype == want.v.dtype
    assert {k: got.v.encoding.get(k) for k in ("scale_factor", "add_offset")} == {
        k: want.v.encoding.get(k) for k in ("scale_factor", "add_offset")
    }


def rich() -> xr.Dataset:
    """Every shape and kind of variable beside each other."""
    time, lat, lon = 12, 3, 4
    rng = np.random.default_rng(0)
    return xr.Dataset(
        {
            "tas": (("time", "lat", "lon"), rng.random((time, lat, lon), "f4"), {"grid_mapping": "crs"}),
            "profile": (("lon", "time"), rng.random((lon, time))),
            "count": ("time", np.arange(time, dtype="u2")),
            "orography": (("lat", "lon"), rng.random((lat, lon), "f4"), {"coordinates": "area"}),
            "crs": ((), np.int32(0), {"grid_mapping_name": "latitude_longitude", "semi_major_axis": 6371229.0}),
            "flag": (("time", "lat"), rng.random((time, lat)) > 0.5),
            "station": ("lat", np.array(["Graz", "Żywiec", ""], dtype=object)),
            "event": ("time", np.array([f"event {'n' * (n % 4)}" for n in range(time)], dtype=object)),
            "code": (("time", "lat"), np.array([[b"ab", b"c", b"xyz"]] * time, "S3")),
            "wave": (("time", "lat"), np.ones((time, lat), "f8")),
            "plain": ("index", np.arange(5.0)),
        },
        {
            "time": ("time", np.arange(time), {"units": "days since 2000-02-25", "bounds": "time_bnds"}),
            "time_bnds": (("time", "bnds"), np.arange(time)[:, None] + np.array([0, 1])),
            "lat": ("lat", np.linspace(-60, 60, lat)),
            "lon": ("lon", np.linspace(0, 270, lon)),
            "area": (("lat", "lon"), rng.random((lat, lon))),
            "lat2d": (("lat", "lon"), rng.random((lat, lon))),
            "height": ((), 2.0, {"units": "m"}),
            "age": ("time", np.arange(time) * 2.5),
        },
        {
            "title": "rich",
            "empty": "",
            "levels": np.array([1.5, 2.5, 3.5]),
            "one": np.array([7]),
            "version": np.int16(3),
            "comment": "Ω ≈ ζ",
        },
    )


@pytest.mark.parametrize("lengths", [[12], [5, 7], [1, 1, 10]])
@pytest.mark.parametrize("chunks", [{}, {"time": 4}, {"time": 5, "lat": 2, "lon": 3}])
def test_variables_of_every_shape_and_kind_survive_together(
    lengths: list[int], chunks: dict[str, int], write: Any, split: Any, convert: Any, opened: Any
) -> None:
    paths = write(split(rich(), "time", lengths))
    xr.testing.assert_identical(convert(paths, chunks=chunks), opened(paths, "time"))


def test_attributes_of_variables_survive(write: Any, series: Any, convert: Any, opened: Any) -> None:
    dataset = series(4)
    dataset.tas.attrs |= {
        "empty": "",
        "flag_values": np.array([1, 2, 3], "i1"),
        "valid_range": np.array([0.0, 400.0], "f4"),
        "names": ["a", "bc"],
        "note": "first\nsecond",
    }
    paths = write([dataset])
    xr.testing.assert_identical(convert(paths), opened(paths))


def test_attributes_that_json_cannot_hold_become_their_names(write: Any, series: Any, convert: Any) -> None:
    """Icechunk's metadata is JSON, which has no NaN and no infinities (RFC 8259, section 6)."""
    dataset = series(4).assign_attrs(gone=np.nan, below=-np.inf, some=np.array([1.0, np.nan]))
    got = convert(write([dataset]))
    assert [got.attrs[name] for name in ("gone", "below", "some")] == ["NaN", "-Infinity", [1.0, "NaN"]]


def test_a_scale_in_single_precision_unpacks_into_doubles(series: Any, write: Any, convert: Any) -> None:
    """JSON has one kind of number, and Xarray unpacks to the scale's; Xarray's own Zarr writer does the same."""
    dataset = packed(series, 0, np.float32(0.1), np.float32(10.0))
    paths = write([dataset])
    got, want = convert(paths), xr.open_dataset(paths[0])
    assert (got.tas.dtype, want.tas.dtype) == (np.dtype("f8"), np.dtype("f4"))
    np.testing.assert_allclose(got.tas, want.tas, atol=1e-5)
    raw = xr.open_dataset(paths[0], mask_and_scale=False)
    np.testing.assert_array_equal(np.rint((got.tas - 10) / np.float32(0.1)).fillna(-999), raw.tas)


def test_durations_stay_durations(write: Any, series: Any, split: Any, convert: Any, opened: Any) -> None:
    dataset = xr.decode_cf(series(12))
    dataset["lead"] = "time", np.arange(12).astype("m8[h]").astype("m8[ns]")
    paths = write(split(dataset, "time", [5, 7]))
    got, want = convert(paths, chunks={"time": 4}), opened(paths, "time")
    xr.testing.assert_identical(got, want)
    assert got.lead.dtype.kind == "m"


def test_a_second_time_variable_keeps_its_own_units(write: Any, series: Any, split: Any, convert: Any) -> None:
    dataset = series(12)
    reference = {"units": "days since 1970-01-01", "calendar": "standard"}
    dataset = dataset.assign_coords(reference=("time", np.repeat([10957.0, 10958.0], 6), reference))
    got = convert(write(split(dataset, "time", [5, 7])))
    xr.testing.assert_identical(got, xr.decode_cf(dataset))


def test_an_append_dimension_may_run_backwards(write: Any, split: Any, convert: Any) -> None:
    dataset = xr.Dataset({"t": ("level", np.arange(10.0))}, {"level": ("level", np.arange(1000, 0, -100))})
    first, second = split(dataset, "level", [4, 6])
    xr.testing.assert_identical(convert(write([second, first]), chunks={"level": 3}), dataset)


def test_labels_may_be_names(write: Any, split: Any, convert: Any) -> None:
    names = np.array(["r1i1p1", "r2i1p1", "r3i1p1f2", "r10"], dtype=object)
    dataset = xr.Dataset({"t": (("member", "x"), np.arange(12.0).reshape(4, 3))}, {"member": names})
    got = convert(write(split(dataset, "member", [1, 2, 1])), chunks={"member": 3})
    xr.testing.assert_identical(got, dataset)


def test_dimensions_need_no_coordinates(write: Any, split: Any, convert: Any) -> None:
    dataset = xr.Dataset({"t": (("n", "x"), np.arange(30.0).reshape(10, 3))})
    got = convert(write(split(dataset, "n", [3, 7])), append_dim="n", accept=("order",), chunks={"n": 4})
    xr.testing.assert_identical(got, dataset)


@pytest.mark.parametrize("lengths", [[5, 5], [2, 5, 3], [1, 1, 8]])
def test_every_file_counts_along_a_dimension_without_coordinates(
    lengths: list[int], write: Any, split: Any, convert: Any
) -> None:
    dataset = xr.Dataset({"t": ("n", np.arange(10.0))}, {"place": ("n", np.arange(10) * 3)})
    got = convert(write(split(dataset, "n", lengths)), append_dim="n", accept=("order",))
    xr.testing.assert_identical(got, dataset)


@pytest.mark.parametrize("empty", ["x", "n"])
def test_dimensions_may_have_no_elements(empty: str, write: Any, convert: Any) -> None:
    sizes = {"n": 4, "x": 3} | {empty: 0}
    dataset = xr.Dataset({"t": (("n", "x"), np.zeros((sizes["n"], sizes["x"]))), "other": ("y", np.arange(2.0))})
    xr.testing.assert_identical(convert(write([dataset])), dataset)


def test_a_file_of_scalars_is_a_dataset_too(write: Any, convert: Any) -> None:
    dataset = xr.Dataset({"a": ((), 1.5), "b": ((), np.int32(3)), "name": ((), "x")}, attrs={"k": "v"})
    xr.testing.assert_identical(convert(write([dataset])), dataset)


def packed(series: Any, start: int, scale: Any, offset: Any, fill: int = -999) -> xr.Dataset:
    dataset = xr.decode_cf(series(6, start=start))
    dataset.tas[1, 1] = np.nan
    dataset.tas.encoding = {"dtype": "i2", "scale_factor": scale, "add_offset": offset, "_FillValue": fill}
    return dataset


def test_files_that_are_packed_differently_are_stored_unpacked(series: Any, write: Any, convert: Any) -> None:
    paths = write([packed(series, 0, 0.01, 10.0), packed(series, 6, 0.02, 20.0)])
    got = convert(paths, chunks={"time": 4})
    parts = [xr.open_dataset(path) for path in paths]
    xr.testing.assert_identical(
        got, xr.concat(parts, "time", data_vars="minimal", coords="minimal", compat="override", join="exact")
    )
    assert got.tas.encoding["dtype"].kind == "f"


def test_files_with_different_fill_values_keep_the_first_ones(series: Any, write: Any, convert: Any) -> None:
    paths = write([packed(series, 0, 0.01, 10.0), packed(series, 6, 0.01, 10.0, fill=-32768)])
    got = convert(paths, chunks={"time": 4})
    parts = [xr.open_dataset(path) for path in paths]
    xr.testing.assert_identical(
        got, xr.concat(parts, "time", data_vars="minimal", coords="minimal", compat="override", join="exact")
    )
    assert got.tas.encoding["_FillValue"] == -999


def test_time_units_of_files_may_differ_where_that_is_accepted(series: Any, write: Any, convert: Any) -> None:
    first = series(24)
    second = series([n / 24 for n in range(24)], units="days since 2000-01-02")
    second["tas"] = second.tas + 24
    got = convert(
        write([first.assign_coords(time=first.time.astype("f8").assign_attrs(first.time.attrs)), second]),
        accept=("units",),
        chunks={"time": 7},
    )
    assert got.time.encoding["units"] == "hours since 2000-01-01"
    np.testing.assert_array_equal(got.time, np.arange("2000-01-01", "2000-01-03", dtype="M8[h]").astype("M8[ns]"))
    np.testing.assert_array_equal(got.tas[24], second.tas[0])


def test_bounds_follow_the_units_of_their_coordinate(series: Any, write: Any, convert: Any, opened: Any) -> None:
    parts = [series(6), series(6, units="hours since 2000-01-01 06:00")]
    for part in parts:
        part.time.attrs["bounds"] = "time_bnds"
        part["time_bnds"] = ("time", "bnds"), np.arange(6.0)[:, None] + np.array([0.0, 1.0])
    paths = write(parts)
    xr.testing.assert_identical(convert(paths, accept=("units",), chunks={"time": 4}), opened(paths, "time"))


def test_labels_may_name_different_fill_values_that_none_of_them_has(
    series: Any, write: Any, convert: Any, opened: Any
) -> None:
    first, second = series(6), series(6, start=6)
    second.time.encoding["_FillValue"] = -99
    second.lat.encoding["_FillValue"] = None
    paths = write([first, second])
    xr.testing.assert_identical(convert(paths), opened(paths, "time"))


def test_strings_of_fixed_length_get_the_length_of_the_longest(
    series: Any, write: Any, convert: Any, opened: Any
) -> None:
    parts = [series(6).assign(code=("time", np.array([b"ab"] * 6))), series(6, start=6)]
    parts[1]["code"] = "time", np.array([b"longer"] * 6)
    paths = write(parts)
    got = convert(paths, chunks={"time": 4})
    assert got.code.dtype == np.dtype("S6")
    np.testing.assert_array_equal(got.code, opened(paths, "time").code)


def test_the_fill_value_of_strings_is_an_ordinary_string(tmp_path: Path, convert: Any) -> None:
    """Xarray cannot read a `_FillValue` of strings back from Zarr, so a store must not hold one."""
    with netCDF4.Dataset(tmp_path / "a.nc", "w") as file:
        file.createDimension("x", 3)
        file.createVariable("s", str, ("x",), fill_value="none")[:] = np.array(["a", "none", "c"], object)
    assert convert(tmp_path / "a.nc").s.values.tolist() == ["a", "none", "c"]


def test_a_file_may_have_no_times_if_it_is_the_only_one(series: Any, write: Any, convert: Any) -> None:
    assert convert(write([series(0)])).sizes["time"] == 0


def test_drifting_labels_take_those_of_the_first_file(series: Any, write: Any, convert: Any) -> None:
    first, second = series(6), series(6, start=6)
    second["lat"] = second.lat + 1e-6
    got = convert(write([first, second]), accept=("drift",))
    np.testing.assert_array_equal(got.lat, first.lat)
    assert got.sizes["time"] == 12


def scaled(start: int, attributes: dict[str, Any], dtype: str = "i4", units: str = "m") -> xr.Dataset:
    """Five values at the labels `start` and on, one apart, packed as the attributes say."""
    scale, offset = attributes.get("scale_factor", 1.0), attributes.get("add_offset", 0.0)
    labels = np.rint((np.arange(start, start + 5) - offset) / scale).astype(dtype)
    return xr.Dataset({"v": ("x", np.arange(start, start + 5.0))}, {"x": ("x", labels, {"units": units} | attributes)})


@pytest.mark.parametrize("units", ["m", "hours since 2000-01-01"])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"add_offset": 1000.0}, {"add_offset": 1005.0}),
        ({"scale_factor": 0.5, "add_offset": 1000.0}, {"scale_factor": 0.25}),
        ({"scale_factor": 0.5}, {}),
        ({}, {"scale_factor": 0.5, "add_offset": 1000.0}),
        ({"scale_factor": np.float32(0.5)}, {"add_offset": np.float32(1000.0)}),
    ],
)
def test_labels_that_are_packed_differently_are_stored_unpacked(
    first: dict[str, Any], second: dict[str, Any], units: str, write: Any, convert: Any
) -> None:
    got = convert(
        write([scaled(1000, first, units=units), scaled(1005, second, units=units)]),
        chunks={"x": 4},
        append_dim="x",
    )
    want = xr.Dataset({"v": ("x", np.arange(1000, 1010.0))}, {"x": ("x", np.arange(1000, 1010.0), {"units": units})})
    np.testing.assert_array_equal(got.x, xr.decode_cf(want).x)
    np.testing.assert_array_equal(got.v, want.v)


def test_a_label_is_never_rounded_to_fit_the_packing_of_the_first_file(write: Any, plan_of: Any) -> None:
    first = scaled(0, {"scale_factor": 24.0}, units="hours since 2000-01-01")
    first["x"] = "x", np.arange(5, dtype="i4"), first.x.attrs
    second = scaled(0, {"scale_factor": 24.0}, units="minutes since 2000-01-01")
    second["x"] = "x", np.arange(300, 305, dtype="i4"), second.x.attrs  # of 24 minutes each
    with pytest.raises(frazil.InvalidInputError, match=r"'x' has values that .* would be rounded"):
        plan_of(write([first, second]), accept=("units",), append_dim="x")


def test_times_in_other_units_fit_a_packing_with_fractions(write: Any, convert: Any) -> None:
    first = scaled(0, {"scale_factor": 0.5}, units="hours since 2000-01-01")
    second = scaled(0, {}, units="minutes since 2000-01-01 05:00")
    second["x"] = "x", np.arange(5, dtype="i4") * 30, second.x.attrs
    got = convert(write([first, second]), accept=("units",), append_dim="x", gaps="keep")
    hours = [0, 1, 2, 3, 4, 5, 5.5, 6, 6.5, 7]
    np.testing.assert_array_equal(
        got.x, np.datetime64("2000-01-01", "ns") + np.array(hours) * np.timedelta64(3600, "s")
    )


def test_bounds_that_are_packed_differently_are_stored_unpacked(write: Any, convert: Any) -> None:
    parts = [scaled(start, {}, units="hours since 2000-01-01") for start in (0, 5)]
    for part, (scale, start) in zip(parts, [(1.0, 0), (0.5, 5)], strict=True):
        part.x.attrs["bounds"] = "x_bnds"
        edges = np.arange(start, start + 5)[:, None] + np.array([-0.5, 0.5]) * (scale == 0.5)
        part["x_bnds"] = ("x", "bnds"), np.rint(edges / scale).astype("i4"), {"scale_factor": scale}
    got = convert(write(parts), append_dim="x")
    edges = np.arange(10)[:, None] + np.array([-0.5, 0.5]) * (np.arange(10) >= 5)[:, None]
    want = np.datetime64("2000-01-01", "ns") + (edges * 3600).astype("i8") * np.timedelta64(1, "s")
    np.testing.assert_array_equal(got.x_bnds, want)


def test_a_label_that_would_read_as_missing_under_the_first_file_is_refused(write: Any, plan_of: Any) -> None:
    first, second = scaled(0, {}), scaled(5, {})
    first.x.encoding["_FillValue"] = 7
    second.x.encoding["_FillValue"] = None
    with pytest.raises(frazil.LabelError, match=r"part-001.nc: 'x' is missing at index 2 ._FillValue is 7"):
        plan_of(write([first, second]), append_dim="x")
