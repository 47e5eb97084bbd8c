"""Finishing a run: gather, verify and publish it once, however often and by whomever that is tried."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Final, Literal

import icechunk

from frazil_functions.errors import (
    BackendError,
    ConflictError,
    FrazilError,
    IncompleteRunError,
    InvalidInputError,
    ReceiptError,
    VerificationError,
)
from frazil_functions.forks import dump_fork, read_fork
from frazil_functions.reading.rounding import Packing
from frazil_functions.records import Work
from frazil_functions.rundir import RunDirectory, RunOutcome
from frazil_functions.runs.admit import check_merged
from frazil_functions.runs.clocks import check_clock
from frazil_functions.runs.disjoint import check_disjoint
from frazil_functions.runs.gather import Gathering, Sink
from frazil_functions.runs.publish import MovedError, PrivateBranch, delete_branch, run_of, tip_of
from frazil_functions.runs.run import Run, nodes_of
from frazil_functions.runs.start import commit_template
from frazil_functions.runs.template import stored_static
from frazil_functions.runs.verify import Reading, read_back
from frazil_functions.tasks import RegionReceipt
from frazil_functions.text import escaped

logger = logging.getLogger(__name__)

TRIES: Final = 10
"""How often a publication is tried on a branch that others move again and again."""

type Tell = Callable[[Literal["verify", "publish"]], None]


def gather(run: Run) -> Gathering:
    """What the run directory holds, merged.

    Raises
    ------
    ReceiptError
        If two receipts disagree about a region's values.
    BackendError
        If the directory cannot be read.
    """
    gathering = run.gathering()
    gathering.read(run.directory, run.directory.list_receipts())
    return gathering


def finish(
    run: Run,
    gathering: Gathering | None = None,
    *,
    reading: Reading | None = None,
    tell: Tell = lambda _: None,
) -> RunOutcome:
    """Publish a run whose regions are all written; do nothing if that is done already.

    Replicas are published first and the primary last, each by one compare-and-swap. Where somebody else
    has moved the branch, and left alone what the run writes, the run is published on top of that.

    Parameters
    ----------
    run
        The run.
    gathering
        What was gathered so far; by default what the run directory holds.
    reading
        How much is read back; by default what the run's record says, in this process.
    tell
        Told of every step.

    Raises
    ------
    IncompleteRunError
        If regions are missing, or what is stored is not what was planned or written.
    ConflictError
        If a branch has moved under what the run writes, or is gone. The run can be resumed when that is mended.
    InvalidInputError
        If the run was abandoned.
    """
    try:
        return _finish(run, gathering, reading or Reading(run.record.verify), tell)
    except (FrazilError, icechunk.IcechunkError) as error:
        # Whoever was faster has removed what this one was working with.
        ended = run.directory.outcome()
        if ended is None or ended.state != "published":
            raise
        logger.info("run %s was published by somebody else meanwhile: %s", run.run_id, error)
        return clear_published(run, ended)


def _finish(run: Run, gathering: Gathering | None, reading: Reading, tell: Tell) -> RunOutcome:
    ended = run.directory.outcome()
    if ended is None and not all(_published(run, at) for at in range(len(run.repos))):
        gathering = gathering or gather(run)
        ended = run.directory.outcome() if gathering.missing else None  # its receipts go when it is published
        if ended is None:
            require_complete(run, gathering)
            _tell_clipped(run, gathering)
    if ended is not None:
        return clear_published(run, ended)
    check_clock(run.directory.location)
    if run.plan.nothing_new:
        done = [_Done(target.base) for target in run.record.targets]
    else:
        done = [_publish(run, at, gathering, reading, tell) for at in range(len(run.repos))]
    ended = RunOutcome(
        state="published",
        snapshots=tuple(one.snapshot for one in done),
        ended=time.time(),
        regions=run.record.regions,
        nbytes=run.record.nbytes,
        verified=max(one.verified for one in done),
        work=Work() if gathering is None else gathering.work,
    )
    try:
        standing = run.directory.put_outcome(ended)
        clear(run)
    except KeyboardInterrupt:  # it is published, and what is left is for the next one who looks, or garbage collection
        return ended
    # What was published stays so, whatever somebody said of the run meanwhile.
    return standing if standing.state == "published" else ended


def _tell_clipped(run: Run, gathering: Gathering) -> None:
    """Warn of values that are stored as the end of a range which they lie out of."""
    found: dict[str, list[RegionReceipt]] = {}
    for written in gathering.written.values():
        if written.clipped:
            found.setdefault(written.region.array, []).append(written)
    for name, regions in sorted(found.items()):
        count = sum(one.clipped for one in regions)
        array = run.plan.template.arrays[name]
        packing = Packing.of(array.dtype, array.attributes)
        low, high = packing.range if packing is not None else (0.0, 0.0)
        logger.warning(
            "%d values of %s are out of the range that it is packed in, and were clipped to its ends; the furthest is "
            "%.9g",
            count,
            escaped(name),
            max((one.furthest for one in regions), key=lambda value: max(low - value, value - high)),
            extra={"event": "clipped", "run_id": run.run_id, "variable": name, "count": count},
        )


def require_complete(run: Run, gathering: Gathering) -> None:
    """Refuse to go on while regions are missing.

    Raises
    ------
    ReceiptError
        If receipts were refused, with the first reason.
    IncompleteRunError
        Naming the first region.
    """
    missing = gathering.missing
    if missing:
        what = f"{len(missing)} of {run.record.regions} regions of run {run.run_id} are missing, first {missing[0]}"
        hint = "Nothing was published; resume the run"
        if gathering.refused:
            reason = next(iter(gathering.refused.values()))
            refused = f"{len(gathering.refused)} receipts were refused: {reason}"
            raise ReceiptError(f"{what}, and {refused}. {hint}") from reason
        raise IncompleteRunError(f"{what}. {hint}")


def clear(run: Run) -> None:
    """Remove what an ended run does not need any more; what cannot be removed stays for garbage collection."""
    for repo, target in zip(run.repos, run.record.targets, strict=True):
        for _ in range(2):  # others may be clearing the same up
            try:
                for branch in repo.list_branches():
                    if run_of(branch) == run_of(target.branch):
                        delete_branch(repo, target.location, branch)
                break
            except (icechunk.IcechunkError, BackendError, OSError) as error:
                logger.warning("a private branch of run %s could not be removed: %s", run.run_id, error)
    try:
        run.directory.remove_work()
    except BackendError as error:
        logger.warning("run %s is published, and what it left could not be removed: %s", run.run_id, error)


def clear_published(run: Run, outcome: RunOutcome) -> RunOutcome:
    """The outcome of a run that was published, and nothing left of its work; one that was abandoned is an error.

    Whoever published it may have died before removing it, and others have added to it since.
    """
    if outcome.state != "published":
        # Garbage collection may have given it up while it was being published.
        done = [_published(run, at) for at in range(len(run.repos))]
        snapshots = tuple(one.snapshot for one in done if one is not None)
        if len(snapshots) < len(done):
            return check_published(run.directory, outcome)
        outcome = replace(outcome, state="published", snapshots=snapshots, reason="")
    clear(run)
    return outcome


def check_published(directory: RunDirectory, outcome: RunOutcome) -> RunOutcome:
    """The outcome of a run that was published; one that was abandoned is an error."""
    if outcome.state != "published":
        raise InvalidInputError(f"run {directory.run_id} was abandoned: {outcome.reason}. Plan again")
    return outcome


@dataclass(frozen=True, slots=True)
class _Done:
    """A snapshot that was published, and how many regions were read back before."""

    snapshot: str
    verified: int = 0


def _published(run: Run, at: int) -> _Done | None:
    """Whether the run is part of the history of a repository's branch already."""
    repo, target = run.repos[at], run.record.targets[at]
    try:
        for snapshot in repo.ancestry(branch=run.plan.target.branch):
            said = snapshot.metadata.get("frazil")
            ours = (run.run_id, run.record.plan_hash)
            if isinstance(said, dict) and (said.get("run_id"), said.get("plan_hash")) == ours:
                return _Done(snapshot.id)
            if snapshot.id == target.base:
                return None
    except icechunk.NotFoundError:
        pass  # the branch is gone, which publishing will say
    return None


def check_bases(run: Run) -> None:
    """Refuse, before anything is written, a run that could not be published.

    Raises
    ------
    ConflictError
        If a branch has moved under what the run writes, or is gone.
    """
    for at, (repo, target) in enumerate(zip(run.repos, run.record.targets, strict=True)):
        if _published(run, at) is None:
            try:
                check_disjoint(repo, run.plan, target.base, _tip(run, at))
            except ConflictError:
                # What overlaps may be this very run, published by somebody else since that was looked at.
                if _published(run, at) is None:
                    raise


def _tip(run: Run, at: int) -> str:
    try:
        return tip_of(run.repos[at], run.plan.target.branch)
    except InvalidInputError as error:
        raise ConflictError(
            f"{error}. Nothing was published; make the branch again, and resume run {run.run_id}"
        ) from error


def _publish(run: Run, at: int, gathering: Gathering | None, reading: Reading, tell: Tell) -> _Done:
    problem: Exception | None = None
    read = False  # whether everything was read back in vain: the branch moved only then
    for number in range(TRIES):
        done = _published(run, at)
        if done is not None:
            return done
        assert gathering is not None  # else it was published before
        try:
            if number == 0 and at in gathering.sinks and _tip(run, at) == run.record.targets[at].base:
                sink = gathering.sinks[at]
                return _commit(run, sink.private or run.branches[at], gathering, sink, reading, tell)
            # The values were read back the first time; later it is the references that could be wrong.
            reading = replace(reading, mode="sample") if read and reading.mode == "full" else reading
            return _replay(run, at, reading, tell)
        except (MovedError, icechunk.ConflictError, icechunk.NotFoundError) as error:
            problem, read = error, read or isinstance(error, MovedError)
        except (ConflictError, IncompleteRunError):
            # What overlaps may be this very run, published by somebody else since that was looked at.
            done = _published(run, at)
            if done is None:
                raise
            return done
    raise ConflictError(
        f"the branch {run.plan.target.branch!r} moved {TRIES} times while run {run.run_id} was being published; resume "
        f"it when there is less going on: {problem}"
    ) from problem


def _replay(run: Run, at: int, reading: Reading, tell: Tell) -> _Done:
    """Publish on what the branch holds by now: the same template again, and references to what was written."""
    repo, target, branch = run.repos[at], run.record.targets[at], run.plan.target.branch
    key = run_of(target.branch) or run.run_id
    if not any(run_of(name) == key for name in repo.list_branches()):
        raise IncompleteRunError(
            f"run {run.run_id} has no private branch any more, so garbage collection may have taken its chunks. "
            "Nothing was published; plan again"
        )
    tip = _tip(run, at)
    check_disjoint(repo, run.plan, target.base, tip)
    private = PrivateBranch.make(repo, target.location, key, branch, tip)
    before = repo.readonly_session(snapshot_id=target.snapshot)
    static = stored_static(before, run.plan.target.group, run.plan.template)
    session, _ = commit_template(private, run.plan, static)
    here = {name: node for node, name in nodes_of(session, run.plan).items()}
    nodes = {node: here[name] for node, name in nodes_of(before, run.plan).items()}
    sink = Sink(session, read_fork(dump_fork(session.fork())), nodes, private, parted=run.plan.parted)
    gathering = Gathering(run.expected, {at: sink})
    gathering.read(run.directory, run.directory.list_receipts())
    require_complete(run, gathering)
    return _commit(run, private, gathering, sink, reading, tell)


def _commit(run: Run, private: PrivateBranch, gathering: Gathering, sink: Sink, reading: Reading, tell: Tell) -> _Done:
    plan = run.plan
    # What was merged before was held against the plan as it was committed, part by part.
    check_merged(sink.session, plan.target.group, list(plan.grids), frozenset(sink.regions))
    snapshot = private.commit_data(sink.session, run.record.message, _metadata(run))
    tell("verify")
    committed = dump_fork(private.repo.writable_session(private.name).fork())
    try:
        verified = read_back(committed, plan, list(gathering.written.values()), reading, run.run_id)
    except VerificationError as error:
        wrong = {gathering.names[region] for region in error.regions if region in gathering.names}
        run.directory.remove_receipts(sorted(wrong))
        raise
    tell("publish")
    check_in_flight(run)
    private.publish(snapshot)
    return _Done(snapshot, verified)


def check_in_flight(run: Run) -> None:
    """Refuse to publish a run that was abandoned meanwhile: garbage collection may soon remove its chunks.

    Raises
    ------
    InvalidInputError
        Saying what became of it.
    """
    ended = run.directory.outcome()
    if ended is not None:
        check_published(run.directory, ended)
    # Only then: the record is removed before the outcome is.
    elif run.directory.record() is None:
        raise InvalidInputError(
            f"run {run.run_id} has no record at {run.directory.location} any more: it was removed while the run was "
            "being finished, and its chunks may be removed, too. Nothing was published; plan again"
        )


def _metadata(run: Run) -> dict[str, object]:
    names = [PurePosixPath(source.url).name for source in run.plan.sources]
    return {
        "frazil": {
            "run_id": run.run_id,
            "plan_hash": run.record.plan_hash,
            "versions": run.plan.versions,
            "sources": {"count": len(names), "first": names[0], "last": names[-1]},
            "regions": run.record.regions,
            "bytes": run.record.nbytes,
        }
    }
