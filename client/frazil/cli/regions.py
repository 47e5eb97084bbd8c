"""The commands that make a group, fill it region by region, and add behind it."""

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from cyclopts import Parameter

import frazil.filling.behind
import frazil.filling.materialize
import frazil.filling.region
import frazil.filling.template
from frazil.cli.app import app
from frazil.cli.given import FromFile
from frazil.cli.jobs import tell
from frazil.cli.options import Attempts, Backend, Named, Publishing, Shown, Starting
from frazil.cli.showing import listening
from frazil.execution.executor import Executor
from frazil.jobfile.options import WHAT, Contained, Cut, Fitting, Following, Lossy, Place, References
from frazil.jobfile.spelling import Names, Region, Wait
from frazil_functions.records import Verify


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Extent:
    """The labels of a template.

    Attributes
    ----------
    global_start
        The first label: a date (2000-01-31, 2000-01-31T06:00) or a number.
    global_end
        The last label.
    freq
        From one label to the next: W, D, h, min, s, ms, us, MS, ME, QS, QE, YS or YE with a whole number before it or
        without, as in 6h, or a number; by default that of the template.
    """

    global_start: Annotated[str, Parameter(group=WHAT, allow_leading_hyphen=True)]
    global_end: Annotated[str, Parameter(group=WHAT, allow_leading_hyphen=True)]
    freq: Annotated[str | None, Parameter(group=WHAT, allow_leading_hyphen=True)] = None


@app.command(
    name="create-template",
    usage="Usage: frazil create-template TEMPLATE REPOSITORY --global-start A --global-end B [OPTIONS]\n"
    "       frazil create-template --config FILE --global-start A --global-end B [OPTIONS]",
)
def create_template(  # noqa: PLR0913 - groups of options
    *paths: str,
    extent: Extent,
    file: FromFile | None = None,
    mode: Annotated[Literal["create", "overwrite"], Parameter(group=WHAT)] = "create",
    cut: Cut | None = None,
    lossy: Lossy | None = None,
    group: Place | None = None,
    run_dir: str | None = None,
    named: Named | None = None,
    shown: Shown | None = None,
) -> None:
    """Make a group over a full range of labels and write no values: they read as missing until they come.

    Parameters
    ----------
    paths
        The template, a file (or its URL) that has some of the labels, and last the repository; none of them where a
        job file does.
    mode
        create makes a group that does not exist yet, overwrite one in place of what is there.
    run_dir
        Where the run lives (a folder or URL); by default a folder of its name beside the repository.
    """
    shown, file = shown or Shown(), file or FromFile()
    template, repository = file.template(paths)
    with file.explaining(), listening(shown) as listener:
        result = frazil.filling.template.create_template(
            template,
            repository,
            **asdict(extent),
            mode=mode,
            **asdict(cut or Cut()),
            **asdict(lossy or Lossy()),
            **asdict(group or Place()),
            **asdict(named or Named()),
            run_directory=run_dir,
            listener=listener,
        )
    tell(result, repository, shown)


@app.command(
    name="write-region",
    usage="Usage: frazil write-region FILES... REPOSITORY [OPTIONS]\n"
    "       frazil write-region --config FILE [OPTIONS]",
)
def write_region(  # noqa: PLR0913 - groups of options
    *paths: str,
    file: FromFile | None = None,
    region: Annotated[Region, Parameter(group=WHAT)] = "auto",
    partial: Annotated[frazil.filling.region.Partial, Parameter(group=WHAT)] = "error",
    patience: Wait = frazil.filling.region.PATIENCE,
    group: Place | None = None,
    fitting: Fitting | None = None,
    references: References | None = None,
    backend: Backend | None = None,
    attempts: Attempts | None = None,
    publishing: Publishing | None = None,
    shown: Shown | None = None,
) -> None:
    """Write files into their part of a group that exists; many processes may at once, each on its own.

    Parameters
    ----------
    paths
        Files (paths, URLs, globs, text files of them), and last the repository; none of them where a job file does.
    region
        The part of a dimension that is written, as in time=0:100; auto is where the labels lie.
    partial
        What becomes of chunks or shards that the files cover in part: refuse them, or complete them from what the
        group holds, as often as others write them meanwhile.
    patience
        Seconds for which the region is written anew while others write the same chunks or shards.
    """
    attempts, shown, file = attempts or Attempts(), shown or Shown(), file or FromFile()
    sources, repository = file.places(paths, "write-region")
    with file.explaining(), listening(shown) as listener, _executor(backend) as executor:
        result = frazil.filling.region.write_region(
            sources,
            repository,
            region=region,
            partial=partial,
            patience=patience,
            **asdict(group or Place()),
            **asdict(fitting or Fitting()),
            **asdict(references or References()),
            **asdict(publishing or Publishing()),
            **_running(backend, attempts),
            executor=executor,
            listener=listener,
        )
    tell(result, repository, shown, group=False)  # it is long, the same for all who write, and they are many


@app.command(usage="Usage: frazil append FILES... REPOSITORY [OPTIONS]\n       frazil append --config FILE [OPTIONS]")
def append(  # noqa: PLR0913 - groups of options
    *paths: str,
    file: FromFile | None = None,
    following: Following | None = None,
    group: Place | None = None,
    fitting: Fitting | None = None,
    references: References | None = None,
    backend: Backend | None = None,
    attempts: Attempts | None = None,
    starting: Starting | None = None,
    shown: Shown | None = None,
) -> None:
    """Write files behind what a group holds, and publish them as one commit.

    Parameters
    ----------
    paths
        Files (paths, URLs, globs, text files of them), and last the repository; none of them where a job file does.
    """
    attempts, shown, file = attempts or Attempts(), shown or Shown(), file or FromFile()
    sources, repository = file.places(paths, "append")
    with file.explaining(), listening(shown) as listener, _executor(backend) as executor:
        result = frazil.filling.behind.append(
            sources,
            repository,
            **asdict(following or Following()),
            **asdict(group or Place()),
            **asdict(fitting or Fitting()),
            **asdict(references or References()),
            **asdict(starting or Starting()),
            **_running(backend, attempts),
            executor=executor,
            listener=listener,
        )
    tell(result, repository, shown)


@Parameter(name="*", group=WHAT)
@dataclass(frozen=True, kw_only=True)
class Own(Contained):
    """What is to be the repository's own.

    Attributes
    ----------
    group
        The group; the root by default.
    branch
        The branch that it is on, and that is published on.
    variables
        Names of its variables; by default all that refer to files.
    region
        The part of a dimension, as in time=0:100; auto is all of it. Chunks that lie in it in part are copied whole.
    verify
        Read back nothing, a sample, or everything before publishing, as it is stored.
    """

    group: str = ""
    branch: str = "main"
    variables: Names | None = None
    region: Region = "auto"
    verify: Verify = "sample"


@app.command(
    usage="Usage: frazil materialize REPOSITORY --container PREFIX [OPTIONS]\n"
    "       frazil materialize --config FILE [OPTIONS]"
)
def materialize(
    repository: str | None = None,
    /,
    *,
    file: FromFile | None = None,
    own: Own | None = None,
    backend: Backend | None = None,
    attempts: Attempts | None = None,
    named: Named | None = None,
    shown: Shown | None = None,
) -> None:
    """Copy what references of a group lead to into the repository, as one commit; chunks are copied as they are stored.

    Parameters
    ----------
    repository
        The repository, unless a job file names it.
    """
    attempts, shown, file = attempts or Attempts(), shown or Shown(), file or FromFile()
    repository = file.repository(repository, "materialize")
    running = _running(backend, attempts)
    running.pop("workers")
    with file.explaining(), listening(shown) as listener, _executor(backend) as executor:
        result = frazil.filling.materialize.materialize(
            repository,
            **asdict(own or Own()),
            **asdict(named or Named()),
            **running,
            executor=executor,
            listener=listener,
        )
    tell(result, repository, shown, group=False)


@contextlib.contextmanager
def _executor(backend: Backend | None) -> Iterator[Executor | None]:
    """The executor that was asked for, if any was."""
    if backend is None or backend == Backend():
        yield None
    else:
        with backend.executor() as executor:
            yield executor


def _running(backend: Backend | None, attempts: Attempts) -> dict[str, Any]:
    """How the run goes."""
    workers = None if backend is None else backend.workers
    return {
        "workers": workers,
        "retry": attempts.retry(),
        "function_logs": attempts.function_logs,
        "run_directory": attempts.run_dir,
    }
