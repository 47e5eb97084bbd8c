"""Workers that stop without dying: late calls get a second one, and the run does not wait for them."""

import os
import signal
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

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
