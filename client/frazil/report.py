"""What a run tells while it goes on, what it logs, and what it says in the end."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from frazil_functions.logs import FunctionLog, LogRequest, this_process
from frazil_functions.plan import Plan
from frazil_functions.tasks import Receipt
from frazil_functions.text import size

logger = logging.getLogger(__name__)

type Stage = Literal["scan", "plan", "template", "write", "verify", "publish", "done"]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a job is.

    Attributes
    ----------
    stage
        The step of the job.
    done, total
        Of files while scanning, of regions later.
    done_bytes, total_bytes
        Of the values of these regions, before compression.
    run_id
        The run, once there is one.
    """

    stage: Stage
    done: int = 0
    total: int = 0
    done_bytes: int = 0
    total_bytes: int = 0
    run_id: str = ""


_FUNCTIONS: Final = logging.getLogger("frazil.functions")
"""What functions logged, in this process."""

_SHOWN_SOURCES: Final = 50
"""How many sources of a plan are told of one by one; the others are for who debugs."""


def log_request(*, asked: bool) -> LogRequest | None:
    """What functions are to return of what they log: as much as is shown here."""
    return LogRequest(_FUNCTIONS.getEffectiveLevel(), this_process()) if asked else None


def relay(log: FunctionLog, run_id: str, task: int) -> None:
    """Log here what a function logged, which is whatever somebody put there, as lines of harmless text."""
    log = log.harmless()
    of = {"run_id": run_id, "task": task}
    if log.dropped:
        _FUNCTIONS.info("task %d logged %d more lines before", task, log.dropped, extra=of)
    for line in log.lines:
        said = {"function_logger": line.logger, "function_time": line.time}
        _FUNCTIONS.log(line.level, "task %d, %s: %s", task, line.logger, line.message, extra=of | said)


def tell_plan(plan: Plan) -> Plan:
    """Log what a plan has decided: where sources lie, and how they are cut; returns the plan."""
    dim = plan.template.append_dim
    for number, source in enumerate(plan.sources):
        level = logging.INFO if number < _SHOWN_SOURCES else logging.DEBUG
        if dim is not None and source.stop:
            where = f"{dim} {source.start}:{source.stop}"
        else:
            where = f"all of {plan.target.group or 'the root group'}"
        logger.log(
            level, "%s -> %s", source.url, where, extra={"event": "source", "source": source.url, "place": where}
        )
    if len(plan.sources) > _SHOWN_SOURCES:
        logger.info("and %d more sources", len(plan.sources) - _SHOWN_SOURCES)
    counts = {
        "sources": len(plan.sources),
        "regions": plan.region_count,
        "tasks": len(plan.tasks),
        "bytes": plan.nbytes,
    }
    logger.info(
        "planned %d regions in %d tasks, %s, for %r on %r (%s)",
        plan.region_count,
        len(plan.tasks),
        size(plan.nbytes),
        f"/{plan.target.group}",
        plan.target.branch,
        plan.target.mode,
        extra={"event": "planned", **counts},
    )
    return plan


type Listener = Callable[[Progress], None]
"""Told of every step, from the job's thread or, while functions write, from another; it must not raise."""


def silent(_: Progress) -> None:
    """Listen to nothing."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What functions took, added up.

    Attributes
    ----------
    seconds
        Of all tasks, from when they began to their last receipts.
    read_seconds, write_seconds
        Spent reading, and encoding and writing.
    peak_memory_bytes
        The largest resident size of any of them.
    units
        How many write units their receipts hold.
    calls
        How many calls were made.
    """

    seconds: float = 0.0
    read_seconds: float = 0.0
    write_seconds: float = 0.0
    peak_memory_bytes: int = 0
    units: int = 0
    calls: int = 0

    def plus(self, receipt: Receipt) -> "Spent":
        """With what one more receipt says."""
        return Spent(
            self.seconds + receipt.seconds,
            self.read_seconds + receipt.read_seconds,
            self.write_seconds + receipt.write_seconds,
            max(self.peak_memory_bytes, receipt.peak_memory_bytes),
            self.units + sum(one.units for one in receipt.regions),
            self.calls,
        )


@dataclass(frozen=True, slots=True)
class Compared:
    """An amount as it was estimated, and as it turned out.

    Attributes
    ----------
    what
        What it is an amount of.
    unit
        What it is counted in.
    low, high
        From what to what it was expected to be.
    actual
        What it was; None if nobody can tell.
    """

    what: str
    unit: str
    low: float
    high: float
    actual: float | None


@dataclass(frozen=True, slots=True)
class Result:
    """What a run did.

    Attributes
    ----------
    run_id, plan_hash
        The run and its plan.
    snapshot_id
        The published snapshot.
    branch, group
        Where it was published.
    regions, tasks
        How many there were.
    bytes
        The size of the values written, before compression.
    seconds
        From the start of the run to its end.
    verified
        How many regions were read back and compared.
    peak_memory_bytes
        The largest resident size of any function.
    read_seconds, write_seconds
        Spent in functions reading, and encoding and writing, added up.
    already_published
        Whether the run had been published before; nothing was done then.
    compared
        What the run was estimated to take, beside what it took, as far as the client can tell; nothing where the run
        was published before.
    containers
        The places that references of the plan's repositories may lead into, which a reader authorises.
    referred_bytes
        Of `bytes`, the size of values that stay in their files and are referred to.
    """

    run_id: str
    plan_hash: str
    snapshot_id: str
    branch: str
    group: str
    regions: int
    tasks: int
    bytes: int
    seconds: float
    verified: int
    peak_memory_bytes: int
    read_seconds: float
    write_seconds: float
    already_published: bool = False
    compared: tuple[Compared, ...] = ()
    containers: tuple[str, ...] = ()
    referred_bytes: int = 0

    @property
    def took(self) -> str:
        """How much was written in which time, in words, with the rate; references have none."""
        if self.referred_bytes:
            return f"{size(self.bytes)}, {size(self.referred_bytes)} of them by reference, in {self.seconds:.1f} s"
        rate = self.bytes / max(self.seconds, 1e-9)
        return f"{size(self.bytes)} in {self.seconds:.1f} s ({size(rate)}/s)"
