"""Garbage collection: what runs left goes, and what a run in flight needs stays."""

import json
import os
import re
import shutil
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import icechunk
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
from frazil_functions.plan import PlanTarget, Replica
from frazil_functions.rundir import RunDirectory
from frazil_functions.runs.garbage import Ages, Collected, collect
from frazil_functions.runs.publish import name_of

from .hourly import read

DAY = 86400.0
NONE = timedelta()
VALUES = np.random.default_rng(0).normal(size=(24, 1000))


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """Values whose chunks are too large to lie in manifests."""
    path = tmp_path / "noise.nc"
    xr.Dataset({"noise": (("time", "x"), VALUES)}, coords={"time": np.arange(24)}).to_netcdf(path)
    return path


def plan_for(
    noise: Path, where: Path | str, *, group: str = "", replicas: tuple[Path, ...] = (), base: str | None = None
) -> frazil.Plan:
    """Two tasks of three chunks each."""
    with frazil.SerialExecutor() as serial:
        found = scan_sources([str(noise)], Wanted(), serial, silent)
    others = tuple(Replica(locate(one), None) for one in replicas)
    goal = PlanTarget(locate(where), group, "main", base, "create", others)
    return make_plan(found, goal, Options(chunks={"time": 4}, workers=2, region_bytes=1, task_bytes=3))


@pytest.fixture
def half(noise: Path, target: Path) -> RunDirectory:
    """A run that has written one of its two tasks."""
    return begin(plan_for(noise, target), "half")


def begin(plan: frazil.Plan, run_id: str, **options: Any) -> RunDirectory:
    started = answer({"action": "start", "plan": json.loads(plan.to_json()), "run_id": run_id, **options})
    assert started["tasks"] == 2
    assert answer({"action": "write", "run": started["run"], "task": 0})["regions"] == 3
    return RunDirectory(locate(started["run"]))


def orphan(target: Path) -> None:
    """A chunk that was written and never committed."""
    session = frazil.open_repository(target).writable_session("main")
    array = zarr.open_group(session.store, mode="a").create_array("lost", shape=(1000,), chunks=(1000,), dtype="f8")
    array[:] = VALUES[0]


def age(seconds: float, *folders: Path) -> None:
    """Let everything below be older than it is."""
    for folder in folders:
        for path in [folder, *folder.rglob("*")]:
            before = path.stat().st_mtime
            os.utime(path, (before - seconds, before - seconds))


def beside(target: Path) -> Path:
    return target.with_name(target.name + ".frazil")


def chunks(target: Path) -> int:
    return len(list((target / "chunks").iterdir()))


def private(target: Path | str) -> list[str]:
    return sorted(frazil.open_repository(target, create=False).list_branches() - {"main"})


def pass_over(target: Path | str, *, days: float = 0.0, delete: bool = True, older: timedelta = NONE) -> Collected:
    """A pass by a clock that is so many days ahead, and by everybody's."""
    location = locate(target)
    repo = frazil.open_repository(location, create=False)
    now = time.time() + days * DAY if days else None
    return collect(repo, location, Ages(older), delete=delete, now=now)


def assert_whole(found: xr.Dataset) -> None:
    np.testing.assert_array_equal(found["noise"], VALUES)


def test_garbage_collection_never_removes_chunks_of_a_run_in_flight(
    half: RunDirectory, target: Path, serial: frazil.SerialExecutor
) -> None:
    age(2 * DAY, target, beside(target))
    written = chunks(target)
    orphan(target)
    lost = max((target / "chunks").iterdir(), key=lambda path: path.stat().st_mtime)
    os.utime(lost, (time.time() - 3 * DAY,) * 2)
    found = frazil.gc(target, delete=True, older_than=NONE)
    assert not lost.exists(), "what is older than the run goes"
    assert chunks(target) == written
    frazil.resume(target, "half", executor=serial, verify="full")
    assert_whole(read(target))
    assert (found.held_by, found.in_flight) == ("half", ("frazil/half", "half"))
    assert (found.objects.chunks, found.complete) == (1, True)


def test_a_run_that_lives_elsewhere_is_known_by_its_branch(
    noise: Path, target: Path, tmp_path: Path, serial: frazil.SerialExecutor
) -> None:
    elsewhere = tmp_path / "elsewhere" / "far"
    begin(plan_for(noise, target), "far", run=str(elsewhere))
    written = chunks(target)
    found = pass_over(target, days=2)
    assert re.fullmatch(r"frazil/far~[0-9a-f]{8}", found.held_by)
    assert found.abandoned == ()
    assert chunks(target) == written
    frazil.resume(target, "far", executor=serial, verify="full", run_directory=elsewhere)
    assert_whole(read(target))


def test_a_stale_branch_of_an_unknown_run_goes_and_its_chunks_the_next_time(
    noise: Path, target: Path, tmp_path: Path
) -> None:
    begin(plan_for(noise, target), "far", run=str(tmp_path / "elsewhere" / "far"))
    written = chunks(target)
    (branch,) = pass_over(target, days=31).branches
    assert branch.startswith("frazil/far~")
    assert (private(target), chunks(target)) == ([], written)
    assert pass_over(target, days=31).objects.chunks == written
    assert chunks(target) == 0


def test_a_run_without_a_sign_of_life_is_abandoned_and_its_chunks_go_an_hour_later(
    half: RunDirectory, target: Path
) -> None:
    age(2 * DAY, target, beside(target))
    written = chunks(target)
    assert pass_over(target, days=29).abandoned == ()
    found = pass_over(target, days=31)
    assert (found.abandoned, found.branches, found.directories) == (("half",), ("frazil/half",), ())
    assert private(target) == []
    assert set(half.modified()) == {"plan.json", "wishes.json", "run.json", "outcome.json"}
    (said,) = frazil.runs(target)
    assert said.state == "abandoned"
    assert "nobody had written anything for 3" in said.reason
    assert chunks(target) == written
    assert pass_over(target).held_by == "half", "somebody may be about to publish it"
    assert chunks(target) == written
    age(2 * 3600.0, Path(half.location.url))
    found = pass_over(target)
    assert (found.objects.chunks, found.directories, found.held_by) == (written, ("half",), "")
    assert chunks(target) == 0
    assert [path.name for path in beside(target).iterdir()] == ["lock"]


def test_a_run_that_was_abandoned_is_not_resumed(
    half: RunDirectory, target: Path, serial: frazil.SerialExecutor
) -> None:
    pass_over(target, days=31)
    with pytest.raises(frazil.FrazilError, match=r"abandoned|missing"):
        frazil.resume(target, "half", executor=serial)
    assert len(list(frazil.open_repository(target).ancestry(branch="main"))) == 1


def abandon(directory: RunDirectory, target: Path) -> None:
    assert pass_over(target, days=31).abandoned == (directory.run_id,)


def vanish(directory: RunDirectory, _: Path) -> None:
    directory.remove()


@pytest.mark.parametrize("meddle", [abandon, vanish])
def test_a_run_that_is_abandoned_right_before_it_is_published_is_not_published(
    half: RunDirectory, target: Path, serial: frazil.SerialExecutor, meddle: Callable[[RunDirectory, Path], None]
) -> None:
    def listen(progress: frazil.Progress) -> None:
        if progress.stage == "publish":
            meddle(half, target)

    with pytest.raises(frazil.InvalidInputError, match=r"was abandoned|has no record"):
        frazil.resume(target, "half", executor=serial, listener=listen)
    assert len(list(frazil.open_repository(target).ancestry(branch="main"))) == 1


def test_a_run_that_is_published_while_garbage_is_collected_keeps_all_of_its_chunks(
    half: RunDirectory, target: Path, serial: frazil.SerialExecutor
) -> None:
    def listen(progress: frazil.Progress) -> None:
        if progress.stage in {"template", "write", "verify", "publish", "done"}:
            pass_over(target, days=20)

    frazil.resume(target, "half", executor=serial, listener=listen)
    pass_over(target, days=100)
    assert_whole(read(target))
    assert [path.name for path in beside(target).iterdir()] == ["lock"]


def test_a_run_that_was_published_by_a_client_that_died_then_is_not_abandoned(half: RunDirectory, target: Path) -> None:
    answer({"action": "write", "run": str(half.location), "task": 1})
    snapshot = answer({"action": "finish", "run": str(half.location)})["snapshot_id"]
    (Path(half.location.url) / "outcome.json").unlink()
    repo = frazil.open_repository(target)
    repo.create_branch(name_of("half"), snapshot)
    found = pass_over(target, days=31)
    assert (found.abandoned, found.branches) == ((), ("frazil/half",))
    outcome = half.outcome()
    assert outcome is not None
    assert (outcome.state, outcome.snapshots) == ("published", (snapshot,))
    assert_whole(read(target))


def test_directories_of_published_runs_go_when_they_are_old(noise: Path, target: Path) -> None:
    run = begin(plan_for(noise, target), "done")
    answer({"action": "write", "run": str(run.location), "task": 1})
    answer({"action": "finish", "run": str(run.location)})
    assert pass_over(target, days=6, older=timedelta(days=7)).directories == ()
    assert pass_over(target, days=8, older=timedelta(days=7)).directories == ("done",)
    assert frazil.runs(target) == []
    assert_whole(read(target))


def test_a_dry_run_changes_no_byte_and_says_what_is_done_then(
    half: RunDirectory, noise: Path, target: Path, tree: Callable[[Path], Any]
) -> None:
    orphan(target)
    begin(plan_for(noise, target, group="other"), "far", run=str(target.parent / "elsewhere" / "far"))
    shutil.copytree(half.location.url, beside(target) / "ended")  # and what it kept did not go
    (beside(target) / "ended" / "outcome.json").write_text(
        '{"state":"abandoned","snapshots":[],"ended":0,"reason":"","regions":0,"nbytes":0,"verified":0,"format":1}'
    )
    before = tree(target.parent)
    dry = pass_over(target, days=31, delete=False)
    assert tree(target.parent) == before
    assert (dry.deleted, dry.abandoned, dry.directories) == (False, ("half",), ("ended",))
    assert [name.partition("~")[0] for name in dry.branches] == ["frazil/half", "frazil/far"]
    done = pass_over(target, days=31)
    assert (done.abandoned, done.branches, done.directories) == (dry.abandoned, dry.branches, dry.directories)
    assert tree(target.parent) != before


def test_a_dry_run_by_the_clock_writes_nothing(target: Path, tree: Callable[[Path], Any], tmp_path: Path) -> None:
    icechunk.Repository.create(icechunk.local_filesystem_storage(str(target)))
    before = tree(tmp_path)
    assert not frazil.gc(target, older_than=NONE).deleted
    assert tree(tmp_path) == before, "not even the lock, or a place for runs"


def test_branches_in_replicas_go_with_the_run(noise: Path, target: Path, tmp_path: Path) -> None:
    replica = tmp_path / "replica.icechunk"
    begin(plan_for(noise, target, replicas=(replica,)), "both")
    written = chunks(replica)
    assert pass_over(replica, days=2).held_by == "frazil/both"
    assert chunks(replica) == written
    found = pass_over(target, days=31)
    assert found.branches == ("frazil/both", f"frazil/both of {replica}")
    assert private(replica) == private(target) == []
    assert chunks(replica) == written, "the replica's own garbage is collected there"
    assert pass_over(replica, days=31).objects.chunks == written


def test_a_replica_that_is_gone_does_not_matter(noise: Path, target: Path, tmp_path: Path) -> None:
    replica = tmp_path / "replica.icechunk"
    begin(plan_for(noise, target, replicas=(replica,)), "both")
    shutil.rmtree(replica)
    found = pass_over(target, days=31)
    assert (found.abandoned, found.branches, found.problems) == (("both",), ("frazil/both",), ())


def test_a_run_that_cannot_be_read_holds_everything_back_and_is_told(half: RunDirectory, target: Path) -> None:
    record = Path(half.location.url) / "run.json"
    record.write_text(record.read_text().replace('"format":1', '"format":99'))
    age(40 * DAY, target, beside(target))
    written = chunks(target)
    found = pass_over(target, days=40)
    assert (found.abandoned, found.complete, found.held_by) == ((), False, "half")
    assert "has format 99" in found.problems[0]
    assert (chunks(target), private(target)) == (written, ["frazil/half"])


def test_runs_on_s3_are_kept_while_they_are_in_flight_and_go_when_they_are_dead(
    bucket: Any, noise: Path, serial: frazil.SerialExecutor
) -> None:
    where = "s3://raw/archive"
    begin(plan_for(noise, where), "alive")
    assert pass_over(where, days=2).objects.chunks == 0
    frazil.resume(where, "alive", executor=serial, verify="full")
    tip = frazil.open_repository(where).lookup_branch("main")
    begin(plan_for(noise, where, group="dead", base=tip), "dead")
    before = stored(bucket, "archive/chunks/")
    found = pass_over(where, days=31)
    assert (found.abandoned, found.branches, found.directories) == (("dead",), ("frazil/dead",), ("alive",))
    assert stored(bucket, "archive/chunks/") == before
    found = pass_over(where, days=62)
    assert found.directories == ("dead",)
    assert 0 < found.objects.chunks == before - stored(bucket, "archive/chunks/")
    assert stored(bucket, "archive.frazil/") == 0
    assert frazil.gc(where, delete=True).complete
    assert stored(bucket, "archive.frazil/") == 0, "the time was asked for, and nothing is left of that"
    store = frazil.open_repository(where).readonly_session("main").store
    assert_whole(xr.open_zarr(store, consolidated=False, chunks=None))


def stored(bucket: Any, prefix: str) -> int:
    listed = boto3.client("s3").list_objects_v2(Bucket=bucket.name, Prefix=prefix)
    return int(listed["KeyCount"])


def test_the_command_shows_first_and_removes_with_delete(target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    orphan(target)
    age(DAY, target)
    assert main(["gc", str(target), "--older-than", "12h"]) == 0
    said = capsys.readouterr()
    assert "Would remove from" in said.out
    assert "1 chunks (" in said.out
    assert "--delete removes it" in said.out
    assert chunks(target) == 1
    assert main(["gc", str(target), "--older-than", "12h", "--delete", "--json"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert (found["deleted"], found["complete"], found["objects"]["chunks"]) == (True, True, 1)
    assert found["objects"]["bytes"] > 0
    assert chunks(target) == 0


def test_the_command_says_what_is_in_flight_and_exits_with_1_if_something_could_not_be_removed(
    half: RunDirectory, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    age(DAY, beside(target))
    assert main(["gc", str(target), "--older-than", "0"]) == 0
    assert "for half may need it" in capsys.readouterr().out
    (Path(half.location.url) / "run.json").write_text("damaged")
    assert main(["gc", str(target), "--older-than", "0", "--json"]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["problems"][0].startswith("run half could not be collected")
    assert "not everything could be removed" in said.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "there is no repository at"),
        (["archive.icechunk", "--older-than=-1d"], "'-1d' is no age"),
        (["archive.icechunk", "--older-than", "7"], "'7' is no age"),
        (["archive.icechunk", "--older-than", "7 fortnights"], "use a number and one of s, min, h, d, w"),
        (["archive.icechunk", "--abandon-after", ""], "--abandon-after '' is no age"),
        (["archive.icechunk", "--abandon-after", "9999999999d"], "is no age"),
        (["s3://"], "names no place in a bucket"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(
    arguments: list[str],
    words: str,
    target: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tree: Callable[[Path], Any],
) -> None:
    icechunk.Repository.create(icechunk.local_filesystem_storage(str(target)))
    monkeypatch.chdir(target.parent)
    before = tree(target.parent)
    assert main(["gc", *arguments, "--delete"]) == 2
    assert words in capsys.readouterr().err
    assert tree(target.parent) == before


def test_negative_ages_are_refused(target: Path) -> None:
    frazil.open_repository(target)
    with pytest.raises(frazil.InvalidInputError, match="older_than"):
        frazil.gc(target, older_than=timedelta(seconds=-1))
    with pytest.raises(frazil.InvalidInputError, match="abandon_after"):
        frazil.gc(target, abandon_after=timedelta(days=-1))
