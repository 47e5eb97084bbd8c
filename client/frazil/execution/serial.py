"""The reference executor: one call after another in this process, everything pickled on the way."""

from collections.abc import Callable, Generator, Sequence
from typing import Self

from frazil.execution.executor import Outcome
from frazil.execution.wire import packed, received, remote


class SerialExecutor:
    """Runs every call in this process, in order; for small jobs, for tests and for debugging.

    Functions, arguments, values and errors travel all the same as to elsewhere, so that what
    runs here also runs there.
    """

    workers = 1

    def warm(self) -> None:
        """Nothing takes time here before the first call."""

    def map[T, R](self, function: Callable[[T], R], arguments: Sequence[T]) -> Generator[Outcome[R], None, None]:
        """Call `function` once for each argument, when its outcome is asked for."""
        name = getattr(function, "__qualname__", repr(function))
        # An interrupt means this process, and not the call.
        call = remote(packed(function, f"The function {name}"), escaping=(KeyboardInterrupt,))
        for index, argument in enumerate(arguments):
            yield received(index, name, call(packed(argument, f"The argument of call {index} of {name}")))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """Leave nothing behind: no call outlives `map`."""
