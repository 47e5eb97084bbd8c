"""Invocations that fail: made again where there is no room for the moment, and told of where no answer will come.

Lithops makes each invocation once, on a thread of its own, and only logs that one failed: its call would be
waited for until it is given up. What a call does, and what comes of it, is not known here.
"""

import logging
import random
import re
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

logger = logging.getLogger(__name__)

_REFUSED: Final = re.compile(r"^Error (\d{3}): (.*)", re.DOTALL)
"""How Lithops tells of the HTTP status that AWS Lambda answered an invocation with, but for two that it names."""

_NEVER: Final = re.compile(r"^(Unauthorized - Invalid API Key|Lithops Runtime: .* not deployed)$", re.DOTALL)
"""How it tells of those: 401 and 404."""

_THROTTLED: Final = 429
_SERVER: Final = 500
_FIRST: Final = 0.2
_MOST: Final = 10.0
"""Seconds between two invocations of one call, at first and at most; each waits twice as long as the one before."""

_NONE: Final = "none"
"""The name of an invocation that was not made, and will not be, or that has ended."""

_SAID: Final = 300
"""Characters of an answer that are kept."""

_PATIENCE: Final = "ReadTimeout"
"""The error of a request whose answer Lithops waits for no longer; what it asked for goes on."""


class Invoking:
    """Makes a backend's invocations.

    Parameters
    ----------
    invoke
        Lithops' own invocation: takes what a call travels as, and gives the invocation's name, or raises.
    begun
        Which calls of an invocation have begun, and whether each has reported since. None for a backend that is
        invoked once for all calls of a job: what it raises is raised.
    """

    def __init__(
        self,
        invoke: Callable[[Mapping[str, Any]], str | None],
        begun: Callable[[Mapping[str, Any]], Mapping[str, bool]] | None = None,
    ) -> None:
        self._invoke = invoke
        self._begun = begun
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._dropped: set[str] = set()
        self._refused: dict[str, str] = {}
        self._said: dict[str, str] = {}
        self._ended: dict[str, list[tuple[tuple[str, ...], str]]] = {}

    def __call__(self, payload: Mapping[str, Any]) -> str | None:
        """Invoke calls; while there is no room for them, wait until there is, or until their job is ended.

        Some backends answer when a call has ended. One that began, did not report, and whose invocation failed is
        not invoked again: whoever waits for it is told.

        One that is never made has the name of none, for Lithops prints the traceback of whatever is raised here.

        Raises
        ------
        Exception
            What Lithops raises, if that is anything else.
        """
        pause = _FIRST
        job_key = payload.get("job_key", "")  # not for a function that is to invoke the others
        while True:
            try:
                return self._invoke(payload)
            except Exception as error:
                said = " ".join(str(error).split())[:_SAID]
                status = _status(error)
                if _NEVER.match(said) or (0 < status < _SERVER and status != _THROTTLED):
                    with self._lock:
                        self._refused.setdefault(job_key, said)
                    return _NONE
                if not status and (self._begun is None or "call_ids" not in payload):
                    raise
                if not status and self._is_answered(payload, error, said or type(error).__name__):
                    return _NONE
                wait = pause * random.uniform(0.5, 1.5)  # noqa: S311  chance, not secrecy
            logger.debug("an invocation failed, and is made again in %.1f s: %s", wait, said)
            if self._closed.wait(wait) or job_key in self._dropped:
                return _NONE
            pause = min(2 * pause, _MOST)

    def _is_answered(self, payload: Mapping[str, Any], error: Exception, said: str) -> bool:
        """Whether calls, of which the invocation failed, began; those that have not reported are taken for ended."""
        if any(kind.__name__ == _PATIENCE for kind in type(error).__mro__):
            return True
        assert self._begun is not None
        begun, job_key = self._begun(payload), payload["job_key"]
        silent = tuple(call for call in payload["call_ids"] if not begun.get(call))
        with self._lock:
            if begun and silent:
                self._ended.setdefault(job_key, []).append((silent, said))
            self._said[job_key] = said
        return bool(begun)

    def refused(self, job_key: str) -> str | None:
        """What the backend said of calls of a job that it will never start; None if it said no such thing."""
        with self._lock:
            return self._refused.get(job_key)

    def said(self, job_key: str) -> str | None:
        """What the last invocation of a job that failed, and that may be made again, failed with."""
        with self._lock:
            return self._said.get(job_key)

    def ended(self, job_key: str) -> Sequence[tuple[tuple[str, ...], str]]:
        """The calls of each invocation of a job that ended with an error after they began, and the error; told once."""
        with self._lock:
            return self._ended.pop(job_key, [])

    def drop(self, job_keys: Iterable[str]) -> None:
        """Make no more invocations of these jobs."""
        with self._lock:
            for key in job_keys:
                self._dropped.add(key)
                self._refused.pop(key, None)
                self._said.pop(key, None)

    def close(self) -> None:
        """Make no more invocations."""
        self._closed.set()


def unlocking(backend: Any) -> None:  # noqa: ANN401  Lithops has no types
    """Make a backend of Lithops give back the lock that it takes to ask for its function's address.

    Those for Google Cloud keep it where they are refused the address, and every later invocation waits for ever.
    """
    lock = getattr(sys.modules[type(backend).__module__], "invoke_mutex", None)
    for name in ("_get_url_and_token", "_get_token"):
        ask = getattr(backend, name, None)
        if lock is not None and ask is not None:
            setattr(backend, name, _unlocking(ask, lock))


def _unlocking(ask: Callable[[str], object], lock: threading.Lock) -> Callable[[str], object]:
    def address(function: str) -> object:
        try:
            return ask(function)
        except BaseException:
            lock.release()  # taken by the first line of what was called, and left by its last
            raise

    return address


def _status(error: Exception) -> int:
    """The HTTP status that an error tells of; 0 if it tells of none."""
    found = _REFUSED.match(str(error))
    status = found[1] if found else getattr(error, "status_code", 0)
    return int(status) if isinstance(status, str | int) else 0
