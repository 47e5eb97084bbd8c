"""The part of Kubernetes' API that Lithops uses, over HTTP: authentication, RBAC, validation, lists and watches."""

import json
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kubernetes_validate

from .cluster import Cluster, Event, Manifest

_PATH = re.compile(
    r"/(?:api/v1|apis/(?P<group>batch)/v1)/namespaces/(?P<namespace>[^/]+)/(?P<kind>[a-z]+)(?:/(?P<name>[^/]+))?"
)
_KINDS = {"jobs": ("batch/v1", "JobList"), "pods": ("v1", "PodList")}
# The oldest that the pages speak of, and the newest whose schemas there are.
VERSIONS = ("1.29", ".".join(kubernetes_validate.latest_version().split(".")[:2]))


class _RefusedError(Exception):
    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


class Api(BaseHTTPRequestHandler):
    """One request; a subclass says of which cluster, and to whom it answers."""

    cluster: Cluster
    namespace: str
    token: str
    rules: Sequence[Manifest]
    stopped: threading.Event

    protocol_version = "HTTP/1.1"  # whose chunks reach a watch one by one

    def do_GET(self) -> None:
        self._answer("list")

    def do_POST(self) -> None:
        self._answer("create")

    def do_DELETE(self) -> None:
        self._answer("delete")

    def _answer(self, verb: str) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"null")
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if verb == "list" and query.get("watch", "").lower() == "true":
            verb = "watch"
        try:
            group, kind, name = self._admitted(verb, parts.path)
            match verb:
                case "list":
                    self._say(200, self._list(kind, query))
                case "watch":
                    self._watch(kind, query)
                case "create":
                    self._say(201, self._create(body))
                case _:
                    assert (group, kind, query["propagationPolicy"]) == ("batch", "jobs", "Background")
                    self._say(200, self._delete(name))
        except _RefusedError as error:
            status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": str(error)}
            self._say(error.code, status | {"reason": error.reason, "code": error.code})

    def _admitted(self, verb: str, path: str) -> tuple[str, str, str]:
        if self.headers.get("Authorization") != f"Bearer {self.token}":
            raise _RefusedError(401, "Unauthorized", "Unauthorized")
        found = _PATH.fullmatch(path)
        if found is None:
            raise _RefusedError(404, "NotFound", f"{path} is not served")
        group, kind = found["group"] or "", found["kind"]
        allowed = found["namespace"] == self.namespace and any(
            group in rule["apiGroups"] and kind in rule["resources"] and verb in rule["verbs"] for rule in self.rules
        )
        if not allowed:
            what = f'cannot {verb} resource "{kind}" in API group "{group}" in the namespace "{found["namespace"]}"'
            raise _RefusedError(403, "Forbidden", what)
        return group, kind, found["name"] or ""

    def _list(self, kind: str, query: dict[str, str]) -> Manifest:
        with self.cluster.changed:
            items = [one for one in self.cluster.listed(kind) if _selected(one, query)]
            version = str(len(self.cluster.events))
        of = dict(zip(("apiVersion", "kind"), _KINDS[kind], strict=True))
        return {**of, "metadata": {"resourceVersion": version}, "items": items}

    def _watch(self, kind: str, query: dict[str, str]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.close_connection = True
        end = time.monotonic() + float(query.get("timeoutSeconds", "60"))
        with self.cluster.changed:
            seen = int(query.get("resourceVersion") or 0)
            if not seen:
                pending = [Event(kind, "ADDED", one) for one in self.cluster.listed(kind)]
                seen = len(self.cluster.events)
            else:
                pending = []
        while True:
            for event in pending:
                if event.kind == kind and _selected(event.object, query):
                    line = json.dumps({"type": event.type, "object": event.object}).encode() + b"\n"
                    with suppress(OSError):  # whoever watched may have gone
                        self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            with self.cluster.changed:
                # A short wait: the server must be able to end while somebody watches.
                self.cluster.changed.wait_for(partial(self._heard, seen), timeout=0.2)
                pending, seen = self.cluster.events[seen:], len(self.cluster.events)
            if time.monotonic() > end or self.stopped.is_set() or (self.cluster.hurried.is_set() and not pending):
                with suppress(OSError):
                    self.wfile.write(b"0\r\n\r\n")
                return

    def _heard(self, seen: int) -> bool:
        return len(self.cluster.events) > seen

    def _create(self, job: Manifest) -> Manifest:
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(job, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                raise _RefusedError(422, "Invalid", f"{version}: {error.message}") from error
        try:
            made = self.cluster.create(job)
        except KeyError as error:
            raise _RefusedError(409, "AlreadyExists", f"jobs.batch {error} already exists") from error
        return {key: value for key, value in made.items() if key != "since"}

    def _delete(self, name: str) -> Manifest:
        try:
            self.cluster.delete(name)
        except KeyError as error:
            raise _RefusedError(404, "NotFound", f"jobs.batch {error} not found") from error
        return {"kind": "Status", "apiVersion": "v1", "status": "Success"}

    def _say(self, code: int, what: Manifest) -> None:
        body = json.dumps(what).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving(cluster: Cluster, namespace: str, token: str, rules: Sequence[Manifest]) -> Iterator[str]:
    """Serve a cluster's API on loopback, to who has the token, as far as the rules of a Role go."""

    stopped = threading.Event()
    of = {"cluster": cluster, "namespace": namespace, "token": token, "rules": rules, "stopped": stopped}
    with ThreadingHTTPServer(("127.0.0.1", 0), type("BoundApi", (Api,), of)) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            stopped.set()
            server.shutdown()
            thread.join()


def _selected(one: Manifest, query: dict[str, str]) -> bool:
    metadata = one["metadata"]
    labels = dict(pair.split("=") for pair in query.get("labelSelector", "").split(",") if pair)
    fields = dict(pair.split("=") for pair in query.get("fieldSelector", "").split(",") if pair)
    assert set(fields) <= {"metadata.name"}
    return metadata["name"] == fields.get("metadata.name", metadata["name"]) and all(
        metadata.get("labels", {}).get(key) == value for key, value in labels.items()
    )
