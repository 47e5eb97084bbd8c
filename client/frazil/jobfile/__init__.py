"""Job files: what a `job.toml` or `job.yaml` may say, read strictly and filled in for one start of the job.

It knows the keys, their types, defaults and descriptions, how they are spelled on a command line, and how a file is
told from a changed one. What the options do, and whether they fit the sources and the repository, `frazil.job` knows.
"""

from frazil.jobfile.filling import job_start_of
from frazil.jobfile.keys import JobFile, Retry, Worker
from frazil.jobfile.load import Said, load, load_said, start_time
from frazil.jobfile.schema import descriptions, schema

__all__ = [
    "JobFile",
    "Retry",
    "Said",
    "Worker",
    "descriptions",
    "job_start_of",
    "load",
    "load_said",
    "schema",
    "start_time",
]
