"""write_task: read, encode, write, and put into the run directory what says so.

One thread reads ahead while earlier regions are encoded and written, within the number of bytes
that the task allows. HDF5 reads one thing at a time in a process, so one reader is enough; the
codecs run on as many threads as there are processors. Receipts are put on a thread of their own.
"""

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import icechunk

from frazil_functions import versions
from frazil_functions.errors import BackendError, VersionError
from frazil_functions.reading.encoding import Values, checksum
from frazil_functions.reading.sources import FileSources, Source
from frazil_functions.regions import Region
from frazil_functions.tasks import RegionReceipt, WriteTask, Written
from frazil_functions.text import words
from frazil_functions.writing.carried import CarriedSource
from frazil_functions.writing.overlap import PATIENCE_SECONDS, Budget, run_loop
from frazil_functions.writing.parts import Part, Parts
from frazil_functions.writing.targets import Target, check_values, completed

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
        own = sources if task.carried is None else CarriedSource(task)
        return run_loop(_write(task, sources, source or own, stopping), stopping)


async def _write(task: WriteTask, files: FileSources, source: Source, stopping: threading.Event) -> Written:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(os.cpu_count() or 1, "frazil-codec"))
    with ThreadPoolExecutor(1, "frazil-read") as reader:
        parts = Parts(task, files.check)
        work = _Work(task, source, parts, reader)
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


class _Work:
    """A task's regions on their way from the source into their parts."""

    def __init__(self, task: WriteTask, source: Source, parts: Parts, reader: ThreadPoolExecutor) -> None:
        self._task = task
        self._source = source
        self._parts = parts
        self._reader = reader
        self._budget = Budget(task.memory_bytes)
        self._room = asyncio.Semaphore(_IN_FLIGHT)
        self._writes: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None

    async def read_and_write(self, stopping: threading.Event) -> None:
        """Read every region in order, and begin to write it; end early if a write or a receipt fails."""
        for number, region in enumerate(self._task.regions):
            target = self._parts.target(region.array)
            nbytes = region.size * target.array.dtype.itemsize
            await self._budget.take(nbytes)
            await self._room.acquire()
            if stopping.is_set():
                raise asyncio.CancelledError
            if self._error is not None or self._parts.error is not None:
                return
            values = await self._read(region, target)
            write = asyncio.create_task(self._write(number, region, values, nbytes))
            self._writes.add(write)
            write.add_done_callback(self._ended)
            del values

    async def finish(self) -> None:
        """Wait for the writes; raise the error of the first that failed."""
        if self._writes:
            await asyncio.wait(self._writes)
        if self._error is not None:
            raise self._error

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

    async def _write(self, number: int, region: Region, values: Values, nbytes: int) -> None:
        part = self._parts.begin()
        written: RegionReceipt | None = None
        try:
            with self._parts.clock.writing.one():
                written = await _write_region(region, values, part)
        finally:
            self._parts.end(part, number, written)
            self._room.release()
            await self._budget.give(nbytes)


async def _write_region(region: Region, values: Values, part: Part) -> RegionReceipt:
    """Write one region's values into every fork of a part."""
    targets = [named[region.array] for named in part.targets]
    crc = await asyncio.to_thread(checksum, values)
    writes = (target.array.async_array.setitem(region.slices, values) for target in targets)
    # All of them are waited for, so that none goes on behind the error of another.
    for error in await asyncio.gather(*writes, return_exceptions=True):
        if isinstance(error, icechunk.IcechunkError):
            raise BackendError(f"{region} could not be written: {words(error)}") from error
        if error is not None:
            raise error
    return RegionReceipt(region, targets[-1].grid.count(region), values.nbytes, crc)
