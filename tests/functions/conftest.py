"""Real repositories, files and servers that the tests of functions stand on."""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import icechunk
import numpy as np
import pytest
import xarray as xr
import zarr
from moto.server import ThreadedMotoServer

import frazil
from frazil.planning.make import Options, make_plan
from frazil.planning.scan import Wanted, scan_sources
from frazil.report import silent
from frazil_functions.forks import dump_fork
from frazil_functions.locations import Location, locate, location_of, storage_of
from frazil_functions.plan import PlanTarget
from frazil_functions.reading.remote import store_of
from frazil_functions.reading.sources import Source
from frazil_functions.rundir import RunDirectory
from frazil_functions.tasks import FileSource, Receipt, WriteTask
from frazil_functions.writing.task import write_task

from ..client.hourly import series  # noqa: TID252 - tests are no package that has a name

type Arrays = dict[str, dict[str, Any]]


@pytest.fixture
def repo(tmp_path: Path) -> icechunk.Repository:
    return icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path / "repo")))


def commit_template(repo: icechunk.Repository, arrays: Arrays, group: str = "") -> str:
    """Arrays without data on main: `zarr.Group.create_array`'s options by name."""
    session = repo.writable_session("main")
    root = zarr.open_group(session.store, path=group, mode="a")
    for name, options in arrays.items():
        root.create_array(name, **options)
    return session.commit("template")


def clean_fork(repo: icechunk.Repository) -> bytes:
    return dump_fork(repo.writable_session("main").fork())


def write_task_of(repo: icechunk.Repository, regions: Any, sources: Any = (), **options: Any) -> WriteTask:
    values = {
        "run_id": "run",
        "plan_hash": "hash",
        "number": 0,
        "group": "",
        "forks": (clean_fork(repo),),
        "bases": (repo.lookup_branch("main"),),
        "append_dim": "time",
        "sources": tuple(sources),
        "regions": tuple(regions),
        "memory_bytes": 1 << 30,
        "run_directory": run_directory_of(repo),
        "flush_seconds": 3600.0,  # one receipt, however slow the machine is
    }
    return WriteTask(**(values | options))


def run_directory_of(repo: icechunk.Repository, run_id: str = "run") -> Location:
    where = location_of(repo)
    assert where is not None
    return Location(f"{where}.frazil/{run_id}", where.region, where.endpoint_url)


def write(task: WriteTask, source: Source | None = None) -> list[Receipt]:
    """What a task left in its run directory, after it said what that is."""
    written = write_task(task, source)
    directory = RunDirectory(task.run_directory)
    found = [receipt for _, receipt in directory.read_receipts(written.receipts) if isinstance(receipt, Receipt)]
    assert len(found) == len(written.receipts)
    assert written.regions == sum(len(receipt.regions) for receipt in found)
    assert written.nbytes == sum(one.nbytes for receipt in found for one in receipt.regions)
    return found


def file_source(path: Path | str, start: int = 0, stop: int = 0, **options: Any) -> FileSource:
    return FileSource(str(path), **({"engine": "netcdf4"} | options), start=start, stop=stop)


class Site:
    """What a server on loopback serves, and how it misbehaves."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.sent = 0
        self.before: Callable[[str], None] = lambda _: None
        self.send: Callable[[BaseHTTPRequestHandler, bytes], object] = lambda asked, data: asked.wfile.write(data)
        self.ranges = True
        self.cut = 0
        self.status: dict[str, int] = {}
        self.url = ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        site, path = self.site, self.path.lstrip("/")
        site.requests.append(f"{self.command} {path}")
        if body:
            site.before(path)
        data = site.files.get(path)
        status = site.status.get(path, 404 if data is None else 200)
        if data is None or status != 200:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        low, high = 0, len(data)
        asked = self.headers.get("Range", "") if site.ranges else ""
        if asked.startswith("bytes="):
            first, last = asked.removeprefix("bytes=").split("-")
            low, high = int(first), min(len(data), int(last) + 1)
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(high - low))
        if asked:
            self.send_header("Content-Range", f"bytes {low}-{high - 1}/{len(data)}")
        self.send_header("ETag", f'"{hash(data):x}"')
        self.send_header("Last-Modified", "Sat, 01 Jan 2022 00:00:00 GMT")
        self.end_headers()
        if body:
            site.sent += high - low
            if site.cut > 0:
                site.cut -= 1
                self.wfile.write(data[low : (low + high) // 2])
                self.close_connection = True
                return
            site.send(self, data[low:high])

    def log_message(self, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a client may hang up
            super().handle_error(request, client_address)


@pytest.fixture
def site(uncollected: None) -> Iterator[Site]:
    served = Site()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"site": served}))
    served.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    store_of.cache_clear()
    yield served
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(uncollected: None, s3_server: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    """A bucket of a local S3, and an environment that leads there."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIAENVIRONMENT",
        "AWS_SECRET_ACCESS_KEY": "of-the-environment",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ALLOW_HTTP": "true",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    store_of.cache_clear()
    name = f"b{abs(hash(request.node.nodeid)):x}"
    created = boto3.resource("s3").create_bucket(Bucket=name)
    yield created
    store_of.cache_clear()


@pytest.fixture
def values() -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(7).normal(size=(12, 6, 8)).astype("f4")


@dataclass(frozen=True, slots=True)
class Published:
    """What a reader of a repository sees.

    Attributes
    ----------
    snapshot, commits, branches
        The tip of main, how many commits lie behind it, and the branches.
    values
        The group that was written; None if there is nothing.
    """

    snapshot: str
    commits: int
    branches: list[str]
    values: xr.Dataset | None


def published_in(where: Path | str | Location, group: str = "") -> Published:
    """What a reader with icechunk and Xarray alone sees."""
    repo = icechunk.Repository.open(storage_of(locate(where)))
    session = repo.readonly_session("main")
    commits, values = len(list(repo.ancestry(branch="main"))), None
    if commits > 1:
        with xr.open_zarr(session.store, consolidated=False, chunks=None, group=group or None) as found:
            values = found.load()
    return Published(session.snapshot_id, commits, sorted(repo.list_branches()), values)


@pytest.fixture
def hours(tmp_path: Path) -> list[str]:
    """Three files of 10, 10 and 4 hours."""
    (tmp_path / "sources").mkdir()
    paths = [str(tmp_path / "sources" / f"part{number}.nc") for number in range(3)]
    for path, (start, stop) in zip(paths, [(0, 10), (10, 20), (20, 24)], strict=True):
        series(start, stop).to_netcdf(path, engine="netcdf4")
    return paths


def plan_small(sources: list[str], where: Path | str, *replicas: Any, workers: int = 3) -> frazil.Plan:
    """A plan of six regions of one write unit each, in three tasks."""
    with frazil.SerialExecutor() as serial:
        found = scan_sources(sources, Wanted(), serial, silent)
    goal = PlanTarget(locate(where), "", "main", None, "create", replicas)
    return make_plan(found, goal, Options(chunks={"time": 4}, workers=workers, region_bytes=1, task_bytes=1))


@pytest.fixture
def small_plan(hours: list[str], tmp_path: Path) -> frazil.Plan:
    return plan_small(hours, tmp_path / "archive.icechunk")


@pytest.fixture
def published(tmp_path: Path) -> Callable[[], Published]:
    return lambda: published_in(tmp_path / "archive.icechunk")
