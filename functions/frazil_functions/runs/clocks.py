"""Clocks: this machine's against the storage's."""

import contextlib
import time
from typing import Final

import obstore
from obstore.exceptions import BaseError

from frazil_functions.errors import BackendError
from frazil_functions.locations import Location
from frazil_functions.storage import open_store
from frazil_functions.text import words

APART_SECONDS: Final = 60.0
"""How far this machine's clock may be from the storage's.

Icechunk orders what is done to a repository by the clocks of those who do it: after one that is ahead, nobody else can
commit until the time has come that it said. It refuses ten minutes itself, but not before it has made a branch.
"""

_CLOCK: Final = "clock"


def safe_now(place: Location) -> float:
    """The time by this machine's clock or the storage's, whichever is earlier; puts an object there and deletes it.

    Raises
    ------
    BackendError
        If the storage refuses.
    """
    return min(time.time(), storage_now(place))


def storage_now(place: Location) -> float:
    """The time by the storage's clock, in seconds since 1970; puts an object there and deletes it.

    Raises
    ------
    BackendError
        If the storage refuses.
    """
    try:
        store = open_store(place)
        obstore.put(store, _CLOCK, b"", use_multipart=False)
        theirs = obstore.head(store, _CLOCK)["last_modified"].timestamp()
        with contextlib.suppress(BaseError, OSError):  # it may be gone, or not be ours to delete; it harms nobody
            obstore.delete(store, _CLOCK)
    except FileNotFoundError:  # somebody else has deleted it in between
        return time.time()
    except (BaseError, OSError) as error:
        raise BackendError(f"{place}/{_CLOCK} cannot be stored: {words(error)}") from error
    return theirs


def check_clock(place: Location) -> None:
    """Refuse a machine whose clock is wrong, before it commits anything.

    Raises
    ------
    BackendError
        Saying how far it is off.
    """
    apart = time.time() - storage_now(place)
    if abs(apart) > APART_SECONDS:
        raise BackendError(
            f"this machine's clock is {abs(apart):.0f} s {'ahead of' if apart > 0 else 'behind'} that of the storage "
            f"at {place}. Commits are ordered by clocks, so others could not commit after it; set the clock"
        )
