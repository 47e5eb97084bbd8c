"""Metadata: dimensions that agree, attributes that name what exists, units and calendars that can be read."""

import warnings
from collections.abc import Collection, Iterator
from pathlib import PurePosixPath
from typing import Any, Final

import numpy as np
import xarray as xr

from frazil.validating.coordinates import is_time
from frazil.validating.report import Fault
from frazil.validating.tree import Member, Tree
from frazil_functions.errors import nearest
from frazil_functions.reading.encoding import is_time_unit
from frazil_functions.text import words

_NAMING: Final = ("bounds", "climatology", "coordinates", "grid_mapping")
"""Attributes that name variables (CF conventions, chapters 5, 5.6, 7.1 and 7.4)."""

CALENDARS: Final = (
    "standard",
    "gregorian",
    "proleptic_gregorian",
    "julian",
    "noleap",
    "365_day",
    "all_leap",
    "366_day",
    "360_day",
)
"""CF conventions, chapter 4.4.1, less those that no reader decodes."""


def dimension_faults(tree: Tree) -> Iterator[Fault]:
    """Dimensions of one name that differ in length within a group."""
    for group in tree.groups:
        lengths: dict[str, tuple[int, str]] = {}
        for member in tree.within(group).values():
            # The coordinate of a dimension is right about its length, if there is one.
            for dim, length in zip(member.dims, member.array.shape, strict=True) if member.names else ():
                if dim not in lengths or member.is_label:
                    lengths[dim] = (length, member.path)
        for member in tree.within(group).values():
            for dim, length in zip(member.dims, member.array.shape, strict=True) if member.names else ():
                known, whose = lengths[dim]
                if length != known:
                    yield Fault(
                        "dimension",
                        member.path,
                        f"{dim!r} has the length {length}, and {known} in {whose!r}; Xarray cannot open the group",
                        "Resize one of them to the other (zarr.Array.resize), or reset the branch to a snapshot before",
                    )


def attribute_faults(tree: Tree) -> Iterator[Fault]:
    """Attributes that name variables which do not exist."""
    owners = [(path, path, attributes) for path, attributes in tree.groups.items()]
    owners += [(member.path, member.group, member.attributes) for member in tree.members.values()]
    for path, group, attributes in owners:
        for key in _NAMING:
            for name in _names(attributes.get(key)):
                if not _exists(name, group, tree.known):
                    siblings = [one.rpartition("/")[2] for one in tree.known if one.rpartition("/")[0] == group]
                    yield Fault(
                        "attribute",
                        path,
                        f"its attribute {key!r} names {name!r}, which does not exist; {nearest(name, siblings)}",
                        "Add the variable (--mode add), or mend the attribute",
                    )


def _names(value: object) -> list[str]:
    """The variables in `lat lon`, or in the longer form of a grid mapping, `crs: x y`."""
    return [name.rstrip(":") for name in value.split()] if isinstance(value, str) else []


def _exists(name: str, group: str, known: Collection[str]) -> bool:
    """Whether a variable is found from a group: by its path, or in the group or one above it (CF, chapter 2.7)."""
    if name.startswith("/"):
        return name.strip("/") in known
    above = [PurePosixPath(group), *PurePosixPath(group).parents]
    return any(str(one / name) in known for one in above)


def units_faults(member: Member) -> Iterator[Fault]:
    """Units of time and calendars that no reader knows."""
    units, calendar = member.attributes.get("units"), member.attributes.get("calendar")
    if calendar is not None and str(calendar).lower() not in CALENDARS:
        yield Fault(
            "units",
            member.path,
            f"the calendar {calendar!r} is none of CF's; {nearest(str(calendar).lower(), CALENDARS)}",
            "Mend the attribute 'calendar'",
        )
    elif (
        isinstance(units, str) and is_time_unit(units) and (member.is_label or calendar is not None or is_time(member))
    ):
        yield from _unreadable(member, units, str(calendar or "standard"))
    elif units is not None and not isinstance(units, str):
        yield Fault(
            "units", member.path, f"its units are {units!r} and no text (CF, chapter 3.1)", "Mend the attribute 'units'"
        )


def _unreadable(member: Member, units: str, calendar: str) -> Iterator[Fault]:
    epoch = xr.Variable(("one",), np.zeros(1, "i8"), {"units": units, "calendar": calendar})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", xr.SerializationWarning)  # of calendars that NumPy's dates do not have
            xr.conventions.decode_cf_variable(member.name, epoch).load()
    except (ValueError, OverflowError, TypeError) as error:
        yield Fault(
            "units",
            member.path,
            f"the units {units!r} in the calendar {calendar!r} cannot be read: {words(error)}",
            "Mend the attributes; CF counts times as in 'hours since 2000-01-01'",
        )


def xarray_fault(tree: Tree, group: str) -> Fault | None:
    """Why Xarray cannot open a group and decode it, if it cannot; no values but labels are read."""
    path = "/".join(part for part in (tree.group, group) if part)
    where: Any = tree.session.store  # Xarray's types know paths and files alone
    try:
        with xr.open_dataset(
            where, engine="zarr", group=path or None, consolidated=False, zarr_format=3, chunks=None
        ) as found:
            for variable in found.variables.values():
                # Dates were decoded at both ends when the group was opened, and none of them cannot be decoded.
                if variable.dtype.kind in "biufSUT":
                    variable[dict.fromkeys(variable.dims, slice(0))].load()
    except Exception as error:  # noqa: BLE001 - decoders raise whatever they like, and each means: not decodable
        return Fault(
            "xarray", group, f"Xarray cannot decode it ({type(error).__name__}: {words(error)})", "Mend what it names"
        )
    return None
