"""What somebody else committed since the plan was made, held against what the run writes.

Two commits are disjoint if they create, change or delete no node of each other and write no chunk of each other.
Disjoint ones are both kept; anything else is a conflict, for nobody could say whose values were meant.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

import icechunk
import numpy as np
import zarr

from frazil_functions.errors import ConflictError
from frazil_functions.locations import spoken
from frazil_functions.plan import NEW_GROUP, Plan


def check_disjoint(repo: icechunk.Repository, plan: Plan, base: str, tip: str) -> None:
    """Refuse a branch that has moved under what the run writes.

    Parameters
    ----------
    repo
        The repository.
    plan
        What is written.
    base, tip
        The snapshot that the plan was made against, and the one that the branch is at.

    Raises
    ------
    ConflictError
        Naming the groups, arrays and ranges of chunks that both have; or if the base is no part of the
        branch's history any more.
    """
    if tip == base:
        return
    branch = f"{plan.target.branch!r} of {spoken(repo)}"
    try:
        diff = repo.diff(from_snapshot_id=base, to_snapshot_id=tip)
    except (icechunk.InvalidInputError, icechunk.NotFoundError) as error:
        raise ConflictError(
            f"the branch {branch} was set to {tip}, which does not descend from {base}, the snapshot that the plan "
            "was made against. Nothing was published; plan again."
        ) from error
    touched = overlaps(plan, diff) or _unequal(repo, plan, tip, diff)
    if touched:
        raise ConflictError(
            f"the branch {branch} has moved since the plan was made, from {base} to {tip}, and both write "
            f"{'; '.join(touched)}. Nothing was published; plan again, or set the branch back and resume the run."
        )


def overlaps(plan: Plan, diff: icechunk.Diff) -> list[str]:
    """What both a plan and the commits of somebody else write, in words."""
    group = PurePosixPath("/", plan.target.group)
    arrays = {str(group / name): name for name in plan.template.arrays}
    created, deleted = {*diff.new_groups, *diff.new_arrays}, {*diff.deleted_groups, *diff.deleted_arrays}
    moved = {path for pair in diff.moved_nodes for path in pair}
    nodes = created | deleted | moved | {*diff.updated_groups, *diff.updated_arrays}
    if plan.target.mode == "overwrite":
        return _below(group, nodes | set(diff.updated_chunks))
    found = []
    if plan.target.mode == "append":
        # What somebody else put into the group does not know its new length.
        found += [f"the new array {path!r}" for path in sorted(diff.new_arrays) if PurePosixPath(path).parent == group]
    if plan.target.mode not in NEW_GROUP and not plan.template.changes:
        nodes -= {str(group)} - deleted - moved
    if str(group) in nodes:
        found.append(f"the group {str(group)!r}")
    gone = deleted | moved | {*diff.new_arrays}
    found += [f"the group {path!r} above it" for path in map(str, group.parents) if path in gone]
    chunks: Mapping[str, Sequence[Sequence[int]]] = diff.updated_chunks
    for path, name in arrays.items():
        below = any(PurePosixPath(path) in PurePosixPath(node).parents for node in nodes)
        where = _shared(plan, name, chunks.get(path, ()))
        if path in nodes or below or where:
            found.append(f"the array {path!r}" + (f", {where}" if where else ""))
    return found


def _unequal(repo: icechunk.Repository, plan: Plan, tip: str, diff: icechunk.Diff) -> list[str]:
    """Arrays of somebody else that have other lengths than those that a plan makes beside them, in words.

    No name and no chunk is shared, and yet nobody could open a group of both.
    """
    group = PurePosixPath("/", plan.target.group)
    changed = {*diff.new_arrays, *diff.updated_arrays}
    theirs = sorted(path for path in changed if PurePosixPath(path).parent == group)
    made = [array for array in plan.template.arrays.values() if array.before is None]
    if not theirs or not made or plan.target.mode in NEW_GROUP:
        return []
    sizes = {dim: length for array in made for dim, length in zip(array.dims, array.shape, strict=True)}
    store, found = repo.readonly_session(snapshot_id=tip).store, []
    for path in theirs:
        array = zarr.open_array(store, path=path.lstrip("/"), mode="r")
        names = getattr(array.metadata, "dimension_names", None) or ()
        found += [
            f"the dimension {dim!r}, which has the length {length} in the array {path!r} and {sizes[dim]} in the plan"
            for dim, length in zip(names, array.shape, strict=False)
            if dim in sizes and sizes[dim] != length
        ]
    return found[:1]


def _below(group: PurePosixPath, paths: Iterable[str]) -> list[str]:
    """What of these a group that is overwritten would take away, or lies in; in words."""
    ours = (path for path in sorted(paths) if PurePosixPath(path).is_relative_to(group))
    above = (path for path in sorted(paths) if PurePosixPath(path) in group.parents and path != "/")
    return [f"{path!r}" for path in (*above, *ours)]


def _shared(plan: Plan, name: str, theirs: Iterable[Sequence[int]]) -> str:
    """The chunks of an array that the plan's regions own and somebody else wrote, in words."""
    at = np.array(list(theirs), np.int64)
    if not at.size:
        return ""
    array = plan.template.arrays[name]
    at = at.reshape(-1, len(array.dims))
    if array.role != "data":
        regions = [tuple(slice(0, count) for count in array.grid.counts)]
    else:
        regions = [array.grid.unit_slices(region) for region in plan.regions if region.array == name]
    shared = np.zeros(len(at), bool)
    for region in regions:
        inside = np.ones(len(at), bool)
        for column, part in zip(at.T, region, strict=True):
            inside &= (column >= part.start) & (column < part.stop)
        shared |= inside
    if not shared.any():
        return ""
    low, high = at[shared].min(axis=0), at[shared].max(axis=0)
    count = int(shared.sum())
    first, last = (tuple(int(one) for one in edge) for edge in (low, high))
    return f"chunk {first}" if count == 1 else f"{count} chunks between {first} and {last}"
