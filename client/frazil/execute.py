"""Executing: call a function for every task, gather what it wrote, call again for what is missing."""

import logging
import random
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from frazil.costing.killed import killed_words
from frazil.execution.executor import Calls, Executor, Outcome
from frazil.execution.stragglers import late
from frazil.report import Listener, Progress, Spent, relay
from frazil_functions import handler
from frazil_functions.errors import (
    BackendError,
    FrazilError,
    IncompleteRunError,
    InvalidInputError,
    MissingDataError,
    OutOfRangeError,
    ReceiptError,
)
from frazil_functions.logs import LogRequest, log_in
from frazil_functions.runs.following import Following
from frazil_functions.runs.gather import Gathering
from frazil_functions.runs.run import Run
from frazil_functions.tasks import Receipt, WriteTask, load_written
from frazil_functions.text import escaped, size

logger = logging.getLogger(__name__)

_BACKOFF_MOST: Final = 60.0

_LOG_SECONDS: Final = 5.0
"""How often at most it is logged how far functions are."""

_LAST_WORDS_SECONDS: Final = 5.0
"""How long functions whose receipts are all here are waited for, where what they log was asked for."""


@dataclass(frozen=True, slots=True)
class Retry:
    """How often, and when, a task is tried again.

    Attributes
    ----------
    attempts
        How often a task is tried in all before the run gives up.
    backoff
        Seconds before the second attempt; each further one waits twice as long, at most a minute, and up to half
        as long again by chance, so that calls that were throttled together do not come back together.
    backups
        Whether a call that takes three times as long as others gets a second one beside it, where there is room.
    """

    attempts: int = 3
    backoff: float = 1.0
    backups: bool = True

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise InvalidInputError(f"a task would be tried {self.attempts} times; use at least 1")
        if not 0 <= self.backoff < float("inf"):
            raise InvalidInputError(f"a backoff of {self.backoff} seconds is none; use 0 or more")

    def delay(self, failures: int) -> float:
        """Seconds to wait after so many failures."""
        wait = min(_BACKOFF_MOST, self.backoff * 2.0 ** (failures - 1))
        return wait * random.uniform(1.0, 1.5)  # noqa: S311 - chance, not secrecy


def execute(
    run: Run,
    executor: Executor,
    gathering: Gathering,
    retry: Retry,
    listener: Listener,
    *,
    log: LogRequest | None = None,
) -> Spent:
    """Write every region that has no receipt; return what it took.

    Parameters
    ----------
    run, gathering
        The run, and what is gathered of it so far.
    executor
        Where functions run.
    retry
        How often a task is tried.
    listener
        Told how many regions are written.
    log
        What functions return of what they log; by default nothing.

    Raises
    ------
    IncompleteRunError
        If a task failed for good, or too often. What was written is kept.
    """
    following = _Following(run, gathering, listener)
    following.look()
    left = _left(run, gathering)
    if not left:
        return following.spent
    with executor.calls(handler.write) as calls:
        execution = _Execution(run, executor, calls, following, retry, log or LogRequest())
        execution.go(left)
    return replace(following.spent, calls=execution.submitted)


def _left(run: Run, gathering: Gathering) -> list[int]:
    """The tasks of which something is left to be written."""
    written = gathering.written.keys()
    return [number for number, task in enumerate(run.plan.tasks) if any(one not in written for one in task.regions)]


def _tasks(run: Run, gathering: Gathering, numbers: Iterable[int]) -> list[WriteTask]:
    """What is left to be written of some tasks."""
    return [task for number in numbers if (task := run.task(number, gathering.written.keys())) is not None]


class _Following:
    """The run directory while calls run, and what the listener is told of it."""

    def __init__(self, run: Run, gathering: Gathering, listener: Listener) -> None:
        self.gathering = gathering
        self.spent = Spent()
        self._following = Following(run.directory, gathering)
        self._record = run.record
        self._listener = listener
        self._began = time.monotonic()
        self._before = gathering.nbytes
        self._told = (self._began - _LOG_SECONDS, len(gathering.written))

    @property
    def wait(self) -> float:
        """Seconds until the next look is due."""
        return self._following.wait

    def look(self) -> None:
        """Gather what is new."""
        self._tell(self._following.look())

    def add(self, names: Iterable[str]) -> None:
        """Gather receipts by name."""
        self._tell(self._following.add(names))

    def _tell(self, added: Iterable[Receipt]) -> None:
        for receipt in added:
            self.spent = self.spent.plus(receipt)
            self._log_receipt(receipt)
        done, nbytes, record = len(self.gathering.written), self.gathering.nbytes, self._record
        self._listener(Progress("write", done, record.regions, nbytes, record.nbytes, run_id=record.run_id))
        now = time.monotonic()
        if done > self._told[1] and (now >= self._told[0] + _LOG_SECONDS or done == record.regions):
            self._told = (now, done)
            rate = (nbytes - self._before) / max(now - self._began, 1e-9)
            counts = {"regions": done, "total": record.regions, "bytes": nbytes, "bytes_per_second": round(rate)}
            logger.info(
                "%d of %d regions are written, %s of %s (%s/s)",
                done,
                record.regions,
                size(nbytes),
                size(record.nbytes),
                size(rate),
                extra={"event": "progress", "run_id": record.run_id, **counts},
            )

    def _log_receipt(self, receipt: Receipt) -> None:
        nbytes = sum(one.nbytes for one in receipt.regions)
        logger.debug(
            "receipt of task %d: %d regions, %s; read for %.1f s, wrote for %.1f s, in %.1f s on %s",
            receipt.number,
            len(receipt.regions),
            size(nbytes),
            receipt.read_seconds,
            receipt.write_seconds,
            receipt.seconds,
            escaped(receipt.host),
            extra={"event": "receipt", "run_id": self._record.run_id, "task": receipt.number, "bytes": nbytes},
        )


@dataclass(slots=True)
class _Call:
    """One call that was submitted."""

    task: int
    submitted: float
    begun: float | None = None


@dataclass(slots=True)
class _Execution:
    """Calls under way, and those that are to be made again."""

    run: Run
    executor: Executor
    calls: Calls[WriteTask, bytes]
    following: _Following
    retry: Retry
    log: LogRequest
    made: dict[int, _Call] = field(default_factory=dict)
    submitted: int = 0
    failures: dict[int, int] = field(default_factory=dict)
    due: list[tuple[float, int]] = field(default_factory=list)
    durations: list[float] = field(default_factory=list)
    doubled: set[int] = field(default_factory=set)
    waiting: deque[int] = field(default_factory=deque)

    def go(self, numbers: Iterable[int]) -> None:
        """Call until nothing is missing, or another driver has ended the run."""
        self.waiting.extend(numbers)
        self.submit_waiting()
        while self.following.gathering.missing_count:
            if not self.calls.outstanding and not self.due and not self.waiting:
                raise self.error("regions are missing, and no call writes them")
            wait, peeked = self.patience(), self.peek()
            outcome = self.calls.next(timeout=wait)
            if outcome is not None:
                call = self.made.pop(outcome.index)
                if outcome.error is not None:
                    self.failed(call.task, self.blamed(call.task, outcome))
                else:
                    # One that was not seen running before began since then.
                    began = max(call.submitted, peeked) if call.begun is None else call.begun
                    self.durations.append(time.monotonic() - began)
                    assert outcome.value is not None
                    self.returned(call.task, outcome.value)
            self.submit_waiting()
            if not self.following.wait:
                if self.run.directory.outcome() is not None:
                    return  # another driver has ended the run, and finishing says how
                self.following.look()
                self.back_up()
                self.submit_due()
        self.listen()

    def listen(self) -> None:
        """Wait a little for what functions logged, if asked for: their receipts are here before they return."""
        until = time.monotonic() + _LAST_WORDS_SECONDS
        while self.log.level and self.calls.outstanding and (left := until - time.monotonic()) > 0:
            outcome = self.calls.next(timeout=left)
            if outcome is None:
                continue
            number = self.made.pop(outcome.index).task
            if outcome.value is None:
                relay(log_in(outcome.error or BackendError("it returned nothing")), self.run.run_id, number)
                continue
            try:
                relay(load_written(outcome.value).log, self.run.run_id, number)
            except ReceiptError as error:
                logger.warning("what task %d returned is not told of: %s", number, error)

    def patience(self) -> float:
        """Seconds until there is something to do beside waiting for a call."""
        now, look = time.monotonic(), self.following.wait
        # What is due waits for the next look, which says what is left of it; so failures add no looks.
        waits = [max(at - now, look) for at, _ in self.due]
        wait = min(waits + ([look] if self.calls.outstanding else []), default=0.0)
        if not self.calls.outstanding:
            time.sleep(wait)
            return 0.0
        return wait

    def peek(self) -> float:
        """Note when the calls that run began; returns the time."""
        now = time.monotonic()
        for index, seconds in self.calls.running().items():
            if index in self.made:
                self.made[index].begun = now - seconds
        return now

    def submit_waiting(self) -> None:
        """Call the tasks that were not called yet; those that carry many values only as there is use for them."""
        if self.run.carrier is None or not self.run.carrier.heavy:
            room = len(self.waiting)
        elif self.calls.outstanding <= self.executor.workers:
            room = 2 * self.executor.workers - self.calls.outstanding
        else:
            return
        numbers = [self.waiting.popleft() for _ in range(min(room, len(self.waiting)))]
        self.submit(_tasks(self.run, self.following.gathering, numbers))

    def submit(self, tasks: list[WriteTask]) -> None:
        """Make calls, now."""
        now = time.monotonic()
        for task in tasks:
            self.made[self.submitted] = _Call(task.number, now)
            self.submitted += 1
        if tasks:
            logger.debug("%d tasks are called", len(tasks), extra={"run_id": self.run.run_id})
            self.calls.submit([replace(task, log=self.log) for task in tasks])

    def returned(self, number: int, value: bytes) -> None:
        """Gather what a call says it wrote; what it should have written and did not is a failure."""
        try:
            written = load_written(value)
            relay(written.log, self.run.run_id, number)
            self.following.add(written.receipts)
        except ReceiptError as error:
            raise self.error(str(error), error) from error
        if _tasks(self.run, self.following.gathering, [number]):
            refused = list(self.following.gathering.refused.values())
            lost = ReceiptError(f"task {number} returned, and its receipts are not in the run directory")
            self.failed(number, refused[-1] if refused else lost, again=True)

    def blamed(self, number: int, outcome: Outcome[bytes]) -> Exception:
        """The error of a call, which says what a function that was killed would have needed."""
        assert outcome.error is not None
        limits = self.executor.limits() if outcome.killed else None
        if limits is None:
            return outcome.error
        measured = self.following.spent.peak_memory_bytes
        words = killed_words(self.run.plan, number, limits, measured)
        error = BackendError(f"its function ended without an answer, {words}")
        error.__cause__ = outcome.error
        return error

    def failed(self, number: int, error: Exception, *, again: bool = False) -> None:
        """Plan another attempt, unless none can help or there were enough; or nothing is left to do."""
        relay(log_in(error), self.run.run_id, number)
        self.following.gathering.failed(error)
        self.failures[number] = self.failures.get(number, 0) + 1
        transient = again or not isinstance(error, FrazilError) or error.transient
        if not transient or self.failures[number] >= self.retry.attempts:
            self.following.look()  # a call may have died after its last receipt, or of what another one has done
            if not _tasks(self.run, self.following.gathering, [number]):
                return
        if not transient:
            raise self.error(f"a function failed: {error}", error) from error
        if self.failures[number] >= self.retry.attempts:
            what = f"task {number} failed {self.failures[number]} times, the last time so: {error}"
            raise self.error(what, error) from error
        wait = self.retry.delay(self.failures[number])
        of = {"event": "retry", "run_id": self.run.run_id, "task": number, "failures": self.failures[number]}
        logger.warning("task %d is tried again in %.1f s: %s", number, wait, error, extra=of)
        self.due.append((time.monotonic() + wait, number))

    def error(self, what: str, cause: Exception | None = None) -> IncompleteRunError:
        """What the caller is told: how far the run is, and what to do."""
        done, record = len(self.following.gathering.written), self.run.record
        kind = type(cause) if isinstance(cause, ReceiptError | MissingDataError) else IncompleteRunError
        kept = f"{done} of {record.regions} regions are written and kept"
        if isinstance(cause, OutOfRangeError):  # the range is in the plan, which a run that goes on keeps to
            return kind(f"{what}. Nothing was published; {kept}, and resuming run {record.run_id} would end likewise")
        return kind(f"{what}. Nothing was published; {kept}. When the cause is mended, resume run {record.run_id}")

    def submit_due(self) -> None:
        """Call again what has waited long enough, with only what it has not written yet."""
        now = time.monotonic()
        ready = {number for at, number in self.due if at <= now}
        if ready:
            self.due = [(at, number) for at, number in self.due if number not in ready]
            self.submit(_tasks(self.run, self.following.gathering, sorted(ready)))

    def back_up(self) -> None:
        """Double calls that take much longer than others, where there is room."""
        room = self.executor.workers - self.calls.outstanding
        if not self.retry.backups or room <= 0:
            return
        known = {index for index, call in self.made.items() if call.task in self.doubled}
        for index in late(self.calls.running(), self.durations, known)[:room]:
            number = self.made[index].task
            of = {"event": "backup", "run_id": self.run.run_id, "task": number}
            logger.info("task %d takes long, and gets a second call", number, extra=of)
            self.doubled.add(number)
            self.submit(_tasks(self.run, self.following.gathering, [number]))
