"""Classic NetCDF files by their header: how long they should be, and where their values lie.

The NetCDF library reads what lies beyond the end of a classic file as zeros, without a word; so
a truncated one must be found by its length. The format is the NetCDF Classic Format
Specification's (https://docs.unidata.ucar.edu/netcdf-c/current/file_format_specifications.html).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import RawIOBase
from typing import Any, BinaryIO, Final, Protocol

import numpy as np
import numpy.typing as npt

from frazil_functions.errors import SourceError
from frazil_functions.reading.encoding import Values
from frazil_functions.reading.stored import Chunks, Stored, UnreferableError, stored_as

_TYPES: Final = {
    1: "i1",
    2: "S1",
    3: ">i2",
    4: ">i4",
    5: ">f4",
    6: ">f8",
    7: "u1",
    8: ">u2",
    9: ">u4",
    10: ">i8",
    11: ">u8",
}
"""The type of the values of each `nc_type`: byte, char, short, int, float, double, and CDF-5's."""


class Readable(Protocol):
    """A file that is read from where it stands."""

    def read(self, size: int, /) -> bytes | None:
        """Up to so many bytes."""


def is_classic(file: BinaryIO | RawIOBase) -> bool:
    """Whether an open file is classic NetCDF, by its first bytes; it stands at its beginning then."""
    file.seek(0)
    magic = file.read(4) or b""
    file.seek(0)
    return _is_magic(magic)


def _is_magic(magic: bytes) -> bool:
    return magic[:3] == b"CDF" and magic[3:] in {b"\x01", b"\x02", b"\x05"}


def check_length(file: Readable, size: int, name: str) -> None:
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
    if not _is_magic(magic):
        return
    try:
        wanted = Header(file, size, magic[3]).length
    except (EOFError, KeyError, IndexError, UnicodeError) as error:
        raise SourceError(f"{name} is truncated or damaged: its NetCDF header cannot be read") from error
    if size < wanted:
        raise SourceError(f"{name} is truncated: it has {size} bytes, and its header describes {wanted}")


@dataclass(frozen=True, slots=True)
class ClassicVariable:
    """A variable as the header has it.

    Attributes
    ----------
    dtype
        Of its values, in the file's byte order.
    dims, shape
        The names of its dimensions, and its length along each; 0 along that of records.
    begin
        Where its values begin, or those of the first record.
    grows
        Whether it has records.
    attributes
        By name; text as single characters.
    """

    dtype: np.dtype[Any]
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    begin: int
    grows: bool
    attributes: dict[str, Values]

    @property
    def fill(self) -> object:
        """What its attribute _FillValue holds; None if there is none, or one of another type."""
        found = self.attributes.get("_FillValue")
        return found[0].item() if found is not None and found.dtype == self.dtype and found.size == 1 else None

    @property
    def nbytes(self) -> int:
        """The bytes of all its values, or of one record."""
        return self.dtype.itemsize * math.prod(self.shape[1:] if self.grows else self.shape)


class ClassicFile:
    """An open classic NetCDF file.

    Parameters
    ----------
    file
        Where the file begins.
    size
        How many bytes it has.
    """

    def __init__(self, file: Readable, size: int) -> None:
        magic = file.read(4) or b""
        self._size = size
        self._header = Header(file, size, magic[3])

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return self._size

    def stored(self, name: str, ndim: int) -> Stored:
        """How a variable is stored: records are chunks, and what has none stands together."""
        variable = self._variable(name)
        shape = self._header.shape(variable)
        chunks = (1, *shape[1:]) if variable.grows else shape
        whole = tuple(max(1, length) for length in chunks)
        return stored_as(variable.dtype, shape, whole, variable.fill, contiguous=not variable.grows, ndim=ndim)

    def chunks(self, name: str, ndim: int) -> Chunks:
        """Where its chunks lie: the records of all variables take turns."""
        variable = self._variable(name)
        found = Chunks.none(self.stored(name, ndim).grid)
        if variable.nbytes:
            number = np.arange(found.offsets.size, dtype=np.uint64).reshape(found.offsets.shape)
            found.offsets[...] = np.uint64(variable.begin) + number * np.uint64(self._header.stride)
            found.lengths[...], found.stored[...] = variable.nbytes, True
        return found

    def _variable(self, name: str) -> ClassicVariable:
        if name not in self._header.variables:
            raise UnreferableError("the file has no variable of this name")
        return self._header.variables[name]


class Header:
    """A header that is read from its beginning to its end.

    Parameters
    ----------
    file
        Where it goes on behind the magic number.
    size
        How many bytes the file has.
    version
        The last byte of the magic number: 1, 2 or 5.

    Attributes
    ----------
    records
        How many there are; None if the file is still being streamed.
    dims, attributes
        The lengths of all dimensions (0 for that of records), and what holds for the whole file, by name.
    variables
        By name.
    stride
        The bytes of a record of all variables.
    length
        The least length of a file with this header.
    """

    def __init__(self, file: Readable, size: int, version: int) -> None:
        self._file = file
        self._size = size
        self._at = 4  # behind the magic number
        self._offset_bytes = 4 if version == 1 else 8
        self._count_bytes = 8 if version == 5 else 4  # noqa: PLR2004 - CDF-5
        records = self._count()
        self.records = None if records == (1 << 8 * self._count_bytes) - 1 else records
        dims = self._list(self._dim)
        self.dims = dict(dims)
        self.attributes = dict(self._list(self._attribute))
        self.variables = dict(self._list(lambda: self._variable(dims)))
        per_record = [one.nbytes for one in self.variables.values() if one.grows]
        # A record holds its variables padded to four bytes, unless there is but one.
        self.stride = per_record[0] if len(per_record) == 1 else sum(-(-nbytes // 4) * 4 for nbytes in per_record)
        ends = [
            one.begin + one.nbytes + (max(0, (self.records or 0) - 1) * self.stride if one.grows else 0)
            for one in self.variables.values()
            if one.nbytes and (self.records or not one.grows)
        ]
        self.length = max([*ends, self._at])

    def shape(self, variable: ClassicVariable) -> tuple[int, ...]:
        """A variable's length along each dimension."""
        if not variable.grows:
            return variable.shape
        records = self.records
        if records is None:  # as many as there is room for
            begin = min(one.begin for one in self.variables.values() if one.grows)
            records = max(0, self._size - begin) // self.stride if self.stride else 0
        return (records, *variable.shape[1:])

    def runs(self, variable: ClassicVariable, box: Sequence[tuple[int, int]]) -> tuple[npt.NDArray[np.int64], int]:
        """Where some values lie, in pieces without a gap.

        Parameters
        ----------
        variable
            Whose values.
        box
            The first index along each dimension, and the one behind the last.

        Returns
        -------
        offsets : array of one dimension
            Where each piece begins, in the order of the values.
        nbytes : int
            The length of every piece.
        """
        counts = [max(0, stop - start) for start, stop in box]
        if not math.prod(counts):
            return np.empty(0, np.int64), 0
        steps = [variable.dtype.itemsize] * len(box)
        for axis in reversed(range(len(box) - 1)):
            steps[axis] = steps[axis + 1] * variable.shape[axis + 1]
        if variable.grows:
            steps[0] = self.stride
        nbytes, axis = variable.dtype.itemsize, len(box)
        while axis and steps[axis - 1] == nbytes:  # what lies within has no gap
            axis -= 1
            nbytes *= counts[axis]
        offsets = np.array([variable.begin + sum(start * step for (start, _), step in zip(box, steps, strict=True))])
        for count, step in zip(counts[:axis], steps[:axis], strict=True):
            offsets = (offsets[:, None] + np.arange(count, dtype=np.int64) * step).reshape(-1)
        return offsets, nbytes

    def _list[T](self, item: Callable[[], T]) -> list[T]:
        self._number(4)  # the tag; zero if there are none
        return [item() for _ in range(self._count())]

    def _dim(self) -> tuple[str, int]:
        return self._name(), self._count()

    def _attribute(self) -> tuple[str, Values]:
        name = self._name()
        dtype = np.dtype(_TYPES[self._number(4)])
        return name, np.frombuffer(self._padded(dtype.itemsize * self._count()), dtype)

    def _variable(self, dims: Sequence[tuple[str, int]]) -> tuple[str, ClassicVariable]:
        name = self._name()
        own = [dims[self._count()] for _ in range(self._count())]
        attributes = dict(self._list(self._attribute))
        dtype = np.dtype(_TYPES[self._number(4)])
        self._count()  # the size; it overflows where a variable is large, so the shape is what counts
        begin = self._number(self._offset_bytes)
        names, shape = tuple(name for name, _ in own), tuple(length for _, length in own)
        return name, ClassicVariable(dtype, names, shape, begin, bool(shape) and shape[0] == 0, attributes)

    def _name(self) -> str:
        return self._padded(self._count()).decode()

    def _padded(self, nbytes: int) -> bytes:
        """Bytes that are followed by as many as make their number one of fours."""
        return self._read(-(-nbytes // 4) * 4)[:nbytes]

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
