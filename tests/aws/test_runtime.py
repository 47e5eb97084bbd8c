"""Deployment, check and doctor against functions that run, each in the role that is meant for it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from .local import LocalAws


@pytest.fixture
def frazil(aws: LocalAws, tmp_path: Path) -> Any:
    """The command, in a role."""
    file = tmp_path / "lithops.yaml"
    file.write_text(yaml.safe_dump(aws.lithops_config(1769)))

    def frazil(role: str, *arguments: str, **changed: str) -> tuple[int, Any, str]:
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), **aws.shell(role), **changed}
        command = [sys.executable, "-m", "frazil.cli", *arguments, "--lithops-config", str(file), "--json"]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
        return ended.returncode, json.loads(ended.stdout or "null"), ended.stderr

    return frazil


def test_the_client_can_do_all_that_doctor_tries(aws: LocalAws, repository: str, frazil: Any) -> None:
    aws.function(1769)
    code, said, error = frazil("client", "doctor", repository, "--backend", "aws_lambda")
    assert code == 0, (said, error)
    found = {one["check"]: one["state"] for one in said["findings"]}
    assert set(found.values()) == {"ok"}
    assert {"call", "versions", "memory", "function", "metadata", "clock", "credentials"} <= set(found)
    assert aws.credentials["client"].secret_access_key not in json.dumps(said) + error


def test_the_client_checks_versions_with_what_it_may_do(aws: LocalAws, frazil: Any) -> None:
    aws.function(1769)
    code, said, error = frazil("client", "runtime", "check")
    assert code == 0, (said, error)
    (one,) = said["functions"]
    assert one["answered"] == one["client"]


def test_a_role_that_may_not_is_told_what_it_may_not(aws: LocalAws, repository: str, frazil: Any) -> None:
    aws.function(1769)
    code, said, _ = frazil("worker", "doctor", repository, "--backend", "aws_lambda")
    assert code == 1
    found = {one["check"]: one for one in said["findings"]}
    assert found["function"]["state"] == "wrong"
    assert "not allowed" in found["function"]["said"]


def test_the_deployer_deploys_with_what_it_may_do(aws: LocalAws, frazil: Any) -> None:
    aws.remove(aws.function(512))
    code, said, error = frazil("deployer", "runtime", "deploy", "--memory", "512")
    assert code == 0, (said, error)
    (made,) = said["functions"]
    assert made["steps"] == ["make the function", "turn off Lambda's own retries", "put its metadata"]
    assert made["versions"]["frazil"]
    code, said, error = frazil("deployer", "runtime", "deploy", "--memory", "512")
    assert (code, said["functions"][0]["steps"]) == (0, []), error
    aws.remove(made["function"])


@pytest.mark.parametrize("role", ["worker", "client", "ci-plan"])
def test_nobody_else_deploys(aws: LocalAws, frazil: Any, role: str) -> None:
    aws.function(1769)
    code, _, error = frazil(role, "runtime", "deploy")
    assert code == 1
    assert "is not allowed to" in error
    assert "Traceback" not in error


def attempted(aws: LocalAws, frazil: Any, url: str, repository: str, **changed: str) -> str:
    """A conversion that is refused and leaves nothing; gives what it says."""
    code, _, error = frazil("client", "convert", url, repository, "--backend", "aws_lambda", **changed)
    assert code == 1, error
    assert "Traceback" not in error
    assert aws.client("s3").list_objects_v2(Bucket=aws.data_bucket)["KeyCount"] == 0
    return str(error)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (
            {"aws": {"region": "us-east-1"}},
            "lies in eu-central-1, and the region in Lithops' configuration is us-east-1",
        ),
        ({"aws_s3": {"storage_bucket": "absent-staging"}}, "there is no such bucket"),
    ],
    ids=["region", "staging bucket"],
)
def test_a_configuration_of_somewhere_else_writes_nothing(
    aws: LocalAws, repository: str, frazil: Any, months: Any, tmp_path: Path, wrong: dict[str, Any], says: str
) -> None:
    aws.function(1769)
    (tmp_path / "lithops.yaml").write_text(yaml.safe_dump(aws.lithops_config(1769) | wrong))
    (url,), _ = months(1)
    assert says in attempted(aws, frazil, url, repository)


def test_an_environment_of_another_region_writes_nothing(
    aws: LocalAws, repository: str, frazil: Any, months: Any
) -> None:
    (url,), _ = months(1)
    said = attempted(aws, frazil, url, repository, AWS_REGION="us-east-1", AWS_DEFAULT_REGION="us-east-1")
    assert "the bucket lies in another region: set AWS_REGION" in said


def test_credentials_whose_time_is_over_write_nothing(aws: LocalAws, repository: str, frazil: Any, months: Any) -> None:
    aws.function(1769)
    (url,), _ = months(1)
    over = {"AWS_CREDENTIAL_EXPIRATION": "2020-01-01T00:00:00Z"}
    assert "the credentials have expired: log in again" in attempted(aws, frazil, url, repository, **over)
    code, said, error = frazil("client", "doctor", repository, "--backend", "aws_lambda", **over)
    assert code == 1, error
    (one,) = [one for one in said["findings"] if one["check"] == "credentials"]
    assert (one["state"], "log in again" in one["said"]) == ("wrong", True)


def test_a_bucket_that_is_not_there_is_said_to_be_missing_to_a_role_that_may_not_use_it(
    aws: LocalAws, frazil: Any, months: Any
) -> None:
    (url,), _ = months(1)
    aws.empty()
    assert "there is no such bucket" in attempted(aws, frazil, url, "s3://absent-data/archive")


def test_metadata_without_a_function_write_nothing(aws: LocalAws, repository: str, frazil: Any, months: Any) -> None:
    aws.function(1024)
    (url,), _ = months(1)
    aws.remove(aws.function(1769))  # its metadata stay
    assert "there is no function" in attempted(aws, frazil, url, repository)
