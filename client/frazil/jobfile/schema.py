"""The JSON schema of job files, made of the options' types and of what their docstrings say of them.

A schema knows less than the reader of the files: 3.0 is a whole number to it, and placeholders are text.
"""

import inspect
import re
from typing import Any, Final

import msgspec

from frazil.jobfile.keys import JobFile, Retry, Worker

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """A JSON schema, draft 2020-12, that job files validate against."""
    found = msgspec.json.schema(JobFile)
    parts = found["$defs"]
    for kind in (JobFile, Retry, Worker):
        part, texts = parts[kind.__name__], descriptions(kind)
        part["description"] = inspect.cleandoc(str(kind.__doc__)).partition("\n")[0]
        part["additionalProperties"] = False
        for name, key in part["properties"].items():
            key["description"] = texts[name]
            if not isinstance(key.get("default"), bool | int | float | str) or key["default"] == "":
                key.pop("default", None)  # what is done then, the description says
    return {"$schema": _DIALECT, "title": "A job of frazil", "$ref": "#/$defs/JobFile", "$defs": parts}


def descriptions(kind: type) -> dict[str, str]:
    """What the docstring of a class and those of its bases say of each attribute."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        _, _, listed = inspect.cleandoc(one.__dict__.get("__doc__") or "").partition("\nAttributes\n----------\n")
        for name, text in re.findall(r"^(\w+)\n((?:    .+\n?)+)", listed, re.MULTILINE):
            found[name] = " ".join(text.split())
    return found
