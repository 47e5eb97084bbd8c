"""What every benchmark is made of: two sides that take turns, medians, and a row of the table."""

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

type Measures = dict[str, float]
"""What one run of one side gives, by name: "seconds", "peak_mb", ..."""


@dataclass(frozen=True, slots=True)
class Bench:
    """How the benchmarks are run.

    Attributes
    ----------
    directory
        Where data lies; whoever made it removes it.
    quick
        Whether to use the smallest data that goes through all the code; the numbers mean nothing then.
    repeats
        How often each side runs.
    """

    directory: Path
    quick: bool
    repeats: int

    def size[T](self, full: T, quick: T) -> T:
        """One size or the other."""
        return quick if self.quick else full


@dataclass(frozen=True, slots=True)
class Row:
    """One number of the table.

    Attributes
    ----------
    number, target
        What is measured, and what it is to be.
    measured
        What came out, in the target's terms.
    met
        Whether it is.
    medians
        The absolute medians that it was made from.
    spread
        The lowest and the highest of the single runs, in the target's terms.
    how
        How it was measured.
    """

    number: str
    target: str
    measured: str
    met: bool
    medians: str
    spread: str
    how: str


@dataclass(slots=True)
class Side:
    """The runs of one of the things that are compared."""

    runs: list[Measures] = field(default_factory=list)

    def all(self, name: str = "seconds") -> list[float]:
        """One measure of every run, in order."""
        return [run[name] for run in self.runs]

    def median(self, name: str = "seconds") -> float:
        """The median of one measure."""
        return statistics.median(self.all(name))


def alternate(sides: Mapping[str, Callable[[], Measures]], repeats: int) -> dict[str, Side]:
    """Run the sides in turn, `repeats` times each, so that what else the machine does falls on all of them.

    Every second round goes backwards, for a side that always came after the same other one would
    find the disk as that one left it.
    """
    found = {name: Side() for name in sides}
    for turn in range(repeats):
        for name in list(sides) if turn % 2 == 0 else reversed(list(sides)):
            found[name].runs.append(sides[name]())
            print(f"  {name}: {format_measures(found[name].runs[-1])}", file=sys.stderr, flush=True)
    return found


def format_measures(measures: Measures) -> str:
    """Measures in a line for a person."""
    return ", ".join(f"{name} {value:.3f}" for name, value in measures.items())


def ratios(over: Side, under: Side, name: str = "seconds") -> tuple[float, str]:
    """The ratio of the medians, and the range of the ratios of runs that were neighbours."""
    single = [a / b for a, b in zip(over.all(name), under.all(name), strict=True)]
    return over.median(name) / under.median(name), f"{min(single):.2f} to {max(single):.2f}"


def child(module: str, *arguments: str | Path) -> Measures:
    """Run a benchmark module's own `main` in a fresh process.

    Gives what it prints, and the seconds that it took as `whole`, and its processor time, with
    that of the processes that it started, as `cpu`.
    """
    script = Path(__file__).with_name(f"{module}.py")
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, str(script), *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True
    )
    whole, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    printed = done.stdout.strip()
    return {"whole": whole, "cpu": cpu} | (json.loads(printed.splitlines()[-1]) if printed else {})


def peak_mb() -> float:
    """The largest resident size of this process so far, in megabytes (10^6 bytes).

    From the kernel's status file, whose mark begins with the program: `getrusage` also counts
    the process that this one was started by.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError("the kernel does not say the peak memory")
