import json
from pathlib import Path
from typing import Any

import cftime
import numpy as np
import pytest
import xarray as xr
import zarr
import zarr.errors
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from frazil_functions.errors import InvalidInputError
from frazil_functions.reading.encoding import (
    STRING,
    checksum,
    fill_of,
    has_fill,
    json_attributes,
    json_value,
    native,
    native_attributes,
    number,
    plain_attributes,
    recode,
    stored_attributes,
)

NUMBERS = ["|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8", "<c8", "<c16"]


def store(path: Path, dtype: str, attributes: dict[str, Any], values: Any) -> Path:
    """A store with one variable, half of it written, as the template makes it."""
    root = zarr.open_group(path, mode="w", zarr_format=3)
    array = root.create_array(
        "v",
        shape=(4,),
        dtype="string" if dtype == STRING else dtype,
        chunks=(2,),
        dimension_names=("x",),
        attributes=stored_attributes(dtype, json_attributes(attributes)),
        fill_value=fill_of(dtype, json_attributes(attributes)),
    )
    array[:2] = values
    return path


def reopened(path: Path) -> xr.DataArray:
    with xr.open_zarr(path, consolidated=False, chunks=None) as dataset:
        return dataset["v"].load()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5),
        (np.int8(-3), -3),
        (np.array([True])[0], True),
        (np.array([1, 2], "i2"), [1, 2]),
        (np.array(7), 7),
        (b"caf\xc3\xa9", "café"),
        (b"\xff", "\ufffd"),
        (np.bytes_(b"K"), "K"),
        (np.array(["a", "b"]), ["a", "b"]),
        (float("nan"), "NaN"),
        (np.float32("inf"), "Infinity"),
        (np.array([1.0, -np.inf]), [1.0, "-Infinity"]),
        ((1, [2.5, np.nan]), [1, [2.5, "NaN"]]),
        ({"a": np.nan}, {"a": "NaN"}),
        (None, None),
        (1 + 2j, "(1+2j)"),
    ],
)
def test_an_attribute_becomes_what_json_can_hold(value: object, expected: object) -> None:
    assert json_value(value) == expected
    json.dumps(json_value(value), allow_nan=False)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("-Infinity", -np.inf), ([3, 4], 3), ([], None), ("text", "text"), ({"a": 1}, None), (None, None)],
)
def test_a_number_is_taken_out_of_its_attribute(value: Any, expected: object) -> None:
    assert number(value) == expected


@pytest.mark.parametrize("dtype", [*NUMBERS, "|S3", STRING])
@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")  # S3 has no specification yet
def test_every_type_is_stored_and_reads_back_through_xarray(tmp_path: Path, dtype: str) -> None:
    values = np.array(["ab", "é"], object) if dtype == STRING else np.array([1, 0]).astype(dtype)
    found = reopened(store(tmp_path / "s", dtype, {"units": "1"}, values))
    assert found.values[:2].tolist() == values.tolist()
    assert found.attrs["units"] == "1"


@pytest.mark.parametrize(
    ("dtype", "attributes"),
    [
        ("<f4", {}),
        ("<f2", {"_FillValue": np.float16(-1)}),
        ("<f8", {"_FillValue": np.float64(1e20)}),
        ("<f4", {"_FillValue": np.float32(1e20), "missing_value": np.float32(1e20)}),
        ("<f4", {"_FillValue": np.float32("nan"), "missing_value": np.float32("nan")}),
        ("<f4", {"missing_value": np.float32(-9.5)}),
        ("<f8", {"missing_value": np.array([-1.0, np.nan])}),
        ("<f8", {"_FillValue": np.inf}),
        ("<f8", {"missing_value": np.inf}),
        ("<i2", {"_FillValue": np.int16(-7), "scale_factor": np.float32(0.5), "add_offset": 10.0}),
        ("|i1", {"_FillValue": np.int8(-1), "_Unsigned": "true"}),
        ("<i4", {"missing_value": np.int32(99)}),
    ],
)
def test_what_nobody_wrote_reads_as_missing(tmp_path: Path, dtype: str, attributes: dict[str, Any]) -> None:
    found = reopened(store(tmp_path / "s", dtype, attributes, np.array([1, 2], dtype)))
    assert np.isnan(found.values).tolist() == [False, False, True, True]
    scale, offset = float(attributes.get("scale_factor", 1)), float(attributes.get("add_offset", 0))
    assert found.values[:2].tolist() == [1 * scale + offset, 2 * scale + offset]
    assert has_fill(dtype, json_attributes(attributes))


@pytest.mark.parametrize("dtype", ["<i2", "|u1", "|b1"])
def test_whole_numbers_without_a_fill_value_have_no_missing_ones(dtype: str) -> None:
    assert not has_fill(dtype, {})
    assert fill_of(dtype, {}) == 0


@pytest.mark.parametrize("attributes", [{"missing_value": np.nan}, {"missing_value": 1e20}, {"_FillValue": 0.5}])
def test_a_fill_value_that_the_type_does_not_have_is_none(attributes: dict[str, Any]) -> None:
    assert not has_fill("<i2", json_attributes(attributes))
    assert fill_of("<i2", json_attributes(attributes)) == 0


@pytest.mark.parametrize("name", ["missing_value", "_FillValue"])
def test_a_fill_of_nan_on_whole_numbers_leaves_the_store_readable(tmp_path: Path, name: str) -> None:
    found = reopened(store(tmp_path / "s", "<i2", {name: np.nan}, np.array([1, 2])))
    assert found.values.tolist() == [1, 2, 0, 0]


@given(st.floats(width=32), st.sampled_from(["<f4", "<f8"]))
def test_the_fill_value_comes_back_from_its_stored_form(fill: float, dtype: str) -> None:
    attributes = json_attributes({"_FillValue": fill, "units": "K"})
    assert plain_attributes(dtype, stored_attributes(dtype, attributes)) == attributes


numeric = hnp.arrays(
    st.sampled_from([np.dtype(name) for name in NUMBERS]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
)


@given(numeric)
def test_the_checksum_knows_neither_layout_nor_byte_order(values: np.ndarray[Any, Any]) -> None:
    expected = checksum(values)
    assert checksum(np.asfortranarray(values)) == expected
    assert checksum(values.astype(values.dtype.newbyteorder(">"))) == expected
    wide = np.zeros((*values.shape, 2), values.dtype)
    wide[..., 0] = values
    assert checksum(wide[..., 0]) == expected


@given(numeric, st.data())
def test_the_checksum_changes_with_any_element(values: np.ndarray[Any, Any], data: st.DataObject) -> None:
    if not values.size:
        return
    other = values.copy()
    at = data.draw(st.integers(0, values.size - 1))
    bits = other.reshape(-1).view("u1")
    bits[at * values.itemsize] ^= 1
    with np.errstate(invalid="ignore"):  # a bit can make a NaN that signals
        same = np.array_equal(values, other, equal_nan=values.dtype.kind in "fc")
    assert (checksum(values) == checksum(other)) == same


def test_the_checksum_counts_every_nan_as_one_value_also_beyond_the_first_piece() -> None:
    values = np.zeros(600_000, "f4")
    values[500_000] = np.nan
    other = values.copy()
    other.view("u4")[500_000] |= 0x80000001
    assert np.isnan(other[500_000])
    assert checksum(values) == checksum(other)
    assert np.signbit(other[500_000])


def test_the_checksum_leaves_its_input_as_it_was() -> None:
    values = np.array([1.0, np.nan])
    checksum(values)
    assert values.flags.writeable


def test_strings_count_with_their_lengths_and_in_any_type() -> None:
    texts = ["a", "bc", "", "é"]
    forms = [np.array(texts, dtype) for dtype in (object, "U", "U9", np.dtypes.StringDType())]
    assert len({checksum(form) for form in forms}) == 1
    assert checksum(np.array(["ab", "c"])) != checksum(np.array(["a", "bc"]))


@pytest.mark.parametrize("dtype", [">f4", ">i8", ">U3", np.dtypes.StringDType()])
def test_native_values_are_the_same_in_the_machines_byte_order(dtype: Any) -> None:
    values = np.array(["1", "2"]).astype(dtype)
    assert native(values).dtype.isnative
    assert native(values).tolist() == values.tolist()


def test_dates_become_numbers_with_units_that_say_which() -> None:
    dates = np.array(["1970-01-02", "2262-01-01"], "M8[s]")
    attributes = native_attributes(dates.dtype, {})
    back = xr.decode_cf(xr.Dataset({"t": ("x", native(dates), attributes)}))["t"]
    assert (back.values == dates).all()


def recoded(values: Any, own: dict[str, Any], target: dict[str, Any], dtype: str) -> np.ndarray[Any, Any]:
    return recode("v", xr.Variable(("x",), values, own), json_attributes(target), dtype)


@given(hnp.arrays("i2", 5, elements=st.integers(-1000, 1000)))
def test_other_packing_gives_the_same_values(packed: np.ndarray[Any, Any]) -> None:
    own = {"scale_factor": 0.5, "add_offset": 100.0, "_FillValue": np.int16(-999)}
    target = {"scale_factor": 0.25, "add_offset": 20.0, "_FillValue": np.int32(-(2**31))}
    stored = recoded(packed, own, target, "<i4")
    decoded = [
        xr.conventions.decode_cf_variable("v", xr.Variable("x", *pair)) for pair in ((packed, own), (stored, target))
    ]
    np.testing.assert_array_equal(decoded[0].values, decoded[1].values)
    assert (recoded(stored, target, own, "<i2") == packed).all()


def test_another_fill_value_keeps_whole_numbers_that_no_double_holds() -> None:
    values = np.array([2**63 - 1, -1, 2**53 + 1])
    stored = recoded(values, {"_FillValue": np.int64(-1)}, {"_FillValue": np.int64(-(2**63))}, "<i8")
    assert stored.tolist() == [2**63 - 1, -(2**63), 2**53 + 1]


@pytest.mark.parametrize("dtype", ["<i2", "<f4"])
def test_another_fill_value_alone_leaves_packed_numbers_as_they_are(dtype: str) -> None:
    packing = {"scale_factor": np.float32(0.1), "add_offset": np.float32(1e5)}
    values = np.arange(-30_000, 30_000, 7).astype(dtype)
    own, target = packing | {"_FillValue": values[3]}, packing | {"_FillValue": -32768}
    want = np.where(values == values[3], -32768, values)
    np.testing.assert_array_equal(recoded(values, own, target, dtype), want)


def test_a_number_between_two_steps_of_a_packing_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="would be rounded"):
        recoded(np.array([1.0, 1.3]), {}, {"scale_factor": 0.5}, "<i2")


def test_an_infinite_fill_value_marks_what_is_missing() -> None:
    stored = recoded(np.array([np.inf, 1.0]), {"_FillValue": np.inf}, {"_FillValue": -1.0}, "<f8")
    assert stored.tolist() == [-1.0, 1.0]


def test_unsigned_numbers_keep_their_meaning() -> None:
    own = {"_Unsigned": "true", "_FillValue": np.int8(-1)}
    assert recoded(np.array([-2, -1, 3], "i1"), own, {"_FillValue": 0}, "|u1").tolist() == [254, 0, 3]
    assert recoded(np.array([254, 0, 3], "u1"), {"_FillValue": 0}, own, "|i1").tolist() == [-2, -1, 3]


@pytest.mark.parametrize(
    ("values", "target", "dtype"),
    [
        ([75.0], {"scale_factor": 0.5}, "|i1"),
        ([-1.0], {}, "|u1"),
        ([np.inf], {}, "<i4"),
        ([2.0**63], {}, "<i8"),
        ([1e300], {}, "<f4"),
        ([2**24 + 1], {}, "<f4"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(values: list[float], target: dict[str, Any], dtype: str) -> None:
    with pytest.raises(InvalidInputError, match=r"wrap|do not fit|digits"):
        recoded(np.array(values), {}, target, dtype)


def test_a_value_that_would_read_as_missing_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="read as missing"):
        recoded(np.array([-999.0, 1.0]), {"_FillValue": 1e20}, {"_FillValue": -999.0}, "<f8")


def test_missing_values_without_a_fill_value_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="no fill value"):
        recoded(np.array([1.0, np.nan]), {}, {}, "<i4")


@pytest.mark.parametrize("dtype", ["|S1", "|S4", STRING, "|b1"])
def test_what_is_no_number_keeps_its_shape(dtype: str) -> None:
    values = np.array([1, 0]).astype("S1" if dtype != "|b1" else "i1")
    stored = recoded(values, {}, {}, dtype)
    assert stored.shape == (2,)
    assert stored.dtype == (object if dtype == STRING else dtype)


CALENDARS = ["standard", "gregorian", "proleptic_gregorian", "noleap", "365_day", "all_leap", "360_day", "julian"]


@pytest.mark.parametrize("calendar", CALENDARS)
@pytest.mark.parametrize("dtype", ["<i8", "<f8", "<i4"])
@settings(max_examples=20)
@given(days=st.lists(st.integers(0, 40_000), min_size=1, max_size=5))
def test_times_in_other_units_are_the_same_dates(calendar: str, dtype: str, days: list[int]) -> None:
    own = {"units": "days since 1950-01-01", "calendar": calendar}
    target = {"units": "hours since 1949-12-01 06:00", "calendar": calendar}
    stored = recoded(np.array(days, dtype), own, target, dtype)
    assert stored.dtype == dtype
    ours = cftime.num2date(stored, target["units"], calendar)
    assert (ours == cftime.num2date(days, own["units"], calendar)).all()
    assert recoded(stored, target, own, dtype).tolist() == days


def test_nanoseconds_keep_every_digit() -> None:
    own = {"units": "nanoseconds since 2000-01-01"}
    target = {"units": "nanoseconds since 1970-01-01"}
    assert recoded(np.array([1]), own, target, "<i8").tolist() == [946684800 * 10**9 + 1]


@pytest.mark.parametrize(
    ("values", "dtype"),
    [([25], "<i8"), ([0.5], "<i4"), ([24 * 200], "|i1"), ([24 * 20_000_001], "<f4"), ([1.0], "<f4")],
)
def test_times_that_would_be_rounded_are_refused(values: list[float], dtype: str) -> None:
    own, target = {"units": "hours since 2000-01-01"}, {"units": "days since 2000-01-01"}
    with pytest.raises(InvalidInputError, match="would be rounded"):
        recoded(np.array(values), own, target, dtype)


def test_missing_times_stay_missing() -> None:
    own = {"units": "hours since 2000-01-01", "_FillValue": np.int32(-1)}
    target = {"units": "days since 2000-01-01", "_FillValue": np.nan}
    np.testing.assert_array_equal(recoded(np.array([-1, 36], "i4"), own, target, "<f8"), [np.nan, 1.5])


@pytest.mark.parametrize(
    ("own", "target"),
    [
        ({"units": "days since 2000-01-01", "calendar": "noleap"}, {"units": "days since 2000-01-01"}),
        ({"units": "days since 2000-01-01"}, {"units": "K"}),
        ({"units": "months since 2000-01-01"}, {"units": "days since 2000-01-01"}),
        ({"units": "days since yesterday"}, {"units": "days since 2000-01-01"}),
    ],
)
def test_times_that_do_not_compare_are_refused(own: dict[str, Any], target: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="'v'"):
        recoded(np.array([1]), own, target, "<f8")


@pytest.mark.parametrize("attributes", [{"units": "days"}, {"units": "hours", "dtype": "timedelta64[ns]"}])
def test_a_length_of_time_is_a_number_like_any_other(attributes: dict[str, Any]) -> None:
    assert recoded(np.array([36], "i4"), attributes, attributes | {"_FillValue": -1}, "<i4").tolist() == [36]
