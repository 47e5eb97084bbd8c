"""Every option of a job, once: its name, type, default and description.

A job file has them as keys, the command line as options (an underscore is a hyphen there), the environment as
variables; the schema and the help say of them what is said here. What they do, `frazil.job` and `frazil.running` know.
To add one: a field and its description here, and for one of a plan the keyword of `frazil.plan` and its type in
`frazil.job.PlanOptions`.
"""

from dataclasses import dataclass
from typing import Annotated, Final

from cyclopts import Group, Parameter

from frazil.jobfile.spelling import (
    Accepted,
    Bits,
    Checked,
    Chunks,
    Codecs,
    Count,
    Lengths,
    Names,
    Packs,
    Ranges,
    Region,
    Seconds,
    Several,
    Text,
    Times,
    Wait,
    Workers,
)
from frazil.labels.join import Gaps
from frazil.packing.rounding import Overflow
from frazil.planning.options import Fallback, OnAttrs, OnOverlap
from frazil_functions.plan import Mode
from frazil_functions.records import Verify

WHAT: Final = Group("What is written", sort_key=1)
WHERE: Final = Group("Where functions run", sort_key=2)
RUN: Final = Group("How the run goes", sort_key=3)


@Parameter(name="*", group=WHAT)
@dataclass(frozen=True, kw_only=True)
class Cut:
    """How arrays that are made are stored.

    Attributes
    ----------
    chunks
        Lengths of chunks by dimension, as in time=24,lat=180; -1 is all of a dimension. Or what they are to be chosen
        for, auto:temporal, auto:spatial or auto:balanced, with a size (auto:temporal:64MiB) or without.
    shards
        Lengths of shards by dimension, multiples of the chunks'; none by default.
    compression
        How new arrays are compressed: fast, balanced (the default), small, or a codec, as in zstd:3, gzip:5,
        blosc:lz4:5:bitshuffle or none; of one variable as in tas=zstd:3. Several with commas between, or given several
        times.
    """

    chunks: Chunks | None = None
    shards: Lengths | None = None
    compression: Codecs | None = None


@Parameter(name="*", group=WHAT)
@dataclass(frozen=True, kw_only=True)
class Place:
    """Which group is written, and from which part of the files.

    Attributes
    ----------
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
    replicas
        Other repositories that get the same and are published first; --replica may be given several times.
    """

    group: str = ""
    branch: Text = "main"
    append_dim: Text | None = None
    variables: Names | None = None
    engine: Text | None = None
    replicas: Annotated[Several, Parameter(name="--replica")] = ()


@Parameter(name="*", group=WHAT)
@dataclass(frozen=True, kw_only=True)
class Lossy:
    """What of new arrays is stored with loss.

    Attributes
    ----------
    pack
        Floating-point variables to store as whole numbers, as in tas=int16,pr=uint8; all, as int16, if none is named.
    pack_range
        The least and the largest value of packed variables, as in tas=200:330; found from the data by default.
    keepbits
        Floating-point variables to round to so many bits of their mantissa, as in tas=7,pr=auto; auto keeps those that
        hold 99 % of the information.
    """

    pack: Packs = False
    pack_range: Ranges | None = None
    keepbits: Bits | None = None


@Parameter(name="*", group=WHAT)
@dataclass(frozen=True, kw_only=True)
class Fitting:
    """How files may differ from each other and from the group.

    Attributes
    ----------
    accept
        Differences between files to accept: units (of time), drift (of labels), order (no labels).
    reorder
        Place labels that stand in another order than the target's (flipped, permuted, around the globe) one by one.
    on_attrs
        What becomes of attributes that differ from the group's: refuse them, keep the group's, or update them.
    pack_overflow
        What becomes of values that an array which is packed does not hold: refuse them, or store the end of its range.
    """

    accept: Accepted = ()
    reorder: bool = False
    on_attrs: OnAttrs | None = None
    pack_overflow: Overflow = "error"


@Parameter(name="*", group=WHAT)
@dataclass(frozen=True, kw_only=True)
class Following:
    """How files follow each other, and what is there.

    Attributes
    ----------
    gaps
        What becomes of labels that no file has: refuse, keep a place that reads as missing, or leave out.
    on_overlap
        What becomes of files whose labels an append finds in the group: refuse, leave out, or write anew.
    """

    gaps: Gaps = "error"
    on_overlap: OnOverlap = "error"


@Parameter(name="*", group=WHAT)
@dataclass(frozen=True, kw_only=True)
class Contained:
    """Where references lead into.

    Attributes
    ----------
    containers
        Places that references may lead into, as in s3://raw/, file:///data/ or s3://raw/=region=eu-west-1; --container
        may be given several times.
    """

    containers: Annotated[Several, Parameter(name="--container", metavar="PREFIX[=OPTIONS]")] = ()


@Parameter(name="*", group=WHAT)
@dataclass(frozen=True, kw_only=True)
class References(Contained):
    """What of files is referred to, and not copied.

    Attributes
    ----------
    virtual
        Write references into the files in place of their values.
    load
        Names of variables whose values are copied all the same.
    fallback
        What becomes of files that are stored otherwise than the array is: refuse them, or copy their values (native).
    """

    virtual: bool = False
    load: Names | None = None
    fallback: Fallback = "refuse"


@Parameter(name="*", group=WHAT)
@dataclass(frozen=True, kw_only=True)
class Job(References, Following, Fitting, Lossy, Place, Cut):
    """What is written: the options of a plan.

    Attributes
    ----------
    mode
        create makes a group that does not exist yet, overwrite one in place of what is there; append adds behind what
        a group holds, region replaces a part of it, modify replaces variables, add writes those that it lacks.
    region
        With mode region, the part of a dimension that is written, as in time=0:100; auto is where the labels lie.
    """

    mode: Mode = "create"
    region: Region = "auto"


@Parameter(name="*", group=WHERE)
@dataclass(frozen=True, kw_only=True)
class Where:
    """Where functions run.

    Attributes
    ----------
    backend
        Lithops' name of a backend (localhost, aws_lambda, k8s, ...), or serial for this process.
    lithops_config
        Lithops' configuration file; by default the one that Lithops itself finds.
    workers
        How many functions may run at once; by default as many as the backend can.
    """

    backend: Text | None = None
    lithops_config: Text | None = None
    workers: Workers | None = None


@Parameter(name="*", group=WHERE)
@dataclass(frozen=True, kw_only=True)
class Waits:
    """How long calls are waited for.

    Attributes
    ----------
    start_deadline
        Seconds without any call starting or ending after which calls that have not started are given up.
    call_timeout
        Seconds that one call may run; by default what the backend says.
    """

    start_deadline: Seconds = 300.0
    call_timeout: Seconds | None = None


@Parameter(name="*", group=RUN)
@dataclass(frozen=True, kw_only=True)
class Tries:
    """How often a task is tried.

    Attributes
    ----------
    attempts
        How often a task is tried in all before the run gives up.
    backoff
        Seconds before the second attempt; each further one waits twice as long.
    backups
        Whether a call that takes three times as long as others gets a second one beside it.
    """

    attempts: Count = 3
    backoff: Wait = 1.0
    backups: bool = True


@Parameter(name="*", group=RUN)
@dataclass(frozen=True, kw_only=True)
class Kept:
    """Where a run is kept, and what of its functions is shown.

    Attributes
    ----------
    run_dir
        Where the run lives (a folder or URL); by default a folder of its name beside the repository.
    function_logs
        Have functions return what they log, and log it here.
    """

    run_dir: Text | None = None
    function_logs: bool = False


@Parameter(name="*", group=RUN)
@dataclass(frozen=True, kw_only=True)
class Named:
    """What a new run and its commit are called.

    Attributes
    ----------
    message
        The commit's message.
    run_id
        The run's name; by default one that no other run has. A run of the same name and plan is joined.
    """

    message: Text | None = None
    run_id: Text | None = None


@Parameter(name="*", group=RUN)
@dataclass(frozen=True, kw_only=True)
class Publishing(Named):
    """How a new run is published.

    Attributes
    ----------
    verify
        Read back nothing, a sample, or everything before publishing.
    retries_on_missing
        Read every region twice, and write it again, so often at most, where one reading misses values that another has.
    missing_check_vars
        The variables that are read twice; all by default.
    """

    verify: Verify = "sample"
    retries_on_missing: Times = 0
    missing_check_vars: Checked = "all"


@Parameter(name="*", group=RUN)
@dataclass(frozen=True, kw_only=True)
class Starting(Publishing):
    """How a run is started and published.

    Attributes
    ----------
    resume
        Go on with a run of the same plan that has not ended, if there is one.
    """

    resume: bool = False
