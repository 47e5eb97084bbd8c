"""Fixtures for the client's tests: real files, real repositories on local disk."""

from collections.abc import Callable, Iterator
from pathlib import Path

import icechunk
import numpy as np
import pytest
import xarray as xr

import frazil

type Write = Callable[..., list[str]]


@pytest.fixture(scope="session", autouse=True)
def _quiet_icechunk() -> None:
    # Icechunk warns at every opening of local storage; the lock that it asks for is taken.
    icechunk.set_logs_filter("icechunk=error")


def series(start: int, stop: int, **attributes: object) -> xr.Dataset:
    """Hourly values whose number tells their place: hour * 100 + latitude index * 10 + longitude index."""
    hours = np.arange(start, stop)
    values = (hours[:, None, None] * 100 + np.arange(4)[:, None] * 10 + np.arange(5)).astype("f4")
    return xr.Dataset(
        {"tas": (("time", "lat", "lon"), values, {"units": "K", **attributes})},
        coords={
            "time": ("time", hours.astype("i4"), {"units": "hours since 2000-01-01", "calendar": "standard"}),
            "lat": np.linspace(-60, 60, 4),
            "lon": np.linspace(0, 270, 5),
        },
    )


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Three files of 10, 10 and 4 hours; with chunks of 4 hours, two boundaries lie within a chunk or on one."""
    folder = tmp_path / "sources"
    folder.mkdir()
    found = []
    for number, (start, stop) in enumerate([(0, 10), (10, 20), (20, 24)]):
        path = folder / f"part{number}.nc"
        series(start, stop).to_netcdf(path, engine="netcdf4")
        found.append(str(path))
    return found


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Where a repository is to be."""
    return tmp_path / "archive.icechunk"


@pytest.fixture
def serial() -> Iterator[frazil.SerialExecutor]:
    """The executor that runs calls in this process."""
    with frazil.SerialExecutor() as executor:
        yield executor


def read(target: Path, *, branch: str = "main", group: str | None = None) -> xr.Dataset:
    """What a reader with icechunk and Xarray alone sees."""
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(target)))
    with xr.open_zarr(repo.readonly_session(branch).store, consolidated=False, group=group, chunks=None) as found:
        return found.load()


def state(target: Path) -> tuple[str, list[str]]:
    """The tip of main, and all branches."""
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(target)))
    return repo.lookup_branch("main"), sorted(repo.list_branches())
