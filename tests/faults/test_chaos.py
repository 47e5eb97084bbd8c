"""Twenty rounds of random kills; `just chaos` plays more."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_twenty_rounds_of_random_kills_all_end_published() -> None:
    command = [sys.executable, "-m", "tests.faults.chaos", "--rounds", "20", "--seed", "1"]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert ended.returncode == 0, ended.stdout[-5000:] + ended.stderr[-3000:]
