"""What garbage collection goes by: ages of branches and directories; and what its summary says."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import icechunk
import pytest
import zarr

from frazil_functions.errors import InvalidInputError
from frazil_functions.locations import Location, location_of
from frazil_functions.locking import exclusive
from frazil_functions.rundir import RunDirectory, RunOutcome, RunRecord, RunTarget
from frazil_functions.runs.clocks import safe_now
from frazil_functions.runs.garbage import MARGIN, Ages, Collected, Objects, collect
from frazil_functions.runs.start import runs_of
from frazil_functions.runs.traces import branch_traces, run_traces

DAY = 86400.0
HOUR = MARGIN.total_seconds()


@pytest.fixture
def location(repo: icechunk.Repository) -> Location:
    found = location_of(repo)
    assert found is not None
    return found


@pytest.fixture
def directory(location: Location) -> RunDirectory:
    return RunDirectory(runs_of(location).below("one"))


def commit(repo: icechunk.Repository, branch: str, name: str) -> str:
    session = repo.writable_session(branch)
    zarr.open_group(session.store, path=name, mode="a")
    return session.commit(name)


def record_of(repo: icechunk.Repository, started: float, run_id: str = "one") -> RunRecord:
    base = repo.lookup_branch("main")
    target = RunTarget(location_of(repo), base, f"frazil/{run_id}", base, "fork-0123456789abcdef")
    return RunRecord(run_id, "", "", started, {}, (target,), 1, 1, 1, "", "none")


def let_be(directory: RunDirectory, name: str, seconds: float) -> None:
    """Let an object have been put so many seconds ago."""
    at = time.time() - seconds
    os.utime(Path(directory.location.url) / name, (at, at))


def test_a_branch_that_was_just_made_is_young_however_old_the_snapshot_is(
    repo: icechunk.Repository, location: Location
) -> None:
    commit(repo, "main", "base")
    time.sleep(1.0)
    before = time.time()
    repo.create_branch("frazil/new", repo.lookup_branch("main"))
    ages = Ages(abandon_after=timedelta(seconds=0.8))
    assert collect(repo, location, ages, delete=True, now=before + 0.5).branches == ()
    assert collect(repo, location, ages, delete=True, now=time.time() + 1.0).branches == ("frazil/new",)


def test_a_branch_is_as_old_as_its_making_and_as_lively_as_its_last_commit(repo: icechunk.Repository) -> None:
    before = time.time()
    repo.create_branch("frazil/a", repo.lookup_branch("main"))
    between = time.time()
    commit(repo, "main", "other")
    commit(repo, "frazil/a", "template")
    repo.create_branch("frazil/b", repo.lookup_branch("main"))
    first, second = branch_traces(repo, time.time())
    assert (first.name, first.run_id, second.name) == ("frazil/a", "a", "frazil/b")
    assert before <= first.since <= between <= first.last <= second.since == second.last


def test_a_branch_from_the_future_is_no_younger_than_now(repo: icechunk.Repository) -> None:
    repo.create_branch("frazil/a", repo.lookup_branch("main"))
    now = time.time() - DAY
    assert [branch.since for branch in branch_traces(repo, now)] == [now]


def test_a_repository_without_private_branches_has_none(repo: icechunk.Repository) -> None:
    commit(repo, "main", "a")
    assert branch_traces(repo, time.time()) == []


def test_a_run_is_as_old_as_the_earliest_of_its_clocks(repo: icechunk.Repository, directory: RunDirectory) -> None:
    directory.put_plan(b"{}")
    directory.put_record(record_of(repo, time.time() + 5 * DAY))
    let_be(directory, "plan.json", 2 * DAY)
    (trace,) = run_traces(directory.location.parent)
    assert time.time() - trace.since == pytest.approx(2 * DAY, abs=60)
    assert time.time() - trace.last == pytest.approx(0, abs=60)


def test_a_directory_that_was_copied_is_as_old_as_its_record_says(
    repo: icechunk.Repository, directory: RunDirectory
) -> None:
    directory.put_plan(b"{}")
    directory.put_record(record_of(repo, time.time() - 3 * DAY))
    (trace,) = run_traces(directory.location.parent)
    assert time.time() - trace.since == pytest.approx(3 * DAY, abs=60)


def test_a_run_that_is_just_starting_holds_back_what_is_newer_than_its_plan(
    repo: icechunk.Repository, location: Location, directory: RunDirectory
) -> None:
    directory.put_plan(b"{}")
    let_be(directory, "plan.json", 10 * DAY)
    found = collect(repo, location)
    assert (found.held_by, found.abandoned) == ("one", ())
    assert time.time() - found.cutoff == pytest.approx(10 * DAY + HOUR, abs=60)


def test_a_start_that_came_to_nothing_is_abandoned(
    repo: icechunk.Repository, location: Location, directory: RunDirectory
) -> None:
    directory.put_plan(b"{}")
    let_be(directory, "plan.json", 31 * DAY)
    assert collect(repo, location, delete=True).abandoned == ("one",)
    outcome = directory.outcome()
    assert outcome is not None
    assert outcome.state == "abandoned"


def test_the_margin_is_kept_by_age_too(repo: icechunk.Repository, location: Location) -> None:
    found = collect(repo, location, Ages(timedelta()))
    assert found.held_by == ""
    assert time.time() - found.cutoff == pytest.approx(HOUR, abs=60)


def test_the_latest_branch_keeps_a_silent_run_alive(
    repo: icechunk.Repository, location: Location, directory: RunDirectory
) -> None:
    repo.create_branch("frazil/one", repo.lookup_branch("main"))
    directory.put_plan(b"{}")
    let_be(directory, "plan.json", 31 * DAY)
    assert collect(repo, location, delete=True).abandoned == ()


def test_a_run_that_was_published_is_never_abandoned(
    repo: icechunk.Repository, location: Location, directory: RunDirectory
) -> None:
    directory.put_plan(b"{}")
    record = directory.put_record(record_of(repo, time.time()))
    directory.put_outcome(RunOutcome("published", (record.targets[0].base,), time.time()))
    found = collect(repo, location, delete=True, now=time.time() + 40 * DAY)
    assert (found.abandoned, found.directories) == ((), ("one",))


def test_objects_of_a_local_repository_are_deleted_under_its_lock(
    repo: icechunk.Repository, location: Location
) -> None:
    with ThreadPoolExecutor(1) as pool:
        with exclusive(location):
            done = pool.submit(collect, repo, location, delete=True, now=time.time())
            with pytest.raises(TimeoutError):
                done.result(1.0)
        assert done.result(10.0).complete


def test_a_branch_of_a_later_run_of_the_same_name_is_not_that_of_the_ended_one(
    repo: icechunk.Repository, location: Location, directory: RunDirectory
) -> None:
    directory.put_plan(b"{}")
    directory.put_outcome(RunOutcome("published", (), time.time()))
    let_be(directory, "outcome.json", 60)
    repo.create_branch("frazil/one", repo.lookup_branch("main"))
    found = collect(repo, location, Ages(timedelta()), delete=True, now=time.time() + 2 * DAY)
    assert (found.branches, found.held_by) == ((), "frazil/one")
    assert "frazil/one" in repo.list_branches()


def test_a_removal_that_was_interrupted_is_finished(
    repo: icechunk.Repository, location: Location, directory: RunDirectory
) -> None:
    directory.put_plan(b"{}")
    directory.put_record(record_of(repo, time.time()))
    directory.put_outcome(RunOutcome("published", (), time.time()))
    for name in ("plan.json", "run.json"):  # the order in which they go
        (Path(directory.location.url) / name).unlink()
        (trace,) = run_traces(directory.location.parent)
        assert trace.ended
    assert collect(repo, location, delete=True, now=time.time() + 8 * DAY).directories == ("one",)
    assert not Path(directory.location.url).exists()


def test_folders_that_hold_nothing_of_a_run_are_left_alone(repo: icechunk.Repository, location: Location) -> None:
    folder = Path(runs_of(location).url) / "notes"
    folder.mkdir(parents=True)
    (folder / "todo.txt").write_text("mine")
    found = collect(repo, location, Ages(timedelta(), timedelta()), delete=True, now=time.time() + 99 * DAY)
    assert found.complete
    assert (found.in_flight, found.abandoned, found.directories) == ((), (), ())
    assert (folder / "todo.txt").read_text() == "mine"


def test_receipts_that_came_after_the_end_go_too(
    repo: icechunk.Repository, location: Location, directory: RunDirectory
) -> None:
    directory.put_outcome(RunOutcome("published", (), time.time()))
    name = directory.put_fork(b"late")
    collect(repo, location, delete=True)
    assert name not in directory.modified()
    assert directory.outcome() is not None


def test_the_time_is_the_storage_s_where_that_is_earlier(tmp_path: Path) -> None:
    before = time.time()
    now = safe_now(Location(str(tmp_path / "place")))
    assert before - 1 <= now <= time.time()
    assert list((tmp_path / "place").iterdir()) == []


@pytest.mark.parametrize("ages", [{"older_than": timedelta(seconds=-1)}, {"abandon_after": timedelta(days=-1)}])
def test_negative_ages_are_refused(ages: dict[str, timedelta]) -> None:
    with pytest.raises(InvalidInputError, match="cannot be negative"):
        Ages(**ages)


def test_an_age_beyond_all_times_removes_nothing(repo: icechunk.Repository, location: Location) -> None:
    assert collect(repo, location, Ages(timedelta.max)).cutoff == 0.0


def test_what_could_not_be_deleted_or_was_not_tried_is_not_complete() -> None:
    good = Collected(True, 0.0, "", (), (), (), (), Objects(), ())  # noqa: FBT003 - says that it was no dry run
    assert good.complete
    assert not replace(good, objects=Objects(failed=1)).complete
    assert not replace(good, objects=Objects(skipped=("chunks",))).complete
    assert not replace(good, problems=("a run",)).complete
