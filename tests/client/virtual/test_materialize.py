"""What references lead to becomes the repository's own, byte for byte, and only that."""

import os
import time
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

import frazil
from frazil.planning.materialize import materialize_plan
from frazil.planning.target import plan_target
from frazil_functions.containers import Container
from frazil_functions.plan import PlanTarget

from .archives import container, days, kinds, read, together, write, written


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    return written(tmp_path / "in", (0, 10), (10, 20))


@pytest.fixture
def archive(tmp_path: Path, files: list[str]) -> Path:
    options = {"virtual": True, "containers": [container(tmp_path / "in")]}
    frazil.convert(files, tmp_path / "out", executor=frazil.SerialExecutor(), **options)
    return tmp_path / "out"


def materialize(archive: Path, tmp_path: Path, **options: Any) -> frazil.Result:
    options = {"executor": frazil.SerialExecutor(), "verify": "full"} | options
    return frazil.materialize(archive, containers=[container(tmp_path / "in")], **options)


def test_all_of_it_reads_without_the_files(archive: Path, tmp_path: Path, files: list[str]) -> None:
    wanted = together(files)
    result = materialize(archive, tmp_path)
    assert result.verified
    for file in files:
        Path(file).unlink()
    assert set(kinds(archive, "tas").values()) == {"native"}
    xr.testing.assert_identical(read(archive).load(), wanted)


def test_a_range_is_materialized_in_whole_chunks_and_the_rest_still_refers(
    archive: Path, tmp_path: Path, files: list[str]
) -> None:
    materialize(archive, tmp_path, region={"time": (3, 9)})
    found = kinds(archive, "tas")
    assert [found[at, 0, 0] for at in range(10)] == ["virtual"] + ["native"] * 4 + ["virtual"] * 5
    xr.testing.assert_identical(read(archive, tmp_path / "in").load(), together(files))


def test_doing_it_again_does_nothing(archive: Path, tmp_path: Path) -> None:
    first = materialize(archive, tmp_path)
    again = materialize(archive, tmp_path)
    assert again.snapshot_id == first.snapshot_id
    assert again.regions == 0


def test_functions_do_it(archive: Path, tmp_path: Path, files: list[str]) -> None:
    with frazil.LithopsExecutor() as executor:
        materialize(archive, tmp_path, executor=executor, verify="sample")
    assert set(kinds(archive, "tas").values()) == {"native"}
    xr.testing.assert_identical(read(archive).load(), together(files))


def test_a_file_that_has_changed_publishes_nothing(archive: Path, tmp_path: Path) -> None:
    before = frazil.open_repository(archive).lookup_branch("main")
    other = write(tmp_path / "in", days(0, 10) + 1, "000-010.nc")
    os.utime(other, (time.time() + 60,) * 2)
    with pytest.raises(frazil.FrazilError, match="changed"):
        materialize(archive, tmp_path, retry=frazil.Retry(attempts=1))
    assert frazil.open_repository(archive).lookup_branch("main") == before
    assert set(kinds(archive, "tas").values()) == {"virtual"}


def test_a_commit_to_the_same_chunks_meanwhile_is_a_conflict(archive: Path, tmp_path: Path) -> None:
    # The plan is made, and somebody replaces a part before it runs.

    asked = PlanTarget(None, "", "main", None, "region", containers=(Container(container(tmp_path / "in")),))
    target, existing = plan_target(archive, asked)
    assert existing is not None
    plan = materialize_plan(existing, target, None, {})
    again = write(tmp_path / "in", days(4, 8) + 1, "again.nc")
    options: dict[str, Any] = {"containers": [container(tmp_path / "in")], "variables": ["tas"], "on_attrs": "keep"}
    frazil.convert([again], archive, mode="region", virtual=True, executor=frazil.SerialExecutor(), **options)
    with pytest.raises(frazil.ConflictError, match="tas"):
        frazil.run(plan, executor=frazil.SerialExecutor())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"variables": ["tsa"]}, "did you mean 'tas'"),
        ({"region": {"tme": (0, 2)}}, "did you mean 'time'"),
        ({"region": {"time": (0, 99)}}, "does not lie in"),
        ({"group": "nowhere"}, "does not exist"),
    ],
)
def test_what_is_not_there_is_refused(archive: Path, tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(frazil.InvalidInputError, match=words):
        materialize(archive, tmp_path, **options)


def test_a_copy_that_is_lost_before_it_is_published_publishes_nothing(archive: Path, tmp_path: Path) -> None:
    before = frazil.open_repository(archive).lookup_branch("main")
    there = set((archive / "chunks").iterdir()) if (archive / "chunks").exists() else set()

    def lose(progress: frazil.Progress) -> None:
        if progress.stage == "verify":
            for chunk in set((archive / "chunks").iterdir()) - there:
                chunk.unlink()

    with pytest.raises(frazil.VerificationError, match=r"tas.*its object is gone"):
        materialize(archive, tmp_path, listener=lose)
    assert frazil.open_repository(archive).lookup_branch("main") == before
