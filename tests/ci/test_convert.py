"""The workflow of conversions, step by step as GitHub would run it, on a real repository on disk."""

import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
import xarray as xr

import frazil

from .conftest import WORKFLOWS, Project, series
from .runner import load

pytestmark = [
    pytest.mark.checkout,
    pytest.mark.timeout(900),  # most start the command several times
    pytest.mark.skipif(not WORKFLOWS.exists(), reason="the workflows are part of the checkout, not of the wheel"),
]


MATRIX = {"run-dir": "s3://bucket/archive.frazil", "workers": 2, "role": "arn:writes"}
LAMBDA = """
lithops: {backend: aws_lambda, storage: aws_s3}
aws: {region: us-east-1}
aws_lambda: {execution_role: "arn:aws:iam::111122223333:role/worker", runtime: frazil, runtime_memory: 1024}
aws_s3: {storage_bucket: staging}
"""


@pytest.mark.slow
def test_a_pull_request_shows_its_plan_and_fails_until_it_holds_the_pin_and_writes_nothing(project: Project) -> None:
    first = project.call(event="pull_request")
    results = {name: one.result for name, one in first.items()}
    assert results == {"fork": "skipped", "plan": "failure", "apply": "skipped"}
    assert first["plan"].steps["Hold it against the pin"] == "failure"
    assert "the pin job.pin cannot be read" in first["plan"].log
    kept = project.artefacts / "frazil-plan-archive"
    plan = frazil.Plan.from_json((kept / "plan.json").read_bytes())
    assert f"work = {plan.work_hash}" in first["plan"].summary
    shutil.copy(kept / "plan.pin", project.checkout / "job.pin")
    second = project.call(event="pull_request")["plan"]
    assert second.result == "success", second.log
    assert "| sources | 2 files along time |" in second.summary
    assert plan.hash in second.summary
    assert set(project.roles) == {"arn:reads"}
    assert not project.archive.exists()


def test_a_pull_request_from_a_fork_takes_no_role_and_fails_with_what_to_do(project: Project) -> None:
    ran = project.call(event="pull_request", fork=True)
    assert {name: one.result for name, one in ran.items()} == {"fork": "failure", "plan": "skipped", "apply": "skipped"}
    assert "comes from a fork" in ran["fork"].summary
    assert project.roles == []


@pytest.mark.parametrize("event", ["pull_request_target", "issue_comment", "merge_group", "workflow_run"])
def test_an_event_that_is_no_merge_yet_or_gives_a_fork_s_code_a_token_gets_no_job(project: Project, event: str) -> None:
    ran = project.call(event=event, fork=True)
    assert {one.result for one in ran.values()} == {"skipped"}
    ran = project.call("convert-matrix", event=event, fork=True, **MATRIX)
    assert {one.result for one in ran.values()} == {"skipped"}


@pytest.mark.slow
def test_a_plan_is_for_the_functions_of_the_job_file_and_its_summary_says_what_they_cost(project: Project) -> None:
    (project.checkout / "lithops.yaml").write_text(LAMBDA)
    project.write_job(backend="aws_lambda", lithops_config="lithops.yaml")
    ran = project.call(event="pull_request")["plan"]
    assert ran.steps["Plan"] == "success", ran.log
    assert "GB-s at 1,024 MB" in ran.summary
    assert "| cost | <span>$</span>" in ran.summary
    (project.checkout / "lithops.yaml").write_text(LAMBDA.replace("1024", "128"))
    ran = project.call(event="pull_request")["plan"]
    assert ran.steps["Plan"] == "failure"
    assert "aws_lambda gives it 134.2 MB" in ran.summary


@pytest.mark.slow
def test_what_a_file_is_called_gives_the_runner_no_commands_and_stays_text_in_the_summary(project: Project) -> None:
    name = "a ##[set-output name=snapshot-id]evil <img src=x>.nc"
    (project.raw / name).write_bytes(b"no NetCDF")
    ran = project.call(event="pull_request")["plan"]
    assert ran.result == "failure"
    assert name in ran.log
    assert commands(f"{name}\n  ::add-mask::x") == [f"{name}", "::add-mask::x"]  # as the runner would take it
    assert commands(ran.log) == []
    (line,) = [line for line in ran.summary.splitlines() if name in line]
    assert line.startswith("    frazil: ")


def commands(log: str) -> list[str]:
    """The commands in a job's log that the runner would execute: `::` begins them, `##[` does anywhere."""
    found, stopped = [], ""
    for line in map(str.strip, log.splitlines()):
        if stopped:
            stopped = "" if line == f"::{stopped}::" else stopped
        elif line.startswith("::stop-commands::"):
            stopped = line.removeprefix("::stop-commands::")
        elif line.startswith("::") or "##[" in line:
            found.append(line)
    return found


def test_every_step_that_runs_frazil_stops_commands_first() -> None:
    for name in ("convert", "convert-matrix"):
        for job in load(WORKFLOWS / f"{name}.yml")["jobs"].values():
            for script in [step["run"] for step in job["steps"] if "frazil " in step.get("run", "")]:
                before = script[: script.index("frazil ")]
                assert "exec 2>&1" in before
                assert "::stop-commands::$stop" in before


@pytest.mark.slow
def test_a_merge_publishes_what_was_reviewed_says_so_and_does_it_once(project: Project) -> None:
    project.review()
    ran = project.call(run_id=77)["apply"]
    assert ran.result == "success", ran.log
    done = project.history()
    assert ran.outputs == {"run-id": "ci-77", "snapshot-id": done[0]}
    assert done[0] in ran.summary
    assert "### Run ci-77 is published" in ran.summary
    assert project.roles == ["arn:writes"]
    xr.testing.assert_identical(project.read(), xr.decode_cf(series(0, 12)))
    again = project.call()["apply"]
    assert again.result == "failure"
    assert "exists" in again.log
    assert project.history() == done


@pytest.mark.slow
def test_a_job_file_or_sources_that_changed_after_the_review_are_refused_on_the_merge(project: Project) -> None:
    project.review()
    project.write_job(group="elsewhere")
    ran = project.call()["apply"]
    assert ran.result == "failure"
    assert ran.steps["Apply"] == "skipped"
    assert "is not the plan that was reviewed" in ran.summary
    assert "main:/elsewhere" in ran.summary
    project.write_job()
    project.add(12, 18)
    ran = project.call()["apply"]
    assert ran.result == "failure"
    assert ran.steps["Apply"] == "skipped"
    assert "sources: 3 files along time" in ran.log
    assert not project.archive.exists()


@pytest.mark.slow
def test_a_branch_that_moved_under_the_plan_after_the_review_is_refused_on_the_merge(project: Project) -> None:
    serial = frazil.SerialExecutor()
    frazil.convert([project.raw / "000.nc"], project.archive, executor=serial)
    project.write_job(mode="append", on_overlap="skip")
    project.review(mode="append", on_overlap="skip")
    frazil.convert([project.raw / "006.nc"], project.archive, mode="append", executor=serial)
    moved = project.history()
    ran = project.call()["apply"]
    assert ran.result == "failure"
    assert ran.steps["Apply"] == "skipped"
    assert "is not the plan that was reviewed" in ran.log
    assert project.history() == moved


@pytest.mark.slow
def test_two_merges_of_one_target_publish_once_even_if_nothing_keeps_them_apart(project: Project) -> None:
    project.review()
    with ThreadPoolExecutor(2) as pool:
        ran = [one["apply"] for one in pool.map(lambda number: project.call(run_id=number), [1, 2])]
    assert sorted(one.result for one in ran) == ["failure", "success"], [one.log for one in ran]
    assert len(project.history()) == 2  # the first snapshot of every repository, and this one
    xr.testing.assert_identical(project.read(), xr.decode_cf(series(0, 12)))


@pytest.mark.slow
def test_a_job_that_is_run_again_goes_on_with_its_run(project: Project) -> None:
    plan = project.review()
    with pytest.MonkeyPatch.context() as patch:  # the job's first attempt dies once the run has started
        patch.setattr("frazil.running.execute", _die)
        with pytest.raises(KeyboardInterrupt):
            frazil.run(plan, run_id="ci-9", executor=frazil.SerialExecutor())
    assert frazil.runs(project.archive)[0].state == "writing"
    ran = project.call(run_id=9)["apply"]
    assert ran.result == "success", ran.log
    assert [(one.run_id, one.state) for one in frazil.runs(project.archive)] == [("ci-9", "published")]


def _die(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
def test_a_run_that_fails_publishes_nothing_and_its_report_says_why(project: Project) -> None:
    packed = {"pack": {"tas": "int16"}, "pack_range": {"tas": [0, 1]}}
    project.write_job(**packed)
    project.review(pack={"tas": "int16"}, pack_range={"tas": (0, 1)})
    ran = project.call(run_id=5)["apply"]
    assert ran.result == "failure"
    assert ran.steps["Report"] == "success"
    assert "### Run ci-5 is writing" in ran.summary
    assert ran.outputs["snapshot-id"] == ""
    assert len(project.history()) == 1


def test_runs_of_one_target_wait_for_each_other_and_are_never_cancelled() -> None:
    for found in (
        load(WORKFLOWS / "convert.yml")["jobs"]["apply"]["concurrency"],
        load(WORKFLOWS / "convert-matrix.yml")["concurrency"],
    ):
        assert found["group"] == "frazil-${{ inputs.target }}"  # of both, so that neither runs beside the other
        assert found["cancel-in-progress"] is False


def test_only_jobs_that_take_a_role_may_ask_for_a_token_and_those_that_write_stand_behind_the_environment() -> None:
    for name in ("convert", "convert-matrix"):
        told = load(WORKFLOWS / f"{name}.yml")
        assert told["permissions"] == {}
        for job in told["jobs"].values():
            roles = [
                step["with"]["role-to-assume"] for step in job["steps"] if "role-to-assume" in step.get("with", {})
            ]
            assert job["permissions"] == ({"contents": "read", "id-token": "write"} if roles else {})
            if roles not in ([], ["${{ inputs.plan-role }}"]):
                assert job["environment"] == "${{ inputs.environment }}"
