"""What IAM documents allow, where moto decides it otherwise than AWS does.

moto compares resources as regular expressions, refuses whatever has a condition that it cannot see, and asks for
s3:HeadBucket, which does not exist. This decides a statement as AWS documents it: "IAM JSON policy elements reference".
"""

import re
from collections.abc import Iterable, Mapping
from fnmatch import translate
from functools import cache
from typing import Any

_CALLED = {"s3:HeadBucket": "s3:ListBucket", "s3:HeadObject": "s3:GetObject", "s3:PostObject": "s3:PutObject"}
"""Actions by what moto calls them."""


def applies(statement: Mapping[str, Any], action: str, resource: str, context: Mapping[str, str]) -> bool:
    """Whether a statement is about an action on a resource.

    Parameters
    ----------
    context
        Condition keys of the request, in lower case, and their values.
    """
    action = _CALLED.get(action, action)
    return (
        _about(statement, "Action", action.lower())
        and _about(statement, "Resource", resource)
        and all(
            _holds(operator, key.lower(), _listed(values), context)
            for operator, keys in statement.get("Condition", {}).items()
            for key, values in keys.items()
        )
    )


def _about(statement: Mapping[str, Any], element: str, value: str) -> bool:
    lower = element == "Action"
    if f"Not{element}" in statement:
        return not _matches(statement[f"Not{element}"], value, lower=lower)
    return element not in statement or _matches(statement[element], value, lower=lower)


def _matches(patterns: str | Iterable[str], value: str, *, lower: bool = False) -> bool:
    return any(_pattern(one.lower() if lower else one).match(value) for one in _listed(patterns))


def _listed(values: Any) -> list[str]:
    listed = [values] if isinstance(values, str | bool | int) else list(values)
    return [str(one).lower() if isinstance(one, bool) else str(one) for one in listed]


@cache
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(translate(text.replace("[", "[[]")))


def _holds(operator: str, key: str, wanted: list[str], context: Mapping[str, str]) -> bool:
    optional = operator.endswith("IfExists")
    operator = operator.removesuffix("IfExists").rpartition(":")[2]
    found = context.get(key)
    if operator == "Null":
        return (found is None) == (wanted[0] == "true")
    negative = "Not" in operator
    if found is None:
        return optional or negative
    if operator in {"StringLike", "ArnLike", "ArnEquals", "StringNotLike", "ArnNotLike", "ArnNotEquals"}:
        return _matches(wanted, found) != negative
    if operator in {"StringEquals", "StringNotEquals"}:
        return (found in wanted) != negative
    if operator in {"StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", "Bool"}:
        return (found.lower() in [one.lower() for one in wanted]) != negative
    if operator.startswith("Numeric"):
        number, limit = float(found), float(wanted[0])
        return {
            "NumericEquals": number == limit,
            "NumericLessThan": number < limit,
            "NumericLessThanEquals": number <= limit,
            "NumericGreaterThan": number > limit,
            "NumericGreaterThanEquals": number >= limit,
        }[operator]
    raise NotImplementedError(f"the local AWS knows no condition {operator}")
