"""What a user may choose about a plan."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, Self, get_args

from frazil.advising.wish import Auto
from frazil.labels.compare import Accept
from frazil.labels.join import Gaps
from frazil.labels.stepping import LabelRange
from frazil.packing.rounding import Rounding, Stored
from frazil.planning.cut import REGION_BYTES, TASK_BYTES, TASK_MOST_BYTES
from frazil.template.compression import CompressionChoice
from frazil_functions.errors import InvalidInputError, nearest

MOST_WORKERS: Final = 100_000
"""How many functions at once can be meant; more than any backend runs."""

type OnOverlap = Literal["error", "skip", "replace"]
"""Of files whose labels are there already: `skip` leaves out those of which every label is, `replace` writes them
again, with what follows."""

type OnAttrs = Literal["error", "keep", "update"]
"""Of attributes that files have and the group has not, or has otherwise: refuse them, keep the group's, or take the
first file's."""

type Fallback = Literal["refuse", "native"]
"""Of files that are stored otherwise than references would be read: refuse them, or copy their values."""

type Span = tuple[int, int] | Literal["auto"]
"""Where along a dimension: from one index to before another, or where the labels lie."""


@dataclass(frozen=True, slots=True)
class Virtual:
    """Which arrays refer to the chunks of their files, in place of copies.

    Attributes
    ----------
    load
        Variables that are copied all the same.
    fallback
        What becomes of files that are stored otherwise than the array is.
    """

    load: frozenset[str] = frozenset()
    fallback: Fallback = "refuse"

    @classmethod
    def of(cls, virtual: bool, load: Collection[str], fallback: Fallback, rounding: Rounding) -> Self | None:  # noqa: FBT001 - the options of a plan
        """What the options of a plan ask for.

        Raises
        ------
        InvalidInputError
            If they cannot be meant together.
        """
        if fallback not in get_args(Fallback.__value__):
            raise InvalidInputError(
                f"fallback cannot be {fallback!r}; {nearest(str(fallback), get_args(Fallback.__value__))}"
            )
        if not virtual:
            for name, given in (("load", load), ("fallback", fallback != "refuse")):
                if given:
                    raise InvalidInputError(
                        f"{name} says what is copied where references are written (--virtual), and none are; leave it "
                        "out, or add virtual"
                    )
            return None
        if rounding.every is not None:
            raise InvalidInputError(
                "virtual refers to values as files have them, and pack stores others; name those that are packed "
                "(--pack NAME=TYPE) and copied (--load NAME)"
            )
        for option, names in (("pack", rounding.pack), ("keepbits", rounding.keepbits)):
            for name in sorted(names.keys() - set(load)):
                raise InvalidInputError(
                    f"virtual refers to the values of {name!r} as files have them, and {option} stores others; copy "
                    f"them (--load {name}), or leave out {option}"
                )
        return cls(frozenset(load), fallback)


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may choose about a plan.

    Attributes
    ----------
    chunks, shards
        Lengths along dimensions, in elements; -1 for all of a dimension.
    compression
        How arrays that are made are compressed.
    auto
        How chunks are to be chosen, in place of lengths.
    gaps
        What becomes of labels that no file has: an error, a place that stays fill, or nothing.
    accept
        Differences between files that are accepted; see `frazil.labels.compare.Accept`.
    on_overlap
        What becomes of files that an append finds written already: an error, nothing, or they replace it.
    region
        The part of each dimension that is written into; by their labels where a dimension is not named, of all
        dimensions if nothing is.
    reorder
        Whether labels that stand in another order than the target's are placed one by one.
    on_attrs
        What becomes of attributes that differ from the group's; each mode has a default.
    rounding
        What is stored with loss.
    stored
        How that is, once it is known.
    virtual
        Which arrays refer to the chunks of their files; None for none.
    span
        The labels of a group that is made to be filled later; None for one that is written at once.
    workers
        How many functions can run at once.
    region_bytes, task_bytes, most_bytes
        How many bytes of values a region holds at most (unless a write unit is larger), a task at least, and a task at
        most (unless a region is larger).
    """

    chunks: Mapping[str, int] = field(default_factory=dict)
    shards: Mapping[str, int] = field(default_factory=dict)
    compression: CompressionChoice = field(default_factory=CompressionChoice)
    auto: Auto | None = None
    gaps: Gaps = "error"
    accept: frozenset[Accept] = frozenset()
    on_overlap: OnOverlap = "error"
    region: Mapping[str, Span] = field(default_factory=dict)
    reorder: bool = False
    on_attrs: OnAttrs | None = None
    rounding: Rounding = field(default_factory=Rounding)
    stored: Mapping[str, Stored] = field(default_factory=dict)
    virtual: Virtual | None = None
    span: LabelRange | None = None
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
        if not 1 <= self.workers <= MOST_WORKERS:
            raise InvalidInputError(f"workers cannot be {self.workers}; use 1 to {MOST_WORKERS}")
