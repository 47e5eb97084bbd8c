"""Classic NetCDF behind a URL: the same as the netCDF library reads of a copy, with no more bytes than it takes."""

from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.functions.conftest import Site

import frazil_functions.reading.classic_store as reading
from frazil_functions.errors import SourceError
from frazil_functions.reading.opening import open_raw, read_raw
from frazil_functions.reading.remote import Pages, remote_fingerprint
from frazil_functions.reading.scanning import ScanTask, scan_task
from frazil_functions.reading.sources import FileSources
from frazil_functions.regions import Region
from frazil_functions.tasks import FileSource

KINDS = ["NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA"]
RECORDS, ROWS, COLUMNS = 6, 5, 7


def write(path: Path, kind: Any, *, alone: bool = False) -> Path:
    """A file with all that the format has; or with but one variable of records, which is not padded."""
    rng = np.random.default_rng(0)
    with netCDF4.Dataset(path, "w", format=kind) as file:
        for dim, length in {"t": None, "y": ROWS, "x": COLUMNS, "s": 3}.items():
            file.createDimension(dim, length)
        file.createVariable("bytes", "i1", ("t", "x"))[:] = rng.integers(-128, 128, (RECORDS, COLUMNS))
        if alone:
            return path
        packed = file.createVariable("packed", "i2", ("t", "y", "x"), fill_value=-9999)
        packed.set_auto_maskandscale(False)
        packed[:] = rng.integers(-1000, 1000, (RECORDS, ROWS, COLUMNS))
        packed.setncatts({"scale_factor": 0.5, "add_offset": np.float32(3), "valid_range": np.array([-5, 5], "i2")})
        file.createVariable("floats", "f4", ("t", "y", "x"))[:] = rng.normal(size=(RECORDS, ROWS, COLUMNS))
        file.createVariable("fixed", "f8", ("y", "x"))[:] = rng.normal(size=(ROWS, COLUMNS))
        file.createVariable("words", "S1", ("t", "s"), fill_value="-")[:] = np.full((RECORDS, 3), b"w")
        file.createVariable("names", "S1", ("y", "s"))[:] = np.full((ROWS, 3), b"n")
        file.createVariable("t", "f8", ("t",))[:] = np.arange(RECORDS)
        file.createVariable("scalar", "i4", ())[...] = 4
        if kind.endswith("DATA"):
            file.createVariable("long", "u8", ("t", "x"))[:] = rng.integers(0, 1 << 60, (RECORDS, COLUMNS))
        file["t"].setncatts({"units": "days since 2000-01-01", "empty": "", "note": "gr\u00fc\u00df\0 dich"})
        file.setncatts({"title": "an archive", "numbers": np.arange(3.0), "one": np.int8(1)})
    return path


def put(site: Site, path: Path) -> str:
    site.files[path.name] = path.read_bytes()
    return f"{site.url}/{path.name}"


def as_told(attributes: dict[str, Any]) -> dict[str, tuple[object, ...]]:
    return {
        name: (type(value), np.asarray(value).dtype, np.asarray(value).tolist()) for name, value in attributes.items()
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("alone", [False, True])
def test_it_is_what_the_netcdf_library_reads_to_the_last_attribute(
    site: Site, tmp_path: Path, kind: str, alone: bool
) -> None:
    path = write(tmp_path / "a.nc", kind, alone=alone)
    with open_raw(str(path), "netcdf4") as wanted, open_raw(put(site, path), "netcdf4") as found:
        assert list(found.variables) == list(wanted.variables)
        assert found.encoding["unlimited_dims"] == wanted.encoding["unlimited_dims"]
        assert as_told(found.attrs) == as_told(wanted.attrs)
        for name, variable in wanted.variables.items():
            own = found.variables[name]
            assert (own.dims, own.shape, own.dtype) == (variable.dims, variable.shape, variable.dtype)
            assert own.encoding["dtype"] == variable.encoding["dtype"]
            assert as_told(own.attrs) == as_told(variable.attrs)
            np.testing.assert_array_equal(own.values, variable.values)


@pytest.mark.parametrize("kind", KINDS)
def test_a_scan_says_the_same_of_it_as_of_a_copy(site: Site, tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / "a.nc", kind)
    here, there = (
        scan_task(ScanTask((url,), None, "t", digests=True, layouts=True)) for url in (str(path), put(site, path))
    )
    assert there.labels == here.labels
    assert there.files[0].variables == here.files[0].variables
    assert there.files[0].attributes == here.files[0].attributes
    assert here.files[0].error is None


indices = st.one_of(
    st.builds(slice, *[st.none() | st.integers(-9, 9)] * 2, st.none() | st.integers(1, 3)),
    st.sampled_from([slice(None, None, -1), slice(None, None, -2)]),
    st.integers(0, 4),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["packed", "floats", "fixed", "bytes"]),
    st.tuples(indices, indices, indices),
    st.sampled_from([(1, 0), (64, 16), (256, 1024), (4 << 20, 1 << 20)]),
)
def test_any_part_of_it_is_read_wherever_its_pieces_lie(
    site: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    key: tuple[int | slice, ...],
    sizes: tuple[int, int],
) -> None:
    monkeypatch.setattr(reading, "_SPAN", sizes[0])
    monkeypatch.setattr(reading, "_GAP", sizes[1])
    path = tmp_path / "a.nc"
    if not path.exists():
        write(path, "NETCDF3_64BIT_OFFSET")
    with open_raw(str(path), "netcdf4") as wanted, open_raw(put(site, path), "netcdf4") as found:
        part = key[: wanted[name].ndim]
        np.testing.assert_array_equal(found[name][part].values, wanted[name].values[part])


def large(path: Path, records: int = 24) -> Path:
    """Records of 3 MB in two variables, which take turns, and 2 MB that stand together."""
    with netCDF4.Dataset(path, "w", format="NETCDF3_64BIT_OFFSET") as file:
        for dim, length in {"t": None, "y": 500, "x": 1000}.items():
            file.createDimension(dim, length)
        file.createVariable("static", "f4", ("y", "x"))[:] = 1
        file.createVariable("t", "f8", ("t",))[:] = np.arange(records)
        for name in ("u", "v"):
            values = np.arange(records * 500, dtype="f4").reshape(records, 500, 1)
            file.createVariable(name, "f4" if name == "u" else "i2", ("t", "y", "x"))[:] = values % 999
    return path


def test_labels_are_read_without_the_values_between_them(site: Site, tmp_path: Path) -> None:
    path = large(tmp_path / "a.nc")
    (found,) = scan_task(ScanTask((put(site, path),), None, "t", digests=False, layouts=True)).files
    assert found.error is None
    assert site.sent < (1 << 20) + 20_000
    assert len(site.requests) < 24 + 8


def test_values_are_read_with_little_around_them(site: Site, tmp_path: Path) -> None:
    path = large(tmp_path / "a.nc")
    url = put(site, path)
    source = FileSource(url, "netcdf4", 0, 24, remote_fingerprint(url))
    site.requests.clear()
    with FileSources([source], "t") as sources:
        values = sources.read(Region("u", (("t", 4, 12), ("y", 0, 500), ("x", 0, 1000))), "<f4", {})
    with xr.open_dataset(path, mask_and_scale=False) as wanted:
        np.testing.assert_array_equal(values, wanted.u[4:12])
    assert site.sent < values.nbytes + (2 << 20)
    assert len(site.requests) < 8 + 4


def test_nothing_of_it_is_held_on_the_local_disk(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = put(site, write(tmp_path / "a.nc", KINDS[0]))
    kept = tmp_path / "kept"
    kept.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(kept))
    seen: list[Path] = []
    site.before = lambda _: seen.extend(kept.iterdir())
    with open_raw(url, "netcdf4") as opened:
        read_raw(opened, url, "floats", (slice(None),) * 3)
        seen += kept.iterdir()
    for path in (b"CDF\x01", b"CDF\x02\0\0"):
        site.files["a.nc"] = path
        with pytest.raises(SourceError, match="truncated or damaged"):
            open_raw(url, "netcdf4")
    assert not seen
    assert not list(kept.iterdir())


def test_an_object_that_changed_is_an_error_where_it_is_read(site: Site, tmp_path: Path) -> None:
    url = put(site, large(tmp_path / "a.nc", 2))
    with open_raw(url, "netcdf4", remote_fingerprint(url), Pages()) as opened:
        site.files["a.nc"] = site.files["a.nc"][:-4] + b"abcd"
        with pytest.raises(SourceError, match=r"a\.nc: 'u'\[0:1, 0:500, 0:1000\] cannot be read.* changed while"):
            read_raw(opened, url, "u", (slice(0, 1), slice(0, 500), slice(0, 1000)))


def test_a_file_whose_records_were_never_counted_is_read_as_far_as_it_goes(site: Site, tmp_path: Path) -> None:
    path = write(tmp_path / "a.nc", KINDS[0])
    data = path.read_bytes()
    site.files["a.nc"] = data[:4] + b"\xff" * 4 + data[8:]
    with open_raw(str(path), "netcdf4") as wanted, open_raw(f"{site.url}/a.nc", "netcdf4") as found:
        np.testing.assert_array_equal(found.floats.values, wanted.floats.values)
