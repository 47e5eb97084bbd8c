"""Following a run: what its functions say of their progress, told to whoever listens."""

import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import Final

from frazil.report import Listener, Progress, silent
from frazil_functions.errors import BackendError
from frazil_functions.rundir import open_run_directory, read_progress, remove

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
"""How often the run directory is listed."""


@contextlib.contextmanager
def following(directory: str | None, regions: int, nbytes: int, listener: Listener) -> Iterator[None]:
    """Tell the listener once a second what the functions say; remove what they said in the end.

    Parameters
    ----------
    directory
        The run directory; nothing is followed without one, or if nobody listens.
    regions, nbytes
        Of the whole plan.
    listener
        Called from a thread of its own.
    """
    if directory is None:
        yield
        return
    ended = threading.Event()
    store = open_run_directory(directory)

    def look() -> None:
        while not ended.wait(LOOK_SECONDS):
            try:
                said = read_progress(store)
            except BackendError as error:
                logger.info("progress cannot be followed: %s", error)
                return
            done = sum(one.regions for one in said)
            listener(Progress("write", done, regions, sum(one.nbytes for one in said), nbytes))

    thread = threading.Thread(target=look, name="frazil-following", daemon=True)
    if listener is not silent:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if listener is not silent:
            thread.join()
        try:
            remove(directory)
        except BackendError as error:
            logger.warning("%s", error)
