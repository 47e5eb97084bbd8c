"""How a call travels: function and argument as pickles there, a value or an error as a pickle back.

It knows nothing of who carries the bytes, nor of what a function does.
"""

import pickle
import traceback
from collections.abc import Callable
from typing import Any

from frazil.execution.executor import Outcome
from frazil_functions.errors import BackendError, InvalidInputError

type Reply = tuple[str, bytes, str]
"""How far a call came ("value" is the end), the pickled value or error, and the text of the traceback."""


def packed(value: object, what: str, dumps: Callable[[Any], bytes] = pickle.dumps) -> bytes:
    """`value` as a pickle.

    Raises
    ------
    InvalidInputError
        If it cannot be pickled.
    """
    try:
        return dumps(value)
    except Exception as error:  # what an object's own pickling raises is up to the object
        raise InvalidInputError(
            f"{what} cannot be pickled, so it cannot reach a function: {error}. "
            "Pass plain data, and open files and connections inside the function"
        ) from error


def remote(function: bytes) -> Callable[[bytes], Reply]:
    """Make what runs on the other side, for a pickled function: a call that answers and never raises.

    The call is nested so that cloudpickle sends its code along: the other side needs the modules
    of `function`, and nothing of the client.
    """

    def call(argument: bytes) -> tuple[str, bytes, str]:  # an alias of this module would be imported there
        step = "load"
        try:
            target, unpacked = pickle.loads(function), pickle.loads(argument)  # noqa: S301  the client sent them
            step = "run"
            value = target(unpacked)
            step = "return"
            return "value", pickle.dumps(value), ""
        except BaseException as error:  # noqa: BLE001  sys.exit() and the like are how a call ended, too
            first = error.__traceback__ and error.__traceback__.tb_next
            text = "".join(traceback.format_exception(type(error), error, first))
            try:
                sent = pickle.dumps(error)
                pickle.loads(sent)  # noqa: S301  some exceptions come apart only here; just made above
            except Exception:  # noqa: BLE001  the text stands for an exception that cannot travel
                sent = b""
            return step, sent, text

    return call


def received(index: int, name: str, reply: Reply) -> Outcome[Any]:
    """Read the outcome that a reply tells of; `name` is the function's, for messages."""
    step, content, text = reply
    call = f"Call {index} of {name}"
    try:
        result = pickle.loads(content) if content else None  # noqa: S301  staging storage is trusted as the code is
    except Exception as error:  # noqa: BLE001  a class that is missing or differs here raises anything
        what = "value" if step == "value" else "error"
        return _lost(index, f"{call} sent a {what} that cannot be loaded here: {error}", text)
    if step == "value":
        return Outcome(index, value=result)
    last = text.strip().rpartition("\n")[2]
    if step == "load":
        hint = "Install the same frazil, and the modules of your own classes, on the other side"
        return _lost(index, f"{call} could not be loaded where it was to run: {last}. {hint}", text)
    if step == "return":
        return _lost(index, f"{call} returned a value that cannot be pickled: {last}", text)
    if isinstance(result, Exception):
        result.add_note(f"{call}, on the other side:\n{text}")
        return Outcome(index, error=result)
    return _lost(index, f"{call} raised an error that cannot travel: {last}", text)


def _lost(index: int, message: str, text: str) -> Outcome[Any]:
    error = BackendError(message)
    if text:
        error.add_note(f"On the other side:\n{text}")
    return Outcome(index, error=error)
