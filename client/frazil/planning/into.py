"""Writing into a group that exists: a region of it, or whole variables; its labels say where."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from frazil.planning.attributes import Changes, changes_of
from frazil.planning.axis import axis_of, check_all_labels, labels_of
from frazil.planning.compare import compare
from frazil.planning.existing import Existing
from frazil.planning.fitted import Fitted, sources_at
from frazil.planning.labels import Axis
from frazil.planning.options import Options, Span
from frazil.planning.place import Grid, Pieces, aligned, grid_of, place
from frazil.planning.recoding import check_kept, recoding_of
from frazil.planning.scan import Sources
from frazil.template.build import Recoding, build, role_of
from frazil.template.chunking import ChunkChoice
from frazil_functions.errors import InvalidInputError, LabelError, MismatchedSourceError, nearest
from frazil_functions.reading.scanning import FileMetadata
from frazil_functions.tasks import Piece
from frazil_functions.template import ArrayTemplate, DatasetTemplate, Role


def fit_region(existing: Existing, sources: Sources, options: Options) -> Fitted:
    """The sources as a part of the group, whose other values stay.

    Raises
    ------
    InvalidInputError
        If a variable is not in the group, or is of another form; if labels are not the group's; or if the part does not
        lie in it.
    """
    first, dim, names = sources.files[0], sources.append_dim, tuple(sources.files[0].variables)
    strange = [name for name in names if name not in existing.file.variables]
    if strange:
        raise MismatchedSourceError(
            f"{first.url} has {_listed(strange)}, which {existing.file.url} does not have, and a region writes into "
            "what is there. Write new variables with --mode add, or leave them out (--variables)"
        )
    check_all_labels(sources)
    dims = {one: None for variable in first.variables.values() for one in variable.dims}
    _check_region(options.region, dims, existing)
    within = _narrow(existing, {one: _extent(existing, first, sources, one, options) for one in dims if one != dim})
    files, places, recodes = _compared(existing.cut_to(within), sources, names, options)
    axis, start = _joined(existing, replace(sources, files=files), recodes, options)
    along = {dim: (start, start + axis.spans[-1][1])} if dim is not None and dim in dims else {}
    narrow = within | _narrow(existing, along)
    changes = changes_of(existing, first, names, options.on_attrs or "error")
    written = {dim, *narrow} if narrow else set(dims)
    arrays = {
        name: _present(
            existing, name, "kept" if _is_label(existing, name) or not written & set(one.dims) else "data", changes
        )
        for name, one in first.variables.items()
    }
    if all(array.role == "kept" for array in arrays.values()):
        raise MismatchedSourceError(
            f"no variable of {first.url} has one of the dimensions {_listed(narrow)} of the region, so there is "
            "nothing to write; use --mode modify for variables as a whole"
        )
    sizes = {one: existing.length(one) for one in dims}
    template = DatasetTemplate(sizes, dim, existing.file.attributes, arrays, {}, narrow, changes.group)
    shifted = [_shifted(one, within) for one in places]
    recoding = Recoding({}, {})
    return Fitted(template, sources_at(files, axis, recodes, recoding, places=shifted, shift=start))


def fit_variables(existing: Existing, sources: Sources, options: Options, mode: Literal["add", "modify"]) -> Fitted:
    """The sources as whole variables of the group: those that it does not have, and with "modify" those that it has.

    Raises
    ------
    InvalidInputError
        If nothing is left to write, a variable is of another form than the group's, or labels are not the group's.
    """
    first, dim = sources.files[0], sources.append_dim
    held = [name for name in first.variables if name in existing.file.variables]
    new = [name for name in first.variables if name not in existing.file.variables]
    data = [name for name in held if not _is_label(existing, name)] if mode == "modify" else []
    if not new and not data:
        raise InvalidInputError(
            f"{existing.file.url} has every variable of {first.url} already ({_listed(held)}), so there is nothing to "
            "add; --mode modify replaces them"
        )
    check_all_labels(sources)
    kept = [name for name in held if _is_label(existing, name)]
    files, places, recodes = _compared(_undigested(existing), sources, [*kept, *data], options)
    alike = [_only(file, new) for file in files]
    between = [
        compare(alike[0], file, dim, sources.labels, options.accept) if at else frozenset[str]()
        for at, file in enumerate(alike)
    ]
    _check_alike(files, data, sources, options)
    recoding = recoding_of(alike, between, dim)
    recodes = [own | other for own, other in zip(recodes, between, strict=True)]
    axis, start = _joined(existing, replace(sources, files=files), recodes, options, recoding)
    known = dim is not None and existing.length(dim) > 0
    if known and (start, start + len(axis.values)) != (0, existing.length(dim or "")):
        raise LabelError(
            f"the files hold the labels {start} to {start + len(axis.values)} of {existing.length(dim or '')} of "
            f"{dim!r} in {existing.file.url}, and whole variables need all of them; write a part of them with --mode "
            "region"
        )
    changes = changes_of(existing, first, data, options.on_attrs or ("update" if mode == "modify" else "keep"))
    template = _made(existing, replace(sources, files=files), new, axis, recoding, options)
    arrays = dict(template.arrays)
    for name in (*kept, *data):
        variable = files[0].variables[name]
        role: Role = "kept" if name in kept else role_of(name, variable.dims, dim, variable.digest, labelled=False)
        arrays[name] = _present(existing, name, role, changes, files[0].variables[name].digest)
    sizes = template.sizes | {
        one: length for name in (*kept, *data) for one, length in _lengths(existing, name).items()
    }
    whole = replace(template, sizes=sizes, arrays=arrays, changes=changes.group)
    return Fitted(whole, sources_at(files, axis, recodes, recoding, places=places), axis.filled)


def _made(
    existing: Existing,
    sources: Sources,
    new: Sequence[str],
    axis: Axis,
    recoding: Recoding,
    options: Options,
) -> DatasetTemplate:
    """The variables that the group does not have."""
    first, dim = sources.files[0], sources.append_dim
    chosen = ChunkChoice(options.chunks, options.shards)
    if not new:
        if options.chunks or options.shards:
            raise InvalidInputError("no variable is new, and the others keep their chunks; leave out chunks and shards")
        return DatasetTemplate({}, dim, {}, {}, {})
    labels = {name: one for name, one in labels_of(sources, axis).items() if name in new}
    sizes = first.sizes | ({dim: axis.spans[-1][1]} if dim is not None else {})
    for one, length in sizes.items():
        if existing.length(one) not in {0, length}:
            raise MismatchedSourceError(
                f"{first.url} has {length} along {one!r}, and {existing.file.url} {existing.length(one)}; variables "
                "of one group share their dimensions"
            )
    return build(replace(_only(first, new), sizes=sizes), labels, dim, chosen, recoding)


def _compared(
    existing: Existing, sources: Sources, names: Iterable[str], options: Options
) -> tuple[tuple[FileMetadata, ...], list[Pieces], list[frozenset[str]]]:
    """The files as if their labels stood as the group's do, where they really stand, and what is stored otherwise."""
    named, labels, dim = tuple(names), existing.labels | sources.labels, sources.append_dim
    whole = _only(existing.file, named)
    files, places, recodes = [], [], []
    for file in sources.files:
        turned, pieces = aligned(existing.file, file, labels, dim, options.accept, reorder=options.reorder)
        missing = [name for name in named if name not in file.variables]
        if missing:
            raise MismatchedSourceError(f"{file.url} lacks {_listed(missing)}, compared with {sources.files[0].url}")
        files.append(turned)
        places.append(pieces)
        recodes.append(compare(whole, _only(turned, named), dim, labels, options.accept))
    check_kept(
        existing.file, recoding_of((whole, *(_only(file, named) for file in files)), [frozenset(), *recodes], dim)
    )
    return tuple(files), places, recodes


def _check_alike(files: Sequence[FileMetadata], names: Sequence[str], sources: Sources, options: Options) -> None:
    """Hold what is the same in all files against the first; the group's own values are replaced."""
    for file in files[1:]:
        compare(_only(files[0], names), _only(file, names), sources.append_dim, sources.labels, options.accept)


def _joined(
    existing: Existing,
    sources: Sources,
    recodes: Sequence[frozenset[str]],
    options: Options,
    recoding: Recoding | None = None,
) -> tuple[Axis, int]:
    """The labels of all files along the append dimension, and where the first of them lies in the group."""
    dim, files = sources.append_dim, sources.files
    held = grid_of(existing.file, dim or "", existing.labels)
    if held is None and dim not in _dims(existing):
        return axis_of(sources, recodes, recoding or Recoding({}, {}), options.gaps, options.accept), 0
    like = existing.file.variables[held.dim] if held is not None else None
    # The group's own labels tell what is missing between those of the files.
    axis = axis_of(sources, recodes, Recoding({}, {}), "keep", options.accept, like)
    assert dim is not None
    wanted, count = options.region.get(dim, "auto"), axis.spans[-1][1]
    if held is not None and dim in files[0].variables:
        grid = Grid(dim, files[0].url if len(files) == 1 else "the files", axis.values, held.attributes)
        placed = place(held, grid, reorder=False, drift="drift" in options.accept)
        if wanted not in ("auto", placed.extent):
            raise LabelError(
                f"the labels of {dim!r} are those of {placed.extent[0]}:{placed.extent[1]} in {existing.file.url}, "
                f"and the region is {wanted[0]}:{wanted[1]}; leave it out, and they land where they belong"
            )
        return axis, placed.extent[0]
    if wanted == "auto":
        if count != existing.length(dim):
            raise _no_labels(dim, existing, count)
        return axis, 0
    _check_length(dim, wanted, count, files[0].url)
    return axis, wanted[0]


def _extent(existing: Existing, first: FileMetadata, sources: Sources, dim: str, options: Options) -> tuple[int, int]:
    """The part of a dimension that the files hold."""
    target, own = grid_of(existing.file, dim, existing.labels), grid_of(first, dim, sources.labels)
    count, length = first.sizes[dim], existing.length(dim)
    wanted = options.region.get(dim, "auto")
    if target is None or own is None:
        if wanted != "auto":
            _check_length(dim, wanted, count, first.url)
            return wanted
        if count != length:
            raise _no_labels(dim, existing, count)
        return 0, length
    found = place(target, own, reorder=options.reorder, drift="drift" in options.accept).extent
    if wanted not in ("auto", found):
        raise LabelError(
            f"{first.url}: the labels of {dim!r} are those of {found[0]}:{found[1]} in {existing.file.url}, and the "
            f"region is {wanted[0]}:{wanted[1]}; leave it out, and they land where they belong"
        )
    return found


def _narrow(existing: Existing, extents: Mapping[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """The extents of dimensions of which not all is written."""
    return {dim: extent for dim, extent in extents.items() if extent != (0, existing.length(dim))}


def _check_region(region: Mapping[str, Span], dims: Iterable[str], existing: Existing) -> None:
    for dim, span in region.items():
        if dim not in dims:
            raise InvalidInputError(f"the region names {dim!r}, which no variable has; {nearest(dim, dims)}")
        if span != "auto" and not 0 <= span[0] < span[1] <= existing.length(dim):
            raise InvalidInputError(
                f"the region {dim} {span[0]}:{span[1]} does not lie in {existing.file.url}, which has "
                f"{existing.length(dim)} along it; use START:STOP within that, or --mode append"
            )


def _check_length(dim: str, span: tuple[int, int], count: int, url: str) -> None:
    if span[1] - span[0] != count:
        raise InvalidInputError(
            f"the region {dim} {span[0]}:{span[1]} has {span[1] - span[0]} places, and {url} holds {count}; make them "
            "equal"
        )


def _no_labels(dim: str, existing: Existing, count: int) -> LabelError:
    return LabelError(
        f"{dim!r} has no coordinate in the group or in the files, so nothing says where these {count} of "
        f"{existing.length(dim)} belong in {existing.file.url}; say so: --region {dim}=START:STOP"
    )


def _present(existing: Existing, name: str, role: Role, changes: Changes, digest: str | None = None) -> ArrayTemplate:
    """An array that is there already."""
    variable, held = existing.file.variables[name], existing.arrays[name]
    return ArrayTemplate(
        name=name,
        dims=variable.dims,
        shape=held.shape,
        dtype=variable.dtype,
        chunks=held.chunks,
        shards=held.shards,
        attributes=variable.attributes,
        role=role,
        digest=digest if role == "static" else variable.digest,
        before=held.shape,
        changes=changes.variables.get(name, {}),
    )


def _shifted(places: Pieces, extents: Mapping[str, tuple[int, int]]) -> Pieces:
    """Where labels lie in the whole group, of which only a part was looked at."""
    found = dict(places)
    for dim, (start, stop) in extents.items():
        pieces = places.get(dim, (Piece(0, 0, stop - start),))
        found[dim] = tuple(replace(piece, start=piece.start + start) for piece in pieces)
    return found


def _undigested(existing: Existing) -> Existing:
    """The group as if its values were not known but for its labels: they are to be replaced."""
    variables = {
        name: one if one.dims == (name,) else replace(one, digest=None) for name, one in existing.file.variables.items()
    }
    return replace(existing, file=replace(existing.file, variables=variables))


def _only(file: FileMetadata, names: Iterable[str]) -> FileMetadata:
    return replace(file, variables={name: file.variables[name] for name in names})


def _is_label(existing: Existing, name: str) -> bool:
    return existing.file.variables[name].dims == (name,)


def _lengths(existing: Existing, name: str) -> dict[str, int]:
    return dict(zip(existing.file.variables[name].dims, existing.arrays[name].shape, strict=True))


def _dims(existing: Existing) -> frozenset[str]:
    return frozenset(dim for variable in existing.file.variables.values() for dim in variable.dims)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))
