"""Object storage that accepts requests and says nothing, or is slow: what is given up, and when."""

import time
from collections.abc import Callable
from typing import Any

import icechunk
import numpy as np
import pytest
import zarr

from frazil_functions.errors import BackendError
from frazil_functions.forks import dump_fork, load_fork
from frazil_functions.locations import Location, RequestLimits
from frazil_functions.repositories import open_repository
from frazil_functions.rundir import RunDirectory
from frazil_functions.storage import Patience

from .proxy import Proxy, Rule, Slow

SOON = RequestLimits(connecting=1, answering=1, altogether=2.5, stalling=1)
LATE = 1.5  # what a machine with other work to do adds
SILENT = Slow(3600)
VALUES = np.random.default_rng(2).normal(size=(4, 1 << 17))


@pytest.fixture
def where(bucket: str) -> str:
    """A repository with an array of four chunks of a mebibyte, the first of which is written."""
    where = f"s3://{bucket}/archive"
    session = open_repository(where).writable_session("main")
    group = zarr.open_group(session.store, mode="a")
    group.create_array("x", shape=VALUES.shape, chunks=(1, VALUES.shape[1]), dtype="f8", compressors=None)
    array(session)[0] = VALUES[0]
    session.commit("one")
    return where


def array(session: icechunk.Session | icechunk.ForkSession) -> Any:
    return zarr.open_group(session.store, mode="a")["x"]


def write(session: icechunk.Session | icechunk.ForkSession, number: int = 1) -> None:
    array(session)[number] = VALUES[number]


def assert_soon(began: float, operations: int = 1) -> None:
    """Fail unless so many operations one after another ended when they must, and only after they were tried again."""
    seconds = time.monotonic() - began
    assert SOON.answering < seconds < operations * SOON.altogether + LATE


@pytest.mark.parametrize("create", [True, False])
def test_a_silent_server_is_not_waited_for_to_open_a_repository(where: str, proxy: Proxy, *, create: bool) -> None:
    began = time.monotonic()
    with proxy.injected(Rule(SILENT)) as rule, pytest.raises(BackendError, match=r"cannot be reached.*timed out"):
        open_repository(where, create=create, limits=SOON)
    assert_soon(began)
    assert rule.struck > 1


def test_a_server_that_falls_silent_is_not_waited_for_to_open_a_repository(where: str, proxy: Proxy) -> None:
    proxy.forget()
    open_repository(where, limits=SOON)
    asked = len(proxy.log())
    looked = len(proxy.log()) // 2
    assert asked > looked
    began = time.monotonic()
    with proxy.injected(Rule(SILENT, skip=looked)), pytest.raises(BackendError, match=r"cannot be opened.*timed out"):
        open_repository(where, limits=SOON)
    assert_soon(began)


@pytest.mark.parametrize("method", [None, "PUT"])
def test_a_silent_server_is_not_waited_for_to_create_a_repository(
    bucket: str, proxy: Proxy, method: str | None
) -> None:
    began = time.monotonic()
    with (
        proxy.injected(Rule(SILENT, method=method)),
        pytest.raises(BackendError, match=r"cannot be reached.*timed out|cannot be created.*did not answer for 2\.5 s"),
    ):
        open_repository(f"s3://{bucket}/archive", limits=SOON)
    assert_soon(began)
    open_repository(f"s3://{bucket}/archive", begun=True)


def test_a_repository_keeps_no_limits_of_whoever_created_it(bucket: str) -> None:
    repo = open_repository(f"s3://{bucket}/archive", limits=SOON)
    kept = icechunk.Repository.fetch_config(repo.storage)
    assert kept is not None
    assert kept.storage is None or kept.storage.timeouts is None
    assert kept.manifest is not None


def test_a_silent_server_is_not_waited_for_to_put_a_chunk(where: str, proxy: Proxy) -> None:
    session = open_repository(where, limits=SOON).writable_session("main")
    began = time.monotonic()
    with proxy.injected(Rule(SILENT, method="PUT")) as rule, pytest.raises(icechunk.IcechunkError, match="timed out"):
        write(session)
    assert_soon(began)
    assert rule.struck > 1


def test_the_limits_travel_with_a_fork_to_a_function(where: str, proxy: Proxy) -> None:
    data = dump_fork(open_repository(where, limits=SOON).writable_session("main").fork())
    began = time.monotonic()
    with proxy.injected(Rule(SILENT, method="PUT")) as rule, pytest.raises(icechunk.IcechunkError, match="timed out"):
        write(load_fork(data))
    assert_soon(began)
    assert rule.struck > 1


def test_a_silent_server_is_not_waited_for_to_commit(where: str, proxy: Proxy) -> None:
    session = open_repository(where, limits=SOON).writable_session("main")
    write(session)
    began = time.monotonic()
    with proxy.injected(Rule(SILENT, method="PUT")), pytest.raises(icechunk.IcechunkError, match="timed out"):
        session.commit("two")
    assert_soon(began)


@pytest.mark.parametrize(("target", "operations"), [("/manifests/", 2), ("/chunks/", 1)])
def test_a_silent_server_is_not_waited_for_to_read(where: str, proxy: Proxy, target: str, operations: int) -> None:
    """A manifest is asked for ahead of time, and once more when it is needed."""
    session = open_repository(where, limits=SOON).readonly_session("main")
    began = time.monotonic()
    with proxy.injected(Rule(SILENT, target=target)), pytest.raises(icechunk.IcechunkError, match="timed out"):
        zarr.open_group(session.store, mode="r")["x"][0]
    assert_soon(began, operations)


def test_a_slow_download_may_take_longer_than_any_limit(where: str, proxy: Proxy) -> None:
    session = open_repository(where, limits=SOON).readonly_session("main")
    found: Any = zarr.open_group(session.store, mode="r")["x"]
    began = time.monotonic()
    with proxy.injected(Rule(Slow(bandwidth=250_000), target="/chunks/")) as rule:
        assert np.array_equal(found[0], VALUES[0])
    assert time.monotonic() - began > SOON.altogether
    assert rule.struck == 1


def test_a_slow_upload_may_take_as_long_as_an_answer(where: str, proxy: Proxy) -> None:
    limits = RequestLimits(connecting=1, answering=20, altogether=25)
    session = open_repository(where, limits=limits).writable_session("main")
    began = time.monotonic()
    with proxy.injected(Rule(Slow(bandwidth=250_000), target="/chunks/")) as rule:
        write(session)
    assert time.monotonic() - began > 3
    assert rule.struck == 1


def test_a_download_that_stalls_is_begun_again(where: str, proxy: Proxy) -> None:
    session = open_repository(where, limits=SOON).readonly_session("main")
    found: Any = zarr.open_group(session.store, mode="r")["x"]
    began = time.monotonic()
    with proxy.injected(Rule(Slow(bandwidth=1), method="GET", target="/chunks/", times=1)) as rule:
        assert np.array_equal(found[0], VALUES[0])
    assert rule.matched == 2
    assert time.monotonic() - began < 10


def test_a_server_that_takes_its_time_to_answer_does_not_stall(where: str, proxy: Proxy) -> None:
    limits = RequestLimits(connecting=1, answering=20, altogether=25, stalling=1)
    session = open_repository(where, limits=limits).writable_session("main")
    with proxy.injected(Rule(Slow(5), target="/chunks/")) as rule:
        write(session)
    assert rule.struck == 1


@pytest.mark.parametrize(
    "do",
    [
        lambda run: run.plan(),
        lambda run: run.put_plan(b"{}"),
        lambda run: run.list_receipts(),
        lambda run: run.modified(),
    ],
    ids=["get", "put", "list", "times"],
)
def test_a_silent_server_is_not_waited_for_to_keep_what_a_run_keeps(
    bucket: str, proxy: Proxy, do: Callable[[RunDirectory], object]
) -> None:
    patience = Patience(connecting=1, idle=1, retrying=1, first_pause=0.05, longest_pause=0.1)
    run = RunDirectory(Location(f"s3://{bucket}/archive.frazil/run"), patience)
    began = time.monotonic()
    with proxy.injected(Rule(SILENT)) as rule, pytest.raises(BackendError, match=r"archive\.frazil/run.* cannot be"):
        do(run)
    assert time.monotonic() - began < 2 * (patience.idle + patience.longest_pause) + LATE
    assert rule.struck >= 1
