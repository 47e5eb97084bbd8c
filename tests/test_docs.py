"""What README and docs show is what happens: commands and Python in them run, links lead somewhere."""

import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import frazil
from frazil_functions import errors
from frazil_functions.errors import FrazilError

TOP = Path(__file__).parents[1]
OF_INFRA = [TOP / "infra" / "README.md", TOP / "infra" / "runtime" / "README.md"]
PAGES = [TOP / "README.md", *sorted((TOP / "docs").rglob("*.md")), *(page for page in OF_INFRA if page.exists())]
NORTH_AMERICA = TOP / "tests" / "data" / "north-america"


# What is shown as `console` needs a cloud, a cluster or a container engine, and does not run; these pages may.
SHOWN = {
    "docs/aws.md",
    "docs/direct-invocation.md",
    "docs/first-conversion.md",
    "docs/kubernetes.md",
    "docs/local-aws.md",
    "docs/virtual.md",
    "infra/README.md",
    "docs/lithops-cloud-run.md",
    "docs/lithops-kubernetes.md",
    "infra/runtime/README.md",
}


def blocks(page: Path, *languages: str) -> list[tuple[str, str]]:
    """The blocks of a page that are in one of the languages, in order: language and text."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [(language, text) for language, text in found if language in languages]


def tried_by(page: Path) -> list[Path]:
    """The modules of tests that run a page's examples themselves, among files that the page needs."""
    others = [path for path in (TOP / "tests").rglob("test_*.py") if path != Path(__file__)]
    return [path for path in others if f'"{page.name}"' in path.read_text()]


APART = {"README.md", "errors.md", "logging.md"}  # have tests of their own below
WITH_EXAMPLES = [
    page for page in PAGES if blocks(page, "python", "sh") and not tried_by(page) and page.name not in APART
]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that has what the examples name, and `frazil` on the PATH."""
    for folder in ("data", "tests/data/north-america"):
        shutil.copytree(NORTH_AMERICA, tmp_path / folder)
    # Lithops imports it while other threads set filters of warnings aside, among them one that it needs here.
    importlib.import_module("requests")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    return tmp_path


def execute(page: Path, here: Callable[[str], str] = str) -> list[str]:
    """Run a page's Python and commands, one after the other, as a reader would; return what each command printed."""
    names: dict[str, object] = {}
    shown = []
    for language, written in blocks(page, "python", "sh"):
        text = here(written)
        if language == "python":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # Xarray announces other defaults, for readers to heed
                exec(compile(text, page.name, "exec"), names)  # noqa: S102 - the examples are ours
        else:
            done = subprocess.run(["bash", "-ec", text], capture_output=True, text=True, check=False, timeout=120)
            assert done.returncode == 0, f"{text}\n{done.stderr}"
            shown.append(done.stdout)
    return shown


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=lambda page: page.name)
def test_the_examples_of_a_page_run_in_their_order(page: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAZIL_BACKEND", "serial")  # as a reader may choose; the README's run as they are
    execute(page)


def test_the_readme_s_examples_run_in_their_order(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def here(text: str) -> str:
        """Commands without what a reader does once: installing, and testing."""
        text = re.sub(r"pip install uv && uv run (frazil)?", lambda found: found[1] or ": ", text)
        if "RUN" in text:
            (run,) = frazil.runs("archive.icechunk")
            text = text.replace("RUN", run.run_id)
        if "convert" in text or "frazil.plan" in text:  # each makes the archive anew
            shutil.rmtree("archive.icechunk", ignore_errors=True)
            shutil.rmtree("archive.icechunk.frazil", ignore_errors=True)
        return text

    printed = "".join(execute(TOP / "README.md", here))
    assert len(re.findall(r"^ +air_temperature ", printed, re.MULTILINE)) == 3
    shown = capsys.readouterr().out
    assert "<frazil.Plan>" in shown
    assert "air_temperature" in shown


@pytest.mark.checkout
def test_what_does_not_run_is_shown_as_console_and_listed() -> None:
    assert {str(page.relative_to(TOP)) for page in PAGES if blocks(page, "console")} == SHOWN
    for page in PAGES:
        known = {"python", "sh", "console", "toml", "yaml", "json"}
        assert set(re.findall(r"^```(\w+)$", page.read_text(), re.MULTILINE)) <= known, page
        for _, text in blocks(page, "console"):
            assert text.startswith("$ "), page


def test_the_page_of_errors_has_each_of_them_with_its_exit_code_and_its_example_runs(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = TOP / "docs" / "errors.md"
    rows = re.findall(r"^\| (?:&nbsp;)*`(\w+)` \|.*?\| (\d) \|$", page.read_text(), re.MULTILINE)
    ours = {name: one for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, FrazilError)}
    assert {name: int(code) for name, code in rows} == {
        name: one.exit_code for name, one in ours.items() if one is not FrazilError
    }
    assert all(getattr(frazil, name) is one for name, one in ours.items())
    ((_, block),) = blocks(page, "python")
    exec(compile(block, "errors.md", "exec"), {})  # noqa: S102 - the examples are ours
    assert capsys.readouterr().out == ""
    assert frazil.runs(checkout / "archive.icechunk")[0].run_id == "january"


def test_the_commands_and_the_example_of_the_page_of_logging_run(checkout: Path) -> None:
    page = TOP / "docs" / "logging.md"
    ((_, commands), (_, block)) = blocks(page, "sh", "python")
    for line in commands.splitlines():
        words = f"{shlex.quote(sys.executable)} -m frazil.cli {line.removeprefix('frazil ')} --backend serial"
        words = words.removesuffix(" --backend serial") if " runs " in words else words
        done = subprocess.run(words, shell=True, capture_output=True, text=True, check=False)  # noqa: S602 - for the globs
        assert done.returncode == 0, done.stderr
    logged = [json.loads(line) for line in (checkout / "log.jsonl").read_text().splitlines()]
    told = {
        row
        for found in re.findall(r"^\| (`.*?) \|", page.read_text(), re.MULTILINE)
        for row in re.findall(r"`(\w+)`", found)
    }
    assert {line["event"] for line in logged if "event" in line} <= told
    shutil.rmtree(checkout / "archive.icechunk")
    done = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "INFO:frazil.functions" in done.stderr


@pytest.mark.checkout
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


def test_what_the_page_of_security_says_is_shown_by_tests_that_exist() -> None:
    named = re.findall(r"`(tests/[^`]+)`", (TOP / "docs" / "security.md").read_text())
    assert len(named) > 20
    missing = []
    for one in named:
        path, *names = one.split("::")
        text = (TOP / path).read_text() if (TOP / path).is_file() else ""
        if not names or not all(re.search(rf"(def|class) {name}\b", text) for name in names):
            missing.append(one)
    assert missing == []


@pytest.mark.checkout
def test_every_page_is_found_in_the_navigation_once() -> None:
    def pages(entries: list[dict[str, Any]]) -> list[str]:
        found = []
        for one in entries:
            (inside,) = one.values()
            found += [inside] if isinstance(inside, str) else pages(inside)
        return found

    named = pages(tomllib.loads((TOP / "docs" / "site" / "zensical.toml").read_text())["project"]["nav"])
    made = {"index.md", "aws-account.md", "image.md", "decisions.md", "command-line.md", "python.md", "changelog.md"}
    assert sorted(named) == sorted(made | {page.name for page in (TOP / "docs").glob("*.md")})


@pytest.mark.checkout
@pytest.mark.slow
def test_the_site_is_built_without_a_link_that_leads_nowhere() -> None:
    """The builder is strict about pages and anchors, and about objects that the Python reference names."""
    done = subprocess.run(
        [sys.executable, TOP / "docs" / "site" / "build.py"], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    site = TOP / "build" / "docs" / "site"
    reference = (site / "python.html").read_text()
    missing = [name for name in frazil.__all__ if f'id="frazil.{name}"' not in reference]
    assert missing == []
    commands = (site / "command-line.html").read_text()
    for name in ("plan", "convert", "resume", "gc", "worker"):
        assert f'id="frazil-{name}"' in commands
        assert f"frazil {name} {name} " not in commands


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
