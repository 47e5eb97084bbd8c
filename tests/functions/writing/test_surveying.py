"""Looking at values: what range they have, and how much each of their bits tells of its neighbours."""

import math
from itertools import pairwise
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from frazil_functions.errors import ReceiptError, SourceError, VersionError
from frazil_functions.handler import survey as survey_call
from frazil_functions.reading.encoding import json_attributes
from frazil_functions.reading.opening import fingerprint
from frazil_functions.reading.rounding import bit_rounded
from frazil_functions.regions import Region
from frazil_functions.tasks import FileSource
from frazil_functions.writing.surveying import BitPairs, Found, Surveyed, SurveyTask, dump_found, load_found, pairs_of


def bits_of(value: Any) -> list[int]:
    """The bits of a number from the sign to the last, the exponent as sign and amount."""
    info = np.finfo(value.dtype)
    width = 8 * value.dtype.itemsize
    exponents = width - 1 - info.nmant
    raw = int(value.view(f"u{value.dtype.itemsize}"))
    bits = [raw >> at & 1 for at in reversed(range(width))]
    biased = raw >> info.nmant & ((1 << exponents) - 1)
    exponent = 0 if biased == 0 else biased - (1 << (exponents - 1)) + 1
    signed = abs(exponent) | (exponent < 0) << (exponents - 1)
    return [bits[0], *(signed >> at & 1 for at in reversed(range(exponents))), *bits[1 + exponents :]]


def mutual(pairs: list[tuple[int, int]]) -> float:
    """The mutual information of pairs of bits, by its definition."""
    total = 0.0
    for one in (0, 1):
        for other in (0, 1):
            joint = sum(pair == (one, other) for pair in pairs) / len(pairs)
            apart = sum(a == one for a, _ in pairs) * sum(b == other for _, b in pairs) / len(pairs) ** 2
            total += joint * math.log2(joint / apart) if joint else 0
    return total


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_information_is_what_its_definition_says(dtype: str) -> None:
    rng = np.random.default_rng(0)
    values = (np.sin(np.linspace(-4, 9, 600)) + rng.normal(0, 0.01, 600)).astype(dtype)

    found = pairs_of(values, 10_000, ()).information()

    told = [bits_of(value) for value in values]
    wanted = [mutual([(a[at], b[at]) for a, b in pairwise(told)]) for at in range(len(told[0]))]
    chance = 0.5 + NormalDist().inv_cdf(1 - 0.005 / len(told[0])) / (2 * math.sqrt(599))
    least = 1 + chance * math.log2(chance) + (1 - chance) * math.log2(1 - chance)
    np.testing.assert_allclose(found, [one if one > least else 0 for one in wanted], atol=1e-12)
    assert np.count_nonzero(found) > 3


@pytest.mark.parametrize(("noise", "digits"), [(1.0, 6), (0.1, 9), (0.01, 12)])
def test_less_noise_leaves_more_bits(noise: float, digits: int) -> None:
    rng = np.random.default_rng(1)
    field = 280 + 20 * np.sin(np.linspace(0, 20, 1 << 16)) + rng.normal(0, noise, 1 << 16)
    kept = pairs_of(field.astype("f4"), 1 << 20, ()).keepbits("<f4")
    assert kept is not None
    assert abs(kept - digits) <= 1
    assert np.abs(bit_rounded(field.astype("f4"), kept, ()) - field).max() < 6 * noise


def test_values_that_stand_twice_tell_no_more_than_once() -> None:
    rng = np.random.default_rng(1)
    field = 280 + 20 * np.sin(np.linspace(0, 20, 1 << 15)) + rng.normal(0, 0.3, 1 << 15)
    kept = pairs_of(np.repeat(field, 2).astype("f4"), 1 << 20, ()).keepbits("<f4")
    assert kept is not None
    assert abs(kept - 8) <= 1, "equal neighbours have all bits in common, down to the last"


@pytest.mark.parametrize(
    "values",
    [np.full((4, 8), 3.25), np.full((4, 8), np.nan), np.zeros((0, 8)), np.zeros((3, 1)), np.float64(3).reshape(())],
)
def test_what_tells_nothing_leaves_no_number_of_bits(values: Any) -> None:
    assert pairs_of(values, 100, ()).keepbits("<f8") is None


def test_missing_values_are_nobodys_neighbours() -> None:
    values = np.array([[1, 2, np.nan, 4, 5, -9, 7, np.inf]], "f4")
    assert pairs_of(values, 100, (-9,)).count == 2


def test_no_more_is_looked_at_than_was_asked_for() -> None:
    values = np.random.default_rng(0).normal(size=(50, 60, 70)).astype("f4")
    assert 900 <= pairs_of(values, 1000, ()).count <= 1000
    assert pairs_of(values, 10, ()).count <= 10


@given(st.integers(1, 40), st.integers(1, 40))
def test_parts_add_up(one: int, other: int) -> None:
    rng = np.random.default_rng(one * 100 + other)
    rows = rng.normal(size=(one + other, 7)).astype("f4")
    whole = pairs_of(rows, 10**6, ())
    assert pairs_of(rows[:one], 10**6, ()).beside(pairs_of(rows[one:], 10**6, ())) == whole
    assert BitPairs().beside(whole) == whole.beside(BitPairs()) == whole


@pytest.fixture
def task(tmp_path: Path) -> SurveyTask:
    path = tmp_path / "a.nc"
    values = np.array([[1.5, np.nan, -3], [7, np.inf, 2]], "f4")
    given = xr.Dataset({"v": (("x", "y"), values), "w": (("x",), np.array([4.0, 5.0]))})
    given.to_netcdf(path)
    source = FileSource(str(path), "netcdf4", 0, 2, fingerprint(str(path)))
    arrays = {"v": Surveyed("<f4", json_attributes({"_FillValue": np.nan}), 100), "w": Surveyed("<f8", {})}
    rows = tuple(Region("v", (("x", at, at + 1), ("y", 0, 3))) for at in (0, 1))
    return SurveyTask("x", (source,), (*rows, Region("w", (("x", 0, 2),))), arrays)


def test_a_function_finds_the_range_of_its_regions(task: SurveyTask) -> None:
    found = load_found(survey_call(task))
    one = found["v"].summary
    assert (one.count, one.missing, one.infinite, one.low, one.high) == (6, 1, 1, -3, 7)
    assert (found["w"].summary.low, found["w"].summary.high, found["w"].pairs.count) == (4, 5, 0)


def test_a_file_that_has_changed_is_refused(task: SurveyTask) -> None:
    path = Path(task.sources[0].url)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(SourceError, match="changed"):
        survey_call(task)


def test_a_function_of_another_version_looks_at_nothing(task: SurveyTask) -> None:
    other = SurveyTask(task.append_dim, task.sources, task.regions, task.arrays, {"frazil": "0.0.1"})
    with pytest.raises(VersionError, match=r"frazil 0\.0\.1"):
        survey_call(other)


@pytest.mark.parametrize("data", [b"", b"\xc1", dump_found({"v": Found()})[:-1], b"\x81\xa1v\x01"])
def test_bytes_that_say_nothing_of_values_are_refused(data: bytes) -> None:
    assert load_found(dump_found({"v": Found()})) == {"v": Found()}
    with pytest.raises(ReceiptError, match="looking at values"):
        load_found(data)


@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_noise_tells_nothing(kind: str) -> None:
    told = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        values = rng.normal(size=20_000) if kind == "normal" else rng.uniform(size=20_000)
        told.append(pairs_of(values.astype("f4"), 20_000, ()).keepbits("<f4"))
    assert sum(bits is not None for bits in told) <= 1
