"""Lambda's data plane: who gets an environment, who waits, who is refused, and what is tried again.

It knows nothing of HTTP, of permissions, or of what happens inside an environment.
"""

import contextlib
import json
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .environment import Environment, Function, Result
from .local import Behaviour


@dataclass(frozen=True, slots=True)
class Settings:
    """What Lambda's control plane knows of a function besides what its environments are made from.

    Attributes
    ----------
    concurrency
        How many environments there may be at once.
    retries
        How often an event that failed is tried again.
    destination
        The ARN that events go to which are given up, if any.
    """

    function: Function
    revision: str
    concurrency: int
    retries: int
    destination: str | None


@dataclass(slots=True)
class Record:
    """One invocation; see `local.Invocation`."""

    request_id: str
    function: str
    kind: str
    outcome: str
    payload: bytes
    answer: bytes | None = None
    attempts: int = 0
    cold: bool = False
    seconds: float = 0.0
    peak_mb: float = 0.0


@dataclass(slots=True)
class _Pool:
    """The environments of one function, its events that wait, and what was counted for its faults."""

    behaviour: Behaviour = field(default_factory=Behaviour)
    idle: list[Environment] = field(default_factory=list)
    busy: list[Environment] = field(default_factory=list)
    starting: int = 0
    waiting: deque[Record] = field(default_factory=deque)
    pausing: int = 0
    ended: int = 0
    asked: int = 0
    accepted: int = 0
    logs: list[str] = field(default_factory=list)


class DataPlane:
    """Invocations of functions.

    Parameters
    ----------
    look_up
        Gives what is known of a function by its name, or None if there is none.
    give_up
        Takes the destination and the record of an event that failed for the last time.
    folder
        Where environments keep what they write.
    """

    def __init__(
        self,
        look_up: Callable[[str], Settings | None],
        give_up: Callable[[str | None, Mapping[str, Any]], None],
        folder: Path,
    ) -> None:
        self._look_up = look_up
        self._give_up = give_up
        self._folder = folder
        self._pools: dict[str, _Pool] = {}
        self._records: list[Record] = []
        self._failures: list[dict[str, Any]] = []
        self._revisions: dict[str, str] = {}
        self._lock = threading.RLock()
        self._closed = False
        threading.Thread(target=self._end_idle, daemon=True).start()

    def invoke(self, name: str, payload: bytes, kind: str) -> tuple[Record, Result | None]:
        """Accept an invocation, or throttle it; wait for the end of one that is not an event.

        Raises
        ------
        LookupError
            If there is no such function.
        """
        settings = self._settings(name)
        record = Record(str(uuid.uuid4()), name, kind, "queued", payload)
        with self._lock:
            pool = self._pool(name)
            self._records.append(record)
            pool.asked += 1
            every = pool.behaviour.throttle_every
            full = pool.starting + len(pool.busy) >= settings.concurrency
            bound = pool.behaviour.queue
            crowded = full and (kind != "Event" or (bound is not None and len(pool.waiting) + pool.pausing >= bound))
            if (every and pool.asked % every == 0) or crowded:
                record.outcome = "throttled"
                return record, None
            pool.accepted += 1
            if pool.behaviour.lose_every and pool.accepted % pool.behaviour.lose_every == 0:
                record.outcome = "lost"
                return record, None
            if kind == "Event":
                pool.waiting.append(record)
                self._dispatch(name, settings)
                return record, None
            pool.starting += 1
        return record, self._run(record, settings)

    def _dispatch(self, name: str, settings: Settings) -> None:
        """Give environments to the events that wait, as long as there is room; the lock is held."""
        pool = self._pool(name)
        while pool.waiting and pool.starting + len(pool.busy) < settings.concurrency and not self._closed:
            record = pool.waiting.popleft()
            pool.starting += 1
            threading.Thread(target=self._run_event, args=(record, settings), daemon=True).start()

    def _run_event(self, record: Record, settings: Settings) -> None:
        pool = self._pool(record.function)
        ended = pool.ended
        result = self._run(record, settings)
        if result.outcome == "succeeded" or pool.ended != ended:
            return
        if record.attempts <= settings.retries:
            with self._lock:
                record.outcome = "queued"
                pool.pausing += 1
            time.sleep(pool.behaviour.retry_pause)
            with self._lock, contextlib.suppress(LookupError):
                pool.pausing -= 1
                if pool.ended == ended:
                    pool.waiting.append(record)
                    self._dispatch(record.function, self._settings(record.function))
            return
        given_up = _given_up(record, result, settings)
        with self._lock:
            self._failures.append(given_up)
        self._give_up(settings.destination, given_up)

    def _run(self, record: Record, settings: Settings) -> Result:
        """Run an attempt in an environment that waits, or a new one. Room for it was taken, as `starting`."""
        pool = self._pool(record.function)
        record.outcome = "running"
        with self._lock:
            environment = pool.idle.pop() if pool.idle else None
            if environment is not None:
                pool.starting -= 1
                pool.busy.append(environment)
        if environment is None:
            environment = Environment(settings.function, self._folder)
            with self._lock:
                pool.starting -= 1
                pool.busy.append(environment)
        record.cold = environment.cold
        result = environment.run(record.request_id, record.payload)
        record.attempts += 1
        record.seconds, record.peak_mb, record.answer = result.seconds, result.peak_mb, result.answer
        with self._lock:
            pool.logs.append(result.log)
            if environment in pool.busy:
                pool.busy.remove(environment)
                if environment.alive:
                    pool.idle.append(environment)
            record.outcome = result.outcome
            with contextlib.suppress(LookupError):
                self._dispatch(record.function, self._settings(record.function))
        return result

    def _settings(self, name: str) -> Settings:
        settings = self._look_up(name)
        if settings is None:
            raise LookupError(name)
        with self._lock:
            if self._revisions.get(name) not in {None, settings.revision}:
                self._end(self._pool(name).idle)  # they were made from what the function was before
            self._revisions[name] = settings.revision
        return settings

    def _pool(self, name: str) -> _Pool:
        return self._pools.setdefault(name, _Pool())

    def _end(self, environments: list[Environment]) -> None:
        while environments:
            environments.pop().end()

    def _end_idle(self) -> None:
        while not self._closed:
            time.sleep(0.1)
            with self._lock:
                for pool in self._pools.values():
                    old = time.monotonic() - pool.behaviour.idle
                    gone = [one for one in pool.idle if one.used < old or not one.alive]
                    pool.idle = [one for one in pool.idle if one not in gone]
                    self._end(gone)

    def behave(self, function: str, behaviour: Behaviour) -> None:
        """Change what a function does, and count from zero for it."""
        with self._lock:
            pool = self._pool(function)
            pool.behaviour, pool.asked, pool.accepted = behaviour, 0, 0

    def end(self, function: str) -> None:
        """End a function's environments, and forget its events that wait."""
        with self._lock:
            pool = self._pool(function)
            pool.ended += 1
            pool.waiting.clear()
            self._end(pool.idle)
            busy, pool.busy = pool.busy, []
            self._end(busy)

    def reset(self) -> None:
        """Forget what was, and end every environment."""
        with self._lock:
            for name in self._pools:
                self.end(name)
            for pool in self._pools.values():
                pool.logs.clear()
            self._records.clear()
            self._failures.clear()

    def close(self) -> None:
        """End everything."""
        self._closed = True
        self.reset()

    def records(self) -> list[Record]:
        """Every invocation since the last reset."""
        with self._lock:
            return list(self._records)

    def failures(self) -> list[dict[str, Any]]:
        """The records of events that were given up."""
        with self._lock:
            return list(self._failures)

    def logs(self, function: str) -> str:
        """What the function's invocations wrote."""
        with self._lock:
            return "".join(self._pool(function).logs)

    def environments(self) -> list[dict[str, Any]]:
        """Those that live."""
        with self._lock:
            return [
                {"function": name, "pid": one.process.pid, "busy": busy, "read_only": one.function.read_only}
                for name, pool in self._pools.items()
                for busy, those in ((True, pool.busy), (False, pool.idle))
                for one in those
            ]


def _given_up(record: Record, result: Result, settings: Settings) -> dict[str, Any]:
    """The record that Lambda sends to an on-failure destination.

    Its form is that of "Retaining records of asynchronous invocations" in AWS' guide.
    """
    return {
        "version": "1.0",
        "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "requestContext": {
            "requestId": record.request_id,
            "functionArn": f"{settings.function.arn}:$LATEST",
            "condition": "RetriesExhausted",
            "approximateInvokeCount": record.attempts,
        },
        "requestPayload": json.loads(record.payload or b"null"),
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "responsePayload": json.loads(result.answer),
    }
