"""The whole main job on a local AWS: the client in its role, Lithops as it is, functions in the worker's role."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
import zarr
from zarr.errors import GroupNotFoundError

import frazil

from .acting import Acting
from .local import LocalAws
from .plans import plan_of

type Months = Callable[..., tuple[list[str], xr.Dataset]]

MEMORY = 1024


def executor(aws: LocalAws, **options: Any) -> frazil.LithopsExecutor:
    """Calls of the function of this module."""
    options = {"workers": 4} | options
    return frazil.LithopsExecutor(backend="aws_lambda", config=aws.lithops_config(MEMORY), **options)


def stored(aws: LocalAws) -> xr.Dataset:
    """What plain Icechunk and Xarray read."""
    session = Acting(aws, "admin").repository().readonly_session("main")
    return xr.open_zarr(session.store, consolidated=False, chunks=None).load()


def receipts_in(aws: LocalAws) -> int:
    found = aws.client("s3").list_objects_v2(Bucket=aws.data_bucket, Prefix="archive.frazil/")
    return sum("/receipts/" in one["Key"] for one in found.get("Contents", ()))


def written_by(aws: LocalAws) -> Counter[str | None]:
    """How many chunks each role has put."""
    return Counter(one.role for one in aws.log() if "/chunks/" in one.path and one.operation == "PutObject")


def test_files_are_converted_appended_and_replaced_by_the_two_roles_alone(
    as_client: LocalAws, repository: str, months: Months
) -> None:
    aws = as_client
    sources, whole = months(4, hours=8)
    aws.function(MEMORY, concurrency=2)
    with executor(aws) as lithops:
        first = frazil.convert(sources[:2], repository, chunks={"time": 4}, executor=lithops)
        appended = frazil.append(sources[2:], repository, executor=lithops)
        xr.testing.assert_identical(stored(aws), xr.decode_cf(whole).load())
        aws.settled()
        # The same hours once more, as if they had been mended.
        again = frazil.convert(sources[1:2], repository, mode="region", executor=lithops)
    assert len({first.snapshot_id, appended.snapshot_id, again.snapshot_id}) == 3
    xr.testing.assert_identical(stored(aws), xr.decode_cf(whole).load())
    assert written_by(aws)["worker"] == 4 + 4 + 2
    assert {one.role for one in aws.log()} <= {"admin", "client", "worker"}
    assert not [one for one in aws.log() if one.status == 403], "somebody lacked a permission"
    # Nothing is left of the runs but their records, and nothing of their calls.
    staged = aws.client("s3").list_objects_v2(Bucket=aws.staging_bucket, Prefix="lithops.jobs/")
    assert staged["KeyCount"] == 0
    assert receipts_in(aws) == 0


@pytest.mark.slow
def test_a_client_that_is_killed_is_followed_by_another_which_does_no_work_twice(
    as_client: LocalAws, repository: str, months: Months, tmp_path: Path
) -> None:
    aws, (sources, whole) = as_client, months(1, hours=24)
    aws.function(MEMORY, concurrency=1)
    plan = tmp_path / "plan.json"
    plan.write_bytes(plan_of(sources, repository, 4).to_json())
    configuration = tmp_path / "lithops.yaml"
    configuration.write_text(json.dumps(aws.lithops_config(MEMORY)))
    calls = ["--backend", "aws_lambda", "--lithops-config", str(configuration), "--workers", "4", "--json", "--quiet"]
    process = subprocess.Popen(
        [sys.executable, "-m", "frazil.cli", "apply", str(plan), *calls],
        env=os.environ | aws.shell(),
        stdout=subprocess.DEVNULL,
    )
    try:
        aws.until(lambda: receipts_in(aws) >= 1, 120)
    finally:
        process.send_signal(signal.SIGKILL)
        assert process.wait(30) == -signal.SIGKILL
    with pytest.raises(GroupNotFoundError):  # nothing was published
        stored(aws)
    aws.function(MEMORY, concurrency=2)  # made anew, so that what waits and runs is lost, too
    (status,) = frazil.runs(repository)
    assert 0 < status.done < status.regions == 24
    before = written_by(aws)["worker"]
    done = subprocess.run(
        [sys.executable, "-m", "frazil.cli", "resume", repository, status.run_id, *calls],
        env=os.environ | aws.shell(),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["run_id"] == status.run_id
    xr.testing.assert_identical(stored(aws), xr.decode_cf(whole).load())
    assert written_by(aws)["worker"] - before == 24 - status.done


class TestABranchThatMoves:
    """While a run is under way, somebody else commits."""

    def test_disjoint_chunks_both_survive(self, as_client: LocalAws, repository: str, months: Months) -> None:
        aws, (sources, whole) = as_client, months(2, hours=4)
        aws.function(MEMORY, concurrency=2)
        with executor(aws) as lithops:
            frazil.convert(sources, repository, chunks={"time": 4}, executor=frazil.SerialExecutor())
            plan = frazil.plan(sources[:1], repository, mode="region", executor=lithops)
            somebody = Somebody(aws, slice(4, 8))
            result = frazil.run(plan, executor=lithops, listener=somebody)
        assert somebody.snapshot is not None
        tip, theirs, *_ = Acting(aws, "admin").repository().ancestry(branch="main")
        assert (tip.id, theirs.id) == (result.snapshot_id, somebody.snapshot)
        found = stored(aws)["tas"].values
        assert (found[4:] == 1).all()
        assert (found[:4] == whole["tas"].values[:4]).all()

    def test_overlapping_ones_publish_nothing(self, as_client: LocalAws, repository: str, months: Months) -> None:
        aws, (sources, _) = as_client, months(2, hours=4)
        aws.function(MEMORY, concurrency=2)
        with executor(aws) as lithops:
            frazil.convert(sources, repository, chunks={"time": 4}, executor=frazil.SerialExecutor())
            plan = frazil.plan(sources[:1], repository, mode="region", executor=lithops)
            somebody = Somebody(aws, slice(4))
            with pytest.raises(frazil.ConflictError, match="tas"):
                frazil.run(plan, executor=lithops, listener=somebody)
        assert written_by(aws)["worker"] == 1
        assert Acting(aws, "admin").repository().lookup_branch("main") == somebody.snapshot
        assert (stored(aws)["tas"].values[:4] == 1).all()


class Somebody:
    """Commits ones to some hours as soon as a run begins to write."""

    def __init__(self, aws: LocalAws, hours: slice) -> None:
        self.aws, self.hours = aws, hours
        self.snapshot: str | None = None

    def __call__(self, progress: frazil.Progress) -> None:
        if progress.stage == "write" and self.snapshot is None:
            session = Acting(self.aws, "client").repository().writable_session("main")
            zarr.open_array(session.store, path="tas")[self.hours] = 1
            self.snapshot = str(session.commit("by somebody else"))
