"""The tree: every group and array below a group of a repository, as they are stored."""

import warnings
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import icechunk
import numpy as np
import zarr
import zarr.errors

from frazil.validating.manifests import Files, Held, Mask, Referred, read_manifest
from frazil_functions.damage import damage
from frazil_functions.errors import InvalidInputError, nearest
from frazil_functions.grids import WriteGrid
from frazil_functions.reading.encoding import Attributes
from frazil_functions.regions import Region
from frazil_functions.validating.values import attributes_of, grid_of


@dataclass(frozen=True)
class Member:
    """One array.

    Attributes
    ----------
    path
        Within the group that is validated.
    array
        As Zarr opens it.
    stored
        Which of its write units are stored.
    referred
        Those of them that are references into files.
    shut
        Those of them that are not to be read, for it is known of their files that they cannot be; None for none.
    fault
        Why it cannot be told what is stored, if so.
    """

    path: str
    array: zarr.Array[Any]
    stored: Mask
    referred: Referred
    shut: Mask | None = None
    fault: str = ""

    @cached_property
    def names(self) -> tuple[str | None, ...] | None:
        """The names of its dimensions, where they have some."""
        found: tuple[str | None, ...] | None = getattr(self.array.metadata, "dimension_names", None)
        return found

    @cached_property
    def dims(self) -> tuple[str, ...]:
        """A name for every dimension."""
        return tuple(name or f"dim_{at}" for at, name in enumerate(self.names or (None,) * self.array.ndim))

    @cached_property
    def grid(self) -> WriteGrid:
        """Its write units."""
        return grid_of(self.array, self.path, self.dims)

    @cached_property
    def attributes(self) -> Attributes:
        """What gives its numbers meaning."""
        return attributes_of(self.array)

    @property
    def group(self) -> str:
        """The path of the group that it lies in."""
        return self.path.rpartition("/")[0]

    @property
    def name(self) -> str:
        """Its name there."""
        return self.path.rpartition("/")[2]

    @property
    def is_label(self) -> bool:
        """Whether it holds the labels of a dimension."""
        return self.dims == (self.name,)

    @cached_property
    def count(self) -> int:
        """How many write units are stored."""
        return int(np.count_nonzero(self.stored))

    @cached_property
    def readable(self) -> Mask:
        """Which write units are stored and not shut."""
        return self.stored if self.shut is None else self.stored & ~self.shut

    @cached_property
    def outside(self) -> Mask:
        """Which write units are references."""
        found: Mask = np.zeros(self.stored.shape, bool)
        found.reshape(-1)[self.referred.units] = True
        return found

    def file_of(self, index: tuple[int, ...]) -> int | None:
        """The number of the file that a write unit lies in; None if it is no reference."""
        return self.referred.file_of(self.unit_of(index))

    def unit_of(self, index: tuple[int, ...]) -> int:
        """The place of a write unit in the flattened grid."""
        return int(np.ravel_multi_index(index, self.stored.shape)) if index else 0

    def index_of(self, unit: int) -> tuple[int, ...]:
        """The index of a write unit by its place in the flattened grid."""
        return tuple(int(at) for at in np.unravel_index(unit, self.stored.shape)) if self.stored.shape else ()

    def stored_in(self, region: Region) -> int:
        """How many write units of a region are stored."""
        return int(np.count_nonzero(self.stored[self.grid.unit_slices(region)]))

    def region_of(self, index: tuple[int, ...]) -> Region:
        """The elements of a write unit."""
        grid = self.grid
        ends = (
            (at * unit, min(size, (at + 1) * unit)) for at, unit, size in zip(index, grid.unit, grid.shape, strict=True)
        )
        return Region(self.path, tuple((dim, *end) for dim, end in zip(grid.dims, ends, strict=True)))


@dataclass(frozen=True, slots=True)
class Tree:
    """A group and what lies below it.

    Attributes
    ----------
    session, group
        Where it was read, and its path in the repository.
    groups
        The attributes of every group, by path within it; "" is the group itself.
    members
        The arrays that are looked at, by path within it.
    known
        The paths of all arrays.
    files
        The URLs of files that chunks refer to, by number.
    notes
        Arrays that cannot be looked at.
    beside
        The labels of dimensions of these arrays, where they are not looked at themselves.
    fault
        Why the snapshot cannot be read, if so; there are no groups and members then.
    """

    session: icechunk.Session
    group: str
    groups: dict[str, Attributes]
    members: dict[str, Member]
    known: frozenset[str]
    notes: tuple[str, ...]
    files: tuple[str, ...] = ()
    beside: dict[str, Member] = field(default_factory=dict)
    fault: str = ""

    def found(self, path: str) -> Member:
        """An array, looked at or not."""
        return self.members[path] if path in self.members else self.beside[path]

    def within(self, group: str) -> dict[str, Member]:
        """The arrays of one group, by name."""
        return {member.name: member for member in self.members.values() if member.group == group}


def read_tree(session: icechunk.Session, group: str, variables: Collection[str] | None) -> Tree:
    """Everything below a group, or the named variables of it.

    Raises
    ------
    InvalidInputError
        If there is no such group or variable.
    BackendError
        If the storage does not answer.
    """
    with warnings.catch_warnings():
        # Strings of fixed length, dates and others have no Zarr specification yet; they were written all the same.
        warnings.simplefilter("ignore", zarr.errors.UnstableSpecificationWarning)
        try:
            top = _open(session, group)
            found = {} if top is None else dict(top.members(max_depth=None))
        except (icechunk.IcechunkError, OSError) as error:
            fault = damage(error, f"the snapshot {session.snapshot_id}")
            return Tree(session, group, {}, {}, frozenset(), (), fault=fault)
        if top is None:
            return Tree(session, group, {}, {}, frozenset(), ("nothing was ever written to it",))
    arrays = {path: one for path, one in found.items() if isinstance(one, zarr.Array)}
    wanted = set(arrays) if variables is None else _wanted(arrays, variables)
    members, notes, files = {}, [], Files()
    for path in sorted(wanted):
        array = arrays[path]
        try:
            members[path] = _member(session, path, array, files)
        except NotImplementedError as error:
            notes.append(f"{path!r} was not looked at: its chunks are not on a regular grid ({error})")
    named = {f"{one.group}/{dim}".lstrip("/") for one in members.values() for dim in one.dims} & arrays.keys() - wanted
    beside = {path: _member(session, path, arrays[path], files) for path in sorted(named)}
    groups = {"": top} | {path: one for path, one in found.items() if isinstance(one, zarr.Group)}
    return Tree(
        session,
        group,
        {path: dict(one.attrs) for path, one in groups.items()},
        members,
        frozenset(arrays),
        tuple(notes),
        files.urls,
        {path: one for path, one in beside.items() if one.is_label and not one.fault},
    )


def _open(session: icechunk.Session, group: str) -> zarr.Group | None:
    """The group; None for the root of a repository that nobody has written to."""
    try:
        return zarr.open_group(session.store, path=group, mode="r")
    except FileNotFoundError as error:
        if not group:
            return None
        raise InvalidInputError(
            f"there is no group {group!r} in snapshot {session.snapshot_id}; {nearest(group, _groups(session))}"
        ) from error
    except zarr.errors.ContainsArrayError as error:
        raise InvalidInputError(
            f"{group!r} is an array and no group; validate the group that it lies in, and name it (--variables)"
        ) from error


def _groups(session: icechunk.Session) -> list[str]:
    try:
        top = zarr.open_group(session.store, mode="r")
    except FileNotFoundError:
        return []
    return sorted(path for path, one in top.members(max_depth=None) if isinstance(one, zarr.Group))


def _wanted(arrays: Collection[str], variables: Collection[str]) -> set[str]:
    if not variables:
        raise InvalidInputError(f"no variables were named (--variables); {nearest('', sorted(arrays))}")
    for name in variables:
        if name not in arrays:
            raise InvalidInputError(f"there is no variable {name!r} (--variables); {nearest(name, sorted(arrays))}")
    return set(variables)


def _member(session: icechunk.Session, path: str, array: zarr.Array[Any], files: Files) -> Member:
    counts = grid_of(array, path, tuple(map(str, range(array.ndim)))).counts
    try:
        held = read_manifest(session, array.path, counts, files)
    except icechunk.IcechunkError as error:
        held = Held.nothing(counts)
        return Member(path, array, held.stored, held.referred, fault=damage(error, f"the manifest of {path!r}"))
    return Member(path, array, held.stored, held.referred)
