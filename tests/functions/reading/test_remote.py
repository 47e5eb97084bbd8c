import io
from pathlib import Path
from typing import Any

import h5netcdf.legacyapi
import h5py
import numpy as np
import obstore
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.functions.conftest import Site

from frazil_functions.errors import SourceError
from frazil_functions.reading.classic import check_length
from frazil_functions.reading.opening import HalfPrecisionError, guess_engine, open_raw, read_raw
from frazil_functions.reading.remote import Pages, RemoteFile, fetch, is_remote, remote_fingerprint, split, store_below
from frazil_functions.reading.scanning import ScanTask, scan_task
from frazil_functions.reading.sources import FileSources
from frazil_functions.regions import Region
from frazil_functions.tasks import FileSource

BYTES = np.random.default_rng(1).bytes((5 << 20) + 123)
WHOLE = (slice(None), slice(None))

operations = st.one_of(
    st.tuples(st.just("read"), st.integers(-1, 6 << 20)),
    st.tuples(st.just("read"), st.integers(0, 300)),
    st.tuples(st.just("seek"), st.integers(0, 6 << 20), st.just(io.SEEK_SET)),
    st.tuples(st.just("seek"), st.integers(-(2 << 20), 2 << 20), st.just(io.SEEK_CUR)),
    st.tuples(st.just("seek"), st.integers(-(6 << 20), 100), st.just(io.SEEK_END)),
    st.tuples(st.just("tell")),
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(operations, max_size=8))
def test_a_remote_file_reads_like_one_in_memory(site: Site, steps: list[tuple[Any, ...]]) -> None:
    site.files["data.bin"] = BYTES
    memory = io.BytesIO(BYTES)
    with RemoteFile(f"{site.url}/data.bin") as file:
        assert file.readable()
        assert file.seekable()
        for step, *arguments in steps:
            assert getattr(file, step)(*arguments) == getattr(memory, step)(*arguments)


def test_small_reads_close_to_each_other_ask_once(site: Site) -> None:
    site.files["data.bin"] = BYTES
    with RemoteFile(f"{site.url}/data.bin") as file:
        for at in range(0, 1 << 20, 4096):
            file.seek(at)
            assert file.read(8) == BYTES[at : at + 8]
    assert [request.split()[0] for request in site.requests] == ["HEAD", "GET"]


def test_pages_that_are_kept_do_not_grow_with_the_files(site: Site) -> None:
    site.files["data.bin"] = site.files["more.bin"] = bytes(40 << 20)
    pages = Pages()
    with RemoteFile(f"{site.url}/data.bin", pages=pages) as one, RemoteFile(f"{site.url}/more.bin", pages=pages) as two:
        for page in range(40):
            for file in (one, two):
                file.seek(page << 20)
                file.read(1)
        assert pages.nbytes == 64 << 20


@pytest.mark.parametrize(("offset", "whence"), [(-1, io.SEEK_SET), (0, 7), (0, -1)])
def test_a_place_that_no_file_has_is_refused(site: Site, offset: int, whence: int) -> None:
    site.files["data.bin"] = b"data"
    with RemoteFile(f"{site.url}/data.bin") as file, pytest.raises(ValueError, match="seek"):
        file.seek(offset, whence)


def test_a_closed_file_does_not_read(site: Site) -> None:
    site.files["data.bin"] = b"data"
    file = RemoteFile(f"{site.url}/data.bin")
    file.close()
    with pytest.raises(ValueError, match="closed"):
        file.read(1)


@pytest.mark.parametrize("after", [bytes(len(BYTES)), BYTES[: 3 << 20]], ids=["another", "shorter"])
def test_an_object_that_changes_while_it_is_read_is_found(site: Site, after: bytes) -> None:
    site.files["data.bin"] = BYTES
    with RemoteFile(f"{site.url}/data.bin") as file:
        file.read(10)
        site.files["data.bin"] = after
        file.seek(2 << 20)
        with pytest.raises(OSError, match="changed while it was read"):
            file.read(10)


@pytest.mark.parametrize("status", [403, 404])
def test_an_object_that_is_not_given_out_is_an_error_with_its_name(site: Site, status: int) -> None:
    site.files["data.nc"] = BYTES
    site.status["data.nc"] = status
    with pytest.raises(SourceError, match=r"data\.nc"):
        guess_engine(f"{site.url}/data.nc")
    with pytest.raises(SourceError, match=r"data\.nc"):
        open_raw(f"{site.url}/data.nc", "h5netcdf")


def test_a_connection_that_is_cut_once_is_tried_again(site: Site) -> None:
    site.files["data.bin"] = BYTES
    with RemoteFile(f"{site.url}/data.bin") as file:
        site.cut = 1
        assert file.read(10) == BYTES[:10]


def test_an_object_that_vanishes_while_it_is_read_is_an_error(site: Site) -> None:
    site.files["data.bin"] = BYTES
    with RemoteFile(f"{site.url}/data.bin") as file:
        del site.files["data.bin"]
        with pytest.raises(OSError, match=r"data\.bin: the range 0:1048576 cannot be read"):
            file.read(10)


@pytest.mark.parametrize("url", ["s3://b/a.nc", "gs://b/a.nc", "az://c/a.nc", "https://h/a.nc"])
def test_urls_are_remote(url: str) -> None:
    assert is_remote(url)


@pytest.mark.parametrize("path", ["/data/a.nc", "a.nc", "C:/a.nc", "file:a"])
def test_paths_are_not(path: str) -> None:
    assert not is_remote(path)


def test_a_signed_url_is_refused_without_showing_its_signature() -> None:
    with pytest.raises(SourceError, match="query") as caught:
        split("https://host/a.nc?X-Amz-Signature=SECRET")
    assert "SECRET" not in str(caught.value)


def test_a_password_in_a_url_is_refused_without_showing_it() -> None:
    with pytest.raises(SourceError, match=r"https://host/a\.nc was given with a user's name") as caught:
        split("https://me:SECRET@host/a.nc")
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("key", ["dir/x#1.nc", "dir/x?2.nc", "dir/a[1].nc", "dir/p%20q.nc"])
def test_keys_of_objects_are_taken_as_they_are(bucket: Any, key: str) -> None:
    bucket.put_object(Key=key, Body=b"12345")
    assert split(f"s3://{bucket.name}/{key}")[1] == key
    assert remote_fingerprint(f"s3://{bucket.name}/{key}").startswith("5:")
    bucket.put_object(Key=f"{key}/zarr.json", Body=b"{}")
    assert obstore.head(store_below(f"s3://{bucket.name}/{key}"), "zarr.json")["size"] == 2


def test_a_quoted_path_is_asked_for_as_it_is_written(site: Site) -> None:
    site.files["a%20b.nc"] = BYTES
    assert remote_fingerprint(f"{site.url}/a%20b.nc").startswith(f"{len(BYTES)}:")


def dataset() -> xr.Dataset:
    data = np.arange(24.0).reshape(4, 6)
    return xr.Dataset({"tas": (("time", "x"), data, {"units": "K"})}, {"time": ("time", np.arange(4))})


def put(where: Any, name: str, path: Path) -> str:
    """A file onto the site or into the bucket; its URL."""
    if isinstance(where, Site):
        where.files[name] = path.read_bytes()
        return f"{where.url}/{name}"
    where.upload_file(str(path), name)
    return f"s3://{where.name}/{name}"


@pytest.fixture(params=["site", "bucket"])
def place(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize(
    ("kind", "engine"),
    [
        ("NETCDF4", "h5netcdf"),
        ("NETCDF3_CLASSIC", "netcdf4"),
        ("NETCDF3_64BIT", "netcdf4"),
        ("NETCDF3_64BIT_DATA", "netcdf4"),
    ],
)
def test_netcdf_behind_a_url_gives_its_values(place: Any, tmp_path: Path, kind: Any, engine: str) -> None:
    dataset().to_netcdf(tmp_path / "a.nc", format=kind, engine="netcdf4")
    url = put(place, "deep/a.nc", tmp_path / "a.nc")
    assert guess_engine(url) == engine
    with open_raw(url, engine) as opened:
        assert read_raw(opened, url, "tas", WHOLE).tolist() == dataset()["tas"].values.tolist()
        assert opened["tas"].attrs["units"] == "K"


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part")  # it is what HTTP needs
def test_zarr_behind_a_url_gives_its_values(place: Any, tmp_path: Path, zarr_format: Any) -> None:
    # Nothing lists what lies behind HTTP, so there the metadata must name the arrays.
    dataset().to_zarr(tmp_path / "a.zarr", zarr_format=zarr_format, consolidated=isinstance(place, Site))
    for path in tmp_path.rglob("*"):
        if path.is_file():
            url = put(place, str(path.relative_to(tmp_path)), path)
    url = url[: url.index("a.zarr")] + "a.zarr"
    assert guess_engine(url) == "zarr"
    with open_raw(url, "zarr") as opened:
        assert read_raw(opened, url, "tas", WHOLE).tolist() == dataset()["tas"].values.tolist()


def test_a_file_for_the_netcdf_library_is_held_here_only_until_it_is_closed(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset().to_netcdf(tmp_path / "a.nc", engine="netcdf4")
    url = put(site, "a.nc", tmp_path / "a.nc")
    kept = tmp_path / "kept"
    kept.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(kept))
    opened = open_raw(url, "netcdf4")
    assert len(list(kept.iterdir())) == 1
    opened.close()
    assert not list(kept.iterdir())


def test_a_file_that_changed_behind_its_url_is_refused(place: Any, tmp_path: Path) -> None:
    dataset().to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    url = put(place, "a.nc", tmp_path / "a.nc")
    before = FileSource(url, "h5netcdf", 0, 4, remote_fingerprint(url))
    region = Region("tas", (("time", 0, 4), ("x", 0, 6)))
    with FileSources([before], "time") as sources:
        assert sources.read(region, "<f8", {}).shape == (4, 6)
    (dataset() + 1).to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    put(place, "a.nc", tmp_path / "a.nc")
    with FileSources([before], "time") as sources, pytest.raises(SourceError, match="has changed since"):
        sources.read(region, "<f8", {})


def test_a_damaged_chunk_or_a_change_while_reading_names_the_file_and_the_part(site: Site, tmp_path: Path) -> None:
    with h5netcdf.legacyapi.Dataset(tmp_path / "a.nc", "w") as file:
        file.createDimension("x", 3 << 20)
        file.createVariable("v", "f4", ("x",), chunksizes=(1 << 18,))[:] = 1
    url = put(site, "a.nc", tmp_path / "a.nc")
    with open_raw(url, "h5netcdf") as opened:
        site.files["a.nc"] = bytes(len(site.files["a.nc"]))
        with pytest.raises(SourceError, match=r"a\.nc: 'v'\[2097152:3145728\] cannot be read"):
            read_raw(opened, url, "v", (slice(2 << 20, 3 << 20),))


def test_nothing_behind_a_url_is_said_to_be_nothing(place: Any) -> None:
    base = place.url if isinstance(place, Site) else f"s3://{place.name}"
    with pytest.raises(SourceError, match="does not exist"):
        guess_engine(f"{base}/nothing.zarr")
    assert remote_fingerprint(f"{base}/nothing.zarr") == ""


@pytest.mark.parametrize("cut", [1, 100, 1000])
def test_a_truncated_classic_file_behind_a_url_is_refused_before_its_zeros_are_read(
    place: Any, tmp_path: Path, cut: int
) -> None:
    xr.Dataset({"v": ("x", np.arange(1000.0))}).to_netcdf(tmp_path / "a.nc", format="NETCDF3_CLASSIC", engine="netcdf4")
    (tmp_path / "a.nc").write_bytes((tmp_path / "a.nc").read_bytes()[:-cut])
    url = put(place, "a.nc", tmp_path / "a.nc")
    with pytest.raises(SourceError, match=rf"{url} is truncated"):
        open_raw(url, "netcdf4")
    (found,) = scan_task(ScanTask((url,), None, None, digests=True)).files
    assert "is truncated" in (found.error or "")
    with RemoteFile(url) as file, pytest.raises(SourceError, match=rf"{url} is truncated"):
        check_length(file, file.size, url)


def test_half_precision_behind_a_url_is_refused_with_the_engine_that_would_crash(site: Site, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.nc", "w") as file:
        file["v"] = np.arange(3, dtype="f2")
    url = put(site, "a.nc", tmp_path / "a.nc")
    with pytest.raises(HalfPrecisionError, match=rf"{url}: 'v'"):
        open_raw(url, "netcdf4")


def test_an_object_replaced_after_it_was_first_looked_at_is_not_read(place: Any, tmp_path: Path) -> None:
    dataset().to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    url = put(place, "a.nc", tmp_path / "a.nc")
    mark = remote_fingerprint(url)
    (dataset() + 1).to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    put(place, "a.nc", tmp_path / "a.nc")
    with RemoteFile(url, mark) as file, pytest.raises(OSError, match="changed"):
        file.read(10)
    with pytest.raises(SourceError, match="changed"):
        fetch(RemoteFile(url, mark), io.BytesIO())
    for engine in ("h5netcdf", "netcdf4"):
        with pytest.raises(SourceError, match=r"a\.nc"):
            open_raw(url, engine, mark)


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
def test_a_file_of_a_plan_is_opened_with_one_head(site: Site, tmp_path: Path, engine: str) -> None:
    dataset().to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    url = put(site, "a.nc", tmp_path / "a.nc")
    source = FileSource(url, engine, 0, 4, remote_fingerprint(url))
    site.requests.clear()
    with FileSources([source], "time") as sources:
        sources.read(Region("tas", (("time", 0, 4), ("x", 0, 6))), "<f8", {})
    assert [request.split()[0] for request in site.requests] == ["HEAD", "GET"]


def test_at_most_two_files_for_the_netcdf_library_are_held_here_at_once(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset().to_netcdf(tmp_path / "a.nc", engine="netcdf4")
    files = [FileSource(put(site, f"{at}.nc", tmp_path / "a.nc"), "netcdf4", 4 * at, 4 * at + 4) for at in range(5)]
    kept = tmp_path / "kept"
    kept.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(kept))
    most = []
    site.before = lambda _: most.append(len(list(kept.iterdir())))
    with FileSources(files, "time") as sources:
        sources.read(Region("tas", (("time", 0, 20), ("x", 0, 6))), "<f8", {})
    assert max(most) == 1  # beside the one that is asked for
    assert not list(kept.iterdir())


def test_a_zarr_hierarchy_behind_a_url_has_the_fingerprint_of_its_metadata(place: Any, tmp_path: Path) -> None:
    for content in ("{}", '{"a": 1}'):
        (tmp_path / "zarr.json").write_text(content)
        url = put(place, "a.zarr/zarr.json", tmp_path / "zarr.json").removesuffix("/zarr.json")
        assert remote_fingerprint(url).startswith(f"{len(content)}:")
