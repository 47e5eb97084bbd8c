"""Files whose values tell their place, and what a reader of a repository sees."""

from pathlib import Path

import icechunk
import numpy as np
import xarray as xr


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


def read(target: Path, *, branch: str = "main", group: str | None = None) -> xr.Dataset:
    """What a reader with icechunk and Xarray alone sees."""
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(target)))
    with xr.open_zarr(repo.readonly_session(branch).store, consolidated=False, group=group, chunks=None) as found:
        return found.load()


def state(target: Path) -> tuple[str, list[str]]:
    """The tip of main, and all branches."""
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(target)))
    return repo.lookup_branch("main"), sorted(repo.list_branches())
