"""Damage: which errors of a read tell that what is stored is damaged, and which that it could not be read just now."""

import re
from typing import Final

import icechunk

from frazil_functions.corruption import is_corruption
from frazil_functions.errors import BackendError, FrazilError, InvalidInputError
from frazil_functions.text import words

CUT_OFF: Final = "its object is shorter than the manifest says; it was cut off"

FILE_GONE: Final = "the file that it refers to is gone"
FILE_CHANGED: Final = "the file that it refers to has changed since"
FILE_SHORT: Final = "the file that it refers to ends before it does"
FILE_REFUSED: Final = "reading the file that it refers to was refused"
"""What begins the message; the storage's reason follows."""

_SHORTER: Final = ("Requested range was invalid", "InvalidRange", "Range Not Satisfiable", "not enough data")
"""What a local disk, S3, others, and Icechunk itself say if an object lacks bytes that its manifest promises."""

_GONE: Final = (" not found", "NoSuchKey")
"""How object_store and S3 say that there is no such file, in an error of Icechunk's about another one."""

_REFUSALS: Final = re.compile(
    "AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidToken|CredentialsNotLoaded|NoSuchBucket|"
    "401 Unauthorized|403 Forbidden|Permission denied"
)
"""How the storage of a file says that whoever asks may not read it, or that there is no such place."""

_UNAUTHORISED: Final = (
    icechunk.ErrorKind.UNAUTHORIZED_VIRTUAL_CHUNK_CONTAINER,
    icechunk.ErrorKind.NO_CONTAINER_FOR_VIRTUAL_CHUNK,
)


def damage(error: Exception, what: str) -> str:
    """What an error says of the stored bytes themselves.

    Parameters
    ----------
    error
        From reading or decoding.
    what
        What was read, for messages.

    Raises
    ------
    BackendError
        If the storage did not answer, or refused: that says nothing of what it holds.
    InvalidInputError
        If chunks lie in files that the repository was not opened for.
    """
    if isinstance(error, FrazilError):
        raise error
    if isinstance(error, icechunk.IcechunkError):
        if error.kind in _UNAUTHORISED:
            raise InvalidInputError(
                f"{what} refers to a file in a container that the repository was not opened for ({words(error)}); name "
                "it (--container), or leave the variable out (--variables)"
            ) from error
        told = _told(error)
        if told:
            return told
    if isinstance(error, icechunk.IcechunkError | OSError | MemoryError) and not is_corruption(error):
        raise BackendError(f"{what} could not be read just now: {words(error)}") from error
    return f"it cannot be decoded ({type(error).__name__}: {words(error)})"


def file_damage(error: icechunk.IcechunkError) -> str:
    """What is wrong with a file that is referred to, and what to do; nothing if it is something else, or may pass.

    Parameters
    ----------
    error
        From reading.
    """
    if error.kind in _UNAUTHORISED:
        return (
            f"it refers to a file in a container that nobody authorised ({words(error)}); plan again with --container"
        )
    told = _told(error)
    if told not in {FILE_GONE, FILE_CHANGED, FILE_SHORT}:
        return ""
    return f"{told} ({words(error)}). Bring it back as it was, or write what it held from other files (--mode region)"


def _told(error: icechunk.IcechunkError) -> str:
    """What Icechunk says of an object or a file; nothing if the storage did not answer."""
    virtual = error.kind == icechunk.ErrorKind.VIRTUAL_CHUNK_FETCH
    refusal = _REFUSALS.search(str(error)) if virtual else None
    signs = {
        "its object is gone from the storage": error.kind == icechunk.ErrorKind.OBJECT_NOT_FOUND,
        FILE_SHORT: virtual and any(sign in str(error) for sign in _SHORTER),
        CUT_OFF: any(sign in str(error) for sign in _SHORTER),
        FILE_GONE: virtual and any(sign in str(error) for sign in _GONE),
        FILE_CHANGED: error.kind == icechunk.ErrorKind.VIRTUAL_CHUNK_MODIFIED,
        f"{FILE_REFUSED} ({refusal and refusal.group()})": refusal is not None,
        f"its object is corrupt ({words(error)})": is_corruption(error),
        # The first words say what is wrong; the others, where in the file.
        f"icechunk cannot read it: {words(error).split(' while verifying ')[0]}": not isinstance(
            error, icechunk.StorageError
        ),
    }
    return next((what for what, true in signs.items() if true), "")
