"""The commands that plan, run and list jobs."""

import contextlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import icechunk
import xarray as xr
from cyclopts import Parameter

import frazil.job
import frazil.running
from frazil.cli.app import app
from frazil.cli.options import Attempts, Backend, Job, Publishing, Shown
from frazil.cli.showing import listening, summary, table, write_out
from frazil.report import Result
from frazil_functions.errors import FrazilError, InvalidInputError
from frazil_functions.plan import Plan
from frazil_functions.records import Verify
from frazil_functions.repositories import check_target, locate, open_repository

logger = logging.getLogger(__name__)


@app.command(usage="Usage: frazil plan FILES... REPOSITORY [OPTIONS]")
def plan(
    *paths: str,
    job: Job | None = None,
    backend: Backend | None = None,
    shown: Shown | None = None,
    out: Path | None = None,
) -> None:
    """Show what would be written, and write nothing.

    Parameters
    ----------
    paths
        Files (paths, URLs, globs, text files of them), and last the repository.
    out
        A file to keep the plan in, as JSON.
    """
    job, backend, shown = job or Job(), backend or Backend(), shown or Shown()
    sources, repository = _split(paths)
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise InvalidInputError(f"--out {out} cannot be written: name a file in a directory that exists")
    with listening(shown) as listener, backend.executor() as executor:
        made = frazil.job.plan(
            sources, repository, **job.as_keywords(), workers=backend.workers, executor=executor, listener=listener
        )
    if out is not None:
        out.write_bytes(made.to_json())
    write_out(made.to_json().decode() if shown.json else repr(made))


@app.command(usage="Usage: frazil convert FILES... REPOSITORY [OPTIONS]")
def convert(
    *paths: str,
    job: Job | None = None,
    backend: Backend | None = None,
    attempts: Attempts | None = None,
    publishing: Publishing | None = None,
    shown: Shown | None = None,
    resume: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Write files into a repository and publish them as one commit.

    Parameters
    ----------
    paths
        Files (paths, URLs, globs, text files of them), and last the repository.
    resume
        Go on with a run of the same plan that has not ended, if there is one.
    """
    job, backend, shown = job or Job(), backend or Backend(), shown or Shown()
    attempts, publishing = attempts or Attempts(), publishing or Publishing()
    sources, repository = _split(paths)
    with listening(shown) as listener, backend.executor() as executor:
        result = frazil.job.convert(
            sources,
            repository,
            **job.as_keywords(),
            **asdict(publishing),
            workers=backend.workers,
            executor=executor,
            retry=attempts.retry(),
            run_directory=attempts.run_dir,
            resume=resume,
            listener=listener,
        )
    _tell(result, repository, shown)


@app.command(usage="Usage: frazil apply PLAN [OPTIONS]")
def apply(
    plan: Path,
    /,
    *,
    backend: Backend | None = None,
    attempts: Attempts | None = None,
    publishing: Publishing | None = None,
    shown: Shown | None = None,
) -> None:
    """Execute a plan that `frazil plan --out` kept, and publish it as one commit.

    Parameters
    ----------
    plan
        The file.
    """
    backend, shown = backend or Backend(), shown or Shown()
    attempts, publishing = attempts or Attempts(), publishing or Publishing()
    try:
        made = Plan.from_json(plan.read_bytes())
    except OSError as error:
        raise InvalidInputError(f"the plan {plan} cannot be read: {error.strerror or error}") from error
    with listening(shown) as listener, backend.executor() as executor:
        result = frazil.running.run(
            made,
            **asdict(publishing),
            executor=executor,
            retry=attempts.retry(),
            run_directory=attempts.run_dir,
            listener=listener,
        )
    _tell(result, str(made.target.location), shown)


@app.command(usage="Usage: frazil resume REPOSITORY RUN [OPTIONS]")
def resume(
    repository: str,
    run: str,
    /,
    *,
    backend: Backend | None = None,
    attempts: Attempts | None = None,
    shown: Shown | None = None,
    verify: Verify | None = None,
) -> None:
    """Go on with a run that has not ended: write what is missing, and publish it.

    Parameters
    ----------
    repository, run
        The repository, and the run's name as `frazil runs` lists it.
    verify
        Read back nothing, a sample, or everything before publishing; by default what the run was started with.
    """
    backend, attempts, shown = backend or Backend(), attempts or Attempts(), shown or Shown()
    with listening(shown) as listener, backend.executor() as executor:
        result = frazil.running.resume(
            repository,
            run,
            executor=executor,
            verify=verify,
            retry=attempts.retry(),
            run_directory=attempts.run_dir,
            listener=listener,
        )
    _tell(result, repository, shown)


@app.command(usage="Usage: frazil runs REPOSITORY [OPTIONS]")
def runs(repository: str, /, *, shown: Shown | None = None) -> None:
    """List the runs that live beside a repository, the latest first.

    Parameters
    ----------
    repository
        The repository.
    """
    found = frazil.running.runs(repository)
    if not found and not check_target(locate(repository)):
        raise InvalidInputError(f"there is no repository at {repository}, and no run beside it")
    if (shown or Shown()).json:
        write_out(json.dumps({"runs": [asdict(one) for one in found]}))
    else:
        write_out(table(found) if found else f"no runs beside {repository}")


def _tell(result: Result, repository: str, shown: Shown) -> None:
    # The run is published; nothing that goes wrong in telling so may look as if it were not.
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        if shown.json:
            write_out(json.dumps(asdict(result)))
        elif result.already_published:
            write_out(f"Run {result.run_id} was published before, as {result.snapshot_id}; nothing was done")
        else:
            write_out(f"{summary(result, repository)}\n\n{_shown(result, repository)}")


def _shown(result: Result, repository: str) -> str:
    """What was published, or why it cannot be shown."""
    try:
        return _seen(result, repository)
    except (FrazilError, icechunk.IcechunkError, OSError) as error:
        return f"(it cannot be shown: {' '.join(str(error).split())})"


def _seen(result: Result, repository: str) -> str:
    """What was published, as a reader of the repository sees it."""
    session = open_repository(repository, create=False).readonly_session(snapshot_id=result.snapshot_id)
    options: dict[str, Any] = {"group": result.group or None, "consolidated": False, "chunks": None}
    try:
        with xr.open_zarr(session.store, **options) as dataset:
            return repr(dataset)
    except Exception as error:  # noqa: BLE001 - Xarray raises much for times and units that it cannot decode
        logger.info("what was published cannot be shown decoded: %s", error)
        with xr.open_zarr(session.store, decode_cf=False, **options) as dataset:
            return repr(dataset)


def _split(paths: Sequence[str]) -> tuple[list[str], str]:
    if len(paths) < 2:  # noqa: PLR2004 - a file and a repository
        raise InvalidInputError("name the files to write, and last the repository: frazil convert FILES... REPOSITORY")
    return list(paths[:-1]), paths[-1]
