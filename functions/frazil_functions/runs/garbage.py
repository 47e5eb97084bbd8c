"""Garbage collection: what runs have left and nobody needs, and never what a run in flight still does.

An object goes only if nothing refers to it, and if it is older than every run in flight. The order of the steps
makes it safe to be killed between any two: a run's outcome comes first, and whoever collects next goes on from
there; its branches come before its directory, which says that they are to go; Icechunk's objects come last.

A run that is taken for abandoned holds objects back for a further hour (`MARGIN`). Whoever is just finishing it
looks at its outcome right before publishing, and so either sees that it was abandoned, or has published
before anything of it is removed.
"""

import contextlib
import logging
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Self

import icechunk

from frazil_functions.errors import BackendError, FrazilError, InvalidInputError
from frazil_functions.locations import Location
from frazil_functions.locking import exclusive
from frazil_functions.repositories import open_repository
from frazil_functions.rundir import RunOutcome
from frazil_functions.runs.clocks import safe_now
from frazil_functions.runs.publish import delete_branch
from frazil_functions.runs.start import runs_of
from frazil_functions.runs.traces import BranchTrace, RunTrace, branch_traces, published_as, run_traces
from frazil_functions.text import duration

logger = logging.getLogger(__name__)

MARGIN: Final = timedelta(hours=1)
"""How far the clocks of clients and of the storage may be apart, and how long a publication may take."""

OLDER_THAN: Final = timedelta(days=7)
ABANDON_AFTER: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Ages:
    """What counts as old.

    Attributes
    ----------
    older_than
        Objects that nothing refers to, and directories of runs that have ended, go at this age.
    abandon_after
        A run that has not ended is abandoned this long after its last sign of life.
    """

    older_than: timedelta = OLDER_THAN
    abandon_after: timedelta = ABANDON_AFTER

    def __post_init__(self) -> None:
        for name in ("older_than", "abandon_after"):
            if getattr(self, name) < timedelta():
                raise InvalidInputError(f"{name} is {getattr(self, name)}; an age cannot be negative")


@dataclass(frozen=True, slots=True)
class Objects:
    """How many objects Icechunk deleted, or would; the size of all of them; and what it could not delete.

    Attributes
    ----------
    chunks, manifests, snapshots, attributes, transaction_logs, bytes
        What was deleted.
    failed
        How many objects could not be deleted.
    errors
        Why not: the first few different reasons.
    skipped
        Kinds of objects that were not tried, because others that go before them could not be deleted.
    throttled
        How many requests the storage wanted to be repeated later; they were.
    """

    chunks: int = 0
    manifests: int = 0
    snapshots: int = 0
    attributes: int = 0
    transaction_logs: int = 0
    bytes: int = 0
    failed: int = 0
    errors: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    throttled: int = 0

    @classmethod
    def of(cls, summary: icechunk.GCSummary) -> Self:
        """What Icechunk says."""
        return cls(
            chunks=summary.chunks_deleted,
            manifests=summary.manifests_deleted,
            snapshots=summary.snapshots_deleted,
            attributes=summary.attributes_deleted,
            transaction_logs=summary.transaction_logs_deleted,
            bytes=summary.bytes_deleted,
            failed=summary.objects_failed_to_delete,
            errors=tuple(summary.delete_errors),
            skipped=tuple(summary.skipped_phases),
            throttled=summary.throttled_batches,
        )


@dataclass(frozen=True, slots=True)
class Collected:
    """What was removed; or, unless `deleted`, what would be.

    Attributes
    ----------
    deleted
        Whether anything was removed at all.
    cutoff
        Objects that were stored before this time were looked at; in seconds since 1970.
    held_by
        The run, or private branch of an unknown run, without which the cutoff would be later; empty if there is none.
    in_flight
        All of these: nothing that was written since they began is removed.
    abandoned
        Runs that were given up.
    branches
        Private branches that were removed; of other repositories with their names.
    directories
        Runs whose directories were removed.
    objects
        What Icechunk removed of the repository itself. Objects that only the branches above refer to are not
        counted as long as these are not removed.
    problems
        What could not be removed, and why.
    """

    deleted: bool
    cutoff: float
    held_by: str
    in_flight: tuple[str, ...]
    abandoned: tuple[str, ...]
    branches: tuple[str, ...]
    directories: tuple[str, ...]
    objects: Objects
    problems: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether everything could be removed that was to be."""
        return not (self.problems or self.objects.failed or self.objects.skipped)


def collect(
    repo: icechunk.Repository,
    location: Location,
    ages: Ages | None = None,
    *,
    delete: bool = False,
    now: float | None = None,
) -> Collected:
    """Remove what runs have left in a repository and beside it, or only say what would be removed.

    Parameters
    ----------
    repo, location
        The repository, and where it is.
    ages
        What counts as old.
    delete
        Whether to remove anything; if not, nothing is written at all.
    now
        The time, in seconds since 1970; by default what the clocks here and of the storage say.

    Raises
    ------
    BackendError
        If the storage cannot be reached, or Icechunk gives up.
    """
    place = runs_of(location)
    if now is None:
        # Taken before anything is looked at: whoever starts a run from now on writes newer objects alone.
        now = safe_now(place) if delete else time.time()
    work = _Collection(location, ages or Ages(), now, delete, [_Repository(location, repo, branch_traces(repo, now))])
    work.collect_runs(run_traces(place))
    work.collect_strangers()
    return work.collect_objects()


@dataclass(frozen=True, slots=True)
class _Repository:
    """A repository that runs have branches in."""

    location: Location
    repo: icechunk.Repository
    branches: list[BranchTrace]


@dataclass(slots=True)
class _Collection:
    """One pass over a repository; the first of `repositories`, the others are its replicas."""

    location: Location
    ages: Ages
    now: float
    delete: bool
    repositories: list[_Repository]
    held: dict[str, float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    in_flight: set[str] = field(default_factory=set)
    abandoned: list[str] = field(default_factory=list)
    branches: list[str] = field(default_factory=list)
    directories: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def collect_runs(self, traces: Iterable[RunTrace]) -> None:
        """Abandon runs without a sign of life; remove what runs that have ended do not need any more."""
        for trace in traces:
            with self._telling(f"run {trace.run_id}"):
                if trace.problem:
                    self._hold(trace)
                    raise InvalidInputError(f"{trace.problem} It holds back what was written since it began")
                if trace.outcome is not None:
                    self._clean(trace, trace.outcome)
                elif self._old(self._last(trace), self.ages.abandon_after):
                    self._abandon(trace)
                else:
                    self._hold(trace)

    def collect_strangers(self) -> None:
        """Remove old branches of runs that live somewhere else, if they still live."""
        here = self.repositories[0]
        for branch in here.branches:
            if self._is_of_ended(branch):
                continue
            # Until the next pass; somebody may be about to publish what the branch refers to.
            self.held[branch.name] = branch.since
            if branch.run_id not in self.in_flight and self._old(branch.last, self.ages.abandon_after):
                with self._telling(f"the branch {branch.name}"):
                    self._remove(here, branch)

    def collect_objects(self) -> Collected:
        """Let Icechunk delete what nothing refers to."""
        wanted = self.now - self.ages.older_than.total_seconds()
        holder = min(self.held, key=self.held.__getitem__, default="")
        cutoff = max(0.0, min(wanted, self.held.get(holder, math.inf)) - MARGIN.total_seconds())
        until = datetime.fromtimestamp(cutoff, UTC)
        try:
            with exclusive(self.location) if self.delete else contextlib.nullcontext():
                summary = self.repositories[0].repo.garbage_collect(until, dry_run=not self.delete)
        except icechunk.IcechunkError as error:
            raise BackendError(
                f"Icechunk gave up collecting garbage in {self.location}: {' '.join(str(error).split())}. What is left "
                "goes the next time"
            ) from error
        return Collected(
            deleted=self.delete,
            cutoff=cutoff,
            held_by=holder if self.held.get(holder, math.inf) < wanted else "",
            in_flight=tuple(sorted(self.held)),
            abandoned=tuple(self.abandoned),
            branches=tuple(self.branches),
            directories=tuple(self.directories),
            objects=Objects.of(summary),
            problems=tuple(self.problems),
        )

    def _old(self, since: float, age: timedelta) -> bool:
        return self.now - since > age.total_seconds()

    def _hold(self, trace: RunTrace) -> None:
        self.held[trace.run_id] = trace.since
        self.in_flight.add(trace.run_id)

    def _last(self, trace: RunTrace) -> float:
        """The last sign of life in the run's directory and on its branches here."""
        branches = self.repositories[0].branches
        return max([trace.last, *(branch.last for branch in branches if branch.run_id == trace.run_id)])

    def _abandon(self, trace: RunTrace) -> None:
        self._hold(trace)
        outcome = self._outcome(trace)
        if self.delete:
            outcome = trace.directory.put_outcome(outcome)  # somebody may have ended it meanwhile
        if outcome.state == "abandoned":
            self.abandoned.append(trace.run_id)
        self._clean(replace(trace, ended=self.now), outcome)

    def _outcome(self, trace: RunTrace) -> RunOutcome:
        """How a run ended whose driver did not live to say so."""
        record = trace.record
        targets = record.targets if record is not None else ()
        snapshots = []
        for target in targets:
            found = self._repository(target.location)
            if found is None or record is None:
                continue
            published = published_as(found.repo, target.base, record)
            snapshots += [published] if published is not None else []
        if record is not None and len(snapshots) == len(targets):
            return RunOutcome("published", tuple(snapshots), time.time(), regions=record.regions, nbytes=record.nbytes)
        silence = duration(self.now - self._last(trace))
        partly = f"; it was published in {len(snapshots)} of {len(targets)} repositories" if snapshots else ""
        reason = f"nobody had written anything for {silence}, and garbage collection gave it up{partly}"
        return RunOutcome("abandoned", tuple(snapshots), time.time(), reason)

    def _clean(self, trace: RunTrace, outcome: RunOutcome) -> None:
        self.ended[trace.run_id] = trace.ended
        self.in_flight.discard(trace.run_id)
        recent = not self._old(trace.ended, MARGIN)
        if recent and outcome.state == "abandoned":
            self.held[trace.run_id] = trace.since
        else:
            self.held.pop(trace.run_id, None)
        for where in self._repositories(trace):
            for branch in where.branches:
                if branch.run_id == trace.run_id and self._is_of_ended(branch):
                    self._remove(where, branch)
        removed = not recent and self._old(trace.ended, self.ages.older_than)
        if removed:
            self.directories.append(trace.run_id)
        if self.delete:
            (trace.directory.remove if removed else trace.directory.remove_work)()

    def _is_of_ended(self, branch: BranchTrace) -> bool:
        """Whether a branch was made for a run that has ended, and not later for another one of the same name."""
        return branch.since <= self.ended.get(branch.run_id, -math.inf)

    def _repositories(self, trace: RunTrace) -> Iterator[_Repository]:
        """Where a run has branches: here, and in its other repositories, each once."""
        yield (here := self.repositories[0])
        for target in trace.record.targets if trace.record is not None else ():
            found = self._repository(target.location)
            if found is not None and found is not here:
                yield found

    def _repository(self, location: Location | None) -> _Repository | None:
        """The repository of a run's target; None if there is none any more."""
        if location is None:  # of the repository that was passed to the run, which is this one
            return self.repositories[0]
        for known in self.repositories:
            if known.location.url == location.url:
                return known
        try:
            repo = open_repository(location, create=False)
        except InvalidInputError:
            return None
        self.repositories.append(_Repository(location, repo, branch_traces(repo, self.now)))
        return self.repositories[-1]

    def _remove(self, where: _Repository, branch: BranchTrace) -> None:
        if self.delete:
            delete_branch(where.repo, where.location, branch.name)
        here = where is self.repositories[0]
        self.branches.append(branch.name if here else f"{branch.name} of {where.location}")

    @contextlib.contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        """Go on with other things where one cannot be removed, and tell so in the end."""
        try:
            yield
        except (FrazilError, icechunk.IcechunkError, OSError) as error:
            logger.warning("%s could not be collected: %s", what, error)
            self.problems.append(f"{what} could not be collected: {' '.join(str(error).split())}")
