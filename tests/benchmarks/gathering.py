"""Receipts to a commit: what Frazil's checks cost on top of Icechunk's own merge and commit."""

import asyncio
import json
import os
import pickle
import sys
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import icechunk

from frazil_functions.regions import Region
from harness import Bench, Row, alternate, child, peak_mb, ratios

PER_TIME = (10, 10)
"""Chunks along latitude and longitude; a region is all of them at one time."""

TIMES = 10
"""Regions of a task: 1,000 chunks."""


@dataclass(frozen=True, slots=True)
class ForkTask:
    """Some tasks' receipts to make, and where to put them."""

    clean: bytes
    base: str
    numbers: range
    tasks: int
    out: Path


def measure(bench: Bench) -> list[Row]:
    """One row for the time, one for the memory."""
    from processes import BarrierExecutor  # noqa: PLC0415  not in the processes that are measured

    tasks = bench.size(1000, 4)
    count = tasks * TIMES * PER_TIME[0] * PER_TIME[1]
    clean, base = _initialise(bench.directory, tasks)
    parts = [ForkTask(clean, base, range(at, tasks, 2), tasks, bench.directory) for at in range(2)]
    list(BarrierExecutor(2).map(make_forks, parts))
    sides = alternate(
        {
            "frazil": lambda: child("gathering", "frazil", bench.directory, str(tasks)),
            "icechunk": lambda: child("gathering", "icechunk", bench.directory, str(tasks)),
        },
        bench.repeats,
    )
    ratio, spread = ratios(sides["frazil"], sides["icechunk"])
    peaks = {name: side.median("peak_mb") for name, side in sides.items()}
    ours = sides["frazil"].all("peak_mb")
    what = f"{tasks:,} receipts of {TIMES} regions of {PER_TIME[0] * PER_TIME[1]} chunks each"
    return [
        Row(
            number=f"{count:,} chunk references gathered and committed: time",
            target="at most 1.3 times bare icechunk",
            measured=f"{ratio:.2f}",
            met=ratio <= 1.3,
            medians=f"frazil {sides['frazil'].median():.2f} s, icechunk {sides['icechunk'].median():.2f} s",
            spread=spread,
            how=f"fresh processes after imports; {what}, referred to as real writes leave it, kept on disk; "
            "frazil: load, admit, merge, compare with the plan, amend; "
            "icechunk: unpickle, merge, commit, into the same repository",
        ),
        Row(
            number=f"{count:,} chunk references gathered and committed: memory",
            target="at most 700 MB",
            measured=f"{peaks['frazil']:.0f} MB",
            met=peaks["frazil"] <= 700,
            medians=f"frazil {peaks['frazil']:.0f} MB, icechunk {peaks['icechunk']:.0f} MB",
            spread=f"{min(ours):.0f} to {max(ours):.0f} MB",
            how="the peak of the whole process, imports included, in the same runs",
        ),
    ]


def _initialise(directory: Path, tasks: int) -> tuple[bytes, str]:
    """Commit an array in a repository as frazil makes them; return the clean fork and its base."""
    import zarr  # noqa: PLC0415  not in the processes that are measured

    import frazil  # noqa: PLC0415

    repo = frazil.open_repository(directory / "archive")
    session = repo.writable_session("main")
    group = zarr.open_group(session.store, mode="a")
    group.create_array("v", shape=(tasks * TIMES, PER_TIME[0], PER_TIME[1] * 16), chunks=(1, 1, 16), dtype="u1")
    base = session.commit("template")
    clean = pickle.dumps(repo.writable_session("main").fork())
    (directory / "clean").write_bytes(clean)
    return clean, base


def make_forks(task: ForkTask) -> None:
    """Make forks that hold references to every chunk of some tasks; keep forks and receipts on disk."""
    from zarr.core.buffer import default_buffer_prototype  # noqa: PLC0415  as above

    from frazil_functions.locations import locate  # noqa: PLC0415
    from frazil_functions.rundir import RunDirectory  # noqa: PLC0415
    from frazil_functions.tasks import Receipt, RegionReceipt  # noqa: PLC0415

    value = default_buffer_prototype().buffer.from_bytes(bytes(1600))  # too long to be kept in the fork itself

    for number in task.numbers:
        fork = pickle.loads(task.clean)  # noqa: S301  this program made it
        times = range(number * TIMES, (number + 1) * TIMES)
        asyncio.run(fork.store.set(f"v/c/{times[0]}/0/0", value))
        data = pickle.dumps(multiplied(fork, times))
        (task.out / f"fork{number}").write_bytes(data)
        receipt = Receipt(
            run_id="bench",
            plan_hash="bench",
            bases=(task.base,),
            number=number,
            regions=tuple(RegionReceipt(region(at), PER_TIME[0] * PER_TIME[1], 1600, at) for at in times),
            forks=(data,),
            started=0.0,
            seconds=1.0,
            read_seconds=0.5,
            write_seconds=0.5,
            peak_memory_bytes=1,
            host="bench",
            versions={},
        )
        RunDirectory(locate(task.out / "bench")).put_receipt(receipt)


def multiplied(fork: icechunk.ForkSession, times: range) -> icechunk.ForkSession:
    """The fork with the reference to its only chunk repeated for every chunk of some times.

    Each gets an object id of its own, as if every chunk had been written. The layout is
    the one that `frazil_functions.forks` reads.
    """
    import msgspec  # noqa: PLC0415  as above

    from frazil_functions.forks import read_fork  # noqa: PLC0415

    state = msgspec.msgpack.decode(read_fork(pickle.dumps(fork)).session, type=list[msgspec.Raw])
    changes = msgspec.msgpack.decode(state[8], type=dict[str, list[Any]])
    [parts] = changes.values()
    nodes = msgspec.msgpack.decode(
        msgspec.msgpack.encode(parts[4]),
        type=dict[tuple[bytes, tuple[()]], dict[tuple[int, ...], dict[str, list[Any]]]],
    )
    [(node, chunks)] = nodes.items()
    [((_, more), offset, length)] = [chunk["Ref"] for chunk in chunks.values()]
    ids = iter(os.urandom(12 * len(times) * PER_TIME[0] * PER_TIME[1]))
    parts[4] = {
        node: {
            (at, lat, lon): {"Ref": [[bytes(islice(ids, 12)), more], offset, length]}
            for at in times
            for lat in range(PER_TIME[0])
            for lon in range(PER_TIME[1])
        }
    }
    parts[5] = len(times) * PER_TIME[0] * PER_TIME[1]
    state[8] = msgspec.Raw(msgspec.msgpack.encode(changes))
    many = icechunk.ForkSession.__new__(icechunk.ForkSession)
    many.__setstate__({"_session": msgspec.msgpack.encode(state)})
    return many


def region(at: int) -> Region:
    """The region of one time."""
    return Region("v", (("time", at, at + 1), ("lat", 0, PER_TIME[0]), ("lon", 0, PER_TIME[1] * 16)))


def frazil_side(repo: icechunk.Repository, directory: Path, tasks: int) -> float:
    """Gather and commit as a run does."""
    from frazil_functions.forks import node_id, read_fork  # noqa: PLC0415
    from frazil_functions.grids import WriteGrid  # noqa: PLC0415
    from frazil_functions.locations import locate, location_of  # noqa: PLC0415
    from frazil_functions.rundir import RunDirectory  # noqa: PLC0415
    from frazil_functions.runs.admit import Expected, ExpectedFork, check_merged  # noqa: PLC0415
    from frazil_functions.runs.gather import Gathering, Sink  # noqa: PLC0415
    from frazil_functions.runs.publish import PrivateBranch  # noqa: PLC0415

    base = repo.lookup_branch("main")
    private = PrivateBranch.make(repo, location_of(repo), str(time.time_ns()), "main", base)
    session = repo.writable_session(private.name)
    grid = WriteGrid("v", ("time", "lat", "lon"), (tasks * TIMES, PER_TIME[0], PER_TIME[1] * 16), (1, 1, 16))
    clean = read_fork((directory / "clean").read_bytes())
    expected = Expected(
        run_id="bench",
        plan_hash="bench",
        forks=(ExpectedFork(base, clean, {node_id(session.get_node_id("/v")): "v"}),),
        regions=frozenset(region(at) for at in range(tasks * TIMES)),
        grids={"v": grid},
    )
    began = time.perf_counter()
    gathering = Gathering(expected, {0: Sink(session)})
    receipts = RunDirectory(locate(directory / "bench"))
    gathering.read(receipts, receipts.list_receipts())
    assert not gathering.missing
    check_merged(session, "", [grid], expected.regions)
    private.commit_data(session, "data", {})
    return time.perf_counter() - began


def icechunk_side(repo: icechunk.Repository, directory: Path, tasks: int) -> float:
    """Merge and commit with nothing else."""
    branch = f"bare{time.time_ns()}"
    repo.create_branch(branch, repo.lookup_branch("main"))
    session = repo.writable_session(branch)
    began = time.perf_counter()
    for number in range(tasks):
        session.merge(pickle.loads((directory / f"fork{number}").read_bytes()))  # noqa: S301  this program made it
    session.commit("data")
    return time.perf_counter() - began


def main(side: str, directory: Path, tasks: int) -> None:
    """Run one side; print its seconds and its peak memory."""
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(directory / "archive")))
    seconds = {"frazil": frazil_side, "icechunk": icechunk_side}[side](repo, directory, tasks)
    print(json.dumps({"seconds": seconds, "peak_mb": peak_mb()}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
