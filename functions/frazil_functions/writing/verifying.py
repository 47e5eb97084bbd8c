"""verify_task: read regions back from the repository and compare their checksums."""

import math
import random
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import icechunk
import msgspec
import numpy as np
import zarr

from frazil_functions.corruption import is_corruption
from frazil_functions.decoding import from_msgpack
from frazil_functions.errors import BackendError, ReceiptError, SourceError
from frazil_functions.forks import load_fork
from frazil_functions.grids import WriteGrid
from frazil_functions.reading.encoding import Values, checksum, native
from frazil_functions.reading.sources import FileSources, Source
from frazil_functions.regions import Region
from frazil_functions.tasks import FileSource
from frazil_functions.text import words
from frazil_functions.writing.copying import chunks_checksum, stored_chunks
from frazil_functions.writing.overlap import run_loop
from frazil_functions.writing.targets import open_targets, target_of

_SAMPLED: Final = 4
"""How many chunks of a region are read where not every one is."""


@dataclass(frozen=True, slots=True)
class Referred:
    """What it takes to hold references against the files that they lead into.

    Attributes
    ----------
    arrays
        Those that refer to files.
    sources
        The files that the regions need, in the order of their place along it.
    append_dim
        The dimension that they follow each other on.
    extents
        The part of a dimension that was written, where that is not all of it.
    every
        Whether every chunk is read, rather than a few of each region.
    """

    arrays: tuple[str, ...]
    sources: tuple[FileSource, ...]
    append_dim: str | None
    extents: dict[str, tuple[int, int]]
    every: bool = False


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
    referred
        What to hold regions against whose chunks lie in files.
    stored
        Whether the checksums are of chunks as they are stored, rather than of values.
    """

    group: str
    fork: bytes
    regions: tuple[Region, ...]
    referred: Referred | None = None
    stored: bool = False


@dataclass(frozen=True, slots=True)
class RegionCheck:
    """One region that was read back, and the checksum of what came; or why nothing did.

    Of a region that refers to files, what came was held against them, and there is no checksum of it.
    """

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
    fork = load_fork(task.fork)
    arrays = open_targets(fork, task.group, names, "r")
    if task.stored:
        return [_check_stored(region, arrays[region.array], fork) for region in task.regions]
    referred = task.referred
    if referred is None:
        return [_check(region, arrays[region.array]) for region in task.regions]
    with FileSources(referred.sources, referred.append_dim) as sources:
        return [
            _check_referred(region, arrays[region.array], sources, referred)
            if region.array in referred.arrays
            else _check(region, arrays[region.array])
            for region in task.regions
        ]


def _check(region: Region, array: zarr.Array[Any]) -> RegionCheck:
    values, problem = _read(region, array)
    return RegionCheck(region, 0 if values is None else checksum(values), problem)


def _check_stored(region: Region, array: zarr.Array[Any], fork: icechunk.ForkSession) -> RegionCheck:
    """Read chunks as they are stored."""
    try:
        found = run_loop(stored_chunks(fork.store, region, array, target_of(array, region).grid), threading.Event())
    except SourceError as error:  # a chunk that is gone
        return RegionCheck(region, 0, str(error))
    return RegionCheck(region, chunks_checksum(found))


def _check_referred(region: Region, array: zarr.Array[Any], sources: Source, referred: Referred) -> RegionCheck:
    """Read chunks through their references, and the same from the files as any other program reads them."""
    target = target_of(array, region)
    for unit in _units(region, target.grid, every=referred.every):
        inner = unit.within(referred.extents)
        values, problem = _read(inner, array)
        if values is None:
            return RegionCheck(region, 0, f"{inner}: {problem}")
        own = sources.read(inner, target.dtype, target.attributes)
        if checksum(values) != checksum(own):
            return RegionCheck(region, 0, f"{inner} reads otherwise through its references than in the files")
    return RegionCheck(region, 0)


def _units(region: Region, grid: WriteGrid, *, every: bool) -> Iterator[Region]:
    """Write units of a region as regions of their own: all of them, or its first, its last and some by chance."""
    parts = grid.unit_slices(region)
    counts = tuple(part.stop - part.start for part in parts)
    total = math.prod(counts)
    some: Iterable[int] = range(total)
    if not every and total > _SAMPLED:
        chance = random.Random(str(region))  # noqa: S311 - which chunks are read is no secret
        some = sorted({0, total - 1, *chance.sample(range(total), _SAMPLED - 2)})
    for number in some:
        index = np.unravel_index(number, counts) if counts else ()
        ranges = []
        for at, part, dim, length, unit in zip(index, parts, grid.dims, grid.shape, grid.unit, strict=True):
            start = (part.start + int(at)) * unit
            ranges.append((dim, start, min(length, start + unit)))
        yield Region(region.array, tuple(ranges))


def _read(region: Region, array: zarr.Array[Any]) -> tuple[Values | None, str]:
    """A region's values; or none, and why.

    Raises
    ------
    BackendError
        If the storage does not answer, or refuses.
    """
    try:
        return native(np.asarray(array[region.slices])), ""
    except (icechunk.StorageError, OSError, MemoryError) as error:
        if not _is_lost(error):
            raise BackendError(f"{region} could not be read back just now: {words(error)}") from error
        return None, words(error)
    except Exception as error:  # noqa: BLE001 - every codec raises errors of its own, and each means: damaged
        return None, f"{type(error).__name__}: {words(error)}"


def _is_lost(error: Exception) -> bool:
    """Whether a chunk is gone, shorter than it was, or cannot be decoded."""
    gone = isinstance(error, icechunk.StorageError) and (
        error.kind == icechunk.ErrorKind.OBJECT_NOT_FOUND or "Requested range was invalid" in str(error)
    )
    return gone or is_corruption(error)


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
