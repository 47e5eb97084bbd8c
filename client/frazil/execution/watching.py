"""The calls of one map through Lithops, watched until each has ended or is known to be lost.

Lithops' own waiting is for the main thread alone, ends all calls when one fails, and never notices a
call that does not start or a worker that is killed. Here it serves futures and storage, and no more.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from frazil.execution import localhost
from frazil.execution.executor import Outcome
from frazil.execution.wire import received
from frazil_functions.errors import BackendError

if TYPE_CHECKING:
    from subprocess import Popen

# Seconds beyond its time limit after which a call that says nothing is given up. A worker that ends a call at
# the limit still has to say so, and Lithops looks for itself after five, by the worker's clock.
SLACK = 10.0

_ENDED = (
    "Its memory limit or its time limit are the usual reasons: give functions more memory, or raise call_timeout "
    "and the backend's own time limit, or write smaller tasks with more workers"
)

_DOWNLOADS = 16  # values above 8 kB lie in storage, one request away each


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What calls are watched with.

    Attributes
    ----------
    storage
        Lithops' internal storage, where calls leave their statuses and values.
    monitor
        Lithops' job monitor, which reads the statuses into the futures.
    environment
        The environment of Lithops' localhost backend; None for all others.
    workers, interval, start_deadline
        How many calls can run at once; the seconds between two looks; and the seconds without any call
        starting or ending after which calls that have not started are given up.
    slack
        Seconds beyond its time limit after which a call that runs is given up.
    """

    storage: Any
    monitor: Any
    environment: Any
    workers: int
    interval: float
    start_deadline: float
    slack: float = SLACK


class Calls:
    """The calls of one map. A thread watches them, so that a slow reader of outcomes delays nothing.

    Parameters
    ----------
    name
        The function's name, for messages.
    futures
        Lithops' futures of one job, in the order of the arguments.
    around
        What to watch them with.
    forget
        Called once, when the calls have ended or are to be ended.
    """

    def __init__(self, name: str, futures: list[Any], around: Surroundings, forget: Callable[["Calls"], None]) -> None:
        self.futures = futures
        self._waiting = dict(enumerate(futures))
        self._given_up = False
        self._name = name
        self._around = around
        self._forget = forget
        self._processes: dict[int, Popen[bytes]] = {}
        self._running_since: dict[int, float] = {}
        self._outcomes: SimpleQueue[Outcome[Any] | BaseException] = SimpleQueue()
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._signs = (0, 0)
        self._last_sign = time.monotonic()
        self._watcher = threading.Thread(target=self._watch, name="frazil-lithops-calls", daemon=True)
        self._watcher.start()

    @property
    def job_key(self) -> str:
        """Lithops' name of these calls, unique in its storage."""
        return str(self.futures[0].job_key)

    @property
    def unfinished(self) -> bool:
        """Whether some calls may still run, now or later."""
        return self._given_up or bool(self._waiting)

    def next(self) -> Outcome[Any]:
        """Wait for the next call that ends, whichever it is."""
        outcome = self._outcomes.get()
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def end(self) -> None:
        """End the calls that still run; do nothing when called again."""
        with self._lock:
            if self._ending.is_set():
                return
            self._ending.set()
        self._outcomes.put(BackendError("The executor was left while its calls were running"))
        self._watcher.join()
        self._forget(self)

    def kill(self) -> None:
        """End the workers of these calls on this machine, with what a dead one left running."""
        for process in self._processes.values():
            localhost.kill(process)

    def _watch(self) -> None:
        try:
            with ThreadPoolExecutor(_DOWNLOADS, thread_name_prefix="frazil-lithops-values") as downloads:
                while self._waiting and not self._ending.wait(self._around.interval):
                    for index, future in list(self._waiting.items()):
                        if _has_reported(future):
                            del self._waiting[index]
                            self._processes.pop(index, None)
                            self._running_since.pop(index, None)
                            downloads.submit(self._fetch, index, future)
                    for index, reason in dict(self._lost()).items():
                        self._around.monitor.remove([self._waiting.pop(index)])
                        self._given_up = True
                        self._give_up(index, reason)
        except BaseException as error:  # noqa: BLE001  raised again by `next`, in the thread that reads outcomes
            self._outcomes.put(error)

    def _fetch(self, index: int, future: Any) -> None:  # noqa: ANN401  Lithops has no types
        try:
            # Raising, as it does by default, it would also replace sys.excepthook.
            reply = future.result(throw_except=False, internal_storage=self._around.storage)
            # An error of the function travels in the reply; this one is of Lithops, or of the worker.
            # Where it is not raised, it is nowhere else.
            reason = str(future._exception[1]) if future.error else "it reported no value"  # noqa: SLF001
            if "exceeded the execution timeout" in reason:  # so Lithops calls a worker of which it heard no more
                reason = f"it ended without an answer. {_ENDED}"
        except Exception as error:  # noqa: BLE001  what a worker left may be of any kind; the call is lost with it
            reply, reason = None, f"what it reported cannot be read: {error!r}"
        if reply is None:
            self._give_up(index, reason)
        else:
            self._outcomes.put(received(index, self._name, reply))

    def _give_up(self, index: int, reason: str) -> None:
        error = BackendError(f"Call {index} of {self._name} was lost: {reason}")
        self._outcomes.put(Outcome(index, error=error))

    def _lost(self) -> Iterator[tuple[int, str]]:
        if self._around.environment is not None:
            yield from self._dead()
        now = time.monotonic()
        overdue = self._overdue(now)
        yield from overdue.items()
        started = sum(not future.invoked for index, future in self._waiting.items() if index not in overdue)
        signs, deadline = (len(self._waiting), started), self._around.start_deadline
        # Calls that queue behind others while all workers are busy are not late.
        if signs != self._signs or started >= self._around.workers:
            self._signs, self._last_sign = signs, now
        elif now - self._last_sign > deadline:
            reason = (
                f"it had not started {deadline:g} s after the last call that started or ended. The backend "
                "dropped it, or has less room than `workers` says: lower that, or raise start_deadline"
            )
            yield from ((index, reason) for index, future in self._waiting.items() if future.invoked)

    def _overdue(self, now: float) -> dict[int, str]:
        # What kills a function from outside leaves it no time to say so. Clocks elsewhere may be wrong, so what
        # counts is when the call was first seen running here.
        found: dict[int, str] = {}
        for index, future in self._waiting.items():
            if future.running:
                limit = future.execution_timeout + self._around.slack
                if now - self._running_since.setdefault(index, now) > limit:
                    found[index] = f"it ended without an answer, none came within {limit:g} s. {_ENDED}"
        return found

    def _dead(self) -> Iterator[tuple[int, str]]:
        # Lithops only logs that a worker of this machine ended; a call without a status "runs" on.
        environment = self._around.environment
        all_ended = environment.jobs[self.job_key].done
        for index, future in self._waiting.items():
            process = environment.task_processes.get(f"{self.job_key}-{future.call_id}")
            if process is not None:
                self._processes[index] = process
            process = self._processes.get(index)
            how = localhost.ending(process) if process else "its process ended" if all_ended else None
            # A worker writes the status before it ends, so one that is missing now will not come.
            if how is not None and not _has_reported(future) and not self._has_status(future):
                if process is not None:
                    localhost.kill(process)
                yield index, f"{how} before it could report"

    def _has_status(self, future: Any) -> bool:  # noqa: ANN401  Lithops has no types
        name = future.executor_id, future.job_id, future.call_id
        try:
            return bool(self._around.storage.get_call_status(*name))
        except ValueError:  # half a status: the worker was killed while it wrote
            return False


def _has_reported(future: Any) -> bool:  # noqa: ANN401  Lithops has no types
    return bool(future.ready or future.success or future.done)
