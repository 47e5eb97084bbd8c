"""Calls of one function through Lithops, as their user sees them: arguments in, outcomes out.

The user's thread pickles and queues; the watch's thread takes the calls from here, and puts outcomes here.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Self

from frazil.execution.executor import Outcome
from frazil.execution.wire import Reply, packed, received, remote, returns_bytes
from frazil_functions.errors import BackendError, InvalidInputError

if TYPE_CHECKING:
    from frazil.execution.watching import Watch


class LithopsCalls[T, R]:
    """Calls of one function.

    Parameters
    ----------
    function
        What to call.
    connect
        Gives the watch that looks after the calls; called at the first submission.

    Attributes
    ----------
    name
        The function's name, for messages.
    call
        What runs on the other side; None before the first submission.
    packets
        The pickled arguments of the calls that are not handed to Lithops yet.
    handed
        How many calls were handed to Lithops, which is the index of the next.
    begun
        When each call was first seen running, of those that have not ended.
    """

    def __init__(self, function: Callable[[T], R], connect: "Callable[[], Watch]") -> None:
        self.name = getattr(function, "__qualname__", repr(function))
        self.call: Callable[[bytes], Reply] | None = None
        self.packets: deque[tuple[bytes]] = deque()
        self.handed = 0
        self.begun: dict[int, float] = {}
        self._function = function
        self._connect = connect
        self._watch: Watch | None = None
        self._outcomes: SimpleQueue[Outcome[Any] | BackendError] = SimpleQueue()
        self._submitted = self._given = 0
        self._failure: BackendError | None = None
        self._left = False

    def submit(self, arguments: Sequence[T]) -> None:
        """Queue one call for each argument; they start as soon as there is room."""
        if self._left:
            raise InvalidInputError(f"The calls of {self.name} were left; submit within their `with`")
        if self._failure is not None:
            raise self._failure
        if not arguments:
            return
        if self._watch is None:
            self._watch = self._connect()
        dumps = self._watch.backend.pickler()
        if self.call is None:
            self.call = remote(packed(self._function, f"The function {self.name}", dumps))
        # In a tuple of its own no argument is taken for a list of arguments, for keywords or for a future.
        packets = [
            (packed(argument, f"The argument of call {index} of {self.name}", dumps),)
            for index, argument in enumerate(arguments, self._submitted)
        ]
        self._submitted += len(packets)
        self.packets.extend(packets)
        self._watch.look_after(self)

    def next(self, timeout: float | None = None) -> Outcome[R] | None:
        """Wait for the next call that ends, whichever it is; None when none did in time, or none is outstanding."""
        if not self.outstanding:
            return None
        try:
            outcome = self._outcomes.get(timeout=None if timeout is None else max(timeout, 0))
        except Empty:
            return None
        if isinstance(outcome, BackendError):
            self._outcomes.put(outcome)  # nothing comes after it, so whoever asks again would wait forever
            raise outcome
        self._given += 1
        return outcome

    @property
    def outstanding(self) -> int:
        """How many calls were submitted and have given no outcome yet."""
        return self._submitted - self._given

    def running(self) -> Mapping[int, float]:
        """Seconds that each call has been seen running here, of those that have begun and not ended."""
        now = time.monotonic()
        return {index: now - since for index, since in self.begun.copy().items()}

    def failed(self) -> bool:
        """Whether no more outcomes come."""
        return self._failure is not None

    def read(self, index: int, reply: Reply) -> Outcome[Any]:
        """The outcome that a call's reply tells of."""
        return received(index, self.name, reply, only_bytes=returns_bytes(self._function))

    def put(self, outcome: Outcome[Any]) -> None:
        """Take the outcome of a call."""
        self._outcomes.put(outcome)

    def fail(self, failure: BackendError) -> None:
        """Take it that no more outcomes come; do nothing when called again."""
        if self._failure is None:
            self._failure = failure
            self.packets.clear()
            self._outcomes.put(failure)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """End the calls that still run, and forget them all."""
        self._left = True
        if self._watch is not None:
            self._watch.leave(self)
