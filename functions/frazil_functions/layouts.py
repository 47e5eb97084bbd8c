"""Layouts: how the bytes of an array's chunks are stored, as data.

A reference into a file reads right only if the array says of its chunks exactly what the file does. This module
compares; who reads files and arrays says what there is.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Final

from frazil_functions.text import escaped

_EFFORT: Final = frozenset({"level", "clevel", "blocksize", "acceleration", "checksum_level"})
"""What a codec is told of how hard to compress, which whoever decompresses need not know."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How an array's chunks are stored.

    Attributes
    ----------
    chunks
        The shape of a chunk.
    codecs
        What decodes them, as Zarr 3 has it in an array's metadata: a mapping with a name and a configuration for each.
    fill
        The fill value of what is not stored, as Zarr 3 has it in JSON.
    contiguous
        Whether all values stand behind each other, uncompressed and in C order, so that they can be cut anew along the
        first dimension.
    """

    chunks: tuple[int, ...]
    codecs: tuple[dict[str, Any], ...]
    fill: Any
    contiguous: bool = False

    def difference(self, other: "Layout") -> str:
        """What a file would have to say otherwise for references into it to read right; empty if nothing.

        How hard a codec was to compress does not matter to who decompresses. Nor does the fill value, for what a file
        does not store is never referred to.

        Parameters
        ----------
        other
            How the file stores the array.

        Examples
        --------
        >>> ours = Layout((1, 4), ({"name": "numcodecs.zlib", "configuration": {"level": 4}},), 0)
        >>> ours.difference(Layout((1, 4), ({"name": "numcodecs.zlib", "configuration": {"level": 9}},), 0))
        ''
        >>> ours.difference(Layout((2, 4), (), 0))
        'chunks (2, 4) instead of (1, 4)'
        """
        if not self.cuts(other):
            return f"chunks {other.chunks} instead of {self.chunks}"
        for ours, theirs in zip_longest(map(_meant, self.codecs), map(_meant, other.codecs)):
            if ours != theirs:
                return f"{_spoken(theirs)} instead of {_spoken(ours)}"
        return ""

    def cuts(self, other: "Layout") -> bool:
        """Whether what another stores has these chunks, or can be cut into them."""
        if self.chunks == other.chunks:
            return True
        return other.contiguous and bool(self.chunks) and self.chunks[1:] == other.chunks[1:]

    def __str__(self) -> str:
        names = ", ".join(_spoken(_meant(codec)) for codec in self.codecs)
        return f"chunks {self.chunks}, {names or 'as they are'}"


def _meant(codec: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A codec less what does not matter to who decodes."""
    if codec is None:
        return None
    configuration = {key: value for key, value in dict(codec.get("configuration") or {}).items() if key not in _EFFORT}
    return {"name": codec["name"], "configuration": configuration}


def _spoken(codec: Mapping[str, Any] | None) -> str:
    if codec is None:
        return "no codec more"
    said = ", ".join(f"{key} {value}" for key, value in _settings(codec["configuration"]))
    return escaped(f"{codec['name']}({said})" if said else str(codec["name"]))


def _settings(configuration: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((key, value) for key, value in sorted(configuration.items()) if value is not None)
