"""Rounding on purpose: how far a value may be moved, and what is never moved, for every type and any range."""

import json
import math
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import example, given, reject
from hypothesis import strategies as st
from numcodecs import BitRound

from frazil_functions.errors import InvalidInputError
from frazil_functions.reading.encoding import recode, rounds
from frazil_functions.reading.rounding import BITS, ERROR, KEEPBITS, PACKED_TYPES, Clipped, Packing, bit_rounded

LITTLE = [np.dtype(name).newbyteorder("<").str for name in PACKED_TYPES]
FINITE = st.floats(allow_nan=False, allow_infinity=False)
HUGE = float(np.finfo("f8").max)


def read(codes: Any, attributes: dict[str, Any]) -> Any:
    """What Xarray makes of codes, with attributes that went through JSON as they do in a store."""
    stored = xr.Variable(("x",), codes, json.loads(json.dumps(attributes)))
    return xr.conventions.decode_cf_variable("v", stored).values


def exact_error(values: Any, found: Any) -> float:
    """The largest difference, in integers, so that nothing of it is rounded away."""
    pairs = zip(values.tolist(), found.tolist(), strict=True)
    return max((abs(math.fsum([one, -other])) for one, other in pairs), default=0.0)


def over(dtype: str, low: float, high: float) -> Packing:
    try:
        return Packing.over(dtype, low, high)
    except InvalidInputError:  # a range that no type without a sign can have
        assert np.dtype(dtype).kind == "u"
        assert not math.isfinite(high - low) or high - low > HUGE / 2
        reject()


@given(
    st.sampled_from(LITTLE),
    st.lists(st.one_of(FINITE, st.floats(-400, 400)), min_size=1, max_size=40),
    st.lists(st.integers(0, 45), max_size=5),
)
@example(
    "<i2", [2.0**33 - 49151 * 2.0**-19, 2.0**33 + 2.0**-19, 2.0**33 + 49151 * 2.0**-19], []
)  # doubles are 2/3 step apart
def test_what_is_read_is_no_further_from_what_was_packed_than_is_recorded(
    dtype: str, numbers: list[float], gaps: list[int]
) -> None:
    packing = over(dtype, min(numbers), max(numbers))
    values = np.array(numbers)
    for at in gaps:
        values = np.insert(values, min(at, len(values)), np.nan)

    found = read(packing.pack("v", values, (), None), packing.attributes())

    present = ~np.isnan(values)
    np.testing.assert_array_equal(np.isnan(found), ~present)
    assert exact_error(values[present], found[present]) <= packing.attributes()[ERROR]


@given(st.sampled_from(LITTLE), st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_single_precision_is_packed_like_double(dtype: str, numbers: list[float]) -> None:
    values = np.array(numbers, "f4")
    packing = over(dtype, float(values.min()), float(values.max()))

    found = read(packing.pack("v", values, (), None), packing.attributes())

    assert exact_error(values.astype("f8"), found) <= packing.error


@given(st.sampled_from(LITTLE), FINITE, FINITE, st.lists(st.floats(allow_nan=False), min_size=1, max_size=30))
def test_no_value_wraps_or_gets_the_code_of_what_is_missing(
    dtype: str, one: float, other: float, numbers: list[float]
) -> None:
    low, high = sorted((one, other))
    packing = over(dtype, low, high)
    values = np.array(numbers)

    codes = packing.pack("v", values, (), Clipped())

    assert packing.fill not in codes.tolist()
    found = read(codes, packing.attributes())
    assert exact_error(np.clip(values, *packing.range), found) <= packing.error
    inside = (values >= packing.range[0] - packing.step / 4) & (values <= packing.range[1] + packing.step / 4)
    if not inside.all():
        with pytest.raises(InvalidInputError, match="it would wrap"):
            packing.pack("v", values[~inside], (), None)


@given(
    st.sampled_from(LITTLE),
    st.sampled_from(["f2", "f4", "f8"]),
    st.lists(st.sampled_from([math.nan, math.inf, -1e4, 9.5, 10.0, 12.5, 17.0, 20.0, 20.5, 6e4]), max_size=12),
    st.lists(st.sampled_from([math.nan, math.inf, -1e4, 12.5, 6e4, 1e300]), max_size=3),
)
def test_each_value_is_packed_missing_or_out_of_range_whatever_stands_beside_it(
    dtype: str, held: str, numbers: list[float], marks: list[float]
) -> None:
    packing, clipped = Packing.over(dtype, 10.0, 20.0), Clipped()
    marks = [mark for mark in marks if abs(mark) <= float(np.finfo(held).max) or math.isinf(mark)]

    codes = packing.pack("v", np.array(numbers, held), marks, clipped).tolist()

    def is_missing(value: float) -> bool:
        return math.isnan(value) or value in marks

    assert codes == [packing.fill if is_missing(value) else packing.code(value) for value in numbers]
    beyond = [value for value in numbers if not is_missing(value) and not 10 <= value <= 20]
    assert clipped.counts.get("v", 0) == len(beyond)
    if beyond:
        furthest = max(abs(value - 15) for value in beyond)
        assert abs(clipped.furthest["v"][0] - 15) == furthest
        with pytest.raises(InvalidInputError, match="it would wrap"):
            packing.pack("v", np.array(numbers, held), marks, None)


@given(st.sampled_from(LITTLE), FINITE)
@example("<i2", 5e-324)
def test_a_single_value_is_packed_exactly_and_no_other_one_is(dtype: str, value: float) -> None:
    packing = Packing.over(dtype, value, value)

    codes = packing.pack("v", np.array([value, np.nan]), (), None)

    assert read(codes, packing.attributes())[0] == value
    assert codes[1] == packing.fill
    for other in (math.nextafter(value, math.inf), math.nextafter(value, -math.inf)):
        if abs(other) < HUGE and abs(other - value) > 1e-290:  # smaller differences are steps of their own
            with pytest.raises(InvalidInputError, match="it would wrap"):
                packing.pack("v", np.array([other]), (), None)


def test_a_range_without_a_sign_that_doubles_cannot_span_is_refused_with_the_cure() -> None:
    with pytest.raises(InvalidInputError, match=r"too wide for uint16.*a type with a sign"):
        Packing.over("<u2", -HUGE, HUGE)
    packing = Packing.over("<i2", -HUGE, HUGE)
    assert read(packing.pack("v", np.array([-HUGE, 0, HUGE]), (), None), packing.attributes())[1] == 0


def test_a_value_out_of_range_is_named_with_the_range_and_the_cure() -> None:
    packing = Packing.over("<i2", -10, 30)
    with pytest.raises(
        InvalidInputError, match=r"'tas' has the value 75, .* int16 it holds -10 to 30; .*--pack-range tas="
    ):
        packing.pack("tas", np.array([0, 75.0]), (), None)
    for endless in (np.inf, -np.inf):
        with pytest.raises(InvalidInputError, match="inf"):
            packing.pack("tas", np.array([0, endless]), (), None)


def test_values_are_told_from_what_marks_them_missing_in_every_part_of_a_large_array() -> None:
    values = np.linspace(-10, 30, 200_001, dtype="f4")
    values[::1000] = 1e20
    values[1::1000] = np.nan
    packing = Packing.over("<i2", -10, 30)

    found = read(packing.pack("v", values, (1e20,), None), packing.attributes())

    missing = np.isnan(values) | (values == np.float32(1e20))
    np.testing.assert_array_equal(np.isnan(found), missing)
    assert np.abs(found - values)[~missing].max() <= packing.error
    assert np.abs(found - values)[~missing].max() > packing.step / 3, "the bound is no larger than it need be"


@pytest.mark.parametrize(
    "change",
    [
        {"scale_factor": 0.0},
        {"scale_factor": -1.0},
        {"scale_factor": float("nan")},
        {"scale_factor": "1"},
        {"add_offset": float("inf")},
        {"_FillValue": 0},
        {"_FillValue": None},
        {"_FillValue": -32767},
        {"_Unsigned": "true"},
        {ERROR: 0.0},
        {ERROR: "small"},
    ],
)
def test_a_packing_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    said = Packing.over("<i2", 0, 1).attributes()
    assert rounds("<i2", said)
    with pytest.raises(InvalidInputError, match="write the array anew"):
        rounds("<i2", said | change)


@pytest.mark.parametrize("bits", [0, 24, -1, 7.5, "7", True, [7, 8]])
def test_bits_that_a_type_does_not_have_are_refused(bits: Any) -> None:
    assert rounds("<f4", {KEEPBITS: 23})
    assert rounds("<f4", {KEEPBITS: [7]})
    assert not rounds("<f4", {BITS: 7}), "files of others say that, and ask for nothing"
    with pytest.raises(InvalidInputError, match="float32 has 1 to 23 bits"):
        rounds("<f4", {KEEPBITS: bits})


def test_arrays_that_do_not_say_that_they_lose_anything_do_not() -> None:
    said = Packing.over("<i2", 0, 1).attributes()
    assert not rounds("<i2", {key: one for key, one in said.items() if key != ERROR})
    assert not rounds("<f4", said)
    assert not rounds("<i4", {KEEPBITS: 7})
    assert not rounds("string", said | {KEEPBITS: 7})


@given(st.sampled_from(["f2", "f4", "f8"]), st.data())
def test_bits_are_rounded_as_numcodecs_rounds_them(dtype: str, data: st.DataObject) -> None:
    most = np.finfo(dtype).nmant
    bits = data.draw(st.integers(1, most))
    width = {"f2": 16, "f4": 32, "f8": 64}[dtype]
    large = float(np.finfo(dtype).max) / 4
    numbers = data.draw(st.lists(st.floats(-large, large, width=width), min_size=1))  # type: ignore[arg-type]
    values = np.array(numbers, dtype)

    found = bit_rounded(values, bits, ())

    codec = BitRound(keepbits=bits)
    np.testing.assert_array_equal(found, codec.decode(codec.encode(values.copy())).reshape(-1))
    normal = np.abs(values) >= np.finfo(dtype).smallest_normal
    errors = np.abs(found.astype("f8") - values)[normal]
    assert (errors <= np.abs(values.astype("f8"))[normal] * 2.0 ** -(bits + 1)).all()
    np.testing.assert_array_equal(bit_rounded(found, bits, ()), found)


def test_what_is_missing_or_infinite_keeps_every_bit() -> None:
    payload = np.array([0x7F800001, 0xFFFFFFFF, 0x7FC00000, 0x7F800000, 0xFF800000], "u4")
    values = np.concatenate([payload.view("f4"), np.array([1.2345e20, 3.1234], "f4")])

    found = bit_rounded(values, 3, (1.2345e20,))

    np.testing.assert_array_equal(found[:-1].view("u4"), values[:-1].view("u4"))
    assert found[-1] == 3.0


def test_no_value_becomes_missing_or_infinite() -> None:
    values = np.array([-9998.7, np.finfo("f4").max, 2.1], "f4")
    np.testing.assert_array_equal(bit_rounded(values, 13, (-9999.0,))[:2], values[:2])
    assert bit_rounded(values, 13, ())[0] == -9999


def test_recoding_rounds_only_where_the_target_says_so() -> None:
    packing = Packing.over("<i2", 0, 1)
    half = xr.Variable(("x",), np.array([0.1234567, np.nan, -999], "f4"), {"_FillValue": np.float32(-999)})
    said = packing.attributes()

    found = recode("v", half, said, "<i2")

    np.testing.assert_array_equal(np.isnan(read(found, said)), [False, True, True])
    with pytest.raises(InvalidInputError, match="they would be rounded"):
        recode("v", half, {key: one for key, one in said.items() if key != ERROR}, "<i2")
    assert recode("v", half, {KEEPBITS: 3, "_FillValue": "NaN"}, "<f4")[0] == np.float32(0.125)
    assert np.isnan(recode("v", half, {KEEPBITS: 3, "_FillValue": "NaN"}, "<f4")[2]), "it marked what is missing"
    np.testing.assert_array_equal(recode("v", half, {"_FillValue": "NaN"}, "<f4")[0], half.values[0])


def test_what_is_packed_alike_is_copied_and_what_is_packed_otherwise_is_packed_anew() -> None:
    packing = Packing.over("<i2", 0, 1)
    said = packing.attributes()
    codes = np.array([-32767, 0, 32767, -32768], "i2")
    np.testing.assert_array_equal(recode("v", xr.Variable(("x",), codes, said), said, "<i2"), codes)

    other = {"scale_factor": 0.001, "add_offset": 0.5, "_FillValue": np.int16(-1)}
    found = recode("v", xr.Variable(("x",), np.array([-500, 499, -1], "i2"), other), said, "<i2")

    np.testing.assert_allclose(read(found, said), [0, 0.999, np.nan], atol=packing.error + 1e-12)
    with pytest.raises(InvalidInputError, match=r"1\.5.*it would wrap"):
        recode("v", xr.Variable(("x",), np.array([1000], "i2"), other), said, "<i2")


def test_time_is_never_rounded() -> None:
    said = Packing.over("<i2", 0, 1).attributes() | {"units": "days since 2000-01-01"}
    with pytest.raises(InvalidInputError, match="counts time"):
        recode("v", xr.Variable(("x",), np.array([0.5]), {"units": "days since 2000-01-01"}), said, "<i2")


def test_what_is_clipped_is_counted_with_the_value_furthest_out() -> None:
    clipped = Clipped()
    packing = Packing.over("<i2", -10, 30)
    packing.pack("v", np.array([0, 31, np.nan, -999, 20.0]), (-999,), clipped)
    packing.pack("v", np.array([-70.0, 50]), (), clipped)
    packing.pack("w", np.array([5.0]), (), clipped)
    assert clipped.counts == {"v": 3}
    assert clipped.furthest["v"][0] == -70


@pytest.mark.parametrize("said", [{"valid_max": 290.0}, {"valid_range": [250.0, 290.0]}, {"valid_min": [289.0]}])
def test_a_valid_value_is_not_rounded_to_one_that_is_not(said: dict[str, object]) -> None:
    values = np.array([289.9, 288.1, 5000.1], "f4")
    low, high = 289 if "valid_min" in said else -np.inf, np.inf if "valid_min" in said else 290
    found = recode("v", xr.Variable(("x",), values), {KEEPBITS: 2, **said}, "<f4")
    inside = (values >= low) & (values <= high)
    assert ((found >= low) & (found <= high))[inside].all()
    assert found[2] == bit_rounded(values, 2, ())[2] != values[2]
