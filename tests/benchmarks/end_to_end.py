"""From files to a commit, whole processes: `frazil.convert`, and the recipe of Icechunk's and Xarray's documentation.

The recipe: a template by `to_zarr(compute=False)`, a process pool, a task for each chunk that
writes it with `region="auto"` into a fork, one merge and one commit
(https://icechunk.io/en/latest/parallel/).
"""

import multiprocessing
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import icechunk
import xarray as xr
from dataset import STEPS, write_files
from harness import Bench, Row, alternate, child, ratios

CHUNK = 4
"""Time steps of a chunk: 16.6 MB."""


def measure(bench: Bench) -> list[Row]:
    """One row."""
    files, out = bench.directory / "files", bench.directory / "out"
    paths = write_files(files, bench.size(40, 2), bench.size(1020, 64))
    nbytes = sum(path.stat().st_size for path in paths)

    def run(side: str) -> dict[str, float]:
        found = child("end_to_end", side, files, out)
        shutil.rmtree(out)
        return found

    sides = alternate({"frazil": lambda: run("frazil"), "recipe": lambda: run("recipe")}, bench.repeats)
    ratio, spread = ratios(sides["recipe"], sides["frazil"], "whole")
    return [
        Row(
            number=f"{nbytes / 1e9:.1f} GB end to end",
            target="at least 1.5 times faster than the recipe",
            measured=f"{ratio:.2f}",
            met=ratio >= 1.5,
            medians=f"frazil {sides['frazil'].median('whole'):.1f} s, recipe {sides['recipe'].median('whole'):.1f} s",
            spread=spread,
            how=f"whole processes, imports and all, chunks of {CHUNK} time steps (16.6 MB) from files of {STEPS}; "
            "`frazil.convert` with its defaults on Lithops' localhost; the recipe on a pool of two processes (spawn), "
            'one task a chunk, `open_dataset(...).isel(...).to_zarr(fork.store, region="auto")`',
        )
    ]


def frazil_side(files: Path, out: Path) -> None:
    """What a user of Frazil runs."""
    import frazil  # noqa: PLC0415  not in the recipe's processes

    frazil.convert(f"{files}/*.nc", out / "archive", chunks={"time": CHUNK})


def write_chunk(path: Path, start: int, fork: icechunk.ForkSession) -> icechunk.ForkSession:
    """One task of the recipe."""
    with xr.open_dataset(path) as dataset:
        part = dataset.isel(time=slice(start, start + CHUNK)).drop_vars(["lat", "lon"])
        part.to_zarr(fork.store, region="auto", consolidated=False)
    return fork


def recipe_side(files: Path, out: Path) -> None:
    """What a reader of the documentation runs."""
    paths = sorted(files.glob("*.nc"))
    repo = icechunk.Repository.create(icechunk.local_filesystem_storage(str(out)))
    session = repo.writable_session("main")
    with xr.open_mfdataset(paths) as dataset:
        lat, lon = dataset.sizes["lat"], dataset.sizes["lon"]
        dataset.to_zarr(
            session.store,
            compute=False,
            mode="w",
            consolidated=False,
            encoding={"t2m": {"chunks": (CHUNK, lat, lon)}},
        )
    session.commit("initialize store")
    session = repo.writable_session("main")
    fork = session.fork()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, context) as executor:
        tasks = [executor.submit(write_chunk, path, start, fork) for path in paths for start in range(0, STEPS, CHUNK)]
        forks = [task.result() for task in tasks]
    session.merge(*forks)
    session.commit("finished writes")


if __name__ == "__main__":
    {"frazil": frazil_side, "recipe": recipe_side}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
