"""The main job, as it is told: plan, initialise, fork, execute, gather, verify, publish."""

import contextlib
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import icechunk

from frazil.execute import Retry, execute
from frazil.execution.executor import Executor
from frazil.execution.lithops import LithopsExecutor
from frazil.execution.results import results
from frazil.planning.append import OnOverlap
from frazil.planning.compare import Accept
from frazil.planning.inputs import expand
from frazil.planning.labels import Gaps
from frazil.planning.make import Options, make_plan
from frazil.planning.scan import Existing, Wanted, scan_existing, scan_sources
from frazil.report import Listener, Progress, Result, Spent, Stage, silent
from frazil_functions import handler
from frazil_functions.errors import FrazilError, InvalidInputError, nearest
from frazil_functions.forks import check_no_secret, dump_fork, read_fork
from frazil_functions.plan import Mode, Plan, PlanTarget, Replica
from frazil_functions.records import Verify
from frazil_functions.repositories import Location, check_target, locate, location_of, open_repository
from frazil_functions.rundir import RunDirectory, RunOutcome, list_runs
from frazil_functions.runs.finish import check_bases, clear_published, finish
from frazil_functions.runs.publish import tip_of
from frazil_functions.runs.run import Run, open_run
from frazil_functions.runs.start import Wishes, directory_at, directory_of, new_run_id, runs_of, start
from frazil_functions.runs.status import RunStatus, runs_in, unfinished_in
from frazil_functions.runs.template import check_absent, check_present
from frazil_functions.runs.verify import Reading
from frazil_functions.writing.verifying import RegionCheck, VerifyTask, load_checks

logger = logging.getLogger(__name__)

type Target = str | Path | Location | icechunk.Repository
"""A repository: an open one, or where one is or is to be."""

type Sources = str | Path | Iterable[str | Path]
"""Files: a path, a URL, a glob of either, a text file of them, or several of these."""


def plan(  # noqa: PLR0913 - the options of a job, each once
    sources: Sources,
    repo: Target,
    *,
    mode: Mode = "create",
    group: str = "",
    branch: str = "main",
    chunks: Mapping[str, int] | None = None,
    shards: Mapping[str, int] | None = None,
    append_dim: str | None = None,
    variables: str | Sequence[str] | None = None,
    engine: str | None = None,
    gaps: Gaps = "error",
    accept: Accept | Iterable[Accept] = (),
    on_overlap: OnOverlap = "error",
    replicas: Iterable[Target] = (),
    workers: int | None = None,
    executor: Executor | None = None,
    listener: Listener = silent,
) -> Plan:
    """Plan to write files as one group of a repository. Writes nothing.

    Parameters
    ----------
    sources
        Files: a path, a URL, a glob of either, a text file of them, or several of these.
    repo
        An open repository, or where one is or is to be: a local path, s3://, gs:// or az://.
    mode
        "create" makes a group that does not exist yet, "append" adds to one behind what it holds.
    group
        The group to create or to append to; the root by default.
    branch
        The branch to publish on.
    chunks, shards
        Lengths along dimensions, in elements; -1 for all of a dimension. What is not named gets
        chunks of about 16 MiB, and no shards.
    append_dim
        The dimension that the files follow each other on; inferred where only one can be meant.
    variables
        Which variables to write, with the coordinates that they need; all by default.
    engine
        The Xarray engine that opens the files; told by their first bytes by default.
    gaps
        "error" refuses labels that are missing between files, "fill" keeps a place for them that
        reads as missing, "keep" leaves the axis uneven.
    accept
        Differences between files that are fine: "units" of time, "drift" of labels by less than a
        thousandth of their spacing, files without labels in the given "order".
    on_overlap
        What becomes of files of which every label is in the group already, where they are appended: "error" refuses
        them, "skip" leaves them out, so that the same call can be made again and again as files come.
    replicas
        Other repositories that get the same, each on the same branch; they are published first.
    workers
        How many functions can run at once; by default, as many as the executor can.
    executor
        What reads the metadata of many files.
    listener
        Told how far the work is.

    Returns
    -------
    Plan
        Every region, proven disjoint, aligned and complete.

    Raises
    ------
    InvalidInputError
        If anything about the files, the labels, the chunks or the target does not fit.
    BackendError
        If the repository cannot be reached.
    """
    if mode not in get_args(Mode.__value__):
        raise InvalidInputError(f"mode cannot be {mode!r}; {nearest(mode, get_args(Mode.__value__))}")
    if mode == "append" and (chunks or shards):
        raise InvalidInputError("an append keeps the chunks and shards that the group has; leave out chunks and shards")
    target, existing = plan_target(repo, PlanTarget(None, group.strip("/"), branch, None, mode), replicas)
    urls = expand(sources)
    with _using(executor) as calls:
        wanted = Wanted(engine, append_dim, None if variables is None else _several(variables))
        found = scan_sources(urls, wanted, calls, listener, existing)
        options = Options(
            chunks=dict(chunks or {}),
            shards=dict(shards or {}),
            gaps=gaps,
            accept=frozenset(_several(accept)),
            on_overlap=on_overlap,
            workers=calls.workers if workers is None else workers,
        )
    listener(Progress("plan"))
    return make_plan(found, target, options, existing)


def run(  # noqa: PLR0913 - as above
    plan: Plan,
    repo: icechunk.Repository | None = None,
    *,
    executor: Executor | None = None,
    verify: Verify = "sample",
    message: str | None = None,
    retry: Retry | None = None,
    run_id: str | None = None,
    run_directory: str | Path | Location | None = None,
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
    executor
        Where functions run; Lithops as it is configured by default, else on this machine.
    verify
        Whether to read nothing back, a sample, or everything ("none", "sample", "full").
    message
        Of the commit.
    retry
        How often a task that fails is tried again.
    run_id
        The run's name; by default one that no other run has. A run of the same name and plan is joined;
        one that is published already is left as it is, and its result says so.
    run_directory
        The folder or URL where the run lives; by default a folder of the run's name beside the repository.
    listener
        Told how far the run is.

    Returns
    -------
    Result
        The published snapshot, and what it took.

    Raises
    ------
    InvalidInputError
        If the plan does not prove, or the repository was opened with keys that would travel.
    ConflictError
        If somebody else has changed what the plan writes.
    IncompleteRunError
        If a function failed, or what it wrote did not stand the tests; nothing was published.
    BackendError
        If the storage or the backend is at fault.
    """
    began = time.perf_counter()
    wishes = Wishes(message, verify)
    directory = place_of(plan, repo, run_id, run_directory)
    with _using(executor) as calls:
        calls.warm()
        listener(Progress("template", 0, plan.region_count, 0, plan.nbytes, run_id=directory.run_id))
        try:
            begun = start(plan, directory, repo=repo, wishes=wishes)
        except BaseException:
            if run_id is None and directory.record() is None:
                directory.remove()  # nobody else knows of it
            raise
        return _complete(begun, calls, retry or Retry(), Reading(verify), listener, began)


def resume(
    repo: Target,
    run_id: str,
    *,
    executor: Executor | None = None,
    verify: Verify | None = None,
    retry: Retry | None = None,
    run_directory: str | Path | Location | None = None,
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
    executor, retry, run_directory, listener
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
    began = time.perf_counter()
    opened = repo if isinstance(repo, icechunk.Repository) else None
    place = _place(repo)
    if run_directory is not None:
        directory = directory_at(locate(run_directory), run_id)
    elif place is not None:
        directory = directory_of(place, run_id)
    else:
        raise InvalidInputError("the repository's storage has no name; say where the run lives (run_directory)")
    begun = _reopen(directory, opened)
    done = _done_before(begun, began)
    if done is not None:
        return done
    check_bases(begun)
    with _using(executor) as calls:
        calls.warm()
        reading = Reading(verify or begun.record.verify)
        return _complete(begun, calls, retry or Retry(), reading, listener, began)


def convert(  # noqa: PLR0913 - as above
    sources: Sources,
    repo: Target,
    *,
    mode: Mode = "create",
    group: str = "",
    branch: str = "main",
    chunks: Mapping[str, int] | None = None,
    shards: Mapping[str, int] | None = None,
    append_dim: str | None = None,
    variables: str | Sequence[str] | None = None,
    engine: str | None = None,
    gaps: Gaps = "error",
    accept: Accept | Iterable[Accept] = (),
    on_overlap: OnOverlap = "error",
    replicas: Iterable[Target] = (),
    workers: int | None = None,
    executor: Executor | None = None,
    verify: Verify = "sample",
    message: str | None = None,
    retry: Retry | None = None,
    run_id: str | None = None,
    run_directory: str | Path | Location | None = None,
    resume: bool = False,
    listener: Listener = silent,
) -> Result:
    """Plan and run: files in, one commit out.

    Parameters and errors are those of `plan` and `run`, and `resume`: whether to go on with a run of the same plan that
    has not ended, if there is one.
    """
    with _using(executor) as calls:
        calls.warm()
        made = plan(
            sources,
            repo,
            mode=mode,
            group=group,
            branch=branch,
            chunks=chunks,
            shards=shards,
            append_dim=append_dim,
            variables=variables,
            engine=engine,
            gaps=gaps,
            accept=accept,
            on_overlap=on_overlap,
            replicas=replicas,
            workers=workers,
            executor=calls,
            listener=listener,
        )
        opened = repo if isinstance(repo, icechunk.Repository) else None
        if run_directory is None and run_id is None:
            run_id = _unfinished(made, offered=not resume)
        return run(
            made,
            opened,
            executor=calls,
            verify=verify,
            message=message,
            retry=retry,
            run_id=run_id,
            run_directory=run_directory,
            listener=listener,
        )


def _unfinished(plan: Plan, *, offered: bool) -> str | None:
    """The run to go on with: the latest of the same work that has not ended; only spoken of if it is offered."""
    if plan.target.location is None:
        return None
    found = [one for one in unfinished_in(runs_of(plan.target.location)) if one.work_hash == plan.work_hash]
    if found and offered:
        one = found[0]
        logger.warning(
            "run %s of the same plan has not ended (%d of %d regions are written). This starts another one; to go on "
            "with that one, use --resume (resume=True)",
            one.run_id,
            one.done,
            one.regions,
        )
    return found[0].run_id if found and not offered else None


def _several[N: str](names: N | Iterable[N]) -> tuple[N, ...]:
    """Names, of which a single one may stand for itself."""
    return (names,) if isinstance(names, str) else tuple(names)


@contextlib.contextmanager
def _using(executor: Executor | None) -> Iterator[Executor]:
    """The given executor, which its owner closes, or one of our own, closed in the end."""
    if executor is not None:
        yield executor
    else:
        with LithopsExecutor() as own:
            yield own


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


def _reopen(directory: RunDirectory, repo: icechunk.Repository | None) -> Run:
    """A run from its directory; one that was ended while it started is started."""
    if directory.record() is not None:
        return open_run(directory, repo)
    data = directory.plan()
    if data is not None:
        return start(Plan.from_json(data), directory, repo=repo)
    place = directory.location.parent
    known = list_runs(place)
    raise InvalidInputError(f"there is no run {directory.run_id!r} at {place}; {nearest(directory.run_id, known)}")


def _complete(begun: Run, calls: Executor, retry: Retry, reading: Reading, listener: Listener, began: float) -> Result:
    """Execute what is missing, and finish; only clear up what was published before."""
    record = begun.record
    done = _done_before(begun, began)
    if done is not None:
        return done

    def tell(stage: Stage) -> None:
        listener(Progress(stage, record.regions, record.regions, record.nbytes, record.nbytes, run_id=record.run_id))

    try:
        gathering = begun.gathering()
        spent = execute(begun, calls, gathering, retry, listener)
        read = replace(reading, read=lambda tasks: _checks(calls, tasks), workers=calls.workers)
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
    tell("done")
    return _result(begun, outcome, spent, began)


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
    )


def _checks(executor: Executor, tasks: Sequence[VerifyTask]) -> Iterator[RegionCheck]:
    """Functions read back."""
    return (check for _, value in results(executor, handler.verify, tasks) for check in load_checks(value))


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


def plan_target(repo: Target, asked: PlanTarget, replicas: Iterable[Target] = ()) -> tuple[PlanTarget, Existing | None]:
    """Where a plan writes, the snapshots that it is made against, and what it appends to, if it does."""
    location, base, existing = _base_of(repo, asked)
    others = []
    for one in [replicas] if isinstance(replicas, str | Path | Location) else replicas:
        where, its_base, its = _base_of(one, asked)
        if where is None:
            raise InvalidInputError("a replica's storage has no name to open it by; use a path or a URL")
        if (its and (its.file.variables, its.cuts)) != (existing and (existing.file.variables, existing.cuts)):
            raise InvalidInputError(
                f"the replica {where} holds something else than {location}, and cannot be appended to"
            )
        others.append(Replica(where, its_base))
    return replace(asked, location=location, base=base, replicas=tuple(others)), existing


def _base_of(repo: Target, asked: PlanTarget) -> tuple[Location | None, str | None, Existing | None]:
    """Where one repository is, where its branch is at, and what is appended to there.

    There is no base if the repository is still to be created.
    """
    if isinstance(repo, icechunk.Repository):
        opened, location = repo, location_of(repo)
    else:
        location = locate(repo)
        if not check_target(location):
            if asked.mode == "append":
                raise InvalidInputError(f"there is no repository at {location}, so there is nothing to append to")
            if asked.branch != "main":
                raise InvalidInputError(
                    f"there is no repository at {location} yet, and a new one has the branch 'main' alone"
                )
            return location, None, None
        opened = open_repository(location, create=False)
    base = tip_of(opened, asked.branch)
    check_no_secret(read_fork(dump_fork(opened.writable_session(asked.branch).fork())))
    if asked.mode == "create":
        check_absent(opened, base, asked.group)
        return location, base, None
    check_present(opened, base, asked.group)
    session = opened.readonly_session(snapshot_id=base)
    return location, base, scan_existing(session, f"{location or 'the repository'}, group /{asked.group}", asked.group)
