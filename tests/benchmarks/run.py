"""Measure every number that the project promises, and write them down as a table.

python tests/benchmarks/run.py [--quick] [--only NAME ...] [--out FILE]
"""

import argparse
import importlib
import os
import platform
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from harness import Bench, Row

MODULES = (
    "throughput",
    "end_to_end",
    "dask_backed",
    "small_regions",
    "planning",
    "analysing",
    "template",
    "compression",
    "gathering",
    "flushing",
    "resuming",
    "appending",
    "regions",
    "packing",
    "referring",
    "startup",
    "aws",
)
NOTES = "## What is missed, and why"
"""The heading of what a person adds to the table."""

PACKAGES = (
    "frazil",
    "icechunk",
    "zarr",
    "xarray",
    "dask",
    "distributed",
    "numpy",
    "numcodecs",
    "h5py",
    "lithops",
    "virtualizarr",
)


def main() -> int:
    """Run the benchmarks that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small data and one turn, to see that everything runs")
    parser.add_argument("--only", nargs="+", choices=MODULES, default=MODULES, help="some of the benchmarks")
    parser.add_argument("--repeats", type=int, default=0, help="how often each side runs; 5 by default")
    parser.add_argument("--out", type=Path, help="the Markdown file to write; else it is printed")
    options = parser.parse_args()
    repeats = options.repeats or (1 if options.quick else 5)
    rows: list[Row] = []
    load = os.getloadavg()[0]
    began = time.perf_counter()
    for name in options.only:
        print(name, file=sys.stderr, flush=True)
        directory = Path(tempfile.mkdtemp(prefix="frazil-bench-"))
        try:
            rows += importlib.import_module(name).measure(Bench(directory, options.quick, repeats))
        finally:
            shutil.rmtree(directory)
        print(f"  {rows[-1].measured}", file=sys.stderr, flush=True)
    text = page(rows, repeats, time.perf_counter() - began, load, quick=options.quick)
    if options.out is None:
        print(text)
    else:
        options.out.write_text(text + notes(options.out))
    return 0


def notes(out: Path) -> str:
    """What a person wrote below the table, which a new run keeps."""
    before = out.read_text() if out.exists() else ""
    at = before.find(NOTES)
    return "\n" + before[at:] if at >= 0 else ""


def page(rows: list[Row], repeats: int, seconds: float, load: float, *, quick: bool) -> str:
    """The rows as a page of Markdown."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    lines = [
        "# Benchmarks",
        "",
        "Written by `just bench`. Each number is the ratio of two things that took turns in one run, or the median",
        f"of {repeats} runs; the range beside it is that of the single runs. Trust ratios over times.",
        "",
        *(["**A quick run: the sizes are too small for the numbers to mean anything.**", ""] if quick else []),
        f"- machine: {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}, local disk",
        f"- versions: Python {platform.python_version()}, "
        + ", ".join(f"{package} {version(package)}" for package in PACKAGES),
        f"- run: {datetime.now(UTC):%Y-%m-%d}, {seconds / 60:.0f} minutes; load before it {load:.1f}",
        "",
        "| number | target | measured | range | met | medians | how |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {row.number} | {row.target} | **{row.measured}** | {row.spread} | {'yes' if row.met else '**no**'} | "
            f"{row.medians} | {row.how} |"
            for row in rows
        ),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
