"""Target arrays as they really are, opened in a fork."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import icechunk
import numpy as np
import zarr
import zarr.errors

from frazil_functions.damage import file_damage
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
from frazil_functions.text import words


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
    own = region.plain_dims if names is None else tuple(str(dim) for dim in names)
    dims = region.dims if own == region.plain_dims else own
    grid = WriteGrid(region.array, dims, array.shape, array.shards or array.chunks)
    dtype = STRING if array.dtype.kind in "OTU" else array.dtype.str
    return Target(array, grid, dtype, plain_attributes(dtype, json_attributes(array.attrs.asdict())))


async def completed(region: Region, inner: Region, values: Values, targets: Sequence[Target]) -> Values:
    """A region's values: those of a part of it as they are given, and around it those that the array holds already.

    A write unit that lies in an extent only in part is written again as a whole, in every repository alike.

    Parameters
    ----------
    region, inner
        A region of whole write units, and the part of it that there are values for.
    values
        Those of the part, of its shape.
    targets
        The array in every repository.

    Raises
    ------
    ConflictError
        If the repositories hold different values there.
    SourceError
        If a file that they refer to there is gone, has changed, or is shorter than it was.
    BackendError
        If a repository cannot be read.
    """
    if inner == region:
        return values
    offset = [start for _, start, _ in region.ranges]
    # Strings of any length come as long as the longest that was read; others may be longer.
    whole = np.empty(region.shape, object if values.dtype.kind in "OTU" else values.dtype)
    whole[_shifted(inner.slices, offset)] = values
    for part in _around(region, inner):
        try:
            held = [native(np.asarray(await target.array.async_array.getitem(part.slices))) for target in targets]
        except icechunk.IcechunkError as error:
            told = file_damage(error)
            if told:
                raise SourceError(f"{part}, which is to stay, could not be read: {told}") from error
            raise BackendError(f"{part}, which is to stay, could not be read: {words(error)}") from error
        if len({checksum(one) for one in held}) > 1:
            raise ConflictError(
                f"the repositories of the run hold different values of {part}, in a write unit that the run completes; "
                "make them equal, or write each in a run of its own"
            )
        whole[_shifted(part.slices, offset)] = held[-1]
    return whole


def _around(region: Region, inner: Region) -> Iterator[Region]:
    """What of a region lies outside of a part of it, each element once."""
    ranges = list(region.ranges)
    for axis, (dim, start, stop) in enumerate(inner.ranges):
        _, first, last = ranges[axis]
        for low, high in ((first, start), (stop, last)):
            if low < high:
                yield Region(region.array, (*ranges[:axis], (dim, low, high), *ranges[axis + 1 :]))
        ranges[axis] = (dim, start, stop)


def _shifted(slices: Sequence[slice], offset: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(part.start - first, part.stop - first) for part, first in zip(slices, offset, strict=True))


def check_values(region: Region, values: Values, target: Target) -> None:
    """Refuse what a source gives if it is not what was asked for; Zarr would broadcast and cast it."""
    native = target.array.dtype.newbyteorder("=") if target.dtype != STRING else None
    if values.shape != region.shape or (native is not None and values.dtype != native):
        raise SourceError(
            f"the source gave {values.dtype} of shape {values.shape} for {region}, which is {target.dtype} of shape "
            f"{region.shape}"
        )
