"""Abandoning a run that nobody wants to go on with, so that nothing is left of it and nobody can publish it."""

import logging
import time

import icechunk

from frazil_functions.rundir import RunDirectory, RunOutcome
from frazil_functions.runs.finish import clear
from frazil_functions.runs.run import open_run

logger = logging.getLogger(__name__)


def abandon(directory: RunDirectory, repo: icechunk.Repository | None, reason: str) -> bool:
    """Remove a run that was not published, with its branches; its chunks are garbage then.

    Parameters
    ----------
    directory
        Where it lives.
    repo
        The primary repository, where its location does not open it.
    reason
        Why, for whoever is about to finish it.

    Returns
    -------
    bool
        Whether it is gone; not if somebody has published it.
    """
    if directory.record() is not None:
        run = open_run(directory, repo)
        # First of all nobody may publish it any more; what is published stays.
        ended = directory.put_outcome(RunOutcome("abandoned", (), time.time(), reason))
        if ended.state == "published":
            return False
        clear(run)
    directory.remove()
    logger.info("run %s was removed: %s", directory.run_id, reason)
    return True
