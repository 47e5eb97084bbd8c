"""The requests that a run makes of object storage, by what they are for.

Every number here is counted: a run against a server on loopback makes as many (tests/client/costing). What is polled
depends on how long the run takes, and what is read of files on how they are stored; so those are spreads.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from frazil.costing.spread import Spread
from frazil_functions.locations import Location
from frazil_functions.plan import Plan, TaskPlan
from frazil_functions.records import Verify
from frazil_functions.regions import Region
from frazil_functions.repositories import manifest_span
from frazil_functions.runs.verify import SAMPLE_REGIONS
from frazil_functions.template import ArrayTemplate, itemsize_of

_INLINE: Final = 512
"""Bytes of a chunk that Icechunk keeps in its manifest rather than as an object."""

_MULTIPART: Final = 100 << 20
_PART: Final = 8 << 20
"""Objects above that size go up in parts, of this size at least."""

_PAGE: Final = 1 << 20
"""Bytes that are read of a remote file at once where small pieces of it are asked for."""

_LISTED: Final = 1000
"""Names in one answer to a LIST request."""

_LONGEST: Final = 60.0
_FIRST: Final = 2.0
"""Seconds between two receipts of a task, at most and at first; each waits twice as long as the one before."""

_NEW: Final = 17
_FEWEST: Final = 10
"""PUT requests of Icechunk's own that make a repository, commit the template, and publish: 5 copies of the repository's
info that are overwritten and 6 of new ones, 3 snapshots, 3 transaction logs. One that exists takes fewer."""

_OPENINGS: Final = 28
_FEWEST_OPENINGS: Final = 12
"""GET requests of Icechunk's own, of the client: the repository's info, references, configuration, transaction log."""


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests for one purpose.

    Attributes
    ----------
    purpose
        What they are for.
    puts
        PUT, COPY, POST and LIST requests, which have one price. DELETE has none.
    gets
        GET, HEAD and all others.
    """

    purpose: str
    puts: Spread
    gets: Spread


@dataclass(frozen=True, slots=True)
class Course:
    """How a run goes, as far as requests depend on it.

    Attributes
    ----------
    task_seconds
        How long each task takes.
    seconds
        How long functions take one after the other on as many workers as there are.
    verify
        What is read back.
    staging
        Whether Lithops carries calls through object storage.
    """

    task_seconds: tuple[Spread, ...]
    seconds: Spread
    verify: Verify = "sample"
    staging: bool = False


def in_s3(location: Location | None) -> bool:
    """Whether a place is in S3 or what speaks as it does."""
    return location is not None and location.url.startswith("s3://")


def requests_of(plan: Plan, course: Course) -> tuple[Requests, ...]:
    """The requests of a run, by what they are for; of repositories and sources in S3 alone.

    Parameters
    ----------
    plan
        What is written.
    course
        How the run goes.
    """
    found = []
    repositories = sum(in_s3(location) for location in plan.target.locations)
    if repositories:
        found += [_chunks(plan, repositories), _commits(plan, repositories), _verifying(plan, course)]
    if in_s3(plan.target.location):
        found.append(_run_directory(plan, course))
    if any(source.url.startswith("s3://") for source in plan.sources):
        found.append(_sources(plan))
    if course.staging:
        found.append(_staging(plan, course))
    return tuple(found)


def write_units(plan: Plan) -> int:
    """How many write units functions write into each repository."""
    return sum(owned_units(plan, array) for array in _data(plan))


def task_units(plan: Plan, task: TaskPlan) -> int:
    """How many write units a task writes."""
    return sum(units_of(plan, region) for region in task.regions)


def units_of(plan: Plan, region: Region) -> int:
    """How many write units a region has."""
    return plan.template.arrays[region.array].grid.count(region)


def _data(plan: Plan) -> Iterator[ArrayTemplate]:
    return (array for array in plan.template.arrays.values() if array.role == "data")


def owned_units(plan: Plan, array: ArrayTemplate) -> int:
    """How many write units of an array a run writes."""
    return math.prod(part.stop - part.start for part in plan.template.owned(array.name))


def _unit_bytes(array: ArrayTemplate) -> int:
    return math.prod(array.grid.unit) * itemsize_of(array.dtype)


def _puts(array: ArrayTemplate) -> Spread:
    """PUT requests of one write unit: none if it stays in a manifest, more than one if it goes up in parts."""
    nbytes = _unit_bytes(array)
    if nbytes <= _INLINE:
        return Spread.exactly(0)
    return Spread(1, 2 + -(-nbytes // _PART)) if nbytes > _MULTIPART else Spread.exactly(1)


def _chunks(plan: Plan, repositories: int) -> Requests:
    # A reference stays in the manifest; of files that are stored otherwise, values are copied.
    copied = (array for array in _data(plan) if array.name not in plan.referring)
    puts = [_puts(array).times(owned_units(plan, array)) for array in copied]
    every = Spread(sum(one.low for one in puts), sum(one.high for one in puts))
    # Every function opens the fork's snapshot, once in each repository.
    return Requests("chunks", every.times(repositories), Spread.exactly(len(plan.tasks) * repositories))


def _commits(plan: Plan, repositories: int) -> Requests:
    """The template, the commit, and publishing."""
    eager = [array for array in plan.template.arrays.values() if array.role in {"labels", "static"}]
    written = [array for array in eager if array.before != array.shape]
    objects = sum(_counts(array) for array in written if _unit_bytes(array) > _INLINE)
    manifests = len(written) + sum(
        -(-array.grid.counts[0] // manifest_span(array.grid.counts, refers=array.refers)) if array.shape else 1
        for array in _data(plan)
    )
    new = all(base is None for base in plan.target.bases)
    own = Spread(_NEW if new else _FEWEST, _NEW)
    puts = own + Spread(0 if not new else manifests, 2 * manifests) + Spread(0, objects) + Spread(0, 1)
    gets = Spread(_FEWEST_OPENINGS, _OPENINGS + 12) + Spread(0, manifests)
    return Requests("template, commit and publishing", puts.times(repositories), gets.times(repositories))


def _counts(array: ArrayTemplate) -> int:
    return math.prod(array.grid.counts)


def _verifying(plan: Plan, course: Course) -> Requests:
    if course.verify == "none":
        return Requests("reading back", Spread.exactly(0), Spread.exactly(0))
    units = sorted(units_of(plan, region) for region in plan.regions)
    taken = units if course.verify == "full" else units[-SAMPLE_REGIONS:]
    tasks = 1 if course.verify == "sample" else len(plan.tasks)
    manifests = sum(
        -(-array.grid.counts[0] // manifest_span(array.grid.counts, refers=array.refers)) if array.shape else 1
        for array in _data(plan)
    )
    inline = all(_unit_bytes(array) <= _INLINE for array in _data(plan))
    least = 0 if inline else units[0] if units and course.verify == "sample" else sum(taken)
    return Requests(
        "reading back",
        Spread.exactly(0),
        Spread(min(least, sum(taken)), sum(taken) + tasks * (2 + manifests)),
    )


def _run_directory(plan: Plan, course: Course) -> Requests:
    """Plan, record, fork, receipts, outcome; receipts are looked for about once a second."""
    receipts = Spread(
        sum(_receipts(one.low) for one in course.task_seconds), sum(_receipts(one.high) for one in course.task_seconds)
    )
    pages = -(-max(1, receipts.high) // _LISTED)
    looks = Spread(1, 2 + course.seconds.high * pages)
    forks = len(plan.target.locations)
    # wishes, plan, record, outcome; twice a clock; the lists of the run's and the repository's own names
    puts = Spread(6 + forks, 6 + forks + 4) + receipts + looks
    gets = Spread(4 + forks, 8 + forks) + receipts + Spread(0, 3 + looks.high)
    return Requests("run directory", puts, gets)


def _receipts(seconds: float) -> int:
    """Receipts that a task of so many seconds puts, at most."""
    count, wait, left = 1, _FIRST, seconds
    while left > wait:
        left -= wait
        count += 1 if wait < _LONGEST else int(left // wait) + 1
        if wait >= _LONGEST:
            break
        wait = min(2 * wait, _LONGEST)
    return count


def _sources(plan: Plan) -> Requests:
    """Each file that a task needs is looked at, opened, and read in ranges: of a region each, or of pages of 1 MiB."""
    opened = sum(max(0, task.sources[1] - task.sources[0]) for task in plan.tasks)
    reads = sum(len(task.regions) for task in plan.tasks)
    return Requests(
        "sources",
        Spread.exactly(0),
        Spread(2 * opened, 4 * opened + 2 * reads + (source_bytes(plan).high + plan.copied_nbytes) / _PAGE),
    )


def source_bytes(plan: Plan) -> Spread:
    """Bytes that functions read of files: their sizes, as far as they are known; else the values'."""
    sizes = [source.fingerprint.partition(":")[0] for source in plan.sources]
    if not all(one.isdecimal() for one in sizes) or not sizes:
        return Spread(0.1 * plan.copied_nbytes, plan.copied_nbytes)
    known = sum(map(int, sizes))
    if plan.referring:
        # Of what is referred to, the files' own lists of their chunks are read, and of the rest the values.
        least = 0.1 * plan.copied_nbytes
        return Spread(least, min(known, max(least, plan.copied_nbytes) + 0.05 * known + _PAGE * len(sizes)))
    return Spread(min(known, 0.1 * plan.nbytes), known)


def _staging(plan: Plan, course: Course) -> Requests:
    """What Lithops keeps in its bucket for calls: function, arguments, that a call began and how it ended."""
    tasks = len(plan.tasks)
    pages = -(-2 * tasks // _LISTED)
    polled = Spread(1, 2 + course.seconds.high * pages)
    return Requests("staging", Spread(2 * tasks + 1, 2 * tasks + 6) + polled, Spread(2 * tasks, 6 * tasks + 4))
