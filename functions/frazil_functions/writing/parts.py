"""Parts: what a task has written, cut into receipts while it goes on.

A part is a set of forks, one of each repository, and the regions that are written into them. Once it
is closed no region begins in it any more, and when the last that did is written its receipt is put
into the run directory: so a receipt holds whole regions alone, and exactly those of its forks. A part
of which a region failed half-way holds chunks that no region accounts for; it never becomes a receipt.
"""

import asyncio
import logging
import resource
import socket
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Final

import icechunk
import zarr
from zarr.storage import StorePath

from frazil_functions import versions
from frazil_functions.errors import BackendError
from frazil_functions.forks import dump_fork, load_fork
from frazil_functions.reading.encoding import Values, checksum
from frazil_functions.regions import Region
from frazil_functions.rundir import RunDirectory
from frazil_functions.tasks import Receipt, RegionReceipt, WriteTask, Written
from frazil_functions.text import words
from frazil_functions.writing.clocks import Clock, Stretch
from frazil_functions.writing.targets import Target, open_targets, target_of

logger = logging.getLogger(__name__)

_LONGEST_SECONDS: Final = 60.0
"""How long a task goes on at most before what it wrote is put into the run directory."""


_MOST_UNITS: Final = 65_536
"""How many write units a receipt holds at most, and those of one region more: who admits it looks at each of them."""


def next_wait(seconds: float) -> float:
    """How long to wait for the next receipt after waiting so long for one."""
    return min(2 * seconds, _LONGEST_SECONDS)


@dataclass(slots=True)
class Part:
    """What is on its way to one receipt.

    Attributes
    ----------
    forks
        One of each repository, the primary last.
    targets
        The arrays opened in each of them, by name.
    written
        What is written, by its place in the task.
    pending
        How many regions are being written.
    failed
        Whether one of them is written in part, and will not be written further.
    settled
        Whether its receipt is being put, or put.
    units
        How many write units are written.
    """

    forks: tuple[icechunk.ForkSession, ...]
    targets: tuple[dict[str, Target], ...]
    written: dict[int, RegionReceipt] = field(default_factory=dict)
    pending: int = 0
    failed: bool = False
    settled: bool = False
    units: int = 0


async def write_region(region: Region, values: Values, part: Part) -> RegionReceipt:
    """Write one region's values into every fork of a part.

    Raises
    ------
    BackendError
        If a repository cannot be written.
    """
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


class Parts:
    """The parts of one task. To be used in one event loop, but for what it hands to its own thread.

    Parameters
    ----------
    task
        What to write.
    check
        Raises if what was read must not be used; called before every receipt.

    Raises
    ------
    UnalignedRegionError
        If a region splits a write unit of an array as it really is, in any repository.
    BackendError
        If a repository lacks an array, or the repositories differ in one.
    """

    def __init__(self, task: WriteTask, check: Callable[[], None]) -> None:
        self.clock = Clock()
        self._task = task
        self._check = check
        # Nothing is written into these: what is forked from a clean fork costs no request, and is equal to it.
        self._clean = tuple(load_fork(data) for data in task.forks)
        self._targets = tuple(_open(task, fork) for fork in self._clean)
        _check_same(self._targets)
        self._directory = RunDirectory(task.run_directory)
        self._thread = ThreadPoolExecutor(1, "frazil-receipts")
        self._current: Part | None = None
        self._interval = task.flush_seconds
        self._due = time.monotonic() + self._interval
        self._timer = self._timed()
        self._puts: set[asyncio.Task[None]] = set()
        self._names: list[str] = []
        self._regions = 0
        self._nbytes = 0
        self.error: Exception | None = None
        """Why a receipt could not be put."""

    def target(self, name: str) -> Target:
        """The primary's array, to see what it stores; nothing is written through it."""
        return self._targets[-1][name]

    def targets(self, name: str) -> list[Target]:
        """The same array in every repository, the primary last; nothing is written through them."""
        return [targets[name] for targets in self._targets]

    @property
    def clean(self) -> icechunk.ForkSession:
        """The primary's fork as it was, with what its base holds; nothing is written into it."""
        return self._clean[-1]

    def begin(self) -> Part:
        """The part that the next region goes into. The region is pending until `end`."""
        self._turn()
        if self._current is None:
            self._current = self.trial()
        self._current.pending += 1
        return self._current

    def trial(self) -> Part:
        """A part of its own, which becomes no receipt unless it is admitted to another."""
        forks = tuple(clean.fork() for clean in self._clean)
        pairs = zip(self._targets, forks, strict=True)
        return Part(forks, tuple(_rebound(targets, fork) for targets, fork in pairs))

    def admit(self, number: int, trial: Part, written: RegionReceipt) -> None:
        """Take over a region that was written into a part of its own."""
        part, done = self.begin(), None
        try:
            for fork, own in zip(part.forks, trial.forks, strict=True):
                fork.merge(own)
            done = written
        finally:
            self.end(part, number, done)

    def end(self, part: Part, number: int, written: RegionReceipt | None) -> None:
        """A region of a part is written, or has failed if there is nothing to say of it."""
        part.pending -= 1
        if written is None:
            part.failed = True
        else:
            part.written[number] = written
            part.units += written.units
        self._turn()
        self._settle(part)

    async def close(self, patience: float | None = None) -> Written:
        """Put what is left, for as many seconds at most; returns what is put. See `error`, too."""
        part, self._current = self._current, None
        self._timer.cancel()
        if part is not None:
            self._settle(part)
        try:
            if self._puts:
                await asyncio.wait(self._puts, timeout=patience)
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)
        return Written(self._task.number, tuple(self._names), self._regions, self._nbytes)

    def _timed(self) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(self._interval, self._turn)

    def _turn(self) -> None:
        """Close the current part if it is time; it is settled once nothing in it is pending."""
        due = time.monotonic() >= self._due
        if self._current is None or not (due or self._current.units >= _MOST_UNITS):
            return
        part, self._current = self._current, None
        self._interval = next_wait(self._interval) if due else self._interval
        self._due = time.monotonic() + self._interval
        self._timer.cancel()
        self._timer = self._timed()
        self._settle(part)

    def _settle(self, part: Part) -> None:
        if part is self._current or part.pending or part.failed or part.settled:
            return
        part.settled = True
        running = asyncio.create_task(self._put(part, self.clock.lap()))
        self._puts.add(running)
        running.add_done_callback(self._puts.discard)

    async def _put(self, part: Part, stretch: Stretch) -> None:
        try:
            name = await asyncio.get_running_loop().run_in_executor(self._thread, self._put_receipt, part, stretch)
        except Exception as error:  # noqa: BLE001 - kept, and raised by whoever asked for the task
            self.error = self.error or error
            logger.warning("%d regions of task %d have no receipt: %s", len(part.written), self._task.number, error)
            return
        self._names.append(name)
        self._regions += len(part.written)
        self._nbytes += sum(one.nbytes for one in part.written.values())

    def _put_receipt(self, part: Part, stretch: Stretch) -> str:
        self._check()
        task = self._task
        return self._directory.put_receipt(
            Receipt(
                run_id=task.run_id,
                plan_hash=task.plan_hash,
                bases=task.bases,
                number=task.number,
                regions=tuple(written for _, written in sorted(part.written.items(), key=lambda item: item[0])),
                forks=tuple(dump_fork(fork) for fork in part.forks),
                started=stretch.started,
                seconds=stretch.seconds,
                read_seconds=stretch.read_seconds,
                write_seconds=stretch.write_seconds,
                peak_memory_bytes=peak_memory(),
                host=socket.gethostname(),
                versions=versions.versions(),
            )
        )


def _open(task: WriteTask, fork: icechunk.ForkSession) -> dict[str, Target]:
    arrays = open_targets(fork, task.group, (region.array for region in task.regions), "r+")
    targets: dict[str, Target] = {}
    for region in task.regions:
        if region.array not in targets:
            targets[region.array] = target_of(arrays[region.array], region)
        # The plan proved this; a task may have come another way, and a split unit loses data silently.
        targets[region.array].grid.unit_slices(region)
    return targets


def _check_same(every: tuple[dict[str, Target], ...]) -> None:
    """Values are read once, as the primary stores them, so the others must store them so, too."""
    for targets in every[:-1]:
        for name, target in targets.items():
            primary = every[-1][name]
            if (target.dtype, target.grid) != (primary.dtype, primary.grid):
                raise BackendError(
                    f"{name!r} is {target.dtype} in write units of {target.grid.unit} in one repository of the run and "
                    f"{primary.dtype} in write units of {primary.grid.unit} in its primary; was a branch changed?"
                )


def _rebound(targets: dict[str, Target], fork: icechunk.ForkSession) -> dict[str, Target]:
    """The same arrays in another fork of the same snapshot, without reading their metadata again."""
    return {name: replace(target, array=_in_fork(target.array, fork)) for name, target in targets.items()}


def _in_fork(array: zarr.Array[Any], fork: icechunk.ForkSession) -> zarr.Array[Any]:
    return zarr.Array(zarr.AsyncArray(metadata=array.metadata, store_path=StorePath(fork.store, array.path)))


def peak_memory() -> int:
    """The largest resident size of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
