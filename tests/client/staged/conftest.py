from pathlib import Path

import icechunk
import pytest

import frazil

from .common import committed, dataset, repository


@pytest.fixture
def repo(tmp_path: Path) -> icechunk.Repository:
    return repository(tmp_path / "repo")


@pytest.fixture
def session(repo: icechunk.Repository) -> icechunk.Session:
    return repo.writable_session("main")


@pytest.fixture
def held(repo: icechunk.Repository) -> icechunk.Session:
    """A session of a repository that holds the dataset."""
    committed(repo, dataset())
    return repo.writable_session("main")


@pytest.fixture
def serial() -> frazil.SerialExecutor:
    return frazil.SerialExecutor()
