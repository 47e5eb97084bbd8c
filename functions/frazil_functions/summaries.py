"""Summaries: how many values there are, how many are missing, and between which bounds the others lie."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from frazil_functions.reading.encoding import STRING, Attributes, Values, meant_type, missing_marks, number

_PIECE: Final = 1 << 18
"""How many elements are looked at together; few enough to stay in the processor's cache."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What some values of one array are like.

    Attributes
    ----------
    count
        How many elements there are.
    missing
        How many of them are missing: NaN, or marked by `_FillValue` or `missing_value`.
    infinite
        How many of them are infinite.
    low, high
        The least and the largest of the others, with scale and offset applied; None if there are no others, or the
        values are no numbers.
    """

    count: int = 0
    missing: int = 0
    infinite: int = 0
    low: int | float | None = None
    high: int | float | None = None

    def beside(self, other: "Summary") -> "Summary":
        """The summary of these values and others.

        Examples
        --------
        >>> Summary(3, 1, low=0.5, high=2.0).beside(Summary(2, 2))
        Summary(count=5, missing=3, infinite=0, low=0.5, high=2.0)
        """
        lows = [one.low for one in (self, other) if one.low is not None]
        highs = [one.high for one in (self, other) if one.high is not None]
        return Summary(
            self.count + other.count,
            self.missing + other.missing,
            self.infinite + other.infinite,
            min(lows, default=None),
            max(highs, default=None),
        )


def summarise(values: Values, dtype: str, attributes: Attributes) -> Summary:
    """The summary of values as an array stores them.

    Parameters
    ----------
    values
        Of any shape.
    dtype, attributes
        The array's, as in `frazil_functions.template.ArrayTemplate`.

    Examples
    --------
    >>> summarise(np.array([1, -999, 30], "i2"), "<i2", {"_FillValue": -999, "scale_factor": 0.1, "add_offset": 5.0})
    Summary(count=3, missing=1, infinite=0, low=5.1, high=8.0)
    """
    if dtype == STRING or values.dtype.kind not in "iufb":
        return Summary(int(values.size))
    flat, marks = np.ascontiguousarray(values).reshape(-1), missing_marks(dtype, attributes) if dtype != "|b1" else []
    meant = meant_type(flat.dtype, attributes)
    stored = Summary()
    for start in range(0, flat.size, _PIECE):
        stored = stored.beside(_summary(flat[start : start + _PIECE], meant, marks))
    if stored.low is None or stored.high is None:
        return stored
    ends = sorted(_decoded(one, attributes) for one in (stored.low, stored.high))
    return Summary(stored.count, stored.missing, stored.infinite, *ends)


def _summary(piece: Values, meant: "np.dtype[np.generic]", marks: list[float | int]) -> Summary:
    low, high = piece.min(), piece.max()
    missing = 0
    if np.isnan(low):  # NaN is its own least and largest
        low, high = np.fmin.reduce(piece), np.fmax.reduce(piece)
        missing = int(np.count_nonzero(np.isnan(piece)))
    plain = bool(np.isfinite(low) and np.isfinite(high))
    if not plain or meant != piece.dtype or any(low <= mark <= high for mark in marks):
        absent = np.isnan(piece) if piece.dtype.kind == "f" else np.zeros(piece.shape, bool)
        for mark in marks:
            absent |= piece == piece.dtype.type(mark)
        endless = np.isinf(piece) & ~absent
        missing, infinite = int(np.count_nonzero(absent)), int(np.count_nonzero(endless))
        kept = piece[~(absent | endless)].view(meant)
        if not kept.size:
            return Summary(piece.size, missing, infinite)
        return Summary(piece.size, missing, infinite, kept.min().item(), kept.max().item())
    return Summary(piece.size, missing, 0, low.item(), high.item())


def _decoded(stored: float, attributes: Attributes) -> float:
    scale, offset = number(attributes.get("scale_factor")), number(attributes.get("add_offset"))
    scaled = stored * scale if isinstance(scale, int | float) else stored
    return scaled + offset if isinstance(offset, int | float) else scaled
