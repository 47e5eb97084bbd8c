"""Files of an archive, and what plain Icechunk and Xarray read of a repository that refers to them."""

from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pandas as pd
import xarray as xr
import zarr

LAT, LON = 80, 100


def days(start: int, stop: int, **variables: Any) -> xr.Dataset:
    """Days of a year on a grid: 32 kB of float32 each, with what is missing in it."""
    shape = (stop - start, LAT, LON)
    rng = np.random.default_rng(start)
    values = np.round(rng.normal(280, 10, shape), 2).astype("f4")
    values[0, :3, :5] = np.nan
    time = pd.date_range("2001-01-01", periods=stop, freq="D")[start:]
    return xr.Dataset(
        {
            "tas": (("time", "lat", "lon"), values, {"units": "K"}),
            "height": ((), 2.0, {"units": "m"}),
            **variables,
        },
        {
            "time": time,
            "lat": ("lat", np.linspace(-80, 80, LAT), {"units": "degrees_north"}),
            "lon": ("lon", np.linspace(0, 350, LON), {"units": "degrees_east"}),
        },
        {"title": "an archive"},
    )


def written(folder: Path, *spans: tuple[int, int], **options: Any) -> list[str]:
    """Files of some days each; by default NetCDF-4 in chunks of two days, deflated and shuffled."""
    return [write(folder, days(*span), f"{span[0]:03}-{span[1]:03}.nc", **options) for span in spans]


def write(folder: Path, dataset: xr.Dataset, name: str, **options: Any) -> str:
    """One file."""
    folder.mkdir(exist_ok=True, parents=True)
    chunks = {"chunksizes": (2, LAT, LON), "zlib": True, "shuffle": True, "complevel": 4}
    encoding = {"tas": chunks, "time": {"units": "days since 2001-01-01", "dtype": "f8"}}
    encoding |= options.pop("encoding", {})
    dataset.to_netcdf(folder / name, encoding=encoding, **options)
    return str(folder / name)


def together(files: list[str]) -> xr.Dataset:
    """What Xarray reads of the files themselves."""
    how: Any = {"data_vars": "minimal", "coords": "minimal", "compat": "override", "join": "override"}
    with xr.open_mfdataset(files, **how) as opened:
        return opened.load()


def container(folder: Path) -> str:
    """What declares a folder."""
    return f"file://{folder}/"


def reader(repository: Path, *folders: Path) -> icechunk.Repository:
    """The repository as anybody opens it, who says which files may be read."""
    access = {container(folder): icechunk.credentials.LocalFileSystemAccess for folder in folders}
    return icechunk.Repository.open(
        icechunk.local_filesystem_storage(str(repository)), authorize_virtual_chunk_access=access or None
    )


def read(repository: Path, *folders: Path, group: str | None = None, **options: Any) -> xr.Dataset:
    """What plain Icechunk and Xarray read."""
    store = reader(repository, *folders).readonly_session("main").store
    return xr.open_zarr(store, group=group, consolidated=False, chunks=None, **options)


def kinds(repository: Path, path: str) -> dict[tuple[int, ...], str]:
    """What kind each chunk of an array is: "virtual", "native", "inline"; those alone that are stored."""
    session = reader(repository).readonly_session("main")
    array = zarr.open_array(session.store, path=path, mode="r")
    grid = [-(-length // chunk) for length, chunk in zip(array.shape, array.chunks, strict=True)]
    found = {index: str(session.chunk_type(f"/{path}", list(index))).rpartition(".")[2] for index in np.ndindex(*grid)}
    return {index: kind for index, kind in found.items() if kind != "uninitialized"}
