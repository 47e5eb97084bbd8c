"""Planning here what functions elsewhere will run."""

from collections.abc import Callable
from typing import Self

from frazil.costing.limits import FunctionLimits
from frazil.execution.executor import Executor
from frazil.execution.serial import SerialCalls


class HereExecutor(Executor):
    """Runs every call in this process, and says of functions what another executor would.

    For who makes a plan that is run elsewhere, and may or need not call functions for that: the plan is cut for the
    other executor's functions, and refused if they lack the memory.

    Parameters
    ----------
    elsewhere
        Where the plan is run. It is asked for its workers and its limits, which connects to nothing.

    Examples
    --------
    >>> import math
    >>> import frazil
    >>> with frazil.HereExecutor(frazil.LithopsExecutor(backend="aws_lambda", workers=100)) as executor:
    ...     executor.workers, [outcome.value for outcome in executor.map(math.sqrt, [4.0])]
    (100, [2.0])
    """

    def __init__(self, elsewhere: Executor) -> None:
        self._elsewhere = elsewhere

    @property
    def workers(self) -> int:
        """How many calls the other executor can run at once."""
        return self._elsewhere.workers

    def check(self) -> None:
        """Refuse what the other executor refuses without a connection."""
        self._elsewhere.check()

    def limits(self) -> FunctionLimits | None:
        """What the other executor's functions may have."""
        return self._elsewhere.limits()

    def warm(self) -> None:
        """Nothing takes time here before the first call."""

    def calls[T, R](self, function: Callable[[T], R]) -> SerialCalls[T, R]:
        """Calls of `function`; each runs here when its outcome is asked for."""
        return SerialCalls(function)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """Leave nothing behind: no call runs unless its outcome is asked for."""
