"""What the parts of the local AWS are called, and how Lithops names functions."""

import hashlib
import platform
from importlib.metadata import version
from typing import Final

REGION: Final = "eu-central-1"
ACCOUNT: Final = "123456789012"  # the account that moto serves
USER_ID: Final = "frazil"
NAME: Final = "frazil"
DATA, STAGING, RAW = "frazil-data", "frazil-staging", "frazil-raw"
REPOSITORIES: Final = ("archive", "another")
LITHOPS: Final = version("lithops")  # not imported: Frazil means to be the first that imports it
RUNTIME: Final = "frazil:0.1.0"
ROLES: Final = ("worker", "direct", "client", "deployer", "maintenance", "ci-plan", "ci-apply")
MEMORY_SIZES: Final = (512, 1024, 1769, 3008)
HANDLER: Final = "lambda_entry.lambda_handler"  # as infra/runtime has it


def role_arn(role: str) -> str:
    """The ARN of one of the roles."""
    return f"arn:aws:iam::{ACCOUNT}:role/{NAME}-{role}"


def function_name(memory: int) -> str:
    """The name that Lithops gives the function of a memory size, in MB."""
    digest = hashlib.sha1(f"{RUNTIME}-{memory}-{LITHOPS}".encode()).hexdigest()[:10]  # noqa: S324 - as Lithops
    return f"lithops-worker-{USER_ID[-4:].lower()}-{LITHOPS.replace('.', '')}-{digest}"


def metadata_key(memory: int) -> str:
    """Where in the staging bucket Lithops looks for what it knows of that function."""
    return f"lithops.runtimes/aws_lambda/{LITHOPS}/{REGION}/{function_name(memory)}.meta.json"


def python_version() -> str:
    """Major and minor, as Lithops compares them."""
    return ".".join(platform.python_version_tuple()[:2])
