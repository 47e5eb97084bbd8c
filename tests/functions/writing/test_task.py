import asyncio
import gc
import signal
import threading
import time
import tracemalloc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pytest
import xarray as xr
from tests.functions.conftest import commit_template, file_source, write, write_task_of

from frazil_functions.errors import BackendError, SourceError, UnalignedRegionError, VersionError
from frazil_functions.forks import load_fork, node_id, read_fork
from frazil_functions.grids import WriteGrid
from frazil_functions.reading.encoding import Attributes, checksum
from frazil_functions.regions import Region
from frazil_functions.rundir import RunDirectory
from frazil_functions.tasks import FileSource, Receipt
from frazil_functions.versions import versions
from frazil_functions.writing.targets import open_targets
from frazil_functions.writing.task import write_task

type Array = np.ndarray[Any, Any]

DIMS = ("time", "lat", "lon")
TAS: dict[str, Any] = {
    "shape": (12, 6, 8), "chunks": (4, 3, 8), "dtype": "<f4", "fill_value": np.nan, "dimension_names": DIMS,
}  # fmt: skip
GRID = WriteGrid("tas", DIMS, (12, 6, 8), (4, 3, 8))


def files(path: Path, values: Array) -> list[FileSource]:
    found = []
    for start in range(0, len(values), 4):
        part = xr.Dataset({"tas": (DIMS, values[start : start + 4])}, {"time": np.arange(start, start + 4)})
        part.to_netcdf(path / f"{start}.nc", engine="netcdf4")
        found.append(file_source(path / f"{start}.nc", start, start + 4))
    return found


def merged(repo: icechunk.Repository, receipts: list[Receipt]) -> xr.Dataset:
    session = repo.writable_session("main")
    for receipt in receipts:
        session.merge(load_fork(receipt.forks[0]))
    return xr.open_zarr(session.store, consolidated=False, chunks=None, decode_times=False).load()


def test_what_is_written_is_what_xarray_reads_from_the_files(
    repo: icechunk.Repository, tmp_path: Path, values: Array
) -> None:
    commit_template(repo, {"tas": TAS})
    regions = list(GRID.cut(2))
    task = write_task_of(repo, regions, files(tmp_path, values))
    receipts = write(task)
    with xr.open_mfdataset(sorted(tmp_path.glob("*.nc"), key=lambda path: int(path.stem))) as expected:
        np.testing.assert_array_equal(merged(repo, receipts)["tas"].values, expected["tas"].values)
    assert (expected["tas"].values == values).all()


def test_a_receipt_says_what_was_written(repo: icechunk.Repository, tmp_path: Path, values: Array) -> None:
    base = commit_template(repo, {"tas": TAS})
    regions = list(reversed(list(GRID.cut(2))))
    (receipt,) = write(write_task_of(repo, regions, files(tmp_path, values), number=5))
    assert (receipt.run_id, receipt.plan_hash, receipt.bases, receipt.number) == ("run", "hash", (base,), 5)
    assert [written.region for written in receipt.regions] == regions
    for written in receipt.regions:
        part = values[written.region.slices]
        assert (written.units, written.nbytes, written.crc32c) == (2, part.nbytes, checksum(part))
    node = node_id(repo.readonly_session("main").get_node_id("/tas"))
    assert {node: 6} == {key: len(chunks) for key, chunks in read_fork(receipt.forks[0]).written().items()}
    assert 0 < receipt.read_seconds < receipt.seconds
    assert 0 < receipt.write_seconds < receipt.seconds
    assert receipt.peak_memory_bytes > 1 << 20
    assert receipt.versions["icechunk"] == icechunk.__version__


def test_every_kind_of_array_is_written(repo: icechunk.Repository, tmp_path: Path) -> None:
    source = {
        "packed": (("time", "x"), np.arange(8, dtype="i2").reshape(4, 2)),
        "flag": (("time",), np.array([1, 0, 1, 0], "i1")),
        "name": (("time",), np.array(["a", "", "straße", "d"], object)),
        "code": (("time",), np.array([b"ab", b"c", b"", b"d"])),
        "crs": ((), np.int32(7)),
    }
    xr.Dataset(source).to_netcdf(tmp_path / "a.nc", engine="netcdf4")
    dtypes = {"packed": "<i2", "flag": "|i1", "name": "string", "code": "|S2", "crs": "<i4"}
    template = {
        name: {
            "shape": data.shape,
            "dtype": dtypes[name],
            "dimension_names": dims,
            **({"chunks": (1,) * data.ndim, "shards": (2,) * data.ndim} if name == "packed" else {}),
        }
        for name, (dims, data) in source.items()
    }
    with pytest.warns(match="does not have a Zarr V3 specification"):
        commit_template(repo, template, "deep/group")
    regions = [
        Region(name, tuple((dim, 0, length) for dim, length in zip(dims, data.shape, strict=True)))
        for name, (dims, data) in source.items()
    ]
    (receipt,) = write(write_task_of(repo, regions, [file_source(tmp_path / "a.nc", 0, 4)], group="deep/group"))
    session = repo.writable_session("main")
    session.merge(load_fork(receipt.forks[0]))
    names = list(source)
    arrays = open_targets(session, "deep/group", names, "r")  # type: ignore[arg-type]
    for name, (_, data) in source.items():
        assert np.asarray(arrays[name][...]).tolist() == data.tolist(), name


@pytest.mark.parametrize(
    "bad",
    [
        Region("tas", (("time", 0, 2), ("lat", 0, 6), ("lon", 0, 8))),
        Region("tas", (("time", 0, 16), ("lat", 0, 6), ("lon", 0, 8))),
        Region("tas", (("time", 0, 4), ("lon", 0, 6), ("lat", 0, 6))),
    ],
)
def test_a_region_that_splits_a_write_unit_is_refused_before_any_is_read_or_written(
    repo: icechunk.Repository, bad: Region
) -> None:
    source = Made()
    commit_template(repo, {"tas": TAS})
    good = next(GRID.cut(1))
    with pytest.raises(UnalignedRegionError):
        write_task(write_task_of(repo, [good, bad]), source)
    assert source.asked == []


@pytest.mark.parametrize("name", ["frazil", "icechunk"])
def test_a_task_that_was_planned_with_another_version_is_refused_before_any_is_read(
    repo: icechunk.Repository, name: str
) -> None:
    commit_template(repo, {"v": {"shape": (4,), "chunks": (4,), "dtype": "f8", "dimension_names": ("x",)}})
    source = Made()
    task = write_task_of(repo, [Region("v", (("x", 0, 4),))], versions=versions() | {name: "0.0.1"})
    with pytest.raises(VersionError, match=rf"task 0 .*{name} 0\.0\.1 there"):
        write_task(task, source)
    assert source.asked == []
    assert not RunDirectory(task.run_directory).list_receipts()


def test_the_shard_is_the_write_unit_of_a_sharded_array(repo: icechunk.Repository) -> None:
    commit_template(repo, {"tas": TAS | {"shards": (8, 6, 8), "chunks": (4, 3, 8)}})
    source = Made()
    with pytest.raises(UnalignedRegionError, match="8 along 'time'"):
        write_task(write_task_of(repo, [Region("tas", (("time", 0, 4), ("lat", 0, 6), ("lon", 0, 8)))]), source)
    assert source.asked == []


def test_an_array_that_the_template_lacks_is_an_error_of_the_environment(repo: icechunk.Repository) -> None:
    commit_template(repo, {"tas": TAS})
    with pytest.raises(BackendError, match="no array 'pr'"):
        write_task(write_task_of(repo, [Region("pr", ())]))


class Made:
    """A source that makes its values, and remembers what it was asked for."""

    def __init__(
        self, make: Callable[[Region, str], Array] = lambda region, dtype: np.ones(region.shape, dtype)
    ) -> None:
        self.make = make
        self.asked: list[Region] = []

    def read(self, region: Region, dtype: str, attributes: Attributes) -> Array:  # noqa: ARG002 - of the protocol
        self.asked.append(region)
        return self.make(region, dtype)


BIG: dict[str, Any] = {
    "shape": (40, 1 << 19), "chunks": (1, 1 << 19), "dtype": "<f4", "fill_value": 0, "dimension_names": ("t", "x"),
    "compressors": None,
}  # fmt: skip


def big(start: int, stop: int) -> Region:
    return Region("big", (("t", start, stop), ("x", 0, 1 << 19)))


def test_values_held_at_once_stay_within_the_budget(repo: icechunk.Repository) -> None:
    commit_template(repo, {"big": BIG})
    source = Made(lambda region, dtype: np.full(region.shape, region.ranges[0][1] + 1, dtype))

    def peak() -> int:
        task = write_task_of(repo, [big(at, at + 1) for at in range(32)], memory_bytes=4 << 20)
        gc.collect()
        tracemalloc.start()
        write_task(task, source)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    # Two regions of 2 MiB, a copy of each on its way through the codecs, and what Zarr itself takes. Threads that other
    # tests left may take some more once.
    assert min(peak() for _ in range(3)) < 10 << 20


def test_a_region_larger_than_the_budget_goes_alone(repo: icechunk.Repository) -> None:
    commit_template(repo, {"big": BIG})
    made: list[weakref.ref[Array]] = []
    beside: list[int] = []

    def make(region: Region, dtype: str) -> Array:
        gc.collect()
        beside.append(sum(one() is not None for one in made))
        values = np.ones(region.shape, dtype)
        made.append(weakref.ref(values))
        return values

    task = write_task_of(repo, [big(at, at + 4) for at in range(0, 16, 4)], memory_bytes=1 << 20)
    (receipt,) = write(task, Made(make))
    assert len(receipt.regions) == 4
    assert beside == [0, 0, 0, 0]


def test_reading_goes_on_while_earlier_regions_are_written(repo: icechunk.Repository, tmp_path: Path) -> None:
    commit_template(repo, {"big": BIG})
    found: list[bool] = []

    def make(region: Region, dtype: str) -> Array:
        if region == big(1, 2):
            # The first region's chunk appears while the second is being read: in turn, it never would.
            end = time.monotonic() + 20
            while not (appeared := any((tmp_path / "repo/chunks").glob("*"))) and time.monotonic() < end:
                time.sleep(0.01)
            found.append(appeared)
        return np.ones(region.shape, dtype)

    write_task(write_task_of(repo, [big(0, 1), big(1, 2)]), Made(make))
    assert found == [True]


def test_an_error_while_reading_ends_the_task_with_that_error(
    repo: icechunk.Repository, tmp_path: Path, values: Array
) -> None:
    commit_template(repo, {"tas": TAS})
    sources = files(tmp_path, values)
    Path(sources[1].url).write_bytes(b"\x89HDF\r\n\x1a\n damaged")
    with pytest.raises(SourceError, match=r"4\.nc") as caught:
        write_task(write_task_of(repo, GRID.cut(1), sources))
    assert type(caught.value) is SourceError


def test_regions_after_an_error_are_not_read(repo: icechunk.Repository) -> None:
    commit_template(repo, {"tas": TAS})

    def make(region: Region, dtype: str) -> Array:
        if len(source.asked) == 2:
            raise SourceError("the second")
        return np.ones(region.shape, dtype)

    source = Made(make)
    with pytest.raises(SourceError, match="the second"):
        write_task(write_task_of(repo, GRID.cut(1)), source)
    assert len(source.asked) == 2


def test_a_storage_that_takes_nothing_ends_the_task_with_a_backend_error(
    repo: icechunk.Repository, tmp_path: Path
) -> None:
    commit_template(repo, {"big": BIG})
    (tmp_path / "repo/chunks").write_text("in the way")
    source = Made()
    with pytest.raises(BackendError, match=r"big\[t 0:1, x 0:524288\] could not be written"):
        write_task(write_task_of(repo, [big(at, at + 1) for at in range(40)], memory_bytes=1), source)
    assert len(source.asked) < 5


@pytest.mark.parametrize("made", [np.ones((1, 1, 1), "f4"), np.ones((4, 3, 8), "f8"), np.ones((), "f4")], ids=str)
def test_a_source_that_gives_another_shape_or_type_is_refused(repo: icechunk.Repository, made: Array) -> None:
    commit_template(repo, {"tas": TAS})
    with pytest.raises(SourceError, match="the source gave"):
        write_task(write_task_of(repo, [next(GRID.cut(1))]), Made(lambda *_: made))


def test_a_task_runs_inside_of_a_running_event_loop(repo: icechunk.Repository) -> None:
    commit_template(repo, {"tas": TAS})

    async def notebook() -> int:
        return len(write(write_task_of(repo, GRID.cut(1)), Made())[0].regions)

    assert asyncio.run(notebook()) == 6


def test_tasks_run_in_threads_beside_each_other(repo: icechunk.Repository) -> None:
    commit_template(repo, {"tas": TAS})
    done: list[Receipt] = []
    regions = list(GRID.cut(1))
    tasks = [write_task_of(repo, half) for half in (regions[:3], regions[3:])]
    threads = [threading.Thread(target=lambda task=task: done.extend(write(task, Made()))) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (merged(repo, done)["tas"].values == 1).all()


def test_a_chunk_of_nothing_but_fill_is_receipted_and_known_to_the_fork(repo: icechunk.Repository) -> None:
    commit_template(repo, {"tas": TAS})
    source = Made(lambda region, dtype: np.full(region.shape, np.nan, dtype))
    (receipt,) = write(write_task_of(repo, GRID.cut(1)), source)
    (chunks,) = read_fork(receipt.forks[0]).written().values()
    assert len(chunks) == sum(written.units for written in receipt.regions) == 6


def test_a_task_can_be_done_twice(repo: icechunk.Repository) -> None:
    commit_template(repo, {"tas": TAS})
    task = write_task_of(repo, GRID.cut(1))
    first, second = (write(task, Made())[0] for _ in range(2))
    assert first.regions == second.regions
    assert read_fork(task.forks[0]).written() == {}


@pytest.mark.parametrize("main", [True, False], ids=["this thread", "another thread"])
def test_an_interrupt_ends_the_task_before_its_next_reads_whichever_thread_it_meets(
    repo: icechunk.Repository, main: bool
) -> None:
    commit_template(repo, {"tas": TAS | {"shape": (1200, 6, 8)}})
    regions = list(WriteGrid("tas", DIMS, (1200, 6, 8), (4, 3, 8)).cut(1))

    def make(region: Region, dtype: str) -> Array:
        if len(source.asked) == 3:
            signal.pthread_kill(threading.main_thread().ident if main else threading.get_ident(), signal.SIGINT)  # type: ignore[arg-type]
        time.sleep(0.02)
        return np.ones(region.shape, dtype)

    source = Made(make)
    # Shells start background jobs with interrupts ignored, and this test may run in one.
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            write_task(write_task_of(repo, regions), source)
    finally:
        signal.signal(signal.SIGINT, usual)
    assert 3 <= len(source.asked) < len(regions) / 2
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("frazil-")]
