"""verify_task: read regions back from the repository and compare their checksums."""

from dataclasses import dataclass

import msgspec
import numpy as np

from frazil_functions.errors import ReceiptError, VerificationError
from frazil_functions.forks import load_fork
from frazil_functions.reading.encoding import checksum, native
from frazil_functions.regions import Region
from frazil_functions.writing.targets import open_targets


@dataclass(frozen=True, slots=True)
class VerifyTask:
    """Regions to read back.

    Attributes
    ----------
    group
        The path of the group that was written.
    fork
        The bytes of a clean fork of what was committed.
    regions
        What to read.
    """

    group: str
    fork: bytes
    regions: tuple[Region, ...]


@dataclass(frozen=True, slots=True)
class RegionCheck:
    """One region that was read back, and the checksum of what came."""

    region: Region
    crc32c: int


def verify_task(task: VerifyTask) -> list[RegionCheck]:
    """Read every region of the task back.

    Raises
    ------
    VerificationError
        If a chunk is missing from the storage or cannot be decoded.
    """
    names = (region.array for region in task.regions)
    arrays = open_targets(load_fork(task.fork), task.group, names, "r")
    checks = []
    for region in task.regions:
        try:
            values = native(np.asarray(arrays[region.array][region.slices]))
        except Exception as error:  # storage and every codec raise errors of their own, and each means: lost
            raise VerificationError(f"{region} cannot be read back: {type(error).__name__}: {error}") from error
        checks.append(RegionCheck(region, checksum(values)))
    return checks


def dump_checks(checks: list[RegionCheck]) -> bytes:
    """Checks in MessagePack."""
    return msgspec.msgpack.encode(checks)


def load_checks(data: bytes) -> list[RegionCheck]:
    """What `dump_checks` wrote; data alone.

    Raises
    ------
    ReceiptError
        If the bytes are anything else.
    """
    try:
        return msgspec.msgpack.decode(data, type=list[RegionCheck])
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        raise ReceiptError(f"what a function returned from reading back cannot be read: {error}") from error
