"""What went wrong with a source, and whether trying again can help.

Engines pass on what was raised below them, or raise an error of their own because of it; so it
is looked for all along the chain of causes.
"""

import errno
import re
from collections.abc import Iterator
from typing import Final

from obstore.exceptions import GenericError

from frazil_functions.errors import SourceError, UnreachableSourceError
from frazil_functions.remedies import remedy
from frazil_functions.text import words

_PASSING: Final = frozenset(
    {
        errno.EIO,  # a mount of a network file system that gave up, a disk
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.ENOTCONN,  # the process behind a FUSE mount is gone
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EAGAIN,
    }
)
"""Of the errors of a file system, those that are of the moment."""

_PASSING_STATUS: Final = (408, 429)  # beside 5xx; object_store retries the same
_SERVER_ERROR: Final = 500
_STATUS: Final = re.compile(r"non-2xx status code: (\d{3})")
_TRANSPORT: Final = re.compile(r"\bHTTP error: ")
"""What object_store puts before an error of connecting, sending or receiving; a name that is not known is one."""


_HDF5_ERRNO: Final = re.compile(r"\(file read failed: .*\berrno = (\d+), error message = ", re.DOTALL)
"""How HDF5 says it in an error that h5py makes a KeyError; of an OSError it sets the number."""


def is_transient(error: BaseException) -> bool:
    """Whether an error came from a network, a server or a file system that may be fine again in a moment."""
    return any(_is_passing(one) for one in _chain(error))


def source_error(message: str, error: BaseException) -> SourceError:
    """An UnreachableSourceError if `error` is transient, else a SourceError; raise it from `error`."""
    if is_transient(error):
        return UnreachableSourceError(f"{message}. It did not answer for a while, and may do so later; try again")
    return SourceError(message + remedy(message))


def _is_passing(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in _PASSING or isinstance(error, TimeoutError | ConnectionError)
    if isinstance(error, KeyError):
        told = _HDF5_ERRNO.search(str(error))
        return told is not None and int(told[1]) in _PASSING
    if not isinstance(error, GenericError):  # obstore's others say what is wrong: not allowed, not supported, ...
        return False
    said = words(error)
    status = _STATUS.search(said)
    if status is not None:
        code = int(status[1])
        return code >= _SERVER_ERROR or code in _PASSING_STATUS
    # What is left are answers that make no sense: another range than the one asked for, or no length.
    return _TRANSPORT.search(said) is not None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, and all that led to it."""
    seen: set[int] = set()
    ahead: list[BaseException | None] = [error]
    while ahead:
        one = ahead.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            yield one
            ahead += [one.__cause__, one.__context__]
