"""Materializing: a plan that copies what references of a group lead to, chunk by chunk as it is stored."""

from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import version

import numpy as np

from frazil.planning.cut import REGION_BYTES, TASK_BYTES, cut, group
from frazil.planning.existing import Existing
from frazil.planning.following import Index, check_followed, references_of
from frazil.planning.options import Span
from frazil_functions import __version__
from frazil_functions.errors import InvalidInputError, nearest
from frazil_functions.plan import Plan, PlanTarget
from frazil_functions.tasks import REPOSITORY, FileSource
from frazil_functions.template import DatasetTemplate

type Extents = dict[str, tuple[int, int]]


def materialize_plan(
    existing: Existing,
    target: PlanTarget,
    variables: Sequence[str] | None,
    region: Mapping[str, Span],
    *,
    workers: int = 1,
) -> Plan:
    """The plan that copies what references lead to, proven.

    Parameters
    ----------
    existing
        The group.
    target
        Where it is.
    variables
        Which of its variables; all that have references if None.
    region
        The part of each dimension, in elements; where a chunk lies in it in part, all of it is copied.
    workers
        How many functions can run at once.

    Raises
    ------
    InvalidInputError
        If there is no such variable, the region does not lie in the group, or nobody authorised following references.
    """
    _check(existing, variables, region)
    wanted: Extents = {dim: span for dim, span in region.items() if not isinstance(span, str)}
    found = {name: _referred(existing, name, wanted) for name in variables or existing.arrays}
    chosen = {name: extents for name, extents in found.items() if extents is not None}
    arrays = {
        name: existing.present(name, "data" if name in chosen else "kept")
        for name in existing.file.variables
        if name in chosen or existing.file.variables[name].dims == (name,)
    }
    sizes = {dim: existing.length(dim) for one in arrays.values() for dim in one.dims}
    extents = _around(chosen.values(), sizes)
    template = DatasetTemplate(sizes, None, existing.file.attributes, arrays, {}, extents)
    regions = cut(template, REGION_BYTES) if chosen else []
    where = "" if target.location is None else target.location.url
    source = FileSource(where, REPOSITORY, fingerprint=target.base or "")
    plan = Plan(
        target=target,
        template=template,
        sources=(source,),
        tasks=group(template, regions, [(0, 0)], workers, TASK_BYTES) if regions else (),
        filled=0,
        versions={"frazil": __version__, "icechunk": version("icechunk")},
    )
    plan.prove()
    return plan


def _check(existing: Existing, variables: Sequence[str] | None, region: Mapping[str, Span]) -> None:
    for name in variables or ():
        if name not in existing.arrays:
            raise InvalidInputError(f"{existing.file.url} has no variable {name!r}; {nearest(name, existing.arrays)}")
    dims = {dim for variable in existing.file.variables.values() for dim in variable.dims}
    existing.check_region(region, dims, "use START:STOP within that")


def _referred(existing: Existing, name: str, region: Extents) -> Extents | None:
    """Where a variable has references within a region, as the box around them in elements; None if nowhere."""
    held, dims = existing.arrays[name], existing.file.variables[name].dims
    unit = held.shards or held.chunks
    low = np.array([region[dim][0] // one if dim in region else 0 for dim, one in zip(dims, unit, strict=True)])
    high = np.array(
        [
            -(-(region[dim][1] if dim in region else length) // one)
            for dim, length, one in zip(dims, held.shape, unit, strict=True)
        ]
    )

    def which(at: Index) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        inside: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] = ((at >= low) & (at < high)).all(axis=1)
        return inside

    found = references_of(existing, name, which)
    if found is None:
        return None
    check_followed(existing, name, found.files)
    return {
        dim: (int(first) * one, min(length, (int(last) + 1) * one))
        for dim, first, last, one, length in zip(dims, found.low, found.high, unit, held.shape, strict=True)
    }


def _around(boxes: Collection[Extents], sizes: Mapping[str, int]) -> Extents:
    """The part of each dimension that any variable needs, where that is not all of it; nothing if none needs any."""
    found: Extents = {}
    for box in boxes:
        for dim, (start, stop) in box.items():
            begin, end = found.get(dim, (start, stop))
            found[dim] = (min(begin, start), max(end, stop))
    if not boxes:
        return dict.fromkeys(list(sizes)[:1], (0, 0))
    return {dim: span for dim, span in found.items() if span != (0, sizes[dim])}
