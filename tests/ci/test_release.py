"""The steps of a release that run anywhere: the version, the wheel, the bills of materials."""

import json
import os
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest

import frazil

from .conftest import TOP, WORKFLOWS
from .runner import Job, Ran, Runner, load

pytestmark = [
    pytest.mark.checkout,
    pytest.mark.skipif(not WORKFLOWS.exists(), reason="the workflows are part of the checkout, not of the wheel"),
]


def build(folder: Path, tag: str) -> tuple[Ran, Path]:
    """What becomes of the job that builds, and the folder of its artefacts."""
    artefacts = folder / "artefacts"

    def check_out(_: dict[str, Any], job: Job) -> None:
        for name in ("client", "functions"):
            shutil.copytree(TOP / name, job.workspace / name)
        for name in ("pyproject.toml", "uv.lock", "README.md", "LICENSE", "CHANGELOG.md"):
            shutil.copy(TOP / name, job.workspace)

    def upload(said: dict[str, Any], job: Job) -> None:
        shutil.copytree(job.workspace / said["path"], artefacts / said["name"])

    actions = {"actions/checkout": check_out, "astral-sh/setup-uv": lambda *_: None, "actions/upload-artifact": upload}
    known = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}  # where uv finds its index
    told = load(WORKFLOWS / "release.yml")
    ran = Runner(folder, actions, known).job(
        told["jobs"]["build"], {"github": {"ref_name": tag}, "env": {}}, told["defaults"]["run"]
    )
    return ran, artefacts


def test_a_tag_that_is_not_the_version_is_refused(tmp_path: Path) -> None:
    ran, artefacts = build(tmp_path, "v999.0.0")
    assert ran.result == "failure"
    assert f"the version is {frazil.__version__}" in ran.log
    assert not artefacts.exists()


@pytest.mark.slow
def test_a_release_has_a_wheel_that_runs_an_sdist_and_bills_of_what_the_lock_says(tmp_path: Path) -> None:
    ran, artefacts = build(tmp_path, f"v{frazil.__version__}")
    assert ran.result == "success", ran.log
    assert frazil.__version__ in ran.log
    assert {path.suffix for path in (artefacts / "dist").iterdir() if path.name[0] != "."} == {".whl", ".gz"}
    locked = {one["name"]: one.get("version") for one in tomllib.loads((TOP / "uv.lock").read_text())["package"]}
    bills = {path.name: json.loads(path.read_text()) for path in (artefacts / "sbom").iterdir()}
    names = {}
    for name, bill in bills.items():
        assert bill["bomFormat"] == "CycloneDX"
        parts = {one["name"]: one["version"] for one in bill["components"] if "version" in one}
        assert parts.items() <= locked.items()
        names[name] = parts.keys()
    assert {"icechunk", "lithops", "xarray"} <= names["frazil.cdx.json"]
    assert "pytest" not in names["frazil.cdx.json"]
    assert names["runtime.cdx.json"] == names["lambda.cdx.json"]
    assert names["lambda.cdx.json"] - names["frazil.cdx.json"] >= {"awslambdaric"}
    assert names["kubernetes.cdx.json"] - names["lambda.cdx.json"] >= {"flask", "kubernetes"}
    assert names["cloudrun.cdx.json"] - names["lambda.cdx.json"] >= {"flask", "gunicorn", "google-cloud-storage"}
    assert names.keys() == {"frazil.cdx.json"} | {f"{target}.cdx.json" for target in published()}


def published() -> list[str]:
    """The images of a release."""
    targets: list[str] = load(WORKFLOWS / "release.yml")["jobs"]["image"]["strategy"]["matrix"]["target"]
    return targets


def test_every_image_that_the_dockerfile_makes_is_published() -> None:
    stages = re.findall(r"^FROM base AS (\w+)$", (TOP / "infra/runtime/Dockerfile").read_text(), re.MULTILINE)
    assert sorted(published()) == sorted(stages)


def test_only_the_jobs_that_publish_may_sign_and_none_has_a_token_of_pypi() -> None:
    told = load(WORKFLOWS / "release.yml")
    assert told["permissions"] == {}
    assert "secrets." not in (WORKFLOWS / "release.yml").read_text()
    signing = {name for name, job in told["jobs"].items() if "id-token" in job["permissions"]}
    assert signing == {"pypi", "image"}
    assert all("environment" in told["jobs"][name] for name in signing)
