"""Times counted in one unit turned into the same times counted in another, exactly.

Whole numbers are compared as whole numbers, for a double holds nanoseconds since 1970 to a
quarter of a microsecond only. The calendar stays what it is.
"""

from datetime import timedelta
from typing import Any, Final

import cftime
import numpy as np

from frazil_functions.errors import InvalidInputError

type _Numbers = np.ndarray[Any, np.dtype[Any]]

_NANOSECONDS: Final = {
    name: length
    for names, length in (
        (("nanosecond", "nanoseconds", "nanosec", "nanosecs", "nsec", "nsecs", "ns"), 1),
        (("microsecond", "microseconds", "microsec", "microsecs", "us"), 10**3),
        (("millisecond", "milliseconds", "millisec", "millisecs", "msec", "msecs", "ms"), 10**6),
        (("second", "seconds", "sec", "secs", "s"), 10**9),
        (("minute", "minutes", "min", "mins"), 60 * 10**9),
        (("hour", "hours", "hr", "hrs", "h"), 3600 * 10**9),
        (("day", "days", "d"), 86400 * 10**9),
    )
    for name in names
}
"""The names of UDUNITS for what has a fixed length, with that length; months and years have none."""

_CALENDARS: Final = {"gregorian": "standard", "noleap": "365_day", "all_leap": "366_day"}
"""Other names of the same calendars (CF conventions, chapter 4.4.1)."""

_AGREED: Final = 1583

_NEAR: Final = 500
"""Two times closer than half a microsecond are one: no reader tells them apart in a double."""


def calendar_name(calendar: object) -> str:
    """The first of a calendar's names in CF (chapter 4.4.1); that of the standard one if none is named."""
    name = "standard" if calendar is None else str(calendar).lower()
    return _CALENDARS.get(name, name)


def same_dates(one: tuple[object, object], other: tuple[object, object], first: tuple[float, float]) -> bool:
    """Whether two ways to count give a date the same meaning, from certain numbers on.

    The standard and the proleptic Gregorian calendar agree since 15 October 1582; here, since the year after.

    Parameters
    ----------
    one, other
        Units and calendar of both.
    first
        The least number that is counted in each.
    """
    calendars = {calendar_name(one[1]), calendar_name(other[1])}
    if len(calendars) == 1:
        return True
    if calendars != {"standard", "proleptic_gregorian"}:
        return False
    try:
        dates = [
            cftime.num2date(number, str(units), calendar_name(calendar))
            for (units, calendar), least in zip((one, other), first, strict=True)
            for number in (0, least)
        ]
    except (ValueError, OverflowError):
        return False
    return all(date.year >= _AGREED for date in dates)


def recount(name: str, values: _Numbers, units: tuple[str, str], calendar: str, dtype: str) -> _Numbers:
    """Times counted in `units[0]`, counted in `units[1]` as `dtype`.

    Parameters
    ----------
    name
        The variable, for the errors.
    values
        Whole or floating-point numbers, none of them missing.
    units
        What they count, and what the result counts, both "<unit> since <date>".
    calendar
        That of both (CF conventions, chapter 4.4.1).
    dtype
        The type of the result.

    Raises
    ------
    InvalidInputError
        If units are not known, or the type cannot hold a time to the microsecond.
    """
    (old, old_epoch), (new, new_epoch) = (_parse(name, unit) for unit in units)
    shift = _between(name, old_epoch, new_epoch, calendar)
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise InvalidInputError(f"{name!r} has times that are infinite")
        whole = np.rint(values.astype("f8"))
        if np.array_equal(whole, values) and np.abs(whole).max(initial=0) < 1 << 53:
            ticks: _Numbers = np.multiply(whole.astype("i8").astype(object), old)
        else:
            # Like cftime: times of day as fractions mean the nearest microsecond.
            step = min(old, 1000)
            ticks = np.rint(values.astype(np.longdouble) * (old // step)).astype(object)
            ticks = np.multiply(np.frompyfunc(int, 1, 1)(ticks), step, dtype=object)
    else:
        ticks = np.multiply(values.astype(object), old, dtype=object)
    ticks = np.add(ticks, shift, dtype=object)
    rounded = f"{name!r} has times that {dtype} cannot hold in {units[1]!r}; they would be rounded"
    if np.dtype(dtype).kind in "iu":
        quotient, rest = np.asarray(ticks // new, object), np.asarray(ticks % new, object)
        limits = np.iinfo(dtype)
        if rest.any() or (quotient.size and not limits.min <= quotient.min() <= quotient.max() <= limits.max):
            raise InvalidInputError(rounded)
        return quotient.astype(dtype)
    # Python divides whole numbers of any size with one rounding.
    stored = np.asarray(ticks / new, "f8").astype(dtype)
    back = np.rint(stored.astype(np.longdouble) * new).astype(object) if stored.size else ticks
    if (np.abs(np.asarray(back - ticks, "f8")) > max(_NEAR, _resolution(dtype, ticks, new))).any():
        raise InvalidInputError(rounded)
    return stored


def _resolution(dtype: str, ticks: _Numbers, new: int) -> float:
    """What a double cannot tell apart at the largest of the times, in nanoseconds; nothing for shorter floats."""
    if np.dtype(dtype).itemsize < np.dtype("f8").itemsize or not ticks.size:
        return 0.0
    return float(np.spacing(float(np.abs(ticks).max()) / new)) * new


def _parse(name: str, units: str) -> tuple[int, str]:
    unit, _, epoch = units.partition(" since ")
    length = _NANOSECONDS.get(unit.strip().lower())
    if length is None:
        raise InvalidInputError(
            f"{name!r} counts {unit.strip()!r}, which have no fixed length; it cannot be turned into another unit"
        )
    return length, epoch.strip()


def _between(name: str, old: str, new: str, calendar: str) -> int:
    """Nanoseconds from the new epoch to the old one."""
    try:
        first, second = (cftime.num2date(0, f"microseconds since {epoch}", calendar) for epoch in (old, new))
    except ValueError as error:
        raise InvalidInputError(f"the epoch of {name!r} ({old!r}, {new!r}) cannot be read: {error}") from error
    apart: timedelta = first - second
    return ((apart.days * 86400 + apart.seconds) * 10**6 + apart.microseconds) * 1000
