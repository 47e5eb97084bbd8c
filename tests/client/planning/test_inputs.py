"""Names of files, however they are given."""

from pathlib import Path
from typing import Any

import pytest

import frazil
from frazil.planning.inputs import expand


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.nc", "a.nc", "c.txt", "deep/d.nc", "deep/deeper/e.nc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "x.zarr").mkdir()
    return tmp_path


def names(found: tuple[str, ...], folder: Path) -> list[str]:
    return [str(Path(name).relative_to(folder)) for name in found]


def test_a_path_is_taken_as_it_is_and_made_absolute(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert expand("a.nc") == expand(Path("a.nc")) == expand(folder / "a.nc") == (str(folder / "a.nc"),)


def test_a_list_keeps_its_order_and_globs_are_sorted(folder: Path) -> None:
    found = expand([folder / "deep/d.nc", str(folder / "*.nc")])
    assert names(found, folder) == ["deep/d.nc", "a.nc", "b.nc"]


def test_two_stars_go_down_every_folder(folder: Path) -> None:
    assert names(expand(str(folder / "**/*.nc")), folder) == ["a.nc", "b.nc", "deep/d.nc", "deep/deeper/e.nc"]


def test_a_zarr_directory_is_one_source(folder: Path) -> None:
    assert names(expand(str(folder / "*.zarr")), folder) == ["x.zarr"]


def test_a_file_whose_name_has_brackets_is_that_file(folder: Path) -> None:
    (folder / "a[1].nc").write_text("")
    assert names(expand(str(folder / "a[1].nc")), folder) == ["a[1].nc"]


def test_a_home_directory_is_expanded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    assert expand("~/a.nc") == (str(folder / "a.nc"),)
    assert len(expand("~/*.nc")) == 2


def test_a_text_file_lists_sources_relative_to_itself(folder: Path) -> None:
    (folder / "deep/list.txt").write_text("# a comment\n\n../a.nc\n  d.nc  \n*er/*.nc\n")
    assert names(expand(str(folder / "deep/list.txt")), folder) == ["deep/../a.nc", "deep/d.nc", "deep/deeper/e.nc"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([], "no source files were given"),
        (["gone.nc"], "gone.nc does not exist"),
        (["*.grib"], "no files match .*grib"),
        (["a.nc", "./a.nc"], "a.nc is given twice"),
        (["a.nc", "*.nc"], "a.nc is given twice"),
        (["a.nc", "deep/../a.nc"], "a.nc is given twice"),
        (["none.txt"], "none.txt cannot be read as a list of files"),
        (["c.txt"], "c.txt lists no files"),
        (["https://host/*.nc"], "a web server does not list its files"),
    ],
)
def test_what_names_nothing_is_refused(
    given: list[str], says: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(frazil.SourceError, match=says):
        expand(given)


def test_globs_of_objects_are_listed(bucket: Any) -> None:
    for key in ("in/b.nc", "in/a.nc", "in/a.txt", "in/deep/c.nc", "other/a.nc", "z/1.zarr/zarr.json", "z/1.zarr/t/c/0"):
        bucket.put_object(Key=key, Body=b"x")
    assert expand("s3://raw/in/*.nc") == ("s3://raw/in/a.nc", "s3://raw/in/b.nc")
    assert expand("s3://raw/in/**/*.nc") == ("s3://raw/in/a.nc", "s3://raw/in/b.nc", "s3://raw/in/deep/c.nc")
    assert expand("s3://raw/**/*.zarr") == ("s3://raw/z/1.zarr",)
    assert expand("s3://raw/*/a.nc") == ("s3://raw/in/a.nc", "s3://raw/other/a.nc")
    assert expand("s3://raw/z/*.zarr") == ("s3://raw/z/1.zarr",)
    with pytest.raises(frazil.SourceError, match="no objects match s3://raw/none"):
        expand("s3://raw/none/*.nc")
