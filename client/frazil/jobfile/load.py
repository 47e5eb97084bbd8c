"""From a file to the job that it describes."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from frazil.jobfile.checking import checked
from frazil.jobfile.filling import filled, resolved
from frazil.jobfile.keys import JobFile
from frazil.jobfile.reading import read
from frazil_functions.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class Said:
    """A job file, and which of its options it says itself.

    Attributes
    ----------
    file
        The file.
    job
        What it means.
    options
        The options that stand in it, those of its table `[retry]` among them.
    """

    file: Path
    job: JobFile
    options: Mapping[str, Any]


def load(path: str | Path, job_start: datetime | None = None) -> JobFile:
    r"""The job that a file describes.

    `sources`, `repository`, `replicas`, `group`, `message`, `run_dir` and `run_id` may hold
    `{job_start:FORMAT}`, where FORMAT is one of `datetime.strftime`; braces that are meant as such
    are doubled. Relative paths are relative to the folder of the file, as in the files of Terraform
    and Docker Compose, so a job means the same wherever it is started from.

    Parameters
    ----------
    path
        A TOML file, or a YAML file that ends in .yaml or .yml.
    job_start
        When the job started, with a time zone; filled in as UTC. The time that a job was scheduled
        for serves best: it stays the same when the job is tried again.

    Raises
    ------
    InvalidInputError
        If the file cannot be read, has a key that is not known or a value that cannot be meant,
        lacks the sources or the repository, or has a placeholder that cannot be filled.

    Examples
    --------
    >>> file = Path("job.toml")
    >>> _ = file.write_text('sources = "s3://raw/{job_start:%Y-%m-%d}/*.nc"\nrepository = "archive.icechunk"')
    >>> load(file, datetime(2026, 1, 2, 6, tzinfo=UTC)).sources
    ('s3://raw/2026-01-02/*.nc',)
    """
    found = load_said(path, job_start)
    for name in ("sources", "repository"):
        if not getattr(found.job, name):
            raise InvalidInputError(f"{found.file}: {name} is missing; add it at the top of the file")
    return found.job


def load_said(path: str | Path, job_start: datetime | None = None) -> Said:
    """As `load`, of a file that may leave the sources and the repository to the command line."""
    file = Path(path)
    told = read(file)
    if job_start is not None and job_start.tzinfo is None:
        raise InvalidInputError(f"the job start {job_start} has no time zone; give it one, as in {job_start}+00:00")
    try:
        # The folder as it is named: a mounted file may be a link into a folder that changes its name.
        job = resolved(filled(checked(told), job_start), file.absolute().parent)
    except InvalidInputError as error:
        raise InvalidInputError(f"{file}: {error}") from error
    options = {name: getattr(job, name) for name in told if name not in {"retry", "worker"}}
    return Said(file, job, options | {name: getattr(job.retry, name) for name in told.get("retry", ())})


def start_time(text: str, option: str = "--job-start") -> datetime:
    """A job start as a person writes it: ISO 8601, in UTC where it has no time zone.

    Raises
    ------
    InvalidInputError
        If it is none.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInputError(f"{option} {text!r} is no time in ISO 8601, as 2026-01-31T06:00:00Z is") from error
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
