"""Opening: one file of any kind that Xarray opens, as it stores its values; nothing is decoded here."""

import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Final

import icechunk
import numpy as np
import xarray as xr
import zarr.storage

from frazil_functions.errors import FrazilError, SourceError, nearest
from frazil_functions.reading.classic import check_length, is_classic
from frazil_functions.reading.classic_store import ClassicStore
from frazil_functions.reading.encoding import (
    Values,
    native,
)
from frazil_functions.reading.failures import source_error
from frazil_functions.reading.remote import (
    PATIENCE,
    ZARR_FILES,
    Pages,
    RemoteFile,
    fetch,
    is_remote,
    remote_fingerprint,
    remote_has,
    remote_magic,
    store_below,
)
from frazil_functions.storage import Patience
from frazil_functions.text import words

_MAGIC: Final = {
    b"\x89HDF\r\n\x1a\n": "netcdf4",
    b"CDF\x01": "netcdf4",
    b"CDF\x02": "netcdf4",
    b"CDF\x05": "netcdf4",
    b"GRIB": "cfgrib",
}
_GRIB: Final = ("cfgrib", "gribberish")
"""Engines for GRIB; the first that is installed is taken where nobody names one."""
_TAKE_FILES: Final = ("h5netcdf", "scipy")
_TAKE_CLASSIC: Final = ("netcdf4", "scipy")
_PIECE: Final = 1 << 20
_HDF_ERROR: Final = -101  # NC_EHDFERR in netcdf.h
TIED: Final = ("netcdf4", *_TAKE_FILES)
"""Engines whose every read behind a URL is of the object that was opened."""

_RAW: Final = {
    "mask_and_scale": False,
    "decode_times": False,
    "decode_timedelta": False,
    "decode_coords": False,
    "concat_characters": True,
    "collapse_groups": True,  # all of a GRIB file is one dataset, if it can be
    "phony_dims": "sort",  # dimensions without a name get the one that the netCDF library gives them
}


class RaggedError(SourceError):
    """A variable has elements of different lengths, for which Zarr has no type."""


class HalfPrecisionError(SourceError):
    """The netcdf4 engine takes half-precision numbers for strings, and crashes when it reads them."""


def guess_engine(url: str, patience: Patience = PATIENCE) -> str:
    """The Xarray engine for a file, by its first bytes.

    Raises
    ------
    SourceError
        If it cannot be read, or is of no kind that is known.
    """
    try:
        magic = remote_magic(url, patience) if is_remote(url) else _head(Path(url))
        for start, engine in _MAGIC.items():
            if magic.startswith(start):
                if engine == _GRIB[0]:
                    return next((one for one in _GRIB if one in engines()), engine)
                return "h5netcdf" if engine == "netcdf4" and is_remote(url) and magic[:1] == b"\x89" else engine
        if _is_zarr(url, patience):
            return "zarr"
    except OSError as error:
        raise source_error(f"{url} cannot be read: {error.strerror or error}", error) from error
    if not magic and not is_remote(url) and Path(url).is_dir():
        raise SourceError(f"{url} is a directory, and no Zarr hierarchy; name the files in it ({url}/*.nc)")
    if not magic:
        what = "does not exist, or is empty" if is_remote(url) else "is empty"
        raise SourceError(f"{url} {what}; get it again, or leave it out")
    raise SourceError(
        f"{url} is not a NetCDF, GRIB or Zarr file by its first bytes ({magic[:8]!r}); it may be truncated or of "
        f"another kind. Name the engine that opens it (--engine), one of {', '.join(engines())}."
    )


def _is_zarr(url: str, patience: Patience) -> bool:
    if is_remote(url):
        return remote_has(url, ZARR_FILES, patience)
    return any((Path(url) / name).is_file() for name in ZARR_FILES)


def _head(path: Path) -> bytes:
    if path.is_dir():
        return b""
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


def fingerprint(url: str, patience: Patience = PATIENCE) -> str:
    """What tells whether a file has changed: its size and when it was last modified.

    Those of its metadata for a Zarr hierarchy; empty for what has neither.
    """
    if is_remote(url):
        return remote_fingerprint(url, patience)
    path = Path(url)
    if path.is_dir():
        path = next((path / name for name in ZARR_FILES if (path / name).is_file()), path)
    try:
        stat = path.stat()
    except OSError as error:
        raise source_error(f"{url} cannot be read: {error.strerror or error}", error) from error
    return "" if path.is_dir() else f"{stat.st_size}:{stat.st_mtime_ns}"


def check_unchanged(url: str, mark: str, patience: Patience = PATIENCE) -> None:
    """Refuse a file that is not the one that `fingerprint` gave the mark of; anything goes if that was empty.

    Raises
    ------
    SourceError
        With both.
    """
    now = fingerprint(url, patience) if mark else mark
    if now != mark:
        raise SourceError(
            f"{url} has changed since the plan was made (size and time were {mark}, are {now}); plan again"
        )


def open_raw(
    url: str, engine: str, mark: str = "", pages: Pages | None = None, patience: Patience = PATIENCE
) -> xr.Dataset:
    """The file as a lazy dataset of what it stores, nothing decoded.

    Parameters
    ----------
    url, engine
        Where it is, and the name of the Xarray engine that opens it.
    mark
        What `fingerprint` said of it: an object that is another one when it is read is an error. A
        local file is not looked at; `check_unchanged` does that after the last read.
    pages
        Where pages of remote files are kept.
    patience
        How long remote storage is waited for, now and at each read.

    Raises
    ------
    SourceError
        If it cannot be opened, with the engine's own words; a HalfPrecisionError if reading it
        would end the process.
    """
    check_engine(engine)
    where: Any = url
    with ExitStack() as held:
        if is_remote(url):
            where = held.enter_context(_remote(url, engine, mark, pages, patience))
        elif Path(url).is_file():
            _check_local(Path(url), url, engine)
        opener = "store" if isinstance(where, ClassicStore) else engine
        try:
            with warnings.catch_warnings():
                # Metadata that is not consolidated takes longer to read, and that is all.
                warnings.filterwarnings("ignore", "Failed to open Zarr store with consolidated", RuntimeWarning)
                # A variable that has one dimension twice can be left out; planning refuses it otherwise.
                warnings.filterwarnings("ignore", "Duplicate dimension names present", UserWarning)
                dataset = xr.open_dataset(
                    where,
                    engine=opener,
                    chunks=None,
                    cache=False,
                    create_default_indexes=False,
                    **_options(opener),
                )
        except FrazilError:
            raise
        except Exception as error:  # engines raise whatever they like, and each means: not readable
            _check_answers(url, error)
            message = f"{url} cannot be opened with the engine {engine!r}: {_words(error)}"
            raise source_error(message, error) from error
        _close_after(dataset, held.pop_all())
    return dataset


def open_raw_store(store: icechunk.IcechunkStore, url: str, group: str) -> xr.Dataset:
    """A group of a repository as it stores its values, as `open_raw` opens a file.

    Raises
    ------
    SourceError
        If it cannot be opened.
    """
    where: Any = store  # Xarray's types know paths and files alone
    try:
        return xr.open_dataset(
            where,
            engine="zarr",
            group=group or None,
            consolidated=False,
            zarr_format=3,
            chunks=None,
            cache=False,
            create_default_indexes=False,
            **_options("zarr"),
        )
    except Exception as error:  # as in `open_raw`
        raise SourceError(f"{url} cannot be opened: {_words(error)}") from error


def _options(engine: str) -> dict[str, Any]:
    """What an engine is told so that it decodes nothing."""
    accepted = xr.backends.list_engines()[engine].open_dataset_parameters or ()
    return {name: value for name, value in _RAW.items() if name in accepted}


def is_fetched(dataset: xr.Dataset, url: str, engine: str) -> bool:
    """Whether an open file behind a URL lies on the local disk whole until it is closed."""
    return engine == "netcdf4" and is_remote(url) and "source" in dataset.encoding


def _check_local(path: Path, url: str, engine: str) -> None:
    """Refuse what the netCDF library would read as zeros, or crash at; `url` is what the user calls it."""
    if engine in _TAKE_CLASSIC:
        try:
            with path.open("rb") as file:
                check_length(file, path.stat().st_size, url)
        except OSError as error:
            raise source_error(f"{url} cannot be read: {error.strerror or error}", error) from error
    if engine == "netcdf4":
        _check_no_halves(path, url)


def _check_no_halves(path: Path, url: str) -> None:
    """Refuse half precision; h5py alone can look, for the netCDF library calls it text, or crashes.

    Nor may two threads be in that library at once, whoever they are; Xarray sees to that where it opens files.
    """
    import h5py  # noqa: PLC0415 - not every function reads HDF5, and it takes a while

    try:
        file = h5py.h5f.open(os.fsencode(path), h5py.h5f.ACC_RDONLY)
    except (OSError, RuntimeError):  # no HDF5, or a damaged one; the engine says so in its own words
        return

    def half(name: bytes, info: Any) -> str | None:  # noqa: ANN401 - h5py has no types
        if info.type != h5py.h5o.TYPE_DATASET:
            return None
        kind = h5py.h5d.open(file, name).get_type()
        narrow = kind.get_class() == h5py.h5t.FLOAT and kind.get_size() == np.dtype("f2").itemsize
        return name.decode(errors="replace") if narrow else None

    try:
        found = h5py.h5o.visit(file, half, info=True)
    except (OSError, RuntimeError, KeyError):  # as above
        return
    finally:
        file.close()
    if found:
        raise HalfPrecisionError(
            f"{url}: {found!r} has half-precision numbers, which the netcdf4 engine cannot read; use --engine h5netcdf"
        )


@contextmanager
def _remote(url: str, engine: str, mark: str, pages: Pages | None, patience: Patience) -> Iterator[Any]:
    """What an engine opens in place of a URL."""
    if engine == "zarr":
        yield zarr.storage.ObjectStore(store_below(url, patience), read_only=True)
    elif engine in TIED:
        with RemoteFile(url, mark, pages, patience) as opened:
            classic = _classic(opened, url) if engine in _TAKE_CLASSIC else None
            opened.seek(0)
            if engine != "netcdf4":
                yield opened
            elif classic is not None:
                yield classic
            else:
                # The library reads from a local disk alone, so the file comes here whole until it is closed.
                with NamedTemporaryFile(prefix="frazil-", suffix=".nc") as file:
                    fetch(opened, file.file)
                    _check_local(Path(file.name), url, engine)
                    yield file.name
    else:
        yield url


def _classic(file: RemoteFile, url: str) -> ClassicStore | None:
    """A file as Xarray takes it if it is classic, and as long as its header says; None if it is of another kind."""
    try:
        if not is_classic(file):
            return None
        check_length(file, file.size, url)
        return ClassicStore(file)
    except OSError as error:
        raise source_error(words(error), error) from error


def _close_after(dataset: xr.Dataset, held: ExitStack) -> None:
    close = dataset._close  # noqa: SLF001 - what set_close replaces; there is no other way to ask for it

    def both() -> None:
        with held:
            if close is not None:
                close()

    dataset.set_close(both)


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
        _check_answers(url, error)
        part = ", ".join(f"{part.start}:{part.stop}" for part in slices)
        raise source_error(f"{url}: {name!r}[{part}] cannot be read: {_words(error)}", error) from error
    if values.dtype.kind == "O" and variable.dtype.kind in "biufc":
        raise RaggedError(
            f"{url}: {name!r} has elements of different lengths, which Zarr cannot store; name the variables to write "
            "(--variables) and leave it out"
        )
    return values


def _check_answers(url: str, error: Exception) -> None:
    """Read a local file to its end if the netCDF library failed at it, which does not say why.

    Raises
    ------
    UnreachableSourceError
        If it is the file system that fails.
    """
    silent = isinstance(error, RuntimeError) or (isinstance(error, OSError) and error.errno == _HDF_ERROR)
    if not silent or is_remote(url) or not Path(url).is_file():
        return
    try:
        with Path(url).open("rb", buffering=0) as file:
            at = 0
            while part := os.pread(file.fileno(), _PIECE, at):
                at += len(part)
    except OSError as failure:
        raise source_error(f"{url} cannot be read: {failure.strerror or failure}", failure) from failure


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {words(error)}"
