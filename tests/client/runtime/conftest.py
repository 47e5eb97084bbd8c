"""An account on the server of this machine, with a staging bucket, a role and an image, and no function yet."""

import json
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from lithops.worker.utils import get_runtime_metadata

from frazil.execution.lithops import LithopsExecutor
from frazil.runtime.configuration import LambdaRuntime
from frazil.runtime.connection import Connection
from frazil.runtime.metadata import own_versions

ACCOUNT, USER_ID, REGION = "123456789012", "AIDAEXAMPLE", "us-east-1"
REPOSITORY = "lithops_v380_mple/frazil"


def config(**own: object) -> dict[str, Any]:
    """Lithops' configuration as Terraform renders it."""
    return {
        "lithops": {"backend": "aws_lambda", "storage": "aws_s3"},
        "aws": {"region": REGION},
        "aws_lambda": {
            "account_id": ACCOUNT,
            "user_id": USER_ID,
            "execution_role": f"arn:aws:iam::{ACCOUNT}:role/frazil-worker",
            "runtime": "frazil:0.1.0",
            "runtime_memory": 2048,
            "runtime_timeout": 900,
            **own,
        },
        "aws_s3": {"storage_bucket": "staging"},
    }


@dataclass(frozen=True)
class Account:
    endpoint: str
    folder: Path

    def client(self, service: str) -> Any:
        return boto3.client(service, endpoint_url=self.endpoint, region_name=REGION)

    def runtime(self, **own: object) -> LambdaRuntime:
        return LambdaRuntime.of(LithopsExecutor(config=config(**own)).configuration())

    @property
    def connection(self) -> Connection:
        return Connection(REGION)

    def config_file(self, **own: object) -> Path:
        file = self.folder / "lithops.yaml"
        file.write_text(yaml.safe_dump(config(**own)))
        return file

    def push(self, tag: str = "0.1.0", content: str = "1") -> None:
        """Put an image into ECR, as an engine would; the content decides about its digest."""
        layers: list[object] = []
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {"digest": f"sha256:{content}", "size": 1, "mediaType": "application/json"},
            "layers": layers,
        }
        self.client("ecr").put_image(
            repositoryName=REPOSITORY,
            imageTag=tag,
            imageManifest=json.dumps(manifest),
            imageDigest=f"sha256:{content:0>64}",
        )

    def answer(self, *payloads: object) -> None:
        """Let functions answer so, one after the other; the server runs none."""
        self.post("/moto-api/static/lambda-simple/response", {"results": [json.dumps(one) for one in payloads]})

    def lose_functions(self) -> None:
        """Be without functions; the server answers for one that is missing only where it could run functions."""
        self.post("/moto-api/config", {"lambda": {"use_docker": True}})

    def post(self, path: str, body: Mapping[str, object]) -> None:
        request = urllib.request.Request(  # noqa: S310 - the server of the tests
            self.endpoint + path, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
        )
        urllib.request.urlopen(request).close()  # noqa: S310 - as above

    def objects(self, bucket: str) -> dict[str, bytes]:
        s3 = self.client("s3")
        listed = s3.list_objects_v2(Bucket=bucket).get("Contents", [])
        return {one["Key"]: s3.get_object(Bucket=bucket, Key=one["Key"])["Body"].read() for one in listed}

    def create_function(self, runtime: LambdaRuntime, **other: object) -> None:
        """Make the function as somebody else would, such as Terraform."""
        self.client("lambda").create_function(
            **{
                "FunctionName": runtime.function,
                "Role": runtime.role,
                "Code": {"ImageUri": f"{runtime.registry}/{REPOSITORY}@sha256:{'0' * 63}1"},
                "PackageType": "Image",
                "Timeout": runtime.timeout,
                "MemorySize": runtime.memory,
                **other,
            }
        )


@pytest.fixture
def account(bucket: Any, endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    monkeypatch.setenv("HOME", str(tmp_path))  # Lithops keeps metadata below it
    made = Account(endpoint, tmp_path)
    made.client("s3").create_bucket(Bucket="staging")
    made.client("ecr").create_repository(repositoryName=REPOSITORY)
    trusted = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    made.client("iam").create_role(
        RoleName="frazil-worker",
        AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trusted]}),
    )
    made.post("/moto-api/config", {"lambda": {"use_docker": False}})
    yield made
    made.post("/moto-api/config", {"lambda": {"use_docker": True}})


@pytest.fixture
def described() -> Callable[..., dict[str, Any]]:
    """What Lithops' entry point says of itself; modules are of no interest here."""
    return lambda **other: {**get_runtime_metadata(), "preinstalls": [["os", False]], **other}


@pytest.fixture
def deployed(account: Account) -> Callable[..., LambdaRuntime]:
    """A function with its metadata, of these versions or of those installed here."""

    def deployed(**versions: str) -> LambdaRuntime:
        runtime = account.runtime()
        account.create_function(runtime)
        said = own_versions() | versions
        metadata = {
            "preinstalls": [],
            "python_version": ".".join(said["python"].split(".")[:2]),
            "lithops_version": said["lithops"],
            "runtime_timeout": 900,
            "frazil": said,
        }
        account.client("s3").put_object(Bucket="staging", Key=runtime.metadata_key, Body=json.dumps(metadata).encode())
        return runtime

    return deployed
