"""What a plan stores with loss: which arrays can be, and in what range or with how many bits."""

import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import numpy as np

from frazil.packing.rounding import Keepbits, Overflow, Rounding, Stored
from frazil_functions.errors import InvalidInputError, nearest
from frazil_functions.plan import Plan
from frazil_functions.reading.encoding import STRING, Attributes, is_time_unit, number
from frazil_functions.reading.rounding import BITS, ERROR, KEEPBITS, OVERFLOW, VALID, Packing
from frazil_functions.reading.scanning import FileMetadata, coordinate_names
from frazil_functions.template import ArrayTemplate
from frazil_functions.writing.surveying import Found

logger = logging.getLogger(__name__)

_FLAGS: Final = ("flag_values", "flag_masks", "flag_meanings")


type Survey = Callable[[Plan, Collection[str], Collection[str]], Mapping[str, Found]]
"""Looks at arrays of a plan; the bits of the latter ones, too."""


def stored_of(plan: Plan, files: Sequence[FileMetadata], asked: Rounding, survey: Survey) -> dict[str, Stored]:
    """How arrays are stored with loss.

    Parameters
    ----------
    plan
        A plan that stores them without.
    files
        What it was made from.
    asked
        What the user asked for.
    survey
        Looks at the values, if nothing else says what range they have or how many bits tell something.

    Raises
    ------
    InvalidInputError
        If a variable that was named cannot be stored so, and why.
    """
    arrays = plan.template.arrays
    types = _types(plan, asked)
    known = {name: asked.ranges.get(name) or _declared_by_all(arrays[name], files) for name in types}
    unknown = [name for name, one in known.items() if one is None]
    sampled = [name for name, bits in asked.keepbits.items() if bits == "auto"]
    found = survey(plan, [*unknown, *sampled], sampled) if unknown or sampled else {}
    stored = {
        name: _packed(arrays[name], dtype, known[name] or _surveyed(name, found[name], asked.overflow), asked.overflow)
        for name, dtype in types.items()
    }
    kept = {name: _kept(arrays[name], bits, found.get(name)) for name, bits in asked.keepbits.items()}
    return stored | {name: one for name, one in kept.items() if one is not None}


def _check_named(plan: Plan, asked: Rounding) -> None:
    """Refuse what was named and cannot be stored with loss."""
    arrays = plan.template.arrays
    for option, names in (("pack", asked.pack), ("pack_range", asked.ranges), ("keepbits", asked.keepbits)):
        for name in names:
            if name not in arrays:
                raise InvalidInputError(f"{option} names the variable {name!r}; {nearest(name, arrays)}")
    for what, names in (("packed", asked.pack), ("rounded", asked.keepbits)):
        for name in names:
            why = _reason(arrays[name], plan, named=True)
            if why:
                raise InvalidInputError(f"{name!r} cannot be {what}: {why}; leave it out")


def _types(plan: Plan, asked: Rounding) -> dict[str, str]:
    """The types that arrays are packed as; tells what is left out where not each was named."""
    _check_named(plan, asked)
    if asked.every is None:
        return dict(asked.pack)
    arrays = plan.template.arrays
    reasons = {name: _reason(array, plan, named=False) for name, array in arrays.items() if name not in asked.keepbits}
    left = [f"{name} ({why})" for name, why in reasons.items() if why and arrays[name].role != "labels"]
    if left:
        logger.warning("not packed: %s", ", ".join(left))
    for name in asked.ranges:
        why = reasons.get(name, "it keeps bits")
        if why:
            raise InvalidInputError(f"there is a range for {name!r} (--pack-range), which is not packed: {why}")
    return {name: asked.every for name, why in reasons.items() if not why}


def _reason(array: ArrayTemplate, plan: Plan, *, named: bool) -> str:
    """Why an array is not stored with loss; empty if it can be."""
    attributes = array.attributes
    reasons = (
        (
            array.before is not None,
            "it is there already, and stays as it is stored; what is written into a packed one is packed anyway",
        ),
        (
            array.role == "labels" or array.name in _positions(plan, named=named),
            "it is a coordinate, which says where values lie",
        ),
        (is_time_unit(attributes.get("units")), "it counts time, which is never rounded"),
        (bool({"scale_factor", "add_offset"} & attributes.keys()), "it is packed already"),
        (
            array.dtype == STRING or np.dtype(array.dtype).kind != "f",
            f"it holds no floating-point numbers, but {_type(array)}",
        ),
        (any(key in attributes for key in _FLAGS), "it holds flags, which have nothing between them"),
        (
            array.role not in {"data", "empty"} or not array.dims,
            "it is small and written once, and files that are appended later are compared with it",
        ),
    )
    return next((why for holds, why in reasons if holds), "")


def _type(array: ArrayTemplate) -> str:
    return "text" if array.dtype == STRING else np.dtype(array.dtype).name


def _positions(plan: Plan, *, named: bool) -> frozenset[str]:
    """The variables that say where others lie; what formulas are made of is one unless somebody names it."""
    leave = {"formula_terms"} if named else set()
    groups: dict[str, dict[str, Attributes]] = {}
    for path, array in plan.template.arrays.items():
        group, _, name = path.rpartition("/")
        groups.setdefault(group, {})[name] = {key: one for key, one in array.attributes.items() if key not in leave}
    for path, own in (("", plan.template.attributes), *plan.template.groups.items()):
        if path in groups and isinstance(own.get("coordinates"), str):
            groups[path][""] = {"coordinates": own["coordinates"]}
    return frozenset(
        f"{group}/{name}" if group else name for group, members in groups.items() for name in coordinate_names(members)
    )


def _declared_by_all(array: ArrayTemplate, files: Sequence[FileMetadata]) -> tuple[float, float] | None:
    """The range that holds those that files say they have; None if one of them does not say."""
    own = [file.variables[array.name].attributes for file in files if array.name in file.variables]
    spans = [_declared(one) for one in own or [array.attributes]]
    known = [span for span in spans if span is not None]
    if len(known) < len(spans):
        return None
    return min(low for low, _ in known), max(high for _, high in known)


def _declared(attributes: Attributes) -> tuple[float, float] | None:
    """The range that a variable's attributes say that it has (CF conventions, chapter 2.5.1)."""
    ends: list[Any] = [attributes.get("valid_min"), attributes.get("valid_max")]
    both = attributes.get("valid_range")
    if isinstance(both, list) and len(both) == 2:  # noqa: PLR2004 - both ends
        ends = both
    low, high = (number(one) for one in ends)
    if isinstance(low, int | float) and isinstance(high, int | float) and -math.inf < low <= high < math.inf:
        return float(low), float(high)
    return None


def _surveyed(name: str, found: Found, overflow: Overflow) -> tuple[float, float]:
    summary = found.summary
    if summary.infinite and overflow == "error":
        raise InvalidInputError(
            f"{name!r} has {summary.infinite} infinite values, which no packing holds; clip them (--pack-overflow "
            "clip), or leave it unpacked"
        )
    if summary.low is None or summary.high is None:
        logger.warning("%s has no values, so it is packed for none but 0; give it a range (--pack-range)", name)
        return 0.0, 0.0
    if summary.low == summary.high:
        logger.warning(
            "%s has no value but %.9g, so it is packed for no other; give it a range (--pack-range)", name, summary.low
        )
    return float(summary.low), float(summary.high)


def _packed(array: ArrayTemplate, dtype: str, span: tuple[float, float], overflow: Overflow) -> Stored:
    little = np.dtype(dtype).newbyteorder("<").str
    try:
        packing = Packing.over(little, *span)
    except InvalidInputError as error:
        raise InvalidInputError(f"{array.name!r}: {error}") from error
    gone = {"missing_value", "_FillValue", BITS, KEEPBITS, ERROR, OVERFLOW}
    for key in VALID & array.attributes.keys():
        if not _is_bound(key, array.attributes[key]):
            gone.add(key)
            logger.warning(
                "%s loses its attribute %s, which is %r: no code stands for that",
                array.name,
                key,
                array.attributes[key],
            )
    attributes = {
        key: _coded(packing, one) if key in VALID else one for key, one in array.attributes.items() if key not in gone
    }
    clips = {OVERFLOW: "clip"} if overflow == "clip" else {}
    return Stored(little, attributes | packing.attributes() | clips)


def _is_bound(key: str, value: Any) -> bool:  # noqa: ANN401 - as above
    """Whether an attribute says which values are valid, as numbers (CF conventions, chapter 2.5.1)."""
    ends = value if isinstance(value, list) else [value]
    found = [number(one) for one in ends]
    return len(ends) == (2 if key == "valid_range" else 1) and all(
        isinstance(one, int | float) and not isinstance(one, bool) and not math.isnan(one) for one in found
    )


def _coded(packing: Packing, value: Any) -> Any:  # noqa: ANN401 - what an attribute holds
    """A bound of valid values, which counts in codes where values are packed."""
    if isinstance(value, list):
        return [_coded(packing, one) for one in value]
    found = number(value)
    if isinstance(found, int | float) and math.isfinite(found):
        return packing.code(found)
    return packing.codes[0 if found == -math.inf else 1]


def _kept(array: ArrayTemplate, bits: Keepbits, found: Found | None) -> Stored | None:
    most = int(np.finfo(array.dtype).nmant)
    if bits == "auto":
        assert found is not None
        told = found.pairs.keepbits(array.dtype)
        if told is None:
            logger.warning("no bit of %s tells anything of its neighbours, so it is not rounded", array.name)
            return None
        bits = told
    if bits > most:
        raise InvalidInputError(
            f"keepbits of {array.name!r} cannot be {bits}: {np.dtype(array.dtype).name} has {most} bits of "
            "a mantissa; use at most that"
        )
    return Stored(array.dtype, array.attributes | {BITS: bits, KEEPBITS: bits})
