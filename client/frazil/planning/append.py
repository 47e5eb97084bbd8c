"""Appending: what is there already stands in front of the files, and stays as it is."""

from dataclasses import replace
from typing import Literal

import numpy as np

from frazil.planning.compare import calendar_of
from frazil.planning.existing import Existing
from frazil.planning.labels import Axis, show
from frazil.planning.scan import Sources
from frazil.template.build import Recoding
from frazil_functions.errors import LabelError, MismatchedSourceError
from frazil_functions.reading.encoding import PACKING
from frazil_functions.reading.scanning import FileMetadata, Labels, VariableMetadata
from frazil_functions.template import ArrayTemplate, DatasetTemplate, Role

type OnOverlap = Literal["error", "skip"]
"""`skip` leaves out files of which every label is there already."""


def behind(existing: Existing, sources: Sources, on_overlap: OnOverlap) -> Sources:
    """The sources with what exists in front, less the files that are to be skipped."""
    labels = existing.labels | sources.labels
    files = sources.files
    if on_overlap == "skip":
        if sources.append_dim not in existing.file.variables:
            raise LabelError(
                f"{existing.file.url} has no coordinate along {sources.append_dim!r}, so nothing says which files are "
                "there already; leave out on_overlap, and name only the new ones"
            )
        files = tuple(file for file in files if not _is_there(existing, file, sources))
    # What a repository holds besides the variables of the files would be left too short, so all of it is compared.
    return replace(sources, files=(existing.file, *files), labels=labels)


def _is_there(existing: Existing, file: FileMetadata, sources: Sources) -> bool:
    """Whether every label of a file is there already, in the same units."""
    dim = sources.append_dim or ""
    ours, theirs = existing.file.variables.get(dim), file.variables.get(dim)
    if ours is None or theirs is None or ours.digest is None or theirs.digest is None:
        return False
    if _counting(ours) != _counting(theirs):
        return False
    held, asked = existing.labels[ours.digest].values(), sources.labels[theirs.digest].values()
    return bool(asked.size) and bool(np.isin(asked, held).all())


def _counting(variable: VariableMetadata) -> list[object]:
    """What says which label a stored number means."""
    return [*(variable.attributes.get(key) for key in ("units", *PACKING)), variable.dtype, calendar_of(variable)]


def extended(existing: Existing, sources: Sources, axis: Axis, recoding: Recoding) -> DatasetTemplate:
    """The group as it will be: its arrays as they are, and longer.

    Raises
    ------
    LabelError
        If files belong in front of what exists, or nothing says that they follow it.
    MismatchedSourceError
        If they store a variable in a way that the group cannot keep beside its own.
    """
    dim, file = sources.append_dim or "", existing.file
    if axis.order[0] != 0:
        first = axis.values[axis.spans[0][0]]
        raise LabelError(
            f"{sources.files[axis.order[0]].url} begins at {dim} {show(first, file.variables[dim].attributes)}, before "
            f"what {file.url} holds; an append only adds behind it"
        )
    offset, end = axis.spans[0][1], len(axis.values)
    _check_kept(existing, recoding)
    length = max(end, existing.length(dim))
    labels = {dim: Labels.of(axis.values[offset:])} if dim in file.variables else {}
    arrays = {}
    for name, variable in file.variables.items():
        held = existing.arrays[name]
        shape = tuple(length if one == dim else size for one, size in zip(variable.dims, variable.shape, strict=True))
        role: Role = "labels" if name in labels else "data" if dim in variable.dims else "kept"
        arrays[name] = ArrayTemplate(
            name=name,
            dims=variable.dims,
            shape=shape,
            dtype=variable.dtype,
            chunks=held.chunks,
            shards=held.shards,
            attributes=variable.attributes,
            role=role,
            digest=labels[name].digest if name in labels else variable.digest,
            before=held.shape,
        )
    sizes = file.sizes | {dim: length}
    return DatasetTemplate(sizes, dim, file.attributes, arrays, labels, {dim: (offset, end)})


def _check_kept(existing: Existing, recoding: Recoding) -> None:
    own = existing.file.variables
    for name in recoding.attributes.keys() | {n for n, dtype in recoding.dtypes.items() if dtype != own[n].dtype}:
        raise MismatchedSourceError(
            f"{name!r} is stored in another way in the files than in {existing.file.url} (units, scale, fill value or "
            "the length of strings), and an append cannot change what is stored. Convert the files first"
        )
