"""Options that commands share, as values; what they mean is `frazil.job`'s."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from frazil.execute import Retry
from frazil.execution.executor import Executor
from frazil.execution.lithops import LithopsExecutor
from frazil.execution.serial import SerialExecutor
from frazil.planning.compare import Accept
from frazil.planning.labels import Gaps
from frazil.planning.options import OnAttrs, OnOverlap, Span
from frazil_functions.errors import InvalidInputError
from frazil_functions.plan import Mode
from frazil_functions.records import Verify

_WHAT = Group("What is written", sort_key=1)
_WHERE = Group("Where functions run", sort_key=2)
_RUN = Group("How the run goes", sort_key=3)
_SHOWN = Group("What is shown", sort_key=4)


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


def _region(_: object, tokens: Sequence[Any]) -> dict[str, Span] | Literal["auto"]:
    """`time=0:100,lat=auto` as a mapping; `auto` for all dimensions."""
    text = ",".join(str(token.value) for token in tokens)
    if text == "auto":
        return "auto"
    found: dict[str, Span] = {}
    for part in text.split(","):
        dim, equals, span = (one.strip() for one in part.partition("="))
        start, colon, stop = span.partition(":")
        if not equals or not dim or (span != "auto" and not (colon and start.isdigit() and stop.isdigit())):
            raise ValueError(f"{part!r} is not DIMENSION=START:STOP, as in time=0:100, nor DIMENSION=auto")
        if dim in found:
            raise ValueError(f"{dim!r} is given twice")
        found[dim] = "auto" if span == "auto" else (int(start), int(stop))
    return found


type Lengths = Annotated[dict[str, int], Parameter(converter=_lengths, n_tokens=1, accepts_keys=False)]
type Region = Annotated[dict[str, Span] | Literal["auto"], Parameter(converter=_region, n_tokens=1, accepts_keys=False)]
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
    mode
        create makes a group that does not exist yet, overwrite one in place of what is there; append adds behind what
        a group holds, region replaces a part of it, modify replaces variables, add writes those that it lacks.
    region
        With --mode region, the part of a dimension that is written, as in time=0:100; auto is where the labels lie.
    reorder
        Place labels that stand in another order than the target's (flipped, permuted, around the globe) one by one.
    on_attrs
        What becomes of attributes that differ from the group's: refuse them, keep the group's, or update them.
    group
        The group that is written; the root by default.
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
    on_overlap
        What becomes of files whose labels an append finds in the group: refuse, leave out, or write anew.
    replica
        Another repository that gets the same and is published first; may be given several times.
    """

    chunks: Annotated[Lengths | None, Parameter(group=_WHAT)] = None
    shards: Annotated[Lengths | None, Parameter(group=_WHAT)] = None
    mode: Annotated[Mode, Parameter(group=_WHAT)] = "create"
    group: Annotated[str, Parameter(group=_WHAT)] = ""
    branch: Annotated[str, Parameter(group=_WHAT)] = "main"
    append_dim: Annotated[str | None, Parameter(group=_WHAT)] = None
    variables: Annotated[Names | None, Parameter(group=_WHAT)] = None
    engine: Annotated[str | None, Parameter(group=_WHAT)] = None
    gaps: Annotated[Gaps, Parameter(group=_WHAT)] = "error"
    accept: Annotated[Accepted, Parameter(group=_WHAT)] = ()
    on_overlap: Annotated[OnOverlap, Parameter(group=_WHAT)] = "error"
    region: Annotated[Region, Parameter(group=_WHAT)] = "auto"
    reorder: Annotated[bool, Parameter(group=_WHAT, negative=())] = False
    on_attrs: Annotated[OnAttrs | None, Parameter(group=_WHAT)] = None
    replica: Annotated[tuple[str, ...], Parameter(group=_WHAT, negative=())] = ()

    def as_keywords(self) -> dict[str, Any]:
        """The options as `frazil.plan` takes them."""
        found = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "replica"}
        return found | {"replicas": self.replica}


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
    start_deadline
        Seconds without any call starting or ending after which calls that have not started are given up.
    call_timeout
        Seconds that one call may run; by default what the backend says.
    """

    backend: Annotated[str | None, Parameter(group=_WHERE)] = None
    lithops_config: Annotated[Path | None, Parameter(group=_WHERE)] = None
    workers: Annotated[int | None, Parameter(group=_WHERE)] = None
    start_deadline: Annotated[float, Parameter(group=_WHERE)] = 300.0
    call_timeout: Annotated[float | None, Parameter(group=_WHERE)] = None

    def executor(self) -> Executor:
        """The executor that is meant."""
        if self.workers is not None and self.workers < 1:
            raise InvalidInputError(f"--workers is {self.workers}; at least one function must run")
        if self.backend == "serial":
            return SerialExecutor()
        return LithopsExecutor(
            backend=self.backend,
            config_file=self.lithops_config,
            workers=self.workers,
            start_deadline=self.start_deadline,
            call_timeout=self.call_timeout,
        )


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Attempts:
    """How often a task is tried.

    Attributes
    ----------
    attempts
        How often a task is tried in all before the run gives up.
    backoff
        Seconds before the second attempt; each further one waits twice as long.
    backups
        Whether a call that takes three times as long as others gets a second one beside it.
    run_dir
        Where the run lives (a folder or URL); by default a folder of its name beside the repository.
    """

    attempts: Annotated[int, Parameter(group=_RUN)] = 3
    backoff: Annotated[float, Parameter(group=_RUN)] = 1.0
    backups: Annotated[bool, Parameter(group=_RUN)] = True
    run_dir: Annotated[str | None, Parameter(group=_RUN)] = None

    def retry(self) -> Retry:
        """What is meant."""
        return Retry(self.attempts, self.backoff, self.backups)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Publishing:
    """How a new run is published.

    Attributes
    ----------
    verify
        Read back nothing, a sample, or everything before publishing.
    message
        The commit's message.
    run_id
        The run's name; by default one that no other run has. A run of the same name and plan is joined.
    """

    verify: Annotated[Verify, Parameter(group=_RUN)] = "sample"
    message: Annotated[str | None, Parameter(group=_RUN)] = None
    run_id: Annotated[str | None, Parameter(group=_RUN)] = None


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
