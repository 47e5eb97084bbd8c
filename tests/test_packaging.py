"""What the distribution promises: who may import what, and what is enough to run a function."""

import subprocess
import sys
import tomllib
from importlib.metadata import metadata, requires, version
from pathlib import Path

import pytest

import frazil_functions

TOP = Path(__file__).parents[1]
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())


def test_what_a_function_needs_is_a_part_of_what_the_client_needs() -> None:
    client = set(PROJECT["project"]["dependencies"])
    assert set(PROJECT["dependency-groups"]["function"]) < client


def test_the_version_of_lithops_is_exact_and_that_of_icechunk_bounded() -> None:
    wanted = requires("frazil") or []
    assert "lithops==3.8.0" in wanted
    assert [line for line in wanted if line.startswith("icechunk")] == ["icechunk<2.4,>=2.3"]


def test_functions_import_nothing_of_the_client() -> None:
    program = (
        "import sys; import frazil_functions.handler; "
        "print(*sorted({m.partition('.')[0] for m in sys.modules} "
        "& {'frazil', 'lithops', 'cyclopts', 'rich', 'boto3', 'dask'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_importing_frazil_does_not_import_lithops() -> None:
    program = "import sys; import frazil; print('lithops' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_command_says_its_version() -> None:
    done = subprocess.run([sys.executable, "-m", "frazil.cli", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == version("frazil") == frazil_functions.__version__


def test_the_licence_is_named() -> None:
    assert metadata("frazil")["License-Expression"] == "Apache-2.0"


@pytest.mark.checkout
def test_the_import_contracts_hold() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports")], cwd=TOP, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
