"""Writing into a group that exists: a region of it, or whole variables; its labels say where."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import xarray as xr

from frazil.labels.compare import compare
from frazil.labels.join import Axis, check_labels
from frazil.labels.place import Grid, Pieces, aligned, check_bounds, grid_of, place
from frazil.planning.attributes import changes_of, check_claims, linked
from frazil.planning.axis import axis_of, check_all_labels, labels_of
from frazil.planning.coordinates import check_coordinates
from frazil.planning.existing import Existing, check_ordered
from frazil.planning.fitted import Fitted, read_as_placed, sources_at
from frazil.planning.options import Options, Span
from frazil.planning.recoding import check_kept, recoding_of, stored_so, unclaimed, units_of_bounds
from frazil.planning.scan import Sources
from frazil.template.build import Recoding, build, role_of
from frazil.template.chunking import ChunkChoice
from frazil_functions.errors import InvalidInputError, LabelError, MismatchedSourceError
from frazil_functions.reading.encoding import Attributes, recode
from frazil_functions.reading.scanning import FileMetadata, VariableMetadata
from frazil_functions.tasks import Piece
from frazil_functions.template import DatasetTemplate, Role


def fit_region(existing: Existing, sources: Sources, options: Options, *, reading: bool = False) -> Fitted:
    """The sources as a part of the group, whose other values stay.

    Where values are only read, there may be none that a write would replace.

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
            "what is there. Write new variables with frazil convert --mode add, or leave them out (--variables)"
        )
    check_all_labels(sources)
    dims = {one: None for variable in first.variables.values() for one in variable.dims}
    existing.check_region(options.region, dims, "use START:STOP within that, or frazil append")
    within = _narrow(existing, {one: _extent(existing, first, sources, one, options) for one in dims if one != dim})
    files, places, recodes, counted = _compared(existing.cut_to(within), sources, names, options)
    axis, start, turned = _joined(existing, replace(sources, files=files), recodes, options)
    along = {dim: (start, start + axis.spans[-1][1])} if dim is not None and dim in dims else {}
    narrow = within | _narrow(existing, along)
    changes = changes_of(existing, first, names, options.on_attrs or "error").beside(counted)
    written = {dim, *narrow} if narrow else set(dims)
    arrays = {
        name: existing.present(
            name, "kept" if _is_label(existing, name) or not written & set(one.dims) else "data", changes.variables
        )
        for name, one in first.variables.items()
    }
    if not reading and all(array.role == "kept" for array in arrays.values()):
        raise MismatchedSourceError(
            f"no variable of {first.url} has one of the dimensions {_listed(narrow)} of the region, so there is "
            "nothing to write; frazil convert --mode modify writes variables as a whole"
        )
    sizes = {one: existing.length(one) for one in dims}
    template = DatasetTemplate(sizes, dim, existing.file.attributes, arrays, {}, narrow, changes.group)
    shifted = [_shifted(one, within) | other for one, other in zip(places, turned, strict=True)]
    placed = sources_at(files, axis, recodes, Recoding({}, {}), places=shifted, shift=start)
    _check_alike(files, [name for name, array in arrays.items() if array.role == "data"], sources, options)
    check_coordinates(existing, template, placed, sources.reader)
    return Fitted(template, placed)


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
    if not new and not data and mode == "modify":
        raise InvalidInputError(
            f"{first.url} has labels alone ({_listed(held)}), and those that are there stay as they are; name "
            "variables to replace, or write the group anew (--mode overwrite)"
        )
    if not new and not data:
        raise InvalidInputError(
            f"{existing.file.url} has every variable of {first.url} already ({_listed(held)}), so there is nothing to "
            "add; --mode modify replaces them"
        )
    check_all_labels(sources)
    kept = [name for name in held if _is_label(existing, name)]
    files, places, recodes, counted = _compared(_undigested(existing), sources, [*kept, *data], options)
    for one in first.sizes:
        if one != dim and one in _dims(existing) and one not in first.variables:
            _check_whole(one, existing, first, first.sizes[one], options)
    alike = unclaimed([_only(file, new) for file in files])
    between = [
        compare(alike[0], file, dim, sources.labels, options.accept) if at else frozenset[str]()
        for at, file in enumerate(alike)
    ]
    _check_alike(files, data, sources, options)
    recoding = stored_so(recoding_of(alike, between, dim), options.stored)
    recodes = [own | other for own, other in zip(recodes, between, strict=True)]
    axis, start, turned = _joined(existing, replace(sources, files=files), recodes, options, recoding)
    places = [one | other for one, other in zip(places, turned, strict=True)]
    if dim in _dims(existing) and (start, start + len(axis.values)) != (0, existing.length(dim or "")):
        raise LabelError(
            f"the files hold the labels {start} to {start + len(axis.values)} of {existing.length(dim or '')} of "
            f"{dim!r} in {existing.file.url}, and whole variables need all of them; write a part of them with --mode "
            "region"
        )
    changed = held if mode == "modify" else ()
    changes = changes_of(existing, first, changed, options.on_attrs or ("update" if mode == "modify" else "keep"))
    changes = linked(existing, first, new, changes).beside(counted)
    kept += [name for name in changes.variables if name not in (*kept, *data)]
    template = _made(existing, replace(sources, files=alike), new, axis, recoding, options)
    arrays = dict(template.arrays)
    for name in (*kept, *data):
        variable = files[0].variables[name]
        role: Role = "kept" if name in kept else role_of(name, variable.dims, dim, variable.digest, labelled=False)
        arrays[name] = existing.present(name, role, changes.variables, files[0].variables[name].digest)
    sizes = template.sizes | {
        one: length for name in (*kept, *data) for one, length in _lengths(existing, name).items()
    }
    placed = sources_at(files, axis, recodes, recoding, places=places)
    whole = replace(template, sizes=sizes, arrays=read_as_placed(arrays, placed[0]), changes=changes.group)
    return Fitted(whole, placed, axis.filled)


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
    chosen = ChunkChoice(options.chunks, options.shards, options.auto)
    if not new:
        if options.chunks or options.shards or options.auto:
            raise InvalidInputError("no variable is new, and the others keep their chunks; leave out chunks and shards")
        return DatasetTemplate({}, dim, {}, {}, {})
    # A file that was turned has the group's labels where it had its own.
    known = replace(sources, labels=existing.labels | sources.labels)
    labels = {name: one for name, one in labels_of(known, axis).items() if name in new}
    sizes = first.sizes | ({dim: axis.spans[-1][1]} if dim is not None else {})
    for one, length in sizes.items():
        if one in _dims(existing) and existing.length(one) != length:
            raise MismatchedSourceError(
                f"{first.url} has {length} along {one!r}, and {existing.file.url} {existing.length(one)}; variables "
                "of one group share their dimensions"
            )
    return build(replace(_only(first, new), sizes=sizes), labels, dim, chosen, recoding)


def _compared(
    existing: Existing, sources: Sources, names: Iterable[str], options: Options
) -> tuple[tuple[FileMetadata, ...], list[Pieces], list[frozenset[str]], dict[str, Attributes]]:
    """The files as if their labels stood as the group's do, where they really stand, and what is stored otherwise.

    And the units that have to be written down for the latter.
    """
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
        recodes.append(compare(whole, _only(turned, named), dim, labels, options.accept, rounded=True))
    every = (whole, *(_only(file, named) for file in files))
    recoding = recoding_of(every, [frozenset(), *recodes], dim, rounded=True)
    check_claims(existing, every[1:], options.on_attrs)
    check_kept(existing.file, recoding)
    return tuple(files), places, recodes, units_of_bounds(existing.file, recoding)


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
) -> tuple[Axis, int, list[Pieces]]:
    """The labels of all files along the append dimension, and where they lie in the group.

    That is where the first of them lies, and for each file what of it stands in another order there.
    """
    dim, files = sources.append_dim, sources.files
    held = grid_of(existing.file, dim or "", existing.labels)
    straight: list[Pieces] = [{} for _ in files]
    if held is None and dim not in _dims(existing):
        return axis_of(sources, recodes, recoding or Recoding({}, {}), options.gaps, options.accept), 0, straight
    assert dim is not None
    wanted = options.region.get(dim, "auto")
    if held is not None and dim in files[0].variables:
        like = existing.file.variables[dim]
        # The group's own labels tell what is missing between those of the files.
        axis = (
            axis_of(sources, recodes, Recoding({}, {}), "keep", options.accept, like)
            if len(files) > 1
            else _alone(sources, recodes[0], like)
        )
        grid = Grid(dim, files[0].url if len(files) == 1 else "the files", axis.values, held.attributes)
        placed = place(held, grid, reorder=options.reorder, drift="drift" in options.accept)
        check_bounds(placed, files[0], dim, existing.file.url)
        if wanted not in ("auto", placed.extent):
            raise _elsewhere(dim, placed.extent, wanted, existing)
        if placed.straight:
            return axis, placed.extent[0], straight
        return _turned(held, axis, files, drift="drift" in options.accept)
    axis = axis_of(sources, recodes, Recoding({}, {}), "keep", options.accept)
    count = axis.spans[-1][1]
    if wanted == "auto":
        _check_whole(dim, existing, files[0], count, options)
        return axis, 0, straight
    _check_length(dim, wanted, count, files[0].url)
    return axis, wanted[0], straight


def _alone(sources: Sources, recodes: frozenset[str], like: VariableMetadata) -> Axis:
    """The labels of a single file as the group stores them, in whatever order: none of them follow others."""
    dim, theirs = sources.append_dim or "", sources.files[0].variables[sources.append_dim or ""]
    values = sources.labels[theirs.digest or ""].values()
    if dim in recodes:
        values = recode(dim, xr.Variable((dim,), values, theirs.attributes), like.attributes, like.dtype)
    check_labels(dim, sources.files[0].url, values, like.attributes)
    return Axis(values, (0,), ((0, len(values)),))


def _turned(held: Grid, axis: Axis, files: Sequence[FileMetadata], *, drift: bool) -> tuple[Axis, int, list[Pieces]]:
    """Where each file lies in the group, which counts the other way or in another order."""
    placed = {
        at: place(
            held, Grid(held.dim, files[at].url, axis.values[slice(*span)], held.attributes), reorder=True, drift=drift
        )
        for at, span in zip(axis.order, axis.spans, strict=True)
    }
    order = tuple(sorted(placed, key=lambda at: placed[at].extent))
    begin = placed[order[0]].extent[0]
    spans = tuple((placed[at].extent[0] - begin, placed[at].extent[1] - begin) for at in order)
    pieces: list[Pieces] = [
        {held.dim: tuple(replace(one, start=one.start - placed[at].extent[0]) for one in placed[at].pieces)}
        for at in range(len(files))
    ]
    return Axis(axis.values, order, spans), begin, pieces


def _check_whole(dim: str, existing: Existing, file: FileMetadata, count: int, options: Options) -> None:
    """Refuse values without labels, unless they are for all of a dimension, and nobody could mistake their order.

    Raises
    ------
    LabelError
        Saying what tells where they belong.
    """
    if count != existing.length(dim):
        raise _no_labels(dim, existing, count)
    check_ordered(existing, file, dim, options.accept)


def _elsewhere(dim: str, found: tuple[int, int], wanted: Span, existing: Existing) -> LabelError:
    return LabelError(
        f"the labels of {dim!r} are those of {found[0]}:{found[1]} in {existing.file.url}, and the region is "
        f"{wanted[0]}:{wanted[1]}; leave it out, and they land where they belong"
    )


def _extent(existing: Existing, first: FileMetadata, sources: Sources, dim: str, options: Options) -> tuple[int, int]:
    """The part of a dimension that the files hold."""
    target, own = grid_of(existing.file, dim, existing.labels), grid_of(first, dim, sources.labels)
    count, length = first.sizes[dim], existing.length(dim)
    wanted = options.region.get(dim, "auto")
    if target is None or own is None:
        if wanted != "auto":
            _check_length(dim, wanted, count, first.url)
            return wanted
        _check_whole(dim, existing, first, count, options)
        return 0, length
    found = place(target, own, reorder=options.reorder, drift="drift" in options.accept).extent
    if wanted not in ("auto", found):
        raise _elsewhere(dim, found, wanted, existing)
    return found


def _narrow(existing: Existing, extents: Mapping[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """The extents of dimensions of which not all is written."""
    return {dim: extent for dim, extent in extents.items() if extent != (0, existing.length(dim))}


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
        name: one if one.dims == (name,) else replace(one, digest=None, sorted_digest=None)
        for name, one in existing.file.variables.items()
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
