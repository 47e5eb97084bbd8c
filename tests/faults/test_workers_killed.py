"""Workers that die: the run goes on by itself, and what has a receipt is not written again."""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from .datasets import Conversion, Noise, conversion, last, upload
from .processes import owners
from .proxy import Kill, Proxy, Request, Rule, Slow

CHUNKS = "/chunks/"
RECEIPTS = "/receipts/"
REGIONS = 24

pytestmark = pytest.mark.slow

type Victim = Callable[[Request], object] | None


@pytest.fixture
def job(bucket: str, server: str, tmp_path: Path) -> Conversion:
    noise = Noise(hours=12)
    sources = upload(noise.write(tmp_path / "sources"), bucket, server)
    return conversion(noise, f"s3://{bucket}/archive", tmp_path, sources=sources)


@pytest.fixture(params=["its function's process", "all of it"])
def victim(request: pytest.FixtureRequest, proxy: Proxy) -> Victim:
    """What dies of a worker: the process that sent a request, or the group that Lithops started with it."""

    def kill_group(sent: Request) -> None:
        for pid in owners(sent.port, urlsplit(proxy.url).port or 0):
            with suppress(ProcessLookupError):
                os.killpg(os.getpgid(pid), signal.SIGKILL)

    return None if request.param == "its function's process" else kill_group


def chunks_put(proxy: Proxy) -> int:
    """How many chunks were written."""
    return len([one for one in proxy.log("PUT", CHUNKS) if one.status == 200 or one.faults])


def test_a_worker_that_is_killed_before_it_starts_costs_nothing(job: Conversion) -> None:
    with job.client() as client:
        client.await_child(command=" -P ").kill()
        assert "published" in last(client.wait())
        client.assert_none_left()
    job.assert_published()


def test_a_worker_that_is_killed_in_a_read_costs_its_task_a_repetition(
    job: Conversion, proxy: Proxy, victim: Victim
) -> None:
    proxy.forget()
    rule = proxy.inject(Rule(Kill(victim), method="GET", target="raw/03", times=1))
    with job.client() as client:
        assert "published" in last(client.wait())
        client.assert_none_left()
    assert rule.struck == 1
    assert chunks_put(proxy) <= REGIONS + REGIONS // 2
    job.assert_published()


def test_a_worker_that_is_killed_after_its_receipt_has_nothing_written_again(
    job: Conversion, proxy: Proxy, victim: Victim
) -> None:
    proxy.forget()
    rule = proxy.inject(Rule(Kill(victim, "after"), method="PUT", target=RECEIPTS, times=1))
    with job.client(attempts=1) as client:
        assert "published" in last(client.wait())
        client.assert_none_left()
    assert rule.struck == 1
    assert len(proxy.log("PUT", RECEIPTS)) == 2
    assert chunks_put(proxy) == REGIONS
    job.assert_published()


def test_a_worker_that_is_killed_between_two_receipts_loses_what_follows_the_first(
    job: Conversion, proxy: Proxy, victim: Victim
) -> None:
    proxy.forget()
    proxy.inject(Rule(Slow(0.9), method="PUT", target=CHUNKS))
    rule = proxy.inject(Rule(Kill(victim, "after"), method="PUT", target=RECEIPTS, times=1))
    counted = []
    with job.client(attempts=2) as client:
        rule.wait()
        while client.line().get("stage") != "verify":
            pass
        counted.append(job.receipted())
        assert "published" in last(client.wait())
        client.assert_none_left()
    (counts,) = counted
    assert len(counts) == REGIONS
    assert set(counts.values()) == {1}
    assert REGIONS <= chunks_put(proxy) < REGIONS + REGIONS // 2
    assert len(proxy.log("PUT", RECEIPTS)) > 2
    job.assert_published()
