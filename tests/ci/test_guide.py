"""The examples of the guide: GitHub's are linted, GitLab's are held against its schema and their scripts run."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
import yaml

import frazil

from .conftest import TOP, WORKFLOWS, Project, series
from .runner import load

pytestmark = [
    pytest.mark.checkout,
    pytest.mark.timeout(900),  # most start the command several times
    pytest.mark.skipif(not WORKFLOWS.exists(), reason="the workflows are part of the checkout, not of the wheel"),
]

EXAMPLES = re.findall(r"^```yaml\n(.*?)^```$", (TOP / "docs/ci.md").read_text(), re.MULTILINE | re.DOTALL)
GITHUB, GITLAB = EXAMPLES[:2], EXAMPLES[2]


def test_the_examples_for_github_pass_the_linters_and_give_what_the_workflows_ask_for(tmp_path: Path) -> None:
    shutil.copytree(TOP / ".github", tmp_path / ".github")
    for number, text in enumerate(GITHUB):
        path = tmp_path / ".github" / "workflows" / f"example-{number}.yml"
        path.write_text(text)
        (job,) = load(path)["jobs"].values()
        name = job["uses"].split("@")[0].removeprefix("lab/frazil/")
        called = load(TOP / name)
        asked = called["on"]["workflow_call"]["inputs"]
        assert job["with"].keys() <= asked.keys()
        assert {name for name, one in asked.items() if one.get("required")} <= job["with"].keys()
        for inner in called["jobs"].values():
            assert inner["permissions"].items() <= job["permissions"].items()
    done = subprocess.run(
        [TOP / ".ci" / "workflows", tmp_path / ".github"], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_example_for_gitlab_is_what_its_schema_says(tmp_path: Path) -> None:
    def check(text: str) -> subprocess.CompletedProcess[str]:
        path = tmp_path / ".gitlab-ci.yml"
        path.write_text(text)
        command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.gitlab-ci", path]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = check(GITLAB)
    assert done.returncode == 0, done.stdout
    assert check(GITLAB.replace("resource_group: archive", "resource_groups: archive")).returncode != 0


def script(job: dict[str, Any], told: dict[str, Any], folder: Path) -> subprocess.CompletedProcess[str]:
    """A job's scripts, as GitLab's runner puts them together."""
    lines = [*told[job["extends"]]["before_script"], *job["script"]]
    environment = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder),
        "CI_BUILDS_DIR": str(folder.parent),
        "CI_PIPELINE_ID": "41",
        "AWS_TOKEN": "a-token",
        **job["variables"],
    }
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", "\n".join(lines)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    after = "\n".join(job.get("after_script", []))
    subprocess.run(["bash", "-c", after], cwd=folder, env=environment, check=False, capture_output=True)
    return done


@pytest.mark.slow
def test_the_example_for_gitlab_applies_what_was_reviewed_and_nothing_else(project: Project) -> None:
    told = yaml.safe_load(GITLAB)
    refused = script(told["plan"], told, project.checkout)
    assert refused.returncode == 2
    assert "the pin job.pin cannot be read" in refused.stderr
    shutil.copy(project.checkout / "plan.pin", project.checkout / "job.pin")
    assert "| sources | 2 files along time |" in (project.checkout / "plan.md").read_text()
    applied = script(told["apply"], told, project.checkout)
    assert applied.returncode == 0, applied.stderr
    assert "### Run ci-41 is published" in (project.checkout / "report.md").read_text()
    xr.testing.assert_identical(project.read(), xr.decode_cf(series(0, 12)))
    assert [one.run_id for one in frazil.runs(project.archive)] == ["ci-41"]
    project.write_job(mode="append")
    refused = script(told["apply"], told, project.checkout)
    assert refused.returncode == 2
