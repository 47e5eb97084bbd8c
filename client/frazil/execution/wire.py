"""How a call travels: function and argument as pickles there, a value or the words of an error back.

What comes back is read as data: bytes stay bytes, and an error is rebuilt here from its name and its message.
Other values travel as pickles, and loading one runs what it says: only functions of the user's own may leave one.
What carries a reply may pickle it, as Lithops does. Who carries it, and what a function does, is not known here.
"""

import pickle
import traceback
from collections.abc import Callable
from typing import Any

from frazil.execution.executor import Outcome
from frazil_functions import errors
from frazil_functions.errors import BackendError, FrazilError, InvalidInputError

type Reply = tuple[str, bytes, str, str]
"""How a call ended, what it left, the name of its error, and the text of the traceback.

"bytes" and "pickle" are kinds of values. "load", "run" and "return" say how far a call came that failed; it left
the error's message, and the name is that of the first of Frazil's own errors that it is, or empty.
"""


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


def remote(function: bytes, escaping: tuple[type[BaseException], ...] = ()) -> Callable[[bytes], Reply]:
    """Make what runs on the other side, for a pickled function: a call that answers, and raises `escaping` alone.

    The call is nested so that cloudpickle sends its code along: the other side needs the modules
    of `function`, and nothing of the client.
    """

    def call(argument: bytes) -> tuple[str, bytes, str, str]:  # an alias of this module would be imported there
        step = "load"
        try:
            target, unpacked = pickle.loads(function), pickle.loads(argument)  # noqa: S301  the client sent them
            step = "run"
            value = target(unpacked)
            step = "return"
            if type(value) is bytes:
                return "bytes", value, "", ""
            return "pickle", pickle.dumps(value), "", ""
        except escaping:
            raise
        except BaseException as error:  # noqa: BLE001  sys.exit() and the like are how a call ended, too
            first = error.__traceback__ and error.__traceback__.tb_next
            text = "".join(traceback.format_exception(type(error), error, first))
            ours = (cls.__name__ for cls in type(error).__mro__ if cls.__module__ == "frazil_functions.errors")
            return step, str(error).encode(errors="backslashreplace"), next(ours, ""), text

    return call


def returns_bytes(function: Callable[..., object]) -> bool:
    """Whether a function is one of Frazil's own, all of which return bytes."""
    return getattr(function, "__module__", "").partition(".")[0] == "frazil_functions"


def received(index: int, name: str, reply: Reply, *, only_bytes: bool = False) -> Outcome[Any]:
    """Read the outcome that a reply tells of.

    Parameters
    ----------
    index, name
        Of the call and its function, for messages.
    reply
        What the call left.
    only_bytes
        Whether any other value is not from the function that was called, and is not loaded.
    """
    step, content, _, text = reply
    call = f"Call {index} of {name}"
    if step == "bytes":
        return Outcome(index, value=content)
    if step == "pickle" and only_bytes:
        return _lost(index, f"{call} left a value that only loading could tell, and was not loaded", text)
    if step == "pickle":
        try:
            return Outcome(index, value=pickle.loads(content))  # noqa: S301  staging storage is trusted as the code is
        except Exception as error:  # noqa: BLE001  a class that is missing or differs here raises anything
            return _lost(index, f"{call} sent a value that cannot be loaded here: {error}", text)
    return _failed(index, call, reply)


def _failed(index: int, call: str, reply: Reply) -> Outcome[Any]:
    step, content, error_name, text = reply
    last = text.strip().rpartition("\n")[2]
    if step == "load":
        hint = "Install the same frazil, and the modules of your own classes, on the other side"
        return _lost(index, f"{call} could not be loaded where it was to run: {last}. {hint}", text)
    if step == "return":
        return _lost(index, f"{call} returned a value that cannot be pickled: {last}", text)
    own = getattr(errors, error_name, None)
    if isinstance(own, type) and issubclass(own, FrazilError):
        rebuilt = own(content.decode(errors="replace"))
        rebuilt.add_note(f"{call}, on the other side:\n{text}")
        return Outcome(index, error=rebuilt)
    return _lost(index, f"{call} failed: {last}", text)


def _lost(index: int, message: str, text: str) -> Outcome[Any]:
    error = BackendError(message)
    if text:
        error.add_note(f"On the other side:\n{text}")
    return Outcome(index, error=error)
