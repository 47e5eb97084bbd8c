"""Indexed workers: a run without a coordinator. The first starts it, each writes its share, the last finishes it.

Workers see each other through the run directory alone. Whatever one has put there stays when it is restarted,
so each may be restarted at any moment.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from frazil_functions.errors import BackendError, FrazilError, IncompleteRunError, InvalidInputError
from frazil_functions.rundir import RunDirectory, RunOutcome, RunRecord
from frazil_functions.runs.finish import check_published, finish
from frazil_functions.runs.following import Following
from frazil_functions.runs.gather import Gathering
from frazil_functions.runs.run import Run, open_run
from frazil_functions.tasks import Written
from frazil_functions.writing.task import write_task

logger = logging.getLogger(__name__)

type Assignment = Literal["contiguous", "spread"]
"""`contiguous`: neighbouring tasks, which read the same files. `spread`: every total-th task, which evens out tasks
that become harder along the axis."""

_LONGEST_SECONDS: Final = 60.0
_POLL_SECONDS: Final = (0.2, 5.0)


@dataclass(frozen=True, slots=True)
class Place:
    """Which of the workers this is.

    Attributes
    ----------
    index, total
        0 to total - 1, and how many there are.
    assignment
        How tasks are shared.
    start_deadline
        Seconds to wait for the first worker to start the run.
    finish_deadline
        Seconds to wait, in the last worker, without any new receipt of the others.
    attempts, backoff
        How often a task is tried that fails for a reason that may pass, and the seconds before the second attempt; each
        further one waits twice as long.
    """

    index: int
    total: int
    assignment: Assignment = "contiguous"
    start_deadline: float = 1800.0
    finish_deadline: float = 3600.0
    attempts: int = 3
    backoff: float = 1.0

    def __post_init__(self) -> None:
        if self.total < 1:
            raise InvalidInputError(f"there are {self.total} workers; at least one must be at work")
        if not 0 <= self.index < self.total:
            raise InvalidInputError(f"there is no worker {self.index} of {self.total}; they are 0 to {self.total - 1}")
        if self.attempts < 1 or self.backoff < 0:
            raise InvalidInputError(
                f"a task would be tried {self.attempts} times, {self.backoff:g} s apart; use 1 and 0 or more"
            )
        for name in ("start_deadline", "finish_deadline"):
            if not getattr(self, name) > 0:
                raise InvalidInputError(f"{name} is {getattr(self, name)}; it must be more than 0 seconds")

    @property
    def first(self) -> bool:
        """Whether this worker starts the run."""
        return self.index == 0

    @property
    def last(self) -> bool:
        """Whether this worker finishes the run."""
        return self.index == self.total - 1

    def share(self, tasks: int) -> Sequence[int]:
        """The numbers of the tasks that are this worker's.

        Examples
        --------
        >>> [list(Place(index, 3).share(7)) for index in range(3)]
        [[0, 1], [2, 3], [4, 5, 6]]
        >>> [list(Place(index, 3, "spread").share(7)) for index in range(3)]
        [[0, 3, 6], [1, 4], [2, 5]]
        """
        if self.assignment == "spread":
            return range(self.index, tasks, self.total)
        return range(tasks * self.index // self.total, tasks * (self.index + 1) // self.total)


def work(place: Place, directory: RunDirectory, start: Callable[[], Run], job: str = "") -> RunOutcome | None:
    """Do one worker's part of a run; the outcome, if this worker finished it or found it ended.

    Parameters
    ----------
    place
        Which worker this is.
    directory
        Where the run lives.
    start
        Starts the run; called by the first worker, unless it has started or ended already.
    job
        The digest of the job file; the run must have been started with the same.

    Raises
    ------
    InvalidInputError
        If the run in the directory is another one, or was abandoned.
    IncompleteRunError
        If others were waited for in vain, or a source could not be read. Starting the worker again goes on from there.
    """
    record, ended = directory.record(), directory.outcome()
    if record is not None:
        check_job(record, job)
    if ended is not None:
        logger.info("run %s has ended already", directory.run_id)
        return check_published(directory, ended)
    if record is not None:
        run = open_run(directory)
    else:
        run = start() if place.first else wait_for_start(directory, place)
        check_job(run.record, job)
    for number in place.share(len(run.plan.tasks)):
        _write_patiently(run, number, place)
    if not place.last:
        return None
    try:
        return finish(run, wait_for_regions(run, place))
    except BackendError:
        ended = directory.outcome()
        if ended is None:
            raise
        return check_published(directory, ended)  # somebody else has finished it meanwhile, and cleared it


def _write_patiently(run: Run, number: int, place: Place) -> None:
    """Write what is missing of a task, and try again what may pass."""
    for failures in range(1, place.attempts + 1):
        try:
            write_missing(run, number)
        except FrazilError as error:
            if not error.transient or failures == place.attempts:
                raise
            wait = min(_LONGEST_SECONDS, place.backoff * 2.0 ** (failures - 1))
            logger.warning("task %d is tried again in %.1f s: %s", number, wait, error)
            time.sleep(wait)
        else:
            return


def check_job(record: RunRecord, job: str) -> None:
    """Refuse a job file that is not the one that the run was started with.

    Raises
    ------
    InvalidInputError
        Saying what to do.
    """
    if record.job != job:
        raise InvalidInputError(
            f"run {record.run_id} was started with another job file, or with this one before it was changed; take back "
            "what was changed, or give the run another id"
        )


def wait_for_start(directory: RunDirectory, place: Place) -> Run:
    """The run, once the first worker has started it.

    Raises
    ------
    IncompleteRunError
        If that takes longer than the deadline.
    """
    until, pause = time.monotonic() + place.start_deadline, _POLL_SECONDS[0]
    while directory.record() is None:
        if time.monotonic() >= until:
            raise IncompleteRunError(
                f"worker {place.index} of {place.total} waited {place.start_deadline:g} s for worker 0 to start the "
                f"run at {directory.location}, and run.json has not appeared there. See what worker 0 says, and "
                "start this one again"
            )
        time.sleep(min(pause, max(0.0, until - time.monotonic())))
        pause = min(2 * pause, _POLL_SECONDS[1])
    return open_run(directory)


def write_missing(run: Run, number: int) -> Written:
    """Write what is missing of a task, in this process; nothing is missing of a run that has been published.

    Raises
    ------
    InvalidInputError
        If the plan has no such task, a source is not what it was, or the run was abandoned.
    UnreachableSourceError
        If a source cannot be read just now.
    BackendError
        If the run directory or a repository cannot be reached.
    """
    nothing = Written(number, (), 0, 0)
    directory = run.directory
    try:
        gathering = Gathering(run.expected, {})
        gathering.read(directory, directory.list_receipts(number))
    except BackendError:
        ended = directory.outcome()
        if ended is None:
            raise
    else:
        task = run.task(number, gathering.written.keys())
        if task is None:
            return nothing
        # Publishing removes forks and receipts, and what has no receipt any more looks as if it were missing.
        ended = directory.outcome()
        if ended is None:
            return write_task(task)
    check_published(directory, ended)
    return nothing


def wait_for_regions(run: Run, place: Place) -> Gathering:
    """Everything that the workers wrote, merged as it comes.

    Raises
    ------
    IncompleteRunError
        If nothing new came within the deadline, naming the tasks that are waited for.
    """
    gathering = run.gathering()
    following = Following(run.directory, gathering)
    since = time.monotonic()
    while True:
        if following.look():
            since = time.monotonic()
        if not gathering.missing_count or run.directory.outcome() is not None:
            return gathering
        if time.monotonic() - since > place.finish_deadline:
            numbers = [at for at, task in enumerate(run.plan.tasks) if not gathering.written.keys() >= {*task.regions}]
            shown = ", ".join(map(str, numbers[:10])) + (", ..." if len(numbers) > 10 else "")  # noqa: PLR2004
            raise IncompleteRunError(
                f"worker {place.index} of {place.total} waited {place.finish_deadline:g} s for receipts of the tasks "
                f"{shown}, and none came: {gathering.missing_count} of {run.record.regions} regions are missing. "
                "Nothing was published. Start the workers of these tasks again, and this one; or resume run "
                f"{run.run_id}"
            )
        time.sleep(following.wait)
