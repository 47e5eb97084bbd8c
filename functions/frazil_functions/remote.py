"""Files in object storage or behind HTTP, read by ranges through one library."""

import io
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import ObjectStore, from_url

from frazil_functions.errors import SourceError

_ABSENT: Final = (NotFoundError, FileNotFoundError)  # obstore raises the one of Python's own
_FAILED: Final = (BaseError, OSError)
_SCHEMES: Final = ("s3", "s3a", "gs", "az", "abfs", "http", "https")
_PAGE: Final = 1 << 20
_PAGES: Final = 32


def is_remote(url: str) -> bool:
    """Whether a source is named by a URL rather than by a path."""
    return urlsplit(url).scheme in _SCHEMES


@lru_cache(maxsize=64)
def store_of(root: str) -> ObjectStore:
    """The store below a URL. Credentials are the environment's, at the first request."""
    if root.startswith("http://"):
        return from_url(root, client_options={"allow_http": True})
    return from_url(root)


def split(url: str) -> tuple[ObjectStore, str]:
    """The store that a URL lies in, and its path there."""
    parts = urlsplit(url)
    return store_of(f"{parts.scheme}://{parts.netloc}"), parts.path.lstrip("/")


def remote_fingerprint(url: str) -> str:
    """The size, and the entity tag or the time of the last change."""
    store, path = split(url)
    try:
        meta = obstore.head(store, path)
    except _ABSENT:
        return ""
    except _FAILED as error:
        raise SourceError(f"{url} cannot be read: {error}") from error
    return f"{meta['size']}:{meta['e_tag'] or meta['last_modified'].isoformat()}"


def remote_magic(url: str, markers: Sequence[str]) -> tuple[bytes, bool]:
    """The first eight bytes of an object, or whether one of the markers lies below the URL."""
    store, path = split(url)
    try:
        return bytes(obstore.get_range(store, path, start=0, end=8)), False
    except _ABSENT:
        pass
    except _FAILED as error:
        raise SourceError(f"{url} cannot be read: {error}") from error
    for marker in markers:
        try:
            obstore.head(store, f"{path.rstrip('/')}/{marker}")
        except _ABSENT:
            continue
        except _FAILED as error:
            raise SourceError(f"{url} cannot be read: {error}") from error
        return b"", True
    raise SourceError(f"{url} does not exist")


class RemoteFile(io.RawIOBase):
    """One object as a seekable file; small reads come from pages of a mebibyte that are kept.

    HDF5 reads its metadata in many small pieces all over the file, and its chunks each at once.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._store, self._path = split(url)
        try:
            self._size = obstore.head(self._store, self._path)["size"]
        except _FAILED as error:
            raise SourceError(f"{url} cannot be read: {error}") from error
        self._at = 0
        self._pages: OrderedDict[int, bytes] = OrderedDict()

    def readable(self) -> bool:
        """Say so."""
        return True

    def seekable(self) -> bool:
        """Say so."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to where the next read begins."""
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def readinto(self, buffer: object, /) -> int:
        """Read up to the buffer's length; fewer bytes only at the end of the file."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        length = max(0, min(len(view), self._size - self._at))
        if length > _PAGE:
            view[:length] = self._range(self._at, self._at + length)
        else:
            done = 0
            while done < length:
                page, offset = divmod(self._at + done, _PAGE)
                part = self._page(page)[offset : offset + length - done]
                view[done : done + len(part)] = part
                done += len(part)
        self._at += length
        return length

    def _page(self, page: int) -> bytes:
        if page not in self._pages:
            if len(self._pages) >= _PAGES:
                self._pages.popitem(last=False)
            self._pages[page] = self._range(page * _PAGE, min(self._size, (page + 1) * _PAGE))
        self._pages.move_to_end(page)
        return self._pages[page]

    def _range(self, start: int, end: int) -> bytes:
        data = bytes(obstore.get_range(self._store, self._path, start=start, end=end))
        if len(data) != end - start:
            raise OSError(f"{self._url}: {len(data)} bytes came for the range {start}:{end}; the object changed")
        return data
