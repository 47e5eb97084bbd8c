"""Plain JSON events: a run driven by whatever can call a function, a scheduler, a queue, a state machine or a shell.

An event is data. It names a run by the URL of its directory, and what to do:

    {"action": "start", "plan": "s3://bucket/plan.json"}       -> {"run": URL, "tasks": 3, "missing": [0, 1, 2], ...}
    {"action": "write", "run": URL, "task": 0}                 -> {"run": URL, "task": 0, "regions": 8, "bytes": ...}
    {"action": "finish", "run": URL}                           -> {"run": URL, "snapshot_id": ..., ...}
    {"action": "status", "run": URL}                           -> {"run": URL, "state": "writing", "done": 8, ...}
"""

from dataclasses import asdict
from typing import Any

import msgspec

from frazil_functions.decoding import convert
from frazil_functions.errors import InvalidInputError
from frazil_functions.locations import locate
from frazil_functions.missing import MissingCheck
from frazil_functions.plan import Plan
from frazil_functions.records import Verify, Wishes
from frazil_functions.rundir import RunDirectory
from frazil_functions.runs.finish import check_published, finish
from frazil_functions.runs.gather import Gathering
from frazil_functions.runs.run import Run, open_run
from frazil_functions.runs.start import directory_at, directory_of, new_run_id, start
from frazil_functions.runs.status import status
from frazil_functions.runs.verify import Reading
from frazil_functions.runs.worker import write_missing
from frazil_functions.storage import read_object


class Start(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="action", tag="start"):
    """Start a run of a plan, or join it.

    Attributes
    ----------
    plan
        Where the plan's JSON lies (a path or a URL), or the plan itself.
    run
        The URL of the directory that the run is to have; by default beside the repository.
    run_id
        The run's name, where it is not given by `run`.
    message, verify, retries_on_missing, missing_check_vars
        As in `frazil.run`.
    """

    plan: str | dict[str, Any]
    run: str | None = None
    run_id: str | None = None
    message: str | None = None
    verify: Verify = "sample"
    retries_on_missing: int = 0
    missing_check_vars: str | tuple[str, ...] = "all"


class Write(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="action", tag="write"):
    """Write what is missing of one task."""

    run: str
    task: int


class Finish(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="action", tag="finish"):
    """Verify the run and publish it."""

    run: str
    verify: Verify | None = None


class Status(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="action", tag="status"):
    """Say how far the run is."""

    run: str


type Event = Start | Write | Finish | Status
type Answer = dict[str, Any]


def answer(event: object) -> Answer:
    """Do what an event asks for; a JSON object back.

    Raises
    ------
    InvalidInputError
        If it is no event, saying what is wrong with it; or as the action does.
    FrazilError
        As the action does.
    """
    try:
        asked: Event = convert(event, Start | Write | Finish | Status)
    except msgspec.ValidationError as error:
        raise InvalidInputError(
            f"this is not an event of frazil: {error}. An event has an action: start (with a plan), write (with a "
            "run and a task), finish or status (with a run)"
        ) from error
    match asked:
        case Start():
            return _start(asked)
        case Write():
            return _write(asked)
        case Finish():
            return _finish(asked)
        case Status():
            return _status(asked)


def _directory(url: str) -> RunDirectory:
    return RunDirectory(locate(url))


def _start(asked: Start) -> Answer:
    missing = MissingCheck.of(asked.retries_on_missing, asked.missing_check_vars)
    data = msgspec.json.encode(asked.plan) if isinstance(asked.plan, dict) else read_object(locate(asked.plan))
    plan = Plan.from_json(data)
    if asked.run is not None:
        directory = directory_at(locate(asked.run), asked.run_id)
    elif plan.target.location is not None:
        directory = directory_of(plan.target.location, new_run_id() if asked.run_id is None else asked.run_id)
    else:
        raise InvalidInputError("the plan does not name its repository; say where the run is to live (run)")
    run = start(plan, directory, wishes=Wishes(asked.message, asked.verify, missing=missing), proven=True)
    return {
        "run": str(directory.location),
        "run_id": run.run_id,
        "tasks": len(run.plan.tasks),
        "missing": _missing(run),
        "regions": run.record.regions,
        "bytes": run.record.nbytes,
    }


def _missing(run: Run) -> list[int]:
    """The numbers of the tasks that are to be written."""
    ended = run.directory.outcome()
    if ended is not None:
        check_published(run.directory, ended)
        return []
    gathering = Gathering(run.expected, {})
    gathering.read(run.directory, run.directory.list_receipts())
    written = gathering.written.keys()
    return [number for number, task in enumerate(run.plan.tasks) if not written >= {*task.regions}]


def _write(asked: Write) -> Answer:
    directory = _directory(asked.run)
    written = write_missing(open_run(directory), asked.task)
    return {
        "run": str(directory.location),
        "task": asked.task,
        "regions": written.regions,
        "bytes": written.nbytes,
    }


def _finish(asked: Finish) -> Answer:
    directory = _directory(asked.run)
    run = open_run(directory)
    outcome = finish(run, reading=Reading(asked.verify) if asked.verify else None)
    return {
        "run": str(directory.location),
        "run_id": run.run_id,
        "snapshot_id": outcome.snapshots[-1],
        "branch": run.plan.target.branch,
        "group": run.plan.target.group,
        "regions": outcome.regions,
        "bytes": outcome.nbytes,
        "verified": outcome.verified,
    }


def _status(asked: Status) -> Answer:
    directory = _directory(asked.run)
    found = asdict(status(directory))
    if found["state"] == "starting" and directory.plan() is None:
        raise InvalidInputError(f"there is no run at {directory.location}")
    return {"run": found.pop("location")} | found
