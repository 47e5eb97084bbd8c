"""Sources: where a region's values come from, put together from as many files as it takes."""

import logging
import math
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from itertools import product
from types import TracebackType
from typing import Final, Protocol, Self, runtime_checkable

import numpy as np
import xarray as xr

from frazil_functions.errors import InvalidInputError, SourceError
from frazil_functions.reading.encoding import (
    STRING,
    Attributes,
    Values,
    bounded_attributes,
    fill_of,
    native_attributes,
    recode,
)
from frazil_functions.reading.opening import TIED, check_unchanged, is_fetched, open_raw, read_raw
from frazil_functions.reading.remote import PATIENCE, Pages, is_remote
from frazil_functions.reading.rounding import Clipped
from frazil_functions.regions import Region
from frazil_functions.storage import Patience
from frazil_functions.tasks import FileSource

logger = logging.getLogger(__name__)

_OPEN_FILES: Final = 16
"""How many files stay open at once; a task visits them in the order of their labels."""

_FETCHED_FILES: Final = 2
"""How many of them may lie on the local disk whole; a function may have half a gigabyte of it."""

_CHUNK_CACHES: Final = 64 << 20
"""Bytes of chunks that the netCDF library may keep for what was read; one variable may exceed it."""

_CHUNK_CACHE: Final = 16 << 20
"""Bytes of chunks that it keeps for one variable, unless a single chunk is larger."""


class Source(Protocol):
    """Where a region's values come from."""

    def read(self, region: Region, dtype: str, attributes: Attributes) -> Values:
        """The region's values as an array of `dtype` with `attributes` stores them.

        Returns an array of the region's shape, in the machine's byte order.
        """
        ...


@runtime_checkable
class Renewable(Source, Protocol):
    """A source that can be opened again, without anything that was kept of what it read before."""

    def anew(self) -> AbstractContextManager[Source]:
        """The same source, nothing of it opened or read yet; to be left before this one is read again."""
        ...


@dataclass(slots=True)
class _Opened:
    """An open file, and how many bytes of chunks the netCDF library may keep for each variable that was read."""

    file: FileSource
    dataset: xr.Dataset
    patience: Patience
    cached: dict[str, int] = field(default_factory=dict)

    @property
    def fetched(self) -> bool:
        return is_fetched(self.dataset, self.file.url, self.file.engine)

    @property
    def nbytes(self) -> int:
        return sum(self.cached.values())

    def close(self, *, check: bool = True) -> None:
        """Close it, and see that what was read was the file of the plan."""
        self.dataset.close()
        if check:
            _check(self.file, self.patience)


def _check(file: FileSource, patience: Patience) -> None:
    if not (is_remote(file.url) and file.engine in TIED):
        check_unchanged(file.url, file.fingerprint, patience)


class FileSources:
    """Files that follow each other along one dimension, read as one.

    Parameters
    ----------
    files
        In the order of their place along it.
    append_dim
        Its name; None if there is but one file.
    patience
        How long remote storage is waited for.
    """

    def __init__(self, files: Sequence[FileSource], append_dim: str | None, patience: Patience = PATIENCE) -> None:
        self._files = tuple(files)
        self.clipped = Clipped()
        self._append_dim = append_dim
        self._patience = patience
        self._open: OrderedDict[str, _Opened] = OrderedDict()
        self._pages = Pages()
        self._read: dict[str, FileSource] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(check=error is None)

    def anew(self) -> "FileSources":
        """The same files, to be opened again: with no handle, page or chunk that was kept of what was read before.

        These ones are closed for it, and opened again when they are read: HDF5 gives who opens a file that is open in
        the process already the chunks that it keeps of it.

        Raises
        ------
        SourceError
            If one of the files has changed since the plan was made.
        """
        self._close(check=True)
        self._pages = Pages()
        return FileSources(self._files, self._append_dim, self._patience)

    def _close(self, *, check: bool) -> None:
        with ExitStack() as closing:
            for opened in self._open.values():
                closing.callback(opened.close, check=check)
            self._open.clear()

    def read(self, region: Region, dtype: str, attributes: Attributes) -> Values:
        """The region's values as an array of `dtype` with `attributes` stores them.

        Indices that no file covers hold the array's fill value.

        Raises
        ------
        SourceError
            If a file cannot be read, or has changed since the plan was made; an
            UnreachableSourceError if its storage did not answer.
        """
        span = region.span(self._append_dim) if self._append_dim is not None else None
        if span is None or self._append_dim is None:
            return self._read_part(self._files[0], region.slices, region, dtype, attributes)
        start, stop = span
        axis = region.dims.index(self._append_dim)
        parts = [file for file in self._files if file.start < stop and start < file.stop]
        if len(parts) == 1 and parts[0].start <= start and stop <= parts[0].stop:
            inside = _replace(region.slices, axis, slice(start - parts[0].start, stop - parts[0].start))
            return self._read_part(parts[0], inside, region, dtype, attributes)
        values = _filled(region.shape, dtype, attributes)
        for file in parts:
            low, high = max(start, file.start), min(stop, file.stop)
            inside = _replace(region.slices, axis, slice(low - file.start, high - file.start))
            into = _replace((slice(None),) * len(region.shape), axis, slice(low - start, high - start))
            values[into] = self._read_part(file, inside, region, dtype, attributes)
        return values

    def check(self) -> None:
        """See that what was read so far was the files of the plan; may run beside a `read`.

        Raises
        ------
        SourceError
            If one of the files has changed since the plan was made.
        """
        for file in tuple(self._read.values()):
            _check(file, self._patience)

    def _read_part(
        self, file: FileSource, inside: tuple[slice, ...], region: Region, dtype: str, attributes: Attributes
    ) -> Values:
        self._read[file.url] = file
        dataset = self._dataset(file, region.array)
        variable = dataset.variables.get(region.array)
        if variable is not None and variable.dims != region.dims:
            raise SourceError(f"{file.url}: {region.array!r} has dimensions {variable.dims}, not {region.dims}")
        values = _read_placed(dataset, file, region, inside)
        assert variable is not None
        if values.shape != tuple(part.stop - part.start for part in inside):
            raise SourceError(f"{file.url}: {region.array!r} is shorter than it was when the plan was made; plan again")
        if region.array in file.recode:
            every = {str(key): dict(one.attrs) for key, one in dataset.variables.items()}
            own = native_attributes(variable.dtype, bounded_attributes(region.array, every))
            clip = self.clipped if region.array in file.clip else None
            try:
                return recode(region.array, xr.Variable(region.dims, values, own), attributes, dtype, clip)
            except InvalidInputError as error:
                raise type(error)(f"{file.url}, within {region}: {error}") from error
        return _as_planned(values, dtype, region, file)

    def _dataset(self, file: FileSource, name: str) -> xr.Dataset:
        """The file, opened; others are closed if they would hold too much beside it."""
        if file.url not in self._open:
            self._open[file.url] = self._opened(file)
        self._open.move_to_end(file.url)
        opened = self._open[file.url]
        opened.cached.setdefault(name, _chunk_cache(opened.dataset, file.engine, name))
        while len(self._open) > 1 and sum(one.nbytes for one in self._open.values()) > _CHUNK_CACHES:
            self._open.popitem(last=False)[1].close()
        if opened.nbytes > _CHUNK_CACHES and len(opened.cached) > 1:  # nothing but closing it frees them
            self._open.pop(file.url).close()
            return self._dataset(file, name)
        return opened.dataset

    def _opened(self, file: FileSource) -> _Opened:
        fetched = [url for url, one in self._open.items() if one.fetched]
        if file.engine == "netcdf4" and is_remote(file.url) and len(fetched) >= _FETCHED_FILES:
            self._open.pop(fetched[0]).close()
        if len(self._open) >= _OPEN_FILES:
            self._open.popitem(last=False)[1].close()
        check_unchanged(file.url, file.fingerprint, self._patience)
        logger.debug("opening %s", file.url)
        dataset = open_raw(file.url, file.engine, file.fingerprint, self._pages, self._patience)
        return _Opened(file, dataset, self._patience)


def _chunk_cache(dataset: xr.Dataset, engine: str, name: str) -> int:
    """The most bytes of chunks that the netCDF library keeps of a variable until its file is closed."""
    variable = dataset.variables.get(name)
    chunks = variable.encoding.get("chunksizes") if variable is not None and engine == "netcdf4" else None
    if variable is None or not chunks:
        return 0
    return int(min(variable.nbytes, max(_CHUNK_CACHE, math.prod(chunks) * variable.dtype.itemsize)))


def _read_placed(dataset: xr.Dataset, file: FileSource, region: Region, inside: tuple[slice, ...]) -> Values:
    """What the file holds of some indices, put where the target has it."""
    if not any(dim in file.places for dim in region.dims):
        return read_raw(dataset, file.url, region.array, inside)
    axes = [
        [(part, part, 1)]
        if dim not in file.places
        else [(*found, one.step) for one in file.places[dim] if (found := one.part(part.start, part.stop)) is not None]
        for dim, part in zip(region.dims, inside, strict=True)
    ]
    whole: Values | None = None
    for combined in product(*axes):
        values = read_raw(dataset, file.url, region.array, tuple(theirs for _, theirs, _ in combined))
        if values.shape != tuple(ours.stop - ours.start for ours, _, _ in combined):
            return values  # it is too short, which the caller tells
        turned = values[tuple(slice(None, None, step) for _, _, step in combined)]
        if whole is None:
            whole = np.empty(tuple(part.stop - part.start for part in inside), values.dtype)
        whole[
            tuple(
                slice(ours.start - part.start, ours.stop - part.start)
                for (ours, _, _), part in zip(combined, inside, strict=True)
            )
        ] = turned
    assert whole is not None  # the plan has shown that every label of a region is the file's
    return whole


def _replace(slices: tuple[slice, ...], axis: int, part: slice) -> tuple[slice, ...]:
    return (*slices[:axis], part, *slices[axis + 1 :])


def _filled(shape: tuple[int, ...], dtype: str, attributes: Attributes) -> Values:
    fill = fill_of(dtype, attributes)
    if dtype == STRING:
        return np.full(shape, fill, dtype=object)
    return np.zeros(shape, dtype) if fill is None else np.full(shape, fill, dtype)


def _as_planned(values: Values, dtype: str, region: Region, file: FileSource) -> Values:
    """The values if their type is the target's; Zarr would turn any other into it, whatever becomes of them."""
    if dtype == STRING:
        if values.dtype.kind in "OTU":
            return values
    elif values.dtype == np.dtype(dtype).newbyteorder("="):
        return values
    elif values.dtype.kind == "S" and values.dtype.itemsize <= np.dtype(dtype).itemsize:
        return values.astype(dtype)  # strings of fixed length are shorter in some files than in others
    raise SourceError(
        f"{file.url}: {region.array!r} is stored as {values.dtype}, and was planned to be {dtype}; plan again"
    )
