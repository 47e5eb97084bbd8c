"""Bytes from outside as data of a known type, from any number of threads at once.

msgspec learns a dataclass the first time that it decodes one, and lets other threads see what it has learnt before that
is whole: two first times at once end the process (msgspec 0.21). So each type is learnt once, by one thread at a time,
and everything that decodes does it here.
"""

from collections.abc import Hashable
from functools import cache
from threading import Lock
from typing import Any

import msgspec

_LEARNING = Lock()


def from_json[T](data: bytes | str, kind: type[T]) -> T:
    """A value of a type from JSON.

    Raises
    ------
    msgspec.MsgspecError, ValueError, RecursionError
        If it is none; ValueError also for text that is not UTF-8, and from the type itself.
    """
    value: T = _json(kind).decode(data)  # type: ignore[arg-type] # any class can be hashed
    return value


def from_msgpack[T](data: bytes, kind: type[T]) -> T:
    """A value of a type from MessagePack; raises what `from_json` does."""
    value: T = _msgpack(kind).decode(data)  # type: ignore[arg-type] # as above
    return value


def convert(value: Any, kind: Any) -> Any:  # noqa: ANN401 - what JSON or TOML can say, and any type or union of types
    """A value of a type from plain numbers, strings, lists and dicts.

    Raises
    ------
    msgspec.ValidationError
        If it is none.
    """
    _json(kind)  # what is learnt for one form is known for all
    return msgspec.convert(value, kind)  # noqa: TID251 - known by now


@cache
def _json(kind: Hashable) -> msgspec.json.Decoder[Any]:
    with _LEARNING:
        return msgspec.json.Decoder(kind)


@cache
def _msgpack(kind: Hashable) -> msgspec.msgpack.Decoder[Any]:
    with _LEARNING:
        return msgspec.msgpack.Decoder(kind)
