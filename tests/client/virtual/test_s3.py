"""Files in S3 and a repository in S3 that refers to them, against a server on this machine."""

from pathlib import Path
from typing import Any

import icechunk
import pytest
import xarray as xr

import frazil

from .archives import days, together, write, written

FILES, RAW = "s3://raw/in/*.nc", "s3://raw/in/"


@pytest.fixture
def files(tmp_path: Path, bucket: Any) -> list[str]:
    paths = written(tmp_path / "in", (0, 10), (10, 20))
    for path in paths:
        bucket.upload_file(path, f"in/{Path(path).name}")
    return paths


def opened(endpoint: str) -> xr.Dataset:
    """What plain Icechunk and Xarray read, in the form that Icechunk's guide to migration has."""
    storage = icechunk.s3_storage(
        bucket="raw", prefix="archive", endpoint_url=endpoint, allow_http=True, force_path_style=True, from_env=True
    )
    access = icechunk.containers_credentials({RAW: icechunk.s3_credentials(from_env=True)})
    repo = icechunk.Repository.open(storage, authorize_virtual_chunk_access=access)
    return xr.open_zarr(repo.readonly_session("main").store, consolidated=False, chunks=None)


def refer(sources: str = FILES, **options: Any) -> frazil.Result:
    options = {"executor": frazil.SerialExecutor(), "verify": "full"} | options
    return frazil.convert(sources, "s3://raw/archive", virtual=True, containers=[RAW], **options)


def test_files_in_s3_are_referred_to_and_no_chunk_of_them_is_stored(
    bucket: Any, endpoint: str, files: list[str]
) -> None:
    refer()
    xr.testing.assert_identical(opened(endpoint).load(), together(files))
    stored = sum(item.size for item in bucket.objects.filter(Prefix="archive/chunks/"))
    assert stored < 10_000, "labels alone"


def test_functions_append_references_in_s3(bucket: Any, endpoint: str, files: list[str], tmp_path: Path) -> None:
    refer()
    (more,) = written(tmp_path / "in", (20, 30))
    bucket.upload_file(more, "in/more.nc")
    with frazil.LithopsExecutor() as executor:
        refer("s3://raw/in/more.nc", mode="append", executor=executor, verify="sample")
    xr.testing.assert_identical(opened(endpoint).load(), together([*files, more]))


def test_an_object_that_was_replaced_is_an_error_by_its_etag(
    bucket: Any, endpoint: str, files: list[str], tmp_path: Path
) -> None:
    refer()
    other = write(tmp_path / "other", days(0, 10) + 1, "other.nc")
    bucket.upload_file(other, f"in/{Path(files[0]).name}")
    found = opened(endpoint).tas
    with pytest.raises(icechunk.StorageError, match="has changed"):
        found[:2].load()
    xr.testing.assert_equal(found[10:].load(), days(10, 20).tas)
    faults = frazil.validate("s3://raw/archive", containers=[RAW], executor=frazil.SerialExecutor()).faults
    assert any(Path(files[0]).name in str(fault) for fault in faults)


def test_what_lies_in_s3_becomes_the_repositorys_own(bucket: Any, endpoint: str, files: list[str]) -> None:
    refer()
    frazil.materialize("s3://raw/archive", containers=[RAW], executor=frazil.SerialExecutor(), verify="full")
    bucket.objects.filter(Prefix="in/").delete()
    xr.testing.assert_identical(opened(endpoint).load(), together(files))


def test_no_key_travels_in_plans_forks_and_receipts(
    bucket: Any, endpoint: str, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "verysecretindeed")

    def killed(progress: frazil.Progress) -> None:
        if progress.stage == "verify":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        refer(listener=killed)
    kept = {item.key: item.get()["Body"].read() for item in bucket.objects.filter(Prefix="archive")}
    assert any("/receipts/" in key for key in kept)
    assert [key for key, data in kept.items() if b"verysecretindeed" in data] == []


@pytest.mark.parametrize("kind", ["NETCDF3_64BIT", "NETCDF3_CLASSIC"])
@pytest.mark.parametrize("virtual", [True, False])
def test_classic_files_in_s3_give_what_xarray_reads_of_copies(
    bucket: Any, endpoint: str, tmp_path: Path, kind: Any, virtual: bool
) -> None:
    paths = [tmp_path / "000.nc", tmp_path / "010.nc"]
    for path, dataset in zip(paths, (days(0, 10), days(10, 20)), strict=True):
        encoding = {"time": {"units": "days since 2001-01-01", "dtype": "f8"}}
        dataset.to_netcdf(path, format=kind, encoding=encoding, unlimited_dims=["time"])
        bucket.upload_file(str(path), f"in/{path.name}")
    options: dict[str, Any] = {"virtual": True, "containers": [RAW]} if virtual else {}
    frazil.convert(FILES, "s3://raw/archive", executor=frazil.SerialExecutor(), verify="full", **options)
    xr.testing.assert_identical(opened(endpoint).load(), together([str(path) for path in paths]))
