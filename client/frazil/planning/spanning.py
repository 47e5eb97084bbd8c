"""Spanning: an empty group over a range of labels, like a template that has some of them; values come later."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np

from frazil.labels.join import Axis, check_labels
from frazil.labels.place import Grid, grid_of, place
from frazil.labels.stepping import LabelRange, spanned
from frazil.planning.axis import check_all_labels, labels_of
from frazil.planning.fitted import Fitted, sources_at
from frazil.planning.options import Options
from frazil.planning.recoding import stored_so
from frazil.planning.scan import Sources
from frazil.template.build import Recoding, build
from frazil.template.chunking import ChunkChoice
from frazil_functions.errors import InvalidInputError, LabelError
from frazil_functions.reading.encoding import STRING, Attributes, bounded_attributes
from frazil_functions.reading.scanning import FileMetadata, VariableMetadata, coordinate_names
from frazil_functions.template import DatasetTemplate, reads_as_missing

_MUCH: Final = 8
"""Chunks that are shorter than others by this factor cost more requests than files of their own are worth."""

_FILLS: Final = {1: 127, 2: 32767, 4: 2147483647, 8: 9223372036854775806}
"""What netCDF fills signed integers with, less their sign, by their bytes (NC_FILL_BYTE and others, netcdf.h)."""


def fit_empty(sources: Sources, options: Options, span: LabelRange) -> Fitted:
    """A group like the template, over all labels of a span; what has that dimension is left empty.

    Raises
    ------
    InvalidInputError
        If the labels cannot be told, or the template's own are none of them; or if what is not written yet would read
        as a value.
    """
    check_all_labels(sources)
    if len(sources.files) > 1:
        raise InvalidInputError(f"a template is one file, and these are {len(sources.files)}; name one of them")
    (first,), dim = sources.files, sources.append_dim
    if dim is None:
        raise LabelError(
            f"{first.url} has no dimension whose labels could go on; give a template with a variable along one, or "
            "name variables that have one (--variables)"
        )
    own = grid_of(first, dim, sources.labels)
    if own is None:
        raise LabelError(
            f"{first.url} has no coordinate along {dim!r}, so nothing says how its labels go on; add one, or name "
            "another dimension (--append-dim)"
        )
    axis = _axis(dim, own, span)
    filled = {name: with_fill(name, one) for name, one in first.variables.items() if dim in one.dims and name != dim}
    told = {name: one.attributes for name, one in first.variables.items()}
    # Bounds that are stored otherwise than in files need in writing what they count.
    attributes = {
        name: bounded_attributes(name, told | {name: one}) for name, one in filled.items() if one != told[name]
    }
    labels, recoding = labels_of(sources, axis), stored_so(Recoding({}, attributes), options.stored)

    def cut(choice: ChunkChoice) -> DatasetTemplate:
        return build(first, labels, dim, choice, recoding)

    template = cut(ChunkChoice(options.chunks, options.shards, options.auto))
    if dim not in {*options.chunks, *options.shards} and options.auto is None:
        length = _dividing(first.sizes[dim], min(_units(first, template, dim).values(), default=1))
        template = cut(ChunkChoice({**options.chunks, dim: length}, options.shards))
    whole = _emptied(template, _units(first, template, dim))
    return Fitted(whole, sources_at((first,), axis, [frozenset()], Recoding({}, {})), axis.filled)


def _units(first: FileMetadata, template: DatasetTemplate, dim: str) -> dict[str, int]:
    """How many labels a write unit holds, for each array of data."""
    coordinates = coordinate_names({name: one.attributes for name, one in first.variables.items()})
    grids = [one.grid for name, one in template.arrays.items() if one.role == "data" and name not in coordinates]
    return {grid.array: grid.unit[grid.dims.index(dim)] for grid in grids if dim in grid.dims}


def _dividing(length: int, most: int) -> int:
    """The longest chunks that a file of some labels is made of, so that each file is written on its own.

    Where these would be much shorter than chunks are otherwise, they stay as long as those.
    """
    found = max((one for one in range(1, min(length, most) + 1) if length % one == 0), default=1)
    return found if found * _MUCH > min(length, most) else most


def _axis(dim: str, own: Grid, span: LabelRange) -> Axis:
    """All labels; the template has no place among them that is written from it."""
    values = spanned(dim, own.url, own.values, own.attributes, span)
    what = f"the range from {span.start} to {span.end}"
    check_labels(dim, what, values, own.attributes)
    made = Grid(dim, what, values, own.attributes)
    if len(own.values):
        try:
            place(made, own, reorder=True, drift=False)
        except LabelError as error:
            cure = "say another --freq, or none"
            if own.values.min() < values.min() or own.values.max() > values.max():
                cure = "widen or shift the range (--global-start, --global-end)"
            raise LabelError(
                f"{own.url}: the template's own labels must be among those that are made, one behind the other, or "
                f"values like its own could never be written: {dim!r} runs {own}, and what is made {made}; {cure}"
            ) from error
    return Axis(values, (0,), ((0, 0),), len(values))


def _emptied(template: DatasetTemplate, units: Mapping[str, int]) -> DatasetTemplate:
    """The arrays that are left empty.

    Coordinates and bounds are cut as the data is: who owns its write units owns theirs, and nobody has to wait for
    others.
    """
    dim, arrays = template.append_dim or "", dict(template.arrays)
    shared = math.gcd(*units.values())
    for name, one in template.arrays.items():
        if one.role == "data" and dim in one.dims:
            axis = one.dims.index(dim)
            length = one.chunks[axis] if name in units or not shared else shared
            arrays[name] = replace(one, role="empty", chunks=(*one.chunks[:axis], length, *one.chunks[axis + 1 :]))
    return replace(template, arrays=arrays)


def with_fill(name: str, variable: VariableMetadata) -> Attributes:
    """The attributes of a variable that is left empty: whole numbers get netCDF's fill value if they have none.

    Raises
    ------
    InvalidInputError
        If its type has no value that could mean "missing".
    """
    attributes, dtype = variable.attributes, variable.dtype
    boolean = attributes.get("dtype") == "bool"
    if not boolean and (dtype == STRING or reads_as_missing(dtype, attributes)):
        return attributes
    kind: Any = np.dtype(dtype)
    if boolean or kind.kind not in "iu":
        raise InvalidInputError(
            f"{name!r} has the type {'bool' if boolean else dtype}, in which no value means missing, so what is not "
            "written yet would read as a value. Convert it first (astype('i1') or 'f4'), or leave it out (--variables)"
        )
    most = int(np.iinfo(kind).max)
    meant = str(attributes.get("_Unsigned", "")).lower()
    unsigned = kind.kind == "u" if not meant else meant == "true"
    if unsigned:
        # As netCDF has it: the largest, and for 64 bits the one before it.
        return attributes | {"_FillValue": -1 if kind.kind == "i" else most - (kind.itemsize == 8)}  # noqa: PLR2004 - bytes
    return attributes | {"_FillValue": -_FILLS[kind.itemsize]}
