"""Referring: chunks that a file holds whole become references to it, and only what is left of a region is copied.

Each file is looked at once in a task, for all its variables. What a reference says of its file, beside the place, is a
mark of it as it is now; whoever reads it later gets an error if the file has changed.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import google_crc32c
import icechunk
import numpy as np

from frazil_functions.errors import BackendError, SourceError
from frazil_functions.footprint import COPIED_BYTES
from frazil_functions.grids import WriteGrid
from frazil_functions.reading.opening import check_unchanged
from frazil_functions.reading.references import References, ReferredFile, reference_checksum
from frazil_functions.reading.remote import PATIENCE
from frazil_functions.regions import Region
from frazil_functions.storage import Patience
from frazil_functions.tasks import FileSource, WriteTask
from frazil_functions.text import words
from frazil_functions.writing.targets import Target

type _Mask = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


@dataclass(frozen=True, slots=True)
class Box:
    """Chunks of an array that lie in one file.

    Attributes
    ----------
    first
        The index of the first of them in the array's grid of chunks.
    found
        Where they lie, in an array of as many dimensions.
    mark
        What tells whether the file has changed: an ETag, or when it was modified last.
    """

    first: tuple[int, ...]
    found: References
    mark: str | datetime


@dataclass(frozen=True, slots=True)
class Placed:
    """What becomes of a region.

    Attributes
    ----------
    boxes
        Chunks that are referred to.
    copied
        The rest, in regions of whole write units.
    """

    boxes: tuple[Box, ...]
    copied: tuple[Region, ...]

    @property
    def crc32c(self) -> int:
        """A checksum of the references."""
        crc = 0
        for box in self.boxes:
            found = box.found
            locations = found.locations if isinstance(found.locations, str) else "\n".join(found.locations.ravel())
            said = f"{box.first} {found.offsets.shape} {locations}".encode()
            crc = extended(crc, said, found.stored.tobytes(), found.offsets.tobytes(), found.lengths.tobytes())
        return crc


def extended(crc: int, *parts: bytes) -> int:
    """A checksum as it is with more behind."""
    for part in parts:
        crc = google_crc32c.extend(crc, part)
    return crc


class Referrals:
    """Where the chunks of a task's arrays lie in its files. To be used by one thread at a time.

    Parameters
    ----------
    task
        What is written.
    patience
        How long remote storage is waited for.
    """

    def __init__(self, task: WriteTask, patience: Patience = PATIENCE) -> None:
        self._task = task
        self._dims = {region.array: region.dims for region in task.regions if region.array in task.layouts}
        self._patience = patience
        self._files: dict[str, _File] = {}

    def place(self, region: Region, grid: WriteGrid) -> Placed:
        """What becomes of a region: references into files that hold chunks of it whole, and the rest.

        Parameters
        ----------
        region
            Of whole write units.
        grid
            Of its array.

        Raises
        ------
        SourceError
            If a file cannot be read, has changed since the plan was made, or is stored otherwise.
        """
        part = grid.unit_slices(region)
        counts = tuple(one.stop - one.start for one in part)
        left: _Mask = np.ones(counts, bool)
        boxes = []
        for file, whole in self._files_of(region, grid):
            inside = [_overlap(one, rows) for one, rows in zip(part, whole.rows, strict=True)]
            if any(one.start >= one.stop for one in inside):
                continue
            known = self._known(file)
            found = known.found[region.array].part(
                tuple(
                    slice(one.start - first, one.stop - first) for one, first in zip(inside, whole.firsts, strict=True)
                )
            )
            boxes.append(Box(tuple(one.start for one in inside), found, known.mark))
            here = tuple(
                slice(one.start - own.start, one.stop - own.start) for one, own in zip(inside, part, strict=True)
            )
            left[here] &= ~found.stored
        copied = tuple(_regions(region, grid, left)) if left.any() else ()
        return Placed(tuple(boxes), copied)

    def _files_of(self, region: Region, grid: WriteGrid) -> Iterator[tuple[FileSource, "_Whole"]]:
        """The files that hold something of a region, less those that it is copied from, and what they hold whole."""
        axis = self._task.append_dim
        span = region.span(axis) if axis is not None else None
        files = self._task.sources if span is not None else self._task.sources[:1]
        for file in files:
            overlaps = span is None or (file.start < span[1] and span[0] < file.stop)
            turned = bool(file.places.keys() & set(region.dims))
            if not overlaps or turned or region.array in file.copied or region.array in file.recode:
                continue
            extents = [
                (file.start, file.stop) if dim == axis else self._task.extents.get(dim, (0, length))
                for dim, length in zip(grid.dims, grid.shape, strict=True)
            ]
            yield file, _Whole.of(extents, grid)

    def _known(self, file: FileSource) -> "_File":
        """Where the chunks of every array of the task lie in a file."""
        if file.url not in self._files:
            first = file is self._task.sources[0]
            names = [
                name
                for name, dims in self._dims.items()
                if name not in (*file.copied, *file.recode) and (first or self._task.append_dim in dims)
            ]
            mark = reference_checksum(file.url, file.fingerprint, self._patience)
            with ReferredFile(file.url, file.engine, file.fingerprint, patience=self._patience) as opened:
                found = {name: opened.references(name, self._task.layouts[name]) for name in names}
            check_unchanged(file.url, file.fingerprint, self._patience)
            self._files[file.url] = _File(found, mark)
        return self._files[file.url]


@dataclass(frozen=True, slots=True)
class _File:
    """Where the chunks of arrays lie in a file, by name, and a mark of it."""

    found: dict[str, References]
    mark: str | datetime


@dataclass(frozen=True, slots=True)
class _Whole:
    """The chunks of an array that lie within a file, along each dimension; and which of them is the file's first."""

    rows: tuple[slice, ...]
    firsts: tuple[int, ...]

    @classmethod
    def of(cls, extents: Sequence[tuple[int, int]], grid: WriteGrid) -> "_Whole":
        rows = []
        for (start, stop), length, unit in zip(extents, grid.shape, grid.unit, strict=True):
            first = start // unit
            # What begins within a chunk has no chunk of the file's where the array has one.
            last = first if start % unit else -(-stop // unit) if stop == length else stop // unit
            rows.append(slice(first, last))
        return cls(tuple(rows), tuple(one.start for one in rows))


def _overlap(one: slice, other: slice) -> slice:
    return slice(max(one.start, other.start), min(one.stop, other.stop))


def _regions(region: Region, grid: WriteGrid, left: _Mask) -> Iterator[Region]:
    """The write units of a region that are left, in regions of `COPIED_BYTES` at most or of a single one."""
    part = grid.unit_slices(region)
    for box in _boxes(left, max(1, COPIED_BYTES // (8 * math.prod(grid.unit)))):
        ranges = []
        for dim, length, unit, own, inside in zip(grid.dims, grid.shape, grid.unit, part, box, strict=True):
            start, stop = own.start + inside.start, own.start + inside.stop
            ranges.append((dim, start * unit, min(length, stop * unit)))
        yield Region(region.array, tuple(ranges))


def _boxes(left: _Mask, most: int) -> Iterator[tuple[slice, ...]]:
    """Boxes of `most` elements or less that hold what is true, and no more, each element once."""
    waiting: list[tuple[slice, ...]] = [tuple(slice(0, length) for length in left.shape)]
    while waiting:
        box = waiting.pop()
        inside = left[box]
        if not inside.any():
            continue
        if inside.size <= most and inside.all():
            yield box
            continue
        axis = max(range(inside.ndim), key=lambda at: inside.shape[at])
        middle = box[axis].start + inside.shape[axis] // 2
        low, high = slice(box[axis].start, middle), slice(middle, box[axis].stop)
        waiting += [(*box[:axis], half, *box[axis + 1 :]) for half in (high, low)]


def set_references(region: Region, placed: Placed, target: Target, fork: icechunk.ForkSession) -> None:
    """Refer to what is placed in files, in one fork.

    Raises
    ------
    BackendError
        If the fork cannot take the references.
    SourceError
        If a file lies outside of the repository's containers.
    """
    for box in placed.boxes:
        found = box.found
        if not found.stored.any():
            continue
        try:
            refused = fork.store.set_virtual_refs_arr(
                f"/{target.array.path}",
                found.offsets.shape,
                found.urls(),
                found.offsets.ravel(),
                found.lengths.ravel(),
                validate_containers=True,
                arr_offset=box.first,
                checksum=box.mark,
            )
        except (icechunk.IcechunkError, ValueError) as error:
            raise BackendError(f"{region} could not refer to its files: {words(error)}") from error
        if refused:
            where = found.locations if isinstance(found.locations, str) else found.locations.ravel()[0]
            raise SourceError(
                f"{where} lies in no container of the repository, so nobody could follow a reference there; declare "
                "one that holds it (--container)"
            )
