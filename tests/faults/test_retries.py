"""Tasks that fail: tried again where that can help, given up with the cause where it cannot, and kept for a resume."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import frazil

from .datasets import RUN_ID, Conversion, Noise, conversion, last, upload
from .proxy import Kill, Proxy, Rule, Slow

TASKS = 4
HOURS = 6
REGIONS = TASKS * HOURS // 2


@pytest.fixture
def remote(bucket: str, server: str, tmp_path: Path) -> Conversion:
    """A file for each task, in S3."""
    noise = Noise(TASKS, HOURS)
    sources = upload(noise.write(tmp_path / "sources"), bucket, server)
    return conversion(noise, f"s3://{bucket}/archive", tmp_path, sources=sources, tasks=TASKS)


@pytest.fixture
def local(tmp_path: Path) -> Conversion:
    """A file for each task, on disk."""
    return conversion(Noise(TASKS, HOURS), str(tmp_path / "archive"), tmp_path, tasks=TASKS)


@pytest.mark.slow
def test_a_task_that_fails_is_tried_again_while_others_still_run(remote: Conversion, proxy: Proxy) -> None:
    proxy.forget()
    slow = proxy.inject(Rule(Slow(10), method="GET", target="raw/01", times=1))
    killed = proxy.inject(Rule(Kill(), method="GET", target="raw/02", times=1))
    with remote.client(workers=3) as client:
        assert "published" in last(client.wait())
    assert slow.struck
    assert killed.struck == 1
    again = [one for one in proxy.log("GET", "raw/02") if not one.faults]
    (held,) = [one for one in proxy.log("GET", "raw/01") if one.faults]
    assert again[0].request.began < held.request.began + 10
    remote.assert_published()


@pytest.mark.slow
def test_a_task_that_fails_again_and_again_is_given_up_with_its_cause(remote: Conversion, proxy: Proxy) -> None:
    proxy.forget()
    rule = proxy.inject(Rule(Kill(), method="GET", target="raw/03"))
    with remote.client(workers=2, attempts=3, backoff=1.0) as client:
        said = last(client.wait())
    assert said["error"] == "IncompleteRunError"
    assert "task 3 failed 3 times, the last time so: Call" in said["says"]
    assert "9 of 12 regions are written and kept" in said["says"]
    assert f"resume run {RUN_ID}" in said["says"]
    first, second, third = [one.request.began for one in proxy.log("GET", "raw/03")]
    assert second - first > 1.0
    assert third - second > 2.0
    remote.assert_untouched()
    proxy.withdraw(rule)
    remote.resume()
    remote.assert_published()


def truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


def overwritten(data: bytes) -> bytes:
    return data[:4] + bytes(64) + data[68:]


def emptied(_: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("damage", [truncated, overwritten, emptied])
def test_a_file_that_is_damaged_after_the_plan_stops_the_run_early_and_is_named(
    local: Conversion, damage: Callable[[bytes], bytes]
) -> None:
    path = local.folder / "sources" / "01.nc"
    good, before = path.read_bytes(), path.stat()
    path.write_bytes(damage(good))
    with pytest.raises(frazil.IncompleteRunError, match=rf"01\.nc.*3 of 12 regions.*resume run {RUN_ID}"):
        local.run()
    local.assert_untouched()
    assert local.receipted().total() == HOURS // 2, "the first task is kept, and the third was not begun"
    kept = set(local.receipts())
    with pytest.raises(frazil.IncompleteRunError, match=r"01\.nc"):
        local.resume()
    assert set(local.receipts()) == kept
    path.write_bytes(good)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    written = chunks(local)
    local.resume()
    assert chunks(local) == written + REGIONS - HOURS // 2
    local.assert_published()


@pytest.mark.slow
def test_a_damaged_file_is_not_tried_again_by_workers(local: Conversion) -> None:
    path = local.folder / "sources" / "02.nc"
    good, before = path.read_bytes(), path.stat()
    path.write_bytes(good[:1000])
    with local.client(workers=1, attempts=5, backoff=30) as client:
        said = last(client.wait(25))
        client.assert_none_left()
    assert said["error"] == "IncompleteRunError"
    assert "02.nc" in said["says"]
    local.assert_untouched()
    assert local.receipted().total() == 2 * HOURS // 2
    path.write_bytes(good)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    local.resume()
    local.assert_published()


def test_a_file_that_is_gone_stops_the_run_and_can_come_back(local: Conversion) -> None:
    path = local.folder / "sources" / "03.nc"
    aside = path.rename(path.with_suffix(".aside"))
    with pytest.raises(frazil.IncompleteRunError, match=r"03\.nc"):
        local.run()
    local.assert_untouched()
    aside.rename(path)
    local.resume()
    local.assert_published()


def chunks(job: Conversion) -> int:
    return len(list(Path(job.target, "chunks").iterdir()))


@given(st.floats(0.001, 100), st.integers(1, 40))
def test_a_retry_waits_twice_as_long_each_time_within_a_minute_and_a_half(backoff: float, failures: int) -> None:
    wait = frazil.Retry(backoff=backoff).delay(failures)
    least = min(60.0, backoff * 2.0 ** (failures - 1))
    assert least <= wait <= 1.5 * least <= 90
