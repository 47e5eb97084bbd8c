"""What is committed in parts reads as what is committed at once, whatever happens in between."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pytest
import xarray as xr

import frazil
import frazil.planning.cut
import frazil_functions.plan
import frazil_functions.runs.gather
from frazil_functions.runs.publish import PrivateBranch

from .archives import container, days, kinds, read, reader, together, write, written


@pytest.fixture(autouse=True)
def parts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was committed to private branches, with every receipt a part of its own, and every region a task."""
    monkeypatch.setattr(frazil.planning.cut, "REGION_REFERENCES", 5)
    monkeypatch.setattr(frazil_functions.footprint, "REFERENCE_BYTES", 64 << 20)
    monkeypatch.setattr(frazil_functions.plan, "PARTED_UNITS", 3)
    monkeypatch.setattr(frazil_functions.runs.gather, "PART_BYTES", 1)
    seen: list[str] = []
    commit_data = PrivateBranch.commit_data

    def commit(self: PrivateBranch, session: icechunk.Session, message: str, metadata: Any) -> str:
        seen.append(message)
        return commit_data(self, session, message, metadata)

    monkeypatch.setattr(PrivateBranch, "commit_data", commit)
    return seen


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    return written(tmp_path / "in", *((start, start + 10) for start in range(0, 40, 10)))


def plan_of(files: list[str], where: Path, **options: Any) -> frazil.Plan:
    containers = [container(Path(files[0]).parent)]
    options = {"virtual": True, "containers": containers, "workers": 4} | options
    return frazil.plan(files, where, executor=frazil.SerialExecutor(), **options)


def check(where: Path, files: list[str]) -> None:
    assert set(kinds(where, "tas").values()) == {"virtual"}
    xr.testing.assert_identical(read(where, Path(files[0]).parent).load(), together(files))
    repo = reader(where)
    assert list(repo.list_branches()) == ["main"]


def dying(count: int) -> Callable[[frazil.Progress], None]:
    """A client that is killed when some regions are written."""

    def listen(progress: frazil.Progress) -> None:
        if progress.done >= count:
            raise KeyboardInterrupt

    return listen


def test_it_is_one_commit_and_reads_as_the_files(tmp_path: Path, files: list[str], parts: list[str]) -> None:
    plan = plan_of(files, tmp_path / "out")
    assert len(plan.tasks) == 4
    frazil.run(plan, executor=frazil.SerialExecutor(), verify="full")
    assert parts.count("frazil: a part") >= 3
    check(tmp_path / "out", files)
    assert len(list(reader(tmp_path / "out").ancestry(branch="main"))) == 2


def test_an_append_keeps_what_was_there(tmp_path: Path, files: list[str], parts: list[str]) -> None:
    frazil.run(plan_of(files[:2], tmp_path / "out"), executor=frazil.SerialExecutor())
    frazil.run(plan_of(files[2:], tmp_path / "out", mode="append"), executor=frazil.SerialExecutor(), verify="full")
    check(tmp_path / "out", files)
    assert len(list(reader(tmp_path / "out").ancestry(branch="main"))) == 3


@pytest.mark.parametrize("count", [1, 3])
def test_a_killed_client_is_resumed(tmp_path: Path, files: list[str], parts: list[str], count: int) -> None:
    plan = plan_of(files, tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        frazil.run(plan, executor=frazil.SerialExecutor(), run_id="killed", listener=dying(count))
    assert parts
    frazil.resume(tmp_path / "out", "killed", executor=frazil.SerialExecutor(), verify="full")
    check(tmp_path / "out", files)


def test_a_branch_that_moved_meanwhile_keeps_both(tmp_path: Path, files: list[str], parts: list[str]) -> None:
    frazil.run(plan_of(files[:2], tmp_path / "out"), executor=frazil.SerialExecutor())
    plan = plan_of(files[2:], tmp_path / "out", mode="append")
    frazil.convert(files, tmp_path / "out", group="other", executor=frazil.SerialExecutor())
    frazil.run(plan, executor=frazil.SerialExecutor(), verify="full")
    check(tmp_path / "out", files)
    xr.testing.assert_identical(read(tmp_path / "out", group="other").load(), together(files))


def test_a_branch_that_moves_between_two_parts_keeps_both(tmp_path: Path, files: list[str], parts: list[str]) -> None:
    plan = plan_of(files, tmp_path / "out", group="model")
    done = []

    def listen(progress: frazil.Progress) -> None:
        if progress.done >= 2 and not done:
            done.append(progress.done)
            frazil.convert(files, tmp_path / "out", group="other", executor=frazil.SerialExecutor())

    frazil.run(plan, executor=frazil.SerialExecutor(), verify="full", listener=listen)
    assert done
    for group in ("model", "other"):
        found = read(tmp_path / "out", tmp_path / "in", group=group).load()
        xr.testing.assert_identical(found, together(files))


def test_replicas_get_the_same(tmp_path: Path, files: list[str], parts: list[str]) -> None:
    plan = plan_of(files, tmp_path / "out", replicas=[tmp_path / "copy"])
    frazil.run(plan, executor=frazil.SerialExecutor(), verify="full")
    check(tmp_path / "out", files)
    check(tmp_path / "copy", files)


def test_a_killed_client_is_resumed_into_replicas(tmp_path: Path, files: list[str], parts: list[str]) -> None:
    plan = plan_of(files, tmp_path / "out", replicas=[tmp_path / "copy"])
    with pytest.raises(KeyboardInterrupt):
        frazil.run(plan, executor=frazil.SerialExecutor(), run_id="killed", listener=dying(2))
    frazil.resume(tmp_path / "out", "killed", executor=frazil.SerialExecutor(), verify="full")
    check(tmp_path / "out", files)
    check(tmp_path / "copy", files)


def test_values_that_are_copied_are_kept_beside_references(tmp_path: Path, files: list[str], parts: list[str]) -> None:
    odd = write(tmp_path / "in", days(40, 50), "odd.nc", encoding={"tas": {"contiguous": True}})
    plan = plan_of([*files, odd], tmp_path / "out", fallback="native")
    frazil.run(plan, executor=frazil.SerialExecutor(), verify="full")
    found = kinds(tmp_path / "out", "tas")
    assert list(found.values()) == ["virtual"] * 20 + ["native"] * 5
    got = read(tmp_path / "out", tmp_path / "in").load()
    xr.testing.assert_identical(got, together([*files, odd]))
    np.testing.assert_array_equal(got.tas[40:], days(40, 50).tas)


def test_what_references_lead_to_is_copied_in_parts(tmp_path: Path, files: list[str], parts: list[str]) -> None:
    frazil.run(plan_of(files, tmp_path / "out"), executor=frazil.SerialExecutor())
    wanted = together(files)
    containers = [container(tmp_path / "in")]
    frazil.materialize(tmp_path / "out", containers=containers, executor=frazil.SerialExecutor(), verify="full")
    assert set(kinds(tmp_path / "out", "tas").values()) == {"native"}
    xr.testing.assert_identical(read(tmp_path / "out").load(), wanted)
