"""Many small regions in one task: what each costs beyond starting up."""

import shutil
import sys
from pathlib import Path

import netCDF4
import numpy as np

from harness import Bench, Measures, Row, alternate, child

SIDE = 64
"""A region is one chunk of 64 x 64 float32: 16 kB."""


def measure(bench: Bench) -> list[Row]:
    """One row."""
    count = bench.size(1000, 20)
    out = bench.directory / "out"
    for steps in (1, count):
        _write(bench.directory / f"{steps}.nc", steps)

    def run(steps: int) -> Measures:
        found = child("small_regions", bench.directory / f"{steps}.nc", out)
        shutil.rmtree(out)
        return found

    sides = alternate({"one": lambda: run(1), "many": lambda: run(count)}, bench.repeats)
    one, many = sides["one"].all("whole"), sides["many"].all("whole")
    each = (sides["many"].median("whole") - sides["one"].median("whole")) / (count - 1) * 1e3
    single = [(b - a) / (count - 1) * 1e3 for a, b in zip(one, many, strict=True)]
    return [
        Row(
            number=f"{count:,} regions of 16 kB",
            target="at most 3 ms a region beyond start-up",
            measured=f"{each:.2f} ms",
            met=each <= 3,
            medians=f"one region {sides['one'].median('whole'):.2f} s, {count:,} {sides['many'].median('whole'):.2f} s",
            spread=f"{min(single):.2f} to {max(single):.2f} ms",
            how="whole processes on Lithops' localhost, plan and run with regions of one chunk each, less a run of one "
            "region; one task, as the plan groups so few bytes",
        )
    ]


def _write(path: Path, steps: int) -> None:
    with netCDF4.Dataset(path, "w") as file:
        for name, length in (("time", steps), ("lat", SIDE), ("lon", SIDE)):
            file.createDimension(name, length)
            file.createVariable(name, "f8", (name,))[:] = np.arange(length)
        file["time"].units = "hours since 2000-01-01"
        values = np.random.default_rng(0).normal(size=(steps, SIDE, SIDE)).astype("f4")
        file.createVariable("t2m", "f4", ("time", "lat", "lon"))[:] = values


def main(path: str, out: str) -> None:
    """Plan and run, each region one chunk."""
    import frazil  # noqa: PLC0415  in the process that is measured alone
    from frazil.planning.make import Options, make_plan  # noqa: PLC0415
    from frazil.planning.scan import Wanted, scan_sources  # noqa: PLC0415
    from frazil.report import silent  # noqa: PLC0415
    from frazil_functions.locations import locate  # noqa: PLC0415
    from frazil_functions.plan import PlanTarget  # noqa: PLC0415

    with frazil.LithopsExecutor() as executor:
        executor.warm()
        sources = scan_sources([path], Wanted(append_dim="time"), executor, silent)
        options = Options(chunks={"time": 1}, region_bytes=SIDE * SIDE * 4, workers=executor.workers)
        plan = make_plan(sources, PlanTarget(locate(out), "", "main", None, "create"), options)
        assert plan.region_count == sources.files[0].sizes["time"]
        frazil.run(plan, executor=executor)


if __name__ == "__main__":
    main(*sys.argv[1:])
