"""The manifests for Kubernetes fit its schemas, each other, and the command that they run.

The schemas are Kubernetes' own and know fields and types. What the API server asks beyond them (which words there are,
which fields go together) stands here as tests.
"""

import copy
import re
import shlex
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from frazil import cli
from frazil.jobfile import JobFile, job_start_of, load
from frazil_functions.errors import InvalidInputError
from frazil_functions.locations import locate
from frazil_functions.runs.start import runs_of

pytestmark = pytest.mark.checkout

TOP = Path(__file__).parents[2]
if not (TOP / "client").is_dir():
    pytest.skip("an installed wheel has no manifests", allow_module_level=True)
FOLDER = TOP / "infra" / "kubernetes"
OLDEST = "1.29"  # podReplacementPolicy and backoffLimitPerIndex are on by default from there
NEWEST = ".".join(kubernetes_validate.latest_version().split(".")[:2])
START = datetime(2026, 1, 2, 6, tzinfo=UTC)

type Manifest = dict[str, Any]


def manifests(name: str) -> dict[str, Manifest]:
    """The manifests of a file by their kind."""
    found = list(yaml.safe_load_all((FOLDER / name).read_text()))
    assert len({one["kind"] for one in found}) == len(found)
    return {one["kind"]: one for one in found}


JOB = manifests("job.yaml")
CRONJOB = manifests("cronjob.yaml")
ACCOUNT = manifests("service-account.yaml")["ServiceAccount"]
SPECS = {"job": JOB["Job"]["spec"], "cronjob": CRONJOB["CronJob"]["spec"]["jobTemplate"]["spec"]}
CONFIGS = {"job": JOB["ConfigMap"], "cronjob": CRONJOB["ConfigMap"]}

each = pytest.mark.parametrize("which", ["job", "cronjob"])


def container(spec: Manifest) -> Manifest:
    (one,) = spec["template"]["spec"]["containers"]
    return dict(one)


def options(spec: Manifest) -> dict[str, str]:
    """The options of the command that a pod runs."""
    program, command, *words = container(spec)["command"]
    assert (program, command) == ("frazil", "worker")
    assert "args" not in container(spec)
    return dict(zip(words[::2], words[1::2], strict=True))


def job_of(which: str, folder: Path) -> JobFile:
    path = folder / "job.toml"
    path.write_text(CONFIGS[which]["data"]["job.toml"])
    return load(path, START if which == "cronjob" else None)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.name)
def test_every_manifest_fits_the_schemas_of_kubernetes(path: Path, version: str) -> None:
    found = list(yaml.safe_load_all(path.read_text()))
    assert found
    for one in found:
        assert kubernetes_validate.validate(one, version, strict=True) == version


def _pod(job: Manifest) -> Manifest:
    pod: Manifest = job["spec"]["template"]["spec"]
    return pod


MISTAKES: dict[str, Callable[[Manifest], Any]] = {
    "an unknown field": lambda job: job["spec"].update(completionMod="Indexed"),
    "a field of another level": lambda job: _pod(job).update(backoffLimitPerIndex=3),
    "a field of a container that there is not": lambda job: _pod(job)["containers"][0].update(imagePullPolic="Always"),
    "a number as text": lambda job: job["spec"].update(completions="8"),
    "a number in a command": lambda job: _pod(job)["containers"][0]["command"].append(8),
    "a list of rules that is none": lambda job: job["spec"].update(podFailurePolicy={"rules": {"action": "Ignore"}}),
    "a rule without its action": lambda job: job["spec"]["podFailurePolicy"]["rules"][0].pop("action"),
    "exit codes without an operator": lambda job: job["spec"]["podFailurePolicy"]["rules"][1]["onExitCodes"].pop(
        "operator"
    ),
    "an exit code as text": lambda job: job["spec"]["podFailurePolicy"]["rules"][1]["onExitCodes"].update(values=["2"]),
    "no containers": lambda job: _pod(job).pop("containers"),
    "a container without a name": lambda job: _pod(job)["containers"][0].pop("name"),
    "a misspelled security context": lambda job: _pod(job)["securityContext"].update(runAsNonroot=True),
    "a volume without a name": lambda job: _pod(job)["volumes"][0].pop("name"),
    "no template": lambda job: job["spec"].pop("template"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_schemas_find_a_planted_mistake(mistake: str) -> None:
    planted = copy.deepcopy(JOB["Job"])
    MISTAKES[mistake](planted)
    assert planted != JOB["Job"]
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(planted, OLDEST, strict=True)


def test_a_cronjob_makes_the_very_job_of_the_other_file() -> None:
    made = copy.deepcopy(SPECS["cronjob"])
    (volume,) = [one for one in made["template"]["spec"]["volumes"] if "configMap" in one]
    assert volume["configMap"].pop("name") == CRONJOB["ConfigMap"]["metadata"]["name"]
    volume["configMap"]["name"] = JOB["ConfigMap"]["metadata"]["name"]
    assert made == SPECS["job"]


@each
def test_there_are_as_many_workers_as_each_is_told(which: str) -> None:
    spec = SPECS[which]
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"] == int(options(spec)["--total"])


@each
def test_the_command_says_nothing_but_what_differs_from_job_to_job(which: str) -> None:
    assert options(SPECS[which]).keys() == {"--config", "--run-dir", "--total"}


@each
def test_the_name_of_the_job_is_the_run_s_id(which: str) -> None:
    environment = {one["name"]: one for one in container(SPECS[which])["env"]}
    assert environment["FRAZIL_RUN_ID"] == {
        "name": "FRAZIL_RUN_ID",
        "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['batch.kubernetes.io/job-name']"}},
    }
    used = re.findall(r"\$\(([^)]*)\)", shlex.join(container(SPECS[which])["command"]))
    assert used == ["FRAZIL_RUN_ID"]
    assert options(SPECS[which])["--run-dir"].endswith("/$(FRAZIL_RUN_ID)")


@each
def test_nobody_but_kubernetes_numbers_the_workers(which: str) -> None:
    assert "JOB_COMPLETION_INDEX" not in {one["name"] for one in container(SPECS[which])["env"]}


@each
def test_the_run_directory_lies_beside_the_repository_of_the_job_file(which: str, tmp_path: Path) -> None:
    location = locate(job_of(which, tmp_path).repository)
    assert options(SPECS[which])["--run-dir"] == str(runs_of(location).below("$(FRAZIL_RUN_ID)"))


@each
def test_the_job_file_stands_where_the_command_looks_for_it(which: str) -> None:
    spec, config = SPECS[which], CONFIGS[which]
    path = Path(options(spec)["--config"])
    (mount,) = [one for one in container(spec)["volumeMounts"] if one["mountPath"] == str(path.parent)]
    (volume,) = [one for one in spec["template"]["spec"]["volumes"] if one["name"] == mount["name"]]
    assert volume["configMap"] == {"name": config["metadata"]["name"]}
    assert list(config["data"]) == [path.name]
    assert "subPath" not in mount


@each
def test_the_waits_of_the_job_file_fit_into_the_time_of_the_job(which: str, tmp_path: Path) -> None:
    worker = job_of(which, tmp_path).worker
    assert worker.start_deadline + worker.finish_deadline < SPECS[which]["activeDeadlineSeconds"]


@each
def test_refused_input_fails_the_job_at_once_and_nothing_else_does(which: str) -> None:
    ignored, failed = SPECS[which]["podFailurePolicy"]["rules"]
    # The first rule that fits counts: a worker that is interrupted has an exit code, too.
    assert ignored == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    name = container(SPECS[which])["name"]
    codes = {"containerName": name, "operator": "In", "values": [cli.REFUSED]}
    assert failed == {"action": "FailJob", "onExitCodes": codes}
    assert cli.REFUSED not in {cli.FAILED, cli.INTERRUPTED}


@each
def test_the_api_server_takes_the_choices_that_go_together(which: str) -> None:
    spec = SPECS[which]
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    assert spec["podReplacementPolicy"] == "Failed"
    assert spec["backoffLimitPerIndex"] > 0
    assert "backoffLimit" not in spec
    assert spec["ttlSecondsAfterFinished"] > 0


@each
def test_a_pod_may_do_no_more_than_it_must(which: str) -> None:
    """Kubernetes' restricted standard, and a root that is read alone.

    https://kubernetes.io/docs/concepts/security/pod-security-standards/
    """
    pod = SPECS[which]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(SPECS[which])["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {kind for one in pod["volumes"] for kind in one if kind != "name"} == {"configMap", "emptyDir"}
    assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC"}


@each
def test_what_a_worker_writes_on_disk_has_a_place(which: str) -> None:
    pod = SPECS[which]["template"]["spec"]
    (scratch,) = [one["name"] for one in pod["volumes"] if "emptyDir" in one]
    places = {one["name"]: one["mountPath"] for one in container(SPECS[which])["volumeMounts"]}
    assert places[scratch] == "/tmp"  # noqa: S108 - where the pod's own disk is mounted
    assert {"name": "HOME", "value": places[scratch]} in container(SPECS[which])["env"]


@each
def test_a_pod_says_what_it_needs_and_may_not_take_more_memory(which: str) -> None:
    resources = container(SPECS[which])["resources"]
    assert resources["requests"].keys() == {"cpu", "memory", "ephemeral-storage"}
    assert resources["limits"] == {name: resources["requests"][name] for name in ("memory", "ephemeral-storage")}


@each
def test_the_service_account_is_there_and_has_no_token_of_its_own(which: str) -> None:
    assert SPECS[which]["template"]["spec"]["serviceAccountName"] == ACCOUNT["metadata"]["name"]
    assert ACCOUNT["automountServiceAccountToken"] is False


def test_the_job_file_of_a_backfill_cannot_change_under_its_job() -> None:
    assert JOB["ConfigMap"]["immutable"] is True
    assert JOB["ConfigMap"]["metadata"]["name"] == JOB["Job"]["metadata"]["name"]


def test_one_update_ends_before_the_next_begins() -> None:
    spec = CRONJOB["CronJob"]["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert spec["timeZone"] == "Etc/UTC"
    assert spec["startingDeadlineSeconds"] >= 10  # with fewer, the controller can miss every start
    every = re.fullmatch(r"0 \*/(\d+) \* \* \*", spec["schedule"])
    assert every
    assert SPECS["cronjob"]["activeDeadlineSeconds"] <= int(every[1]) * 3600


def test_an_update_writes_what_the_time_in_its_name_says(tmp_path: Path) -> None:
    name = CRONJOB["CronJob"]["metadata"]["name"]
    assert len(name) <= 52  # Kubernetes appends up to 11 characters, and a Job's name has 63 at most
    path = tmp_path / "job.toml"
    path.write_text(CONFIGS["cronjob"]["data"]["job.toml"])
    first = load(path, job_start_of(f"{name}-{int(START.timestamp()) // 60}"))
    assert first.sources == ("s3://raw/2026-01-02/*.nc",)
    assert (first.mode, first.on_overlap, first.append_dim) == ("append", "skip", "time")
    assert first.message == "Observations up to 2026-01-02 06:00 UTC"
    with pytest.raises(InvalidInputError, match="CronJob"):
        load(path, job_start_of(f"{name}-manual"))


def test_no_manifest_holds_a_secret() -> None:
    for path in FOLDER.glob("*.yaml"):
        assert not re.search(r"(?i)secret|password|access_?key|session_?token", path.read_text()), path.name


def test_the_guide_names_the_files_and_the_oldest_version_that_they_are_tested_with() -> None:
    guide = (TOP / "docs" / "kubernetes.md").read_text()
    assert f"Kubernetes {OLDEST}" in guide
    for path in FOLDER.glob("*.yaml"):
        assert f"infra/kubernetes/{path.name}" in guide
