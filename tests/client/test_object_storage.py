"""Runs against S3: a server on loopback, credentials from the environment alone, through Lithops' processes."""

import logging
import secrets
from collections.abc import Iterator
from pathlib import Path

import boto3
import icechunk
import pytest
import xarray as xr
from moto.server import ThreadedMotoServer

import frazil

from .hourly import series

SECRET = "Secret5ymbolThatMustNotTravel"  # noqa: S105 - made up, to be searched for
KEY = "AKIATHATMUSTNOTTRAVEL"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of a server on loopback, and the environment that finds it."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    name = f"archive-{secrets.token_hex(4)}"  # what the server holds outlives it
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    for variable, value in {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(variable, value)
    boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket=name)
    yield name
    server.stop()


def objects(bucket: str) -> dict[str, bytes]:
    """Every object of a bucket."""
    client = boto3.client("s3")
    listed = client.list_objects_v2(Bucket=bucket).get("Contents", [])
    return {one["Key"]: client.get_object(Bucket=bucket, Key=one["Key"])["Body"].read() for one in listed}


def test_files_on_s3_become_a_repository_on_s3_and_no_secret_is_written_anywhere(
    bucket: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        path = tmp_path / f"part{number}.nc"
        series(8 * number, 8 * number + 8).to_netcdf(path)
        boto3.client("s3").upload_file(str(path), bucket, f"raw/part{number}.nc")
    caplog.set_level(logging.DEBUG)
    with frazil.LithopsExecutor(backend="localhost", workers=2) as executor:
        plan = frazil.plan(f"s3://{bucket}/raw/*.nc", f"s3://{bucket}/out", chunks={"time": 6}, executor=executor)
        result = frazil.run(plan, executor=executor, verify="full")
    repo = frazil.open_repository(f"s3://{bucket}/out", create=False)
    found = xr.open_zarr(repo.readonly_session("main").store, consolidated=False, chunks=None).load()
    xr.testing.assert_identical(found, xr.decode_cf(series(0, 24)))
    said = capfd.readouterr()
    told = (repr(plan) + plan.to_json().decode() + repr(result) + caplog.text + said.out + said.err).encode()
    for name, data in {**objects(bucket), "what was said": told}.items():
        assert SECRET.encode() not in data, name
        assert KEY.encode() not in data, name
    kept = {name.rpartition("/")[2] for name in objects(bucket) if name.startswith("out.frazil/")}
    assert kept == {"plan.json", "wishes.json", "run.json", "outcome.json"}


def test_a_repository_with_keys_of_its_own_is_refused_before_anything_is_written(bucket: str, tmp_path: Path) -> None:
    series(0, 24).to_netcdf(tmp_path / "a.nc")
    repo = frazil.open_repository(f"s3://{bucket}/out")
    keyed = icechunk.Repository.open(
        icechunk.s3_storage(
            bucket=bucket,
            prefix="out",
            region="us-east-1",
            endpoint_url=str(boto3.client("s3").meta.endpoint_url),
            allow_http=True,
            force_path_style=True,
            access_key_id=KEY,
            secret_access_key=SECRET,
        )
    )
    before = objects(bucket)
    with (
        frazil.SerialExecutor() as executor,
        pytest.raises(frazil.InvalidInputError, match="static credentials") as error,
    ):
        frazil.convert(tmp_path / "a.nc", keyed, executor=executor)
    assert SECRET not in str(error.value)
    assert objects(bucket) == before
    assert repo.list_branches() == {"main"}


def test_a_bucket_that_does_not_exist_is_named(bucket: str, tmp_path: Path) -> None:
    series(0, 24).to_netcdf(tmp_path / "a.nc")
    with frazil.SerialExecutor() as executor, pytest.raises(frazil.BackendError, match="s3://nowhere/out"):
        frazil.convert(tmp_path / "a.nc", "s3://nowhere/out", executor=executor)


def test_a_source_that_does_not_exist_is_named(bucket: str) -> None:
    with frazil.SerialExecutor() as executor, pytest.raises(frazil.SourceError, match=rf"s3://{bucket}/raw/a\.nc"):
        frazil.plan(f"s3://{bucket}/raw/a.nc", f"s3://{bucket}/out", executor=executor)


def test_an_empty_glob_is_named(bucket: str) -> None:
    with frazil.SerialExecutor() as executor, pytest.raises(frazil.SourceError, match=r"no objects match"):
        frazil.plan(f"s3://{bucket}/raw/*.nc", f"s3://{bucket}/out", executor=executor)
