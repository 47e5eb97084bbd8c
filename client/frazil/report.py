"""What a run tells while it goes on, and what it says in the end."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from frazil_functions.tasks import Receipt

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


type Listener = Callable[[Progress], None]
"""Told of every step, from the job's thread or, while functions write, from another; it must not raise."""


def silent(_: Progress) -> None:
    """Listen to nothing."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What functions took, added up.

    Attributes
    ----------
    read_seconds, write_seconds
        Spent reading, and encoding and writing.
    peak_memory_bytes
        The largest resident size of any of them.
    """

    read_seconds: float = 0.0
    write_seconds: float = 0.0
    peak_memory_bytes: int = 0

    def plus(self, receipt: Receipt) -> "Spent":
        """With what one more receipt says."""
        return Spent(
            self.read_seconds + receipt.read_seconds,
            self.write_seconds + receipt.write_seconds,
            max(self.peak_memory_bytes, receipt.peak_memory_bytes),
        )


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
