"""The linters of workflows find what they are there for, and nothing in ours."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from .conftest import TOP, WORKFLOWS

pytestmark = [
    pytest.mark.checkout,
    pytest.mark.skipif(not WORKFLOWS.exists(), reason="the workflows are part of the checkout, not of the wheel"),
]

PINNED = re.compile(r"uses: (?:\./[\w./-]+|[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+)(?: # .*)?")


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([TOP / ".ci" / "workflows", folder], capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    shutil.copytree(TOP / ".github", tmp_path / ".github")
    return tmp_path / ".github"


def test_the_workflows_as_they_are_pass() -> None:
    done = lint(TOP / ".github")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("run: .ci/run", 'run: echo "${{ github.event.pull_request.title }}"', "template-injection"),
        ("    permissions:\n      contents: read", "    permissions: write-all", "excessive-permissions"),
        ("persist-credentials: false", "persist-credentials: true", "artipacked"),
        ("@9c091bb21b7c1c1d1991bb908d89e4e9dddfe3e0 # v7.0.0", "@v7", "unpinned-uses"),
        ("  pull_request:\n", "  pull_request_target:\n", "dangerous-triggers"),
        ("timeout-minutes: 120", "timeout-minute: 120", "timeout-minute"),
    ],
    ids=["injection", "permissions", "credentials", "pin", "trigger", "schema"],
)
def test_what_is_planted_is_found(planted: Path, before: str, after: str, said: str) -> None:
    path = planted / "workflows" / "ci.yml"
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after, 1))
    done = lint(planted)
    assert done.returncode != 0
    assert said in done.stdout + done.stderr


def test_actionlint_finds_what_the_others_do_not(planted: Path) -> None:
    path = planted / "workflows" / "convert-matrix.yml"
    path.write_text(path.read_text().replace("needs.count.outputs.indices", "needs.count.outputs.indexes"))
    done = lint(planted)
    assert done.returncode != 0
    assert '"indexes" is not defined' in done.stderr


def test_every_action_is_pinned_by_its_hash_and_no_script_holds_an_expression() -> None:
    for path in sorted((TOP / ".github").rglob("*.yml")):
        text = path.read_text()
        for line in re.findall(r"uses: .*", text):
            assert PINNED.fullmatch(line), f"{path.name}: {line}"
        told = yaml.safe_load(text)
        if path.name == "dependabot.yml":
            continue
        jobs = told["jobs"].values() if "jobs" in told else [told["runs"]]
        for step in [step for job in jobs for step in job["steps"]]:
            script = step.get("run", "")
            assert "${{" not in script, path
            done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
