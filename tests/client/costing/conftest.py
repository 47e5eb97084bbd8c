"""An S3 server on loopback that says which requests it got."""

import logging
import re
import secrets
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import boto3
import numpy as np
import pytest
import xarray as xr
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server


@dataclass
class Counted:
    """What a server was asked for."""

    url: str = ""
    seen: list[tuple[str, str, str]] = field(default_factory=list)

    def by_purpose(self) -> dict[str, Counter[str]]:
        """How many requests of each price there were, by what they were for; DELETE is free and left out."""
        found: dict[str, Counter[str]] = {}
        for method, path, query in self.seen:
            listing = method == "GET" and "list-type" in query
            free = method == "DELETE" or (method == "POST" and query.startswith("delete"))
            if not free:
                price = "puts" if listing or method in {"PUT", "POST"} else "gets"
                found.setdefault(_purpose(path, query, listing=listing), Counter())[price] += 1
        return found


def _purpose(path: str, query: str, *, listing: bool) -> str:
    key = path.strip("/").partition("/")[2]
    if listing:
        key = parse_qs(query).get("prefix", [""])[0]
    if key.startswith("in/"):
        return "sources"
    if re.match(r"\w+\.frazil/", key):
        return "run directory"
    if "lithops" in key or not key:
        return "staging"
    return "chunks" if "/chunks/" in f"/{key}" else "repository"


@pytest.fixture(scope="session")
def counted() -> Iterator[Counted]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application = DomainDispatcherApplication(create_backend_app)
    found = Counted()

    def counting(environ: dict[str, Any], start_response: Any) -> Any:
        found.seen.append((environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("QUERY_STRING", "")))
        return application(environ, start_response)

    server = make_server("127.0.0.1", 0, counting, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}"
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def s3(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A new bucket, and the environment that reaches it."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": counted.url,
        "AWS_ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(name, value)
    bucket = boto3.resource("s3", endpoint_url=counted.url).Bucket(f"raw-{secrets.token_hex(4)}")
    bucket.create()
    return bucket


def smooth(first: int, hours: int, lat: int, lon: int) -> xr.Dataset:
    """Hourly values that compress somewhat, as measurements do."""
    noise = np.random.default_rng(first).standard_normal((hours, lat, lon), dtype="f4")
    return xr.Dataset(
        {"tas": (("time", "lat", "lon"), 280 + np.cumsum(noise, axis=2), {"units": "K"})},
        {
            "time": ("time", np.arange(first, first + hours).astype("i4"), {"units": "hours since 2000-01-01"}),
            "lat": np.linspace(-60, 60, lat),
            "lon": np.linspace(0, 270, lon),
        },
    )


def store(dataset: xr.Dataset, path: Path, *, compressed: bool) -> Path:
    """A dataset as a file, plain or in compressed chunks of an hour."""
    chunks = (1, *dataset.tas.shape[1:])
    dataset.to_netcdf(
        path, encoding={"tas": {"zlib": True, "complevel": 1, "chunksizes": chunks} if compressed else {}}
    )
    return path
