"""A repository's checkout with a job file, and what stands for the actions that others wrote."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pytest
import xarray as xr

import frazil
from frazil.cli.pinning import pin_of

from .runner import Job, Ran, Runner

TOP = Path(__file__).parents[2]
WORKFLOWS = TOP / ".github" / "workflows"


def series(start: int, stop: int) -> xr.Dataset:
    """Hourly values that tell their place."""
    hours = np.arange(start, stop)
    return xr.Dataset(
        {"tas": (("time", "x"), (hours[:, None] * 10.0 + np.arange(3)).astype("f4"))},
        coords={"time": ("time", hours.astype("i4"), {"units": "hours since 2000-01-01"}), "x": np.arange(3)},
    )


class Project:
    """A project on GitHub that converts: what it has checked in, and the workflows that it calls.

    Attributes
    ----------
    archive
        The repository that is written to.
    checkout
        What is checked in.
    artefacts
        What jobs have uploaded, a folder each.
    roles
        The roles that jobs took, in order.
    """

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.archive = folder / "archive.icechunk"
        self.checkout = folder / "checkout"
        self.artefacts = folder / "artefacts"
        self.raw = folder / "raw"
        self.roles: list[str] = []
        self.runs = 0
        for one in (self.checkout, self.artefacts, self.raw):
            one.mkdir()
        for start, stop in ((0, 6), (6, 12)):
            self.add(start, stop)
        self.runner = Runner(
            folder,
            {
                "actions/checkout": self._check_out,
                "actions/upload-artifact": self._upload,
                "aws-actions/configure-aws-credentials": self._take_role,
                "./.frazil/.github/actions/frazil": self._install,
            },
            environment,
        )

    def add(self, start: int, stop: int) -> None:
        """One more source file."""
        series(start, stop).to_netcdf(self.raw / f"{start:03}.nc")

    def write_job(self, **options: Any) -> None:
        """Check a job file in."""
        lines = {"sources": f"{self.raw}/*.nc", "repository": str(self.archive), "backend": "serial"} | options
        (self.checkout / "job.toml").write_text("".join(f"{name} = {_toml(value)}\n" for name, value in lines.items()))

    def call(self, name: str = "convert", *, event: str = "push", fork: bool = False, **inputs: Any) -> dict[str, Ran]:
        """Run a workflow as an event would; every call is another run of it, unless `run_id` says which."""
        self.runs += 1
        head = {"repo": {"full_name": "someone/project" if fork else "lab/project"}}
        github = {
            "event_name": event,
            "repository": "lab/project",
            "run_id": inputs.pop("run_id", 1000 + self.runs),
            "event": {"pull_request": {"head": head} if event == "pull_request" else {}},
        }
        given = {"config": "job.toml", "target": "archive", "region": "us-east-1"}
        given |= {"frazil-repository": "lab/frazil", "frazil-ref": "0" * 40}
        if name == "convert":
            given |= {"pin": "job.pin", "plan-role": "arn:reads", "apply-role": "arn:writes"}
        return self.runner.run(WORKFLOWS / f"{name}.yml", inputs=given | inputs, github=github)

    def review(self, **options: Any) -> frazil.Plan:
        """Pin the plan, as a pull request that was reviewed does."""
        with frazil.SerialExecutor() as executor:
            made = frazil.plan(f"{self.raw}/*.nc", self.archive, executor=executor, **options)
        (self.checkout / "job.pin").write_text(pin_of(frazil.Plan.from_json(made.to_json())))
        return made

    def history(self) -> list[str]:
        """The snapshots of the main branch, the latest first."""
        if not self.archive.exists():
            return []
        repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(self.archive)))
        return [one.id for one in repo.ancestry(branch="main")]

    def read(self) -> xr.Dataset:
        """What is published."""
        repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(self.archive)))
        with xr.open_zarr(repo.readonly_session("main").store, consolidated=False, chunks=None) as found:
            return found.load()

    def _check_out(self, said: dict[str, Any], job: Job) -> None:
        assert said["persist-credentials"] is False
        if "repository" not in said:
            shutil.copytree(self.checkout, job.workspace, dirs_exist_ok=True)

    def _upload(self, said: dict[str, Any], job: Job) -> None:
        shutil.copytree(job.workspace / said["path"], self.artefacts / said["name"], dirs_exist_ok=True)

    def _take_role(self, said: dict[str, Any], _: Job) -> None:
        self.roles.append(said["role-to-assume"])

    def _install(self, _: dict[str, Any], job: Job) -> None:
        job.path.insert(0, str(Path(sys.executable).parent))


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_toml(one)}" for name, one in value.items()) + " }"
    return json.dumps(value)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    found = Project(tmp_path, {"PATH": os.environ["PATH"]})
    found.write_job()
    return found
