"""Storage that fails: object stores that throttle, dawdle and hang up, disks that are full, clocks that are wrong."""

import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import icechunk
import pytest

import frazil
from frazil.execution.executor import Outcome
from frazil.execution.serial import SerialCalls
from frazil_functions import handler
from frazil_functions.records import RunRecord
from frazil_functions.rundir import RunDirectory
from frazil_functions.runs.run import open_run
from frazil_functions.runs.start import start
from frazil_functions.runs.worker import Place, work, write_missing

from .datasets import RUN_ID, Conversion, Noise, conversion, last
from .processes import Program
from .proxy import Answer, Cut, Exchange, Fault, Proxy, Rule, Slow

REGIONS = 12

KEPT = {
    "the plan": r"/plan\.json$",
    "the fork": r"/fork-[0-9a-f]+$",
    "the record": r"/run\.json$",
    "a receipt": "/receipts/",
    "the outcome": r"/outcome\.json$",
    "a chunk": "/chunks/",
}

CUTS = {"no request": Cut.before, "half a request": Cut.within, "no response": Cut.after}


@pytest.fixture
def job(bucket: str, proxy: Proxy, tmp_path: Path) -> Conversion:
    made = conversion(Noise(), f"s3://{bucket}/archive", tmp_path)
    proxy.forget()
    return made


def chunks_put(proxy: Proxy) -> int:
    return len(proxy.log("PUT", "/chunks/"))


@pytest.mark.parametrize("what", KEPT)
@pytest.mark.parametrize("how", CUTS)
def test_one_connection_that_breaks_is_not_noticed(job: Conversion, proxy: Proxy, what: str, how: str) -> None:
    rule = proxy.inject(Rule(CUTS[how], method="PUT", target=KEPT[what], times=1))
    job.run(retry=frazil.Retry(1))
    assert rule.struck == 1
    assert chunks_put(proxy) == REGIONS + (what == "a chunk")
    job.assert_published()


@pytest.mark.parametrize("what", ["the plan", "the fork", "the record", "a receipt"])
def test_an_answer_that_breaks_off_is_asked_for_again(job: Conversion, proxy: Proxy, what: str) -> None:
    start(job.plan, job.directory)
    rule = proxy.inject(Rule(Cut.within, method="GET", target=KEPT[what], times=2))
    job.resume(retry=frazil.Retry(1))
    assert rule.struck == 2
    assert chunks_put(proxy) == REGIONS
    job.assert_published()


@pytest.mark.parametrize("number", range(5))
def test_a_lost_response_to_any_move_of_a_branch_is_not_noticed(job: Conversion, proxy: Proxy, number: int) -> None:
    rule = proxy.inject(Rule(Cut.after, method="PUT", target=r"/archive/repo(\?|$)", skip=number, times=1))
    job.run(retry=frazil.Retry(1))
    assert rule.struck == 1
    job.assert_published()


@pytest.mark.slow
@pytest.mark.parametrize("what", KEPT)
def test_a_store_that_throttles_for_seconds_is_waited_for(job: Conversion, proxy: Proxy, what: str) -> None:
    rule = proxy.inject(Rule(Answer(503), method="PUT", target=KEPT[what], seconds=4))
    began = time.monotonic()
    job.run(retry=frazil.Retry(1))
    assert rule.struck > 1
    assert time.monotonic() - began > 2
    job.assert_published()


@pytest.mark.slow
def test_a_store_that_throttles_everything_for_seconds_is_waited_for(job: Conversion, proxy: Proxy) -> None:
    rule = proxy.inject(Rule(Answer(503), seconds=4))
    job.run(retry=frazil.Retry(1))
    assert rule.struck > 1
    job.assert_published()


@pytest.mark.slow
@pytest.mark.parametrize("fault", [Slow(0.4), Slow(bandwidth=20_000)], ids=["late", "narrow"])
def test_a_slow_store_only_takes_longer(job: Conversion, proxy: Proxy, fault: Fault) -> None:
    rule = proxy.inject(Rule(fault, target="archive"))
    job.run(retry=frazil.Retry(1))
    assert rule.struck > REGIONS
    assert chunks_put(proxy) == REGIONS
    job.assert_published()


@pytest.mark.parametrize("code", ["AccessDenied", "InvalidAccessKeyId"])
@pytest.mark.parametrize("what", KEPT)
def test_a_store_that_refuses_fails_the_run_and_says_so(job: Conversion, proxy: Proxy, what: str, code: str) -> None:
    rule = proxy.inject(Rule(Answer(403, code), method="PUT", target=KEPT[what]))
    with pytest.raises(frazil.FrazilError, match=r"403|injected|[Pp]ermission|[Aa]ccess|denied|refused"):
        job.run(retry=frazil.Retry(1))
    proxy.withdraw(rule)
    if what != "the outcome":
        job.assert_untouched()
    if job.directory.record() is None:
        job.run()
    else:
        job.resume()
    job.assert_published()


def test_a_store_that_refuses_reading_back_costs_no_receipt(job: Conversion, proxy: Proxy) -> None:
    rule = proxy.inject(Rule(Answer(403, "ExpiredToken"), method="GET", target="/chunks/"))
    with pytest.raises(frazil.FrazilError, match="could not be read back just now"):
        job.run(verify="full")
    proxy.withdraw(rule)
    receipts = job.receipts()
    assert receipts
    job.assert_untouched()
    proxy.forget()
    job.resume()
    job.assert_published()
    assert chunks_put(proxy) == 0, "nothing is written again"


def test_a_record_that_was_stored_without_an_answer_keeps_its_branch(job: Conversion, proxy: Proxy) -> None:
    """Whoever started the run is told that it failed, and it can be published all the same."""

    class Interrupted(RunDirectory):
        def put_record(self, record: RunRecord) -> RunRecord:
            super().put_record(record)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(job.plan, Interrupted(job.directory.location))
    job.resume()
    job.assert_published()


@pytest.fixture
def full(small_disk: Path, tmp_path: Path) -> Conversion:
    """Ten MB of noise on a disk that has four left."""
    made = conversion(Noise(width=50_000), str(small_disk / "archive"), tmp_path)
    (small_disk / "others").write_bytes(bytes(16 << 20))
    return made


def test_a_disk_that_is_full_fails_the_run_which_goes_on_when_there_is_room(
    full: Conversion, small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(frazil.IncompleteRunError, match=rf"No space left on device.*resume run {RUN_ID}"):
        full.run(retry=frazil.Retry(2, backoff=0.01))
    full.assert_untouched()
    with pytest.raises(frazil.FrazilError, match=r"No space left on device"):
        full.resume(retry=frazil.Retry(1))
    assert "never retrieved" not in caplog.text
    (small_disk / "others").unlink()
    full.resume()
    full.assert_published()


@pytest.mark.parametrize("stage", ["template", "write", "verify", "publish"])
def test_a_disk_that_fills_up_at_any_step_fails_the_run_which_goes_on_when_there_is_room(
    small_disk: Path, tmp_path: Path, stage: str
) -> None:
    job = conversion(Noise(), str(small_disk / "archive"), tmp_path)
    others = small_disk / "others"

    def fill(progress: frazil.Progress) -> None:
        if progress.stage == stage and not others.exists():
            with others.open("wb", buffering=0) as file:
                try:
                    while file.write(bytes(1 << 12)):
                        pass
                except OSError:
                    return

    with pytest.raises((frazil.FrazilError, icechunk.IcechunkError, OSError), match=r"No space left on device"):
        job.run(retry=frazil.Retry(1), listener=fill)
    if stage != "publish":
        job.assert_untouched()
    others.unlink()
    if job.directory.record() is None:
        job.run()
    else:
        job.resume()
    job.assert_published()


@pytest.mark.slow
def test_a_file_that_may_not_grow_fails_the_run_and_says_so(tmp_path: Path) -> None:
    job = conversion(Noise(width=50_000), str(tmp_path / "archive"), tmp_path)
    with job.client(workers=0, largest_file=200_000, attempts=1) as client:
        said = last(client.wait())
    assert "File too large" in said["says"]
    assert said["error"] == "IncompleteRunError"
    job.assert_untouched()
    job.resume()
    job.assert_published()


LIST_RUNS = """
import dataclasses, json, sys
import icechunk, frazil
icechunk.set_logs_filter("icechunk=error")
print(json.dumps([dataclasses.asdict(run) for run in frazil.runs(json.loads(sys.argv[1]))]))
"""

WRITE = """
import json, sys
import icechunk
from frazil_functions.locations import Location
from frazil_functions.rundir import RunDirectory
from frazil_functions.runs.run import open_run
from frazil_functions.runs.worker import write_missing
icechunk.set_logs_filter("icechunk=error")
run = open_run(RunDirectory(Location(json.loads(sys.argv[1]))))
print(json.dumps(sum(write_missing(run, number).regions for number in (0, 1))))
"""


@pytest.mark.parametrize("hours", [5, -5])
def test_runs_are_listed_sanely_by_clocks_that_are_wrong(
    tmp_path: Path, skew: Callable[[int], dict[str, str]], hours: int
) -> None:
    job = conversion(Noise(), str(tmp_path / "archive"), tmp_path)
    start(job.plan, job.directory)
    with Program(LIST_RUNS, job.target, environment=skew(hours * 3600)) as client:
        (listed,) = client.line()
    assert listed["state"] == "writing"
    assert listed["age"] == pytest.approx(max(0, hours) * 3600, abs=120)


@pytest.mark.parametrize("hours", [5, -5])
def test_a_function_whose_clock_is_wrong_writes_as_others_do(
    tmp_path: Path, skew: Callable[[int], dict[str, str]], hours: int
) -> None:
    job = conversion(Noise(), str(tmp_path / "archive"), tmp_path)
    start(job.plan, job.directory)
    with Program(WRITE, job.directory.location.url, environment=skew(hours * 3600)) as function:
        assert function.line() == REGIONS
    assert all(one.started == pytest.approx(time.time() + hours * 3600, abs=120) for one in job.receipts().values())
    written = len(list(Path(job.target, "chunks").iterdir()))
    job.resume()
    assert len(list(Path(job.target, "chunks").iterdir())) == written
    job.assert_published()


@pytest.mark.parametrize("hours", [5, -5])
def test_a_client_whose_clock_is_wrong_publishes_nothing_and_is_told_of_its_clock(
    tmp_path: Path, skew: Callable[[int], dict[str, str]], hours: int
) -> None:
    job = conversion(Noise(), str(tmp_path / "archive"), tmp_path)
    with job.client(workers=0, environment=skew(hours * 3600)) as client:
        side = "ahead of" if hours > 0 else "behind"
        assert f"clock is {abs(hours) * 3600} s {side} that of the storage" in last(client.wait())["says"]
    job.assert_untouched()
    job.run()
    job.assert_published()


def lists(proxy: Proxy) -> list[Exchange]:
    return proxy.log("GET", r"[?&]list-type=2")


def assert_about_one_a_second(found: list[Exchange], seconds: float, beside: int) -> None:
    """Fail if there are more lists than seconds, less a few `beside` the loop; or so many that none is a loop's."""
    assert seconds / 2 < len(found) <= seconds + beside, [round(one.request.began, 2) for one in found]


@pytest.mark.slow
def test_a_client_lists_the_receipts_of_a_run_once_a_second(job: Conversion, proxy: Proxy) -> None:
    proxy.inject(Rule(Slow(5), method="PUT", target="/chunks/"))
    with job.client() as client:
        while client.line()["stage"] != "write":
            pass
        proxy.forget()
        began = time.monotonic()
        while client.line()["stage"] != "verify":
            pass
        seconds = time.monotonic() - began
        found = lists(proxy)
        assert "published" in last(client.wait())
    assert seconds > 8
    assert_about_one_a_second(found, seconds, beside=2)
    assert min(after.request.began - before.request.began for before, after in pairwise(found)) > 0.9
    job.assert_published()


@pytest.mark.slow
def test_a_worker_that_waits_lists_the_receipts_of_a_run_once_a_second(job: Conversion, proxy: Proxy) -> None:
    run = start(job.plan, job.directory)
    ended = []
    waiting = threading.Thread(
        target=lambda: ended.append(work(Place(1, 2), job.directory, lambda: open_run(job.directory)))
    )
    began = time.monotonic()
    waiting.start()
    time.sleep(10)
    write_missing(run, 0)
    waiting.join(30)
    assert ended[0] is not None
    assert_about_one_a_second(lists(proxy), time.monotonic() - began, beside=4)
    job.assert_published()


class Flaky(frazil.SerialExecutor):
    """Calls of which the first ten fail at once."""

    def calls[T, R](self, function: Callable[[T], R]) -> SerialCalls[T, R]:
        return _FlakyCalls(function) if function is handler.write else super().calls(function)


class _FlakyCalls[T, R](SerialCalls[T, R]):
    failures = 0

    def next(self, timeout: float | None = None) -> Outcome[R] | None:
        if self.failures == 10 or not self._queue:
            return super().next(timeout)
        self.failures += 1
        return Outcome(self._queue.popleft()[0], error=frazil.BackendError("no room"))


@pytest.mark.slow
def test_tasks_that_fail_again_and_again_add_no_lists(job: Conversion, proxy: Proxy) -> None:
    job.run(executor=Flaky(), retry=frazil.Retry(attempts=11, backoff=0.0), verify="none")
    found = lists(proxy)
    assert len(found) > 4
    assert all(after.request.began - before.request.began > 0.9 for before, after in pairwise(found[:5]))
    job.assert_published()
