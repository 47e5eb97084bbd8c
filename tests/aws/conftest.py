"""What the tests against the local AWS share."""

from collections.abc import Callable
from pathlib import Path

import icechunk
import pytest
import xarray as xr

from .local import LocalAws, redirect
from .sources import upload


@pytest.fixture(scope="session", autouse=True)
def _quiet_icechunk() -> None:
    icechunk.set_logs_filter("icechunk=error")


@pytest.fixture
def as_client(aws: LocalAws, monkeypatch: pytest.MonkeyPatch) -> LocalAws:
    """This process in the role of the client, Lithops included."""
    for name, value in aws.environment("client").items():
        monkeypatch.setenv(name, value)
    redirect()
    return aws


@pytest.fixture
def repository(aws: LocalAws) -> str:
    """The URL of a repository that does not exist yet, and that the roles may use."""
    aws.empty()
    return aws.repository


@pytest.fixture
def months(aws: LocalAws, tmp_path: Path) -> Callable[..., tuple[list[str], xr.Dataset]]:
    """A dozen NetCDF-4 files in the raw bucket, and what is in all of them together."""

    def months(count: int = 12, hours: int = 24) -> tuple[list[str], xr.Dataset]:
        return upload(aws, tmp_path, count, hours)

    return months
