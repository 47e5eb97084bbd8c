"""Where Lithops' localhost backend works: its own directory, and how workers start and end.

It does not import Lithops: the directory has to exist before anything does.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

from frazil_functions.errors import BackendError

# Lithops asserts that a runtime is named with these alone, be it a path or an image.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_/.:-]+")


class Home:
    """The private temporary directory of Lithops in this process.

    Lithops derives every path from one directory when it is imported, for the life of the process. Clients
    that share it replace each other's runner while workers start, and read each other's jobs. So the
    directory exists while an executor is open, and comes back under the same name for the next one.
    """

    def __init__(self) -> None:
        # Lithops resolves links; workers must come to the same path.
        self.path = Path(tempfile.mkdtemp(prefix="frazil-")).resolve()
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._users = 0
        self._exists = True

    def enter(self) -> None:
        """Make sure that the directory exists until `leave`."""
        with self._lock:
            if not self._exists:
                self.path.mkdir(mode=0o700)  # raises if somebody else took the name meanwhile
                self._exists = True
            self._users += 1

    def leave(self) -> None:
        """Remove the directory with all it holds, unless another executor is open."""
        with self._lock:
            self._users -= 1
            if not self._users and os.getpid() == self._owner:  # a forked child only inherited it
                remove(self.path)
                self._exists = False


def remove(directory: Path) -> None:
    """Remove a directory tree, or what can be removed of it."""
    shutil.rmtree(directory, ignore_errors=True)  # what is left lies in the system's temporary directory


def write_launcher(directory: Path, temporary: Path) -> Path:
    """Write the command that starts a worker's Python, with `temporary` as its temporary directory.

    Lithops starts workers with this process's environment and takes no other; a command of our own keeps
    the environment of this process as it is. It gives workers this process's module search path, as
    multiprocessing does, and `-P` keeps them from importing the copy of Lithops that lies beside its
    runner: the copy has no bytecode, and compiling it costs each job 0.1 s.

    Raises
    ------
    BackendError
        If the directory is one that Lithops or the system refuses to start programs from.
    """
    launcher = directory / "python"
    search = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    launcher.write_text(
        "#!/bin/sh\n"
        f"TMPDIR={shlex.quote(str(temporary))} PYTHONPATH={shlex.quote(search)}\n"
        "export TMPDIR PYTHONPATH\n"
        f'exec {shlex.quote(sys.executable)} -P "$@"\n'
    )
    launcher.chmod(0o700)
    if not _PLAIN_PATH.fullmatch(str(launcher)) or not os.access(launcher, os.X_OK):
        raise BackendError(
            f"Workers cannot be started from {str(directory)!r}: it is mounted noexec, or its name has other "
            "characters than letters, digits, '_', '/', '.', ':' and '-'. Set TMPDIR to another directory"
        )
    return launcher


def cpus() -> int:
    """How many CPUs this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux alone has it
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def kill(worker: subprocess.Popen[bytes]) -> None:
    """End a worker with the process that it forked for the function.

    Each worker leads a process group. The function's process outlives a worker that was killed, and
    keeps its pipes open, which Lithops would wait for.
    """
    with suppress(ProcessLookupError, PermissionError):  # gone; macOS says the latter for a group of zombies
        os.killpg(worker.pid, signal.SIGKILL)


def ending(worker: subprocess.Popen[bytes]) -> str | None:
    """How a worker ended, or None while it runs."""
    code = worker.poll()
    if code is None:
        return None
    if code >= 0:
        return f"its process exited with code {code}"
    try:
        return f"its process was killed by {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal has no name
        return f"its process was killed by signal {-code}"
