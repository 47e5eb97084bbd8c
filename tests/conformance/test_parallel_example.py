"""Icechunk's documented example of a parallel write, and the same data through Frazil's functions."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pytest
import xarray as xr
import zarr

import frazil

pytestmark = pytest.mark.slow

SHAPE = (12, 41, 55)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the example downloads ("rasm": monthly temperatures on a curved grid of another calendar), and smaller."""
    rng = np.random.default_rng(0)
    values = rng.normal(5, 10, SHAPE)
    values[:, :4] = np.nan
    lat, lon = np.meshgrid(np.linspace(20, 85, SHAPE[1]), np.linspace(190, 340, SHAPE[2]), indexing="ij")
    time = xr.date_range("1980-09-16T12:00", periods=SHAPE[0], freq="MS", calendar="noleap", use_cftime=True)
    found = xr.Dataset(
        {"Tair": (("time", "y", "x"), values, {"units": "C", "long_name": "Surface air temperature"})},
        {"time": time, "xc": (("y", "x"), lon), "yc": (("y", "x"), lat)},
        {"title": "output of a model"},
    )
    path = tmp_path_factory.mktemp("example") / "rasm.nc"
    found.to_netcdf(path, engine="h5netcdf")
    return path


@pytest.fixture(scope="module")
def documented(file: Path) -> dict[str, Any]:
    out = file.parent / "documented"
    subprocess.run([sys.executable, Path(__file__).with_name("parallel_example.py"), file, out], check=True)
    return contents(icechunk.Repository.open(icechunk.local_filesystem_storage(str(out))))


def contents(repo: icechunk.Repository) -> dict[str, Any]:
    """All that is stored: metadata, values as they are stored, and which chunks there are."""
    session = repo.readonly_session("main")
    root = zarr.open_group(session.store, mode="r")
    found: dict[str, Any] = {"": dict(root.attrs)}
    for name, array in root.arrays():
        found[name] = (array.metadata.to_dict(), np.asarray(array[...]).tobytes(), array.nchunks_initialized)
    return found


def by_to_icechunk(ds: xr.Dataset, session: icechunk.Session, executor: frazil.LithopsExecutor) -> None:
    frazil.to_icechunk(ds, session, mode="w", executor=executor)


def by_store_dask(ds: xr.Dataset, session: icechunk.Session, executor: frazil.LithopsExecutor) -> None:
    ds.to_zarr(session.store, compute=False, mode="w", consolidated=False)
    target = zarr.open_array(session.store, path="Tair", mode="r+")
    frazil.store_dask(session, sources=[ds["Tair"].data], targets=[target], executor=executor)


@pytest.mark.parametrize("write", [by_to_icechunk, by_store_dask])
def test_functions_write_what_the_documented_example_writes(
    write: Callable[[xr.Dataset, icechunk.Session, frazil.LithopsExecutor], None],
    file: Path,
    documented: dict[str, Any],
    tmp_path: Path,
) -> None:
    repo = icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path / "repo")))
    session = repo.writable_session("main")
    with (
        xr.open_dataset(file, engine="h5netcdf") as ds,
        frazil.LithopsExecutor(backend="localhost", workers=2) as executor,
    ):
        lazy = ds.assign(Tair=ds["Tair"].chunk(time=1))
        write(lazy, session, executor)
        session.commit("finished writes")
        xr.testing.assert_identical(xr.open_zarr(repo.readonly_session("main").store, consolidated=False), ds)

    assert contents(repo) == documented
