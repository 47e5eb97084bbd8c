"""The command of an indexed worker: one of several that share a run, without a coordinator."""

import json
import logging
from datetime import datetime
from pathlib import Path

import frazil.job
from frazil.cli.app import app
from frazil.cli.options import Shown
from frazil.cli.showing import listening, write_out
from frazil.execution.serial import SerialExecutor
from frazil.jobfile import JobFile, job_start_of, load, start_time
from frazil_functions.errors import InvalidInputError
from frazil_functions.locations import locate
from frazil_functions.missing import MissingCheck
from frazil_functions.plan import Plan
from frazil_functions.records import Wishes
from frazil_functions.rundir import RunDirectory, check_outside
from frazil_functions.runs.run import Run
from frazil_functions.runs.start import check_run_id, directory_at, start
from frazil_functions.runs.worker import Place, work
from frazil_functions.settings import environment

logger = logging.getLogger(__name__)


@app.command(usage="Usage: frazil worker --config FILE --run-dir URL --total N [--index I] [OPTIONS]")
def worker(
    *,
    config: Path,
    total: int,
    run_dir: str | None = None,
    index: int | None = None,
    job_start: str | None = None,
    shown: Shown | None = None,
) -> None:
    """Write one worker's share of a run. Worker 0 starts the run, and the last one finishes it.

    Any worker may be ended and started again, at any moment: what it has written is not written again.

    Parameters
    ----------
    config
        The job file; the same for every worker.
    total
        How many workers there are.
    run_dir
        Where the run lives (a folder or URL), by default what the job file says; its last name is the run's id. A
        Job's name makes a good one.
    index
        Which one this is, from 0; by default what JOB_COMPLETION_INDEX says, as Kubernetes sets it.
    job_start
        The time that the job file's {job_start:...} stands for, in ISO 8601; by default the one that the name of a
        CronJob's Job tells.
    """
    shown = shown or Shown()
    place = locate(run_dir or _run_dir(config, job_start))
    directory = RunDirectory(place)
    job = load(config, _start_time(job_start, directory.run_id))
    check_run_id(directory.run_id)
    directory_at(place, job.run_id)
    for repository in (*job.replicas, job.repository):
        check_outside(place, locate(repository))
    settings = job.worker
    mine = Place(
        _index(index),
        total,
        settings.assignment,
        settings.start_deadline,
        settings.finish_deadline,
        job.retry.attempts,
        job.retry.backoff,
    )
    with listening(shown):
        outcome = work(mine, directory, lambda: _start(job, directory, mine), job=job.digest)
    said: dict[str, object] = {"run_id": directory.run_id, "index": mine.index, "total": mine.total}
    if outcome is not None:
        said |= {"snapshot_id": outcome.snapshots[-1], "regions": outcome.regions, "bytes": outcome.nbytes}
    if shown.json:
        write_out(json.dumps(said))
    elif outcome is not None:
        write_out(f"Run {directory.run_id} is published as {outcome.snapshots[-1]}")
    else:
        write_out(f"Worker {mine.index} of {mine.total} has written its share of run {directory.run_id}")


def _index(given: int | None) -> int:
    if given is not None:
        return given
    said = environment().job_completion_index
    if said is None:
        raise InvalidInputError("which worker this is, nobody says: give --index, or run it as an indexed Job")
    if not (said.isascii() and said.isdigit()):
        raise InvalidInputError(f"JOB_COMPLETION_INDEX is {said!r}, and no number of a worker; give --index")
    return int(said)


def _run_dir(config: Path, job_start: str | None) -> str:
    said = load(config, None if job_start is None else start_time(job_start)).run_dir
    if said is None:
        raise InvalidInputError(f"where the run lives, nobody says: give --run-dir, or add run_dir to {config}")
    return said


def _start_time(given: str | None, run_id: str) -> datetime | None:
    return job_start_of(run_id) if given is None else start_time(given)


def _start(job: JobFile, directory: RunDirectory, place: Place) -> Run:
    """Plan and start the run."""
    # A plan that an earlier start left is of this very job only if this job gives the same again.
    missing = MissingCheck.of(job.retries_on_missing, job.missing_check_vars)
    wishes = Wishes(job.message, job.verify, job.digest, missing)
    return start(_plan(job, place), directory, wishes=wishes, proven=True)


def _plan(job: JobFile, place: Place) -> Plan:
    with SerialExecutor() as executor:
        options = {name: getattr(job, name) for name in frazil.job.PlanOptions.__optional_keys__}
        options["workers"] = job.workers or place.total
        return frazil.job.plan(job.sources, job.repository, executor=executor, **options)
