"""Files in object storage or behind HTTP, read by ranges through one library."""

import io
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import batched
from typing import IO, TYPE_CHECKING, Final
from urllib.parse import quote, unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore, from_url

from frazil_functions.errors import SourceError
from frazil_functions.reading.failures import source_error
from frazil_functions.storage import Patience, connection_settings
from frazil_functions.text import words

if TYPE_CHECKING:
    from obstore import ObjectMeta  # a type of the stubs alone

_SCHEMES: Final = ("s3", "s3a", "gs", "az", "abfs", "http", "https")
_WEB: Final = ("http", "https")
_PAGE: Final = 1 << 20
_PAGES: Final = 64
_PART: Final = 32 << 20
_AT_ONCE: Final = 8
"""How many ranges of a file are asked for at once."""

ZARR_FILES: Final = (".zmetadata", "zarr.json", ".zgroup", ".zarray")
"""What holds the metadata of a Zarr hierarchy, of everything below it or of itself."""

_FROM: Final = (io.SEEK_SET, io.SEEK_CUR, io.SEEK_END)


_ERRORS: Final = (BaseError, OSError)


def is_remote(url: str) -> bool:
    """Whether a source is named by a URL rather than by a path."""
    scheme, separator, _ = url.partition("://")
    return bool(separator) and scheme.lower() in _SCHEMES


PATIENCE: Final = Patience()
"""A minute and a half at most for a host that is dead, a minute for one that throttles; a function has fifteen."""


@lru_cache(maxsize=64)
def store_of(root: str, patience: Patience = PATIENCE) -> ObjectStore:
    """The store below a URL. Credentials are the environment's, at the first request."""
    scheme = root.partition("://")[0]
    return from_url(root, **connection_settings(scheme, patience, allow_http=scheme == "http"))


def split(url: str, patience: Patience = PATIENCE) -> tuple[ObjectStore, str]:
    """The store that a URL lies in, and its path there.

    Raises
    ------
    SourceError
        If there is no such store, or `check_url` refuses it.
    """
    root, path = _root_and_path(url)
    try:
        return store_of(root, patience), path
    except (BaseError, ValueError) as error:
        raise SourceError(f"{url} cannot be read: {words(error)}") from error


def check_url(url: str) -> None:
    """Refuse an HTTP URL with a query or a password, which a store cannot carry along.

    Raises
    ------
    SourceError
        With the URL without them, for they are secrets.
    """
    scheme, _, rest = url.partition("://")
    if scheme.lower() not in _WEB:
        return
    try:
        parts = urlsplit(url)
    except ValueError as error:
        shown = rest.partition("?")[0].rpartition("@")[2]
        raise SourceError(f"{scheme}://{shown} is no URL: {error}") from None
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    instead = "files are read by ranges below a store, which has none. Use the store's own URL (s3://, gs://, az://)."
    if "@" in parts.netloc:
        raise SourceError(f"{shown} was given with a user's name or password; {instead}")
    if parts.query:
        raise SourceError(f"{shown} is followed by a query, as signed URLs are; {instead}")


def _root_and_path(url: str) -> tuple[str, str]:
    """Where a store begins, and a path below it. Keys of objects are taken as they are: # and ? may be in them."""
    check_url(url)
    scheme, _, rest = url.partition("://")
    if scheme.lower() in _WEB:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.netloc}", unquote(parts.path.lstrip("/"))  # the store quotes it again
    bucket, _, key = rest.partition("/")
    return f"{scheme.lower()}://{bucket}", key.lstrip("/")


def store_below(url: str, patience: Patience = PATIENCE) -> ObjectStore:
    """The store of what lies below a URL, as a Zarr hierarchy does; raises as `split` does."""
    split(url, patience)
    root, path = _root_and_path(url)
    return store_of(f"{root}/{quote(path.rstrip('/'))}".rstrip("/"), patience)


def remote_fingerprint(url: str, patience: Patience = PATIENCE) -> str:
    """The size, and the entity tag or the time of the last change; of a Zarr hierarchy, those of its metadata.

    Empty for what is neither.
    """
    store, path = split(url, patience)
    for key in (path, *(f"{path.rstrip('/')}/{name}".lstrip("/") for name in ZARR_FILES)):
        try:
            return _mark(obstore.head(store, key))
        except FileNotFoundError:  # what obstore raises in place of its own NotFoundError
            continue
        except _ERRORS as error:
            raise source_error(f"{url} cannot be read: {words(error)}", error) from error
    return ""


def _mark(meta: "ObjectMeta") -> str:
    return f"{meta['size']}:{meta['e_tag'] or meta['last_modified'].isoformat()}"


def remote_magic(url: str, patience: Patience = PATIENCE) -> bytes:
    """The first eight bytes of an object; none if there is no object."""
    store, path = split(url, patience)
    try:
        return bytes(obstore.get_range(store, path, start=0, end=8))
    except FileNotFoundError:
        return b""
    except _ERRORS as error:
        raise source_error(f"{url} cannot be read: {words(error)}", error) from error


def remote_has(url: str, names: Sequence[str], patience: Patience = PATIENCE) -> bool:
    """Whether one of the names lies below the URL."""
    store, path = split(url, patience)
    for name in names:
        try:
            obstore.head(store, f"{path.rstrip('/')}/{name}".lstrip("/"))
        except FileNotFoundError:
            continue
        except _ERRORS as error:
            raise source_error(f"{url} cannot be read: {words(error)}", error) from error
        return True
    return False


class Pages:
    """Pages of remote files that are kept, at most 64 MiB of them; those not used for longest go first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str, int], bytes] = OrderedDict()

    @property
    def nbytes(self) -> int:
        """How much is kept."""
        return sum(map(len, self._kept.values()))

    def kept(self, key: tuple[str, str, int]) -> bytes | None:
        """The page of a URL, a fingerprint and a number, if it is kept."""
        return self._kept.get(key)

    def get(self, key: tuple[str, str, int], read: Callable[[], bytes]) -> bytes:
        """The page of a URL, a fingerprint and a number, read if it is not kept."""
        if key not in self._kept:
            while len(self._kept) >= _PAGES:
                self._kept.popitem(last=False)
            self._kept[key] = read()
        self._kept.move_to_end(key)
        return self._kept[key]


class RemoteFile(io.RawIOBase):
    """One object as a seekable file; small reads come from pages of a mebibyte that are kept.

    HDF5 reads its metadata in many small pieces all over the file, and its chunks each at once.

    Parameters
    ----------
    url
        Where it is.
    mark
        What `remote_fingerprint` said of it: anything else that is found there is an error. Empty
        to take what is there now.
    pages
        Where its pages are kept; they are its own if None.
    patience
        How long its storage is waited for.
    """

    def __init__(self, url: str, mark: str = "", pages: Pages | None = None, patience: Patience = PATIENCE) -> None:
        self._pages = Pages() if pages is None else pages
        self._url = url
        self._store, self._path = split(url, patience)
        if not mark:
            try:
                mark = _mark(obstore.head(self._store, self._path))
            except _ERRORS as error:
                raise source_error(f"{url} cannot be read: {words(error)}", error) from error
        self._size = int(mark.partition(":")[0])
        self._seen = mark
        self._at = 0

    @property
    def size(self) -> int:
        """The object's length in bytes."""
        return self._size

    def readable(self) -> bool:
        """Say so."""
        return True

    def seekable(self) -> bool:
        """Say so."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        self._require_open()
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to where the next read begins; beyond the end there is nothing to read."""
        self._require_open()
        if whence not in _FROM or (whence == io.SEEK_SET and offset < 0):
            raise ValueError(f"cannot seek to {offset} from {whence}")
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence])
        return self._at

    def readinto(self, buffer: object, /) -> int:
        """Read up to the buffer's length; fewer bytes only at the end of the file."""
        self._require_open()
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

    def ranges(self, wanted: Sequence[tuple[int, int]]) -> Iterator[memoryview]:
        """The bytes of several ranges, each from its first to the one before its last, in their order.

        They are asked for side by side; what lies in a page that is kept is not asked for.

        Raises
        ------
        OSError
            If one cannot be read, or the object is another one by now.
        """
        self._require_open()
        if len(wanted) == 1:
            yield self._kept_or_asked(wanted[0])
            return
        with ThreadPoolExecutor(_AT_ONCE, "frazil-ranges") as threads:
            for few in batched(wanted, _AT_ONCE):
                yield from threads.map(self._kept_or_asked, few)

    def _kept_or_asked(self, span: tuple[int, int]) -> memoryview:
        (page, offset), length = divmod(span[0], _PAGE), span[1] - span[0]
        kept = self._pages.kept((self._url, self._seen, page)) if offset + length <= _PAGE else None
        return self._range(*span) if kept is None else memoryview(kept)[offset : offset + length]

    def _page(self, page: int) -> bytes:
        start, end = page * _PAGE, min(self._size, (page + 1) * _PAGE)
        return self._pages.get((self._url, self._seen, page), lambda: bytes(self._range(start, end)))

    def _range(self, start: int, end: int) -> memoryview:
        try:
            got = obstore.get(self._store, self._path, options={"range": (start, end)})
            data = memoryview(got.bytes())
        except _ERRORS as error:
            raise OSError(f"{self._url}: the range {start}:{end} cannot be read: {words(error)}") from error
        # Parts of two versions of a file can make a third one that opens without an error.
        if _mark(got.meta) != self._seen or len(data) != end - start:
            raise OSError(f"{self._url} changed while it was read; plan again")
        return data

    def _require_open(self) -> None:
        if self.closed:
            raise ValueError(f"{self._url} is closed")


def fetch(remote: RemoteFile, file: IO[bytes]) -> None:
    """Copy what is left of an object into a file.

    Raises
    ------
    SourceError
        If it cannot be read to its end, or is another one by now.
    """
    try:
        # In parts, each with a time of its own to recover.
        while part := remote.read(_PART):
            file.write(part)
        file.flush()
    except OSError as error:
        raise source_error(words(error), error) from error
