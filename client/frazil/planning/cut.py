"""Cutting the write grids into regions, and grouping regions into tasks."""

from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate
from typing import Final

from frazil_functions.footprint import handled_nbytes, held_nbytes
from frazil_functions.plan import TaskPlan, sources_of
from frazil_functions.regions import Region
from frazil_functions.template import ArrayTemplate, DatasetTemplate, itemsize_of

REGION_BYTES: Final = 32 << 20
"""How many bytes of values a region holds unless a write unit is larger: enough that opening and
seeking does not count, little enough that reading ahead stays cheap in memory."""

REGION_UNITS: Final = 1024
"""How many write units a region holds at most: Zarr starts on all of them at once, and what it has started on is slow
to call off."""

REGION_REFERENCES: Final = 8192
"""How many references a region holds at most: a second's work of a function, little enough to do again."""

TASK_BYTES: Final = 64 << 20
"""Fewer bytes than this are not worth another function: starting one costs a second or two."""

TASK_MOST_BYTES: Final = 4 << 30
"""More bytes than this are several tasks, however few functions run at once: at 50 MB/s they take a
minute and a half of the fifteen that AWS Lambda allows, and what fails is that much work at most."""

MEMORY_REGIONS: Final = 3
"""How many of the largest regions a task holds: one being read, one encoded, one written."""


def cut(template: DatasetTemplate, region_bytes: int, referring: Collection[str] = ()) -> list[Region]:
    """Regions that cover every array that functions write, in the order of the append dimension.

    What lies together along the append dimension is read from the same files, so it stays together
    whatever array it is of.

    Parameters
    ----------
    template
        What is written.
    region_bytes
        How many bytes of values a region holds at most, unless a write unit is larger.
    referring
        Arrays that refer to the chunks of their sources, so that their regions hold no values.
    """
    found: list[tuple[tuple[int, int, int], Region]] = []
    for number, array in enumerate(template.arrays.values()):
        if array.role == "data":
            owned = template.owned(array.name)
            regions = (
                array.grid.cut(REGION_REFERENCES, owned)
                if array.name in referring
                else _cut_array(array, region_bytes, owned)
            )
            found += (((_start(region, template.append_dim), number, at), region) for at, region in enumerate(regions))
    found.sort(key=lambda pair: pair[0])
    return [region for _, region in found]


def _cut_array(array: ArrayTemplate, region_bytes: int, owned: Sequence[slice]) -> Iterator[Region]:
    unit_bytes = itemsize_of(array.dtype)
    for unit, length in zip(array.grid.unit, array.shape, strict=True):
        unit_bytes *= min(unit, length)
    return array.grid.cut(max(1, min(REGION_UNITS, region_bytes // max(1, unit_bytes))), owned)


def _start(region: Region, append_dim: str | None) -> int:
    span = region.span(append_dim) if append_dim is not None else None
    return span[0] if span is not None else 0


def group(
    template: DatasetTemplate,
    regions: Sequence[Region],
    spans: Sequence[tuple[int, int]],
    workers: int,
    task_bytes: int,
    most_bytes: int = TASK_MOST_BYTES,
    *,
    referring: Collection[str] = (),
) -> tuple[TaskPlan, ...]:
    """Regions in tasks of about as many bytes each, neighbours along the append dimension together.

    There are as many tasks as workers, or a multiple of that where they would hold more than
    `most_bytes`; but not so many that they hold less than `task_bytes` on average.

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
    most_bytes
        The most that a function is given, unless a single region is more.
    referring
        Arrays that refer to the chunks of their sources.
    """
    sizes = [handled_nbytes(template, region, referring) for region in regions]
    total = sum(sizes)
    count = _count(sizes, workers, task_bytes, most_bytes)
    groups: list[list[int]] = [[] for _ in range(count)]

    def largest(members: Sequence[int]) -> int:
        return max(held_nbytes(template, regions[at], referring) for at in members)

    done = 0
    for number, size in enumerate(sizes):
        # A region goes where its middle lies, so that every task gets its share within half a region.
        groups[min(count - 1, int((done + size / 2) * count / max(1, total)))].append(number)
        done += size
    return tuple(
        _task([regions[at] for at in members], sum(sizes[at] for at in members), largest(members), spans, template)
        for shared in groups
        for members in _split(shared, sizes, most_bytes)
    )


def _count(sizes: Sequence[int], workers: int, least: int, most: int) -> int:
    """How many tasks share regions of these sizes."""
    total = sum(sizes)
    worthwhile = -(-total // least)
    count = max(1, min(workers, len(sizes), worthwhile))
    # A share within half a region of the even one is no more than `most` if that one is a region less.
    needed = -(-total // max(1, most - max(sizes, default=0), most // 2))
    if needed <= count:
        return count
    rounds = -(-needed // workers) * workers
    return min(len(sizes), max(needed, min(rounds, worthwhile)))


def _split(members: list[int], sizes: Sequence[int], most: int) -> Iterator[list[int]]:
    """Regions of one task in tasks of `most` bytes or one region; large ones may stand beside small ones."""
    waiting = [members] if members else []
    while waiting:
        part = waiting.pop()
        size = sum(sizes[at] for at in part)
        if len(part) == 1 or size <= most:
            yield part
            continue
        edges = list(accumulate(sizes[at] for at in part))
        middle = min(range(1, len(part)), key=lambda at: abs(2 * edges[at - 1] - size))
        waiting += [part[middle:], part[:middle]]


def _task(
    regions: list[Region], size: int, largest: int, spans: Sequence[tuple[int, int]], template: DatasetTemplate
) -> TaskPlan:
    return TaskPlan(tuple(regions), sources_of(regions, template.append_dim, spans), size, MEMORY_REGIONS * largest)
