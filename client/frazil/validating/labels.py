"""Labels: whether the coordinates of dimensions rise or fall, are complete, and are there at all."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from frazil.labels.join import show
from frazil.labels.place import DEGREES_EAST
from frazil.validating.report import Fault
from frazil_functions.reading.encoding import Attributes, Values, is_time_unit, missing_marks

_GAP: Final = 1.5
"""A step this many times the usual one is a gap, as where files are planned."""
_ALIKE: Final = 1e-3
_ALIKE_TIME: Final = 0.15
"""The part of the usual step that steps of a regular axis differ by: rounding, or months of 28 to 31 days."""
_REGULAR: Final = 2 / 3
"""The part of the steps that must be alike for an axis to be regular."""
_FEW: Final = 0.1
"""The part of the steps that may be gaps: an axis that leaves out every weekend is one without gaps."""
_SHOWN: Final = 5

_NO_ORDER: Final = "Sort the files along it and write the group anew (--mode overwrite), or mend the coordinate"
_NO_LABEL: Final = "Write the coordinate (--mode modify), or fill it from the files"


@dataclass(frozen=True, slots=True)
class LabelArray:
    """The labels of one dimension.

    Attributes
    ----------
    path
        The array's path.
    values
        As they are stored.
    attributes
        Of the array.
    """

    path: str
    values: Values
    attributes: Attributes


def label_faults(labels: LabelArray) -> Iterator[Fault]:
    """What is wrong with the labels of a dimension."""
    values = labels.values
    if values.dtype.kind not in "iuf":
        yield from _repeated(labels)
        return
    absent = np.isin(values, np.array(missing_marks(values.dtype.str, labels.attributes), values.dtype))
    if values.dtype.kind == "f":
        absent |= ~np.isfinite(values)
    if absent.any():
        at = int(np.argmax(absent))
        yield _fault(
            labels,
            f"{np.count_nonzero(absent)} of {len(values)} labels are missing or not finite; the first is "
            f"{values[at].item()!r} at index {at}",
            _NO_LABEL,
        )
        return
    yield from _unordered(labels)


def _repeated(labels: LabelArray) -> Iterator[Fault]:
    seen: dict[object, int] = {}
    for at, label in enumerate(labels.values.tolist()):
        if label in seen:
            what = f"the label {label!r} stands at index {seen[label]} and again at {at}"
            yield _fault(labels, what, "Give each its own label (--mode modify)")
            return
        seen[label] = at


def _unordered(labels: LabelArray) -> Iterator[Fault]:
    values = labels.values
    steps = np.diff(values.astype("i8" if values.dtype.kind in "iu" else "f8"))
    if not steps.size:
        return
    rising = np.count_nonzero(steps > 0) >= np.count_nonzero(steps < 0)
    wrong = np.flatnonzero(steps <= 0 if rising else steps >= 0)
    if wrong.size:
        at = int(wrong[0])
        more = f" (and {wrong.size - 1} more)" if wrong.size > 1 else ""
        yield _fault(
            labels,
            f"the labels {'rise' if rising else 'fall'}, but {_shown(labels, at)} at index {at} is followed by "
            f"{_shown(labels, at + 1)}{more}",
            _NO_ORDER,
        )
        return
    yield from _gaps(labels, np.abs(steps))


def _gaps(labels: LabelArray, steps: Values) -> Iterator[Fault]:
    if steps.size < 3:  # noqa: PLR2004 - of two steps that differ, nobody can say which is the usual one
        return
    usual = float(np.median(steps))
    near = _ALIKE_TIME if is_time_unit(labels.attributes.get("units")) else _ALIKE
    wide = np.flatnonzero(steps > _GAP * usual)
    regular = np.count_nonzero(np.abs(steps - usual) <= near * usual) >= _REGULAR * steps.size
    if not wide.size or not regular or wide.size > max(2, _FEW * steps.size):
        return
    ratios = steps[wide] / usual
    if (np.abs(ratios - np.rint(ratios)) > near * ratios).any() or _around(labels, wide, usual):
        return
    lacking = [round(float(steps[at]) / usual) - 1 for at in wide]
    places = "; ".join(
        f"{count} between {_shown(labels, int(at))} (index {at}) and {_shown(labels, int(at) + 1)}"
        for at, count in zip(wide[:_SHOWN], lacking, strict=False)
    )
    more = f"; and {wide.size - _SHOWN} more gaps" if wide.size > _SHOWN else ""
    count = f"{sum(lacking)} label{'s' * (sum(lacking) > 1)}"
    yield _fault(
        labels,
        f"the axis is regular (steps of {usual:g}) and lacks {count}: {places}{more}",
        "Write the missing files (an append cannot add labels in between: write the group anew with --gaps fill)",
    )


def _around(labels: LabelArray, wide: Values, usual: float) -> bool:
    """Whether the one gap is what a part of the globe leaves out that lies on both sides of where longitudes begin."""
    ends = np.abs(float(labels.values[-1]) - float(labels.values[0]))
    return wide.size == 1 and labels.attributes.get("units") in DEGREES_EAST and 360 - ends <= _GAP * usual


def _shown(labels: LabelArray, at: int) -> str:
    return show(labels.values[at], labels.attributes)


def _fault(labels: LabelArray, what: str, cure: str) -> Fault:
    return Fault("label", labels.path, what, cure)
