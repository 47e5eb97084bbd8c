"""Source files in the raw bucket."""

import secrets
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from .local import LocalAws


def series(hours: int) -> xr.Dataset:
    """As many fields of 128 by 256 random values, which do not compress."""
    values = np.random.default_rng(6).normal(280, 10, (hours, 128, 256)).astype("f4")
    return xr.Dataset(
        {"tas": (("time", "lat", "lon"), values, {"units": "K"})},
        {
            "time": ("time", np.arange(hours), {"units": "hours since 2000-01-01", "calendar": "standard"}),
            "lat": ("lat", np.linspace(-75, 75, 128), {"units": "degrees_north"}),
            "lon": ("lon", np.arange(256) * 1.40625, {"units": "degrees_east"}),
        },
    )


def upload(aws: LocalAws, folder: Path, count: int, hours: int, **how: Any) -> tuple[list[str], xr.Dataset]:
    """Put NetCDF-4 files into the raw bucket.

    Parameters
    ----------
    folder
        A directory of this machine for them to be made in.
    count, hours
        How many files, and the hours in each.
    how
        For `xarray.Dataset.to_netcdf`.

    Returns
    -------
    tuple of list of str and xarray.Dataset
        Their URLs, and what is in all of them together.
    """
    whole = series(count * hours)
    prefix, urls = f"months-{secrets.token_hex(4)}", []
    for number in range(count):
        path = folder / f"{number:04}.nc"
        whole.isel(time=slice(number * hours, (number + 1) * hours)).to_netcdf(path, **how)
        aws.client("s3").upload_file(str(path), aws.raw_bucket, f"{prefix}/{path.name}")
        urls.append(f"s3://{aws.raw_bucket}/{prefix}/{path.name}")
        path.unlink()
    return urls, whole
