"""`just local-aws`: what it prints is enough to convert in another shell, with Frazil's own command."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from .policies import missing

TOP = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))


@pytest.fixture
def running() -> Iterator["subprocess.Popen[str]"]:
    """The command, started as the recipe does."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.aws", "--for", "400", "--concurrency", "2"],
        cwd=TOP,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.terminate()
    process.wait(timeout=60)
    assert process.stdout is not None
    process.stdout.close()


def read(process: "subprocess.Popen[str]") -> list[str]:
    """What it prints, up to its last line."""
    assert process.stdout is not None
    lines = []
    while not lines or "until Ctrl-C" not in lines[-1]:
        line = process.stdout.readline()
        assert line, lines
        lines.append(line.rstrip("\n"))
    return lines


def descendants(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


@pytest.mark.slow
def test_a_shell_with_the_printed_lines_converts_on_the_local_aws(
    running: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    lines = read(running)
    (command,) = [line.removeprefix("#   ") for line in lines if "frazil convert" in line]
    (roles,) = [line.partition("`. ")[2].partition("ROLE.sh`")[0] for line in lines if "ROLE.sh" in line]
    steps = [f"{command} --quiet --json", f". {roles}maintenance.sh", "frazil gc s3://frazil-data/archive --delete"]
    script = "\n".join([*(line for line in lines if line.startswith("export ")), *steps])
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-ec", script],
        cwd=tmp_path,
        env={"PATH": path, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert '"snapshot_id"' in done.stdout


def test_it_ends_with_whoever_started_it_and_leaves_no_process(running: "subprocess.Popen[str]") -> None:
    read(running)
    ours = descendants(running)
    assert ours
    running.send_signal(signal.SIGKILL)
    running.wait(timeout=30)
    gone, alive = psutil.wait_procs(ours, timeout=30)
    assert not alive
    assert gone


def test_an_interrupt_ends_it_in_peace(running: "subprocess.Popen[str]") -> None:
    read(running)
    began = time.monotonic()
    running.send_signal(signal.SIGINT)
    assert running.wait(timeout=90) == 0
    assert time.monotonic() - began < 60
