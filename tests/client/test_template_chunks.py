"""How a group is cut that is made empty: so that each file has write units of its own."""

from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pytest
import xarray as xr
import zarr

import frazil

from .hourly import read, series

RANGE: dict[str, Any] = {"global_start": "2000-01-01", "global_end": "2000-01-10T23"}


def bounded(start: int, stop: int) -> xr.Dataset:
    """Hours with bounds, and with a coordinate beside them."""
    found = series(start, stop)
    hours = found["time"].values
    found["time"].attrs["bounds"] = "time_bnds"
    found["time_bnds"] = ("time", "bnds"), np.stack([hours, hours + 1], axis=1)
    return found.assign_coords(day=("time", hours // 24))


def cut(target: Path) -> dict[str, tuple[int, ...]]:
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(target)))
    group = zarr.open_group(repo.readonly_session("main").store, mode="r")
    return {name: array.shards or array.chunks for name, array in group.arrays()}


@pytest.mark.parametrize("options", [{"chunks": {"time": 8}}, {"chunks": {"time": 4}, "shards": {"time": 8}}])
def test_coordinates_and_bounds_are_cut_as_the_data_is_so_that_nobody_shares_them(
    options: dict[str, Any], target: Path, tmp_path: Path
) -> None:
    bounded(0, 8).to_netcdf(tmp_path / "template.nc")
    frazil.create_template(tmp_path / "template.nc", target, **RANGE, **options)
    found = cut(target)
    assert [found[name][0] for name in ("tas", "time_bnds", "day")] == [8, 8, 8]
    for start in (16, 8):
        bounded(start, start + 8).to_netcdf(tmp_path / "part.nc")
        frazil.write_region(tmp_path / "part.nc", target)
    expected = xr.decode_cf(bounded(8, 24))
    for name in ("tas", "time_bnds", "day"):
        np.testing.assert_array_equal(read(target)[name].values[8:24], expected[name].values)


@pytest.mark.parametrize(("hours", "length"), [(24, 24), (10, 10), (2, 2)])
def test_without_a_choice_a_write_unit_is_as_long_as_the_template(hours: int, length: int, target: Path) -> None:
    frazil.create_template(series(0, hours), target, **RANGE)
    assert cut(target)["tas"][0] == length
    frazil.write_region(series(2 * hours, 3 * hours), target)
    assert int(read(target)["tas"].notnull().all(("lat", "lon")).sum()) == hours


@pytest.mark.parametrize(("hours", "length"), [(60, 20), (61, 26)])
def test_a_template_of_many_chunks_is_cut_evenly_unless_chunks_would_be_tiny(
    hours: int, length: int, target: Path
) -> None:
    # 640 kB an hour, so that some 26 fit into a chunk; 61 is prime.
    large = xr.Dataset(
        {"tas": (("time", "x"), np.zeros((1, 160_000), "f4"))}, {"time": xr.date_range("2000", periods=1)}
    ).isel(time=np.zeros(hours, int))
    large = large.assign_coords(time=xr.date_range("2000-01-01", periods=hours, freq="h"))
    frazil.create_template(large, target, **RANGE)
    assert cut(target)["tas"] == (length, 160_000)


def test_a_file_that_ends_within_a_chunk_is_told_how_the_group_should_have_been_cut(target: Path) -> None:
    frazil.create_template(series(0, 24), target, chunks={"time": 7}, **RANGE)
    with pytest.raises(frazil.UnalignedRegionError, match=r"--partial merge.*create-template --chunks time=N"):
        frazil.write_region(series(0, 24), target)
