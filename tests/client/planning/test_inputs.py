"""Names of files, however they are given."""

import re
from pathlib import Path
from typing import Any

import obstore
import pytest

import frazil
from frazil.planning.inputs import expand
from frazil_functions.reading.remote import split


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


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://host/a.nc?X-Amz-Signature=SECRET", "https://host/a.nc"),
        ("HTTPS://host/*.nc?X-Amz-Signature=SECRET", "https://host/*.nc"),
        ("https://me:SECRET@host/a.nc", "https://host/a.nc"),
        ("http://me:SECRET@host/[a].nc?b=SECRET", "http://host/[a].nc"),
        ("http://me:SECRET@[bad/a.nc?SECRET", "http://[bad/a.nc"),
    ],
)
def test_what_is_secret_in_a_url_is_refused_and_not_shown(url: str, shown: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(url)
    for given in (url, tmp_path / "list.txt"):
        with pytest.raises(frazil.SourceError, match=re.escape(shown)) as caught:
            expand(given)
        assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("key", ["in/a#1.nc", "in/a?1.nc", "in/a[1].nc", "in/a*.nc", "in/p%20q.nc"])
def test_a_key_with_the_signs_of_a_glob_is_that_object(bucket: Any, key: str) -> None:
    for one in (key, "in/a1.nc", "in/ax1.nc", "in/a"):
        bucket.put_object(Key=one, Body=one.encode())
    assert expand(f"s3://raw/{key}") == (f"s3://raw/{key}",)
    store, path = split(f"s3://raw/{key}")
    assert bytes(obstore.get(store, path).bytes()) == key.encode()


def test_objects_whose_keys_have_odd_signs_are_found_by_a_glob(bucket: Any) -> None:
    for key in ("in/a#1.nc", "in/a?1.nc", "in/b.nc"):
        bucket.put_object(Key=key, Body=b"x")
    assert expand("s3://raw/in/a?1.nc") == ("s3://raw/in/a?1.nc",)
    assert expand("s3://raw/in/a*.nc") == ("s3://raw/in/a#1.nc", "s3://raw/in/a?1.nc")


@pytest.mark.parametrize(("url", "says"), [("s3://gone/*.nc", "cannot be listed"), ("s3:///*.nc", "cannot be read")])
def test_a_bucket_that_cannot_be_listed_is_an_error_with_its_url(bucket: Any, url: str, says: str) -> None:
    assert bucket.name == "raw"
    with pytest.raises(frazil.SourceError, match=rf"{re.escape(url)} {says}") as caught:
        expand(url)
    assert "Debug source" not in str(caught.value)


def test_a_path_that_cannot_be_listed_is_an_error_with_its_url(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bucket.name == "raw"

    def refuse(*_: object) -> None:
        raise FileNotFoundError("no such bucket")

    monkeypatch.setattr(obstore, "list", refuse)
    with pytest.raises(frazil.SourceError, match=r"s3://raw/in/\*\.nc cannot be listed: no such bucket"):
        expand("s3://raw/in/*.nc")


def test_a_list_that_names_a_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "self.txt").write_text("self.txt\n")
    with pytest.raises(frazil.SourceError, match=r"names the list self\.txt"):
        expand(tmp_path / "self.txt")
