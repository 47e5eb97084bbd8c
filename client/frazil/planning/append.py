"""Appending: what is there already stands in front of the files, and stays as it is."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from frazil.labels.compare import calendar_of, compare
from frazil.labels.join import Axis, show
from frazil.labels.place import Grid, Pieces, aligned, grid_of
from frazil.planning.attributes import Changes, changes_of, check_claims
from frazil.planning.axis import axis_of, check_all_labels
from frazil.planning.existing import Existing, check_ordered
from frazil.planning.fitted import Fitted, sources_at
from frazil.planning.options import OnOverlap, Options
from frazil.planning.recoding import check_kept, recoding_of, units_of_bounds
from frazil.planning.scan import Sources
from frazil.template.build import Recoding
from frazil_functions.errors import LabelError, MismatchedSourceError
from frazil_functions.reading.encoding import PACKING, is_time_unit
from frazil_functions.reading.scanning import FileMetadata, Labels, VariableMetadata
from frazil_functions.template import ArrayTemplate, DatasetTemplate, Role


def fit_behind(existing: Existing, sources: Sources, options: Options) -> Fitted:
    """The sources behind what exists.

    Raises
    ------
    InvalidInputError
        If files do not go together or behind the group, or labels do not fit.
    """
    held = existing
    if options.on_overlap != "replace":
        _check_behind(existing, sources, options.on_overlap)
    else:
        existing = _before(existing, sources, options)
    joined = _behind(existing, sources, options.on_overlap)
    _check_names(existing, joined, options)
    check_all_labels(joined)
    first, dim = existing.file, joined.append_dim
    files, places = [first], list[Pieces]([{}])
    for file in joined.files[1:]:
        turned, pieces = aligned(first, file, joined.labels, dim, options.accept, reorder=options.reorder)
        files.append(turned)
        places.append(pieces)
    joined = replace(joined, files=tuple(files))
    recodes = [
        compare(_shared(first, file), file, dim, joined.labels, options.accept, rounded=True)
        if file is not first
        else frozenset()
        for file in files
    ]
    recoding = recoding_of(files, recodes, dim, rounded=True)
    check_claims(existing, files[1:], options.on_attrs)
    axis = _axis(joined, recodes, recoding, options)
    if options.on_overlap == "replace":
        _check_replaced(held, existing, axis, joined.append_dim or "")
    template = _extended(existing, joined, axis, recoding, options)
    ordered = sources_at(files, axis, recodes, recoding, places=places)
    return Fitted(template, tuple(one for one in ordered if one.url != first.url), axis.filled)


def _check_names(existing: Existing, sources: Sources, options: Options) -> None:
    """Refuse files that would leave variables of different lengths: the group could not be opened.

    Raises
    ------
    MismatchedSourceError
        Naming the file and the variables.
    """
    held, dim = existing.file.variables, sources.append_dim
    for file in sources.files[1:]:
        short = [name for name, one in held.items() if dim in one.dims and name not in file.variables]
        if short:
            raise MismatchedSourceError(
                f"{file.url} lacks {_listed(short)}, which {existing.file.url} has along {dim!r} and which would be "
                "left shorter than the others; put into the files every variable that grows"
            )
        new = [name for name in file.variables if name not in held]
        for one in file.sizes:
            if one != dim:
                check_ordered(existing, file, one, options.accept)
        if new:
            raise MismatchedSourceError(
                f"{file.url} has {_listed(new)} besides, which {existing.file.url} does not have, and an append adds "
                "behind what is there. Leave it out (--variables), and write it for all labels with --mode add"
            )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def _shared(first: FileMetadata, file: FileMetadata) -> FileMetadata:
    """The group less what a file need not have, for it does not grow."""
    return replace(first, variables={name: one for name, one in first.variables.items() if name in file.variables})


def _axis(sources: Sources, recodes: Sequence[frozenset[str]], recoding: Recoding, options: Options) -> Axis:
    """The labels of the group and of the files; a group may have none yet."""
    dim, (group, *files) = sources.append_dim or "", sources.files
    if group.sizes.get(dim) or dim not in group.variables or not files:
        return axis_of(sources, recodes, recoding, options.gaps, options.accept)
    new = replace(sources, files=tuple(files))
    axis = axis_of(new, recodes[1:], recoding, options.gaps, options.accept, like=group.variables[dim])
    return replace(axis, order=(0, *(at + 1 for at in axis.order)), spans=((0, 0), *axis.spans))


def _check_replaced(held: Existing, kept: Existing, axis: Axis, dim: str) -> None:
    """Refuse files that would put their labels in place of others, which would be gone.

    Raises
    ------
    LabelError
        Naming the first label that would be lost.
    """
    begin = kept.file.sizes[dim]
    known = grid_of(held.file, dim, held.labels)
    assert known is not None  # or nothing had said what is replaced
    ours, theirs = known.values[begin : len(axis.values)], axis.values[begin : len(known.values)]
    for (_, stop), (start, _) in pairwise(axis.spans):
        if stop < min(start, len(known.values)):
            raise LabelError(
                f"the files leave out {dim} {show(axis.values[stop], known.attributes)}, which {known.url} holds, and "
                "--gaps fill would empty it; add the files between them, or replace one part after the other"
            )
    lost = np.flatnonzero(ours != theirs)
    if lost.size:
        at = int(lost[0])
        raise LabelError(
            f"the files would put {dim} {show(theirs[at], known.attributes)} in place of "
            f"{show(ours[at], known.attributes)}, which {known.url} holds and they do not; values are replaced under "
            "their own labels alone. Give files with every label that they reach over, or write the group anew (--mode "
            "overwrite)"
        )


def _before(existing: Existing, sources: Sources, options: Options) -> Existing:
    """What of it lies before the first label of the files, which replace the rest."""
    dim = sources.append_dim or ""
    held = existing.file.variables.get(dim)
    if held is None or held.digest is None:
        raise LabelError(
            f"{existing.file.url} has no coordinate along {dim!r}, so nothing says what the files replace; write a "
            f"region of it (--mode region --region {dim}=START:STOP)"
        )
    files = [file for file in sources.files if dim in file.variables]
    recodes = [frozenset({dim}) if is_time_unit(held.attributes.get("units")) else frozenset() for file in files]
    begins = []
    for file, own in zip(files, recodes, strict=True):
        one = Sources((file,), sources.labels, dim)
        values = axis_of(one, [own], Recoding({}, {}), "keep", options.accept, like=held).values
        begins += [values.min(), values.max()] if len(values) and values.dtype.kind in "iuf" else []
    labels = existing.labels[held.digest].values()
    if not begins or labels.dtype.kind not in "iuf":
        return existing
    falls = len(labels) > 1 and labels[0] > labels[-1]
    kept = int(np.count_nonzero(labels > max(begins) if falls else labels < min(begins)))
    if not kept:
        known = Grid(dim, existing.file.url, labels, held.attributes)
        outside = min(begins) < labels.min() or max(begins) > labels.max()
        raise LabelError(
            f"the files reach from {show(min(begins), held.attributes)} to {show(max(begins), held.attributes)} along "
            f"{dim!r}, and {known.url} holds {known}, of which nothing lies before them. "
            + (
                "Write the group anew from all files (--mode overwrite)"
                if outside
                else "Write them under the labels that are there (--mode region)"
            )
        )
    return existing.cut_to({dim: (0, kept)})


def _check_behind(existing: Existing, sources: Sources, on_overlap: OnOverlap) -> None:
    """Tell files that go back, or overlap what is there, from those that leave a gap.

    Raises
    ------
    LabelError
        Naming the file, both ranges and the cure.
    """
    dim = sources.append_dim or ""
    ours, known = existing.file.variables.get(dim), grid_of(existing.file, dim, existing.labels)
    if ours is None or known is None or known.values.dtype.kind not in "iuf" or not len(known.values):
        return
    low, high = known.values.min(), known.values.max()
    falls = len(known.values) > 1 and known.values[0] > known.values[-1]
    for file in sources.files:
        own = grid_of(file, dim, sources.labels)
        if own is None or own.values.dtype.kind not in "iuf" or not len(own.values):
            continue
        if _counting(ours) != _counting(file.variables[dim]) or (
            on_overlap == "skip" and _is_there(existing, file, sources)
        ):
            continue
        first, last = own.values.min(), own.values.max()
        if (first > high) if falls else (last < low):
            raise LabelError(
                f"{own.url} holds {dim} {own}, before what {known.url} holds, {known}; an append only adds behind it. "
                "Write the group anew from all files (--mode overwrite)"
            )
        if (last >= low) if falls else (first <= high):
            raise LabelError(
                f"the labels of {dim!r} overlap: {own.url} holds {own}, and {known.url} {known}. --on-overlap skip "
                "leaves out files that are there with every label, --on-overlap replace writes from the first of "
                "theirs on anew"
            )


def _behind(existing: Existing, sources: Sources, on_overlap: OnOverlap) -> Sources:
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
    return [*(variable.attributes.get(key) for key in ("units", *PACKING)), calendar_of(variable)]


def _extended(
    existing: Existing, sources: Sources, axis: Axis, recoding: Recoding, options: Options
) -> DatasetTemplate:
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
    check_kept(file, recoding)
    length = max(end, existing.length(dim))
    labels = {dim: Labels.of(axis.values[offset:])} if dim in file.variables else {}
    changes = (
        changes_of(existing, sources.files[1], sources.files[1].variables, options.on_attrs or "keep")
        if len(sources.files) > 1
        else Changes()
    )
    arrays, counted = {}, units_of_bounds(file, recoding)
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
            changes=changes.variables.get(name, {}) | counted.get(name, {}),
        )
    sizes = file.sizes | {dim: length}
    return DatasetTemplate(sizes, dim, file.attributes, arrays, labels, {dim: (offset, end)}, changes.group)
