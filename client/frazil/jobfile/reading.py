"""The text of a job file as plain values: TOML, or YAML where the file's suffix says so.

Of YAML, what JSON can say in other words: no tags, which call code; no anchors, of which a few lines make gigabytes; no
key twice; and no words that turn into something else (`no`, `12:30`, `010` and dates are text), as in YAML 1.2.
No error shows a line of the file: a signed URL in it is a secret.
"""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import yaml

from frazil_functions.errors import InvalidInputError

_MOST_BYTES: Final = 1 << 20
_DEEPEST: Final = 32

_SCALARS: Final[tuple[tuple[str, Callable[[str], object]], ...]] = (
    (r"|~|null|Null|NULL", lambda _: None),
    (r"true|True|TRUE", lambda _: True),
    (r"false|False|FALSE", lambda _: False),
    (r"[-+]?(0|[1-9][0-9]{0,17})", int),
    (r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?", float),
    (r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", lambda text: float(text.replace(".", ""))),
)
"""The scalars of https://yaml.org/spec/1.2.2/#103-core-schema in base ten; whatever else is plain is text."""


def read(file: Path) -> dict[str, Any]:
    """The keys and values of a job file.

    Raises
    ------
    InvalidInputError
        If it cannot be read, is no TOML or YAML, or is more than a job file can be.
    """
    parse = _yaml if file.suffix.lower() in {".yaml", ".yml"} else tomllib.loads
    try:
        with file.open("rb") as stream:
            data = stream.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise InvalidInputError(f"{file} is larger than 1 MiB; list many sources in a text file, and name that")
        found = parse(data.decode("utf-8").removeprefix("\ufeff").replace("\r\n", "\n"))
    except OSError as error:
        raise InvalidInputError(
            f"{file} cannot be read as a job file: {(error.strerror or str(error)).lower()}"
        ) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" (at line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        what = ", ".join(part for part in (error.context, error.problem) if part)
        raise InvalidInputError(f"{file} cannot be read as a job file: {what}{where}") from error
    except RecursionError as error:
        raise InvalidInputError(f"{file} cannot be read as a job file: it is nested too deeply") from error
    except (ValueError, yaml.YAMLError) as error:  # of TOML, of text that is not UTF-8, of numbers without end
        raise InvalidInputError(f"{file} cannot be read as a job file: {_line(error)}") from error
    if not isinstance(found, dict):
        raise InvalidInputError(f"{file} holds no keys; write KEY: VALUE, as in chunks: {{time: 24}}")
    return found


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _yaml(text: str) -> object:
    """The one document of a YAML text."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _refusal("anchors (&) and aliases (*) are not read; write the value out", event.start_mark)
        if getattr(event, "tag", None) is not None:
            raise _refusal("tags (!) are not read; write the plain value", event.start_mark)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DEEPEST:
            raise _refusal("it is nested too deeply", event.start_mark)
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    return {} if node is None else _value(node)


def _value(node: yaml.Node) -> object:
    if isinstance(node, yaml.SequenceNode):
        return [_value(one) for one in node.value]
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node.value) if node.style is None else node.value
    found: dict[str, object] = {}
    for name, value in node.value:
        key = name.value if isinstance(name, yaml.ScalarNode) else None
        if key is None:
            raise _refusal("a key is a list or a table; keys are names", name.start_mark)
        if key in found:
            raise _refusal(f"the key {key!r} is given twice", name.start_mark)
        found[key] = _value(value)
    return found


def _scalar(text: str) -> object:
    for pattern, kind in _SCALARS:
        if re.fullmatch(pattern, text):
            return kind(text)
    return text


def _refusal(problem: str, mark: object) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark if isinstance(mark, yaml.Mark) else None)
