"""Following a run: what its functions say of their progress, told to whoever listens."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Final

from frazil.report import Listener, Progress
from frazil_functions.errors import BackendError
from frazil_functions.rundir import open_run_directory, read_progress, remove_progress

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
"""How long to wait between two looks at the run directory, at least."""

type Tell = Callable[[int, int], None]
"""Told how many regions are done, and the bytes of their values."""


@contextlib.contextmanager
def following(directory: str | None, regions: int, nbytes: int, listener: Listener) -> Iterator[Tell]:
    """Tell the listener what receipts show, and between them what the functions themselves say.

    Parameters
    ----------
    directory
        The run directory; without one, receipts alone tell.
    regions, nbytes
        Of the whole plan.
    listener
        Called from a thread of its own, too, but never from two at once, and never with less than before.
    """
    lock = threading.Lock()
    furthest = (-1, -1)

    def tell(done: int, done_bytes: int) -> None:
        nonlocal furthest
        with lock:
            if (done, done_bytes) > furthest:
                furthest = (done, done_bytes)
                listener(Progress("write", done, regions, done_bytes, nbytes))

    if directory is None:
        yield tell
        return
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(LOOK_SECONDS):
            try:
                said = read_progress(open_run_directory(directory))
            except BackendError as error:
                logger.info("progress cannot be followed: %s", error)
                return
            tell(sum(one.regions for one in said), sum(one.nbytes for one in said))

    thread = threading.Thread(target=look, name="frazil-following", daemon=True)
    thread.start()
    try:
        yield tell
    finally:
        ended.set()
        thread.join()
        try:
            remove_progress(directory)
        except BackendError as error:
            logger.warning("%s", error)
