"""Words for people."""

import re
from typing import Final

from frazil_functions.remedies import remedy

_XML: Final = re.compile(
    r"(?:<\?xml[^>]*\?>\s*)?<Error>.*?<Code>(.*?)</Code>\s*(?:<Message>(.*?)</Message>)?.*?</Error>", re.DOTALL
)
"""How S3 says what is wrong: a code, a message, and ids that are of use to AWS alone."""

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
    return " ".join(_XML.sub(r"\1: \2", _BELOW.split(str(error), maxsplit=1)[0]).split())


def with_remedy(error: BaseException) -> str:
    """The words of an error of storage, and the cure if one is known."""
    said = words(error)
    return said + remedy(said)


def duration(seconds: float) -> str:
    """A time span as a person reads it."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def escaped(text: str) -> str:
    r"""A text in which whatever is no letter, sign or space is written as its code: it stays in its line.

    Examples
    --------
    >>> print(escaped("line\nnext \x1b[31mred"))
    line\nnext \x1b[31mred
    """
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "backslashreplace").decode() for char in text
    )


def escaped_lines(text: str) -> str:
    """Lines of text with nothing in them that moves a terminal's cursor."""
    return "\n".join(escaped(line) for line in text.split("\n"))
