"""Backends of Lithops on this machine: a cluster and a service on loopback, and S3 and Google's storage beside them."""

import logging
import re
import secrets
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import icechunk
import numpy as np
import pytest
import xarray as xr
import yaml
from moto.server import ThreadedMotoServer

import frazil

if TYPE_CHECKING:
    from .cluster import Cluster

collect_ignore: list[str] = []
if not sys.platform.startswith("linux"):
    collect_ignore_glob = ["test_*.py"]  # pods have addresses of their own, and /proc tells their memory

DOCS = Path(__file__).parents[2] / "docs"
TOKEN = "a-token-of-a-service-account"  # noqa: S105 - of a server of the tests


def documented(page: str) -> list[dict[str, Any]]:
    """The YAML that a page shows, in order."""
    found = re.findall(r"^```yaml\n(.*?)^```$", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)
    return [yaml.safe_load(text) for text in found]


@pytest.fixture(scope="session", autouse=True)
def _quiet() -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    icechunk.set_logs_filter("icechunk=error")  # it warns at every opening of local storage


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The endpoint of an S3 server on loopback."""
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    yield "http://{}:{}".format(*running.get_host_and_port())
    running.stop()


@pytest.fixture
def aws(server: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment in which this process and pods reach S3."""
    env = {
        "AWS_ACCESS_KEY_ID": "key-of-a-role",
        "AWS_SECRET_ACCESS_KEY": "secret-of-a-role",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": server,
        "AWS_ALLOW_HTTP": "true",
    }
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return env


@pytest.fixture
def bucket(aws: dict[str, str]) -> Any:
    """A new bucket."""
    name = f"data-{secrets.token_hex(4)}"  # what the server holds outlives the test
    return boto3.resource("s3").create_bucket(Bucket=name)


@pytest.fixture
def lithops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lithops, which remembers nothing of other tests, neither in memory nor below the home directory."""
    assert not frazil.LithopsExecutor(config={"lithops": {"backend": "k8s"}}).local  # imports it as Frazil does
    monkeypatch.setattr("lithops.storage.storage.CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("lithops.storage.storage.RUNTIME_META_CACHE", {})


@pytest.fixture
def staging(aws: dict[str, str]) -> Any:
    """The bucket of Lithops, which is the same in all tests, so that its runtimes are described once."""
    return boto3.resource("s3").create_bucket(Bucket="frazil-staging")


@pytest.fixture(scope="session")
def source() -> xr.Dataset:
    """Hours of a small grid."""
    values = np.arange(24 * 4 * 6, dtype="f4").reshape(24, 4, 6)
    return xr.Dataset(
        {"tas": (("time", "lat", "lon"), values, {"units": "K"})},
        {
            "time": ("time", np.arange(24), {"units": "hours since 2000-01-01"}),
            "lat": np.linspace(-45, 45, 4),
            "lon": np.arange(6) * 60.0,
        },
    )


@pytest.fixture
def files(source: xr.Dataset, tmp_path: Path) -> list[Path]:
    """The dataset in two NetCDF files."""
    paths = []
    for start in (0, 12):
        paths.append(tmp_path / f"{start:02}.nc")
        source.isel(time=slice(start, start + 12)).to_netcdf(paths[-1])
    return paths


@pytest.fixture
def uploaded(bucket: Any, files: list[Path]) -> list[str]:
    """The files in S3."""
    for path in files:
        bucket.upload_file(str(path), f"in/{path.name}")
    return [f"s3://{bucket.name}/in/{path.name}" for path in files]


@dataclass(frozen=True, slots=True)
class Reached:
    """A cluster, its address, and Lithops' configuration, as it is and as a file."""

    cluster: "Cluster"
    url: str
    config: dict[str, Any]

    @property
    def written(self) -> str:
        return yaml.safe_dump(self.config)


@pytest.fixture
def kubernetes(
    lithops: None, aws: dict[str, str], staging: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., AbstractContextManager[Reached]]:
    """Starts clusters, with the page's own configuration and the rules of its own Role."""
    if find_spec("kubernetes") is None or find_spec("flask") is None:
        pytest.skip("the client of Kubernetes is not installed: uv sync --group kubernetes")
    from .api import serving  # noqa: PLC0415 - not before it is known that it can be used
    from .cluster import Cluster, image_of  # noqa: PLC0415 - the same

    @contextmanager
    def start(*, capacity: int = 100, without: str = "", **options: Any) -> Iterator[Reached]:
        config, role = documented("lithops-kubernetes.md")[:2]
        namespace = role["metadata"]["namespace"]
        rules = [{**rule, "verbs": [verb for verb in rule["verbs"] if verb != without]} for rule in role["rules"]]
        directory = tmp_path / "cluster"
        directory.mkdir()
        image = image_of(directory, config["k8s"]["runtime"])
        with (
            Cluster(image, directory, aws, capacity) as cluster,
            serving(cluster, namespace, TOKEN, rules) as url,
        ):
            kubecfg = directory / "kubeconfig"
            kubecfg.write_text(yaml.safe_dump(kubeconfig(url, namespace)))
            monkeypatch.setenv("KUBECONFIG", str(kubecfg))
            config["k8s"] |= options
            try:
                yield Reached(cluster, url, config)
            finally:
                # Lithops waits for pods in threads that end with them alone.
                cluster.capacity = 100
                cluster.expire()
                for thread in threading.enumerate():
                    if thread.name == "frazil-lithops-start":
                        thread.join(60)
                        assert not thread.is_alive()

    return start


def kubeconfig(url: str, namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": url}}],
        "users": [{"name": "client", "user": {"token": TOKEN}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "client", "namespace": namespace}}],
    }
