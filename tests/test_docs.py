"""What README and docs show is what happens: commands and Python in them run, links lead somewhere."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import frazil

TOP = Path(__file__).parents[1]
PAGES = [TOP / "README.md", *sorted((TOP / "docs").rglob("*.md"))]
NORTH_AMERICA = TOP / "tests" / "data" / "north-america"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that has what the examples name."""
    for folder in ("data", "tests/data/north-america"):
        shutil.copytree(NORTH_AMERICA, tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_readme_s_python_runs(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for block in blocks(TOP / "README.md", "python"):
        exec(compile(block, "README.md", "exec"), names)  # noqa: S102 - the examples are ours
    shown = capsys.readouterr().out
    assert "<frazil.Plan>" in shown
    assert "air_temperature" in shown


def test_the_readme_s_commands_run(checkout: Path) -> None:
    lines = [line for block in blocks(TOP / "README.md", "sh") for line in block.splitlines()]
    commands = [found.group(0) for line in lines if (found := re.search(r"frazil (plan|convert) [^#]*", line))]
    assert len(commands) == 3
    later = [found.group(0) for line in lines if (found := re.search(r"frazil (runs|resume|gc) [^#]*", line))]
    assert len(later) == 3
    for command in commands:
        shutil.rmtree(checkout / "archive.icechunk", ignore_errors=True)
        words = [sys.executable, "-m", "frazil.cli", *shlex.split(command)[1:]]
        line = " ".join(word if "*" in word else shlex.quote(word) for word in words)
        done = subprocess.run(line, shell=True, capture_output=True, text=True, check=False)  # noqa: S602 - for the globs
        assert done.returncode == 0, done.stderr
        assert "air_temperature" in done.stdout
    (run,) = [one for one in frazil.runs(checkout / "archive.icechunk") if one.snapshot_id in done.stdout]
    for command in later:
        words = [sys.executable, "-m", "frazil.cli", *command.replace("RUN", run.run_id).split()[1:]]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


def test_docstring_examples_run(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DOCTESTS], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[-1]) >= 4


DOCTESTS = """
import doctest, importlib, pkgutil, sys
import frazil, frazil_functions
tried = 0
for package in (frazil, frazil_functions):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        result = doctest.testmod(importlib.import_module(module.name))
        tried += result.attempted
        if result.failed:
            sys.exit(1)
print(tried)
"""
