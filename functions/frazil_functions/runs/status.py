"""How far runs are, as their directories say."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Literal

from frazil_functions.errors import InvalidInputError, ReceiptError
from frazil_functions.locations import Location
from frazil_functions.plan import Plan
from frazil_functions.records import RunRecord
from frazil_functions.regions import Region
from frazil_functions.rundir import RunDirectory, list_runs
from frazil_functions.tasks import Receipt

_LOOKS: Final = 16

type State = Literal["starting", "writing", "written", "published", "abandoned", "unreadable"]
"""`starting`: no record yet. `writing`: regions are missing. `written`: none is, and it is to be finished.
`unreadable`: another version of frazil made it, or it is damaged."""


@dataclass(frozen=True, slots=True)
class RunStatus:
    """How far a run is.

    Attributes
    ----------
    run_id, location
        Its name, and where it lives.
    state
        What it is at; whether anybody is at work on it, nobody can tell but by its receipts.
    regions, done
        How many regions it has, and how many of them have receipts.
    bytes, done_bytes
        The size of their values, before compression.
    started, ended
        Seconds since 1970, by the clocks of those who started and ended it; 0 if they have not.
    age
        Seconds since it started.
    snapshot_id
        What the primary repository's branch was moved to.
    reason
        Why it was abandoned.
    work_hash
        Of its plan; see `Plan.work_hash`.
    """

    run_id: str
    location: str
    state: State
    regions: int = 0
    done: int = 0
    bytes: int = 0
    done_bytes: int = 0
    started: float = 0.0
    ended: float = 0.0
    age: float = 0.0
    snapshot_id: str = ""
    reason: str = ""
    work_hash: str = ""


def status(directory: RunDirectory, now: float | None = None) -> RunStatus:
    """How far a run is; reads its receipts.

    Raises
    ------
    InvalidInputError
        If what lies in the directory is of another version.
    BackendError
        If the directory cannot be read.
    """
    now = time.time() if now is None else now
    record, outcome = directory.record(), directory.outcome()
    if record is None and (data := directory.plan()) is not None:
        plan = Plan.from_json(data)
        return RunStatus(
            directory.run_id,
            str(directory.location),
            "starting",
            regions=plan.region_count,
            bytes=plan.nbytes,
            work_hash=plan.work_hash,
        )
    if record is None:
        return RunStatus(directory.run_id, str(directory.location), "starting")
    if outcome is not None:
        done, done_bytes = (record.regions, record.nbytes) if outcome.state == "published" else (0, 0)
    else:
        sizes = _receipted(directory, record)
        done, done_bytes = len(sizes), sum(sizes.values())
    return RunStatus(
        run_id=record.run_id,
        location=str(directory.location),
        state=outcome.state if outcome is not None else "written" if done >= record.regions else "writing",
        regions=record.regions,
        done=done,
        bytes=record.nbytes,
        done_bytes=done_bytes,
        started=record.started,
        ended=outcome.ended if outcome is not None else 0.0,
        age=max(0.0, now - record.started),
        snapshot_id=outcome.snapshots[-1] if outcome is not None and outcome.snapshots else "",
        reason=outcome.reason if outcome is not None else "",
        work_hash=record.work_hash,
    )


def _receipted(directory: RunDirectory, record: RunRecord) -> dict[Region, int]:
    """The regions that receipts name, and the size of their values."""
    found: dict[Region, int] = {}
    for _, receipt in directory.read_receipts(directory.list_receipts()):
        if not isinstance(receipt, ReceiptError) and is_of(receipt, record):
            found |= {one.region: one.nbytes for one in receipt.regions}
    return found


def is_of(receipt: Receipt, record: RunRecord) -> bool:
    """Whether a receipt says that it belongs to a run."""
    bases = tuple(target.snapshot for target in record.targets)
    return (receipt.run_id, receipt.plan_hash, receipt.bases) == (record.run_id, record.plan_hash, bases)


def runs_in(place: Location) -> list[RunStatus]:
    """The runs that live below a place, the latest first."""
    return _statuses(place, lambda _: True)


def unfinished_in(place: Location, work_hash: str) -> list[RunStatus]:
    """Those of them that do the same work, and have not ended."""

    def wanted(directory: RunDirectory) -> bool:
        record = directory.record()
        if record is not None and record.work_hash != work_hash:
            return False
        return directory.outcome() is None

    return [one for one in _statuses(place, wanted) if one.work_hash == work_hash]


def _statuses(place: Location, wanted: Callable[[RunDirectory], bool]) -> list[RunStatus]:
    def look(run_id: str) -> RunStatus | None:
        directory = RunDirectory(place.below(run_id))
        try:
            found = status(directory) if wanted(directory) else None
        except InvalidInputError as error:  # one that cannot be read must not hide the others
            return RunStatus(run_id, str(directory.location), "unreadable", reason=str(error))
        # Without a plan, somebody died before there was a run.
        return None if found is None or (found.state == "starting" and not found.work_hash) else found

    with ThreadPoolExecutor(_LOOKS, "frazil-runs") as pool:
        found = [one for one in pool.map(look, list_runs(place)) if one is not None]
    return sorted(found, key=lambda one: (one.started, one.run_id), reverse=True)
