"""Programs as real processes: nothing that they start escapes, whatever session it is in."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .processes import MARK, Program, await_end, children_of, marked

FAMILY = """
import json, subprocess, sys, time
sleep = "import sys, time; held = open(sys.argv[1]); time.sleep(60)"
child = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', sys.argv[1], sys.argv[2], 'GRAND']," \\
    " start_new_session=True); time.sleep(60)"
subprocess.Popen([sys.executable, "-c", child, sleep, json.loads(sys.argv[1])], start_new_session=True)
print(json.dumps({"started": True}))
time.sleep(60)
"""


def test_a_program_gets_its_argument_and_says_lines_of_json() -> None:
    text = (
        "import json, sys; print('text'); print(json.dumps(json.loads(sys.argv[1])['x'])); print('no', file=sys.stderr)"
    )
    with Program(text, {"x": [1, None]}) as program:
        assert program.line() == [1, None]
        ended = program.wait()
    assert (ended.code, ended.lines, ended.text, ended.errors) == (0, [[1, None]], "text\n", "no\n")


def test_a_module_is_run_with_its_arguments() -> None:
    with Program("json.tool", module=True, arguments=["--help"]) as program:
        ended = program.wait()
    assert ended.code == 0
    assert "usage" in ended.text


def test_a_program_that_ends_before_it_speaks_is_quoted_as_often_as_it_is_asked() -> None:
    with Program("raise SystemExit('a reason')") as program:
        for _ in range(2):
            with pytest.raises(AssertionError, match=r"it ended with 1 instead(?s:.*)a reason"):
                program.line(10)


def test_a_zombie_is_not_taken_for_a_process() -> None:
    text = (
        "import json, subprocess, time; child = subprocess.Popen(['sleep', '60']); print(json.dumps(0)); time.sleep(60)"
    )
    with Program(text) as program:
        child = program.await_child(command="sleep")
        child.kill()  # and its parent does not ask for it
        assert not child.alive
        assert [process.pid for process in program.processes()] == [program.pid]


def test_a_program_that_never_speaks_or_ends_fails_at_the_deadline() -> None:
    with Program("import time; time.sleep(60)") as program:
        with pytest.raises(AssertionError, match=r"no line of JSON within 0\.1 s"):
            program.line(0.1)
        with pytest.raises(AssertionError, match=r"it still ran after 0\.1 s"):
            program.wait(0.1)
        program.assert_none_left()


def test_grandchildren_in_sessions_of_their_own_are_found_by_command_and_by_open_file(tmp_path: Path) -> None:
    path = tmp_path / "source"
    path.write_text("text")
    with Program(FAMILY, str(path)) as program:
        program.line()
        grandchild = program.await_child(opened=str(path))
        assert grandchild.command.endswith("GRAND")
        assert os.getsid(grandchild.pid) == grandchild.pid != os.getsid(program.pid)
        assert [process.pid for process in children_of(program.mark, command="GRAND", opened=str(path))] == [
            grandchild.pid
        ]
        assert children_of(program.mark, opened=str(path) + "-other") == []
        assert len(program.processes()) == 3
        assert len(program.children()) == 2
        grandchild.kill()
        assert not grandchild.alive
        assert len(program.processes()) == 2
        with pytest.raises(AssertionError, match="no child with 'GRAND -'"):
            program.await_child(command="GRAND -", deadline=0.1)


def test_the_whole_family_dies_with_its_program(tmp_path: Path) -> None:
    path = tmp_path / "source"
    path.write_text("text")
    with Program(FAMILY, str(path)) as program:
        grandchild = program.await_child(opened=str(path))
        with pytest.raises(AssertionError, match="still running"):
            program.assert_none_left(0.1)
        program.kill()
        program.assert_none_left(0)
        assert program.code == -9
        assert not grandchild.alive
    with Program(FAMILY, str(path)) as program:
        grandchild = program.await_child(opened=str(path))
    assert marked(program.mark) == []
    assert not grandchild.alive


def test_a_family_is_found_after_its_head_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "source"
    path.write_text("text")
    with Program(FAMILY.replace("time.sleep(60)\n", "time.sleep(0)\n"), str(path)) as program:
        program.await_child(opened=str(path))
        assert program.wait().code == 0
        assert len(program.children()) == 2
        program.kill()
        program.assert_none_left(0)


def test_processes_of_others_are_not_found() -> None:
    with Program("import time; time.sleep(60)") as one, Program("import time; time.sleep(60)") as other:
        assert [process.pid for process in one.processes()] == [one.pid]
        one.kill()
        assert other.code is None
    assert MARK not in os.environ


CONVERT = """
import json, sys
import numpy as np, xarray as xr
import frazil

def main(folder):
    for number in range(4):
        time = ("time", np.arange(6) + 6 * number, {"units": "hours since 2000-01-01"})
        values = np.zeros((6, 4), "f4")
        xr.Dataset({"tas": (("time", "x"), values)}, {"time": time}).to_netcdf(f"{folder}/{number}.nc")
    with frazil.LithopsExecutor(backend="localhost", workers=2) as executor:
        frazil.convert(f"{folder}/*.nc", f"{folder}/archive", executor=executor)
    print(json.dumps("converted"))

main(json.loads(sys.argv[1]))
"""


def test_a_worker_of_lithops_outlives_its_killed_client_but_not_the_program(tmp_path: Path) -> None:
    with Program(CONVERT, str(tmp_path), environment={"TMPDIR": str(tmp_path)}) as program:
        worker = program.await_child(command=" -P ")
        assert os.getpgid(worker.pid) != os.getpgid(program.pid)
        os.kill(worker.pid, signal.SIGSTOP)  # it is not to end by itself in the meantime
        os.kill(program.pid, signal.SIGKILL)
        await_end(program.pid)
        assert worker.alive
        program.kill()
        program.assert_none_left(0)
        assert not worker.alive


FILL = """
import json, sys
try:
    with open(json.loads(sys.argv[1]), "wb") as file:
        while True:
            file.write(bytes(1 << 20))
            file.flush()
except OSError as error:
    print(json.dumps(error.errno))
"""


def test_a_small_disk_is_full_at_20_mib(small_disk: Path) -> None:
    path = small_disk / "file"
    with Program(FILL, str(path)) as program:
        assert program.line() == 28  # ENOSPC
    assert 19 * 2**20 <= path.stat().st_size <= 20 * 2**20
    path.unlink()
    path.write_bytes(b"x")


def test_a_file_does_not_grow_beyond_what_its_program_may_write(tmp_path: Path) -> None:
    with Program(FILL, str(tmp_path / "file"), largest_file=3_000_000) as program:
        assert program.line() == 27  # EFBIG
    assert (tmp_path / "file").stat().st_size == 3_000_000


CLOCKS = """
import datetime, json, os, pathlib, subprocess, sys, time
import icechunk, zarr
began = time.monotonic()
time.sleep(0.2)
repo = icechunk.Repository.create(icechunk.in_memory_storage())
session = repo.writable_session("main")
zarr.create_group(session.store)
session.commit("now")
path = pathlib.Path(json.loads(sys.argv[1]))
path.write_text("now")
print(json.dumps({
    "time": time.time(),
    "datetime": datetime.datetime.now(datetime.UTC).timestamp(),
    "child": float(subprocess.check_output([sys.executable, "-c", "import time; print(time.time())"])),
    "icechunk": next(repo.ancestry(branch="main")).written_at.timestamp(),
    "file": path.stat().st_mtime,
    "slept": time.monotonic() - began,
}))
"""


@pytest.mark.parametrize("seconds", [7200, -7200])
def test_a_skewed_clock_is_wrong_for_python_compiled_code_and_children_alone(
    tmp_path: Path, skew: Callable[[int], dict[str, str]], seconds: int
) -> None:
    with Program(CLOCKS, str(tmp_path / "file"), environment=skew(seconds)) as program:
        said = program.line()
    true = time.time()
    for clock in ("time", "datetime", "child", "icechunk"):
        assert said[clock] == pytest.approx(true + seconds, abs=60), clock
    assert said["file"] == pytest.approx(true, abs=60)
    assert 0.2 <= said["slept"] < 60
