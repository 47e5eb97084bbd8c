"""The plan: every region of a job, proven disjoint, aligned and complete; pure data with a hash."""

import hashlib
import html
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import permutations
from typing import Final, Literal

import msgspec

from frazil_functions import __version__
from frazil_functions.decoding import from_json
from frazil_functions.errors import InvalidInputError
from frazil_functions.grids import WriteGrid, prove
from frazil_functions.proving import prove_places, prove_template
from frazil_functions.regions import Region
from frazil_functions.repositories import Location
from frazil_functions.tasks import FileSource
from frazil_functions.template import DatasetTemplate, check_group
from frazil_functions.text import size

FORMAT: Final = 3

type Mode = Literal["create", "overwrite", "append", "region", "modify", "add"]
"""`create`: a group that does not exist yet. `overwrite`: a group in place of one that may exist. The others write
into one that exists: `append` adds along one dimension, `region` replaces values in a part of it, `modify` replaces
variables as a whole, and adds others, `add` writes those alone that it does not have."""

NEW_GROUP: Final = frozenset({"create", "overwrite"})
"""The modes that make the group."""


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


@dataclass(frozen=True, slots=True)
class Replica:
    """Another repository that the same run publishes to.

    Attributes
    ----------
    location
        Where it is.
    base
        The snapshot that its branch was at; None if it is still to be created.
    """

    location: Location
    base: str | None


@dataclass(frozen=True, slots=True)
class PlanTarget:
    """Where the plan writes.

    Attributes
    ----------
    location
        The repository; None if it has none that can be opened again by its name.
    group, branch
        The group's path ("" is the root), and the branch that moves when the run is done.
    base
        The snapshot that the plan was made against; None if the repository is still to be created.
    mode
        What becomes of what is there.
    replicas
        Other repositories that get the same values, and are published before this one.
    """

    location: Location | None
    group: str
    branch: str
    base: str | None
    mode: Mode
    replicas: tuple[Replica, ...] = ()

    def __post_init__(self) -> None:
        check_group(self.group)
        named = [location.url for location in self.locations if location is not None]
        if len(set(named)) != len(named):
            raise InvalidInputError(f"a repository is named twice among {', '.join(named)}; name each once")
        for one, other in permutations(named, 2):
            if other.startswith(f"{one}/"):
                raise InvalidInputError(f"the repository {other} lies in {one}, which is one, too; name another place")

    @property
    def locations(self) -> tuple[Location | None, ...]:
        """Where every repository is; the primary last, as it is published last."""
        return (*(replica.location for replica in self.replicas), self.location)

    @property
    def bases(self) -> tuple[str | None, ...]:
        """The base in every repository, in the same order."""
        return (*(replica.base for replica in self.replicas), self.base)


@dataclass(frozen=True)
class Plan:
    """Every region of a job. Writes nothing; `frazil.run` executes it.

    Attributes
    ----------
    target
        Where it writes.
    template
        The dataset as it will be.
    sources
        The files, in the order of their labels.
    tasks
        What each function invocation does.
    filled
        How many labels no file has, which stay fill.
    versions
        Of frazil and icechunk, when the plan was made.
    """

    target: PlanTarget
    template: DatasetTemplate
    sources: tuple[FileSource, ...]
    tasks: tuple[TaskPlan, ...]
    filled: int
    versions: dict[str, str]
    format: int = FORMAT

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the plan's JSON, in hexadecimal."""
        return hashlib.sha256(self.to_json()).hexdigest()

    @cached_property
    def work_hash(self) -> str:
        """SHA-256 of what is to be written and where, whatever the repositories hold by now.

        Two plans of the same work that were made before and after a commit, or before and after the
        repository was created, have it in common.
        """
        replicas = tuple(replace(replica, base=None) for replica in self.target.replicas)
        target = replace(self.target, base=None, replicas=replicas)
        # How regions are shared among tasks is up to how many functions there happen to be.
        regions = tuple(sorted(self.regions, key=lambda region: (region.array, region.ranges)))
        tasks = (TaskPlan(regions, (0, 0), 0, 0),)
        return hashlib.sha256(replace(self, target=target, tasks=tasks, versions={}).to_json()).hexdigest()

    @property
    def regions(self) -> Iterator[Region]:
        """Every region, task by task."""
        return (region for task in self.tasks for region in task.regions)

    @property
    def region_count(self) -> int:
        """How many regions there are."""
        return sum(len(task.regions) for task in self.tasks)

    @property
    def source_words(self) -> str:
        """What the sources are, in words."""
        count = len(self.sources)
        if any(source.travels for source in self.sources):
            return "a dataset"
        return f"{count} file{'s' * (count != 1)}"

    @property
    def nothing_new(self) -> bool:
        """Whether there is nothing to write, and so nothing to commit: an append found nothing to add."""
        return self.template.empty

    @property
    def grids(self) -> tuple[WriteGrid, ...]:
        """The write grids of the arrays that functions write."""
        return tuple(array.grid for array in self.template.arrays.values() if array.role == "data")

    @property
    def nbytes(self) -> int:
        """The size of the values that functions write, in bytes, before compression."""
        return sum(self.template.owned_nbytes(grid.array) for grid in self.grids)

    def to_json(self) -> bytes:
        """The plan as JSON, equal for equal plans."""
        return msgspec.json.encode(self, order="deterministic")

    @classmethod
    def from_json(cls, data: bytes | str, *, proven: bool = False) -> "Plan":
        """The plan that `to_json` wrote; proven again, unless its hash shows that it is one that was.

        Raises
        ------
        InvalidInputError
            If it is no plan, was made by another version, or does not prove.
        """
        try:
            plan = from_json(data, cls)
        except (msgspec.MsgspecError, ValueError) as error:
            raise InvalidInputError(f"this is not a plan of frazil: {error}") from error
        if plan.format != FORMAT:
            raise InvalidInputError(
                f"the plan has format {plan.format} (frazil {plan.versions.get('frazil')}), and this is frazil "
                f"{__version__} with format {FORMAT}; plan again"
            )
        try:
            if not proven:
                plan.prove()
        except ValueError as error:  # a write grid that is none
            raise InvalidInputError(f"this is not a plan of frazil: {error}") from error
        return plan

    def prove(self) -> None:
        """Show that every write unit belongs to one region, every label to one file, every task has its files.

        Raises
        ------
        InvalidInputError
            Naming the region, the array and the write unit, or the file, or the task, where that is
            not so.
        """
        prove_template(self.template, makes=self.target.mode in NEW_GROUP)
        owned = {grid.array: self.template.owned(grid.array) for grid in self.grids} if self.template.extents else None
        prove(self.grids, self.regions, owned)
        self._prove_sources()
        prove_places(self.template, self.sources)
        spans = [(source.start, source.stop) for source in self.sources]
        for number, task in enumerate(self.tasks):
            first, behind = sources_of(task.regions, self.template.append_dim, spans) if task.regions else (0, 0)
            if not 0 <= task.sources[0] <= first <= behind <= task.sources[1] <= len(spans):
                raise InvalidInputError(
                    f"task {number} has the sources {task.sources[0]}:{task.sources[1]} of {len(spans)}, and its "
                    f"regions need {first}:{behind}; plan again"
                )

    def _prove_sources(self) -> None:
        """Files stand in order along the axis, apart from each other, and leave what is filled."""
        axis, covered = self.template.append_dim, 0
        # A dimension that no variable has is in no array, so it has no length but that of its files.
        known = axis is not None and axis in self.template.sizes
        begin, length = self.template.extent(axis) if axis is not None and known else (0, None)
        end = begin
        if not self.sources and not self.nothing_new:
            raise InvalidInputError("the plan has no sources; plan again")
        for number, source in enumerate(self.sources):
            what = f"{source.url}: source {number}"
            if source.stop < source.start:
                raise InvalidInputError(f"{what} ends at {source.stop} and begins at {source.start}; plan again")
            if source.start < end:
                before = f"the one before it ends at {end}" if number else f"what is written at {end}"
                raise InvalidInputError(f"{what} begins at {source.start}, and {before}; plan again")
            covered, end = covered + source.stop - source.start, source.stop
        length = (0 if axis is None else end) if length is None else length
        if end > length:
            raise InvalidInputError(
                f"what is written ends at {length} labels, and source {len(self.sources) - 1} ends at {end}; plan again"
            )
        if self.filled < 0 or covered + self.filled != length - begin:
            raise InvalidInputError(
                f"{covered} labels are those of sources and {self.filled} are filled, of {length - begin}; plan again"
            )

    def describe(self) -> list[tuple[str, str]]:
        """What a person wants to know of it, as names and values."""
        template = self.template
        axis = template.append_dim
        rows = [
            ("target", f"{self.target.location or 'a repository'} {self.target.branch}:/{self.target.group}"),
            ("base", self.target.base or "new repository"),
            *(("replica", f"{replica.location}") for replica in self.target.replicas),
            ("sources", self.source_words + (f" along {axis}" if axis else "")),
            *([("writes", _ranges(template.extents))] if template.extents else []),
            ("dimensions", ", ".join(f"{dim} {size}" for dim, size in template.sizes.items())),
        ]
        for array in template.arrays.values():
            if array.role == "data":
                cut = f"chunks {array.chunks}" + (f", shards {array.shards}" if array.shards else "")
                rows.append(
                    (
                        array.name,
                        f"{array.dtype} {array.shape}, {cut}, {array.grid.total} write units, {size(array.nbytes)}",
                    )
                )
        rest = [array.name for array in template.arrays.values() if array.role != "data"]
        rows.append(("written once", ", ".join(rest) or "nothing"))
        large = [name for name, array in template.arrays.items() if array.role == "data" and axis not in array.dims]
        if large and len(self.sources) > 1:
            # Static values that are too large to be read by the planner have no digest.
            rows.append(("not compared", f"{', '.join(large)} (taken from the first file)"))
        if self.filled:
            rows.append(("filled", f"{self.filled} labels that no file has"))
        rows.append(("regions", f"{self.region_count} in {len(self.tasks)} tasks, {size(self.nbytes)}"))
        rows.append(("hash", self.hash[:16]))
        return rows

    def __repr__(self) -> str:
        rows = self.describe()
        width = max(len(name) for name, _ in rows)
        return "<frazil.Plan>\n" + "\n".join(f"  {name:<{width}}  {value}" for name, value in rows)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th align='left'>{html.escape(name)}</th><td align='left'>{html.escape(value)}</td></tr>"
            for name, value in self.describe()
        )
        return f"<table><caption>frazil.Plan</caption>{rows}</table>"


def _ranges(extents: Mapping[str, tuple[int, int]]) -> str:
    return ", ".join(f"{dim} {start}:{stop}" for dim, (start, stop) in extents.items())
