"""Datasets, repositories and readers that the tests of the staged writers share."""

from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import xarray as xr

STEPS = 24


def repository(path: Path) -> icechunk.Repository:
    return icechunk.Repository.create(icechunk.local_filesystem_storage(str(path)))


def dataset(start: int = 0, steps: int = STEPS, **changes: Any) -> xr.Dataset:
    """Days on a small grid: two variables, one of them packed, and one without time."""
    days = np.arange(start, start + steps)
    values = days[:, None, None] + np.arange(12).reshape(3, 4) / 10
    packed = {"dtype": "int16", "scale_factor": 0.25, "_FillValue": -999}
    found = xr.Dataset(
        {
            "tas": (("time", "lat", "lon"), values.astype("f4"), {"units": "K"}),
            "pr": (
                ("time", "lat", "lon"),
                days[:, None, None] + np.arange(12).reshape(3, 4) / 4,
                {"units": "mm"},
                packed,
            ),
            "mask": (("lat", "lon"), np.arange(12).reshape(3, 4), {"long_name": "mask"}),
        },
        {
            "time": np.datetime64("2000-01-01", "ns") + days * np.timedelta64(1, "D"),
            "lat": [-10.0, 0.0, 10.0],
            "lon": [0.0, 1.0, 2.0, 3.0],
        },
        {"title": "first"},
    )
    found["time"].encoding = {"units": "days since 2000-01-01", "dtype": "int64", "chunks": (6,)}
    for name in ("tas", "pr"):
        found[name].encoding["chunks"] = (6, 3, 4)
    return found.assign_attrs(**changes) if changes else found


def read(session: icechunk.Session, group: str | None = None, **options: Any) -> xr.Dataset:
    options = {"consolidated": False, "chunks": None} | options
    return xr.open_zarr(session.store, group=group, **options).load()


def committed(repo: icechunk.Repository, ds: xr.Dataset, **options: Any) -> str:
    """Written by Xarray itself."""
    session = repo.writable_session("main")
    ds.to_zarr(session.store, consolidated=False, zarr_format=3, mode="w", **options)
    return session.commit("first")
