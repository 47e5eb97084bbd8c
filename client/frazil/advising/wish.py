"""What a user may write in place of lengths: `auto:temporal:64MiB`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from frazil.advising.choose import READINGS, Reading, choose_common
from frazil.advising.cost import Shape
from frazil_functions.errors import InvalidInputError, nearest

TARGET_BYTES: Final = 16 << 20
"""The size that a chunk is given where nobody says another: large enough that a request's delay does not dominate,
small enough that a reader who wants little does not fetch much (Zarr's performance guide advises at least 1 MB)."""

_AUTO: Final = "auto"
_UNITS: Final = {
    "": 1,
    "b": 1,
    **{f"{sign}b": 1000**power for power, sign in enumerate("kmgt", 1)},
    **{f"{sign}ib": 1024**power for power, sign in enumerate("kmgt", 1)},
}


@dataclass(frozen=True, slots=True)
class Auto:
    """Chunks that are to be chosen.

    Attributes
    ----------
    reading
        What they are read for.
    target
        The most bytes of one.
    """

    reading: Reading
    target: int = TARGET_BYTES

    def lengths(self, shapes: Sequence[Shape]) -> dict[str, int]:
        """One length for every dimension; none for one that has no elements, which needs none."""
        found = choose_common(shapes, self.reading, self.target)
        return {dim: length for dim, length in found.items() if all(one.lengths.get(dim, 1) for one in shapes)}


def auto_of(text: str) -> Auto:
    """How chunks are to be chosen: `auto:READING`, or `auto:READING:SIZE`.

    Raises
    ------
    InvalidInputError
        Naming what is wrong about it.

    Examples
    --------
    >>> auto_of("auto:temporal:64MiB")
    Auto(reading='temporal', target=67108864)
    """
    what, _, rest = text.strip().partition(":")
    reading, colon, size = rest.partition(":")
    if what.strip() != _AUTO or not reading:
        raise InvalidInputError(
            f"chunks cannot be {text!r}; give lengths, as in time=24, or auto:READING or auto:READING:SIZE, as in "
            f"auto:temporal:64MiB, where READING is one of {', '.join(READINGS)}"
        )
    return Auto(reading_of(reading.strip(), "chunks"), size_of(size, "chunks") if colon else TARGET_BYTES)


def reading_of(word: str, option: str = "reading") -> Reading:
    """The reading that a word names.

    Raises
    ------
    InvalidInputError
        If there is none.
    """
    for known in READINGS:
        if word == known:
            return known
    raise InvalidInputError(f"{option} cannot be for {word!r} reading; {nearest(str(word), READINGS)}")


def size_of(size: str | int, option: str = "target_size") -> int:
    """A size in bytes: a number of them, or text as in 16MiB.

    Raises
    ------
    InvalidInputError
        If it is no size, or less than a byte.

    Examples
    --------
    >>> size_of("1.5 MiB")
    1572864
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", str(size), re.IGNORECASE | re.ASCII)
    if found is None or found[2].lower() not in _UNITS:
        raise InvalidInputError(f"{option} {size!r} is no size; use a number and a unit, as in 16MiB, 64MB or 1GiB")
    nbytes = float(found[1]) * _UNITS[found[2].lower()]
    if not 1 <= nbytes < 1 << 60:
        raise InvalidInputError(f"{option} {size!r} is no size that a chunk can have; use about 16MiB")
    return int(nbytes)
