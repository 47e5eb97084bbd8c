"""Scanning: the metadata of every source file, read by functions where there are many."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

from frazil.execution.executor import Executor
from frazil.execution.results import results
from frazil.labels.compare import are_alike, check_readable, infer_append_dim, select
from frazil.planning.existing import Existing
from frazil.report import Listener, Progress
from frazil_functions.errors import InvalidInputError, ReceiptError, nearest
from frazil_functions.handler import scan as scan_call
from frazil_functions.reading.opening import check_engine
from frazil_functions.reading.remote import is_remote
from frazil_functions.reading.scanning import FileMetadata, Labels, Scan, ScanTask, load_scan, scan_task
from frazil_functions.reading.sources import FileSources, Source
from frazil_functions.tasks import FileSource

FANNED_OUT_LOCAL: Final = 1000
FANNED_OUT_REMOTE: Final = 64
"""From so many files on functions read the metadata. A local file takes some 4 ms, a remote one several requests, and a
function a few seconds to start; fewer are read sooner here."""

FILES_PER_TASK: Final = 2000
"""The most files that one function is asked for."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What the files say of themselves.

    Attributes
    ----------
    files
        In the order in which they were named, with the wanted variables alone.
    labels
        The labels that digests name.
    append_dim
        The dimension that the files follow each other on.
    reader
        What opens some of them, once they have their place, to read values.
    """

    files: tuple[FileMetadata, ...]
    labels: dict[str, Labels]
    append_dim: str | None
    reader: Callable[[Sequence[FileSource], str | None], AbstractContextManager[Source]] = FileSources


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of the sources.

    Attributes
    ----------
    engine
        The Xarray engine; None to tell by each file's first bytes.
    append_dim
        The dimension that the files follow each other on; None to infer it.
    variables
        Which to write; None for all of them.
    layouts
        Whether to look how their chunks are stored.
    """

    engine: str | None = None
    append_dim: str | None = None
    variables: tuple[str, ...] | None = None
    layouts: bool = False


def scan_sources(
    urls: Sequence[str],
    wanted: Wanted,
    executor: Executor,
    listener: Listener,
    existing: Existing | None = None,
) -> Sources:
    """Read the metadata of all files.

    The first and the last file are read at once, for they tell the append dimension and most
    mistakes; functions read the rest if there are many.

    Raises
    ------
    InvalidInputError
        If a file cannot be read, or the append dimension cannot be told.
    """
    if wanted.engine is not None:
        check_engine(wanted.engine)
    ends = (urls[0], urls[-1]) if len(urls) > 1 else (urls[0],)
    peek = scan_task(ScanTask(ends, wanted.engine, None, digests=False))
    check_readable(peek.files)
    chosen = select(peek.files, wanted.variables)
    append_dim = append_dim_of(chosen, peek.labels, wanted, existing)
    scan = _scan_all(urls, wanted, append_dim, executor, listener)
    check_readable(scan.files)
    return Sources(select(scan.files, wanted.variables), scan.labels, append_dim)


def _infer(chosen: Sequence[FileMetadata], labels: Mapping[str, Labels], existing: Existing | None) -> str | None:
    """The dimension that files follow each other on, and what exists."""
    if existing is None:
        return infer_append_dim(chosen, labels)
    files = [existing.file, *chosen]
    # One file that is there already, to the last label: it would follow on the dimension that it grows along.
    return infer_append_dim(files[:1] if are_alike(files) else files, existing.labels | dict(labels))


def append_dim_of(
    chosen: Sequence[FileMetadata], labels: Mapping[str, Labels], wanted: Wanted, existing: Existing | None
) -> str | None:
    """The dimension that files follow each other on, as it is wanted or else inferred.

    Raises
    ------
    InvalidInputError
        If there is none such, or it cannot be told.
    """
    append_dim = wanted.append_dim or _infer(chosen, labels, existing)
    if append_dim is not None and append_dim not in chosen[0].sizes:
        raise InvalidInputError(
            f"{chosen[0].url} has no dimension {append_dim!r}; {nearest(append_dim, chosen[0].sizes)}"
        )
    if existing is not None and append_dim is None:
        raise InvalidInputError(f"{chosen[0].url} has no dimension to append along")
    return append_dim


def _scan_all(
    urls: Sequence[str], wanted: Wanted, append_dim: str | None, executor: Executor, listener: Listener
) -> Scan:
    listener(Progress("scan", 0, len(urls)))

    def task(some: Sequence[str]) -> ScanTask:
        return ScanTask(tuple(some), wanted.engine, append_dim, digests=True, layouts=wanted.layouts)

    if len(urls) < (FANNED_OUT_REMOTE if is_remote(urls[0]) else FANNED_OUT_LOCAL):
        scan = scan_task(task(urls))
        listener(Progress("scan", len(urls), len(urls)))
        return scan
    per = max(1, min(FILES_PER_TASK, -(-len(urls) // executor.workers)))
    tasks = [task(urls[at : at + per]) for at in range(0, len(urls), per)]
    parts: dict[int, Scan] = {}
    done = 0
    for number, value in results(executor, scan_call, tasks):
        part = load_scan(value)
        if tuple(file.url for file in part.files) != tasks[number].urls:
            raise ReceiptError("a function returned the metadata of other files than it was asked for")
        parts[number] = part
        done += len(part.files)
        listener(Progress("scan", done, len(urls)))
    return Scan(
        tuple(file for at in range(len(tasks)) for file in parts[at].files),
        {digest: labels for part in parts.values() for digest, labels in part.labels.items()},
    )
