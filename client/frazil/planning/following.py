"""References that a plan has to follow: they lead into containers that somebody has authorised, or it is refused."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import compress
from typing import Final

import icechunk
import numpy as np

from frazil.planning.existing import Existing
from frazil_functions.containers import container_of
from frazil_functions.errors import InvalidInputError
from frazil_functions.plan import Plan
from frazil_functions.writing.overlap import run_loop

_VIRTUAL: Final = 2
"""How Icechunk marks references to files, which it calls `ChunkType.virtual`."""

type Index = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
type _Mask = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
type Which = Callable[[Index], _Mask]
"""Which of some chunks, one in each row, are of interest."""


@dataclass(frozen=True, slots=True)
class Referring:
    """References of an array.

    Attributes
    ----------
    low, high
        The least and the largest index of their chunks along each dimension.
    files
        Where they lead.
    """

    low: Index
    high: Index
    files: frozenset[str]


def references_of(existing: Existing, name: str, which: Which) -> Referring | None:
    """Those of an array's references that are of interest; None if there are none."""
    path = "/" + "/".join(part for part in (existing.group, name) if part)
    return run_loop(_references(existing.session.store, path, which), threading.Event())


async def _references(store: icechunk.IcechunkStore, path: str, which: Which) -> Referring | None:
    found: list[Index] = []
    files: set[str] = set()
    async for coordinates, kinds, urls, *_ in store.array_chunk_iterator(path):
        at = coordinates.astype(np.int64)
        mask = (kinds == _VIRTUAL) & which(at)
        if mask.any():
            found += [at[mask].min(axis=0), at[mask].max(axis=0)]
            files.update(compress(urls, mask.tolist()))
    return Referring(np.min(found, axis=0), np.max(found, axis=0), frozenset(files)) if found else None


def check_followed(existing: Existing, name: str, files: Iterable[str]) -> None:
    """Refuse to follow references into containers that nobody has authorised.

    Raises
    ------
    InvalidInputError
        Naming those containers.
    """
    inside = {file: container_of(file, existing.containers) for file in sorted(files)}
    lacking = {
        one.prefix: file for file, one in inside.items() if one is not None and one.prefix not in existing.followed
    }
    if lacking:
        cure = " ".join(f"--container {prefix}" for prefix in sorted(lacking))
        raise InvalidInputError(
            f"{name!r} of {existing.file.url} refers to {lacking[min(lacking)]}, whose values are needed, and "
            f"references are followed for those alone who say so; add {cure} (containers={sorted(lacking)!r})"
        )


def check_kept(plan: Plan, existing: Existing) -> None:
    """Refuse a plan that completes write units from values which nobody has authorised reading.

    Raises
    ------
    InvalidInputError
        As `check_followed` does.
    """
    if {one.prefix for one in existing.containers} <= existing.followed:
        return
    template = plan.template
    for array in template.arrays.values():
        before = array.before
        if array.role != "data" or before is None:
            continue
        grid = array.grid
        spans = [template.extents.get(dim, (0, length)) for dim, length in zip(grid.dims, grid.shape, strict=True)]
        cut = [
            start % unit or (stop % unit and stop < length)
            for (start, stop), length, unit in zip(spans, grid.shape, grid.unit, strict=True)
        ]
        if not any(cut):
            continue
        start, stop = np.array(spans, np.int64).T
        found = references_of(existing, array.name, _split(start, stop, grid.shape, grid.unit))
        if found is not None:
            check_followed(existing, array.name, found.files)


def _split(start: Index, stop: Index, shape: tuple[int, ...], unit: tuple[int, ...]) -> Which:
    """Which write units lie in a box, and not wholly."""

    def which(at: Index) -> _Mask:
        begin = at * unit
        end = np.minimum(begin + unit, shape)
        touched = ((begin < stop) & (end > start)).all(axis=1)
        found: _Mask = touched & ~((begin >= start) & (end <= stop)).all(axis=1)
        return found

    return which
