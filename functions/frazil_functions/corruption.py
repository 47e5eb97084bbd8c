"""Corruption: which errors that look like those of storage say that its bytes came, and make no sense."""

import gzip
from typing import Final

import icechunk

_ZSTD: Final = (
    "corrupt",
    "Unknown frame descriptor",
    "Src size is incorrect",
    "doesn't match checksum",
    "doesn't respect format specification",
    "Version not supported",
    "Unsupported frame parameter",
    "requires too much memory for decoding",
    "Destination buffer is too small",
    "incomplete frame",
)
"""What zstd says of frames that it cannot decode (lib/common/error_private.c there): Icechunk's own objects are such
frames, and it calls these errors ones of input and output."""


def is_corruption(error: BaseException) -> bool:
    """Whether an error tells that bytes were read which cannot be decoded; False also where it cannot be told.

    gzip and bz2 raise OSError for data that are none of theirs, without a number, unlike the operating system; what
    networks raise is of classes below it.
    """
    if isinstance(error, icechunk.StorageError):
        return error.kind == icechunk.ErrorKind.IO and any(sign in str(error) for sign in _ZSTD)
    return isinstance(error, gzip.BadGzipFile) or (type(error) is OSError and error.errno is None)
