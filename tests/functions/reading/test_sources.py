import dataclasses
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import iris_sample_data
import netCDF4
import numpy as np
import pytest
import xarray as xr
import zarr
from tests.functions.conftest import file_source

from frazil_functions.errors import SourceError
from frazil_functions.reading.encoding import STRING, native
from frazil_functions.reading.opening import check_engine, engines, fingerprint, guess_engine, open_raw, read_raw
from frazil_functions.reading.sources import FileSources
from frazil_functions.regions import Region
from frazil_functions.tasks import FileSource

type Array = np.ndarray[Any, Any]

KINDS = ["NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA", "NETCDF4", "NETCDF4_CLASSIC"]


def write(path: Path, values: Array, kind: Any = "NETCDF4", **attributes: Any) -> Path:
    """One variable on (time, x), as the netCDF library stores it."""
    with netCDF4.Dataset(path, "w", format=kind) as file:
        for dim, length in zip(("time", "x"), values.shape, strict=False):
            file.createDimension(dim, length)
        fill = attributes.pop("_FillValue", None)
        variable = file.createVariable("v", values.dtype, ("time", "x")[: values.ndim], fill_value=fill)
        variable.set_auto_maskandscale(False)
        variable.setncatts(attributes)
        variable[...] = values
    return path


def region(time: tuple[int, int], x: tuple[int, int] = (0, 8), name: str = "v") -> Region:
    return Region(name, (("time", *time), ("x", *x)))


@pytest.fixture
def three(tmp_path: Path, values: Array) -> list[FileSource]:
    """Three files of four times each."""
    flat = values[:, 0]
    return [
        file_source(
            write(tmp_path / f"{at}.nc", flat[at : at + 4]),
            at,
            at + 4,
            fingerprint=fingerprint(str(tmp_path / f"{at}.nc")),
        )
        for at in (0, 4, 8)
    ]


@pytest.mark.parametrize(("start", "stop"), [(0, 4), (1, 3), (3, 9), (0, 12), (4, 12), (7, 8)])
def test_a_region_is_put_together_from_the_files_it_lies_in(
    three: list[FileSource], values: Array, start: int, stop: int
) -> None:
    with FileSources(three, "time") as sources:
        found = sources.read(region((start, stop), (2, 5)), "<f4", {})
    np.testing.assert_array_equal(found, values[start:stop, 0, 2:5])


def test_what_no_file_covers_is_fill(three: list[FileSource], values: Array) -> None:
    with FileSources([three[0], three[2]], "time") as sources:
        found = sources.read(region((2, 14)), "<f4", {"_FillValue": -9.0})
    np.testing.assert_array_equal(found[:2], values[2:4, 0])
    np.testing.assert_array_equal(found[6:10], values[8:12, 0])
    assert (found[2:6] == -9).all()
    assert (found[10:] == -9).all()


def test_a_variable_without_the_append_dimension_comes_from_the_first_file(
    three: list[FileSource], tmp_path: Path
) -> None:
    with netCDF4.Dataset(tmp_path / "0.nc", "a") as file:
        file.createVariable("crs", "i4", ())[...] = 5
    first = file_source(tmp_path / "0.nc", 0, 4)
    with FileSources([first, *three[1:]], "time") as sources:
        found = sources.read(Region("crs", ()), "<i4", {})
    assert (found.shape, found[()]) == ((), 5)


def test_a_file_that_changed_since_the_plan_is_refused(three: list[FileSource], values: Array) -> None:
    write(Path(three[1].url), values[:4, 1])
    with FileSources(three, "time") as sources:
        sources.read(region((0, 4)), "<f4", {})
        with pytest.raises(SourceError, match=r"4\.nc has changed since the plan was made"):
            sources.read(region((0, 8)), "<f4", {})


def test_a_file_that_shrank_is_refused_also_without_a_fingerprint(tmp_path: Path, values: Array) -> None:
    source = file_source(write(tmp_path / "a.nc", values[:3, 0]), 0, 4)
    with FileSources([source], "time") as sources, pytest.raises(SourceError, match="shorter than it was"):
        sources.read(region((0, 4)), "<f4", {})


def test_a_file_whose_type_changed_is_refused_also_without_a_fingerprint(tmp_path: Path) -> None:
    source = file_source(write(tmp_path / "a.nc", np.full((2, 8), 300.0)), 0, 2)
    with FileSources([source], "time") as sources, pytest.raises(SourceError, match="planned to be"):
        sources.read(region((0, 2)), "|i1", {})


@pytest.mark.parametrize("cut", [0.1, 0.6])
def test_a_truncated_file_is_an_error_that_names_it(tmp_path: Path, cut: float) -> None:
    noise = np.random.default_rng(0).normal(size=(50, 800))
    path = write(tmp_path / "a.nc", noise)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * cut)])
    with FileSources([file_source(path, 0, 50)], "time") as sources, pytest.raises(SourceError, match=r"a\.nc"):
        sources.read(region((0, 50), (0, 800)), "<f8", {})


def test_a_missing_variable_is_an_error_that_names_it(three: list[FileSource]) -> None:
    with FileSources(three, "time") as sources, pytest.raises(SourceError, match="does not have the variable 'pr'"):
        sources.read(region((0, 4), name="pr"), "<f4", {})


def test_dimensions_in_another_order_are_refused(tmp_path: Path) -> None:
    source = file_source(write(tmp_path / "a.nc", np.zeros((8, 8), "f4")), 0, 8)
    turned = Region("v", (("x", 0, 8), ("time", 0, 8)))
    with FileSources([source], "time") as sources, pytest.raises(SourceError, match="has dimensions"):
        sources.read(turned, "<f4", {})


def test_a_file_that_vanished_is_an_error_that_names_it(three: list[FileSource]) -> None:
    Path(three[0].url).unlink()
    with FileSources(three, "time") as sources, pytest.raises(SourceError, match=r"0\.nc cannot be read"):
        sources.read(region((0, 4)), "<f4", {})


def test_many_files_do_not_stay_open_at_once(tmp_path: Path, values: Array) -> None:
    path = write(tmp_path / "0.nc", values[:1, 0])
    files = [file_source(path, 0, 1)]
    for at in range(1, 200):
        shutil.copy(path, tmp_path / f"{at}.nc")
        files.append(file_source(tmp_path / f"{at}.nc", at, at + 1))
    with FileSources(files, "time") as sources:
        sources.read(region((0, 200)), "<f4", {})
        held = [entry for entry in Path("/proc/self/fd").iterdir() if str(tmp_path) in _target(entry)]
        assert 1 <= len(held) <= 16
    assert not [entry for entry in Path("/proc/self/fd").iterdir() if str(tmp_path) in _target(entry)]


def _target(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except FileNotFoundError:
        return ""


@pytest.mark.parametrize("kind", KINDS)
def test_every_netcdf_is_told_by_its_first_bytes_and_read_as_it_is_stored(tmp_path: Path, kind: str) -> None:
    packed = np.arange(16, dtype="i2").reshape(2, 8)
    path = str(write(tmp_path / "a.data", packed, kind, scale_factor=0.5, units="K", _FillValue=np.int16(3)))
    assert guess_engine(path) == "netcdf4"
    with open_raw(path, "netcdf4") as opened:
        found = read_raw(opened, path, "v", (slice(0, 2), slice(1, 3)))
        assert (found == packed[:, 1:3]).all()
        assert found.dtype == "i2"
        assert opened["v"].attrs["scale_factor"] == 0.5


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("consolidated", ["consolidated", "plain"])
@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part")  # asked for here
def test_zarr_hierarchies_are_read_as_they_are_stored(tmp_path: Path, zarr_format: Any, consolidated: str) -> None:
    dataset = xr.Dataset({"v": (("time", "x"), np.arange(16.0).reshape(2, 8))})
    url = str(tmp_path / "a.zarr")
    dataset.to_zarr(url, zarr_format=zarr_format, consolidated=consolidated == "consolidated")
    assert guess_engine(url) == "zarr"
    with FileSources([file_source(url, 0, 2, engine="zarr")], "time") as sources:
        assert (sources.read(region((1, 2)), "<f8", {}) == dataset["v"].values[1:2]).all()


def test_strings_of_any_length_are_read_from_netcdf_and_zarr(tmp_path: Path) -> None:
    texts = np.array(["a", "", "straße"], object)
    with netCDF4.Dataset(tmp_path / "a.nc", "w") as file:
        file.createDimension("time", 3)
        file.createVariable("name", str, ("time",))[:] = texts
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    group.create_array("name", shape=(3,), dtype="string", dimension_names=("time",))[:] = texts
    for name, engine in (("a.nc", "netcdf4"), ("a.nc", "h5netcdf"), ("a.zarr", "zarr")):
        source = file_source(tmp_path / name, 0, 3, engine=engine)
        with FileSources([source], "time") as sources:
            found = sources.read(Region("name", (("time", 1, 3),)), STRING, {})
            beyond = sources.read(Region("name", (("time", 2, 5),)), STRING, {})
        assert found.tolist() == ["", "straße"]
        assert beyond.tolist() == ["straße", "", ""]


def test_characters_of_differing_width_become_strings_of_the_targets_width(tmp_path: Path) -> None:
    for at, (width, texts) in enumerate([(2, [b"ab", b"c"]), (5, [b"defgh", b"i"])]):
        with netCDF4.Dataset(tmp_path / f"{at}.nc", "w", format="NETCDF3_CLASSIC") as file:
            file.createDimension("time", 2)
            file.createDimension("length", width)
            file.createVariable("name", "S1", ("time", "length"))[:] = netCDF4.stringtochar(
                np.array(texts, f"S{width}")
            )
    files = [file_source(tmp_path / f"{at}.nc", 2 * at, 2 * at + 2) for at in (0, 1)]
    with FileSources(files, "time") as sources:
        found = sources.read(Region("name", (("time", 0, 4),)), "|S5", {})
        assert found.tolist() == [b"ab", b"c", b"defgh", b"i"]
        with pytest.raises(SourceError, match="planned to be"):
            sources.read(Region("name", (("time", 2, 4),)), "|S2", {})


@pytest.mark.parametrize("dtype", [">f4", ">i2", ">f8"])
def test_big_endian_values_come_in_the_machines_byte_order(tmp_path: Path, dtype: str) -> None:
    values = np.arange(16).reshape(2, 8).astype(dtype)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["v"] = values
    with open_raw(str(tmp_path / "a.h5"), "h5netcdf") as opened:
        found = read_raw(opened, "a.h5", "v", (slice(None), slice(None)))
    assert found.dtype.isnative
    assert (found == values).all()


def test_a_dimension_of_length_zero_is_read(tmp_path: Path) -> None:
    path = str(write(tmp_path / "a.nc", np.zeros((0, 8))))
    with open_raw(path, "netcdf4") as opened:
        assert native(read_raw(opened, path, "v", (slice(None), slice(None)))).shape == (0, 8)


def test_what_a_file_stores_in_another_way_is_turned_into_the_targets(tmp_path: Path) -> None:
    packed = np.array([[1, 2, -1]], "i2")
    path = write(tmp_path / "a.nc", packed, scale_factor=0.5, _FillValue=np.int16(-1))
    source = file_source(path, 0, 1, recode=("v",))
    with FileSources([source], "time") as sources:
        found = sources.read(region((0, 1), (0, 3)), "<f4", {})
    np.testing.assert_array_equal(found, np.array([[0.5, 1.0, np.nan]], "f4"))


def test_an_engine_that_is_not_installed_is_refused_with_those_that_are() -> None:
    with pytest.raises(SourceError, match=r"no installed Xarray engine is called 'hdf9'.*netcdf4"):
        check_engine("hdf9")


def test_grib_is_opened_with_the_engine_for_it_that_is_installed() -> None:
    file = str(Path(iris_sample_data.__file__).parent / "sample_data" / "polar_stereo.grib2")
    engine = guess_engine(file)
    assert engine in engines()
    with open_raw(file, engine) as opened:
        assert opened.sizes


def test_grib_without_an_engine_for_it_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.grib").write_bytes(b"GRIB" + bytes(100))
    others = {name: one for name, one in xr.backends.list_engines().items() if name not in {"cfgrib", "gribberish"}}
    monkeypatch.setattr(xr.backends, "list_engines", lambda: others)
    engine = guess_engine(str(tmp_path / "a.grib"))
    with pytest.raises(SourceError, match=r"'cfgrib'.*Install the package"):
        open_raw(str(tmp_path / "a.grib"), engine)


@pytest.mark.parametrize(("content", "message"), [(b"time,tas\n", "by its first bytes"), (b"", "is empty")])
def test_a_file_of_no_known_kind_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.nc").write_bytes(content)
    with pytest.raises(SourceError, match=message):
        guess_engine(str(tmp_path / "a.nc"))


def test_a_folder_without_a_hierarchy_and_a_path_without_a_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no Zarr hierarchy"):
        guess_engine(str(tmp_path))
    with pytest.raises(SourceError, match="No such file"):
        guess_engine(str(tmp_path / "none.nc"))
    with pytest.raises(SourceError, match="No such file"):
        fingerprint(str(tmp_path / "none.nc"))


def test_a_fingerprint_changes_with_the_content_and_stays_without(tmp_path: Path, values: Array) -> None:
    path = write(tmp_path / "a.nc", values[:, 0])
    before = fingerprint(str(path))
    assert fingerprint(str(path)) == before
    write(path, values[:, 1])
    assert fingerprint(str(path)) != before
    assert fingerprint(str(tmp_path)) == ""


def test_a_classic_file_that_was_cut_off_is_refused_where_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nc", np.ones((50, 8)), "NETCDF3_CLASSIC")
    path.write_bytes(path.read_bytes()[:-8])
    source = file_source(path, 0, 50)
    with FileSources([source], "time") as sources, pytest.raises(SourceError, match=r"a\.nc is truncated"):
        sources.read(region((0, 50)), "<f8", {})


@pytest.mark.parametrize("engine", ["netcdf4", "h5netcdf"])
def test_a_file_replaced_after_it_was_opened_is_refused_at_the_end(
    three: list[FileSource], values: Array, tmp_path: Path, engine: str
) -> None:
    files = [dataclasses.replace(file, engine=engine) for file in three]
    sources = FileSources(files, "time")
    sources.read(region((0, 12)), "<f4", {})
    write(tmp_path / "new.nc", values[:4, 1]).replace(three[1].url)
    with pytest.raises(SourceError, match=r"4\.nc has changed since the plan was made"):
        sources.__exit__(None, None, None)
    assert not [entry for entry in Path("/proc/self/fd").iterdir() if str(tmp_path) in _target(entry)]


def test_an_error_is_not_hidden_by_a_file_that_changed(three: list[FileSource], values: Array, tmp_path: Path) -> None:
    sources = FileSources(three, "time")
    sources.read(region((0, 4)), "<f4", {})
    write(tmp_path / "new.nc", values[:4, 1]).replace(three[0].url)
    sources.__exit__(KeyError, KeyError(), None)


def test_chunks_that_the_library_keeps_do_not_grow_with_files_and_variables(tmp_path: Path) -> None:
    files = []
    for at in range(8):
        with netCDF4.Dataset(tmp_path / f"{at}.nc", "w") as file:
            for dim, length in (("time", 12), ("x", 1 << 18)):
                file.createDimension(dim, length)
            for name in "abc":
                file.createVariable(name, "f8", ("time", "x"), chunksizes=(1, 1 << 18))[:] = at
        files.append(file_source(tmp_path / f"{at}.nc", 12 * at, 12 * at + 12))
    most = 0
    before = _resident()
    with FileSources(files, "time") as sources:
        for name in "abc":
            for at in range(96):
                sources.read(region((at, at + 1), (0, 1 << 18), name), "<f8", {})
                most = max(most, _resident())
    assert most - before < 160 << 20


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_zarr_hierarchy_has_the_fingerprint_of_its_metadata(tmp_path: Path, zarr_format: Any) -> None:
    url = str(tmp_path / "a.zarr")
    for length in (2, 3):
        dataset = xr.Dataset({"v": ("time", np.arange(length))}, attrs={"length": "x" * length})
        dataset.to_zarr(url, zarr_format=zarr_format, consolidated=zarr_format == 2, mode="w")
        source = file_source(url, 0, length, engine="zarr", fingerprint=fingerprint(url))
        assert source.fingerprint
        if length == 2:
            first = source
    with FileSources([first], "time") as sources, pytest.raises(SourceError, match="has changed"):
        sources.read(Region("v", (("time", 0, 2),)), "<i8", {})


LARGE_HALF = """
import sys
import numpy as np, xarray as xr
from frazil_functions.reading.opening import HalfPrecisionError, guess_engine, open_raw
v = np.ones((300, 5000), "f2")
xr.Dataset({"v": (("t", "x"), v)}, {"t": np.arange(300)}).to_netcdf(sys.argv[1], engine="h5netcdf")
try:
    open_raw(sys.argv[1], "netcdf4")
except HalfPrecisionError as error:
    print(error)
"""


def test_half_precision_is_told_before_the_library_that_crashes_at_it_sees_the_file(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LARGE_HALF, str(tmp_path / "half.nc")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, "--engine h5netcdf" in done.stdout) == (0, True), done.stderr
