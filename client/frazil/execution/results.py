"""What calls return, or the first error among them, said so that a person knows what became of the run."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

from frazil.execution.executor import Executor
from frazil_functions.errors import FrazilError, IncompleteRunError


def results[T, R](executor: Executor, function: Callable[[T], R], arguments: Sequence[T]) -> Iterator[R]:
    """What each call returns, as the calls end; the others are ended at the first error.

    Raises
    ------
    IncompleteRunError
        If a call fails, with its own words.
    """
    with contextlib.closing(executor.map(function, arguments)) as outcomes:  # type: ignore[type-var]
        for outcome in outcomes:
            if outcome.error is not None:
                error = outcome.error
                what = str(error) if isinstance(error, FrazilError) else f"{type(error).__name__}: {error}"
                raise IncompleteRunError(f"task {outcome.index} failed, and nothing was published: {what}") from error
            assert outcome.value is not None
            yield outcome.value
