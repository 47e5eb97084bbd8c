"""Words for people."""

import re
from typing import Final

_BELOW: Final = re.compile(r"\n\s*\n(?:Debug source|\s*context:)")


def size(nbytes: float) -> str:
    """A number of bytes as a person reads it."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if nbytes < 1000:  # noqa: PLR2004 - SI prefixes
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1000
    return f"{nbytes:.1f} PB"


def words(error: BaseException) -> str:
    """The error without what stands below it: obstore's dump of the request, Icechunk's of its stack."""
    return " ".join(_BELOW.split(str(error), maxsplit=1)[0].split())


def duration(seconds: float) -> str:
    """A time span as a person reads it."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
