"""Servers that do not answer, answer half, refuse, or serve damaged files: which error says so."""

import contextlib
import errno
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from tests.functions.conftest import Site

from frazil_functions.errors import SourceError, UnreachableSourceError
from frazil_functions.reading.failures import is_transient
from frazil_functions.reading.opening import fingerprint, guess_engine, open_raw, read_raw
from frazil_functions.reading.remote import Pages, Patience, RemoteFile, remote_fingerprint, remote_has, store_of
from frazil_functions.reading.scanning import ScanTask, scan_task
from frazil_functions.reading.sources import FileSources
from frazil_functions.regions import Region
from frazil_functions.tasks import FileSource

SOON = Patience(connecting=1, idle=1, retrying=0.2, first_pause=0.02, longest_pause=0.1)
PATIENT = replace(SOON, idle=10)
"""For servers that do answer: a machine with other work to do may take a second for it."""
BOUND = 0.2 + 1 + 0.1 + 2  # of Patience, and what a machine with other work to do adds
VALUES = np.random.default_rng(3).integers(0, 1 << 12, (1 << 18, 8)).astype("i4")
REGION = Region("v", (("x", 0, 1 << 18), ("y", 0, 8)))

# h5netcdf's File says so when it is collected after it could not be opened.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part"),  # HTTP lists nothing
]


@dataclass(frozen=True)
class Stored:
    """One file, or one Zarr hierarchy, that a site serves."""

    site: Site
    url: str
    engine: str

    def read(self, patience: Patience = SOON) -> Any:
        with open_raw(self.url, self.engine, fingerprint(self.url, patience), Pages(), patience) as dataset:
            return self.part(dataset)

    def part(self, dataset: xr.Dataset) -> Any:
        return read_raw(dataset, self.url, "v", REGION.slices)

    def spoil(self, change: Callable[[bytes], bytes]) -> None:
        """Change what holds the values."""
        name = max(self.site.files, key=lambda name: len(self.site.files[name]))
        self.site.files[name] = change(self.site.files[name])


@pytest.fixture(params=["http", "s3"])
def root(request: pytest.FixtureRequest, site: Site, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "http":
        return f"{site.url}/bucket"
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", site.url)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    return "s3://bucket"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """What each engine's files hold, by their names."""
    dataset = xr.Dataset({"v": (("x", "y"), VALUES)}, {"x": np.arange(len(VALUES))})
    folder = tmp_path_factory.mktemp("written")
    dataset.to_zarr(folder / "zarr" / "a", zarr_format=3, consolidated=True, encoding={"v": {"chunks": (1 << 17, 8)}})
    (folder / "hdf5").mkdir()
    packed = {"zlib": True, "complevel": 1, "chunksizes": (1 << 17, 8)}
    dataset.to_netcdf(folder / "hdf5" / "a", engine="h5netcdf", encoding={"v": packed})
    return {
        kind: {
            str(path.relative_to(folder / kind)): path.read_bytes()
            for path in (folder / kind).rglob("*")
            if path.is_file()
        }
        for kind in ("zarr", "hdf5")
    }


@pytest.fixture
def serve(site: Site, root: str, written: dict[str, dict[str, bytes]]) -> Callable[[str], Stored]:
    """Make an engine's files be there."""

    def served(engine: str) -> Stored:
        files = written["zarr" if engine == "zarr" else "hdf5"]
        site.files.update({f"bucket/{name}": data for name, data in files.items()})
        return Stored(site, f"{root}/a", engine)

    return served


@pytest.fixture(params=["h5netcdf", "zarr", "netcdf4"])
def stored(request: pytest.FixtureRequest, serve: Callable[[str], Stored]) -> Stored:
    return serve(request.param)


@pytest.fixture(params=["h5netcdf", "zarr"])
def lazy(request: pytest.FixtureRequest, serve: Callable[[str], Stored]) -> Stored:
    """Read behind its URL whenever values are asked for."""
    return serve(request.param)


def reset(asked: BaseHTTPRequestHandler, data: bytes) -> None:
    asked.wfile.write(data[: len(data) // 2])
    asked.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    asked.connection.close()


def stop_short(asked: BaseHTTPRequestHandler, data: bytes) -> None:
    asked.wfile.write(data[: len(data) // 2])
    asked.close_connection = True


class Stall:
    """Half of an answer, and then nothing until the test is over."""

    def __init__(self) -> None:
        self.over = threading.Event()

    def __call__(self, asked: BaseHTTPRequestHandler, data: bytes) -> None:
        asked.wfile.write(data[: len(data) // 2])
        asked.wfile.flush()
        self.over.wait(30)
        asked.close_connection = True

    def before(self, _: str) -> None:
        self.over.wait(30)


@pytest.fixture
def stall() -> Iterator[Stall]:
    made = Stall()
    yield made
    made.over.set()


@pytest.fixture(params=["reset", "short", "stall", "silence", "503"])
def broken(request: pytest.FixtureRequest, stall: Stall) -> Callable[[Site], None]:
    """What breaks a site for good."""

    def break_it(site: Site) -> None:
        if request.param.isdigit():
            site.status.update(dict.fromkeys(site.files, int(request.param)))
        elif request.param == "silence":
            site.before = stall.before
        else:
            site.send = {"reset": reset, "short": stop_short, "stall": stall}[request.param]

    return break_it


def test_a_file_that_cannot_be_opened_for_reasons_of_the_moment_is_unreachable(
    stored: Stored, broken: Callable[[Site], None]
) -> None:
    broken(stored.site)
    began = time.monotonic()
    with pytest.raises(UnreachableSourceError, match=f"{stored.url}.* cannot be "):
        stored.read()
    assert time.monotonic() - began < BOUND


def test_values_that_cannot_be_read_for_reasons_of_the_moment_are_unreachable(
    lazy: Stored, broken: Callable[[Site], None]
) -> None:
    with open_raw(lazy.url, lazy.engine, patience=SOON) as dataset:
        broken(lazy.site)
        began = time.monotonic()
        with pytest.raises(UnreachableSourceError, match=rf"{lazy.url}: 'v'\[0:262144, 0:8\] cannot be read"):
            lazy.part(dataset)
        assert time.monotonic() - began < BOUND


@pytest.mark.parametrize("broken", ["503", "short"], indirect=True)
def test_a_scan_and_a_task_pass_on_that_a_source_is_unreachable(stored: Stored, broken: Callable[[Site], None]) -> None:
    mark = fingerprint(stored.url, SOON)
    broken(stored.site)
    with pytest.raises(UnreachableSourceError):
        scan_task(ScanTask((stored.url,), stored.engine, None, digests=True), SOON)
    files = [FileSource(stored.url, stored.engine, 0, 1 << 18, mark)]
    with pytest.raises(UnreachableSourceError), FileSources(files, "x", SOON) as sources:
        sources.read(REGION, "<i4", {})


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_the_first_look_at_a_source_tells_that_it_is_unreachable(site: Site, root: str, status: int) -> None:
    site.files["bucket/a"] = b"\x89HDF\r\n\x1a\n"
    site.status = {"bucket/a": status, "bucket/a/.zmetadata": status}
    site.files["bucket/a/.zmetadata"] = b"{}"
    for look in (guess_engine, fingerprint, remote_fingerprint):
        with pytest.raises(UnreachableSourceError, match=f"{root}/a cannot be read"):
            look(f"{root}/a", patience=SOON)  # type: ignore[operator]
    with pytest.raises(UnreachableSourceError):
        remote_has(f"{root}/a", [".zmetadata"], SOON)


def test_a_host_that_is_not_there_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(UnreachableSourceError):
        guess_engine(f"http://127.0.0.1:{port}/a.nc", SOON)


def test_a_host_that_accepts_no_connection_is_unreachable_within_the_bound() -> None:
    with socket.socket() as silent, contextlib.ExitStack() as waiting:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        for _ in range(4):  # what the kernel accepts by itself, and more
            one = waiting.enter_context(socket.socket())
            one.settimeout(0)
            one.connect_ex(silent.getsockname())
        began = time.monotonic()
        with pytest.raises(UnreachableSourceError):
            guess_engine(f"http://127.0.0.1:{silent.getsockname()[1]}/a.nc", replace(SOON, idle=30))
        assert time.monotonic() - began < BOUND


def test_a_server_that_recovers_in_time_is_read(stored: Stored) -> None:
    stored.site.status = dict.fromkeys(stored.site.files, 503)
    recovery = threading.Timer(0.5, stored.site.status.clear)
    recovery.start()
    values = stored.read(Patience(retrying=20, first_pause=0.05, longest_pause=0.2))
    recovery.join()
    assert np.array_equal(values, VALUES)


@pytest.mark.parametrize("fault", ["reset", "short", "stall"])
def test_an_answer_that_breaks_off_once_is_read_on_from_there(stored: Stored, fault: str, stall: Stall) -> None:
    faults = [{"reset": reset, "short": stop_short, "stall": stall}[fault]]
    whole = stored.site.send

    def send(asked: BaseHTTPRequestHandler, data: bytes) -> None:
        (faults.pop() if faults else whole)(asked, data)

    stored.site.send = send
    assert np.array_equal(stored.read(Patience(idle=1, first_pause=0.05)), VALUES)
    assert not faults


def test_an_answer_that_takes_longer_than_a_pause_may_is_waited_for(stored: Stored) -> None:
    def drip(asked: BaseHTTPRequestHandler, data: bytes) -> None:
        step = -(-len(data) // 8)
        for start, stop in pairwise(range(0, len(data) + step, step)):
            asked.wfile.write(data[start:stop])
            time.sleep(0.2)

    stored.site.send = drip
    assert np.array_equal(stored.read(SOON), VALUES)


@pytest.mark.slow
def test_an_answer_may_take_longer_than_half_a_minute_as_a_whole(site: Site) -> None:
    def drip(asked: BaseHTTPRequestHandler, data: bytes) -> None:
        for at in range(len(data)):
            asked.wfile.write(data[at : at + 1])
            time.sleep(0.4)

    site.send, site.files["a"] = drip, bytes(80)
    with RemoteFile(f"{site.url}/a", patience=replace(SOON, idle=5)) as file:
        assert file.read() == bytes(80)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 416])
def test_an_answer_that_will_be_the_same_tomorrow_is_a_plain_source_error(stored: Stored, status: int) -> None:
    mark = fingerprint(stored.url, PATIENT)
    stored.site.status = dict.fromkeys(stored.site.files, status)
    before = len(stored.site.requests)
    with pytest.raises(SourceError, match=stored.url) as caught:
        open_raw(stored.url, stored.engine, mark, patience=PATIENT)
    assert not caught.value.transient
    asked = Counter(stored.site.requests[before:])
    assert max(asked.values()) <= 2  # Zarr looks for some metadata twice; nothing is retried


@pytest.mark.parametrize("status", [400, 401, 403])
def test_values_that_are_refused_are_a_plain_source_error(lazy: Stored, status: int) -> None:
    with open_raw(lazy.url, lazy.engine, patience=PATIENT) as dataset:
        lazy.site.status = dict.fromkeys(lazy.site.files, status)
        with pytest.raises(SourceError, match=r"'v'\[0:262144, 0:8\] cannot be read") as caught:
            lazy.part(dataset)
    assert not caught.value.transient


def test_a_server_that_gives_no_ranges_is_a_plain_source_error(serve: Callable[[str], Stored]) -> None:
    stored = serve("h5netcdf")
    stored.site.ranges = False
    with pytest.raises(SourceError, match=r"cannot be read: .*[Rr]ange request") as caught:
        stored.read()
    assert not caught.value.transient


def test_an_object_that_vanishes_is_a_plain_source_error(site: Site, serve: Callable[[str], Stored]) -> None:
    stored = serve("h5netcdf")
    with open_raw(stored.url, stored.engine, patience=SOON) as dataset:
        site.files.clear()
        with pytest.raises(SourceError, match="not found") as caught:
            stored.part(dataset)
    assert not caught.value.transient


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2] + bytes(1 << 20) + data[len(data) // 2 + (1 << 20) :],
        lambda data: data[: len(data) * 3 // 4],
    ],
    ids=["overwritten", "truncated"],
)
def test_a_damaged_file_is_a_plain_source_error(stored: Stored, damage: Callable[[bytes], bytes]) -> None:
    assert np.array_equal(stored.read(Patience()), VALUES)
    stored.spoil(damage)
    with pytest.raises(SourceError, match="cannot be") as caught:
        stored.read(Patience())
    assert not caught.value.transient


@pytest.mark.parametrize("change", [lambda data: data + b"more", lambda data: data[:-100]], ids=["longer", "shorter"])
def test_an_object_that_changes_while_it_is_read_is_a_plain_source_error(
    serve: Callable[[str], Stored], change: Callable[[bytes], bytes]
) -> None:
    stored = serve("h5netcdf")
    with open_raw(stored.url, stored.engine, patience=SOON) as dataset:
        stored.spoil(change)
        with pytest.raises(SourceError, match=r"'v'\[0:262144, 0:8\] cannot be read") as caught:
            stored.part(dataset)
    assert not caught.value.transient


def test_each_read_of_an_hdf5_file_that_fails_is_told_as_what_it_was(
    site: Site, serve: Callable[[str], Stored]
) -> None:
    stored = serve("h5netcdf")
    whole = stored.site.send
    mark = fingerprint(stored.url)
    stored.read()
    reads = sum(request.startswith("GET") for request in site.requests)
    assert reads > 2
    for kept in range(reads):
        left = [None] * kept

        def send(asked: BaseHTTPRequestHandler, data: bytes, left: list[None] = left) -> None:
            if left:
                left.pop()
                whole(asked, data)
            else:
                stop_short(asked, data)

        site.send = send
        with pytest.raises(UnreachableSourceError), open_raw(stored.url, "h5netcdf", mark, Pages(), SOON) as dataset:
            stored.part(dataset)


def test_a_large_object_is_fetched_in_parts_that_each_have_their_own_time(site: Site, tmp_path: Path) -> None:
    xr.Dataset({"v": ("x", np.arange(5 << 20, dtype="f8"))}).to_netcdf(tmp_path / "a.nc", engine="netcdf4")
    site.files["a.nc"] = (tmp_path / "a.nc").read_bytes()
    with open_raw(f"{site.url}/a.nc", "netcdf4") as dataset:
        assert read_raw(dataset, "a.nc", "v", (slice(5000000, 5000002),)).tolist() == [5e6, 5e6 + 1]
    assert [request.split()[0] for request in site.requests] == [
        "HEAD",
        "GET",
        "GET",
        "GET",
    ]  # the first tells its kind


def test_connections_heed_what_the_environment_says_of_them(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://no-such-host.invalid")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("AWS_PROXY_URL", site.url)
    store_of.cache_clear()
    site.files["http://no-such-host.invalid/bucket/a"] = b"12345"
    assert remote_fingerprint("s3://bucket/a", SOON).startswith("5:")
    store_of.cache_clear()


def test_a_file_system_that_does_not_answer_is_unreachable() -> None:
    # The kernel answers a read at the beginning of this file, where nothing is mapped, with EIO.
    with pytest.raises(UnreachableSourceError, match="/proc/self/mem cannot be read: Input/output error"):
        guess_engine("/proc/self/mem")


@pytest.mark.parametrize("name", ["EIO", "ESTALE", "ETIMEDOUT", "ENOTCONN"])
def test_what_a_network_file_system_says_when_it_gives_up_is_transient(name: str) -> None:
    number = getattr(errno, name)
    assert is_transient(OSError(number, os.strerror(number)))


@pytest.mark.parametrize("error", [TimeoutError(), ConnectionResetError("reset by peer")])
def test_what_other_libraries_say_of_a_network_is_transient(error: Exception) -> None:
    assert is_transient(error)


def test_words_of_a_network_in_the_error_of_an_engine_are_not_believed() -> None:
    assert not is_transient(ValueError("the attribute 'history' is 'HTTP error: 503'"))


FAILING_READS = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/types.h>
#define FAIL(name)                                                           \\
  ssize_t name(int file, void *into, size_t count, off_t at) {               \\
    ssize_t (*next)(int, void *, size_t, off_t) = dlsym(RTLD_NEXT, #name);   \\
    if (getenv("FAIL_FROM") && at + count > atol(getenv("FAIL_FROM"))) {     \\
      errno = EIO;                                                           \\
      return -1;                                                             \\
    }                                                                        \\
    return next(file, into, count, at);                                      \\
  }
FAIL(pread)
FAIL(pread64)
"""
"""A C library between a process and the system: reads of what lies behind a place in any file fail."""

READ_IT = """
import ctypes, sys
from frazil_functions.errors import SourceError
from frazil_functions.reading.opening import open_raw, read_raw
path, engine, late = sys.argv[1:]
fail = lambda: ctypes.CDLL(None).setenv(b"FAIL_FROM", b"100000", 1)
try:
    late or fail()
    with open_raw(path, engine) as dataset:
        fail()
        read_raw(dataset, path, "v", (slice(0, 1 << 18), slice(0, 8)))
except SourceError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("cc") is None, reason="needs a C compiler, and Linux")
@pytest.mark.parametrize("late", ["", "late"], ids=["opening", "reading"])
@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
def test_a_disk_that_fails_under_an_engine_is_unreachable(
    tmp_path: Path, written: dict[str, dict[str, bytes]], engine: str, late: str
) -> None:
    (tmp_path / "a.nc").write_bytes(written["hdf5"]["a"])
    (tmp_path / "fail.c").write_text(FAILING_READS)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", "fail.so", "fail.c", "-ldl"], cwd=tmp_path, check=True)
    told = subprocess.run(
        [sys.executable, "-c", READ_IT, str(tmp_path / "a.nc"), engine, late],
        env=os.environ | {"LD_PRELOAD": str(tmp_path / "fail.so")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.startswith(f"UnreachableSourceError {tmp_path}/a.nc")
    assert "Input/output error" in told.stdout


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
def test_a_damaged_local_file_is_a_plain_source_error(
    tmp_path: Path, written: dict[str, dict[str, bytes]], engine: str
) -> None:
    data = written["hdf5"]["a"]
    (tmp_path / "a.nc").write_bytes(data[: len(data) // 2] + bytes(1 << 20) + data[len(data) // 2 + (1 << 20) :])
    with pytest.raises(SourceError, match="cannot be") as caught, open_raw(str(tmp_path / "a.nc"), engine) as dataset:
        read_raw(dataset, str(tmp_path / "a.nc"), "v", REGION.slices)
    assert not caught.value.transient


@pytest.mark.parametrize("name", ["ENOENT", "EACCES", "EPERM", "EISDIR", "ENOSPC"])
def test_what_is_missing_or_not_allowed_is_not_transient(name: str) -> None:
    number = getattr(errno, name)
    assert not is_transient(OSError(number, os.strerror(number)))


def test_a_missing_or_forbidden_file_is_a_plain_source_error(tmp_path: Path) -> None:
    for look in (guess_engine, fingerprint):
        with pytest.raises(SourceError, match=r"no\.nc cannot be read") as caught:
            look(str(tmp_path / "no.nc"))
        assert not caught.value.transient
