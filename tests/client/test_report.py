"""Reports of plans and runs, pins, and the exit codes of a plan: in this process, on a repository on disk."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import frazil
from frazil.cli import main
from frazil.cli.rendering import as_markdown
from frazil_functions import handler

from .hourly import series


@pytest.fixture
def kept(files: list[str], target: Path, tmp_path: Path) -> Path:
    """A plan that was made from a job file, and kept."""
    job = {"sources": files, "repository": str(target), "chunks": {"time": 4}, "backend": "serial"}
    (tmp_path / "job.toml").write_text(
        "".join(
            f"{name} = {json.dumps(value) if not isinstance(value, dict) else '{ time = 4 }'}\n"
            for name, value in job.items()
        )
    )
    path = tmp_path / "plan.json"
    assert main(["plan", "--config", str(tmp_path / "job.toml"), "--out", str(path)]) == 0
    return path


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What a command prints that ends well."""
    capsys.readouterr()
    assert main([str(one) for one in arguments]) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 2) -> str:
    """What a command says that is refused."""
    capsys.readouterr()
    assert main([str(one) for one in arguments]) == code
    return capsys.readouterr().err


def test_the_report_of_a_plan_names_its_hashes_in_every_form(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = frazil.Plan.from_json(kept.read_bytes())
    text = said(capsys, "report", kept)
    assert plan.hash in text
    assert "6 write units" in text
    assert f"| work | {plan.work_hash} |" in said(capsys, "report", kept, "--format", "markdown")
    told = json.loads(said(capsys, "report", kept, "--json"))
    assert (told["plan_hash"], told["work_hash"], told["regions"]) == (plan.hash, plan.work_hash, plan.region_count)


def test_the_report_of_a_run_tells_what_it_wrote_how_fast_and_as_what(
    kept: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = json.loads(said(capsys, "apply", kept, "--run-id", "one", "--backend", "serial", "--json"))
    told = json.loads(said(capsys, "report", target, "one", "--json"))
    assert told == json.loads(said(capsys, "report", f"{target}.frazil/one", "--json"))
    assert (told["state"], told["snapshot_id"]) == ("published", result["snapshot_id"])
    assert (told["regions"], told["done"], told["bytes"]) == (result["regions"], result["regions"], result["bytes"])
    assert told["bytes_per_second"] == pytest.approx(told["bytes"] / told["seconds"])
    assert told["verified"] == result["verified"]
    work = told["work"]
    assert work["receipts"] >= 1
    assert work["read_seconds"] == pytest.approx(result["read_seconds"])
    assert work["peak_memory_bytes"] == result["peak_memory_bytes"]
    assert (work["failures"], work["refused"], work["faults"]) == (0, 0, [])
    assert f"| snapshot | {result['snapshot_id']} |" in said(capsys, "report", target, "one", "--format", "markdown")


def test_failures_are_counted_and_their_words_kept_without_what_is_secret_in_them(
    kept: Path, target: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = handler.write_task, []

    def write(task: Any, *more: Any, **options: Any) -> Any:
        calls.append(task)
        if len(calls) == 1:
            raise frazil.UnreachableSourceError("https://me:word@host/a.nc?sig=0f does not answer")
        return real(task, *more, **options)

    monkeypatch.setattr(handler, "write_task", write)
    said(capsys, "apply", kept, "--run-id", "two", "--backend", "serial", "--backoff", "0")
    work = json.loads(said(capsys, "report", target, "two", "--json"))["work"]
    assert work["failures"] == 1
    assert work["faults"] == ["https://host/a.nc?... does not answer"]
    assert "host/a.nc" in said(capsys, "report", target, "two")


def test_a_run_in_flight_is_reported_from_its_receipts(
    kept: Path, target: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("frazil.running.finish", die)
    refused(capsys, "apply", kept, "--run-id", "three", "--backend", "serial", code=130)
    told = json.loads(said(capsys, "report", target, "three", "--json"))
    assert (told["state"], told["snapshot_id"], told["done"]) == ("written", "", told["regions"])
    assert told["work"]["receipts"] >= 1


def test_what_is_neither_a_plan_nor_a_run_is_refused(
    kept: Path, target: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "there is no run at" in refused(capsys, "report", target, "nobody")
    assert f"{tmp_path / 'job.toml'}: this is not a plan of frazil" in refused(capsys, "report", tmp_path / "job.toml")
    assert "a pin is of a plan" in refused(capsys, "report", target, "nobody", "--format", "pin")


def test_a_plan_other_than_the_pinned_one_is_refused_with_what_differs_and_writes_nothing(
    kept: Path, files: list[str], target: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pin = tmp_path / "job.pin"
    pin.write_text(said(capsys, "report", kept, "--format", "pin"))
    said(capsys, "report", kept, "--pin", pin)
    said(capsys, "plan", *files, target, "--chunks", "time=6", "--out", tmp_path / "other.json", "--backend", "serial")
    error = refused(capsys, "apply", tmp_path / "other.json", "--pin", pin)
    assert "not the plan that was reviewed" in error
    assert "chunks (6, 4, 5)" in error
    assert "cannot be read" in refused(capsys, "apply", kept, "--pin", tmp_path / "none")
    (tmp_path / "empty").write_text("work = 0f\n")
    assert "is no pin" in refused(capsys, "apply", kept, "--pin", tmp_path / "empty")
    assert not target.exists()
    said(capsys, "apply", kept, "--pin", pin, "--backend", "serial")


def test_a_pin_holds_while_what_it_says_nothing_of_changes(
    kept: Path, files: list[str], target: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "job.pin").write_text(said(capsys, "report", kept, "--format", "pin"))
    frazil.open_repository(str(target))  # there is a base now
    again = tmp_path / "again.json"
    said(capsys, "plan", *files, target, "--chunks", "time=4", "--out", again, "--backend", "serial", "--workers", "3")
    assert frazil.Plan.from_json(again.read_bytes()).hash != frazil.Plan.from_json(kept.read_bytes()).hash
    said(capsys, "report", again, "--pin", tmp_path / "job.pin")


@pytest.mark.parametrize(
    ("line", "code"),
    [('group = "elsewhere"', 2), ("[worker]\nstart_deadline = 5", 0), ('message = "other words"', 0)],
    ids=["group", "worker", "message"],
)
def test_apply_refuses_a_job_file_that_says_something_else_is_written_since_the_plan_was_made(
    kept: Path, target: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, code: int
) -> None:
    job = tmp_path / "job.toml"
    job.write_text(f"{job.read_text()}{line}\n")
    assert main(["apply", str(kept), "--config", str(job)]) == code
    assert target.exists() is (code == 0)
    assert ("has changed since the plan was made" in capsys.readouterr().err) is (code == 2)


def test_apply_refuses_a_stale_plan_and_a_repository_that_is_another_one_by_now(
    kept: Path, files: list[str], target: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    serial = frazil.SerialExecutor()
    frazil.convert(files, target, executor=serial)
    assert "has moved since the plan was made" in refused(capsys, "apply", kept, "--backend", "serial", code=1)
    more = tmp_path / "more.nc"
    series(24, 28).to_netcdf(more)
    late = tmp_path / "late.json"
    said(capsys, "plan", more, target, "--mode", "append", "--out", late, "--backend", "serial")
    target.rename(tmp_path / "old")
    frazil.convert(files, target, executor=serial)
    error = refused(capsys, "apply", late, "--backend", "serial", code=1)
    assert "does not descend from" in error
    assert "Nothing was published" in error


def test_a_detailed_exit_code_tells_work_from_none_and_both_from_errors(
    files: list[str], target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [*files, str(target), "--backend", "serial", "--detailed-exitcode"]
    assert main(["plan", *given]) == 2
    assert main(["plan", *given, "--nonsense"]) == 1
    assert main(["plan", "no-such-file.nc", str(target), "--detailed-exitcode"]) == 1
    frazil.convert(files, target, executor=frazil.SerialExecutor())
    assert main(["plan", *given]) == 1  # the group exists
    assert main(["plan", *given, "--mode", "append", "--on-overlap", "skip"]) == 0
    capsys.readouterr()


def test_markdown_leaves_text_as_text() -> None:
    table = as_markdown(
        "A [title](http://host)", [("name", "a|b\n<img src=x> `code` [x](http://host) www.host @you $x$")]
    )
    assert table.splitlines()[0] == r"### A \[title\](http\://host)"
    assert table.splitlines()[-1] == (
        r"| name | a\|b &lt;img src=x&gt; \`code\` \[x\](http\://host) www\.host \@you <span>$</span>x<span>$</span> |"
    )


LAMBDA = """
lithops: {backend: aws_lambda, storage: aws_s3}
aws: {region: us-east-1}
aws_lambda: {execution_role: "arn:aws:iam::111122223333:role/worker", runtime: frazil, runtime_memory: 2048}
aws_s3: {storage_bucket: staging}
"""


@pytest.fixture
def elsewhere(tmp_path: Path) -> list[str]:
    """Options that name a backend which cannot be reached, and a source that is work for two of its functions."""
    (tmp_path / "lithops.yaml").write_text(LAMBDA)
    values = np.zeros((96, 500, 500), "f4")
    large = xr.Dataset({"tas": (("time", "y", "x"), values)}, coords={"time": np.arange(96)})
    large.to_netcdf(tmp_path / "large.nc", encoding={"tas": {"zlib": True, "complevel": 1}})
    return ["--backend", "aws_lambda", "--lithops-config", str(tmp_path / "lithops.yaml")]


def test_a_plan_that_is_made_here_is_cut_for_the_functions_that_run_it_and_the_report_says_what_they_cost(
    elsewhere: list[str], target: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, kept = tmp_path / "large.nc", tmp_path / "large.json"
    plan = ["plan", source, target, "--chunks", "time=4", "--out", kept]
    said(capsys, *plan, "--backend", "serial")
    assert json.loads(said(capsys, "report", kept, "--json"))["tasks"] == 1
    shown = said(capsys, *plan, "--here", *elsewhere)
    told = json.loads(said(capsys, "report", kept, *elsewhere, "--json"))
    assert told["tasks"] > 1
    assert told["estimate"]["calls"][0] == told["tasks"]
    estimated = next(line.split("estimate")[1].strip() for line in shown.splitlines() if "estimate" in line)
    assert "GB-s at 2,048 MB" in estimated
    assert f"| estimate | {estimated} |" in said(capsys, "report", kept, *elsewhere, "--format", "markdown")
    assert "| cost | <span>$</span>" in said(capsys, "report", kept, *elsewhere, "--format", "markdown")
    (tmp_path / "lithops.yaml").write_text(LAMBDA.replace("2048", "256"))
    assert "aws_lambda gives it 268.4 MB" in refused(capsys, *plan, "--here", *elsewhere)


def test_planning_here_calls_no_function_of_the_backend_however_many_files_there_are(
    elsewhere: list[str], target: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for hour in range(40):
        series(hour, hour + 1).to_netcdf(tmp_path / f"{hour:02}.hour.nc")
    text = said(capsys, "plan", tmp_path / "*.hour.nc", target, "--here", "--pack", *elsewhere)
    assert "40 files along time" in text
    assert "leave one of them out" in refused(
        capsys, "plan", tmp_path / "*.hour.nc", target, "--here", "--probe", *elsewhere
    )


def test_the_report_of_a_run_compares_what_it_took_with_what_its_functions_were_expected_to(
    elsewhere: list[str], kept: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said(capsys, "apply", kept, "--run-id", "one", "--backend", "serial")
    told = json.loads(said(capsys, "report", target, "one", *elsewhere, "--json"))
    amounts = {one["what"]: one for one in told["compared"]}
    assert amounts.keys() == {"work_seconds", "memory_bytes", "gb_seconds", "work_dollars"}
    assert amounts["gb_seconds"]["actual"] == pytest.approx(2 * told["work"]["seconds"])
    assert amounts["memory_bytes"]["actual"] == told["work"]["peak_memory_bytes"]
    assert 0 < amounts["work_seconds"]["low"] < amounts["work_seconds"]["high"]
    shown = said(capsys, "report", target, "one", *elsewhere, "--format", "markdown")
    assert "| estimated |" in shown
    assert "GB-s (" in shown
    assert json.loads(said(capsys, "report", target, "one", "--json"))["compared"] == []  # no backend is named
