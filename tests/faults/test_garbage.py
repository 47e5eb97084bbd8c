"""Garbage collection that is killed, refused by the storage, or runs on a machine whose clock is wrong."""

import json
import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
import xarray as xr
import zarr

import frazil
from frazil.cli import main
from frazil.planning.make import Options, make_plan
from frazil.planning.scan import Wanted, scan_sources
from frazil.report import silent
from frazil_functions.events import answer
from frazil_functions.locations import locate
from frazil_functions.plan import PlanTarget
from frazil_functions.rundir import RunDirectory
from frazil_functions.runs.garbage import Ages, collect

from .processes import Program
from .proxy import Answer, Kill, Proxy, Rule

VALUES = np.random.default_rng(0).normal(size=(8, 1000))
DAY = 86400.0
COLLECT = """
import json, sys
from datetime import timedelta
import frazil
from frazil_functions.locations import locate
from frazil_functions.runs.garbage import Ages, collect
where, now = json.loads(sys.argv[1])
location = locate(where)
repo = frazil.open_repository(location, create=False)
found = collect(repo, location, Ages(timedelta(), timedelta(days=30)), delete=True, now=now)
print(json.dumps(found.complete))
"""
CHANGES = "PUT|DELETE|POST"


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """Values whose chunks are too large to lie in manifests."""
    path = tmp_path / "noise.nc"
    xr.Dataset({"noise": (("time", "x"), VALUES)}, coords={"time": np.arange(8)}).to_netcdf(path)
    return path


def begin(noise: Path, where: str, group: str) -> RunDirectory:
    """A run that writes a group of its own, and has written the first of its two tasks."""
    repo = frazil.open_repository(where)
    with frazil.SerialExecutor() as serial:
        found = scan_sources([str(noise)], Wanted(), serial, silent)
    goal = PlanTarget(locate(where), group, "main", repo.lookup_branch("main"), "create")
    plan = make_plan(found, goal, Options(chunks={"time": 4}, workers=2, region_bytes=1, task_bytes=1))
    started = answer({"action": "start", "plan": json.loads(plan.to_json()), "run_id": group})
    answer({"action": "write", "run": started["run"], "task": 0})
    return RunDirectory(locate(started["run"]))


def publish(run: RunDirectory) -> None:
    answer({"action": "write", "run": str(run.location), "task": 1})
    answer({"action": "finish", "run": str(run.location)})


def lose(where: str) -> None:
    """Commit nothing of what is written."""
    session = frazil.open_repository(where).writable_session("main")
    array = zarr.open_group(session.store, mode="a").create_array("lost", shape=(1000,), chunks=(1000,), dtype="f8")
    array[:] = VALUES[0]


def keys(server: str, bucket: str, prefix: str) -> set[str]:
    listed = boto3.client("s3", endpoint_url=server).list_objects_v2(Bucket=bucket, Prefix=prefix)
    return {one["Key"] for one in listed.get("Contents", [])}


def values(where: str, group: str) -> Any:
    store = frazil.open_repository(where).readonly_session("main").store
    with xr.open_zarr(store, group=group, consolidated=False, chunks=None) as found:
        return found["noise"].values


def put_everything(noise: Path, where: str) -> None:
    publish(begin(noise, where, "old"))
    begin(noise, where, "dead")
    lose(where)


@pytest.mark.slow
def test_a_collection_that_is_killed_leaves_nothing_wrong_and_the_next_one_finishes(
    server: str, bucket: str, proxy: Proxy, noise: Path
) -> None:
    """Before and after every request that changes anything."""
    rehearsal = f"s3://{bucket}/rehearsal"
    put_everything(noise, rehearsal)
    later = time.time() + 31 * DAY
    proxy.forget()
    with Program(COLLECT, [rehearsal, later]) as program:
        assert program.wait().code == 0
    steps = len(proxy.log(CHANGES))
    assert steps >= 6, "an outcome, a branch, receipts and forks, directories, objects"
    for number in range(0, 2 * steps, 3):
        where = f"s3://{bucket}/n{number}"
        put_everything(noise, where)
        rule = Rule(Kill(when="after" if number % 2 else "before"), CHANGES, skip=number // 2, times=1)
        with proxy.injected(rule), Program(COLLECT, [where, later]) as program:
            assert program.wait().code == -9, f"it was killed at change {number // 2} of {steps}"
        np.testing.assert_array_equal(values(where, "old"), VALUES)
        location = locate(where)
        for _ in range(2):  # the second finds what the first has kept for whoever might publish the dead run
            found = collect(
                frazil.open_repository(where), location, Ages(timedelta()), delete=True, now=later + 2 * 3600
            )
            assert found.complete
        np.testing.assert_array_equal(values(where, "old"), VALUES)
        assert frazil.open_repository(where).list_branches() == {"main"}
        assert keys(server, bucket, f"n{number}.frazil/") == set()
        # Labels and values of the published run, and nothing of the others.
        assert len(keys(server, bucket, f"n{number}/chunks/")) == 2


def test_a_run_that_is_published_right_before_it_would_be_abandoned_is_left_alone(
    bucket: str, proxy: Proxy, noise: Path
) -> None:
    where = f"s3://{bucket}/archive"
    run = begin(noise, where, "late")
    repo, location = frazil.open_repository(where), locate(where)
    rule = Rule(Kill(lambda _: publish(run)), method="PUT", target=r"outcome\.json", times=1)  # nobody is killed
    with proxy.injected(rule):
        found = collect(repo, location, Ages(timedelta()), delete=True, now=time.time() + 31 * DAY)
    assert rule.struck == 1
    assert (found.abandoned, found.problems) == ((), ())
    outcome = run.outcome()
    assert outcome is not None
    assert outcome.state == "published"
    np.testing.assert_array_equal(values(where, "late"), VALUES)


def test_what_the_storage_will_not_delete_is_reported_and_goes_the_next_time(
    server: str, bucket: str, proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    where = f"s3://{bucket}/archive"
    lose(where)
    repo, location, later = frazil.open_repository(where), locate(where), time.time() + 30 * DAY
    with proxy.injected(Rule(Answer(403, "AccessDenied"), method="POST|DELETE", target=r"delete|chunks")):
        found = collect(repo, location, delete=True, now=later)
    assert not found.complete
    assert (found.objects.failed, found.objects.chunks) == (1, 0)
    assert found.objects.errors
    assert len(keys(server, bucket, "archive/chunks/")) == 1
    assert collect(repo, location, delete=True, now=later).objects.chunks == 1
    assert keys(server, bucket, "archive/chunks/") == set()


@pytest.mark.parametrize("passing", [0, 1, 2, 3])
def test_a_directory_that_is_removed_in_part_still_says_that_its_run_has_ended(
    bucket: str, proxy: Proxy, noise: Path, passing: int
) -> None:
    run = begin(noise, f"s3://{bucket}/archive", "old")
    publish(run)
    refusal = Rule(Answer(403, "AccessDenied"), method="POST|DELETE", skip=passing)
    with proxy.injected(refusal), pytest.raises(frazil.BackendError, match="cannot be deleted"):
        run.remove()
    assert len(run.modified()) == 4 - passing
    assert run.outcome() is not None
    run.remove()
    assert run.modified() == {}


def test_storage_that_refuses_everything_is_a_backend_error(
    bucket: str, proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    where = f"s3://{bucket}/archive"
    frazil.open_repository(where)
    with proxy.injected(Rule(Answer(403, "AccessDenied"), method="GET", target="list-type")):
        assert main(["gc", where]) == 1
    assert "archive" in capsys.readouterr().err
    with proxy.injected(Rule(Answer(403, "AccessDenied"), method="PUT")):
        assert main(["gc", where, "--delete"]) == 1
    assert "archive.frazil/clock cannot be stored" in capsys.readouterr().err


def test_a_clock_that_is_ahead_makes_nothing_older(tmp_path: Path, skew: Callable[[int], dict[str, str]]) -> None:
    where = tmp_path / "archive.icechunk"
    lose(str(where))
    ahead = skew(int(10 * DAY))
    gc = ["gc", str(where), "--older-than", "2h", "--delete", "--json"]
    with Program("frazil.cli", module=True, arguments=gc, environment=ahead) as program:
        ended = program.wait()
    assert ended.code == 0, ended.errors
    assert ended.lines[0]["objects"]["chunks"] == 0
    chunk = next((where / "chunks").iterdir())
    os.utime(chunk, (time.time() - DAY,) * 2)
    with Program("frazil.cli", module=True, arguments=gc, environment=ahead) as program:
        assert program.wait().lines[0]["objects"]["chunks"] == 1
