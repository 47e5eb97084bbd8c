"""The command line: one of the two front doors. It parses, shows and exits; the work is `frazil.job`'s."""

import contextlib
import json
import logging
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import icechunk
import xarray as xr
from cyclopts import App, CycloptsError, Group, Parameter

from frazil import __version__
from frazil.execution.executor import Executor
from frazil.execution.lithops import LithopsExecutor
from frazil.execution.serial import SerialExecutor
from frazil.job import convert as convert_job
from frazil.job import plan as plan_job
from frazil.planning.compare import Accept
from frazil.planning.labels import Gaps
from frazil.progress_bar import progress_bar
from frazil.report import Listener, Result
from frazil_functions.errors import BackendError, FrazilError, InvalidInputError
from frazil_functions.records import Verify
from frazil_functions.repositories import open_repository
from frazil_functions.text import size

logger = logging.getLogger(__name__)

FAILED: Final = 1
REFUSED: Final = 2
INTERRUPTED: Final = 130

app = App(
    name="frazil",
    help="Write arrays into Icechunk from many functions at once, and publish them as one commit.",
    version=__version__,
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
)

_WHAT = Group("What is written", sort_key=1)
_WHERE = Group("Where functions run", sort_key=2)
_SHOWN = Group("What is shown", sort_key=3)


def _lengths(_: object, tokens: Sequence[Any]) -> dict[str, int]:
    """`time=24,lat=180` as a mapping."""
    found: dict[str, int] = {}
    for part in ",".join(str(token.value) for token in tokens).split(","):
        dim, equals, length = part.partition("=")
        if not equals or not dim.strip() or not length.strip().lstrip("-").isdigit():
            raise ValueError(f"{part!r} is not DIMENSION=LENGTH, as in time=24")
        if dim.strip() in found:
            raise ValueError(f"{dim.strip()!r} is given twice")
        found[dim.strip()] = int(length)
    return found


def _names(_: object, tokens: Sequence[Any]) -> tuple[str, ...]:
    """`tas,pr` as names."""
    parts = ",".join(str(token.value) for token in tokens).split(",")
    return tuple(part.strip() for part in parts if part.strip())


def _accepted(kind: object, tokens: Sequence[Any]) -> tuple[str, ...]:
    known = ("units", "drift", "order")
    for name in _names(kind, tokens):
        if name not in known:
            raise ValueError(f"{name!r} cannot be accepted; choose from {', '.join(known)}")
    return _names(kind, tokens)


type Lengths = Annotated[dict[str, int], Parameter(converter=_lengths, n_tokens=1, accepts_keys=False)]
type Names = Annotated[tuple[str, ...], Parameter(converter=_names, n_tokens=1)]
type Accepted = Annotated[tuple[Accept, ...], Parameter(converter=_accepted, n_tokens=1)]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Job:
    """Options of a job, shared by the commands.

    Attributes
    ----------
    chunks
        Lengths of chunks, as in time=24,lat=180; -1 is all of a dimension.
    shards
        Lengths of shards, multiples of the chunks'; none by default.
    group
        The group to create; the root by default.
    branch
        The branch to publish on.
    append_dim
        The dimension that files follow each other on; inferred where only one can be meant.
    variables
        Names of the variables to write; all by default.
    engine
        The Xarray engine that opens the files; told by their first bytes by default.
    gaps
        What becomes of labels that no file has: refuse, keep a place that reads as missing, or leave out.
    accept
        Differences between files to accept: units (of time), drift (of labels), order (no labels).
    """

    chunks: Annotated[Lengths | None, Parameter(group=_WHAT)] = None
    shards: Annotated[Lengths | None, Parameter(group=_WHAT)] = None
    group: Annotated[str, Parameter(group=_WHAT)] = ""
    branch: Annotated[str, Parameter(group=_WHAT)] = "main"
    append_dim: Annotated[str | None, Parameter(group=_WHAT)] = None
    variables: Annotated[Names | None, Parameter(group=_WHAT)] = None
    engine: Annotated[str | None, Parameter(group=_WHAT)] = None
    gaps: Annotated[Gaps, Parameter(group=_WHAT)] = "error"
    accept: Annotated[Accepted, Parameter(group=_WHAT)] = ()


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Backend:
    """Where functions run.

    Attributes
    ----------
    backend
        Lithops' name of a backend (localhost, aws_lambda, k8s, ...), or serial for this process.
    lithops_config
        Lithops' configuration file; by default the one that Lithops itself finds.
    workers
        How many functions may run at once.
    """

    backend: Annotated[str | None, Parameter(group=_WHERE)] = None
    lithops_config: Annotated[Path | None, Parameter(group=_WHERE)] = None
    workers: Annotated[int | None, Parameter(group=_WHERE)] = None

    def executor(self) -> Executor:
        """The executor that is meant."""
        if self.workers is not None and self.workers < 1:
            raise InvalidInputError(f"--workers is {self.workers}; at least one function must run")
        if self.backend == "serial":
            return SerialExecutor()
        return LithopsExecutor(backend=self.backend, config_file=self.lithops_config, workers=self.workers)


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
        Show what goes on, and where an error comes from.
    """

    json: Annotated[bool, Parameter(group=_SHOWN, negative=())] = False
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], group=_SHOWN, negative=())] = False
    verbose: Annotated[bool, Parameter(name=["--verbose", "-v"], group=_SHOWN, negative=())] = False


@app.command(usage="Usage: frazil plan FILES... REPOSITORY [OPTIONS]")
def plan(
    *paths: str,
    job: Job | None = None,
    backend: Backend | None = None,
    shown: Shown | None = None,
    out: Path | None = None,
) -> None:
    """Show what would be written, and write nothing.

    Parameters
    ----------
    paths
        Files (paths, URLs, globs, text files of them), and last the repository.
    out
        A file to keep the plan in, as JSON.
    """
    job, backend, shown = job or Job(), backend or Backend(), shown or Shown()
    sources, repository = _split(paths)
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise InvalidInputError(f"--out {out} cannot be written: name a file in a directory that exists")
    with _listening(shown) as listener, backend.executor() as executor:
        made = plan_job(
            sources, repository, **_options(job), workers=backend.workers, executor=executor, listener=listener
        )
    if out is not None:
        out.write_bytes(made.to_json())
    _print(made.to_json().decode() if shown.json else repr(made))


@app.command(usage="Usage: frazil convert FILES... REPOSITORY [OPTIONS]")
def convert(
    *paths: str,
    job: Job | None = None,
    backend: Backend | None = None,
    shown: Shown | None = None,
    verify: Verify = "sample",
    message: str | None = None,
) -> None:
    """Write files into a repository and publish them as one commit.

    Parameters
    ----------
    paths
        Files (paths, URLs, globs, text files of them), and last the repository.
    verify
        Read back nothing, a sample, or everything before publishing.
    message
        The commit's message.
    """
    job, backend, shown = job or Job(), backend or Backend(), shown or Shown()
    sources, repository = _split(paths)
    with _listening(shown) as listener, backend.executor() as executor:
        result = convert_job(
            sources,
            repository,
            **_options(job),
            workers=backend.workers,
            executor=executor,
            verify=verify,
            message=message,
            listener=listener,
        )
    # The run is published; nothing that goes wrong in telling so may look as if it were not.
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        _print(
            json.dumps(asdict(result))
            if shown.json
            else f"{summary(result, repository)}\n\n{_seen(result, repository)}"
        )


def _print(text: str) -> None:
    """Write to standard output, if there is one."""
    if sys.stdout is not None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def _seen(result: Result, repository: str) -> str:
    """What was published, as a reader of the repository sees it."""
    session = open_repository(repository, create=False).readonly_session(snapshot_id=result.snapshot_id)
    options: dict[str, Any] = {"group": result.group or None, "consolidated": False, "chunks": None}
    try:
        with xr.open_zarr(session.store, **options) as dataset:
            return repr(dataset)
    except Exception as error:  # noqa: BLE001 - Xarray raises much for times and units that it cannot decode
        logger.info("what was published cannot be shown decoded: %s", error)
        with xr.open_zarr(session.store, decode_cf=False, **options) as dataset:
            return repr(dataset)


def summary(result: Result, repository: str) -> str:
    """What a person wants to know when a run is done."""
    group = f', group="{result.group}"' if result.group else ""
    rate = result.bytes / max(result.seconds, 1e-9)
    took = f"{size(result.bytes)} in {result.seconds:.1f} s ({size(rate)}/s)"
    calls = f"{result.tasks} function calls, {result.verified} regions read back"
    lines = (
        f"Published {result.snapshot_id} on {result.branch!r} of {repository}",
        f"  {result.regions} regions, {took}, {calls}",
        f"  run {result.run_id}, plan {result.plan_hash[:16]}",
        "Read it with",
        f'  repo = frazil.open_repository("{repository}")',
        f'  xarray.open_zarr(repo.readonly_session("{result.branch}").store, consolidated=False{group})',
    )
    return "\n".join(lines)


def _options(job: Job) -> dict[str, Any]:
    """The options of a job as `frazil.plan` takes them."""
    return {
        "group": job.group,
        "branch": job.branch,
        "chunks": job.chunks,
        "shards": job.shards,
        "append_dim": job.append_dim,
        "variables": job.variables,
        "engine": job.engine,
        "gaps": job.gaps,
        "accept": job.accept,
    }


def _split(paths: Sequence[str]) -> tuple[list[str], str]:
    if len(paths) < 2:  # noqa: PLR2004 - a file and a repository
        raise InvalidInputError("name the files to write, and last the repository: frazil convert FILES... REPOSITORY")
    return list(paths[:-1]), paths[-1]


@contextlib.contextmanager
def _listening(shown: Shown) -> Iterator[Listener]:
    """A progress bar on standard error, unless nobody looks or nobody wants it."""
    if shown.verbose:
        logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    with progress_bar(hidden=shown.quiet or not sys.stderr.isatty()) as listener:
        yield listener


def _terminated(_: int, __: object) -> None:
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code.

    0: done. 1: failed, and nothing was published. 2: bad usage, or input that was refused. 130:
    interrupted before anything was published.
    """
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    verbose = bool({"-v", "--verbose"} & set(tokens))
    if not verbose and not sys.warnoptions:
        # Warnings of libraries are for their authors' users, and would tear the progress bar.
        warnings.simplefilter("ignore")
    for sign in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, _terminated)
    # Icechunk warns at every opening that local storage is not safe for commits at once; a lock makes it so.
    icechunk.set_logs_filter("icechunk=error" if not verbose else "icechunk=warn")
    try:
        app(tokens, exit_on_error=False, print_error=False, result_action="return_none")
    except CycloptsError as error:
        return _say(error, REFUSED, verbose=False)
    except FrazilError as error:
        return _say(error, error.exit_code, verbose=verbose)
    except (icechunk.IcechunkError, OSError) as error:
        # What Icechunk and the system say of the storage, where no step of the job could do anything about it.
        return _say(BackendError(" ".join(str(error).split())), FAILED, verbose=verbose)
    except KeyboardInterrupt:
        sys.stderr.write("frazil: interrupted; nothing was published\n")
        return INTERRUPTED
    return 0


def _say(error: Exception, code: int, *, verbose: bool) -> int:
    if verbose:
        logger.error("failed", exc_info=error)
    sys.stderr.write(f"frazil: {error}\n")
    return code


def script() -> None:
    """The entry point of the installed command."""
    sys.exit(main())


if __name__ == "__main__":
    script()
