"""What a task leaves in its run directory while it goes on, and when it ends otherwise than it should."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import icechunk
import msgspec
import numpy as np
import pytest
import xarray as xr
import zarr
from tests.functions.conftest import clean_fork, commit_template, file_source, write, write_task_of

from frazil_functions.errors import BackendError, SourceError, UnalignedRegionError
from frazil_functions.forks import load_fork, node_id, read_fork
from frazil_functions.handler import write as handled
from frazil_functions.reading.encoding import Attributes, checksum
from frazil_functions.reading.opening import fingerprint
from frazil_functions.regions import Region
from frazil_functions.rundir import RunDirectory
from frazil_functions.tasks import Receipt, WriteTask, load_written
from frazil_functions.writing.parts import next_wait
from frazil_functions.writing.task import write_task

type Array = np.ndarray[Any, Any]

ROWS: dict[str, Any] = {
    "shape": (64, 8), "chunks": (1, 4), "dtype": "<f4", "fill_value": -1, "dimension_names": ("time", "x"),
}  # fmt: skip
REGIONS = [Region("rows", (("time", at, at + 1), ("x", 0, 8))) for at in range(64)]


class Rows:
    """A source of rows that hold their own number, each after so many seconds, and after what `before` does."""

    def __init__(self, seconds: float = 0.0, before: Callable[[int], None] = lambda _: None) -> None:
        self.seconds = seconds
        self.before = before
        self.asked = 0

    def read(self, region: Region, dtype: str, attributes: Attributes) -> Array:  # noqa: ARG002 - of the protocol
        self.before(self.asked)
        self.asked += 1
        time.sleep(self.seconds)
        return np.full(region.shape, region.ranges[0][1], dtype)


def left(task: WriteTask) -> list[Receipt]:
    """The receipts in a task's run directory, every one of which must be one."""
    directory = RunDirectory(task.run_directory)
    found = [receipt for _, receipt in directory.read_receipts(directory.list_receipts(task.number))]
    assert [receipt for receipt in found if not isinstance(receipt, Receipt)] == []
    return sorted((one for one in found if isinstance(one, Receipt)), key=lambda one: one.regions[0].region.ranges)


def rows_of(receipt: Receipt) -> list[int]:
    return [one.region.ranges[0][1] for one in receipt.regions]


def check(repo: icechunk.Repository, receipts: list[Receipt], which: int = 0) -> list[int]:
    """Merge receipts; see that each fork holds its regions exactly, and the repository their values. Gives the rows."""
    node = node_id(repo.readonly_session("main").get_node_id("/rows"))
    session = repo.writable_session("main")
    for receipt in receipts:
        owned = {(row, part) for row in rows_of(receipt) for part in range(2)}
        assert set(read_fork(receipt.forks[which]).written()[node]) == owned
        for one in receipt.regions:
            assert one.crc32c == checksum(np.full((1, 8), one.region.ranges[0][1], "f4"))
        session.merge(load_fork(receipt.forks[which]))
    rows = [row for receipt in receipts for row in rows_of(receipt)]
    assert len(set(rows)) == len(rows)
    expected = np.full((64, 8), -1, "f4")
    expected[rows] = np.array(rows)[:, np.newaxis]
    array = zarr.open_group(session.store, mode="r")["rows"]
    assert isinstance(array, zarr.Array)
    np.testing.assert_array_equal(array[...], expected)
    return sorted(rows)


def test_receipts_appear_while_the_task_goes_on_and_each_waits_twice_as_long(repo: icechunk.Repository) -> None:
    commit_template(repo, {"rows": ROWS})
    task = write_task_of(repo, REGIONS, flush_seconds=0.1)
    seen: list[int] = []
    source = Rows(0.02, lambda _: seen.append(len(RunDirectory(task.run_directory).list_receipts())))
    receipts = write(task, source)
    assert seen[0] == 0
    assert 2 <= max(seen) < len(receipts)
    assert check(repo, receipts) == list(range(64))
    # 0.1, 0.2, 0.4 s and what is left of about 1.3 s.
    assert 3 <= len(receipts) <= 5
    assert len(receipts[1].regions) > len(receipts[0].regions)
    assert receipts == sorted(receipts, key=lambda receipt: receipt.started)
    for one, following in pairwise(receipts):
        assert abs(one.started + one.seconds - following.started) < 1e-3
    assert 1.2 < sum(receipt.read_seconds for receipt in receipts) <= sum(receipt.seconds for receipt in receipts)


def test_receipts_are_put_while_slow_reads_go_on(repo: icechunk.Repository) -> None:
    commit_template(repo, {"rows": ROWS})
    task = write_task_of(repo, REGIONS[:3], flush_seconds=0.05)
    seen: list[int] = []

    def wait(asked: int) -> None:
        end = time.monotonic() + 20
        while len(RunDirectory(task.run_directory).list_receipts()) < asked and time.monotonic() < end:
            time.sleep(0.01)
        seen.append(len(RunDirectory(task.run_directory).list_receipts()))

    write(task, Rows(0, wait))
    assert seen == [0, 1, 2]


def test_regions_that_take_longer_than_the_wait_are_receipted_once_each(repo: icechunk.Repository) -> None:
    commit_template(repo, {"rows": ROWS})
    task = write_task_of(repo, REGIONS[:4], flush_seconds=0.02)
    write(task, Rows(0.2))
    assert [rows_of(receipt) for receipt in left(task)] == [[0], [1], [2], [3]]


def test_the_wait_for_the_next_receipt_doubles_up_to_a_minute() -> None:
    waits = [2.0]
    while len(waits) < 8:
        waits.append(next_wait(waits[-1]))
    assert waits == [2, 4, 8, 16, 32, 60, 60, 60]


def test_a_task_without_regions_leaves_no_receipt(repo: icechunk.Repository) -> None:
    commit_template(repo, {"rows": ROWS})
    assert write(write_task_of(repo, []), Rows()) == []


def test_a_function_answers_with_the_names_of_its_receipts(
    repo: icechunk.Repository, tmp_path: Path, values: Array
) -> None:
    commit_template(repo, {"tas": {"shape": (12, 6, 8), "dtype": "<f4", "dimension_names": ("time", "lat", "lon")}})
    xr.Dataset({"tas": (("time", "lat", "lon"), values)}).to_netcdf(tmp_path / "a.nc", engine="netcdf4")
    region = Region("tas", (("time", 0, 12), ("lat", 0, 6), ("lon", 0, 8)))
    task = write_task_of(repo, [region], [file_source(tmp_path / "a.nc", 0, 12)], number=4)
    written = load_written(handled(task))
    assert (written.task, written.regions, written.nbytes) == (4, 1, values.nbytes)
    assert list(written.receipts) == RunDirectory(task.run_directory).list_receipts(4)


@pytest.fixture
def replica(tmp_path: Path) -> icechunk.Repository:
    return icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path / "replica")))


def for_both(replica: icechunk.Repository, repo: icechunk.Repository, **options: Any) -> WriteTask:
    forks, bases = zip(*((clean_fork(one), one.lookup_branch("main")) for one in (replica, repo)), strict=True)
    return write_task_of(repo, REGIONS, forks=forks, bases=bases, **options)


def test_values_are_read_once_and_written_to_every_repository(
    repo: icechunk.Repository, replica: icechunk.Repository
) -> None:
    bases = tuple(commit_template(one, {"rows": ROWS}) for one in (replica, repo))
    source = Rows(0.005)
    receipts = write(for_both(replica, repo, flush_seconds=0.1), source)
    assert source.asked == 64
    assert len(receipts) > 1
    assert {receipt.bases for receipt in receipts} == {bases}
    assert check(replica, receipts, 0) == check(repo, receipts, 1) == list(range(64))


def test_repositories_that_store_an_array_in_other_ways_are_refused_before_any_is_read(
    repo: icechunk.Repository, replica: icechunk.Repository
) -> None:
    commit_template(repo, {"rows": ROWS})
    commit_template(replica, {"rows": ROWS | {"dtype": "<f8"}})
    source = Rows()
    with pytest.raises(BackendError, match=r"'rows' is <f8 .* and <f4"):
        write_task(for_both(replica, repo), source)
    assert source.asked == 0


def test_a_region_that_splits_a_write_unit_of_a_replica_is_refused(
    repo: icechunk.Repository, replica: icechunk.Repository
) -> None:
    commit_template(repo, {"rows": ROWS})
    commit_template(replica, {"rows": ROWS | {"chunks": (2, 4)}})
    with pytest.raises(UnalignedRegionError):
        write_task(for_both(replica, repo), Rows())


def test_a_part_that_holds_more_than_its_whole_regions_never_becomes_a_receipt(
    repo: icechunk.Repository, replica: icechunk.Repository, tmp_path: Path
) -> None:
    for one in (replica, repo):
        commit_template(one, {"rows": ROWS | {"shape": (64, 8192), "chunks": (1, 4096), "compressors": None}})
    regions = [Region("rows", (("time", at, at + 1), ("x", 0, 8192))) for at in range(64)]
    task = replace(for_both(replica, repo, memory_bytes=1), regions=tuple(regions))

    def fill(asked: int) -> None:
        if asked == 20:
            (tmp_path / "replica/chunks").rename(tmp_path / "moved")
            (tmp_path / "replica/chunks").write_text("in the way")

    # The primary takes the last region, and the replica does not.
    with pytest.raises(BackendError, match=r"rows\[time 20:21, x 0:8192\] could not be written"):
        write_task(task, Rows(0, fill))
    assert left(task) == []


def test_what_was_written_before_an_error_of_the_source_has_a_receipt(repo: icechunk.Repository) -> None:
    commit_template(repo, {"rows": ROWS})
    task = write_task_of(repo, REGIONS)

    def fail(asked: int) -> None:
        if asked == 40:
            raise SourceError("the fortieth")

    with pytest.raises(SourceError, match="the fortieth"):
        write_task(task, Rows(0, fail))
    assert check(repo, left(task)) == list(range(40))


def test_a_part_of_which_a_region_failed_half_way_is_lost_and_the_others_are_not(
    repo: icechunk.Repository, tmp_path: Path
) -> None:
    wide = ROWS | {"shape": (64, 8192), "chunks": (1, 4096), "compressors": None}
    commit_template(repo, {"rows": wide})
    regions = [Region("rows", (("time", at, at + 1), ("x", 0, 8192))) for at in range(64)]
    task = write_task_of(repo, regions, flush_seconds=0.05, memory_bytes=1)
    chunks = tmp_path / "repo/chunks"

    def close(_: int) -> None:
        if RunDirectory(task.run_directory).list_receipts() and chunks.is_dir():
            chunks.rename(tmp_path / "moved")
            chunks.write_text("in the way")

    with pytest.raises(BackendError, match="could not be written"):
        write_task(task, Rows(0.02, close))
    chunks.unlink()
    (tmp_path / "moved").rename(chunks)
    receipts = left(task)
    assert receipts
    node = node_id(repo.readonly_session("main").get_node_id("/rows"))
    for receipt in receipts:
        owned = {(row, part) for row in rows_of(receipt) for part in range(2)}
        assert set(read_fork(receipt.forks[0]).written()[node]) == owned
    assert sum(len(receipt.regions) for receipt in receipts) < 64


def test_a_file_that_changes_while_it_is_read_leaves_no_receipt(repo: icechunk.Repository, tmp_path: Path) -> None:
    # Chunks above what Icechunk keeps in its manifests, so that the first can be seen to be written.
    commit_template(repo, {"rows": ROWS | {"shape": (64, 8192), "chunks": (1, 4096), "compressors": None}})
    path = tmp_path / "a.nc"
    xr.Dataset({"rows": (("time", "x"), np.zeros((64, 8192), "f4"))}).to_netcdf(path, engine="netcdf4")
    regions = [Region("rows", (("time", at, at + 1), ("x", 0, 8192))) for at in range(64)]
    task = write_task_of(repo, regions * 10, [file_source(path, 0, 64, fingerprint=fingerprint(str(path)))])

    def change() -> None:
        end = time.monotonic() + 20
        while not any((tmp_path / "repo/chunks").glob("*")) and time.monotonic() < end:
            time.sleep(0.001)
        os.utime(path, (1, 1))

    changing = threading.Thread(target=change)
    changing.start()
    with pytest.raises(SourceError, match="has changed"):
        write_task(task)
    changing.join()
    assert left(task) == []


def test_a_run_directory_that_takes_nothing_ends_the_task_with_an_error_of_the_environment(
    repo: icechunk.Repository, tmp_path: Path
) -> None:
    commit_template(repo, {"rows": ROWS})
    (tmp_path / "repo.frazil").write_text("in the way")
    source = Rows(0.01)
    with pytest.raises(BackendError, match=r"repo\.frazil/run.* cannot be"):
        write_task(write_task_of(repo, REGIONS, flush_seconds=0.05), source)
    assert source.asked < 40
    with pytest.raises(BackendError, match=r"repo\.frazil/run.* cannot be"):
        write_task(write_task_of(repo, REGIONS[:2]), Rows())


def test_an_interrupt_leaves_receipts_of_what_was_written(repo: icechunk.Repository) -> None:
    commit_template(repo, {"rows": ROWS})
    task = write_task_of(repo, REGIONS)

    def interrupt(asked: int) -> None:
        if asked == 20:
            os.kill(os.getpid(), signal.SIGINT)

    # Shells start background jobs with interrupts ignored, and this test may run in one.
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    begin = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            write_task(task, Rows(0.02, interrupt))
    finally:
        signal.signal(signal.SIGINT, usual)
    assert time.monotonic() - begin < 30
    rows = check(repo, left(task))
    assert rows == list(range(len(rows)))
    assert 15 <= len(rows) < 40


WRITING = """
import sys, time
import msgspec, numpy as np
from frazil_functions.tasks import WriteTask
from frazil_functions.writing.parts import next_wait
from frazil_functions.writing.task import write_task

class Rows:
    def read(self, region, dtype, attributes):
        row = region.ranges[0][1]
        time.sleep(0.05)
        print(row, flush=True)
        return np.full(region.shape, row, dtype)

write_task(msgspec.msgpack.decode(sys.stdin.buffer.read(), type=WriteTask), Rows())
"""


def test_a_killed_task_costs_only_what_was_not_yet_receipted(repo: icechunk.Repository) -> None:
    commit_template(repo, {"rows": ROWS})
    task = write_task_of(repo, REGIONS, flush_seconds=0.3)
    with subprocess.Popen(
        [sys.executable, "-c", WRITING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        writer.stdin.write(msgspec.msgpack.encode(task))
        writer.stdin.close()
        for line in writer.stdout:
            if int(line) == 40:
                writer.send_signal(signal.SIGKILL)
                break
    assert writer.returncode == -signal.SIGKILL
    rows = check(repo, left(task))
    assert rows == list(range(len(rows)))
    assert 4 <= len(rows) < 41
    rest = write_task_of(repo, REGIONS[len(rows) :], flush_seconds=0.3)
    write(rest, Rows())
    assert check(repo, left(rest)) == list(range(64))


def test_a_fork_of_a_clean_fork_is_the_clean_fork(repo: icechunk.Repository) -> None:
    commit_template(repo, {"rows": ROWS})
    task = write_task_of(repo, REGIONS, flush_seconds=0.02)
    receipts = write(task, Rows(0.005))
    assert len(receipts) > 2
    assert {read_fork(receipt.forks[0]).frame for receipt in receipts} == {read_fork(task.forks[0]).frame}
