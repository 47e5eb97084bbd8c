"""Words for people."""


def size(nbytes: float) -> str:
    """A number of bytes as a person reads it."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if nbytes < 1000:  # noqa: PLR2004 - SI prefixes
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1000
    return f"{nbytes:.1f} PB"


def words(error: BaseException) -> str:
    """The error without the dump of the request that obstore puts below it."""
    return " ".join(str(error).partition("\n\nDebug source")[0].split())
