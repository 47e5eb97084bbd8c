"""Going on with a run after a failure, a death or an interrupt, by its name or by its plan; and what runs there are."""

import json
import logging
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import icechunk
import pytest
import xarray as xr

import frazil
from frazil.cli import main
from frazil_functions.locations import locate
from frazil_functions.rundir import RunDirectory, RunOutcome

from .hourly import read, series, state
from .test_job import small_plan

WHOLE = xr.decode_cf(series(0, 24))

type Said = pytest.CaptureFixture[str]


@pytest.fixture
def plan(files: list[str], target: Path, serial: frazil.SerialExecutor) -> frazil.Plan:
    """Six regions of one write unit each, in two tasks."""
    return small_plan(files, target, serial)


def stop_at(stage: str, number: int = 1) -> Callable[[frazil.Progress], None]:
    """A listener that interrupts, as Ctrl-C does, when a stage has been told of so often."""
    told = [0]

    def listen(progress: frazil.Progress) -> None:
        told[0] += progress.stage == stage
        if progress.stage == stage and told[0] == number:
            raise KeyboardInterrupt

    return listen


def leave(plan: frazil.Plan, serial: frazil.SerialExecutor, stage: str = "verify", **options: Any) -> str:
    """Start a run and end it at a stage; its name."""
    with pytest.raises(KeyboardInterrupt):
        frazil.run(plan, executor=serial, listener=stop_at(stage), **options)
    assert plan.target.location is not None
    return frazil.runs(plan.target.location)[0].run_id


def check_published(target: Path, snapshot: str) -> None:
    assert state(target) == (snapshot, ["main"])
    xr.testing.assert_identical(read(target), WHOLE)
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(target)))
    assert len(list(repo.ancestry(branch="main"))) == 2


def test_a_run_whose_function_failed_goes_on_when_the_cause_is_mended(
    plan: frazil.Plan, files: list[str], target: Path, serial: frazil.SerialExecutor
) -> None:
    path = Path(files[2])
    good, stat = path.read_bytes(), path.stat()
    path.rename(path.with_suffix(".away"))
    with pytest.raises(frazil.IncompleteRunError, match=r"part2\.nc.*Nothing was published.*resume run nightly"):
        frazil.run(plan, executor=serial, run_id="nightly")
    (before,) = frazil.runs(target)
    assert 0 < before.done < before.regions
    path.with_suffix(".away").rename(path)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (good, stat.st_mtime_ns)
    told: list[frazil.Progress] = []
    result = frazil.resume(target, "nightly", executor=serial, listener=told.append)
    assert next(one.done for one in told if one.stage == "write") == before.done, (
        "what has a receipt is not written again"
    )
    check_published(target, result.snapshot_id)
    assert not result.already_published


def test_a_run_that_is_published_is_left_as_it_is(
    plan: frazil.Plan, target: Path, serial: frazil.SerialExecutor
) -> None:
    first = frazil.run(plan, executor=serial, run_id="nightly")
    again = frazil.resume(target, "nightly", executor=serial)
    assert again.already_published
    assert again.snapshot_id == first.snapshot_id
    assert again.regions == first.regions
    check_published(target, first.snapshot_id)


def test_a_run_that_is_published_is_not_run_again_by_its_name(
    plan: frazil.Plan, target: Path, serial: frazil.SerialExecutor
) -> None:
    first = frazil.run(plan, executor=serial, run_id="nightly")
    again = frazil.run(plan, executor=serial, run_id="nightly")
    assert again.already_published
    assert again.snapshot_id == first.snapshot_id
    check_published(target, first.snapshot_id)


def test_a_run_of_the_same_name_and_plan_is_joined(
    plan: frazil.Plan, target: Path, serial: frazil.SerialExecutor
) -> None:
    leave(plan, serial, run_id="nightly")
    told: list[frazil.Progress] = []
    result = frazil.run(plan, executor=serial, run_id="nightly", listener=told.append)
    assert {one.done for one in told if one.stage == "write"} == {6}
    check_published(target, result.snapshot_id)


def test_a_run_of_the_same_name_and_another_plan_is_refused(
    plan: frazil.Plan, files: list[str], target: Path, serial: frazil.SerialExecutor
) -> None:
    leave(plan, serial, run_id="nightly")
    other = frazil.plan(files[:2], target, executor=serial)
    with pytest.raises(frazil.InvalidInputError, match="run nightly was started with another plan"):
        frazil.run(other, executor=serial, run_id="nightly")
    frazil.resume(target, "nightly", executor=serial)
    xr.testing.assert_identical(read(target), WHOLE)


@pytest.mark.parametrize("stage", ["template", "write", "verify", "publish"])
def test_a_run_that_was_interrupted_goes_on_from_any_stage(
    plan: frazil.Plan, target: Path, serial: frazil.SerialExecutor, stage: str
) -> None:
    with pytest.raises(KeyboardInterrupt) as caught:
        frazil.run(plan, executor=serial, run_id="nightly", listener=stop_at(stage))
    if stage == "template":  # nothing has been started
        assert frazil.runs(target) == []
        return
    assert caught.value.__notes__ == ["run nightly keeps what it has written; resume it to go on"]
    check_published(target, frazil.resume(target, "nightly", executor=serial, verify="full").snapshot_id)


def test_a_run_is_resumed_with_another_verification(
    plan: frazil.Plan, target: Path, serial: frazil.SerialExecutor
) -> None:
    for number, (verify, verified) in enumerate([(None, 0), ("none", 0), ("full", 6)]):
        run_id = leave(plan, serial, verify="none", run_id=f"r{number}")
        result = frazil.resume(target, run_id, executor=serial, verify=verify)  # type: ignore[arg-type]
        assert result.verified == verified
        check_published(target, result.snapshot_id)
        repo = frazil.open_repository(target)
        first = list(repo.ancestry(branch="main"))[-1].id
        repo.reset_branch("main", first)


def test_an_unknown_verification_is_refused_before_anything_is_read(
    plan: frazil.Plan, target: Path, serial: frazil.SerialExecutor
) -> None:
    leave(plan, serial, run_id="nightly")
    with pytest.raises(frazil.InvalidInputError, match="most"):
        frazil.resume(target, "nightly", executor=serial, verify="most")  # type: ignore[arg-type]


def test_a_run_is_resumed_from_an_open_repository(
    plan: frazil.Plan, target: Path, serial: frazil.SerialExecutor
) -> None:
    leave(plan, serial, run_id="nightly")
    repo = frazil.open_repository(target)
    assert [one.run_id for one in frazil.runs(repo)] == ["nightly"]
    check_published(target, frazil.resume(repo, "nightly", executor=serial).snapshot_id)


def test_a_run_that_lives_elsewhere_is_resumed_there(
    plan: frazil.Plan, target: Path, tmp_path: Path, serial: frazil.SerialExecutor
) -> None:
    where = tmp_path / "runs" / "nightly"
    with pytest.raises(KeyboardInterrupt):
        frazil.run(plan, executor=serial, run_directory=where, listener=stop_at("verify"))
    assert frazil.runs(target) == []
    with pytest.raises(frazil.InvalidInputError, match="there is no run 'nightly'"):
        frazil.resume(target, "nightly", executor=serial)
    check_published(target, frazil.resume(target, "nightly", run_directory=where, executor=serial).snapshot_id)


def test_a_name_that_is_not_the_run_s_directory_is_refused(
    plan: frazil.Plan, target: Path, tmp_path: Path, serial: frazil.SerialExecutor
) -> None:
    where = tmp_path / "runs" / "nightly"
    with pytest.raises(KeyboardInterrupt):
        frazil.run(plan, executor=serial, run_directory=where, listener=stop_at("verify"))
    with pytest.raises(frazil.InvalidInputError, match=r"'daily'.*'nightly'"):
        frazil.resume(target, "daily", run_directory=where, executor=serial)
    with pytest.raises(frazil.InvalidInputError, match=r"'daily'.*'nightly'"):
        frazil.run(plan, run_id="daily", run_directory=where, executor=serial)


def test_a_run_that_there_is_not_is_refused_and_the_nearest_is_named(
    plan: frazil.Plan, target: Path, serial: frazil.SerialExecutor
) -> None:
    leave(plan, serial, run_id="nightly")
    with pytest.raises(frazil.InvalidInputError, match=r"there is no run 'nigthly'.*did you mean 'nightly'"):
        frazil.resume(target, "nigthly", executor=serial)


def test_a_run_that_was_abandoned_is_not_gone_on_with(
    plan: frazil.Plan, target: Path, serial: frazil.SerialExecutor
) -> None:
    leave(plan, serial, "write", run_id="nightly")
    RunDirectory(locate(f"{target}.frazil/nightly")).put_outcome(RunOutcome("abandoned", (), 0.0, "nobody wants it"))
    told: list[frazil.Progress] = []
    with pytest.raises(frazil.InvalidInputError, match="was abandoned: nobody wants it"):
        frazil.resume(target, "nightly", executor=serial, listener=told.append)
    with pytest.raises(frazil.InvalidInputError, match="was abandoned: nobody wants it"):
        frazil.run(plan, run_id="nightly", executor=serial, listener=told.append)
    assert {one.stage for one in told} <= {"template"}


@pytest.mark.parametrize("name", ["", ".", "..", "-x", "a/b", "../x", "a b", "x" * 129, "x.", "x.lock", "ä", "a\n"])
def test_a_name_that_cannot_be_a_folder_s_names_no_run(
    plan: frazil.Plan, target: Path, tmp_path: Path, serial: frazil.SerialExecutor, name: str
) -> None:
    with pytest.raises(frazil.InvalidInputError, match="cannot name a run"):
        frazil.run(plan, executor=serial, run_id=name)
    with pytest.raises(frazil.InvalidInputError, match="cannot name a run"):
        frazil.resume(target, name, executor=serial)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sources"]


@pytest.mark.parametrize("exists", [True, False])
def test_an_unfinished_run_of_the_same_plan_is_offered_and_gone_on_with(
    files: list[str], target: Path, serial: frazil.SerialExecutor, caplog: pytest.LogCaptureFixture, exists: bool
) -> None:
    """Also where the run had created the repository, so that the new plan is made against something else."""
    if exists:
        frazil.open_repository(target)
    with pytest.raises(KeyboardInterrupt):
        frazil.convert(files, target, executor=serial, listener=stop_at("verify"), run_id="nightly")
    with caplog.at_level(logging.WARNING), pytest.raises(KeyboardInterrupt):
        frazil.convert(files, target, executor=serial, listener=stop_at("template"))
    assert "run nightly of the same plan has not ended (1 of 1 regions are written)" in caplog.text
    assert "use --resume (resume=True)" in caplog.text
    caplog.clear()
    told: list[frazil.Progress] = []
    result = frazil.convert(files, target, executor=serial, resume=True, listener=told.append)
    assert result.run_id == "nightly"
    assert caplog.text == ""
    assert {one.done for one in told if one.stage == "write"} == {1}
    check_published(target, result.snapshot_id)


def test_a_run_of_another_plan_is_not_offered_and_not_gone_on_with(
    files: list[str], target: Path, serial: frazil.SerialExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(KeyboardInterrupt):
        frazil.convert(files[:2], target, group="a", executor=serial, listener=stop_at("verify"), run_id="nightly")
    result = frazil.convert(files, target, executor=serial, resume=True)
    assert result.run_id != "nightly"
    assert "nightly" not in caplog.text


def test_what_was_published_is_not_gone_on_with(files: list[str], target: Path, serial: frazil.SerialExecutor) -> None:
    frazil.convert(files, target, executor=serial, run_id="nightly")
    with pytest.raises(frazil.ExistingGroupError):
        frazil.convert(files, target, executor=serial, resume=True)


def test_the_listener_is_told_the_run_s_name_from_the_template_on(
    files: list[str], target: Path, serial: frazil.SerialExecutor
) -> None:
    told: list[frazil.Progress] = []
    result = frazil.convert(files, target, executor=serial, listener=told.append)
    for one in told:
        assert one.run_id == ("" if one.stage in {"scan", "plan"} else result.run_id), one.stage
    assert {one.stage for one in told} >= {"plan", "template", "write", "verify", "publish", "done"}


def test_runs_are_listed_the_latest_first_with_how_far_they_are(
    plan: frazil.Plan, target: Path, serial: frazil.SerialExecutor
) -> None:
    assert frazil.runs(target) == []
    leave(plan, serial, "verify", run_id="written")
    with pytest.raises(KeyboardInterrupt):
        frazil.run(plan, executor=serial, listener=stop_at("write", 2), run_id="writing")
    abandoned = RunDirectory(locate(f"{target}.frazil/abandoned"))
    leave(plan, serial, run_id="abandoned")
    abandoned.put_outcome(RunOutcome("abandoned", (), 0.0, "nobody wants it"))
    result = frazil.run(plan, executor=serial, run_id="published")
    RunDirectory(locate(f"{target}.frazil/starting")).put_plan(plan.to_json())
    found = frazil.runs(target)
    assert [one.run_id for one in found] == ["published", "abandoned", "writing", "written", "starting"]
    by_name = {one.run_id: one for one in found}
    assert all(one.state == name for name, one in by_name.items())
    assert [by_name[name].done for name in ("published", "abandoned", "written", "starting")] == [6, 0, 6, 0]
    assert 0 < by_name["writing"].done < 6
    assert by_name["writing"].done_bytes * 6 == by_name["writing"].done * by_name["writing"].bytes
    assert {one.regions for one in found} == {6}
    assert by_name["published"].snapshot_id == result.snapshot_id
    assert by_name["published"].ended >= by_name["published"].started > 0
    assert by_name["abandoned"].reason == "nobody wants it"
    assert {one.work_hash for one in found} == {plan.work_hash}
    ages = [one.age for one in found[:4]]
    assert ages == sorted(ages)
    assert 0 <= ages[0] < ages[-1] < 300


def test_a_plan_that_a_run_left_as_it_started_is_proven_before_it_is_gone_on_with(
    plan: frazil.Plan, target: Path, serial: frazil.SerialExecutor
) -> None:
    incomplete = replace(plan, tasks=plan.tasks[:-1])
    RunDirectory(locate(f"{target}.frazil/starting")).put_plan(incomplete.to_json())
    with pytest.raises(frazil.InvalidInputError, match="write unit"):
        frazil.resume(target, "starting", executor=serial)
    assert not target.exists()


def test_runs_as_json_are_one_object(
    plan: frazil.Plan, target: Path, serial: frazil.SerialExecutor, capsys: Said
) -> None:
    leave(plan, serial, run_id="nightly")
    assert main(["runs", str(target), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    (one,) = said["runs"]
    assert one.keys() == asdict(frazil.runs(target)[0]).keys()
    assert one["location"] == f"{target}.frazil/nightly"
    assert (one["run_id"], one["state"], one["done"], one["regions"]) == ("nightly", "written", 6, 6)
    assert one["bytes"] == one["done_bytes"] == plan.nbytes
    assert main(["runs", str(target)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == ["RUN", "STATE", "REGIONS", "BYTES", "AGE"]
    assert shown[1].split()[:3] == ["nightly", "written", "6/6"]


def test_no_runs_are_an_empty_list(target: Path, capsys: Said) -> None:
    assert main(["runs", str(target)]) == 2
    assert "there is no repository at" in capsys.readouterr().err
    assert not target.exists()
    frazil.open_repository(target)
    assert main(["runs", str(target), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"runs": []}
    assert main(["runs", str(target)]) == 0
    assert capsys.readouterr().out == f"no runs beside {target}\n"


def test_a_kept_plan_is_applied_and_applied_again(files: list[str], target: Path, tmp_path: Path, capsys: Said) -> None:
    kept = str(tmp_path / "plan.json")
    assert main(["plan", *files, str(target), "--out", kept, "--backend", "serial"]) == 0
    capsys.readouterr()
    applied = ["apply", kept, "--backend", "serial", "--run-id", "nightly", "--message", "hello", "--json"]
    assert main(applied) == 0
    said = json.loads(capsys.readouterr().out)
    check_published(target, said["snapshot_id"])
    assert next(one.message for one in frazil.open_repository(target).ancestry(branch="main")) == "hello"
    assert main(applied) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["snapshot_id"], again["already_published"]) == (said["snapshot_id"], True)
    check_published(target, said["snapshot_id"])


@pytest.mark.parametrize(
    ("content", "says"), [(None, "cannot be read"), (b"{}", "not a plan"), (b"\xff", "not a plan")]
)
def test_a_plan_that_is_none_is_refused(tmp_path: Path, content: bytes | None, says: str, capsys: Said) -> None:
    path = tmp_path / "plan.json"
    if content is not None:
        path.write_bytes(content)
    assert main(["apply", str(path), "--backend", "serial"]) == 2
    assert says in capsys.readouterr().err


def test_the_command_offers_and_resumes(
    plan: frazil.Plan, files: list[str], target: Path, serial: frazil.SerialExecutor, capsys: Said
) -> None:
    leave(plan, serial, run_id="nightly")
    assert main(["resume", str(target), "nightly", "--backend", "serial", "--verify", "full", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["run_id"], said["verified"]) == ("nightly", 6)
    check_published(target, said["snapshot_id"])
    assert main(["resume", str(target), "nightly", "--backend", "serial"]) == 0
    assert "was published before" in capsys.readouterr().out
    assert main(["resume", str(target), "nothing", "--backend", "serial"]) == 2


def test_a_command_that_is_interrupted_names_the_run_and_the_next_one_goes_on(files: list[str], target: Path) -> None:
    program = (
        "import os, signal, sys\nimport frazil_functions.runs.finish as f\n"
        "def stop(*_): os.kill(os.getpid(), signal.SIGINT)\n"
        "f.check_merged = stop\n"
        "from frazil.cli import main\nsys.exit(main())"
    )
    command = ["convert", *files, str(target), "--backend", "serial"]
    done = subprocess.run([sys.executable, "-c", program, *command], capture_output=True, text=True, check=False)
    (run,) = frazil.runs(target)
    assert done.returncode == 130 == 128 + signal.SIGINT, done.stderr
    assert done.stderr == (
        f"frazil: interrupted; nothing was published; run {run.run_id} keeps what it has written; resume it to go on\n"
    )
    offered = subprocess.run(
        [sys.executable, "-m", "frazil.cli", *command, "--resume", "--json"], capture_output=True, text=True, check=True
    )
    assert json.loads(offered.stdout)["run_id"] == run.run_id
    check_published(target, json.loads(offered.stdout)["snapshot_id"])


def test_runs_of_one_name_in_two_places_are_two_runs(
    files: list[str], target: Path, tmp_path: Path, serial: frazil.SerialExecutor
) -> None:
    places = {group: tmp_path / group / "2026-01-01" for group in ("a", "b")}
    plans = {group: frazil.plan(files, target, group=group, chunks={"time": 4}, executor=serial) for group in places}
    with pytest.raises(KeyboardInterrupt):
        frazil.run(plans["b"], executor=serial, run_directory=places["b"], listener=stop_at("verify"))
    first = frazil.run(plans["a"], executor=serial, run_directory=places["a"])
    second = frazil.resume(target, "2026-01-01", executor=serial, run_directory=places["b"])
    assert second.snapshot_id != first.snapshot_id
    assert not second.already_published
    for group in places:
        xr.testing.assert_identical(read(target, group=group), xr.decode_cf(series(0, 24)))
    assert state(target) == (second.snapshot_id, ["main"])


def test_a_run_is_resumed_in_its_own_repository_alone(
    plan: frazil.Plan, target: Path, tmp_path: Path, serial: frazil.SerialExecutor
) -> None:
    with pytest.raises(KeyboardInterrupt):
        frazil.run(plan, executor=serial, run_id="mine", listener=stop_at("verify"))
    copy = tmp_path / "copy.icechunk"
    shutil.copytree(target, copy)
    shutil.copytree(f"{target}.frazil", f"{copy}.frazil")
    before = state(target), state(copy)
    with pytest.raises(frazil.InvalidInputError, match=f"belongs to the repository {target}, and not to {copy}"):
        frazil.resume(copy, "mine", executor=serial)
    with pytest.raises(frazil.InvalidInputError, match="belongs to the repository"):
        frazil.resume(tmp_path / "none.icechunk", "mine", executor=serial, run_directory=f"{target}.frazil/mine")
    assert (state(target), state(copy)) == before


def test_how_tasks_are_grouped_does_not_matter_to_who_goes_on(
    files: list[str], target: Path, serial: frazil.SerialExecutor
) -> None:
    plans = [small_plan(files, target, serial)]
    regions = [region for task in plans[0].tasks for region in task.regions]
    one = replace(plans[0].tasks[0], regions=tuple(regions), sources=(0, len(files)))
    plans.append(replace(plans[0], tasks=(one,)))
    assert plans[0].work_hash == plans[1].work_hash
    assert plans[0].hash != plans[1].hash
    with pytest.raises(KeyboardInterrupt):
        frazil.run(plans[0], executor=serial, run_id="it", listener=stop_at("write", 3))
    result = frazil.run(plans[1], executor=serial, run_id="it")
    assert result.tasks == 2, "the run's own plan stands"
    xr.testing.assert_identical(read(target), xr.decode_cf(series(0, 24)))


def test_a_run_that_cannot_be_read_hides_no_other_and_stops_nobody(
    files: list[str], target: Path, serial: frazil.SerialExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    frazil.convert(files, target, group="a", executor=serial, run_id="good")
    bad = Path(f"{target}.frazil/bad")
    bad.mkdir()
    (bad / "run.json").write_text('{"x')
    found = {one.run_id: one for one in frazil.runs(target)}
    assert found["good"].state == "published"
    assert found["bad"].state == "unreadable"
    assert "run.json is not what frazil" in found["bad"].reason
    frazil.convert(files, target, group="b", executor=serial)
    assert main(["runs", str(target)]) == 0
    assert "unreadable" in capsys.readouterr().out


@pytest.mark.parametrize("where", ["", "/"])
def test_the_place_of_all_runs_is_no_place_for_one(
    plan: frazil.Plan, target: Path, serial: frazil.SerialExecutor, where: str
) -> None:
    with pytest.raises(frazil.InvalidInputError, match="is the place of all runs"):
        frazil.run(plan, executor=serial, run_directory=f"{target}.frazil{where}")
    assert list(target.parent.glob("*.icechunk*")) == []
