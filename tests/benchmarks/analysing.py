"""How long advice on the chunks of many files takes, as a whole process."""

import resource
import subprocess
import sys
import time

from dataset import write_hollow_files
from harness import Bench, Measures, Row, alternate


def measure(bench: Bench) -> list[Row]:
    """One row."""
    files = bench.size(1000, 2)
    paths = write_hollow_files(bench.directory / "files", files, 24, 721)

    def analyse() -> Measures:
        began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "frazil.cli", "analyze", f"{paths[0].parent}/*.nc"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        return {"seconds": seconds, "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}

    side = alternate({"frazil": analyse}, bench.repeats)["frazil"]
    seconds = side.median()
    return [
        Row(
            number=f"{files:,} files analyzed",
            target="under 10 s",
            measured=f"{seconds:.2f} s",
            met=seconds < 10,
            medians=f"{seconds:.2f} s, of which {side.median('cpu'):.2f} s of processor time",
            spread=f"{min(side.all()):.2f} to {max(side.all()):.2f} s",
            how="`frazil analyze` as a whole process, imports and all; NetCDF-4 files without data on a local disk, "
            "with 24 time steps of 721 x 721 and three coordinates each",
        )
    ]
