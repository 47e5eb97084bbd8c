"""Receipts put while a task runs: what they cost of its throughput."""

import json
import sys

from harness import Bench, Measures, Row, alternate, child

ARRAYS = 10
SIDE = 1000
"""A region is one chunk of 1000 x 1000 float32: 4 MB."""

OFTEN_SECONDS = 0.25
"""How often receipts are put here, so that there are enough of them to be measured."""

USUAL_SECONDS = 2.0
"""The shortest interval that a run uses; later ones are longer."""


def measure(bench: Bench) -> list[Row]:
    """One row."""
    regions = bench.size(200, 10)

    def run(seconds: float) -> Measures:
        return child("flushing", bench.directory / "archive", str(regions), str(seconds))

    sides = alternate({"never": lambda: run(1e9), "often": lambda: run(OFTEN_SECONDS)}, bench.repeats)
    never, often = sides["never"], sides["often"]
    share = often.median("cost") / USUAL_SECONDS * 100
    single = [one / USUAL_SECONDS * 100 for one in often.all("cost")]
    return [
        Row(
            number="receipts put while a task runs",
            target="under 2 % of throughput",
            measured=f"{share:.2f} %",
            met=share < 2,
            medians=f"{regions} regions of 4 MB in {never.median():.2f} s without and {often.median():.2f} s with "
            f"{often.median('receipts'):.0f} receipts, {often.median('cost') * 1e3:.1f} ms each",
            spread=f"{min(single):.2f} to {max(single):.2f} %",
            how=f"the time that beginning a part of {ARRAYS} arrays and putting its receipt takes, of the shortest "
            f"interval between two ({USUAL_SECONDS:g} s); the times of whole tasks differ by less than the noise",
        )
    ]


def main(archive: str, regions: str, seconds: str) -> None:
    """Write one task; print how long it took, and what each receipt cost."""
    import shutil  # noqa: PLC0415  in the process that is measured alone
    import time  # noqa: PLC0415

    import icechunk  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415
    import zarr  # noqa: PLC0415

    from frazil_functions.forks import dump_fork  # noqa: PLC0415
    from frazil_functions.locations import Location  # noqa: PLC0415
    from frazil_functions.regions import Region  # noqa: PLC0415
    from frazil_functions.rundir import RunDirectory  # noqa: PLC0415
    from frazil_functions.tasks import WriteTask  # noqa: PLC0415
    from frazil_functions.writing.parts import Parts  # noqa: PLC0415
    from frazil_functions.writing.task import write_task  # noqa: PLC0415

    count = int(regions)
    for path in (archive, f"{archive}.frazil"):
        shutil.rmtree(path, ignore_errors=True)
    repo = icechunk.Repository.create(icechunk.local_filesystem_storage(archive))
    session = repo.writable_session("main")
    root = zarr.open_group(session.store, mode="a")
    per = -(-count // ARRAYS)
    for at in range(ARRAYS):
        shape, chunks, dims = (per, SIDE, SIDE), (1, SIDE, SIDE), ("time", "y", "x")
        root.create_array(f"v{at}", shape=shape, chunks=chunks, dtype="f4", dimension_names=dims)
    base = session.commit("template")
    values = np.random.default_rng(0).normal(size=(1, SIDE, SIDE)).astype("f4")

    class Same:
        def read(self, *_: object) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
            return values

    spent = 0.0

    def timed(name: str) -> None:
        usual = getattr(Parts, name)

        def method(*arguments: object) -> object:
            nonlocal spent
            began = time.perf_counter()
            try:
                return usual(*arguments)
            finally:
                spent += time.perf_counter() - began

        setattr(Parts, name, method)

    timed("begin")
    timed("_put_receipt")
    where = Location(f"{archive}.frazil/bench")
    box = (("y", 0, SIDE), ("x", 0, SIDE))
    task = WriteTask(
        run_id="bench",
        plan_hash="bench",
        number=0,
        group="",
        forks=(dump_fork(repo.writable_session("main").fork()),),
        bases=(base,),
        append_dim=None,
        sources=(),
        regions=tuple(
            Region(f"v{at % ARRAYS}", (("time", at // ARRAYS, at // ARRAYS + 1), *box)) for at in range(count)
        ),
        memory_bytes=256 << 20,
        run_directory=where,
        flush_seconds=float(seconds),
    )
    began = time.perf_counter()
    written = write_task(task, Same())
    took = time.perf_counter() - began
    receipts = len(RunDirectory(where).list_receipts())
    assert written.regions == count
    print(json.dumps({"seconds": took, "receipts": receipts, "cost": spent / receipts}))


if __name__ == "__main__":
    main(*sys.argv[1:])
