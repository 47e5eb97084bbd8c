"""Where labels land: under the target's own, however the file has them."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frazil.labels.place import Grid, place
from frazil_functions.errors import LabelError

EAST = {"units": "degrees_east"}


def grid(values: Any, **attributes: Any) -> Grid:
    return Grid("x", "file.nc", np.asarray(values), attributes)


def landed(target: Any, file: Any, **options: Any) -> tuple[tuple[int, int], list[float]]:
    """The extent, and what is found there once every piece is put in its place."""
    options = {"reorder": False, "drift": False} | options
    attributes = options.pop("attributes", {})
    found = place(grid(target, **attributes), grid(file, **attributes), **options)
    low, high = found.extent
    asked = np.asarray(file)
    whole = np.full(high - low, np.nan) if asked.dtype.kind in "iuf" else np.full(high - low, "", object)
    for piece in found.pieces:
        pair = piece.part(low, high)
        assert pair is not None
        ours, theirs = pair
        whole[ours.start - low : ours.stop - low] = asked[theirs][:: piece.step]
    return found.extent, whole.tolist()


@given(st.data())
def test_every_label_of_a_permuted_part_lands_on_its_own(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 12))
    target = np.cumsum(data.draw(st.lists(st.integers(1, 5), min_size=count, max_size=count))) - 7.5
    low = data.draw(st.integers(0, count - 1))
    high = data.draw(st.integers(low + 1, count))
    file = data.draw(st.permutations(target[low:high].tolist()))
    extent, found = landed(target, file, reorder=True)
    assert extent == (low, high)
    assert found == target[low:high].tolist()


@given(st.integers(1, 30), st.data())
def test_a_part_of_any_piece_is_what_lies_there(count: int, data: st.DataObject) -> None:
    target = np.arange(count)
    file = data.draw(st.sampled_from([target, target[::-1], np.roll(target, data.draw(st.integers(0, count)))]))
    found = place(grid(target), grid(file), reorder=True, drift=False)
    low = data.draw(st.integers(0, count - 1))
    high = data.draw(st.integers(low + 1, count))
    seen = []
    for piece in found.pieces:
        pair = piece.part(low, high)
        if pair is not None:
            seen += list(zip(range(pair[0].start, pair[0].stop), file[pair[1]][:: piece.step].tolist(), strict=True))
    assert sorted(seen) == [(at, at) for at in range(low, high)]


@pytest.mark.parametrize(
    ("target", "file"),
    [
        ([0.1, 0.2, 0.3], np.array([0.1, 0.2, 0.3], "f4")),
        (np.array([10.1, 10.2], "f4"), [10.1, 10.2]),
        ([1, 2, 3], [1.0, 2.0, 3.0]),
        ([0.0, 1e-9], [0.0, 1e-9]),
    ],
)
def test_labels_that_were_rounded_mean_the_same(target: Any, file: Any) -> None:
    assert landed(target, file)[0] == (0, len(target))


@pytest.mark.parametrize(
    ("target", "file", "attributes", "says"),
    [
        ([0, 1, 2], [2, 1, 0], {}, "is flipped: it runs 2 to 0 .3 labels., and in file.nc 0 to 2 .3 labels."),
        ([0, 1, 2, 3], [2, 3, 0, 1], {}, "goes around the globe from another start"),
        ([0, 90, 180, 270], [-180, -90, 0, 90], EAST, "goes around the globe from another start"),
        ([0, 90], [-360, -270], EAST, "counts the globe from another meridian"),
        ([0, 1, 2, 3], [0, 2, 1, 3], {}, "has its labels in another order"),
        ([0, 1, 2], [0, 1, 5], {}, "has the label 5, which file.nc does not have: it runs 0 to 5"),
        ([0, 90, 180], [-90, 0, 90], {}, "has the label -90"),
        ([0, 1, 2, 3], [0, 2], {}, "leaves out some"),
        (["a", "b"], ["b", "c"], {}, "has the label c"),
        ([0.0, 1.0], [0.0005, 1.0], {}, "drifts from .*0.0005 is none of its labels. --accept drift"),
        ([0, 1], [], {}, "has no labels"),
    ],
)
def test_what_is_not_the_targets_grid_is_refused_with_both(target: Any, file: Any, attributes: Any, says: str) -> None:
    with pytest.raises(LabelError, match=says):
        landed(target, file, attributes=attributes)


@pytest.mark.parametrize("file", [[0, 2], [0, 5], [0, 0]])
def test_reordering_puts_nothing_where_it_does_not_belong(file: Any) -> None:
    with pytest.raises(LabelError):
        landed([0, 1, 2, 3], file, reorder=True)


def test_degrees_of_another_start_land_on_their_meridian() -> None:
    extent, found = landed([0, 90, 180, 270], [-180, -90, 0, 90], attributes=EAST, reorder=True)
    assert (extent, found) == ((0, 4), [0, 90, -180, -90])


def test_drift_is_accepted_where_it_is_asked_for() -> None:
    assert landed([0.0, 1.0], [0.0005, 1.0], drift=True)[0] == (0, 2)
    with pytest.raises(LabelError):
        landed([0.0, 1.0], [0.005, 1.0], drift=True)


def test_names_land_by_name() -> None:
    assert landed(["a", "b", "c"], ["c", "b"], reorder=True) == ((1, 3), ["b", "c"])
