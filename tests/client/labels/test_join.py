"""Labels join into one axis, or say where they do not."""

import re
from typing import Any

import cftime
import numpy as np
import pytest

from frazil import LabelError
from frazil.labels.join import Axis, FileLabels, check_labels, difference, drifted, join
from frazil_functions.reading.encoding import native, native_attributes

HOURS = {"units": "hours since 2000-01-01", "calendar": "standard"}


def joined(*files: Any, gaps: Any = "error", dim: str = "time", attributes: Any = HOURS) -> Axis:
    return join(dim, [FileLabels(f"f{at}.nc", np.asarray(values)) for at, values in enumerate(files)], attributes, gaps)


def test_files_join_in_the_order_of_their_labels() -> None:
    axis = joined([4, 5], [0, 1], [2, 3])
    assert axis.values.tolist() == [0, 1, 2, 3, 4, 5]
    assert axis.order == (1, 2, 0)
    assert axis.spans == ((0, 2), (2, 4), (4, 6))
    assert axis.filled == 0


def test_files_of_one_step_each_join() -> None:
    axis = joined([2], [0], [3], [1])
    assert axis.order == (1, 3, 0, 2)


@pytest.mark.parametrize("gaps", ["error", "fill", "keep"])
def test_two_labels_alone_have_no_usual_spacing_and_so_no_gap(gaps: str) -> None:
    assert joined([0], [1000], gaps=gaps).values.tolist() == [0, 1000]


def test_labels_that_fall_join_from_the_largest() -> None:
    axis = joined([3, 2, 1], [6, 5, 4])
    assert axis.values.tolist() == [6, 5, 4, 3, 2, 1]
    assert axis.order == (1, 0)


def test_a_file_of_one_step_falls_with_the_others() -> None:
    assert joined([1], [4, 3, 2]).values.tolist() == [4, 3, 2, 1]


def test_unsigned_labels_that_fall_are_not_taken_for_rising() -> None:
    assert joined(np.array([3, 2], "u4"), np.array([5, 4], "u4")).values.tolist() == [5, 4, 3, 2]


@pytest.mark.parametrize("calendar", ["standard", "noleap", "360_day", "julian", "all_leap"])
@pytest.mark.parametrize("units", ["days since 1850-01-01", "hours since 1990-01-01", "seconds since 2000-01-01"])
def test_months_and_leap_years_are_no_gaps(calendar: str, units: str) -> None:
    dates = [cftime.datetime(year, month, 1, calendar=calendar) for year in range(1999, 2006) for month in range(1, 13)]
    stamps = cftime.date2num(dates, units, calendar)
    axis = joined(stamps[:26], stamps[26:], attributes={"units": units, "calendar": calendar})
    assert axis.values.tolist() == stamps.tolist()


def test_years_of_365_and_366_days_are_no_gaps() -> None:
    dates = [cftime.datetime(year, 7, 1) for year in range(1996, 2012)]
    stamps = cftime.date2num(dates, "days since 1970-01-01")
    assert joined(stamps[:7], stamps[7:]).filled == 0


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ([[0, 1, 2], [4, 5]], "leaves 1 gap; the first is between f0.nc and f1.nc: 2000-01-01 02:00:00 is followed"),
        ([[0, 1, 2, 5, 6]], "leaves 1 gap; the first is in f0.nc: 2000-01-01 02:00:00 is followed by 2000-01-01 05"),
        ([[0, 1, 2], [7, 8], [20, 21]], "leaves 2 gaps; .* \\(5 where 1 is usual\\)"),
        ([[9, 8, 7], [3, 2]], "leaves 1 gap; the first is between f0.nc and f1.nc"),
        ([[0, 1], [1, 2]], "repeat: f0.nc ends and f1.nc begins with the same one"),
        ([[0, 1], [0, 1]], "are the same in f0.nc and f1.nc"),
        ([[0, 1, 2, 3], [2, 3, 4]], "overlap: f0.nc and f1.nc both hold some: 2000-01-01 00:00:00 to 2000-01-01 03"),
        ([[0, 1, 2, 3, 4, 5], [1, 2]], "overlap: f0.nc and f1.nc"),
        ([[0, 2], [1, 3]], "overlap"),
        ([[3, 2], [2, 1]], "repeat: f0.nc ends and f1.nc begins"),
        ([[5], [5]], "are the same in f0.nc and f1.nc"),
        ([[0, 1], [3, 2]], "rises in f0.nc and falls in f1.nc; one of them is flipped"),
        ([[0, 1, 3, 2]], "f0.nc: 'time' is not sorted: at index 3 2000-01-01 02:00:00 follows 2000-01-01 03:00:00"),
        ([[0, 0, 0]], "f0.nc: 'time' is 2000-01-01 00:00:00 both at index 0 and at 1"),
        ([[0, 1], [2, 2]], "f1.nc: 'time' is 2000-01-01 02:00:00 both at index 0 and at 1"),
    ],
)
def test_what_does_not_join_says_where(files: list[list[int]], says: str) -> None:
    with pytest.raises(LabelError, match=says):
        joined(*files)


def test_an_uneven_axis_that_counts_no_time_is_no_gap_within_a_file() -> None:
    depths = [0, 5, 10, 25, 50, 100]
    assert joined(depths, dim="depth", attributes={"units": "m"}).values.tolist() == depths
    assert joined(depths, [140, 300], dim="depth", attributes={}).spans == ((0, 6), (6, 8))


def test_a_gap_between_files_of_an_axis_that_counts_no_time_is_found() -> None:
    with pytest.raises(LabelError, match=r"between f0.nc and f1.nc: 3 is followed by 7"):
        joined([1, 2, 3], [7, 8, 9], dim="level", attributes={})
    with pytest.raises(LabelError, match=r"between f1.nc and f2.nc: 2 is followed by 6"):
        joined([1], [2], [6], [7], dim="level", attributes={})


def test_gaps_are_filled_in_the_type_of_the_labels() -> None:
    axis = joined(np.array([0, 6], "i4"), np.array([24, 30], "i4"), np.array([42, 48], "i4"), gaps="fill")
    assert axis.values.tolist() == [0, 6, 12, 18, 24, 30, 36, 42, 48]
    assert axis.values.dtype == np.dtype("i4")
    assert axis.spans == ((0, 2), (4, 6), (7, 9))
    assert axis.filled == 3


def test_gaps_of_falling_unsigned_labels_are_filled() -> None:
    axis = joined(np.array([9, 8], "u2"), np.array([5, 4, 3], "u2"), gaps="fill")
    assert axis.values.tolist() == [9, 8, 7, 6, 5, 4, 3]


def test_nanoseconds_are_filled_exactly() -> None:
    days = 1_700_000_000_000_000_001 + np.arange(20) * 86_400_000_000_000
    axis = joined(days[:8], days[12:], gaps="fill", attributes={"units": "nanoseconds since 1970-01-01"})
    assert axis.values.tolist() == days.tolist()


def test_files_of_one_step_with_gaps_between_them_are_filled() -> None:
    axis = joined([0], [1], [2], [5], [6], gaps="fill")
    assert (axis.values.tolist(), axis.filled) == ([0, 1, 2, 3, 4, 5, 6], 2)
    assert axis.spans == ((0, 1), (1, 2), (2, 3), (5, 6), (6, 7))


def test_large_fractional_labels_are_filled_on_their_grid() -> None:
    days = 54000 + np.arange(100) / 24
    axis = joined(days[:40], days[57:], gaps="fill", attributes={"units": "days since 1850-01-01"})
    np.testing.assert_allclose(axis.values, days, rtol=0, atol=1e-6)


def test_a_gap_that_is_no_multiple_of_the_spacing_cannot_be_filled() -> None:
    with pytest.raises(LabelError, match=r"cannot be told; use --gaps keep"):
        joined([0, 2, 4], [9, 11], gaps="fill", dim="level", attributes={})


def test_names_join_in_the_order_given_and_may_not_repeat() -> None:
    axis = joined(np.array(["b", "a"]), np.array(["cde"]), dim="member", attributes={})
    assert axis.values.tolist() == ["b", "a", "cde"]
    with pytest.raises(LabelError, match=r"'member' has the label 'a' in f0.nc and again in f1.nc"):
        joined(np.array(["b", "a"]), np.array(["a"]), dim="member", attributes={})


def test_missing_labels_are_refused() -> None:
    check_labels("lat", "f.nc", np.array([1.0, 2.0]), {})
    check_labels("lat", "f.nc", np.array(["a"]), {"_FillValue": "a"})
    with pytest.raises(LabelError, match=r"f.nc: 'lat' is NaN at index 1"):
        check_labels("lat", "f.nc", np.array([1.0, np.nan, np.nan]), {})
    with pytest.raises(LabelError, match=r"f.nc: 'lat' is missing at index 2 .missing_value is -1"):
        check_labels("lat", "f.nc", np.array([1, 2, -1]), {"missing_value": [-1]})


@pytest.mark.parametrize("kind", ["M8[s]", "m8[h]"])
def test_labels_that_an_engine_decodes_to_no_time_are_refused(kind: str) -> None:
    values = np.array([10, "NaT", 30], kind)
    with pytest.raises(LabelError, match=r"f.nc: 'time' is NaT at index 1"):
        check_labels("time", "f.nc", native(values), native_attributes(values.dtype, {}))


@pytest.mark.parametrize(
    ("values", "attributes"),
    [
        (np.array([0, 7], "i4"), {"_FillValue": 7}),
        (np.array([0, 7], "f4"), {"missing_value": [3, 7]}),
        (np.array([0, 255], "u1"), {"_FillValue": -1, "_Unsigned": "false"}),
        (np.array([0, np.inf]), {"_FillValue": "Infinity"}),
    ],
)
def test_labels_that_any_mark_declares_missing_are_refused(values: Any, attributes: dict[str, Any]) -> None:
    with pytest.raises(LabelError, match=r"'time' is missing at index 1"):
        check_labels("time", "f.nc", values, HOURS | attributes)


def test_months_that_are_packed_are_not_filled_by_their_packed_numbers() -> None:
    days = [0, 31, 60, 91, 152, 182]  # the first of months, if they were days
    with pytest.raises(LabelError, match="cannot be told"):
        joined(days[:4], days[4:], gaps="fill", attributes={"units": "days since 2000-01-01", "scale_factor": 2.0})


LATS = np.linspace(-90, 90, 7)
LONS = np.arange(0.0, 360, 45)


@pytest.mark.parametrize(
    ("ours", "theirs", "says"),
    [
        (LATS, LATS[:3], "'d' has 3 labels and not 7"),
        (LATS, LATS[::-1], "'d' is flipped: it runs from 90.0 to -90.0 and not from -90.0 to 90.0"),
        (LATS, LATS[[1, 0, 2, 3, 4, 5, 6]], "'d' has the same labels in another order"),
        (LATS, LATS + 1e-4 * (LATS == -30), "'d' drifts by up to 0.0001, first at index 2.*--accept drift"),
        (LATS, LATS.astype("f4") * np.float32(1 + 1e-7), "'d' drifts by up to"),
        (LONS, (LONS + 180) % 360, "'d' has the same labels in another order"),
        (LONS, LONS - 180, "'d' goes around the globe from another start: -180.0 to 135.0 and not 0.0 to 315.0"),
        (LATS, LATS + 10, "'d' differs first at index 0: -80.0 and not -90.0"),
        (np.array(["a", "b"]), np.array(["a", "c"]), "'d' differs first at index 1: c and not b"),
        (np.array([1, 2]), np.array(["1", "2"]), "'d' differs first at index 0"),
    ],
)
def test_a_difference_is_told_in_words(ours: Any, theirs: Any, says: str) -> None:
    text = difference("d", ours, theirs)
    assert re.match(says, text), text


@pytest.mark.parametrize(("by", "same"), [(0, True), (1e-7, True), (0.029, True), (0.031, False), (30, False)])
def test_drift_is_less_than_a_thousandth_of_the_spacing(by: float, same: bool) -> None:
    assert drifted(LATS, LATS + by) is same


def test_names_and_lengths_do_not_drift() -> None:
    assert not drifted(LATS, LATS[:3])
    assert not drifted(np.array(["a"]), np.array(["b"]))
