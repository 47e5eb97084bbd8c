"""What Xarray writes without a word, and nobody can open or trust afterwards: refused before anything is written."""

from collections.abc import Hashable, Mapping
from typing import Any, Final

import numpy as np
import xarray as xr

from frazil.lazy.slices import is_dask
from frazil.staged.metadata import place
from frazil_functions.errors import InvalidInputError, LabelError, nearest
from frazil_functions.reading.times import calendar_name

_TEXT: Final = "OUT"
"""Kinds of types of strings of any length, and of objects."""

_NUMBERS: Final = "iufc"
"""Kinds of types of numbers, of which a wider one holds what a narrower one does."""

_DATES: Final = frozenset({"standard", "gregorian", "proleptic_gregorian"})
"""Calendars that agree since 1582 (CF conventions, chapter 4.4.1)."""


def check_append(dataset: xr.Dataset, held: xr.Dataset | None, append_dim: Hashable, group: str | None) -> None:
    """Refuse an append that does not fit behind what a group holds.

    Raises
    ------
    LabelError
        If labels along another dimension differ, or dates count in another calendar.
    InvalidInputError
        For anything else that does not fit, naming the variable.
    """
    where = place(group)
    held = _there(held, group)
    if append_dim not in dataset.dims or append_dim not in held.dims:
        has, what = (held, where) if append_dim in dataset.dims else (dataset, "the dataset")
        raise InvalidInputError(
            f"{what} has no dimension {append_dim!r}; {nearest(str(append_dim), map(str, has.dims))}"
        )
    missing = [name for name, one in held.variables.items() if append_dim in one.dims and name not in dataset.variables]
    if missing:
        raise InvalidInputError(
            f"the dataset lacks {_listed(missing)}, which {where} has along {append_dim!r}; it would be shorter than "
            "the others, and the group could not be opened any more. Append every variable along that dimension"
        )
    new = [name for name in dataset.variables if name not in held.variables]
    if new:
        raise InvalidInputError(
            f"{where} has no {_listed(new)}; an append makes no variables, which would be too short for what is there. "
            "Drop it, or add it first with for_modify, as long as the others are"
        )
    _check_types(dataset, held, where)
    for name, one in dataset.variables.items():
        _check_dims(name, one, held.variables[name], {append_dim}, where)
    _check_labels(dataset, held, {append_dim}, where)


def check_modify(dataset: xr.Dataset, held: xr.Dataset | None, group: str | None) -> None:
    """Refuse variables that a group cannot have beside, or in the place of, what it holds.

    Raises
    ------
    InvalidInputError, LabelError
        As `check_append` does.
    """
    if held is None:
        return
    where = place(group)
    _check_types(dataset, held, where)
    for name, one in dataset.variables.items():
        if name in held.variables:
            _check_dims(name, one, held.variables[name], set(), where)
        for dim, length in one.sizes.items():
            if held.sizes.get(dim, length) != length:
                raise InvalidInputError(
                    f"{name!r} has {length} along {dim!r}, and {where} has {held.sizes[dim]}; the group could not be "
                    "opened any more. Give it that length, or write it into another group"
                )


def check_same_labels(dataset: xr.Dataset, held: xr.Dataset, group: str | None) -> None:
    """Refuse values under other labels than those that a group keeps.

    Raises
    ------
    LabelError
        Naming the dimension.
    """
    _check_labels(dataset, held, set(), place(group))


def check_region(dataset: xr.Dataset, held: xr.Dataset | None, region: Mapping[str, slice], group: str | None) -> None:
    """Refuse a region that a group does not have, or values that it cannot hold there.

    Raises
    ------
    InvalidInputError, LabelError
        As `check_append` does.
    """
    where = place(group)
    held = _there(held, group)
    for dim, part in region.items():
        if dim not in held.dims:
            raise InvalidInputError(f"{where} has no dimension {dim!r}; {nearest(dim, map(str, held.dims))}")
        length = held.sizes[dim]
        start, stop = (part.start or 0), (length if part.stop is None else part.stop)
        if not 0 <= start < stop <= length:
            raise InvalidInputError(
                f"the region {start}:{stop} along {dim!r} lies outside of {where}, which has {length} there; "
                "for_append makes it longer"
            )
        if dim in dataset.dims and dataset.sizes[dim] != stop - start:
            raise InvalidInputError(
                f"the dataset has {dataset.sizes[dim]} along {dim!r}, and the region {start}:{stop} has {stop - start}"
            )
    # Xarray writes no labels into a region.
    written = dataset.drop_vars(list(dataset.indexes))
    new = [name for name in written.variables if name not in held.variables]
    if new:
        raise InvalidInputError(
            f"{where} has no {_listed(new)}; a region write makes no variables. Drop it, or add it first with "
            "for_modify"
        )
    _check_types(written, held, where)
    for name, one in written.variables.items():
        _check_dims(name, one, held.variables[name], set(region), where)
    part_of = held.isel({dim: part for dim, part in region.items() if dim in held.dims})
    _check_labels(dataset, part_of, set(), where)


def _there(held: xr.Dataset | None, group: str | None) -> xr.Dataset:
    if held is None:
        raise InvalidInputError(f"there is no {place(group)[4:]} in the session; make it with for_create_or_overwrite")
    return held


def _listed(names: list[Hashable]) -> str:
    return ", ".join(repr(name) for name in names)


def _check_types(dataset: xr.Dataset, held: xr.Dataset, where: str) -> None:
    for name, one in dataset.variables.items():
        if name not in held.variables:
            continue
        other = held.variables[name]
        ours, theirs = _calendar(one), _calendar(other)
        if ours is not None and theirs is not None and ours != theirs:
            raise LabelError(
                f"{name!r} counts in the calendar {ours!r}, and {where} in {theirs!r}; convert it "
                f"(Dataset.convert_calendar)"
            )
        if not _same_type(one.dtype, other):
            raise InvalidInputError(
                f"{name!r} is {one.dtype}, and {where} holds {other.dtype}; values would be cast without a word. "
                f'Convert it (.astype("{other.dtype}")), or decode it as Xarray decodes the group'
            )


def _same_type(own: "np.dtype[Any]", held: xr.Variable) -> bool:
    kind = held.dtype.kind
    if kind in _TEXT or own.kind in _TEXT:
        # Dates of other calendars are objects, too; calendars are compared apart.
        return (kind in _TEXT or kind == "M") and (own.kind in _TEXT or own.kind == "M")
    stored = np.dtype(held.encoding.get("dtype", held.dtype))
    if kind in "mM" or stored.newbyteorder("=") != held.dtype.newbyteorder("="):
        return bool(own.kind == kind)  # numbers that are unpacked have the digits that Xarray gives them
    if kind in _NUMBERS and own.kind in _NUMBERS:
        return np.can_cast(own, held.dtype, "safe")
    return bool(own.newbyteorder("=") == held.dtype.newbyteorder("="))


def _calendar(variable: xr.Variable) -> str | None:
    """The calendar of dates, or of numbers that stand for them; None if it cannot be told."""
    if variable.dtype.kind == "M":
        named = variable.encoding.get("calendar", "standard")
    elif variable.dtype.kind == "O":
        named = variable.encoding.get("calendar")
        if variable.size and not is_dask(variable._data):  # noqa: SLF001 - whatever else tells it computes the data
            first = variable[(0,) * variable.ndim].values.item()
            named = getattr(first, "calendar", named)
    elif " since " in str(variable.attrs.get("units", "")):
        named = variable.attrs.get("calendar", "standard")
    else:
        return None
    return "standard" if named in _DATES else None if named is None else calendar_name(named)


def _check_dims(name: Hashable, one: xr.Variable, other: xr.Variable, free: set[Any], where: str) -> None:
    if set(one.dims) != set(other.dims):
        raise InvalidInputError(f"{name!r} has the dimensions {one.dims}, and in {where} {other.dims}")
    for dim, length in other.sizes.items():
        if dim not in free and one.sizes[dim] != length:
            raise InvalidInputError(f"{name!r} has {one.sizes[dim]} along {dim!r}, and in {where} {length}")


def _check_labels(dataset: xr.Dataset, held: xr.Dataset, free: set[Any], where: str) -> None:
    """Values land under the labels of the group, whatever labels they come with."""
    for dim in dataset.dims:
        if dim in free or dim not in dataset.variables or dim not in held.variables:
            continue
        ours, theirs = dataset.variables[dim].values, held.variables[dim].values
        if ours.shape != theirs.shape:
            raise LabelError(f"the dataset has {len(ours)} labels along {dim!r}, and {where} {len(theirs)}")
        different = np.flatnonzero((ours != theirs) & ~((ours != ours) & (theirs != theirs)))  # noqa: PLR0124 - NaN
        if different.size:
            at = int(different[0])
            raise LabelError(
                f"the label at {at} along {dim!r} is {ours[at]}, and in {where} {theirs[at]}; the values would be "
                "stored under other labels. Bring them onto the group's labels (Dataset.reindex, .sel, .interp)"
            )
