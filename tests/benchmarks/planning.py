"""How long a plan of many regions takes, from files to the proven plan."""

import json
import sys
import time
from pathlib import Path

from dataset import write_hollow_files
from harness import Bench, Row, alternate, child

STEPS = 100
"""Time steps of a file."""


def measure(bench: Bench) -> list[Row]:
    """One row."""
    files = bench.size(100, 2)
    write_hollow_files(bench.directory / "files", files, STEPS, 2900)
    count = files * STEPS
    side = alternate({"frazil": lambda: child("planning", bench.directory, str(count))}, bench.repeats)["frazil"]
    seconds = side.median()
    return [
        Row(
            number=f"{count:,} regions planned",
            target="under 2 s",
            measured=f"{seconds:.2f} s",
            met=seconds < 2,
            medians=f"{seconds:.2f} s, of which {side.median('scan'):.2f} s reads the metadata of {files} files",
            spread=f"{min(side.all()):.2f} to {max(side.all()):.2f} s",
            how="`frazil.plan` in a fresh process after imports, with the serial executor; files without data, "
            "one chunk of 34 MB a region; reading the files' metadata included",
        )
    ]


def main(directory: Path, count: int) -> None:
    """Plan, and tell how long it took and how much of that the metadata."""
    import frazil  # noqa: PLC0415  in the process that is measured alone

    began = time.perf_counter()
    planning = began

    def listen(progress: frazil.Progress) -> None:
        nonlocal planning
        if progress.stage == "plan":
            planning = time.perf_counter()

    with frazil.SerialExecutor() as executor:
        plan = frazil.plan(
            f"{directory}/files/*.nc",
            directory / "archive",
            chunks={"time": 1, "lat": -1, "lon": -1},
            executor=executor,
            workers=100,
            listener=listen,
        )
    ended = time.perf_counter()
    assert plan.region_count == count
    print(json.dumps({"seconds": ended - began, "scan": planning - began}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
