"""A file that changes, or goes, after it was referred to is an error and never wrong values."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pytest

import frazil

from .archives import container, days, read, write, written


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    files = written(tmp_path / "in", (0, 10), (10, 20))
    options = {"virtual": True, "containers": [container(tmp_path / "in")]}
    frazil.convert(files, tmp_path / "out", executor=frazil.SerialExecutor(), **options)
    return tmp_path / "out"


def test_reading_a_changed_file_raises(archive: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "in", days(0, 10) + 1, "000-010.nc")
    os.utime(other, (time.time() + 60,) * 2)
    found = read(archive, tmp_path / "in").tas
    with pytest.raises(icechunk.StorageError, match="has changed"):
        found[:2].load()
    np.testing.assert_array_equal(found[10:], days(10, 20).tas)


def test_reading_a_file_that_is_gone_raises(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "in" / "000-010.nc").unlink()
    with pytest.raises(icechunk.StorageError):
        read(archive, tmp_path / "in").tas[:2].load()


def test_reading_without_authority_raises(archive: Path) -> None:
    with pytest.raises(icechunk.InvalidInputError, match="authorize"):
        read(archive).tas[:2].load()


def test_a_file_that_changes_while_the_run_goes_on_publishes_nothing(tmp_path: Path) -> None:
    files = written(tmp_path / "in", (0, 10), (10, 20))
    options = {"virtual": True, "containers": [container(tmp_path / "in")]}
    plan = frazil.plan(files, tmp_path / "out", executor=frazil.SerialExecutor(), **options)
    write(tmp_path / "in", days(10, 20) + 1, "010-020.nc")
    with pytest.raises(frazil.FrazilError, match="has changed since the plan was made"):
        frazil.run(plan, executor=frazil.SerialExecutor())
    assert "tas" not in frazil.open_repository(tmp_path / "out").readonly_session("main").store.__dict__


def gone(file: Path) -> None:
    file.unlink()


def cut(file: Path) -> None:
    stat = file.stat()
    os.truncate(file, stat.st_size // 3)
    os.utime(file, (stat.st_atime, stat.st_mtime))


def touch(file: Path) -> None:
    os.utime(file, (time.time() + 60,) * 2)


@pytest.mark.parametrize(("change", "words"), [(gone, "is gone"), (cut, "ends before"), (touch, "has changed since")])
def test_whoever_needs_values_of_a_damaged_file_is_told_at_once_what_to_do(
    tmp_path: Path, change: Callable[[Path], None], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    files, late = written(tmp_path / "in", (0, 9)), written(tmp_path / "late", (9, 20))
    options: dict[str, Any] = {"containers": [container(tmp_path / "in")], "executor": frazil.SerialExecutor()}
    frazil.convert(files, tmp_path / "out", virtual=True, **options)
    change(Path(files[0]))
    for writing in (
        lambda: frazil.append(late, tmp_path / "out", **options),
        lambda: frazil.materialize(tmp_path / "out", **options),
    ):
        with pytest.raises(frazil.IncompleteRunError, match=f"the file that it refers to {words}.*Bring it back"):
            writing()
    assert "is tried again" not in caplog.text
