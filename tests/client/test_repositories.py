"""Opening, creating and naming repositories; one lock for each."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import icechunk
import pytest

import frazil
from frazil_functions.locations import Location, locate, location_of
from frazil_functions.locking import exclusive
from frazil_functions.runs.start import directory_of


def test_a_repository_has_one_location_whatever_it_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frazil.open_repository(tmp_path / "r")
    (tmp_path / "link").symlink_to(tmp_path / "r")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path)
    names = ["r", "./r", "below/../r", "link", str(tmp_path / "r"), f"file://{tmp_path}/r"]
    assert {locate(name) for name in names} == {Location(str(tmp_path / "r"))}
    relative = icechunk.Repository.open(icechunk.local_filesystem_storage("./r"))
    assert location_of(relative) == Location(str(tmp_path / "r"))


def test_two_names_of_a_repository_share_its_lock(tmp_path: Path) -> None:
    frazil.open_repository(tmp_path / "r")
    (tmp_path / "link").symlink_to(tmp_path / "r")
    entered = threading.Event()

    def enter() -> None:
        with exclusive(locate(tmp_path / "link")):
            entered.set()

    with exclusive(locate(tmp_path / "r")):
        thread = threading.Thread(target=enter)
        thread.start()
        assert not entered.wait(0.3)
    thread.join()
    assert entered.is_set()


def test_many_that_open_a_new_repository_at_once_get_the_same(tmp_path: Path) -> None:
    for attempt in range(3):
        with ThreadPoolExecutor(8) as pool:
            repos = list(pool.map(lambda _, n=attempt: frazil.open_repository(tmp_path / f"r{n}"), range(8)))
        assert len({repo.lookup_branch("main") for repo in repos}) == 1
        assert len(list(repos[0].ancestry(branch="main"))) == 1


def test_a_repository_that_is_not_there_is_not_created_unless_asked(tmp_path: Path) -> None:
    with pytest.raises(frazil.InvalidInputError, match="there is no repository at"):
        frazil.open_repository(tmp_path / "r", create=False)
    assert list(tmp_path.iterdir()) == []


def test_the_run_directory_lies_beside_the_repository(tmp_path: Path) -> None:
    assert directory_of(locate(tmp_path / "r"), "id").location == Location(f"{tmp_path}/r.frazil/id")
    there = Location("s3://bucket/r", "eu-west-1", "http://127.0.0.1:1")
    assert directory_of(there, "id").location == Location("s3://bucket/r.frazil/id", "eu-west-1", "http://127.0.0.1:1")


def test_azure_needs_its_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(frazil.InvalidInputError, match="AZURE_STORAGE_ACCOUNT_NAME"):
        locate("az://container/prefix")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "someone")
    assert locate("az://container/prefix").url == "az://container/prefix"
