"""Terraform in a copy of infra/, without any network: it attaches to a provider that has schemas and nothing else."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOP = Path(__file__).parents[2]
INFRA = TOP / "infra"
CHECKS = INFRA / "checks"
ABSENT = (
    "an installed wheel has no infra/"
    if not (INFRA / "modules").is_dir()
    else ("terraform is not on PATH" if shutil.which("terraform") is None else "")
)
"""Why nothing of this can be tried here; empty if it can."""


@dataclass(frozen=True, slots=True)
class Terraform:
    """A copy of infra/ that Terraform may write into.

    Attributes
    ----------
    folder
        Where modules, envs, and all that Terraform needs lie.
    provider
        How the provider is reached.
    """

    folder: Path
    provider: str

    @property
    def env(self) -> dict[str, str]:
        """The environment of its processes."""
        return os.environ | {
            "TF_CLI_CONFIG_FILE": str(self.folder / "terraformrc"),
            "TF_IN_AUTOMATION": "1",
            "CHECKPOINT_DISABLE": "1",
            "TF_REATTACH_PROVIDERS": self.provider,
        }

    def run(self, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """What a command says; it may fail."""
        return subprocess.run(
            ["terraform", f"-chdir={self.folder / module}", *arguments],
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
        )

    def done(self, module: str, *arguments: str) -> str:
        """What a command says that must not fail."""
        found = self.run(module, *arguments)
        assert found.returncode == 0, found.stdout + found.stderr
        return found.stdout

    def initialised(self, module: str) -> None:
        """Get a module ready."""
        self.done(module, "init", "-backend=false", "-no-color")

    def outputs(self, module: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Apply a module without resources; what it puts out."""
        (self.folder / module / "given.tfvars.json").write_text(json.dumps(variables))
        self.done(module, "apply", "-auto-approve", "-no-color", "-var-file=given.tfvars.json")
        return {name: one["value"] for name, one in json.loads(self.done(module, "output", "-json")).items()}

    def errors(self, module: str) -> list[str]:
        """What `validate` finds wrong."""
        said = json.loads(self.run(module, "validate", "-json").stdout)
        return [f"{one['summary']}: {one['detail']}" for one in said["diagnostics"] if one["severity"] == "error"]


@contextlib.contextmanager
def attached(folder: Path) -> Iterator[Terraform]:
    """A copy of infra/, and the provider that Terraform attaches to; it ends with this process at the latest."""
    for name in ("modules", "envs"):
        shutil.copytree(INFRA / name, folder / name, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
    (folder / "terraformrc").write_text("disable_checkpoint = true\n")
    command = [sys.executable, str(CHECKS / "provider.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as provider:
        assert provider.stdin is not None
        assert provider.stdout is not None
        try:
            yield Terraform(folder, provider.stdout.readline().strip())
        finally:
            provider.stdin.close()
            assert provider.wait(timeout=30) == 0
