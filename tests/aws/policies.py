"""The IAM documents of the roles, as Terraform renders them from infra/modules/policy."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from . import names

MODULE = Path(__file__).parents[2] / "infra" / "modules" / "policy"


@dataclass(frozen=True, slots=True)
class Policies:
    """What the roles may do, who may take them on, and what the buckets refuse; JSON documents.

    Attributes
    ----------
    roles, trust
        By role, such as "worker".
    buckets
        By "data" and "staging".
    function_names, metadata_keys
        By memory in MB, as Terraform computes them.
    lithops_config
        Lithops' configuration in YAML.
    failed_queue
        The name of the queue that calls go to which are given up.
    """

    roles: Mapping[str, str]
    trust: Mapping[str, str]
    buckets: Mapping[str, str]
    function_names: Mapping[int, str]
    metadata_keys: Mapping[int, str]
    lithops_config: str
    failed_queue: str


def missing() -> str | None:
    """What is not here that it takes to render them, if anything."""
    if not MODULE.is_dir():
        return "infra/modules/policy is not here: what the roles may do is rendered from it"
    if shutil.which("terraform") is None:
        return "there is no terraform, which renders what the roles may do"
    return None


@cache
def policies() -> Policies:
    """Render them. Terraform works on a copy, for it writes where it works, and it needs no network for this module."""
    with tempfile.TemporaryDirectory(prefix="frazil-policy-") as folder:
        copy = Path(folder) / "policy"
        shutil.copytree(MODULE, copy, ignore=shutil.ignore_patterns("tests", ".terraform*", "terraform.tfstate*"))
        (copy / "local.auto.tfvars.json").write_text(json.dumps(_inputs()))
        _terraform(copy, "init", "-backend=false", "-input=false")
        _terraform(copy, "apply", "-auto-approve", "-input=false")
        found = {name: one["value"] for name, one in json.loads(_terraform(copy, "output", "-json")).items()}
    return Policies(
        roles=found["policies"],
        trust=found["trust"],
        buckets=found["bucket_policies"],
        function_names={int(memory): name for memory, name in found["function_names"].items()},
        metadata_keys={int(memory): key for memory, key in found["metadata_keys"].items()},
        lithops_config=found["lithops_config"],
        failed_queue=found["queue_names"]["failed"],
    )


def _inputs() -> dict[str, object]:
    return {
        "name": names.NAME,
        "account_id": names.ACCOUNT,
        "region": names.REGION,
        "data_bucket": names.DATA,
        "staging_bucket": names.STAGING,
        "repositories": list(names.REPOSITORIES),
        "sources": [{"bucket": names.RAW, "prefix": ""}],
        "user_id": names.USER_ID,
        "lithops_version": names.LITHOPS,
        "runtime": names.RUNTIME,
        "memory_sizes": list(names.MEMORY_SIZES),
        "python_version": names.python_version(),
        "github": {"repository": "example/archive", "branch": "main", "environment": "production"},
    }


def _terraform(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["terraform", f"-chdir={folder}", *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
