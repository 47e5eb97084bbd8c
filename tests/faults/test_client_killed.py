"""A client that dies, at each request that it sends and at each stage that it tells, and what resuming makes of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import icechunk
import pytest

import frazil
from frazil_functions.locations import storage_of

from .jobs import HOURS, TASKS, Clients, Files, Job, assert_whole, here
from .proxy import Kill, Proxy, Rule

WRITES = "PUT|POST|DELETE"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files.make(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def clients() -> Iterator[Clients]:
    with Clients() as running:
        yield running


def runs_of(job: Job) -> list[str]:
    return [one.run_id for one in frazil.runs(job.where)]


def assert_resumes(job: Job) -> None:
    """Fail unless resuming, or starting anew where nothing was begun, ends in one whole commit, and writes no region
    again that had a receipt."""
    known = "plan.json" in job.left()
    receipted = HOURS if "outcome.json" in job.left() or not job.unpublished() else job.receipted()
    assert runs_of(job) == ([job.run_id] if known else [])
    if not known:
        with pytest.raises(frazil.InvalidInputError, match="there is no run"):
            frazil.resume(job.where, job.run_id)
    chunks = job.chunks()
    said = here(job.resume() if known else job.run())
    assert "error" not in said, said
    job.assert_published(said["snapshot_id"])
    assert job.chunks() - chunks == HOURS - receipted


def kill_at(job: dict[str, Any], clients: Clients, proxy: Proxy, number: int, when: str) -> bool:
    """Kill a client at its n-th request that writes, before or after the server has it; False if it sent fewer."""
    kill = Kill(when="before" if when == "before" else "after")
    with proxy.injected(Rule(kill, method=WRITES, skip=number, times=1)) as rule:
        said = clients.say(job)
    assert (said is None) == bool(rule.struck), said
    return bool(rule.struck)


def whole_run(job: Job, clients: Clients, proxy: Proxy) -> list[str]:
    """The requests that write which one whole run sends."""
    proxy.forget()
    assert clients.say(job.run())
    job.assert_published()
    return [f"{one.request.method} {one.request.target}" for one in proxy.log(WRITES)]


@pytest.mark.parametrize("number", [0, 1, 3, 4, 6, 8, 16, 18, 20, 23, 48, 55, 57, 58, 60, 61])
def test_a_client_killed_at_a_request_loses_and_repeats_nothing(
    files: Files, clients: Clients, bucket: str, proxy: Proxy, number: int
) -> None:
    """One of each kind: the plan, the repository's making, the private branch, template, record, chunks, receipts, the
    data's commit, the move of the branch, the outcome, the private branch's removal, that of the receipts."""
    job = Job.make(files, f"s3://{bucket}/archive")
    assert kill_at(job.run(), clients, proxy, number, "before")
    assert_resumes(job)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_client_killed_at_any_request_loses_and_repeats_nothing(
    files: Files, clients: Clients, bucket: str, proxy: Proxy, when: str, every: int
) -> None:
    requests = whole_run(Job.make(files, f"s3://{bucket}/whole"), clients, proxy)
    assert len(requests) > HOURS + TASKS
    for number in range(0, len(requests), every):
        job = Job.make(files, f"s3://{bucket}/{number}")
        assert kill_at(job.run(), clients, proxy, number, when), requests[number]
        assert_resumes(job)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_finisher_killed_at_any_request_is_followed_by_another(
    files: Files, clients: Clients, bucket: str, proxy: Proxy, when: str, every: int
) -> None:
    for number in range(0, 100, every):
        job = Job.make(files, f"s3://{bucket}/{number}")
        assert clients.say(job.run(dies=("write", HOURS))) is None
        if not kill_at(job.finish(), clients, proxy, number, when):
            break
        chunks = job.chunks()
        said = here(job.finish())
        assert "error" not in said, said
        job.assert_published(said["snapshot_id"])
        assert job.chunks() == chunks
    assert number > 8


STAGES = [("template", 0), ("write", 0), ("write", 8), ("write", HOURS), ("verify", 0), ("publish", 0), ("done", 0)]


@pytest.mark.parametrize("dies", STAGES, ids=str)
def test_a_client_on_a_local_disk_killed_at_any_stage_loses_and_repeats_nothing(
    files: Files, clients: Clients, tmp_path: Path, dies: tuple[str, int]
) -> None:
    job = Job.make(files, tmp_path / "archive")
    assert clients.say(job.run(dies=dies)) is None
    assert_resumes(job)


def test_what_functions_write_after_their_client_was_killed_counts(
    files: Files, clients: Clients, tmp_path: Path
) -> None:
    job = Job.make(files, tmp_path / "archive")
    assert clients.say(job.run(backend="localhost", dies=("write", 4))) is None
    receipted = job.receipted()
    assert receipted >= 4
    said = clients.say(job.resume(backend="localhost"))
    assert said is not None
    assert "error" not in said, said
    assert job.commits() == [said["snapshot_id"]]
    assert_whole(job.read())
    assert list(job.repo.list_branches()) == ["main"]


def test_a_creation_that_was_killed_on_a_local_disk_is_gone_through_again(files: Files, tmp_path: Path) -> None:
    job = Job.make(files, tmp_path / "archive")
    icechunk.Repository.create(storage_of(job.where))
    (tmp_path / "archive" / "repo").unlink()
    assert_resumes(job)


def test_a_repository_is_not_created_beside_anything_else_in_a_bucket(files: Files, bucket: str, server: str) -> None:
    boto3.client("s3", endpoint_url=server).put_object(Bucket=bucket, Key="archive/data.nc", Body=b"precious")
    job = Job.make(files, f"s3://{bucket}/archive")
    said = here(job.run())
    assert said["error"] == "BackendError"
    assert "clean prefixes" in said["says"]
