"""A server of S3 on loopback behind a proxy that injects faults, a disk that is small, and clocks that are wrong."""

import logging
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import icechunk
import pytest
from moto.server import ThreadedMotoServer

from .processes import compile_skew, skewed
from .proxy import Proxy

if not sys.platform.startswith("linux"):
    collect_ignore_glob = ["test_*.py"]  # /proc, prlimit and tmpfs are Linux's


@pytest.fixture(scope="session", autouse=True)
def _quiet() -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    # Icechunk warns at every opening of local storage, and says each retry.
    icechunk.set_logs_filter("icechunk=error")


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The endpoint of an S3 server on loopback, without any proxy."""
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    yield "http://{}:{}".format(*running.get_host_and_port())
    running.stop()


@pytest.fixture
def proxy(server: str) -> Iterator[Proxy]:
    """The proxy in front of the S3 server."""
    with Proxy(server) as running:
        yield running


@pytest.fixture
def bucket(server: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new bucket, and the environment in which this process and its children reach it through the proxy."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": proxy.url,
        "AWS_ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(name, value)
    name = f"faults-{secrets.token_hex(4)}"  # what the server holds outlives the test
    boto3.client("s3", endpoint_url=server).create_bucket(Bucket=name)
    return name


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A directory on a file system of its own that holds 20 MiB."""
    folder = tmp_path / "small-disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root; Program(largest_file=...) needs nothing")
    made = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=20m", "frazil-small-disk", folder],
        check=False,
        capture_output=True,
        text=True,
    )
    if made.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(scope="session")
def skew(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], dict[str, str]]:
    """The environment of a program whose clock is wrong by some seconds."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler to build what moves a process's clock")
    library = compile_skew(tmp_path_factory.mktemp("skew"))
    return lambda seconds: skewed(library, seconds)
