"""Whoever has to follow references that are there already says so, or is told how before anything runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

import frazil
from frazil.cli import main

from .archives import container, days, kinds, read, together, write, written


@pytest.fixture
def first(tmp_path: Path) -> list[str]:
    """The files of an archive that ends within a chunk."""
    files = written(tmp_path / "in", (0, 9))
    options = {"virtual": True, "containers": [container(tmp_path / "in")]}
    frazil.convert(files, tmp_path / "out", executor=frazil.SerialExecutor(), **options)
    return files


def append(tmp_path: Path, **options: Any) -> frazil.Result:
    files = written(tmp_path / "late", (9, 20))
    return frazil.append(files, tmp_path / "out", executor=frazil.SerialExecutor(), **options)


def refer(tmp_path: Path, **options: Any) -> frazil.Result:
    options["containers"] = [container(tmp_path / "late"), *options.get("containers", ())]
    return append(tmp_path, virtual=True, fallback="native", **options)


def region(tmp_path: Path, **options: Any) -> frazil.Result:
    file = write(tmp_path / "late", days(3, 8) + 1, "again.nc")
    options |= {"variables": ["tas"], "on_attrs": "keep", "executor": frazil.SerialExecutor()}
    return frazil.convert(file, tmp_path / "out", mode="region", **options)


def materialize(tmp_path: Path, **options: Any) -> frazil.Result:
    return frazil.materialize(tmp_path / "out", executor=frazil.SerialExecutor(), **options)


@pytest.mark.parametrize("writing", [append, refer, region, materialize])
def test_what_nobody_authorised_is_refused_with_the_container_and_no_run_is_left(
    tmp_path: Path, first: list[str], writing: Callable[..., frazil.Result]
) -> None:
    before = frazil.open_repository(tmp_path / "out").lookup_branch("main")
    runs = len(frazil.runs(tmp_path / "out"))
    needed = container(tmp_path / "in")
    with pytest.raises(frazil.InvalidInputError, match=rf"'tas'.*add --container {needed} "):
        writing(tmp_path)
    assert frazil.open_repository(tmp_path / "out").lookup_branch("main") == before
    assert len(frazil.runs(tmp_path / "out")) == runs
    writing(tmp_path, containers=[needed], verify="full")


def test_what_lies_on_whole_chunks_needs_nobodys_leave(tmp_path: Path) -> None:
    first, late = written(tmp_path / "in", (0, 10)), written(tmp_path / "late", (10, 20))
    options = {"virtual": True, "containers": [container(tmp_path / "in")]}
    frazil.convert(first, tmp_path / "out", executor=frazil.SerialExecutor(), **options)
    frazil.append(late, tmp_path / "out", executor=frazil.SerialExecutor())
    assert list(kinds(tmp_path / "out", "tas").values()) == ["virtual"] * 5 + ["native"] * 5
    xr.testing.assert_identical(read(tmp_path / "out", tmp_path / "in").load(), together(first + late))


def test_a_result_names_the_containers_of_all_that_the_group_refers_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, late = written(tmp_path / "in", (0, 10)), written(tmp_path / "late", (10, 20))
    both = [container(tmp_path / "in"), container(tmp_path / "late")]
    frazil.convert(first, tmp_path / "out", virtual=True, containers=both[:1], executor=frazil.SerialExecutor())
    command = ["append", *late, str(tmp_path / "out"), "--virtual", "--container", both[1], "--backend", "serial"]
    assert main(command) == 0
    assert f'virtual_containers=["{both[0]}", "{both[1]}"]' in capsys.readouterr().out
    found = frazil.open_repository(tmp_path / "out", virtual_containers=both).readonly_session("main").store
    got = xr.open_zarr(found, consolidated=False, chunks=None).load()
    xr.testing.assert_identical(got, together(first + late))
