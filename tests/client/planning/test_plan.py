"""The plan is data: equal for equal files, proven when it is read, and making it writes nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

import frazil
from frazil.planning.plan import size


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
