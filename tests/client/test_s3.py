"""Files from S3 and a repository in S3, against a server on this machine."""

from pathlib import Path
from typing import Any

import icechunk
import pytest
import xarray as xr

import frazil

from .hourly import read


def objects(bucket: Any) -> dict[str, str]:
    return {item.key: item.e_tag for item in bucket.objects.all()}


@pytest.fixture
def uploaded(bucket: Any, series: Any, split: Any, write: Any) -> xr.Dataset:
    source = series(30)
    for number, path in enumerate(write(split(source, "time", [13, 17]))):
        bucket.upload_file(str(path), f"in/{number}.nc")
    return source


def test_files_in_s3_become_a_repository_in_s3(bucket: Any, uploaded: xr.Dataset, endpoint: str) -> None:
    frazil.convert(
        "s3://raw/in/*.nc", "s3://raw/archive", chunks={"time": 8}, executor=frazil.SerialExecutor(), verify="full"
    )
    storage = icechunk.s3_storage(
        bucket="raw", prefix="archive", endpoint_url=endpoint, allow_http=True, force_path_style=True, from_env=True
    )
    store = icechunk.Repository.open(storage).readonly_session("main").store
    xr.testing.assert_identical(xr.open_zarr(store, consolidated=False, chunks=None), xr.decode_cf(uploaded))
    assert {key.split("/")[0] for key in objects(bucket)} == {"in", "archive", "archive.frazil"}


def test_planning_in_s3_writes_nothing(bucket: Any, uploaded: xr.Dataset) -> None:
    before = objects(bucket)
    plan = frazil.plan("s3://raw/in/*.nc", "s3://raw/archive", executor=frazil.SerialExecutor())
    assert plan.template.sizes["time"] == uploaded.sizes["time"]
    assert objects(bucket) == before


def test_a_repository_opened_with_keys_of_its_own_is_refused(
    bucket: Any, endpoint: str, series: Any, write: Any
) -> None:
    storage = icechunk.s3_storage(
        bucket="raw",
        prefix="archive",
        endpoint_url=endpoint,
        allow_http=True,
        force_path_style=True,
        access_key_id="AKIAKEY",
        secret_access_key="verysecret",  # noqa: S106 - of a server that checks none
    )
    repo = icechunk.Repository.create(storage)
    before = objects(bucket)
    paths: list[Path] = write([series(3)])
    with pytest.raises(frazil.InvalidInputError, match=r"static credentials.*from_env=True") as caught:
        frazil.plan(paths, repo, executor=frazil.SerialExecutor())
    assert "verysecret" not in str(caught.value)
    plan = frazil.plan(paths, "s3://raw/archive", executor=frazil.SerialExecutor())
    assert "verysecret" not in plan.to_json().decode()
    with pytest.raises(frazil.InvalidInputError, match=r"static credentials.*from_env=True"):
        frazil.run(plan, repo, executor=frazil.SerialExecutor())
    assert objects(bucket) == before


@pytest.mark.parametrize(
    ("key", "body", "says"),
    [
        ("in/gone.nc", None, "s3://raw/in/gone.nc does not exist"),
        ("in/x.nc", b"", "x.nc"),
        ("in/y.nc", b"text", "y.nc is not a NetCDF"),
    ],
)
def test_bad_objects_are_refused_by_name(key: str, body: bytes | None, says: str, bucket: Any, tmp_path: Path) -> None:
    if body is not None:
        bucket.put_object(Key=key, Body=body)
    with pytest.raises(frazil.SourceError, match=says):
        frazil.plan(f"s3://raw/{key}", tmp_path / "archive", executor=frazil.SerialExecutor())


def test_a_truncated_object_is_refused(bucket: Any, uploaded: xr.Dataset, tmp_path: Path) -> None:
    body = bucket.Object("in/1.nc").get()["Body"].read()
    bucket.put_object(Key="in/1.nc", Body=body[: len(body) // 2])
    assert uploaded.sizes["time"] == 30
    with pytest.raises(frazil.SourceError, match=r"in/1.nc cannot be opened"):
        frazil.plan("s3://raw/in/*.nc", tmp_path / "archive", executor=frazil.SerialExecutor())


def test_zarr_in_s3_is_a_source(bucket: Any, series: Any, tmp_path: Path, convert: Any) -> None:
    source = series(10)
    source.to_zarr(tmp_path / "x.zarr", zarr_format=3, consolidated=False)
    for path in (tmp_path / "x.zarr").rglob("*"):
        if path.is_file():
            bucket.upload_file(str(path), f"z/{path.relative_to(tmp_path)}")
    xr.testing.assert_identical(convert("s3://raw/z/*.zarr"), xr.decode_cf(source))


def test_classic_netcdf_in_s3_is_read(bucket: Any, series: Any, write: Any, tmp_path: Path) -> None:
    dataset = series(3)
    dataset["time"] = dataset.time.astype("i4").assign_attrs(dataset.time.attrs)
    (path,) = write([dataset], format="NETCDF3_CLASSIC")
    bucket.upload_file(str(path), "in/classic.nc")
    frazil.convert("s3://raw/in/classic.nc", tmp_path / "archive", executor=frazil.SerialExecutor(), verify="full")
    xr.testing.assert_identical(read(tmp_path / "archive"), xr.decode_cf(dataset))
