"""The run directory: a place in object storage, or on disk, that belongs to one run.

Functions say there how far they are. What lies there is data, carries no secret, and is gone when
the run has ended.
"""

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore

from frazil_functions.errors import BackendError
from frazil_functions.reading.remote import is_remote, store_below

PROGRESS = "progress"
"""The folder that holds how far each task is."""

_ERRORS: Final = (BaseError, OSError)
_FETCHES: Final = 16


@dataclass(frozen=True, slots=True)
class TaskProgress:
    """How far a task is.

    Attributes
    ----------
    task
        The task's number.
    regions, nbytes
        How many regions are written, and the size of their values in bytes.
    """

    task: int
    regions: int
    nbytes: int


def open_run_directory(url: str) -> ObjectStore:
    """The store below a run directory's URL; a local one is created.

    Raises
    ------
    BackendError
        If it cannot be.
    """
    try:
        return store_below(url) if is_remote(url) else LocalStore(url, mkdir=True)
    except _ERRORS as error:
        raise BackendError(f"the run directory {url} cannot be opened: {error}") from error


def put_progress(store: ObjectStore, progress: TaskProgress) -> None:
    """Say how far a task is, in place of what it said before.

    Raises
    ------
    BackendError
        If it cannot be stored.
    """
    try:
        obstore.put(store, f"{PROGRESS}/{progress.task:06d}", msgspec.json.encode(progress))
    except _ERRORS as error:
        raise BackendError(f"the progress of task {progress.task} cannot be stored: {error}") from error


def read_progress(store: ObjectStore) -> list[TaskProgress]:
    """How far every task is that said so.

    Raises
    ------
    BackendError
        If the directory cannot be read, or holds something else.
    """
    try:
        paths = [meta["path"] for page in obstore.list(store, PROGRESS) for meta in page]
        with ThreadPoolExecutor(_FETCHES, "frazil-progress") as pool:
            found = pool.map(lambda path: bytes(obstore.get(store, path).bytes()), paths)
            return [msgspec.json.decode(data, type=TaskProgress) for data in found]
    except (*_ERRORS, msgspec.MsgspecError) as error:
        raise BackendError(f"the run directory cannot be read: {error}") from error


def remove_progress(url: str) -> None:
    """Delete what tasks said, and a local run directory if nothing else is in it.

    Raises
    ------
    BackendError
        If something cannot be deleted.
    """
    try:
        if not is_remote(url):
            shutil.rmtree(Path(url) / PROGRESS, ignore_errors=True)
            if Path(url).is_dir() and not any(Path(url).iterdir()):
                Path(url).rmdir()
            return
        store = store_below(url)
        paths = [meta["path"] for page in obstore.list(store, PROGRESS) for meta in page]
        if paths:
            obstore.delete(store, paths)
    except _ERRORS as error:
        raise BackendError(f"what tasks said in {url} cannot be removed: {error}") from error
