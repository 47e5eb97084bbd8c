"""Second readings: where what was written is missing, and its source is not, or the other way around.

File systems and servers sometimes give fewer bytes than they have, or zeros, and say nothing; what is read of it looks
like fill. So each region is written into forks of its own, its source is opened and read again later, and both are
compared by where they are missing. Regions that agree are admitted to the task's receipts, others are written again.
"""

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace

import icechunk
import numpy as np

from frazil_functions.errors import BackendError, MissingDataError
from frazil_functions.reading.encoding import STRING, Attributes, Values, fill_of, missing_marks, native
from frazil_functions.reading.sources import Renewable, Source
from frazil_functions.regions import Region
from frazil_functions.tasks import FileSource, RegionReceipt, WriteTask
from frazil_functions.text import words
from frazil_functions.writing.labels import label_words
from frazil_functions.writing.parts import Part, Parts, next_wait, write_region
from frazil_functions.writing.targets import Target, check_values, completed

logger = logging.getLogger(__name__)

type Mask = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


def missing_mask(values: Values, dtype: str, attributes: Attributes) -> Mask | None:
    """Where values are missing, as they are stored; None if none of the type can be.

    Parameters
    ----------
    values
        Of any shape.
    dtype, attributes
        Those of the array that stores them.
    """
    if dtype == STRING:
        return np.asarray(values == fill_of(dtype, attributes), bool)
    kind = np.dtype(dtype).kind
    if kind == "S":
        fill = attributes.get("_FillValue")
        return np.asarray(values == fill.encode(), bool) if isinstance(fill, str) else None
    if kind == "c":
        return np.isnan(values)
    marks = missing_marks(dtype, attributes) if kind in "iuf" else []
    if kind != "f" and not marks:
        return None
    found = np.isnan(values) if kind == "f" else np.zeros(values.shape, bool)
    for mark in marks:
        found |= values == values.dtype.type(mark)
    return found


@dataclass(frozen=True, slots=True)
class _Trial:
    """A region that is written into forks of its own."""

    number: int
    part: Part
    written: RegionReceipt


@dataclass(frozen=True, slots=True)
class _Difference:
    """A region that is missing in one reading and not in another."""

    trial: _Trial
    differs: Mask
    in_store: Mask
    inner: Region


class SecondReading:
    """The regions of a task on their way into its receipts, through a second reading.

    Parameters
    ----------
    task
        What to write.
    source
        Where its values come from.
    parts
        What its receipts are made of.
    reader
        The thread that reads.
    """

    def __init__(self, task: WriteTask, source: Source, parts: Parts, reader: ThreadPoolExecutor) -> None:
        self._task = task
        self._source = source
        self._parts = parts
        self._reader = reader
        self._trials: list[_Trial] = []
        self._interval = task.flush_seconds
        self._due = time.monotonic() + self._interval

    @property
    def due(self) -> bool:
        """Whether it is time: before a receipt is, and not after each region, for files are opened again each time."""
        return bool(self._trials) and time.monotonic() >= self._due

    def covers(self, name: str) -> bool:
        """Whether an array is read a second time: if that is asked for, and its type knows what is missing."""
        target = self._parts.target(name)
        nothing = np.empty(0, object if target.dtype == STRING else target.dtype)
        return self._task.missing.covers(name) and missing_mask(nothing, target.dtype, target.attributes) is not None

    def add(self, number: int, part: Part, written: RegionReceipt) -> None:
        """Take a region that is written into a part of its own."""
        self._trials.append(_Trial(number, part, written))

    async def compare(self) -> None:
        """Read every region again, and admit those that agree; write the others again, and wait in between.

        Raises
        ------
        MissingDataError
            If one still does not agree after as many tries as were asked for.
        SourceError
            If the source cannot be read again, or has changed.
        """
        trials, self._trials = self._trials, []
        self._interval = next_wait(self._interval)
        tries = 0
        while trials:
            found = await self._pass(trials, last=tries == self._task.missing.retries)
            trials = [one.trial for one in found]
            if found and tries == self._task.missing.retries:
                raise await asyncio.to_thread(self._error, found)
            if found:
                tries += 1
                wait = self._task.missing.delay(tries)
                logger.warning(
                    "%d regions of task %d are written again, first %s: missing on one side alone; they are read again "
                    "in %.1f s",
                    len(found),
                    self._task.number,
                    found[0].inner,
                    wait,
                )
                await asyncio.sleep(wait)
        self._due = time.monotonic() + self._interval

    async def _pass(self, trials: list[_Trial], *, last: bool) -> list[_Difference]:
        """Read regions again, from a source that is opened for it; those that do not agree, and are written again."""
        loop = asyncio.get_running_loop()
        found = []
        source = self._source
        with ExitStack() as closing:
            again = source
            if isinstance(source, Renewable):
                again = closing.enter_context(await loop.run_in_executor(self._reader, source.anew))
            for trial in trials:
                differs = await self._compared(trial, again, write=not last)
                if differs is None:
                    self._parts.admit(trial.number, trial.part, trial.written)
                else:
                    found.append(differs)
            await loop.run_in_executor(self._reader, closing.close)  # it looks whether its files have changed
        return found

    async def _compared(self, trial: _Trial, again: Source, *, write: bool) -> _Difference | None:
        region = trial.written.region
        target = self._parts.target(region.array)
        inner = region.within(self._task.extents)
        loop = asyncio.get_running_loop()
        with self._parts.clock.reading.one():
            values = await loop.run_in_executor(self._reader, again.read, inner, target.dtype, target.attributes)
            check_values(inner, values, target)
            source = await asyncio.to_thread(_mask, values, target)
            for named in trial.part.targets:
                stored = await asyncio.to_thread(_mask, await _stored(named[region.array], inner), target)
                differs = source != stored
                if differs.any():
                    break
            else:
                return None
        if write:
            with self._parts.clock.writing.one():
                whole = await completed(region, inner, values, self._parts.targets(region.array))
                part = self._parts.trial()
                written = await write_region(region, whole, part)
                kept = replace(written, clipped=trial.written.clipped, furthest=trial.written.furthest)
                trial = _Trial(trial.number, part, kept)
        return _Difference(trial, differs, stored, inner)

    def _error(self, found: list[_Difference]) -> MissingDataError:
        """What is told of the first of them."""
        first = found[0]
        region, differs = first.inner, first.differs
        indices = [np.flatnonzero(differs.any(axis=_others(axis, differs.ndim))) for axis in range(differs.ndim)]
        ranges = [
            (dim, start + int(along[0]), start + int(along[-1]) + 1)
            for (dim, start, _), along in zip(region.ranges, indices, strict=True)
        ]
        box = Region(region.array, tuple(ranges))
        in_store = int(np.count_nonzero(differs & first.in_store))
        in_source = int(np.count_nonzero(differs)) - in_store
        sides = [
            f"{count} of {differs.size} elements are missing in {one} and not in {other}"
            for count, one, other in ((in_store, "the store", "the source"), (in_source, "the source", "the store"))
            if count
        ]
        retries = self._task.missing.retries
        labels = label_words(self._task, box)
        more = f" (and of {len(found) - 1} other regions)" if len(found) > 1 else ""
        return MissingDataError(
            f"{_file_of(self._task, box)}: {' and '.join(sides)}, within {box}{labels}{more}, after "
            f"{retries} {'retry' if retries == 1 else 'retries'}. Its readings differ: its storage does not "
            "give all that it has, or it is being written. Read it when it is whole and at rest, or with more retries "
            "(retries_on_missing)"
        )


def _mask(values: Values, target: Target) -> Mask:
    found = missing_mask(values, target.dtype, target.attributes)
    assert found is not None  # else it was not to be read again
    return found


async def _stored(target: Target, inner: Region) -> Values:
    try:
        return native(np.asarray(await target.array.async_array.getitem(inner.slices)))
    except icechunk.IcechunkError as error:
        raise BackendError(f"{inner} was written, and could not be read back just now: {words(error)}") from error


def _others(axis: int, count: int) -> tuple[int, ...]:
    return tuple(at for at in range(count) if at != axis)


def _file_of(task: WriteTask, box: Region) -> str:
    """The file that the first of some elements lie in."""
    span = box.span(task.append_dim) if task.append_dim is not None else None
    files: list[FileSource] = [file for file in task.sources if span is None or file.start <= span[0] < file.stop]
    return files[0].url if files else "the source"
