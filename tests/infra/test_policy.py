"""What Terraform renders without a provider: names as Lithops computes them, and who may do what.

Whether the roles suffice, and what they are refused, is tried on a server that enforces them.
"""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import lithops
import numpy as np
import pytest
import xarray as xr
import yaml
from lithops.config import default_config
from lithops.invokers import _verify_runtime_meta
from lithops.serverless.backends.aws_lambda.aws_lambda import AWSLambdaBackend
from lithops.storage import InternalStorage
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

import frazil
from frazil.execution.configuration import completed, secret_keys
from frazil_functions.locations import locate
from frazil_functions.runs.start import runs_of

from .terraform import ABSENT, INFRA, Terraform, attached

pytestmark = pytest.mark.checkout
if ABSENT:
    pytest.skip(ABSENT, allow_module_level=True)

POLICY = "modules/policy"
VARIABLES: dict[str, Any] = {
    "name": "frazil",
    "account_id": "111122223333",
    "region": "eu-central-1",
    "data_bucket": "example-data",
    "staging_bucket": "example-staging",
    "repositories": ["archive", "climate/era5"],
    "sources": [{"bucket": "example-raw", "prefix": "raw"}],
    "user_id": "AROAEXAMPLEWxYz:session",
    "memory_sizes": [2048, 512],
    "python_version": f"{sys.version_info[0]}.{sys.version_info[1]}",
    "github": {"repository": "owner/name", "branch": "main", "environment": "production"},
}


@pytest.fixture(scope="module")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terraform]:
    with attached(tmp_path_factory.mktemp("policy")) as ready:
        ready.initialised(POLICY)
        yield ready


@pytest.fixture(scope="module")
def outputs(terraform: Terraform) -> dict[str, Any]:
    return terraform.outputs(POLICY, VARIABLES)


class Naming(AWSLambdaBackend):
    """Lithops' own names, without the constructor, which would look for credentials."""

    def __init__(self) -> None:
        self.name, self.region, self.namespace = "aws_lambda", VARIABLES["region"], None
        self.user_key = VARIABLES["user_id"].split(":")[0][-4:].lower()  # as the constructor has it, and the package
        self.package = f"lithops_v{lithops.__version__.replace('.', '')}_{self.user_key}"

    def function(self, runtime: str, memory: int) -> str:
        return str(self._format_function_name(runtime, memory))

    def repository(self, runtime: str) -> str:
        return str(self._format_repo_name(runtime))

    def metadata(self, runtime: str, memory: int) -> str:
        return Keys().metadata(self.get_runtime_key(runtime, memory))


class Keys(InternalStorage):
    """Lithops' own keys in the staging bucket, without a bucket."""

    def __init__(self) -> None:
        self.bucket = VARIABLES["staging_bucket"]

    def metadata(self, runtime_key: str) -> str:
        *_, key = self._runtime_meta_refs(runtime_key)
        return str(key)


def documents(outputs: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every document by what it is of."""
    groups = ("policies", "trust", "bucket_policies")
    found = {f"{group} {name}": json.loads(text) for group in groups for name, text in outputs[group].items()}
    return found | {"repository_policy": json.loads(outputs["repository_policy"])}


def test_everything_is_written_as_terraform_fmt_writes_it() -> None:
    done = subprocess.run(
        ["terraform", "fmt", "-check", "-recursive", INFRA], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"terraform fmt -recursive infra: {done.stdout}"


def test_terraforms_own_tests_of_the_policies_pass(terraform: Terraform) -> None:
    said = terraform.done(POLICY, "test", "-no-color")
    passed = re.search(r"Success! (\d+) passed, 0 failed", said)
    assert passed is not None
    assert int(passed[1]) > 60, "tests were not found"


def test_every_guard_has_a_value_that_it_refuses() -> None:
    refused = (INFRA / POLICY / "tests/refusals.tftest.hcl").read_text()
    variables = re.split(r'^variable "', (INFRA / POLICY / "variables.tf").read_text(), flags=re.MULTILINE)[1:]
    for text in variables:
        name, guards = text.partition('"')[0], text.count("validation {")
        assert guards, f"{name} takes anything"
        assert refused.count(f"expect_failures = [var.{name}]") >= guards, name


def test_functions_and_metadata_have_the_names_that_lithops_computes(outputs: dict[str, Any]) -> None:
    naming = Naming()
    runtime = yaml.safe_load(outputs["lithops_config"])["aws_lambda"]["runtime"]
    for memory in VARIABLES["memory_sizes"]:
        assert outputs["function_names"][str(memory)] == naming.function(runtime, memory)
        assert outputs["metadata_keys"][str(memory)] == naming.metadata(runtime, memory)
    assert outputs["image"]["repository"] == naming.repository(runtime)


def test_the_metadata_is_accepted_by_lithops(outputs: dict[str, Any]) -> None:
    metadata = json.loads(outputs["metadata"])
    _verify_runtime_meta(metadata, "frazil:0.1.0")
    assert metadata["runtime_timeout"] == 900
    assert metadata["preinstalls"] == []


def test_the_configuration_is_lithops_own_and_holds_no_key(outputs: dict[str, Any]) -> None:
    found = yaml.safe_load(outputs["lithops_config"])
    config, local = completed(found, None)
    assert not local
    assert not list(secret_keys(config))
    known = default_config(config_data=config)
    assert known["aws_lambda"]["execution_role"] == outputs["role_arns"]["worker"]
    assert known["aws_s3"]["storage_bucket"] == "example-staging"
    assert known["aws_lambda"]["runtime_memory"] == 2048


def test_runs_are_where_frazil_puts_them(outputs: dict[str, Any]) -> None:
    expected = [f"{runs_of(locate(f's3://example-data/{prefix}')).url}/" for prefix in VARIABLES["repositories"]]
    assert [f"s3://example-data/{prefix}" for prefix in outputs["run_prefixes"]] == expected


def test_every_statement_says_what_it_is_for(outputs: dict[str, Any]) -> None:
    for name, document in documents(outputs).items():
        words = [statement["Sid"] for statement in document["Statement"]]
        assert len(words) == len(set(words)), name
        assert all(re.fullmatch(r"([A-Z][a-z]*){2,}", word) for word in words), (name, words)


def test_nobody_may_do_anything_to_everything(outputs: dict[str, Any]) -> None:
    for role, text in outputs["policies"].items():
        for statement in json.loads(text)["Statement"]:
            assert statement["Effect"] == "Allow"
            assert not any("*" in action for action in statement["Action"]), (role, statement)
            open_ended = [one for one in statement["Resource"] if one == "*" or one.endswith(":*:*")]
            assert not open_ended or statement["Sid"] == "LogInToTheRegistry", (role, statement)


def test_no_role_that_moves_data_needs_a_condition(outputs: dict[str, Any]) -> None:
    """What is enforced where conditions are not evaluated is what is enforced."""
    with_conditions = {
        (role, statement["Sid"])
        for role, text in outputs["policies"].items()
        for statement in json.loads(text)["Statement"]
        if "Condition" in statement
    }
    assert with_conditions == {("deployer", "GiveWorkersTheirRole")}


def test_no_role_may_delete_versions(outputs: dict[str, Any]) -> None:
    actions = {
        action
        for text in outputs["policies"].values()
        for statement in json.loads(text)["Statement"]
        for action in statement["Action"]
    }
    assert not {
        action for action in actions if "Version" in action or "BucketPolicy" in action or "Lifecycle" in action
    }


def test_buckets_refuse_what_is_not_encrypted_on_its_way(outputs: dict[str, Any]) -> None:
    for bucket, name in (("data", "example-data"), ("staging", "example-staging")):
        (found,) = [
            statement
            for statement in json.loads(outputs["bucket_policies"][bucket])["Statement"]
            if statement.get("Condition") == {"Bool": {"aws:SecureTransport": "false"}}
        ]
        assert (found["Effect"], found["Principal"], found["Action"]) == ("Deny", "*", "s3:*")
        assert found["Resource"] == [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*"]


def test_what_a_run_keeps_can_be_put_only_if_it_is_absent(outputs: dict[str, Any]) -> None:
    (found,) = [
        statement
        for statement in json.loads(outputs["bucket_policies"]["data"])["Statement"]
        if statement["Sid"] == "RefuseToReplaceWhatARunKeeps"
    ]
    assert found["Condition"] == {"Null": {"s3:if-none-match": "true"}}
    guarded = [re.compile(re.escape(one).replace(r"\*", ".*")) for one in found["Resource"]]
    kept = ("plan.json", "wishes.json", "run.json", "outcome.json", "fork-0123456789abcdef", "receipts/000001-abc")
    for prefix in outputs["run_prefixes"]:
        for name in kept:
            assert any(one.fullmatch(f"arn:aws:s3:::example-data/{prefix}run/{name}") for one in guarded), name
        # The storage's clock is read with an object that is put anew each time.
        for clock in ("clock", "run/clock"):
            assert not any(one.fullmatch(f"arn:aws:s3:::example-data/{prefix}{clock}") for one in guarded)


def test_branches_move_only_by_compare_and_swap(outputs: dict[str, Any]) -> None:
    (found,) = [
        statement
        for statement in json.loads(outputs["bucket_policies"]["data"])["Statement"]
        if statement["Sid"] == "RefuseToMoveBranchesUnseen"
    ]
    assert (found["Effect"], found["Action"]) == ("Deny", "s3:PutObject")
    assert found["Resource"] == [f"arn:aws:s3:::example-data/{prefix}/repo" for prefix in VARIABLES["repositories"]]
    assert found["Condition"] == {"Null": {"s3:if-match": "true", "s3:if-none-match": "true"}}


@dataclass(frozen=True, slots=True)
class Put:
    """A request that puts an object.

    Attributes
    ----------
    arn
        Of the object.
    headers
        Which of the two conditions it names.
    """

    arn: str
    headers: frozenset[str]

    def refused_by(self, statement: dict[str, Any]) -> bool:
        """Whether a statement that denies applies to it, as IAM has it: every key of Null must be absent."""
        if statement["Action"] != "s3:PutObject":
            return False
        patterns = [re.escape(one).replace(r"\*", ".*") for one in statement["Resource"]]
        absent = all(key.removeprefix("s3:") not in self.headers for key in statement["Condition"]["Null"])
        return absent and any(re.fullmatch(pattern, self.arn) for pattern in patterns)


class Quiet(WSGIRequestHandler):
    def log(self, *_: object) -> None:
        """Say nothing of requests."""


@pytest.fixture
def puts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Put]]:
    """Every object that is put into a bucket of a server on this machine, while it is there."""
    seen: list[Put] = []
    served = DomainDispatcherApplication(create_backend_app)

    def recorded(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "PUT" and environ["PATH_INFO"].count("/") > 1:
            given = {
                name for name in ("if-match", "if-none-match") if f"HTTP_{name.upper().replace('-', '_')}" in environ
            }
            seen.append(Put(f"arn:aws:s3:::{environ['PATH_INFO'].lstrip('/')}", frozenset(given)))
        answer: Iterable[bytes] = served(environ, start)
        return answer

    server = make_server("127.0.0.1", 0, recorded, threaded=True, request_handler=Quiet)
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    for name, value in {
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    made = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    made.create_bucket(Bucket=VARIABLES["data_bucket"])
    yield seen
    made.close()
    server.shutdown()
    serving.join()
    server.server_close()


def test_the_data_bucket_refuses_nothing_that_a_run_puts(
    outputs: dict[str, Any], puts: list[Put], tmp_path: Path
) -> None:
    """A run that creates, one that appends, and garbage collection."""
    statements = [
        statement
        for statement in json.loads(outputs["bucket_policies"]["data"])["Statement"]
        if "Null" in statement["Condition"]
    ]
    assert len(statements) == 2
    files = []
    for first in (0, 40):
        files.append(tmp_path / f"{first}.nc")
        values = np.arange(first, first + 40, dtype="float32")
        xr.Dataset({"v": ("t", values)}, {"t": np.arange(first, first + 40)}).to_netcdf(files[-1])
    url, serial = "s3://example-data/archive", frazil.SerialExecutor()
    frazil.convert(files[0], url, chunks={"t": 10}, executor=serial)
    frazil.convert(files[1], url, mode="append", append_dim="t", executor=serial)
    frazil.gc(url, older_than=timedelta(), delete=True)
    names = {re.sub(r"[0-9A-Z]{20}|[0-9a-f]{16,}|\d{8}T.{15}", "*", put.arn.rpartition("archive")[2]) for put in puts}
    assert {"/repo", ".frazil/*/plan.json", ".frazil/*/outcome.json", ".frazil/*/fork-*"} <= names
    assert not [put for put in puts if any(put.refused_by(statement) for statement in statements)]
    # Without their conditions they are refused: it is the conditions that were looked at.
    bare = [Put(put.arn, frozenset()) for put in puts if put.headers]
    assert bare
    assert all(any(put.refused_by(statement) for statement in statements) for put in bare)
