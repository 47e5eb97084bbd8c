"""store_dask: dask arrays into arrays of a session; and where a slice of an array lies."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import icechunk
import zarr

from frazil.execution.executor import Executor
from frazil.lazy.slices import Lazy, is_dask, prepare
from frazil.running import using
from frazil.staged.fan_out import check_can_travel, check_session, fan_out
from frazil_functions.errors import InvalidInputError, UnalignedRegionError
from frazil_functions.grids import WriteGrid
from frazil_functions.regions import Region
from frazil_functions.writing.slices import castable


def store_dask(
    session: icechunk.Session,
    *,
    sources: Sequence[Any],
    targets: Sequence[zarr.Array[Any]],
    regions: Sequence[tuple[slice, ...] | None] | tuple[slice, ...] | None = None,
    split_every: int | None = None,  # noqa: ARG001 - of icechunk.dask.store_dask
    executor: Executor | None = None,
    **store_kwargs: object,
) -> None:
    """Compute dask arrays in functions, and write them into arrays of a session; the caller commits.

    As `icechunk.dask.store_dask`, but that what functions write is merged into the session.

    Parameters
    ----------
    session
        A writable session; changes that it holds already are kept.
    sources
        Dask arrays.
    targets
        An array of `session.store` for each.
    regions
        Where each belongs within its target, as slices along every dimension; all of it by default. One tuple
        of slices stands for all.
    split_every
        Accepted as `icechunk.dask.store_dask` has it, and without a meaning here: forks are merged one by one.
    store_kwargs
        Those of `dask.array.store`: `compute`, `return_stored`, `load_stored` and `lock` are refused, as Icechunk does
        not support them either; others have no meaning here.
    executor
        Where functions run; Lithops as it is configured by default, else on this machine.

    Raises
    ------
    InvalidInputError
        If anything about the arrays does not fit, or a graph cannot be pickled; nothing was written.
    SourceError
        If a graph fails; the session holds nothing of what functions wrote.
    """
    check_session(session)
    unmeant = sorted(store_kwargs.keys() & {"compute", "return_stored", "load_stored", "lock"})
    if unmeant:
        raise InvalidInputError(
            f"store_dask takes no {unmeant[0]!r}: values are computed at once, by functions, and merged "
            "into the session; leave it out"
        )
    each = _regions(regions, len(targets))
    if len(sources) != len(targets) or len(each) != len(targets):
        raise InvalidInputError(
            f"there are {len(sources)} sources, {len(targets)} targets and {len(each)} regions; each source has one of "
            "each"
        )
    lazies = _lazies(session, sources, targets, each)
    _check_apart(lazies)
    prepared = prepare(lazies)
    if not prepared:
        return
    check_can_travel(session.fork())
    with using(executor) as calls:
        calls.warm()
        fan_out(session, prepared, [lazy.grid for lazy in lazies], calls)


def grid_of(array: zarr.Array[Any]) -> WriteGrid:
    """The write grid of an array, named by its path."""
    names = getattr(array.metadata, "dimension_names", None) or (None,) * array.ndim
    dims = tuple(f"dim_{axis}" if name is None else str(name) for axis, name in enumerate(names))
    return WriteGrid(array.path, dims, array.shape, array.shards or array.chunks)


def region_of(grid: WriteGrid, slices: Sequence[slice] | None, shape: Sequence[int]) -> Region | None:
    """Where values of a shape belong within an array; None if they are none.

    Raises
    ------
    InvalidInputError
        If they do not fit there, naming the array and the dimension.
    """
    parts = (slice(None),) * len(grid.shape) if slices is None else tuple(slices)
    if len(parts) != len(grid.shape) or len(shape) != len(grid.shape):
        raise InvalidInputError(
            f"{grid.array!r} has {len(grid.shape)} dimensions, its source {len(shape)}, and its region {len(parts)}"
        )
    ranges = []
    for dim, part, own, length in zip(grid.dims, parts, shape, grid.shape, strict=True):
        start, stop = (part.start or 0), (length if part.stop is None else part.stop)
        if part.step not in (None, 1):
            raise InvalidInputError(f"the region of {grid.array!r} takes steps of {part.step} along {dim!r}; use 1")
        if not 0 <= start <= stop <= length:
            raise InvalidInputError(
                f"the region {start}:{stop} along {dim!r} lies outside of {grid.array!r}, which has {length} there"
            )
        if stop - start != own:
            raise InvalidInputError(
                f"the source of {grid.array!r} has {own} along {dim!r}, and its region {start}:{stop} has "
                f"{stop - start}"
            )
        ranges.append((dim, int(start), int(stop)))
    return Region(grid.array, tuple(ranges)) if all(start < stop for _, start, stop in ranges) else None


def _regions(
    regions: Sequence[tuple[slice, ...] | None] | tuple[slice, ...] | None, count: int
) -> list[tuple[slice, ...] | None]:
    if regions is None:
        return [None] * count
    if isinstance(regions, tuple) and all(isinstance(part, slice) for part in regions):
        return [tuple(part for part in regions if isinstance(part, slice))] * count
    return [None if region is None or isinstance(region, slice) else tuple(region) for region in regions]


def _lazies(
    session: icechunk.Session, sources: Sequence[Any], targets: Sequence[zarr.Array[Any]], regions: Sequence[Any]
) -> list[Lazy]:
    found = []
    for number, (source, target, slices) in enumerate(zip(sources, targets, regions, strict=True)):
        if not is_dask(source) or not hasattr(source, "chunks"):
            raise InvalidInputError(f"source {number} is a {type(source).__name__} and no dask array")
        if not isinstance(target, zarr.Array):
            raise InvalidInputError(f"target {number} is a {type(target).__name__} and no Zarr array")
        if target.store != session.store:
            raise InvalidInputError(
                f"the target {target.path!r} was not opened in the session that is written (session.store), but in "
                "another session, a fork or another store"
            )
        grid = grid_of(target)
        if not castable(source.dtype, target.dtype):
            raise InvalidInputError(f"the source of {grid.array!r} is {source.dtype}, and it stores {target.dtype}")
        if any(length != length for lengths in source.chunks for length in lengths):  # noqa: PLR0124 - NaN alone does
            raise InvalidInputError(
                f"the source of {grid.array!r} has chunks of unknown length; call its compute_chunk_sizes() first"
            )
        region = region_of(grid, slices, source.shape)
        if region is not None:
            found.append(Lazy(source, grid, region))
    return found


def _check_apart(lazies: Sequence[Lazy]) -> None:
    """Refuse two sources that write one write unit: only one of them would be kept."""
    for one, other in combinations(lazies, 2):
        if one.grid.array == other.grid.array and _touch(one, other):
            raise UnalignedRegionError(
                f"{one.region} and {other.region} share a write unit of {one.grid.unit}; two functions would overwrite "
                "each other. Concatenate the sources, or store them one after the other"
            )


def _touch(one: Lazy, other: Lazy) -> bool:
    pairs = zip(one.region.slices, other.region.slices, one.grid.unit, strict=True)
    return all(
        a.start // unit <= (b.stop - 1) // unit and b.start // unit <= (a.stop - 1) // unit for a, b, unit in pairs
    )
