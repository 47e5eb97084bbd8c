"""What calls return, or the first error among them."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

from frazil.execution.executor import Executor
from frazil_functions.errors import BackendError, FrazilError


def results[T, R](executor: Executor, function: Callable[[T], R], arguments: Sequence[T]) -> Iterator[tuple[int, R]]:
    """The position of each call's argument and what the call returned, as the calls end.

    The other calls are ended at the first error.

    Raises
    ------
    FrazilError
        What a call raised, if it is an error of ours.
    BackendError
        For anything else that a call raised, with its own words.
    """
    with contextlib.closing(executor.map(function, arguments)) as outcomes:
        for outcome in outcomes:
            if isinstance(outcome.error, FrazilError):
                raise outcome.error
            if outcome.error is not None:
                said = f"{type(outcome.error).__name__}: {outcome.error}"
                raise BackendError(f"call {outcome.index} of {function.__name__} failed: {said}") from outcome.error
            assert outcome.value is not None
            yield outcome.index, outcome.value
