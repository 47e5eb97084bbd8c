"""Workers that stop without dying: late calls get a second one, and the run does not wait for them."""

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Self
from urllib.parse import urlsplit

import pytest

import frazil
from frazil.execution.executor import Outcome
from frazil_functions import handler
from frazil_functions.tasks import WriteTask

from .datasets import Conversion, Noise, conversion, last, upload
from .processes import owners
from .proxy import Kill, Proxy, Request, Rule

pytestmark = pytest.mark.slow

TASKS = 12


@pytest.fixture
def job(bucket: str, server: str, tmp_path: Path) -> Conversion:
    """As many files as tasks, one region each."""
    noise = Noise(files=TASKS, hours=2)
    sources = upload(noise.write(tmp_path / "sources"), bucket, server)
    return conversion(noise, f"s3://{bucket}/archive", tmp_path, sources=sources, tasks=TASKS)


class Stopping:
    """Stops the first process that reads a file, with SIGSTOP; lets it go on when told to."""

    def __init__(self, proxy: Proxy, file: str) -> None:
        self.stopped: list[int] = []
        self.again = threading.Event()
        self._port = urlsplit(proxy.url).port or 0
        proxy.inject(Rule(Kill(self._stop), method="GET", target=file))

    def _stop(self, request: Request) -> None:
        senders = owners(request.port, self._port)
        if not self.stopped:
            for pid in senders:
                os.kill(pid, signal.SIGSTOP)
            self.stopped += senders
        elif not set(senders) & set(self.stopped):
            self.again.set()

    def go_on(self) -> None:
        for pid in self.stopped:
            os.kill(pid, signal.SIGCONT)


def test_a_worker_that_stops_is_doubled_and_the_run_ends_without_it(job: Conversion, proxy: Proxy) -> None:
    stopping = Stopping(proxy, "raw/03")
    with job.client(workers=3) as client:
        assert "published" in last(client.wait(120))
        assert stopping.again.is_set()
        client.assert_none_left()
    job.assert_published()


def test_without_backups_a_worker_that_stops_is_waited_for(job: Conversion, proxy: Proxy) -> None:
    stopping = Stopping(proxy, "raw/03")
    with job.client(workers=3, backups=False) as client:
        while client.line().get("done") != TASKS - 1:
            pass
        until = time.monotonic() + 15
        while time.monotonic() < until:
            assert client.code is None
            time.sleep(0.1)
        assert not stopping.again.is_set()
        job.assert_untouched()
        stopping.go_on()
        assert "published" in last(client.wait(60))
        client.assert_none_left()
    job.assert_published()


def test_a_worker_that_goes_on_beside_its_backup_does_no_harm(job: Conversion, proxy: Proxy) -> None:
    stopping = Stopping(proxy, "raw/03")
    with job.client(workers=3) as client:
        assert stopping.again.wait(120)
        stopping.go_on()
        assert "published" in last(client.wait(60))
        client.assert_none_left()
    job.assert_published()


class Threads(frazil.SerialExecutor):
    """Calls in two threads of this process, each of which takes its time; the first call of task 0 hangs."""

    workers = 2

    def calls[T, R](self, function: Callable[[T], R]) -> Any:
        return _ThreadedCalls(function) if function is handler.write else super().calls(function)


class _ThreadedCalls:
    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function
        self._pool = ThreadPoolExecutor(Threads.workers)
        self._ended: SimpleQueue[Outcome[Any]] = SimpleQueue()
        self._begun: dict[int, float] = {}
        self._left = threading.Event()
        self._submitted = self._given = 0

    def submit(self, tasks: Sequence[WriteTask]) -> None:
        for number, task in enumerate(tasks, self._submitted):
            self._pool.submit(self._call, number, task)
        self._submitted += len(tasks)

    def _call(self, number: int, task: WriteTask) -> None:
        self._begun[number] = time.monotonic()
        if number == 0 and self._left.wait():
            return
        time.sleep(0.4)
        value = self._function(task)
        del self._begun[number]
        self._ended.put(Outcome(number, value))

    def next(self, timeout: float | None = None) -> Outcome[Any] | None:
        with suppress(Empty):
            outcome = self._ended.get(timeout=timeout)
            self._given += 1
            return outcome
        return None

    @property
    def outstanding(self) -> int:
        return self._submitted - self._given

    def running(self) -> Mapping[int, float]:
        return {number: time.monotonic() - since for number, since in self._begun.copy().items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._left.set()
        self._pool.shutdown()


def test_a_call_is_not_excused_by_the_time_that_others_queued(tmp_path: Path) -> None:
    job = conversion(Noise(files=24, hours=2), str(tmp_path / "archive"), tmp_path, tasks=24)
    times: dict[int, float] = {}

    def listen(progress: frazil.Progress) -> None:
        times.setdefault(progress.done, time.monotonic())

    job.run(executor=Threads(), listener=listen)
    # 23 calls queued for ten seconds behind each other, and took half a second each.
    assert times[24] - times[23] < 3.5
    job.assert_published()
