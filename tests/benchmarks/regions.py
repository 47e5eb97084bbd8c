"""Regions written by four processes at once, and the same files converted by one command."""

import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

from dataset import STEPS, write_files
from harness import Bench, Measures, Row, alternate, ratios

PROCESSES = 4


def measure(bench: Bench) -> list[Row]:
    """One row."""
    files = write_files(bench.directory / "files", PROCESSES, bench.size(1020, 64))
    nbytes = sum(path.stat().st_size for path in files)
    target = bench.directory / "archive"

    def run(side: str) -> Measures:
        if side == "regions":
            _make(files, target)
        began, before = time.perf_counter(), _cpu()
        _convert(files, target) if side == "convert" else _fill(files, target)
        found = {"whole": time.perf_counter() - began, "cpu": _cpu() - before}
        for path in (target, target.with_name("archive.frazil")):
            shutil.rmtree(path)
        return found

    sides = alternate({"regions": lambda: run("regions"), "convert": lambda: run("convert")}, bench.repeats)
    ratio, spread = ratios(sides["regions"], sides["convert"], "whole")
    cpu, _ = ratios(sides["regions"], sides["convert"], "cpu")
    return [
        Row(
            number=f"{PROCESSES} `write-region` at once, {nbytes / 1e6:.0f} MB",
            target="at most 1.5 times one `convert`",
            measured=f"{ratio:.2f}",
            met=ratio <= 1.5,
            medians=f"four processes {sides['regions'].median('whole'):.1f} s, convert "
            f"{sides['convert'].median('whole'):.1f} s; ratio of processor time {cpu:.2f}",
            spread=spread,
            how=f"whole processes, from the start of the first to the end of the last; {PROCESSES} files of "
            f"{nbytes / PROCESSES / 1e6:.0f} MB, {STEPS} time steps each, chunks of one step. Each process writes one "
            "file into a group that `create-template` has made before",
        )
    ]


def _convert(files: list[Path], target: Path) -> None:
    subprocess.run(_command("convert", *files, target, "--chunks", "time=1"), check=True, stdout=subprocess.DEVNULL)


def _make(files: list[Path], target: Path) -> None:
    last = STEPS * len(files) - 1
    end = f"2000-01-{1 + last // 24:02}T{last % 24:02}"
    extent = ("--global-start", "2000-01-01", "--global-end", end, "--chunks", "time=1")
    subprocess.run(_command("create-template", files[0], target, *extent), check=True, stdout=subprocess.DEVNULL)


def _fill(files: list[Path], target: Path) -> None:
    running = [subprocess.Popen(_command("write-region", path, target), stdout=subprocess.DEVNULL) for path in files]
    if any([one.wait() for one in running]):  # noqa: C419 - all of them are waited for
        raise RuntimeError("a process failed")


def _cpu() -> float:
    """Processor time of every process that has ended here."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _command(name: str, *arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "frazil.cli", name, *map(str, arguments), "--quiet"]
