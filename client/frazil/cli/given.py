"""Options that are not on the command line: a job file's, and below it the environment's.

Both fill in what the command line leaves out, for whatever command has an option of the name: no command need know
where an option was given. One that takes `FromFile` as a parameter takes job files.
"""

import contextlib
import difflib
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

from cyclopts import UNSET, App, Argument, ArgumentCollection, Group, Parameter, Token

from frazil.jobfile import JobFile, Retry, Said, load_said, start_time
from frazil.jobfile.filling import below
from frazil.planning.inputs import expand
from frazil_functions.errors import InvalidInputError
from frazil_functions.settings import named_options

logger = logging.getLogger(__name__)

_PREFIX: Final = "FRAZIL_"
_CLOSE: Final = 0.85
"""How like an option's name one is that is most likely a slip of it; 1 is the same."""

_OF_JOBS: Final = {one.name for kind in (JobFile, Retry) for one in fields(kind)} - {
    "sources",
    "repository",
    "replicas",
    "containers",
    "retry",
    "worker",
} | {"replica", "container", "config", "job_start"}
"""The options of jobs, by the names of their variables; what a command has besides, it says."""

_FILE: Final = Group("Where options come from", sort_key=0)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an option came from that is not on the command line, and the words that speak of it in an error."""

    place: str
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Given:
    """What was given elsewhere than on the command line.

    Attributes
    ----------
    said
        The job file, if there is one.
    origins
        Where each option came from that was given elsewhere.
    """

    said: Said | None = None
    origins: Mapping[str, Origin] = field(default_factory=dict)


def _unread(_: object, tokens: Sequence[Token]) -> Given:
    raise AssertionError(f"{tokens} are read by `fill_in`")


@Parameter(name="*", group=_FILE)
@dataclass(frozen=True, kw_only=True)
class FromFile:
    """Options that are given in a file.

    Attributes
    ----------
    config
        A job file (TOML, or YAML by its suffix) that gives whatever the command line does not.
    job_start
        The time that the file's {job_start:...} stands for, in ISO 8601; by default now, in UTC.
    """

    config: Annotated[
        Given, Parameter(converter=_unread, n_tokens=1, accepts_keys=False, show_default=False, metavar="PATH")
    ] = field(default_factory=Given)
    job_start: str | None = None

    def places(self, paths: Sequence[str], command: str) -> tuple[list[str], str]:
        """The sources and the repository, of the command line or of the file; where both name them, they agree."""
        said = self.config.said
        if said is None:
            if len(paths) < 2:  # noqa: PLR2004 - a file and a repository
                raise InvalidInputError(
                    f"name the files to write, and last the repository: frazil {command} FILES... REPOSITORY; or a job "
                    "file that names them: --config FILE"
                )
            return list(paths[:-1]), paths[-1]
        sources, repository = list(said.job.sources), said.job.repository
        *files, last = paths or [""]
        if sources and not repository and not last:
            raise InvalidInputError(f"{said.file} names no repository; add it, or name it on the command line")
        if repository and not sources and last and not _same(last, repository):
            files, last = list(paths), repository  # the command line adds the files alone
        if not sources and not files:
            raise InvalidInputError(f"{said.file} names no sources; add them, or name the files on the command line")
        if repository and last and not _same(last, repository):
            raise _contradiction("the repository", repository, last, said.file)
        if sources and files and not _same_files(files, sources):
            raise _contradiction("sources", _first(sources, files), _first(files, sources), said.file)
        return sources or files, repository or last

    def template(self, paths: Sequence[str]) -> tuple[str, str]:
        """The file that a template is made of, by default the first of the job file's sources, and the repository."""
        if len(paths) > 2 or (len(paths) < 2 and self.config.said is None):  # noqa: PLR2004 - file and repository
            given = f", and {len(paths) - 1} are named before the repository {paths[-1]}" if paths else ""
            raise InvalidInputError(
                f"a template is one file{given}; any one will do whose labels tell how they go on: "
                "frazil create-template TEMPLATE REPOSITORY; or a job file that names them: --config FILE"
            )
        said = self.config.said
        named = "" if said is None else said.job.repository
        if len(paths) == 2 or (named and paths and not _same(paths[0], named)):  # noqa: PLR2004 - as above
            return paths[0], self.repository([*paths, named][1], "create-template TEMPLATE")
        sources, repository = self.places(paths, "create-template")
        return expand(sources)[0], repository

    def files(self, paths: Sequence[str], command: str) -> list[str]:
        """The sources alone."""
        said = self.config.said
        sources = [] if said is None else list(said.job.sources)
        if said is not None and sources and paths and not _same_files(paths, sources):
            raise _contradiction("sources", _first(sources, paths), _first(paths, sources), said.file)
        if not paths and not sources:
            raise InvalidInputError(
                f"name the files to look at: frazil {command} FILES...; or a job file that names them: --config FILE"
            )
        return sources or list(paths)

    def repository(self, path: str | None, command: str) -> str:
        """The repository alone."""
        said = self.config.said
        if path is not None:
            self.check_repository(path)
            return path
        if said is None or not said.job.repository:
            raise InvalidInputError(
                f"name the repository: frazil {command} REPOSITORY; or a job file that names it: --config FILE"
            )
        return said.job.repository

    def check_repository(self, repository: str) -> None:
        """Refuse a file that names another repository than is written to."""
        said = self.config.said
        if said is not None and said.job.repository and not _same(said.job.repository, repository):
            raise InvalidInputError(
                f"the repository in {said.file} is {said.job.repository}, and this one is {repository}; give the file "
                "that belongs to it"
            )

    def check_work(self, digest: str) -> None:
        """Refuse a file that says now that something else is written than when a plan was made from it."""
        said = self.config.said
        if said is not None and digest and said.job.work_digest != digest:
            raise InvalidInputError(
                f"{said.file} has changed since the plan was made from it, in what is written, from where or into what "
                "(or --job-start differs); plan again. Nothing was written"
            )

    @contextlib.contextmanager
    def explaining(self) -> Iterator[None]:
        """Errors about the input that say which of the options that they speak of were given elsewhere."""
        try:
            yield
        except InvalidInputError as error:
            text = str(error)
            spoken = {name: one.place for name, one in self.config.origins.items() if _speaks_of(text, one.words)}
            if spoken:
                places = ", ".join(f"{name} comes from {place}" for name, place in spoken.items())
                error.args = (f"{text} ({places})",)
            raise


def fill_in(_: App, __: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Fill in what the command line leaves out: from the job file, then from the environment."""
    options = {one.field_info.name: one for one in arguments if not one.children and one.name.startswith("--")}
    left = {name: one for name, one in options.items() if not one.tokens}
    environment = named_options(_PREFIX)
    _warn_of_misspelt(environment, options)
    config = options.get("config")
    if config is None or config.hint is not Given:
        _from_environment(left, environment)
        return
    _from_environment({name: one for name, one in left.items() if name in {"config", "job_start"}}, environment)
    said = _read(config.tokens[0], options["job_start"].tokens) if config.tokens else None
    origins = {} if said is None else _from_file(left, said)
    origins |= _from_environment({name: one for name, one in left.items() if not one.tokens}, environment)
    config.tokens[:] = [Token(implicit_value=Given(said, origins))]


def _read(config: Token, job_start: Sequence[Token]) -> Said:
    given = [start_time(one.value, str(one.keyword)) for one in job_start]
    return load_said(config.value, given[0] if given else datetime.now(UTC))


def _from_file(left: Mapping[str, Argument], said: Said) -> dict[str, Origin]:
    """Fill in what a job file says; where from, as far as it is not what would be done anyway."""
    found: dict[str, Origin] = {}
    for name in sorted(left.keys() & said.options.keys()):
        value, argument = said.options[name], left[name]
        if value is not None:
            text, whole = (value, UNSET) if isinstance(value, str) else ("", value)
            argument.append(Token(keyword=name, source=str(said.file), value=text, implicit_value=whole))
        if value != argument.field_info.default:
            found[name] = Origin(str(said.file), _words(name, value))
    return found


def _from_environment(left: Mapping[str, Argument], environment: Mapping[str, str]) -> dict[str, Origin]:
    """Fill in what the environment says; of what can be given several times, spaces stand between."""
    found: dict[str, Origin] = {}
    for name, argument in left.items():
        variable = _PREFIX + argument.name.removeprefix("--").replace("-", "_").upper()
        text = environment.get(variable.removeprefix(_PREFIX).lower())
        if not text:
            continue
        for index, value in enumerate(text.split() if argument.token_count() == (1, True) else [text]):
            argument.append(Token(keyword=variable, value=value, source="the environment", index=index))
        found[name] = Origin(variable, _words(name, text))
    return found


def _warn_of_misspelt(environment: Mapping[str, str], options: Mapping[str, Argument]) -> None:
    """Warn of variables that are nearly an option's, and none."""
    here = (one.name.removeprefix("--").replace("-", "_") for one in options.values())
    known = {*here, *_OF_JOBS}
    for name in sorted(environment.keys() - known):
        for close in difflib.get_close_matches(name, known, 1, _CLOSE):
            logger.warning(
                "%s%s is no option's variable and says nothing; did you mean %s%s?",
                _PREFIX,
                name.upper(),
                _PREFIX,
                close.upper(),
            )


def _words(name: str, value: object) -> tuple[str, ...]:
    """An option's name as Python and as the command line write it; errors speak of a mode by what it is, too."""
    return (name, "--" + name.replace("_", "-"), *([str(value)] if name == "mode" else []))


def _speaks_of(text: str, words: Sequence[str]) -> bool:
    return any(re.search(rf"(?<![\w/.-]){re.escape(word)}(?![\w/.=-])", text) for word in words)


def _same(one: str, other: str) -> bool:
    return _plain(one) == _plain(other)


def _plain(path: str) -> str:
    found = below(Path.cwd(), path)
    return found.rstrip("/") if "://" in found else os.path.normpath(found)


def _same_files(files: Sequence[str], sources: Sequence[str]) -> bool:
    """Whether the same files are meant; a shell may have put them in the place of a glob."""
    one, other = ([_plain(path) for path in paths] for paths in (files, sources))
    return one == other or [_plain(path) for path in expand(files)] == [_plain(path) for path in expand(sources)]


def _first(paths: Sequence[str], others: Sequence[str]) -> str:
    """The first path that the others lack, or how many there are."""
    known = {_plain(path) for path in others}
    return next((path for path in paths if _plain(path) not in known), f"{len(paths)} paths in this order")


def _contradiction(what: str, here: str, there: str, file: Path) -> InvalidInputError:
    one, other = (text.partition("?")[0] for text in (here, there))  # what follows in a signed URL is a secret
    return InvalidInputError(
        f"{what} in {file} and on the command line differ: {one} and {other}; name them in one of the two places"
    )
