"""Files to read: smooth fields with a little noise, as models write them."""

from pathlib import Path

import h5py
import netCDF4
import numpy as np

STEPS = 24
"""Time steps of a file."""


def write_files(directory: Path, count: int, side: int, *, zlib: bool = False) -> list[Path]:
    """NetCDF-4 files that follow each other in time, each `STEPS` x `side` x `side` float32.

    `side` 1020 makes 100 MB of values. The noise is a thousandth of the range of the field.
    """
    directory.mkdir(parents=True)
    rng = np.random.default_rng(0)
    lat, lon = np.linspace(-89, 89, side), np.linspace(0, 359, side)
    smooth = 280 + 25 * np.cos(np.radians(lat))[:, None] + 5 * np.sin(np.radians(3 * lon))[None, :]
    noise = rng.normal(0, 0.05, (side + 64, side + 64)).astype("f4")
    paths = []
    for number in range(count):
        path = directory / f"part{number:03d}.nc"
        with netCDF4.Dataset(path, "w") as file:
            for name, values in (("time", number * STEPS + np.arange(STEPS)), ("lat", lat), ("lon", lon)):
                file.createDimension(name, len(values))
                file.createVariable(name, "f8", (name,))[:] = values
            file["time"].units = "hours since 2000-01-01"
            file["time"].calendar = "standard"
            chunks = (1, side, side) if zlib else None
            data = file.createVariable("t2m", "f4", ("time", "lat", "lon"), zlib=zlib, chunksizes=chunks)
            data.units = "K"
            for step in range(STEPS):
                at = number * STEPS + step
                drift = np.roll(smooth, 3 * at, axis=1) + np.sin(at / 24)
                corner = (at * 7) % 64, (at * 13) % 64
                data[step] = drift + noise[corner[0] : corner[0] + side, corner[1] : corner[1] + side]
        paths.append(path)
    return paths


def write_hollow_files(directory: Path, count: int, steps: int, side: int) -> list[Path]:
    """NetCDF-4 files without data: HDF5 gives space to values when they are written, and none are."""
    directory.mkdir(parents=True)
    paths = []
    for number in range(count):
        path = directory / f"hollow{number:04d}.nc"
        with h5py.File(path, "w") as file:
            labels = {
                "time": number * steps + np.arange(steps),
                "lat": np.linspace(-89, 89, side),
                "lon": np.linspace(0, 359, side),
            }
            for name, values in labels.items():
                file.create_dataset(name, data=values.astype("f8")).make_scale(name)
            file["time"].attrs["units"] = "hours since 2000-01-01"
            data = file.create_dataset("t2m", (steps, side, side), "f4")
            for axis, name in enumerate(labels):
                data.dims[axis].attach_scale(file[name])
        paths.append(path)
    return paths
