"""Ceph's S3 server on loopback, from Debian's packages, as whoever runs the tests: one monitor, one OSD in memory, RGW.

An S3 that nobody wrote for tests: another implementation of conditional writes, multipart uploads and listings than
moto's.
"""

import contextlib
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
_CONFIGURATION = """
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{monitor}/0]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
run dir = {folder}
admin socket = {folder}/$name.asok
log file = {folder}/$name.log
pid file = {folder}/$name.pid
crash dir = {folder}
keyring = {folder}/keyring
mon data = {folder}/mon
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 4294967296
heartbeat file = {folder}/heartbeat
rgw data = {folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{gateway}
"""


@dataclass(frozen=True, slots=True)
class Ceph:
    """A running server, and the keys of its one user."""

    endpoint_url: str
    access_key_id: str
    secret_access_key: str = field(repr=False)

    def environment(self) -> dict[str, str]:
        """The variables with which a program finds it."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ALLOW_HTTP": "true",
        }


def missing() -> str | None:
    """What is not installed, if anything."""
    absent = [one for one in _PROGRAMS if shutil.which(one) is None]
    packages = "apt-get install --no-install-recommends radosgw ceph-mon ceph-osd ceph-common"
    return f"there is no {', '.join(absent)}: {packages}" if absent else None


@contextmanager
def started() -> Iterator[Ceph]:
    """Start it, and end it."""
    with ExitStack() as stack:
        # Short, for sockets of Unix lie there.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ceph-", dir="/tmp")))
        monitor, gateway = _free(), _free()
        fsid, osd = str(uuid.uuid4()), str(uuid.uuid4())
        configuration = folder / "ceph.conf"
        configuration.write_text(_CONFIGURATION.format(fsid=fsid, folder=folder, monitor=monitor, gateway=gateway))
        for name in ("mon", "osd", "rgw"):
            (folder / name).mkdir()
        keyring, monitors = str(folder / "keyring"), str(folder / "monmap")
        here = ("-c", str(configuration))
        everything = ("--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *")
        profile = ("--cap", "mon", "allow profile osd", "--cap", "osd", "allow *")
        _run("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        _run("ceph-authtool", keyring, "--gen-key", "-n", "client.admin", *everything)
        _run("ceph-authtool", keyring, "--gen-key", "-n", "osd.0", *profile)
        _run("monmaptool", "--create", "--addv", "a", f"[v2:127.0.0.1:{monitor}]", "--fsid", fsid, monitors)
        _run("ceph-mon", *here, "-i", "a", "--mkfs", "--monmap", monitors, "--keyring", keyring)
        stack.enter_context(_daemon(folder, "ceph-mon", *here, "-i", "a", "-f"))
        _run("ceph-osd", *here, "-i", "0", "--mkfs", "--osd-uuid", osd)
        _run("ceph", *here, "osd", "new", osd, "0")
        stack.enter_context(_daemon(folder, "ceph-osd", *here, "-i", "0", "-f"))
        key, secret = secrets.token_hex(10), secrets.token_hex(20)
        named = ("--uid", "frazil", "--display-name", "frazil")
        _run("radosgw-admin", *here, "user", "create", *named, "--access-key", key, "--secret", secret)
        stack.enter_context(_daemon(folder, "radosgw", *here, "-n", "client.admin", "-f"))
        endpoint = f"http://127.0.0.1:{gateway}"
        _await(endpoint)
        yield Ceph(endpoint, key, secret)


def _free() -> int:
    """A port that nobody listens on, below those that outgoing connections get."""
    for port in iter(lambda: 10_000 + secrets.randbelow(20_000), None):
        with contextlib.suppress(OSError), socket.socket() as tried:
            tried.bind(("127.0.0.1", port))
            return port
    raise AssertionError


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


@contextmanager
def _daemon(folder: Path, *command: str) -> Iterator[None]:
    # It ends with this process, however that ends.
    bound = ("setpriv", "--pdeathsig", "KILL", "--") if shutil.which("setpriv") is not None else ()
    with (folder / f"{command[0]}.out").open("wb") as out:
        process = subprocess.Popen([*bound, *command], stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await(endpoint: str) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(endpoint, timeout=5).close()  # noqa: S310 - loopback
        except OSError:
            assert time.monotonic() < end, "RGW did not answer within a minute"
            time.sleep(0.1)
        else:
            return
