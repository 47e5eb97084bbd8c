"""One execution environment of a function: a process under `awslambdaric`, and the Runtime API that it asks for work.

It knows Lambda's protocol with a runtime, its limits of time and memory, and the freezing between invocations. It knows
nothing of queues, retries or permissions. A limit of memory that the kernel keeps, a cgroup, needs privileges; here the
resident memory of the processes is measured twenty times a second, and they are killed above the limit. What is
allocated and freed in between goes unseen.
"""

import contextlib
import itertools
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import psutil

from .sandbox import confined

_API = "/2018-06-01/runtime"
_TICK = 0.05
_INIT_SECONDS: Final = 60.0
"""How long the start may take; Lambda's 10 s are for machines that do nothing else."""

_counter = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Function:
    """What an environment is made from.

    Attributes
    ----------
    memory, timeout
        In MB and seconds.
    variables
        Its whole environment, but for the address of the Runtime API.
    read_only
        Whether it is shown a read-only file system.
    """

    name: str
    arn: str
    handler: str
    memory: int
    timeout: float
    variables: Mapping[str, str]
    read_only: bool


@dataclass(frozen=True, slots=True)
class Result:
    """How one attempt ended; `outcome` as in `local.Invocation`, `error` where the function's answer is one."""

    outcome: str
    answer: bytes
    seconds: float
    peak_mb: float
    log: str


class Environment:
    """A process that takes one invocation after another; `run` from one thread at a time."""

    def __init__(self, function: Function, folder: Path) -> None:
        self.function = function
        self.used = time.monotonic()
        self.cold = True
        self._folder = folder / f"{function.name}-{next(_counter)}"
        self._own = self._folder / "tmp"
        self._own.mkdir(parents=True)
        self._log = self._folder / "log"
        self._work: queue.Queue[tuple[str, bytes, float] | None] = queue.Queue()
        self._results: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self._waiting = threading.Event()
        self._server = self._serve()
        self.process = self._start()

    def _serve(self) -> ThreadingHTTPServer:
        environment = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                environment._hand_over(self)

            def do_POST(self) -> None:
                body = _body(self)
                kind = self.path.removeprefix(_API).rsplit("/", 1)[-1]
                outcome = {"response": "succeeded", "error": "failed"}[kind]
                environment._results.put((outcome, body))
                _answer(self, 202, b'{"status":"OK"}\n')

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
                """Nothing."""

        server = _QuietServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.5}, daemon=True).start()
        return server

    def _hand_over(self, request: BaseHTTPRequestHandler) -> None:
        self._waiting.set()
        work = self._work.get()
        if work is None:
            request.close_connection = True
            return
        request_id, payload, deadline = work
        headers = {
            "Lambda-Runtime-Aws-Request-Id": request_id,
            "Lambda-Runtime-Deadline-Ms": str(int(deadline * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": self.function.arn,
            "Lambda-Runtime-Trace-Id": "Root=1-00000000-000000000000000000000000;Sampled=0",
        }
        with contextlib.suppress(OSError):  # it was killed meanwhile
            _answer(request, 200, payload, headers)

    def _start(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "awslambdaric", self.function.handler]
        if self.function.read_only:
            needed = {Path(one) for one in (sys.prefix, sys.base_prefix, *sys.path) if one and Path(one).is_dir()}
            command = confined(command, self._own, sorted(_outermost(needed)))
        variables = dict(self.function.variables)
        variables["AWS_LAMBDA_RUNTIME_API"] = f"127.0.0.1:{self._server.server_address[1]}"
        if not self.function.read_only:
            variables["TMPDIR"] = str(self._own)
        with self._log.open("wb") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=variables,
                cwd=self._own,
                start_new_session=True,
            )

    def run(self, request_id: str, payload: bytes) -> Result:
        """Run one invocation; whatever limit it breaks ends the environment."""
        begun = 0 if self.cold else self._log.stat().st_size
        peak = 0.0
        if self.cold:
            ended, peak = self._watch(time.monotonic() + _INIT_SECONDS, self._waiting)
            if ended is not None:
                self.end()
                return self._result(ended, 0.0, peak, begun, request_id)
        self.cold = False
        self._signal(signal.SIGCONT)
        self._waiting.clear()
        start = time.monotonic()
        self._work.put((request_id, payload, time.time() + self.function.timeout))
        ended, peak = self._watch(start + self.function.timeout, None)
        assert ended is not None
        seconds = time.monotonic() - start
        if ended[0] in {"succeeded", "failed"} and self._asks_for_more():
            self._signal(signal.SIGSTOP)  # as Lambda does, so that nothing goes on between invocations
        else:
            self.end()
        self.used = time.monotonic()
        return self._result(ended, seconds, peak, begun, request_id)

    def _asks_for_more(self) -> bool:
        """Whether the process, which has answered, comes for its next invocation; on a machine that is busy, late."""
        end = time.monotonic() + _INIT_SECONDS
        while not self._waiting.wait(_TICK):
            if self.process.poll() is not None or time.monotonic() > end:
                return False
        return True

    def _watch(self, deadline: float, ready: threading.Event | None) -> tuple[tuple[str, bytes] | None, float]:
        """Wait for the answer, or until it is ready; what ended it, and the most memory that was seen, in MB."""
        peak = 0.0
        while True:
            if ready is not None and ready.is_set():
                return None, peak
            with contextlib.suppress(queue.Empty):
                return self._results.get(timeout=_TICK), max(peak, self._memory())
            peak = max(peak, self._memory())
            if peak > self.function.memory:
                return ("out of memory", b""), peak
            if time.monotonic() > deadline:
                return ("timed out", b""), peak
            if self.process.poll() is not None and self._results.empty():
                return ("exited", b""), peak

    def _memory(self) -> float:
        """What the process holds, in MB, and what each of its children holds alone; forks share the rest."""
        total = 0
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self.process.pid)
            total = process.memory_info().rss
            for child in process.children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    total += child.memory_full_info().uss
        return total / 2**20

    def _result(self, ended: tuple[str, bytes], seconds: float, peak: float, begun: int, request_id: str) -> Result:
        outcome, answer = ended
        if outcome == "timed out":
            answer = _error(
                f"{request_id} Task timed out after {self.function.timeout:.2f} seconds", "Sandbox.Timedout"
            )
        elif outcome == "out of memory":
            said = f"RequestId: {request_id} Error: Runtime exited with error: signal: killed"
            answer = _error(said, "Runtime.ExitError")
        elif outcome == "exited":
            status = self.process.poll()
            said = f"RequestId: {request_id} Error: Runtime exited with error: exit status {status}"
            answer = _error(said, "Runtime.ExitError")
        with self._log.open("rb") as log:
            log.seek(begun)
            written = log.read().decode(errors="replace")
        report = (
            f"REPORT RequestId: {request_id}\tDuration: {seconds * 1000:.2f} ms\t"
            f"Memory Size: {self.function.memory} MB\tMax Memory Used: {min(peak, self.function.memory):.0f} MB"
        )
        report += {
            "timed out": "\tStatus: timeout",
            "out of memory": "\tStatus: error\tError Type: Runtime.OutOfMemory",
        }.get(outcome, "")
        log_text = f"START RequestId: {request_id} Version: $LATEST\n{written}\nEND RequestId: {request_id}\n{report}\n"
        return Result(outcome, answer, seconds, peak, log_text)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    @property
    def alive(self) -> bool:
        """Whether it can take another invocation."""
        return self.process.poll() is None

    def end(self) -> None:
        """Kill it, and remove what it kept."""
        self._signal(signal.SIGKILL)
        self.process.wait()
        self._work.put(None)
        threading.Thread(target=self._stop_serving, daemon=True).start()
        shutil.rmtree(self._own, ignore_errors=True)

    def _stop_serving(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: the process at the other end was killed."""


def _outermost(folders: set[Path]) -> set[Path]:
    return {one for one in folders if not any(other in one.parents for other in folders)}


def _error(message: str, kind: str) -> bytes:
    return json.dumps({"errorType": kind, "errorMessage": message}).encode()


def _body(request: BaseHTTPRequestHandler) -> bytes:
    if request.headers.get("Transfer-Encoding", "").lower() != "chunked":
        return request.rfile.read(int(request.headers.get("Content-Length", 0)))
    pieces = []
    while size := int(request.rfile.readline().split(b";")[0], 16):
        pieces.append(request.rfile.read(size))
        request.rfile.readline()
    request.rfile.readline()
    return b"".join(pieces)


def _answer(
    request: BaseHTTPRequestHandler, status: int, body: bytes, headers: Mapping[str, str] | None = None
) -> None:
    request.send_response(status)
    for name, value in (headers or {}).items():
        request.send_header(name, value)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)
    request.wfile.flush()
