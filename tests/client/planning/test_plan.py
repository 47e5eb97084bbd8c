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
