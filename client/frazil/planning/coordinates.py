"""Coordinates without labels of their own, two-dimensional ones above all: whether a region is the right one."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from frazil.planning.existing import Existing
from frazil_functions.errors import LabelError
from frazil_functions.reading.encoding import Values, checksum, fill_of, has_fill, native
from frazil_functions.reading.scanning import FileMetadata
from frazil_functions.regions import Region
from frazil_functions.tasks import FileSource
from frazil_functions.template import ArrayTemplate, DatasetTemplate
from frazil_functions.writing.targets import open_targets


def check_coordinates(
    existing: Existing, template: DatasetTemplate, sources: Sequence[FileSource], reader: Callable[..., Any]
) -> None:
    """Refuse a region whose coordinates are not those that the group has there.

    Labels were compared already; this is for coordinates that lie along other dimensions than their own.

    Raises
    ------
    LabelError
        Naming the coordinate and the file.
    """
    dim = template.append_dim
    named = _coordinates(existing.file)
    names = [
        name
        for name, array in template.arrays.items()
        if name in named and array.role == "data" and not (dim in array.dims and dim in existing.file.variables)
    ]
    targets = open_targets(existing.session, existing.group, names, "r")
    for name in names:
        array = template.arrays[name]
        for source in sources if dim in array.dims else sources[:1]:
            extents = template.extents | ({dim: (source.start, source.stop)} if dim is not None else {})
            whole = Region(name, tuple((one, 0, size) for one, size in zip(array.dims, array.shape, strict=True)))
            region = whole.within(extents)
            with reader([source], dim) as reading:
                asked = reading.read(region, array.dtype, array.attributes)
            held = native(np.asarray(targets[name][region.slices]))
            if checksum(held) != checksum(asked) and not _is_unwritten(held, array):
                raise LabelError(
                    f"{source.url}: the coordinate {name!r} has other values than {existing.file.url} has in the place "
                    "of the region, so values would stand under coordinates that are not theirs. Name the place where "
                    "they belong (--region), or replace the coordinate first (frazil convert --mode "
                    "modify)"
                )


def _coordinates(file: FileMetadata) -> frozenset[str]:
    """Variables that the group calls coordinates, or their bounds."""
    every = (file.attributes, *(one.attributes for one in file.variables.values()))
    return frozenset(
        name for own in every for key in ("coordinates", "bounds") for name in str(own.get(key, "")).split()
    )


def _is_unwritten(held: Values, array: ArrayTemplate) -> bool:
    """Whether nothing was written there yet, as in a group that was made to be filled."""
    empty = np.full(held.shape, fill_of(array.dtype, array.attributes), held.dtype)
    return has_fill(array.dtype, array.attributes) and checksum(held) == checksum(empty)
