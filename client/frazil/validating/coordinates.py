"""Coordinates: whether times, latitudes and longitudes are counted in units of theirs, and lie on the globe."""

from collections.abc import Iterator
from typing import Final

from frazil.labels.place import DEGREES_EAST
from frazil.validating.report import Fault
from frazil.validating.tree import Member
from frazil_functions.reading.encoding import is_time_unit
from frazil_functions.summaries import Summary

DEGREES_NORTH: Final = frozenset(
    {"degrees_north", "degree_north", "degree_N", "degrees_N", "degreeN", "degreesN"}
)  # CF conventions, chapter 4.1
_DEGREES: Final = frozenset({"degrees", "degree", "deg", "°"})
_NAMES: Final = {
    "latitude": (("lat", "latitude"), DEGREES_NORTH),
    "longitude": (("lon", "longitude"), DEGREES_EAST),
}
"""By standard name: names that say the same, and units (CF conventions, chapters 4.1 and 4.2)."""

_DURATIONS: Final = frozenset(
    {"second", "sec", "s", "minute", "min", "hour", "hr", "h", "day", "d", "week", "month", "year", "yr"}
)
_POLE: Final = 90 * (1 + 1e-6)
"""The latitude of a pole, and what single precision may add to it."""


def is_time(member: Member) -> bool:
    """Whether an array holds times, by what it says of itself (CF conventions, chapter 4.4)."""
    own = member.attributes
    said = own.get("axis") == "T" or own.get("standard_name") == "time" or (member.is_label and member.name == "time")
    return said and member.array.dtype.kind in "iuf"


def unit_faults(member: Member) -> Iterator[Fault]:
    """Times whose units count none."""
    units = member.attributes.get("units")
    if is_time(member) and isinstance(units, str) and not is_time_unit(units) and not _is_duration(units):
        yield Fault(
            "units",
            member.path,
            f"it holds times, and its units {units!r} count none",
            "Mend the attribute 'units'; CF counts times as in 'hours since 2000-01-01'",
        )


def unit_notes(member: Member) -> Iterator[str]:
    """Times and places that a reader has to guess the units of."""
    units = member.attributes.get("units")
    if is_time(member) and units is None:
        yield f"{member.path!r} holds times and has no units, so nobody can tell dates"
    elif is_time(member) and isinstance(units, str) and _is_duration(units):
        yield f"{member.path!r} holds times in {units!r}, which begin at no date"
    kind = _kind(member)
    if kind and isinstance(units, str) and units not in _NAMES[kind][1] | _DEGREES:
        yield f"{member.path!r} is a {kind}, and its units {units!r} are no degrees"


def range_faults(member: Member, found: Summary) -> Iterator[Fault]:
    """Latitudes beyond the poles, among the values that were decoded."""
    if _kind(member) != "latitude" or member.attributes.get("units") not in {None, *DEGREES_NORTH, *_DEGREES}:
        return
    far = [one for one in (found.low, found.high) if one is not None and abs(one) > _POLE]
    if far:
        yield Fault(
            "label",
            member.path,
            f"it is a latitude and holds {far[0]:g}, which does not lie within -90 to 90",
            "Mend the coordinate, or what it says of itself (units, standard_name)",
        )


def _kind(member: Member) -> str:
    """The standard name of a place; empty for what is none."""
    own = member.attributes
    if member.array.dtype.kind not in "iuf":
        return ""
    said = own.get("standard_name")
    if said is not None:
        return str(said) if said in _NAMES else ""
    for kind, (names, units) in _NAMES.items():
        if member.name in names or (member.is_label and own.get("units") in units):
            return kind
    return ""


def _is_duration(units: str) -> bool:
    return units in _DURATIONS or units.lower().removesuffix("s") in _DURATIONS
