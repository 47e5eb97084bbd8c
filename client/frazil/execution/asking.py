"""The call that asks what is installed where calls run; it needs nothing of Frazil there."""

from collections.abc import Callable
from typing import Final

import msgspec

from frazil.execution.executor import Executor
from frazil_functions.decoding import from_json
from frazil_functions.errors import BackendError

_ASKED: Final = ("lithops", "frazil", "icechunk", "zarr", "xarray")
ABSENT: Final = "none"
"""The version of what is not installed."""


def _question() -> Callable[[tuple[str, ...]], bytes]:
    # Nested, so that its code travels: the other side may have another frazil, or none.
    def installed(names: tuple[str, ...]) -> bytes:
        import importlib.metadata  # noqa: PLC0415 - for the other side
        import json  # noqa: PLC0415 - as above
        import os  # noqa: PLC0415 - as above
        import platform  # noqa: PLC0415 - as above

        found = {"python": platform.python_version()}
        for name in names:
            try:
                found[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                found[name] = "none"
        for variable in ("AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_REGION"):
            if os.environ.get(variable):
                found[variable] = os.environ[variable]
        return json.dumps(found).encode()

    return installed


def remote_versions(executor: Executor) -> dict[str, str]:
    """What is installed where calls run, as one call answers: versions by their names, and what Lambda says of itself.

    Raises
    ------
    BackendError
        If the call does not come to its end, or answers something else.
    """
    with executor.calls(_question()) as calls:
        calls.submit([_ASKED])
        outcome = calls.next()
    assert outcome is not None
    if outcome.error is not None:
        raise outcome.error
    assert outcome.value is not None
    try:
        return from_json(outcome.value, dict[str, str])
    except (msgspec.MsgspecError, ValueError) as error:
        raise BackendError(f"the function was asked for its versions, and answered something else: {error}") from error
