"""Packing: looking at all values before, against only reading them; and converting with and without."""

import shutil
import time
from pathlib import Path

import frazil
from dataset import write_files
from frazil_functions.reading.sources import FileSources
from frazil_functions.writing.surveying import Surveyed, SurveyTask, survey_task
from harness import Bench, Measures, Row, alternate, ratios
from processes import BarrierExecutor

CHUNK = 4


def measure(bench: Bench) -> list[Row]:
    """One row for the look at the values, one for the conversion."""
    paths = write_files(bench.directory / "files", 8, bench.size(1020, 64))
    rows = [_survey(bench, paths), _convert(bench, paths)]
    shutil.rmtree(bench.directory / "files")
    return rows


def _survey(bench: Bench, paths: list[Path]) -> Row:
    plan = frazil.plan(
        paths, bench.directory / "archive", chunks={"time": CHUNK}, executor=frazil.SerialExecutor(), workers=1
    )
    array = plan.template.arrays["t2m"]
    regions = tuple(plan.regions)
    task = SurveyTask("time", plan.sources, regions, {"t2m": Surveyed(array.dtype, array.attributes)})

    def ours() -> Measures:
        began, before = time.perf_counter(), time.process_time()
        survey_task(task)
        return {"seconds": time.perf_counter() - began, "cpu": time.process_time() - before}

    def theirs() -> Measures:
        began, before = time.perf_counter(), time.process_time()
        with FileSources(plan.sources, "time") as sources:
            for region in regions:
                sources.read(region, array.dtype, array.attributes)
        return {"seconds": time.perf_counter() - began, "cpu": time.process_time() - before}

    sides = alternate({"survey": ours, "read": theirs}, bench.repeats)
    ratio, spread = ratios(sides["read"], sides["survey"])
    cpu, _ = ratios(sides["read"], sides["survey"], "cpu")
    return Row(
        number=f"the range of {plan.nbytes / 1e6:.0f} MB of uncompressed NetCDF-4, found before packing",
        target="at least 0.8 of reading alone",
        measured=f"{ratio:.2f}",
        met=ratio >= 0.8,
        medians=f"survey {sides['survey'].median():.2f} s, reading {sides['read'].median():.2f} s "
        f"({plan.nbytes / sides['read'].median() / 1e6:.0f} MB/s); ratio of processor time {cpu:.2f}",
        spread=spread,
        how="`survey_task` against reading the same regions through the same sources, in one process, files cached",
    )


def _convert(bench: Bench, paths: list[Path]) -> Row:
    out = bench.directory / "out"

    def side(*, pack: bool) -> Measures:
        executor = BarrierExecutor(2)
        options = {"pack": True, "pack_range": {"t2m": (200.0, 350.0)}} if pack else {}
        plan = frazil.plan(
            paths, out / "archive", chunks={"time": CHUNK}, executor=frazil.SerialExecutor(), workers=2, **options
        )
        frazil.run(plan, executor=executor, verify="none")
        shutil.rmtree(out)
        return {"seconds": executor.seconds, "cpu": executor.cpu}

    def whole(*, pack: bool) -> Measures:
        began = time.perf_counter()
        frazil.convert(
            paths,
            out / "archive",
            chunks={"time": CHUNK},
            executor=frazil.SerialExecutor(),
            verify="none",
            pack=pack,
        )
        seconds = time.perf_counter() - began
        shutil.rmtree(out)
        return {"seconds": seconds}

    sides = alternate({"packed": lambda: side(pack=True), "plain": lambda: side(pack=False)}, bench.repeats)
    both = alternate({"packed": lambda: whole(pack=True), "plain": lambda: whole(pack=False)}, bench.repeats)
    ratio, spread = ratios(both["plain"], both["packed"])
    given, _ = ratios(sides["plain"], sides["packed"])
    return Row(
        number="the same converted with --pack, as int16, its range found first",
        target="at least 0.7 of converting without",
        measured=f"{ratio:.2f}",
        met=ratio >= 0.7,
        medians=f"packed {both['packed'].median():.2f} s, plain {both['plain'].median():.2f} s; with the range given, "
        f"writing alone in two processes, {given:.2f}",
        spread=spread,
        how="one process each, from plan to commit; all values are read twice where they are packed",
    )
