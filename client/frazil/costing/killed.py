"""Functions that ended without a word: the limit that most likely killed them, and what their task needs."""

from typing import Final

from frazil.costing.limits import AWS_LAMBDA, FunctionLimits
from frazil.costing.memory import LITHOPS, nbytes_of, task_memory
from frazil_functions.plan import Plan
from frazil_functions.text import size

_STEP: Final = 64 << 20
"""What memory that is advised is a multiple of."""


def killed_words(plan: Plan, number: int, limits: FunctionLimits, measured: int) -> str:
    """Why the functions of a task were most likely killed, how much memory it needs, and what helps.

    What a function that was killed held, nobody can tell. What its task needs at most is worked out from the plan,
    which knows nothing of how files are stored inside, nor of what a computation holds.

    Parameters
    ----------
    number
        Of the task.
    limits
        What its functions have.
    measured
        The most memory that a function of the run was measured to take, in bytes; 0 if none was.
    """
    task = plan.tasks[number]
    need = task_memory(plan, task) + (LITHOPS if limits.backend == AWS_LAMBDA else 0)
    largest = max(task.regions, key=lambda region: nbytes_of(plan, region))
    unit = "shard" if plan.template.arrays[largest.array].shards else "chunk"
    about = f"{size(need)} (its largest region, {largest}, has {size(nbytes_of(plan, largest))} of values)"
    others = f"; others of this run were measured to take up to {size(measured)}" if measured else ""
    if need > limits.memory_bytes:
        said, enough = f"its task may need {about}{others}", -(-need // _STEP) * (_STEP >> 20)
    else:
        said = (
            f"its task needs more than that, although by the plan {about} is enough{others}. A file whose own chunks "
            "are large, or a reader or a computation that holds more than its values, is the usual reason"
        )
        enough = 2 * limits.memory_mb
    return (
        f"most likely killed at its memory limit of {size(limits.memory_bytes)} (runtime_memory: {limits.memory_mb}): "
        f"{said}. Give functions more (runtime_memory: {enough} in Lithops' configuration, section {limits.backend}), "
        f"or make a {unit} of {largest.array!r} smaller (--{unit}s)"
    )
