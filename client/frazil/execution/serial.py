"""The reference executor: one call after another in this process, everything pickled on the way."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Self

from frazil.execution.executor import Executor, Outcome
from frazil.execution.wire import Reply, packed, received, remote
from frazil_functions.errors import InvalidInputError


class SerialCalls[T, R]:
    """Calls that wait in a queue; each runs when its outcome is asked for, in the thread that asks."""

    def __init__(self, function: Callable[[T], R]) -> None:
        self._name = getattr(function, "__qualname__", repr(function))
        self._function = function
        self._call: Callable[[bytes], Reply] | None = None
        self._queue: deque[tuple[int, T]] = deque()
        self._submitted = 0
        self._left = False

    def submit(self, arguments: Sequence[T]) -> None:
        """Queue one call for each argument."""
        if self._left:
            raise InvalidInputError(f"The calls of {self._name} were left; submit within their `with`")
        if self._call is None:
            # An interrupt means this process, and not the call.
            self._call = remote(packed(self._function, f"The function {self._name}"), escaping=(KeyboardInterrupt,))
        self._queue.extend(enumerate(arguments, self._submitted))
        self._submitted += len(arguments)

    def next(self, timeout: float | None = None) -> Outcome[R] | None:  # noqa: ARG002  a call cannot be left half done
        """Run the next call in the queue, however long it takes; None if there is none."""
        if not self._queue or self._call is None:
            return None
        index, argument = self._queue.popleft()
        packet = packed(argument, f"The argument of call {index} of {self._name}")
        return received(index, self._name, self._call(packet))

    @property
    def outstanding(self) -> int:
        """How many calls are queued."""
        return len(self._queue)

    def running(self) -> Mapping[int, float]:
        """None runs while somebody else looks."""
        return {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """Drop what is queued."""
        self._left = True
        self._queue.clear()


class SerialExecutor(Executor):
    """Runs every call in this process, in order; for small jobs, for tests and for debugging.

    Functions, arguments, values and errors travel all the same as to elsewhere, so that what
    runs here also runs there.
    """

    workers = 1

    def warm(self) -> None:
        """Nothing takes time here before the first call."""

    def calls[T, R](self, function: Callable[[T], R]) -> SerialCalls[T, R]:
        """Calls of `function`; each runs when its outcome is asked for."""
        return SerialCalls(function)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """Leave nothing behind: no call runs unless its outcome is asked for."""
