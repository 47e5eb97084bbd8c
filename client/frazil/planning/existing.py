"""What exists: a group that is written into, as it says of itself."""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import icechunk
import zarr

from frazil.planning.options import Span
from frazil_functions.containers import Container as Place
from frazil_functions.errors import InvalidInputError, LabelError, nearest
from frazil_functions.reading.encoding import Attributes
from frazil_functions.reading.scanning import FileMetadata, Labels, VariableMetadata, scan_store
from frazil_functions.template import ArrayTemplate, DatasetTemplate, Role


@dataclass(frozen=True, slots=True)
class Held:
    """The form of an array that exists: the lengths of the array, of its chunks, and of its shards if it has some."""

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Existing:
    """A group that is written into, as if it were the first of the files.

    Attributes
    ----------
    file, labels
        What it says of itself.
    arrays
        The form of every array, by name.
    session
        Where it was read.
    group
        Its path.
    unsuited
        The types of arrays that can stay, and cannot be written to, by name.
    below
        The names of groups in it.
    replicas
        The same group in other repositories, which must stay the same.
    containers
        The places that its references may lead into.
    followed
        The prefixes of those that somebody has authorised reading from.
    """

    file: FileMetadata
    labels: dict[str, Labels]
    arrays: dict[str, Held]
    session: icechunk.Session
    group: str
    unsuited: Mapping[str, str] = field(default_factory=dict)
    below: frozenset[str] = frozenset()
    replicas: tuple["Existing", ...] = ()
    containers: tuple[Place, ...] = ()
    followed: frozenset[str] = frozenset()

    def digested(self, append_dim: str) -> "Existing":
        """The same with digests of what stands outside of the append dimension.

        Raises
        ------
        InvalidInputError
            If a replica holds something else.
        """
        found = scan_existing(self.session, self.file.url, self.group, append_dim)
        found = replace(found, containers=self.containers, followed=self.followed)
        return found.beside(replica.digested(append_dim) for replica in self.replicas)

    def length(self, dim: str) -> int:
        """How many labels a dimension has, also where less of it is looked at; 0 for one that there is not."""
        found = (
            self.arrays[name].shape[variable.dims.index(dim)]
            for name, variable in self.file.variables.items()
            if dim in variable.dims
        )
        return next(found, 0)

    def check_region(self, region: Mapping[str, Span], dims: Iterable[str], cure: str) -> None:
        """Refuse a region that does not lie in the group.

        Parameters
        ----------
        region
            The part of each dimension.
        dims
            Those that it may name.
        cure
            What helps where it reaches out of the group.

        Raises
        ------
        InvalidInputError
            Naming the dimension.
        """
        for dim, span in region.items():
            if dim not in dims:
                raise InvalidInputError(f"the region names {dim!r}, which no variable has; {nearest(dim, dims)}")
            if span != "auto" and not 0 <= span[0] < span[1] <= self.length(dim):
                raise InvalidInputError(
                    f"the region {dim} {span[0]}:{span[1]} does not lie in {self.file.url}, which has "
                    f"{self.length(dim)} along it; {cure}"
                )

    def present(
        self, name: str, role: Role, changes: Mapping[str, Attributes] = MappingProxyType({}), digest: str | None = None
    ) -> ArrayTemplate:
        """An array of the group as a part of a template, in its present form.

        Parameters
        ----------
        name
            The array.
        role
            Who writes its values.
        changes
            Attributes that arrays get, or get anew, by the array's name.
        digest
            Of values that are written once.
        """
        variable, held = self.file.variables[name], self.arrays[name]
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
            changes=changes.get(name, {}),
        )

    def cut_to(self, extents: Mapping[str, tuple[int, int]]) -> "Existing":
        """The same as if it held but a part of some dimensions."""
        labels = dict(self.labels)
        variables = {name: _cut(name, one, extents, labels) for name, one in self.file.variables.items()}
        sizes = self.file.sizes | {dim: stop - start for dim, (start, stop) in extents.items()}
        return replace(self, file=replace(self.file, sizes=sizes, variables=variables), labels=labels)

    def beside(self, replicas: Iterable["Existing"]) -> "Existing":
        """The same with replicas that hold the same.

        Raises
        ------
        InvalidInputError
            If one of them holds something else.
        """
        others = tuple(replicas)
        for other in others:
            differ = _differing(self, other)
            if differ:
                raise InvalidInputError(
                    f"the replica {other.file.url} holds something else than {self.file.url} ({differ}), and cannot be "
                    "written into with it; make them equal, or write into each in a run of its own"
                )
        return replace(self, replicas=others)


def _differing(one: Existing, other: Existing) -> str:
    """In which variables two groups differ, as far as was read; empty if they do not."""
    ours, theirs = one.file.variables, other.file.variables
    names = [
        name
        for name in {**ours, **theirs}
        if (ours.get(name), one.arrays.get(name)) != (theirs.get(name), other.arrays.get(name))
    ]
    return ", ".join(map(repr, names))


def _cut(
    name: str, variable: VariableMetadata, extents: Mapping[str, tuple[int, int]], labels: dict[str, Labels]
) -> VariableMetadata:
    """A variable as if it had but a part of some dimensions; new labels are added to those that are known."""
    if not extents.keys() & set(variable.dims):
        return variable
    shape = tuple(
        extents[dim][1] - extents[dim][0] if dim in extents else length
        for dim, length in zip(variable.dims, variable.shape, strict=True)
    )
    digest = None
    if variable.dims == (name,) and variable.digest is not None:
        part = Labels.of(labels[variable.digest].values()[slice(*extents[name])])
        digest = part.digest
        labels[digest] = part
    return replace(variable, shape=shape, digest=digest, sorted_digest=None)


def scan_existing(session: icechunk.Session, url: str, group: str, append_dim: str | None = None) -> Existing:
    """What a group of a repository says of itself; what stands outside of the append dimension too, if that is given.

    Raises
    ------
    SourceError
        If it cannot be read.
    InvalidInputError
        If an array does not name its dimensions.
    """
    root = zarr.open_group(session.store, path=group, mode="r")
    arrays = dict(root.arrays())
    for name, array in arrays.items():
        if array.ndim and getattr(array.metadata, "dimension_names", None) is None:
            raise InvalidInputError(
                f"{url}: the array {name!r} does not name its dimensions, so Xarray cannot open the group; give it "
                "dimension_names, move it to a group of its own, or write to another group"
            )
        if array.dtype.kind in "mM":
            raise _unsuited(url, name, str(array.dtype))
    file, labels = scan_store(session.store, url, group, append_dim)
    held = {name: Held(array.shape, array.chunks, array.shards) for name, array in arrays.items()}
    unsuited = {name: str(array.dtype) for name, array in arrays.items() if array.dtype.kind == "U"}
    return Existing(file, labels, held, session, group, unsuited, frozenset(root.group_keys()))


def check_suited(existing: Existing, template: DatasetTemplate) -> None:
    """Refuse to write to arrays that would not hold values as they are.

    Raises
    ------
    InvalidInputError
        Naming the first.
    """
    for name, array in template.arrays.items():
        if name in existing.unsuited and array.before is not None and array.role != "kept":
            raise _unsuited(existing.file.url, name, existing.unsuited[name])
    taken = next((name for name in template.arrays if name in existing.below), None)
    if taken is not None:
        raise InvalidInputError(
            f"{existing.file.url} has a group named {taken!r}, so there can be no variable of that name; leave it out "
            "(--variables), or write to another group"
        )


def check_ordered(existing: Existing, file: FileMetadata, dim: str, accept: Container[str]) -> None:
    """Refuse values without labels where the group has some: nothing says that they stand in the same order.

    Raises
    ------
    LabelError
        Naming the file and the dimension.
    """
    if dim in existing.file.variables and dim not in file.variables and "order" not in accept:
        raise LabelError(
            f"{dim!r} has no coordinate in {file.url}, and it has one in {existing.file.url}, so nothing says that "
            "values stand in the same order; add it to the files. --accept order takes them in the order of the group"
        )


def _unsuited(url: str, name: str, dtype: str) -> InvalidInputError:
    return InvalidInputError(
        f"{url}: {name!r} is stored as {dtype}, which would cut or shift values that are written; write the group "
        "anew, with strings of any length and times as numbers with units"
    )
