"""What calls return, or the first error among them that does not pass."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from frazil.execution.executor import Executor
from frazil_functions.errors import BackendError, FrazilError

logger = logging.getLogger(__name__)

ATTEMPTS: Final = 3
"""How often a call that only reads is made in all."""

_PAUSE_SECONDS: Final = 1.0


def results[T, R](executor: Executor, function: Callable[[T], R], arguments: Sequence[T]) -> Iterator[tuple[int, R]]:
    """The position of each call's argument and what the call returned, as the calls end.

    A call that fails for a reason that may pass is made again, up to `ATTEMPTS` times; so this is for calls that change
    nothing. The other calls are ended at the first error that stays.

    Raises
    ------
    FrazilError
        What a call raised, if it is an error of ours.
    BackendError
        For anything else that a call raised, with its own words.
    """
    asked = list(range(len(arguments)))
    failures = dict.fromkeys(asked, 0)
    if not asked:
        return
    with executor.calls(function) as calls:
        calls.submit(arguments)
        while calls.outstanding:
            outcome = calls.next()
            if outcome is None:
                continue
            position, error = asked[outcome.index], outcome.error
            if error is None:
                assert outcome.value is not None
                yield position, outcome.value
                continue
            failures[position] += 1
            if isinstance(error, FrazilError) and error.transient and failures[position] < ATTEMPTS:
                logger.warning("a call of %s is made again: %s", function.__name__, error)
                time.sleep(_PAUSE_SECONDS)
                asked.append(position)
                calls.submit([arguments[position]])
            elif isinstance(error, FrazilError):
                raise error
            else:
                said = f"{type(error).__name__}: {error}"
                raise BackendError(f"call {position} of {function.__name__} failed: {said}") from error
