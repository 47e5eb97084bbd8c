"""How arrays are cut: what the user asked for, and a sound default for the rest."""

import contextlib
import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, SupportsIndex

import numpy as np

from frazil.advising.cost import Shape
from frazil.advising.wish import TARGET_BYTES, Auto
from frazil_functions.errors import InvalidInputError, nearest

LABEL_CHUNK: Final = (1024, 131072)
"""The bounds of a label array's chunk, in elements: appends extend it, readers fetch it whole."""


@dataclass(frozen=True, slots=True)
class ChunkChoice:
    """What a user asked for.

    Attributes
    ----------
    chunks
        Length along a dimension; -1 for all of it.
    shards
        Length of a shard along a dimension, a multiple of the chunk's; empty for no shards.
    auto
        How chunks are to be chosen, in place of lengths.
    """

    chunks: Mapping[str, int]
    shards: Mapping[str, int]
    auto: Auto | None = None


def made(choice: ChunkChoice, shapes: Sequence[Shape], sizes: Mapping[str, int]) -> ChunkChoice:
    """The choice in lengths that fit, made where it is left to what costs readers least.

    Parameters
    ----------
    choice
        What a user asked for.
    shapes
        The arrays that it is made for.
    sizes
        The length of every dimension.

    Raises
    ------
    InvalidInputError
        As `check_choice` does.
    """
    found = check_choice(choice, sizes)
    if choice.auto is None:
        return found
    lengths = choice.auto.lengths(shapes)
    chunks = fit_shards(tuple(lengths), tuple(lengths.values()), found)
    return ChunkChoice(dict(zip(lengths, chunks, strict=True)), found.shards)


def check_choice(choice: ChunkChoice, sizes: Mapping[str, int]) -> ChunkChoice:
    """The choice in Python's own integers; chunks and shards that do not fit the dimensions are refused.

    Raises
    ------
    InvalidInputError
        Naming the dimension, the length and the cure.
    """
    for what, lengths in (("chunks", choice.chunks), ("shards", choice.shards)):
        for dim, given in lengths.items():
            if dim not in sizes:
                raise InvalidInputError(
                    f"{what} name the dimension {dim!r}, which no variable has; {nearest(dim, sizes)}"
                )
            length = _whole(what, dim, given)
            if length == -1:
                continue
            if length < 1:
                raise InvalidInputError(
                    f"{what} of {length} along {dim!r} are impossible; use at least 1, or -1 for all of it"
                )
            if what == "chunks" and length > sizes[dim]:
                raise InvalidInputError(
                    f"chunks of {length} along {dim!r} do not fit: it has {sizes[dim]}. Use at most that, or -1."
                )
    chunks, shards = (
        {dim: operator.index(length) for dim, length in lengths.items()} for lengths in (choice.chunks, choice.shards)
    )
    return ChunkChoice(chunks, shards)


def _whole(what: str, dim: str, length: object) -> int:
    """The length as an integer of Python's own, which alone a plan can hold."""
    if isinstance(length, SupportsIndex) and not isinstance(length, bool | np.bool_):
        with contextlib.suppress(TypeError):
            return operator.index(length)
    raise InvalidInputError(f"{what} of {length!r} along {dim!r} are no whole number of elements")


def chunk_shape(
    dims: tuple[str, ...],
    shape: tuple[int, ...],
    itemsize: int,
    chunks: Mapping[str, int],
    append_dim: str | None,
) -> tuple[int, ...]:
    """The chunks of one array.

    What the user chose stands. Of the rest, all but the append dimension are kept whole and
    halved, the longest first, while a chunk is larger than `TARGET_BYTES`; along the append
    dimension as much is taken as fits.
    """
    length = {
        dim: max(1, size) if chunks[dim] == -1 else chunks[dim]
        for dim, size in zip(dims, shape, strict=True)
        if dim in chunks
    }
    free = {dim: max(1, size) for dim, size in zip(dims, shape, strict=True) if dim not in chunks}
    most = free.pop(append_dim, None) if append_dim is not None else None
    if most is not None and append_dim is not None:
        length[append_dim] = 1
    while free and _nbytes(itemsize, free, length) > TARGET_BYTES and max(free.values()) > 1:
        longest = max(free, key=lambda dim: free[dim])
        free[longest] = -(-free[longest] // 2)
    if most is not None and append_dim is not None:
        length[append_dim] = max(1, min(most, TARGET_BYTES // _nbytes(itemsize, free, length)))
    return tuple((free | length)[dim] for dim in dims)


def _nbytes(itemsize: int, *lengths: Mapping[str, int]) -> int:
    return itemsize * math.prod(length for group in lengths for length in group.values())


def fit_shards(dims: tuple[str, ...], chunks: tuple[int, ...], choice: ChunkChoice) -> tuple[int, ...]:
    """Chunks that divide the chosen shards, where nobody chose the chunks: the longest that are no longer."""
    return tuple(
        max(divisor for divisor in range(1, min(length, choice.shards[dim]) + 1) if choice.shards[dim] % divisor == 0)
        if choice.shards.get(dim, -1) > 0 and dim not in choice.chunks
        else length
        for dim, length in zip(dims, chunks, strict=True)
    )


def shard_shape(
    name: str,
    dims: tuple[str, ...],
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    shards: Mapping[str, int],
) -> tuple[int, ...] | None:
    """The shards of one array: whole chunks, one along dimensions that were not named.

    Raises
    ------
    InvalidInputError
        If a shard is not made of whole chunks.
    """
    if not set(dims) & shards.keys():
        return None
    found = []
    for dim, size, chunk in zip(dims, shape, chunks, strict=True):
        length = shards.get(dim, chunk)
        if length == -1:
            length = -(-size // chunk) * chunk
        if length % chunk:
            raise InvalidInputError(
                f"shards of {length} along {dim!r} are not made of whole chunks of {chunk} ({name!r}); "
                f"use {max(1, length // chunk) * chunk}"
            )
        found.append(length)
    return tuple(found)


def label_chunk(length: int) -> int:
    """The chunk of a label array along the append dimension: room for appends, one read for all."""
    low, high = LABEL_CHUNK
    return max(low, min(length, high))
