"""layouts_of: how one file stores the chunks of its variables, by its metadata alone."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import icechunk
import xarray as xr
import zarr
from zarr.core.metadata import ArrayV2Metadata, ArrayV3Metadata

from frazil_functions.errors import FrazilError
from frazil_functions.layouts import Layout
from frazil_functions.reading.classic import ClassicFile, check_length
from frazil_functions.reading.failures import source_error
from frazil_functions.reading.grib import open_grib
from frazil_functions.reading.hdf5 import open_hdf5
from frazil_functions.reading.hierarchies import array_layout, open_hierarchy
from frazil_functions.reading.remote import PATIENCE, Pages, RemoteFile, is_remote, remote_magic
from frazil_functions.reading.stored import Referable, UnreferableError, require_virtualizarr
from frazil_functions.storage import Patience
from frazil_functions.text import words

_NETCDF: Final = ("netcdf4", "h5netcdf", "scipy")


def layouts_of(
    url: str,
    engine: str,
    variables: Mapping[str, xr.Variable],
    mark: str = "",
    pages: Pages | None = None,
    patience: Patience = PATIENCE,
) -> dict[str, Layout | str]:
    """How a file stores the chunks of variables, or why nothing can refer to those.

    Parameters
    ----------
    url, engine, mark, pages, patience
        As `frazil_functions.reading.opening.open_raw` takes them.
    variables
        What that found: references have to give the same.

    Raises
    ------
    SourceError
        If the file cannot be read.
    InvalidInputError
        If VirtualiZarr is not installed.
    """
    require_virtualizarr()
    try:
        with open_referable(url, engine, mark, pages, patience) as file:
            return {name: _layout(file, url, name, variable) for name, variable in variables.items()}
    except UnreferableError as error:
        return dict.fromkeys(variables, str(error))


def layouts_in(store: icechunk.IcechunkStore, url: str, group: str) -> dict[str, Layout | str]:
    """How the arrays of a group of a repository store their chunks, or why they cannot refer to others'.

    Raises
    ------
    SourceError
        If it cannot be read.
    """
    with readable(url):
        arrays = zarr.open_group(store, path=group, mode="r", zarr_format=3).arrays()
        return {name: _own(array.metadata) for name, array in arrays}


def _own(metadata: ArrayV2Metadata | ArrayV3Metadata) -> Layout | str:
    try:
        return array_layout(metadata)
    except UnreferableError as error:
        return str(error)


@contextmanager
def open_referable(
    url: str, engine: str, mark: str = "", pages: Pages | None = None, patience: Patience = PATIENCE
) -> Iterator[Referable]:
    """A file that is open for reading how it is stored; parameters as `layouts_of` takes them.

    Raises
    ------
    SourceError
        If it cannot be opened; an UnreferableError if nothing can refer to files of its kind.
    """
    with ExitStack() as held:
        with readable(url):
            file = held.enter_context(_open(url, engine, mark, pages, patience))
        yield file


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Make a SourceError of whatever a library raises when it reads."""
    try:
        yield
    except FrazilError:
        raise
    except Exception as error:  # libraries raise whatever they like, and each means: not readable
        raise source_error(f"{what} cannot be read: {type(error).__name__}: {words(error)}", error) from error


@contextmanager
def _open(url: str, engine: str, mark: str, pages: Pages | None, patience: Patience) -> Iterator[Referable]:
    if engine in _NETCDF:
        magic = remote_magic(url, patience) if is_remote(url) else _head(Path(url))
        classic = magic[:3] == b"CDF"
        with (open_classic if classic else open_hdf5)(url, mark, pages, patience) as file:
            yield file
        return
    if engine == "zarr":
        with open_hierarchy(url, patience) as hierarchy:
            yield hierarchy
        return
    if engine == "gribberish":
        with open_grib(url, mark, pages, patience) as messages:
            yield messages
        return
    cure = "; files of GRIB can be referred to with --engine gribberish" if engine == "cfgrib" else ""
    raise UnreferableError(f"references cannot be made to what the engine {engine!r} reads here{cure}")


@contextmanager
def open_classic(
    url: str, mark: str = "", pages: Pages | None = None, patience: Patience = PATIENCE
) -> Iterator[ClassicFile]:
    """A classic NetCDF file, here or behind a URL."""
    with RemoteFile(url, mark, pages, patience) if is_remote(url) else Path(url).open("rb") as file:
        size = file.size if isinstance(file, RemoteFile) else Path(url).stat().st_size
        check_length(file, size, url)
        file.seek(0)
        yield ClassicFile(file, size)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)


def _layout(file: Referable, url: str, name: str, variable: xr.Variable) -> Layout | str:
    try:
        with readable(f"{url}: how {name!r} is stored"):
            stored = file.stored(name, variable.ndim)
    except UnreferableError as error:
        return str(error)
    # Whoever writes gives strings and times a type of their own, which these chunks do not have.
    if variable.dtype.kind not in "biufcS":
        return f"its values of the type {variable.dtype} are stored in another way here"
    shape = tuple(variable.shape)  # some engines have a list
    if stored.shape != shape or stored.dtype.newbyteorder("<") != variable.dtype.newbyteorder("<"):
        return (
            f"Xarray reads {variable.dtype} of the shape {shape}, "
            f"and the file stores {stored.dtype} of the shape {stored.shape}"
        )
    return stored.layout
