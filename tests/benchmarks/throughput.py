"""The work alone on two processes: frazil's functions, and the least that anybody could do."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import h5py
import numcodecs

import frazil
from dataset import STEPS, write_files
from frazil.job import PlanOptions
from harness import Bench, Measures, Row, alternate, ratios
from processes import BarrierExecutor

LEVEL = 0
"""Zarr's default level of zstd, which zstd takes for its own default, 3."""

CHUNK = 4
"""Time steps of a chunk: 16.6 MB."""


@dataclass(frozen=True, slots=True)
class PlainTask:
    """Files to read, and a directory for what comes out."""

    paths: tuple[Path, ...]
    out: Path


def plain(task: PlainTask) -> None:
    """Read with h5py, compress with zstd, write a file for each chunk."""
    codec = numcodecs.Zstd(level=LEVEL)
    for path in task.paths:
        with h5py.File(path) as file:
            values = file["t2m"]
            for start in range(0, STEPS, CHUNK):
                compressed = codec.encode(values[start : start + CHUNK])
                (task.out / f"{path.stem}-{start}").write_bytes(compressed)


def measure(bench: Bench) -> list[Row]:
    """One row for files as they are, one for compressed ones."""
    return [_measure(bench, zlib=False), _measure(bench, zlib=True)]


def _measure(bench: Bench, *, zlib: bool) -> Row:
    paths = write_files(bench.directory / "files", 8, bench.size(1020, 64), zlib=zlib)
    nbytes = sum(_values(path) for path in paths)
    out = bench.directory / "out"

    def ours() -> Measures:
        options: PlanOptions = {"chunks": {"time": CHUNK}, "compression": "zstd:3", "workers": 2}
        plan = frazil.plan(paths, out / "archive", executor=frazil.SerialExecutor(), **options)
        executor = BarrierExecutor(2)
        frazil.run(plan, executor=executor, verify="none")
        shutil.rmtree(out)
        return {"seconds": executor.seconds, "cpu": executor.cpu}

    def theirs() -> Measures:
        out.mkdir()
        executor = BarrierExecutor(2)
        list(executor.map(plain, [PlainTask(tuple(paths[:4]), out), PlainTask(tuple(paths[4:]), out)]))
        shutil.rmtree(out)
        return {"seconds": executor.seconds, "cpu": executor.cpu}

    sides = alternate({"frazil": ours, "plain": theirs}, bench.repeats)
    shutil.rmtree(bench.directory / "files")
    ratio, spread = ratios(sides["plain"], sides["frazil"])
    cpu, _ = ratios(sides["plain"], sides["frazil"], "cpu")
    rates = {name: nbytes / side.median() / 1e6 for name, side in sides.items()}
    return Row(
        number=f"throughput, 8 x {nbytes / 8e6:.0f} MB of {'zlib-compressed' if zlib else 'uncompressed'} NetCDF-4",
        target="at least 0.8 of read + zstd + write",
        measured=f"{ratio:.2f}",
        met=ratio >= 0.8,
        medians=f"frazil {sides['frazil'].median():.2f} s ({rates['frazil']:.0f} MB/s), "
        f"plain {sides['plain'].median():.2f} s ({rates['plain']:.0f} MB/s); ratio of processor time {cpu:.2f}",
        spread=spread,
        how="two processes each, from a common start after all imports to the end of the later one; frazil's read, "
        "checksum, compress and write into a local Icechunk repository; plain: h5py, numcodecs' zstd, one file a chunk",
    )


def _values(path: Path) -> int:
    with h5py.File(path) as file:
        return int(file["t2m"].size) * 4
