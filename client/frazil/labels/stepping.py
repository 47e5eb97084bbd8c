"""Stepping: every label from a first to a last one, evenly apart, as a coordinate stores them.

Labels are counted in whole numbers (microseconds, or decimals of a number), so that the last one is as exact as the
first. What an offset of months means is known in `frazil.labels.offsets`.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm
from typing import Final

import cftime
import numpy as np

from frazil.labels.join import show
from frazil.labels.offsets import DAY, Months, duration, months_apart, offset, parsed_date
from frazil_functions.errors import InvalidInputError, LabelError
from frazil_functions.reading.encoding import Attributes, Values, is_time_unit
from frazil_functions.reading.times import recount

type _Ticks = np.ndarray[tuple[int], np.dtype[np.int64]]

_MOST: Final = 1 << 27
"""More labels than this do not fit into the memory of whoever plans: a gigabyte."""

_EXACT: Final = 1 << 53
"""Whole numbers below this are doubles, too."""

_NEAR: Final = 0.5
"""Times closer than half a microsecond are one, as `frazil_functions.reading.times` has it."""

_UNEVEN: Final = 1e-6
"""The part of a step by which labels that are floating-point numbers may be off and still be evenly apart."""


@dataclass(frozen=True, slots=True)
class LabelRange:
    """The labels that are asked for.

    Attributes
    ----------
    start, end
        The first and the last of them: dates, or numbers, as text.
    freq
        From one to the next: an offset by its name in Pandas (see `frazil.labels.offsets.offset`) or a number; None
        for that of the template.
    """

    start: str
    end: str
    freq: str | None = None


def frequency(dim: str, url: str, own: Values, attributes: Attributes, span: LabelRange) -> str:
    """How far apart the labels of a span are, as it says or as the template's own tell; the arguments of `spanned`."""
    if span.freq is not None:
        return span.freq
    if not is_time_unit(attributes.get("units")):
        return _plain(_apart(dim, url, own))
    step = _Times.of(dim, url, own, attributes).step()
    return duration(step) if isinstance(step, int) else str(step).rstrip(",")


def spanned(dim: str, url: str, own: Values, attributes: Attributes, span: LabelRange) -> Values:
    """Every label of a span, as a template stores its own.

    Parameters
    ----------
    dim, url
        The dimension, and whose labels these are.
    own
        The template's labels as they are stored, in whose type the result is.
    attributes
        Of the coordinate: what the numbers count.
    span
        What is asked for.

    Raises
    ------
    InvalidInputError
        If start, end or frequency cannot be meant, or do not fit each other or the template's labels; or if the type
        of the coordinate cannot hold the labels.
    """
    if own.dtype.kind not in "iuf":
        raise LabelError(
            f"{url}: the labels of {dim!r} are names, and nothing says which follow; name another dimension "
            "(--append-dim)"
        )
    if {"scale_factor", "add_offset"} & attributes.keys():
        raise LabelError(f"{url}: the labels of {dim!r} are packed; store them unpacked in the template")
    if is_time_unit(attributes.get("units")):
        return _Times.of(dim, url, own, attributes).spanned(span)
    return _numbers(dim, url, own, span)


@dataclass(frozen=True, slots=True)
class _Times:
    """A template's times, counted in microseconds from the epoch of its own units.

    Attributes
    ----------
    dim, url
        The dimension, and whose labels these are.
    own
        The labels.
    attributes
        Of the same numbers, for whoever shows one.
    per
        Microseconds of the template's unit.
    units, dtype
        How the template stores them.
    """

    dim: str
    url: str
    own: _Ticks
    attributes: Attributes
    per: Fraction
    units: str
    dtype: str

    @classmethod
    def of(cls, dim: str, url: str, own: Values, attributes: Attributes) -> "_Times":
        units, calendar = str(attributes["units"]), str(attributes.get("calendar", "standard")).lower()
        epoch = f"microseconds since {units.partition(' since ')[2].strip()}"
        known, thousand = (
            recount(dim, one, (units, epoch), calendar, "<i8") for one in (own, np.array([1000], np.int64))
        )
        per = Fraction(int(thousand[0]), 1000)
        return cls(dim, url, known, {"units": epoch, "calendar": calendar}, per, units, own.dtype.str)

    def spanned(self, span: LabelRange) -> Values:
        """Every time of a span."""
        first, last = (
            self.ticks(parsed_date(option, text, str(self.attributes["calendar"])))
            for option, text in (("--global-start", span.start), ("--global-end", span.end))
        )
        if last < first:
            raise _backwards(span)
        step = self.step() if span.freq is None else offset(span.freq)
        if isinstance(step, int):
            if len(self.own) and (first - int(self.own[0])) % step:
                at = first - (first - int(self.own[0])) % step
                raise LabelError(
                    f"--global-start {span.start} is not on the grid of {self.url}, whose labels of {self.dim!r} are "
                    f"{duration(step)} apart from {self.shown(int(self.own[0]))} on; take {self.shown(at)} or "
                    f"{self.shown(at + step)}"
                )
            over = (last - first) % step
            if over:
                raise _between(span, duration(step), self.shown(last - over), self.shown(last - over + step))
            ticks = _even(self.dim, first, (last - first) // step + 1, step)
        else:
            ticks = self.monthly(first, last, step, span)
        return _stored(self.dim, f"{self.dtype} in {self.units!r}", ticks, self.per, self.dtype)

    def ticks(self, date: cftime.datetime) -> int:
        """A date as it is counted here."""
        apart = date - cftime.num2date(0, str(self.attributes["units"]), str(self.attributes["calendar"]))
        return int((apart.days * 86400 + apart.seconds) * 10**6 + apart.microseconds)

    def date(self, ticks: int) -> cftime.datetime:
        """The date that is counted so."""
        return cftime.num2date(ticks, str(self.attributes["units"]), str(self.attributes["calendar"]))

    def shown(self, ticks: int) -> str:
        """A time as a person reads it."""
        return show(ticks, self.attributes)

    def step(self) -> int | Months:
        """How far apart the template's labels are, in microseconds or in months."""
        if len(self.own) < 2:  # noqa: PLR2004 - one label has no distance to another
            raise _no_frequency(self.dim, self.url, len(self.own), "6h, D or MS")
        steps = np.diff(self.own)
        if steps.max() < 0:
            raise _falling(self.dim, self.url, *map(self.shown, self.own[:2].tolist()))
        usual = int(_usual(steps))
        even = usual if (steps == usual).all() and usual > 0 else None
        monthly = months_apart([self.date(int(one)) for one in self.own]) if steps.min() >= 27 * DAY else None
        if even is not None and monthly is not None and self.attributes["calendar"] != "360_day":
            raise LabelError(
                f"{self.url}: the labels of {self.dim!r} are {duration(even)} apart, and {monthly} as well; say which "
                "goes on (--freq, as in 31D or MS)"
            )
        found = even if even is not None else monthly
        if found is None:
            at = int(np.flatnonzero(steps != usual)[0]) if (steps != usual).any() else 0
            raise LabelError(
                f"{self.url}: the labels of {self.dim!r} are not evenly apart: {self.shown(int(self.own[at]))} is "
                f"followed by {self.shown(int(self.own[at + 1]))}, {duration(int(steps[at]))} later, where "
                f"{duration(usual)} is usual. Say the frequency (--freq), or mend the template"
            )
        return found

    def monthly(self, first: int, last: int, step: Months, span: LabelRange) -> _Ticks:
        """Every time of a span whose labels are months apart."""
        start, stop = self.date(first), self.date(last)
        step.check(span.start, start, self.date(int(self.own[0])) if len(self.own) else start)
        dates = step.until(start, stop)
        ticks = np.array([self.ticks(date) for date in dates], np.int64)
        if ticks[-1] != last:
            raise _between(span, str(step), str(dates[-1]), str(step.later(start, len(dates))))
        return ticks


def _numbers(dim: str, url: str, own: Values, span: LabelRange) -> Values:
    """Every number of a span."""
    first, last = (
        _number(option, text) for option, text in (("--global-start", span.start), ("--global-end", span.end))
    )
    if last < first:
        raise _backwards(span)
    step = _apart(dim, url, own) if span.freq is None else _number("--freq", span.freq)
    if step <= 0:
        raise InvalidInputError(f"--freq {span.freq} is no step from a label to a later one; use more than 0")
    over = (last - first) % step
    if over:
        raise _between(span, *map(_plain, (step, last - over, last - over + step)))
    per = Fraction(lcm(first.denominator, step.denominator))
    ticks = _even(dim, int(first * per), int((last - first) / step) + 1, int(step * per))
    return _stored(dim, own.dtype.str, ticks, per, own.dtype.str)


def _number(option: str, text: str) -> Fraction:
    try:
        return Fraction(text.strip())
    except (ValueError, ZeroDivisionError) as error:
        raise InvalidInputError(
            f"{option} {text!r} is no number, and the labels of the template are numbers"
        ) from error


def _plain(number: Fraction) -> str:
    return str(number) if number.denominator == 1 else f"{float(number):g}"


def _apart(dim: str, url: str, own: Values) -> Fraction:
    """The step between labels that are numbers."""
    if len(own) < 2:  # noqa: PLR2004 - as above
        raise _no_frequency(dim, url, len(own), "0.25")
    whole = own.dtype.kind in "iu"
    steps = np.diff(own.astype("i8" if whole else "f8"))
    if steps.max() < 0:
        raise _falling(dim, url, *own[:2].tolist())
    usual = _usual(steps)
    # Shorter floating-point numbers stand for the decimals that they are written with.
    step = (Fraction(str(own[-1])) - Fraction(str(own[0]))) / (len(own) - 1)
    near = 0.0 if whole else _UNEVEN * max(abs(usual), float(np.abs(own).max()))
    uneven = np.abs(steps - usual) > near
    if uneven.any() or usual <= 0:
        at = int(np.flatnonzero(uneven)[0]) if uneven.any() else 0
        raise LabelError(
            f"{url}: the labels of {dim!r} do not rise evenly: {own[at]} is followed by {own[at + 1]}, where a step of "
            f"{usual:g} is usual. Say the step (--freq), or mend the template"
        )
    return step


def _usual(steps: Values) -> float | int:
    """The step in the middle of all, and never one between two."""
    found: float | int = np.sort(steps)[(len(steps) - 1) // 2].item()
    return found


def _even(dim: str, first: int, count: int, step: int) -> _Ticks:
    if count > _MOST:
        raise InvalidInputError(
            f"{dim!r} would have {count:,} labels, and at most {_MOST:,} can be planned; use a larger --freq, or make "
            "several groups"
        )
    if max(abs(first), abs(first + step * count)) >= 1 << 63:
        raise InvalidInputError(f"the labels of {dim!r} do not fit into 64 bits; use a range nearer to 0")
    return first + step * np.arange(count, dtype=np.int64)


def _stored(dim: str, what: str, ticks: _Ticks, per: Fraction, dtype: str) -> Values:
    """Ticks as a type stores them, of which so many make one.

    Raises
    ------
    LabelError
        If it cannot hold them.
    """
    cure = "Store the coordinate in a finer unit, or as 64-bit floating-point numbers, in the template"
    most = int(np.abs(ticks).max()) * per.denominator
    if most >= 1 << 63:
        raise LabelError(f"{dim!r} is stored as {what}, which ends before the last label. {cure}")
    counted = ticks * per.denominator
    common = gcd(int(np.gcd.reduce(counted)), per.numerator)
    counted, whole = counted // common, per.numerator // common
    kind = np.dtype(dtype).kind
    if kind in "iu":
        limits = np.iinfo(dtype)
        if whole != 1 or not limits.min <= counted.min() <= counted.max() <= limits.max:
            raise LabelError(f"{dim!r} is stored as {what}, which cannot hold every label exactly. {cure}")
        return counted.astype(dtype)
    values = (counted / whole).astype(dtype)
    lost = np.abs(values.astype(np.longdouble) * whole - counted)
    # What a double cannot tell apart is no loss; shorter numbers are to hold times to the microsecond.
    known = (
        np.spacing(np.abs(values)).astype("f8") * whole if np.dtype(dtype).itemsize >= np.dtype("f8").itemsize else 0
    )
    if (lost > np.maximum(known, _NEAR * per.denominator / common)).any() or most // common >= _EXACT:
        raise LabelError(f"{dim!r} is stored as {what}, which would round labels. {cure}")
    return values


def _falling(dim: str, url: str, first: object, second: object) -> LabelError:
    return LabelError(
        f"{url}: the labels of {dim!r} fall: {first} is followed by {second}, and those that are made rise. Sort the "
        f"template along {dim!r}; files whose labels fall are written with --reorder"
    )


def _backwards(span: LabelRange) -> InvalidInputError:
    return InvalidInputError(
        f"the range ends at {span.end} (--global-end), before it begins at {span.start} (--global-start), so it has no "
        "label; exchange the two"
    )


def _between(span: LabelRange, step: str, before: str, after: str) -> InvalidInputError:
    return InvalidInputError(
        f"--global-end {span.end} is none of the labels from {span.start} on, {step} apart, so the frequency does not "
        f"divide the range; use {before} or {after}"
    )


def _no_frequency(dim: str, url: str, count: int, such: str) -> InvalidInputError:
    return InvalidInputError(
        f"{url} has {count} label{'s' * (count != 1)} of {dim!r}, which tells no frequency; say it (--freq, as in "
        f"{such})"
    )
