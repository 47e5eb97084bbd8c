"""The benchmarks run: nothing that they call has changed under them."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.aws.policies import missing


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_quick_run_fills_every_row(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"

    subprocess.run([sys.executable, Path(__file__).with_name("run.py"), "--quick", "--out", page], check=True)

    rows = [line for line in page.read_text().splitlines() if line.startswith("|")][2:]
    assert len(rows) == (29 if missing() is None else 26)
    assert all(line.count("|") == 8 for line in rows)
