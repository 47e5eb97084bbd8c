"""Classic NetCDF behind a URL as Xarray takes it: what is asked of its values is read by ranges, and no more.

The NetCDF library reads from a local disk alone. What is read here is what Xarray reads with it, to the last attribute.
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from xarray import Variable
from xarray.backends import AbstractDataStore, BackendArray
from xarray.core import indexing

from frazil_functions.reading.classic import ClassicVariable, Header
from frazil_functions.reading.encoding import Values
from frazil_functions.reading.remote import RemoteFile

_SPAN: Final = 4 << 20
"""Bytes that are asked for at once at most."""

_GAP: Final = 1 << 20
"""Bytes that nobody asked for, and that take less time to read than another request."""

_GATHERED: Final = 1 << 20
"""How many bytes' places are held at once where short pieces are put together."""

type _Offsets = npt.NDArray[np.int64]


class ClassicStore(AbstractDataStore):
    """An open classic file, for `xarray.open_dataset(..., engine="store")`.

    Parameters
    ----------
    file
        The file, of which `frazil_functions.reading.classic.check_length` has seen the header.
    """

    def __init__(self, file: RemoteFile) -> None:
        file.seek(0)
        self._file = file
        self._header = Header(file, file.size, file.read(4)[3])

    def get_dimensions(self) -> Mapping[str, int]:
        """The length of every dimension."""
        return self._header.dims

    def get_attrs(self) -> dict[str, Any]:
        """What holds for the whole file."""
        return {name: _attribute(name, value) for name, value in self._header.attributes.items()}

    def get_encoding(self) -> dict[str, Any]:
        """Which dimension is that of records."""
        return {"unlimited_dims": {name for name, length in self._header.dims.items() if not length}}

    def get_variables(self) -> dict[str, Variable]:
        """Every variable, nothing of its values read."""
        return {name: self._variable(variable) for name, variable in self._header.variables.items()}

    def _variable(self, variable: ClassicVariable) -> Variable:
        attributes = {name: _attribute(name, value) for name, value in variable.attributes.items()}
        if variable.dtype.kind == "S" and "_FillValue" in attributes:
            attributes["_FillValue"] = np.bytes_(attributes["_FillValue"])
        array = _Lazy(self._file, self._header, variable)
        encoding = {"dtype": array.dtype, "original_shape": array.shape}
        return Variable(variable.dims, indexing.LazilyIndexedArray(array), attributes, encoding)


def _attribute(name: str, value: Values) -> Any:  # noqa: ANN401 - text, a number or several
    if value.dtype.kind == "S":
        text = value.tobytes()
        return text if name == "_FillValue" else text.decode(errors="replace").replace("\0", "")
    value = value.astype(value.dtype.newbyteorder("="))
    return value[0] if value.size == 1 else value


class _Lazy(BackendArray):
    """The values of a variable, of which boxes are read."""

    def __init__(self, file: RemoteFile, header: Header, variable: ClassicVariable) -> None:
        self._file = file
        self._header = header
        self._variable = variable
        self.shape = header.shape(variable)
        self.dtype = variable.dtype.newbyteorder("=")

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:  # noqa: ANN401 - an array, or one element
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._read)

    def _read(self, key: tuple[int | slice, ...]) -> Any:  # noqa: ANN401 - as above
        asked = [range(length)[one] for length, one in zip(self.shape, key, strict=True)]
        indices = [range(one, one + 1) if isinstance(one, int) else one for one in asked]
        box = [(min(one, default=0), max(one, default=-1) + 1) for one in indices]
        offsets, nbytes = self._header.runs(self._variable, box)
        values = _gathered(self._file, offsets, nbytes).view(self._variable.dtype)
        if values.dtype != self.dtype:
            values = values.byteswap(inplace=True).view(self.dtype)
        values = values.reshape([stop - start for start, stop in box])
        return values[
            tuple(
                0 if isinstance(one, int) else slice(None, None, one.step) if len(one) else slice(0, 0) for one in asked
            )
        ]


def _gathered(file: RemoteFile, offsets: _Offsets, nbytes: int) -> npt.NDArray[np.uint8]:
    """The bytes of pieces of a file, all of one length, behind each other."""
    whole = np.empty(offsets.size * nbytes, np.uint8)
    if nbytes > _GAP:
        parts = [
            (int(begin) + at, int(begin) + min(nbytes, at + _SPAN))
            for begin in offsets
            for at in range(0, nbytes, _SPAN)
        ]
        done = 0
        for data in file.ranges(parts):
            whole[done : done + len(data)] = data
            done += len(data)
        return whole
    spans = list(_spans(offsets, nbytes))
    pieces = whole.reshape(offsets.size, nbytes)
    read = file.ranges([(int(offsets[first]), int(offsets[behind - 1]) + nbytes) for first, behind in spans])
    for (first, behind), data in zip(spans, read, strict=True):
        _take(np.frombuffer(data, np.uint8), offsets[first:behind] - offsets[first], pieces[first:behind])
    return whole


def _spans(offsets: _Offsets, nbytes: int) -> Iterator[tuple[int, int]]:
    """The first of those pieces that are read together, and the one behind the last."""
    far = np.flatnonzero(np.diff(offsets) > _GAP + nbytes) + 1
    bounds = [0, *far.tolist(), offsets.size] if offsets.size else []
    for begin, end in pairwise(bounds):
        first = begin
        while first < end:
            near = int(np.searchsorted(offsets[first:end], offsets[first] + _SPAN - nbytes, side="right"))
            behind = first + max(1, near)
            yield first, behind
            first = behind


def _take(data: npt.NDArray[np.uint8], places: _Offsets, into: npt.NDArray[np.uint8]) -> None:
    """Put pieces of what was read at some places behind each other."""
    count, nbytes = into.shape
    if nbytes >= _GATHERED // 256:
        for piece, place in zip(into, places, strict=True):
            piece[:] = data[place : place + nbytes]
        return
    within = np.arange(nbytes, dtype=np.int64)
    step = max(1, _GATHERED // nbytes)
    for at in range(0, count, step):
        into[at : at + step] = data[places[at : at + step, None] + within]
