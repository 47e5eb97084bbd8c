"""What the command line logs, and how: lines of text for people, or JSON for programs, on standard error."""

import logging
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final, Literal

from pythonjsonlogger.json import JsonFormatter

from frazil_functions.logs import redacted
from frazil_functions.text import escaped, escaped_lines

type LogFormat = Literal["text", "json"]

_LEVELS: Final = (logging.WARNING, logging.INFO, logging.DEBUG)
_OURS: Final = ("frazil", "frazil_functions")
_WARNINGS: Final = "py.warnings"
_VERBOSE: Final = re.compile(r"-[a-z]*v[a-z]*|--verbose")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a command line asks for, told before it is parsed, so that what is wrong with it is logged as asked, too."""

    verbose: int
    format: LogFormat

    @classmethod
    def of(cls, tokens: Sequence[str], environment: Mapping[str, str]) -> "Asked":
        """What some tokens ask for, and, where they do not, the environment, which has options in lower case."""
        given = [token for token in tokens if _VERBOSE.fullmatch(token)]
        verbose = sum(1 if token.startswith("--") else token.count("v") for token in given)
        formats = [token.partition("=")[2] for token in tokens if token.startswith("--log-format=")]
        formats += [after for option, after in pairwise(tokens) if option == "--log-format"]
        said = environment.get("verbose", "")
        verbose = verbose or (int(said) if said.isdecimal() else int(said.lower() in {"true", "yes"}))
        return cls(verbose, "json" if "json" in (formats or [environment.get("log_format", "")]) else "text")


class _Text(logging.Formatter):
    """One line a record, and below it the traceback if there is one."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base's
        record.message = escaped(record.message)
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        return harmless(super().format(record))


class _Json(JsonFormatter):
    """One object a line: time, level, logger, message, run_id, task, and the fields of the event."""

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        log_data["time"] = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        log_data["level"], log_data["logger"] = record.levelname, record.name
        log_data["message"] = record.getMessage()
        super().add_fields(log_data, record, message_dict)

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        return {key: redacted(value) if isinstance(value, str) else value for key, value in log_data.items()}


class _OursAlone(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return record.name.partition(".")[0] in _OURS or record.name == _WARNINGS


def harmless(text: str) -> str:
    """Lines of text without secrets, and with nothing that moves a terminal's cursor."""
    return escaped_lines(redacted(text))


def _formatter(asked: Asked) -> logging.Formatter:
    if asked.format == "json":
        return _Json("%(message)s", json_ensure_ascii=True)
    if not asked.verbose:
        return _Text("%(message)s")
    made = _Text("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    made.converter = time.gmtime
    return made


@contextmanager
def logging_as(asked: Asked) -> Iterator[None]:
    """Log on standard error meanwhile, what is ours alone, and leave logging as it was."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(asked))
    handler.addFilter(_OursAlone())
    root = logging.getLogger()
    loggers = [logging.getLogger(name) for name in _OURS]
    levels = [one.level for one in loggers]
    root.addHandler(handler)
    for one in loggers:
        one.setLevel(_LEVELS[min(asked.verbose, len(_LEVELS) - 1)])
    logging.captureWarnings(asked.format == "json")
    try:
        yield
    finally:
        logging.captureWarnings(False)  # noqa: FBT003 - its only parameter
        root.removeHandler(handler)
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
