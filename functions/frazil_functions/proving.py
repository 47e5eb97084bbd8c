"""What a plan says of arrays and of files, held against itself; it may come from anywhere, and be done as it says."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from frazil_functions.compression import BLOSC_MOST_BYTES
from frazil_functions.errors import InvalidInputError
from frazil_functions.reading.encoding import STRING, rounds
from frazil_functions.reading.rounding import Packing
from frazil_functions.tasks import FileSource, Piece
from frazil_functions.template import ArrayTemplate, DatasetTemplate, check_group, reads_as_missing
from frazil_functions.text import size

_MOST_UNITS: Final = 1 << 31
"""More write units than this are not proven: a byte is held for each."""


def prove_template(template: DatasetTemplate, *, makes: bool) -> None:
    """Show that arrays, dimensions, extents and labels fit each other, and that nothing that is there is cut off.

    Parameters
    ----------
    template
        What the group is to be.
    makes
        Whether the group is made, so that nothing is there.

    Raises
    ------
    InvalidInputError
        Naming the array, dimension or group, and what does not fit.
    """
    for dim, (start, stop) in template.extents.items():
        if dim not in template.sizes or not 0 <= start <= stop <= template.sizes[dim]:
            raise InvalidInputError(
                f"{dim!r} is written from {start} to {stop}, and has {template.sizes.get(dim, 'no')} labels; plan again"
            )
    if template.groups and not makes:
        raise InvalidInputError("the plan makes groups below one that exists; plan again")
    for path in template.groups:
        check_group(path)
    for key, array in template.arrays.items():
        if key != array.name or not array.name:
            raise InvalidInputError(f"the array {array.name!r} stands under the name {key!r}; plan again")
        check_group(array.name)
        _prove_array(template, array, makes=makes)
    strange = template.labels.keys() - template.arrays.keys()
    if strange:
        raise InvalidInputError(f"there are labels for {min(strange)!r}, which is no array; plan again")


def _prove_array(template: DatasetTemplate, array: ArrayTemplate, *, makes: bool) -> None:
    wanted = tuple(template.sizes.get(dim) for dim in array.dims)
    if array.shape != wanted:
        raise InvalidInputError(f"{array.name!r} has the shape {array.shape}, and its dimensions {wanted}; plan again")
    if array.role == "data" and math.prod(array.grid.counts) > _MOST_UNITS:
        raise InvalidInputError(
            f"{array.name!r} has {math.prod(array.grid.counts)} write units, and {_MOST_UNITS} can be proven; use "
            "larger chunks"
        )
    labels = template.labels.get(array.name)
    if (array.role == "labels") != (labels is not None):
        raise InvalidInputError(f"{array.name!r} is written as {array.role}, and has other labels; plan again")
    if labels is not None:
        within = tuple(stop - start for start, stop in map(template.extent, array.dims))
        if labels.shape != within:
            raise InvalidInputError(f"{array.name!r} has labels of shape {labels.shape}, not {within}; plan again")
    _prove_empty(array)
    _prove_layout(array)
    if array.before is None:
        if array.role == "kept":
            raise InvalidInputError(f"{array.name!r} is to stay as it is, and is not there; plan again")
        _prove_compression(array)
        return
    if makes:
        raise InvalidInputError(f"{array.name!r} is said to be there in a group that is made; plan again")
    if array.compression is not None:
        raise InvalidInputError(f"{array.name!r} is there already, and keeps its compression; plan again")
    _prove_growth(template, array, array.before)


def _prove_compression(array: ArrayTemplate) -> None:
    """Blosc fails on what is too large for it, and would do so in the middle of a run."""
    asked = array.compression
    if asked is not None and asked.codec == "blosc" and array.chunk_nbytes > BLOSC_MOST_BYTES:
        raise InvalidInputError(
            f"{array.name!r} has chunks of {size(array.chunk_nbytes)}, and Blosc compresses no more than "
            f"{size(BLOSC_MOST_BYTES)} at once; use smaller chunks, or another codec ({array.name}=zstd:3)"
        )


def _prove_layout(array: ArrayTemplate) -> None:
    """An array that refers to files is stored as they are."""
    if array.layout is None:
        return
    if array.role != "data":
        raise InvalidInputError(f"{array.name!r} refers to files, and is not written by functions; plan again")
    if (array.layout.chunks, None, None) != (array.chunks, array.shards, array.compression):
        raise InvalidInputError(
            f"{array.name!r} refers to files with chunks {array.layout.chunks}, and is stored otherwise; plan again"
        )
    if array.dtype == STRING:
        raise InvalidInputError(f"{array.name!r} holds text, which cannot refer to files; plan again")


def _prove_empty(array: ArrayTemplate) -> None:
    """What a run makes and does not write reads as missing."""
    if array.role != "empty":
        return
    if array.before is not None:
        raise InvalidInputError(f"{array.name!r} is to be left empty, and is there already; plan again")
    if not reads_as_missing(array.dtype, array.attributes):
        raise InvalidInputError(
            f"{array.name!r} is to be left empty, and has no fill value, so it would read as zeros; plan again"
        )


def _prove_growth(template: DatasetTemplate, array: ArrayTemplate, before: tuple[int, ...]) -> None:
    """An array only grows, and by what is written behind it."""
    if len(before) != len(array.shape):
        raise InvalidInputError(f"{array.name!r} had the shape {before}, and is to have {array.shape}; plan again")
    for dim, had, has in zip(array.dims, before, array.shape, strict=True):
        if had == has:
            continue
        start, stop = template.extents.get(dim, (0, 0))
        if has < had or array.role not in {"data", "labels"} or not (start <= had and stop == has):
            raise InvalidInputError(
                f"{array.name!r} has {had} along {dim!r} and is to have {has}, of which {start}:{stop} is written; "
                "what is there is never cut off, and what is new never left empty. Plan again"
            )


def prove_places(template: DatasetTemplate, sources: Sequence[FileSource]) -> None:
    """Show that the pieces of every file fill their part of the target once.

    Raises
    ------
    InvalidInputError
        Naming the file and the dimension.
    """
    if len(sources) > 1 and any(source.travels for source in sources):
        raise InvalidInputError("the plan has a dataset beside other sources; plan again")
    for source in sources:
        for dim, pieces in source.places.items():
            if dim not in template.sizes:
                raise InvalidInputError(f"{source.url}: {dim!r} is placed, and no array has it; plan again")
            whole = (0, source.stop - source.start) if dim == template.append_dim else template.extent(dim)
            if not _fill(pieces, *whole):
                raise InvalidInputError(
                    f"{source.url}: its pieces do not fill {dim} {whole[0]}:{whole[1]} of the target once; plan again"
                )
    for source in sources:
        _prove_rounding(template, source)
        _prove_copied(template, source)
    if sources:
        for array in template.arrays.values():
            if array.role == "static" and sources[0].places.keys() & set(array.dims):
                raise InvalidInputError(
                    f"{array.name!r} is written once, as it stands, and {sources[0].url} has it otherwise; plan again"
                )


def _prove_rounding(template: DatasetTemplate, source: FileSource) -> None:
    """What is rounded is rounded as its array says, and only what is packed so is clipped."""
    for name in source.recode:
        array = template.arrays.get(name)
        if array is not None and array.role == "data":
            rounds(array.dtype, array.attributes)  # raises if what it says cannot be
    for name in source.clip:
        array = template.arrays.get(name)
        packed = (
            array is not None
            and array.role == "data"
            and array.dtype != STRING
            and Packing.of(array.dtype, array.attributes) is not None
        )
        if not packed or name not in source.recode:
            raise InvalidInputError(
                f"{source.url}: values of {name!r} are to be clipped, and it is no array that is packed with loss; "
                "plan again"
            )


def _prove_copied(template: DatasetTemplate, source: FileSource) -> None:
    """What would have to be turned into something else is copied, and so is what is named."""
    for name in source.copied:
        array = template.arrays.get(name)
        if array is None or not array.refers:
            raise InvalidInputError(
                f"{source.url}: {name!r} is copied where others are referred to, and refers to no file; plan again"
            )
    for array in template.arrays.values():
        if not array.refers or array.name in source.copied:
            continue
        if array.name in source.recode or source.places.keys() & set(array.dims) or source.travels:
            raise InvalidInputError(
                f"{source.url}: {array.name!r} refers to it, and it is stored in another way; plan again"
            )


def _fill(pieces: Sequence[Piece], start: int, stop: int) -> bool:
    """Whether pieces follow each other from one index to another, and take no label of the file twice."""
    at = start
    taken = []
    for piece in pieces:
        low = piece.first if piece.step == 1 else piece.first - piece.length + 1
        if piece.start != at or piece.length < 1 or low < 0:
            return False
        at += piece.length
        taken.append((low, low + piece.length))
    taken.sort()
    apart = all(before[1] <= after[0] for before, after in pairwise(taken))
    return at == stop and bool(pieces) and apart


def prove_sources(template: DatasetTemplate, sources: Sequence[FileSource], filled: int) -> None:
    """Show that files stand in order along the axis, apart from each other, and leave what is filled.

    Parameters
    ----------
    template, sources
        What is written, and the files in the order of their labels.
    filled
        How many labels no file has.

    Raises
    ------
    InvalidInputError
        Naming the file that does not fit.
    """
    axis, covered = template.append_dim, 0
    # A dimension that no variable has is in no array, so it has no length but that of its files.
    known = axis is not None and axis in template.sizes
    begin, length = template.extent(axis) if axis is not None and known else (0, None)
    end = begin
    if not sources and not template.empty:
        raise InvalidInputError("the plan has no sources; plan again")
    for number, source in enumerate(sources):
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
            f"what is written ends at {length} labels, and source {len(sources) - 1} ends at {end}; plan again"
        )
    if filled < 0 or covered + filled != length - begin:
        raise InvalidInputError(
            f"{covered} labels are those of sources and {filled} are filled, of {length - begin}; plan again"
        )
