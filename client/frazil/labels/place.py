"""Placing: where the labels of a file lie among those that the target has.

The target's labels decide. What is rounded differently means the same label; what runs the other way, starts elsewhere
on the globe or stands in another order is placed label by label where that is asked for, and refused otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np

from frazil.labels.compare import Accept
from frazil.labels.join import DRIFT, show
from frazil_functions.errors import LabelError
from frazil_functions.reading.encoding import Attributes, Values
from frazil_functions.reading.scanning import FileMetadata, Labels, VariableMetadata
from frazil_functions.tasks import Piece

_ROUNDING: Final = 1e-6
"""The part of the largest label that two may differ by and be the same number, rounded to single precision."""

_PIECES: Final = 4096
"""How many pieces a dimension may be put together from; each is a request to the file, for every region."""

DEGREES_EAST: Final = frozenset(
    {"degrees_east", "degree_east", "degree_E", "degrees_E", "degreeE", "degreesE"}
)  # CF conventions, chapter 4.2

type Pieces = dict[str, tuple[Piece, ...]]
"""Where the labels of a file lie, of those dimensions where that is not as in the target."""

type _Indices = np.ndarray[tuple[int], np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class Grid:
    """The labels of one dimension, and whose they are.

    Attributes
    ----------
    dim
        The dimension.
    url
        The file, or the group, that has them.
    values
        The labels.
    attributes
        Of the coordinate.
    digest
        Equal for equal labels, if it is known.
    """

    dim: str
    url: str
    values: Values
    attributes: Attributes
    digest: str = ""

    def __str__(self) -> str:
        count = len(self.values)
        if not count:
            return "no labels"
        first, last = (show(self.values[at], self.attributes) for at in (0, -1))
        return f"{first} to {last} ({count} label{'s' * (count > 1)})"


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a file's labels lie in the target.

    Attributes
    ----------
    extent
        Where they begin and end there; they fill it without a hole.
    pieces
        Which of them stand together in both.
    turned
        Whether they count the globe from another meridian than the target's do.
    """

    extent: tuple[int, int]
    pieces: tuple[Piece, ...]
    turned: bool = False

    @property
    def straight(self) -> bool:
        """Whether they stand in the order of the target."""
        return len(self.pieces) == 1 and self.pieces[0].step == 1


def place(target: Grid, file: Grid, *, reorder: bool, drift: bool) -> Placed:
    """Where the labels of a file lie among those of the target.

    Parameters
    ----------
    target, file
        The labels of both.
    reorder
        Whether labels that stand in another order are placed one by one.
    drift
        Whether labels that differ by less than a thousandth of their spacing mean the same points.

    Raises
    ------
    LabelError
        If a label is not one of the target's, if they leave a hole there, or stand in another order and
        that is not accepted.
    """
    at, turned = _positions(target, file, drift=drift)
    _check_single(target, at)
    if not len(at):
        raise LabelError(f"{file.url} has no labels along {file.dim!r}")
    low, high = int(at.min()), int(at.max()) + 1
    if len(np.unique(at)) != len(at):
        raise LabelError(f"{file.url}: {file.dim!r} has a label twice: {file}. Each label can be written once")
    if high - low != len(at):
        raise LabelError(
            f"{file.url}: {file.dim!r} has {file}, which leaves out some of those between them in {target.url}, "
            f"{target}. Write a part without holes, or one part after the other"
        )
    placed = Placed((low, high), _pieces(file, at), turned)
    if reorder or (placed.straight and not turned):
        return placed
    how = _how(placed, numbers=file.values.dtype.kind in "iuf")
    raise LabelError(
        f"{file.url}: {file.dim!r} {how}: it runs {file}, and in {target.url} {target}. --reorder puts each value "
        "under its own label"
    )


def _check_single(target: Grid, at: _Indices) -> None:
    """Refuse a label that the target has twice: nobody could say which of the two is meant."""
    if len(np.unique(target.values)) == len(target.values):
        return
    named = set(target.values[at].tolist())
    seen: set[object] = set()
    for label in target.values.tolist():
        if label in seen and label in named:
            raise LabelError(
                f"{target.url}: {target.dim!r} has the label {show(label, target.attributes)} twice, so it does not "
                "say where values belong; write the group anew (frazil convert --mode overwrite)"
            )
        seen.add(label)


def _how(placed: Placed, *, numbers: bool) -> str:
    turned = placed.turned
    if len(placed.pieces) == 1:
        return "is flipped" if placed.pieces[0].step < 0 else "counts the globe from another meridian"
    around = numbers and all(one.step == 1 for one in placed.pieces) and len(placed.pieces) == 2  # noqa: PLR2004
    if turned or around:
        return "goes around the globe from another start"
    return "has its labels in another order"


def _positions(target: Grid, file: Grid, *, drift: bool) -> tuple[_Indices, bool]:
    """The index in the target of each label of the file, and whether degrees had to be counted anew for that."""
    held, asked = target.values, file.values
    if held.dtype.kind not in "iuf" or asked.dtype.kind not in "iuf":
        known = {label: at for at, label in enumerate(held.tolist())}
        strange = next((label for label in asked.tolist() if label not in known), None)
        if strange is not None:
            raise _missing(target, file, strange)
        return np.array([known[label] for label in asked.tolist()], np.int64), False
    found, lacking = _nearest(held, asked, drift=drift)
    if not lacking.size:
        return found, False
    if _around(target.attributes) and _around(file.attributes):
        turned, still = _nearest(np.mod(held.astype("f8"), 360), np.mod(asked.astype("f8"), 360), drift=drift)
        if not still.size:
            return turned, True
    raise _missing(target, file, asked[lacking[0]])


def _nearest(held: Values, asked: Values, *, drift: bool) -> tuple[_Indices, _Indices]:
    """The index of the nearest label for each, and which of them have none that means the same."""
    if held.dtype.kind in "iu" and asked.dtype.kind in "iu":
        ours, theirs, tolerance = held.astype("i8"), asked.astype("i8"), 0.0
    else:
        ours, theirs = held.astype("f8"), asked.astype("f8")
        steps = np.abs(np.diff(np.sort(ours)))
        # A single label has no spacing that a drift could be a part of.
        tolerance = _ROUNDING * float(np.abs(ours).max(initial=0))
        if (steps > 0).any():
            part = DRIFT * float(steps[steps > 0].min())
            tolerance = part if drift else min(part, tolerance)
    if not ours.size:
        return np.zeros(len(theirs), np.int64), np.arange(len(theirs))
    order = np.argsort(ours, kind="stable")
    ranked = ours[order]
    right = np.clip(np.searchsorted(ranked, theirs), 0, len(ranked) - 1)
    left = np.clip(right - 1, 0, len(ranked) - 1)
    nearer = np.where(np.abs(ranked[left] - theirs) <= np.abs(ranked[right] - theirs), left, right)
    lacking = np.flatnonzero(~(np.abs(ranked[nearer] - theirs) <= tolerance))
    return order[nearer].astype(np.int64), lacking


def _around(attributes: Attributes) -> bool:
    return attributes.get("units") in DEGREES_EAST or attributes.get("standard_name") == "longitude"


def _missing(target: Grid, file: Grid, label: object) -> LabelError:
    drifts = target.values.dtype.kind in "iuf" and file.values.dtype.kind in "iuf"
    if drifts and not _nearest(target.values, file.values, drift=True)[1].size:
        return LabelError(
            f"{file.url}: {file.dim!r} drifts from that of {target.url} by less than a thousandth of its spacing: "
            f"{show(label, file.attributes)} is none of its labels. --accept drift takes the group's"
        )
    return LabelError(
        f"{file.url}: {file.dim!r} has the label {show(label, file.attributes)}, which {target.url} does not have: it "
        f"runs {file}, and there {target}. Labels that are to be new go behind the others with frazil append; a "
        "region and whole variables stand under those that are there"
    )


def _pieces(file: Grid, at: _Indices) -> tuple[Piece, ...]:
    """Runs of labels that stand together in the file and in the target, in the order of the target."""
    steps = np.diff(at)
    edges, begin = [0], 0
    for index, step in enumerate(steps.tolist()):
        if index + 1 - begin == 1 and abs(step) == 1:
            continue  # the second of a run says which way it goes
        if step != (steps[begin] if index > begin else 0):
            edges.append(index + 1)
            begin = index + 1
            if len(edges) > _PIECES:
                raise LabelError(
                    f"{file.url}: {file.dim!r} stands in more than {_PIECES} pieces in the target; sort it first"
                )
    found = []
    for first, behind in pairwise([*edges, len(at)]):
        low, high = int(at[first]), int(at[behind - 1])
        if low <= high:
            found.append(Piece(low, first, behind - first, 1))
        else:
            found.append(Piece(high, behind - 1, behind - first, -1))
    return tuple(sorted(found, key=lambda piece: piece.start))


def aligned(
    reference: FileMetadata,
    file: FileMetadata,
    labels: Mapping[str, Labels],
    append_dim: str | None,
    accept: frozenset[Accept],
    *,
    reorder: bool,
) -> tuple[FileMetadata, Pieces]:
    """A file as if its labels stood as the reference's do, and where they really stand.

    Parameters
    ----------
    reference, file
        What the target has, and a file.
    labels
        The labels that their digests name.
    append_dim
        The dimension that files follow each other on, which is left alone.
    accept, reorder
        As in `frazil.planning.options.Options`.

    Raises
    ------
    LabelError
        If labels are not the reference's, or not all of them, or stand in another order and that is not
        accepted.
    """
    variables, pieces = dict(file.variables), {}
    for dim in file.sizes:
        target, own = grid_of(reference, dim, labels), grid_of(file, dim, labels)
        if dim == append_dim or target is None or own is None or target.digest == own.digest:
            continue
        placed = place(target, own, reorder=reorder, drift="drift" in accept)
        check_bounds(placed, file, dim, reference.url)
        if placed.extent != (0, len(target.values)):
            raise LabelError(
                f"{file.url}: {dim!r} has {own}, which is a part of {target} in {reference.url}. Write it into that "
                "part (frazil write-region)"
            )
        ours = reference.variables[dim]
        variables[dim] = replace(variables[dim], digest=ours.digest, dtype=ours.dtype)
        if not placed.straight:
            pieces[dim] = placed.pieces
    turned = {
        name: replace(one, digest=_digest_under_labels(reference.variables.get(name), one))
        for name, one in variables.items()
        if pieces.keys() & set(one.dims) and one.sorted_digest is not None
    }
    return replace(file, variables=variables | turned), pieces


def _digest_under_labels(ours: VariableMetadata | None, theirs: VariableMetadata) -> str | None:
    """The digest of values that stand in another order: ours if they are the same under their labels, else another."""
    if ours is None or ours.sorted_digest is None:
        return theirs.sorted_digest
    return ours.digest if ours.sorted_digest == theirs.sorted_digest else f"{theirs.sorted_digest} sorted"


def check_bounds(placed: Placed, file: FileMetadata, dim: str, reference: str) -> None:
    """Refuse bounds that would stand beside labels of another count: values are moved, never changed.

    Raises
    ------
    LabelError
        Naming the bounds.
    """
    bounds = file.variables[dim].attributes.get("bounds")
    if placed.turned and bounds in file.variables:
        raise LabelError(
            f"{file.url}: {bounds!r} counts the globe from another meridian than {reference}, as {dim!r} does, and "
            "--reorder moves values without changing them; turn both in the files first"
        )


def grid_of(file: FileMetadata, dim: str, labels: Mapping[str, Labels]) -> Grid | None:
    """The labels of a dimension; None if it has none."""
    variable = file.variables.get(dim)
    if variable is None or variable.dims != (dim,) or variable.digest is None:
        return None
    return Grid(dim, file.url, labels[variable.digest].values(), variable.attributes, variable.digest)
