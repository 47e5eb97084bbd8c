"""What a run did, from its directory alone: how far it is, what it took, and what went wrong."""

import time
from dataclasses import dataclass, field

from frazil_functions.errors import InvalidInputError, ReceiptError
from frazil_functions.plan import Plan
from frazil_functions.records import RunRecord, Work
from frazil_functions.rundir import RunDirectory
from frazil_functions.runs.gather import added_up
from frazil_functions.runs.status import State, is_of, status


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a run did.

    Attributes
    ----------
    run_id, location, state
        Its name, where it lives, and what it is at.
    repository, branch, group, mode, base
        What it writes, and the snapshot that its plan was made against.
    snapshot_id
        What the branch was moved to; empty if it was not.
    plan_hash, work_hash
        Of its plan.
    regions, done, tasks
        How many regions it has, how many of them are written, and in how many tasks.
    bytes, done_bytes
        The size of their values, before compression.
    verified
        How many regions were read back before publishing.
    started, ended, seconds
        Seconds since 1970, and between the two; of a run that has not ended, until now. 0 if it has not begun.
    bytes_per_second
        Values written in that time.
    message
        Of the commit.
    reason
        Why it was abandoned.
    versions
        Of what it was started with.
    work
        What functions did for it.
    """

    run_id: str
    location: str
    state: State
    repository: str = ""
    branch: str = ""
    group: str = ""
    mode: str = ""
    base: str = ""
    snapshot_id: str = ""
    plan_hash: str = ""
    work_hash: str = ""
    regions: int = 0
    done: int = 0
    tasks: int = 0
    bytes: int = 0
    done_bytes: int = 0
    verified: int = 0
    started: float = 0.0
    ended: float = 0.0
    seconds: float = 0.0
    bytes_per_second: float = 0.0
    message: str = ""
    reason: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    work: Work = field(default_factory=Work)


def report(directory: RunDirectory, now: float | None = None) -> RunReport:
    """What a run did, or has done so far.

    Parameters
    ----------
    directory
        Where it lives.
    now
        The time that a run which has not ended is measured to, in seconds since 1970; by default the time it is.

    Raises
    ------
    InvalidInputError
        If no run lives there, or another version made it.
    BackendError
        If the directory cannot be read.
    """
    data = directory.plan()
    if data is None:
        raise InvalidInputError(
            f"there is no run at {directory.location}; name its directory, or a repository and a run: `frazil runs "
            "REPOSITORY` lists them"
        )
    plan = Plan.from_json(data)
    now = time.time() if now is None else now
    found, record, outcome = status(directory, now), directory.record(), directory.outcome()
    seconds = max(0.0, (found.ended or now) - found.started) if found.started else 0.0
    published = outcome is not None and outcome.state == "published"
    return RunReport(
        run_id=found.run_id,
        location=found.location,
        state=found.state,
        repository=str(plan.target.location or ""),
        branch=plan.target.branch,
        group=plan.target.group,
        mode=plan.target.mode,
        base=plan.target.base or "",
        snapshot_id=found.snapshot_id if published else "",
        plan_hash=plan.hash,
        work_hash=plan.work_hash,
        regions=found.regions,
        done=found.done,
        tasks=len(plan.tasks),
        bytes=found.bytes,
        done_bytes=found.done_bytes,
        verified=0 if outcome is None else outcome.verified,
        started=found.started,
        ended=found.ended,
        seconds=seconds,
        bytes_per_second=found.done_bytes / seconds if seconds else 0.0,
        message="" if record is None else record.message,
        reason=found.reason,
        versions=plan.versions if record is None else record.versions,
        work=outcome.work if outcome is not None else _so_far(directory, record),
    )


def _so_far(directory: RunDirectory, record: RunRecord | None) -> Work:
    """What receipts tell that have not been gathered for good."""
    work = Work()
    if record is not None:
        for _, receipt in directory.read_receipts(directory.list_receipts()):
            if not isinstance(receipt, ReceiptError) and is_of(receipt, record):
                work = added_up(work, receipt)
    return work
