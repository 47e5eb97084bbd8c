"""Choosing chunks and shards: of all that have the target size, those that cost the reader least.

Chunks that are as large as the target lets them be have about the same size, so the fewest requests
take the least time. It is arithmetic on lengths and sizes, and gives the same for the same.
"""

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np

from frazil.advising.cost import BANDWIDTH, LATENCY, Cut, Lengths, Shape, chunk_count, nbytes_of

type Reading = Literal["temporal", "spatial", "balanced"]
"""What chunks are read for: time series at a point, maps at one time, or both."""

READINGS: Final[tuple[Reading, ...]] = get_args(Reading.__value__)

NEARLY: Final = 1.15
"""So many times the fewest requests are taken for as few: what else is good about a cut decides."""

MANY_CHUNKS: Final = 10_000
"""From more chunks than these on, shards are advised: each object is a request to write, to list and to delete."""

SHARD_BYTES: Final = 128 << 20
"""The size that a shard is given at most: whoever writes any of it holds all of it in memory."""

_COMBINATIONS: Final = 100_000
"""How many cuts are looked at, about."""

type _Numbers = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Cuts that are chunks of the target size or less, and cannot grow along any dimension.

    Attributes
    ----------
    lengths
        Of a chunk along each dimension, an array with an element for each cut.
    nbytes
        Of a chunk.
    """

    lengths: Mapping[str, _Numbers]
    nbytes: _Numbers


def choose(shape: Shape, reading: Reading, target: int) -> dict[str, int]:
    """The chunks of one array that cost the reading least.

    Parameters
    ----------
    shape
        The array.
    reading
        What it is read for.
    target
        The most bytes that a chunk has, unless a single element has more.

    Returns
    -------
    dict
        A length for every dimension.
    """
    return _choose(shape, [shape], {}, target)[reading]


def choose_common(shapes: Sequence[Shape], reading: Reading, target: int) -> dict[str, int]:
    """One length for every dimension, for all arrays: the largest decides about its dimensions, the next about others.

    No chunk of any array is larger than the target, unless a single element is.
    """
    found: dict[str, int] = {}
    for shape in sorted(shapes, key=lambda one: (-one.nbytes, -len(one.lengths), one.name)):
        if not shape.lengths.keys() <= found.keys():
            found |= _choose(shape, shapes, found, target)[reading]
    return found


def choose_shards(shapes: Sequence[Shape], chunks: Lengths) -> dict[str, int]:
    """Lengths of shards, along the dimensions where they hold several chunks; none where no array has many chunks.

    Shards grow where that takes values from no more files first, and along the dimension that files follow each
    other on last.
    """
    cuts = {shape.name: Cut({dim: chunks[dim] for dim in shape.lengths}) for shape in shapes}
    many = [shape for shape in shapes if chunk_count(shape, cuts[shape.name]) > MANY_CHUNKS and shape.nbytes]
    if not many:
        return {}
    shape = max(many, key=lambda one: (chunk_count(one, cuts[one.name]), one.nbytes, one.name))
    largest = max(nbytes_of(one, cuts[one.name].chunks) for one in shapes if one.lengths.keys() & shape.lengths.keys())
    room = SHARD_BYTES // largest
    found: dict[str, int] = {}
    behind = {dim for dim in shape.lengths if dim in shape.file_lengths or dim == shape.series}
    for dim in [*(one for one in list(shape.lengths)[::-1] if one not in behind), *sorted(behind)]:
        count = -(-shape.lengths[dim] // chunks[dim])
        most = min(room, count)
        if most < 2:  # noqa: PLR2004 - a shard of one chunk is a chunk
            continue
        many_chunks = _whole_files(chunks[dim], shape.file_lengths.get(dim, 0), most) or -(-count // -(-count // most))
        if many_chunks > 1:
            found[dim] = many_chunks * chunks[dim]
            room //= many_chunks
    return {dim: found[dim] for dim in shape.lengths if dim in found}


def _whole_files(chunk: int, own: int, most: int) -> int:
    """How many chunks at most make whole files, or an even part of one; 0 where chunks do not."""
    if not own or own % chunk:
        return most if own and chunk % own == 0 else 0
    per_file = own // chunk
    if per_file <= most:
        return most // per_file * per_file
    return max(count for count in range(1, most + 1) if per_file % count == 0)


def _choose(shape: Shape, shapes: Sequence[Shape], fixed: Lengths, target: int) -> dict[Reading, dict[str, int]]:
    """What each reading chooses; of what all of them do, each gets what costs it least."""
    if not shape.lengths:
        return {reading: {} for reading in READINGS}
    cuts = _candidates(shape, shapes, fixed, target)
    series, maps = _requests(shape, cuts, {shape.series}), _requests(shape, cuts, shape.maps)
    picks: dict[Reading, int] = {
        "temporal": _pick(shape, cuts, [series, maps]),
        "spatial": _pick(shape, cuts, [maps, series]),
        "balanced": _pick(shape, cuts, [series + maps]),
    }
    wanted = {"temporal": series, "spatial": maps, "balanced": series + maps}
    each = LATENCY + cuts.nbytes / BANDWIDTH
    found: dict[Reading, dict[str, int]] = {}
    for reading in READINGS:
        seconds = wanted[reading] * each
        best = min([picks[reading], *picks.values()], key=seconds.__getitem__)
        found[reading] = {dim: int(lengths[best]) for dim, lengths in cuts.lengths.items()}
    return found


def _candidates(shape: Shape, shapes: Sequence[Shape], fixed: Lengths, target: int) -> _Candidates:
    sizes = {dim: max(1, length) for dim, length in shape.lengths.items()}
    known = {
        dim: np.array([fixed[dim]] if dim in fixed else lengths_along(size, shape.file_lengths.get(dim, 0)), "f8")
        for dim, size in sizes.items()
    }
    filled = max(known, key=lambda dim: len(known[dim]))
    others = {dim: lengths for dim, lengths in known.items() if dim != filled}
    free = max(1, sum(len(lengths) > 1 for lengths in others.values()))
    others = {dim: _thinned(lengths, int(_COMBINATIONS ** (1 / free))) for dim, lengths in others.items()}
    grid = np.meshgrid(*others.values(), indexing="ij") if others else []
    lengths: dict[str, _Numbers] = {dim: axis.ravel() for dim, axis in zip(others, grid, strict=True)}
    limits = _limits(shape, shapes, fixed, target)
    room = np.full(next(iter(lengths.values())).shape if lengths else (1,), np.inf)
    for dims, most in limits:
        rest = math.prod((lengths[dim] for dim in dims if dim != filled), start=np.ones_like(room))
        room = np.where(rest > most, 0, np.minimum(room, most // rest) if filled in dims else room)
    at = np.searchsorted(known[filled], room, side="right") - 1
    lengths[filled] = known[filled][np.maximum(at, 0)]
    whole = (at >= 0) & _maximal(lengths, others, limits)
    return _of(shape, {dim: lengths[dim][whole] for dim in sizes})


def _of(shape: Shape, lengths: Mapping[str, _Numbers]) -> _Candidates:
    return _Candidates(
        lengths, math.prod(lengths.values(), start=np.full(next(iter(lengths.values())).shape, float(shape.itemsize)))
    )


def _limits(shape: Shape, shapes: Sequence[Shape], fixed: Lengths, target: int) -> list[tuple[frozenset[str], float]]:
    """The most elements that chunks may have along some dimensions together, so that no array's exceed the target."""
    found: dict[frozenset[str], float] = {}
    for one in (shape, *shapes):
        shared = frozenset(one.lengths.keys() & shape.lengths.keys())
        outside = math.prod(length for dim, length in fixed.items() if dim in one.lengths and dim not in shared)
        if shared:
            found[shared] = min(found.get(shared, math.inf), max(1, target // (one.itemsize * outside)))
    return sorted(found.items(), key=lambda limit: sorted(limit[0]))


def _maximal(
    lengths: Mapping[str, _Numbers], steps: Mapping[str, _Numbers], limits: Sequence[tuple[frozenset[str], float]]
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which cuts cannot take the next length along any dimension."""
    found = np.ones(next(iter(lengths.values())).shape, bool)
    for dim, values in steps.items():
        at = np.searchsorted(values, lengths[dim])
        last = at == len(values) - 1
        longer = values[np.minimum(at + 1, len(values) - 1)]
        beyond = np.zeros_like(found)
        for dims, most in limits:
            if dim in dims:
                beyond |= math.prod((lengths[one] for one in dims if one != dim), start=longer) > most
        found &= last | beyond
    return found


def lengths_along(size: int, own: int) -> list[int]:
    """The lengths that are worth looking at along a dimension, in order.

    Those that cut it into equal parts, so that no remainder is left but a few elements; those that whole files
    make, and those that divide a file evenly.

    Parameters
    ----------
    size
        The length of the dimension.
    own
        The length of a file along it; 0 if files do not follow each other on it.
    """
    found = set(_parts(size))
    if 0 < own < size:
        found |= {length for length in _parts(own) if own % length == 0}
        found |= {own * files for files in _parts(-(-size // own)) if own * files <= size}
    return sorted(found)


def _parts(size: int) -> list[int]:
    """The lengths of equal parts, rounded up, of any number of them."""
    found, count = [], 1
    while count <= size:
        length = -(-size // count)
        found.append(length)
        # The next number of parts that makes them shorter.
        count = -(-size // (length - 1)) if length > 1 else size + 1
    return found


def _thinned(lengths: _Numbers, most: int) -> _Numbers:
    """Some of them, about as far apart as each other in ratio; the first and the last are kept."""
    if len(lengths) <= max(most, 2):
        return lengths
    wanted = np.geomspace(lengths[0], lengths[-1], max(most, 2))
    return np.unique(lengths[np.clip(np.searchsorted(lengths, wanted * (1 - 1e-9)), 0, len(lengths) - 1)])


def _requests(shape: Shape, cuts: _Candidates, whole: Container[str | None]) -> _Numbers:
    """How many chunks of each cut hold all of some dimensions, at one index of the others."""
    return math.prod(
        (np.ceil(max(1, shape.lengths[dim]) / lengths) for dim, lengths in cuts.lengths.items() if dim in whole),
        start=np.ones_like(cuts.nbytes),
    )


def _pick(shape: Shape, cuts: _Candidates, costs: Sequence[_Numbers]) -> int:
    """The best by the first cost, of those that are nearly as good by the second, of those by what else is good.

    That is, in this order: whole files or even parts of one, little remainder, square maps, large chunks.
    """
    left = np.arange(len(cuts.nbytes))
    for cost in costs:
        left = left[cost[left] <= NEARLY * cost[left].min()]
    ragged = np.zeros(len(left))
    for dim, own in shape.file_lengths.items():
        length = cuts.lengths[dim][left]
        if 0 < own < shape.lengths[dim]:
            ragged += (length % own != 0) & (own % length != 0) & (length < shape.lengths[dim])
    sizes = {dim: max(1, length) for dim, length in shape.lengths.items()}
    stored = math.prod(
        (np.ceil(sizes[dim] / lengths[left]) * lengths[left] / sizes[dim] for dim, lengths in cuts.lengths.items()),
        start=np.ones(len(left)),
    )
    flat = [np.log(lengths[left]) for dim, lengths in cuts.lengths.items() if dim in shape.maps]
    narrow = np.max(flat, axis=0) - np.min(flat, axis=0) if flat else np.zeros(len(left))
    keys = [*(cuts.lengths[dim][left] for dim in list(cuts.lengths)[::-1]), -cuts.nbytes[left]]
    keys += [np.round(narrow, 1), np.round((stored - 1) * 20), ragged]
    return int(left[np.lexsort(keys)[0]])
