"""What calls leave in the staging bucket, read as data.

Lithops evaluates it: the text of a value or of an error, and then the pickle in it. So whoever can write into that
bucket, as every function can, could run code in the client. All of that goes through two methods of Lithops' storage,
which here give nothing that could run anything: a value whose pickle names no class or function, and an error as words.
"""

import ast
import base64
import binascii
import io
import pickle
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn, Self

_LOGS: Final = 16 << 20
"""Bytes of a call's log that are unpacked at most; Lithops unpacks all that there are."""

_WORDS: Final = 10_000
"""Characters of an error that are kept."""

_CODE: Final = ("result", "exc_info", "new_futures", "exc_pickle_fail", "logs")
"""What Lithops evaluates, and what says how, in the status of a call."""


def read_as_data(storage: Any) -> None:  # noqa: ANN401  Lithops has no types
    """Make Lithops' internal storage give statuses and values of calls that nothing can run by being loaded.

    Values that hold anything but numbers, text, bytes, and tuples, lists, sets and dictionaries of them become errors
    of their calls, and so do futures: no call of Frazil's makes others.
    """
    status, output = storage.get_call_status, storage.get_call_output

    def get_call_status(executor_id: str, job_id: str, call_id: str) -> dict[str, Any] | None:
        found = status(executor_id, job_id, call_id)
        return None if found is None else _plain_status(found)

    def get_call_output(executor_id: str, job_id: str, call_id: str) -> bytes | None:
        found = output(executor_id, job_id, call_id)
        if found is not None:
            _check_value(found)
        return None if found is None else bytes(found)

    storage.get_call_status, storage.get_call_output = get_call_status, get_call_output


class _Values(pickle.Unpickler):
    """Loads values, and no class or function."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it names {module}.{name}, which loading it would import and call")


class _Recorded:
    """Stands where a pickle has an object of a class, or what a function made; keeps what that was called with."""

    def __new__(cls, *args: object, **_: object) -> Self:
        made = super().__new__(cls)
        made.args = args
        return made

    args: tuple[object, ...]

    def __init__(self, *args: object, **kwargs: object) -> None:
        """Take what the class would have taken."""

    def __setstate__(self, state: object) -> None:
        """Take the state that the object would have had."""


class _Names(pickle.Unpickler):
    """Loads what any pickle says, without importing or calling anything of it."""

    def find_class(self, module: str, name: str) -> type[_Recorded]:
        return type(name, (_Recorded,), {"__module__": module})


def _check_value(content: bytes) -> None:
    _Values(io.BytesIO(content)).load()


def _plain_status(status: Mapping[str, Any]) -> dict[str, Any]:
    """The status of a call without anything that Lithops could evaluate to its harm."""
    if not isinstance(status, dict):
        raise ValueError(f"the status of a call is a {type(status).__name__}")  # noqa: TRY004  as for half a status
    kept = {key: value for key, value in status.items() if key not in _CODE}
    if "logs" in status and _is_short(status["logs"]):
        kept["logs"] = status["logs"]
    if "exc_info" in status:
        return kept | _failed(_reading(_words, status["exc_info"]))
    if "new_futures" in status:
        return kept | _failed("it left calls of others in place of a value, which no function of Frazil does")
    if "result" in status:
        try:
            content = _encoded(status["result"])
            _check_value(content)
        except Exception as error:  # noqa: BLE001  a pickle can be broken in any way
            return kept | _failed(f"what it left is no plain value, and was not loaded: {error}")
        return kept | {"result": repr(content)}
    return kept


def _failed(words: str) -> dict[str, Any]:
    """What the status of a call that failed says beside the rest."""
    error = RuntimeError(words[:_WORDS])
    return {"exception": True, "exc_info": repr(pickle.dumps((RuntimeError, error, None)))}


def _encoded(text: object) -> bytes:
    """The bytes that a text spells as Python does."""
    found = ast.literal_eval(text) if isinstance(text, str) else None
    if not isinstance(found, bytes):
        raise pickle.UnpicklingError("it is not the text of bytes")
    return found


def _reading(read: Callable[[object], str], text: object) -> str:
    try:
        return read(text)
    except Exception as error:  # noqa: BLE001  a pickle can be broken in any way
        return f"it failed, and its error cannot be read: {error}"


def _words(text: object) -> str:
    """What an error says that a worker pickled."""
    told = _Names(io.BytesIO(_encoded(text))).load()
    if isinstance(told, dict):  # the error itself could not be pickled
        return str(told.get("exc_value", "it does not say how it failed"))
    kind, error = told[0], told[1]
    args = error.args
    if len(args) > 1 and isinstance(args[0], type):  # tblib gives its function the error's class, and how it is made
        kind, made = args[0], args[1]
        args = made.get("args", ()) if isinstance(made, dict) else made
    said = [str(one) for one in args if isinstance(one, str | int | float) and one != "HANDLER"]
    name = kind.__name__ if isinstance(kind, type) else "an error"
    return ", ".join(said) or name


def _is_short(logs: object) -> bool:
    """Whether a log unpacks into little."""
    if not isinstance(logs, str):
        return False
    try:
        unpacking = zlib.decompressobj()
        unpacking.decompress(base64.b64decode(logs.encode()), _LOGS)
    except (binascii.Error, ValueError, zlib.error):
        return False
    return unpacking.eof
