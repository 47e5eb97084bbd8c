"""A dataset behind dask into a session, whole processes: `frazil.to_icechunk`, and Icechunk's with dask.distributed.

Every chunk of the dataset is made by dask itself (a smooth field and a little noise), so that no disk is read, and is
one chunk of the repository. Both sides make the same values, in as many processes.
"""

import json
import pickle
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness import Bench, Measures, Row, alternate, child, ratios

if TYPE_CHECKING:
    import xarray as xr

PROCESSES = 2
SIDE = 1024
"""A chunk is one time step of 1024 x 1024 float32: 4.2 MB."""

CHUNKS = 10_000
"""How many chunks the dataset has of which the payload of a task is measured."""


def measure(bench: Bench) -> list[Row]:
    """One row for the time, and one for what a task carries."""
    steps, side = bench.size(960, 8), bench.size(SIDE, 64)
    out = bench.directory / "out"

    def run(which: str) -> Measures:
        found = child("dask_backed", which, out, str(steps), str(side))
        shutil.rmtree(out)
        return found

    sides = alternate({"frazil": lambda: run("frazil"), "distributed": lambda: run("distributed")}, bench.repeats)
    ratio, spread = ratios(sides["distributed"], sides["frazil"], "whole")
    cpu, _ = ratios(sides["distributed"], sides["frazil"], "cpu")
    nbytes = steps * side * side * 4
    chunks = bench.size(CHUNKS, 50)
    payload = child("dask_backed", "payload", out, str(chunks), "64")
    most, tasks = payload["most"], payload["tasks"]
    return [
        Row(
            number=f"{nbytes / 1e9:.1f} GB behind dask into a session",
            target="at least 1.3 times faster than icechunk's with dask.distributed",
            measured=f"{ratio:.2f}",
            met=ratio >= 1.3,
            medians=f"frazil {sides['frazil'].median('whole'):.1f} s, icechunk "
            f"{sides['distributed'].median('whole'):.1f} s; ratio of processor time {cpu:.2f}",
            spread=spread,
            how=f"whole processes, imports and all, {steps} chunks of {side * side * 4 / 1e6:.1f} MB that dask "
            f"computes; `frazil.to_icechunk` on Lithops' localhost with {PROCESSES} workers; "
            f"`icechunk.xarray.to_icechunk` with `distributed.Client(n_workers={PROCESSES})`; both commit",
        ),
        Row(
            number=f"payload of a task of {chunks:,} dask chunks",
            target="at most 64 kB",
            measured=f"{most / 1e3:.1f} kB",
            met=most <= 64_000,
            medians=f"{tasks:.0f} tasks, {payload['total'] / 1e6:.2f} MB in all",
            spread=f"{payload['least'] / 1e3:.1f} to {most / 1e3:.1f} kB",
            how="`frazil.to_icechunk` of a dataset of as many chunks of 64 x 64 float32; the pickle of every call's "
            "argument",
        ),
    ]


def field(step: "np.ndarray[Any, Any]", side: int) -> "np.ndarray[Any, Any]":
    """Time steps of a smooth field with a little noise."""
    lat, lon = np.linspace(-1.5, 1.5, side, dtype="f4"), np.linspace(0, 6.3, side, dtype="f4")
    found = np.empty((len(step), side, side), "f4")
    for at, number in enumerate(step):
        noise = np.random.default_rng(int(number)).normal(0, 0.05, side * side).astype("f4")
        found[at] = noise.reshape(side, side)
        found[at] += 280 + 25 * np.cos(lat)[:, None] + 5 * np.sin(3 * lon + number / 24)[None, :]
    return found


def dataset(steps: int, side: int) -> "xr.Dataset":
    """The dataset: a dask array, and labels in memory."""
    import dask.array as da  # noqa: PLC0415  in the processes that are measured alone
    import xarray as xr  # noqa: PLC0415

    numbers = da.arange(steps, chunks=1)
    values = da.map_blocks(field, numbers, side, dtype="f4", new_axis=(1, 2), chunks=(1, side, side))
    return xr.Dataset({"t2m": (("time", "lat", "lon"), values)}, {"time": np.arange(steps)})


def frazil_side(out: Path, steps: int, side: int) -> Measures:
    """What a user of Frazil runs."""
    import icechunk  # noqa: PLC0415

    import frazil  # noqa: PLC0415

    repo = icechunk.Repository.create(icechunk.local_filesystem_storage(str(out)))
    session = repo.writable_session("main")
    with frazil.LithopsExecutor(backend="localhost", workers=PROCESSES) as executor:
        executor.warm()
        frazil.to_icechunk(dataset(steps, side), session, executor=executor)
    session.commit("written")
    return {}


def distributed_side(out: Path, steps: int, side: int) -> Measures:
    """What a reader of Icechunk's documentation runs."""
    import distributed  # noqa: PLC0415
    import icechunk  # noqa: PLC0415
    import icechunk.xarray  # noqa: PLC0415

    repo = icechunk.Repository.create(icechunk.local_filesystem_storage(str(out)))
    session = repo.writable_session("main")
    with distributed.Client(n_workers=PROCESSES, threads_per_worker=1, dashboard_address=None):
        icechunk.xarray.to_icechunk(dataset(steps, side), session)
    session.commit("written")
    return {}


def payload_side(out: Path, chunks: int, side: int) -> Measures:
    """What every call is sent."""
    import icechunk  # noqa: PLC0415

    import frazil  # noqa: PLC0415
    from frazil.execution.serial import SerialCalls  # noqa: PLC0415

    sizes: list[int] = []
    submit = SerialCalls.submit

    def counted(calls: SerialCalls[Any, Any], arguments: Any) -> None:
        sizes.extend(len(pickle.dumps(argument)) for argument in arguments)
        submit(calls, arguments)

    SerialCalls.submit = counted  # type: ignore[method-assign]
    repo = icechunk.Repository.create(icechunk.local_filesystem_storage(str(out)))
    frazil.to_icechunk(dataset(chunks, side), repo.writable_session("main"), executor=frazil.SerialExecutor())
    shutil.rmtree(out)
    return {"most": max(sizes), "least": min(sizes), "tasks": len(sizes), "total": sum(sizes)}


if __name__ == "__main__":
    run = {"frazil": frazil_side, "distributed": distributed_side, "payload": payload_side}[sys.argv[1]]
    print(json.dumps(run(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))))
