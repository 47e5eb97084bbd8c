"""The executor protocol: calls of functions in, their outcomes out, in whatever order they end."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Protocol, Self


@dataclass(frozen=True, slots=True)
class Outcome[R]:
    """How one call ended: with a value, or with the error that it raised.

    Attributes
    ----------
    index
        The position of the call's argument in the sequence that was mapped over.
    value
        What the function returned; None where `error` is set.
    error
        What went wrong: the function's own error if it is one of Frazil's, a BackendError with
        its name, message and traceback if it is another, and a BackendError for a call that the backend
        lost, killed or never started.
    """

    index: int
    value: R | None = None
    error: Exception | None = None


class Executor(Protocol):
    """Runs a function over arguments somewhere, and says how each call ended.

    An executor is a context manager: leaving it, for whatever reason, ends every call
    that is still running.
    """

    @property
    def workers(self) -> int:
        """How many calls can run at once; tasks are grouped for that many."""
        ...

    def warm(self) -> None:
        """Start, in the background, whatever takes time before the first call. Never blocks."""
        ...

    def map[T, R](self, function: Callable[[T], R], arguments: Sequence[T]) -> Generator[Outcome[R], None, None]:
        """Call `function` once for each argument; yield each outcome as soon as the call ends.

        `function` is a module-level function, importable on the other side; arguments travel as
        pickles, and values that are not bytes, too. Closing the generator early ends the calls
        still running; a list's iterator has no `close`, and will not do.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...
