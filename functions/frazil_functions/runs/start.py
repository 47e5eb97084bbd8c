"""Starting a run: private branches with the template, clean forks, and a record that every driver goes by."""

import contextlib
import hashlib
import logging
import re
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import icechunk

from frazil_functions import versions
from frazil_functions.declaring import agreed_in, authorised, declare_all
from frazil_functions.errors import BackendError, ConflictError, InvalidInputError
from frazil_functions.forks import check_no_secret, dump_fork, read_fork, require_layout
from frazil_functions.locations import Location, location_of
from frazil_functions.plan import Plan
from frazil_functions.reading.encoding import Values
from frazil_functions.records import Wishes
from frazil_functions.repositories import FIRST_OBJECTS, check_target, open_repository
from frazil_functions.rundir import RunDirectory, RunRecord, RunTarget, check_outside
from frazil_functions.runs.clocks import check_clock
from frazil_functions.runs.disjoint import check_disjoint
from frazil_functions.runs.publish import PrivateBranch, tip_of
from frazil_functions.runs.run import Carrier, Run, open_run
from frazil_functions.runs.template import read_static, write_template
from frazil_functions.runs.verify import Reading
from frazil_functions.storage import holds_only

logger = logging.getLogger(__name__)

_DOES: Final = {
    "create": "create",
    "overwrite": "overwrite",
    "append": "append to",
    "region": "write a region of",
    "modify": "modify",
    "add": "add to",
}
"""What a commit says of each mode, before the name of the group."""

_RUN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def new_run_id() -> str:
    """The time, and enough chance for two runs of the same second."""
    return f"{datetime.now(UTC).strftime('%Y%m%dT%H%M%S')}-{secrets.token_hex(4)}"


def check_run_id(run_id: str) -> str:
    """Refuse what cannot name a folder and a branch.

    Raises
    ------
    InvalidInputError
        Saying what can.
    """
    if not _RUN_ID.fullmatch(run_id) or run_id.endswith((".", ".lock")):
        raise InvalidInputError(
            f"{run_id!r} cannot name a run: use letters, digits, '.', '_' and '-', at most 128, with no sign first"
        )
    return run_id


def directory_of(location: Location, run_id: str) -> RunDirectory:
    """Where a run lives unless somebody chose another place: beside the repository, never within it."""
    return RunDirectory(runs_of(location).below(check_run_id(run_id)))


def directory_at(place: Location, run_id: str | None) -> RunDirectory:
    """The directory of a run that lives at a certain place, whose last name is the run's.

    Raises
    ------
    InvalidInputError
        If the run is to have another name.
    """
    directory = RunDirectory(place)
    if run_id not in {None, directory.run_id}:
        raise InvalidInputError(
            f"the run is to be named {run_id!r} (--run-id), and its directory is {place} (--run-dir), whose last name "
            f"{directory.run_id!r} is the run's; leave out one of the two, or make them one"
        )
    return directory


def branch_key(directory: RunDirectory, primary: Location | None) -> str:
    """What a run's private branches are named by.

    Beside its primary repository a run's id is its own; elsewhere another run may have the same.
    """
    if primary is not None and directory.location == runs_of(primary).below(directory.run_id):
        return directory.run_id
    return f"{directory.run_id}~{hashlib.sha256(directory.location.url.encode()).hexdigest()[:8]}"


def runs_of(location: Location) -> Location:
    """The place beside a repository that holds its runs."""
    return Location(f"{location.url}.frazil", location.region, location.endpoint_url)


def start(
    plan: Plan,
    directory: RunDirectory,
    *,
    repo: icechunk.Repository | None = None,
    wishes: Wishes | None = None,
    proven: bool = False,
    carrier: Carrier | None = None,
) -> Run:
    """Start a run of a plan, or join the one of the same plan that lives in the directory.

    Starting at once from several places is safe: one of them starts the run, and the others join it.

    The plan's containers are declared in every repository once all is checked, for the forks carry the configuration.
    Of a run that fails, its private branches are removed sooner or later, and a declaration is all that stays: it lets
    nobody read anything who does not authorise it himself.

    Parameters
    ----------
    plan
        What to write.
    directory
        Where the run is to live; its last name is the run's id.
    repo
        The primary repository, where the plan's location does not open it with the environment's credentials.
    wishes
        What else is asked for.
    proven
        Whether the plan was proven in this process, as one is that was just made or read; it is proven here otherwise.
    carrier
        Who has the dataset that the plan was made from, where that lies in no files.

    Raises
    ------
    InvalidInputError
        If the plan does not prove or is of another version; the directory lies within a repository or holds a run of
        another plan or job file; a repository was opened with keys that would travel, or declares one of the plan's
        containers with other storage.
    ConflictError
        If a branch has moved under what the plan writes.
    BackendError
        If a repository or the directory cannot be reached, or this machine's clock is wrong.
    """
    wishes = wishes or Wishes()
    locations = _locations(plan, repo)
    _check(plan, directory, wishes, locations, proven=proven)
    if directory.record() is not None:
        return replace(_join(plan, directory, wishes, repo), carrier=carrier)
    try:
        begun = _begin(plan, directory, wishes, repo, locations, carrier)
    except (ConflictError, icechunk.NotFoundError):
        # What overlaps may be this very run, started and published by somebody else meanwhile, who has removed all its
        # private branches; or it may have been ended and removed.
        if directory.record() is None:
            raise
        begun = _join(plan, directory, wishes, repo)
    return replace(begun, carrier=carrier)


def _begin(
    plan: Plan,
    directory: RunDirectory,
    wishes: Wishes,
    repo: icechunk.Repository | None,
    locations: Sequence[Location | None],
    carrier: Carrier | None,
) -> Run:
    """Start a run that nobody seems to have started."""
    plan = _agreed(plan, directory)
    opened = _open_existing(plan, repo)
    wishes = _keep(plan, directory, wishes)
    check_clock(directory.location)
    static = _static(plan, carrier)
    repos = tuple(
        _declaring(one or _created(_named(location), plan), plan)
        for one, location in zip(opened, plan.target.locations, strict=True)
    )
    with contextlib.ExitStack() as undo:
        ours = _record(plan, directory, wishes, _targets(plan, static, directory, repos, locations, undo))
        # From here on the record may stand, whatever is said of it; branches that it does not name are garbage.
        made = undo.pop_all()
    record = directory.put_record(ours)
    if record == ours:
        return Run(directory, record, plan, repos)
    # Somebody else started the same run meanwhile.
    made.close()
    return _join(plan, directory, wishes, repo)


def _check(
    plan: Plan, directory: RunDirectory, wishes: Wishes, locations: Iterable[Location | None], *, proven: bool
) -> None:
    """Refuse what can be told to be wrong before anything is opened."""
    Reading(wishes.verify)
    wishes.missing.check_known({grid.array for grid in plan.grids}, plan.template.arrays)
    check_run_id(directory.run_id)
    differs = versions.difference(plan.versions)
    if differs:
        raise InvalidInputError(f"the plan was made with other versions ({differs}); plan again")
    if not proven:
        plan.prove()
    for location in locations:
        if location is not None:
            check_outside(directory.location, location)
            if directory.location == runs_of(location):
                raise InvalidInputError(
                    f"{directory.location} is the place of all runs of {location}; name a folder for this one there"
                )


def _keep(plan: Plan, directory: RunDirectory, asked: Wishes) -> Wishes:
    """Keep the plan and what is asked for beside it; returns what stands of that."""
    wishes = directory.put_wishes(asked)
    if asked.job != wishes.job:
        raise InvalidInputError(
            f"another job file was given for the run at {directory.location}; give this run another id, or take back "
            "what was changed"
        )
    directory.put_plan(plan.to_json())
    return wishes


def _static(plan: Plan, carrier: Carrier | None) -> Mapping[str, Values]:
    """The values of what is written once."""
    if not plan.sources:
        return {}
    if not plan.sources[0].travels:
        return read_static(plan.template, plan.sources[0])
    if carrier is None:
        raise InvalidInputError(
            "the plan writes a dataset that lies in no files, so only who has it can start the run: "
            "frazil.run(plan, source=dataset)"
        )
    return carrier.static()


def _targets(
    plan: Plan,
    static: Mapping[str, Values],
    directory: RunDirectory,
    repos: Sequence[icechunk.Repository],
    locations: Sequence[Location | None],
    undo: contextlib.ExitStack,
) -> list[RunTarget]:
    """A private branch with the template in every repository, which `undo` removes."""
    key = branch_key(directory, locations[-1])
    targets = []
    for repo, location, base in zip(repos, locations, plan.target.bases, strict=True):
        private = PrivateBranch.make(repo, location, key, plan.target.branch, _base(plan, repo, base))
        undo.callback(_remove, private)
        targets.append(_initialise(plan, directory, private, static))
    return targets


def _record(plan: Plan, directory: RunDirectory, wishes: Wishes, targets: Sequence[RunTarget]) -> RunRecord:
    """What every driver goes by."""
    return RunRecord(
        run_id=directory.run_id,
        plan_hash=plan.hash,
        work_hash=plan.work_hash,
        started=time.time(),
        versions=versions.versions(),
        targets=tuple(targets),
        regions=plan.region_count,
        nbytes=plan.nbytes,
        tasks=len(plan.tasks),
        message=wishes.message or message_of(plan),
        verify=wishes.verify,
        job=wishes.job,
        missing=wishes.missing,
    )


def _join(plan: Plan, directory: RunDirectory, wishes: Wishes, repo: icechunk.Repository | None) -> Run:
    """The run that somebody else has started, if it is of the same work."""
    run = open_run(directory, repo)
    if run.record.work_hash != plan.work_hash or run.record.job != wishes.job:
        raise InvalidInputError(
            f"run {run.run_id} was started with another plan or job file; give this one another run id, or take back "
            "what was changed"
        )
    return run


def _agreed(plan: Plan, directory: RunDirectory) -> Plan:
    """The plan that the directory holds if an earlier start left one of the same work, else the given one."""
    data = directory.plan()
    if data is None or data == plan.to_json():
        return plan
    found = Plan.from_json(data)
    if found.work_hash != plan.work_hash:
        raise InvalidInputError(
            f"another plan lies at {directory.location}; give this run another id, or take back what was changed"
        )
    return found


def _locations(plan: Plan, repo: icechunk.Repository | None) -> tuple[Location | None, ...]:
    primary = plan.target.location if repo is None else location_of(repo)
    return (*(replica.location for replica in plan.target.replicas), primary)


def _named(location: Location | None) -> Location:
    if location is None:
        raise InvalidInputError("the plan does not say how to open its repository; pass it to run(plan, repo)")
    return location


def _open_existing(plan: Plan, repo: icechunk.Repository | None) -> list[icechunk.Repository | None]:
    """The repositories that exist, checked before anything is written; None for those still to be created."""
    opened: list[icechunk.Repository | None] = []
    for location, base in zip(plan.target.locations, plan.target.bases, strict=True):
        primary = len(opened) == len(plan.target.replicas)
        if primary and repo is not None:
            opened.append(repo)
        elif base is None and not check_target(_named(location)):
            opened.append(None)
        else:
            opened.append(open_repository(_named(location), create=False))
    for one, base in zip(opened, plan.target.bases, strict=True):
        if one is not None:
            state = read_fork(dump_fork(one.writable_session(plan.target.branch).fork()))
            require_layout(state)
            check_no_secret(state)
            if plan.target.containers:
                agreed_in(one, plan.target.containers)
            _base(plan, one, base)
    return opened


def _declaring(repo: icechunk.Repository, plan: Plan) -> icechunk.Repository:
    """The repository with the plan's containers declared, and access to them authorised."""
    declare_all(repo, plan.target.containers)
    return authorised(repo, plan.target.containers)


def _created(location: Location, plan: Plan) -> icechunk.Repository:
    """A new repository, or the one that somebody else has made meanwhile."""
    return open_repository(location, begun=holds_only(location, FIRST_OBJECTS), spans=plan.manifest_spans)


def _base(plan: Plan, repo: icechunk.Repository, planned: str | None) -> str:
    """The snapshot to start from: the branch's tip, if what was committed since the plan was made leaves it alone."""
    tip = tip_of(repo, plan.target.branch)
    if planned is None:
        *_, first = repo.ancestry(snapshot_id=tip)
        planned = first.id
    check_disjoint(repo, plan, planned, tip)
    return tip


def _initialise(plan: Plan, directory: RunDirectory, private: PrivateBranch, static: Mapping[str, Values]) -> RunTarget:
    """Commit the template on the private branch, and keep a clean fork of it."""
    session, snapshot = commit_template(private, plan, static)
    clean = dump_fork(session.fork())
    check_no_secret(read_fork(clean))
    return RunTarget(private.location, private.base, private.name, snapshot, directory.put_fork(clean))


def commit_template(private: PrivateBranch, plan: Plan, static: Mapping[str, Values]) -> tuple[icechunk.Session, str]:
    """Commit the template; return a clean session of it, which forks are made from, and its snapshot."""
    session = private.repo.writable_session(private.name)
    if plan.nothing_new:
        return session, private.base
    write_template(session, plan.target.group, plan.template, static, plan.target.mode)
    snapshot = private.commit_template(session, "frazil: template")
    return private.repo.writable_session(private.name), snapshot


def _remove(private: PrivateBranch) -> None:
    try:
        private.delete()
    except (icechunk.IcechunkError, BackendError, OSError) as error:
        logger.warning("the branch %s could not be removed: %s", private.name, error)


def message_of(plan: Plan) -> str:
    """What a commit says where nobody chose a message."""
    does = "materialize" if plan.materializes else _DOES[plan.target.mode]
    return f"frazil: {does} /{plan.target.group} from {plan.source_words}"
