"""Whether what a job file says can be meant; every refusal names the key and the cure."""

import math
import re
from collections.abc import Mapping
from dataclasses import fields
from reprlib import repr as _brief
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, TypeAliasType, Union, get_args, get_origin, get_type_hints

import msgspec

from frazil.advising.wish import auto_of
from frazil.jobfile.keys import JobFile, Retry, Worker
from frazil.planning.options import MOST_WORKERS
from frazil_functions.decoding import convert
from frazil_functions.errors import InvalidInputError, nearest

_TABLES: Final[Mapping[str, type[Retry | Worker]]] = {"retry": Retry, "worker": Worker}

_ENTRIES: Final[Mapping[str, Any]] = {
    "compression": str,
    "pack": str,
    "pack_range": tuple[float, float],
    "keepbits": int | str,
}
"""The types of what tables of variables hold; those of dimensions hold whole numbers."""

_WORDS: Final = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "array": "a list",
    "object": "a table",
    "bool": "true or false",
}

_BOUNDS: Final = {
    " of length >= 1": " that is not empty",
    f" <= {MOST_WORKERS}": f" of at most {MOST_WORKERS}",
    " >= 1": " of at least 1",
    " >= 0": " of at least 0",
    " >= 0.0": " of at least 0",
    " > 0.0": " greater than 0",
}


def checked(told: Mapping[str, Any]) -> JobFile:
    """The job as the file says it, every key known and every value of its type."""
    _check_table(JobFile, told, "")
    found: JobFile = convert(told, JobFile)
    if isinstance(found.chunks, str):
        auto_of(found.chunks)
    return found


def _check_table(kind: type[JobFile | Retry | Worker], told: object, table: str) -> None:
    """Check a table, or the top level."""
    if not isinstance(told, dict):
        raise InvalidInputError(f"{table} is {_brief(told)}, {_word(told)}; a table is expected: write [{table}]")
    known = get_type_hints(kind, include_extras=True)
    for name, value in told.items():
        if name not in known:
            raise InvalidInputError(_stray(name, table, known))
        if not table and name in _TABLES:
            _check_table(_TABLES[name], value, name)
        else:
            _check_value(f"{table}.{name}".lstrip("."), value, known[name])


def _stray(name: str, table: str, known: Mapping[str, Any]) -> str:
    here = f"in [{table}]" if table else "at the top level"
    if table and name in {field.name for field in fields(JobFile)}:
        return f"{name!r} stands {here}, and belongs above the first [table] of the file"
    owners = [other for other, kind in _TABLES.items() if name in {field.name for field in fields(kind)}]
    if owners:
        return f"there is no key {name!r} {here}; it belongs in {' or '.join(f'[{owner}]' for owner in owners)}"
    return f"there is no key {name!r} {here}; {nearest(name, known)}"


def _check_value(key: str, value: object, kind: object) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidInputError(f"{key} is {value}; a finite number is expected")
    try:
        convert(value, kind)
    except msgspec.ValidationError as error:
        said, _, where = str(error).partition(" - at `$")
    else:
        return
    if isinstance(value, dict) and where:  # which entry of a mapping it is, msgspec does not say
        for name, entry in value.items():
            _check_value(f"{key}.{name}", entry, _ENTRIES.get(key, int))
    if isinstance(value, list) and (index := re.match(r"\[(\d+)\]", where)):
        at = int(index[1])
        key, value = f"{key}[{at}]", value[at]
    choices = _choices(kind)
    if said.startswith("Invalid enum value"):
        raise InvalidInputError(f"{key} cannot be {value!r}; {_suggestion(str(value), choices)}")
    raise InvalidInputError(f"{key} is {_brief(value)}, {_word(value)}; {_expectation(said, choices)}")


def _choices(kind: object) -> tuple[str, ...]:
    """The words that a value is one of, or a list of them, or none where other values can be meant."""
    if isinstance(kind, TypeAliasType):
        return _choices(kind.__value__)
    if get_origin(kind) is Literal:
        return get_args(kind)
    kinds = [one for one in get_args(kind) if one not in {NoneType, Ellipsis}]
    if get_origin(kind) is Annotated or (get_origin(kind) in {Union, UnionType, tuple} and len(kinds) == 1):
        return _choices(kinds[0])
    return ()


def _suggestion(word: str, choices: tuple[str, ...]) -> str:
    return (
        f"{nearest(word, choices)} (of {', '.join(choices)})" if len(choices) > 1 else f"there is {choices[0]!r} alone"
    )


def _expectation(said: str, choices: tuple[str, ...]) -> str:
    """What msgspec expected, in words for people."""
    if choices and "`array`" not in said:
        return f"one of {', '.join(choices)} is expected"
    kinds, _, bound = said.removeprefix("Expected `").partition(", got")[0].partition("`")
    words = " or ".join(_WORDS[kind] for kind in kinds.split(" | ") if kind != "null")
    return f"{words}{_BOUNDS.get(bound, bound)} is expected"


def _word(value: object) -> str:
    """What kind of a value it is."""
    for kind, name in ((bool, "bool"), (int, "int"), (float, "float"), (str, "str"), (list, "array"), (dict, "object")):
        if isinstance(value, kind):
            return _WORDS[name]
    return "nothing" if value is None else "a date or time"
