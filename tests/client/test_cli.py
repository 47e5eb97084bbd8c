"""The command line as a person or a script meets it: whole processes, exit codes, streams."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import frazil
from frazil.cli import main

from .hourly import read, series, state


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "frazil.cli", *arguments], capture_output=True, text=True, check=False, timeout=120
    )


def test_convert_publishes_and_says_how_to_read(files: list[str], target: Path) -> None:
    done = call("convert", *files, str(target), "--chunks", "time=4")
    assert done.returncode == 0, done.stderr
    assert "Published" in done.stdout
    assert "tas" in done.stdout
    assert done.stderr == ""
    xr.testing.assert_identical(read(target), xr.decode_cf(series(0, 24)))


def test_json_is_one_object_on_standard_output(files: list[str], target: Path) -> None:
    done = call("convert", *files, str(target), "--chunks", "time=4", "--json")
    result = json.loads(done.stdout)
    assert result.keys() >= {"run_id", "snapshot_id", "regions", "bytes", "seconds"}
    assert result["snapshot_id"] == state(target)[0]
    assert done.stderr == ""


def test_plan_shows_everything_and_writes_nothing(files: list[str], target: Path) -> None:
    done = call("plan", *files, str(target), "--chunks", "time=4")
    assert done.returncode == 0, done.stderr
    assert "6 write units" in done.stdout
    assert list(target.parent.glob("archive*")) == []


def test_plan_as_json_is_the_plan(files: list[str], target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *files, str(target), "--chunks", "time=4", "--json", "--backend", "serial"]) == 0
    plan = frazil.Plan.from_json(capsys.readouterr().out)
    assert plan.region_count == 1
    assert {grid.total for grid in plan.grids} == {6}


def test_a_plan_can_be_kept_in_a_file(files: list[str], target: Path, tmp_path: Path) -> None:
    kept = tmp_path / "plan.json"
    assert main(["plan", *files, str(target), "--out", str(kept), "--backend", "serial"]) == 0
    assert frazil.Plan.from_json(kept.read_bytes()).template.sizes["time"] == 24


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["convert"], "name the files to write"),
        (["convert", "only-one"], "name the files to write"),
        (["convert", "a.nc", "b", "--chunks", "time"], "'time' is not DIMENSION=LENGTH"),
        (["convert", "a.nc", "b", "--chunks", "time=4,time=8"], "'time' is given twice"),
        (["convert", "a.nc", "b", "--chunks", ""], "is not DIMENSION=LENGTH"),
        (["convert", "a.nc", "b", "--gaps", "ignore"], "Invalid value"),
        (["convert", "a.nc", "b", "--accept", "everything"], "cannot be accepted; choose from units, drift, order"),
        (["convert", "a.nc", "b", "--verify", "maybe"], "Invalid value"),
        (["convert", "a.nc", "b", "--retries-on-missing", "-1"], "use a whole number, 0 for no check"),
        (["convert", "a.nc", "b", "--missing-check-vars", "tas"], "give retries_on_missing, too"),
        (["convert", "a.nc", "b", "--workers", "0"], "at least one function must run"),
        (["convert", "a.nc", "b", "--lithops-config", "/nonexistent.yaml"], "no Lithops configuration file"),
        (["convert", "no-such-file.nc", "b"], "no-such-file.nc does not exist"),
        (["convert", "no-such-*.nc", "b"], "no files match no-such-*.nc"),
        (["convert", "--no-such-option", "a.nc", "b"], "Unknown option"),
        (["conver", "a.nc", "b"], "Unknown command"),
        (["convert", "a.nc", "ftp://somewhere/b"], "no storage goes by ftp://"),
    ],
)
def test_bad_usage_exits_with_2_and_says_what_is_wrong(
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert said.out == ""
    assert "Traceback" not in said.err
    assert list(tmp_path.iterdir()) == []


def test_an_error_has_no_traceback_unless_it_is_asked_for(files: list[str], target: Path) -> None:
    quiet = call("convert", files[0], files[0], str(target))
    loud = call("convert", files[0], files[0], str(target), "-v")
    assert quiet.returncode == loud.returncode == 2
    assert "Traceback" not in quiet.stderr
    assert quiet.stderr.count("\n") == 1
    assert "Traceback" in loud.stderr


def test_a_run_that_fails_exits_with_1_and_publishes_nothing(files: list[str], target: Path) -> None:
    repo = frazil.open_repository(target)
    before = state(target)
    truncated = Path(files[0]).with_name("zz.nc")
    xr.Dataset(
        {"tas": (("time", "x"), np.random.default_rng(0).normal(size=(8, 4000)))}, coords={"time": np.arange(8)}
    ).to_netcdf(truncated, encoding={"tas": {"zlib": True, "chunksizes": (1, 4000)}})
    raw = bytearray(truncated.read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 2000] = b"\xff" * 2000
    truncated.write_bytes(raw)
    done = call("convert", str(truncated), str(target))
    assert done.returncode == 1
    assert "zz.nc" in done.stderr
    (run,) = frazil.runs(target)
    assert f"resume run {run.run_id}" in done.stderr
    assert state(target)[0] == before[0]
    assert repo.list_branches() == {"main", f"frazil/{run.run_id}"}


def test_a_progress_bar_moves_on_a_terminal(tmp_path: Path, target: Path) -> None:
    values = np.random.default_rng(0).normal(size=(60, 250_000)).astype("f4")
    xr.Dataset({"v": (("time", "x"), values)}, coords={"time": np.arange(60)}).to_netcdf(tmp_path / "v.nc")
    leader, follower = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "frazil.cli",
        "convert",
        str(tmp_path / "v.nc"),
        str(target),
        "--backend",
        "serial",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=follower) as process:
        os.close(follower)
        shown = b""
        while True:
            try:
                part = os.read(leader, 65536)
            except OSError:  # the other side is closed
                break
            if not part:
                break
            shown += part
        assert process.wait() == 0
    os.close(leader)
    text = shown.decode()
    assert "Writing" in text
    assert "regions" in text
    assert "B/s" in text


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_functions_and_publishes_nothing(
    tmp_path: Path, target: Path, sign: signal.Signals
) -> None:
    values = np.random.default_rng(0).normal(size=(400, 250_000)).astype("f4")
    xr.Dataset({"v": (("time", "x"), values)}, coords={"time": np.arange(400)}).to_netcdf(tmp_path / "v.nc")
    frazil.open_repository(target)
    before = state(target)
    command = [sys.executable, "-m", "frazil.cli", "convert", str(tmp_path / "v.nc"), str(target), "--chunks", "time=1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        # The template stores a chunk of labels; more of them are functions' work.
        while len(list(target.glob("chunks/*"))) < 4 and time.monotonic() < deadline:
            time.sleep(0.05)
        workers = descendants(process.pid)
        process.send_signal(sign)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    (run,) = frazil.runs(target)
    assert said == (
        f"frazil: interrupted; nothing was published; run {run.run_id} keeps what it has written; resume it to go on\n"
    )
    assert workers
    assert [pid for pid in workers if alive(pid)] == []
    assert state(target) == (before[0], [f"frazil/{run.run_id}", "main"])


def descendants(pid: int) -> list[int]:
    """The processes below one, from /proc."""
    children = [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]
    return children + [below for child in children for below in descendants(child)]


def alive(pid: int) -> bool:
    """Whether a process still runs; a zombie does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
