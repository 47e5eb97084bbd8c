"""An HTTP proxy on loopback that stands between S3 clients and their server, and does to requests what networks do.

It knows HTTP/1.1 and the faults; it knows nothing of S3 but the form of an error. Whatever no fault strikes goes
through byte for byte: heads, bodies, the Host as the client sent it. A client's connection has one connection to the
server behind it, and both live as long as the client keeps them.
"""

import asyncio
import contextlib
import enum
import http
import itertools
import os
import re
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, Self
from urllib.parse import urlsplit

from .processes import await_end, owners

_PIECE = 16 * 1024
_LONGEST_HEAD = 256 * 1024
_CODES = {429: "TooManyRequests", 500: "InternalError", 503: "SlowDown"}  # what S3 calls these in its errors


@dataclass(frozen=True, slots=True)
class Request:
    """A request's head as it arrived.

    Attributes
    ----------
    method, target
        As sent: the target is the path and query, percent-encoded.
    began
        When the head had arrived, by `time.monotonic`.
    client
        The name whose URL was used; see `Proxy.url_for`.
    port
        The port of loopback that the client sent it from.
    """

    method: str
    target: str
    began: float
    client: str
    port: int


@dataclass(slots=True)
class Exchange:
    """What became of a request: the faults done to it, and the status sent back, None as long as none is."""

    request: Request
    faults: tuple["Fault", ...]
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """An error as S3 words it, in place of forwarding. The request's body is read first, as servers do."""

    status: int
    code: str | None = None
    retry_after: int | None = None

    def message(self, *, close: bool) -> bytes:
        """The whole response."""
        code = self.code or _CODES.get(self.status, "InternalError")
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
        lines = [
            f"HTTP/1.1 {self.status} {http.HTTPStatus(self.status).phrase}",
            "Content-Type: application/xml",
            f"Content-Length: {len(body)}",
            *([f"Retry-After: {self.retry_after}"] if self.retry_after is not None else []),
            *(["Connection: close"] if close else []),
        ]
        return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass(frozen=True, slots=True)
class Slow:
    """A delay before anything is done with a request, and a bound on the bytes a second of bodies either way.

    A client that gives up meanwhile does not take its request back: the server gets it all the same, late.
    """

    seconds: float = 0.0
    bandwidth: float | None = None


class Cut(enum.Enum):
    """The client's connection is reset.

    `before` the request is forwarded; `after` the server has answered, so that the response is lost but the server
    has done its work; `within` the request's body, half of which reaches the server, or within the response's, half
    of which reaches the client, where the request has none.
    """

    before = "before"
    after = "after"
    within = "within"


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL to a process, before a request is forwarded or after the server has answered it.

    A request whose own process is dead then ends as it would: nobody forwards it, nobody gets its response. Other
    requests go on as if nothing had happened.

    Attributes
    ----------
    victim
        A process's id; or what is called, in a thread of its own, with the request, and returns when it has
        killed; or None for whichever process sent the request.
    """

    victim: int | Callable[[Request], object] | None = None
    when: Literal["before", "after"] = "before"


type Fault = Answer | Slow | Cut | Kill


@dataclass(slots=True)
class Rule:
    """A fault, the requests that it is for, and how many it has met.

    Attributes
    ----------
    method, target
        Expressions: for the whole method, and for any part of the target. None for all.
    client
        Requests of this client alone.
    skip, times, seconds
        Strike after this many matching requests have passed, at most so often, and only so long from now.
    matched, struck
        How many requests it was for, and how many of these the fault was done to.
    """

    fault: Fault
    method: str | None = None
    target: str | None = None
    client: str | None = None
    skip: int = 0
    times: int | None = None
    seconds: float | None = None
    matched: int = 0
    struck: int = 0
    injected: float = field(default_factory=time.monotonic)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def strikes(self, request: Request) -> bool:
        """Count a request, and say whether the fault is to be done to it."""
        if (
            (self.method is not None and not re.fullmatch(self.method, request.method))
            or (self.target is not None and not re.search(self.target, request.target))
            or (self.client is not None and self.client != request.client)
        ):
            return False
        with self.changed:
            self.matched += 1
            strikes = (
                self.matched > self.skip
                and (self.times is None or self.struck < self.times)
                and (self.seconds is None or request.began - self.injected < self.seconds)
            )
            self.struck += strikes
            self.changed.notify_all()
            return strikes

    def wait(self, struck: int = 1, deadline: float = 30.0) -> None:
        """Wait until the fault has been done so often."""
        with self.changed:
            if not self.changed.wait_for(lambda: self.struck >= struck, deadline):
                raise TimeoutError(f"{self.fault} was done {self.struck} times in {deadline} s, not {struck}")


class Proxy:
    """A proxy in a thread of its own, from entering the context to leaving it."""

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._upstream = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._rules: list[Rule] = []
        self._log: list[Exchange] = []
        self._urls: dict[str, str] = {}
        self._lock = threading.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: list[BaseException] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()
        if self._failures:
            raise ExceptionGroup("the proxy itself failed", [e for e in self._failures if isinstance(e, Exception)])

    @property
    def url(self) -> str:
        """The endpoint for clients that need no name."""
        return self.url_for("")

    def url_for(self, client: str) -> str:
        """The endpoint of a named client, at a port of its own: its name is in the log, and rules can ask for it."""
        with self._lock:
            if client not in self._urls:
                self._urls[client] = asyncio.run_coroutine_threadsafe(self._listen(client), self._loop).result(30)
            return self._urls[client]

    def inject(self, rule: Rule) -> Rule:
        """Do a fault to requests from now on. Delays add up; of what ends a request, the first injected counts."""
        rule.injected = time.monotonic()
        with self._lock:
            self._rules.append(rule)
        return rule

    @contextlib.contextmanager
    def injected(self, rule: Rule) -> Iterator[Rule]:
        """Do a fault to requests within the context."""
        self.inject(rule)
        try:
            yield rule
        finally:
            self.withdraw(rule)

    def withdraw(self, *rules: Rule) -> None:
        """Let requests pass again; without rules named, those of all."""
        with self._lock:
            self._rules = [one for one in self._rules if rules and not any(one is other for other in rules)]

    def log(self, method: str | None = None, target: str | None = None) -> list[Exchange]:
        """The requests in order of arrival; of a method and target if asked, as in a rule.

        A request is here before the server has it, and its status before the client has it.
        """
        with self._lock:
            found = list(self._log)
        return [
            one
            for one in found
            if (method is None or re.fullmatch(method, one.request.method))
            and (target is None or re.search(target, one.request.target))
        ]

    def forget(self) -> None:
        """Empty the log."""
        with self._lock:
            self._log.clear()

    async def _listen(self, client: str) -> str:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            try:
                await self._serve(_Side(reader, writer), client)
            except Exception as error:  # noqa: BLE001 - raised at the end, where the test sees it
                self._failures.append(error)
            finally:
                self._tasks.discard(task)

        server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=_LONGEST_HEAD, backlog=1024)
        host, port = server.sockets[0].getsockname()
        self._tasks.add(asyncio.create_task(_open_until_cancelled(server)))
        return f"http://{host}:{port}"

    async def _close(self) -> None:
        # What was accepted before the listening sockets closed may begin to be served only now.
        while tasks := list(self._tasks):
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._tasks.difference_update(tasks)
            await asyncio.sleep(0.01)  # transports close their sockets in the loop's next rounds

    async def _serve(self, near: "_Side", client: str) -> None:
        """A client's connection, from its first request to its last."""
        far: _Side | None = None
        try:
            while (head := await near.head()) is not None:
                if far is None or far.reader.at_eof():
                    if far is not None:
                        far.reset()
                    far = None
                request = Request(head.method, head.target, time.monotonic(), client, near.port)
                exchange = Exchange(request, self._strike(request))
                with self._lock:
                    self._log.append(exchange)
                passage = _Passage(near, far, head, exchange, self._upstream)
                try:
                    keep = await passage.run()
                finally:
                    far = passage.far
                if not keep:
                    near.writer.close()
                    return
        except (_SeveredError, ConnectionError, asyncio.IncompleteReadError):
            near.reset()  # a fault said so, or one side is gone, which the other is to see
        except asyncio.CancelledError:
            near.reset()
            raise
        finally:
            near.writer.close()
            if far is not None:
                far.reset()

    def _strike(self, request: Request) -> tuple[Fault, ...]:
        with self._lock:
            rules = list(self._rules)
        return tuple(rule.fault for rule in rules if rule.strikes(request))


class _SeveredError(Exception):
    """A fault ends the connection."""


@dataclass(frozen=True, slots=True)
class _Head:
    """A request's or response's start line and headers."""

    raw: bytes

    @property
    def start(self) -> list[str]:
        return self.raw.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)

    @property
    def method(self) -> str:
        return self.start[0]

    @property
    def target(self) -> str:
        return self.start[1]

    @property
    def status(self) -> int:
        return int(self.start[1])

    def header(self, name: str) -> str:
        found = re.search(rb"\r\n" + name.encode() + rb"[ \t]*:[ \t]*([^\r]*)\r\n", self.raw, re.IGNORECASE)
        return found[1].decode("latin-1").strip() if found else ""

    @property
    def closes(self) -> bool:
        kept = self.header("Connection").lower()
        return kept == "close" or ("HTTP/1.0" in self.start and kept != "keep-alive")


@dataclass(frozen=True, slots=True)
class _Side:
    """A connection's end."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def port(self) -> int:
        return int(self.writer.get_extra_info("peername")[1])

    async def head(self) -> _Head | None:
        """The next head, or None if the other end has closed instead."""
        try:
            return _Head(await self.reader.readuntil(b"\r\n\r\n"))
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise
            return None

    async def body(self, head: _Head, bandwidth: float | None, *, half: bool, endless: bool) -> bytes:
        """A body as it is on the wire, or half of it; `endless` if it may last until the connection ends."""
        if head.header("Transfer-Encoding").lower() == "chunked":
            return await self._chunked(bandwidth, half=half)
        if length := int(head.header("Content-Length") or 0):
            return await self._take(length // 2 if half else length, bandwidth)
        return await self.reader.read() if endless and not head.header("Content-Length") else b""

    async def _chunked(self, bandwidth: float | None, *, half: bool) -> bytes:
        read = bytearray()
        while True:
            line = await self.reader.readuntil(b"\r\n")
            read += line
            size = int(line.partition(b";")[0], 16)
            if not size:
                break
            read += await self._take(size // 2 if half else size + 2, bandwidth)
            if half:
                return bytes(read)
        while line != b"\r\n":  # trailers, and the empty line that ends them
            line = await self.reader.readuntil(b"\r\n")
            read += line
        return bytes(read)

    async def _take(self, size: int, bandwidth: float | None) -> bytes:
        if bandwidth is None:
            return await self.reader.readexactly(size)
        read = bytearray()
        while len(read) < size:
            piece = await self.reader.readexactly(min(size - len(read), _PIECE))
            read += piece
            await asyncio.sleep(len(piece) / bandwidth)
        return bytes(read)

    async def send(self, data: bytes, bandwidth: float | None = None) -> None:
        if bandwidth is None:
            self.writer.write(data)
            await self.writer.drain()
            return
        for start in range(0, len(data), _PIECE):
            piece = data[start : start + _PIECE]
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(len(piece) / bandwidth)

    def reset(self) -> None:
        """Close with RST, as a connection ends whose machine, or whose path, is gone."""
        if not self.writer.transport.is_closing():
            self.writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            self.writer.transport.abort()


@dataclass(slots=True)
class _Passage:
    """One request on its way to the server, and its response on the way back."""

    near: _Side
    far: _Side | None
    head: _Head
    exchange: Exchange
    upstream: tuple[str, int]

    async def run(self) -> bool:
        """Whether the connection is kept for another request."""
        slow = [fault for fault in self.exchange.faults if isinstance(fault, Slow)]
        bandwidth = min((fault.bandwidth for fault in slow if fault.bandwidth is not None), default=None)
        if slow:
            await asyncio.sleep(sum(fault.seconds for fault in slow))
        await self._kill("before")
        ends = next((fault for fault in self.exchange.faults if isinstance(fault, Answer | Cut)), None)
        if isinstance(ends, Answer):
            return await self._refuse(ends)
        if ends is Cut.before:
            raise _SeveredError
        half = ends is Cut.within and self._has_body
        if self.head.header("Expect").lower() == "100-continue":
            await self.near.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await self.near.body(self.head, bandwidth, half=half, endless=False)
        far = self.far = self.far or _Side(*await asyncio.open_connection(*self.upstream, limit=_LONGEST_HEAD))
        await far.send(self.head.raw + body)
        if half:
            raise _SeveredError
        answer = await far.head()
        while answer is not None and answer.status < http.HTTPStatus.OK:
            answer = await far.head()
        if answer is None:
            raise ConnectionResetError("the server closed the connection instead of answering")
        bare = self.head.method == "HEAD" or answer.status in {http.HTTPStatus.NO_CONTENT, http.HTTPStatus.NOT_MODIFIED}
        content = b"" if bare else await far.body(answer, None, half=False, endless=True)
        await self._kill("after")
        if ends is Cut.after or (ends is Cut.within and not content):
            raise _SeveredError
        if ends is Cut.within:
            await self.near.send(answer.raw + content[: len(content) // 2])
            await asyncio.sleep(0.05)  # a reset overtakes what the client has not read yet
            raise _SeveredError
        self.exchange.status = answer.status
        await self.near.send(answer.raw + content, bandwidth)
        delimited = bare or answer.header("Content-Length") or answer.header("Transfer-Encoding")
        return bool(delimited) and not answer.closes and not self.head.closes

    @property
    def _has_body(self) -> bool:
        return bool(self.head.header("Transfer-Encoding")) or int(self.head.header("Content-Length") or 0) > 0

    async def _refuse(self, answer: Answer) -> bool:
        """Answer without forwarding. A client that waits for leave to send its body never sends it."""
        waits = bool(self.head.header("Expect"))
        if not waits:
            await self.near.body(self.head, None, half=False, endless=False)
        close = waits or self.head.closes
        message = answer.message(close=close)
        self.exchange.status = answer.status
        bare = self.head.method == "HEAD"
        await self.near.send(message.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if bare else message)
        return not close

    async def _kill(self, when: str) -> None:
        """Do what `Kill` says, and sever the connection if the request's process died of it."""
        kills = [fault for fault in self.exchange.faults if isinstance(fault, Kill) and fault.when == when]
        if not kills:
            return
        request = self.exchange.request
        senders = await asyncio.to_thread(owners, request.port, self.near.writer.get_extra_info("sockname")[1])
        for victim in itertools.chain.from_iterable(senders if k.victim is None else [k.victim] for k in kills):
            if callable(victim):
                await asyncio.to_thread(victim, request)
                continue
            if victim == os.getpid():
                raise RuntimeError("Kill() strikes the process that sends the request, and this is the test's own")
            with contextlib.suppress(ProcessLookupError):  # it ended by itself in the meantime
                os.kill(victim, signal.SIGKILL)
            await asyncio.to_thread(await_end, victim)
        if senders and not owners(request.port, self.near.writer.get_extra_info("sockname")[1]):
            raise _SeveredError


async def _open_until_cancelled(server: asyncio.Server) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        server.close()
