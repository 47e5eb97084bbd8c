"""What travels: the task that a function gets, the receipts that it returns, and their wire form."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from frazil_functions.errors import ReceiptError
from frazil_functions.regions import Region

WIRE_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class FileSource:
    """One file, and the part of the target that its values belong to.

    Attributes
    ----------
    url
        A local path, or an s3://, gs://, az:// or https:// URL.
    engine
        The name of the Xarray engine that opens it.
    start, stop
        Where its values lie along the append dimension of the target; 0, 0 without one.
    fingerprint
        What `frazil_functions.reading.opening.fingerprint` said when the plan was made; a file that has
        changed since is refused.
    recode
        Variables that the file stores in another way than the target does.
    """

    url: str
    engine: str
    start: int = 0
    stop: int = 0
    fingerprint: str = ""
    recode: tuple[str, ...] = ()


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
    fork
        The clean fork's bytes, the same for every task.
    base
        The snapshot that the fork was made from.
    append_dim
        The dimension that the sources follow each other on.
    sources
        The files that the regions need, in the order of their place along it.
    regions
        What to write, in order.
    memory_bytes
        How many bytes of values may be held at once; a single region may exceed it.
    run_directory
        Where the task says how far it is; nowhere if None.
    """

    run_id: str
    plan_hash: str
    number: int
    group: str
    fork: bytes
    base: str
    append_dim: str | None
    sources: tuple[FileSource, ...]
    regions: tuple[Region, ...]
    memory_bytes: int
    run_directory: str | None = None


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
    """

    region: Region
    units: int
    nbytes: int
    crc32c: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a task returns: the regions it wrote, and the fork that refers to their chunks.

    Attributes
    ----------
    run_id, plan_hash, base, number
        As in the task.
    regions
        What the fork holds.
    fork
        The fork's bytes, with the changes.
    started, seconds, read_seconds, write_seconds
        When the task began (seconds since 1970), how long it took, and how much of that it was
        reading, and encoding and writing; the two overlap.
    peak_memory_bytes
        The largest resident size of the process so far.
    host, versions
        Where it ran, and with which versions of python, icechunk, zarr and xarray.
    """

    run_id: str
    plan_hash: str
    base: str
    number: int
    regions: tuple[RegionReceipt, ...]
    fork: bytes
    started: float
    seconds: float
    read_seconds: float
    write_seconds: float
    peak_memory_bytes: int
    host: str
    versions: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Receipts:
    format: int
    receipts: tuple[Receipt, ...]


def dump_receipts(receipts: Sequence[Receipt]) -> bytes:
    """Receipts in MessagePack."""
    return msgspec.msgpack.encode(_Receipts(WIRE_FORMAT, tuple(receipts)))


def load_receipts(data: bytes) -> tuple[Receipt, ...]:
    """What `dump_receipts` wrote. Data alone: no bytes can construct anything but receipts.

    Raises
    ------
    ReceiptError
        If the bytes are anything else.
    """
    if not isinstance(data, bytes):
        raise ReceiptError(f"a function returned a {type(data).__name__} instead of the bytes of receipts")
    try:
        wire = msgspec.msgpack.decode(data, type=_Receipts)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # ValueError: a region that is no region
        raise ReceiptError(f"the bytes of a receipt cannot be read: {error}") from error
    if wire.format != WIRE_FORMAT:
        raise ReceiptError(
            f"a function returned receipts of format {wire.format}, and this client reads format {WIRE_FORMAT}; "
            "client and function must hold the same version of frazil"
        )
    return wire.receipts
