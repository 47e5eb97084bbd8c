"""What a user may choose about a plan."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from frazil.planning.compare import Accept
from frazil.planning.cut import REGION_BYTES, TASK_BYTES, TASK_MOST_BYTES
from frazil.planning.labels import Gaps
from frazil_functions.errors import InvalidInputError, nearest

type OnOverlap = Literal["error", "skip", "replace"]
"""Of files whose labels are there already: `skip` leaves out those of which every label is, `replace` writes them
again, with what follows."""

type OnAttrs = Literal["error", "keep", "update"]
"""Of attributes that files have and the group has not, or has otherwise: refuse them, keep the group's, or take the
first file's."""

type Span = tuple[int, int] | Literal["auto"]
"""Where along a dimension: from one index to before another, or where the labels lie."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may choose about a plan.

    Attributes
    ----------
    chunks, shards
        Lengths along dimensions, in elements; -1 for all of a dimension.
    gaps
        What becomes of labels that no file has: an error, a place that stays fill, or nothing.
    accept
        Differences between files that are accepted; see `frazil.planning.compare.Accept`.
    on_overlap
        What becomes of files that an append finds written already: an error, nothing, or they replace it.
    region
        The part of each dimension that is written into; by their labels where a dimension is not named, of all
        dimensions if nothing is.
    reorder
        Whether labels that stand in another order than the target's are placed one by one.
    on_attrs
        What becomes of attributes that differ from the group's; each mode has a default.
    workers
        How many functions can run at once.
    region_bytes, task_bytes, most_bytes
        How many bytes of values a region holds at most (unless a write unit is larger), a task at least, and a task at
        most (unless a region is larger).
    """

    chunks: Mapping[str, int] = field(default_factory=dict)
    shards: Mapping[str, int] = field(default_factory=dict)
    gaps: Gaps = "error"
    accept: frozenset[Accept] = frozenset()
    on_overlap: OnOverlap = "error"
    region: Mapping[str, Span] = field(default_factory=dict)
    reorder: bool = False
    on_attrs: OnAttrs | None = None
    workers: int = 1
    region_bytes: int = REGION_BYTES
    task_bytes: int = TASK_BYTES
    most_bytes: int = TASK_MOST_BYTES

    def __post_init__(self) -> None:
        for what, words, known in (
            ("gaps", {self.gaps}, get_args(Gaps.__value__)),
            ("accept", self.accept, get_args(Accept.__value__)),
            ("on_overlap", {self.on_overlap}, get_args(OnOverlap.__value__)),
            ("on_attrs", {self.on_attrs} - {None}, get_args(OnAttrs.__value__)),
        ):
            for word in sorted(map(str, words - set(known))):
                raise InvalidInputError(f"{what} cannot be {word!r}; {nearest(word, known)}")
        if self.workers < 1:
            raise InvalidInputError(f"workers of {self.workers} write nothing; use at least 1")
