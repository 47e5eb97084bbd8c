"""Holding files against each other: what must be equal in all of them, and what may differ."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Literal

import numpy as np

from frazil.labels.join import check_labels, difference, drifted
from frazil.labels.meaning import check_meaning
from frazil_functions.errors import InvalidInputError, LabelError, MismatchedSourceError, SourceError, nearest
from frazil_functions.reading.encoding import PACKING, STRING, bounded_attributes, is_time_unit, missing_marks, rounds
from frazil_functions.reading.scanning import (
    UNSUPPORTED,
    FileMetadata,
    Labels,
    VariableMetadata,
    coordinate_names,
)
from frazil_functions.reading.times import calendar_name, same_dates

type Accept = Literal["units", "drift", "order"]
"""What may be accepted although files differ in it: time units, labels that differ by less than a
thousandth of their spacing, and files without labels along the append dimension."""


def check_readable(files: Sequence[FileMetadata]) -> None:
    """Refuse files that could not be read.

    Raises
    ------
    SourceError
        With the first reason, and how many more there are.
    """
    bad = [file.error for file in files if file.error is not None]
    if bad:
        more = f" (and {len(bad) - 1} more of {len(files)} files cannot be read)" if len(bad) > 1 else ""
        raise SourceError(f"{bad[0]}{more}")


def select(files: Sequence[FileMetadata], variables: Sequence[str] | None) -> tuple[FileMetadata, ...]:
    """The files with the wanted variables alone, and the coordinates that these need.

    Raises
    ------
    InvalidInputError
        If a variable is in none of the files, or has a type that Zarr cannot store.
    """
    if variables is not None:
        known = sorted({name for file in files for name in file.variables})
        if not variables:
            raise InvalidInputError(f"no variables were named (--variables); {nearest('', known)}")
        for name in variables:
            if name not in known:
                raise InvalidInputError(f"there is no variable {name!r}; {nearest(name, known)}")
        files = [replace(file, variables=_wanted(file, variables)) for file in files]
    for file in files:
        if not file.variables:
            raise InvalidInputError(
                f"{file.url} has no variables; groups below the root of a file are not read, so name another file"
            )
        for name, variable in file.variables.items():
            if variable.dtype.startswith(UNSUPPORTED):
                raise InvalidInputError(
                    f"{file.url}: {name!r} has the type {variable.dtype.removeprefix(UNSUPPORTED)}, which Zarr cannot "
                    "store; name the variables to write (--variables) and leave it out"
                )
            if len(set(variable.dims)) < len(variable.dims):
                raise InvalidInputError(
                    f"{file.url}: {name!r} has a dimension twice, {variable.dims}, so its regions have no names; name "
                    "the variables to write (--variables) and leave it out"
                )
    return tuple(files)


def _wanted(file: FileMetadata, variables: Sequence[str]) -> dict[str, VariableMetadata]:
    attributes = {name: variable.attributes for name, variable in file.variables.items()}
    kept = set(variables) & file.variables.keys()
    while True:
        dims = {dim for name in kept for dim in file.variables[name].dims}
        named = coordinate_names(attributes | {n: {} for n in attributes.keys() - kept})
        mapped = {str(attributes[name].get("grid_mapping")) for name in kept}
        more = ((dims | named | mapped) & file.variables.keys()) - kept
        if not more:
            return {name: variable for name, variable in file.variables.items() if name in kept}
        kept |= more


def infer_append_dim(files: Sequence[FileMetadata], labels: Mapping[str, Labels]) -> str | None:
    """The one dimension whose labels, or whose length without labels, tell the files apart.

    None for a single file that has no dimension to grow along.

    Raises
    ------
    LabelError
        If no dimension does, or several do.
    """
    first, last = files[0], files[-1]
    if len(files) == 1:
        return _growing(first)
    differ = _differing(files)
    if not differ:
        raise LabelError(_alike(first, last, labels))
    # Labels that drift, are flipped or overlap tell a fault of the files, not the order that they stand in.
    joined = [dim for dim in differ if _follow(first.variables.get(dim), last.variables.get(dim), labels)] or differ
    for found in (differ, joined, [dim for dim in joined if _is_time(first, dim)]):
        if len(found) == 1:
            return found[0]
    raise LabelError(
        f"{_name(first.url)} and {_name(last.url)} differ along {', '.join(map(repr, joined))}; files can follow each "
        "other along one dimension. Name it with --append-dim and the others are compared, or leave out the files "
        "that do not belong."
    )


def are_alike(files: Sequence[FileMetadata]) -> bool:
    """Whether no dimension tells files apart."""
    return not _differing(files)


def _differing(files: Sequence[FileMetadata]) -> list[str]:
    return [dim for dim in files[0].sizes if len({_mark(file, dim) for file in files}) > 1]


def _follow(ours: VariableMetadata | None, theirs: VariableMetadata | None, labels: Mapping[str, Labels]) -> bool:
    """Whether the one's labels may stand behind the other's."""
    if ours is None or theirs is None or ours.digest is None or theirs.digest is None:
        return True
    if ours.attributes.get("units") != theirs.attributes.get("units"):
        return True
    own, other = labels[ours.digest].values(), labels[theirs.digest].values()
    if not own.size or not other.size:
        return True
    if own.dtype.kind not in "iuf" or other.dtype.kind not in "iuf":
        return not set(own.tolist()) & set(other.tolist())
    return bool(own.max() < other.min() or other.max() < own.min()) and not drifted(own, other)


def _alike(first: FileMetadata, last: FileMetadata, labels: Mapping[str, Labels]) -> str:
    """What to say of files that nothing tells apart."""
    known = {dim: one.digest for dim in first.sizes if (one := first.variables.get(dim)) is not None and one.digest}
    same = ", ".join(f"{dim} = {labels[of].values()[0]}" for dim, of in known.items() if first.sizes[dim] == 1)
    bare = [dim for dim in first.sizes if dim not in known and dim in _dims_of_data(first)]
    cure = "Mend the coordinate in the files, or write each to a group of its own (--group)."
    timed = any(is_time_unit(one.attributes.get("units")) for one in first.variables.values())
    leading = {one.dims[0] for one in first.variables.values() if len(one.dims) > 1}
    # With a time somewhere, or another dimension in front, this one is hardly what the files follow each other on.
    if bare and not timed and bare[0] in leading:
        cure += f" If they follow each other along {bare[0]!r}, say so: --append-dim {bare[0]} --accept order."
    return (
        f"no dimension tells {_name(first.url)} and {_name(last.url)} apart: every coordinate has the same values "
        f"in both{f' ({same})' if same else ''}, so where each belongs cannot be told. {cure}"
    )


def _dims_of_data(file: FileMetadata) -> frozenset[str]:
    named = coordinate_names({name: variable.attributes for name, variable in file.variables.items()})
    return frozenset(dim for name, one in file.variables.items() if name not in named for dim in one.dims)


def _is_time(file: FileMetadata, dim: str) -> bool:
    variable = file.variables.get(dim)
    return variable is not None and is_time_unit(variable.attributes.get("units"))


def _growing(file: FileMetadata) -> str | None:
    """The dimension that a single file would grow along: its time, else the first one of its data."""
    for dim in file.sizes:
        if _is_time(file, dim):
            return dim
    return next(iter(file.sizes), None) if file.variables else None


def _mark(file: FileMetadata, dim: str) -> str:
    variable = file.variables.get(dim)
    if variable is None or variable.digest is None:
        return str(file.sizes.get(dim))
    if is_time_unit(variable.attributes.get("units")):
        return f"{variable.digest} {variable.attributes['units']}"
    return variable.digest


def _name(url: str) -> str:
    return PurePosixPath(url).name


def compare(
    first: FileMetadata,
    file: FileMetadata,
    append_dim: str | None,
    labels: Mapping[str, Labels],
    accept: frozenset[Accept],
    *,
    rounded: bool = False,
) -> frozenset[str]:
    """Hold one file against the first; return the variables that it stores in another way.

    Parameters
    ----------
    first, file
        The two.
    append_dim
        The dimension that files follow each other on.
    labels
        The labels that digests name.
    accept
        Differences that are accepted.
    rounded
        Whether floating-point numbers may be rounded where the first says that it is stored with loss: it is a group.

    Raises
    ------
    MismatchedSourceError
        If variables, dimensions, types, units or meanings differ.
    LabelError
        If labels outside of the append dimension, or a calendar, differ.
    """
    lacks, adds = (
        first.variables.keys() - file.variables.keys(),
        file.variables.keys() - first.variables.keys(),
    )
    if lacks or adds:
        what = [f"lacks {', '.join(map(repr, sorted(lacks)))}"] if lacks else []
        what += [f"has {', '.join(map(repr, sorted(adds)))} besides"] if adds else []
        raise MismatchedSourceError(
            f"{file.url} {' and '.join(what)}, compared with {first.url}. Name those that all have (--variables)."
        )
    recode: set[str] = set()
    # Labels come first: where the grid is another one, so is the form of everything on it.
    for name in sorted(first.variables, key=lambda name: first.variables[name].dims != (name,)):
        ours, theirs = first.variables[name], file.variables[name]
        _compare_form(name, first, file, append_dim, labels)
        counted = _compare_units(name, first, file, labels, accept)
        # Labels mean the same in any type that holds them; whether the target's does is seen when they are joined.
        lossy = rounded and rounds(ours.dtype, ours.attributes)
        typed = name == append_dim and ours.dims == (name,) and _numeric(ours) and _numeric(theirs)
        if typed and ours.dtype != theirs.dtype:
            recode.add(name)
        elif not counted and not (lossy and ours.decoded is not None and _is_float(theirs)):
            _compare_dtype(name, first, file)
        check_meaning(name, first, file)
        if append_dim not in ours.dims:
            _compare_values(name, first, file, labels, accept, lossy=lossy)
        if counted or lossy or _compare_packing(name, ours, theirs, first, file):
            recode.add(name)
        if counted:
            recode |= {str(ours.attributes[key]) for key in ("bounds", "climatology") if key in ours.attributes}
    return frozenset(recode & first.variables.keys())


def _compare_form(
    name: str, first: FileMetadata, file: FileMetadata, append_dim: str | None, labels: Mapping[str, Labels]
) -> None:
    ours, theirs = first.variables[name], file.variables[name]
    if ours.dims != theirs.dims:
        raise MismatchedSourceError(
            f"{file.url}: {name!r} has the dimensions {theirs.dims}, and in {first.url} it has {ours.dims}. "
            "Give it the same (transpose, expand_dims), or leave it out (--variables)."
        )
    if ours.dims == (name,) and name != append_dim and theirs.digest != ours.digest and theirs.shape != ours.shape:
        raise LabelError(
            f"{file.url} has another grid than {first.url}: "
            f"{difference(name, labels[ours.digest or ''].values(), labels[theirs.digest or ''].values())}"
        )
    for dim, own, other in zip(ours.dims, ours.shape, theirs.shape, strict=True):
        if dim != append_dim and own != other:
            raise MismatchedSourceError(
                f"{file.url}: {name!r} has {other} along {dim!r}, and in {first.url} it has {own}"
            )


def _numeric(variable: VariableMetadata) -> bool:
    return variable.dtype != STRING and np.dtype(variable.dtype).kind in "iuf"


def _is_float(variable: VariableMetadata) -> bool:
    return _numeric(variable) and np.dtype(variable.decoded or variable.dtype).kind == "f"


def _compare_dtype(name: str, first: FileMetadata, file: FileMetadata) -> None:
    ours, theirs = first.variables[name], file.variables[name]
    both_bytes = ours.dtype.startswith("|S") and theirs.dtype.startswith("|S")
    if ours.dtype != theirs.dtype and not both_bytes:
        raise MismatchedSourceError(
            f"{file.url}: {name!r} has the type {theirs.dtype}, and in {first.url} it has {ours.dtype}. Convert the "
            "one to the other's type, or leave the variable out (--variables)."
        )


def _compare_units(
    name: str, first: FileMetadata, file: FileMetadata, labels: Mapping[str, Labels], accept: frozenset[Accept]
) -> bool:
    """Whether the file counts time in other units than the first file does, and may."""
    ours, theirs = first.variables[name], file.variables[name]
    if ours.attributes.get("units") != theirs.attributes.get("units"):
        ours, theirs = _counted(name, first), _counted(name, file)
    units, other = ours.attributes.get("units"), theirs.attributes.get("units")
    calendars = [calendar_of(variable) for variable in (ours, theirs)]
    if is_time_unit(units) and is_time_unit(other) and not _same_dates(ours, theirs, labels):
        raise LabelError(
            f"{file.url}: {name!r} counts in the calendar {calendars[1]!r}, and in {first.url} in {calendars[0]!r}; "
            "dates of two calendars do not compare. Convert the files' times first (Xarray: convert_calendar)"
        )
    if units != other:
        if not (is_time_unit(units) and is_time_unit(other)):
            here, there = (f"is in {one!r}" if one is not None else "has no units" for one in (other, units))
            raise MismatchedSourceError(
                f"{file.url}: {name!r} {here}, and in {first.url} it {there}; the values would not compare"
            )
        if "units" not in accept:
            raise LabelError(
                f"{file.url}: {name!r} counts in {other!r}, and in {first.url} in {units!r}. --accept units turns "
                "every file's times into the first file's units."
            )
        return True
    return False


def _counted(name: str, file: FileMetadata) -> VariableMetadata:
    """A variable with the units that it has in writing, or takes from the coordinate that it is the bounds of."""
    own = bounded_attributes(name, {key: one.attributes for key, one in file.variables.items()})
    return replace(file.variables[name], attributes=own)


def _same_dates(ours: VariableMetadata, theirs: VariableMetadata, labels: Mapping[str, Labels]) -> bool:
    """Whether the same number is the same date in both; of what is no label, only the calendar is known."""
    if calendar_of(ours) == calendar_of(theirs):
        return True
    known = [labels[one.digest or ""].values() if one.digest in labels else None for one in (ours, theirs)]
    least = [float(np.nanmin(values)) for values in known if values is not None and values.size]
    counted = [(one.attributes.get("units"), one.attributes.get("calendar")) for one in (ours, theirs)]
    return len(least) == 2 and same_dates(counted[0], counted[1], (least[0], least[1]))  # noqa: PLR2004 - of both


def _compare_packing(
    name: str, ours: VariableMetadata, theirs: VariableMetadata, first: FileMetadata, file: FileMetadata
) -> bool:
    """Whether the file packs the variable in another way than the first file does."""
    differ = {key for key in PACKING if ours.attributes.get(key) != theirs.attributes.get(key)}
    if ours.dims == (name,):
        differ -= {"_FillValue", "missing_value"}  # no label is missing
    # Another mark for what is missing is exchanged among whole numbers; another scale would be counted in doubles.
    scaled = bool(differ - {"_FillValue", "missing_value"})
    if scaled and np.dtype("S1" if ours.dtype == "string" else ours.dtype).str[1:] in {"i8", "u8"}:
        raise MismatchedSourceError(
            f"{file.url}: {name!r} has another scale than in {first.url}, and its 64-bit integers cannot be converted "
            "without loss"
        )
    return bool(differ)


def calendar_of(variable: VariableMetadata) -> str:
    """The calendar that a variable counts in; see `frazil_functions.reading.times.calendar_name`."""
    return calendar_name(variable.attributes.get("calendar"))


def _marks(variable: VariableMetadata) -> frozenset[object]:
    """The values that are read as missing; NaN always is one."""
    if variable.dtype == STRING or np.dtype(variable.dtype).kind not in "iuf":
        return frozenset(str(variable.attributes.get(key)) for key in ("_FillValue", "missing_value"))
    return frozenset(np.array(missing_marks(variable.dtype, variable.attributes), variable.dtype).tolist())


def _compare_values(
    name: str,
    first: FileMetadata,
    file: FileMetadata,
    labels: Mapping[str, Labels],
    accept: frozenset[Accept],
    *,
    lossy: bool,
) -> None:
    # Of values that are not known it is enough that they can be stored as the first's are.
    lossy = lossy and first.variables[name].digest is None
    keys = ["units"] if lossy else ["units", "scale_factor", "add_offset", "_Unsigned"]
    if (
        not lossy
        and first.variables[name].dims != (name,)
        and _marks(first.variables[name]) != _marks(file.variables[name])
    ):
        keys += ["_FillValue", "missing_value"]
    told = [[one.variables[name].attributes.get(key) for key in keys] for one in (first, file)]
    if told[0] != told[1]:
        raise MismatchedSourceError(
            f"{name!r} is stored in another way in {file.url} than in {first.url} ({told[1]} and {told[0]} for "
            f"{', '.join(keys)}), and does not have the append dimension to keep both. Leave it out (--variables)."
        )
    ours, theirs = first.variables[name].digest, file.variables[name].digest
    if ours == theirs or ours is None or theirs is None:
        return
    if ours in labels and theirs in labels:
        own, other = labels[ours].values(), labels[theirs].values()
        check_labels(name, file.url, other, file.variables[name].attributes)
        if "drift" in accept and drifted(own, other):
            return
        raise LabelError(f"{file.url} has another grid than {first.url}: {difference(name, own, other)}")
    raise MismatchedSourceError(
        f"{name!r} has other values in {file.url} than in {first.url}, and does not have the append dimension to keep "
        "both. Leave it out (--variables), or convert the files one by one."
    )
