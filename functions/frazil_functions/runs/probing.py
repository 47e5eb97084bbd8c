"""probe_task: read one region of a plan where functions run, and encode it as its array would store it.

What is encoded goes into a repository in the memory of the function and goes with it, so nothing is stored anywhere,
whatever ends the function, and nothing can be published. What storing takes is not measured.
"""

import os
import threading
import time
from dataclasses import dataclass, field, replace

import icechunk
import msgspec

from frazil_functions import versions
from frazil_functions.decoding import from_msgpack
from frazil_functions.errors import ReceiptError, VersionError
from frazil_functions.reading.sources import FileSources
from frazil_functions.regions import Region
from frazil_functions.runs.template import write_template
from frazil_functions.tasks import FileSource
from frazil_functions.template import ArrayTemplate, DatasetTemplate
from frazil_functions.writing.overlap import run_loop
from frazil_functions.writing.parts import peak_memory
from frazil_functions.writing.targets import check_values, open_targets, target_of


@dataclass(frozen=True, slots=True)
class ProbeTask:
    """A region that is read and encoded.

    Attributes
    ----------
    append_dim, sources
        As in `frazil_functions.tasks.WriteTask`.
    region
        What is read: what is planned to be written of it.
    array
        How it is stored.
    versions
        What whoever planned it has installed.
    """

    append_dim: str | None
    sources: tuple[FileSource, ...]
    region: Region
    array: ArrayTemplate
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Probed:
    """What that took.

    Attributes
    ----------
    nbytes, stored_bytes
        The size of the region's values, and of their chunks.
    seconds
        From the begin of the task to its end.
    read_seconds, write_seconds
        What of it was opening and reading, and encoding.
    peak_memory_bytes
        The largest resident size of the process so far.
    processors
        How many processors the process sees.
    """

    nbytes: int
    stored_bytes: int
    seconds: float
    read_seconds: float
    write_seconds: float
    peak_memory_bytes: int
    processors: int


def probe_task(task: ProbeTask) -> Probed:
    """Read the region, encode it, and forget it.

    Raises
    ------
    SourceError
        If a file cannot be read, or has changed since the plan was made.
    VersionError
        If the task was planned with another frazil or icechunk.
    """
    differs = versions.difference(task.versions)
    if differs:
        raise VersionError(
            f"the probe was planned with other versions ({differs}); install the same ones on both sides"
        )
    began = time.perf_counter()
    sizes = dict(zip(task.array.dims, task.array.shape, strict=True))
    array = replace(task.array, before=None, changes={})
    alone = DatasetTemplate(sizes, task.append_dim, {}, {array.name: array}, {})
    session = icechunk.Repository.create(icechunk.in_memory_storage()).writable_session("main")
    write_template(session, "", alone, {}, "create")
    target = target_of(open_targets(session, "", [array.name], "r+")[array.name], task.region)
    empty = _stored_bytes(session, array.name)
    before = time.perf_counter()
    with FileSources(task.sources, task.append_dim) as sources:
        values = sources.read(task.region, target.dtype, target.attributes)
    check_values(task.region, values, target)
    read = time.perf_counter()
    target.array[task.region.slices] = values
    written = time.perf_counter()
    return Probed(
        nbytes=values.nbytes,
        stored_bytes=_stored_bytes(session, array.name) - empty,
        seconds=time.perf_counter() - began,
        read_seconds=read - before,
        write_seconds=written - read,
        peak_memory_bytes=peak_memory(),
        processors=os.cpu_count() or 1,
    )


def _stored_bytes(session: icechunk.Session, name: str) -> int:
    """The size of an array, its metadata included, as it is stored."""
    return run_loop(session.store.getsize_prefix(name), threading.Event())


def dump_probed(probed: Probed) -> bytes:
    """What a probe took, in MessagePack."""
    return msgspec.msgpack.encode(probed)


def load_probed(data: bytes) -> Probed:
    """What `dump_probed` wrote; data alone.

    Raises
    ------
    ReceiptError
        If the bytes are anything else.
    """
    try:
        return from_msgpack(data, Probed)
    except (msgspec.MsgspecError, ValueError, TypeError) as error:
        raise ReceiptError(f"what a probe returned cannot be read: {error}") from error
