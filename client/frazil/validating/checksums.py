"""Checksums: which arrays' codecs notice that bytes were altered in place."""

from collections.abc import Iterable
from typing import Any, Final

from frazil.validating.tree import Member

_CHECKING: Final = ("crc32", "adler32", "fletcher32", "jenkins", "gzip", "zlib", "bz2", "lzma")
"""Parts of the names of codecs that store a checksum: those that do nothing else, and compressors whose streams have
one (RFC 1950 and 1952; bz2 and xz by their own definition)."""


def unchecked(members: Iterable[Member]) -> list[str]:
    """The paths of arrays whose chunks hold no checksum."""
    return [one.path for one in members if one.count and not _is_checked(getattr(one.array.metadata, "codecs", ()))]


def _is_checked(codecs: Iterable[Any]) -> bool:
    for codec in codecs:
        told = codec.to_dict()
        if any(name in told["name"] for name in _CHECKING) or _is_checked(getattr(codec, "codecs", ())):
            return True
        if told.get("configuration", {}).get("checksum") is True:  # of zstd, and of others that can have one
            return True
    return False
