"""Objects that are put once, whole, and never changed; whoever is first is right.

It knows object storage and disks, and what a network may do to a request; it knows nothing of what the objects say.
"""

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, ObjectStore

from frazil_functions.errors import BackendError
from frazil_functions.locations import Location
from frazil_functions.reading.failures import is_transient
from frazil_functions.storage import Patience, open_store
from frazil_functions.text import with_remedy

_ERRORS: Final = (BaseError, OSError)
_LOOKS: Final = 5
"""How often to look for an object that is said to exist; a request that lost a race may be told so early."""


class ImmutableObjects:
    """The objects below a location. Opening them makes nothing.

    Every method raises BackendError if the storage does not answer, or refuses.
    """

    def __init__(self, location: Location, patience: Patience) -> None:
        self._location = location
        self._patience = patience
        self._opened: ObjectStore | None = None

    def put(self, name: str, data: bytes) -> bytes:
        """Put an object unless it is there; returns the bytes that stand.

        A put on condition is tried again here, for the library does not where the connection broke. It may have been
        stored although nothing says so, and a request that lost a race may be told that an object exists before
        it does: what stands decides.
        """
        store = self._store(make=True)
        assert store is not None
        for pause in self._pauses():
            try:
                obstore.put(store, name, data, mode="create", use_multipart=False)
            except AlreadyExistsError as error:
                # A repeated request whose first answer was lost is told this too, of its own bytes; and one that met
                # another of the same name is, although neither may have been done.
                standing = self._standing(name)
                if standing is not None:
                    return standing
                if pause is None:
                    raise self._refused(name, "stored", error) from error
            except _ERRORS as error:
                # A conditional request whose connection broke may have been done, so obstore does not repeat it.
                # Here it may be: whatever stands then is told apart by its bytes.
                if pause is None or not is_transient(error):
                    raise self._refused(name, "stored", error) from error
                time.sleep(pause)
            else:
                return data
        raise AssertionError  # the last pause is none

    def _standing(self, name: str) -> bytes | None:
        """The bytes of an object that is said to be there; None if it does not turn up."""
        for look in range(_LOOKS):
            standing = self.get(name)
            if standing is not None:
                return standing
            time.sleep(self._patience.first_pause * 2**look)
        return None

    def get(self, name: str) -> bytes | None:
        """An object's bytes; None if there is none."""
        store = self._store()
        if store is None:
            return None
        for pause in self._pauses():
            try:
                return bytes(obstore.get(store, name).bytes())
            except FileNotFoundError as error:  # what obstore raises in place of its own NotFoundError
                if "NoSuchBucket" in str(error):
                    raise self._refused(name, "read", error) from error
                return None
            except _ERRORS as error:
                # An answer that breaks off in its body is not asked for again by obstore.
                if pause is None or not is_transient(error):
                    raise self._refused(name, "read", error) from error
                time.sleep(pause)
        raise AssertionError  # the last pause is none

    def names(self, folder: str, first: str | None, behind: str) -> Iterator[str]:
        """What lies in a folder, after `first` and before `behind` in the order of names; not sorted on a disk."""
        store = self._store()
        if store is None:
            return
        try:
            for page in obstore.list(store, folder, offset=first):
                paths = [meta["path"] for meta in page]
                yield from (path for path in paths if path < behind)
                if not isinstance(store, LocalStore) and any(path >= behind for path in paths):
                    break  # object storage lists in order, and so need not be asked for the rest
        except _ERRORS as error:
            raise self._refused(folder, "listed", error) from error

    def modified(self) -> dict[str, float]:
        """Every object, and when it was put: seconds since 1970, by the storage's clock."""
        store = self._store()
        if store is None:
            return {}
        try:
            return {meta["path"]: meta["last_modified"].timestamp() for page in obstore.list(store) for meta in page}
        except _ERRORS as error:
            raise self._refused("", "listed", error) from error

    def remove(self, names: list[str]) -> None:
        """Delete objects."""
        store = self._store()
        if store is None or not names:
            return
        try:
            if isinstance(store, LocalStore):
                for name in names:
                    with suppress(FileNotFoundError):  # somebody else is removing it, too
                        obstore.delete(store, name)
            else:
                obstore.delete(store, names)
        except _ERRORS as error:
            raise self._refused(names[0], "deleted", error) from error

    def remove_folder(self, name: str, staged: re.Pattern[str]) -> None:
        """Delete a local folder that nothing is left in but what killed writers had not finished."""
        path = self._location.path
        if path is None or not (path / name).is_dir():
            return
        try:
            for file in (path / name).iterdir():
                if staged.fullmatch(file.name):
                    file.unlink(missing_ok=True)
            (path / name).rmdir()
        except OSError:
            return  # something else is in it, and that is not ours to delete

    def _store(self, *, make: bool = False) -> ObjectStore | None:
        """The store; None for a local directory that does not exist, unless it is to be made."""
        path = self._location.path
        if self._opened is None or (path is not None and not path.is_dir()):
            if path is not None and not make and not path.exists():
                return None
            try:
                self._opened = open_store(self._location, self._patience)
            except _ERRORS as error:
                raise self._refused("", "opened", error) from error
        return self._opened

    def _refused(self, name: str, what: str, error: Exception) -> BackendError:
        return refused(f"{self._location}/{name}".rstrip("/"), what, error)

    def _pauses(self) -> Iterator[float | None]:
        """The seconds to wait before each further try; None when there were enough."""
        until, pause = time.monotonic() + self._patience.retrying, self._patience.first_pause
        while time.monotonic() + pause < until:
            yield pause
            pause = min(2 * pause, self._patience.longest_pause)
        yield None


def refused(where: str, what: str, error: Exception) -> BackendError:
    """The error of storage that does not do what is asked of it."""
    return BackendError(f"{where} cannot be {what}: {with_remedy(error)}")
