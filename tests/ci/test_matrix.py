"""Jobs of a matrix as the workers of a run, and the action that installs Frazil: no cloud functions."""

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import icechunk
import pytest
import xarray as xr
import yaml
from moto.server import ThreadedMotoServer

from .conftest import TOP, WORKFLOWS, Project, series
from .runner import Job, Runner

pytestmark = [
    pytest.mark.checkout,
    pytest.mark.skipif(not WORKFLOWS.exists(), reason="the workflows are part of the checkout, not of the wheel"),
]


@pytest.fixture
def endpoint() -> Iterator[str]:
    """S3 on loopback, with one bucket."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",  # noqa: S106 - made up
    )
    client.create_bucket(Bucket="matrix")
    yield f"http://{host}:{port}"
    server.stop()


@pytest.mark.slow
def test_jobs_of_a_matrix_share_a_run_on_s3_and_the_last_one_publishes_and_reports(
    tmp_path: Path, endpoint: str
) -> None:
    project = Project(
        tmp_path,
        {
            "PATH": os.environ["PATH"],
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ALLOW_HTTP": "true",
        },
    )
    project.write_job(repository="s3://matrix/archive", chunks={"time": 3})
    ran = project.call(
        "convert-matrix", **{"run-dir": "s3://matrix/archive.frazil", "workers": 2, "role": "arn:writes"}
    )
    assert {name: one.result for name, one in ran.items()} == {
        "count": "success",
        "worker (0)": "success",
        "worker (1)": "success",
    }, [one.log for one in ran.values()]
    assert ran["worker (0)"].summary == ""
    assert "is published" in ran["worker (1)"].summary
    assert project.roles == ["arn:writes", "arn:writes"]
    storage = icechunk.s3_storage(
        bucket="matrix",
        prefix="archive",
        region="us-east-1",
        endpoint_url=endpoint,
        allow_http=True,
        force_path_style=True,
        access_key_id="key",
        secret_access_key="secret",  # noqa: S106 - made up
    )
    session = icechunk.Repository.open(storage).readonly_session("main")
    with xr.open_zarr(session.store, consolidated=False, chunks=None) as found:
        xr.testing.assert_identical(found.load(), xr.decode_cf(series(0, 12)))


@pytest.mark.slow
def test_the_action_installs_what_the_lock_beside_it_says(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    for name in ("client", "functions", ".github"):
        shutil.copytree(TOP / name, checkout / name)
    for name in ("pyproject.toml", "uv.lock", "README.md", "LICENSE", "CHANGELOG.md"):
        shutil.copy(TOP / name, checkout)
    folder = checkout / ".github" / "actions" / "frazil"
    action = yaml.safe_load((folder / "action.yml").read_text())
    asked: list[dict[str, Any]] = []

    def set_up(said: dict[str, Any], job: Job) -> None:
        asked.append(said)
        job.environment["GITHUB_ACTION_PATH"] = str(folder)

    known = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}  # where uv finds its index
    runner = Runner(tmp_path, {"astral-sh/setup-uv": set_up}, known)
    given = {name: one["default"] for name, one in action["inputs"].items()}
    contexts = {"inputs": given, "github": {"action_path": str(folder)}, "env": {}}
    job = {"steps": [*action["runs"]["steps"], {"run": "frazil --version", "shell": "bash"}]}
    job["outputs"] = {name: one["value"] for name, one in action["outputs"].items()}
    ran = runner.job(job, contexts, {})
    assert ran.result == "success", ran.log
    assert ran.outputs["version"] == ran.log.strip().splitlines()[-1]
    assert Path(asked[0]["cache-dependency-glob"]).resolve() == checkout / "uv.lock"
    assert list((tmp_path / "job-0" / "temp" / "frazil").glob("lib/*/site-packages/lithops"))
    assert not list((tmp_path / "job-0" / "temp" / "frazil").glob("lib/*/site-packages/pytest"))
