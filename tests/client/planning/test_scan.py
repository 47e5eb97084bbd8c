"""Who reads the metadata of many files: functions, with the same result as here."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tests.client.hourly import series

import frazil
from frazil.execution.serial import SerialCalls
from frazil.planning.scan import FANNED_OUT_LOCAL, Wanted, scan_sources
from frazil.report import Progress, silent


class Counting(frazil.SerialExecutor):
    """Counts what it is asked to call."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    @property
    def workers(self) -> int:
        return 3

    def calls[T, R](self, function: Callable[[T], R]) -> SerialCalls[T, R]:
        found = super().calls(function)
        submit = found.submit

        def counted(arguments: Sequence[T]) -> None:
            self.asked.append((function.__name__, len(arguments)))
            submit(arguments)

        found.submit = counted  # type: ignore[method-assign]
        return found


@pytest.fixture
def many(tmp_path: Path) -> list[str]:
    """A thousand names of ten files: what is read is real, and making it takes no time."""
    for number in range(10):
        series(4 * number, 4 * number + 4).to_netcdf(tmp_path / f"{number}.nc")
    names = []
    for number in range(FANNED_OUT_LOCAL):
        (tmp_path / f"name{number}.nc").symlink_to(tmp_path / f"{number % 10}.nc")
        names.append(str(tmp_path / f"name{number}.nc"))
    return names


def test_functions_read_the_metadata_of_many_files(many: list[str]) -> None:
    told: list[Progress] = []
    with Counting() as executor:
        found = scan_sources(many, Wanted(), executor, told.append)
    assert executor.asked == [("scan", 3)]
    assert [file.url for file in found.files] == many
    assert found.append_dim == "time"
    assert len([digest for digest in found.labels if found.labels[digest].shape == (4,)]) == 11  # ten times, one lat
    assert [(progress.done, progress.total) for progress in told][-1] == (1000, 1000)


def test_few_files_are_read_without_calling_anything(many: list[str]) -> None:
    with Counting() as executor:
        found = scan_sources(many[:10], Wanted(), executor, silent)
    assert executor.asked == []
    assert len(found.files) == 10


def test_a_file_that_cannot_be_read_by_a_function_is_named(many: list[str], tmp_path: Path) -> None:
    (tmp_path / "name500.nc").unlink()
    (tmp_path / "name500.nc").write_bytes(b"\x89HDF\r\n\x1a\n")
    with Counting() as executor, pytest.raises(frazil.SourceError, match=r"name500\.nc"):
        scan_sources(many, Wanted(), executor, silent)
