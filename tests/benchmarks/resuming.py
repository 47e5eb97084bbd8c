"""Resuming: how soon a run of many regions, of which few are missing, writes again."""

import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import netCDF4
import numpy as np

from harness import Bench, Measures, Row, child

SIDE = 8
"""A region is one chunk of 8 x 8 float32: it is the number of regions that counts here."""

PER_TASK = 100
"""Regions of a task; each leaves several receipts, for a first one is flushed at once."""


def measure(bench: Bench) -> list[Row]:
    """One row."""
    count = bench.size(10_000, 40)
    path, archive = bench.directory / "many.nc", bench.directory / "archive"
    _write(path, count)
    child("resuming", "start", archive, str(count), path)
    pairs = [(bench.directory / name, bench.directory / f"kept-{name}") for name in ("archive", "archive.frazil")]

    def run() -> Measures:
        for one, kept in pairs:
            shutil.copytree(one, kept)
        found = child("resuming", "resume", archive, str(count))
        for one, kept in pairs:  # a repository knows its own path, and so does a run
            shutil.rmtree(one)
            kept.rename(one)
        return found

    runs = [run() for _ in range(bench.repeats)]
    first = [one["first"] for one in runs]
    return [
        Row(
            number=f"resuming {count:,} regions of which {_missing(count)} are missing",
            target="writes again within 3 s",
            measured=f"{median(first):.2f} s",
            met=median(first) <= 3,
            medians=f"published after {median([one['seconds'] for one in runs]):.2f} s; "
            f"{runs[0]['receipts']:.0f} receipts; regions written again: {max(one['again'] for one in runs):.0f}",
            spread=f"{min(first):.2f} to {max(first):.2f} s",
            how="from the call of frazil.resume to the first call of a function, on a local disk, in a process that "
            "has imported everything",
        )
    ]


def _missing(count: int) -> int:
    return min(10, count // 4)


def _write(path: Path, steps: int) -> None:
    with netCDF4.Dataset(path, "w") as file:
        for name, length in (("time", steps), ("lat", SIDE), ("lon", SIDE)):
            file.createDimension(name, length)
            file.createVariable(name, "f8", (name,))[:] = np.arange(length)
        file["time"].units = "hours since 2000-01-01"
        file.createVariable("t2m", "f4", ("time", "lat", "lon"))[:] = np.random.default_rng(0).normal(
            size=(steps, SIDE, SIDE)
        )


def start(archive: str, count: int, path: str) -> Measures:
    """Start a run and write all of it but some regions, each task in several receipts."""
    from dataclasses import replace  # noqa: PLC0415  in the process that is measured alone

    import frazil  # noqa: PLC0415
    from frazil.planning.make import Options, make_plan  # noqa: PLC0415
    from frazil.planning.scan import Wanted, scan_sources  # noqa: PLC0415
    from frazil_functions.locations import locate  # noqa: PLC0415
    from frazil_functions.plan import PlanTarget  # noqa: PLC0415
    from frazil_functions.runs.start import directory_of, start  # noqa: PLC0415
    from frazil_functions.writing.task import write_task  # noqa: PLC0415

    with frazil.SerialExecutor() as executor:
        found = scan_sources([path], Wanted(), executor, lambda _: None)
    target = PlanTarget(locate(archive), "", "main", None, "create")
    size = 4 * SIDE * SIDE
    options = Options(chunks={"time": 1}, workers=count // PER_TASK or 1, region_bytes=1, task_bytes=size)
    run = start(make_plan(found, target, options), directory_of(locate(archive), "bench"))
    left = set(list(run.plan.regions)[:: count // _missing(count)][: _missing(count)])
    for number in range(len(run.plan.tasks)):
        task = run.task(number, left)
        if task is not None:
            for at in range(0, len(task.regions), PER_TASK // 5):
                write_task(replace(task, regions=task.regions[at : at + PER_TASK // 5]))
    return {"seconds": 0.0}


def resume(archive: str, count: int) -> Measures:
    """Resume it; when the first region is read, and how many are."""
    import frazil  # noqa: PLC0415  in the process that is measured alone
    from frazil.execution.serial import SerialCalls  # noqa: PLC0415
    from frazil_functions.locations import locate  # noqa: PLC0415
    from frazil_functions.runs.start import directory_of  # noqa: PLC0415
    from frazil_functions.tasks import WriteTask  # noqa: PLC0415

    receipts = len(directory_of(locate(archive), "bench").list_receipts())
    wrote: list[int] = []
    first = 0.0
    began = time.perf_counter()

    class Timed(frazil.SerialExecutor):
        def calls[T, R](self, function: Callable[[T], R]) -> SerialCalls[T, R]:
            return TimedCalls(function)

    class TimedCalls[T, R](SerialCalls[T, R]):
        def submit(self, arguments: Sequence[T]) -> None:
            nonlocal first
            first = first or time.perf_counter() - began
            wrote.extend(len(task.regions) for task in arguments if isinstance(task, WriteTask))
            super().submit(arguments)

    with Timed() as executor:
        frazil.resume(archive, "bench", executor=executor)
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "first": first, "receipts": receipts, "again": sum(wrote) - _missing(count)}


def main(what: str, archive: str, count: str, *path: str) -> None:
    """Run one side; print what it measured."""
    print(json.dumps(start(archive, int(count), *path) if what == "start" else resume(archive, int(count))))


if __name__ == "__main__":
    main(*sys.argv[1:])
