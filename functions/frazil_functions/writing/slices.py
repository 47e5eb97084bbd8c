"""write_slices: compute slices of lazy arrays and write them into a fork of the session that their arrays are in.

One thread computes ahead while earlier slices are encoded and written, within the number of bytes that the task
allows. What comes back is the fork and what it is said to hold, as data; whether it does is up to the client.
"""

import asyncio
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import icechunk
import msgspec
import numpy as np
import zarr

from frazil_functions import versions
from frazil_functions.decoding import from_msgpack
from frazil_functions.errors import (
    BackendError,
    ReceiptError,
    SourceError,
    VersionError,
)
from frazil_functions.forks import dump_fork, load_fork
from frazil_functions.reading.encoding import Values
from frazil_functions.regions import Region
from frazil_functions.text import words
from frazil_functions.writing.lazy import Part, computed_parts, unpack
from frazil_functions.writing.overlap import PATIENCE_SECONDS, Budget, run_loop

_ANY_TYPE: Final = "OTUSV"
"""Kinds of types that Zarr turns into each other without asking."""


@dataclass(frozen=True, slots=True)
class SliceStep:
    """Slices that are computed together.

    Attributes
    ----------
    regions
        Where each belongs; the region's array is the target's path in the store.
    nbytes
        The size of their values in bytes.
    buffers
        Data that the slices carry, if they are of arrays in memory.
    """

    regions: tuple[Region, ...]
    nbytes: int
    buffers: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class SliceTask:
    """What one function invocation computes and writes.

    Attributes
    ----------
    number
        Its number within the call.
    fork
        The bytes of a clean fork, the same for every task.
    steps
        What is written, in order.
    slices
        The pickled `Slices` of every step, compressed together: see `pack`.
    memory_bytes
        How many bytes of values may be held at once; a single step may exceed it.
    versions
        What the client has installed; a function with another frazil or icechunk refuses the task.
    """

    number: int
    fork: bytes
    steps: tuple[SliceStep, ...]
    slices: bytes
    memory_bytes: int
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SlicesWritten:
    """What a function returns.

    Attributes
    ----------
    number
        The task's number.
    fork
        The bytes of the fork, with the references to what was written.
    nbytes
        The size of the values in bytes.
    seconds
        How long it took.
    """

    number: int
    fork: bytes
    nbytes: int
    seconds: float


def dump_slices_written(written: SlicesWritten) -> bytes:
    """What a function returns, in MessagePack."""
    return msgspec.msgpack.encode(written)


def load_slices_written(data: bytes) -> SlicesWritten:
    """What `dump_slices_written` wrote; data alone.

    Raises
    ------
    ReceiptError
        If the bytes are anything else.
    """
    if not isinstance(data, bytes):
        raise ReceiptError(f"what a function returned is a {type(data).__name__} instead of bytes")
    try:
        return from_msgpack(data, SlicesWritten)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ReceiptError(f"what a function returned cannot be read: {error}") from error


def write_slices(task: SliceTask) -> SlicesWritten:
    """Compute a task's slices and write them into a fork of its own.

    Raises
    ------
    SourceError
        If slices cannot be computed, or are not what their arrays hold; an UnreachableSourceError if that may pass.
    VersionError
        If the client has another frazil or icechunk.
    BackendError
        If the repository cannot be read or written.
    """
    began = time.perf_counter()
    differs = versions.difference(task.versions)
    if differs:
        raise VersionError(f"client and function have other versions ({differs}); install the same on both sides")
    fork = load_fork(task.fork)
    work = _Work(task, _open(fork, task))
    stopping = threading.Event()
    run_loop(work.run(stopping), stopping)
    nbytes = sum(step.nbytes for step in task.steps)
    return SlicesWritten(task.number, dump_fork(fork), nbytes, time.perf_counter() - began)


def _open(fork: icechunk.ForkSession, task: SliceTask) -> dict[str, zarr.Array[Any]]:
    paths = {region.array for step in task.steps for region in step.regions}
    try:
        return {path: zarr.open_array(fork.store, path=path, mode="r+") for path in paths}
    except (FileNotFoundError, icechunk.IcechunkError) as error:
        raise BackendError(f"the fork of the session cannot be opened by the function: {words(error)}") from error


@dataclass(slots=True)
class _Work:
    """A task's slices on their way into their arrays."""

    task: SliceTask
    arrays: dict[str, zarr.Array[Any]]
    error: BaseException | None = None

    async def run(self, stopping: threading.Event) -> None:
        """Compute every step in order while earlier ones are written; raise the first error."""
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(os.cpu_count() or 1, "frazil-codec"))
        budget = Budget(self.task.memory_bytes)
        writes: set[asyncio.Task[None]] = set()
        with ThreadPoolExecutor(1, "frazil-compute") as computer:
            try:
                for step, pickled in zip(self.task.steps, unpack(self.task.slices), strict=True):
                    await budget.take(step.nbytes)
                    if stopping.is_set():
                        raise asyncio.CancelledError  # noqa: TRY301 - as if the wait before it had been cancelled
                    if self.error is not None:
                        break
                    parts = await loop.run_in_executor(computer, self._compute, step, pickled)
                    write = asyncio.create_task(self._write(step, parts, budget))
                    writes.add(write)
                    write.add_done_callback(writes.discard)
                    del parts
            except BaseException:
                if writes:
                    _, late = await asyncio.wait(writes, timeout=PATIENCE_SECONDS)
                    for write in late:
                        write.cancel()
                raise
            if writes:
                await asyncio.wait(writes)
        if self.error is not None:
            raise self.error

    def _compute(self, step: SliceStep, pickled: bytes) -> list[Part]:
        targets = [self.arrays[region.array] for region in step.regions]
        units = [target.shards or target.chunks for target in targets]
        found = computed_parts(pickled, step.buffers, step.regions, units)
        for region, values in found:
            check_fits(region, values.shape, values.dtype, self.arrays[region.array].dtype)
        return found

    async def _write(self, step: SliceStep, parts: list[Part], budget: Budget) -> None:
        try:
            writes = (self._set(region, values) for region, values in parts)
            for error in await asyncio.gather(*writes, return_exceptions=True):
                self.error = self.error or error
        finally:
            await budget.give(step.nbytes)

    async def _set(self, region: Region, values: Values) -> None:
        try:
            await self.arrays[region.array].async_array.setitem(region.slices, values)
        except icechunk.IcechunkError as error:
            raise BackendError(f"{region} could not be written: {words(error)}") from error
        except (ValueError, TypeError) as error:
            raise SourceError(f"{region} could not be encoded: {words(error)}") from error


def check_fits(region: Region, shape: tuple[int, ...], own: "np.dtype[Any]", dtype: "np.dtype[Any]") -> None:
    """Refuse values that Zarr would broadcast, or turn into numbers of another kind.

    Raises
    ------
    SourceError
        Naming the region.
    """
    if shape != region.shape:
        raise SourceError(f"{region} was computed with the shape {shape}, and has {region.shape}")
    if own.kind not in _ANY_TYPE and not castable(own, dtype):
        raise SourceError(f"{region} was computed as {own}, which its array cannot hold; that stores {dtype}")


def castable(own: "np.dtype[Any]", dtype: "np.dtype[Any]") -> bool:
    """Whether values of a type may be stored as another, at the cost of digits alone."""
    return bool(np.can_cast(own, dtype, "same_kind"))
