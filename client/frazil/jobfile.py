"""Job files: what a `job.toml` may say, read strictly and filled in for one start of the job.

It knows the keys, their types and defaults, and how a file is told from a changed one. What the
options do, and whether they fit the sources and the repository, `frazil.job` knows.
"""

import glob
import hashlib
import math
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from reprlib import repr as _brief
from string import Formatter
from typing import Annotated, Any, Final, Literal, get_args, get_type_hints

import msgspec

from frazil.planning.compare import Accept
from frazil.planning.labels import Gaps
from frazil.planning.options import OnAttrs, OnOverlap
from frazil_functions.decoding import convert
from frazil_functions.errors import InvalidInputError, nearest
from frazil_functions.plan import Mode
from frazil_functions.records import Verify
from frazil_functions.runs.worker import Assignment

type _Text = Annotated[str, msgspec.Meta(min_length=1)]
type _Texts = Annotated[tuple[_Text, ...], msgspec.Meta(min_length=1)]
type _Count = Annotated[int, msgspec.Meta(ge=1)]
type _Seconds = Annotated[float, msgspec.Meta(gt=0)]
type _Span = tuple[int, int] | Literal["auto"]
type _Wait = Annotated[float, msgspec.Meta(ge=0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """The table `[retry]`: calls that fail.

    Attributes
    ----------
    attempts
        How often a task is tried in all.
    backoff
        Seconds before the second attempt.
    start_deadline
        Seconds without any call starting or ending after which calls that have not started are given up.
    call_timeout
        Seconds that one call may run; by default what the backend says.
    """

    attempts: _Count = 3
    backoff: _Wait = 1.0
    start_deadline: _Seconds = 300.0
    call_timeout: _Seconds | None = None


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
    start_deadline: _Seconds = 1800.0
    finish_deadline: _Seconds = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFile:
    """What a job file means, with its placeholders filled in and its paths made absolute.

    Attributes
    ----------
    sources
        Files: paths, URLs, globs of either, text files of them.
    repository
        Where the repository is or is to be: a path, s3://, gs:// or az://.
    replicas
        Other repositories that get the same, and are published first.
    mode, group, branch, chunks, shards, append_dim, variables, engine, gaps, accept, on_overlap, region, reorder,
    on_attrs, workers
        As in `frazil.plan`, with the same defaults.
    message, verify
        As in `frazil.run`, with the same defaults.
    retry, worker
        The tables of these names.
    """

    sources: _Text | _Texts
    repository: _Text
    replicas: tuple[_Text, ...] = ()
    group: str = ""
    branch: _Text = "main"
    chunks: Mapping[str, int] | None = None
    shards: Mapping[str, int] | None = None
    append_dim: _Text | None = None
    variables: _Texts | None = None
    engine: _Text | None = None
    gaps: Gaps = "error"
    accept: tuple[Accept, ...] = ()
    on_overlap: OnOverlap = "error"
    region: Mapping[str, _Span] | Literal["auto"] = "auto"
    reorder: bool = False
    on_attrs: OnAttrs | None = None
    mode: Mode = "create"
    message: _Text | None = None
    verify: Verify = "sample"
    workers: _Count | None = None
    retry: Retry = Retry()
    worker: Worker = Worker()

    @property
    def digest(self) -> str:
        """SHA-256 of what the file means, in hexadecimal: the same for files that mean the same."""
        # A difference is accepted or not, however often and wherever it is named.
        # How long to wait, and how often to try, changes nothing of what is written.
        same = replace(
            self,
            accept=tuple(sorted(set(self.accept))),
            retry=Retry(),
            worker=Worker(assignment=self.worker.assignment),
        )
        return hashlib.sha256(msgspec.json.encode(same, order="sorted")).hexdigest()


_TABLES: Final[Mapping[str, type[Retry | Worker]]] = {"retry": Retry, "worker": Worker}

_PATHS: Final = ("sources", "repository", "replicas")
_FILLED: Final = (*_PATHS, "group", "message")

_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "gaps": get_args(Gaps.__value__),
    "accept": get_args(Accept.__value__),
    "mode": get_args(Mode.__value__),
    "on_overlap": get_args(OnOverlap.__value__),
    "verify": get_args(Verify.__value__),
    "worker.assignment": get_args(Assignment.__value__),
}

_DIRECTIVES: Final = "aAwdbBmyYHIpMSfzZjUWcxXGuV"
"""What `datetime.strftime` documents; what it does with others is up to the system."""

_WORDS: Final = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "array": "a list",
    "object": "a table",
    "bool": "true or false",
}

_BOUNDS: Final = {
    " of length >= 1": " that is not empty",
    " >= 1": " of at least 1",
    " >= 0.0": " of at least 0",
    " > 0.0": " greater than 0",
}


def load(path: str | Path, job_start: datetime | None = None) -> JobFile:
    r"""The job that a file describes.

    `sources`, `repository`, `replicas`, `group` and `message` may hold `{job_start:FORMAT}`, where
    FORMAT is one of `datetime.strftime`; braces that are meant as such are doubled. Relative paths
    are relative to the folder of the file, as in the files of Terraform and Docker Compose, so a
    job means the same wherever it is started from.

    Parameters
    ----------
    path
        A TOML file.
    job_start
        When the job started, with a time zone; filled in as UTC. The time that a job was scheduled
        for serves best: it stays the same when the job is tried again.

    Raises
    ------
    InvalidInputError
        If the file cannot be read, has a key that is not known or a value that cannot be meant, or
        has a placeholder that cannot be filled.

    Examples
    --------
    >>> file = Path("job.toml")
    >>> _ = file.write_text('sources = "s3://raw/{job_start:%Y-%m-%d}/*.nc"\nrepository = "archive.icechunk"')
    >>> load(file, datetime(2026, 1, 2, 6, tzinfo=UTC)).sources
    ('s3://raw/2026-01-02/*.nc',)
    """
    file = Path(path)
    try:
        told = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInputError(f"{file} cannot be read as a job file: {error}") from error
    if job_start is not None and job_start.tzinfo is None:
        raise InvalidInputError(f"the job start {job_start} has no time zone; give it one, as in {job_start}+00:00")
    try:
        job = _checked(told)
        # The folder as it is named: a mounted file may be a link into a folder that changes its name.
        return _resolved(_filled(job, job_start), file.absolute().parent)
    except InvalidInputError as error:
        raise InvalidInputError(f"{file}: {error}") from error


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


def _checked(told: Mapping[str, Any]) -> JobFile:
    """The job as the file says it, every key known and every value of its type."""
    _check_table(JobFile, told, "")
    for name in ("sources", "repository"):
        if name not in told:
            raise InvalidInputError(f"{name} is missing; add it at the top of the file, before any [table]")
    found: JobFile = convert(told, JobFile)
    return found


def _check_table(kind: type[JobFile | Retry | Worker], told: object, table: str) -> None:
    """Check a table, or the top level."""
    if not isinstance(told, dict):
        raise InvalidInputError(f"{table} is {_brief(told)}, {_word(told)}; a table is expected: write [{table}]")
    known = get_type_hints(kind, include_extras=True)
    for name, value in told.items():
        if name not in known:
            raise InvalidInputError(_stray(name, table, known))
        if not table and name in _TABLES:
            _check_table(_TABLES[name], value, name)
        else:
            _check_value(f"{table}.{name}".lstrip("."), value, known[name])


def _stray(name: str, table: str, known: Mapping[str, Any]) -> str:
    here = f"in [{table}]" if table else "at the top level"
    if table and name in {field.name for field in fields(JobFile)}:
        return f"{name!r} stands {here}, and belongs above the first [table] of the file"
    owners = [other for other, kind in _TABLES.items() if name in {field.name for field in fields(kind)}]
    if owners:
        return f"there is no key {name!r} {here}; it belongs in {' or '.join(f'[{owner}]' for owner in owners)}"
    return f"there is no key {name!r} {here}; {nearest(name, known)}"


def _check_value(key: str, value: object, kind: object) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidInputError(f"{key} is {value}; a finite number is expected")
    try:
        convert(value, kind)
    except msgspec.ValidationError as error:
        said, _, where = str(error).partition(" - at `$")
    else:
        return
    if isinstance(value, dict) and where:  # which entry of a mapping it is, msgspec does not say
        for name, entry in value.items():
            _check_value(f"{key}.{name}", entry, int)
    if isinstance(value, list) and (index := re.match(r"\[(\d+)\]", where)):
        at = int(index[1])
        key, value = f"{key}[{at}]", value[at]
    choices = _CHOICES.get(key.partition("[")[0], ())
    if said.startswith("Invalid enum value"):
        raise InvalidInputError(f"{key} cannot be {value!r}; {_suggestion(str(value), choices)}")
    raise InvalidInputError(f"{key} is {_brief(value)}, {_word(value)}; {_expectation(said, choices)}")


def _suggestion(word: str, choices: tuple[str, ...]) -> str:
    return (
        f"{nearest(word, choices)} (of {', '.join(choices)})" if len(choices) > 1 else f"there is {choices[0]!r} alone"
    )


def _expectation(said: str, choices: tuple[str, ...]) -> str:
    """What msgspec expected, in words for people."""
    if choices and "`array`" not in said:
        return f"one of {', '.join(choices)} is expected"
    kinds, _, bound = said.removeprefix("Expected `").partition(", got")[0].partition("`")
    words = " or ".join(_WORDS[kind] for kind in kinds.split(" | ") if kind != "null")
    return f"{words}{_BOUNDS.get(bound, bound)} is expected"


def _word(value: object) -> str:
    """What kind of a TOML value it is."""
    for kind, name in ((bool, "bool"), (int, "int"), (float, "float"), (str, "str"), (list, "array"), (dict, "object")):
        if isinstance(value, kind):
            return _WORDS[name]
    return "a date or time"


def _filled(job: JobFile, job_start: datetime | None) -> JobFile:
    """The job with its placeholders filled in, and a single source as a list of one."""
    filled: dict[str, Any] = {}
    for name in _FILLED:
        value = getattr(job, name)
        if isinstance(value, str):
            filled[name] = "".join(_fill(name, value, job_start))
        elif value is not None:
            filled[name] = tuple(
                "".join(_fill(f"{name}[{number}]", text, job_start)) for number, text in enumerate(value)
            )
    if isinstance(filled["sources"], str):
        filled["sources"] = (filled["sources"],)
    filled["group"] = filled["group"].strip("/")
    return replace(job, **filled)


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


def _resolved(job: JobFile, folder: Path) -> JobFile:
    """The job with absolute paths."""
    return replace(
        job,
        sources=tuple(_below(folder, source) for source in job.sources),
        repository=_below(folder, job.repository),
        replicas=tuple(_below(folder, replica) for replica in job.replicas),
    )


def _below(folder: Path, text: str) -> str:
    if "://" in text:
        return text
    path = folder / Path(text).expanduser()
    if glob.has_magic(text) and not path.exists():  # what is a glob in the file stays one; its folder is none
        return os.path.join(glob.escape(str(folder)), Path(text).expanduser())  # noqa: PTH118 - as above
    return str(path)
