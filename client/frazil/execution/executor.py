"""The executor protocol: calls of functions in, their outcomes out, in whatever order they end.

What a function does, when to call it again, and what becomes of an outcome is not known here.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self

from frazil.costing.limits import FunctionLimits


@dataclass(frozen=True, slots=True)
class Outcome[R]:
    """How one call ended: with a value, or with the error that it raised.

    Attributes
    ----------
    index
        The position of the call's argument among all that were submitted, in the order of submission.
    value
        What the function returned; None where `error` is set.
    error
        What went wrong: the function's own error if it is one of Frazil's, a BackendError with
        its name, message and traceback if it is another, and a BackendError for a call that the backend
        lost, killed or never started.
    killed
        Whether the call began, and was ended from outside or never heard of again: as a function is that takes more
        memory than it has.
    """

    index: int
    value: R | None = None
    error: Exception | None = None
    killed: bool = field(default=False, repr=False)


class Calls[T, R](Protocol):
    """Calls of one function, of which more can be submitted while others run.

    A context manager: leaving it, for whatever reason, ends every call that is still running. One thread
    at a time may use it, but for leaving, which another may do.
    """

    def submit(self, arguments: Sequence[T]) -> None:
        """Call the function once for each argument, and do not wait for it.

        The calls are numbered on from those submitted before. They start as soon as there is room.

        Raises
        ------
        InvalidInputError
            If the calls were left, the executor is closed, or the function or an argument cannot be pickled and
            that is seen here; then no call of these arguments runs.
        BackendError
            If the backend cannot be reached, or failed since.
        """
        ...

    def next(self, timeout: float | None = None) -> Outcome[R] | None:
        """Wait for the next call that ends, whichever it is.

        Parameters
        ----------
        timeout
            Seconds to wait; by default as long as it takes. An executor that runs calls in this very thread
            finishes the one that it runs.

        Returns
        -------
        Outcome or None
            None if none ended in time, or if none is outstanding.

        Raises
        ------
        BackendError
            If the backend refused calls or failed, or the calls were left meanwhile.
        """
        ...

    @property
    def outstanding(self) -> int:
        """How many calls were submitted and have given no outcome yet."""
        ...

    def running(self) -> Mapping[int, float]:
        """Seconds that each call has been seen running, of those that have begun and not ended; by their index."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


class Executor(Protocol):
    """Runs a function over arguments somewhere, and says how each call ended.

    An executor is a context manager: leaving it, for whatever reason, ends every call
    that is still running.
    """

    @property
    def workers(self) -> int:
        """How many calls can run at once; tasks are grouped for that many."""
        ...

    def check(self) -> None:
        """Refuse what cannot run calls, as far as that can be told without a connection to anything.

        Raises
        ------
        InvalidInputError
            If there is no such backend, or its configuration is missing or cannot be meant.
        BackendError
            If what it needs is not installed here.
        """
        return

    def limits(self) -> FunctionLimits | None:
        """What a function may have, where the backend sets that; None where it does not, as on this machine.

        Connects to nothing; raises what `check` does.
        """
        return None

    def ready(self) -> None:
        """Refuse what cannot run calls: connect to it, where calls run elsewhere, and wait for that.

        Raises
        ------
        InvalidInputError
            If there is no such backend.
        BackendError
            If it cannot be used as it is: credentials, a function or a bucket that is missing.
        VersionError
            If it has other versions.
        """
        self.check()

    def warm(self) -> None:
        """Start, in the background, whatever takes time before the first call. Never blocks."""
        ...

    def calls[T, R](self, function: Callable[[T], R]) -> Calls[T, R]:
        """Calls of `function`, none yet. Never blocks; what takes time to start begins at the first submission.

        `function` is a module-level function, importable on the other side; arguments travel as
        pickles, and values that are not bytes, too.
        """
        ...

    def map[T, R](self, function: Callable[[T], R], arguments: Sequence[T]) -> Generator[Outcome[R], None, None]:
        """Call `function` once for each argument; yield each outcome as soon as the call ends.

        The calls start when the first outcome is asked for. One that fails does not stop the others.
        Closing the generator early ends the calls still running; a list's iterator has no `close`,
        and will not do.

        Raises
        ------
        InvalidInputError
            If the function or an argument cannot be pickled, or the executor is closed.
        BackendError
            If the backend cannot be reached or refuses the calls.
        """
        with self.calls(function) as calls:
            calls.submit(arguments)
            while calls.outstanding:
                outcome = calls.next()
                assert outcome is not None
                yield outcome

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...
