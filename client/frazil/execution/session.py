"""One Lithops executor at work: jobs started, given up and cleared away.

A job is one map of Lithops. How the calls of a job fare, and what comes of them, is not known here.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from frazil.execution import localhost
from frazil.execution.channel import read_as_data
from frazil.execution.configuration import LOCAL_INTERVAL, REMOTE_INTERVAL, Settings
from frazil.execution.invoking import Invoking, unlocking
from frazil.execution.opening import blamed_on_the_environment, opened, pickler
from frazil.execution.watching import Job, Surroundings, Watch
from frazil.execution.wire import Reply
from frazil_functions.errors import BackendError

logger = logging.getLogger(__name__)

# Lithops on this machine copies the list of all calls of a job for each of its calls: 1,000 calls take it 3 s,
# and 10,000 five minutes. A job of 32 takes 10 ms.
_AHEAD = 32

# Lithops lists what calls left by the job's name, and the name of job 100 is how that of job 1000 begins.
_FIRST_JOB = 100_000


class Session:
    """A Lithops executor with the surroundings it needs, from its creation to its removal.

    Attributes
    ----------
    watch
        What looks after the calls of this executor.
    runtime
        What is known of the function that it calls, if that is on Lambda.
    """

    def __init__(self, settings: Settings) -> None:
        with blamed_on_the_environment(settings), ExitStack() as stack:
            self._open(settings, stack)
            self._closing = stack.pop_all()

    def _open(self, settings: Settings, stack: ExitStack) -> None:
        lithops = opened(settings, stack)
        self.runtime = lithops.runtime
        self._executor = lithops.executor
        self._executor.total_jobs = _FIRST_JOB
        read_as_data(self._executor.internal_storage)
        self._invoking: Invoking | None = None
        if not lithops.local:
            handler = self._executor.compute_handler
            unlocking(handler.backend)
            self._invoking = handler.invoke = Invoking(handler.invoke, self._begun if lithops.single else None)
        self._constants = lithops.constants
        self._call_timeout = settings.call_timeout
        self._cleaner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="frazil-lithops-cleaner")
        stack.callback(self._leave)
        self._around = Surroundings(
            storage=self._executor.internal_storage,
            environment=self._executor.compute_handler.env if lithops.local else None,
            workers=lithops.workers,
            ahead=max(_AHEAD, 4 * lithops.workers) if lithops.local else None,
            interval=LOCAL_INTERVAL if lithops.local else REMOTE_INTERVAL / 5,
            start_deadline=settings.start_deadline,
        )
        self._starting: Future[list[Any]] | None = None
        self.watch = Watch(self._around, self)

    def pickler(self) -> Callable[[object], bytes]:
        """What turns functions and arguments into bytes."""
        return pickler()

    def start(self, name: str, call: Callable[[bytes], Reply], packets: Sequence[tuple[bytes]]) -> list[Any]:
        """Start a job of one call for each packet; give Lithops' futures."""
        self._drop_latches()
        if self._starting is not None:  # for calls that were given up since; Lithops works for one at a time
            self._await(self._starting, name)
        self._starting = self._started(call, packets)
        self._await(self._starting, name)
        try:
            futures = self._starting.result()
        except Exception as error:  # as for opening: errors of the backend's own
            raise BackendError(f"Lithops could not start the calls of {name}: {error}") from error
        finally:
            self._starting = None
        self._executor.futures.clear()  # else it keeps what each call of this session returned
        return futures

    def refused(self, job: Job) -> str | None:
        """Why calls of this job will never start; None if nothing is known of that."""
        return None if self._invoking is None else self._invoking.refused(job.key)

    def said(self, job: Job) -> str | None:
        """What the last invocation of this job failed with, of those that are made again; None if none failed."""
        return None if self._invoking is None else self._invoking.said(job.key)

    def ended(self, job: Job) -> Mapping[str, str]:
        """Calls of this job that will not report, for their invocation ended with an error, and that; told once."""
        invocations = [] if self._invoking is None else self._invoking.ended(job.key)
        found = {call: said for calls, said in invocations for call in calls}
        if found:
            monitor = self._executor.job_monitor
            # Else Lithops takes each for one that runs, and gives its room back once more when its time is over.
            monitor.remove([future for future in job.futures if future.call_id in found])
            for _ in invocations:
                monitor.token_bucket_q.put("#")  # room for another call, as Lithops counts it
        return found

    def _begun(self, payload: Mapping[str, Any]) -> Mapping[str, bool]:
        """Which calls of an invocation have begun, and whether each has reported since; none if it cannot be told."""
        storage, bucket = self._around.storage.storage, self._around.storage.bucket
        found: dict[str, bool] = {}
        try:
            for call in payload["call_ids"]:
                keys = storage.list_keys(bucket, f"{self._constants.JOBS_PREFIX}/{payload['job_key']}/{call}/")
                if keys:
                    found[call] = any(key.endswith("/status.json") for key in keys)
        except Exception as error:  # noqa: BLE001  each storage backend has errors of its own; the network may be gone
            logger.debug("It cannot be told which calls of %s began: %s", payload["job_key"], error)
            return {}
        return found

    def _await(self, starting: Future[list[Any]], name: str) -> None:
        with suppress(TimeoutError):
            starting.exception(timeout=None if self._around.environment else self._around.start_deadline)
        if not starting.done():
            raise BackendError(
                f"Lithops has not started the calls of {name} within {self._around.start_deadline:g} s: the backend "
                "builds or pulls the image, cannot find it, or has no room for what Lithops starts first. Look at what "
                "it does there, or raise start_deadline"
            )

    def _started(self, call: Callable[[bytes], Reply], packets: Sequence[tuple[bytes]]) -> Future[list[Any]]:
        """A job, as it comes from Lithops, which may wait for ever: for a pod that starts first, or for an image."""
        started: Future[list[Any]] = Future()

        def start() -> None:
            try:
                # No modules are sent along: finding them takes seconds, and both sides hold them by contract.
                job = self._executor.map(call, packets, timeout=self._call_timeout, include_modules=None)
                started.set_result(list(job))
            except BaseException as error:  # noqa: BLE001  raised where it is waited for
                started.set_exception(error)

        if self._around.environment is not None:
            start()
        else:  # not a thread of a pool: the interpreter would wait for it at its end
            threading.Thread(target=start, name="frazil-lithops-start", daemon=True).start()
        return started

    def discard(self, jobs: Sequence[Job]) -> None:
        """Start no more calls of these jobs, where Lithops holds calls back."""
        if self._invoking is not None:
            self._invoking.drop(job.key for job in jobs)
        # The capacity that lost calls seem to hold would be missing to the calls after them.
        self._executor.invoker.discard_pending({job.key for job in jobs}, {job.id for job in jobs})

    def forget(self, jobs: Sequence[Job], *, idle: bool) -> None:
        """Drop what Lithops keeps of these jobs, here and in storage; end their calls that run, if possible.

        Parameters
        ----------
        jobs
            Those that have ended or are to be ended.
        idle
            Whether no other job runs.
        """
        handler, monitor = self._executor.compute_handler, self._executor.job_monitor
        if self._invoking is not None:
            self._invoking.drop(job.key for job in jobs)
        unfinished = [job for job in jobs if job.unfinished]
        dropped = jobs if idle else [job for job in jobs if job.waiting]
        if dropped:
            # It may take all workers for free, so not while other jobs run, unless calls of these are queued.
            self._executor.invoker.discard_pending({job.key for job in dropped}, {job.id for job in dropped})
        if self._around.environment is None:
            handler.clear({job.key for job in jobs})  # some backends keep an object for each job
        elif unfinished:
            for job in unfinished:
                job.kill()
            handler.clear({job.key for job in unfinished}, exception=BackendError("ended by the client"))
            if not self._around.environment.consumer_threads:
                self._await_manager()
        for job in jobs:
            monitor.remove(job.futures)
            self._clean(job.key)
        if idle:
            monitor.stop()  # it remembers every call it saw; the next job gets a new one

    def _drop_latches(self) -> None:
        # Lithops on this machine keeps one of each job. While its manager thread lives, that looks all of them up,
        # and who waits for a worker looks up its job's once more when the worker was killed.
        environment = self._around.environment
        if environment is not None and self._executor.compute_handler.job_manager is None:
            for key in [key for key, latch in environment.jobs.items() if latch.done]:
                if key not in environment.stopped_jobs:
                    del environment.jobs[key]

    def _await_manager(self) -> None:
        # A job that comes while the manager thread of the one before is ending never gets workers.
        handler, patience = self._executor.compute_handler, time.monotonic() + 5
        while handler.job_manager is not None and time.monotonic() < patience:
            time.sleep(0.005)

    def _clean(self, job_key: str) -> None:
        try:
            self._cleaner.submit(self._delete, job_key)
        except RuntimeError:  # the interpreter is ending, and starts no more threads
            self._delete(job_key)

    def _delete(self, job_key: str) -> None:
        # The slash matters: the key of job 1 is also how that of job 10 begins.
        prefix = f"{self._constants.JOBS_PREFIX}/{job_key}/"
        storage, bucket = self._around.storage.storage, self._around.storage.bucket
        try:
            keys = storage.list_keys(bucket, prefix)
            if keys:
                storage.delete_objects(bucket, keys)
        except Exception as error:  # noqa: BLE001  the job is done; each storage backend has errors of its own
            logger.warning("Could not delete what Lithops left in %s/%s: %s", bucket, prefix, error)
        Path(self._constants.LOGS_DIR, f"{job_key}.log").unlink(missing_ok=True)

    def _leave(self) -> None:
        if self._invoking is not None:
            self._invoking.close()
        self._executor.__exit__(None, None, None)
        if self._around.environment is not None:
            self._await_manager()
        invocations = getattr(self._executor.invoker, "executor", None)
        if invocations is not None:  # a thread pool of the backends that take single calls; nothing else ends it
            invocations.shutdown(cancel_futures=True)
        self._clean(self._executor.executor_id)
        self._cleaner.shutdown()
        # Not before the threads that start workers have ended: one that misses its file here dies of it.
        for directory in Path(self._constants.JOBS_DIR).glob(f"{self._executor.executor_id}-*"):
            localhost.remove(directory)

    def close(self) -> None:
        """End every call, thread and file of this session."""
        self.watch.close()
        self._closing.close()
