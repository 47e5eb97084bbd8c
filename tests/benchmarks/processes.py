"""Calls in processes that have imported everything and start at once: the work alone."""

import multiprocessing
import pickle
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, Self

from frazil import Executor, Outcome


class BarrierExecutor(Executor):
    """Runs each call in a process of its own; all begin together, when the last one has imported what it needs.

    Attributes
    ----------
    seconds
        From the common start to the end of the last call, of the latest map.
    cpu
        Seconds of processor time that its calls took, added up.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self.seconds = 0.0
        self.cpu = 0.0

    @property
    def workers(self) -> int:
        """How many calls run at once."""
        return self._workers

    def warm(self) -> None:
        """Nothing is started ahead of the calls."""

    def calls[T, R](self, function: Callable[[T], R]) -> "BarrierCalls[T, R]":
        """Calls of `function`, each in a process of its own."""
        return BarrierCalls(self, function)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """Leave nothing behind: no process outlives `submit`."""


class BarrierCalls[T, R]:
    """Calls that have all ended when `submit` returns."""

    def __init__(self, executor: BarrierExecutor, function: Callable[[T], R]) -> None:
        self._executor = executor
        self._function = function
        self._ended: deque[Outcome[R]] = deque()
        self._submitted = 0

    def submit(self, arguments: Sequence[T]) -> None:
        """Call the function once for each argument, and wait."""
        context = multiprocessing.get_context("spawn")
        ends = [context.Pipe() for _ in arguments]
        started = [context.Process(target=_work, args=(theirs,)) for _, theirs in ends]
        for process in started:
            process.start()
        for (ours, theirs), argument in zip(ends, arguments, strict=True):
            theirs.close()
            ours.send_bytes(pickle.dumps((self._function, argument)))
        for ours, _ in ends:
            ours.recv()
        begin = time.monotonic()
        for ours, _ in ends:
            ours.send(None)
        replies = [ours.recv() for ours, _ in ends]
        for process in started:
            process.join()
        self._executor.seconds = max(ended for ended, _, _ in replies) - begin
        self._executor.cpu = sum(cpu for _, cpu, _ in replies)
        self._ended.extend(Outcome(at, value) for at, (_, _, value) in enumerate(replies, self._submitted))
        self._submitted += len(replies)

    def next(self, timeout: float | None = None) -> Outcome[R] | None:  # noqa: ARG002  nothing is waited for
        """The next outcome."""
        return self._ended.popleft() if self._ended else None

    @property
    def outstanding(self) -> int:
        """How many outcomes were not given yet."""
        return len(self._ended)

    def running(self) -> Mapping[int, float]:
        """None runs."""
        return {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """Nothing runs."""


def _work(connection: "Connection[Any, Any]") -> None:
    import h5py  # noqa: F401, PLC0415  what both sides read with, in the processes alone
    import netCDF4  # noqa: F401, PLC0415
    import numcodecs  # noqa: F401, PLC0415
    import xarray as xr  # noqa: PLC0415

    xr.backends.list_engines()  # imports whatever engines are installed
    function, argument = pickle.loads(connection.recv_bytes())  # noqa: S301  this program sent it
    connection.send("ready")
    connection.recv()
    before = time.process_time()
    value = function(argument)
    connection.send((time.monotonic(), time.process_time() - before, value))
