"""What one client does, as JSON says it, and how that ended."""

import contextlib
import io
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import icechunk

import frazil
from frazil.cli.app import main
from frazil.report import Listener, Progress
from frazil_functions.handler import handle
from frazil_functions.plan import Plan

type Job = dict[str, Any]
type Said = dict[str, Any]


def do(job: Job) -> Said:
    """What a client is asked for, and how it ended."""
    icechunk.set_logs_filter("icechunk=error")
    time.sleep(max(0.0, job.get("at", 0.0) - time.time()))
    try:
        return ACTIONS[job["action"]](job)
    except frazil.FrazilError as error:
        return {"error": type(error).__name__, "says": str(error), "exit": error.exit_code}


def run(job: Job) -> Said:
    """Execute a plan."""
    plan = Plan.from_json(Path(job["plan"]).read_bytes())
    with executor(job) as calls:
        return told(frazil.run(plan, executor=calls, listener=listener(job), **job["options"]))


def resume(job: Job) -> Said:
    """Go on with a run."""
    with executor(job) as calls:
        found = frazil.resume(job["target"], job["run_id"], executor=calls, listener=listener(job), **job["options"])
    return told(found)


def event(job: Job) -> Said:
    """Answer a plain event."""
    return handle(job["event"])


def command(job: Job) -> Said:
    """The command line."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(job["arguments"])
    return {"exit": code, "out": out.getvalue(), "err": err.getvalue()}


ACTIONS: dict[str, Callable[[Job], Said]] = {"run": run, "resume": resume, "event": event, "command": command}


@contextlib.contextmanager
def executor(job: Job) -> Iterator[Any]:
    """Where the functions of a client run."""
    if job.get("backend") == "localhost":
        with frazil.LithopsExecutor(backend="localhost", workers=2) as calls:
            yield calls
    else:
        with frazil.SerialExecutor() as calls:
            yield calls


def listener(job: Job) -> Listener:
    """Dies at a stage of the job, if it is asked to."""
    stage, done = job.get("dies", ("never", 0))

    def listen(progress: Progress) -> None:
        if progress.stage == stage and progress.done >= done:
            os.kill(os.getpid(), signal.SIGKILL)

    return listen


def told(result: frazil.Result) -> Said:
    """A result as JSON."""
    return {"snapshot_id": result.snapshot_id, "already": result.already_published, "run_id": result.run_id}
