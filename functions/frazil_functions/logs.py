"""Logs as data: what functions log is kept, within bounds, and travels; text of others is made harmless."""

import logging
import math
import os
import re
import socket
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import msgspec

from frazil_functions.decoding import from_json
from frazil_functions.text import escaped

LOGGER: Final = "frazil_functions"
"""What everything below logs to."""

_MOST_LINES: Final = 200
_MOST_BYTES: Final = 64_000
_MOST_TEXT: Final = 4_000
"""Characters of one message."""

_MARK: Final = "log of the function: "

_USER: Final = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s/@\"'<>]+@", re.IGNORECASE)
_QUERY: Final = re.compile(r"(\bhttps?://[^\s?\"'<>]+)\?[^\s\"'<>]*", re.IGNORECASE)

_LOCK: Final = threading.Lock()


def redacted(text: str) -> str:
    """A text without what is secret in the URLs in it: names and passwords, and queries, which carry signatures.

    Examples
    --------
    >>> redacted("https://me:word@host/a.nc?X-Amz-Signature=0f and s3://bucket/what?")
    'https://host/a.nc?... and s3://bucket/what?'
    """
    return _QUERY.sub(r"\1?...", _USER.sub(r"\1", text))


@dataclass(frozen=True, slots=True)
class LogLine:
    """One record of a log.

    Attributes
    ----------
    time
        In seconds since 1970.
    level
        As `logging` numbers them.
    logger, message
        Who said it, and what.
    """

    time: float
    level: int
    logger: str
    message: str

    def harmless(self) -> "LogLine":
        """The same, of whatever somebody else has made: with a level that there is, and text of one line."""
        return LogLine(
            self.time if math.isfinite(self.time) else 0.0,
            min(max(self.level, logging.DEBUG), logging.CRITICAL),
            escaped(self.logger[:_MOST_TEXT]),
            escaped(redacted(self.message[:_MOST_TEXT])),
        )


@dataclass(frozen=True, slots=True)
class FunctionLog:
    """The last records of a function.

    Attributes
    ----------
    lines
        The records, the oldest first.
    dropped
        How many came before.
    """

    lines: tuple[LogLine, ...] = ()
    dropped: int = 0

    def harmless(self) -> "FunctionLog":
        """The same, with no more lines than there may be, and harmless ones."""
        last = self.lines[-_MOST_LINES:]
        dropped = min(max(self.dropped, 0) + len(self.lines) - len(last), 10**9)
        return FunctionLog(tuple(line.harmless() for line in last), dropped)


def this_process() -> str:
    """A name that no other process has at the same time."""
    return f"{socket.gethostname()}/{os.getpid()}"


@dataclass(frozen=True, slots=True)
class LogRequest:
    """Whether a function returns what it logs.

    Attributes
    ----------
    level
        From which level on; 0 for nothing.
    process
        Who asks: where it calls a function in its own process, it alone shows what that logs.
    """

    level: int = 0
    process: str = ""


class Capture(logging.Handler):
    """Keeps the last records that come, within bounds."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self._lines: deque[LogLine] = deque()
        self._nbytes = self._dropped = 0
        self.before = (logging.NOTSET, True)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record; the oldest go for it."""
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # arguments that do not fit their message; nothing is worth a task
            message = str(record.msg)
        line = LogLine(record.created, record.levelno, record.name, redacted(message)[:_MOST_TEXT])
        self._lines.append(line)
        self._nbytes += _size(line)
        while len(self._lines) > _MOST_LINES or self._nbytes > _MOST_BYTES:
            self._nbytes -= _size(self._lines.popleft())
            self._dropped += 1

    def log(self) -> FunctionLog:
        """What is kept."""
        with self.lock or _LOCK:
            return FunctionLog(tuple(self._lines), self._dropped)


def _size(line: LogLine) -> int:
    return len(line.message.encode(errors="replace")) + len(line.logger) + 32


@contextmanager
def captured(asked: LogRequest) -> Iterator[Capture]:
    """Keep what is logged here meanwhile, if that is asked for; in the process that asks, it is shown only by that.

    Of several at once in one process, each keeps what all of them log. An error that passes gets a note of it.
    """
    capture = Capture(asked.level)
    if not asked.level:
        yield capture
        return
    logger = logging.getLogger(LOGGER)
    with _LOCK:
        others = [one for one in logger.handlers if isinstance(one, Capture)]
        capture.before = others[0].before if others else (logger.level, logger.propagate)
        logger.addHandler(capture)
        logger.setLevel(min([asked.level, logger.getEffectiveLevel(), *(one.level for one in others)]))
        logger.propagate = logger.propagate and asked.process != this_process()
    try:
        yield capture
    except Exception as error:
        if capture.log().lines:
            error.add_note("\n".join(_MARK + msgspec.json.encode(line).decode() for line in capture.log().lines))
        raise
    finally:
        with _LOCK:
            logger.removeHandler(capture)
            if not any(isinstance(one, Capture) for one in logger.handlers):
                level, logger.propagate = capture.before
                logger.setLevel(level)


def log_in(error: BaseException) -> FunctionLog:
    """What a function had logged before it failed, out of the notes of its error."""
    lines = []
    for note in getattr(error, "__notes__", ()):
        for line in str(note).splitlines():
            if line.startswith(_MARK):
                try:
                    lines.append(from_json(line.removeprefix(_MARK), LogLine))
                except (msgspec.MsgspecError, ValueError, RecursionError):  # somebody else's words
                    continue
    return FunctionLog(tuple(lines)).harmless()
