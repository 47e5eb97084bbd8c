"""Handlers that the tests of the data plane invoke: each does one thing that functions do to their environment."""

import os
import time
from pathlib import Path
from typing import Any

_seen: list[str] = []


def echo(event: Any, context: Any) -> dict[str, Any]:
    """What came in, and what is to be known of where."""
    _seen.append(context.aws_request_id)
    return {"event": event, "pid": os.getpid(), "invocations": len(_seen), "variables": sorted(os.environ)}


def sleep(event: dict[str, float], context: Any) -> str:
    """Take as long as asked."""
    time.sleep(event["seconds"])
    return "slept"


def allocate(event: dict[str, int], context: Any) -> int:
    """Hold as many MB as asked, for long enough to be seen."""
    held = bytearray(os.urandom(1)) * (event["megabytes"] * 2**20)
    time.sleep(1)
    return len(held)


def fail(event: Any, context: Any) -> None:
    """Raise."""
    raise ValueError("as asked")


def leave(event: Any, context: Any) -> None:
    """End the process."""
    os._exit(3)


def write(event: dict[str, str], context: Any) -> str:
    """Write a file, and say what came of it."""
    try:
        Path(event["path"]).write_text("here")
    except OSError as error:
        return type(error).__name__ + f" {error.errno}"
    return "written"


def credentials(event: Any, context: Any) -> list[str]:
    """The keys that a function has, for the test that looks for them everywhere."""
    return [os.environ[f"AWS_{name}"] for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN")]
