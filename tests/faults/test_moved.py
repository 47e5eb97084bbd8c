"""The branch moves while a run goes on: by disjoint commits, by overlapping ones, by being set elsewhere or deleted."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pytest
import zarr

import frazil
from frazil_functions.locking import exclusive
from frazil_functions.repositories import open_repository

from .jobs import HOURS, Clients, Files, Job, assert_whole, here

STAGES = [("template", 0), ("write", 0), ("write", 12), ("write", HOURS), ("verify", 0), ("publish", 0)]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files.make(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def clients() -> Iterator[Clients]:
    with Clients() as running:
        yield running


@pytest.fixture(params=["disk", "s3"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a repository is whose branch `main` has one group, and so is `dev`."""
    place = str(tmp_path / "archive")
    if request.param == "s3":
        place = f"s3://{request.getfixturevalue('bucket')}/archive"
    repo = open_repository(place)
    commit(repo, "before")
    repo.create_branch("dev", repo.lookup_branch("main"))
    return place


def commit(repo: icechunk.Repository, group: str, branch: str = "main") -> str:
    """Somebody writes a group of ten values."""
    session = repo.writable_session(branch)
    root = zarr.open_group(session.store, path=group, mode="a")
    root.create_array("x", data=np.arange(10), chunks=(5,))
    return session.commit(f"somebody wrote {group}")


def assert_kept(repo: icechunk.Repository, group: str, branch: str = "main") -> None:
    """Fail unless what somebody wrote is there."""
    found = zarr.open_group(repo.readonly_session(branch).store, path=group, mode="r")["x"]
    assert isinstance(found, zarr.Array)
    np.testing.assert_array_equal(found[...], np.arange(10))


def run(job: Job, at: tuple[str, int], meddle: Callable[[], object]) -> dict[str, Any]:
    """Run a job, and let somebody meddle once at a stage."""
    stage, done = at
    met = []

    def listen(progress: frazil.Progress) -> None:
        if progress.stage == stage and progress.done >= done and not met:
            met.append(meddle())

    with frazil.SerialExecutor() as executor:
        try:
            result = frazil.run(job.plan, executor=executor, run_id=job.run_id, listener=listen)
        except frazil.FrazilError as error:
            assert met
            return {"error": type(error).__name__, "says": str(error)}
    assert met
    return {"snapshot_id": result.snapshot_id}


@pytest.mark.parametrize("at", STAGES, ids=str)
def test_disjoint_commits_at_any_stage_survive_and_so_does_the_run(
    files: Files, where: str, at: tuple[str, int]
) -> None:
    job = Job.make(files, where, group="model")
    said = run(job, at, lambda: commit(job.repo, "other"))
    job.assert_published(said["snapshot_id"], branches=("dev", "main"))
    for group in ("before", "other"):
        assert_kept(job.repo, group)
    assert job.chunks() == HOURS


def overlapping(job: Job) -> None:
    """Somebody publishes the same group."""
    other = job.named("other")
    with frazil.SerialExecutor() as executor:
        frazil.run(other.plan, executor=executor, run_id=other.run_id)


@pytest.mark.parametrize("at", STAGES, ids=str)
def test_overlapping_commits_are_named_and_the_run_publishes_when_they_are_taken_back(
    files: Files, where: str, at: tuple[str, int]
) -> None:
    job = Job.make(files, where, group="model")
    base = job.repo.lookup_branch("main")
    said = run(job, at, lambda: overlapping(job))
    assert said["error"] == "ConflictError"
    assert (
        f"the group '/model'; the array '/model/tas', {HOURS} chunks between (0, 0, 0) and (23, 0, 0)" in said["says"]
    )
    tip = job.repo.lookup_branch("main")
    assert_whole(job.read())
    known = job.run_id in [status.run_id for status in frazil.runs(job.where)]
    again = here(job.resume() if known else job.run())
    assert again["error"] == "ConflictError"
    assert again["exit"] == 1
    assert job.repo.lookup_branch("main") == tip
    job.repo.reset_branch("main", base)
    chunks, receipted = job.chunks(), job.receipted()
    published = here(job.resume() if known else job.run())
    job.assert_published(published["snapshot_id"], branches=("dev", "main"))
    assert job.chunks() - chunks == HOURS - receipted


def test_a_run_that_could_not_be_published_is_not_written_on(files: Files, clients: Clients, where: str) -> None:
    job = Job.make(files, where, group="model")
    assert clients.say(job.run(dies=("write", 8))) is None
    overlapping(job)
    chunks = job.chunks()
    assert here(job.resume())["error"] == "ConflictError"
    assert job.chunks() == chunks


@pytest.mark.parametrize("at", STAGES[1:], ids=str)
def test_a_branch_that_is_deleted_is_a_conflict_until_it_is_made_again(
    files: Files, where: str, at: tuple[str, int]
) -> None:
    job = Job.make(files, where, group="model", branch="dev")
    base = job.repo.lookup_branch("dev")
    said = run(job, at, lambda: job.repo.delete_branch("dev"))
    assert said["error"] == "ConflictError"
    assert "make the branch again, and resume" in said["says"]
    assert here(job.resume())["error"] == "ConflictError"
    job.repo.create_branch("dev", base)
    published = here(job.resume())
    job.assert_published(published["snapshot_id"])


@pytest.mark.parametrize("to", ["older", "unrelated"])
@pytest.mark.parametrize("at", STAGES[1:], ids=str)
def test_a_branch_that_is_set_elsewhere_is_a_conflict_until_it_is_set_back(
    files: Files, where: str, at: tuple[str, int], to: str
) -> None:
    repo = open_repository(where)
    first = list(repo.ancestry(branch="main"))[-1].id
    repo.create_branch("side", first)
    unrelated = commit(repo, "unrelated", "side")
    job = Job.make(files, where, group="model")
    base = repo.lookup_branch("main")
    said = run(job, at, lambda: repo.reset_branch("main", first if to == "older" else unrelated))
    assert said["error"] == "ConflictError"
    assert f"which does not descend from {base}" in said["says"]
    assert here(job.resume())["error"] == "ConflictError"
    repo.reset_branch("main", base)
    published = here(job.resume())
    job.assert_published(published["snapshot_id"], branches=("dev", "side"))
    assert_kept(repo, "before")


@contextlib.contextmanager
def moving(job: Job, seconds: float) -> Iterator[list[str]]:
    """Somebody who commits a group to the branch again and again, so many seconds apart; what was committed."""
    stop, written = threading.Event(), []

    def move() -> None:
        repo = job.repo
        while not stop.is_set():
            # A local disk loses commits of those who do not take the repository's lock.
            with contextlib.suppress(icechunk.ConflictError), exclusive(job.where):
                commit(repo, f"others/{len(written)}")
                written.append(f"others/{len(written)}")
            stop.wait(seconds)

    mover = threading.Thread(target=move)
    mover.start()
    try:
        yield written
    finally:
        stop.set()
        mover.join()


def test_a_run_is_published_on_a_branch_that_moves_again_and_again(files: Files, clients: Clients, where: str) -> None:
    job = Job.make(files, where, group="model")
    assert clients.say(job.run(dies=("write", HOURS))) is None
    with moving(job, 0.25 if "://" not in where else 2.0) as written:
        said = clients.say(job.resume())
    assert said is not None
    assert "error" not in said, said
    assert written
    job.assert_published(said["snapshot_id"], branches=("dev", "main"))
    for group in written:
        assert_kept(job.repo, group)


def test_a_run_that_finds_no_gap_between_commits_says_so_and_publishes_when_there_is_one(
    files: Files, clients: Clients, where: str
) -> None:
    """Publishing on top of another commit may take longer than these commits are apart; over HTTP it does."""
    job = Job.make(files, where, group="model")
    assert clients.say(job.run(dies=("write", HOURS))) is None
    with moving(job, 0.02 if "://" in where else 0.05) as written:
        said = clients.say(job.finish())
    assert said is not None
    if "error" in said:
        assert said["error"] == "ConflictError"
        assert "moved 10 times" in said["says"]
    chunks = job.chunks()
    done = here(job.resume())
    job.assert_published(done["snapshot_id"], branches=("dev", "main"))
    assert job.chunks() == chunks
    for group in ("before", *written):
        assert_kept(job.repo, group)
