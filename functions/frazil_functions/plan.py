"""The plan: every region of a job, proven disjoint, aligned and complete; pure data with a hash."""

import hashlib
import html
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import permutations
from pathlib import PurePosixPath
from typing import Final, Literal

import msgspec

from frazil_functions import __version__
from frazil_functions.containers import Container
from frazil_functions.decoding import from_json
from frazil_functions.errors import InvalidInputError
from frazil_functions.footprint import referring
from frazil_functions.grids import WriteGrid, prove
from frazil_functions.layouts import Layout
from frazil_functions.locations import Location
from frazil_functions.proving import prove_places, prove_sources, prove_template
from frazil_functions.reading.encoding import STRING
from frazil_functions.reading.rounding import loss_of
from frazil_functions.regions import Region
from frazil_functions.repositories import manifest_span
from frazil_functions.tasks import REPOSITORY, FileSource
from frazil_functions.template import ArrayTemplate, DatasetTemplate, check_group
from frazil_functions.text import escaped, size

FORMAT: Final = 6

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
        The size of their values; of references, what finding them is like.
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


PARTED_UNITS: Final = 300_000
"""More write units than this are committed in parts, for the client would hold all of them at once otherwise."""


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
    containers
        The places that references lead into, in every repository.
    """

    location: Location | None
    group: str
    branch: str
    base: str | None
    mode: Mode
    replicas: tuple[Replica, ...] = ()
    containers: tuple[Container, ...] = ()

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
    expected
        What running it is expected to take, as names and values, for people: no part of its JSON, nor of its hash, as
        prices and guesses change and the plan does not.
    job
        The digest of what the job file says is written, that the plan was made from; empty if there was none.
    """

    target: PlanTarget
    template: DatasetTemplate
    sources: tuple[FileSource, ...]
    tasks: tuple[TaskPlan, ...]
    filled: int
    versions: dict[str, str]
    job: str = ""
    format: int = FORMAT
    expected: tuple[tuple[str, str], ...] | msgspec.UnsetType = field(default=msgspec.UNSET, compare=False)

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
        work = replace(self, target=target, tasks=tasks, versions={}, job="")
        return hashlib.sha256(work.to_json()).hexdigest()

    @property
    def regions(self) -> Iterator[Region]:
        """Every region, task by task."""
        return (region for task in self.tasks for region in task.regions)

    @property
    def region_count(self) -> int:
        """How many regions there are."""
        return sum(len(task.regions) for task in self.tasks)

    @property
    def materializes(self) -> bool:
        """Whether it copies what references lead to into the repository that has them."""
        return any(source.engine == REPOSITORY for source in self.sources)

    @property
    def source_words(self) -> str:
        """What the sources are, in words."""
        count = len(self.sources)
        if self.materializes:
            return "what its references lead to"
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
        """The size of the values that functions write or refer to, in bytes, before compression."""
        return sum(self.template.owned_nbytes(grid.array) for grid in self.grids)

    @property
    def copied_nbytes(self) -> int:
        """The size of those that they write."""
        return self.nbytes - self.referred_nbytes

    @property
    def referred_nbytes(self) -> int:
        """The size of those that they refer to; chunks that no file holds whole count, too."""
        arrays = [array for array in self.template.arrays.values() if array.role == "data" and array.refers]
        return sum(round(self.template.owned_nbytes(array.name) * self._referred_share(array)) for array in arrays)

    def _referred_share(self, array: ArrayTemplate) -> float:
        """Of an array's labels along the append dimension, the share that refers to files."""
        if self.template.append_dim not in array.dims:
            return float(all(array.name not in source.copied for source in self.sources[:1]))
        labels = sum(source.stop - source.start for source in self.sources)
        copied = sum(source.stop - source.start for source in self.sources if array.name in source.copied)
        return 1 - copied / labels if labels else 0.0

    @cached_property
    def parted(self) -> bool:
        """Whether there are so many write units that what is merged of them is committed in parts."""
        grids = {grid.array: grid for grid in self.grids}
        return sum(grids[region.array].count(region) for region in self.regions) > PARTED_UNITS

    @cached_property
    def referring(self) -> frozenset[str]:
        """Arrays that refer to the chunks of all their sources; see `referring`."""
        return referring(self.template, self.sources)

    @property
    def manifest_spans(self) -> dict[str, int]:
        """How many chunks along its first dimension share a manifest, for each array that is made, by its path."""
        group = PurePosixPath("/", self.target.group)
        made = (
            array for array in self.template.arrays.values() if array.before is None and array.role in {"data", "empty"}
        )
        return {str(group / one.name): manifest_span(one.grid.counts, refers=one.refers) for one in made}

    @cached_property
    def layouts(self) -> dict[str, Layout]:
        """How the chunks of arrays are stored that refer to those of their sources, by name."""
        return {name: array.layout for name, array in self.template.arrays.items() if array.layout is not None}

    def to_json(self) -> bytes:
        """The plan as JSON, equal for equal plans."""
        return msgspec.json.encode(replace(self, expected=msgspec.UNSET), order="deterministic")

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
        return replace(plan, expected=msgspec.UNSET)

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
        prove_sources(self.template, self.sources, self.filled)
        prove_places(self.template, self.sources)
        spans = [(source.start, source.stop) for source in self.sources]
        for number, task in enumerate(self.tasks):
            first, behind = sources_of(task.regions, self.template.append_dim, spans) if task.regions else (0, 0)
            if not 0 <= task.sources[0] <= first <= behind <= task.sources[1] <= len(spans):
                raise InvalidInputError(
                    f"task {number} has the sources {task.sources[0]}:{task.sources[1]} of {len(spans)}, and its "
                    f"regions need {first}:{behind}; plan again"
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
                cut += f", {array.compression}" if array.compression else ""
                cut += ", by reference" if array.refers else ""
                rows.append(
                    (
                        array.name,
                        f"{array.dtype} {array.shape}, {cut}, {array.grid.total} write units, {size(array.nbytes)}",
                    )
                )
                rows += self._losses(array)
        empty = [array for array in template.arrays.values() if array.role == "empty"]
        rows += [(one.name, f"{one.dtype} {one.shape}, chunks {one.chunks}, left empty") for one in empty]
        rest = [array.name for array in template.arrays.values() if array.role not in {"data", "empty"}]
        rows.append(("written once", ", ".join(rest) or "nothing"))
        large = [name for name, array in template.arrays.items() if array.role == "data" and axis not in array.dims]
        if large and len(self.sources) > 1:
            # Static values that are too large to be read by the planner have no digest.
            rows.append(("not compared", f"{', '.join(large)} (taken from the first file)"))
        if self.filled:
            rows.append(("filled", f"{self.filled} labels that no file has"))
        rows.append(("regions", f"{self.region_count} in {len(self.tasks)} tasks, {size(self.nbytes)}"))
        rows.append(("hash", self.hash[:16]))
        return rows + ([] if self.expected is msgspec.UNSET else list(self.expected))

    def _losses(self, array: ArrayTemplate) -> list[tuple[str, str]]:
        """What the sources' values lose in an array."""
        if not any(array.name in source.recode for source in self.sources) or array.dtype == STRING:
            return []
        clipped = any(array.name in source.clip for source in self.sources)
        found = loss_of(array.dtype, array.attributes, clipped=clipped)
        return [] if found is None else [(f"  {found[0]}", found[1])]

    def __repr__(self) -> str:
        rows = self.describe()
        width = max(len(name) for name, _ in rows)
        return "<frazil.Plan>\n" + "\n".join(escaped(f"  {name:<{width}}  {value}") for name, value in rows)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th align='left'>{html.escape(name)}</th><td align='left'>{html.escape(value)}</td></tr>"
            for name, value in self.describe()
        )
        return f"<table><caption>frazil.Plan</caption>{rows}</table>"


def _ranges(extents: Mapping[str, tuple[int, int]]) -> str:
    return ", ".join(f"{dim} {start}:{stop}" for dim, (start, stop) in extents.items())
