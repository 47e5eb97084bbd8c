"""What stands for Google here: its hosts behind a proxy on loopback, and instances of a service, which are processes.

Programs come to it through HTTPS_PROXY and trust its certificates; so they are what they are elsewhere. It
answers to the Admin API of Cloud Run (services by their names), Artifact Registry (of which it has none), OAuth's
tokens, and the address of the service itself. One instance takes one request at a time.
"""

import json
import os
import re
import secrets
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import google.auth.crypt
import google.auth.jwt
import trustme

type Answer = tuple[int, dict[str, Any]]

_SERVICES = re.compile(
    r"/apis/serving\.knative\.dev/v1/namespaces/(?P<project>[^/]+)/services(?:/(?P<name>[^/?]+))?(?:\?.*)?"
)


# Seconds that a request waits for an instance: https://cloud.google.com/run/docs/about-concurrency
QUEUED = 10


@dataclass(slots=True)
class Google:
    """A project in one region.

    Parameters
    ----------
    command, env, directory
        What an image starts, its environment, and where.
    image
        The only image that there is.
    """

    command: list[str]
    env: Mapping[str, str]
    directory: Path
    image: str
    project: str = "project-of-tests"
    region: str = "europe-west1"
    services: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)  # what was sent to the service
    refuse: int = 0  # so many of the next calls are answered with 429
    kill: int = 0  # so many instances are killed, each after its next call has come
    dying: Callable[[str], object] | None = None  # takes what was sent, and returns when it is to die; None: unread
    instances: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)  # by their ports
    _idle: list[int] = field(default_factory=list)
    _free: threading.Condition = field(default_factory=threading.Condition)
    _tokens: set[str] = field(default_factory=set)

    def answer(self, host: str, method: str, path: str, authorization: str, body: bytes) -> Answer:
        self.asked.append(f"{method} https://{host}{path}")
        if host == "oauth2.googleapis.com":
            return self._token(body)
        if authorization.removeprefix("Bearer ") not in self._tokens:
            return 401, {"error": {"code": 401, "message": "no valid token"}}
        if host == f"{self.region}-run.googleapis.com":
            return self._admin(method, path, body)
        if host.endswith(".a.run.app"):
            return self._call(host, method, path, body)
        return 403, {"error": {"code": 403, "message": f"{host} is not for this account"}}

    def _token(self, body: bytes) -> Answer:
        claims = google.auth.jwt.decode(
            dict(pair.split("=") for pair in body.decode().split("&"))["assertion"], verify=False
        )
        token = secrets.token_hex(8)
        if "target_audience" in claims:  # an ID token, which is a JWT
            signer = google.auth.crypt.RSASigner.from_string(self.key())
            payload = {"aud": claims["target_audience"], "iat": int(time.time()), "exp": int(time.time()) + 3600}
            token = google.auth.jwt.encode(signer, payload).decode()
        self._tokens.add(token)
        return 200, {"access_token": token, "id_token": token, "expires_in": 3600, "token_type": "Bearer"}

    def key(self) -> str:
        return (self.directory / "key.pem").read_text()

    def _admin(self, method: str, path: str, body: bytes) -> Answer:
        found = _SERVICES.fullmatch(path)
        if found is None or found["project"] != self.project:
            return 404, {"error": {"code": 404, "message": path}}
        name = found["name"]
        match method:
            case "POST":
                service = json.loads(body)
                name = service["metadata"]["name"]
                if name in self.services:
                    return 409, {"error": {"code": 409, "message": f"{name} exists"}}
                (container,) = service["spec"]["template"]["spec"]["containers"]
                ready = str(container["image"] == self.image)
                service["status"] = {
                    "url": f"https://{name}-abc-ew.a.run.app",
                    "conditions": [{"type": "Ready", "status": ready}],
                }
                self.services[name] = service
                return 200, service
            case "GET" if name in self.services:
                return 200, self.services[name]
            case "DELETE" if name in self.services:
                del self.services[name]
                return 200, {}
            case _:
                return 404, {"error": {"code": 404, "message": f"{name} not found"}}

    def _call(self, host: str, method: str, path: str, body: bytes) -> Answer:
        service = next((one for one in self.services.values() if one["status"]["url"] == f"https://{host}"), None)
        if service is None or method != "POST":
            return 404, {}
        with self._free:
            if self.refuse:
                self.refuse -= 1
                return 429, {"error": "no available instance"}
            most = int(service["spec"]["template"]["metadata"]["annotations"]["autoscaling.knative.dev/maxScale"])
            if not self._free.wait_for(lambda: self._idle or len(self.instances) < most, QUEUED):
                return 429, {"error": "no available instance"}
            port = self._idle.pop() if self._idle else self._start(service)
            self.bodies.append(body.decode())
            if self.kill:
                self.kill -= 1
                if self.dying is None:
                    os.killpg(self.instances[port].pid, signal.SIGSTOP)
                threading.Thread(target=self._kill_later, args=[port, body.decode()]).start()
        try:
            request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=body)
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as response:
                answer = response.status, json.loads(response.read())
        except (OSError, urllib.error.HTTPError) as error:
            return 503, {"error": f"the instance ended: {error}"}
        with self._free:
            self._idle.append(port)
            self._free.notify()
        return answer

    def _start(self, service: dict[str, Any]) -> int:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = int(free.getsockname()[1])
        (container,) = service["spec"]["template"]["spec"]["containers"]
        env = {**self.env, **{one["name"]: one["value"] for one in container["env"]}, "PORT": str(port)}
        with (self.directory / f"{port}.log").open("wb") as log:
            self.instances[port] = subprocess.Popen(
                self.command, env=env, cwd=self.directory / "lithops", stdout=log, stderr=log, start_new_session=True
            )
        end = time.monotonic() + 60  # Cloud Run's own check is that the port is listened to
        while time.monotonic() < end:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                return port
            time.sleep(0.02)
        raise TimeoutError((self.directory / f"{port}.log").read_text())

    def account(self) -> dict[str, str]:
        """What a service account's key file holds, of a key that is nobody's."""
        return {
            "type": "service_account",
            "project_id": self.project,
            "private_key_id": "1",
            "private_key": self.key(),
            "client_email": f"frazil@{self.project}.iam.gserviceaccount.com",
            "token_uri": "https://oauth2.googleapis.com/token",
        }

    def close(self) -> None:
        for port in list(self.instances):
            self._kill(port)

    def _kill_later(self, port: int, body: str) -> None:
        if self.dying is None:
            time.sleep(0.05)  # the call has come to it by then, mostly, and lies there
        else:
            self.dying(body)
        self._kill(port)

    def _kill(self, port: int) -> None:
        instance = self.instances.pop(port)
        os.killpg(instance.pid, signal.SIGKILL)
        instance.wait()


@contextmanager
def serving(google: Google) -> Iterator[str]:
    """The address of a proxy behind which there is this Google, and no more."""
    authority = trustme.CA(key_type=trustme.KeyType.RSA)
    authority.cert_pem.write_to_path(google.directory / "authority.pem")
    certificate = authority.issue_cert("*.googleapis.com", "*.a.run.app", key_type=trustme.KeyType.RSA)
    (google.directory / "key.pem").write_bytes(certificate.private_key_pem.bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        host = ""

        def finish(self) -> None:
            super().finish()
            self.connection.close()

        def do_CONNECT(self) -> None:
            self.host = self.path.partition(":")[0]
            self.send_response(200)
            self.end_headers()
            self.connection = context.wrap_socket(self.connection, server_side=True)
            self.rfile = self.connection.makefile("rb")
            self.wfile = self.connection.makefile("wb", buffering=0)  # type: ignore[assignment]
            self.close_connection = False

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            code, said = google.answer(self.host, self.command, self.path, self.headers.get("Authorization", ""), body)
            told = json.dumps(said).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - as the base class calls them

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
            google.close()
