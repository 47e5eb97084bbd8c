"""Attributes of a group that exists: what becomes of those that files have otherwise."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from frazil.planning.existing import Existing
from frazil.planning.options import OnAttrs
from frazil_functions.errors import MismatchedSourceError
from frazil_functions.reading.encoding import PACKING, Attributes
from frazil_functions.reading.rounding import BITS, ERROR, KEEPBITS, OVERFLOW, VALID
from frazil_functions.reading.scanning import FileMetadata

_OTHERWISE: frozenset[str] = frozenset(
    {*PACKING, ERROR, OVERFLOW, BITS, KEEPBITS, "units", "calendar", "coordinates", "bounds", "dtype"}
)
"""What says how values are stored, and is held against the group's by what it means; and what readers work out."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Attributes to be set: the group's, and those of variables, by name."""

    group: Attributes = field(default_factory=dict)
    variables: dict[str, Attributes] = field(default_factory=dict)

    def beside(self, others: Mapping[str, Attributes]) -> "Changes":
        """The same with others of variables."""
        names = {**self.variables, **others}
        return Changes(self.group, {name: self.variables.get(name, {}) | dict(others.get(name, {})) for name in names})


def changes_of(existing: Existing, file: FileMetadata, names: Iterable[str], on_attrs: OnAttrs) -> Changes:
    """What the attributes of a file change in a group.

    Parameters
    ----------
    existing
        The group.
    file
        The file that stands for all.
    names
        The variables that are written.
    on_attrs
        Whether they are changed.

    Raises
    ------
    MismatchedSourceError
        If some differ, and that is an error.
    """
    if on_attrs == "keep":
        return Changes()
    group = _differing(existing.file.attributes, file.attributes)
    ours, theirs = existing.file.variables, file.variables
    variables = {name: _differing(ours[name].attributes, theirs[name].attributes) for name in names}
    found = Changes(group, {name: changed for name, changed in variables.items() if changed})
    if on_attrs == "update" or not (found.group or found.variables):
        return found
    name = next(iter(found.variables), "")
    key, value = next(iter((found.variables[name] if name else found.group).items()))
    held = (ours[name].attributes if name else existing.file.attributes).get(key)
    whose = f"{name!r}" if name else "the group"
    raise MismatchedSourceError(
        f"{file.url}: the attribute {key!r} of {whose} is {value!r}, and in {existing.file.url} it is {held!r}. "
        "--on-attrs keep leaves the group's attributes as they are, --on-attrs update takes the file's"
    )


def check_claims(existing: Existing, files: Iterable[FileMetadata], on_attrs: OnAttrs | None) -> None:
    """Refuse values of which it would not be true what the group says that its own have lost.

    Raises
    ------
    MismatchedSourceError
        If a file says otherwise, unless the group's attributes are to stay as they are.
    """
    claims = {
        name: one.attributes[BITS]
        for name, one in existing.file.variables.items()
        if BITS in one.attributes and KEEPBITS not in one.attributes
    }
    for file in files if on_attrs != "keep" else ():
        for name in claims.keys() & file.variables.keys():
            told = file.variables[name].attributes.get(BITS)
            if str(told) != str(claims[name]):
                raise MismatchedSourceError(
                    f"{file.url}: the attribute {BITS} of {name!r} is {told!r}, and in {existing.file.url} it is "
                    f"{claims[name]!r}, as its files had it; it would not be true of these values, which are not "
                    "rounded. --on-attrs keep writes them and leaves the attribute as it is"
                )


def linked(existing: Existing, file: FileMetadata, new: Collection[str], changes: Changes) -> Changes:
    """The changes, and what tells readers that new variables are the bounds or coordinates of what is there."""
    ours, theirs = existing.file.variables, file.variables
    variables = {
        name: changes.variables.get(name, {}) | _links(ours[name].attributes, theirs[name].attributes, new)
        for name in theirs
        if name in ours
    }
    group = changes.group | _links(existing.file.attributes, file.attributes, new)
    return Changes(group, {name: changed for name, changed in variables.items() if changed})


def _links(ours: Attributes, theirs: Attributes, new: Collection[str]) -> Attributes:
    found: Attributes = {}
    for key in ("bounds", "climatology", "coordinates"):
        held, more = (str(one.get(key, "")).split() for one in (ours, theirs))
        added = [name for name in more if name in new and name not in held]
        if added:
            found[key] = " ".join([*held, *added])
    return found


def _differing(ours: Attributes, theirs: Attributes) -> Attributes:
    left = _OTHERWISE | (VALID if ERROR in ours else set())  # these count in codes, where values are packed
    return {key: value for key, value in theirs.items() if key not in left and (key not in ours or ours[key] != value)}
