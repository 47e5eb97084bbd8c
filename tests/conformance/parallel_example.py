"""Icechunk's documented example of cooperative distributed writes, as a program: python parallel_example.py FILE REPO.

As in https://icechunk.io/en/latest/parallel/, but for the data: the file that it downloads is given. The session is
forked, as this version of Icechunk wants it, and processes are spawned, without which they hang on Linux.
"""

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

import icechunk
import xarray as xr


def write_timestamp(path: str, itime: int, session: icechunk.ForkSession) -> icechunk.ForkSession:
    """One task: one time step."""
    with xr.open_dataset(path) as dataset:
        part = dataset.isel(time=[itime]).drop_vars(["xc", "yc"])
        part.to_zarr(session.store, region="auto", consolidated=False)
    return session


def main(path: str, out: str) -> None:
    """Initialise the store, write every time step, merge, and commit."""
    repo = icechunk.Repository.create(icechunk.local_filesystem_storage(out))
    session = repo.writable_session("main")
    with xr.open_dataset(path) as dataset:
        chunks = tuple(1 if dim == "time" else dataset.sizes[dim] for dim in dataset["Tair"].dims)
        encoding = {"Tair": {"chunks": chunks}}
        dataset["xc"].load()
        dataset["yc"].load()
        lazy = dataset.assign(Tair=dataset["Tair"].chunk(time=1))
        lazy.to_zarr(session.store, compute=False, encoding=encoding, mode="w", consolidated=False)
        steps = dataset.sizes["time"]
    session.commit("initialize store")

    session = repo.writable_session("main")
    fork = session.fork()
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as executor:
        futures = [executor.submit(write_timestamp, path, itime, fork) for itime in range(steps)]
        forks = [future.result() for future in futures]
    session.merge(*forks)
    session.commit("finished writes")


if __name__ == "__main__":
    main(*sys.argv[1:])
