"""A given dataset: what it says of itself, as a file would, and what it takes to compute any part of it.

Its code travels with the tasks and lies nowhere else; the plan knows it by a fingerprint.
"""

import hashlib
import itertools
import math
import pickle
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Self

import msgspec
import numpy as np
import xarray as xr

from frazil.lazy.encoded import as_dataset, check_attributes, encode_all
from frazil.lazy.slices import Deferred, GraphOf, Lazy, is_dask, pickled
from frazil_functions.errors import InvalidInputError
from frazil_functions.grids import WriteGrid
from frazil_functions.plan import Plan
from frazil_functions.reading.encoding import (
    STRING,
    Attributes,
    Values,
    checksum,
    json_attributes,
    native_attributes,
    rounds,
)
from frazil_functions.reading.scanning import FileMetadata, Labels, VariableMetadata, decoded_dtype, stored_dtype
from frazil_functions.regions import Region
from frazil_functions.tasks import Carried, FileSource, Piece
from frazil_functions.writing.carried import PackedFileSlices
from frazil_functions.writing.lazy import ArraySlices, Slices, pack

_TASK_CHUNKS: Final = 400
"""How many chunks of dask a task carries about: what computes one takes some 100 bytes, compressed."""

_TASK_BYTES: Final = 64 << 20
"""How many bytes of values in memory a task carries about."""

NAME: Final = "the dataset"
"""What messages and plans call it."""


@dataclass(frozen=True)
class Given:
    """A dataset as it is to be stored.

    Attributes
    ----------
    variables, attributes
        Its variables, encoded: arrays in memory, dask's, or `Deferred` ones; and its attributes.
    sizes
        The length of every dimension.
    groups
        The attributes of groups below, by path, if it is a tree.
    """

    variables: Mapping[str, xr.Variable]
    attributes: Mapping[str, Any]
    sizes: Mapping[str, int]
    groups: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, obj: xr.Dataset | xr.DataArray, encodings: Mapping[str, Mapping[str, Any]] | None = None) -> "Given":
        """A Dataset or DataArray as it is to be stored.

        Parameters
        ----------
        obj
            Any; what lies in files or behind dask stays there.
        encodings
            How variables are stored, in place of their own encoding, by name.

        Raises
        ------
        InvalidInputError
            If it cannot be stored.
        """
        dataset = as_dataset(obj)
        _check_names(dataset)
        check_attributes(NAME, dataset.attrs)
        for key, one in dataset.variables.items():
            check_attributes(repr(key), one.attrs)
        variables, attributes = encode_all(dataset, encodings or {})
        return cls(variables, attributes, {str(dim): length for dim, length in dataset.sizes.items()})

    @classmethod
    def of_tree(cls, tree: xr.DataTree) -> "Given":
        """Every node of a tree: variables go by their paths, and dimensions by that of the first node that has them.

        Raises
        ------
        InvalidInputError
            If a node cannot be stored.
        """
        top = len(tree.path.rstrip("/")) + 1
        variables: dict[str, xr.Variable] = {}
        sizes: dict[str, int] = {}
        groups: dict[str, Mapping[str, Any]] = {}
        for node in tree.subtree:
            path = node.path[top:]
            try:
                own = cls.of(node.to_dataset(inherit=False))
            except InvalidInputError as error:
                raise type(error)(f"{node.path}: {error}") from error
            groups[path] = own.attributes
            names = {dim: _below(_first(node, dim, tree).path[top:], dim) for dim in own.sizes}
            sizes |= {names[dim]: length for dim, length in own.sizes.items()}
            for name, one in own.variables.items():
                renamed = xr.Variable([names[str(dim)] for dim in one.dims], one._data, one.attrs, fastpath=True)  # noqa: SLF001 - `data` would load it
                variables[_below(path, name)] = renamed
        return cls(variables, groups.pop(""), sizes, groups)

    def metadata(
        self, append_dim: str | None = None, *, digests: bool = False
    ) -> tuple[FileMetadata, dict[str, Labels]]:
        """What it says of itself as a file would, and the labels that its digests name.

        Parameters
        ----------
        append_dim
            The dimension that it is appended along.
        digests
            Whether to digest what lies in memory and does not have that dimension.
        """
        labels: dict[str, Labels] = {}
        variables = {}
        for name, one in self.variables.items():
            digested = digests and append_dim not in one.dims and _in_memory(one)
            variables[name] = self._described(name, one, labels, digested=digested)
        return FileMetadata(NAME, "", "", dict(self.sizes), json_attributes(self.attributes), variables), labels

    def mark(self, names: Iterable[str]) -> str:
        """A fingerprint of some variables: of what they say of themselves, and of values in memory.

        What code will compute, nobody knows before.
        """
        told = []
        for name in sorted(names):
            one = self.variables[name]
            own = self._described(name, one, {}, digested=False)
            told.append((name, own, checksum(np.asarray(one.data)) if _in_memory(one) else None))
        return hashlib.sha256(msgspec.json.encode(told, order="sorted")).hexdigest()[:32]

    @property
    def most_carried(self) -> int:
        """The bytes of values that a task should hold at most, for what it carries of them; 0 if that is little."""
        found = [
            _TASK_CHUNKS * max(1, one.dtype.itemsize * math.prod(max(lengths) for lengths in one.chunks))
            for one in self.variables.values()
            if is_dask(one._data) and one.chunks  # noqa: SLF001 - `data` would load it
        ]
        return min([*found, *([_TASK_BYTES] if self.heavy else [])], default=0)

    @property
    def heavy(self) -> bool:
        """Whether so much of it lies in memory that not all of it should be on its way at once."""
        return any(_in_memory(one) and one.nbytes > _TASK_BYTES for one in self.variables.values())

    @staticmethod
    def _described(name: str, variable: xr.Variable, labels: dict[str, Labels], *, digested: bool) -> VariableMetadata:
        dims = tuple(str(dim) for dim in variable.dims)
        attributes = native_attributes(variable.dtype, json_attributes(variable.attrs))
        digest = None
        if dims == (name,) or digested:
            found = Labels.of(_loaded(name, variable))
            digest = found.digest
            if dims == (name,):
                labels[digest] = found
        # An array in files has no values to be looked at; a zero of its type decodes as they will.
        zero = xr.Variable(dims, np.zeros((1,) * len(dims), variable.dtype), variable.attrs)
        return VariableMetadata(
            dims,
            tuple(variable.shape),
            stored_dtype(_text(variable)),
            attributes,
            digest,
            decoded_dtype(zero, NAME, name),
        )


@dataclass(frozen=True)
class GivenCarrier:
    """What a plan's tasks need of the dataset that it was made from.

    Attributes
    ----------
    given, plan
        The two.
    """

    given: Given
    plan: Plan
    _lazies: dict[str, Lazy] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        (source,) = self.plan.sources or (None,)
        if source is None:
            return
        if self.given.mark(written(self.plan)) != source.fingerprint:
            raise InvalidInputError(
                "this is another dataset than the plan was made from (its dimensions, types, attributes, labels or "
                "values in memory differ); give that one, or plan again"
            )
        for array in self.plan.template.arrays.values():
            if array.role == "data" and self.given.variables[array.name].size:
                dim = self.plan.template.append_dim
                self._lazies[array.name] = _placed(array.grid, self.given.variables[array.name], source, dim)
        self._check_pickled()

    def _check_pickled(self) -> None:
        """Carry one region of each array, so that what cannot be pickled is told before anything is written."""
        firsts = {region.array: region for region in reversed(list(self.plan.regions))}
        self.carry([region.within(self.plan.template.extents) for region in firsts.values()])

    @property
    def heavy(self) -> bool:
        """Whether not all that it carries should be on its way at once."""
        return self.given.heavy

    def static(self) -> dict[str, Values]:
        """The values of the template's static arrays."""
        arrays = self.plan.template.arrays.values()
        return {one.name: _loaded(one.name, self.given.variables[one.name]) for one in arrays if one.role == "static"}

    def carry(self, regions: Sequence[Region]) -> Carried:
        """What it takes to compute some regions, each within the extents of the template.

        Raises
        ------
        InvalidInputError
            If what computes one of them cannot be pickled; it names the variable.
        """
        found = [self._pickled(region) for region in regions]
        own = {name: self._rounded[name] for region in regions if (name := region.array) in self._rounded}
        return Carried(pack([content for content, _ in found]), tuple(buffers for _, buffers in found), own)

    def held(self, name: str) -> Values | None:
        """The values of an array, if they lie in memory."""
        variable = self.given.variables[name]
        return np.asarray(variable.data) if _in_memory(variable) else None

    @cached_property
    def _rounded(self) -> dict[str, Attributes]:
        """The attributes of values that functions round, by the names of arrays."""
        arrays = self.plan.template.arrays
        return {
            name: json_attributes(self.given.variables[name].attrs)
            for source in self.plan.sources
            for name in source.recode
            if rounds(arrays[name].dtype, arrays[name].attributes)
        }

    @cached_property
    def _graph(self) -> GraphOf:
        return GraphOf([one for one in self._lazies.values() if one.chunks is not None])

    def _pickled(self, region: Region) -> tuple[bytes, tuple[bytes, ...]]:
        lazy = self._lazies[region.array]
        what = f"what computes {region.array!r}"
        if lazy.chunks is not None:
            import cloudpickle  # noqa: PLC0415 - dask brings it

            return pickled(_slices(lazy, region, self._graph), what, cloudpickle.dumps)
        return pickled(_slices(lazy, region, self._graph), what, pickle.dumps)


@dataclass(frozen=True)
class GivenReader:
    """A dataset as a plan is made: its values at their place in the target, computed here.

    Attributes
    ----------
    given
        The dataset.
    sources
        It alone, with its place.
    append_dim
        The dimension that the place is counted along.
    """

    given: Given
    sources: Sequence[FileSource]
    append_dim: str | None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """Nothing is open."""

    def read(self, region: Region, dtype: str, attributes: Attributes) -> Values:  # noqa: ARG002 - encoded already
        """The region's values."""
        variable, (source,) = self.given.variables[region.array], self.sources
        grid = WriteGrid(region.array, region.dims, variable.shape, variable.shape)
        lazy = _placed(grid, variable, source, self.append_dim)
        (values,) = _slices(lazy, region, GraphOf([lazy] if lazy.chunks is not None else [])).compute()
        found: Values = values if dtype == STRING else values.astype(dtype, copy=False)
        return found


def _slices(lazy: Lazy, region: Region, graph: GraphOf) -> Slices:
    """What it takes to compute a region.

    Raises
    ------
    InvalidInputError
        If it lies outside of what there is.
    """
    pairs = list(zip(region.slices, lazy.region.slices, strict=True))
    if any(part.start < whole.start or part.stop > whole.stop for part, whole in pairs):
        raise InvalidInputError(f"{region} reaches out of {NAME}, which holds {lazy.region}; plan again")
    if lazy.chunks is not None:
        return graph.slices([(lazy, region)])
    inside = tuple(slice(part.start - whole.start, part.stop - whole.start) for part, whole in pairs)
    if isinstance(lazy.source, Deferred):
        return PackedFileSlices(((region.array, lazy.source.variable[inside]),))
    return ArraySlices((np.asarray(lazy.source[inside], order="C"),))


def _check_names(dataset: xr.Dataset) -> None:
    for key in (*dataset.variables, *dataset.dims):
        if not isinstance(key, str):
            raise InvalidInputError(f"{key!r} is no text, and names in Zarr are; rename it")
        if "/" in key:
            raise InvalidInputError(
                f"{key!r} has a '/' in it, which parts groups in Zarr; rename it, or write a DataTree"
            )


def _first(node: xr.DataTree, dim: str, tree: xr.DataTree) -> xr.DataTree:
    """The first node from the top of a tree that has a dimension of a node below."""
    line = [node, *itertools.takewhile(lambda one: one is not tree.parent, node.parents)]
    return next(one for one in reversed(line) if dim in one.sizes)


def _below(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


def written(plan: Plan) -> list[str]:
    """The variables of a dataset that a plan writes."""
    return [array.name for array in plan.template.arrays.values() if array.role not in {"kept", "empty"}]


def _placed(grid: WriteGrid, variable: xr.Variable, source: FileSource, append_dim: str | None) -> Lazy:
    """A variable with its labels in the order of the target, and where it lies there."""
    ranges, orders = [], {}
    for dim, length in zip(grid.dims, variable.shape, strict=True):
        pieces = source.places.get(dim, ())
        along = dim == append_dim and source.stop
        # Along the append dimension they are counted from where the source begins.
        start = source.start if along else pieces[0].start if pieces else 0
        if len(pieces) > 1 or any(piece.step < 0 or piece.first for piece in pieces):
            orders[dim] = np.concatenate([_indices(piece) for piece in pieces])
        ranges.append((dim, start, start + length))
    data: Any = variable._data  # noqa: SLF001 - `data` would load it
    if orders and isinstance(data, Deferred):
        data = Deferred(data.name, data.variable.isel(orders), data.dtype)
    elif orders:
        data = variable.isel(orders).data
    elif not isinstance(data, Deferred) and not is_dask(data):
        data = np.asarray(variable.data)
    return Lazy(data, grid, Region(grid.array, tuple(ranges)))


def _indices(piece: Piece) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    return piece.first + piece.step * np.arange(piece.length, dtype=np.int64)


def _in_memory(variable: xr.Variable) -> bool:
    data = variable._data  # noqa: SLF001 - as above
    return not isinstance(data, Deferred) and not is_dask(data)


def _loaded(name: str, variable: xr.Variable) -> Values:
    """A variable's values, computed here."""
    data = variable._data  # noqa: SLF001 - as above
    if isinstance(data, Deferred):
        found: list[Values] = PackedFileSlices(((name, data.variable),)).compute()
        return found[0]
    return np.asarray(variable.values)


def _text(variable: xr.Variable) -> xr.Variable:
    """The variable, or one that says that its objects are strings, as encoded ones are."""
    if variable.dtype.kind != "O":
        return variable
    return xr.Variable(variable.dims, np.empty((0,) * variable.ndim, np.dtype("O", metadata={"vlen": str})))
