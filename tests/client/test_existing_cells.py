"""docs/existing-stores.md says what is so: every cell of its table, and every example."""

import re
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import pytest
import xarray as xr

import frazil
from frazil.cli import main

from .hourly import series
from .test_modes import Archive

PAGE: Final = Path(__file__).parents[2] / "docs" / "existing-stores.md"
MODES: Final = ("overwrite", "append", "region", "modify", "add")


def held(start: int = 0, stop: int = 24) -> xr.Dataset:
    """Two variables that grow, a static one, and a coordinate of two dimensions."""
    found = series(start, stop).assign_attrs(title="of old")
    found = found.assign(pr=found["tas"] * 2, area=("lat", np.ones(4)))
    return found.assign_coords(cell=(("lat", "lon"), np.ones((4, 5))))


def seen(found: xr.Dataset, name: str, old: object, new: object) -> str:
    """What became of a variable, of which every value was the one and may be the other."""
    if name not in found.variables:
        return "removed"
    values = set(np.unique(found[name].values).tolist())
    return {frozenset({old}): "kept", frozenset({new}): "replaced"}[frozenset(values)]


def labels(found: xr.Dataset) -> str:
    return {-60.0: "kept", -59.0: "replaced"}[float(found["lat"][0])]


def attributes(found: xr.Dataset) -> str:
    of_both = {found.attrs["title"], found["tas"].attrs["note"], found["lat"].attrs["note"]}
    if of_both == {"of new"}:
        return "replaced" if "more" not in found.attrs else "updated"
    return "kept" if of_both == {"of old"} else f"mixed {of_both}"


def noted(dataset: xr.Dataset, note: str, **more: str) -> xr.Dataset:
    found = dataset.assign_attrs(title=note, **more)
    found["tas"].attrs["note"] = found["lat"].attrs["note"] = note
    return found


ROWS: Final[dict[str, tuple[Callable[[xr.Dataset], xr.Dataset], Callable[[xr.Dataset], str]]]] = {
    "other labels": (lambda one: one.assign_coords(lat=one["lat"] + 1), labels),
    "another coordinate": (
        lambda one: one.assign_coords(cell=one["cell"] + 1),
        lambda found: seen(found, "cell", 1.0, 2.0),
    ),
    "other attributes": (lambda one: noted(one, "of new"), attributes),
    "a variable that the group does not have": (
        lambda one: one.assign(new=one["tas"] * 3),
        lambda found: "added" if "new" in found else "dropped",
    ),
    "no values of a variable that has the append dimension": (
        lambda one: one.drop_vars("pr"),
        lambda found: "kept" if "pr" in found else "removed",
    ),
    "no values of a static variable": (lambda one: one.drop_vars("area"), lambda found: seen(found, "area", 1.0, 2.0)),
    "other values of a static variable": (
        lambda one: one.assign(area=one["area"] + 1),
        lambda found: seen(found, "area", 1.0, 2.0),
    ),
}


def table() -> dict[tuple[str, str], str]:
    """What the page says: by row and mode, the word in bold."""
    text = PAGE.read_text()
    rows = [line.strip("|").split("|") for line in text.splitlines() if re.match(r"\|.*\*\*.*\|$", line)]
    found = {}
    for cells in rows:
        for mode, cell in zip(MODES, cells[1:], strict=True):
            (word,) = re.findall(r"\*\*(\w+)\*\*", cell)
            found[cells[0].strip(), mode] = word
    return found


def test_the_page_has_a_row_for_each_question() -> None:
    said = {row for row, _ in table()}
    assert len(said) == len(ROWS)
    for row in ROWS:
        assert len([one for one in said if one.startswith(row)]) == 1, row
    assert "| what the files have | overwrite | append | region | modify | add |" in PAGE.read_text()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("row", ROWS)
def test_each_cell_is_so(tmp_path: Path, target: Path, row: str, mode: str) -> None:
    (word,) = {said for (one, of), said in table().items() if one.startswith(row) and of == mode}
    change, look = ROWS[row]
    archive = Archive(tmp_path / "in", target)
    archive.put(noted(held(), "of old", more="of old"), mode="overwrite", chunks={"time": 10})
    span = {"append": (24, 30), "region": (3, 9)}.get(mode, (0, 24))
    new = change(noted(held(*span), "of old"))
    if mode == "add" and "new" not in new:
        new = new.assign(needed=new["tas"])
    if word == "refused":
        archive.refuse(".", new, mode=mode)
        return
    archive.put(new, mode=mode)
    found = archive.read()
    assert look(found) == word
    grown = "tas" if mode != "add" else next(name for name in ("new", "needed") if name in new)
    np.testing.assert_array_equal(found[grown].sel(time=xr.decode_cf(new)["time"]), new[grown])


@pytest.mark.parametrize("mode", ["append", "region", "modify", "add"])
@pytest.mark.parametrize("on_attrs", ["error", "keep", "update"])
def test_attributes_become_what_was_asked_for(tmp_path: Path, target: Path, mode: str, on_attrs: str) -> None:
    archive = Archive(tmp_path / "in", target)
    archive.put(noted(held(), "of old", more="of old"), mode="overwrite")
    span = {"append": (24, 30), "region": (3, 9)}.get(mode, (0, 24))
    new = noted(held(*span), "of new")
    new = new.assign(needed=new["tas"]) if mode == "add" else new
    if on_attrs == "error":
        archive.refuse("attribute '.*--on-attrs keep .* --on-attrs update", new, mode=mode, on_attrs=on_attrs)
        return
    archive.put(new, mode=mode, on_attrs=on_attrs)
    found = archive.read()
    assert found.attrs == {"title": "of new" if on_attrs == "update" else "of old", "more": "of old"}
    # What is there already, `add` leaves alone.
    assert found["tas"].attrs["note"] == ("of new" if on_attrs == "update" and mode != "add" else "of old")


def test_the_page_s_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    # Eight conversions of a few values each; that examples run on Lithops, too, the README's show.
    monkeypatch.setattr(frazil, "convert", partial(frazil.convert, executor=frazil.SerialExecutor()))
    names: dict[str, object] = {}
    for language, block in re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        if language == "python":
            exec(compile(block, PAGE.name, "exec"), names)  # noqa: S102 - the examples are ours
        for command in block.splitlines() if language == "sh" else []:
            assert main([*shlex.split(command)[1:], "--backend", "serial", "--quiet"]) == 0, command
    said = re.findall(r"^print\(.*\)  # (.*)$", PAGE.read_text(), re.MULTILINE)
    shown = capsys.readouterr().out.splitlines()
    assert len(said) == 3
    assert [line for line in shown if line in said] == said
