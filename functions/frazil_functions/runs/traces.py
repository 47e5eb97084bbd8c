"""What runs leave that garbage collection goes by: directories beside a repository, branches in it, and when.

Times are seconds since 1970. Those of objects are by the storage's clock, those of branches by the clocks of
whoever made them.
"""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import icechunk
from icechunk.ops import UpdateType

from frazil_functions.errors import InvalidInputError
from frazil_functions.locations import Location
from frazil_functions.records import RunOutcome, RunRecord
from frazil_functions.rundir import RunDirectory, list_runs
from frazil_functions.runs.publish import run_of

_LOOKS: Final = 16
_OUTCOME: Final = "outcome.json"


@dataclass(frozen=True, slots=True)
class RunTrace:
    """What a run's directory says.

    Attributes
    ----------
    directory, record, outcome
        Where it is, and what it holds; None for what it does not.
    since
        Nothing of the run was written before.
    last
        The last sign of life: when something was put there.
    ended
        When its outcome was put; 0 if it has none.
    problem
        Why it cannot be read; empty if it can.
    """

    directory: RunDirectory
    record: RunRecord | None
    outcome: RunOutcome | None
    since: float
    last: float
    ended: float
    problem: str = ""

    @property
    def run_id(self) -> str:
        """The run's name."""
        return self.directory.run_id


@dataclass(frozen=True, slots=True)
class BranchTrace:
    """A private branch.

    Attributes
    ----------
    name, run_id
        The branch, and the run that it says it is of.
    since
        It was not made before.
    last
        When it was made, committed to or amended for the last time.
    """

    name: str
    run_id: str
    since: float
    last: float


def run_traces(place: Location) -> list[RunTrace]:
    """The runs that live below a place; folders that hold nothing of a run are none.

    Raises
    ------
    BackendError
        If one of them cannot be read.
    """
    with ThreadPoolExecutor(_LOOKS, "frazil-traces") as pool:
        found = pool.map(lambda run_id: _run_trace(RunDirectory(place.below(run_id))), list_runs(place))
        return [one for one in found if one is not None]


def _run_trace(directory: RunDirectory) -> RunTrace | None:
    try:
        record, problem = directory.record(), ""
        outcome = directory.outcome()
    except InvalidInputError as error:  # of another version, or damaged
        record, outcome, problem = None, None, str(error)
    # Listed last: whatever is put meanwhile makes the run look livelier, not older.
    put = directory.modified()
    if not put:
        return None
    ended = put.pop(_OUTCOME, 0.0) if outcome is not None else 0.0
    signs = list(put.values()) or [ended]
    # Whoever started the run may have a clock that is wrong; the earlier time is the safe one.
    since = min(signs + ([record.started] if record is not None else []))
    return RunTrace(directory, record, outcome, since, max(signs), ended, problem)


def branch_traces(repo: icechunk.Repository, now: float) -> list[BranchTrace]:
    """The private branches of a repository.

    A branch that was just made is at a snapshot that may be old, so its age is read from the log of
    what was done to the repository.
    """
    wanted = {name for name in repo.list_branches() if run_of(name) is not None}
    last: dict[str, float] = {}
    since: dict[str, float] = {}
    earliest = now
    for name, made, at in _operations(repo) if wanted else ():
        # The log is in order, so an entry is no later than any that follows it, whatever its clock said.
        earliest = min(earliest, at)
        if name in wanted - since.keys():
            last.setdefault(name, at)
            if made:
                since[name] = earliest
        if wanted <= since.keys():
            break
    return [
        BranchTrace(name, run_of(name) or "", since.get(name, min(earliest, at)), last.get(name, at))
        for name in sorted(wanted)
        for at in _written(repo, name)
    ]


def _operations(repo: icechunk.Repository) -> Iterator[tuple[str, bool, float]]:
    """What was done to branches, the latest first: the branch, whether it was made then, and when."""
    for update in repo.ops_log():
        at = update.updated_at.timestamp()
        match update.kind:
            case UpdateType.BranchCreated() as made:
                yield made.name, True, at
            case UpdateType.NewCommit() | UpdateType.CommitAmended() as moved:
                yield moved.branch, False, at
            case _:
                yield "", False, at


def _written(repo: icechunk.Repository, branch: str) -> Iterator[float]:
    """When a branch's tip was written; nothing if the branch is gone."""
    with contextlib.suppress(icechunk.NotFoundError):
        yield next(iter(repo.ancestry(branch=branch))).written_at.timestamp()


def published_as(repo: icechunk.Repository, base: str, record: RunRecord) -> str | None:
    """The snapshot that a run was published as, if a branch for readers has it."""
    for branch in sorted(repo.list_branches()):
        if run_of(branch) is not None:
            continue
        for snapshot in repo.ancestry(branch=branch):
            said = snapshot.metadata.get("frazil")
            ours = (record.run_id, record.plan_hash)
            if isinstance(said, dict) and (said.get("run_id"), said.get("plan_hash")) == ours:
                return snapshot.id
            if snapshot.id == base:
                break
    return None
