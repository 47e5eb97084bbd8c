"""How long a classic NetCDF file should be, by its header.

The NetCDF library reads what lies beyond the end of a classic file as zeros, without a word; so
a truncated one must be found by its length. The format is the NetCDF Classic Format
Specification's (https://docs.unidata.ucar.edu/netcdf-c/current/file_format_specifications.html).
"""

import math
from collections.abc import Callable
from typing import Final, Protocol

from frazil_functions.errors import SourceError

_TYPE_BYTES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 8, 7: 1, 8: 2, 9: 4, 10: 8, 11: 8}
"""Bytes of an element of each `nc_type`: byte, char, short, int, float, double, and CDF-5's."""


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes | None: ...


def check_length(file: _Readable, size: int, name: str) -> None:
    """Refuse a classic NetCDF file that is shorter than its header says; other files pass.

    Parameters
    ----------
    file
        Where the file begins.
    size
        How many bytes it has.
    name
        What an error calls it.

    Raises
    ------
    SourceError
        With both lengths.
    """
    magic = file.read(4) or b""
    if magic[:3] != b"CDF" or magic[3:] not in {b"\x01", b"\x02", b"\x05"}:
        return
    try:
        wanted = _Header(file, size, magic[3]).length()
    except (EOFError, KeyError, IndexError) as error:
        raise SourceError(f"{name} is truncated or damaged: its NetCDF header cannot be read") from error
    if size < wanted:
        raise SourceError(f"{name} is truncated: it has {size} bytes, and its header describes {wanted}")


class _Header:
    """A header that is read from its beginning to its end."""

    def __init__(self, file: _Readable, size: int, version: int) -> None:
        self._file = file
        self._size = size
        self._at = 4  # behind the magic number
        self._offset_bytes = 4 if version == 1 else 8
        self._count_bytes = 8 if version == 5 else 4  # noqa: PLR2004 - CDF-5

    def length(self) -> int:
        """The least length of a file with this header."""
        records = self._count()
        if records == (1 << 8 * self._count_bytes) - 1:  # still being streamed: nobody knows
            records = 0
        dims = self._list(self._dim)
        self._list(self._attribute)
        variables = self._list(lambda: self._variable(dims))
        per_record = [nbytes for _, nbytes, grows in variables if grows]
        # A record holds its variables padded to four bytes, unless there is but one.
        stride = per_record[0] if len(per_record) == 1 else sum(-(-nbytes // 4) * 4 for nbytes in per_record)
        ends = [
            begin + nbytes + (max(0, records - 1) * stride if grows else 0)
            for begin, nbytes, grows in variables
            if nbytes and (records or not grows)
        ]
        return max([*ends, self._at])

    def _list[T](self, item: Callable[[], T]) -> list[T]:
        self._number(4)  # the tag; zero if there are none
        return [item() for _ in range(self._count())]

    def _dim(self) -> int:
        self._name()
        return self._count()

    def _attribute(self) -> None:
        self._name()
        width = _TYPE_BYTES[self._number(4)]
        self._skip(width * self._count())

    def _variable(self, dims: list[int]) -> tuple[int, int, bool]:
        """Where its values begin, the bytes of all or of one record, and whether it has records."""
        self._name()
        shape = [dims[self._count()] for _ in range(self._count())]
        self._list(self._attribute)
        width = _TYPE_BYTES[self._number(4)]
        self._count()  # the size; it overflows where a variable is large, so the shape is what counts
        begin = self._number(self._offset_bytes)
        grows = bool(shape) and shape[0] == 0
        return begin, width * math.prod(shape[1:] if grows else shape), grows

    def _name(self) -> None:
        self._skip(self._count())

    def _skip(self, nbytes: int) -> None:
        self._read(-(-nbytes // 4) * 4)

    def _count(self) -> int:
        return self._number(self._count_bytes)

    def _number(self, nbytes: int) -> int:
        return int.from_bytes(self._read(nbytes), "big")

    def _read(self, nbytes: int) -> bytes:
        self._at += nbytes
        if self._at > self._size:  # asked first: a damaged count may be of any size
            raise EOFError
        data = self._file.read(nbytes)
        if data is None or len(data) != nbytes:
            raise EOFError
        return data
