"""The plan is data: equal for equal files, proven when it is read, and making it writes nothing."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import frazil
from frazil_functions.text import size


@pytest.fixture
def made(series: Any, split: Any, write: Any, plan_of: Callable[..., frazil.Plan]) -> frazil.Plan:
    return plan_of(write(split(series(48), "time", [10, 38])), chunks={"time": 6}, workers=3)


def changed(plan: frazil.Plan, change: Callable[[Any], object]) -> bytes:
    data = json.loads(plan.to_json())
    change(data)
    return json.dumps(data).encode()


def test_json_gives_the_same_plan_back(made: frazil.Plan) -> None:
    again = frazil.Plan.from_json(made.to_json())
    assert again == made
    assert again.hash == made.hash
    assert again.to_json() == made.to_json()


def test_a_plan_that_was_read_runs_like_the_one_that_was_written(
    made: frazil.Plan, tmp_path: Path, open_group: Any, series: Any
) -> None:
    again = frazil.Plan.from_json(made.to_json().decode())
    frazil.run(again, executor=frazil.SerialExecutor(), verify="full")
    xr.testing.assert_identical(open_group(tmp_path / "archive.icechunk"), xr.decode_cf(series(48)))


def test_the_same_files_give_the_same_plan(series: Any, split: Any, write: Any, plan_of: Any) -> None:
    paths = write(split(series(48), "time", [10, 38]))
    first = plan_of(paths, chunks={"time": 6, "lat": 2})
    assert plan_of(paths, chunks={"lat": 2, "time": 6}).hash == first.hash
    assert plan_of(paths, chunks={"time": 6, "lat": 4}).hash != first.hash


def test_numbers_of_numpy_give_the_same_plan(series: Any, write: Any, plan_of: Any) -> None:
    paths = write([series(48)])
    wanted = plan_of(paths, chunks={"time": 6}, shards={"time": 12})
    assert plan_of(paths, chunks={"time": np.int64(6)}, shards={"time": np.int16(12)}).hash == wanted.hash


def test_a_file_that_was_touched_gives_another_plan(series: Any, write: Any, plan_of: Any) -> None:
    (path,) = write([series(3)])
    first = plan_of(path)
    write([series(3).assign_attrs(title="other")])
    assert plan_of(path).hash != first.hash


def test_planning_writes_nothing(series: Any, split: Any, write: Any, plan_of: Any, tmp_path: Path, tree: Any) -> None:
    paths = write(split(series(48), "time", [10, 38]))
    before = tree(tmp_path)
    plan = plan_of(paths)
    assert plan.hash
    assert tree(tmp_path) == before


def test_planning_against_a_repository_leaves_it_byte_for_byte(
    series: Any, write: Any, convert: Any, plan_of: Any, tmp_path: Path, tree: Any
) -> None:
    paths = write([series(10)])
    convert(paths, group="a")
    before = tree(tmp_path)
    assert plan_of(paths, group="b").target.base is not None
    assert tree(tmp_path) == before


def first_task(data: Any) -> Any:
    return data["tasks"][0]["regions"]


def compression(data: dict[str, Any], **settings: Any) -> None:
    """Have an array compressed otherwise."""
    data["template"]["arrays"]["tas"]["compression"] = settings


def source(data: Any, at: int, **spans: int) -> None:
    data["sources"][at].update(spans)


TAMPERED: dict[str, tuple[Callable[[Any], object], str]] = {
    "a region left out": (lambda data: first_task(data).pop(), "no region owns"),
    "a region twice": (lambda data: first_task(data).append(first_task(data)[0]), "shares a write unit"),
    "a region moved": (lambda data: first_task(data)[0]["ranges"][0].__setitem__(1, 3), "splits a write unit"),
    "a region of an unknown array": (lambda data: first_task(data)[0].update(array="pr"), "does not have"),
    "an empty region": (lambda data: first_task(data)[0]["ranges"][0].__setitem__(2, 0), "empty or negative"),
    "a negative region": (lambda data: first_task(data)[0]["ranges"][0].__setitem__(1, -6), "empty or negative"),
    "a task left out": (lambda data: data["tasks"].pop(), "no region owns"),
    "no chunks": (lambda data: data["template"]["arrays"]["tas"].update(chunks=[0, 4, 6]), "tas"),
    "fewer chunks than dimensions": (lambda data: data["template"]["arrays"]["tas"].update(chunks=[6]), "tas"),
    "a number for a name": (lambda data: data["target"].update(branch=5), "not a plan"),
    "a part left out": (lambda data: data.pop("template"), "not a plan"),
    "another format": (lambda data: data.update(format=99), "format 99.*plan again"),
    "a group outside": (lambda data: data["target"].update(group="../x"), "no path of a group"),
    "sources beyond the last": (lambda data: data["tasks"][0].update(sources=[0, 7]), "sources 0:7"),
    "sources that overlap": (lambda data: source(data, 0, stop=11), "source 1 begins at 10.*ends at 11"),
    "sources in another order": (lambda data: data["sources"].reverse(), "source 1 begins at 0.*ends at 48"),
    "a source before the axis": (lambda data: source(data, 0, start=-1), "source 0 begins at -1"),
    "a source beyond the axis": (lambda data: source(data, 1, stop=50), "48 labels.*source 1 ends at 50"),
    "a source that ends before it begins": (
        lambda data: source(data, 1, start=50),
        "source 1 ends at 48.*begins at 50",
    ),
    "a label of no source": (lambda data: source(data, 1, stop=47), "47 labels .* and 0 are filled, of 48"),
    "a label that is filled twice": (lambda data: data.update(filled=1), "48 labels .* and 1 are filled, of 48"),
    "no sources": (lambda data: data.update(sources=[]), "no sources"),
    "an array of another shape": (
        lambda data: data["template"]["arrays"]["lat"].update(shape=[5]),
        r"'lat' has the shape .5,., and its dimensions .4,.",
    ),
    "an array under another name": (
        lambda data: data["template"]["arrays"].update(other=data["template"]["arrays"].pop("lat")),
        "'lat' stands under the name 'other'",
    ),
    "an array outside": (
        lambda data: data["template"]["arrays"].update({"../x": data["template"]["arrays"]["lat"] | {"name": "../x"}}),
        "no path of a group",
    ),
    "a group outside the group": (lambda data: data["template"].update(groups={"../x": {}}), "no path of a group"),
    "labels left out": (lambda data: data["template"]["labels"].pop("time"), "'time' is written as labels"),
    "labels of nothing": (
        lambda data: data["template"]["labels"].update(x=data["template"]["labels"]["lat"]),
        "labels for 'x', which is no array",
    ),
    "labels of another length": (
        lambda data: data["template"]["labels"].update(lat=data["template"]["labels"]["time"]),
        "'lat' has labels of shape .48,., not .4,.",
    ),
    "an array that is kept and was never there": (
        lambda data: data["template"]["arrays"]["tas"].update(role="kept"),
        "'tas' is to stay as it is, and is not there",
    ),
    "an array that is there in a group that is made": (
        lambda data: data["template"]["arrays"]["tas"].update(before=[48, 4, 6]),
        "'tas' is said to be there",
    ),
    "more write units than can be held": (
        lambda data: (
            data["template"]["sizes"].update(time=10**12),
            data["template"]["arrays"]["tas"].update(shape=[10**12, 4, 6], chunks=[1, 4, 6]),
            data["template"]["arrays"]["time"].update(shape=[10**12]),
        ),
        "write units, and .* can be proven",
    ),
    "a codec that there is not": (lambda data: compression(data, codec="zsdt"), "no codec 'zsdt'; did you mean 'zstd'"),
    "a codec that is a number": (lambda data: compression(data, codec=3), "not a plan"),
    "a codec of a name that is there in memory alone": (lambda data: compression(data, codec="pickle"), "no codec"),
    "a level that there is not": (lambda data: compression(data, codec="zstd", level=23), "zstd has no level 23"),
    "a compressor that Blosc does not have": (
        lambda data: compression(data, codec="blosc", level=1, compressor="snappy", shuffle="shuffle"),
        "no compressor of Blosc 'snappy'",
    ),
    "a shuffle that Blosc does not have": (
        lambda data: compression(data, codec="blosc", level=1, compressor="lz4", shuffle="suffle"),
        "no shuffle of Blosc 'suffle'; did you mean 'shuffle'",
    ),
    "a shuffle without Blosc": (
        lambda data: compression(data, codec="zstd", level=1, shuffle="shuffle"),
        "no shuffle of Blosc 'shuffle'",
    ),
    "chunks that are too large for Blosc": (
        lambda data: (
            data["template"]["arrays"]["tas"].update(chunks=[2**31 // 96 + 1, 4, 6]),
            compression(data, codec="blosc", level=1, compressor="lz4", shuffle="shuffle"),
        ),
        "'tas' has chunks of 2.1 GB, and Blosc .* smaller chunks",
    ),
    "an extent of no dimension": (lambda data: data["template"].update(extents={"x": [0, 0]}), "'x' is written from 0"),
    "an extent beyond the axis": (lambda data: data["template"].update(extents={"lat": [2, 9]}), "'lat' is written"),
    "places of no dimension": (
        lambda data: data["sources"][0].update(places={"x": [{"start": 0, "first": 0, "length": 1}]}),
        "'x' is placed, and no array has it",
    ),
    "sources that are too few": (lambda data: data["tasks"][-1].update(sources=[0, 1]), "sources 0:1"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_a_plan_that_was_tampered_with_is_refused(name: str, made: frazil.Plan) -> None:
    change, says = TAMPERED[name]
    with pytest.raises(frazil.InvalidInputError, match=says):
        frazil.Plan.from_json(changed(made, change))


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b"\xff\xfe", "no json", b'{"format": 1}'])
def test_what_is_no_plan_is_refused(data: bytes | str) -> None:
    with pytest.raises(frazil.InvalidInputError, match="not a plan of frazil"):
        frazil.Plan.from_json(data)


def test_a_plan_shows_what_it_does(made: frazil.Plan) -> None:
    text = repr(made)
    for part in ("archive.icechunk main:/", "2 files along time", "time 48, lat 4, lon 6", "(6, 4, 6)", made.hash[:16]):
        assert part in text, text
    assert "<script>" not in made._repr_html_()
    assert made.hash[:16] in made._repr_html_()


def test_names_from_files_are_escaped_in_html(series: Any, write: Any, plan_of: Any) -> None:
    dataset = series(3).rename(tas="a&b")
    assert "a&amp;b" in plan_of(write([dataset]))._repr_html_()


@pytest.mark.parametrize(
    ("nbytes", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2_500_000, "2.5 MB"), (4e18, "4000.0 PB")]
)
def test_sizes_read_as_a_person_says_them(nbytes: float, text: str) -> None:
    assert size(nbytes) == text


def test_ten_thousand_regions_are_planned_and_proven(series: Any, write: Any, plan_of: Any) -> None:
    plan = plan_of(write([series(10_000, lat=1, lon=1)]), chunks={"time": 1}, workers=100)
    assert plan.grids[0].total == 10_000
    assert frazil.Plan.from_json(plan.to_json()).hash == plan.hash


def test_a_plan_that_was_tampered_with_does_not_run(made: frazil.Plan, tmp_path: Path, tree: Any) -> None:
    first, second = made.sources
    before = tree(tmp_path)
    with pytest.raises(frazil.InvalidInputError, match=r"source 1 begins at 9.*ends at 10; plan again"):
        frazil.run(replace(made, sources=(first, replace(second, start=9))), executor=frazil.SerialExecutor())
    assert tree(tmp_path) == before


def of_large(data: Any) -> Any:
    """The array of a plan that refers to files."""
    return data["template"]["arrays"]["large"]


REFERRING: dict[str, tuple[Callable[[Any], object], str]] = {
    "labels that refer to files": (
        lambda data: data["template"]["arrays"]["x"].update(layout={"chunks": [20_000], "codecs": [], "fill": 0}),
        "'x' refers to files, and is not written by functions",
    ),
    "chunks other than the files'": (
        lambda data: of_large(data)["layout"].update(chunks=[1, 10_000]),
        r"'large' refers to files with chunks .1, 10000., and is stored otherwise",
    ),
    "shards of references": (
        lambda data: of_large(data).update(shards=of_large(data)["chunks"]),
        "'large' refers to files with chunks .*, and is stored otherwise",
    ),
    "references that are compressed anew": (
        lambda data: of_large(data).update(compression={"codec": "zstd", "level": 1}),
        "'large' refers to files with chunks .*, and is stored otherwise",
    ),
    "text that refers to files": (
        lambda data: of_large(data).update(dtype="string"),
        "'large' holds text, which cannot refer to files",
    ),
    "a copy of what refers to nothing": (
        lambda data: source(data, 0, copied=["small"]),
        "'small' is copied where others are referred to, and refers to no file",
    ),
    "a copy of what is not there": (
        lambda data: source(data, 0, copied=["pr"]),
        "'pr' is copied where others are referred to",
    ),
    "references to values that mean something else": (
        lambda data: source(data, 0, recode=["large"]),
        "'large' refers to it, and it is stored in another way",
    ),
    "references to values in another order": (
        lambda data: source(data, 0, places={"x": [{"start": 0, "first": 19_999, "length": 20_000, "step": -1}]}),
        "'large' refers to it, and it is stored in another way",
    ),
}


@pytest.fixture
def referring(tmp_path: Path, plan_of: Callable[..., frazil.Plan]) -> frazil.Plan:
    values = {"large": (("time", "x"), np.ones((2, 20_000), "f4")), "small": (("time",), np.ones(2, "f4"))}
    xr.Dataset(values, {"time": [0, 1], "x": np.arange(20_000)}).to_netcdf(tmp_path / "a.nc", format="NETCDF3_CLASSIC")
    return plan_of(tmp_path / "a.nc", virtual=True, containers=[tmp_path])


@pytest.mark.parametrize("name", REFERRING)
def test_a_plan_of_references_that_was_tampered_with_is_refused(name: str, referring: frazil.Plan) -> None:
    change, words = REFERRING[name]
    with pytest.raises(frazil.InvalidInputError, match=f"(?s){words}"):
        frazil.Plan.from_json(changed(referring, change))


@pytest.mark.parametrize("dims", [("lat",), ("time", "lat", "lon")])
def test_any_plan_of_one_file_proves(dims: tuple[str, ...], series: Any, write: Any, plan_of: Any) -> None:
    for options in ({}, {"variables": list(dims)}):
        plan_of(write([series(3)]), **options).prove()
    assert plan_of(write([xr.Dataset({"a": ((), 1.0)})])).filled == 0


def test_a_plan_says_what_was_too_large_to_compare(
    series: Any, write: Any, plan_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [series(3), series(3, start=3)]
    for part in parts:
        part["orography"] = ("lat", "lon"), np.ones((4, 6), "f4")
        part["land"] = ("lat",), np.ones(4, "i1")
    paths = write(parts)
    assert "not compared" not in repr(plan_of(paths))
    monkeypatch.setattr("frazil_functions.reading.scanning.DIGEST_BYTES", 50)
    rows = dict(plan_of(paths).describe())
    assert rows["not compared"] == "orography (taken from the first file)"
    assert "not compared" not in repr(plan_of(paths[:1]))


PIECES: dict[str, list[dict[str, int]]] = {
    "none": [],
    "too few": [{"start": 0, "first": 0, "length": 3}],
    "too many": [{"start": 0, "first": 0, "length": 5}],
    "a hole": [{"start": 0, "first": 0, "length": 1}, {"start": 2, "first": 1, "length": 2}],
    "overlapping": [{"start": 0, "first": 0, "length": 3}, {"start": 2, "first": 2, "length": 2}],
    "one label twice": [{"start": at, "first": 0, "length": 1} for at in range(4)],
    "before the file": [{"start": 0, "first": -1, "length": 4}],
    "backwards out of the file": [{"start": 0, "first": 2, "length": 4, "step": -1}],
    "empty": [{"start": 0, "first": 0, "length": 0}, {"start": 0, "first": 0, "length": 4}],
}


@pytest.mark.parametrize("name", PIECES)
def test_pieces_that_do_not_fill_their_place_once_are_refused(name: str, made: frazil.Plan) -> None:
    with pytest.raises(frazil.InvalidInputError, match="do not fill lat 0:4 of the target once"):
        frazil.Plan.from_json(changed(made, lambda data: data["sources"][0].update(places={"lat": PIECES[name]})))


@pytest.mark.parametrize("first", [0, 3])
def test_pieces_that_fill_their_place_are_taken(first: int, made: frazil.Plan) -> None:
    piece = {"start": 0, "first": first, "length": 4, "step": -1 if first else 1}

    def change(data: Any) -> None:
        data["sources"][0].update(places={"lat": [piece]})
        data["template"]["arrays"]["tas"].update(role="data")

    assert frazil.Plan.from_json(changed(made, change)).sources[0].places["lat"][0].first == first


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda data: data["template"]["arrays"]["tas"].update(before=[60, 4, 6]), "never cut off"),
        (lambda data: data["template"]["arrays"]["tas"].update(before=[10, 4, 6]), "never left empty"),
        (lambda data: data["template"]["arrays"]["tas"].update(before=[24, 2, 6]), "never left empty"),
        (lambda data: data["template"]["arrays"]["tas"].update(before=[24]), "'tas' had the shape"),
        (lambda data: data["template"]["arrays"]["tas"].update(role="kept"), "never cut off|never left empty"),
        (lambda data: compression(data, codec="zstd", level=3), "'tas' is there already, and keeps its compression"),
        (lambda data: data["template"].update(groups={"x": {}}), "makes groups below one that exists"),
        (lambda data: data["template"]["arrays"]["time"].update(role="kept"), "'time' is written as kept"),
        (lambda data: data["template"]["extents"].update(time=[20, 30]), "never left empty|shape"),
        (lambda data: data["tasks"][0]["regions"][0]["ranges"][0].__setitem__(1, 0), "stay as it is|shares|splits"),
    ],
)
def test_an_append_that_was_tampered_with_is_refused(
    change: Callable[[Any], object], says: str, series: Any, write: Any, convert: Any, plan_of: Any
) -> None:
    convert(write([series(24)]), chunks={"time": 6})
    plan = plan_of(write([series(24, start=24)], name="later"), mode="append")
    assert frazil.Plan.from_json(plan.to_json()) == plan
    with pytest.raises(frazil.InvalidInputError, match=says):
        frazil.Plan.from_json(changed(plan, change))
