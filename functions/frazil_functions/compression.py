"""How an array is compressed: a codec of Zarr's and its settings, as data that a plan can hold.

What users may write for it, and what arrays get that nobody chose anything for, the client knows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from frazil_functions.errors import InvalidInputError, nearest

LEVELS: Final[Mapping[str, tuple[int, int]]] = {"zstd": (1, 22), "gzip": (1, 9), "blosc": (1, 9), "none": (0, 0)}
"""Every codec, and its levels. Level 0 is left out: of gzip and Blosc it stores values as they are, of zstd it is 3."""

COMPRESSORS: Final = ("zstd", "lz4", "lz4hc", "blosclz", "zlib")
"""What Blosc compresses with. Zarr names snappy, too, and Python's build of Blosc does not have it."""

SHUFFLES: Final = ("shuffle", "bitshuffle", "noshuffle")
"""What Blosc does before: put first bytes, or first bits, of all numbers together, then second ones, or nothing."""

BLOSC_MOST_BYTES: Final = (1 << 31) - 17
"""What Blosc compresses at once, at most: `BLOSC_MAX_BUFFERSIZE` of its header (blosc.h)."""

BLOSC_MOST_ITEM: Final = 255
"""The longest element that Blosc shuffles: `BLOSC_MAX_TYPESIZE`; it takes longer ones for single bytes."""


@dataclass(frozen=True, slots=True)
class Compression:
    """A codec and its settings.

    Attributes
    ----------
    codec
        "zstd", "gzip", "blosc", or "none" for values as they are.
    level
        How much work it does; 0 with "none".
    compressor, shuffle
        What Blosc compresses with, and what it does before; empty for other codecs.

    Raises
    ------
    InvalidInputError
        If there is no such codec, compressor, shuffle or level.

    Examples
    --------
    >>> str(Compression("blosc", 5, "lz4", "bitshuffle"))
    'blosc:lz4:5:bitshuffle'
    """

    codec: str
    level: int = 0
    compressor: str = ""
    shuffle: str = ""

    def __post_init__(self) -> None:
        blosc = self.codec == "blosc"
        for what, word, known in (
            ("codec", self.codec, LEVELS),
            ("compressor of Blosc", self.compressor, COMPRESSORS if blosc else ("",)),
            ("shuffle of Blosc", self.shuffle, SHUFFLES if blosc else ("",)),
        ):
            if word not in known:
                raise InvalidInputError(f"there is no {what} {word!r}; {nearest(word, known)}")
        low, high = LEVELS[self.codec]
        if not low <= self.level <= high:
            raise InvalidInputError(
                f"{self.codec} has no level {self.level}; use {low} to {high}, or 'none' to store values as they are"
            )

    def __str__(self) -> str:
        level = "" if self.codec == "none" else str(self.level)
        return ":".join(part for part in (self.codec, self.compressor, level, self.shuffle) if part)
