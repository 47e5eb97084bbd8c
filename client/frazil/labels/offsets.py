"""Offsets: how far apart times are, by their names in Pandas; months are counted in any calendar of CF."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import Final

import cftime
import numpy as np

from frazil_functions.errors import InvalidInputError, LabelError, nearest

DAY: Final = 86400 * 10**6
"""A day in microseconds."""

_FIXED: Final = {"W": 7 * DAY, "D": DAY, "h": DAY // 24, "min": DAY // 1440, "s": 10**6, "ms": 10**3, "us": 1}

_UNITS: Final = {"M": 1, "Q": 3, "Y": 12}
"""Months of the offsets that stand at the start (S) or the end (E) of some of them."""

_NAMES: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")

_OFFSET: Final = re.compile(r"(\d*)(?:(W|D|h|min|s|ms|us)|([MQY])([SE])(?:-([A-Z]{3}))?)")

_COUNTED: Final = re.compile(r"([+-]?\d*\.?\d*)\s*(.*)", re.DOTALL)
"""Anything, and the number that it begins with."""

_DATE: Final = re.compile(
    r"(-?\d{4,})(?:-(\d\d?)(?:-(\d\d?)(?:[T ](\d\d?)(?::(\d\d)(?::(\d\d)(?:\.(\d{1,6})0*)?)?)?)?)?)?(?:Z|\+00:00)?"
)


@dataclass(frozen=True, slots=True)
class Months:
    """Times some months apart: at the same day and hour of each, or at the last day.

    Attributes
    ----------
    count
        How many months.
    last_day
        Whether at the last day of the month.
    name
        The offset that was asked for; empty if the template's labels tell it.
    phase
        The month that every so many begin with (0 is January), and how many, for an offset with a name.
    """

    count: int
    last_day: bool = False
    name: str = ""
    phase: tuple[int, int] = (0, 1)

    def __str__(self) -> str:
        return f"{self.count} month{'s' * (self.count > 1)}" + (", at the last day of each," if self.last_day else "")

    def check(self, option: str, start: cftime.datetime, own: cftime.datetime) -> None:
        """Refuse a start that is none of the labels.

        Parameters
        ----------
        option
            The start as it was given.
        start
            The start.
        own
            A label of the template.

        Raises
        ------
        LabelError
            Saying where they are.
        """
        if self.name:
            month, every = self.phase
            placed = start.day == (start.daysinmonth if self.last_day else 1)
            if not placed or (start.month - 1 - month) % every:
                where = "every month" if every == 1 else f"{_NAMES[month]}, and every {every} months from it"
                raise LabelError(
                    f"--global-start {option} is no label of --freq {self.name}, which has the "
                    f"{'last' if self.last_day else 'first'} day of {where}; take such a day"
                )
            return
        placed = start.day == (start.daysinmonth if self.last_day else own.day)
        if not placed or (_month(start) - _month(own)) % self.count or _clock(start) != _clock(own):
            raise LabelError(
                f"--global-start {option} is not on the grid of the template, whose labels are {self} apart from {own} "
                "on; take one that is"
            )

    def until(self, start: cftime.datetime, stop: cftime.datetime) -> list[cftime.datetime]:
        """Every label from a first one on that is not behind another."""
        count = (_month(stop) - _month(start)) // self.count
        dates = [self.later(start, number) for number in range(count + 1)]
        return dates if dates[-1] <= stop or not count else dates[:-1]

    def later(self, start: cftime.datetime, number: int) -> cftime.datetime:
        """The label so many steps behind the first."""
        year, month = divmod(_month(start) + number * self.count, 12)
        first = start.replace(year=year, month=month + 1, day=1)
        day = first.daysinmonth if self.last_day else start.day
        if day > first.daysinmonth:
            raise LabelError(
                f"there is no day {day} in {first.year}-{first.month:02}, so labels {self} apart cannot stand at it; "
                "use --freq MS or ME"
            )
        return first.replace(day=day)


def offset(text: str) -> int | Months:
    """An offset by its name in Pandas: microseconds, or months.

    These are W (seven days, from whatever day is the first), D (or d), h, min, s, ms, us, and the starts and ends of
    months (MS, ME), quarters and years (QS, QE, YS, YE; with a month, as in YS-JUL), each with a whole number before it
    or without.

    Raises
    ------
    InvalidInputError
        If it is none.

    Examples
    --------
    >>> offset("6h"), offset("2MS").count, offset("YE").phase
    (21600000000, 2, (11, 12))
    """
    found = _OFFSET.fullmatch(re.sub(r"^(\d*)d$", r"\1D", text.strip()))
    count = int(found[1] or 1) if found is not None else 0
    anchor = found[5] if found is not None else None
    if found is None or not count or (anchor is not None and (found[3] == "M" or anchor not in _NAMES)):
        raise InvalidInputError(f"--freq {text!r} is no frequency: {_wrong(text.strip())}")
    if found[2]:
        return count * _FIXED[found[2]]
    unit, last_day = _UNITS[found[3]], found[4] == "E"
    month = _NAMES.index(anchor) if anchor is not None else 11 if last_day else 0
    return Months(count * unit, last_day, text.strip(), (month, unit))


def _wrong(text: str) -> str:
    """Why a text is no offset, and what would be one."""
    known = [*_FIXED, *(f"{unit}{side}" for unit in _UNITS for side in "SE")]
    found = _COUNTED.fullmatch(text)
    number, name = (found[1], found[2]) if found is not None else ("", text)
    if name not in {*known, "d"}:
        if name.startswith("W-"):
            return "weeks are counted from --global-start, whatever day that is; use W"
        return f"use an offset with or without a whole number before it, as in 6h, D or MS: {nearest(name, known)}"
    if number.startswith("-") or not number.strip("+0."):
        return f"{number} is not positive, and each label is later than the one before it; use 1{name} or more"
    if "." in number:
        return f"{number} is not whole; count in whole numbers of a smaller unit, as in 90min for 1.5h"
    return f"write {number.lstrip('+')}{name}"


def offset_of(apart: timedelta | np.timedelta64) -> str:
    """The offset that is as long as a timedelta, which may be NumPy's or Pandas' as well.

    Raises
    ------
    InvalidInputError
        If none is: it has no length, is a part of a microsecond, or months.

    Examples
    --------
    >>> offset_of(timedelta(hours=6)), offset_of(np.timedelta64(14, "D"))
    ('6h', '14D')
    """
    if isinstance(apart, timedelta):
        ticks, rest = divmod(apart, timedelta(microseconds=1))
        lost = bool(rest) or bool(getattr(apart, "nanoseconds", 0))  # Pandas' has them
    elif np.isnat(apart) or np.datetime_data(apart.dtype)[0] in {"Y", "M"}:
        raise InvalidInputError(f"freq is {apart!r}, which is no certain time; use an offset, as in 'MS' or 'YS'")
    else:
        exact = apart.astype("m8[us]")
        ticks, lost = int(exact.astype("i8")), bool(exact != apart)
    if lost:
        raise InvalidInputError(f"freq is {apart!r}, and times are counted in whole microseconds; use some of them")
    return duration(ticks)


def duration(ticks: int) -> str:
    """Microseconds as a person reads them: the offset that is as long."""
    for name, length in (("D", DAY), ("h", DAY // 24), ("min", DAY // 1440), ("s", 10**6), ("ms", 1000)):
        if ticks and ticks % length == 0:
            return f"{ticks // length}{name}"
    return f"{ticks}us"


def months_apart(dates: Sequence[cftime.datetime]) -> Months | None:
    """How many months apart dates are; None if they are not, or do not stand at the same place of each."""
    steps = {_month(after) - _month(before) for before, after in pairwise(dates)}
    if len(steps) > 1 or len({_clock(date) for date in dates}) > 1:
        return None
    if len({date.day for date in dates}) == 1:
        return Months(steps.pop())
    return Months(steps.pop(), last_day=True) if all(date.day == date.daysinmonth for date in dates) else None


def parsed_date(option: str, text: str, calendar: str) -> cftime.datetime:
    """A date in ISO 8601, in any calendar; what is left out of its end is the first there is.

    Raises
    ------
    InvalidInputError
        If it is none, or the calendar does not have it.

    Examples
    --------
    >>> str(parsed_date("--global-start", "2000-02-30T06", "360_day"))
    '2000-02-30 06:00:00'
    """
    found = _DATE.fullmatch(text.strip())
    if found is None:
        raise InvalidInputError(f"{option} {text!r} is no date; write it as in 2000-01-31 or 2000-01-31T06:00:00")
    year, month, day, hour, minute, second = (
        int(part) if part else least for part, least in zip(found.groups()[:6], (0, 1, 1, 0, 0, 0), strict=True)
    )
    try:
        return cftime.datetime(
            year, month, day, hour, minute, second, int((found[7] or "").ljust(6, "0")), calendar=calendar
        )
    except ValueError as error:
        raise InvalidInputError(
            f"{option} {text!r} is no date of the calendar {calendar!r}, in which the template counts: {error}"
        ) from error


def _month(date: cftime.datetime) -> int:
    return int(date.year) * 12 + int(date.month) - 1


def _clock(date: cftime.datetime) -> tuple[int, ...]:
    return date.hour, date.minute, date.second, date.microsecond
