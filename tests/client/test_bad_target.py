"""A target that cannot be written is refused by `frazil.plan`, and stays as it is, byte for byte."""

import os
from pathlib import Path
from typing import Any

import icechunk
import pytest
import zarr

import frazil


def refused(sources: Any, target: Any, kind: type[frazil.FrazilError], says: str, **options: Any) -> None:
    with pytest.raises(kind, match=says) as caught:
        frazil.plan(sources, target, executor=frazil.SerialExecutor(), **options)
    assert caught.type is kind


@pytest.mark.parametrize("group", ["", "a", "a/b", "a/b/x"])
def test_an_existing_group_is_refused(group: str, tmp_path: Path, series: Any, write: Any, tree: Any) -> None:
    paths = write([series(3)])
    target = tmp_path / "archive"
    repo = frazil.open_repository(target)
    session = repo.writable_session("main")
    zarr.create_group(session.store, path="a/b").create_array("x", shape=(1,), dtype="f4")
    session.commit("there")
    before = tree(tmp_path)
    refused(paths, target, frazil.ExistingGroupError, f"'/{group}' exists .*--group", group=group)
    refused(paths, repo, frazil.ExistingGroupError, f"'/{group}' exists .*--group", group=group)
    assert tree(tmp_path) == before


def test_a_group_below_an_array_is_refused(tmp_path: Path, series: Any, write: Any, tree: Any) -> None:
    paths = write([series(3)])
    repo = frazil.open_repository(tmp_path / "archive")
    session = repo.writable_session("main")
    zarr.create_array(session.store, name="x", shape=(1,), dtype="f4")
    session.commit("there")
    before = tree(tmp_path)
    refused(paths, repo, frazil.InvalidInputError, "'/x/y'.*'/x' is an array", group="x/y")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("group", ["..", "a/../b", "a//b", "./a"])
def test_a_path_that_no_group_has_is_refused(group: str, tmp_path: Path, series: Any, write: Any) -> None:
    paths = write([series(3)])
    refused(paths, tmp_path / "new", frazil.InvalidInputError, "no path of a group", group=group)
    repo = frazil.open_repository(tmp_path / "archive")
    refused(paths, repo, frazil.InvalidInputError, "no path of a group", group=group)


def test_a_new_group_beside_an_old_one_is_not(tmp_path: Path, series: Any, write: Any, convert: Any) -> None:
    convert(write([series(3)]), group="a")
    plan = frazil.plan(write([series(3)]), tmp_path / "archive.icechunk", group="b", executor=frazil.SerialExecutor())
    assert plan.target.base is not None


def test_a_foreign_directory_is_refused(tmp_path: Path, series: Any, write: Any, tree: Any) -> None:
    paths = write([series(3)])
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    before = tree(tmp_path)
    refused(paths, tmp_path / "home", frazil.InvalidInputError, "home is a directory that holds something other")
    assert tree(tmp_path) == before


def test_an_empty_directory_is_taken(tmp_path: Path, series: Any, write: Any) -> None:
    (tmp_path / "new").mkdir()
    assert frazil.plan(write([series(3)]), tmp_path / "new", executor=frazil.SerialExecutor()).target.base is None


@pytest.mark.parametrize(("below", "says"), [("", "is a file"), ("a/b", "lies below .*, which is a file")])
def test_a_file_is_no_target(below: str, says: str, tmp_path: Path, series: Any, write: Any, tree: Any) -> None:
    paths = write([series(3)])
    (tmp_path / "file").write_text("x")
    before = tree(tmp_path)
    refused(paths, tmp_path / "file" / below, frazil.InvalidInputError, says)
    assert tree(tmp_path) == before


def test_a_link_that_leads_nowhere_is_no_target(tmp_path: Path, series: Any, write: Any) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    refused(write([series(3)]), tmp_path / "link", frazil.InvalidInputError, "link")


def test_a_folder_without_write_permission_is_no_target(tmp_path: Path, series: Any, write: Any) -> None:
    paths = write([series(3)])
    (tmp_path / "shut").mkdir(mode=0o500)
    if os.access(tmp_path / "shut", os.W_OK):
        pytest.skip("this user writes everywhere, whatever the mode")
    refused(paths, tmp_path / "shut" / "archive", frazil.InvalidInputError, "shut cannot be written")


def test_a_repository_in_memory_is_refused(series: Any, write: Any) -> None:
    repo = icechunk.Repository.create(icechunk.in_memory_storage())
    refused(write([series(3)]), repo, frazil.InvalidInputError, "in memory.*use a local directory")


def test_a_branch_that_does_not_exist_is_refused(tmp_path: Path, series: Any, write: Any, tree: Any) -> None:
    paths = write([series(3)])
    repo = frazil.open_repository(tmp_path / "archive")
    repo.create_branch("drafts", repo.lookup_branch("main"))
    before = tree(tmp_path)
    refused(paths, repo, frazil.InvalidInputError, "no branch 'draft'; did you mean 'drafts'", branch="draft")
    refused(paths, tmp_path / "new", frazil.InvalidInputError, "no repository at .*'main' alone", branch="draft")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("url", ["ftp://host/archive", "s3://", "s3://bucket", "gs:///x", "http://host/archive"])
def test_a_url_that_names_no_storage_is_refused(url: str, series: Any, write: Any) -> None:
    refused(write([series(3)]), url, frazil.InvalidInputError, url)
