"""Reading: files of any kind that Xarray opens, as they store their values.

Nothing is decoded here: packed integers stay packed, times stay numbers. What a region needs is
put together from as many files as it takes.
"""

import logging
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

import numpy as np
import xarray as xr
from zarr.storage import ObjectStore

from frazil_functions.encoding import (
    Attributes,
    Values,
    bounded_attributes,
    fill_of,
    native,
    native_attributes,
    recode,
)
from frazil_functions.errors import FrazilError, SourceError, nearest
from frazil_functions.regions import Region
from frazil_functions.remote import RemoteFile, is_remote, remote_fingerprint, remote_magic, store_of
from frazil_functions.tasks import FileSource

logger = logging.getLogger(__name__)

_OPEN_FILES: Final = 16
"""How many files stay open at once; a task visits them in the order of their labels."""

_MAGIC: Final = {
    b"\x89HDF\r\n\x1a\n": "netcdf4",
    b"CDF\x01": "netcdf4",
    b"CDF\x02": "netcdf4",
    b"CDF\x05": "netcdf4",
    b"GRIB": "cfgrib",
}
_ZARR_FILES: Final = ("zarr.json", ".zgroup", ".zmetadata")
_RAW: Final = {
    "mask_and_scale": False,
    "decode_times": False,
    "decode_timedelta": False,
    "decode_coords": False,
    "concat_characters": True,
}


class Source(Protocol):
    """Where a region's values come from."""

    def read(self, region: Region, dtype: str, attributes: Attributes) -> Values:
        """The region's values as an array of `dtype` with `attributes` stores them.

        Returns an array of the region's shape, in the machine's byte order.
        """
        ...


def guess_engine(url: str) -> str:
    """The Xarray engine for a file, by its first bytes.

    Raises
    ------
    SourceError
        If it cannot be read, or is of no kind that is known.
    """
    if is_remote(url):
        magic, zarr = remote_magic(url, _ZARR_FILES)
    else:
        path = Path(url)
        try:
            zarr = path.is_dir() and any((path / name).is_file() for name in _ZARR_FILES)
            if path.is_dir() and not zarr:
                raise SourceError(f"{url} is a directory, and no Zarr hierarchy; name the files in it ({url}/*.nc)")
            magic = b"" if zarr else _head(path)
        except OSError as error:
            raise SourceError(f"{url} cannot be read: {error.strerror or error}") from error
    if zarr:
        return "zarr"
    for start, engine in _MAGIC.items():
        if magic.startswith(start):
            return "h5netcdf" if engine == "netcdf4" and is_remote(url) and magic[:1] == b"\x89" else engine
    if not magic:
        raise SourceError(f"{url} is empty; get it again, or leave it out")
    raise SourceError(
        f"{url} is not a NetCDF, GRIB or Zarr file by its first bytes ({magic[:8]!r}); it may be truncated or of "
        f"another kind. Name the engine that opens it (--engine), one of {', '.join(engines())}."
    )


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(8)


def engines() -> tuple[str, ...]:
    """The names of the installed Xarray engines."""
    return tuple(sorted(xr.backends.list_engines()))


def check_engine(engine: str) -> None:
    """Refuse an engine that is not installed.

    Raises
    ------
    SourceError
        Naming the ones that are.
    """
    if engine not in engines():
        raise SourceError(
            f"no installed Xarray engine is called {engine!r}; {nearest(engine, engines())}. "
            "Install the package that brings it, here and where functions run."
        )


def fingerprint(url: str) -> str:
    """What tells whether a file has changed: its size and when it was last modified.

    Empty for what has neither (a Zarr hierarchy).
    """
    if is_remote(url):
        return remote_fingerprint(url)
    path = Path(url)
    try:
        stat = path.stat()
    except OSError as error:
        raise SourceError(f"{url} cannot be read: {error.strerror or error}") from error
    return "" if path.is_dir() else f"{stat.st_size}:{stat.st_mtime_ns}"


def open_raw(url: str, engine: str) -> xr.Dataset:
    """The file as a lazy dataset of what it stores, nothing decoded.

    Raises
    ------
    SourceError
        If it cannot be opened, with the engine's own words.
    """
    check_engine(engine)
    accepted = xr.backends.list_engines()[engine].open_dataset_parameters or ()
    options: dict[str, Any] = {name: value for name, value in _RAW.items() if name in accepted}
    where: str | RemoteFile | ObjectStore[Any] = url
    if is_remote(url) and engine in {"h5netcdf", "scipy"}:
        where = RemoteFile(url)
    if is_remote(url) and engine == "zarr":
        where = ObjectStore(store_of(url.rstrip("/")), read_only=True)
    if engine == "netcdf4" and is_remote(url):
        raise SourceError(
            f"{url}: classic NetCDF is read from a local disk alone with the netcdf4 engine; "
            "copy it first, or install SciPy and use --engine scipy"
        )
    try:
        with warnings.catch_warnings():
            # Xarray says that a hierarchy without consolidated metadata opens slower; that is how it came.
            warnings.filterwarnings("ignore", "Failed to open Zarr store with consolidated", RuntimeWarning)
            # A variable that has one dimension twice can be left out; planning refuses it otherwise.
            warnings.filterwarnings("ignore", "Duplicate dimension names present", UserWarning)
            return xr.open_dataset(
                where,  # type: ignore[arg-type] # a file object is one of what it takes
                engine=engine,
                chunks=None,
                cache=False,
                create_default_indexes=False,
                **options,
            )
    except FrazilError:
        raise
    except Exception as error:  # engines raise whatever they like, and each means: not readable
        raise SourceError(f"{url} cannot be opened with the engine {engine!r}: {_words(error)}") from error


def read_raw(dataset: xr.Dataset, url: str, name: str, slices: tuple[slice, ...]) -> Values:
    """Values of one variable as the file stores them, in the machine's byte order.

    Raises
    ------
    SourceError
        If they cannot be read: the file is truncated, or damaged, or does not have the variable.
    """
    if name not in dataset.variables:
        raise SourceError(f"{url} does not have the variable {name!r}")
    variable = dataset.variables[name]
    try:
        values = native(variable[slices].values)
    except FrazilError:
        raise
    except Exception as error:  # as above
        part = ", ".join(f"{part.start}:{part.stop}" for part in slices)
        raise SourceError(f"{url}: {name!r}[{part}] cannot be read: {_words(error)}") from error
    if values.dtype.kind == "O" and variable.dtype.kind in "biufc":
        raise SourceError(
            f"{url}: {name!r} has elements of different lengths, which Zarr cannot store; name the variables to write "
            "(--variables) and leave it out"
        )
    return values


def _words(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


class FileSources:
    """Files that follow each other along one dimension, read as one.

    Parameters
    ----------
    files
        In the order of their place along it.
    append_dim
        Its name; None if there is but one file.
    """

    def __init__(self, files: Sequence[FileSource], append_dim: str | None) -> None:
        self._files = tuple(files)
        self._append_dim = append_dim
        self._open: OrderedDict[str, xr.Dataset] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._open:
            self._open.popitem()[1].close()

    def read(self, region: Region, dtype: str, attributes: Attributes) -> Values:
        """The region's values as an array of `dtype` with `attributes` stores them.

        Indices that no file covers hold the array's fill value.

        Raises
        ------
        SourceError
            If a file cannot be read, or has changed since the plan was made.
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

    def _read_part(
        self, file: FileSource, inside: tuple[slice, ...], region: Region, dtype: str, attributes: Attributes
    ) -> Values:
        dataset = self._dataset(file)
        values = read_raw(dataset, file.url, region.array, inside)
        variable = dataset.variables[region.array]
        if variable.dims != region.dims:
            raise SourceError(f"{file.url}: {region.array!r} has dimensions {variable.dims}, not {region.dims}")
        if values.shape != tuple(part.stop - part.start for part in inside):
            raise SourceError(f"{file.url}: {region.array!r} is shorter than it was when the plan was made; plan again")
        if region.array in file.recode:
            every = {str(key): dict(one.attrs) for key, one in dataset.variables.items()}
            own = native_attributes(variable.dtype, bounded_attributes(region.array, every))
            return recode(region.array, xr.Variable(region.dims, values, own), attributes, dtype)
        # Strings of fixed length are shorter in some files than in others.
        return values.astype(dtype) if values.dtype.kind == "S" else values

    def _dataset(self, file: FileSource) -> xr.Dataset:
        if file.url in self._open:
            self._open.move_to_end(file.url)
            return self._open[file.url]
        if len(self._open) >= _OPEN_FILES:
            self._open.popitem(last=False)[1].close()
        now = fingerprint(file.url)
        if file.fingerprint and now != file.fingerprint:
            raise SourceError(
                f"{file.url} has changed since the plan was made (size and time were {file.fingerprint}, are {now}); "
                "plan again"
            )
        logger.debug("opening %s", file.url)
        self._open[file.url] = open_raw(file.url, file.engine)
        return self._open[file.url]


def _replace(slices: tuple[slice, ...], axis: int, part: slice) -> tuple[slice, ...]:
    return (*slices[:axis], part, *slices[axis + 1 :])


def _filled(shape: tuple[int, ...], dtype: str, attributes: Attributes) -> Values:
    fill = fill_of(dtype, attributes)
    if dtype == "string":
        return np.full(shape, fill, dtype=object)
    return np.zeros(shape, dtype) if fill is None else np.full(shape, fill, dtype)
