"""Packing and bit rounding from end to end: files, datasets and graphs in, what Xarray alone reads out."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import xarray as xr

import frazil
from frazil.cli.app import main
from frazil.execution.executor import Calls
from frazil_functions.reading.rounding import BITS, ERROR, KEEPBITS, OVERFLOW
from frazil_functions.writing.surveying import Found, dump_found

from .hourly import read, state
from .meddling import Answering

SERIAL = frazil.SerialExecutor
HOURS = {"units": "hours since 2000-01-01", "dtype": "i4"}


def weather(start: int, stop: int, *, dtype: str = "f4", offset: float = 0.0) -> xr.Dataset:
    """Smooth fields with some noise and some gaps; the whole numbers and the mask are as files have them."""
    rng = np.random.default_rng(start)
    shape = (stop - start, 12, 18)
    tas = 280 + 20 * np.sin(np.linspace(0, 3, shape[1]))[:, None] + rng.normal(size=shape) + offset
    tas[0, 3, :5] = np.nan
    return xr.Dataset(
        {
            "tas": (("time", "lat", "lon"), tas.astype(dtype), {"units": "K"}),
            "pr": (("time", "lat", "lon"), rng.gamma(1, 1e-5, shape).astype(dtype), {"units": "kg m-2 s-1"}),
            "count": (("time", "lat"), rng.integers(0, 9, shape[:2]).astype("i4")),
            "orog": (("lat", "lon"), np.arange(216.0).reshape(12, 18)),
        },
        {
            "time": ("time", np.datetime64("2000-01-01", "ns") + np.arange(start, stop).astype("m8[h]"), {}, HOURS),
            "lat": np.linspace(-55, 55, 12),
            "lon": np.arange(18) * 20.0,
        },
    )


def save(dataset: xr.Dataset, path: Path, **encoding: Any) -> Path:
    dataset.to_netcdf(path, encoding={"time": HOURS} | encoding)
    return path


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    return [save(weather(at, at + 10), tmp_path / f"part{at}.nc") for at in (0, 10)]


@pytest.fixture
def both() -> xr.Dataset:
    return xr.concat([weather(0, 10), weather(10, 20)], "time", data_vars="minimal")


def raw(target: Path, name: str, group: str = "") -> Any:
    """An array as it is stored."""
    repo = frazil.open_repository(target)
    store = repo.readonly_session("main").store
    return xr.open_zarr(
        store, consolidated=False, chunks=None, group=group or None, mask_and_scale=False, decode_times=False
    )[name]


def assert_within(found: xr.DataArray, wanted: xr.DataArray) -> None:
    """Values are where they were, missing where they were missing, and no further off than the array says."""
    np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
    error = np.abs(found.values - wanted.values.astype("f8"))
    assert np.nanmax(error, initial=0) <= found.attrs[ERROR]


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "uint8", "uint16", "uint32"])
def test_files_are_packed_in_the_range_that_functions_find(
    parts: list[Path], both: xr.Dataset, target: Path, dtype: str
) -> None:
    frazil.convert(
        parts, target, chunks={"time": 4}, pack={"tas": dtype, "pr": dtype}, executor=SERIAL(), verify="full"
    )

    found = read(target)
    for name in ("tas", "pr"):
        stored = raw(target, name)
        assert_within(found[name], both[name])
        assert stored.dtype == dtype
        assert stored.attrs["_FillValue"] in {np.iinfo(dtype).min, np.iinfo(dtype).max}
        codes = stored.values[~np.isnan(both[name].values)].astype("i8")
        ends = sorted(
            {*range(np.iinfo(dtype).min, np.iinfo(dtype).min + 3), *range(np.iinfo(dtype).max - 2, 2**32)}
            if 0
            else [int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)]
        )
        assert codes.max() - codes.min() >= ends[1] - ends[0] - 2, "all codes but the fill value are made use of"
    np.testing.assert_array_equal(found["count"], both["count"])
    np.testing.assert_array_equal(found["orog"], both["orog"])


def test_all_that_can_be_packed_is_and_what_is_left_is_told(
    parts: list[Path], target: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan = frazil.plan(parts, target, pack=True, executor=SERIAL())

    types = {name: array.dtype for name, array in plan.template.arrays.items()}
    assert types == {
        "tas": "<i2",
        "pr": "<i2",
        "count": "<i4",
        "orog": "<f8",
        "time": "<i4",
        "lat": "<f8",
        "lon": "<f8",
    }
    (said,) = [record.message for record in caplog.records if "not packed" in record.message]
    assert "count (it holds no floating-point numbers, but int32)" in said
    assert "orog (it is small and written once" in said
    assert "lat" not in said.replace("later", "")
    error = plan.template.arrays["tas"].attributes[ERROR]
    assert f"each at most {error:.3g} off" in repr(plan)
    assert not target.exists()


def test_chunks_that_nobody_chose_hold_as_many_bytes_of_the_packed_type(tmp_path: Path, target: Path) -> None:
    large = xr.Dataset({"v": (("x", "y"), np.zeros((3000, 2000), "f4"))}, {"x": np.arange(3000)})
    large.to_netcdf(tmp_path / "large.nc")
    chosen = [
        frazil.plan(tmp_path / "large.nc", target, pack=pack, executor=SERIAL()).template.arrays["v"].chunks[0]
        for pack in (False, True)
    ]
    assert chosen[1] == min(3000, 2 * chosen[0])
    kept = frazil.plan(tmp_path / "large.nc", target, pack=True, chunks={"x": 77}, executor=SERIAL())
    assert kept.template.arrays["v"].chunks[0] == 77


class Counting(frazil.SerialExecutor):
    """The serial executor, and what it was asked to call."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.workers = 2

    def calls[T, R](self, function: Callable[[T], R]) -> Calls[T, R]:
        self.called.append(function.__name__)
        return super().calls(function)


def test_a_range_that_is_known_costs_no_look_at_the_values(tmp_path: Path, target: Path) -> None:
    declared = weather(0, 4)[["tas", "pr"]]
    declared["pr"].attrs |= {"valid_min": np.float32(0), "valid_max": np.float32(0.01)}
    path = save(declared, tmp_path / "declared.nc")
    executor = Counting()

    plan = frazil.plan(path, target, pack=True, pack_range={"tas": (200, 330)}, executor=executor)

    assert executor.called == []
    attributes = plan.template.arrays["pr"].attributes
    assert attributes["scale_factor"] == pytest.approx(0.01 / 65534, rel=1e-6)
    assert (attributes["valid_min"], attributes["valid_max"]) == (-32767, 32767), "they count in codes"
    assert "values from 200 to 330" in repr(plan)
    frazil.plan(path, target, pack=True, executor=executor)
    assert executor.called == ["survey"]


def test_every_function_looks_at_its_own_part_and_tells_what_it_clips(
    parts: list[Path], both: xr.Dataset, target: Path, caplog: pytest.LogCaptureFixture
) -> None:
    executor = frazil.LithopsExecutor(backend="localhost", workers=2)
    span: dict[str, Any] = {"pack_range": {"pr": (0, 1e-5)}, "pack_overflow": "clip"}
    with executor:
        frazil.convert(parts, target, chunks={"time": 4}, pack=True, executor=executor, **span)
    assert_within(read(target)["tas"], both["tas"])
    assert raw(target, "pr").attrs[OVERFLOW] == "clip"
    told = [one.getMessage() for one in caplog.records if "clipped to its ends" in one.getMessage()]
    counts = [int(number) for one in told for number in re.findall(r"(\d+) values of pr are out", one)]
    assert sum(counts) == int((both["pr"] > raw(target, "pr").attrs["add_offset"] * 2 * (1 + 1e-5)).sum())
    assert any(f"the furthest is {float(both['pr'].max()):.9g}" in one for one in told)


@pytest.mark.parametrize("said", [True, False])
def test_the_range_holds_those_that_all_files_declare(tmp_path: Path, target: Path, said: bool) -> None:
    paths, executor = [], Counting()
    for number, high in enumerate((330, 400)):
        one = weather(4 * number, 4 * number + 4)[["tas"]]
        one["tas"].attrs |= {"valid_range": np.array([200 - number, high], "f4")} if said or not number else {}
        paths.append(save(one, tmp_path / f"{number}.nc"))
    plan = frazil.plan(paths, target, pack=True, executor=executor)
    assert ("values from 199 to 400" in repr(plan)) == said
    assert ("survey" in executor.called) != said


@pytest.mark.parametrize(
    ("key", "value"), [("valid_min", np.nan), ("valid_max", "high"), ("valid_range", np.array([np.nan, 400]))]
)
def test_bounds_that_no_code_stands_for_are_dropped_and_told(
    tmp_path: Path, target: Path, caplog: pytest.LogCaptureFixture, key: str, value: Any
) -> None:
    given = weather(0, 4)[["tas"]]
    given["tas"].attrs |= {"units": "K", key: value}
    frazil.convert(save(given, tmp_path / "given.nc"), target, pack=True, executor=SERIAL())
    assert key not in raw(target, "tas").attrs
    assert f"tas loses its attribute {key}" in caplog.text
    assert_within(read(target)["tas"], given["tas"])


@pytest.mark.parametrize("form", ["memory", "dask", "files", "fill", "double"])
def test_datasets_are_packed_like_files(
    parts: list[Path], both: xr.Dataset, tmp_path: Path, target: Path, form: str
) -> None:
    dataset: xr.Dataset = both
    if form == "dask":
        dataset = both.chunk(time=3)
    elif form == "files":
        dataset = xr.open_dataset(save(both, tmp_path / "whole.nc"), chunks=None)
    elif form == "fill":  # what is missing travels as a number
        dataset = both.chunk(time=3)
        dataset["tas"].encoding = {"_FillValue": np.float32(-999)}
    elif form == "double":
        dataset = both.assign(tas=both["tas"].astype("f8"), pr=both["pr"].astype("f8"))

    frazil.convert(dataset, target, chunks={"time": 4}, pack={"tas": "uint8", "pr": "int32"}, executor=SERIAL())

    found = read(target)
    assert_within(found["tas"], both["tas"])
    assert_within(found["pr"], both["pr"])
    assert (raw(target, "tas").dtype, raw(target, "pr").dtype) == ("uint8", "int32")
    dataset.close()


def test_a_tree_is_packed_in_every_group(both: xr.Dataset, target: Path) -> None:
    tree = xr.DataTree.from_dict({"/above": both[["tas"]], "/below": both[["pr"]].isel(time=slice(3))})
    frazil.convert(tree, target, pack=True, executor=SERIAL())
    assert_within(read(target, group="above")["tas"], both["tas"])
    assert_within(read(target, group="below")["pr"], both["pr"].isel(time=slice(3)))


def test_what_is_appended_to_a_packed_group_or_written_into_a_part_of_it_is_packed_likewise(
    parts: list[Path], both: xr.Dataset, tmp_path: Path, target: Path
) -> None:
    options: dict[str, Any] = {"executor": SERIAL(), "verify": "full"}
    frazil.convert(parts, target, chunks={"time": 8}, pack=True, pack_range={"tas": (200, 350)}, **options)
    codes = raw(target, "tas").values

    more = weather(20, 26)
    more["pr"] = more["pr"].clip(max=both["pr"].max())
    frazil.convert(save(more, tmp_path / "more.nc"), target, mode="append", **options)
    last = weather(26, 29)
    last["pr"] = last["pr"].clip(max=both["pr"].max())
    frazil.convert(last.chunk(time=2), target, mode="append", **options)
    part = weather(5, 9, offset=3)[["tas"]]
    frazil.convert(save(part, tmp_path / "part.nc"), target, mode="region", **options)
    frazil.convert(weather(12, 14, offset=-3)[["tas"]], target, mode="region", **options)

    found = read(target)["tas"]
    assert_within(found[20:26], more["tas"])
    assert_within(found[26:29], weather(26, 29)["tas"])
    assert_within(found[5:9], part["tas"])
    assert_within(found[12:14], weather(12, 14, offset=-3)["tas"])
    np.testing.assert_array_equal(raw(target, "tas").values[:5], codes[:5])


@pytest.mark.parametrize("form", ["files", "dask", "memory"])
def test_what_a_packed_group_cannot_hold_is_refused_and_clipped_where_that_is_asked_for(
    tmp_path: Path, target: Path, form: str
) -> None:
    frazil.convert(weather(0, 6)[["tas"]], target, pack=True, executor=SERIAL())
    before = state(target)[0]
    hot: Any = weather(6, 9, offset=1000)[["tas"]]
    source = save(hot, tmp_path / "hot.nc") if form == "files" else hot.chunk(time=2) if form == "dask" else hot

    with pytest.raises(frazil.FrazilError, match=r"'tas' has the value 1\d\d\d\.\d+, .*it would wrap"):
        frazil.convert(source, target, mode="append", executor=SERIAL())
    assert state(target)[0] == before
    frazil.convert(source, target, mode="append", pack_overflow="clip", executor=SERIAL())

    found = read(target)["tas"]
    stored = raw(target, "tas")
    highest = 32767 * stored.attrs["scale_factor"] + stored.attrs["add_offset"]
    present = ~np.isnan(hot["tas"].values)
    assert (found[6:].values[present] == highest).all()
    np.testing.assert_array_equal(np.isnan(found[6:].values), ~present)


def test_a_packed_group_takes_back_what_was_read_from_it(tmp_path: Path, target: Path) -> None:
    frazil.convert(weather(0, 6)[["tas"]], target, pack=True, executor=SERIAL())
    codes = raw(target, "tas").values
    frazil.convert(read(target)[["tas"]].isel(time=slice(2, 4)), target, mode="region", executor=SERIAL())
    np.testing.assert_array_equal(raw(target, "tas").values, codes)
    save(read(target).isel(time=slice(0, 2)), tmp_path / "read.nc")
    frazil.convert(tmp_path / "read.nc", target, mode="region", executor=SERIAL())
    np.testing.assert_array_equal(raw(target, "tas").values, codes)


def test_attributes_that_count_in_codes_or_say_what_was_lost_are_not_compared(tmp_path: Path, target: Path) -> None:
    given = weather(0, 6)[["tas", "pr"]]
    given["tas"].attrs["valid_range"] = np.array([200, 350], "f4")
    given["pr"].attrs[BITS] = np.int32(20)
    frazil.convert(
        save(given, tmp_path / "all.nc"), target, pack={"tas": "int16"}, keepbits={"pr": 5}, executor=SERIAL()
    )
    save(given.isel(time=slice(2, 4)), tmp_path / "part.nc")
    for mode in ("region", "modify"):
        path = tmp_path / ("part.nc" if mode == "region" else "all.nc")
        frazil.convert(path, target, mode=mode, executor=SERIAL())  # type: ignore[arg-type]
        assert_within(read(target)["tas"], given["tas"])
        assert list(raw(target, "tas").attrs["valid_range"]) == [-32767, 32767]
        assert raw(target, "pr").attrs[BITS] == 5


def test_an_array_without_the_append_dimension_is_replaced_packed(tmp_path: Path, target: Path) -> None:
    grid = xr.Dataset({"v": (("lat", "lon"), np.random.default_rng(0).normal(size=(6, 8)))}, {"lat": np.arange(6.0)})
    grid.to_netcdf(tmp_path / "grid.nc")
    frazil.convert(tmp_path / "grid.nc", target, pack={"v": "int16"}, pack_range={"v": (-9, 9)}, executor=SERIAL())
    timed = grid.assign(w=("time", np.arange(3.0)), v=-grid["v"])
    timed.to_netcdf(tmp_path / "timed.nc")
    frazil.convert(tmp_path / "timed.nc", target, mode="modify", append_dim="time", executor=SERIAL(), verify="full")
    assert_within(read(target)["v"], -grid["v"])


def test_whole_variables_are_replaced_packed_and_added_packed(
    parts: list[Path], both: xr.Dataset, target: Path
) -> None:
    frazil.convert(parts, target, variables="tas", pack=True, executor=SERIAL())
    frazil.convert(parts, target, mode="add", pack={"pr": "uint16"}, executor=SERIAL())
    cooler = both[["tas"]] * 0.999
    frazil.convert(cooler, target, mode="modify", pack_overflow="clip", on_attrs="keep", executor=SERIAL())
    found = read(target)
    assert_within(found["pr"], both["pr"])
    low, high = (float(one) for one in (both["tas"].min(), both["tas"].max()))
    assert_within(found["tas"], cooler["tas"].clip(low, high))
    with pytest.raises(frazil.InvalidInputError, match="'tas' cannot be packed: it is there already"):
        frazil.plan(parts, target, mode="modify", pack={"tas": "int8"}, executor=SERIAL())


def test_files_that_pack_otherwise_go_into_a_packed_group(both: xr.Dataset, tmp_path: Path, target: Path) -> None:
    frazil.convert(weather(0, 10)[["tas"]], target, pack=True, pack_range={"tas": (200, 350)}, executor=SERIAL())
    own = {"dtype": "i2", "scale_factor": 0.01, "add_offset": 280.0, "_FillValue": -1}
    path = save(weather(10, 20)[["tas"]], tmp_path / "own.nc", tas=own)
    frazil.convert(path, target, mode="append", executor=SERIAL())
    with xr.open_dataset(path) as theirs:
        assert_within(read(target)["tas"][10:], theirs["tas"].load())


@pytest.mark.parametrize("values", [np.full(6, 273.15), np.full(6, np.nan), np.zeros(6), np.array([0, 1e-310] * 3)])
def test_constant_and_missing_and_tiny_values_are_packed(tmp_path: Path, target: Path, values: Any) -> None:
    given = xr.Dataset({"v": ("x", values)}, {"x": np.arange(6)})
    given.to_netcdf(tmp_path / "v.nc")
    frazil.convert(tmp_path / "v.nc", target, pack={"v": "int16"}, executor=SERIAL(), verify="full")
    assert_within(read(target)["v"], given["v"])
    if len(np.unique(values)) == 1:
        np.testing.assert_array_equal(read(target)["v"], values)
        other = xr.Dataset({"v": ("x", [1.5])}, {"x": [6]})
        with pytest.raises(frazil.FrazilError, match=r"'v' has the value 1\.5"):
            frazil.convert(other, target, mode="append", executor=SERIAL())


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([287.3] * 6, ["v has no value but 287.3, so it is packed for no other; give it a range (--pack-range)"]),
        ([np.nan] * 6, ["v has no values, so it is packed for none but 0; give it a range (--pack-range)"]),
        ([1.0, 2.0], []),
    ],
)
def test_who_packs_a_constant_is_told_that_nothing_else_fits(
    target: Path, values: list[float], says: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    given = xr.Dataset({"v": ("x", np.array(values))}, {"x": np.arange(len(values))})
    frazil.plan(given, target, pack=True, executor=SERIAL())
    assert [one.getMessage() for one in caplog.records if "--pack-range" in one.getMessage()] == says


def test_infinite_values_are_refused_before_anything_is_written(tmp_path: Path, target: Path) -> None:
    endless = xr.Dataset({"v": ("x", np.array([1, np.inf, 3, -np.inf]))}, {"x": np.arange(4)})
    endless.to_netcdf(tmp_path / "v.nc")
    with pytest.raises(frazil.InvalidInputError, match=r"'v' has 2 infinite values.*--pack-overflow clip"):
        frazil.convert(tmp_path / "v.nc", target, pack=True, executor=SERIAL())
    assert not target.exists()
    frazil.convert(tmp_path / "v.nc", target, pack=True, pack_overflow="clip", executor=SERIAL())
    np.testing.assert_allclose(read(target)["v"], [1, 3, 3, 1], atol=1e-4)


def test_values_that_files_mark_as_missing_are_missing(tmp_path: Path, target: Path) -> None:
    with netCDF4.Dataset(tmp_path / "marked.nc", "w") as file:
        file.createDimension("x", 4)
        values = file.createVariable("v", "f4", ("x",), fill_value=1e20)
        values.missing_value = np.float32(-99)
        values.valid_range = np.array([0, 10], "f4")
        values[:] = np.ma.masked_equal(np.array([1, 1e20, 5, -99], "f4"), 1e20)
    frazil.convert(tmp_path / "marked.nc", target, pack=True, executor=SERIAL())
    stored = raw(target, "v")
    np.testing.assert_allclose(read(target)["v"], [1, np.nan, 5, np.nan], atol=2e-4)
    assert "missing_value" not in stored.attrs
    assert list(stored.attrs["valid_range"]) == [-32767, 32767]


def test_gaps_between_files_are_missing(tmp_path: Path, target: Path) -> None:
    paths = [save(weather(at, at + 3)[["tas"]], tmp_path / f"{at}.nc") for at in (0, 5)]
    frazil.convert(paths, target, pack=True, gaps="fill", executor=SERIAL())
    assert np.isnan(read(target)["tas"][3:5]).all()


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown variable": ({"pack": {"tsa": "int16"}}, r"pack names the variable 'tsa'; did you mean 'tas'"),
    "an unknown type": ({"pack": {"tas": "int17"}}, r"pack cannot be 'int17'; did you mean 'int1"),
    "a type of floating point": ({"pack": "float32"}, r"pack cannot be 'float32'"),
    "a name alone": ({"pack": ["tas"]}, r"pack cannot be 'tas'; there are 'int8'"),
    "a number": ({"pack": 16}, r"pack is 16; use True, a type, or a mapping"),
    "two types": ({"pack": ["int8", "int16"]}, r"pack cannot be 'int8,int16'"),
    "whole numbers": ({"pack": {"count": "int8"}}, r"'count' cannot be packed: .* int32"),
    "a label": ({"pack": {"lat": "int16"}}, r"'lat' cannot be packed: it is a coordinate"),
    "time": ({"pack": {"time": "int16"}}, r"'time' cannot be packed: it is a coordinate"),
    "what is written once": ({"pack": {"orog": "int16"}}, r"'orog' cannot be packed: it is small"),
    "bits of whole numbers": ({"keepbits": {"count": 3}}, r"'count' cannot be rounded"),
    "too many bits": ({"keepbits": {"tas": 24}}, r"keepbits of 'tas' cannot be 24: float32 has 23"),
    "no bits": ({"keepbits": {"tas": 0}}, r"keepbits of 'tas' cannot be 0; use a number of bits from 1"),
    "a word for bits": ({"keepbits": {"tas": "many"}}, r"keepbits of 'tas' cannot be 'many'"),
    "both": ({"keepbits": {"tas": 7}, "pack": {"tas": "int16"}}, r"'tas' is to be packed and to keep 7 bits"),
    "a range of nothing packed": ({"pack_range": {"tas": (0, 1)}}, r"range for 'tas' .*add --pack tas=int16"),
    "a range of what is not packed": ({"pack": True, "pack_range": {"orog": (0, 1)}}, r"range for 'orog'.*small"),
    "a range of what is appended": ({"pack_range": {"tas": (0, 1)}, "mode": "append"}, r"leave out pack, pack_range"),
    "nothing": ({"pack": ""}, r"pack is empty; use True"),
    "a range of one value": ({"pack": True, "pack_range": {"tas": (9, 9)}}, r"the range of 'tas' is 9 to 9"),
    "automatic bits in capitals": ({"keepbits": {"tas": "Auto"}}, r"did you mean 'auto'"),
    "a codec in capitals": ({"compression": "ZSTD:3"}, r"did you mean 'zstd'"),
    "no codec in capitals": ({"compression": "NONE"}, r"did you mean 'none'"),
    "a range the wrong way": ({"pack": True, "pack_range": {"tas": (9, 1)}}, r"the range of 'tas' is 9 to 1"),
    "an endless range": ({"pack": True, "pack_range": {"tas": (0, np.inf)}}, r"finite"),
    "half a range": ({"pack": True, "pack_range": {"tas": (1,)}}, r"pack_range of 'tas' is \(1,\); use \(LOW, HIGH\)"),
    "an unknown overflow": ({"pack": True, "pack_overflow": "clamp"}, r"pack_overflow cannot be 'clamp'.*'clip'"),
    "overflow of nothing": ({"pack_overflow": "clip"}, r"pack some \(--pack\)"),
    "an append": ({"pack": True, "mode": "append"}, r"mode 'append' stores values as the group does"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_packed_is_refused_by_name_with_the_cure(parts: list[Path], target: Path, case: str) -> None:
    options, message = REFUSED[case]
    with pytest.raises(frazil.InvalidInputError, match=message):
        frazil.plan(parts, target, executor=SERIAL(), **options)
    assert not target.exists()


def test_flags_and_packed_variables_and_dates_stay_as_they_are(tmp_path: Path, target: Path) -> None:
    given = weather(0, 4)[["tas"]].assign(
        flag=(("time",), np.array([0.0, 1, 0, 1]), {"flag_values": [0.0, 1.0], "flag_meanings": "no yes"}),
        issued=(("time",), np.arange(4) / 4, {"units": "days since 2000-01-01"}),
        half=(("time",), np.arange(4.0)),
        where=(("time", "lat"), np.zeros((4, 12))),
    )
    given["tas"].attrs["coordinates"] = "where"
    path = save(given, tmp_path / "given.nc", half={"dtype": "i2", "scale_factor": 0.5, "_FillValue": -1})
    plan = frazil.plan(path, target, pack=True, executor=SERIAL())
    packed = {name for name, array in plan.template.arrays.items() if ERROR in array.attributes}
    assert packed == {"tas"}
    for name, why in {
        "flag": "flags",
        "issued": "counts time",
        "half": "packed already",
        "where": "coordinate",
    }.items():
        with pytest.raises(frazil.InvalidInputError, match=why):
            frazil.plan(path, target, pack={name: "int16"}, executor=SERIAL())


def tampered(plan: frazil.Plan, name: str, **attributes: Any) -> frazil.Plan:
    array = plan.template.arrays[name]
    changed = replace(array, attributes=array.attributes | attributes)
    return replace(plan, template=replace(plan.template, arrays=plan.template.arrays | {name: changed}))


@pytest.mark.parametrize(
    "attributes", [{"scale_factor": 0.0}, {"_FillValue": 0}, {ERROR: 1e-9}, {"add_offset": "zero"}]
)
def test_a_crafted_plan_of_a_packing_that_cannot_be_is_refused(
    parts: list[Path], target: Path, attributes: dict[str, Any]
) -> None:
    plan = frazil.plan(parts, target, pack=True, executor=SERIAL())
    assert frazil.Plan.from_json(plan.to_json()) == plan
    with pytest.raises(frazil.InvalidInputError, match="write the array anew"):
        frazil.Plan.from_json(tampered(plan, "tas", **attributes).to_json())


@pytest.mark.parametrize("name", ["count", "orog", "nothing", "pr"])
def test_a_crafted_plan_that_clips_what_is_not_packed_is_refused(parts: list[Path], target: Path, name: str) -> None:
    plan = frazil.plan(parts, target, pack={"tas": "int16"}, keepbits={"pr": 5}, executor=SERIAL())
    sources = tuple(replace(one, clip=(name,), recode=(*one.recode, name)) for one in plan.sources)
    with pytest.raises(frazil.InvalidInputError, match=f"values of '{name}' are to be clipped"):
        frazil.Plan.from_json(replace(plan, sources=sources).to_json())
    apart = tuple(replace(one, clip=("tas",), recode=()) for one in plan.sources)
    with pytest.raises(frazil.InvalidInputError, match="values of 'tas' are to be clipped"):
        frazil.Plan.from_json(replace(plan, sources=apart).to_json())


@pytest.mark.parametrize(
    "answer", [{}, {"tas": Found()}, {"tas": Found(), "pr": Found()}, {"tas": Found(), "pr": Found(), "orog": Found()}]
)
def test_functions_that_looked_at_something_else_publish_nothing(
    parts: list[Path], target: Path, answer: dict[str, Found]
) -> None:
    with (
        Answering("survey", lambda _, __: dump_found(answer)) as executor,
        pytest.raises(frazil.ReceiptError, match="looked at"),
    ):
        frazil.convert(parts, target, pack=True, variables=["tas", "pr"], executor=executor)
    assert not target.exists()


def test_bits_are_rounded_in_files_and_datasets_and_in_what_follows_them(
    parts: list[Path], both: xr.Dataset, tmp_path: Path, target: Path
) -> None:
    options: dict[str, Any] = {"executor": SERIAL(), "verify": "full"}
    frazil.convert(parts, target, keepbits={"tas": np.int64(7), "pr": 5}, chunks={"time": 8}, **options)
    more = weather(20, 26)
    frazil.convert(save(more, tmp_path / "more.nc"), target, mode="append", **options)
    frazil.convert(weather(3, 5, offset=4)[["tas"]].chunk(time=1), target, mode="region", **options)
    other = tmp_path / "dataset.icechunk"
    frazil.convert(both.chunk(time=3), other, keepbits={"tas": 7}, **options)

    found = read(target)
    assert raw(target, "tas").attrs[BITS] == raw(target, "tas").attrs[KEEPBITS] == 7
    for ours, theirs, bits in (
        (found["tas"][5:20], both["tas"][5:], 7),
        (found["pr"][:20], both["pr"], 5),
        (found["tas"][20:], more["tas"], 7),
        (found["tas"][3:5], weather(3, 5, offset=4)["tas"], 7),
        (read(other)["tas"], both["tas"], 7),
    ):
        held, given = ours.values, theirs.values
        np.testing.assert_array_equal(np.isnan(held), np.isnan(given))
        present = held[~np.isnan(held)]
        assert not (present.view("u4") & ((1 << (23 - bits)) - 1)).any()
        error = np.abs(present - given[~np.isnan(given)])
        assert (error <= np.abs(given[~np.isnan(given)]) * 2.0 ** -(bits + 1)).all()
        assert error.max() > 0
    np.testing.assert_array_equal(found["orog"], both["orog"])


def test_the_bits_that_tell_something_are_found(
    parts: list[Path], target: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan = frazil.plan(parts, target, keepbits={"tas": "auto"}, executor=SERIAL())
    kept = plan.template.arrays["tas"].attributes[BITS]
    assert 3 <= kept <= 9
    assert f"rounded     {kept} of 23 bits" in repr(plan)
    constant = xr.Dataset({"v": ("x", np.full(100, 287.3))}, {"x": np.arange(100)})
    plan = frazil.plan(constant, target, keepbits={"v": "auto"}, executor=SERIAL())
    assert BITS not in plan.template.arrays["v"].attributes
    assert "no bit of v tells anything" in caplog.text


def test_files_of_which_some_are_rounded_already_are_not_rounded_further(tmp_path: Path, target: Path) -> None:
    paths = [tmp_path / "rounded.nc", tmp_path / "exact.nc"]
    for number, path in enumerate(paths):
        one = weather(5 * number, 5 * number + 5)[["tas"]]
        if number == 0:
            one["tas"].attrs[BITS] = np.int32(3)
        save(one, path, tas={"_FillValue": np.float32(number)})  # stored otherwise, so values are recoded
    frazil.convert(paths, target, executor=SERIAL())
    frazil.convert(weather(0, 10)[["orog"]], other := target.with_name("other"), executor=SERIAL())
    frazil.convert(paths, other, mode="add", executor=SERIAL())
    assert BITS not in raw(target, "tas").attrs
    np.testing.assert_array_equal(read(other)["tas"], read(target)["tas"])
    np.testing.assert_array_equal(read(target)["tas"][5:], weather(5, 10)["tas"])


def quantised(start: int, path: Path, bits: int | None) -> Path:
    """A file that the netCDF library has rounded itself, if it was asked to."""
    asked = {} if bits is None else {"significant_digits": bits, "quantize_mode": "BitRound"}
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("x")
        file.createVariable("x", "i4", ("x",))[:] = np.arange(start, start + 50)
        file.createVariable("v", "f4", ("x",), zlib=True, **asked)[:] = np.linspace(1, 2, 50) + start
    return path


@pytest.mark.parametrize("mode", ["append", "region", "modify"])
def test_what_files_say_of_their_own_rounding_rounds_nothing_else(tmp_path: Path, target: Path, mode: Any) -> None:
    coarse, alike = (quantised(at, tmp_path / f"coarse{at}.nc", 3) for at in (0, 50))
    exact = quantised(100 if mode == "append" else 0, tmp_path / "exact.nc", None)
    frazil.convert(coarse, target, executor=SERIAL())
    assert raw(target, "v").attrs[BITS] == 3
    if mode == "append":
        frazil.convert(alike, target, mode="append", executor=SERIAL())
    with pytest.raises(frazil.MismatchedSourceError, match=f"{BITS} of 'v' is None.* it is 3.*--on-attrs keep"):
        frazil.plan(exact, target, mode=mode, executor=SERIAL())
    frazil.convert(exact, target, mode=mode, on_attrs="keep", executor=SERIAL())
    with xr.open_dataset(exact) as given:
        np.testing.assert_array_equal(read(target)["v"][-50:], given["v"])


def test_a_copy_of_a_rounded_group_is_not_rounded_into(tmp_path: Path, target: Path) -> None:
    frazil.convert(weather(0, 4)[["tas"]], target, keepbits={"tas": 3}, executor=SERIAL())
    copy = target.with_name("copy.icechunk")
    save(read(target), tmp_path / "copy.nc")
    frazil.convert(tmp_path / "copy.nc", copy, executor=SERIAL())
    more = weather(4, 8)[["tas"]]
    frazil.convert(more, copy, mode="append", on_attrs="keep", executor=SERIAL())
    np.testing.assert_array_equal(read(copy)["tas"][4:], more["tas"])


@pytest.fixture
def here(tmp_path: Path, parts: list[Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    return tmp_path  # type: ignore[return-value] # nothing is to be undone


@pytest.mark.parametrize(
    ("words", "types"),
    [
        (["--pack", "part0.nc", "part10.nc", "x"], ("int16", "int16")),
        (["part0.nc", "part10.nc", "x", "--pack"], ("int16", "int16")),
        (["--pack", "int8", "part0.nc", "part10.nc", "x"], ("int8", "int8")),
        (["part0.nc", "part10.nc", "x", "--pack", "tas=uint8", "--pack", "pr=int32"], ("uint8", "int32")),
        (["part0.nc", "part10.nc", "x", "--pack=tas=uint8,pr=int32"], ("uint8", "int32")),
        (["--pack", "part0.nc", "part10.nc", "x", "--keepbits", "tas=auto"], ("float32", "int16")),
    ],
)
def test_the_command_line_packs_what_it_names(here: Path, words: list[str], types: tuple[str, str]) -> None:
    assert main(["convert", *words, "--backend", "serial", "-q"]) == 0
    assert (raw(here / "x", "tas").dtype, raw(here / "x", "pr").dtype) == types


def test_the_command_line_shows_what_was_lost(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["part0.nc", "part10.nc", "x", "--pack", "tas=int16", "--keepbits", "pr=5", "--backend", "serial", "-q"]
    assert main(["convert", *words]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^packed tas: values from 27\d\S* to 30\d\S*, each at most 0\.000\S+ off", said, re.MULTILINE)
    assert "rounded pr: 5 of 23 bits of the mantissa" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--pack", "tas=int17"], "did you mean 'int1"),
        (["--pack", "tas=int16,tas=int8"], "'tas' is given twice"),
        (["--pack", "--pack-range", "tas=5"], "LOW:HIGH"),
        (["--pack", "--pack-range", "tas=9:1"], "9 to 1"),
        (["--pack", "--pack-overflow", "clamp"], "clip"),
        (["--keepbits", "tas=seven"], "VARIABLE=BITS"),
        (["--keepbits", "tas=99"], "23 bits"),
        (["--keepbits", "7"], "'7' is not VARIABLE=BITS, as in tas=7, nor VARIABLE=auto"),
        (["--pack-range", "7"], "'7' is not VARIABLE=LOW:HIGH"),
        (["--pack", "tsa=int8"], "did you mean 'tas'"),
    ],
)
def test_the_command_line_refuses_what_cannot_be_meant(
    here: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", "part0.nc", "part10.nc", "x", *words, "--backend", "serial", "-q"]) == 2
    assert said in capsys.readouterr().err
    assert not (here / "x").exists()


def test_a_variable_behind_a_bare_pack_is_a_path_and_the_error_says_so(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", "part0.nc", "x", "--pack", "tas"]) == 2
    told = capsys.readouterr().err
    assert "x does not exist ('tas' behind --pack is a path; a variable is packed by --pack tas=int16)" in told
    assert not (here / "tas").exists()
    assert main(["plan", "part0.nc", "y.nc", "x", "--pack"]) == 2
    assert "behind --pack" not in capsys.readouterr().err


def test_the_command_line_clips_and_says_so_in_the_plan(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "part0.nc",
        "part10.nc",
        "x",
        "--pack",
        "tas=int16",
        "--pack-range",
        "tas=270:290",
        "--backend",
        "serial",
        "-q",
    ]
    assert main(["convert", *words]) == 1
    told = capsys.readouterr().err
    assert "it would wrap. Convert again with a wider range (--pack-range tas=LOW:HIGH)" in told
    assert re.search(r"/part\d+\.nc, within tas\[time \d+:\d+.*\]: 'tas' has the value", told)
    assert "would end likewise" in told
    assert "When the cause is mended" not in told
    assert main(["plan", *words, "--pack-overflow", "clip"]) == 0
    assert "values from 270 to 290, others clipped" in capsys.readouterr().out
    assert main(["convert", *words, "--pack-overflow", "clip", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["regions"]
    found = read(here / "x")["tas"]
    assert (float(found.min()), float(found.max())) == (pytest.approx(277, abs=2), 290)
