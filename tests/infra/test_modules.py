"""The resources on AWS against the arguments that the provider publishes, in Terraform itself.

Nothing here has been planned or applied against an account. What the schemas do not say is listed below, beside what
they do.
"""

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from .terraform import ABSENT, CHECKS, INFRA, TOP, Terraform, attached

pytestmark = pytest.mark.checkout
if ABSENT:
    pytest.skip(ABSENT, allow_module_level=True)

AWS = "modules/aws"
EXAMPLE = "envs/example"

CAUGHT = {
    "an unknown argument": ("buckets.tf", "force_destroy = false", "force_destroyed = false", "Unsupported argument"),
    "a required argument is missing": (
        "image.tf",
        "  name                 = module.policy.image.repository\n",
        "",
        "Missing required argument",
    ),
    "a word for a number": ("functions.tf", "tonumber(each.key)", '"much"', "Incorrect attribute value type"),
    "a list for a word": (
        "roles.tf",
        "policy = module.policy.policies[each.key]",
        "policy = [1]",
        "Incorrect attribute value type",
    ),
    "an unknown block": ("functions.tf", "image_config {", "image_configuration {", "Unsupported block type"),
    "an unknown argument in a block": ("functions.tf", "entry_point =", "entrypoint =", "Unsupported argument"),
    "a required argument is missing in a block within a block": (
        "functions.tf",
        "destination = aws_sqs_queue.failed.arn",
        "",
        "Missing required argument",
    ),
    "a required block is missing": (
        "buckets.tf",
        '  rule {\n    object_ownership = "BucketOwnerEnforced"\n  }\n',
        "",
        "Insufficient rule blocks",
    ),
    "a block twice that may be there once": (
        "functions.tf",
        "  ephemeral_storage {",
        "  ephemeral_storage {\n    size = 512\n  }\n\n  ephemeral_storage {",
        "Too many ephemeral_storage blocks",
    ),
    "an argument as a block": (
        "direct.tf",
        "  eventbridge = true\n",
        "  eventbridge {\n  }\n",
        "Unsupported block type",
    ),
    "a block as an argument": (
        "image.tf",
        "  image_scanning_configuration {\n    scan_on_push = true\n  }",
        "  image_scanning_configuration = true",
        "Unsupported argument",
    ),
    "an attribute that a resource does not have": (
        "functions.tf",
        "aws_sqs_queue.failed.arn",
        "aws_sqs_queue.failed.arm",
        "Unsupported attribute",
    ),
    "an output that the policy module does not have": (
        "roles.tf",
        "module.policy.trust[",
        "module.policy.trusts[",
        "Unsupported attribute",
    ),
    "an unknown kind of resource": (
        "watching.tf",
        'resource "aws_sns_topic" ',
        'resource "aws_sns_topics" ',
        "Invalid resource type",
    ),
    "a resource that is not there": (
        "watching.tf",
        "aws_sns_topic.alarms[0].arn",
        "aws_sns_topic.alarm[0].arn",
        "Reference to undeclared resource",
    ),
}
MISSED = {
    "a word that is not one of those allowed": ("image.tf", '"IMMUTABLE"', '"UNCHANGEABLE"'),
    "a number out of its range": (
        "functions.tf",
        "maximum_retry_attempts       = 0",
        "maximum_retry_attempts       = 3",
    ),
    "arguments that exclude each other": (
        "functions.tf",
        "  name                      = module.policy.queue_names.failed\n",
        '  name                      = module.policy.queue_names.failed\n  name_prefix               = "frazil"\n',
    ),
    "one of several arguments that must be given": (
        "functions.tf",
        "  image_uri                      = local.image\n",
        "",
    ),
    "a block twice, of resources that the provider's newer framework describes": (
        "buckets.tf",
        "    noncurrent_version_expiration {\n",
        "    noncurrent_version_expiration {\n      noncurrent_days = 1\n    }\n    noncurrent_version_expiration {\n",
    ),
}


@pytest.fixture(scope="module")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terraform]:
    with attached(tmp_path_factory.mktemp("modules")) as ready:
        for module in (AWS, EXAMPLE):
            ready.initialised(module)
        yield ready


def planted(terraform: Terraform, module: str, name: str, old: str, new: str) -> list[str]:
    """What Terraform finds wrong once a file has been changed."""
    file = terraform.folder / module / name
    text = file.read_text()
    assert old in text, f"{name} does not hold what was to be changed"
    file.write_text(text.replace(old, new))
    try:
        return terraform.errors(module)
    finally:
        file.write_text(text)


@pytest.mark.parametrize("module", [AWS, EXAMPLE])
def test_arguments_are_those_of_the_provider(terraform: Terraform, module: str) -> None:
    assert terraform.errors(module) == []


@pytest.mark.parametrize("error", CAUGHT)
def test_the_schemas_catch(terraform: Terraform, error: str) -> None:
    *change, expected = CAUGHT[error]
    found = planted(terraform, AWS, *change)
    assert any(one.startswith(expected) for one in found), found


@pytest.mark.parametrize("error", MISSED)
def test_the_schemas_do_not_catch(terraform: Terraform, error: str) -> None:
    assert planted(terraform, AWS, *MISSED[error]) == []


def test_the_schemas_catch_an_unknown_argument_of_the_provider(terraform: Terraform) -> None:
    found = planted(terraform, EXAMPLE, "main.tf", "allowed_account_ids", "allowed_accounts")
    assert any(one.startswith("Unsupported argument") for one in found), found


@pytest.mark.slow
def test_terraforms_own_tests_of_the_resources_pass(terraform: Terraform) -> None:
    said = terraform.done(AWS, "test", "-no-color")
    passed = re.search(r"Success! (\d+) passed, 0 failed", said)
    assert passed is not None
    assert int(passed[1]) > 20, "tests were not found"


@pytest.mark.parametrize("complete", [False, True], ids=["as it stands", "with everything in it"])
def test_the_example_s_variables_are_enough(terraform: Terraform, *, complete: bool) -> None:
    text = (INFRA / EXAMPLE / "terraform.tfvars.example").read_text()
    if complete:
        text = re.sub(r"^# (\w+ += )", r"\1", text, flags=re.MULTILINE).replace("sha256:...", f"sha256:{'0' * 64}")
        assert len(re.findall(r"^\w+ +=", text, re.MULTILINE)) == len(
            re.findall(r'^variable "', (INFRA / EXAMPLE / "variables.tf").read_text(), re.MULTILINE)
        )
    (terraform.folder / EXAMPLE / "given.tfvars").write_text(text)
    assert "Success! 1 passed, 0 failed" in terraform.done(EXAMPLE, "test", "-no-color", "-var-file=given.tfvars")


def test_every_guard_has_a_value_that_it_refuses() -> None:
    refused = (INFRA / AWS / "tests/resources.tftest.hcl").read_text()
    variables = re.split(r'^variable "', (INFRA / AWS / "variables.tf").read_text(), flags=re.MULTILINE)[1:]
    for text in variables:
        name, guards = text.partition('"')[0], text.count("validation {")
        assert refused.count(f"expect_failures = [var.{name}]") >= guards, name


def test_every_variable_and_output_says_what_it_is() -> None:
    for file in sorted(INFRA.glob("*/*/*.tf")):
        for block in re.findall(r'^(?:variable|output) "\w+" \{\n.*?^\}', file.read_text(), re.MULTILINE | re.DOTALL):
            assert re.search(r'^  description = ".{10,}"$', block, re.MULTILINE), f"{file}: {block}"


def test_variables_that_both_modules_have_are_of_one_type_and_default() -> None:
    def declared(module: str) -> dict[str, str]:
        text = (INFRA / module / "variables.tf").read_text()
        found = re.findall(r'^variable "(\w+)" \{\n(.*?)^\}', text, re.MULTILINE | re.DOTALL)
        return {
            name: re.sub(r"\s+", " ", " ".join(re.findall(r"^  (?:type|default) .*$", body, re.MULTILINE)))
            for name, body in found
        }

    policy, aws = declared("modules/policy"), declared(AWS)
    assert set(policy) <= set(aws)
    different = {name for name in policy if policy[name] != aws[name]}
    assert different == {"name"}, "a module that stands alone asks for a name, and this one has a default"


def test_the_state_machine_is_that_of_the_guide() -> None:
    guide = (TOP / "docs/direct-invocation.md").read_text()
    (documented,) = [json.loads(one) for one in re.findall(r"```json\n(.*?)```", guide, re.DOTALL) if "StartAt" in one]
    template = (INFRA / AWS / "state-machine.json.tftpl").read_text()
    for name, value in {"partition": "aws", "function": "frazil", "tasks_at_once": "40"}.items():
        template = template.replace(f"${{{name}}}", value)
    assert json.loads(template) == documented


def test_every_resource_has_a_schema() -> None:
    spec = importlib.util.spec_from_file_location("schemas", CHECKS / "schemas.py")
    assert spec is not None
    assert spec.loader is not None
    schemas = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(schemas)
    kept = json.loads((CHECKS / "aws-schemas.json").read_text())
    assert set(kept["resources"]) == {f"aws_{name}" for name in schemas.used()}
    assert kept["version"] in (INFRA / AWS / "versions.tf").read_text()


def test_the_provider_ends_with_whoever_started_it() -> None:
    done = subprocess.run(
        [sys.executable, str(CHECKS / "provider.py")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
