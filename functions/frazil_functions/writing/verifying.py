"""verify_task: read regions back from the repository and compare their checksums."""

from dataclasses import dataclass

import icechunk
import msgspec
import numpy as np

from frazil_functions.decoding import from_msgpack
from frazil_functions.errors import BackendError, ReceiptError
from frazil_functions.forks import load_fork
from frazil_functions.reading.encoding import checksum, native
from frazil_functions.regions import Region
from frazil_functions.text import words
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
    """One region that was read back, and the checksum of what came; or why nothing did."""

    region: Region
    crc32c: int
    problem: str = ""


def verify_task(task: VerifyTask) -> list[RegionCheck]:
    """Read every region of the task back; one whose chunks are missing or cannot be decoded says so.

    Raises
    ------
    BackendError
        If the storage does not answer, or refuses; that says nothing of what it holds.
    """
    names = (region.array for region in task.regions)
    arrays = open_targets(load_fork(task.fork), task.group, names, "r")
    checks = []
    for region in task.regions:
        try:
            values = native(np.asarray(arrays[region.array][region.slices]))
        except (icechunk.StorageError, OSError, MemoryError) as error:
            if not _is_lost(error):
                raise BackendError(f"{region} could not be read back just now: {words(error)}") from error
            checks.append(RegionCheck(region, 0, words(error)))
        except Exception as error:  # noqa: BLE001 - every codec raises errors of its own, and each means: damaged
            checks.append(RegionCheck(region, 0, f"{type(error).__name__}: {words(error)}"))
        else:
            checks.append(RegionCheck(region, checksum(values)))
    return checks


def _is_lost(error: Exception) -> bool:
    """Whether storage says that a chunk is gone, or shorter than it was."""
    return isinstance(error, icechunk.StorageError) and (
        error.kind == icechunk.ErrorKind.OBJECT_NOT_FOUND or "Requested range was invalid" in str(error)
    )


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
        return from_msgpack(data, list[RegionCheck])
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        raise ReceiptError(f"what a function returned from reading back cannot be read: {error}") from error
