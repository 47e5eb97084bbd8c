"""Garbage collection of a repository: what failed and ended runs have left."""

from datetime import timedelta
from pathlib import Path

import icechunk

from frazil_functions.errors import InvalidInputError
from frazil_functions.locations import Location, locate, location_of
from frazil_functions.repositories import open_repository
from frazil_functions.runs.garbage import ABANDON_AFTER, OLDER_THAN, Ages, Collected, collect


def gc(
    repo: str | Path | Location | icechunk.Repository,
    *,
    delete: bool = False,
    older_than: timedelta = OLDER_THAN,
    abandon_after: timedelta = ABANDON_AFTER,
) -> Collected:
    """Remove what runs have left: chunks that nothing refers to, old run directories, stale private branches.

    Nothing that a run in flight needs is removed: every run that has not ended holds back all objects that are as
    old as itself, less an hour for clocks that differ. Readers are not disturbed.

    Parameters
    ----------
    repo
        The repository, open, or where it is.
    delete
        Whether to remove anything. By default nothing is written, and the result says what would be removed.
    older_than
        Objects that nothing refers to, and directories of runs that have ended, go at this age. Sessions that other
        programs have open are not known here; choose it longer than any of them lasts.
    abandon_after
        A run that has not ended is abandoned this long after its last sign of life, and cannot be resumed then.

    Returns
    -------
    Collected
        What was removed, and what could not be.

    Raises
    ------
    InvalidInputError
        If there is no repository, its storage has no name, or an age is negative.
    BackendError
        If the storage cannot be reached, or Icechunk gives up.

    Examples
    --------
    >>> repo = open_repository("archive-of-gc.icechunk")
    >>> gc(repo).objects.chunks
    0
    """
    ages = Ages(older_than, abandon_after)
    if isinstance(repo, icechunk.Repository):
        opened, location = repo, location_of(repo)
    else:
        location = locate(repo)
        opened = open_repository(location, create=False)
    if location is None:
        raise InvalidInputError("the repository's storage has no name, so there is no place beside it that holds runs")
    return collect(opened, location, ages, delete=delete)
