"""Rounds of several processes that write regions of one archive at once: every value is there in the end.

    uv run python -m tests.faults.at_once --rounds 50 --seed 1

In even rounds the files end where chunks do; in odd ones files of 5 days go into chunks of 7, so that processes share
write units. Every fifth round is in S3, against a server on this machine.
"""

import argparse
import contextlib
import logging
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import boto3
import icechunk
import numpy as np
import xarray as xr
from moto.server import ThreadedMotoServer

import frazil

PROCESSES = 4
FILES = 10
DAYS = 5
"""Days of a file."""


@dataclass(frozen=True, slots=True)
class Round:
    """What one round does; made from its seed alone."""

    number: int
    order: tuple[tuple[int, ...], ...]
    pauses: tuple[float, ...]

    @classmethod
    def of(cls, seed: int, number: int) -> "Round":
        """The round of a number: which process writes which files, and how long it waits before it begins."""
        chance = random.Random(f"{seed}/{number}")  # noqa: S311 - chance that can be repeated
        files = chance.sample(range(FILES), FILES)
        return cls(
            number,
            tuple(tuple(files[at::PROCESSES]) for at in range(PROCESSES)),
            tuple(chance.choice([0.0, chance.uniform(0, 0.2)]) for _ in range(PROCESSES)),
        )

    @property
    def shared(self) -> bool:
        """Whether processes share write units."""
        return self.number % 2 == 1

    @property
    def remote(self) -> bool:
        """Whether the archive is in S3."""
        return self.number % 5 == 4


def days(start: int, stop: int) -> xr.Dataset:
    """Values that tell their day and place."""
    stamps = np.arange(start, stop)
    values = (stamps[:, None] * 100 + np.arange(30)).astype("f4")
    return xr.Dataset(
        {"tas": (("time", "x"), values, {"units": "K"}), "count": (("time",), stamps.astype("i4"))},
        {"time": ("time", stamps.astype("i4"), {"units": "days since 2000-01-01", "calendar": "standard"})},
    )


def write_files(folder: Path) -> list[str]:
    """The files that every round writes."""
    found = []
    for number in range(FILES):
        path = folder / f"part{number:02}.nc"
        days(number * DAYS, (number + 1) * DAYS).to_netcdf(path)
        found.append(str(path))
    return found


def fill(files: list[str], target: str, pause: float, *, shared: bool) -> list[str]:
    """What one process does: write its files, one after the other; returns the snapshots."""
    icechunk.set_logs_filter("icechunk=error")
    time.sleep(pause)
    return [frazil.write_region(file, target, partial="merge" if shared else "error").snapshot_id for file in files]


def play(one: Round, files: list[str], target: str, pool: ProcessPoolExecutor) -> None:
    """Make the archive, let all processes fill it, and look at everything.

    Raises
    ------
    AssertionError
        If a value or a commit is missing, or anything is left over.
    """
    chunks = {"time": 7 if one.shared else DAYS, "x": 10}
    last = f"{np.datetime64('2000-01-01') + np.timedelta64(FILES * DAYS - 1, 'D')}"
    frazil.create_template(files[0], target, global_start="2000-01-01", global_end=last, chunks=chunks)
    writing = [
        pool.submit(fill, [files[at] for at in mine], target, pause, shared=one.shared)
        for mine, pause in zip(one.order, one.pauses, strict=True)
    ]
    snapshots = [snapshot for process in writing for snapshot in process.result()]
    repo = frazil.open_repository(target, create=False)
    history = [snapshot.id for snapshot in repo.ancestry(branch="main")]
    assert set(snapshots) <= set(history), "a commit is gone"
    assert len(history) == FILES + 2, f"{len(history)} commits"  # the repository's first, and the template's
    with xr.open_zarr(repo.readonly_session("main").store, consolidated=False, chunks=None) as found:
        expected = xr.decode_cf(days(0, FILES * DAYS))
        lost = int((found["tas"].values != expected["tas"].values).any(axis=1).sum())
        assert not lost, f"{lost} of {FILES * DAYS} days are lost"
        assert np.array_equal(found["count"].values, expected["count"].values)
    assert list(repo.list_branches()) == ["main"]
    states = {run.state for run in frazil.runs(target)}
    assert states == {"published"}, states


@contextlib.contextmanager
def s3() -> Iterator[str]:
    """A bucket on a server of its own; this process's environment, and that of those it starts, leads there."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": url,
        "AWS_ALLOW_HTTP": "true",
    }
    boto3.client("s3", endpoint_url=url).create_bucket(Bucket="at-once")
    yield "s3://at-once"
    server.stop()


def run(rounds: int, seed: int, first: int = 0) -> list[str]:
    """Play rounds; returns what went wrong in each that failed."""
    wrong = []
    folder = Path(tempfile.mkdtemp(prefix="frazil-at-once-"))
    try:
        files = write_files(folder)
        with s3() as bucket, ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool:
            for number in range(first, first + rounds):
                one = Round.of(seed, number)
                target = f"{bucket}/round-{number}" if one.remote else str(folder / f"round-{number}")
                began = time.perf_counter()
                try:
                    play(one, files, target, pool)
                    said = "whole"
                except Exception as error:  # noqa: BLE001 - whatever a process raises, the round has failed
                    said = f"{type(error).__name__}: {error}"
                    wrong.append(f"round {number}: {said}")
                kind = f"{'shared' if one.shared else 'disjoint'}, {'S3' if one.remote else 'disk'}"
                sys.stdout.write(f"{number:4} {kind:14} {time.perf_counter() - began:5.1f} s  {said}\n")
                sys.stdout.flush()
    finally:
        shutil.rmtree(folder)
    return wrong


def main() -> int:
    """Play the rounds that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--first", type=int, default=0, help="the number of the first round")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    icechunk.set_logs_filter("icechunk=error")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    wrong = run(options.rounds, options.seed, options.first)
    sys.stdout.write(f"{options.rounds} rounds, {len(wrong)} failed\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
