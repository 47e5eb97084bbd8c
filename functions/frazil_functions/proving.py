"""What a plan says of arrays and of files, held against itself; it may come from anywhere, and be done as it says."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from frazil_functions.errors import InvalidInputError
from frazil_functions.tasks import FileSource, Piece
from frazil_functions.template import ArrayTemplate, DatasetTemplate, check_group

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
    if array.before is None:
        if array.role == "kept":
            raise InvalidInputError(f"{array.name!r} is to stay as it is, and is not there; plan again")
        return
    if makes:
        raise InvalidInputError(f"{array.name!r} is said to be there in a group that is made; plan again")
    _prove_growth(template, array, array.before)


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
    if sources:
        for array in template.arrays.values():
            if array.role == "static" and sources[0].places.keys() & set(array.dims):
                raise InvalidInputError(
                    f"{array.name!r} is written once, as it stands, and {sources[0].url} has it otherwise; plan again"
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
