"""The plan: every region of a job, proven disjoint, aligned and complete; pure data with a hash."""

import hashlib
import html
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Final, Literal

import msgspec

from frazil.planning.cut import TaskPlan, sources_of
from frazil.report import size
from frazil.repositories import Location
from frazil.template.build import DatasetTemplate
from frazil.template.store import check_group
from frazil_functions.errors import InvalidInputError
from frazil_functions.grids import WriteGrid, prove
from frazil_functions.regions import Region
from frazil_functions.tasks import FileSource

FORMAT: Final = 1

type Mode = Literal["create"]


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
    """

    location: Location | None
    group: str
    branch: str
    base: str | None
    mode: Mode

    def __post_init__(self) -> None:
        check_group(self.group)


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

    @property
    def regions(self) -> Iterator[Region]:
        """Every region, task by task."""
        return (region for task in self.tasks for region in task.regions)

    @property
    def region_count(self) -> int:
        """How many regions there are."""
        return sum(len(task.regions) for task in self.tasks)

    @property
    def grids(self) -> tuple[WriteGrid, ...]:
        """The write grids of the arrays that functions write."""
        return tuple(array.grid for array in self.template.arrays.values() if array.role == "data")

    @property
    def nbytes(self) -> int:
        """The size of the values that functions write, in bytes, before compression."""
        return sum(array.nbytes for array in self.template.arrays.values() if array.role == "data")

    def to_json(self) -> bytes:
        """The plan as JSON, equal for equal plans."""
        return msgspec.json.encode(self, order="deterministic")

    @classmethod
    def from_json(cls, data: bytes | str) -> "Plan":
        """The plan that `to_json` wrote; proven again.

        Raises
        ------
        InvalidInputError
            If it is no plan, was made by another version, or does not prove.
        """
        try:
            plan = msgspec.json.decode(data, type=cls)
        except (msgspec.MsgspecError, ValueError) as error:
            raise InvalidInputError(f"this is not a plan of frazil: {error}") from error
        if plan.format != FORMAT:
            raise InvalidInputError(
                f"the plan has format {plan.format} (frazil {plan.versions.get('frazil')}), and this is frazil "
                f"{version('frazil')} with format {FORMAT}; plan again"
            )
        try:
            plan.prove()
        except ValueError as error:  # a write grid that is none
            raise InvalidInputError(f"this is not a plan of frazil: {error}") from error
        return plan

    def prove(self) -> None:
        """Show that every write unit belongs to exactly one region, and every task has the files it needs.

        Raises
        ------
        InvalidInputError
            Naming the region, the array and the write unit, or the task, where that is not so.
        """
        prove(self.grids, self.regions)
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
            ("sources", f"{len(self.sources)} files" + (f" along {axis}" if axis else "")),
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
