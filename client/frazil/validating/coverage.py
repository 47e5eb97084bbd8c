"""Coverage: which ranges of write units along a dimension are stored, as spans with labels."""

from collections.abc import Mapping
from itertools import groupby
from typing import Final

import numpy as np

from frazil.labels.join import show
from frazil.validating.report import Span, State
from frazil.validating.tree import Member
from frazil_functions.reading.encoding import Attributes, Values, is_time_unit

type LabelValues = Mapping[str, tuple[Values, Attributes]]
"""The labels of a group that could be read, with the attributes of their array, by dimension."""

_STATES: Final[tuple[State, State, State]] = ("empty", "partly", "written")


def along_of(member: Member, labels: LabelValues) -> str | None:
    """The dimension that an array grows along: its time, else its first; None for a scalar."""
    timed = (dim for dim in member.dims if dim in labels and is_time_unit(labels[dim][1].get("units")))
    return next(timed, member.dims[0] if member.dims else None)


def coverage_of(member: Member, labels: LabelValues) -> tuple[Span, ...]:
    """What is stored along that dimension; nothing for a scalar."""
    dim = along_of(member, labels)
    if dim is None:
        return ()
    axis = member.dims.index(dim)
    others = tuple(at for at in range(len(member.dims)) if at != axis)
    found = np.count_nonzero(member.stored, axis=others) if others else member.stored.astype(int)
    whole = member.grid.total // max(1, member.grid.counts[axis])
    if not whole:
        return ()
    states = np.where(found == whole, 2, np.where(found > 0, 1, 0)).tolist()
    unit, length, start, spans = member.grid.unit[axis], member.grid.shape[axis], 0, []
    for state, group in groupby(states):
        stop = start + len(list(group))
        span = (start * unit, min(length, stop * unit))
        spans.append(Span(*span, _STATES[state], _ends(dim, span, labels)))
        start = stop
    return tuple(spans)


def _ends(dim: str, span: tuple[int, int], labels: LabelValues) -> tuple[str, str] | None:
    if dim not in labels or len(labels[dim][0]) < span[1]:
        return None
    values, attributes = labels[dim]
    return show(values[span[0]], attributes), show(values[span[1] - 1], attributes)


def place(member: Member, index: tuple[int, ...], labels: LabelValues) -> str:
    """An element in words: its labels along each dimension that has some."""
    named = (
        f"{dim}={show(labels[dim][0][at], labels[dim][1])}"
        for dim, at in zip(member.dims, index, strict=True)
        if dim in labels and at < len(labels[dim][0])
    )
    return ", ".join(named)
