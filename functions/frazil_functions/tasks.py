"""What travels: the task that a function gets, the receipts that it leaves, what it returns, and their wire form."""

from dataclasses import dataclass, field
from typing import Any, Final, Literal

import msgspec

from frazil_functions.decoding import from_msgpack
from frazil_functions.errors import ReceiptError
from frazil_functions.layouts import Layout
from frazil_functions.locations import Location
from frazil_functions.logs import FunctionLog, LogRequest
from frazil_functions.missing import MissingCheck
from frazil_functions.regions import Region

WIRE_FORMAT: Final = 4

REPOSITORY: Final = "icechunk"
"""In place of an engine: the source is the repository itself, as it is at the base, and its chunks are copied as they
are stored."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Labels of a file that stand together in the target, too.

    Attributes
    ----------
    start
        Where the first of them lies in the target.
    first
        Where that one lies in the file.
    length
        How many there are.
    step
        1 if they follow each other in the file as they do in the target, -1 if the other way around.
    """

    start: int
    first: int
    length: int
    step: Literal[1, -1] = 1

    def part(self, low: int, high: int) -> tuple[slice, slice] | None:
        """Of some indices of the target, those that lie in this piece; and the indices in the file, in its own order.

        Examples
        --------
        >>> Piece(10, 3, 4, -1).part(11, 20)  # target 10..13 is file 3, 2, 1, 0
        (slice(11, 14, None), slice(0, 3, None))
        """
        begin, end = max(low, self.start), min(high, self.start + self.length)
        if begin >= end:
            return None
        at = begin - self.start
        if self.step == 1:
            return slice(begin, end), slice(self.first + at, self.first + at + end - begin)
        return slice(begin, end), slice(self.first - at - (end - begin) + 1, self.first - at + 1)


@dataclass(frozen=True, slots=True)
class FileSource:
    """One file, and the part of the target that its values belong to.

    Attributes
    ----------
    url
        A local path, or an s3://, gs://, az:// or https:// URL.
    engine
        The name of the Xarray engine that opens it; empty for a dataset that the client has, whose slices travel with
        the tasks; `REPOSITORY` for the repository that is written.
    start, stop
        Where its values lie along the append dimension of the target; 0, 0 without one.
    fingerprint
        What `frazil_functions.reading.opening.fingerprint` said when the plan was made; a file that has
        changed since is refused.
    recode
        Variables that the file stores in another way than the target does.
    places
        Of other dimensions than that one, where the file's labels lie in the target; what is not named lies there as
        it does in the file.
    clip
        Variables, of those that are recoded, whose values become the ends of the range that they are packed in, where
        they lie out of it.
    copied
        Variables whose values are copied from this file, where references lead into others.
    """

    url: str
    engine: str
    start: int = 0
    stop: int = 0
    fingerprint: str = ""
    recode: tuple[str, ...] = ()
    places: dict[str, tuple[Piece, ...]] = field(default_factory=dict)
    clip: tuple[str, ...] = ()
    copied: tuple[str, ...] = ()

    @property
    def travels(self) -> bool:
        """Whether its values travel with the tasks, so that only who has the dataset can make them."""
        return not self.engine


@dataclass(frozen=True, slots=True)
class Carried:
    """Slices of lazy arrays that travel with a task: code, made by the client, which has the dataset.

    Attributes
    ----------
    packed
        What it takes to compute each region, in the order of the task: see `frazil_functions.writing.lazy`.
    buffers
        For each of them, the data that it carries in memory.
    attributes
        Those of the values, of arrays that are stored in another way than these are.
    """

    packed: bytes
    buffers: tuple[tuple[bytes, ...], ...]
    attributes: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WriteTask:
    """What one function invocation does.

    Attributes
    ----------
    run_id, plan_hash
        The run and the plan that it is part of.
    number
        Its number within the plan.
    group
        The path of the group that is written.
    forks
        The bytes of a clean fork of each repository that the run publishes to, the primary last; the
        same for every task.
    bases
        The snapshots that they were made from.
    append_dim
        The dimension that the sources follow each other on.
    sources
        The files that the regions need, in the order of their place along it.
    regions
        What to write, in order.
    memory_bytes
        How many bytes of values may be held at once; a single region may exceed it.
    extents
        The part of a dimension that is written, where that is not all of it: where a region reaches out of it, the
        array keeps its values.
    run_directory
        Where the task puts its receipts.
    versions
        What whoever planned the task has installed; a function with another frazil or icechunk refuses it.
    flush_seconds
        After how many seconds a first receipt is put there; each next waits twice as long, at most a
        minute.
    carried
        The values, where the source is a dataset that the client has.
    missing
        Whether what is written is compared with a second reading of the source.
    log
        Whether what the function logs is returned.
    layouts
        How the chunks of arrays are stored that refer to those of the sources; the values of others are copied.
    """

    run_id: str
    plan_hash: str
    number: int
    group: str
    forks: tuple[bytes, ...]
    bases: tuple[str, ...]
    append_dim: str | None
    sources: tuple[FileSource, ...]
    regions: tuple[Region, ...]
    memory_bytes: int
    run_directory: Location
    versions: dict[str, str] = field(default_factory=dict)
    extents: dict[str, tuple[int, int]] = field(default_factory=dict)
    flush_seconds: float = 2.0
    carried: Carried | None = None
    missing: MissingCheck = field(default_factory=MissingCheck)
    log: LogRequest = field(default_factory=LogRequest)
    layouts: dict[str, Layout] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_pairs(self.forks, self.bases)

    @property
    def materializes(self) -> bool:
        """Whether chunks are copied as they are stored, from where references lead into the repository."""
        return any(source.engine == REPOSITORY for source in self.sources)


@dataclass(frozen=True, slots=True)
class RegionReceipt:
    """One region that was written.

    Attributes
    ----------
    region
        The region.
    units
        How many write units it is made of.
    nbytes
        The size of its values in bytes, before compression.
    crc32c
        `frazil_functions.reading.encoding.checksum` of its values as the target stores them.
    clipped, furthest
        How many of them became the end of the range that they are packed in, and the value furthest out of it.
    """

    region: Region
    units: int
    nbytes: int
    crc32c: int
    clipped: int = 0
    furthest: float = 0.0


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a task leaves in the run directory: regions that it wrote, and the forks that refer to their chunks.

    Attributes
    ----------
    run_id, plan_hash, bases, number
        As in the task.
    regions
        What the forks hold, in the order of the task.
    forks
        The bytes of each repository's fork, with the changes.
    started, seconds, read_seconds, write_seconds
        The stretch of the task's time that ended with this receipt: when it began (seconds since
        1970), how long it took, and how much of that was reading, and encoding and writing, which
        overlap. The stretches of a task's receipts follow each other without a gap.
    peak_memory_bytes
        The largest resident size of the process so far.
    host, versions
        Where it ran, and with which versions of python, icechunk, zarr and xarray.
    """

    run_id: str
    plan_hash: str
    bases: tuple[str, ...]
    number: int
    regions: tuple[RegionReceipt, ...]
    forks: tuple[bytes, ...]
    started: float
    seconds: float
    read_seconds: float
    write_seconds: float
    peak_memory_bytes: int
    host: str
    versions: dict[str, str]

    def __post_init__(self) -> None:
        _check_pairs(self.forks, self.bases)


def _check_pairs(forks: tuple[bytes, ...], bases: tuple[str, ...]) -> None:
    if not forks or len(forks) != len(bases):
        raise ValueError(f"there are {len(forks)} forks and {len(bases)} bases, and every repository has one of each")


@dataclass(frozen=True, slots=True)
class Written:
    """What a task returns: what it put into the run directory.

    Attributes
    ----------
    task
        The task's number.
    receipts
        The names of its receipts.
    regions, nbytes
        How many regions they hold, and the size of their values in bytes.
    log
        What the function logged, if that was asked for.
    """

    task: int
    receipts: tuple[str, ...]
    regions: int
    nbytes: int
    log: FunctionLog = field(default_factory=FunctionLog)


@dataclass(frozen=True, slots=True)
class _Format:
    format: int


@dataclass(frozen=True, slots=True)
class _Wire[T](_Format):
    content: T


def dump_receipt(receipt: Receipt) -> bytes:
    """A receipt in MessagePack."""
    return _dump(receipt)


def load_receipt(data: bytes) -> Receipt:
    """What `dump_receipt` wrote. Data alone: no bytes can construct anything but a receipt.

    Raises
    ------
    ReceiptError
        If the bytes are anything else.
    """
    return _load(data, Receipt, "a receipt")


def dump_written(written: Written) -> bytes:
    """What a task wrote, in MessagePack."""
    return _dump(written)


def load_written(data: bytes) -> Written:
    """What `dump_written` wrote; data alone.

    Raises
    ------
    ReceiptError
        If the bytes are anything else.
    """
    return _load(data, Written, "what a function returned")


def _dump(content: Receipt | Written) -> bytes:
    return msgspec.msgpack.encode(_Wire(WIRE_FORMAT, content))


def _load[T](data: bytes, kind: type[T], what: str) -> T:
    if not isinstance(data, bytes):
        raise ReceiptError(f"{what} is a {type(data).__name__} instead of bytes")
    try:
        found = from_msgpack(data, _Format).format
        if found == WIRE_FORMAT:
            return from_msgpack(data, _Wire[kind]).content  # type: ignore[valid-type]
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # ValueError: a region that is no region
        raise ReceiptError(f"{what} cannot be read: {error}") from error
    raise ReceiptError(
        f"{what} has format {found}, and this is format {WIRE_FORMAT}; client and function must hold the same "
        "version of frazil"
    )
