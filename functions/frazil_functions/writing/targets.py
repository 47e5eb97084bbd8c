"""Target arrays as they really are, opened in a fork."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import icechunk
import numpy as np
import zarr
import zarr.errors

from frazil_functions.errors import BackendError, ConflictError, SourceError
from frazil_functions.grids import WriteGrid
from frazil_functions.reading.encoding import (
    STRING,
    Attributes,
    Values,
    checksum,
    json_attributes,
    native,
    plain_attributes,
)
from frazil_functions.regions import Region


@dataclass(frozen=True, slots=True)
class Target:
    """One opened target array, and how it stores values."""

    array: zarr.Array[Any]
    grid: WriteGrid
    dtype: str
    attributes: Attributes


def open_targets(
    fork: icechunk.ForkSession | icechunk.Session, group: str, names: Iterable[str], mode: Literal["r", "r+"]
) -> dict[str, zarr.Array[Any]]:
    """Arrays of the template, by name.

    Raises
    ------
    BackendError
        If the template does not have one of them.
    """
    with warnings.catch_warnings():
        # Strings of fixed length have no Zarr specification yet; the template asked for them knowingly.
        warnings.simplefilter("ignore", zarr.errors.UnstableSpecificationWarning)
        root = zarr.open_group(fork.store, path=group, mode=mode)
        found: dict[str, zarr.Array[Any]] = {}
        for name in dict.fromkeys(names):
            array = root.get(name)
            if not isinstance(array, zarr.Array):
                raise BackendError(f"the template in the repository has no array {name!r}; was the branch changed?")
            found[name] = array
    return found


def target_of(array: zarr.Array[Any], region: Region) -> Target:
    """What one opened array is to a task; the region gives names to dimensions that have none."""
    names = getattr(array.metadata, "dimension_names", None)
    dims = region.dims if names is None else tuple(str(dim) for dim in names)
    grid = WriteGrid(region.array, dims, array.shape, array.shards or array.chunks)
    dtype = STRING if array.dtype.kind in "OTU" else array.dtype.str
    return Target(array, grid, dtype, plain_attributes(dtype, json_attributes(array.attrs.asdict())))


async def kept(
    region: Region, values: Values, targets: Sequence[Target], append_dim: str | None, offset: int
) -> Values:
    """The values with those that the array holds already, where a region reaches back before the offset.

    A write unit that was half full before an append is written again as a whole, in every repository alike.

    Raises
    ------
    ConflictError
        If the repositories hold different values there.
    """
    span = region.span(append_dim) if append_dim is not None and offset else None
    if span is None or span[0] >= offset:
        return values
    axis = region.dims.index(append_dim or "")
    old = tuple(slice(part.start, offset) if at == axis else part for at, part in enumerate(region.slices))
    into = tuple(slice(0, offset - span[0]) if at == axis else slice(None) for at in range(len(region.dims)))
    held = [native(np.asarray(await target.array.async_array.getitem(old))) for target in targets]
    if len({checksum(one) for one in held}) > 1:
        raise ConflictError(
            f"the repositories of the run hold different values of {region.array!r} before {append_dim} {offset}, in "
            "the write unit that the append completes; make them equal, or append to each in a run of its own"
        )
    whole = values.copy()
    whole[into] = held[-1]
    return whole


def check_values(region: Region, values: Values, target: Target) -> None:
    """Refuse what a source gives if it is not what was asked for; Zarr would broadcast and cast it."""
    native = target.array.dtype.newbyteorder("=") if target.dtype != STRING else None
    if values.shape != region.shape or (native is not None and values.dtype != native):
        raise SourceError(
            f"the source gave {values.dtype} of shape {values.shape} for {region}, which is {target.dtype} of shape "
            f"{region.shape}"
        )
