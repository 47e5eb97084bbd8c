"""survey_task: look at values without writing any: what range they have, and how much information each of their bits.

One thread reads ahead while what was read is looked at, as for writing.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Final

import msgspec
import numpy as np

from frazil_functions import versions
from frazil_functions.decoding import from_msgpack
from frazil_functions.errors import ReceiptError, VersionError
from frazil_functions.reading.encoding import Attributes, Values, missing_marks
from frazil_functions.reading.sources import FileSources
from frazil_functions.regions import Region
from frazil_functions.summaries import Summary, summarise
from frazil_functions.tasks import Carried, FileSource
from frazil_functions.writing.carried import CarriedSource

_CHANCE: Final = 0.01
"""How likely it may be that chance alone makes some bit of an array seem to tell something. BitInformation.jl allows
that for every bit (`confidence`); of 32 bits of noise one in four arrays has such a bit. So each gets its share
(C. E. Bonferroni, 1936)."""

_BALANCED: Final = 0.25
"""A bit that is as often set, and as often not, varies enough to tell something if neighbours have any in common."""

_TAIL: Final = 4
_TAIL_FACTOR: Final = 1.5
"""What is not more than so many times the information of the last bits is an artefact (xbitinfo's `get_keepbits`)."""


@dataclass(frozen=True, slots=True)
class Surveyed:
    """An array that is looked at.

    Attributes
    ----------
    dtype, attributes
        How its values are read.
    sample
        How many values of each region are looked at bit by bit.
    """

    dtype: str
    attributes: Attributes
    sample: int = 0


@dataclass(frozen=True, slots=True)
class SurveyTask:
    """Regions whose values one function looks at.

    Attributes
    ----------
    append_dim, sources
        As in `frazil_functions.tasks.WriteTask`.
    regions
        What to read.
    arrays
        How, by the names of arrays.
    versions
        What whoever planned the task has installed.
    carried
        The values, where the source is a dataset that the client has.
    """

    append_dim: str | None
    sources: tuple[FileSource, ...]
    regions: tuple[Region, ...]
    arrays: dict[str, Surveyed]
    versions: dict[str, str] = field(default_factory=dict)
    carried: Carried | None = None


@dataclass(frozen=True, slots=True)
class BitPairs:
    """How often bits are set in values and in their neighbours.

    Attributes
    ----------
    count
        How many pairs of neighbours there are.
    first, second, both
        In how many of them the bit is set in the one, in the other, and in both; from the sign to the last bit.
    """

    count: int = 0
    first: tuple[int, ...] = ()
    second: tuple[int, ...] = ()
    both: tuple[int, ...] = ()

    def beside(self, other: "BitPairs") -> "BitPairs":
        """Those of these values and others of the same type."""
        if not self.count or not other.count:
            return self if self.count else other
        sums = [
            tuple(one + another for one, another in zip(ours, theirs, strict=True))
            for ours, theirs in (
                (self.first, other.first),
                (self.second, other.second),
                (self.both, other.both),
            )
        ]
        return BitPairs(self.count + other.count, *sums)

    def information(self) -> Values:
        """The information that each bit has of the same bit in the neighbour, in bits; nothing where that is chance.

        Mutual information of neighbours, as in M. Kloewer et al., Nature Computational Science 1, 713-724 (2021),
        https://doi.org/10.1038/s43588-021-00156-2, methods.
        """
        if not self.count:
            return np.zeros(len(self.first))
        first, second, both = (np.array(one, "f8") / self.count for one in (self.first, self.second, self.both))
        joint = np.array([[1 - first - second + both, second - both], [first - both, both]])
        ours, theirs = np.array([1 - first, first]), np.array([1 - second, second])
        apart = ours[:, None] * theirs[None, :]
        known = (joint > 0) & (apart > 0)
        told = np.where(known, joint * np.log2(np.where(known, joint, 1) / np.where(known, apart, 1)), 0)
        information = told.sum(axis=(0, 1))
        quantile = NormalDist().inv_cdf(1 - _CHANCE / (2 * len(self.first)))
        chance = min(1.0, 0.5 + quantile / (2 * np.sqrt(self.count)))
        entropy = -sum(part * np.log2(part) for part in (chance, 1 - chance) if part > 0)
        return np.where(information > 1 - entropy, information, 0)

    def keepbits(self, dtype: str, level: float = 0.99) -> int | None:
        """How many bits of the mantissa hold so much of the information; None if there is none in any bit.

        There is none, either, if the first bit that varies well tells nothing: later ones mean little without it. Bits
        whose information is not more than one and a half times that of the last four hold none: so much is left
        there by numbers that were rounded to decimals before (as `xbitinfo.get_keepbits` has it).
        """
        information = self.information()
        information = np.where(information > _TAIL_FACTOR * information[-_TAIL:].max(initial=0), information, 0)
        total = information.sum()
        often = np.array(self.first, "f8") / max(1, self.count)
        varies = np.flatnonzero((often >= _BALANCED) & (often <= 1 - _BALANCED))
        if not total or (varies.size and not information[: varies[0] + 1].any()):
            return None
        shares = np.cumsum(information) / total
        mantissa = int(np.finfo(dtype).nmant)
        return max(1, int(np.argmax(shares >= level)) + 1 - (len(information) - mantissa))


@dataclass(frozen=True, slots=True)
class Found:
    """What was seen of an array."""

    summary: Summary = field(default_factory=Summary)
    pairs: BitPairs = field(default_factory=BitPairs)

    def beside(self, other: "Found") -> "Found":
        """What was seen of these values and others."""
        return Found(self.summary.beside(other.summary), self.pairs.beside(other.pairs))


def survey_task(task: SurveyTask) -> dict[str, Found]:
    """Look at the values of the task's regions; what is found, by the names of arrays.

    Raises
    ------
    SourceError
        If values cannot be read, or a file has changed since the plan was made.
    InvalidInputError
        If they cannot be read as the array has them.
    VersionError
        If the task was planned with another frazil or icechunk.
    """
    differs = versions.difference(task.versions)
    if differs:
        raise VersionError(
            f"values are to be looked at for a plan of other versions ({differs}); install the same ones on both sides"
        )
    found = dict.fromkeys(task.arrays, Found())
    with FileSources(task.sources, task.append_dim) as files, ThreadPoolExecutor(1, "frazil-read") as reader:
        source = files if task.carried is None else CarriedSource(task.carried, task.regions)

        def read(region: Region) -> Values:
            one = task.arrays[region.array]
            return source.read(region, one.dtype, one.attributes)

        ahead = reader.submit(read, task.regions[0]) if task.regions else None
        for number, region in enumerate(task.regions):
            assert ahead is not None
            values = ahead.result()
            ahead = reader.submit(read, task.regions[number + 1]) if number + 1 < len(task.regions) else None
            found[region.array] = found[region.array].beside(survey(values, task.arrays[region.array]))
    return found


def survey(values: Values, array: Surveyed) -> Found:
    """What is seen of some values of an array."""
    pairs = pairs_of(values, array.sample, missing_marks(array.dtype, array.attributes)) if array.sample else BitPairs()
    return Found(summarise(values, array.dtype, array.attributes), pairs)


def pairs_of(values: Values, most: int, marks: Sequence[float]) -> BitPairs:
    """The bits of neighbours along the last dimension that has some, of rows that are spread evenly.

    Parameters
    ----------
    values
        Floating-point numbers, of any shape.
    most
        About how many of them are looked at.
    marks
        Values that mean that one is missing; these, and what is not finite, have no neighbours.
    """
    axis = next((at for at in reversed(range(values.ndim)) if values.shape[at] > 1), None)
    if axis is None or not values.size:
        return BitPairs()
    lines = np.moveaxis(values, axis, -1)[..., : max(2, most)]
    lines = lines.reshape(-1, lines.shape[-1])
    wanted = max(1, min(len(lines), most // lines.shape[-1]))
    lines = np.ascontiguousarray(lines[np.linspace(0, len(lines) - 1, wanted).astype(int)])
    present = np.isfinite(lines)
    for mark in marks:
        present &= lines != mark
    together = present[:, :-1] & present[:, 1:]
    ours, theirs = (_signed_exponents(side[together]) for side in (lines[:, :-1], lines[:, 1:]))
    if not ours.size:
        return BitPairs()
    whole, counts = ours.dtype.type, []
    for bit in reversed(range(8 * values.dtype.itemsize)):
        mask = whole(1 << bit)
        counts.append([int(np.count_nonzero(one & mask)) for one in (ours, theirs, ours & theirs)])
    first, second, both = zip(*counts, strict=True)
    return BitPairs(int(ours.size), first, second, both)


def _signed_exponents(values: Values) -> Values:
    """The bits of numbers, their exponents as a sign and an amount rather than with a bias.

    Else all bits of the exponent would turn between 0.99 and 1.01, and neighbours seem to have nothing in common
    (BitInformation.jl, `signed_exponent`).
    """
    info = np.finfo(values.dtype)
    whole = np.dtype(f"u{values.dtype.itemsize}").type
    exponents = 8 * values.dtype.itemsize - 1 - info.nmant
    bias, field_mask = (1 << (exponents - 1)) - 1, (1 << exponents) - 1
    raw = values.view(whole)
    biased = ((raw >> whole(info.nmant)) & whole(field_mask)).astype("i8")
    amount = np.where(biased == 0, 0, np.abs(biased - bias))  # zero has none
    below = (biased < bias) & (biased > 0)
    signed = amount | np.where(below, 1 << (exponents - 1), 0)
    rest = raw & whole(~(field_mask << info.nmant) & np.iinfo(whole).max)
    found: Values = rest | (signed.astype(whole) << whole(info.nmant))
    return found


def dump_found(found: dict[str, Found]) -> bytes:
    """What was found, in MessagePack."""
    return msgspec.msgpack.encode(found)


def load_found(data: bytes) -> dict[str, Found]:
    """What `dump_found` wrote; data alone.

    Raises
    ------
    ReceiptError
        If the bytes are anything else.
    """
    try:
        return from_msgpack(data, dict[str, Found])
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        raise ReceiptError(f"what a function returned from looking at values cannot be read: {error}") from error
