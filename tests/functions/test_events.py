"""Plain events: a run is started, written and finished by whoever can send JSON, in whatever order and how often."""

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import xarray as xr

import frazil
from frazil_functions.events import answer
from frazil_functions.handler import handle
from frazil_functions.locations import locate
from frazil_functions.missing import MissingCheck
from frazil_functions.rundir import RunDirectory, RunOutcome
from frazil_functions.runs.finish import finish
from frazil_functions.runs.run import open_run
from frazil_functions.runs.worker import write_missing

from .conftest import Published, plan_small, published_in, series

type Answer = dict[str, Any]

WHOLE = xr.decode_cf(series(0, 24))


def ask(**event: Any) -> Answer:
    """The answer to an event, after both were JSON, as they are on every way there and back."""
    answered: Answer = json.loads(json.dumps(handle(json.loads(json.dumps(event)))))
    return answered


def start(plan: frazil.Plan, **options: Any) -> Answer:
    return ask(action="start", plan=json.loads(plan.to_json()), **options)


def write(run: Answer, tasks: Any = None) -> list[Answer]:
    numbers = run["missing"] if tasks is None else tasks
    return [ask(action="write", run=run["run"], task=number) for number in numbers]


def receipts(run: Answer) -> list[str]:
    return RunDirectory(locate(run["run"])).list_receipts()


def test_a_run_is_started_written_and_finished(
    small_plan: frazil.Plan, published: Callable[[], Published], tmp_path: Path
) -> None:
    run = start(small_plan, run_id="nightly", message="hello")
    assert run == {
        "run": str(tmp_path / "archive.icechunk.frazil" / "nightly"),
        "run_id": "nightly",
        "tasks": 3,
        "missing": [0, 1, 2],
        "regions": 6,
        "bytes": small_plan.nbytes,
    }
    written = write(run)
    assert [one["task"] for one in written] == [0, 1, 2]
    assert sum(one["regions"] for one in written) == 6
    assert sum(one["bytes"] for one in written) == small_plan.nbytes
    assert published().values is None, "readers see nothing before the end"
    done = ask(action="finish", run=run["run"], verify="full")
    seen = published()
    assert done["snapshot_id"] == seen.snapshot
    assert done["verified"] == 6
    assert (seen.commits, seen.branches) == (2, ["main"])
    xr.testing.assert_identical(seen.values, WHOLE)
    status = ask(action="status", run=run["run"])
    assert (status["state"], status["done"], status["snapshot_id"]) == ("published", 6, seen.snapshot)


def test_a_run_s_check_of_missing_data_is_what_its_tasks_do(small_plan: frazil.Plan) -> None:
    run = start(small_plan, retries_on_missing=2, missing_check_vars=["tas"])
    begun = open_run(RunDirectory(locate(run["run"])))
    task = begun.task(0)
    assert task is not None
    assert task.missing == MissingCheck(2, ("tas",))
    assert sum(one["regions"] for one in write(run)) == 6


def test_a_plan_is_read_from_a_path(
    small_plan: frazil.Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, published: Callable[[], Published]
) -> None:
    (tmp_path / "plan.json").write_bytes(small_plan.to_json())
    monkeypatch.chdir(tmp_path)
    first = ask(action="start", plan=str(tmp_path / "plan.json"), run_id="r")
    assert ask(action="start", plan="plan.json", run_id="r") == first
    write(first)
    assert ask(action="finish", run=first["run"])["snapshot_id"] == published().snapshot


def test_everything_may_lie_in_s3(hours: list[str], bucket: Any) -> None:
    where = f"s3://{bucket.name}/archive"
    bucket.put_object(Key="plans/p.json", Body=plan_small(hours, where).to_json())
    run = ask(action="start", plan=f"s3://{bucket.name}/plans/p.json", run=f"s3://{bucket.name}/runs/nightly")
    assert (run["run"], run["run_id"]) == (f"s3://{bucket.name}/runs/nightly", "nightly")
    write(run)
    done = ask(action="finish", run=run["run"])
    seen = published_in(where)
    assert (seen.snapshot, seen.commits, seen.branches) == (done["snapshot_id"], 2, ["main"])
    xr.testing.assert_identical(seen.values, WHOLE)
    kept = {item.key for item in bucket.objects.filter(Prefix="runs/")}
    assert kept == {f"runs/nightly/{name}.json" for name in ("plan", "wishes", "run", "outcome")}


def test_a_plan_that_is_not_there_is_refused_by_name(tmp_path: Path, bucket: Any) -> None:
    for where in (str(tmp_path / "no-plan.json"), f"s3://{bucket.name}/no-plan.json"):
        with pytest.raises(frazil.InvalidInputError, match=f"there is nothing at {where}"):
            ask(action="start", plan=where)


def test_a_plan_that_is_none_starts_nothing(small_plan: frazil.Plan, tmp_path: Path) -> None:
    told = json.loads(small_plan.to_json())
    for changed in (told | {"tasks": [*told["tasks"], told["tasks"][0]]}, {"plan": "of mine"}):
        with pytest.raises(frazil.InvalidInputError, match=r"shares a write unit|not a plan of frazil"):
            ask(action="start", plan=changed)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sources"]


def test_a_task_that_is_written_twice_is_written_once(small_plan: frazil.Plan) -> None:
    run = start(small_plan)
    first = write(run, [0])
    before = receipts(run)
    assert first[0]["regions"] > 0
    (second,) = write(run, [0])
    assert (second["regions"], second["bytes"]) == (0, 0)
    assert receipts(run) == before


def test_a_start_that_is_repeated_joins_and_says_what_is_missing(
    small_plan: frazil.Plan, published: Callable[[], Published]
) -> None:
    run = start(small_plan, run_id="nightly")
    write(run, [1])
    assert start(small_plan, run_id="nightly") == run | {"missing": [0, 2]}
    assert published().branches == ["frazil/nightly", "main"]


def test_a_start_of_a_run_that_is_published_has_nothing_to_be_written(small_plan: frazil.Plan) -> None:
    run = start(small_plan, run_id="nightly")
    write(run)
    done = ask(action="finish", run=run["run"])
    again = start(small_plan, run_id="nightly")
    assert again == run | {"missing": []}
    assert [one["regions"] for one in write(run)] == [0, 0, 0]
    assert ask(action="finish", run=again["run"]) == done
    assert receipts(run) == []


def test_a_run_that_is_finished_twice_gives_the_same_snapshot(
    small_plan: frazil.Plan, published: Callable[[], Published]
) -> None:
    run = start(small_plan)
    write(run)
    first, second = (ask(action="finish", run=run["run"]) for _ in range(2))
    assert first == second
    assert published().commits == 2


def test_a_run_that_is_finished_too_early_stays_and_says_what_is_missing(
    small_plan: frazil.Plan, published: Callable[[], Published]
) -> None:
    run = start(small_plan)
    write(run, [0, 2])
    with pytest.raises(frazil.IncompleteRunError, match=r"2 of 6 regions of run .* are missing, first tas\[time"):
        ask(action="finish", run=run["run"])
    assert published().values is None
    assert ask(action="status", run=run["run"])["state"] == "writing"
    write(run, [1])
    ask(action="finish", run=run["run"])
    xr.testing.assert_identical(published().values, WHOLE)


def test_a_run_that_ends_while_a_task_is_looked_at_is_not_written_again(small_plan: frazil.Plan) -> None:
    run = start(small_plan)
    directory = RunDirectory(locate(run["run"]))
    late, later = open_run(directory), open_run(directory)
    assert late.expected  # it has read the forks already, and the other has not
    write(run)
    finish(open_run(directory))
    assert [write_missing(one, 0).regions for one in (late, later)] == [0, 0]
    assert receipts(run) == []


def test_a_fork_that_is_lost_while_the_run_goes_on_is_no_end_of_it(small_plan: frazil.Plan) -> None:
    run = start(small_plan)
    next(Path(run["run"]).glob("fork-*")).unlink()
    with pytest.raises(frazil.BackendError, match="is gone, and the run needs it"):
        write(run, [0])


def test_a_run_that_was_abandoned_takes_nothing_more(small_plan: frazil.Plan) -> None:
    run = start(small_plan, run_id="nightly")
    RunDirectory(locate(run["run"])).put_outcome(RunOutcome("abandoned", (), 0.0, "nobody wants it"))
    for event in (
        {"action": "start", "plan": json.loads(small_plan.to_json()), "run_id": "nightly"},
        {"action": "write", "run": run["run"], "task": 0},
        {"action": "finish", "run": run["run"]},
    ):
        with pytest.raises(frazil.InvalidInputError, match="was abandoned: nobody wants it"):
            ask(**event)
    assert receipts(run) == []
    assert ask(action="status", run=run["run"])["reason"] == "nobody wants it"


@pytest.mark.parametrize(
    ("event", "says"),
    [
        (None, "Expected `object`, got `null`"),
        ([1], "Expected `object`, got `array`"),
        ({}, "missing required field `action`"),
        ({"action": "dance"}, "'dance'"),
        ({"action": 3}, "action"),
        ({"action": "start"}, "missing required field `plan`"),
        ({"action": "start", "plan": 7}, r"got `int` - at `\$.plan`"),
        ({"action": "start", "plan": "p.json", "verify": "most"}, "'most'"),
        ({"action": "start", "plan": "p.json", "retries_on_missing": -1}, "use a whole number"),
        ({"action": "start", "plan": "p.json", "missing_check_vars": "tas"}, "give retries_on_missing"),
        ({"action": "start", "plan": "p.json", "mesage": "x"}, "unknown field `mesage`"),
        ({"action": "write", "run": "r"}, "missing required field `task`"),
        ({"action": "write", "run": "r", "task": "0"}, r"got `str` - at `\$.task`"),
        ({"action": "write", "run": "r", "task": 1.5}, r"got `float` - at `\$.task`"),
        ({"action": "write", "run": "r", "task": True}, r"got `bool` - at `\$.task`"),
        ({"action": "finish", "run": "r", "task": 0}, "unknown field `task`"),
        ({"action": "finish"}, "missing required field `run`"),
        ({"action": "status", "run": None}, r"got `null` - at `\$.run`"),
        ({"action": "status", "run": "ftp://x/y"}, "ftp://"),
    ],
)
def test_an_event_that_is_none_is_refused_and_says_why(
    event: object, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(frazil.InvalidInputError, match=says):
        answer(event)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("action", ["write", "finish", "status"])
def test_a_run_that_there_is_not_is_refused_by_name(action: str, tmp_path: Path) -> None:
    where = str(tmp_path / "archive.frazil" / "none")
    with pytest.raises(frazil.InvalidInputError, match=f"there is no run at {re.escape(where)}"):
        ask(action=action, run=where, **({"task": 0} if action == "write" else {}))
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_died_while_it_started_is_told_of(small_plan: frazil.Plan, tmp_path: Path) -> None:
    directory = RunDirectory(locate(tmp_path / "archive.icechunk.frazil" / "nightly"))
    directory.put_plan(small_plan.to_json())
    assert ask(action="status", run=str(directory.location))["state"] == "starting"


@pytest.mark.parametrize("number", [-1, 3, 10**9])
def test_a_task_that_the_plan_does_not_have_is_refused(small_plan: frazil.Plan, number: int) -> None:
    run = start(small_plan)
    with pytest.raises(frazil.InvalidInputError, match=rf"has the tasks 0 to 2, and no task {number}"):
        write(run, [number])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"run_id": "../outside"}, "cannot name a run"),
        ({"run_id": ""}, "cannot name a run"),
        ({"run": "archive.icechunk/runs/r"}, "lies in the repository"),
        ({"run": "archive.icechunk"}, "is the repository itself"),
        ({"run": "somewhere/nightly", "run_id": "daily"}, "'daily'.*'nightly'.*leave out one"),
    ],
)
def test_a_run_in_no_fit_place_is_refused_and_nothing_is_written(
    small_plan: frazil.Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: Mapping[str, str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(frazil.InvalidInputError, match=says):
        start(small_plan, **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sources"]


def test_another_plan_under_the_same_name_is_refused(small_plan: frazil.Plan, hours: list[str], tmp_path: Path) -> None:
    run = start(small_plan, run_id="nightly")
    other = plan_small(hours[:2], tmp_path / "archive.icechunk")
    with pytest.raises(frazil.InvalidInputError, match="was started with another plan"):
        start(other, run_id="nightly")
    assert start(small_plan, run_id="nightly") == run


def test_a_source_that_changed_fails_its_task_and_is_named(small_plan: frazil.Plan, hours: list[str]) -> None:
    run = start(small_plan)
    path = Path(hours[1])
    path.write_bytes(path.read_bytes() + b"more")
    os.utime(path)
    with pytest.raises(frazil.SourceError, match=r"part1\.nc has changed since the plan was made"):
        write(run)


def test_an_answer_that_a_run_gives_is_what_msgspec_and_json_agree_on(small_plan: frazil.Plan) -> None:
    run = start(small_plan)
    for event in ({"action": "write", "run": run["run"], "task": 0}, {"action": "status", "run": run["run"]}):
        said = handle(event)
        assert json.loads(json.dumps(said)) == msgspec.json.decode(msgspec.json.encode(said)) == said
