"""The main job, as it is told: plan, initialise, fork, execute, gather, verify, publish."""

import contextlib
import logging
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import icechunk

from frazil.execution.executor import Executor
from frazil.execution.lithops import LithopsExecutor
from frazil.execution.results import results
from frazil.following import following
from frazil.planning.compare import Accept
from frazil.planning.inputs import expand
from frazil.planning.labels import Gaps
from frazil.planning.make import Options, make_plan
from frazil.planning.scan import Wanted, scan_sources
from frazil.report import Listener, Progress, Result, Spent, silent
from frazil_functions import handler
from frazil_functions.errors import BackendError, ConflictError, IncompleteRunError, InvalidInputError
from frazil_functions.forks import check_no_secret, dump_fork, node_id, read_fork, require_layout
from frazil_functions.plan import Plan, PlanTarget
from frazil_functions.repositories import Location, check_target, locate, location_of, open_repository, run_directory
from frazil_functions.runs.gather import Expected, Gathering, check_merged
from frazil_functions.runs.publish import PREFIX, PrivateBranch, tip_of
from frazil_functions.runs.template import check_absent, write_template
from frazil_functions.runs.verify import Reading, Verify, read_back
from frazil_functions.tasks import WriteTask, load_receipts
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
    group: str = "",
    branch: str = "main",
    chunks: Mapping[str, int] | None = None,
    shards: Mapping[str, int] | None = None,
    append_dim: str | None = None,
    variables: str | Sequence[str] | None = None,
    engine: str | None = None,
    gaps: Gaps = "error",
    accept: Accept | Iterable[Accept] = (),
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
    group
        The group to create; the root by default.
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
    target = _plan_target(repo, group.strip("/"), branch)
    urls = expand(sources)
    with _using(executor) as calls:
        wanted = Wanted(engine, append_dim, None if variables is None else _several(variables))
        found = scan_sources(urls, wanted, calls, listener)
        options = Options(
            chunks=dict(chunks or {}),
            shards=dict(shards or {}),
            gaps=gaps,
            accept=frozenset(_several(accept)),
            workers=calls.workers if workers is None else workers,
        )
    listener(Progress("plan"))
    return make_plan(found, target, options)


def run(
    plan: Plan,
    repo: icechunk.Repository | None = None,
    *,
    executor: Executor | None = None,
    verify: Verify = "sample",
    message: str | None = None,
    listener: Listener = silent,
) -> Result:
    """Execute a plan: write everything in it and publish it as one commit, or publish nothing.

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
        If the branch has moved since the plan was made.
    IncompleteRunError
        If a function failed, or what it wrote did not stand the tests; nothing was published.
    BackendError
        If the storage or the backend is at fault.
    """
    began = time.perf_counter()
    Reading(verify)  # refused before anything is done
    plan.prove()
    repository, private = _open_target(plan, repo)
    with _using(executor) as calls:
        calls.warm()
        listener(Progress("template", 0, plan.region_count, 0, plan.nbytes))
        private.create()
        with _removed(private):
            session, expected, clean = _initialise(plan, repository, private)
            gathering = Gathering(expected, session)
            spent = _execute(plan, clean, gathering, calls, listener)
            check_merged(session, plan.target.group, list(plan.grids), expected.regions)
            snapshot = private.commit_data(session, message or _message(plan), _metadata(plan, expected.run_id))
            listener(Progress("verify", plan.region_count, plan.region_count, plan.nbytes, plan.nbytes))
            committed = dump_fork(repository.writable_session(private.name).fork())
            written = list(gathering.written.values())
            reading = Reading(verify, lambda tasks: _checks(calls, tasks), calls.workers)
            verified = read_back(committed, plan.target.group, written, reading, expected.run_id)
            listener(Progress("publish", plan.region_count, plan.region_count, plan.nbytes, plan.nbytes))
            private.publish(snapshot)
    listener(Progress("done", plan.region_count, plan.region_count, plan.nbytes, plan.nbytes))
    return Result(
        run_id=expected.run_id,
        plan_hash=plan.hash,
        snapshot_id=snapshot,
        branch=plan.target.branch,
        group=plan.target.group,
        regions=plan.region_count,
        tasks=len(plan.tasks),
        bytes=plan.nbytes,
        seconds=time.perf_counter() - began,
        verified=verified,
        peak_memory_bytes=spent.peak_memory_bytes,
        read_seconds=spent.read_seconds,
        write_seconds=spent.write_seconds,
    )


def convert(  # noqa: PLR0913 - as above
    sources: Sources,
    repo: Target,
    *,
    group: str = "",
    branch: str = "main",
    chunks: Mapping[str, int] | None = None,
    shards: Mapping[str, int] | None = None,
    append_dim: str | None = None,
    variables: str | Sequence[str] | None = None,
    engine: str | None = None,
    gaps: Gaps = "error",
    accept: Accept | Iterable[Accept] = (),
    workers: int | None = None,
    executor: Executor | None = None,
    verify: Verify = "sample",
    message: str | None = None,
    listener: Listener = silent,
) -> Result:
    """Plan and run: files in, one commit out. Parameters and errors are those of `plan` and `run`."""
    with _using(executor) as calls:
        calls.warm()
        made = plan(
            sources,
            repo,
            group=group,
            branch=branch,
            chunks=chunks,
            shards=shards,
            append_dim=append_dim,
            variables=variables,
            engine=engine,
            gaps=gaps,
            accept=accept,
            workers=workers,
            executor=calls,
            listener=listener,
        )
        opened = repo if isinstance(repo, icechunk.Repository) else None
        return run(made, opened, executor=calls, verify=verify, message=message, listener=listener)


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


def _plan_target(repo: Target, group: str, branch: str) -> PlanTarget:
    """Where a plan writes, and the snapshot that it is made against."""
    if isinstance(repo, icechunk.Repository):
        opened, location = repo, location_of(repo)
    else:
        location = locate(repo)
        if not check_target(location):
            if branch != "main":
                raise InvalidInputError(
                    f"there is no repository at {location} yet, and a new one has the branch 'main' alone"
                )
            return PlanTarget(location, group, branch, None, "create")
        opened = open_repository(location, create=False)
    base = tip_of(opened, branch)
    check_no_secret(read_fork(dump_fork(opened.writable_session(branch).fork())))
    check_absent(opened, base, group)
    return PlanTarget(location, group, branch, base, "create")


def _open_target(plan: Plan, repo: icechunk.Repository | None) -> tuple[icechunk.Repository, PrivateBranch]:
    """The repository, created if the plan says so, and the run's private branch, not yet made."""
    target = plan.target
    if repo is None and target.location is None:
        raise InvalidInputError("the plan does not say how to open its repository; pass it to run(plan, repo)")
    location = target.location if repo is None else location_of(repo)
    if repo is None:
        assert target.location is not None
        repo = open_repository(target.location, create=target.base is None)
    tip = tip_of(repo, target.branch)
    base = target.base
    if base is None:
        if next(iter(repo.ancestry(snapshot_id=tip))).parent_id is not None:
            raise ConflictError(
                f"a repository was created at {location} since the plan was made, and has commits already. "
                "Nothing was published; plan again."
            )
        base = tip
    state = read_fork(dump_fork(repo.writable_session(target.branch).fork()))
    require_layout(state)
    check_no_secret(state)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    run_id = f"{stamp}-{secrets.token_hex(4)}"
    return repo, PrivateBranch(repo, location, PREFIX + run_id, target.branch, base)


@contextlib.contextmanager
def _removed(private: PrivateBranch) -> Iterator[None]:
    """Remove the private branch in the end, whatever happened; what happened stays what is told."""
    try:
        yield
    except BaseException:
        _remove(private)
        raise
    # The run is published, and nothing that goes wrong from here on can change that.
    with contextlib.suppress(KeyboardInterrupt):
        _remove(private)


def _remove(private: PrivateBranch) -> None:
    try:
        private.delete()
    except (icechunk.IcechunkError, BackendError, OSError) as error:
        logger.warning("the branch %s could not be removed: %s", private.name, error)


def _initialise(
    plan: Plan, repo: icechunk.Repository, private: PrivateBranch
) -> tuple[icechunk.Session, Expected, bytes]:
    """Commit the template; return the session that merges, what receipts must agree with, and the fork."""
    group = plan.target.group
    session = repo.writable_session(private.name)
    write_template(session, group, plan.template, plan.sources[0])
    base = private.commit_template(session, "frazil: template")
    session = repo.writable_session(private.name)
    clean = dump_fork(session.fork())
    state = read_fork(clean)
    names = [grid.array for grid in plan.grids]
    nodes = {
        node_id(session.get_node_id("/" + "/".join(part for part in (group, name) if part))): name for name in names
    }
    expected = Expected(
        run_id=private.name.removeprefix(PREFIX),
        plan_hash=plan.hash,
        base=base,
        fork=state,
        nodes=nodes,
        regions=frozenset(plan.regions),
        grids={grid.array: grid for grid in plan.grids},
    )
    return session, expected, clean


def _execute(plan: Plan, clean: bytes, gathering: Gathering, executor: Executor, listener: Listener) -> Spent:
    """Call a function for every task; admit and merge receipts as they arrive."""
    expected = gathering.expected
    directory = run_directory(plan.target.location, expected.run_id) if listener is not silent else None
    tasks = [
        WriteTask(
            run_id=expected.run_id,
            plan_hash=expected.plan_hash,
            number=number,
            group=plan.target.group,
            fork=clean,
            base=expected.base,
            append_dim=plan.template.append_dim,
            sources=plan.sources[slice(*task.sources)],
            regions=task.regions,
            memory_bytes=task.memory_bytes,
            run_directory=directory,
        )
        for number, task in enumerate(plan.tasks)
    ]
    spent = Spent()
    with following(directory, plan.region_count, plan.nbytes, listener) as tell:
        tell(0, 0)
        try:
            for _, value in results(executor, handler.write, tasks):
                for receipt in load_receipts(value):
                    gathering.add(receipt)
                    spent = spent.plus(receipt)
                tell(len(gathering.written), sum(written.nbytes for written in gathering.written.values()))
        except (InvalidInputError, BackendError) as error:
            # Something was written by then, and the plan had been sound.
            raise IncompleteRunError(f"a function failed, and nothing was published: {error}") from error
    missing = gathering.missing
    if missing:
        raise IncompleteRunError(
            f"{len(missing)} of {plan.region_count} regions are missing, first {missing[0]}; nothing was published"
        )
    return spent


def _checks(executor: Executor, tasks: Sequence[VerifyTask]) -> Iterator[RegionCheck]:
    """Functions read back."""
    return (check for _, value in results(executor, handler.verify, tasks) for check in load_checks(value))


def _message(plan: Plan) -> str:
    count = len(plan.sources)
    return f"frazil: create /{plan.target.group} from {count} file{'s' * (count > 1)}"


def _metadata(plan: Plan, run_id: str) -> dict[str, object]:
    names = [PurePosixPath(source.url).name for source in plan.sources]
    return {
        "frazil": {
            "run_id": run_id,
            "plan_hash": plan.hash,
            "versions": plan.versions,
            "sources": {"count": len(names), "first": names[0], "last": names[-1]},
            "regions": plan.region_count,
            "bytes": plan.nbytes,
        }
    }
