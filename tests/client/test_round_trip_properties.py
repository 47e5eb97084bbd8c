"""Whatever the shape, the type, the cuts and the layout of files: what comes out is what went in."""

import tempfile
from itertools import pairwise
from pathlib import Path

import hypothesis.strategies as st
import icechunk
import numpy as np
import xarray as xr
from hypothesis import HealthCheck, given, settings

import frazil

DTYPES = ("f4", "f8", "i1", "u2", "i4", "i8", "S4")


@st.composite
def jobs(draw: st.DrawFn) -> tuple[xr.Dataset, list[int], dict[str, int], dict[str, int], int]:
    """A dataset, the lengths of its files, chunks, shards and a number of workers."""
    sizes = {"time": draw(st.integers(1, 17)), "y": draw(st.integers(1, 5)), "x": draw(st.integers(1, 4))}
    variables = {}
    for number in range(draw(st.integers(1, 4))):
        dims = draw(st.sampled_from([("time",), ("time", "y", "x"), ("y", "time"), ("x", "y"), ()]))
        dtype = draw(st.sampled_from(DTYPES))
        shape = tuple(sizes[dim] for dim in dims)
        values = np.arange(1, 1 + np.prod(shape, dtype=int)).reshape(shape) % 120
        variables[f"v{number}"] = dims, values.astype(dtype)
    variables["always"] = ("time",), np.arange(sizes["time"], dtype="f4")
    labels = {"time": ("time", np.arange(sizes["time"]), {"units": "days since 2000-01-01"})}
    cuts = draw(st.sets(st.integers(1, sizes["time"] - 1), max_size=4)) if sizes["time"] > 1 else set()
    lengths = [stop - start for start, stop in pairwise([0, *sorted(cuts), sizes["time"]])]
    dataset = xr.Dataset(variables, labels)
    chunks = {dim: draw(st.integers(1, length)) for dim, length in dataset.sizes.items() if draw(st.booleans())}
    shards = {dim: chunk * draw(st.integers(1, 3)) for dim, chunk in chunks.items() if draw(st.booleans())}
    return (
        dataset,
        lengths,
        {str(k): v for k, v in chunks.items()},
        {str(k): v for k, v in shards.items()},
        draw(st.integers(1, 5)),
    )


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(job=jobs(), engine=st.sampled_from(["netcdf4", "h5netcdf"]))
def test_any_layout_of_files_reads_back_identical(
    job: tuple[xr.Dataset, list[int], dict[str, int], dict[str, int], int], engine: str
) -> None:
    source, lengths, chunks, shards, workers = job
    with tempfile.TemporaryDirectory() as folder:
        edges = np.cumsum([0, *lengths])
        paths = []
        for start, stop in pairwise(edges):
            paths.append(Path(folder) / f"{start}.nc")
            source.isel(time=slice(start, stop)).to_netcdf(paths[-1], engine=engine)
        where = Path(folder) / "archive"
        executor = frazil.SerialExecutor()
        plan = frazil.plan(paths, where, chunks=chunks, shards=shards, workers=workers, executor=executor)
        frazil.run(plan, executor=executor, verify="full")
        repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(where)))
        got = xr.open_zarr(repo.readonly_session("main").store, consolidated=False, chunks=None)
        xr.testing.assert_identical(got, xr.decode_cf(source))
