"""Labels: the values of a dimension's coordinate, which say where data belongs.

Files are put in order by the labels they carry, never by their names. What does not fit is an
error that says where: gaps, repetitions, overlaps, flips, drift, another calendar or unit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

import cftime
import numpy as np

from frazil_functions.errors import LabelError
from frazil_functions.reading.encoding import Attributes, Values, is_time_unit, missing_marks

type Gaps = Literal["error", "fill", "keep"]

_GAP: Final = 1.5
"""A step this many times the median is a gap; months of 28 and 31 days differ by 1.11."""

DRIFT: Final = 1e-3
"""The part of the smallest spacing that labels may differ by and still mean the same point."""


@dataclass(frozen=True, slots=True)
class FileLabels:
    """The labels of one file along the append dimension, in its own order."""

    url: str
    values: Values


@dataclass(frozen=True, slots=True)
class Axis:
    """The labels of all files as one coordinate.

    Attributes
    ----------
    values
        Every label, in order; those that were filled in among them.
    order
        The files' positions in the given sequence, in the order of their labels.
    spans
        `(start, stop)` of each file along the axis, in that order.
    filled
        How many labels belong to no file.
    """

    values: Values
    order: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    filled: int = 0


def show(value: object, attributes: Attributes) -> str:
    """A label as a person reads it: a time as a date, anything else as it is."""
    units = attributes.get("units")
    if isinstance(value, np.generic):
        value = value.item()
    packed = {"scale_factor", "add_offset"} & attributes.keys()
    if is_time_unit(units) and not packed and isinstance(value, int | float) and np.isfinite(value):
        calendar = str(attributes.get("calendar", "standard"))
        try:
            return str(cftime.num2date(value, str(units), calendar))
        except (ValueError, OverflowError):
            return f"{value} {units}"
    return str(value)


def check_labels(dim: str, url: str, values: Values, attributes: Attributes) -> None:
    """Refuse labels that are missing: NaN, no time (NaT), or a value that stands for what is missing.

    Raises
    ------
    LabelError
        Naming the file, the dimension and the place of the first one.
    """
    if values.dtype.kind not in "iuf":
        return
    for name in ("_FillValue", "missing_value"):
        # Marks that the type does not have, and NaN, are in none of the values.
        marks = missing_marks(
            values.dtype.str, attributes | {"_FillValue": None, "missing_value": attributes.get(name)}
        )
        for at in np.flatnonzero(np.isin(values, np.array(marks, values.dtype)))[:1]:
            raise LabelError(
                f"{url}: {dim!r} is missing at index {at} ({name} is {values[at]}); a value without a label belongs "
                "nowhere"
            )
    none, called = (np.isnan(values), "NaN") if values.dtype.kind == "f" else (_no_times(values, attributes), "NaT")
    for at in np.flatnonzero(none)[:1]:
        raise LabelError(f"{url}: {dim!r} is {called} at index {at}; a value without a label belongs nowhere")


def _no_times(values: Values, attributes: Attributes) -> Values:
    """Where 64-bit integers are what NumPy and Xarray take for no time: the smallest of them."""
    units = attributes.get("units")
    if values.dtype.kind != "i" or not (is_time_unit(units) or units == "nanoseconds"):
        return np.zeros(values.shape, bool)
    found: Values = values == np.iinfo("i8").min
    return found


def join(dim: str, files: Sequence[FileLabels], attributes: Attributes, gaps: Gaps) -> Axis:
    """One axis from the labels of all files.

    Raises
    ------
    LabelError
        If labels repeat, overlap, are out of order, or leave a gap that was not accepted.
    """
    if files[0].values.dtype.kind not in "iuf" or not len(files[0].values):
        return _join_names(dim, files)
    step = _direction(dim, files, attributes)
    order = sorted(range(len(files)), key=lambda at: files[at].values[0].item(), reverse=step < 0)
    for before, after in pairwise(order):
        _check_overlap(dim, files[before], files[after], step, attributes)
    values = np.concatenate([files[at].values for at in order])
    edges = np.cumsum([0, *(len(files[at].values) for at in order)])
    spans = tuple((int(start), int(stop)) for start, stop in pairwise(edges))
    axis = Axis(values, tuple(order), spans)
    wide = _gaps(values, spans, every=is_time_unit(attributes.get("units")))
    if not wide.size or gaps == "keep":
        return axis
    if gaps == "fill":
        return _fill(dim, axis, wide, attributes)
    at = int(wide[0])
    names = [files[order[_holder(spans, at + side)]].url for side in (0, 1)]
    where = f"between {names[0]} and {names[1]}" if names[0] != names[1] else f"in {names[0]}"
    steps = np.abs(_steps(values))
    raise LabelError(
        f"{dim!r} leaves {wide.size} gap{'s' * (wide.size > 1)}; the first is {where}: "
        f"{show(values[at], attributes)} is followed by {show(values[at + 1], attributes)} "
        f"({steps[at]:g} where {np.median(steps):g} is usual). Add the missing files, or accept the gap: "
        "--gaps fill keeps a place for what is missing, --gaps keep does not."
    )


def _steps(values: Values) -> Values:
    """From each label to the next; whole numbers exactly, and without wrapping where they are unsigned."""
    steps: Values = np.diff(values.astype("i8" if values.dtype.kind in "iu" else "f8"))
    return steps


def _direction(dim: str, files: Sequence[FileLabels], attributes: Attributes) -> int:
    """1 if labels rise, -1 if they fall, in every file alike."""
    found: dict[int, str] = {}
    for file in files:
        steps = _steps(file.values)
        for at in np.flatnonzero(steps == 0)[:1]:
            raise LabelError(
                f"{file.url}: {dim!r} is {show(file.values[at], attributes)} both at index {at} and at {at + 1}. "
                "Each label can be written once; mend the file, or leave it out."
            )
        if not steps.size:
            continue
        step = 1 if steps[0] > 0 else -1
        wrong = np.flatnonzero(np.sign(steps) != step)
        if wrong.size:
            at = int(wrong[0])
            raise LabelError(
                f"{file.url}: {dim!r} is not sorted: at index {at + 1} {show(file.values[at + 1], attributes)} "
                f"follows {show(file.values[at], attributes)}. Sort the file along {dim!r}, or leave it out."
            )
        found.setdefault(step, file.url)
    if len(found) > 1:
        raise LabelError(f"{dim!r} rises in {found[1]} and falls in {found[-1]}; one of them is flipped")
    return next(iter(found), 1)


def _check_overlap(dim: str, before: FileLabels, after: FileLabels, step: int, attributes: Attributes) -> None:
    last, first = before.values[-1].item(), after.values[0].item()
    if step * last < step * first:
        return
    if np.array_equal(before.values, after.values):
        what = f"are the same in {before.url} and {after.url}"
    elif last == first:
        what = f"repeat: {before.url} ends and {after.url} begins with the same one"
    else:
        what = f"overlap: {before.url} and {after.url} both hold some"
    raise LabelError(
        f"the labels of {dim!r} {what}: {show(before.values[0], attributes)} to {show(last, attributes)}, and "
        f"{show(first, attributes)} to {show(after.values[-1], attributes)}. "
        "Each label can be written once; leave one of the files out."
    )


def _join_names(dim: str, files: Sequence[FileLabels]) -> Axis:
    """Labels that have no order of their own (names): files stand in the order they were given."""
    holder: dict[object, str] = {}
    for file in files:
        for label in file.values.tolist():
            if label in holder:
                raise LabelError(f"{dim!r} has the label {label!r} in {holder[label]} and again in {file.url}")
            holder[label] = file.url
    edges = np.cumsum([0, *(len(file.values) for file in files)])
    spans = tuple((int(start), int(stop)) for start, stop in pairwise(edges))
    return Axis(np.concatenate([file.values for file in files]), tuple(range(len(files))), spans)


def _gaps(
    values: Values, spans: Sequence[tuple[int, int]], *, every: bool
) -> "np.ndarray[tuple[int], np.dtype[np.intp]]":
    """Indices after which a gap follows.

    Times pass evenly, so each step counts. Depths and levels need not be even within a file; there
    a gap is a step between files that is wider than any within them.
    """
    steps = np.abs(_steps(values))
    if steps.size < 2:  # noqa: PLR2004 - one step has nothing to be compared with
        return np.array([], np.intp)
    if every:
        return np.flatnonzero(steps > _GAP * np.median(steps))
    between = np.array([stop - 1 for _, stop in spans[:-1]], np.intp)
    inside = np.delete(steps, between)
    usual = inside.max() if inside.size else np.median(steps)
    found: np.ndarray[tuple[int], np.dtype[np.intp]] = between[steps[between] > _GAP * usual]
    return found


def _holder(spans: Sequence[tuple[int, int]], at: int) -> int:
    return next(number for number, (start, stop) in enumerate(spans) if start <= at < stop)


def _fill(dim: str, axis: Axis, wide: "np.ndarray[tuple[int], np.dtype[np.intp]]", attributes: Attributes) -> Axis:
    """The axis with the labels that are missing in its gaps."""
    missing = {int(at): _missing(dim, axis.values, int(at), wide, attributes) for at in wide}
    pieces: list[Values] = []
    shift = np.zeros(len(axis.values) + 1, np.int64)
    done = 0
    for at, labels in missing.items():
        pieces += [axis.values[done : at + 1], labels]
        done = at + 1
        shift[done:] += len(labels)
    values = np.concatenate([*pieces, axis.values[done:]])
    inside = [at for at in missing if any(start <= at < stop - 1 for start, stop in axis.spans)]
    if inside:
        raise LabelError(
            f"{dim!r} leaves a gap within a file, after {show(axis.values[inside[0]], attributes)}; only gaps "
            "between files can be filled. Use --gaps keep."
        )
    spans = tuple((start + int(shift[start]), stop + int(shift[start])) for start, stop in axis.spans)
    return Axis(values, axis.order, spans, len(values) - len(axis.values))


def _missing(
    dim: str,
    values: Values,
    at: int,
    wide: "np.ndarray[tuple[int], np.dtype[np.intp]]",
    attributes: Attributes,
) -> Values:
    low, high = values[at], values[at + 1]
    steps = np.delete(_steps(values), wide)
    step = float(np.median(steps))
    count = (high.item() - low.item()) / step
    if np.allclose(steps, step, rtol=1e-6) and abs(count - round(count)) < DRIFT:
        if values.dtype.kind in "iu":
            whole = round(step)
            return np.arange(int(low) + whole, int(high), whole).astype(values.dtype)
        return (float(low) + step * np.arange(1, round(count))).astype(values.dtype)
    months = _missing_months(values, at, wide, attributes)
    if months is None:
        raise LabelError(
            f"{dim!r} is not regular (steps from {steps.min():g} to {steps.max():g}), so the labels missing between "
            f"{show(low, attributes)} and {show(high, attributes)} cannot be told; use --gaps keep"
        )
    return months


def _missing_months(
    values: Values, at: int, wide: "np.ndarray[tuple[int], np.dtype[np.intp]]", attributes: Attributes
) -> Values | None:
    """Labels a whole number of months apart, at the same day and time of each; None if they are not."""
    units, calendar = attributes.get("units"), str(attributes.get("calendar", "standard"))
    if not is_time_unit(units) or {"scale_factor", "add_offset"} & attributes.keys():
        return None
    dates = cftime.num2date(values, str(units), calendar)
    if len({(date.day, date.hour, date.minute, date.second, date.microsecond) for date in dates}) > 1:
        return None
    number = np.array([date.year * 12 + date.month - 1 for date in dates])
    steps = set(np.delete(np.diff(number), wide).tolist())
    if len(steps) != 1:
        return None
    step = steps.pop()
    between = range(int(number[at]) + step, int(number[at + 1]), step)
    if (number[at + 1] - number[at]) % step:
        return None
    filled = [dates[at].replace(year=month // 12, month=month % 12 + 1) for month in between]
    return np.asarray(cftime.date2num(filled, str(units), calendar)).astype(values.dtype)


def difference(dim: str, ours: Values, theirs: Values) -> str:
    """How one file's labels differ from another's, in words."""
    if len(ours) != len(theirs):
        return f"{dim!r} has {len(theirs)} labels and not {len(ours)}"
    if np.array_equal(ours, theirs[::-1]):
        return f"{dim!r} is flipped: it runs from {theirs[0]} to {theirs[-1]} and not from {ours[0]} to {ours[-1]}"
    if np.array_equal(np.sort(ours), np.sort(theirs)):
        return f"{dim!r} has the same labels in another order"
    at = int(np.flatnonzero(ours != theirs)[0])
    if ours.dtype.kind in "iuf" and theirs.dtype.kind in "iuf":
        if drifted(ours, theirs):
            most = float(np.max(np.abs(ours.astype("f8") - theirs.astype("f8"))))
            own, other = ours[at].item(), theirs[at].item()
            return (
                f"{dim!r} drifts by up to {most:.3g}, first at index {at}: {other!r} and not {own!r} "
                "(--accept drift takes the first file's labels)"
            )
        if np.allclose(np.sort(ours.astype("f8") % 360), np.sort(theirs.astype("f8") % 360)):
            return (
                f"{dim!r} goes around the globe from another start: {theirs[0]} to {theirs[-1]} "
                f"and not {ours[0]} to {ours[-1]}"
            )
    return f"{dim!r} differs first at index {at}: {theirs[at]} and not {ours[at]}"


def drifted(ours: Values, theirs: Values) -> bool:
    """Whether labels differ by so little that they mean the same points."""
    if ours.shape != theirs.shape or ours.dtype.kind not in "iuf" or theirs.dtype.kind not in "iuf":
        return False
    steps = np.abs(np.diff(ours.astype("f8")))
    scale = float(steps.min()) if steps.size else max(1.0, float(np.max(np.abs(ours), initial=0)))
    return bool(np.max(np.abs(ours.astype("f8") - theirs.astype("f8")), initial=0) <= DRIFT * scale)
