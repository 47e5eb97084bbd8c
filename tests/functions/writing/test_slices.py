import pickle
import shutil
import time
from pathlib import Path
from typing import Any, ClassVar

import icechunk
import numpy as np
import pytest
import xarray as xr
import zarr
from tests.functions.conftest import clean_fork, commit_template

from frazil_functions import handler
from frazil_functions.errors import BackendError, ReceiptError, SourceError, UnreachableSourceError, VersionError
from frazil_functions.forks import load_fork, node_id, read_fork
from frazil_functions.reading.encoding import Values
from frazil_functions.regions import Region
from frazil_functions.versions import versions
from frazil_functions.writing.lazy import FileSlices, pack
from frazil_functions.writing.slices import (
    SliceStep,
    SlicesWritten,
    SliceTask,
    dump_slices_written,
    load_slices_written,
    write_slices,
)

DIMS = ("x", "y")
OPTIONS: dict[str, Any] = {"shape": (12, 4), "chunks": (4, 4), "dtype": "<f4", "dimension_names": DIMS}


def region(start: int, stop: int, array: str = "a") -> Region:
    return Region(array, (("x", start, stop), ("y", 0, 4)))


class Given:
    """Slices that are there already, or an error."""

    def __init__(self, *found: Any) -> None:
        self.found = found

    def compute(self) -> list[Values]:
        for one in self.found:
            if isinstance(one, Exception):
                raise one
        return list(self.found)


def task_of(repo: icechunk.Repository, *steps: tuple[Region, Any], **options: Any) -> SliceTask:
    values: dict[str, Any] = {
        "number": 3,
        "fork": clean_fork(repo),
        "steps": tuple(SliceStep((where,), where.size * 4) for where, _ in steps),
        "slices": pack([pickle.dumps(slices) for _, slices in steps]),
        "memory_bytes": 1 << 20,
        "versions": versions(),
    }
    return SliceTask(**(values | options))


@pytest.fixture
def held(repo: icechunk.Repository) -> icechunk.Repository:
    commit_template(repo, {"a": OPTIONS, "b": OPTIONS})
    return repo


def rows(start: int, stop: int) -> Values:
    return np.arange(start * 4, stop * 4, dtype="f4").reshape(-1, 4) + 1


def test_what_is_computed_is_in_the_fork_that_comes_back(held: icechunk.Repository) -> None:
    task = task_of(held, (region(0, 4), Given(rows(0, 4))), (region(4, 12), Given(rows(4, 12))))
    written = load_slices_written(handler.write_slices(task))
    assert (written.number, written.nbytes) == (3, 12 * 4 * 4)
    state = read_fork(written.fork)
    session = held.writable_session("main")
    assert state.frame == read_fork(task.fork).frame
    assert {key: sorted(at) for key, at in state.written().items()} == {
        node_id(session.get_node_id("/a")): [(0, 0), (1, 0), (2, 0)]
    }
    session.merge(load_fork(written.fork))
    np.testing.assert_array_equal(zarr.open_array(session.store, path="a", mode="r")[:], rows(0, 12))


def test_part_of_a_write_unit_leaves_the_rest_of_it(held: icechunk.Repository) -> None:
    session = held.writable_session("main")
    zarr.open_array(session.store, path="a")[:] = -1
    session.commit("before")
    written = write_slices(task_of(held, (region(3, 6), Given(rows(3, 6)))))
    session = held.writable_session("main")
    session.merge(load_fork(written.fork))
    expected = np.full((12, 4), -1, "f4")
    expected[3:6] = rows(3, 6)
    np.testing.assert_array_equal(zarr.open_array(session.store, path="a", mode="r")[:], expected)


def test_slices_of_files_are_encoded_as_xarray_does(repo: icechunk.Repository, tmp_path: Path) -> None:
    commit_template(repo, {"a": OPTIONS | {"dtype": "<i2"}})
    ds = xr.Dataset({"a": (DIMS, np.arange(48.0).reshape(12, 4))})
    ds["a"][5, 1] = np.nan
    ds.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "a.nc", engine="h5netcdf") as lazy:
        one = lazy["a"].variable[4:8]
        one.encoding = {"dtype": "int16", "scale_factor": 0.5, "_FillValue": -9}
        task = task_of(repo, (region(4, 8), FileSlices((("a", one),))))
    session = repo.writable_session("main")
    session.merge(load_fork(write_slices(task).fork))
    expected = np.arange(16, 32).reshape(4, 4) * 2
    expected[1, 1] = -9
    np.testing.assert_array_equal(zarr.open_array(session.store, path="a", mode="r")[4:8], expected)


@pytest.mark.parametrize(
    ("found", "kind", "said"),
    [
        (ZeroDivisionError("day 4"), SourceError, "ZeroDivisionError: day 4"),
        (TimeoutError("no answer"), UnreachableSourceError, "no answer"),
        (rows(0, 3), SourceError, r"the shape \(3, 4\), and has \(4, 4\)"),
        (rows(0, 4).astype("c8"), SourceError, "complex64, which its array cannot hold"),
    ],
)
def test_slices_that_cannot_be_had_are_named(
    found: Any, kind: type[Exception], said: str, held: icechunk.Repository
) -> None:
    with pytest.raises(kind, match=rf"a\[x 4:8, y 0:4\].*{said}") as error:
        write_slices(task_of(held, (region(0, 4), Given(rows(0, 4))), (region(4, 8), Given(found))))
    assert type(error.value) is kind


def test_an_array_that_is_not_there_is_an_error(held: icechunk.Repository) -> None:
    with pytest.raises(BackendError, match="cannot be opened by the function"):
        write_slices(task_of(held, (region(0, 4, "c"), Given(rows(0, 4)))))


def test_a_client_with_another_version_is_refused(held: icechunk.Repository) -> None:
    with pytest.raises(VersionError, match=r"icechunk 1\.0 there"):
        write_slices(task_of(held, (region(0, 4), Given(rows(0, 4))), versions={"icechunk": "1.0"}))


class Slow:
    """Slices that take a while, and note when they begin."""

    begun: ClassVar[list[float]] = []

    def compute(self) -> list[Values]:
        Slow.begun.append(time.monotonic())
        return [np.ones((4, 4), "f4")]


def test_a_task_stops_computing_when_a_write_has_failed(tmp_path: Path) -> None:
    config = icechunk.RepositoryConfig(inline_chunk_threshold_bytes=0)
    held = icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path / "repo")), config=config)
    commit_template(held, {"a": OPTIONS, "b": OPTIONS})
    chunks = tmp_path / "repo" / "chunks"
    Slow.begun.clear()
    task = task_of(
        held,
        *((region(start, start + 4, name), Slow()) for name in ("a", "b") for start in (0, 4, 8)),
        memory_bytes=1,
    )
    shutil.rmtree(chunks, ignore_errors=True)
    chunks.write_text("in the way")
    with pytest.raises(BackendError, match=r"a\[x 0:4, y 0:4\] could not be written"):
        write_slices(task)
    assert len(Slow.begun) == 1


def test_what_comes_back_is_data_alone() -> None:
    whole = dump_slices_written(SlicesWritten(1, b"fork", 2, 3.0))
    assert load_slices_written(whole) == SlicesWritten(1, b"fork", 2, 3.0)
    for data in (b"", b"\x80", pickle.dumps("data"), whole[:-3]):
        with pytest.raises(ReceiptError, match="cannot be read"):
            load_slices_written(data)
    with pytest.raises(ReceiptError, match="instead of bytes"):
        load_slices_written("text")  # type: ignore[arg-type]
