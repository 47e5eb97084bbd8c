"""What cannot be referred to is refused before the first write, and nothing is left."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import frazil

from .archives import LAT, LON, container, days, write, written


def small(folder: Path) -> list[str]:
    return [write(folder, days(0, 2), "small.nc", encoding={"tas": {}})]


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (lambda f: written(f, (0, 10)), {"load": ["nothing"]}, "load names 'nothing'"),
        (lambda f: written(f, (0, 10)), {"load": ["tas"]}, "nothing to refer to"),
        (small, {}, "less than 64 KiB"),
        (lambda f: written(f, (0, 10)), {"compression": "tas=zstd:3"}, "compressed already"),
        (lambda f: written(f, (0, 10)), {"chunks": {"lat": 4}}, "whose chunks cannot be changed"),
        (lambda f: written(f, (0, 10)), {"shards": {"time": 10}}, "whose chunks cannot be changed"),
        (lambda f: written(f, (0, 10)), {"chunks": "auto:temporal"}, "whose chunks cannot be changed"),
        (lambda f: written(f, (0, 10)), {"pack": True}, "(?s)pack.*load"),
        (lambda f: written(f, (0, 10)), {"keepbits": {"tas": 7}}, "(?s)keepbits.*load"),
        (lambda f: written(f, (0, 10), encoding={"tas": {"contiguous": True}}), {"chunks": {"time": 3}}, "divisor"),
        (lambda f: written(f, (0, 10)), {"fallback": "copy"}, "fallback"),
        (lambda f: written(f, (0, 10)), {"containers": ["s3://elsewhere/"]}, "container"),
        (lambda f: written(f, (0, 10)), {"containers": []}, "container"),
    ],
)
def test_it_is_refused_before_anything_is_written(
    tmp_path: Path, make: Callable[[Path], list[str]], options: dict[str, Any], words: str
) -> None:
    files = make(tmp_path / "in")
    options = {"containers": [container(tmp_path / "in")]} | options
    with pytest.raises(frazil.InvalidInputError, match=words):
        frazil.convert(files, tmp_path / "out", virtual=True, executor=frazil.SerialExecutor(), **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_text_of_any_length_is_loaded_or_refused_with_the_reason(tmp_path: Path) -> None:
    names = ("time", "lat", "lon"), [[["x" * (at % 5) for at in range(LON)]] * LAT] * 10
    file = write(tmp_path / "in", days(0, 10, name=names), "text.nc")
    options: dict[str, Any] = {"containers": [container(tmp_path / "in")], "executor": frazil.SerialExecutor()}
    with pytest.raises(frazil.InvalidInputError, match=r"(?s)name.*--load name"):
        frazil.convert([file], tmp_path / "out", virtual=True, **options)
    frazil.convert([file], tmp_path / "out", virtual=True, load=["name"], **options)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    files = written(tmp_path / "in", (0, 10), (10, 20))
    data = Path(files[1]).read_bytes()
    Path(files[1]).write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(frazil.FrazilError, match=r"010-020\.nc"):
        frazil.convert(
            files,
            tmp_path / "out",
            virtual=True,
            containers=[container(tmp_path / "in")],
            executor=frazil.SerialExecutor(),
        )
    repo = tmp_path / "out"
    assert not repo.exists() or not list(frazil.open_repository(repo).readonly_session("main").store.list_dir(""))
