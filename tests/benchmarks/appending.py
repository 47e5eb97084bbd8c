"""Appending: one step behind a great many."""

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import netCDF4
import numpy as np

from harness import Bench, Measures, Row, child


def measure(bench: Bench) -> list[Row]:
    """One row."""
    steps = bench.size(1_000_000, 1_000)
    whole, archive = bench.directory / "whole.nc", bench.directory / "archive"
    _write(whole, 0, steps)
    child("appending", "create", archive, whole)
    runs: list[Measures] = []
    for number in range(bench.repeats):
        path = bench.directory / f"step{number}.nc"
        _write(path, steps + number, steps + number + 1)
        runs.append(child("appending", "append", archive, path))
    taken = [one["seconds"] for one in runs]
    return [
        Row(
            number=f"one step appended to {steps:,}",
            target="under 2 s",
            measured=f"{median(taken):.2f} s",
            met=median(taken) < 2,
            medians=f"a task carries {median([one['carried'] for one in runs]) / 1000:.1f} kB",
            spread=f"{min(taken):.2f} to {max(taken):.2f} s",
            how='`frazil.convert(..., mode="append")` of a file with one time step, with the serial executor, in a '
            "process that has imported everything; the time coordinate is read by the client, and by no function",
        )
    ]


def _write(path: Path, start: int, stop: int) -> None:
    with netCDF4.Dataset(path, "w") as file:
        for name, length in (("time", stop - start), ("x", 4)):
            file.createDimension(name, length)
            file.createVariable(name, "i8", (name,))[:] = np.arange(length)
        file["time"][:] = np.arange(start, stop)
        file["time"].units = "hours since 1900-01-01"
        file.createVariable("t2m", "f4", ("time", "x"))[:] = np.zeros((stop - start, 4), "f4")


def create(archive: str, path: str) -> Measures:
    """Write the many."""
    import frazil  # noqa: PLC0415  in the process that is measured alone

    with frazil.SerialExecutor() as executor:
        frazil.convert(
            path, archive, chunks={"time": 10_000 if Path(path).stat().st_size > 1 << 20 else 100}, executor=executor
        )
    return {}


def append(archive: str, path: str) -> Measures:
    """Write one more."""
    import pickle  # noqa: PLC0415

    import frazil  # noqa: PLC0415
    from frazil.execution.serial import SerialCalls  # noqa: PLC0415
    from frazil_functions.tasks import WriteTask  # noqa: PLC0415

    carried: list[int] = []

    class WeighedCalls[T, R](SerialCalls[T, R]):
        def submit(self, arguments: Sequence[T]) -> None:
            carried.extend(len(pickle.dumps(one)) for one in arguments if isinstance(one, WriteTask))
            super().submit(arguments)

    class Weighed(frazil.SerialExecutor):
        def calls[T, R](self, function: Callable[[T], R]) -> SerialCalls[T, R]:
            return WeighedCalls(function)

    with Weighed() as executor:
        began = time.perf_counter()
        frazil.convert(path, archive, mode="append", executor=executor)
        seconds = time.perf_counter() - began
    return {"seconds": seconds, "carried": float(max(carried))}


def main(what: str, archive: str, path: str) -> None:
    """Run one side; print what it measured."""
    print(json.dumps(create(archive, path) if what == "create" else append(archive, path)))


if __name__ == "__main__":
    main(*sys.argv[1:])
