"""Calls through Lithops, watched until each has ended or is known to be lost.

Lithops' own waiting is for the main thread alone, ends all calls when one fails, and never notices a
call that does not start or a worker that is killed. Here it serves futures and storage, and no more.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from frazil.execution import localhost
from frazil.execution.executor import Outcome
from frazil.execution.wire import Reply
from frazil_functions.errors import BackendError

if TYPE_CHECKING:
    from subprocess import Popen

    from frazil.execution.submitting import LithopsCalls

# Seconds beyond its time limit after which a call that says nothing is given up. A worker that ends a call at
# the limit still has to say so, and Lithops looks for itself after five, by the worker's clock.
SLACK = 10.0

_ENDED = (
    "Its memory limit or its time limit are the usual reasons: give functions more memory, or raise call_timeout "
    "and the backend's own time limit, or write smaller tasks with more workers"
)

_REFUSED = (
    "The function must be there, and who calls needs the permission to invoke it: on AWS Lambda lambda:InvokeFunction, "
    "which infra/modules/policy gives the role of the client. One that was deleted is made again where Lithops makes "
    "it, as on Cloud Run, once its description is deleted, under lithops.runtimes/ in the staging bucket and "
    "~/.lithops/cache here"
)

_DOWNLOADS = 16  # values above 8 kB lie in storage, one request away each


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What calls are watched with.

    Attributes
    ----------
    storage
        Lithops' internal storage, where calls leave their statuses and values.
    environment
        The environment of Lithops' localhost backend; None for all others.
    workers, interval, start_deadline
        How many calls can run at once; the seconds between two looks; and the seconds without any call
        starting or ending after which calls that have not started are given up.
    ahead
        How many calls Lithops may hold that have not ended; None for any number.
    slack
        Seconds beyond its time limit after which a call that runs is given up.
    """

    storage: Any
    environment: Any
    workers: int
    interval: float
    start_deadline: float
    ahead: int | None = None
    slack: float = SLACK


class Job:
    """The calls of one map of Lithops.

    Parameters
    ----------
    calls
        Where their outcomes go.
    first
        The index of the first of them.
    futures
        Lithops' futures, in the order of the indices.
    """

    def __init__(self, calls: "LithopsCalls[Any, Any]", first: int, futures: list[Any]) -> None:
        self.calls = calls
        self.futures = futures
        self.handed = time.monotonic()
        self.waiting = dict(enumerate(futures, first))
        self.processes: dict[int, Popen[bytes]] = {}
        self.fetches: list[Future[None]] = []
        self.given_up = False

    @property
    def key(self) -> str:
        """Lithops' name of this job, unique in its storage."""
        return str(self.futures[0].job_key)

    @property
    def id(self) -> str:
        """Lithops' name of this job, unique in its executor."""
        return str(self.futures[0].job_id)

    @property
    def unfinished(self) -> bool:
        """Whether some calls may still run, now or later."""
        return self.given_up or bool(self.waiting)

    @property
    def over(self) -> bool:
        """Whether every call of it has given its outcome."""
        return not self.waiting and all(fetch.done() for fetch in self.fetches)

    def kill(self) -> None:
        """End the workers of these calls on this machine, with what a dead one left running."""
        for process in self.processes.values():
            localhost.kill(process)

    def drop(self, index: int) -> Any:  # noqa: ANN401  Lithops has no types
        """Wait no longer for a call; give its future."""
        self.calls.begun.pop(index, None)
        return self.waiting.pop(index)


class Backend(Protocol):
    """What starts jobs and forgets them; see `frazil.execution.session.Session`."""

    def pickler(self) -> Callable[[object], bytes]:
        """What turns functions and arguments into bytes."""
        ...

    def start(self, name: str, call: Callable[[bytes], Reply], packets: Sequence[tuple[bytes]]) -> list[Any]:
        """Start a job of one call for each packet; give Lithops' futures."""
        ...

    def refused(self, job: Job) -> str | None:
        """Why calls of this job will never start; None if nothing is known of that."""
        ...

    def said(self, job: Job) -> str | None:
        """What the last invocation of this job failed with, of those that are made again; None if none failed."""
        ...

    def ended(self, job: Job) -> Mapping[str, str]:
        """Lithops' names of calls that began and will not report, and what their invocation ended with; told once."""
        ...

    def discard(self, jobs: Sequence[Job]) -> None:
        """Start no more calls of these jobs."""
        ...

    def forget(self, jobs: Sequence[Job], *, idle: bool) -> None:
        """Drop these jobs, and end their calls that run; `idle` if no other job runs."""
        ...


class Watch:
    """Looks after all calls of a session.

    One thread does it, so that neither a slow reader of outcomes nor who submits delays anything. It runs while
    somebody has calls.

    Parameters
    ----------
    around
        What to watch the calls with.
    backend
        What starts jobs and forgets them. It is used by one thread at a time.
    """

    def __init__(self, around: Surroundings, backend: Backend) -> None:
        self.backend = backend
        self._around = around
        self._calls: list[LithopsCalls[Any, Any]] = []
        self._jobs: list[Job] = []
        self._thread: threading.Thread | None = None
        self._registry = threading.Lock()  # of the calls and the thread; held for moments
        # Of the jobs and of Lithops, which works for one thread at a time; held while it works. Calls may be left
        # by a destructor, which runs in any thread, the watch's included.
        self._work = threading.RLock()
        self._awake = threading.Event()
        self._ended = 0
        self._signs = (0, 0)
        self._last_sign = time.monotonic()

    def look_after(self, calls: "LithopsCalls[Any, Any]") -> None:
        """Start what was submitted to these calls, now or when there is room, and see to all of them until left."""
        with self._registry:
            if calls not in self._calls:
                self._calls.append(calls)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="frazil-lithops-calls", daemon=True)
                self._thread.start()
        self._awake.set()

    def leave(self, calls: "LithopsCalls[Any, Any]") -> None:
        """End these calls; do nothing when called again."""
        with self._work:
            calls.fail(BackendError("The executor was left while its calls were running"))
            jobs = [job for job in self._jobs if job.calls is calls]
            self._jobs = [job for job in self._jobs if job.calls is not calls]
            if jobs:
                wait([fetch for job in jobs for fetch in job.fetches])
                self.backend.forget(jobs, idle=not self._jobs)
        with self._registry:
            if calls in self._calls:
                self._calls.remove(calls)
            thread = None if self._calls else self._thread
        self._awake.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def close(self) -> None:
        """End all calls."""
        for calls in list(self._calls):
            self.leave(calls)

    def _run(self) -> None:
        with ThreadPoolExecutor(_DOWNLOADS, thread_name_prefix="frazil-lithops-values") as downloads:
            while True:
                with self._registry:
                    if not self._calls:
                        self._thread = None
                        return
                    busy = self._jobs or any(calls.packets for calls in self._calls)
                self._awake.wait(self._around.interval if busy else None)
                self._awake.clear()
                try:
                    with self._work:
                        self._look(downloads)
                except BaseException as error:  # noqa: BLE001  raised by `next`, in the thread that reads outcomes
                    self._fail(error)

    def _fail(self, error: BaseException) -> None:
        failure = BackendError(f"The calls cannot be watched any longer: {error}")
        failure.__cause__ = error
        for calls in list(self._calls):
            calls.fail(failure)

    def _look(self, downloads: ThreadPoolExecutor) -> None:
        for job in self._jobs:
            for index, future in list(job.waiting.items()):
                if _has_reported(future):
                    self._ended += 1
                    job.drop(index)
                    job.processes.pop(index, None)
                    job.fetches.append(downloads.submit(self._fetch, job.calls, index, future))
                elif future.running:
                    # Clocks elsewhere may be wrong, so what counts is when the call was first seen running here.
                    job.calls.begun.setdefault(index, time.monotonic())
            why = self.backend.refused(job)
            if why is not None:
                job.calls.fail(BackendError(f"The backend refuses calls of {job.calls.name}: {why}. {_REFUSED}"))
        self._give_up_lost()
        over = [job for job in self._jobs if job.over]
        if over:
            self._jobs = [job for job in self._jobs if job not in over]
            self.backend.forget(over, idle=not self._jobs)
        for calls in list(self._calls):
            self._hand_over(calls)

    def _hand_over(self, calls: "LithopsCalls[Any, Any]") -> None:
        """Start a job of the calls that were submitted, as many as Lithops may hold."""
        number = len(calls.packets)
        if self._around.ahead is not None:
            room = self._around.ahead - sum(len(job.waiting) for job in self._jobs)
            # Many together, or all there are: one by one, as others end, each would be a job of its own.
            number = min(number, room) if number <= room or room >= self._around.ahead // 2 else 0
        if not number or calls.call is None or calls.failed():  # left by another thread while it submitted
            return
        packets = [calls.packets.popleft() for _ in range(number)]
        try:
            futures = self.backend.start(calls.name, calls.call, packets)
        except BackendError as error:
            calls.fail(error)
            return
        job = Job(calls, calls.handed, futures)
        calls.handed += number
        if calls.failed():  # left by a destructor that ran in this thread meanwhile
            self.backend.forget([job], idle=not self._jobs)
        else:
            self._jobs.append(job)

    def _fetch(self, calls: "LithopsCalls[Any, Any]", index: int, future: Any) -> None:  # noqa: ANN401  Lithops has no types
        killed = False
        try:
            # Raising, as it does by default, it would also replace sys.excepthook.
            reply = future.result(throw_except=False, internal_storage=self._around.storage)
            # An error of the function travels in the reply; this one is of Lithops, or of the worker.
            # Where it is not raised, it is nowhere else.
            reason = str(future._exception[1]) if future.error else "it reported no value"  # noqa: SLF001
            if "exceeded the execution timeout" in reason:  # so Lithops calls a worker of which it heard no more
                reason, killed = f"it ended without an answer. {_ENDED}", True
            elif "was killed with SIGKILL" in reason:
                killed = True
        except Exception as error:  # noqa: BLE001  what a worker left may be of any kind; the call is lost with it
            reply, reason = None, f"what it reported cannot be read: {error!r}"
        calls.put(_lost(calls, index, reason, killed=killed) if reply is None else calls.read(index, reply))

    def _give_up_lost(self) -> None:
        now = time.monotonic()
        lost: dict[tuple[Job, int], str] = {}
        if self._around.environment is not None:
            lost |= self._dead()
        killed = self._ended_invocations() | self._overdue(now)
        lost |= killed
        late = self._late(now, killed)
        if late:
            self.backend.discard(list({job: None for job, _ in late}))
            lost |= late
        for (job, index), reason in lost.items():
            self._ended += 1
            job.drop(index)
            job.given_up = True
            job.calls.put(_lost(job.calls, index, reason, killed=(job, index) in killed))

    def _dead(self) -> dict[tuple[Job, int], str]:
        # Lithops only logs that a worker of this machine ended; a call without a status "runs" on.
        found: dict[tuple[Job, int], str] = {}
        environment = self._around.environment
        for job in self._jobs:
            latch = environment.jobs.get(job.key)  # the session drops those of jobs whose workers have ended
            all_ended = latch is None or latch.done
            for index, future in job.waiting.items():
                process = environment.task_processes.get(f"{job.key}-{future.call_id}")
                if process is not None:
                    job.processes[index] = process
                process = job.processes.get(index)
                how = localhost.ending(process) if process else "its process ended" if all_ended else None
                # A worker writes the status before it ends, so one that is missing now will not come.
                if how is not None and not _has_reported(future) and not self._has_status(future):
                    if process is not None:
                        localhost.kill(process)
                    found[job, index] = f"{how} before it could report"
        return found

    def _ended_invocations(self) -> dict[tuple[Job, int], str]:
        # Backends that answer an invocation when its call has ended answer with an error when what ran it died.
        found: dict[tuple[Job, int], str] = {}
        for job in self._jobs:
            ended = self.backend.ended(job)
            for index, future in job.waiting.items():
                said = ended.get(future.call_id)
                if said is not None and not _has_reported(future):
                    found[job, index] = f"what ran it ended before it could report: {said}. {_ENDED}"
        return found

    def _overdue(self, now: float) -> dict[tuple[Job, int], str]:
        # What kills a function from outside leaves it no time to say so.
        found: dict[tuple[Job, int], str] = {}
        for job, index, future in self._waiting():
            since = job.calls.begun.get(index)
            limit = future.execution_timeout + self._around.slack
            if since is not None and now - since > limit:
                found[job, index] = f"it ended without an answer, none came within {limit:g} s. {_ENDED}"
        return found

    def _late(self, now: float, killed: dict[tuple[Job, int], str]) -> dict[tuple[Job, int], str]:
        started = sum(not future.invoked for job, index, future in self._waiting() if (job, index) not in killed)
        signs, deadline = (self._ended, started), self._around.start_deadline
        # Calls that queue behind others while all workers are busy are not late, whichever job these are of.
        if signs != self._signs or started >= self._around.workers:
            self._signs, self._last_sign = signs, now
            return {}
        reason = (
            f"it had not started {deadline:g} s after the last call that started or ended. The backend "
            "dropped it, or has less room than `workers` says: lower that, or raise start_deadline"
        )
        late: dict[tuple[Job, int], str] = {}
        for job, index, future in self._waiting():
            waited = now - max(self._last_sign, job.handed)
            if future.invoked and (job, index) not in killed and waited > deadline:
                said = self.backend.said(job)
                late[job, index] = f"{reason}. It was last refused with: {said}" if said else reason
        return late

    def _waiting(self) -> Iterator[tuple[Job, int, Any]]:
        return ((job, index, future) for job in self._jobs for index, future in job.waiting.items())

    def _has_status(self, future: Any) -> bool:  # noqa: ANN401  Lithops has no types
        name = future.executor_id, future.job_id, future.call_id
        try:
            return bool(self._around.storage.get_call_status(*name))
        except ValueError:  # half a status: the worker was killed while it wrote
            return False


def _lost(calls: "LithopsCalls[Any, Any]", index: int, reason: str, *, killed: bool = False) -> Outcome[Any]:
    return Outcome(index, error=BackendError(f"Call {index} of {calls.name} was lost: {reason}"), killed=killed)


def _has_reported(future: Any) -> bool:  # noqa: ANN401  Lithops has no types
    return bool(future.ready or future.success or future.done)
