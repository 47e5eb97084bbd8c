"""What cutting an array in one way or another costs: requests, bytes and seconds, of reading and of writing.

Everything is before compression, and nothing is measured: lengths of dimensions and sizes of elements are all it takes.
"""

import math
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

LATENCY: Final = 0.1
"""Seconds until a request brings its first byte: "roughly 100-200 milliseconds" (Best practices design patterns:
optimizing Amazon S3 performance, Amazon S3 User Guide)."""

BANDWIDTH: Final = 85e6
"""Bytes in a second that one request brings after that: "85-90 MB/s" (Performance design patterns for Amazon S3,
Amazon S3 User Guide)."""

type Lengths = Mapping[str, int]
"""Lengths along dimensions, in elements."""


@dataclass(frozen=True, slots=True)
class Cut:
    """How an array is cut.

    Attributes
    ----------
    chunks
        The length of a chunk along every dimension.
    shards
        The length of a shard along every dimension; None if every chunk is an object of its own.
    """

    chunks: Lengths
    shards: Lengths | None = None

    @property
    def unit(self) -> Lengths:
        """The length of a write unit along every dimension: an object in storage."""
        return self.chunks if self.shards is None else self.shards


@dataclass(frozen=True, slots=True)
class Shape:
    """An array as far as cutting it matters.

    Attributes
    ----------
    name
        The variable.
    lengths
        The length of every dimension, in the array's order; that of the append dimension over all files.
    itemsize
        Bytes of an element.
    series
        The dimension that a time series runs along; None if the array does not have it.
    maps
        The dimensions that a map lies in.
    file_lengths
        The length of a file along the dimension that files follow each other on, if the array has it.
    """

    name: str
    lengths: Lengths
    itemsize: int
    series: str | None
    maps: frozenset[str]
    file_lengths: Lengths

    @property
    def nbytes(self) -> int:
        """The size of all values."""
        return self.itemsize * math.prod(self.lengths.values())


@dataclass(frozen=True, slots=True)
class Reads:
    """What reading something takes.

    Attributes
    ----------
    requests
        How many there are: one for every chunk, and one for the index of every shard that is read in part.
    nbytes
        The size of the chunks, all of each.
    """

    requests: int
    nbytes: int

    @property
    def seconds(self) -> float:
        """Seconds, one request after the other; readers that make several at once divide it alike for every cut."""
        return self.requests * LATENCY + self.nbytes / BANDWIDTH


def series_reads(shape: Shape, cut: Cut) -> Reads:
    """What reading one point along the whole series takes."""
    return _reads(shape, cut, {shape.series} - {None})


def map_reads(shape: Shape, cut: Cut) -> Reads:
    """What reading one whole map takes: one time, one level, one member."""
    return _reads(shape, cut, shape.maps)


def _reads(shape: Shape, cut: Cut, whole: Container[str | None]) -> Reads:
    """What reading all of some dimensions takes, at one index of the others.

    Of a shard that is wanted in part, Zarr reads the index and then a range for every chunk; one that is wanted with
    all its chunks comes in one request. Ranges that lie close together may be read as one, so these are the most.
    """
    if not all(shape.lengths.values()):
        return Reads(0, 0)
    spans = {dim: length if dim in whole else 1 for dim, length in shape.lengths.items()}
    chunks = math.prod(_counts(spans, cut.chunks))
    requests = chunks
    if cut.shards is not None:
        each = {dim: cut.shards[dim] // cut.chunks[dim] for dim in spans}
        entire = math.prod(-(-span // cut.chunks[dim]) // each[dim] for dim, span in spans.items())
        requests += math.prod(_counts(spans, cut.shards)) - entire * math.prod(each.values())
    return Reads(requests, chunks * nbytes_of(shape, cut.chunks))


def objects(shape: Shape, cut: Cut) -> int:
    """How many objects hold the array: as many are put to write it."""
    return math.prod(_counts(shape.lengths, cut.unit))


def chunk_count(shape: Shape, cut: Cut) -> int:
    """How many chunks the array has."""
    return math.prod(_counts(shape.lengths, cut.chunks))


def files_per_object(shape: Shape, cut: Cut) -> int:
    """How many files one object takes its values from, at most: each is opened to write it."""
    most = 1
    for dim, own in shape.file_lengths.items():
        length, unit = shape.lengths[dim], cut.unit[dim]
        if not 0 < own < length:
            continue
        # Where units and files begin together, a unit touches as few as it can; else one more at its ends.
        aligned = unit % own == 0 or own % unit == 0
        touched = -(-unit // own) if aligned else -(-(unit - 1) // own) + 1
        most *= min(touched, -(-length // own))
    return most


def nbytes_of(shape: Shape, lengths: Lengths) -> int:
    """The size of a chunk or shard; of what an edge cuts off, too, which is stored as fill."""
    return shape.itemsize * math.prod(lengths[dim] for dim in shape.lengths)


def _counts(spans: Lengths, lengths: Lengths) -> Iterable[int]:
    return (-(-span // lengths[dim]) for dim, span in spans.items())
