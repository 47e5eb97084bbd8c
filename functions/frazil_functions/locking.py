"""The lock of a local repository."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import filelock

from frazil_functions.errors import BackendError
from frazil_functions.locations import Location

_LOCK_SECONDS: Final = 120.0


@contextlib.contextmanager
def exclusive(location: Location | None) -> Iterator[None]:
    """Hold a local repository's lock; object storage needs none.

    A local file system has no atomic replacement of a file on condition, so two commits at once
    can lose one of them. The lock file stands beside the repository.

    Raises
    ------
    BackendError
        If somebody else holds the lock for two minutes.
    """
    path = location.path if location is not None else None
    if path is None:
        yield
        return
    file = lock_file(path)
    lock = filelock.FileLock(file, timeout=_LOCK_SECONDS)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout as error:
        raise BackendError(
            f"another process has held {file} for {_LOCK_SECONDS:.0f} s; wait for it, or end it"
        ) from error
    except OSError as error:
        raise BackendError(
            f"{file} cannot be made ({error.strerror or error}), and without it two commits at once could lose one; "
            "make the directory that it lies in writable"
        ) from error
    try:
        yield
    finally:
        lock.release()


def lock_file(path: Path) -> Path:
    """The lock file of the repository in a directory; it stands beside it."""
    return path.with_name(path.name + ".frazil") / "lock"
