"""A given dataset in a plan and in a run: what the plan is made from, and who carries its slices."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
import xarray as xr

from frazil.labels.compare import select
from frazil.lazy.encoded import as_dataset
from frazil.lazy.given import NAME, Given, GivenCarrier, GivenReader, written
from frazil.planning.existing import Existing
from frazil.planning.options import Options
from frazil.planning.scan import Sources, Wanted, append_dim_of
from frazil_functions.errors import InvalidInputError, MismatchedSourceError, nearest
from frazil_functions.plan import Mode, Plan
from frazil_functions.reading.encoding import STRING, Attributes, is_time_unit, json_attributes, number, rounds
from frazil_functions.reading.scanning import VariableMetadata
from frazil_functions.regions import plain_dim

type Dataset = xr.Dataset | xr.DataArray | xr.DataTree
"""A dataset, or a tree of them; lazy or not."""

_STORED: Final = ("units", "calendar", "scale_factor", "add_offset", "_FillValue", "missing_value", "_Unsigned")
"""Attributes that say how values are stored, which Xarray takes from a variable's encoding."""


def given_sources(dataset: Dataset, wanted: Wanted, existing: Existing | None, mode: Mode) -> tuple[Sources, Given]:
    """A dataset as the one source of a plan, and as it is to be stored.

    Parameters
    ----------
    dataset
        Any; nothing that is lazy is computed.
    wanted
        What is asked of it.
    existing
        The group that it is written into, if that exists.
    mode
        What becomes of that.

    Raises
    ------
    InvalidInputError
        If it cannot be stored, or lacks what is wanted.
    """
    if wanted.engine is not None:
        raise InvalidInputError(f"the engine {wanted.engine!r} opens files, and a dataset is given; leave it out")
    if isinstance(dataset, xr.DataTree):
        return _tree_sources(dataset, wanted, existing)
    chosen = _chosen(dataset, wanted.variables)
    if existing is not None:
        if mode == "add":  # what is there already is left alone, whatever the dataset has of it
            chosen = _unless_held(chosen, existing)
        check_types(chosen, existing)
    own = existing.file.variables if existing is not None else {}
    _check_any(chosen.variables)
    given = Given.of(chosen, _encodings({name: (one.dtype, one.attributes) for name, one in own.items()}))
    file, labels = given.metadata()
    (file,) = select([file], None)
    append_dim = append_dim_of((file,), labels, wanted, existing if mode == "append" else None)
    file, labels = given.metadata(append_dim, digests=True)
    return Sources((file,), labels, append_dim, partial(GivenReader, given)), given


def _unless_held(dataset: xr.Dataset, existing: Existing) -> xr.Dataset:
    """A dataset without the variables that a group has, but for labels; the same if nothing else is left."""
    held = [key for key in dataset.variables if key in existing.file.variables and key not in dataset.dims]
    left = dataset.drop_vars(held)
    return left if len(left.variables) > sum(key in left.dims for key in left.variables) else dataset


def _tree_sources(tree: xr.DataTree, wanted: Wanted, existing: Existing | None) -> tuple[Sources, Given]:
    for what, asked in (("append_dim", wanted.append_dim), ("variables", wanted.variables)):
        if asked is not None:
            raise InvalidInputError(
                f"{what} does not say of which node of the tree; leave it out, or write node by node"
            )
    if existing is not None:
        raise InvalidInputError(
            "a tree makes groups, and writes into none that exist; use mode 'create' or 'overwrite', or write node by "
            "node (group=)"
        )
    given = Given.of_tree(tree)
    _check_any(given.variables)
    file, labels = given.metadata()
    (file,) = select([file], None)
    return Sources((file,), labels, None), given


def _check_any(variables: Mapping[Any, Any]) -> None:
    if not variables:
        raise InvalidInputError(f"{NAME} has no variables, so there is nothing to write; give another")


def check_types(dataset: xr.Dataset, existing: Existing) -> None:
    """Refuse variables of another type than the group's, which would be cast to it whatever became of them.

    Raises
    ------
    MismatchedSourceError
        Naming the variable, both types and the cure.
    """
    for key, variable in dataset.variables.items():
        held = existing.file.variables.get(str(key))
        if held is None or _fits(variable.dtype, held):
            continue
        stored = held.decoded or held.dtype
        raise MismatchedSourceError(
            f"{key!r} has the type {variable.dtype}, and in {existing.file.url} {stored}, which does not hold every "
            f"value of it. Convert it first (astype), if that is meant"
        )


def _fits(own: "np.dtype[Any]", held: VariableMetadata) -> bool:
    """Whether a type that Xarray holds in memory is one that it reads of a variable as that is stored."""
    attributes = held.attributes
    if held.dtype == STRING or held.dtype.startswith("|S"):
        return own.kind in "OTUS"
    stored = np.dtype(held.dtype)
    if own.kind in "Mm" or (own.kind == "O" and is_time_unit(attributes.get("units"))):
        return True  # how they are counted, and whether a calendar fits, is seen when they are encoded
    match own.kind, stored.kind:
        case _ if attributes.get("dtype") == "bool":
            found = own.kind == "b"
        case _ if held.decoded is not None:
            found = own.kind in "iuf"
        case "f", "i" | "u":  # what is missing makes floating-point numbers of whole ones
            found = bool({"_FillValue", "missing_value"} & attributes.keys())
        case "i" | "u", "i" | "u":  # whether each value fits is seen when it is stored
            found = True
        case "i" | "u", "f":
            found = own.itemsize * 8 <= np.finfo(stored).nmant + 1
        case _:
            found = bool(np.can_cast(own, stored, "safe"))
    return found


def marked(plan: Plan, given: Given) -> Plan:
    """A plan that knows the dataset that it was made from."""
    sources = tuple(replace(source, fingerprint=given.mark(written(plan))) for source in plan.sources)
    groups = {path: json_attributes(attributes) for path, attributes in given.groups.items()}
    return replace(plan, sources=sources, template=replace(plan.template, groups=groups))


def check_whole(plan: Plan) -> Plan:
    """Refuse a plan that leaves places for labels that the dataset does not have.

    Raises
    ------
    InvalidInputError
        Saying how Xarray makes them.
    """
    if plan.filled:
        dim = plan.template.append_dim
        raise InvalidInputError(
            f"{plan.filled} labels of {dim!r} are in no place of {NAME}, and only files are filled up; give them "
            f"yourself: dataset.reindex({dim}=...)"
        )
    return plan


def bounded(options: Options, given: Given) -> Options:
    """Options of which regions and tasks carry no more of a dask graph than travels well."""
    most = given.most_carried
    if given.groups:
        # A dimension of one name has a length of its own in every group that it begins in.
        chunks, shards = (
            {dim: lengths[plain_dim(dim)] for dim in given.sizes if plain_dim(dim) in lengths}
            | {dim: length for dim, length in lengths.items() if dim not in map(plain_dim, given.sizes)}
            for lengths in (options.chunks, options.shards)
        )
        options = replace(options, chunks=chunks, shards=shards)
    if not most:
        return options
    return replace(
        options,
        region_bytes=min(options.region_bytes, max(1, most // 2)),
        task_bytes=min(options.task_bytes, most),
        most_bytes=min(options.most_bytes, most),
    )


def carrier_of(plan: Plan, source: Dataset | None) -> GivenCarrier | None:
    """Who carries the slices of a run, from the dataset that its plan was made from.

    Raises
    ------
    InvalidInputError
        If it is another dataset, or none is needed.
    """
    if source is None:
        return None
    if plan.sources and not plan.sources[0].travels:
        raise InvalidInputError("the plan was made from files, which functions read themselves; leave out source")
    if isinstance(source, xr.DataTree):
        return GivenCarrier(Given.of_tree(source), plan)
    held = {one.name: (one.dtype, one.attributes) for one in plan.template.arrays.values() if one.before is not None}
    names = tuple(plan.template.arrays)
    every = as_dataset(source)
    missing = [name for name in names if name not in every.variables and plan.template.arrays[name].role != "kept"]
    if missing:
        raise InvalidInputError(
            f"{NAME} lacks {missing[0]!r}, which the plan was made with; give that one, or plan again"
        )
    return GivenCarrier(Given.of(every, _encodings(held)), plan)


def _chosen(dataset: xr.Dataset | xr.DataArray, variables: tuple[str, ...] | None) -> xr.Dataset:
    whole = as_dataset(dataset)
    if variables is None:
        return whole
    known = sorted(map(str, whole.variables))
    for name in variables:
        if name not in whole.variables:
            raise InvalidInputError(f"there is no variable {name!r}; {nearest(name, known)}")
    return whole[list(variables)]


def _encodings(stored: Mapping[str, tuple[str, Attributes]]) -> dict[str, dict[str, Any]]:
    """How Xarray is to encode variables so that they are stored as these are."""
    found: dict[str, dict[str, Any]] = {}
    for name, (dtype, attributes) in stored.items():
        if rounds(dtype, attributes):
            found[name] = {}  # functions round what is computed as it is
            continue
        own: dict[str, Any] = {key: attributes[key] for key in _STORED if key in attributes}
        for key in ("scale_factor", "add_offset", "_FillValue", "missing_value"):
            if key in own:
                own[key] = number(own[key])
        if dtype != STRING:
            own["dtype"] = np.dtype(dtype)
        found[name] = own
    return found
