"""Programs of the tests as real processes: started, listened to, found again with all they started, and killed.

Every program carries a mark in its environment, which its children inherit, however many sessions and process groups
they make. Nothing is found, and nothing is killed, but processes that carry the mark. Linux alone has what this reads.
"""

import contextlib
import json
import os
import queue
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

MARK = "FRAZIL_FAULT_MARK"
_PROC = Path("/proc")
_POLL = 0.01
_GONE_LOOKS = 100

_SKEW_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, now);
    const char *skew = getenv("FRAZIL_FAULT_SKEW");
    if (!failed && skew && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += atol(skew);
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    int failed = clock_gettime(CLOCK_REALTIME, &exact);
    if (!failed) { now->tv_sec = exact.tv_sec; now->tv_usec = exact.tv_nsec / 1000; }
    return failed;
}

time_t time(time_t *now) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (now) *now = exact.tv_sec;
    return exact.tv_sec;
}
"""


@dataclass(frozen=True, slots=True)
class Process:
    """A process that carries a mark."""

    pid: int
    command: str

    @property
    def open_files(self) -> tuple[str, ...]:
        """What its file descriptors are of, as /proc names it; empty once it has ended."""
        return _open_files(self.pid)

    @property
    def alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        return _state(self.pid) not in {"", "Z", "X"}

    def kill(self) -> None:
        """SIGKILL, and wait until it is dead."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        await_end(self.pid)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended, and what it said until then."""

    code: int
    lines: list[Any]
    text: str
    errors: str


@dataclass(slots=True)
class Program:
    """A Python program, from entering the context; all that it started is dead when the context is left.

    Attributes
    ----------
    source
        The program's text; or, with `module`, the name of a module.
    argument
        What the program gets as JSON in ``sys.argv[1]``.
    environment
        Variables on top of this process's.
    largest_file
        Bytes after which a write to a file fails with EFBIG, in all its processes.
    """

    source: str
    argument: Any = None
    module: bool = False
    arguments: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    largest_file: int | None = None
    mark: str = field(default_factory=lambda: secrets.token_hex(8))
    _process: subprocess.Popen[str] = field(init=False)
    _readers: list[threading.Thread] = field(init=False, default_factory=list)
    _lines: "queue.SimpleQueue[Any]" = field(init=False, default_factory=queue.SimpleQueue)
    _seen: list[Any] = field(init=False, default_factory=list)
    _text: list[str] = field(init=False, default_factory=list)
    _errors: list[str] = field(init=False, default_factory=list)

    def __enter__(self) -> Self:
        limit = [] if self.largest_file is None else ["prlimit", f"--fsize={self.largest_file}"]
        given = list(self.arguments) if self.module else [json.dumps(self.argument), *self.arguments]
        self._process = subprocess.Popen(
            [*limit, sys.executable, "-m" if self.module else "-c", self.source, *given],
            env=os.environ | self.environment | {MARK: self.mark, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        for read in (self._read_output, self._read_errors):
            reader = threading.Thread(target=read, daemon=True)
            reader.start()
            self._readers.append(reader)
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for reader in self._readers:
            reader.join(10)
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()

    @property
    def pid(self) -> int:
        """Of the program itself."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    @property
    def errors(self) -> str:
        """What it has written to stderr."""
        return "".join(self._errors)

    def line(self, deadline: float = 60.0) -> Any:
        """The next line of JSON that it prints.

        Raises
        ------
        AssertionError
            If it ends instead, or prints none before the deadline; with what it wrote to stderr.
        """
        try:
            said = self._lines.get(timeout=deadline)
        except queue.Empty:
            raise AssertionError(f"no line of JSON within {deadline} s\n{self.errors}") from None
        if said is _END:
            self._lines.put(_END)
            raise AssertionError(f"it ended with {self._process.wait(10)} instead of a line of JSON\n{self.errors}")
        return said

    def wait(self, deadline: float = 60.0) -> Ended:
        """How it ended.

        Raises
        ------
        AssertionError
            If it did not within the deadline; it is killed then, with all it started.
        """
        try:
            code = self._process.wait(deadline)
        except subprocess.TimeoutExpired:
            running = [process.command for process in self.processes()]
            self.kill()
            raise AssertionError(f"it still ran after {deadline} s: {running}\n{self.errors}") from None
        for reader in self._readers:
            reader.join(1)  # what it started may hold its pipes open
        return Ended(code, list(self._seen), "".join(self._text), self.errors)

    def processes(self) -> list[Process]:
        """The program, if it runs, and all that it started, directly or not."""
        return marked(self.mark)

    def children(self, *, command: str = "", opened: str = "") -> list[Process]:
        """What it started, directly or not: see `children_of`."""
        return [
            process for process in children_of(self.mark, command=command, opened=opened) if process.pid != self.pid
        ]

    def await_child(self, *, command: str = "", opened: str = "", deadline: float = 60.0) -> Process:
        """The first process that it started and that is found by `children`, once there is one."""
        found: list[Process] = []
        empty = 0

        def look() -> bool:
            nonlocal empty
            found.extend(self.children(command=command, opened=opened))
            # A process has no environment for a moment while it becomes another program.
            empty = 0 if self.processes() else empty + 1
            return bool(found) or empty > _GONE_LOOKS

        _until(look, deadline)
        if not found:
            running = [process.command for process in self.processes()]
            raise AssertionError(f"no child with {command!r} that opened {opened!r}, only {running}\n{self.errors}")
        return found[0]

    def kill(self) -> None:
        """SIGKILL to it and all that it started, until none is left."""

        def sweep() -> bool:
            found = self.processes()
            for process in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            return not found

        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(10)
        assert _until(sweep, 10), f"{self.processes()} survive SIGKILL"

    def assert_none_left(self, deadline: float = 5.0) -> None:
        """Fail if any of its processes still runs after the deadline."""
        assert _until(lambda: not self.processes(), deadline), f"still running: {self.processes()}"

    def _read_output(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                said = json.loads(line)
            except ValueError:
                self._text.append(line)
                continue
            self._seen.append(said)
            self._lines.put(said)
        self._lines.put(_END)

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._errors.append(line)


_END = object()


def marked(mark: str) -> list[Process]:
    """The processes that were started with a mark in their environment, or by such a one, in order of their ids."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for pid in _pids():
        with contextlib.suppress(OSError):  # it has ended meanwhile, or is another user's; a zombie has no environment
            if wanted in (_PROC / str(pid) / "environ").read_bytes().split(b"\0"):
                command = (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found.append(Process(pid, command.strip()))
    return found


def children_of(mark: str, *, command: str = "", opened: str = "") -> list[Process]:
    """The marked processes with a text in their command line, and a text in the name of a file they have open."""
    return [
        process
        for process in marked(mark)
        if command in process.command and (not opened or any(opened in name for name in process.open_files))
    ]


def compile_skew(folder: Path) -> Path:
    """Compile into a folder what `skewed` makes processes load.

    Raises
    ------
    OSError, subprocess.CalledProcessError
        If there is no C compiler, or none that can do it.
    """
    source = folder / "skew.c"
    source.write_text(_SKEW_SOURCE)
    library = folder / "skew.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source], check=True, capture_output=True)
    return library


def skewed(library: Path, seconds: int) -> dict[str, str]:
    """The environment in which a program, and all that it starts, believes that it is so much later.

    The wall clock alone is moved, for Python as for compiled code; what is measured by the monotonic clock, and the
    times that the file system gives to files, stay true, as they do on a machine whose clock is wrong.
    """
    return {"LD_PRELOAD": str(library), "FRAZIL_FAULT_SKEW": str(seconds)}


def owners(port: int, server_port: int) -> list[int]:
    """The processes that hold the client's end of a TCP connection over 127.0.0.1."""
    ends = f"0100007F:{port:04X}", f"0100007F:{server_port:04X}"
    table = (line.split() for line in (_PROC / "net/tcp").read_text().splitlines()[1:])
    sockets = {f"socket:[{row[9]}]" for row in table if (row[1], row[2]) == ends and row[9] != "0"}
    return [pid for pid in _pids() if sockets & set(_open_files(pid))] if sockets else []


def await_end(pid: int, deadline: float = 10.0) -> None:
    """Wait until a process runs no more."""
    assert _until(lambda: _state(pid) in {"", "Z", "X"}, deadline), f"process {pid} still runs after {deadline} s"


def _pids() -> list[int]:
    return sorted(int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit())


def _state(pid: int) -> str:
    """The letter that ps shows for a process; empty for none."""
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(") ")[2][:1]
    except OSError:
        return ""


def _open_files(pid: int) -> tuple[str, ...]:
    found = []
    with contextlib.suppress(OSError):  # it has ended meanwhile, or is another user's
        for entry in (_PROC / str(pid) / "fd").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile
                found.append(str(entry.readlink()))
    return tuple(found)


def _until[T](ask: Callable[[], T], deadline: float) -> T:
    """The first true answer, or the last one before the deadline."""
    end = time.monotonic() + deadline
    while not (answer := ask()) and time.monotonic() < end:
        time.sleep(_POLL)
    return answer
