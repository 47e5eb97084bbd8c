"""The proxy itself: what passes through it is what was sent, and each fault is the one that it is named after."""

import concurrent.futures
import http.client
import secrets
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.exceptions
import icechunk
import numpy as np
import obstore
import pytest
import zarr
from botocore.config import Config
from obstore.store import S3Store

from .processes import Program
from .proxy import Answer, Cut, Kill, Proxy, Request, Rule, Slow

REPO = r"/archive/repo(\?|$)"  # where Icechunk keeps the branches; its PUTs are conditional


class Echo(BaseHTTPRequestHandler):
    """Answers with what it was sent, in the form that the path names, and remembers it."""

    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, str, dict[str, str], bytes]]

    def log_message(self, *_: object) -> None: ...

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def do_GET(self) -> None:
        body = self.body()
        type(self).seen.append((self.command, self.path, dict(self.headers.items()), body))
        if self.path == "/nothing":
            self.send_response(204)
            self.end_headers()
            return
        self.send_response(200)
        if self.path == "/chunked":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"3;x=y\r\nabc\r\n4\r\ndefg\r\n0\r\nTrailer: 1\r\n\r\n")
            return
        if self.path == "/large":
            self.send_header("Content-Length", "8000000")
            self.end_headers()
            self.wfile.write(bytes(8_000_000))
            return
        if self.path == "/until-the-end":
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b"abcdefg")
            self.close_connection = True
            return
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_PUT = do_POST = do_HEAD = do_DELETE = do_GET  # noqa: N815 - http.server asks for these names


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *_: object) -> None: ...  # clients are cut off here on purpose


@pytest.fixture
def echo() -> Iterator[tuple[str, list[Any]]]:
    """A plain server and what it has seen."""
    seen: list[Any] = []
    server = Server(("127.0.0.1", 0), type("Handler", (Echo,), {"seen": seen}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def through(echo: tuple[str, list[Any]]) -> Iterator[Proxy]:
    """A proxy in front of the plain server."""
    with Proxy(echo[0]) as proxy:
        yield proxy


@pytest.fixture
def client(through: Proxy) -> Iterator[http.client.HTTPConnection]:
    connection = connect(through.url)
    yield connection
    connection.close()


def connect(url: str) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: Any = None, **more: Any) -> Any:
    connection.request(method, path, body, **more)
    response = connection.getresponse()
    return response.status, response.read()


def storage(bucket: str, url: str) -> icechunk.Storage:
    return icechunk.s3_storage(
        bucket=bucket,
        prefix="archive",
        region="us-east-1",
        endpoint_url=url,
        allow_http=True,
        force_path_style=True,
        from_env=True,
    )


@pytest.fixture
def repository(bucket: str, proxy: Proxy) -> icechunk.Repository:
    """A repository behind the proxy, with an array of 4 chunks of 64 KiB."""
    repo = icechunk.Repository.create(storage(bucket, proxy.url))
    session = repo.writable_session("main")
    zarr.create_array(session.store, name="a", shape=(4, 2**14), chunks=(1, 2**14), dtype="i4", compressors=None)
    session.commit("template")
    return repo


def changed(repo: icechunk.Repository, value: int) -> icechunk.Session:
    session = repo.writable_session("main")
    zarr.open_array(session.store, path="a")[:] = value
    return session


def values(bucket: str, url: str) -> set[int]:
    """What a reader finds that has nothing in memory."""
    session = icechunk.Repository.open(storage(bucket, url)).readonly_session("main")
    return set(np.asarray(zarr.open_array(session.store, path="a")[:]).ravel().tolist())


def test_what_no_fault_strikes_passes_as_it_was_sent(
    client: http.client.HTTPConnection, echo: tuple[str, list[Any]]
) -> None:
    target, body = "/a%20b/%C3%A9?x-id=Put&q=1%2F2", secrets.token_bytes(300_000)
    assert ask(client, "PUT", target, body, headers={"Host": "as.sent:1", "X-Odd": "a  b"}) == (200, body)
    method, seen, headers, received = echo[1][-1]
    assert (method, seen, received) == ("PUT", target, body)
    assert headers["Host"] == "as.sent:1"
    assert headers["X-Odd"] == "a  b"


def test_bodies_of_every_form_pass_over_one_connection(
    client: http.client.HTTPConnection, echo: tuple[str, list[Any]]
) -> None:
    assert ask(client, "POST", "/", iter([b"one", b"two" * 30_000]), encode_chunked=True) == (
        200,
        b"one" + b"two" * 30_000,
    )
    assert ask(client, "GET", "/chunked") == (200, b"abcdefg")
    assert ask(client, "HEAD", "/", b"abc") == (200, b"")
    assert ask(client, "DELETE", "/nothing") == (204, b"")
    sock = client.sock
    assert ask(client, "GET", "/", b"x") == (200, b"x")
    assert client.sock is sock
    assert ask(client, "GET", "/until-the-end") == (200, b"abcdefg")


def test_a_client_that_asks_for_leave_to_send_is_given_it(through: Proxy, echo: tuple[str, list[Any]]) -> None:
    connection = connect(through.url)
    connection.putrequest("PUT", "/")
    connection.putheader("Content-Length", "3")
    connection.putheader("Expect", "100-continue")
    connection.endheaders()
    assert connection.sock is not None
    assert connection.sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.send(b"abc")
    assert connection.sock.recv(1000).endswith(b"abc")
    connection.close()
    with through.injected(Rule(Answer(503))):
        connection.putrequest("PUT", "/")
        connection.putheader("Content-Length", "3")
        connection.putheader("Expect", "100-continue")
        connection.endheaders()
        assert connection.sock.recv(1000).startswith(b"HTTP/1.1 503 ")
        connection.close()
    assert len(echo[1]) == 1


def test_64_connections_lose_nothing_and_300_requests_a_second_pass(
    through: Proxy, echo: tuple[str, list[Any]]
) -> None:
    def many(number: int) -> int:
        connection = connect(through.url)
        right = 0
        for again in range(20):
            body = f"{number}-{again}".encode()
            right += ask(connection, "PUT", f"/{number}/{again}", body) == (200, body)
        connection.close()
        return right

    began = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        answered = sum(pool.map(many, range(64)))
    seconds = time.perf_counter() - began
    assert answered == 64 * 20
    assert len(echo[1]) == len({target for _, target, _, _ in echo[1]}) == 64 * 20
    assert len(through.log("PUT")) == 64 * 20
    assert 64 * 20 / seconds > 300


def test_an_answer_is_given_instead_of_forwarding_for_as_many_requests_as_asked(
    client: http.client.HTTPConnection, through: Proxy, echo: tuple[str, list[Any]]
) -> None:
    rule = through.inject(Rule(Answer(503, retry_after=1), "PUT", r"/repo\?", skip=1, times=2))
    assert ask(client, "GET", "/repo?1", b"")[0] == 200
    assert ask(client, "PUT", "/other", b"")[0] == 200
    statuses = [ask(client, "PUT", f"/repo?{number}", b"abc") for number in range(4)]
    assert [status for status, _ in statuses] == [200, 503, 503, 200]
    assert b"<Code>SlowDown</Code>" in statuses[1][1]
    assert (rule.matched, rule.struck) == (4, 2)
    assert len(echo[1]) == 4
    assert [exchange.status for exchange in through.log(target="repo")] == [200, 200, 503, 503, 200]
    assert through.log("PUT", r"\?1$")[0].faults == (rule.fault,)


def test_an_answer_to_head_has_no_body(client: http.client.HTTPConnection, through: Proxy) -> None:
    through.inject(Rule(Answer(503)))
    client.request("HEAD", "/")
    assert client.sock.recv(10_000).endswith(b"\r\n\r\n")


def test_a_fault_ends_with_its_duration(client: http.client.HTTPConnection, through: Proxy) -> None:
    through.inject(Rule(Answer(429), seconds=2))
    assert ask(client, "PUT", "/", bytes(300_000))[0] == 429
    time.sleep(2.1)
    assert ask(client, "GET", "/")[0] == 200


def test_a_fault_for_one_client_leaves_the_others_alone(through: Proxy) -> None:
    through.inject(Rule(Answer(500), client="worker"))
    worker, other = connect(through.url_for("worker")), connect(through.url)
    assert [ask(worker, "GET", "/")[0], ask(other, "GET", "/")[0]] == [500, 200]
    assert [exchange.request.client for exchange in through.log()] == ["worker", ""]
    worker.close()
    other.close()


def test_a_withdrawn_fault_strikes_no_more(client: http.client.HTTPConnection, through: Proxy) -> None:
    one, other = through.inject(Rule(Answer(500))), through.inject(Rule(Answer(503)))
    assert ask(client, "GET", "/")[0] == 500
    through.withdraw(one)
    assert ask(client, "GET", "/")[0] == 503
    through.withdraw()
    assert ask(client, "GET", "/")[0] == 200
    assert other.struck == 2


def test_delays_and_bandwidth_are_kept(client: http.client.HTTPConnection, through: Proxy) -> None:
    with through.injected(Rule(Slow(0.3))), through.injected(Rule(Slow(0.2))):
        began = time.perf_counter()
        assert ask(client, "GET", "/") == (200, b"")
        assert time.perf_counter() - began >= 0.5
    with through.injected(Rule(Slow(bandwidth=1e6))):
        began = time.perf_counter()
        assert ask(client, "PUT", "/", bytes(300_000)) == (200, bytes(300_000))
        assert time.perf_counter() - began >= 0.6  # there and back


@pytest.mark.parametrize(("cut", "arrived"), [(Cut.before, 0), (Cut.after, 1), (Cut.within, 0)])
def test_a_cut_resets_the_connection_at_its_point(
    client: http.client.HTTPConnection, through: Proxy, echo: tuple[str, list[Any]], cut: Cut, arrived: int
) -> None:
    through.inject(Rule(cut, times=1))
    body = secrets.token_bytes(100_000)
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        ask(client, "PUT", "/", body)
    patience = time.monotonic() + (30 if arrived else 0.1)
    while not (whole := [received for *_, received in echo[1] if len(received) == len(body)]):
        if time.monotonic() > patience:
            break
        time.sleep(0.01)
    assert whole == [body] * arrived
    assert [exchange.status for exchange in through.log()] == [None]
    client.close()
    assert ask(client, "GET", "/") == (200, b"")


def test_a_cut_within_a_request_lets_half_of_it_arrive(
    client: http.client.HTTPConnection, through: Proxy, echo: tuple[str, list[Any]]
) -> None:
    through.inject(Rule(Cut.within, times=1))
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        ask(client, "PUT", "/", bytes(1000))
    assert 0 < sum(len(received) for *_, received in echo[1]) <= 500 or not echo[1]


def test_a_cut_within_a_response_leaves_half_of_it(
    client: http.client.HTTPConnection, through: Proxy, echo: tuple[str, list[Any]]
) -> None:
    through.inject(Rule(Cut.within, "GET", times=1))
    client.request("GET", "/large")
    response, read = client.getresponse(), 0

    def receive() -> None:
        nonlocal read
        while piece := response.read1():
            read += len(piece)

    with pytest.raises(ConnectionResetError):
        receive()
    assert (response.status, read) == (200, 4_000_000)
    client.close()
    assert ask(client, "GET", "/chunked") == (200, b"abcdefg")


def test_the_server_stores_nothing_of_half_an_object(bucket: str, proxy: Proxy) -> None:
    once = boto3.client("s3", config=Config(retries={"total_max_attempts": 1}))
    rule = proxy.inject(Rule(Cut.within, "PUT", times=1))
    with pytest.raises(botocore.exceptions.ConnectionClosedError):
        once.put_object(Bucket=bucket, Key="half", Body=bytes(1_000_000))
    time.sleep(0.2)
    assert rule.struck == 1
    assert once.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    once.put_object(Bucket=bucket, Key="whole", Body=bytes(1_000_000))
    assert once.get_object(Bucket=bucket, Key="whole", Range="bytes=10-19")["Body"].read() == bytes(10)


def test_a_lost_response_makes_obstore_say_that_it_failed_to_create_what_it_created(bucket: str, proxy: Proxy) -> None:
    store = S3Store(bucket, region="us-east-1", endpoint=proxy.url, client_options={"allow_http": True})
    rule = proxy.inject(Rule(Cut.after, "PUT", times=1))
    with pytest.raises(obstore.exceptions.GenericError):
        obstore.put(store, "one", b"mine", mode="create")
    assert rule.matched == 1  # it does not try again what is not idempotent
    assert bytes(obstore.get(store, "one").bytes()) == b"mine"


def test_a_server_that_is_gone_looks_gone(echo: tuple[str, list[Any]]) -> None:
    with Proxy("http://127.0.0.1:9") as proxy:  # nobody listens there
        connection = connect(proxy.url)
        with pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)):
            ask(connection, "GET", "/")
        connection.close()


SENDER = """
import http.client, json, sys
given = json.loads(sys.argv[1])
connection = http.client.HTTPConnection(given["netloc"])
for number in range(given["requests"]):
    connection.request("PUT", f"/{number}", b"body")
    response = connection.getresponse()
    response.read()
    print(json.dumps(response.status))
"""


@pytest.mark.parametrize(("when", "arrived"), [("before", 2), ("after", 3)])
def test_a_process_dies_at_the_request_that_was_named(
    through: Proxy, echo: tuple[str, list[Any]], when: Any, arrived: int
) -> None:
    rule = through.inject(Rule(Kill(when=when), skip=2, times=1))
    with Program(SENDER, {"netloc": urlsplit(through.url).netloc, "requests": 5}) as sender:
        ended = sender.wait()
    assert ended.code == -9
    assert ended.lines == [200, 200]
    assert [target for _, target, _, _ in echo[1]] == [f"/{number}" for number in range(arrived)]
    assert rule.struck == 1


def test_another_process_dies_and_the_request_goes_on(through: Proxy, echo: tuple[str, list[Any]]) -> None:
    with (
        Program("import time; time.sleep(60)") as bystander,
        Program(SENDER, {"netloc": urlsplit(through.url).netloc, "requests": 2}) as sender,
    ):
        through.inject(Rule(Kill(bystander.pid), times=1))
        assert sender.wait().lines == [200, 200]
        assert bystander.wait(5).code == -9
    assert len(echo[1]) == 2


def test_a_callback_is_called_before_the_request_is_forwarded(
    through: Proxy, client: http.client.HTTPConnection, echo: tuple[str, list[Any]]
) -> None:
    seen: list[tuple[str, int]] = []

    def look(request: Request) -> None:
        seen.append((request.target, len(echo[1])))

    through.inject(Rule(Kill(look), times=1))
    through.inject(Rule(Kill(look, "after"), times=1))
    assert ask(client, "GET", "/x")[0] == 200
    assert seen == [("/x", 0), ("/x", 1)]


def test_a_process_never_kills_its_own_tests(echo: tuple[str, list[Any]]) -> None:
    proxy = Proxy(echo[0])
    proxy.__enter__()
    proxy.inject(Rule(Kill()))
    connection = connect(proxy.url)
    with pytest.raises(http.client.RemoteDisconnected):
        ask(connection, "GET", "/")
    connection.close()
    with pytest.raises(ExceptionGroup, match="the proxy itself failed") as raised:
        proxy.__exit__(None, None, None)
    assert "the test's own" in str(raised.value.exceptions[0])


def test_waiting_for_a_fault_ends_when_it_is_done(through: Proxy, client: http.client.HTTPConnection) -> None:
    rule = through.inject(Rule(Answer(500)))
    with pytest.raises(TimeoutError, match="was done 0 times"):
        rule.wait(deadline=0.05)
    asking = threading.Timer(0.1, ask, (client, "GET", "/"))
    asking.start()
    rule.wait(1, 10)
    asking.join()


def test_icechunk_creates_commits_and_reads_through_the_proxy(
    repository: icechunk.Repository, bucket: str, server: str, proxy: Proxy
) -> None:
    changed(repository, 7).commit("data")
    assert values(bucket, proxy.url) == values(bucket, server) == {7}
    assert len(proxy.log("PUT", "/archive/chunks/")) == 4
    assert all("secret" not in exchange.request.target for exchange in proxy.log())


def test_obstore_and_boto3_work_through_the_proxy_multipart_included(bucket: str, proxy: Proxy) -> None:
    store = S3Store(bucket, region="us-east-1", endpoint=proxy.url, client_options={"allow_http": True})
    data = secrets.token_bytes(11 * 2**20)
    obstore.put(store, "big", data, use_multipart=True, chunk_size=5 * 2**20)
    assert len(proxy.log("PUT", "partNumber=")) == 3
    assert boto3.client("s3").get_object(Bucket=bucket, Key="big")["Body"].read() == data
    assert bytes(obstore.get_range(store, "big", start=5, end=9)) == data[5:9]
    assert obstore.head(store, "big")["size"] == len(data)


def test_of_64_conditional_puts_through_the_proxy_one_wins(bucket: str, proxy: Proxy) -> None:
    store = S3Store(bucket, region="us-east-1", endpoint=proxy.url, client_options={"allow_http": True})

    def create(number: int) -> bool:
        try:
            obstore.put(store, "one", str(number).encode(), mode="create")
        except obstore.exceptions.AlreadyExistsError:
            return False
        return True

    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        assert sum(pool.map(create, range(64))) == 1


@pytest.mark.parametrize("fault", [Cut.after, Cut.before, Cut.within, Answer(503), Answer(500), Answer(429)], ids=str)
def test_icechunk_commits_once_although_one_try_of_its_conditional_put_failed(
    repository: icechunk.Repository, bucket: str, server: str, proxy: Proxy, fault: Any
) -> None:
    before = len(list(repository.ancestry(branch="main")))
    rule = proxy.inject(Rule(fault, "PUT", REPO, times=1))
    snapshot = changed(repository, 3).commit("data")
    assert rule.matched == 2
    reader = icechunk.Repository.open(storage(bucket, server))
    assert reader.lookup_branch("main") == snapshot
    assert len(list(reader.ancestry(branch="main"))) == before + 1
    assert values(bucket, server) == {3}


def test_icechunk_calls_its_own_commit_a_conflict_when_the_response_is_lost_and_another_branch_is_made(
    repository: icechunk.Repository, bucket: str, server: str, proxy: Proxy
) -> None:
    """All branches are in one object, so that any change to any of them hides what became of the lost PUT."""
    other = icechunk.Repository.open(storage(bucket, server))

    def make_branch(_: Request) -> None:
        other.create_branch("other", other.lookup_branch("main"))

    proxy.inject(Rule(Kill(make_branch, "after"), "PUT", REPO, times=1))
    proxy.inject(Rule(Cut.after, "PUT", REPO, times=1))
    with pytest.raises(icechunk.ConflictError):
        changed(repository, 3).commit("data")
    assert values(bucket, server) == {3}


def test_a_client_killed_after_its_commit_was_stored_leaves_the_commit(
    repository: icechunk.Repository, bucket: str, server: str, proxy: Proxy
) -> None:
    text = """
import icechunk, json, sys, zarr
storage = icechunk.s3_storage(**json.loads(sys.argv[1]), from_env=True)
session = icechunk.Repository.open(storage).writable_session("main")
zarr.open_array(session.store, path="a")[:] = 5
print(json.dumps("written"))
print(json.dumps(session.commit("data")))
"""
    given = {"bucket": bucket, "prefix": "archive", "region": "us-east-1", "endpoint_url": proxy.url}
    given |= {"allow_http": True, "force_path_style": True}
    for when, expected in ("before", {0}), ("after", {5}):
        proxy.inject(Rule(Kill(when=when), "PUT", REPO, times=1))
        with Program(text, given) as committing:
            ended = committing.wait()
        assert (ended.code, ended.lines) == (-9, ["written"])
        assert values(bucket, server) == expected
