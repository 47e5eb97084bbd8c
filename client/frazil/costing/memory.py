"""How much memory a function needs for a plan's tasks, and the refusal of functions that have less."""

from typing import Final

from frazil.costing.limits import AWS_LAMBDA, FunctionLimits
from frazil_functions.errors import InvalidInputError
from frazil_functions.footprint import held_nbytes
from frazil_functions.plan import Plan, TaskPlan
from frazil_functions.reading.remote import is_remote
from frazil_functions.regions import Region
from frazil_functions.text import size

LIBRARIES: Final = 192 << 20
"""Bytes that a process has once the libraries are imported and a small region is written: 157 MB were measured."""

LITHOPS: Final = 96 << 20
"""Bytes of the process that calls ours on AWS Lambda: the runtime's client and Lithops."""

CACHES: Final = 480 << 20
"""Bytes at most of what stays around values: chunks that HDF5 keeps of what it has read, and memory that was given back
to the allocator and not by it; of compressed files it was measured to be up to 410 MB."""

PAGES: Final = 64 << 20
"""Bytes of pages that are kept of remote files (`frazil_functions.reading.remote.Pages`)."""

COPIES: Final = 5
"""Of a task's largest region: as many as the plan lets it hold at once, and what encoding makes of them."""

_STEP: Final = 64 << 20
"""What memory that is advised is a multiple of."""


def bound(largest: int, nbytes: int, *, remote: bool) -> int:
    """Bytes that a function needs at most.

    LIBRARIES + min(CACHES, 2 x all values) + PAGES for remote files + COPIES x the largest region. Measured peaks of
    real tasks lie between a third of it and all of it.

    Parameters
    ----------
    largest, nbytes
        The size of the largest region's values, and of all that the function writes, in bytes.
    remote
        Whether it may read remote files.
    """
    return LIBRARIES + min(CACHES, 2 * nbytes) + PAGES * remote + COPIES * largest


def task_memory(plan: Plan, task: TaskPlan) -> int:
    """Bytes that a function needs at most for a task."""
    remote = any(is_remote(source.url) for source in plan.sources[slice(*task.sources)])
    largest = max((nbytes_of(plan, region) for region in task.regions), default=0)
    return bound(largest, task.nbytes, remote=remote)


def memory_need(plan: Plan) -> int:
    """Bytes that a function needs at most for any task of a plan; 0 if there is none."""
    return max((task_memory(plan, task) for task in plan.tasks), default=0)


def nbytes_of(plan: Plan, region: Region) -> int:
    """The bytes that a function holds at once for a region: its values, unless it refers to chunks of files."""
    return held_nbytes(plan.template, region, plan.referring)


def check_memory(plan: Plan, limits: FunctionLimits | None) -> None:
    """Refuse functions that have less memory than a task needs at most.

    Raises
    ------
    InvalidInputError
        Saying what is needed, what there is, and what helps.
    """
    if limits is None or not plan.tasks:
        return
    needs = [task_memory(plan, task) for task in plan.tasks]
    worst = max(range(len(needs)), key=lambda number: needs[number])
    largest = max(plan.tasks[worst].regions, key=lambda region: nbytes_of(plan, region))
    unit = "shard" if plan.template.arrays[largest.array].shards else "chunk"
    what = f"{largest} ({size(nbytes_of(plan, largest))} of values)"
    check_need(needs[worst], limits, what, f"make a {unit} of {largest.array!r} smaller (--{unit}s)")


def check_need(need: int, limits: FunctionLimits | None, what: str, cure: str) -> None:
    """Refuse functions that have less memory than is needed at most.

    Parameters
    ----------
    need
        Bytes that a function needs for a task, as `bound` has it.
    limits
        What a function has; anything will do if None.
    what, cure
        What it is needed for, and what helps besides more memory, in words.

    Raises
    ------
    InvalidInputError
        Saying so.
    """
    if limits is None:
        return
    need += LITHOPS if limits.backend == AWS_LAMBDA else 0
    if need <= limits.memory_bytes:
        return
    enough = -(-need // _STEP) * (_STEP >> 20)
    raise InvalidInputError(
        f"a function may need {size(need)} of memory for {what}, and {limits.backend} gives it "
        f"{size(limits.memory_bytes)} (runtime_memory: {limits.memory_mb}), so it would be killed. Give functions more "
        f"(runtime_memory: {enough} in Lithops' configuration, section {limits.backend}), or {cure}"
    )
