import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import netCDF4
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis.extra import numpy as hnp

from frazil_functions.errors import ReceiptError
from frazil_functions.reading.encoding import STRING
from frazil_functions.reading.scanning import (
    UNSUPPORTED,
    FileMetadata,
    Labels,
    Scan,
    ScanTask,
    coordinate_names,
    dump_scan,
    load_scan,
    scan_task,
)


def dataset(day: int) -> xr.Dataset:
    return xr.Dataset(
        {
            "tas": (("time", "x"), np.full((2, 3), day, "i2"), {"scale_factor": 0.5, "_FillValue": np.int16(-1)}),
            "height": (("x",), np.arange(3.0), {"valid_max": np.nan}),
            "crs": ((), np.int32(1), {"grid_mapping_name": "none"}),
        },
        {"time": ("time", [day, day + 1], {"units": "days since 2000-01-01"}), "x": ("x", [10.0, 20.0, 30.0])},
        {"title": "a day"},
    )


def scan(*paths: Path, digests: bool = True, append_dim: str | None = "time", engine: str | None = None) -> Scan:
    return scan_task(ScanTask(tuple(map(str, paths)), engine, append_dim, digests))


@pytest.fixture
def days(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{day}.nc" for day in (0, 2, 4)]
    for day, path in zip((0, 2, 4), paths, strict=True):
        dataset(day).to_netcdf(path, engine="netcdf4")
    return paths


def test_a_file_says_what_it_holds(days: list[Path]) -> None:
    (file,) = scan(days[0]).files
    assert (file.error, file.engine, file.sizes) == (None, "netcdf4", {"time": 2, "x": 3})
    assert file.attributes == {"title": "a day"}
    tas = file.variables["tas"]
    assert (tas.dims, tas.shape, tas.dtype) == (("time", "x"), (2, 3), "<i2")
    assert tas.attributes["_FillValue"] == -1
    assert np.dtype(tas.decoded or "") in (np.float32, np.float64)
    assert file.variables["height"].attributes["valid_max"] == "NaN"
    assert file.variables["height"].decoded is None


def test_labels_come_once_for_all_files_that_share_them(days: list[Path]) -> None:
    found = scan(*days)
    assert len({file.variables["x"].digest for file in found.files}) == 1
    assert len({file.variables["time"].digest for file in found.files}) == 3
    assert len(found.labels) == 4
    for file, day in zip(found.files, (0, 2, 4), strict=True):
        assert found.labels[file.variables["time"].digest or ""].values().tolist() == [day, day + 1]
        assert found.labels[file.variables["x"].digest or ""].values().tolist() == [10, 20, 30]


def test_only_what_stands_outside_of_the_append_dimension_is_digested(days: list[Path]) -> None:
    variables = scan(days[0]).files[0].variables
    assert variables["tas"].digest is None
    assert variables["height"].digest is not None
    assert variables["crs"].digest is not None
    without = scan(days[0], digests=False).files[0].variables
    assert without["height"].digest is None
    assert without["x"].digest is not None


def test_equal_static_values_have_equal_digests_and_others_do_not(days: list[Path], tmp_path: Path) -> None:
    other = dataset(0)
    other["height"].values[1] = 7
    other.to_netcdf(tmp_path / "other.nc", engine="netcdf4")
    one, two, three = scan(days[0], days[1], tmp_path / "other.nc").files
    assert one.variables["height"].digest == two.variables["height"].digest != three.variables["height"].digest


def test_a_file_that_cannot_be_read_is_an_entry_beside_the_others(days: list[Path], tmp_path: Path) -> None:
    (tmp_path / "text.nc").write_text("no data")
    days[1].write_bytes(days[1].read_bytes()[:200])
    found = scan(days[0], tmp_path / "none.nc", tmp_path / "text.nc", days[1])
    assert [file.error is None for file in found.files] == [True, False, False, False]
    for file in found.files[1:]:
        assert Path(file.url).name in (file.error or "")


def test_packing_that_makes_no_sense_is_an_entry_that_names_the_variable(tmp_path: Path) -> None:
    with netCDF4.Dataset(tmp_path / "a.nc", "w") as file:
        file.createDimension("x", 2)
        file.createVariable("v", "i2", ("x",)).setncattr("scale_factor", "a tenth")
    (found,) = scan(tmp_path / "a.nc").files
    assert "scale_factor and add_offset of 'v' are no numbers" in (found.error or "")


def test_an_engine_that_is_not_installed_is_an_entry(days: list[Path]) -> None:
    (file,) = scan(days[0], engine="hdf9").files
    assert "no installed Xarray engine" in (file.error or "")


def test_types_that_zarr_does_not_have_are_marked(tmp_path: Path) -> None:
    with netCDF4.Dataset(tmp_path / "a.nc", "w") as file:
        file.createDimension("x", 2)
        file.createVariable("plain", "f4", ("x",))[:] = 1
        ragged = file.createVariable("ragged", file.createVLType("i4", "some"), ("x",))
        for at, row in enumerate(([1, 2, 3], [4])):
            ragged[at] = np.array(row, "i4")
    (found,) = scan(tmp_path / "a.nc", append_dim=None).files
    assert found.error is None
    assert found.variables["plain"].dtype == "<f4"
    assert found.variables["ragged"].dtype.startswith(UNSUPPORTED)
    assert found.variables["ragged"].digest is None


@pytest.mark.parametrize("engine", ["netcdf4", "h5netcdf"])
def test_strings_and_characters_have_their_types(tmp_path: Path, engine: str) -> None:
    with netCDF4.Dataset(tmp_path / "a.nc", "w") as file:
        file.createDimension("station", 2)
        file.createDimension("length", 4)
        file.createVariable("station", str, ("station",))[:] = np.array(["north", "south"], object)
        file.createVariable("code", "S1", ("station", "length"))[:] = netCDF4.stringtochar(
            np.array([b"abcd", b"e"], "S4")
        )
    found = scan(tmp_path / "a.nc", engine=engine)
    variables = found.files[0].variables
    assert (variables["station"].dtype, variables["code"].dtype) == (STRING, "|S4")
    assert found.labels[variables["station"].digest or ""].values().tolist() == ["north", "south"]


def test_the_same_file_scans_equal_with_either_engine(days: list[Path]) -> None:
    by_netcdf, by_h5 = (scan(days[0], engine=engine).files[0] for engine in ("netcdf4", "h5netcdf"))
    assert by_netcdf.variables == by_h5.variables
    assert by_netcdf.attributes == by_h5.attributes


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"tas": {"coordinates": "lat lon missing"}, "lat": {}, "lon": {}, "x": {}}, {"lat", "lon"}),
        ({"time": {"bounds": "time_bnds"}, "time_bnds": {}}, {"time_bnds"}),
        ({"t": {"climatology": "c"}, "c": {}}, {"c"}),
        (
            {"lev": {"formula_terms": "a: hyam b: hybm ps: ps"}, "hyam": {}, "hybm": {}, "ps": {}},
            {"hyam", "hybm", "ps"},
        ),
        ({"tas": {"coordinates": 5}}, set()),
    ],
)
def test_coordinates_are_those_that_others_name(attributes: dict[str, dict[str, Any]], expected: set[str]) -> None:
    assert coordinate_names(attributes) == expected


@given(
    hnp.arrays(hnp.integer_dtypes() | hnp.floating_dtypes() | hnp.unicode_string_dtypes(), hnp.array_shapes(min_side=0))
)
def test_labels_come_back_as_they_went(values: np.ndarray[Any, Any]) -> None:
    found = Labels.of(values)
    np.testing.assert_array_equal(found.values(), values)
    assert found.digest == Labels.of(values.copy()).digest


def test_labels_of_strings_of_any_length_and_of_none() -> None:
    for values in (np.array(["a", "bcd"], object), np.array(["a", "bcd"], np.dtypes.StringDType())):
        assert Labels.of(values).values().tolist() == ["a", "bcd"]
    assert Labels.of(np.array([], object)).values().shape == (0,)


def test_labels_of_another_type_or_shape_have_another_digest() -> None:
    values = np.zeros(4, "i4")
    others = [values, values.astype("f4"), values.reshape(2, 2), values + 1]
    assert len({Labels.of(other).digest for other in others}) == 4


def test_a_scan_comes_back_as_it_went(days: list[Path], tmp_path: Path) -> None:
    found = scan(days[0], tmp_path / "none.nc")
    assert load_scan(dump_scan(found)) == found
    assert found.files[1] == FileMetadata(str(tmp_path / "none.nc"), error=found.files[1].error)


@pytest.mark.parametrize("data", [b"", b"\xc0", b"\x92\xc0", b"\x91" * 200_000])
def test_bytes_that_are_no_scan_are_refused(data: bytes) -> None:
    with pytest.raises(ReceiptError, match="cannot be read"):
        load_scan(data)


def half_precision(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(3.0)
        file["x"].make_scale("x")
        file.create_dataset("v", data=np.arange(3, dtype="f2")).dims[0].attach_scale(file["x"])
    return path


def test_half_precision_is_read_with_the_engine_that_can(tmp_path: Path) -> None:
    (file,) = scan(half_precision(tmp_path / "a.nc")).files
    assert (file.engine, file.variables["v"].dtype) == ("h5netcdf", "<f2")


def in_a_group(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["v"] = np.arange(3.0)
        file["deep/below/w"] = np.arange(3, dtype="f2")
    return path


def as_xarray_writes_it(path: Path) -> Path:
    xr.Dataset({"v": ("x", np.arange(3, dtype="f2"))}, {"x": np.arange(3)}).to_netcdf(path, engine="h5netcdf")
    return path


@pytest.mark.parametrize("made", [in_a_group, as_xarray_writes_it])
def test_the_netcdf_library_never_sees_half_precision(tmp_path: Path, made: Callable[[Path], Path]) -> None:
    # In a process of its own, for the library ends it.
    code = "import sys; from frazil_functions.reading.opening import open_raw; open_raw(sys.argv[1], 'netcdf4')"
    path = made(tmp_path / "half.nc")
    ended = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "has half-precision numbers, which the netcdf4 engine cannot read" in ended.stderr
    (file,) = scan(path).files
    assert (file.engine, file.error) == ("h5netcdf", None)


def test_half_precision_is_refused_with_the_engine_that_would_crash(tmp_path: Path) -> None:
    (file,) = scan(half_precision(tmp_path / "a.nc"), engine="netcdf4").files
    assert "use --engine h5netcdf" in (file.error or "")
