"""One worker's part of a run: its share, what it waits for and how long, and what it refuses."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import xarray as xr

import frazil
from frazil_functions.locations import locate
from frazil_functions.records import Wishes
from frazil_functions.rundir import RunDirectory, RunOutcome
from frazil_functions.runs.finish import finish
from frazil_functions.runs.run import Run, open_run
from frazil_functions.runs.start import start
from frazil_functions.runs.worker import Assignment, Place, work, write_missing

from ..conftest import plan_small, published_in, series  # noqa: TID252 - tests are no package that has a name


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    return RunDirectory(locate(tmp_path / "archive.icechunk.frazil" / "nightly"))


def never() -> Run:
    raise AssertionError("this worker is not to start the run")


def check_published(tmp_path: Path) -> None:
    seen = published_in(tmp_path / "archive.icechunk")
    assert (seen.commits, seen.branches) == (2, ["main"])
    xr.testing.assert_identical(seen.values, xr.decode_cf(series(0, 24)))


@pytest.mark.parametrize("assignment", ["contiguous", "spread"])
@pytest.mark.parametrize("total", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("tasks", [0, 1, 4, 5, 23])
def test_every_task_is_one_worker_s(tasks: int, total: int, assignment: Assignment) -> None:
    shares = [list(Place(index, total, assignment).share(tasks)) for index in range(total)]
    assert sorted(number for share in shares for number in share) == list(range(tasks))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    if assignment == "contiguous":
        assert [number for share in shares for number in share] == list(range(tasks))


@pytest.mark.parametrize(
    ("index", "total", "deadlines", "says"),
    [
        (-1, 3, {}, "there is no worker -1 of 3; they are 0 to 2"),
        (3, 3, {}, "there is no worker 3 of 3"),
        (0, 0, {}, "there are 0 workers"),
        (0, -2, {}, "there are -2 workers"),
        (0, 1, {"start_deadline": 0}, "start_deadline is 0"),
        (0, 1, {"finish_deadline": -1.0}, r"finish_deadline is -1\.0"),
        (0, 1, {"finish_deadline": float("nan")}, "finish_deadline is nan"),
    ],
)
def test_a_place_that_there_is_not_is_refused(index: int, total: int, deadlines: dict[str, float], says: str) -> None:
    with pytest.raises(frazil.InvalidInputError, match=says):
        Place(index, total, **deadlines)  # type: ignore[arg-type]


@pytest.mark.parametrize("total", [1, 2, 3, 7])
def test_workers_one_after_the_other_publish_one_commit(
    small_plan: frazil.Plan, directory: RunDirectory, tmp_path: Path, total: int
) -> None:
    outcomes = [
        work(Place(index, total), directory, (lambda: start(small_plan, directory)) if index == 0 else never)
        for index in range(total)
    ]
    assert outcomes[:-1] == [None] * (total - 1)
    assert outcomes[-1] == directory.outcome()
    check_published(tmp_path)


def test_a_worker_that_comes_after_the_end_has_nothing_to_do(
    small_plan: frazil.Plan, directory: RunDirectory, tmp_path: Path
) -> None:
    work(Place(0, 1), directory, lambda: start(small_plan, directory))
    before = published_in(tmp_path / "archive.icechunk").snapshot
    for index in range(4):
        outcome = work(Place(index, 4), directory, never)
        assert outcome is not None
        assert outcome.snapshots == (before,)
    assert directory.list_receipts() == []


def test_a_worker_waits_for_the_start_until_its_deadline_and_says_so(directory: RunDirectory, tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(
        frazil.IncompleteRunError,
        match=rf"worker 1 of 2 waited 0\.5 s for worker 0 to start the run at {directory.location}",
    ):
        work(Place(1, 2, start_deadline=0.5), directory, never)
    assert 0.5 <= time.monotonic() - began < 30
    assert list(tmp_path.iterdir()) == []


def test_the_last_worker_names_the_tasks_that_it_waited_for_in_vain(
    small_plan: frazil.Plan, directory: RunDirectory, tmp_path: Path
) -> None:
    start(small_plan, directory)
    with pytest.raises(
        frazil.IncompleteRunError,
        match=r"receipts of the tasks 0, 1, and none came: 4 of 6 regions.*resume run nightly",
    ):
        work(Place(2, 3, finish_deadline=0.5), directory, never)
    assert published_in(tmp_path / "archive.icechunk").commits == 1
    work(Place(0, 3), directory, never)
    work(Place(1, 3), directory, never)
    assert work(Place(2, 3), directory, never) is not None
    check_published(tmp_path)


def test_every_new_receipt_gives_the_others_their_time_again(
    small_plan: frazil.Plan, directory: RunDirectory, tmp_path: Path
) -> None:
    run = start(small_plan, directory)

    def others() -> None:
        for number in (0, 1):
            time.sleep(3)
            write_missing(run, number)

    slow = threading.Thread(target=others)
    slow.start()
    assert work(Place(2, 3, finish_deadline=5.5), directory, never) is not None
    slow.join()
    check_published(tmp_path)


def test_shares_that_overlap_are_written_once(small_plan: frazil.Plan, directory: RunDirectory, tmp_path: Path) -> None:
    """As of workers that disagree on how many they are."""
    run = start(small_plan, directory)
    for number in (0, 1):
        write_missing(run, number)
    before = directory.list_receipts()
    work(Place(0, 2), directory, never)
    assert directory.list_receipts() == before
    assert work(Place(1, 2), directory, never) is not None
    check_published(tmp_path)


def test_shares_that_leave_a_gap_publish_nothing_and_name_it(
    small_plan: frazil.Plan, directory: RunDirectory, tmp_path: Path
) -> None:
    """As of workers that disagree on how many they are."""
    start(small_plan, directory)
    work(Place(0, 3), directory, never)
    with pytest.raises(frazil.IncompleteRunError, match="receipts of the tasks 1, and none came"):
        work(Place(2, 3, finish_deadline=0.5), directory, never)
    assert published_in(tmp_path / "archive.icechunk").commits == 1


def test_a_job_file_that_changed_is_refused_by_every_worker(
    small_plan: frazil.Plan, directory: RunDirectory, tmp_path: Path
) -> None:
    start(small_plan, directory, wishes=Wishes(job="one"))
    for index in range(2):
        with pytest.raises(frazil.InvalidInputError, match="was started with another job file"):
            work(Place(index, 2), directory, never, job="another")
    assert directory.list_receipts() == []
    work(Place(0, 1), directory, never, job="one")
    with pytest.raises(frazil.InvalidInputError, match="was started with another job file"):
        work(Place(0, 2), directory, never, job="another")
    check_published(tmp_path)


def test_a_run_that_was_abandoned_is_no_success(small_plan: frazil.Plan, directory: RunDirectory) -> None:
    start(small_plan, directory)
    directory.put_outcome(RunOutcome("abandoned", (), 0.0, "nobody wants it"))
    for index in range(2):
        with pytest.raises(frazil.InvalidInputError, match="was abandoned: nobody wants it"):
            work(Place(index, 2), directory, never)


def test_a_run_of_another_version_is_not_gone_on_with(
    small_plan: frazil.Plan, directory: RunDirectory, tmp_path: Path
) -> None:
    run = start(small_plan, directory)
    (Path(directory.location.url) / "run.json").unlink()
    directory.put_record(replace(run.record, versions={"frazil": "0.0.1"}))
    with pytest.raises(frazil.InvalidInputError, match=r"frazil 0\.0\.1 there"):
        work(Place(0, 1), directory, never)
    assert directory.list_receipts() == []


def test_a_last_worker_that_another_one_overtakes_tells_of_the_same_end(
    small_plan: frazil.Plan, directory: RunDirectory, tmp_path: Path
) -> None:
    def overtaken() -> Run:
        run = start(small_plan, directory)
        for number in range(len(run.plan.tasks)):
            write_missing(run, number)
        late = open_run(directory)
        finish(run)
        return late

    assert work(Place(0, 1), directory, overtaken) == directory.outcome()
    assert directory.list_receipts() == []
    check_published(tmp_path)


def test_two_last_workers_publish_one_commit(small_plan: frazil.Plan, directory: RunDirectory, tmp_path: Path) -> None:
    run = start(small_plan, directory)
    for number in range(len(run.plan.tasks)):
        write_missing(run, number)
    outcomes: list[RunOutcome | None] = []

    def last() -> None:
        outcomes.append(work(Place(0, 1), directory, never))

    threads = [threading.Thread(target=last) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 2
    assert outcomes[0] is not None
    assert outcomes[1] is not None
    assert outcomes[0].snapshots == outcomes[1].snapshots
    check_published(tmp_path)


def test_more_workers_than_tasks_leave_some_with_nothing(
    hours: list[str], directory: RunDirectory, tmp_path: Path
) -> None:
    plan = plan_small(hours, tmp_path / "archive.icechunk", workers=2)
    start(plan, directory)
    idle = [index for index in range(5) if not list(Place(index, 5).share(len(plan.tasks)))]
    assert idle
    for index in idle:
        work(Place(index, 6), directory, never)
    for index in range(5):
        work(Place(index, 5), directory, never)
    check_published(tmp_path)
