"""Cutting the write grids into regions, and grouping regions into tasks."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from frazil.template.build import ArrayTemplate, DatasetTemplate
from frazil.template.chunking import itemsize_of
from frazil_functions.regions import Region

REGION_BYTES: Final = 32 << 20
"""How many bytes of values a region holds unless a write unit is larger: enough that opening and
seeking does not count, little enough that reading ahead stays cheap in memory."""

TASK_BYTES: Final = 64 << 20
"""Fewer bytes than this are not worth another function: starting one costs a second or two."""

MEMORY_REGIONS: Final = 3
"""How many of the largest regions a task holds: one being read, one encoded, one written."""


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """What one function invocation does.

    Attributes
    ----------
    regions
        In the order in which they are written.
    sources
        The positions of the first file that they need, and of the one behind the last.
    nbytes
        The size of their values.
    memory_bytes
        How many bytes of values are held at once.
    """

    regions: tuple[Region, ...]
    sources: tuple[int, int]
    nbytes: int
    memory_bytes: int


def cut(template: DatasetTemplate, region_bytes: int) -> list[Region]:
    """Regions that cover every array that functions write, in the order of the append dimension.

    What lies together along the append dimension is read from the same files, so it stays together
    whatever array it is of.
    """
    found: list[tuple[tuple[int, int, int], Region]] = []
    for number, array in enumerate(template.arrays.values()):
        if array.role == "data":
            found += (
                ((_start(region, template.append_dim), number, at), region)
                for at, region in enumerate(_cut_array(array, region_bytes))
            )
    found.sort(key=lambda pair: pair[0])
    return [region for _, region in found]


def _cut_array(array: ArrayTemplate, region_bytes: int) -> Iterator[Region]:
    unit_bytes = itemsize_of(array.dtype)
    for unit, length in zip(array.grid.unit, array.shape, strict=True):
        unit_bytes *= min(unit, length)
    return array.grid.cut(max(1, region_bytes // max(1, unit_bytes)))


def _start(region: Region, append_dim: str | None) -> int:
    span = region.span(append_dim) if append_dim is not None else None
    return span[0] if span is not None else 0


def nbytes(template: DatasetTemplate, region: Region) -> int:
    """The size of a region's values in bytes."""
    return region.size * itemsize_of(template.arrays[region.array].dtype)


def group(
    template: DatasetTemplate,
    regions: Sequence[Region],
    spans: Sequence[tuple[int, int]],
    workers: int,
    task_bytes: int,
) -> tuple[TaskPlan, ...]:
    """Regions in tasks of about as many bytes each, neighbours along the append dimension together.

    There are as many tasks as workers, but none of less than `task_bytes` where there is more
    than one.

    Parameters
    ----------
    template, regions
        What to write, in order.
    spans
        Where each file lies along the append dimension, in order.
    workers
        How many functions can run at once.
    task_bytes
        The least that is worth a function.
    """
    sizes = [nbytes(template, region) for region in regions]
    total = sum(sizes)
    count = max(1, min(workers, len(regions), -(-total // task_bytes)))
    groups: list[list[int]] = [[] for _ in range(count)]
    done = 0
    for number, size in enumerate(sizes):
        # A region goes where its middle lies, so that every task gets its share within half a region.
        groups[min(count - 1, int((done + size / 2) * count / max(1, total)))].append(number)
        done += size
    return tuple(
        _task(template, [regions[at] for at in members], sum(sizes[at] for at in members), spans)
        for members in groups
        if members
    )


def _task(template: DatasetTemplate, regions: list[Region], size: int, spans: Sequence[tuple[int, int]]) -> TaskPlan:
    largest = max(nbytes(template, region) for region in regions)
    return TaskPlan(tuple(regions), sources_of(regions, template.append_dim, spans), size, MEMORY_REGIONS * largest)


def sources_of(regions: Sequence[Region], append_dim: str | None, spans: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The positions of the first file that regions need, and of the one behind the last.

    What does not have the append dimension is read from the first file of all.

    Parameters
    ----------
    regions
        At least one.
    append_dim
        The dimension that files follow each other on.
    spans
        Where each file lies along it, in order.
    """
    ranges = [region.span(append_dim) if append_dim is not None else None for region in regions]
    found = [span for span in ranges if span is not None]
    first, last = 0, 0
    if found:
        low, high = min(span[0] for span in found), max(span[1] for span in found)
        first = bisect_right(spans, low, key=lambda span: span[1])
        last = max(first, bisect_left(spans, high, key=lambda span: span[0]))
    return (0, max(1, last)) if len(found) < len(ranges) else (first, last)
