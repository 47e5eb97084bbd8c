"""What validating found, as data."""

from dataclasses import dataclass
from typing import Literal

from frazil_functions.summaries import Summary

type Kind = Literal[
    "chunk",
    "label",
    "attribute",
    "dimension",
    "units",
    "xarray",
    "coverage",
    "difference",
    "file",
    "container",
    "manifest",
    "snapshot",
]
"""What a fault is about."""

type State = Literal["written", "partly", "empty"]
"""Of a range of write units along a dimension: whether all of them are stored, some, or none."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is wrong.

    Attributes
    ----------
    kind
        What it is about.
    array
        The path of the array, or of the group, within the group that was validated.
    what
        What is wrong there.
    cure
        What helps.
    chunk
        The index of the write unit, where it is about one.
    """

    kind: Kind
    array: str
    what: str
    cure: str
    chunk: tuple[int, ...] | None = None

    def __str__(self) -> str:
        where = f" chunk {list(self.chunk)}" if self.chunk is not None else ""
        return f"{self.array or '/'}{where}: {self.what}{'' if self.what.endswith('?') else '.'} {self.cure}"


@dataclass(frozen=True, slots=True)
class Span:
    """Write units that follow each other along a dimension and are in one state.

    Attributes
    ----------
    start, stop
        In elements.
    state
        Of the write units there.
    labels
        The first label and the last, as a person reads them; empty if there are none.
    """

    start: int
    stop: int
    state: State
    labels: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class ArrayFound:
    """What one array is like.

    Attributes
    ----------
    path
        Within the group that was validated.
    dims, shape, dtype
        Of the array; dimensions without a name are called dim_0, dim_1, ...
    units, stored
        How many write units it has, and how many of them are stored; the others read as fill.
    referred, files
        How many of those are references, and to how many files.
    decoded
        How many write units were decoded.
    summary
        Of the decoded values; where every stored write unit was decoded, of all values, those that read as fill
        among them.
    whole
        Whether it is of all values.
    along
        The dimension that the coverage is told along; None for a scalar.
    coverage
        What is stored along it.
    """

    path: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    units: int
    stored: int
    referred: int
    files: int
    decoded: int
    summary: Summary
    whole: bool
    along: str | None
    coverage: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Validation:
    """What validating found.

    Attributes
    ----------
    snapshot_id, group
        What was looked at.
    arrays
        Every array, by path.
    faults
        What is wrong; the first of each place, if there are many.
    notes
        What could not be looked at, and why that is no fault.
    full
        Whether all chunks were decoded, or a sample.
    files
        How many files chunks refer to.
    compared
        How many elements were compared with files.
    seconds
        How long it took.
    """

    snapshot_id: str
    group: str
    arrays: tuple[ArrayFound, ...]
    faults: tuple[Fault, ...]
    notes: tuple[str, ...]
    full: bool
    files: int
    compared: int
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults
