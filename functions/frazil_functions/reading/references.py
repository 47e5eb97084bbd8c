"""References: where the chunks of a file lie, as Icechunk takes them, and what they carry against changes of it."""

import math
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import obstore
from obstore.exceptions import BaseError

from frazil_functions.errors import SourceError
from frazil_functions.layouts import Layout
from frazil_functions.reading.failures import source_error
from frazil_functions.reading.layouts_of import open_referable, readable
from frazil_functions.reading.opening import check_unchanged
from frazil_functions.reading.remote import PATIENCE, Pages, is_remote, split
from frazil_functions.reading.stored import (
    Chunks,
    Mask,
    Referable,
    Sizes,
    Stored,
    UnreferableError,
    grid_of,
    require_virtualizarr,
)
from frazil_functions.storage import Patience
from frazil_functions.text import words

_WEB: Final = ("http", "https")
_TAGGED: Final = ("s3", "s3a")
_SCHEMES: Final = {"s3a": "s3", "abfs": "az"}

type Locations = npt.NDArray[np.object_]


@dataclass(frozen=True, slots=True)
class References:
    """Where the chunks of a variable lie; arrays of the shape of its chunk grid.

    Attributes
    ----------
    locations
        The URL of the file that holds them all, or that of each chunk.
    offsets, lengths
        In bytes.
    stored
        False where there is nothing to refer to: what the variable holds there has to be copied.
    """

    locations: str | Locations
    offsets: Sizes
    lengths: Sizes
    stored: Mask

    def part(self, units: tuple[slice, ...]) -> "References":
        """Those of a part of the grid."""
        locations = self.locations if isinstance(self.locations, str) else self.locations[units]
        return References(locations, self.offsets[units], self.lengths[units], self.stored[units])

    def urls(self) -> list[str]:
        """The location of each chunk in C order, empty where there is none: what Icechunk's bulk path takes."""
        found = np.full(self.stored.shape, "", object)
        found[self.stored] = self.locations if isinstance(self.locations, str) else self.locations[self.stored]
        return [str(url) for url in found.ravel()]


class ReferredFile:
    """A file that references are made to; it is opened at the first question, and each variable is looked at once.

    Parameters
    ----------
    url, engine, mark, pages, patience
        As `frazil_functions.reading.opening.open_raw` takes them.
    """

    def __init__(
        self, url: str, engine: str, mark: str = "", pages: Pages | None = None, patience: Patience = PATIENCE
    ) -> None:
        require_virtualizarr()
        self.url = url
        self._opening = (url, engine, mark, pages, patience)
        self._held = ExitStack()
        self._file: Referable | None = None
        self._seen: dict[tuple[str, int], tuple[Stored, Chunks]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._held.close()

    def references(self, name: str, layout: Layout) -> References:
        """Where the chunks of a variable lie, on the grid that its shape and the layout's chunks make.

        Parameters
        ----------
        name
            The variable.
        layout
            How the array stores them that is to refer to them.

        Raises
        ------
        SourceError
            If the file cannot be read, or ends before a chunk does; if it stores the variable in another way than the
            array would; an UnreferableError if nothing can refer to it.
        """
        where = f"{self.url}: {name!r}"
        try:
            stored, chunks = self._look(name, len(layout.chunks))
        except UnreferableError as error:
            raise UnreferableError(f"{where} cannot be referred to: {error}") from error
        difference = layout.difference(stored.layout)
        if difference:
            raise SourceError(
                f"{where} cannot be referred to, for it has {difference}; copy its values, or leave the file out"
            )
        if layout.chunks != stored.layout.chunks:
            chunks = _cut(chunks, stored, layout.chunks[0])
        url = reference_url(self.url)
        if chunks.keys is None:
            return References(url, chunks.offsets, chunks.lengths, chunks.stored)
        locations = np.full(chunks.stored.shape, "", object)
        locations[chunks.stored] = [f"{url.rstrip('/')}/{quote(key)}" for key in chunks.keys[chunks.stored]]
        return References(locations, chunks.offsets, chunks.lengths, chunks.stored)

    def _look(self, name: str, ndim: int) -> tuple[Stored, Chunks]:
        if (name, ndim) not in self._seen:
            if self._file is None:
                self._file = self._held.enter_context(open_referable(*self._opening))
            with readable(f"{self.url}: where the chunks of {name!r} lie"):
                stored, chunks = self._file.stored(name, ndim), self._file.chunks(name, ndim)
            size = self._file.size
            if size is not None and (chunks.offsets + chunks.lengths > size).any(where=chunks.stored):
                raise SourceError(f"{self.url} is truncated: chunks of {name!r} end behind its {size} bytes")
            self._seen[name, ndim] = stored, chunks
        return self._seen[name, ndim]


def _cut(chunks: Chunks, stored: Stored, rows: int) -> Chunks:
    """Values that stand behind each other, as chunks of some rows; one that is not full cannot be referred to."""
    number = grid_of(stored.shape[:1], (rows,))[0]
    found = Chunks.none((number, *stored.grid[1:]))
    if chunks.stored.any():
        nbytes = rows * math.prod(stored.shape[1:]) * stored.dtype.itemsize
        first = np.arange(number, dtype=np.uint64)
        found.offsets.reshape(-1)[:] = chunks.offsets.reshape(-1)[0] + first * np.uint64(nbytes)
        found.lengths[...] = nbytes
        found.stored.reshape(-1)[:] = (first + np.uint64(1)) * np.uint64(rows) <= stored.shape[0]
    return found


def reference_url(url: str) -> str:
    """The URL that Icechunk takes for a file: paths become file:// URLs, and what has a meaning in URLs is quoted.

    Examples
    --------
    >>> reference_url("/data/warm #1.nc")
    'file:///data/warm%20%231.nc'
    >>> reference_url("s3://raw/50%.nc")
    's3://raw/50%25.nc'
    """
    if not is_remote(url):
        path = Path(url)
        return (path.resolve() if ".." in path.parts else path.absolute()).as_uri()
    scheme, _, rest = url.partition("://")
    if scheme.lower() in _WEB:  # quoted already, as every such URL is
        return f"{scheme.lower()}://{rest}"
    bucket, _, key = rest.partition("/")
    return f"{_SCHEMES.get(scheme.lower(), scheme.lower())}://{bucket}/{quote(key.lstrip('/'))}"


def reference_checksum(url: str, mark: str = "", patience: Patience = PATIENCE) -> str | datetime:
    """What references to a file carry, so that reading them is an error once it has changed.

    The entity tag of an object in S3, or else the time when a file was last changed. That time is in whole seconds,
    and a change within the same one goes unnoticed. Of a Zarr hierarchy, whose chunks are objects of their own, it is
    the time of this call.

    Parameters
    ----------
    url
        The file.
    mark
        What `frazil_functions.reading.opening.fingerprint` said of it; empty to take what is there now.
    patience
        How long its storage is waited for.

    Raises
    ------
    SourceError
        If it cannot be read, or has changed since.
    """
    checksum = _checksum(url, patience)
    check_unchanged(url, mark, patience)
    return checksum


def _checksum(url: str, patience: Patience) -> str | datetime:
    if not is_remote(url):
        try:
            stat = Path(url).stat()
        except OSError as error:
            raise source_error(f"{url} cannot be read: {error.strerror or error}", error) from error
        # A hierarchy is a directory, whose own time says nothing of what lies in it.
        return _now() if Path(url).is_dir() else _from_nanoseconds(stat.st_mtime_ns)
    store, path = split(url, patience)
    try:
        meta = obstore.head(store, path)
    except FileNotFoundError:  # a hierarchy has no object of its own name
        return _now()
    except (BaseError, OSError, ValueError) as error:
        raise source_error(f"{url} cannot be read: {words(error)}", error) from error
    # Icechunk strips the quotes of tags. S3 takes them so; web servers do not, and refuse what has not changed.
    tagged = url.partition("://")[0].lower() in _TAGGED
    if tagged and meta["e_tag"]:
        return meta["e_tag"]
    changed = meta["last_modified"]
    return _whole(changed) if changed.timestamp() else _now()  # some web servers do not say when


def _now() -> datetime:
    """In a second, or two: whoever stores chunks has another clock."""
    return _whole(datetime.now(UTC)) + timedelta(seconds=1)


def _from_nanoseconds(time: int) -> datetime:
    return datetime.fromtimestamp(-(-time // 1_000_000_000), UTC)


def _whole(time: datetime) -> datetime:
    """The time in whole seconds, which is what Icechunk keeps, rounded up."""
    whole = time.replace(microsecond=0)
    return whole if whole == time else whole + timedelta(seconds=1)
