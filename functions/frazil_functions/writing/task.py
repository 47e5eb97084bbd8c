"""write_task: read, encode, write, and put into the run directory what says so.

One thread reads ahead while earlier regions are encoded and written, within the number of bytes
that the task allows. HDF5 reads one thing at a time in a process, so one reader is enough; the
codecs run on as many threads as there are processors. Receipts are put on a thread of their own.
"""

import asyncio
import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

from frazil_functions import versions
from frazil_functions.errors import VersionError
from frazil_functions.reading.encoding import Values
from frazil_functions.reading.rounding import Clipped
from frazil_functions.reading.sources import FileSources, Source
from frazil_functions.regions import Region
from frazil_functions.tasks import Carried, RegionReceipt, WriteTask, Written
from frazil_functions.text import size
from frazil_functions.writing.carried import CarriedSource
from frazil_functions.writing.copying import copy_region
from frazil_functions.writing.overlap import PATIENCE_SECONDS, Budget, run_loop
from frazil_functions.writing.parts import Parts, peak_memory, write_region
from frazil_functions.writing.referring import Referrals, extended, set_references
from frazil_functions.writing.rereading import SecondReading
from frazil_functions.writing.targets import Target, check_values, completed

logger = logging.getLogger(__name__)

_IN_FLIGHT: Final = 64
"""How many regions may be encoded at once, however small they are."""


def write_task(task: WriteTask, source: Source | None = None) -> Written:
    """Write a task's regions into forks of every repository; leave receipts in the run directory.

    A receipt is put there every once in a while (see `WriteTask.flush_seconds`) and at the end, also if
    that is an error or an interrupt: what was written whole until then is not written again.

    Parameters
    ----------
    task
        What to write.
    source
        Where the values come from, if not from the task's files.

    Raises
    ------
    SourceError
        If a file cannot be read, or has changed since the plan was made.
    UnalignedRegionError
        If a region splits a write unit of the array as it really is.
    VersionError
        If the task was planned with another frazil or icechunk.
    MissingDataError
        If values are missing in what was written where the source has them, or the other way around, however often it
        was read again, and that was asked for.
    BackendError
        If a repository cannot be written, or the run directory.
    """
    differs = versions.difference(task.versions)
    if differs:
        raise VersionError(
            f"task {task.number} was planned with other versions ({differs}), whose forks and receipts may differ; "
            "install the same ones on both sides"
        )
    with FileSources(task.sources, task.append_dim) as sources:
        stopping = threading.Event()
        own = sources if task.carried is None else _carried(task, task.carried)
        began, of = time.perf_counter(), {"run_id": task.run_id, "task": task.number}
        logger.info(
            "task %d begins: %d regions from %d sources", task.number, len(task.regions), len(task.sources), extra=of
        )
        written = run_loop(_write(task, sources, source or own, own.clipped, stopping), stopping)
        seconds = time.perf_counter() - began
        told = {"regions": written.regions, "bytes": written.nbytes, "seconds": round(seconds, 3)}
        logger.info(
            "task %d has written %d regions, %s in %.1f s (%s/s), %s of memory at most",
            task.number,
            written.regions,
            size(written.nbytes),
            seconds,
            size(written.nbytes / max(seconds, 1e-9)),
            size(peak_memory()),
            extra={"event": "task_written", **of, **told, "peak_memory_bytes": peak_memory()},
        )
        return written


def _carried(task: WriteTask, carried: Carried) -> CarriedSource:
    clip = [name for source in task.sources for name in source.clip]
    return CarriedSource(carried, [region.within(task.extents) for region in task.regions], clip)


async def _write(
    task: WriteTask, files: FileSources, source: Source, clipped: Clipped, stopping: threading.Event
) -> Written:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(os.cpu_count() or 1, "frazil-codec"))
    with ThreadPoolExecutor(1, "frazil-read") as reader:
        parts = Parts(task, files.check)
        work = _Work(task, source, clipped, parts, reader)
        try:
            await work.read_and_write(stopping)
            await work.finish()
        except BaseException as error:  # whatever ends the task, what was written whole keeps its receipt
            patience = PATIENCE_SECONDS if isinstance(error, asyncio.CancelledError) else None
            await work.stop(patience)
            await parts.close(patience)
            raise
        written = await parts.close()
    if parts.error is not None:
        raise parts.error
    return written


@dataclass(frozen=True, slots=True)
class _Read:
    """A region that is read, what its values take of the budget, and how many were clipped, with the furthest out."""

    number: int
    region: Region
    values: Values
    nbytes: int
    clipped: tuple[int, float]


class _Work:
    """A task's regions on their way from the source into their parts."""

    def __init__(
        self, task: WriteTask, source: Source, clipped: Clipped, parts: Parts, reader: ThreadPoolExecutor
    ) -> None:
        self._task = task
        self._source = source
        self._clipped = clipped
        self._parts = parts
        self._reader = reader
        self._budget = Budget(task.memory_bytes)
        self._room = asyncio.Semaphore(_IN_FLIGHT)
        self._writes: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None
        self._second = SecondReading(task, source, parts, reader)
        self._referrals = Referrals(task)
        self._materializes = task.materializes

    async def read_and_write(self, stopping: threading.Event) -> None:
        """Read every region in order, and begin to write it; end early if a write or a receipt fails."""
        for number, region in enumerate(self._task.regions):
            if self._second.due:
                await self._read_again()
            target = self._parts.target(region.array)
            if self._materializes:
                await self._copy(number, region, target, stopping)
                continue
            if region.array in self._task.layouts:
                if stopping.is_set():
                    raise asyncio.CancelledError
                await self._refer(number, region, target)
                continue
            nbytes = region.size * target.array.dtype.itemsize
            await self._budget.take(nbytes)
            await self._room.acquire()
            if stopping.is_set():
                raise asyncio.CancelledError
            if self._error is not None or self._parts.error is not None:
                return
            values = await self._read(region, target)
            read = _Read(number, region, values, nbytes, self._clipped.take(region.array))
            write = asyncio.create_task(self._write(read))
            self._writes.add(write)
            write.add_done_callback(self._ended)
            del values, read

    async def _copy(self, number: int, region: Region, target: Target, stopping: threading.Event) -> None:
        """Begin to copy the chunks of a region as they are stored."""
        nbytes = region.size * target.array.dtype.itemsize
        await self._budget.take(nbytes)
        if stopping.is_set():
            raise asyncio.CancelledError
        copy = asyncio.create_task(self._copied(number, region, nbytes))
        self._writes.add(copy)
        copy.add_done_callback(self._ended)

    async def _copied(self, number: int, region: Region, nbytes: int) -> None:
        part, written = self._parts.begin(), None
        try:
            written = await copy_region(region, self._parts.clean, part)
        finally:
            self._parts.end(part, number, written)
            await self._budget.give(nbytes)

    async def _refer(self, number: int, region: Region, target: Target) -> None:
        """Refer to the chunks of a region that files hold whole, and copy the others."""
        loop, written = asyncio.get_running_loop(), None
        part = self._parts.begin()
        try:
            with self._parts.clock.reading.one():
                placed = await loop.run_in_executor(self._reader, self._referrals.place, region, target.grid)
            with self._parts.clock.writing.one():
                for targets, fork in zip(part.targets, part.forks, strict=True):
                    await asyncio.to_thread(set_references, region, placed, targets[region.array], fork)
            crc = placed.crc32c
            for copied in placed.copied:
                values = await self._read(copied, target)
                with self._parts.clock.writing.one():
                    found = await write_region(copied, values, part)
                crc = extended(crc, found.crc32c.to_bytes(4))
                del values
            nbytes = region.size * target.array.dtype.itemsize
            written = RegionReceipt(region, target.grid.count(region), nbytes, crc)
        finally:
            self._parts.end(part, number, written)

    async def finish(self) -> None:
        """Wait for the writes; raise the error of the first that failed."""
        await self._read_again()
        if self._error is not None:
            raise self._error

    async def _read_again(self) -> None:
        """Wait for the writes, and compare those that are to be compared with a second reading."""
        if self._writes:
            await asyncio.wait(self._writes)
        if self._error is None:
            await self._second.compare()

    async def stop(self, patience: float | None) -> None:
        """Wait for the writes, for as many seconds at most, and cancel the others."""
        if self._writes:
            _, late = await asyncio.wait(self._writes, timeout=patience)
            for write in late:
                write.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _ended(self, write: asyncio.Task[None]) -> None:
        self._writes.discard(write)
        if not write.cancelled():
            error = write.exception()  # asked of each, or asyncio reports it to nobody as never retrieved
            self._error = self._error or error

    async def _read(self, region: Region, target: Target) -> Values:
        loop = asyncio.get_running_loop()
        inner = region.within(self._task.extents)
        with self._parts.clock.reading.one():
            values = await loop.run_in_executor(self._reader, self._source.read, inner, target.dtype, target.attributes)
            check_values(inner, values, target)
            return await completed(region, inner, values, self._parts.targets(region.array))

    async def _write(self, read: _Read) -> None:
        compared = self._second.covers(read.region.array)
        part = self._parts.trial() if compared else self._parts.begin()
        written: RegionReceipt | None = None
        try:
            with self._parts.clock.writing.one():
                found = await write_region(read.region, read.values, part)
            count, furthest = read.clipped
            written = replace(found, clipped=count, furthest=furthest)
        finally:
            if not compared:
                self._parts.end(part, read.number, written)
            elif written is not None:
                self._second.add(read.number, part, written)
            self._room.release()
            await self._budget.give(read.nbytes)
