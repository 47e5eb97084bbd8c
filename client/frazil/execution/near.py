"""Calls that run in this process where there is but one, and another interpreter would cost more than it brings."""

from collections.abc import Callable, Mapping, Sequence
from typing import Self

from frazil.execution.executor import Calls, Executor, Outcome
from frazil.execution.lithops import LithopsExecutor
from frazil.execution.serial import SerialCalls
from frazil.execution.submitting import LithopsCalls


class NearCalls[T, R]:
    """Calls of which a single one runs here, if the others would run on this machine; more go to Lithops."""

    def __init__(self, function: Callable[[T], R], lithops: LithopsExecutor) -> None:
        self._function = function
        self._lithops = lithops
        self._chosen: Calls[T, R] | None = None

    def submit(self, arguments: Sequence[T]) -> None:
        """Call the function once for each argument; the first submission says where."""
        if self._chosen is None:
            if len(arguments) == 1 and self._lithops.local:
                here: SerialCalls[T, R] = SerialCalls(self._function)
                self._chosen = here
            else:
                there: LithopsCalls[T, R] = self._lithops.calls(self._function)
                self._chosen = there
        self._chosen.submit(arguments)

    def next(self, timeout: float | None = None) -> Outcome[R] | None:
        """Wait for the next call that ends; one that runs here is finished."""
        return None if self._chosen is None else self._chosen.next(timeout)

    @property
    def outstanding(self) -> int:
        """How many calls have given no outcome yet."""
        return 0 if self._chosen is None else self._chosen.outstanding

    def running(self) -> Mapping[int, float]:
        """Seconds that each call has been seen running."""
        return {} if self._chosen is None else self._chosen.running()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """End what still runs."""
        if self._chosen is not None:
            self._chosen.__exit__(*exc)


class NearExecutor(Executor):
    """Lithops as it is configured, but for a single call on this machine, which runs in this process.

    Parameters
    ----------
    workers
        How many calls may run at once where they run on this machine; by default one for each CPU.
    """

    def __init__(self, workers: int | None = None) -> None:
        self._lithops = LithopsExecutor()
        self._local_workers = workers

    @property
    def workers(self) -> int:
        """How many calls can run at once."""
        if self._local_workers is not None and self._lithops.local:
            return self._local_workers
        return self._lithops.workers

    def check(self) -> None:
        """Refuse a configuration that cannot run calls, a single one here among them."""
        self._lithops.check()

    def ready(self) -> None:
        """Connect to what is not on this machine."""
        self._lithops.ready()

    def warm(self) -> None:
        """Start nothing before it is known that there is use for it."""

    def calls[T, R](self, function: Callable[[T], R]) -> NearCalls[T, R]:
        """Calls of `function`, none yet."""
        return NearCalls(function, self._lithops)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """End what still runs."""
        self._lithops.__exit__(*exc)
