"""Templates and regions in object storage."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import frazil

from .hourly import series


def test_an_archive_in_s3_is_made_and_filled_at_once(bucket: Any, tmp_path: Path) -> None:
    where = "s3://raw/archive"
    for start in range(0, 24, 5):
        path = tmp_path / f"{start}.nc"
        series(start, min(24, start + 5)).to_netcdf(path)
        bucket.upload_file(str(path), f"in/{start}.nc")
    frazil.create_template(
        "s3://raw/in/0.nc", where, global_start="2000-01-01", global_end="2000-01-01T23", chunks={"time": 7}
    )
    with ThreadPoolExecutor(3) as pool:
        writing = [
            pool.submit(frazil.write_region, f"s3://raw/in/{start}.nc", where, partial="merge")
            for start in range(0, 24, 5)
        ]
    assert len({one.result().snapshot_id for one in writing}) == 5
    store = frazil.open_repository(where).readonly_session("main").store
    with xr.open_zarr(store, consolidated=False, chunks=None) as found:
        assert np.array_equal(found.tas, xr.decode_cf(series(0, 24)).tas)
