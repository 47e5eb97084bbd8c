"""Running: execute a plan or what is left of one, and publish it; and what runs there are."""

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import icechunk

from frazil.costing.compare import compare
from frazil.costing.estimate import estimate_plan
from frazil.costing.memory import check_memory
from frazil.costing.prices import PriceTable, load_prices
from frazil.execute import Retry, execute
from frazil.execution.executor import Executor
from frazil.execution.lithops import LithopsExecutor
from frazil.execution.results import results
from frazil.lazy.planned import Dataset, carrier_of
from frazil.planning.target import Target
from frazil.report import Listener, Progress, Result, Spent, Stage, log_request, silent
from frazil_functions import handler
from frazil_functions.declaring import declared_by
from frazil_functions.errors import FrazilError, InvalidInputError, nearest
from frazil_functions.locations import Location, locate, location_of
from frazil_functions.logs import LogRequest, redacted
from frazil_functions.missing import CheckedVariables, MissingCheck
from frazil_functions.plan import NEW_GROUP, Plan
from frazil_functions.records import Verify, Wishes
from frazil_functions.rundir import RunDirectory, RunOutcome, list_runs
from frazil_functions.runs.finish import check_bases, clear_published, finish
from frazil_functions.runs.run import Run, open_run
from frazil_functions.runs.start import directory_at, directory_of, new_run_id, runs_of, start
from frazil_functions.runs.status import RunStatus, runs_in
from frazil_functions.runs.verify import Reading
from frazil_functions.text import size
from frazil_functions.writing.verifying import RegionCheck, VerifyTask, load_checks

logger = logging.getLogger(__name__)


def run(  # noqa: PLR0913 - as above
    plan: Plan,
    repo: icechunk.Repository | None = None,
    *,
    source: Dataset | None = None,
    executor: Executor | None = None,
    verify: Verify = "sample",
    message: str | None = None,
    retries_on_missing: int = 0,
    missing_check_vars: CheckedVariables = "all",
    retry: Retry | None = None,
    function_logs: bool = False,
    run_id: str | None = None,
    run_directory: str | Path | Location | None = None,
    prices: str | Path | None = None,
    listener: Listener = silent,
) -> Result:
    """Execute a plan: write everything in it and publish it as one commit, or publish nothing.

    A run that fails, or whose client dies, keeps what it has written; `resume` goes on from there.

    Parameters
    ----------
    plan
        What `plan` made.
    repo
        The repository, where the plan's location does not open it with the environment's credentials.
    source
        The dataset that the plan was made from, if it was not made from files.
    executor
        Where functions run; Lithops as it is configured by default, else on this machine.
    verify
        Whether to read nothing back, a sample, or everything ("none", "sample", "full").
    message
        Of the commit.
    retries_on_missing
        How often a region is written again whose values are missing where its source has them, or the other way around,
        once it is read a second time; 0 to read it once and look at nothing.
    missing_check_vars
        The variables that this is done for; "all", or names.
    retry
        How often a task that fails is tried again.
    function_logs
        Whether what functions log comes back with what they return, and is logged here by `frazil.functions`.
    run_id
        The run's name; by default one that no other run has. A run of the same name and plan is joined;
        one that is published already is left as it is, and its result says so.
    run_directory
        The folder or URL where the run lives; by default a folder of the run's name beside the repository.
    prices
        A file of prices, in place of those that Frazil has, for what the result says of dollars.
    listener
        Told how far the run is.

    Returns
    -------
    Result
        The published snapshot, and what it took.

    Raises
    ------
    InvalidInputError
        If the plan does not prove, was made against another repository, the repository was opened with keys that would
        travel, or functions have less memory than a region needs.
    ConflictError
        If somebody else has changed what the plan writes.
    IncompleteRunError
        If a function failed, or what it wrote did not stand the tests; nothing was published. A MissingDataError if
        that was the check of missing data.
    BackendError
        If the storage or the backend is at fault.
    """
    began, table = time.perf_counter(), load_prices(prices)
    wishes = Wishes(message, verify, missing=MissingCheck.of(retries_on_missing, missing_check_vars))
    carrier = carrier_of(plan, source)
    _check_repository(plan, repo)
    directory = place_of(plan, repo, run_id, run_directory)
    with using(executor) as calls:
        calls.warm()
        calls.check()
        check_memory(plan, calls.limits())
        calls.ready()
        listener(Progress("template", 0, plan.region_count, 0, plan.nbytes, run_id=directory.run_id))
        try:
            begun = start(plan, directory, repo=repo, wishes=wishes, carrier=carrier)
        except BaseException:
            if run_id is None and directory.record() is None:
                directory.remove()  # nobody else knows of it
            raise
        how = _How(retry or Retry(), Reading(verify), listener, log_request(asked=function_logs), table)
        return _done_before(begun, began) or _complete(begun, calls, how, began)


def resume(  # noqa: PLR0913 - as above
    repo: Target,
    run_id: str,
    *,
    source: Dataset | None = None,
    executor: Executor | None = None,
    verify: Verify | None = None,
    retry: Retry | None = None,
    function_logs: bool = False,
    run_directory: str | Path | Location | None = None,
    prices: str | Path | None = None,
    listener: Listener = silent,
) -> Result:
    """Go on with a run that has not ended: write what is missing, and publish it.

    Whatever ended it - a client or a machine that died, a function that failed, a network that was lost -
    what has a receipt is not written again. A run that is published already is left as it is, and its
    result says so.

    Parameters
    ----------
    repo
        The repository, open, or where it is.
    run_id
        The run's name, as `frazil runs` lists it.
    source
        The dataset that the run writes, if that does not lie in files that functions read themselves.
    executor, retry, function_logs, run_directory, prices, listener
        As for `run`.
    verify
        As for `run`; by default what the run was started with.

    Raises
    ------
    InvalidInputError
        If there is no such run, or it was started with another version of frazil or icechunk, or was abandoned.
    ConflictError, IncompleteRunError, BackendError
        As `run` does.
    """
    began, table = time.perf_counter(), load_prices(prices)
    opened = repo if isinstance(repo, icechunk.Repository) else None
    place = _place(repo)
    if run_directory is not None:
        directory = directory_at(locate(run_directory), run_id)
    elif place is not None:
        directory = directory_of(place, run_id)
    else:
        raise InvalidInputError("the repository's storage has no name; say where the run lives (run_directory)")
    begun = _reopen(directory, opened, place, source)
    done = _done_before(begun, began)
    if done is not None:
        return done
    check_bases(begun)
    with using(executor) as calls:
        calls.warm()
        check_memory(begun.plan, calls.limits())
        calls.ready()
        reading = Reading(verify or begun.record.verify)
        how = _How(retry or Retry(), reading, listener, log_request(asked=function_logs), table)
        return _complete(begun, calls, how, began)


def _place(repo: Target) -> Location | None:
    return location_of(repo) if isinstance(repo, icechunk.Repository) else locate(repo)


def runs(repo: Target) -> list[RunStatus]:
    """The runs that live beside a repository, the latest first.

    Raises
    ------
    InvalidInputError
        If the repository's storage has no name.
    BackendError
        If the storage cannot be reached.
    """
    place = _place(repo)
    if place is None:
        raise InvalidInputError("the repository's storage has no name, so there is no place beside it that holds runs")
    return runs_in(runs_of(place))


@contextlib.contextmanager
def using(executor: Executor | None) -> Iterator[Executor]:
    """The given executor, which its owner closes, or one of our own, closed in the end."""
    if executor is not None:
        yield executor
    else:
        with LithopsExecutor() as own:
            yield own


def _check_repository(plan: Plan, repo: icechunk.Repository | None) -> None:
    # The first snapshot is the same in all repositories, so that a plan is based on it says nothing of which one.
    here, planned = None if repo is None else location_of(repo), plan.target.location
    if here is not None and planned is not None and here.url.rstrip("/") != planned.url.rstrip("/"):
        raise InvalidInputError(
            f"the plan was made against {planned}, and this repository is {here}: plan for this one"
        )


def place_of(
    plan: Plan, repo: icechunk.Repository | None, run_id: str | None, run_directory: str | Path | Location | None
) -> RunDirectory:
    """The directory that a new run is to have.

    Raises
    ------
    InvalidInputError
        If the run cannot be named so, or there is no place to put it.
    """
    if run_directory is not None:
        return directory_at(locate(run_directory), run_id)
    location = plan.target.location if repo is None else location_of(repo)
    if location is None:
        raise InvalidInputError(
            "the repository's storage has no name, so there is no place beside it for the run; name one that functions "
            "reach, too (run_directory)"
        )
    return directory_of(location, new_run_id() if run_id is None else run_id)


def _reopen(
    directory: RunDirectory,
    repo: icechunk.Repository | None,
    asked: Location | None,
    source: Dataset | None,
) -> Run:
    """A run from its directory; one that was ended while it started is started."""
    record, data = directory.record(), directory.plan()
    if record is not None:
        _check_its(directory, record.targets[-1].location, asked)
        begun = open_run(directory, repo)
        return replace(begun, carrier=carrier_of(begun.plan, source))
    if data is not None:
        plan = Plan.from_json(data)
        _check_its(directory, plan.target.location, asked)
        return start(
            plan, directory, repo=repo, wishes=directory.wishes(), proven=True, carrier=carrier_of(plan, source)
        )
    place = directory.location.parent
    known = list_runs(place)
    raise InvalidInputError(f"there is no run {directory.run_id!r} at {place}; {nearest(directory.run_id, known)}")


def _check_its(directory: RunDirectory, location: Location | None, asked: Location | None) -> None:
    """Refuse to go on with a run of another repository, or of the one that a copy was made from."""
    if location is not None and asked is not None and location.url != asked.url:
        raise InvalidInputError(
            f"run {directory.run_id} at {directory.location} belongs to the repository {location}, and not to "
            f"{asked}; name that one, or plan again"
        )


@dataclass(frozen=True, slots=True)
class _How:
    """How a run is gone on with."""

    retry: Retry
    reading: Reading
    listener: Listener
    log: LogRequest | None
    prices: PriceTable


def _complete(begun: Run, calls: Executor, how: _How, began: float) -> Result:
    """Execute what is missing, and finish."""
    record = begun.record
    of = {"run_id": record.run_id}
    where = redacted(str(begun.directory.location))
    logger.info("run %s: %d regions, at %s", record.run_id, record.regions, where, extra={"event": "run", **of})

    def tell(stage: Stage) -> None:
        if stage != "done":
            logger.info("run %s: %s", record.run_id, stage, extra={"event": "stage", "stage": stage, **of})
        how.listener(
            Progress(stage, record.regions, record.regions, record.nbytes, record.nbytes, run_id=record.run_id)
        )

    try:
        gathering = begun.gathering()
        spent = execute(begun, calls, gathering, how.retry, how.listener, log=how.log)
        read = replace(how.reading, read=lambda tasks: _checks(calls, tasks), workers=calls.workers)
        outcome = finish(begun, gathering, reading=read, tell=tell)
    except KeyboardInterrupt as interrupt:
        interrupt.add_note(f"run {record.run_id} keeps what it has written; resume it to go on")
        raise
    except FrazilError:
        # Another driver that has published the run has removed what this one was working with.
        done = _done_before(begun, began)
        if done is None:
            raise
        return done
    expected = estimate_plan(
        begun.plan, calls.limits(), prices=how.prices, verify=how.reading.mode, workers=calls.workers
    )
    result = replace(_result(begun, outcome, spent, began), compared=compare(begun.plan, expected, spent))
    _log_published(result)
    tell("done")
    return result


def _log_published(result: Result) -> None:
    """Log what a run did, and what it took."""
    rate = result.bytes / max(result.seconds, 1e-9)
    logger.info(
        "run %s is published as %s on %r: %s; functions read for %.1f s, wrote for %.1f s, and took %s of memory at "
        "most",
        result.run_id,
        result.snapshot_id,
        result.branch,
        result.took,
        result.read_seconds,
        result.write_seconds,
        size(result.peak_memory_bytes),
        extra={"event": "published", "bytes_per_second": round(rate), **asdict(result)},
    )


def _done_before(begun: Run, began: float) -> Result | None:
    """What a run says that somebody has published already, of which nothing is left but the record; None if none has.

    Raises
    ------
    InvalidInputError
        If it was abandoned.
    """
    ended = begun.directory.outcome()
    return None if ended is None else _result(begun, clear_published(begun, ended), Spent(), began, already=True)


def _result(begun: Run, outcome: RunOutcome, spent: Spent, began: float, *, already: bool = False) -> Result:
    plan = begun.plan
    return Result(
        run_id=begun.run_id,
        plan_hash=begun.record.plan_hash,
        snapshot_id=outcome.snapshots[-1],
        branch=plan.target.branch,
        group=plan.target.group,
        regions=begun.record.regions,
        tasks=begun.record.tasks,
        bytes=begun.record.nbytes,
        seconds=time.perf_counter() - began,
        verified=outcome.verified,
        peak_memory_bytes=spent.peak_memory_bytes,
        read_seconds=spent.read_seconds,
        write_seconds=spent.write_seconds,
        already_published=already,
        containers=_containers(begun),
        referred_bytes=plan.referred_nbytes,
    )


def _containers(begun: Run) -> tuple[str, ...]:
    """The places that a reader of the group authorises: the plan's, and those of what was there before."""
    target = begun.plan.target
    before = () if target.mode in NEW_GROUP else declared_by(begun.repos[-1])
    return tuple(sorted({*map(str, target.containers), *before}))


def _checks(executor: Executor, tasks: Sequence[VerifyTask]) -> Iterator[RegionCheck]:
    """Functions read back."""
    return (check for _, value in results(executor, handler.verify, tasks) for check in load_checks(value))
