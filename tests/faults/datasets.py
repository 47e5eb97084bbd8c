"""Small conversions for the fault tables: files of noise, a plan of small regions, and a client to be killed.

Noise does not compress, so every write unit is an object of its own, and what is read back tells its place.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import boto3
import icechunk
import numpy as np
import xarray as xr

import frazil
from frazil.planning.make import Options, make_plan
from frazil.planning.scan import Wanted, scan_sources
from frazil.planning.target import plan_target
from frazil.report import silent
from frazil_functions.locations import locate, storage_of
from frazil_functions.plan import Plan, PlanTarget
from frazil_functions.repositories import open_repository
from frazil_functions.rundir import RunDirectory
from frazil_functions.runs.start import directory_of
from frazil_functions.tasks import Receipt

from .processes import Ended, Program

RUN_ID = "it"
"""The name of every run here."""

_CLIENT = """
import json, pathlib, sys

import icechunk

import frazil
from frazil.report import silent
from frazil_functions.plan import Plan

def say(**what):
    print(json.dumps(what), flush=True)

def main(order):
    icechunk.set_logs_filter("icechunk=error")
    workers = order["workers"]
    executor = frazil.LithopsExecutor(backend="localhost", workers=workers) if workers else frazil.SerialExecutor()
    options = {
        "verify": order["verify"],
        "retry": frazil.Retry(**order["retry"]),
        "listener": lambda progress: say(stage=progress.stage, done=progress.done),
    }
    try:
        with executor:
            if order["do"] == "resume":
                result = frazil.resume(order["target"], order["run_id"], executor=executor, **options)
            else:
                plan = Plan.from_json(pathlib.Path(order["plan"]).read_bytes())
                result = frazil.run(plan, run_id=order["run_id"], executor=executor, **options)
    except frazil.FrazilError as error:
        say(error=type(error).__name__, says=str(error))
    except (icechunk.IcechunkError, OSError) as error:
        say(error="storage", says=str(error))
    else:
        say(published=result.snapshot_id)

main(json.loads(sys.argv[1]))
"""


@dataclass(frozen=True, slots=True)
class Noise:
    """Values of a seed along time, in several files.

    Attributes
    ----------
    files, hours
        How many files, and how many values of time each has.
    width
        How many float64 an hour has.
    """

    files: int = 4
    hours: int = 6
    width: int = 300
    seed: int = 0

    def dataset(self) -> xr.Dataset:
        """All of them as one."""
        count = self.files * self.hours
        values = np.random.default_rng(self.seed).normal(size=(count, self.width))
        time = ("time", np.arange(count), {"units": "hours since 2000-01-01", "calendar": "standard"})
        return xr.Dataset({"noise": (("time", "x"), values)}, {"time": time})

    def write(self, folder: Path) -> list[str]:
        """The files' paths, in order."""
        folder.mkdir(parents=True, exist_ok=True)
        whole = self.dataset()
        paths = []
        for number in range(self.files):
            path = folder / f"{number:02}.nc"
            whole.isel(time=slice(number * self.hours, (number + 1) * self.hours)).to_netcdf(path)
            paths.append(str(path))
        return paths


@dataclass(frozen=True, slots=True)
class Conversion:
    """A plan of a file's noise into a repository that exists and is empty.

    Attributes
    ----------
    noise
        What is converted.
    plan
        One write unit a region.
    target
        The repository.
    base
        Where `main` was before.
    folder
        For what the client needs on disk.
    """

    noise: Noise
    plan: Plan
    target: str
    base: str
    folder: Path

    @property
    def directory(self) -> RunDirectory:
        """Where the run lives."""
        return directory_of(locate(self.target), RUN_ID)

    def client(
        self,
        do: Literal["run", "resume"] = "run",
        *,
        workers: int = 2,
        environment: Mapping[str, str] | None = None,
        largest_file: int | None = None,
        verify: str = "full",
        **retry: Any,
    ) -> Program:
        """A client of its own; no workers make it do everything in its own process."""
        plan = self.folder / "plan.json"
        plan.write_bytes(self.plan.to_json())
        order = {
            "do": do,
            "target": self.target,
            "plan": str(plan),
            "run_id": RUN_ID,
            "workers": workers,
            "verify": verify,
            "retry": {"backoff": 0.2} | retry,
        }
        temporary = {"TMPDIR": str(self.folder)}
        return Program(_CLIENT, order, environment=temporary | dict(environment or {}), largest_file=largest_file)

    def run(self, **options: Any) -> frazil.Result:
        """Run it here, in this process."""
        return frazil.run(
            self.plan, run_id=RUN_ID, **({"executor": frazil.SerialExecutor(), "verify": "full"} | options)
        )

    def resume(self, **options: Any) -> frazil.Result:
        """Go on with it here, in this process."""
        options = {"executor": frazil.SerialExecutor(), "verify": "full"} | options
        return frazil.resume(self.target, RUN_ID, **options)

    def receipts(self) -> dict[str, Receipt]:
        """The receipts that can be read."""
        names = self.directory.list_receipts()
        return {name: receipt for name, receipt in self.directory.read_receipts(names) if isinstance(receipt, Receipt)}

    def receipted(self) -> Counter[str]:
        """How many receipts name each region."""
        return Counter(str(one.region) for receipt in self.receipts().values() for one in receipt.regions)

    def tip(self) -> str:
        """Where `main` is."""
        return icechunk.Repository.open(storage_of(locate(self.target))).lookup_branch("main")

    def assert_untouched(self) -> None:
        """Fail unless readers see what they saw before, and the run can be resumed."""
        assert self.tip() == self.base
        assert self.directory.outcome() is None

    def assert_old_or_whole(self) -> None:
        """Fail unless readers see what they saw before, or all of it by one commit."""
        if self.tip() != self.base:
            self.assert_whole()

    def assert_whole(self) -> None:
        """Fail unless readers see all of it, by one commit."""
        repo = icechunk.Repository.open(storage_of(locate(self.target)))
        first, second, *rest = [snapshot.id for snapshot in repo.ancestry(branch="main")]
        assert second == self.base, f"{first} stands on {second}, with {rest} below, and not on {self.base} alone"
        store = repo.readonly_session("main").store
        with xr.open_zarr(store, consolidated=False, chunks=None) as found:
            xr.testing.assert_identical(found.load(), xr.decode_cf(self.noise.dataset()))

    def assert_published(self) -> None:
        """Fail unless readers see all of it, and nothing of the run is left but its story."""
        self.assert_whole()
        repo = icechunk.Repository.open(storage_of(locate(self.target)))
        assert sorted(repo.list_branches()) == ["main"]
        outcome = self.directory.outcome()
        assert outcome is not None
        assert outcome.state == "published"
        assert outcome.snapshots[-1] == self.tip()
        assert self.directory.list_receipts() == []


def conversion(
    noise: Noise, target: str, folder: Path, *, sources: list[str] | None = None, tasks: int = 2
) -> Conversion:
    """Plan a conversion, two hours a chunk; the repository is made, the sources are written into the folder."""
    sources = sources or noise.write(folder / "sources")
    base = open_repository(target).lookup_branch("main")
    serial = frazil.SerialExecutor()
    found = scan_sources(sources, Wanted(), serial, silent)
    hours = noise.hours * noise.files
    options = Options(chunks={"time": min(2, hours)}, workers=tasks, region_bytes=1, task_bytes=1)
    return Conversion(
        noise,
        make_plan(found, plan_target(target, PlanTarget(None, "", "main", None, "create"))[0], options),
        target,
        base,
        folder,
    )


def upload(paths: list[str], bucket: str, server: str) -> list[str]:
    """Put files into a bucket, past the proxy; their URLs."""
    client = boto3.client("s3", endpoint_url=server)
    for path in paths:
        client.upload_file(path, bucket, f"raw/{Path(path).name}")
    return [f"s3://{bucket}/raw/{Path(path).name}" for path in paths]


def last(ended: Ended) -> Any:
    """What a client said in the end: what it published, or its error."""
    assert ended.code == 0, ended.errors
    return ended.lines[-1]
