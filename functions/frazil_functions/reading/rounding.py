"""Rounding that somebody asked for: floating-point numbers as whole ones, or with fewer bits of their mantissa.

An array says in its attributes that it is stored so, and whatever is written into it is rounded likewise. What is
missing stays missing, and nothing wraps. How large a range is, and how many bits are worth keeping, is not known here.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from frazil_functions.errors import InvalidInputError, OutOfRangeError

type Values = np.ndarray[Any, np.dtype[Any]]

ERROR: Final = "packing_maximum_absolute_error"
"""The attribute of an array that is packed with loss: how far a value may be from what was packed. CF (1.12, chapter
8.4) has attributes for floating-point numbers that are quantised, and none for those that are packed (chapter 8.1)."""

OVERFLOW: Final = "packing_overflow"
"""The attribute of an array that is packed with loss, whose values out of range became its ends ("clip"): the error
that is recorded is that of values within the range."""

BITS: Final = "_QuantizeBitRoundNumberOfSignificantBits"
"""The attribute of netCDF-C (4.9) for how many bits of the mantissa are kept (docs/quantize.md there). Files of
others have it, too; it says what their values have lost, and asks for nothing."""

KEEPBITS: Final = "frazil_keepbits"
"""The attribute of an array that is rounded because somebody asked Frazil for it: how many bits of the mantissa are
kept of whatever is written into it."""

VALID: Final = frozenset({"valid_min", "valid_max", "valid_range"})
"""Attributes that say which stored values are valid (CF conventions, chapter 2.5.1)."""

PACKED_TYPES: Final = ("int8", "int16", "int32", "uint8", "uint16", "uint32")

_LEAST_STEP: Final = float(np.finfo("f8").smallest_normal)
"""Smaller steps would lose digits of their own."""

_PIECE: Final = 1 << 16
"""How many elements are rounded together; few enough to stay in the processor's cache."""

_ATTEMPTS: Final = 8


@dataclass(slots=True)
class Clipped:
    """What became the end of a range because it lies out of it.

    Attributes
    ----------
    counts
        How many values, by variable.
    furthest
        The value furthest out, and how many steps that is.
    """

    counts: dict[str, int] = field(default_factory=dict)
    furthest: dict[str, tuple[float, float]] = field(default_factory=dict)

    def add(self, name: str, count: int, value: float, steps: float) -> None:
        """Count some values of a variable, of which one is the furthest."""
        self.counts[name] = self.counts.get(name, 0) + count
        if steps >= self.furthest.get(name, (value, 0.0))[1]:
            self.furthest[name] = value, steps

    def take(self, name: str) -> tuple[int, float]:
        """How many values of a variable were counted since this was asked last, and the value furthest out."""
        return self.counts.pop(name, 0), self.furthest.pop(name, (0.0, 0.0))[0]


@dataclass(frozen=True, slots=True)
class Packing:
    """Whole numbers that stand for others: each code times a step, plus an offset (CF conventions, chapter 8.1).

    Attributes
    ----------
    dtype
        A type of whole numbers.
    step, offset
        `scale_factor` and `add_offset`.
    fill
        The code for what is missing, at one end of the type, so that no value has it.
    """

    dtype: str
    step: float
    offset: float
    fill: int

    @classmethod
    def over(cls, dtype: str, low: float, high: float) -> "Packing":
        """The packing with the smallest steps that holds a range of values.

        A range of one value holds that one alone.

        Raises
        ------
        InvalidInputError
            If no packing in doubles holds it.

        Examples
        --------
        >>> packing = Packing.over("<i2", 0.0, 65534.0)
        >>> packing.step, packing.offset, packing.fill
        (1.0, 32767.0, -32768)
        """
        limits = np.iinfo(dtype)
        signed = limits.min < 0
        most = int(limits.max) if signed else int(limits.max) - 1
        fill = int(limits.min) if signed else int(limits.max)
        offset = low / 2 + high / 2 if signed and low < high else low
        reach = max(high - offset, offset - low)
        step = max(reach / most, _LEAST_STEP)
        for _ in range(_ATTEMPTS):
            found = cls(dtype, step, offset, fill)
            if all(np.isfinite(found.range)):
                return found
            step = float(np.nextafter(step, 0))
        raise InvalidInputError(
            f"the range {low:.9g} to {high:.9g} is too wide for {np.dtype(dtype).name} in double precision; pack it as "
            f"a type with a sign, or leave it unpacked"
        )

    @classmethod
    def of(cls, dtype: str, attributes: Mapping[str, Any]) -> "Packing | None":
        """The packing that an array says it is stored in with loss; None if it does not say so.

        Raises
        ------
        InvalidInputError
            If what it says cannot be.
        """
        if ERROR not in attributes or "scale_factor" not in attributes or np.dtype(dtype).kind not in "iu":
            return None
        step, offset, fill, error = (
            attributes.get(key, 0.0 if key == "add_offset" else None)
            for key in ("scale_factor", "add_offset", "_FillValue", ERROR)
        )
        limits = np.iinfo(dtype)
        numbers = all(isinstance(one, int | float) and np.isfinite(one) for one in (step, offset, fill, error))
        if not numbers or not step >= _LEAST_STEP or fill not in {limits.min, limits.max} or "_Unsigned" in attributes:
            raise InvalidInputError(
                f"scale_factor {step!r}, add_offset {offset!r}, _FillValue {fill!r} and {ERROR} {error!r} make no "
                f"packing of {np.dtype(dtype).name}; write the array anew"
            )
        found = cls(dtype, float(step), float(offset), int(fill))
        if not found.error <= error * (1 + 1e-9):
            raise InvalidInputError(
                f"the {ERROR} is said to be {error!r}, and steps of {step!r} lose up to {found.error!r}; write the "
                "array anew"
            )
        return found

    @property
    def codes(self) -> tuple[int, int]:
        """The least and the largest code of a value; with a sign, the fill value is the one that they leave out."""
        limits = np.iinfo(self.dtype)
        return int(limits.min) + (self.fill == limits.min), int(limits.max) - (self.fill == limits.max)

    @property
    def range(self) -> tuple[float, float]:
        """What the least and the largest code stand for."""
        low, high = self.codes
        with np.errstate(over="ignore", invalid="ignore"):
            return float(np.float64(low) * self.step + self.offset), float(np.float64(high) * self.step + self.offset)

    @property
    def error(self) -> float:
        """How far from a value the one may be that is read in its place, in double precision.

        Half a step for rounding to the next code, and for the five operations in doubles (subtract, the step's
        reciprocal, multiply by it, multiply, add) u = 2**-53 each of what they work on, in all less than
        8 u (reach + |offset|), where no value is further than `reach` from the offset. IEEE 754;
        N. J. Higham, Accuracy and Stability of Numerical Algorithms (2002), chapter 2.2.
        """
        reach = max(map(abs, self.codes)) * self.step
        return self.step / 2 + reach * 2.0**-50 + abs(self.offset) * 2.0**-50

    def attributes(self) -> dict[str, Any]:
        """What an array says of it."""
        return {"scale_factor": self.step, "add_offset": self.offset, "_FillValue": self.fill, ERROR: self.error}

    def code(self, value: float) -> int:
        """The code that stands for a value, or for the next that there is."""
        low, high = self.codes
        return int(min(max(self._rounded(np.array([value]), np.empty(1))[0], low), high))

    def pack(self, name: str, values: Values, marks: Sequence[float], clip: Clipped | None) -> Values:
        """Floating-point numbers as codes.

        Parameters
        ----------
        name
            The variable, for messages.
        values
            Of any shape; NaN is missing.
        marks
            Values that mean that one is missing.
        clip
            Told of values out of range, which are stored as its ends; they are refused without it.

        Raises
        ------
        InvalidInputError
            If a value is out of range, as infinite ones are.
        """
        packed = np.empty(values.shape, self.dtype)
        into, (low, high) = packed.reshape(-1), self.codes
        room = np.empty(min(_PIECE, values.size))
        for at, piece in _pieces(values):
            absent, ends = _absent(piece, marks)
            part = into[at : at + len(piece)]
            if ends is None:
                part[...] = self.fill
                continue
            codes = self._rounded(piece, room[: len(piece)])
            if absent is not None:
                codes[absent] = low
            # No step of the rounding turns two values round, so the least and the largest have the outermost codes.
            least, most = self._rounded(ends, np.empty(2))
            if least < low or most > high:
                value = float(ends[0] if low - least > most - high else ends[1])
                if clip is None:
                    raise self._out_of_range(name, value)
                count = int(np.count_nonzero((codes < low) | (codes > high)))
                clip.add(name, count, value, float(max(low - least, most - high)))
                np.clip(codes, low, high, out=codes)
            part[...] = codes
            if absent is not None:
                part[absent] = self.fill
        return packed

    def _rounded(self, values: Values, codes: Values) -> Values:
        """Codes of values in doubles, whether there are such codes or not; in the array that is given for them."""
        with np.errstate(over="ignore", invalid="ignore"):
            codes[...] = values
            codes -= self.offset
            codes *= 1 / self.step
            return np.rint(codes, out=codes)

    def _out_of_range(self, name: str, value: float) -> OutOfRangeError:
        low, high = self.range
        return OutOfRangeError(
            f"{name!r} has the value {value:.9g}, and packed as {np.dtype(self.dtype).name} it holds {low:.9g} to "
            f"{high:.9g}; it would wrap. Convert again with a wider range (--pack-range {name}=LOW:HIGH), or "
            "clip such values (--pack-overflow clip)"
        )


def bits_of(dtype: str, attributes: Mapping[str, Any]) -> int | None:
    """How many bits of the mantissa are kept of what is written into an array; None if nobody asked for that.

    Raises
    ------
    InvalidInputError
        If its type does not have so many.
    """
    if KEEPBITS not in attributes or np.dtype(dtype).kind != "f":
        return None
    bits, most = attributes[KEEPBITS], np.finfo(dtype).nmant
    bits = bits[0] if isinstance(bits, list) and len(bits) == 1 else bits
    if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= most:
        raise InvalidInputError(
            f"{KEEPBITS} is {bits!r}, and {np.dtype(dtype).name} has 1 to {most} bits of a mantissa; write the "
            "array anew"
        )
    return bits


def loss_of(dtype: str, attributes: Mapping[str, Any], *, clipped: bool) -> tuple[str, str] | None:
    """What an array's values lose by how they are stored: the way, and how much, in words; None if nothing.

    Parameters
    ----------
    dtype, attributes
        Those of the array.
    clipped
        Whether values out of range become its ends.
    """
    packing, bits = Packing.of(dtype, attributes), bits_of(dtype, attributes)
    if packing is not None:
        low, high = packing.range
        beyond = ", others clipped" if clipped else ""
        what = f"values from {low:.7g} to {high:.7g}{beyond}, each at most {packing.error:.3g} off"
        return "packed", f"{what} (steps of {packing.step:.3g})"
    if bits is not None:
        most = np.finfo(dtype).nmant
        return "rounded", f"{bits} of {most} bits of the mantissa, each value at most 2**-{bits + 1} of it off"
    return None


def bit_rounded(
    values: Values, bits: int, marks: Sequence[float], valid: tuple[float, float] = (-math.inf, math.inf)
) -> Values:
    """Floating-point numbers with so many bits of their mantissa, rounded to nearest, ties to even.

    As the BitRound codec of numcodecs does, and netCDF-C (M. Kloewer et al., Nature Computational Science 1, 713-724,
    2021, https://doi.org/10.1038/s43588-021-00156-2). What is infinite, NaN or marked as missing stays as it is, and
    so does a value that would become one of these, or one that is not valid.

    Parameters
    ----------
    values
        Of any shape, in the machine's byte order.
    bits
        How many bits are kept, of those behind the leading one.
    marks
        Values that mean that one is missing.
    valid
        The least and the largest valid value.
    """
    drop = np.finfo(values.dtype).nmant - bits
    if drop <= 0:
        return values
    whole = np.dtype(f"u{values.dtype.itemsize}").type
    rounded = np.empty(values.shape, values.dtype)
    into = rounded.reshape(-1)
    for at, piece in _pieces(values):
        raw = piece.view(whole)
        found = raw >> whole(drop)
        found &= whole(1)
        found += whole((1 << (drop - 1)) - 1)
        found += raw
        found &= whole(~((1 << drop) - 1) & np.iinfo(whole).max)
        new = found.view(values.dtype)
        spared = ~(np.isfinite(new) & np.isfinite(piece))
        for one in (piece, new):
            marked = _marked(one, marks)
            if marked is not None:
                spared |= marked
        if valid != (-math.inf, math.inf):
            low, high = valid
            spared |= (piece >= low) & (piece <= high) & ((new < low) | (new > high))
        part = into[at : at + len(piece)]
        part[...] = np.where(spared, piece, new) if spared.any() else new
    return rounded


def _pieces(values: Values) -> Iterator[tuple[int, Values]]:
    flat = np.ascontiguousarray(values).reshape(-1)
    return ((at, flat[at : at + _PIECE]) for at in range(0, flat.size, _PIECE))


def _absent(piece: Values, marks: Sequence[float]) -> tuple["Values | None", "Values | None"]:
    """Where values are missing, None if none is, and the least and the largest of the others, if there are others."""
    least, most = piece.min(), piece.max()
    absent = None
    if np.isnan(least):  # NaN is its own least and largest
        absent = np.isnan(piece)
        least, most = np.fmin.reduce(piece), np.fmax.reduce(piece)
    marked = _marked(piece, [mark for mark in marks if least <= piece.dtype.type(mark) <= most])
    if marked is not None:
        absent = marked if absent is None else absent | marked
        present = piece[~absent]
        return absent, np.array([present.min(), present.max()]) if present.size else None
    return absent, None if np.isnan(least) else np.array([least, most])


def _marked(piece: Values, marks: Sequence[float]) -> "Values | None":
    """Where values are marked as missing; None if none is."""
    found: Values | None = None
    for mark in marks:
        same = piece == piece.dtype.type(mark)
        if same.any():
            found = same if found is None else found | same
    return found
