"""A few rounds of processes that write regions at once; `just at-once` plays more."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_processes_that_write_regions_at_once_lose_nothing() -> None:
    command = [sys.executable, "-m", "tests.faults.at_once", "--first", "8", "--rounds", "4", "--seed", "1"]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert ended.returncode == 0, ended.stdout[-5000:] + ended.stderr[-3000:]
    assert "shared, S3" in ended.stdout
