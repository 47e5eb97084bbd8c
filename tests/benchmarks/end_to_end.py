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
from harness import Bench, Measures, Row, alternate, child, ratios


def measure(bench: Bench) -> list[Row]:
    """One row for chunks of one time step, as the recipe has them, and one for larger ones."""
    files = bench.directory / "files"
    paths = write_files(files, bench.size(40, 2), bench.size(1020, 64))
    nbytes = sum(path.stat().st_size for path in paths)
    return [_measure(bench, files, nbytes, steps) for steps in (1, 4)]


def _measure(bench: Bench, files: Path, nbytes: int, steps: int) -> Row:
    out = bench.directory / "out"

    def run(side: str) -> Measures:
        found = child("end_to_end", side, files, out, str(steps))
        shutil.rmtree(out)
        return found

    sides = alternate({"frazil": lambda: run("frazil"), "recipe": lambda: run("recipe")}, bench.repeats)
    ratio, spread = ratios(sides["recipe"], sides["frazil"], "whole")
    cpu, _ = ratios(sides["recipe"], sides["frazil"], "cpu")
    chunk = steps * nbytes / len(list(files.iterdir())) / STEPS
    return Row(
        number=f"{nbytes / 1e9:.1f} GB end to end, chunks of {chunk / 1e6:.1f} MB",
        target="at least 1.5 times faster than the recipe",
        measured=f"{ratio:.2f}",
        met=ratio >= 1.5,
        medians=f"frazil {sides['frazil'].median('whole'):.1f} s, recipe {sides['recipe'].median('whole'):.1f} s; "
        f"ratio of processor time {cpu:.2f}",
        spread=spread,
        how=f"whole processes, imports and all, {steps} time step{'s' * (steps > 1)} a chunk from files of {STEPS}; "
        "`frazil.convert` on Lithops' localhost, with Zarr's default codec, which the recipe has; the recipe on "
        "a pool of two processes (spawn), "
        'one task a chunk, `open_dataset(...).isel(...).to_zarr(fork.store, region="auto")`',
    )


def frazil_side(files: Path, out: Path, steps: int) -> None:
    """What a user of Frazil runs."""
    import frazil  # noqa: PLC0415  not in the recipe's processes

    frazil.convert(f"{files}/*.nc", out / "archive", chunks={"time": steps}, compression="zstd:3")


def write_chunk(path: Path, start: int, stop: int, fork: icechunk.ForkSession) -> icechunk.ForkSession:
    """One task of the recipe."""
    with xr.open_dataset(path) as dataset:
        part = dataset.isel(time=slice(start, stop)).drop_vars(["lat", "lon"])
        part.to_zarr(fork.store, region="auto", consolidated=False)
    return fork


def recipe_side(files: Path, out: Path, steps: int) -> None:
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
            encoding={"t2m": {"chunks": (steps, lat, lon)}},
        )
    session.commit("initialize store")
    session = repo.writable_session("main")
    fork = session.fork()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, context) as executor:
        tasks = [
            executor.submit(write_chunk, path, start, start + steps, fork)
            for path in paths
            for start in range(0, STEPS, steps)
        ]
        forks = [task.result() for task in tasks]
    session.merge(*forks)
    session.commit("finished writes")


if __name__ == "__main__":
    {"frazil": frazil_side, "recipe": recipe_side}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
