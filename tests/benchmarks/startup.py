"""A tiny job through Lithops' localhost, against the imports that nobody can do without."""

import shutil
import subprocess
import sys
import time

from dataset import write_files
from harness import Bench, Measures, Row, alternate, ratios


def measure(bench: Bench) -> list[Row]:
    """One row."""
    files, out = bench.directory / "files", bench.directory / "out"
    write_files(files, 1, 8)
    convert = f"import frazil; frazil.convert({str(files / '*.nc')!r}, {str(out / 'archive')!r})"

    def ours() -> Measures:
        seconds = _python(convert)
        shutil.rmtree(out)
        return {"seconds": seconds}

    sides = {"frazil": ours, "imports": lambda: {"seconds": _python("import xarray, zarr, icechunk")}}
    alternate(sides, 1)  # whatever has no bytecode yet is compiled, and the disk's cache is warm
    found = alternate(sides, bench.repeats)
    ratio, spread = ratios(found["frazil"], found["imports"])
    return [
        Row(
            number="start-up: a tiny job, whole process",
            target="at most 3 times `import xarray, zarr, icechunk`",
            measured=f"{ratio:.2f}",
            met=ratio <= 3,
            medians=f"frazil {found['frazil'].median():.2f} s, imports {found['imports'].median():.2f} s",
            spread=spread,
            how="`frazil.convert` of one file of 24 x 8 x 8 values with its defaults on Lithops' localhost; "
            "everything byte-compiled",
        )
    ]


def _python(code: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began
