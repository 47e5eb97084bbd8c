"""Datasets of every kind through the staged writer, held against what Xarray itself writes."""

import pickle
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dask.array as da
import icechunk
import numpy as np
import pytest
import xarray as xr
import zarr
from moto.server import ThreadedMotoServer

import frazil
from frazil.execution.serial import SerialCalls
from frazil_functions.writing.slices import SliceTask

from .common import committed, dataset, read, repository


def in_memory(ds: xr.Dataset, path: Path) -> xr.Dataset:
    return ds


def in_dask(ds: xr.Dataset, path: Path) -> xr.Dataset:
    return ds.chunk(time=6)


def in_files(ds: xr.Dataset, path: Path) -> xr.Dataset:
    ds.drop_encoding().assign_coords(time=ds["time"].drop_encoding()).to_netcdf(path / "lazy.nc", engine="h5netcdf")
    lazy = xr.open_dataset(path / "lazy.nc", engine="h5netcdf")
    for name, one in ds.variables.items():
        lazy[name].encoding = {"units": "days since 2000-01-01"} if name == "nothing" else dict(one.encoding)
    return lazy


KINDS = pytest.mark.parametrize("kind", [in_memory, in_dask, in_files])
type Kind = Callable[[xr.Dataset, Path], xr.Dataset]


def written_by_xarray(path: Path, ds: xr.Dataset, **options: Any) -> tuple[xr.Dataset, dict[str, Any]]:
    repo = repository(path)
    committed(repo, ds, **options)
    return stored(repo.readonly_session("main"))


def stored(session: icechunk.Session, group: str | None = None) -> tuple[xr.Dataset, dict[str, Any]]:
    """What is stored, undecoded, and the arrays' metadata."""
    root = zarr.open_group(session.store, path=group or "", mode="r")
    metadata = {name: array.metadata.to_dict() for name, array in root.arrays()}
    return read(session, group, decode_cf=False), metadata


@KINDS
def test_a_new_group_holds_what_xarray_would_store(
    kind: Kind, session: icechunk.Session, serial: frazil.SerialExecutor, tmp_path: Path
) -> None:
    ds = kind(dataset(), tmp_path)
    frazil.to_icechunk(ds, session, executor=serial)
    expected, metadata = written_by_xarray(tmp_path / "other", ds.load())
    found, found_metadata = stored(session)
    xr.testing.assert_identical(found, expected)
    assert found_metadata == metadata
    session.commit("all")


@KINDS
def test_an_append_holds_what_xarray_would_store(
    kind: Kind, held: icechunk.Session, serial: frazil.SerialExecutor, tmp_path: Path
) -> None:
    # 24 steps in units of 6, then 9 and 9 of them: the second append begins within a unit
    for start in (24, 33):
        ds = kind(dataset(start, 9), tmp_path)
        frazil.to_icechunk(ds, held, append_dim="time", executor=serial, safe_chunks=False)
        ds.close()
    whole = dataset(0, 42)
    expected, _ = written_by_xarray(tmp_path / "other", whole)
    found, _ = stored(held)
    xr.testing.assert_identical(found, expected)
    held.commit("appended")


@KINDS
def test_a_region_holds_what_was_written_and_the_rest_what_it_held(
    kind: Kind, held: icechunk.Session, serial: frazil.SerialExecutor, tmp_path: Path
) -> None:
    part = dataset(8, 9).drop_vars("mask")
    part["tas"] = part["tas"] * 2
    lazy = kind(part, tmp_path)
    frazil.to_icechunk(lazy, held, region="auto", executor=serial, safe_chunks=False)
    expected = dataset()
    expected["tas"][8:17] *= 2
    xr.testing.assert_equal(read(held), expected)


def test_nothing_lazy_calls_no_function(session: icechunk.Session) -> None:
    class Never(frazil.SerialExecutor):
        def calls(self, function: Any) -> Any:
            raise AssertionError(function)

    frazil.to_icechunk(dataset(), session, executor=Never())
    xr.testing.assert_equal(read(session), dataset())


def test_every_step_can_be_looked_at_before_the_next(session: icechunk.Session, serial: frazil.SerialExecutor) -> None:
    writer = frazil.DatasetWriter(dataset().chunk(time=6), session, executor=serial).for_create_or_overwrite("a/b")
    assert not session.has_uncommitted_changes
    writer.write_metadata()
    assert read(session, "a/b", decode_cf=False)["tas"].isnull().all()
    assert read(session, "a/b").sizes == dataset().sizes
    writer.write_eager()
    np.testing.assert_array_equal(read(session, "a/b")["time"], dataset()["time"])
    assert read(session, "a/b", decode_cf=False)["tas"].isnull().all()
    writer.write_lazy()
    xr.testing.assert_equal(read(session, "a/b"), dataset())


def test_what_the_session_held_uncommitted_stays(
    held: icechunk.Session, repo: icechunk.Repository, serial: frazil.SerialExecutor
) -> None:
    root = zarr.open_group(held.store, mode="a")
    extra = root.create_array("extra", shape=(4,), chunks=(2,), dtype="i4", dimension_names=("n",))
    extra[:2] = 7
    root.attrs["kept"] = True
    for start in (24, 30):  # two appends in one session
        frazil.to_icechunk(
            dataset(start, 6).assign_attrs(kept=True).chunk(time=6), held, append_dim="time", executor=serial
        )
    held.commit("all")
    found = read(repo.readonly_session("main"))
    xr.testing.assert_equal(found.drop_vars("extra"), dataset(0, 36))
    assert found["extra"].values.tolist() == [7, 7, 0, 0]
    assert found.attrs["kept"] is True


def test_a_dataarray_is_written_under_its_name(session: icechunk.Session, serial: frazil.SerialExecutor) -> None:
    frazil.to_icechunk(dataset()["tas"].chunk(time=6), session, executor=serial)
    xr.testing.assert_equal(read(session)["tas"], dataset()["tas"])


@pytest.mark.parametrize("shards", [None, (12, 3, 4)])
def test_chunks_of_dask_that_meet_within_a_write_unit_lose_nothing(
    shards: tuple[int, ...] | None, session: icechunk.Session, serial: frazil.SerialExecutor
) -> None:
    ds = dataset(0, 60)
    ds["tas"].encoding["shards"] = shards
    frazil.to_icechunk(ds.chunk(time=7), session, executor=serial, safe_chunks=False)
    xr.testing.assert_equal(read(session), ds)


class Submitted(Exception):  # noqa: N818 - no error: it stops where tasks would run
    """Carries the tasks."""


class Planning(frazil.SerialExecutor):
    """Has two workers, who never begin."""

    workers = 2

    def calls(self, function: Any) -> Any:
        class Calls(SerialCalls[Any, Any]):
            def submit(self, arguments: Sequence[Any]) -> None:
                raise Submitted(list(arguments))

        return Calls(function)


def tasks_of(ds: xr.Dataset, session: icechunk.Session) -> list[SliceTask]:
    with pytest.raises(Submitted) as submitted:
        frazil.to_icechunk(ds, session, safe_chunks=False, executor=Planning())
    tasks: list[SliceTask] = submitted.value.args[0]
    return tasks


def chunked(chunks: int) -> xr.Dataset:
    rng = da.random.default_rng(1)
    values = {
        "random": rng.random((chunks, 8), chunks=(1, 8)),
        "computed": da.ones((chunks, 8), chunks=(1, 8)).map_blocks(lambda part: part * 2),
        "memory": da.from_array(np.arange(chunks * 8.0).reshape(chunks, 8), chunks=(1, 8)),
    }
    ds = xr.Dataset({name: (("x", "y"), one) for name, one in values.items()})
    for one in ds.values():
        one.encoding["chunks"] = (100, 8)
    return ds


@pytest.mark.parametrize("name", ["random", "computed", "memory"])
def test_what_a_task_carries_does_not_grow_with_the_job(name: str, session: icechunk.Session, tmp_path: Path) -> None:
    tasks = tasks_of(chunked(10_000)[[name]], session)
    assert max(len(pickle.dumps(task)) for task in tasks) <= 64_000


def test_few_large_tasks_are_made(session: icechunk.Session) -> None:
    values = da.zeros((64, 1 << 20), chunks=(1, 1 << 20), dtype="f8")  # half a gigabyte that nobody computes
    tasks = tasks_of(xr.Dataset({"v": (("x", "y"), values)}), session)
    assert len(tasks) == 2


def test_no_two_steps_share_a_write_unit(session: icechunk.Session) -> None:
    values = da.zeros((90, 1 << 20), chunks=(7, 1 << 20), dtype="f8")
    ds = xr.Dataset({"v": (("x", "y"), values)})
    ds["v"].encoding["chunks"] = (6, 1 << 20)
    steps = [step for task in tasks_of(ds, session) for step in task.steps]
    borders = sorted(edge for step in steps for edge in step.regions[0].ranges[0][1:])
    assert borders == [0, 42, 42, 84, 84, 90]  # where a border of dask's is one of a unit, too


def test_no_chunk_of_dask_is_computed_twice(
    session: icechunk.Session, serial: frazil.SerialExecutor, tmp_path: Path
) -> None:
    def count(part: Any, block_info: Any = None) -> Any:
        if block_info:
            with (tmp_path / "calls").open("a") as file:
                file.write(f"{block_info[0]['chunk-location']}\n")
        return part

    values = da.ones((40, 200, 300), chunks=(10, 100, 300)).map_blocks(count, dtype="f8", meta=np.empty((0, 0, 0)))
    ds = xr.Dataset({"a": (("x", "y", "z"), values), "b": (("x", "y", "z"), values * 3)})
    for one in ds.values():
        one.encoding["chunks"] = (4, 50, 100)
    frazil.to_icechunk(ds, session, executor=serial, safe_chunks=False)
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len(calls) == len(set(calls)) == 8
    assert (read(session)["b"] == 3).all()


def test_dask_is_not_imported_where_no_data_is_dask(tmp_path: Path) -> None:
    dataset().to_netcdf(tmp_path / "lazy.nc", engine="h5netcdf")
    program = f"""
import sys

import importlib.util
find = importlib.util.find_spec
# Xarray and Icechunk import dask where it is installed, whatever the data is.
importlib.util.find_spec = lambda name, *more: None if name == "dask" else find(name, *more)
class NoDask:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {{"dask", "cloudpickle"}}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, NoDask())
import icechunk, xarray, frazil
repo = icechunk.Repository.create(icechunk.local_filesystem_storage({str(tmp_path / "repo")!r}))
session = repo.writable_session("main")
lazy = xarray.open_dataset({str(tmp_path / "lazy.nc")!r}, engine="h5netcdf")
writer = frazil.DatasetWriter(lazy, session, executor=frazil.SerialExecutor()).for_create_or_overwrite()
writer.write_metadata()
assert writer._steps.prepared
writer.write_eager()
writer.write_lazy()
print(sorted(name for name in sys.modules if name.partition(".")[0] in {{"dask", "lithops"}}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_what_looks_lazy_and_lies_in_memory_is_written_by_the_client(session: icechunk.Session) -> None:
    raw = xr.Dataset({"v": ("x", np.arange(100_000, dtype="i4"), {"scale_factor": 0.5, "_FillValue": -1})})
    frazil.to_icechunk(xr.decode_cf(raw), session, executor=Planning())
    np.testing.assert_array_equal(read(session)["v"], np.arange(100_000) / 2)


def test_chunks_that_never_meet_write_units_are_cut_before_they_fill_the_memory(session: icechunk.Session) -> None:
    values = da.zeros((6001, 1 << 16), chunks=(7, 1 << 16), dtype="f8")  # three gigabytes that nobody computes
    ds = xr.Dataset({"v": (("x", "y"), values)})
    ds["v"].encoding["chunks"] = (1000, 1 << 16)
    tasks = tasks_of(ds.isel(x=slice(3, None)), session)
    assert max(step.nbytes for task in tasks for step in task.steps) <= 1 << 30


def test_a_session_opened_with_keys_is_refused_where_functions_write(tmp_path: Path) -> None:
    keys = {"access_key_id": "key", "secret_access_key": "very secret", "region": "us-east-1"}
    server = ThreadedMotoServer(port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        urllib.request.urlopen(urllib.request.Request(f"{endpoint}/bucket", method="PUT")).close()  # noqa: S310
        storage = icechunk.s3_storage(
            bucket="bucket", prefix="a", endpoint_url=endpoint, allow_http=True, force_path_style=True, **keys
        )
        session = icechunk.Repository.create(storage).writable_session("main")
        with pytest.raises(frazil.InvalidInputError, match="would travel in plain text"):
            frazil.to_icechunk(dataset().chunk(time=6), session, executor=Planning())
        assert not session.has_uncommitted_changes
    finally:
        server.stop()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [in_dask, in_files])
def test_processes_of_this_machine_write_the_same(kind: Kind, session: icechunk.Session, tmp_path: Path) -> None:
    ds = kind(dataset(), tmp_path)
    with frazil.LithopsExecutor(backend="localhost", workers=2) as executor:
        frazil.to_icechunk(ds, session, executor=executor)
    xr.testing.assert_equal(read(session), dataset())
