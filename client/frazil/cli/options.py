"""Options that commands share, as values; those that job files have too are described in `frazil.jobfile.options`."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter

from frazil.cli.logs import LogFormat
from frazil.execute import Retry
from frazil.execution.executor import Executor
from frazil.execution.lithops import LithopsExecutor
from frazil.execution.serial import SerialExecutor
from frazil.jobfile import options
from frazil.jobfile.options import Kept, Named, Publishing, Starting, Tries, Waits, Where
from frazil.planning.options import MOST_WORKERS
from frazil_functions.errors import InvalidInputError

__all__ = ["Attempts", "Backend", "Job", "Named", "Publishing", "Shown", "Starting", "Where"]

_SHOWN = Group("What is shown", sort_key=4)


@dataclass(frozen=True, kw_only=True)
class Job(options.Job):
    """What is written."""

    def as_keywords(self) -> dict[str, Any]:
        """The options as `frazil.plan` takes them."""
        return {one.name: getattr(self, one.name) for one in fields(self)}


@dataclass(frozen=True, kw_only=True)
class Backend(Waits, Where):
    """Where functions run."""

    def executor(self) -> Executor:
        """The executor that is meant, if it is configured."""
        found = self.chosen()
        if isinstance(found, LithopsExecutor) and (self.backend is not None or self.lithops_config is not None):
            found.check()  # even where the work turns out to be too small to need it
        return found

    def chosen(self) -> Executor:
        """The executor that is meant, whether or not it is configured."""
        if self.workers is not None and not 1 <= self.workers <= MOST_WORKERS:
            raise InvalidInputError(
                f"--workers is {self.workers}; at least one function must run, and at most {MOST_WORKERS}"
            )
        serial = self.backend == "serial"
        found = LithopsExecutor(
            backend=None if serial else self.backend,
            config_file=None if serial or self.lithops_config is None else Path(self.lithops_config),
            workers=self.workers,
            start_deadline=self.start_deadline,
            call_timeout=self.call_timeout,
        )
        return SerialExecutor() if serial else found  # the settings are checked all the same


@dataclass(frozen=True, kw_only=True)
class Attempts(Kept, Tries):
    """How often a task is tried, and where the run is kept."""

    def retry(self) -> Retry:
        """What is meant."""
        return Retry(self.attempts, self.backoff, self.backups)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Shown:
    """What is shown.

    Attributes
    ----------
    json
        Print one JSON object on standard output, and nothing else there.
    quiet
        Show no progress.
    verbose
        Log what goes on, and where an error comes from; twice (-vv), more of it.
    log_format
        What stands on standard error: lines of text, or one JSON object a line.
    """

    json: Annotated[bool, Parameter(group=_SHOWN, negative=())] = False
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], group=_SHOWN, negative=())] = False
    verbose: Annotated[int, Parameter(name=["--verbose", "-v"], group=_SHOWN, count=True)] = 0
    log_format: Annotated[LogFormat, Parameter(group=_SHOWN)] = "text"
