"""Small real jobs for the fault tables: 24 regions in six tasks, started by clients that can be killed, and what is
left of them, as icechunk and Xarray alone and the run directory's own objects show it."""

import json
import os
import secrets
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import icechunk
import numpy as np
import obstore
import pytest
import xarray as xr

import frazil
from frazil.planning.make import Options, make_plan
from frazil.planning.scan import Sources, Wanted, scan_sources
from frazil.report import silent
from frazil_functions.locations import Location, locate, storage_of
from frazil_functions.plan import Plan, PlanTarget
from frazil_functions.repositories import open_repository
from frazil_functions.rundir import RunDirectory
from frazil_functions.storage import open_store
from frazil_functions.tasks import Receipt

from .client import Said, do
from .processes import Program

HOURS = 24
TASKS = 6
RUN = "nightly"


def dataset() -> xr.Dataset:
    """Values that no codec makes short, so that each chunk is an object of its own; labels that Icechunk inlines."""
    chance = np.random.default_rng(1)
    return xr.Dataset(
        {
            "tas": (("time", "lat", "lon"), chance.normal(size=(HOURS, 16, 16)).astype("f4"), {"units": "K"}),
            "mask": (("lat", "lon"), chance.integers(0, 2, (16, 16), "i1")),
        },
        {
            "time": ("time", np.arange(HOURS, dtype="i4"), {"units": "hours since 2000-01-01"}),
            "lat": np.linspace(-60, 60, 16),
            "lon": np.linspace(0, 350, 16),
        },
    )


def write_sources(folder: Path) -> list[str]:
    """The dataset in three files, none of which ends where a task does."""
    found = []
    for number, (start, stop) in enumerate([(0, 10), (10, 19), (19, HOURS)]):
        path = folder / f"part{number}.nc"
        dataset().isel(time=slice(start, stop)).to_netcdf(path, engine="netcdf4")
        found.append(str(path))
    return found


@dataclass(frozen=True, slots=True)
class Files:
    """The sources, scanned."""

    folder: Path
    paths: list[str]
    scanned: Sources

    @classmethod
    def make(cls, folder: Path) -> Self:
        paths = write_sources(folder)
        with frazil.SerialExecutor() as executor:
            return cls(folder, paths, scan_sources(paths, Wanted(), executor, silent))

    def plan(self, where: Location, group: str = "", branch: str = "main") -> Plan:
        """A plan of 24 regions of one chunk each, in six tasks, against what is there now."""
        base = None
        if icechunk.Repository.exists(storage_of(where)):
            base = open_repository(where).lookup_branch(branch)
        goal = PlanTarget(where, group, branch, base, "create")
        options = Options(chunks={"time": 1}, workers=TASKS, region_bytes=1, task_bytes=1)
        return make_plan(self.scanned, goal, options)


@dataclass(frozen=True, slots=True)
class Job:
    """A run that is to be, or is, or was; and what is left of it.

    Attributes
    ----------
    plan
        What it does.
    file
        Where the plan lies for clients.
    run_id
        The run.
    """

    plan: Plan
    file: Path
    run_id: str = RUN

    @classmethod
    def make(cls, files: Files, where: Location | Path | str, *, group: str = "", branch: str = "main") -> Self:
        plan = files.plan(locate(where), group, branch)
        file = files.folder / f"{secrets.token_hex(8)}.json"
        file.write_bytes(plan.to_json())
        return cls(plan, file)

    @property
    def where(self) -> Location:
        assert self.plan.target.location is not None
        return self.plan.target.location

    @property
    def directory(self) -> RunDirectory:
        return RunDirectory(replace(self.where, url=f"{self.where.url}.frazil").below(self.run_id))

    @property
    def repo(self) -> icechunk.Repository:
        return icechunk.Repository.open(storage_of(self.where))

    def named(self, run_id: str) -> "Job":
        """Another run of the same plan."""
        return replace(self, run_id=run_id)

    def run(self, **more: Any) -> dict[str, Any]:
        """What a client is told that is to run it."""
        return {"action": "run", "plan": str(self.file), "options": {"run_id": self.run_id}} | more

    def resume(self, **more: Any) -> dict[str, Any]:
        """What a client is told that is to resume it."""
        return {"action": "resume", "target": self.where.url, "run_id": self.run_id, "options": {}} | more

    def finish(self, **more: Any) -> dict[str, Any]:
        """What a function is told that is to finish it."""
        return {"action": "event", "event": {"action": "finish", "run": self.directory.location.url}} | more

    def left(self) -> list[str]:
        """The names of the objects in its run directory, as the storage lists them."""
        where = self.directory.location
        if where.path is not None:
            found = [str(path.relative_to(where.path)) for path in where.path.rglob("*") if path.is_file()]
        else:
            found = [one["path"] for page in obstore.list(open_store(where)) for one in page]
        return sorted(found)

    def chunks(self) -> int:
        """How many chunks were ever written; each region is one."""
        if self.where.path is not None and not self.where.path.is_dir():
            return 0
        return sum(len(page) for page in obstore.list(open_store(self.where), "chunks"))

    def receipted(self) -> int:
        """How many regions have receipts."""
        read = self.directory.read_receipts([name for name in self.left() if name.startswith("receipts/")])
        return len({one.region for _, receipt in read if isinstance(receipt, Receipt) for one in receipt.regions})

    def commits(self) -> list[str]:
        """The snapshots of the branch that any run of ours made, the latest first."""
        history = self.repo.ancestry(branch=self.plan.target.branch)
        return [one.id for one in history if "frazil" in one.metadata or one.message.startswith("frazil")]

    def read(self) -> xr.Dataset:
        """What a reader of the branch sees, with icechunk and Xarray alone."""
        group = self.plan.target.group or None
        store = self.repo.readonly_session(self.plan.target.branch).store
        with xr.open_zarr(store, group=group, consolidated=False, chunks=None, decode_cf=False) as found:
            return found.load()

    def unpublished(self) -> bool:
        """Whether the branch has nothing of it: no repository, or no commit, and no node of the group."""
        if not icechunk.Repository.exists(storage_of(self.where)):
            return True
        if self.commits():
            return False
        path = f"/{self.plan.target.group}".rstrip("/") + "/tas"
        with pytest.raises(icechunk.NotFoundError):
            self.repo.readonly_session(self.plan.target.branch).get_node_id(path)
        return True

    def assert_published(self, snapshot: str | None = None, branches: Sequence[str] = ()) -> None:
        """Fail unless the branch has the whole of it, in one commit, and nothing but the record is left."""
        (commit,) = self.commits()
        assert snapshot in {None, commit}
        assert_whole(self.read())
        assert set(self.repo.list_branches()) == {"main", self.plan.target.branch, *branches}
        assert self.left() == ["outcome.json", "plan.json", "run.json", "wishes.json"]
        outcome = self.directory.outcome()
        assert outcome is not None
        assert outcome.snapshots == (commit,)


def assert_whole(found: xr.Dataset) -> None:
    """Fail unless a dataset is that of the sources, value by value."""
    wanted = dataset()
    assert set(found.variables) == set(wanted.variables)
    for name in wanted.variables:
        assert found[name].dims == wanted[name].dims
        np.testing.assert_array_equal(found[name], wanted[name])


class Clients:
    """A process that has imported everything, from which clients are forked; all end with the context."""

    def __init__(self) -> None:
        folder = str(Path(__file__).parent)
        self._program = Program(f"import sys; sys.path.insert(0, {folder!r}); import clients; clients.serve()")
        self._port = 0

    def __enter__(self) -> Self:
        self._program.__enter__()
        self._port = self._program.line(120)
        return self

    def __exit__(self, *exc: object) -> None:
        self._program.__exit__(*exc)

    def start(self, job: Mapping[str, Any]) -> "Client":
        """A client that does what it is told, in this process's environment."""
        connection = socket.create_connection(("127.0.0.1", self._port))
        asked = dict(job) | {"environment": {name: os.environ[name] for name in os.environ if name.startswith("AWS_")}}
        connection.sendall(json.dumps(asked).encode() + b"\n")
        return Client(connection)

    def say(self, job: Mapping[str, Any], deadline: float = 60.0) -> Said | None:
        """How a client ended; None if it was killed."""
        return self.start(job).said(deadline)

    def at_once(self, *jobs: Mapping[str, Any], deadline: float = 120.0) -> list[Said | None]:
        """How clients ended that all began at the same moment."""
        at = time.time() + 0.3
        started = [self.start(dict(job) | {"at": at}) for job in jobs]
        return [client.said(deadline) for client in started]


class Client:
    """A client that was started."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lines = connection.makefile("r")
        connection.settimeout(60)
        self.pid = int(json.loads(self._lines.readline())["pid"])

    def said(self, deadline: float = 60.0) -> Said | None:
        """How it ended; None if it was killed."""
        self._connection.settimeout(deadline)
        with self._connection, self._lines:
            line = self._lines.readline()
        return json.loads(line) if line else None


def here(job: Mapping[str, Any]) -> Said:
    """What a client says that does it in this process."""
    return do(dict(job))
