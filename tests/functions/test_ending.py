"""How a process ends that has used Icechunk."""

import subprocess
import sys

CODE = """
import atexit, time
import {module}
from frazil_functions.ending import settle_at_exit
atexit.register(print, "asked for later")
settle_at_exit() if {again} else None
time.sleep = lambda seconds: print("settled" if 0 < seconds < 0.1 else seconds)
print("done")
"""


def said(module: str, *, again: bool = False) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(module=module, again=again)], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_whoever_imports_it_gives_icechunks_threads_a_moment_at_the_very_end() -> None:
    assert said("frazil_functions") == ["done", "asked for later", "settled"]
    assert said("frazil") == ["done", "asked for later", "settled"]


def test_it_settles_once_however_often_that_is_asked_for() -> None:
    assert said("frazil_functions", again=True).count("settled") == 1
