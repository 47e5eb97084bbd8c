"""The commands that plan, run and list jobs."""

import contextlib
import json
import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import icechunk
import xarray as xr
from cyclopts import Parameter

import frazil.job
import frazil.running
from frazil.cli.app import WORK, Exit, app
from frazil.cli.costing import Costing, Priced
from frazil.cli.given import FromFile
from frazil.cli.options import Attempts, Backend, Job, Publishing, Shown, Starting
from frazil.cli.pinning import Pinned
from frazil.cli.reporting import read_plan
from frazil.cli.showing import listening, summary, table, write_out
from frazil.costing.estimate import Estimate
from frazil.costing.telling import brief, plain
from frazil.execution.here import HereExecutor
from frazil.report import Result
from frazil_functions.errors import FrazilError, InvalidInputError
from frazil_functions.locations import locate
from frazil_functions.plan import Plan
from frazil_functions.reading.encoding import json_attributes
from frazil_functions.reading.rounding import OVERFLOW, loss_of
from frazil_functions.records import Verify
from frazil_functions.repositories import check_target, open_repository

logger = logging.getLogger(__name__)


@app.command(usage="Usage: frazil plan FILES... REPOSITORY [OPTIONS]\n       frazil plan --config FILE [OPTIONS]")
def plan(  # noqa: PLR0913 - each is a group of options, or one
    *paths: str,
    file: FromFile | None = None,
    job: Job | None = None,
    backend: Backend | None = None,
    shown: Shown | None = None,
    costing: Costing | None = None,
    out: Path | None = None,
    here: Annotated[bool, Parameter(negative=())] = False,
    detailed_exitcode: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Show what would be written, what that is expected to take, and write nothing.

    Parameters
    ----------
    paths
        Files (paths, URLs, globs, text files of them), and last the repository; none of them where a job file does.
    out
        A file to keep the plan in, as JSON.
    here
        Look at the files in this process and call no function; the plan is for the backend's functions all the same.
    detailed_exitcode
        Exit with 0 if there is nothing to do, 2 if there is work, and 1 if anything is wrong.
    """
    job, backend, shown, file = job or Job(), backend or Backend(), shown or Shown(), file or FromFile()
    costing = costing or Costing()
    sources, repository = file.places(paths, "plan")
    costing.check()
    if here and costing.probe:
        raise InvalidInputError("--probe calls a function, and --here calls none; leave one of them out")
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise InvalidInputError(f"--out {out} cannot be written: name a file in a directory that exists")
    with file.explaining(), listening(shown) as listener, backend.executor() as functions:
        executor = HereExecutor(functions) if here else functions
        made = frazil.job.plan(
            sources, repository, **job.as_keywords(), workers=backend.workers, executor=executor, listener=listener
        )
        expected = costing.estimate(made, executor)
    if file.config.said is not None:
        made = replace(made, job=file.config.said.job.work_digest)
    if out is not None:
        out.write_bytes(made.to_json())
    write_out(_planned(made, expected, shown))
    if detailed_exitcode and not made.nothing_new:
        raise Exit(WORK)


def _planned(plan: Plan, expected: Estimate, shown: Shown) -> str:
    """A plan and what it is expected to take: all of that, where more is asked for."""
    if shown.json:  # a plan is read from this, too, whatever stands beside it
        return json.dumps(json.loads(plan.to_json()) | {"estimate": plain(expected)})
    whole = f"\n{expected!r}" if shown.verbose else ""
    return repr(replace(plan, expected=brief(expected))) + whole


@app.command(usage="Usage: frazil convert FILES... REPOSITORY [OPTIONS]\n       frazil convert --config FILE [OPTIONS]")
def convert(
    *paths: str,
    file: FromFile | None = None,
    job: Job | None = None,
    backend: Backend | None = None,
    attempts: Attempts | None = None,
    starting: Starting | None = None,
    priced: Priced | None = None,
    shown: Shown | None = None,
) -> None:
    """Write files into a repository and publish them as one commit.

    Parameters
    ----------
    paths
        Files (paths, URLs, globs, text files of them), and last the repository; none of them where a job file does.
    """
    job, backend, shown, file = job or Job(), backend or Backend(), shown or Shown(), file or FromFile()
    attempts, starting = attempts or Attempts(), starting or Starting()
    priced = priced or Priced()
    sources, repository = file.places(paths, "convert")
    priced.check()
    with file.explaining(), listening(shown) as listener, backend.executor() as executor:
        result = frazil.job.convert(
            sources,
            repository,
            **job.as_keywords(),
            **asdict(starting),
            workers=backend.workers,
            executor=executor,
            retry=attempts.retry(),
            function_logs=attempts.function_logs,
            run_directory=attempts.run_dir,
            prices=priced.prices,
            listener=listener,
        )
    tell(result, repository, shown)


@app.command(usage="Usage: frazil apply PLAN [OPTIONS]")
def apply(  # noqa: PLR0913 - each is a group of options
    plan: Path,
    /,
    *,
    file: FromFile | None = None,
    backend: Backend | None = None,
    attempts: Attempts | None = None,
    publishing: Publishing | None = None,
    priced: Priced | None = None,
    pinned: Pinned | None = None,
    shown: Shown | None = None,
) -> None:
    """Execute a plan that `frazil plan --out` kept, and publish it as one commit.

    Parameters
    ----------
    plan
        The file.
    """
    backend, shown, file = backend or Backend(), shown or Shown(), file or FromFile()
    attempts, publishing, priced = attempts or Attempts(), publishing or Publishing(), priced or Priced()
    priced.check()
    made = read_plan(plan)
    (pinned or Pinned()).check(made)
    file.check_repository(str(made.target.location))
    file.check_work(made.job)
    with file.explaining(), listening(shown) as listener, backend.executor() as executor:
        result = frazil.running.run(
            made,
            **asdict(publishing),
            executor=executor,
            retry=attempts.retry(),
            function_logs=attempts.function_logs,
            run_directory=attempts.run_dir,
            prices=priced.prices,
            listener=listener,
        )
    tell(result, str(made.target.location), shown)


@app.command(usage="Usage: frazil resume REPOSITORY RUN [OPTIONS]")
def resume(
    repository: str,
    run: str,
    /,
    *,
    backend: Backend | None = None,
    attempts: Attempts | None = None,
    priced: Priced | None = None,
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
    priced = priced or Priced()
    priced.check()
    with listening(shown) as listener, backend.executor() as executor:
        result = frazil.running.resume(
            repository,
            run,
            executor=executor,
            verify=verify,
            retry=attempts.retry(),
            function_logs=attempts.function_logs,
            run_directory=attempts.run_dir,
            prices=priced.prices,
            listener=listener,
        )
    tell(result, repository, shown)


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


def tell(result: Result, repository: str, shown: Shown, *, group: bool = True) -> None:
    """Show what was published, and what the group looks like by now."""
    # The run is published; nothing that goes wrong in telling so may look as if it were not.
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        if shown.json:
            write_out(json.dumps(asdict(result)))
        elif result.already_published:
            write_out(f"Run {result.run_id} was published before, as {result.snapshot_id}; nothing was done")
        else:
            write_out(summary(result, repository) + (f"\n\n{_shown(result, repository)}" if group else ""))


def _shown(result: Result, repository: str) -> str:
    """What was published, or why it cannot be shown."""
    try:
        return _seen(result, repository)
    except (FrazilError, icechunk.IcechunkError, OSError) as error:
        return f"(it cannot be shown: {' '.join(str(error).split())})"


def _seen(result: Result, repository: str) -> str:
    """What was published, as a reader of the repository sees it."""
    repo = open_repository(repository, create=False, virtual_containers=result.containers)
    session = repo.readonly_session(snapshot_id=result.snapshot_id)
    options: dict[str, Any] = {"group": result.group or None, "consolidated": False, "chunks": None}
    with xr.open_zarr(session.store, decode_cf=False, **options) as stored:
        losses = _losses(stored)
    try:
        with xr.open_zarr(session.store, **options) as dataset:
            return losses + repr(dataset)
    except Exception as error:  # noqa: BLE001 - Xarray raises much for times and units that it cannot decode
        logger.info("what was published cannot be shown decoded: %s", error)
        with xr.open_zarr(session.store, decode_cf=False, **options) as dataset:
            return losses + repr(dataset)


def _losses(stored: xr.Dataset) -> str:
    """What is stored with loss, a line each."""
    lines = []
    for name, one in stored.variables.items():
        if one.dtype.kind not in "iuf":
            continue
        attributes = json_attributes(one.attrs)
        found = loss_of(one.dtype.str, attributes, clipped=attributes.get(OVERFLOW) == "clip")
        lines += [] if found is None else [f"{found[0]} {name}: {found[1]}"]
    return "".join(f"{line}\n" for line in lines) + "\n" * bool(lines)
