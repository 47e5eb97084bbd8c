"""The keys of a job file, their types and defaults, and how a file is told from a changed one."""

import hashlib
from dataclasses import dataclass, fields, replace

import msgspec

from frazil.jobfile.options import Job, Kept, Starting, Tries, Waits, Where
from frazil.jobfile.spelling import Seconds, Text, Texts
from frazil_functions.runs.worker import Assignment


@dataclass(frozen=True, kw_only=True)
class Retry(Waits, Tries):
    """The table `[retry]`: calls that fail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """The table `[worker]`: workers that share a run, each with an index.

    Attributes
    ----------
    assignment
        Whether a worker's tasks follow each other, or are spread over the whole plan.
    start_deadline
        Seconds that a worker waits for the run to be started by another.
    finish_deadline
        Seconds that the worker which finishes the run waits for what the others write.
    """

    assignment: Assignment = "contiguous"
    start_deadline: Seconds = 1800.0
    finish_deadline: Seconds = 3600.0


@dataclass(frozen=True, kw_only=True)
class JobFile(Starting, Kept, Where, Job):
    """A job: what is written from where, and how it is run.

    Its placeholders are filled in, and its paths absolute.

    Attributes
    ----------
    sources
        Files to write: paths, URLs, globs of either, text files of them. Needed, here or on the command line.
    repository
        Where the repository is or is to be: a path, s3://, gs:// or az://. Needed, here or on the command line.
    retry
        Calls that fail.
    worker
        Workers that share a run, each with an index (`frazil worker`).
    """

    sources: Text | Texts = ()
    repository: Text = ""
    retry: Retry = Retry()
    worker: Worker = Worker()

    @property
    def digest(self) -> str:
        """SHA-256 of what the file means, in hexadecimal: the same for files that mean the same."""
        # A difference is accepted or not, however often and wherever it is named; a variable is copied or not.
        # Where functions run, how long to wait, and how often to try, changes nothing of what is written.
        same = replace(
            self,
            accept=tuple(sorted(set(self.accept))),
            load=None if self.load is None else tuple(sorted(set(self.load))),
            containers=tuple(sorted(set(self.containers))),
            backend=None,
            lithops_config=None,
            run_dir=None,
            function_logs=False,
            run_id=None,
            resume=False,
            retry=Retry(),
            worker=Worker(assignment=self.worker.assignment),
        )
        return hashlib.sha256(msgspec.json.encode(same, order="sorted")).hexdigest()

    @property
    def work_digest(self) -> str:
        """SHA-256 of what the file says is written, from where and into what, in hexadecimal; not how that is run."""
        said = {one.name: getattr(self, one.name) for one in fields(Job)}
        said |= {"sources": self.sources, "repository": self.repository, "accept": sorted(set(self.accept))}
        said |= {"load": sorted(set(self.load or ())), "containers": sorted(set(self.containers))}
        return hashlib.sha256(msgspec.json.encode(said, order="sorted")).hexdigest()
