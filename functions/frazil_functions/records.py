"""What a run says of itself in its directory: what it is, and how it ended. JSON, read as data."""

from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec

from frazil_functions import __version__
from frazil_functions.decoding import from_json
from frazil_functions.errors import InvalidInputError
from frazil_functions.locations import Location
from frazil_functions.missing import MissingCheck

FORMAT: Final = 1

type Verify = Literal["none", "sample", "full"]
"""How much is read back before publishing."""


@dataclass(frozen=True, slots=True)
class RunTarget:
    """One repository of a run.

    Attributes
    ----------
    location
        The repository; None if it has no name that opens it again.
    base
        The snapshot that the target branch was at when the plan was made.
    branch
        The run's private branch.
    snapshot
        The template's snapshot on it, which forks come from.
    fork
        The name of the object in the run directory that holds the clean fork's bytes.
    """

    location: Location | None
    base: str
    branch: str
    snapshot: str
    fork: str


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What a run is.

    Attributes
    ----------
    run_id, plan_hash, work_hash
        The run, its plan, and the part of the plan that says what the tasks write.
    started
        In seconds since 1970.
    versions
        Of what the run was started with.
    targets
        The repositories, the primary last.
    regions, nbytes, tasks
        How much there is to write.
    message, verify
        The commit's message, and what is read back before it.
    job
        The digest of the job file; empty if there is none.
    missing
        Whether functions compare what they wrote with a second reading of its source.
    """

    run_id: str
    plan_hash: str
    work_hash: str
    started: float
    versions: dict[str, str]
    targets: tuple[RunTarget, ...]
    regions: int
    nbytes: int
    tasks: int
    message: str
    verify: Verify
    job: str = ""
    missing: MissingCheck = field(default_factory=MissingCheck)
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a run is to do beside its plan; kept from before it starts, and then in its record.

    Attributes
    ----------
    message
        Of the commit; by default it says what was written.
    verify
        How much is read back before publishing.
    job
        The digest of the job file that the plan was made from; runs of one name must agree on it.
    missing
        Whether functions compare what they wrote with a second reading of its source.
    """

    message: str | None = None
    verify: Verify = "sample"
    job: str = ""
    missing: MissingCheck = field(default_factory=MissingCheck)
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Work:
    """What functions have done for a run, as its receipts say, added up.

    Attributes
    ----------
    receipts
        How many were admitted.
    refused
        How many were not.
    seconds, read_seconds, write_seconds
        Of functions: in all, and of that reading, and encoding and writing, which overlap.
    peak_memory_bytes
        The largest resident size of any of them.
    failures
        How many calls failed, as far as whoever finished the run has seen them.
    faults
        What the last of these failures, and of the refused receipts, said.
    """

    receipts: int = 0
    refused: int = 0
    seconds: float = 0.0
    read_seconds: float = 0.0
    write_seconds: float = 0.0
    peak_memory_bytes: int = 0
    failures: int = 0
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a run ended.

    Attributes
    ----------
    state
        Whether it was published.
    snapshots
        The published snapshot of each repository, the primary last.
    ended
        In seconds since 1970.
    reason
        Why it was abandoned.
    regions, nbytes, verified
        How many regions were published, the size of their values, and how many were read back.
    work
        What functions did for it.
    """

    state: Literal["published", "abandoned"]
    snapshots: tuple[str, ...]
    ended: float
    reason: str = ""
    regions: int = 0
    nbytes: int = 0
    verified: int = 0
    work: Work = field(default_factory=Work)
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class _Head:
    """What tells which frazil wrote an object, whatever else is in it."""

    format: int
    versions: dict[str, str] = field(default_factory=dict)


def dump_record(value: RunRecord | RunOutcome | Wishes) -> bytes:
    """A record or an outcome as JSON, equal for equal ones."""
    return msgspec.json.encode(value, order="deterministic")


def load_record[T: (RunRecord, RunOutcome, Wishes)](data: bytes, kind: type[T], where: str) -> T:
    """What `dump_record` wrote.

    Parameters
    ----------
    data
        The bytes.
    kind
        What they should be.
    where
        What they were read from.

    Raises
    ------
    InvalidInputError
        If they are anything else, or of another format.
    """
    try:
        head = from_json(data, _Head)
        if head.format == FORMAT:
            return from_json(data, kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # ValueError: text that is no UTF-8
        raise InvalidInputError(
            f"{where} is not what frazil {__version__} writes there (format {FORMAT}): {error}; use another "
            "run id, or remove that directory"
        ) from error
    raise InvalidInputError(
        f"{where} has format {head.format} (frazil {head.versions.get('frazil', 'of another version')}), and this is "
        f"frazil {__version__} with format {FORMAT}; finish the run with the version that started it"
    )
