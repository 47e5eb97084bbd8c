"""How long it takes to initialise an array of very many chunks: create it, and commit the template."""

import json
import shutil
import sys
import time
from pathlib import Path

from harness import Bench, Measures, Row, alternate, child


def measure(bench: Bench) -> list[Row]:
    """One row."""
    steps = bench.size(100_000, 100)
    out = bench.directory / "out"

    def run() -> Measures:
        found = child("template", out, str(steps))
        shutil.rmtree(out)
        return found

    side = alternate({"frazil": run}, bench.repeats)["frazil"]
    seconds = side.median()
    return [
        Row(
            number=f"a template of {steps * 100:,} chunks initialised",
            target="under 2 s",
            measured=f"{seconds:.3f} s",
            met=seconds < 2,
            medians=f"{seconds:.3f} s",
            spread=f"{min(side.all()):.3f} to {max(side.all()):.3f} s",
            how=f"in a fresh process after imports: template built from metadata, written with its {steps:,} labels, "
            "and committed on a private branch",
        )
    ]


def main(out: Path, steps: int) -> None:
    """Build, write and commit a template as a run does."""
    import numpy as np  # noqa: PLC0415  in the process that is measured alone

    import frazil  # noqa: PLC0415
    from frazil.template.build import Recoding, build  # noqa: PLC0415
    from frazil.template.chunking import ChunkChoice  # noqa: PLC0415
    from frazil_functions.locations import location_of  # noqa: PLC0415
    from frazil_functions.reading.scanning import FileMetadata, Labels, VariableMetadata  # noqa: PLC0415
    from frazil_functions.runs.publish import PrivateBranch, tip_of  # noqa: PLC0415
    from frazil_functions.runs.template import write_template  # noqa: PLC0415

    sizes = {"time": steps, "lat": 720, "lon": 1440}
    labels = {dim: Labels.of(np.arange(size, dtype="f8")) for dim, size in sizes.items()}
    variables = {dim: VariableMetadata((dim,), (size,), "<f8", {}, labels[dim].digest) for dim, size in sizes.items()}
    variables["t2m"] = VariableMetadata(tuple(sizes), tuple(sizes.values()), "<f4", {"units": "K"}, None)
    repo = frazil.open_repository(out / "archive")
    began = time.perf_counter()
    chunks = ChunkChoice({"time": 1, "lat": 72, "lon": 144}, {})
    template = build(FileMetadata("", sizes=sizes, variables=variables), labels, "time", chunks, Recoding({}, {}))
    private = PrivateBranch.make(repo, location_of(repo), "bench", "main", tip_of(repo, "main"))
    session = repo.writable_session(private.name)
    write_template(session, "", template, {}, "create")
    private.commit_template(session, "frazil: template")
    seconds = time.perf_counter() - began
    assert template.arrays["t2m"].grid.total == steps * 100
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
