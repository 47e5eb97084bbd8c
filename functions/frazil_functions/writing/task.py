"""write_task: read, encode, write, and say what was written.

One thread reads ahead while earlier regions are encoded and written, within the number of bytes
that the task allows. HDF5 reads one thing at a time in a process, so one reader is enough; the
codecs run on as many threads as there are processors.
"""

import asyncio
import logging
import os
import platform
import resource
import socket
import sys
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from queue import SimpleQueue
from typing import Any

import icechunk

from frazil_functions.errors import BackendError
from frazil_functions.forks import dump_fork, load_fork
from frazil_functions.reading.encoding import Values, checksum
from frazil_functions.reading.sources import FileSources, Source
from frazil_functions.regions import Region
from frazil_functions.rundir import TaskProgress, open_run_directory, put_progress
from frazil_functions.tasks import Receipt, RegionReceipt, WriteTask
from frazil_functions.writing.targets import Target, check_values, open_targets, target_of

logger = logging.getLogger(__name__)

TELL_SECONDS = 1.0
"""How often a task says how far it is, at most."""

_IN_FLIGHT = 64
"""How many regions may be encoded at once, however small they are."""


@dataclass(slots=True)
class _Clock:
    """Seconds spent reading, and seconds in which at least one region was encoded or written."""

    read: float = 0.0
    write: float = 0.0
    writing: int = 0
    since: float = 0.0

    def begin_write(self) -> None:
        if not self.writing:
            self.since = time.perf_counter()
        self.writing += 1

    def end_write(self) -> None:
        self.writing -= 1
        if not self.writing:
            self.write += time.perf_counter() - self.since


@dataclass(slots=True)
class _Budget:
    """Bytes of values held at once; a region larger than all of it goes alone."""

    limit: int
    held: int = 0
    freed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def take(self, nbytes: int) -> None:
        async with self.freed:
            await self.freed.wait_for(lambda: self.held == 0 or self.held + nbytes <= self.limit)
            self.held += nbytes

    async def give(self, nbytes: int) -> None:
        async with self.freed:
            self.held -= nbytes
            self.freed.notify_all()


class _Told:
    """How far the task is, said in the run directory once in a while; a lost word costs nothing."""

    def __init__(self, task: WriteTask) -> None:
        self._number = task.number
        self._store = open_run_directory(task.run_directory) if task.run_directory is not None else None
        self._next = time.monotonic() + TELL_SECONDS

    def due(self) -> bool:
        """Whether it is time; if so, the next time is counted from now."""
        if self._store is None or time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + TELL_SECONDS
        return True

    def tell(self, regions: int, nbytes: int) -> None:
        """Say it; give up for good if it cannot be stored, for the receipts are what counts."""
        if self._store is None:
            return
        try:
            put_progress(self._store, TaskProgress(self._number, regions, nbytes))
        except BackendError as error:
            logger.warning("%s", error)
            self._store = None


def write_task(task: WriteTask, source: Source | None = None) -> list[Receipt]:
    """Write a task's regions into its fork; return the receipts.

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
    BackendError
        If the store cannot be written.
    """
    started = time.time()
    begin = time.perf_counter()
    fork = load_fork(task.fork)
    clock = _Clock()
    with FileSources(task.sources, task.append_dim) as sources:
        stopping = threading.Event()
        written = _run(_write(task, fork, source or sources, clock, stopping), stopping)
    receipt = Receipt(
        run_id=task.run_id,
        plan_hash=task.plan_hash,
        base=task.base,
        number=task.number,
        regions=tuple(written),
        fork=dump_fork(fork),
        started=started,
        seconds=time.perf_counter() - begin,
        read_seconds=clock.read,
        write_seconds=clock.write,
        peak_memory_bytes=_peak_memory(),
        host=socket.gethostname(),
        versions=versions(),
    )
    return [receipt]


def _run[R](work: Coroutine[Any, Any, R], stopping: threading.Event) -> R:
    """Run in an event loop of its own; the caller's thread may have one already, as notebooks do.

    An interrupt sets `stopping`, which the work looks at before every region, and cancels what it waits for.
    """
    running: SimpleQueue[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = SimpleQueue()

    async def main() -> R:
        task = asyncio.current_task()
        assert task is not None
        running.put((asyncio.get_running_loop(), task))
        return await work

    with ThreadPoolExecutor(1, "frazil-loop") as thread:
        done = thread.submit(lambda: asyncio.run(main()))
        try:
            return done.result()
        except ExceptionGroup as group:
            # A task ends at its first error; what the other writes then say is only that they were cancelled.
            raise group.exceptions[0] from None
        except BaseException:
            # An interrupt ends this wait and not the loop, and leaving the pool waits for the loop.
            stopping.set()
            if done.cancel():
                work.close()
            elif not done.done():
                loop, task = running.get()
                with suppress(RuntimeError):  # the loop has ended meanwhile
                    loop.call_soon_threadsafe(task.cancel)
            raise


def versions() -> dict[str, str]:
    """Versions of what both ends of a pickle must agree on."""
    names = ("frazil", "icechunk", "zarr", "xarray")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


async def _write(
    task: WriteTask, fork: icechunk.ForkSession, sources: Source, clock: _Clock, stopping: threading.Event
) -> list[RegionReceipt]:
    arrays = open_targets(fork, task.group, (region.array for region in task.regions), "r+")
    targets: dict[str, Target] = {}
    for region in task.regions:
        if region.array not in targets:
            targets[region.array] = target_of(arrays[region.array], region)
        # The plan proved this; a task may have come another way, and a split unit loses data silently.
        targets[region.array].grid.unit_slices(region)
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(os.cpu_count() or 1, "frazil-codec"))
    budget = _Budget(task.memory_bytes)
    room = asyncio.Semaphore(_IN_FLIGHT)
    receipts: dict[int, RegionReceipt] = {}
    told = _Told(task)

    async def finish(number: int, region: Region, values: Values, nbytes: int) -> None:
        target = targets[region.array]
        clock.begin_write()
        try:
            crc = await asyncio.to_thread(checksum, values)
            await target.array.async_array.setitem(region.slices, values)
        except icechunk.IcechunkError as error:
            raise BackendError(f"{region} could not be written: {error}") from error
        finally:
            clock.end_write()
            room.release()
            await budget.give(nbytes)
        receipts[number] = RegionReceipt(region, target.grid.count(region), values.nbytes, crc)
        if told.due():
            done = receipts.values()
            await asyncio.to_thread(told.tell, len(done), sum(one.nbytes for one in done))

    with ThreadPoolExecutor(1, "frazil-read") as reader:
        async with asyncio.TaskGroup() as writes:
            for number, region in enumerate(task.regions):
                if stopping.is_set():
                    raise asyncio.CancelledError
                target = targets[region.array]
                nbytes = region.size * target.array.dtype.itemsize
                await budget.take(nbytes)
                await room.acquire()
                begin = time.perf_counter()
                values = await loop.run_in_executor(reader, sources.read, region, target.dtype, target.attributes)
                clock.read += time.perf_counter() - begin
                check_values(region, values, target)
                writes.create_task(finish(number, region, values, nbytes))
                del values
    return [receipts[number] for number in range(len(task.regions))]


def _peak_memory() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
