"""No credential is written down: not by a run that is published, nor by one that fails."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .local import LocalAws, started
from .searching import found_in, packed
from .sources import upload

MEMORY = 1024
SECRET = "x1/yZ+Planted5ecret0f40Characters/AAAA+="  # noqa: S105 - made up, to be found


@pytest.fixture
def versioned(shared_aws: LocalAws) -> Iterator[LocalAws]:
    """A local AWS of its own, whose buckets keep what is replaced or deleted, as those of a deployment do."""
    with started() as aws:
        for bucket in (aws.data_bucket, aws.staging_bucket):
            versioning = {"Status": "Enabled"}
            aws.client("s3").put_bucket_versioning(Bucket=bucket, VersioningConfiguration=versioning)
        yield aws


def versions(aws: LocalAws, bucket: str) -> list[tuple[str, str]]:
    """Every version of every object: keys and names of versions."""
    pages = aws.client("s3").get_paginator("list_object_versions").paginate(Bucket=bucket)
    return [(one["Key"], one["VersionId"]) for page in pages for one in page.get("Versions", ())]


def credentials_in_use(aws: LocalAws) -> list[str]:
    """Keys, secrets and tokens of every role, and those that functions have."""
    function = aws.function(256, name="test-credentials", handler="tests.aws.functions.credentials")
    answer = aws.client("lambda", read_timeout=60).invoke(FunctionName=function, Payload=b"{}")
    known = [value for one in aws.credentials.values() for value in one.environment().values()]
    return known + json.load(answer["Payload"])


def frazil_command(aws: LocalAws, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-m", "frazil.cli", *arguments, "-vv"]
    return subprocess.run(command, env=os.environ | aws.shell(), capture_output=True, check=False, timeout=300)


def told(aws: LocalAws, function: str) -> dict[str, bytes]:
    """All that runs have left, and what functions were told and have said; by where it is."""
    s3 = aws.client("s3")
    found = {
        f"{bucket}/{key} {version}": s3.get_object(Bucket=bucket, Key=key, VersionId=version)["Body"].read()
        for bucket in (aws.data_bucket, aws.staging_bucket)
        for key, version in versions(aws, bucket)
    }
    for one in aws.settled().invocations(function):
        found |= {f"payload {one.request_id}": one.payload, f"answer {one.request_id}": one.answer or b""}
    found["failures"] = json.dumps(aws.failures()).encode()
    return found | {"logs": aws.logs(function).encode()}


@pytest.mark.slow
def test_no_credential_is_in_any_object_payload_log_or_report(versioned: LocalAws, tmp_path: Path) -> None:
    aws, repository = versioned, versioned.repository
    sources, _ = upload(aws, tmp_path, 2, 4)
    secrets = credentials_in_use(aws)
    assert len(set(secrets)) >= 3 * len(aws.credentials)
    aws.reset()
    function = aws.function(MEMORY, concurrency=2)
    configuration, plan, mended = (tmp_path / name for name in ("lithops.yaml", "plan.json", "mended.json"))
    configuration.write_text(json.dumps(aws.lithops_config(MEMORY)))
    calls = ["--backend", "aws_lambda", "--lithops-config", str(configuration), "--workers", "2"]
    said = [
        frazil_command(aws, "plan", sources[0], repository, "--chunks", "time=1", "--out", str(plan), *calls),
        frazil_command(aws, "apply", str(plan), "--json", "--function-logs", *calls),
        frazil_command(aws, "plan", *sources, repository, "--mode", "overwrite", "--out", str(mended), *calls),
    ]
    assert [one.returncode for one in said] == [0, 0, 0], said
    # A file that changes after the plan was made fails the second run, in its functions.
    bucket, _, key = sources[1].removeprefix("s3://").partition("/")
    aws.client("s3").put_object(Bucket=bucket, Key=key, Body=b"something else")
    failed = frazil_command(aws, "apply", str(mended), "--json", "--function-logs", *calls)
    assert failed.returncode == 1, failed
    everything = told(aws, function) | {plan.name: plan.read_bytes(), mended.name: mended.read_bytes()}
    for number, one in enumerate([*said, failed]):
        everything |= {f"stdout {number}": one.stdout, f"stderr {number}": one.stderr}
    places = {name.partition("/")[2].split("/")[0].split(" ")[0] for name in everything}
    assert {"archive", "archive.frazil", "lithops.jobs"} <= places
    assert b"DEBUG" in said[1].stderr or b"debug" in said[1].stderr
    assert {name: hits for name, data in everything.items() if (hits := found_in(data, secrets))} == {}


@pytest.mark.parametrize("how", packed(SECRET))
def test_the_search_finds_a_secret_however_it_is_hidden(how: str) -> None:
    assert found_in(packed(SECRET)[how], ["another", SECRET]) == [SECRET]
