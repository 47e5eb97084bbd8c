"""A job file for one start of the job: the time in its placeholders, and its paths absolute."""

import glob
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from string import Formatter
from typing import Any, Final

from frazil.jobfile.keys import JobFile
from frazil_functions.errors import InvalidInputError

_FILLED: Final = ("sources", "repository", "replicas", "group", "message", "run_dir", "run_id")

_DIRECTIVES: Final = "aAwdbBmyYHIpMSfzZjUWcxXGuV"
"""What `datetime.strftime` documents; what it does with others is up to the system."""


def job_start_of(name: str) -> datetime | None:
    """The time that a Kubernetes CronJob scheduled a Job for, told by the Job's name.

    The Job is named `<cronjob>-<minutes since 1970-01-01T00:00Z>`: `getJobName` and
    `getTimeHashInMinutes` in kubernetes/pkg/controller/cronjob, since Kubernetes 1.21.

    Parameters
    ----------
    name
        A Job's name.

    Returns
    -------
    datetime or None
        In UTC. None for any other name; minutes before 2015, when there was no CronJob, are one,
        and so is every date written as eight digits.

    Examples
    --------
    >>> job_start_of("archive-update-29454120").isoformat()
    '2026-01-01T06:00:00+00:00'
    >>> job_start_of("backfill-20260101") is None
    True
    """
    found = re.fullmatch(r".+-([0-9]{8})", name)
    if found is None:
        return None
    start = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(minutes=int(found[1]))
    return start if start.year >= 2015 else None  # noqa: PLR2004 - the year of Kubernetes 1.0


def filled(job: JobFile, job_start: datetime | None) -> JobFile:
    """The job with its placeholders filled in, and a single source as a list of one."""
    found: dict[str, Any] = {}
    for name in _FILLED:
        value = getattr(job, name)
        if isinstance(value, str):
            found[name] = "".join(_fill(name, value, job_start))
        elif value is not None:
            found[name] = tuple(
                "".join(_fill(f"{name}[{number}]", text, job_start)) for number, text in enumerate(value)
            )
    if isinstance(found["sources"], str):
        found["sources"] = (found["sources"],)
    found["group"] = found["group"].strip("/")
    return replace(job, **found)


def _fill(key: str, text: str, job_start: datetime | None) -> Iterator[str]:
    """The parts of a text, placeholders filled. No error shows the text: a signed URL is a secret."""
    try:
        parts = list(Formatter().parse(text))
    except ValueError as error:
        raise InvalidInputError(f"{key} has a brace without its other one; double it if it is meant as such") from error
    for literal, name, form, conversion in parts:
        yield literal
        if name is None:
            continue
        if name != "job_start" or conversion:
            raise InvalidInputError(
                f"{key} has the placeholder {{{name}}}, and there is {{job_start:FORMAT}} alone, as in "
                "{job_start:%Y-%m-%d}; double braces that are meant as such"
            )
        if not form or "{" in form:
            raise InvalidInputError(f"{key} does not say how to write the time; write {{job_start:%Y-%m-%d}}")
        stray = re.search(rf"%(?![{_DIRECTIVES}]).?", form.replace("%%", ""))
        if stray:
            raise InvalidInputError(f"{key} has {stray[0]!r}, which strftime does not know; use %Y, %m, %d, %H, %M")
        if job_start is None:
            raise InvalidInputError(
                f"{key} is to hold the time that the job started, and that is not known here; give the job start, or "
                "start the job from a CronJob, whose Jobs carry it in their names"
            )
        yield job_start.astimezone(UTC).strftime(form)


def resolved(job: JobFile, folder: Path) -> JobFile:
    """The job with absolute paths."""
    single = {name: getattr(job, name) for name in ("repository", "run_dir", "lithops_config")}
    found: dict[str, Any] = {name: below(folder, path) if path else path for name, path in single.items()}
    return replace(
        job,
        **found,
        sources=tuple(below(folder, source) for source in job.sources),
        replicas=tuple(below(folder, replica) for replica in job.replicas),
        containers=tuple(below(folder, container) for container in job.containers),
    )


def below(folder: Path, text: str) -> str:
    """A path in a folder, or a URL."""
    if "://" in text:
        return text
    path = folder / Path(text).expanduser()
    if glob.has_magic(text) and not path.exists():  # what is a glob in the file stays one; its folder is none
        return os.path.join(glob.escape(str(folder)), Path(text).expanduser())  # noqa: PTH118 - as above
    return str(path)
