"""Repositories and runs on Ceph's S3: what they take for granted of storage holds there, too."""

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import icechunk
import numpy as np
import obstore
import pytest
import xarray as xr
import zarr
from obstore.exceptions import AlreadyExistsError

import frazil
from frazil_functions.locations import locate
from frazil_functions.storage import open_store

from .ceph import Ceph, missing, started

pytestmark = [pytest.mark.slow, pytest.mark.skipif(missing() is not None, reason=str(missing()))]


@pytest.fixture(scope="module")
def ceph() -> Iterator[Ceph]:
    with started() as running:
        yield running


@pytest.fixture
def bucket(ceph: Ceph, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new bucket, and the environment in which it is found."""
    for name, value in ceph.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    name = f"bucket-{secrets.token_hex(4)}"
    boto3.client("s3").create_bucket(Bucket=name)
    return name


@pytest.fixture
def storage(ceph: Ceph, bucket: str) -> icechunk.Storage:
    """A repository's storage as plain Icechunk opens it."""
    return icechunk.s3_storage(
        bucket=bucket,
        prefix="archive",
        region="us-east-1",
        endpoint_url=ceph.endpoint_url,
        allow_http=True,
        force_path_style=True,
        from_env=True,
    )


def read(storage: icechunk.Storage, group: str = "") -> xr.Dataset:
    store = icechunk.Repository.open(storage).readonly_session("main").store
    return xr.open_zarr(store, group=group or None, consolidated=False, chunks=None).load()


def series(hours: int, *, start: int = 0, width: int = 64) -> xr.Dataset:
    values = np.random.default_rng(start).normal(280, 10, (hours, width, width)).astype("f4")
    stamps = np.arange(start, start + hours)
    return xr.Dataset(
        {"tas": (("time", "lat", "lon"), values, {"units": "K"})},
        {
            "time": ("time", stamps, {"units": "hours since 2000-01-01", "calendar": "standard"}),
            "lat": ("lat", np.linspace(-80, 80, width)),
            "lon": ("lon", np.arange(width) * (360 / width)),
        },
    )


def files(folder: Path, *datasets: xr.Dataset) -> list[str]:
    paths = [folder / f"{number}.nc" for number in range(len(datasets))]
    for path, dataset in zip(paths, datasets, strict=True):
        dataset.to_netcdf(path)
    return [str(path) for path in paths]


def test_of_many_that_put_an_object_if_it_is_absent_one_wins(bucket: str) -> None:
    store = open_store(locate(f"s3://{bucket}/archive.frazil"))

    def put(number: int, name: str) -> bool:
        try:
            obstore.put(store, name, str(number).encode(), mode="create")
        except AlreadyExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        for attempt in range(15):
            name = f"receipts/{attempt}"
            won = list(threads.map(put, range(8), [name] * 8))
            assert sum(won) == 1
            assert bytes(obstore.get(store, name).bytes()) == str(won.index(True)).encode()


def test_of_many_commits_at_once_one_wins_and_the_others_hear_of_it(storage: icechunk.Storage) -> None:
    repo = icechunk.Repository.create(storage)
    session = repo.writable_session("main")
    zarr.create_array(session.store, name="x", shape=(15 * 4,), chunks=(1,), dtype="i4")
    session.commit("array")

    def commit(number: int, session: icechunk.Session) -> bool:
        array: Any = zarr.open_array(session.store, path="x", mode="r+")
        array[number] = number
        try:
            session.commit(str(number))
        except icechunk.ConflictError:
            return False
        return True

    with ThreadPoolExecutor(4) as threads:
        for attempt in range(15):
            sessions = [repo.writable_session("main") for _ in range(4)]
            assert sum(threads.map(commit, range(attempt * 4, attempt * 4 + 4), sessions)) == 1
    found: Any = zarr.open_array(repo.readonly_session("main").store, path="x", mode="r")
    assert np.count_nonzero(found[:]) in {14, 15}  # 0 may have won the first
    assert len(list(repo.ancestry(branch="main"))) == 17


def test_a_whole_conversion_and_an_append(bucket: str, storage: icechunk.Storage, tmp_path: Path) -> None:
    parts = [series(24, start=start) for start in (0, 24, 48)]
    first, second, third = files(tmp_path, *parts)
    with frazil.LithopsExecutor(backend="localhost", workers=2) as executor:
        frazil.convert([first, second], f"s3://{bucket}/archive", chunks={"time": 12}, executor=executor)
        frazil.convert(third, f"s3://{bucket}/archive", mode="append", executor=executor)
    xr.testing.assert_identical(read(storage), xr.decode_cf(xr.concat(parts, "time", data_vars="minimal")))
    assert {run.state for run in frazil.runs(f"s3://{bucket}/archive")} == {"published"}


def test_chunks_of_a_hundred_megabytes(bucket: str, storage: icechunk.Storage, tmp_path: Path) -> None:
    whole = series(50, width=720)
    frazil.convert(
        files(tmp_path, whole),
        f"s3://{bucket}/archive",
        chunks={"time": 50, "lat": 720, "lon": 720},
        compression="none",
        executor=frazil.SerialExecutor(),
        verify="full",
    )
    pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="archive/chunks/")
    assert max(one["Size"] for page in pages for one in page["Contents"]) == whole["tas"].nbytes
    xr.testing.assert_identical(read(storage), xr.decode_cf(whole))


def test_two_runs_at_once_are_both_published(bucket: str, storage: icechunk.Storage, tmp_path: Path) -> None:
    parts = [series(24), series(24, start=100)]
    paths = files(tmp_path, *parts)
    repo = frazil.open_repository(f"s3://{bucket}/archive", create=True)

    def convert(number: int) -> None:
        frazil.convert(
            paths[number], repo, group=f"group{number}", chunks={"time": 6}, executor=frazil.SerialExecutor()
        )

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(convert, range(2)))
    for number, part in enumerate(parts):
        xr.testing.assert_identical(read(storage, f"group{number}"), xr.decode_cf(part))
