"""Shared by the tests of the client: real files, real repositories on disk, read with Icechunk and Xarray alone."""

import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import boto3
import icechunk
import iris_sample_data
import numpy as np
import pytest
import xarray as xr
from moto.server import ThreadedMotoServer

import frazil

from .hourly import series as hourly

type Tree = dict[str, bytes | None]


class Convert(Protocol):
    """Files in, the dataset that plain Icechunk and Xarray read out."""

    def __call__(self, sources: Any, **options: Any) -> xr.Dataset: ...


@pytest.fixture
def open_group() -> Callable[..., xr.Dataset]:
    def open_group(path: Path, group: str = "", **options: Any) -> xr.Dataset:
        repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(path)))
        store = repo.readonly_session("main").store
        return xr.open_zarr(store, group=group or None, consolidated=False, chunks=None, **options)

    return open_group


@pytest.fixture
def convert(tmp_path: Path, open_group: Callable[..., xr.Dataset]) -> Convert:
    def convert(sources: Any, **options: Any) -> xr.Dataset:
        where = tmp_path / "archive.icechunk"
        options = {"executor": frazil.SerialExecutor(), "verify": "full"} | options
        frazil.convert(sources, where, **options)
        return open_group(where, options.get("group", ""))

    return convert


@pytest.fixture
def plan_of(tmp_path: Path) -> Callable[..., frazil.Plan]:
    def plan_of(sources: Any, **options: Any) -> frazil.Plan:
        return frazil.plan(sources, tmp_path / "archive.icechunk", executor=frazil.SerialExecutor(), **options)

    return plan_of


@pytest.fixture(scope="session")
def samples() -> Path:
    """The NetCDF files of iris-sample-data."""
    return Path(iris_sample_data.__file__).parent / "sample_data"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., list[Path]]:
    """Datasets as files, one each."""

    def write(datasets: Iterable[xr.Dataset], name: str = "part", **options: Any) -> list[Path]:
        folder = tmp_path / "sources"
        folder.mkdir(exist_ok=True)
        paths = []
        for number, dataset in enumerate(datasets):
            path = folder / f"{name}-{number:03}.nc"
            dataset.to_netcdf(path, **options)
            paths.append(path)
        return paths

    return write


@pytest.fixture(scope="session")
def series() -> Callable[..., xr.Dataset]:
    """A small dataset along time: one variable, hourly, on a grid."""

    def series(
        hours: int | Iterable[int] = 24,
        *,
        start: int = 0,
        lat: int = 4,
        lon: int = 6,
        units: str = "hours since 2000-01-01",
        calendar: str = "standard",
    ) -> xr.Dataset:
        stamps = np.arange(start, start + hours) if isinstance(hours, int) else np.asarray(list(hours))
        values = np.asarray(stamps, "f4")[:, None, None] + np.arange(lat * lon, dtype="f4").reshape(lat, lon) / 100
        return xr.Dataset(
            {"tas": (("time", "lat", "lon"), values, {"units": "K", "long_name": "air temperature"})},
            {
                "time": ("time", stamps, {"units": units, "calendar": calendar}),
                "lat": ("lat", np.linspace(-45, 45, lat), {"units": "degrees_north"}),
                "lon": ("lon", np.arange(lon) * 360 / lon, {"units": "degrees_east"}),
            },
            {"title": "a test", "Conventions": "CF-1.8"},
        )

    return series


@pytest.fixture(scope="session")
def split() -> Callable[..., list[xr.Dataset]]:
    """A dataset cut along a dimension at the given lengths."""

    def split(dataset: xr.Dataset, dim: str, lengths: Iterable[int]) -> list[xr.Dataset]:
        edges = np.cumsum([0, *lengths])
        assert edges[-1] == dataset.sizes[dim]
        return [dataset.isel({dim: slice(*pair)}) for pair in pairwise(edges)]

    return split


@pytest.fixture(scope="session")
def tree() -> Callable[[Path], Tree]:
    """Everything below a folder, byte for byte."""

    def tree(folder: Path) -> Tree:
        return {
            str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
            for path in sorted(folder.rglob("*"))
        }

    return tree


@pytest.fixture(scope="session")
def opened() -> Callable[..., xr.Dataset]:
    """What xarray.open_mfdataset makes of the same files, the oracle."""

    def opened(paths: Iterable[Path], dim: str | None = None, **options: Any) -> xr.Dataset:
        listed = list(paths)
        if dim is None:
            return xr.open_dataset(listed[0], **options)
        settings: Mapping[str, Any] = {
            "combine": "nested",
            "concat_dim": dim,
            "data_vars": "minimal",
            "coords": "minimal",
            "compat": "override",
            "join": "override",
            "combine_attrs": "override",
        }
        return xr.open_mfdataset(listed, **(settings | options)).load()

    return opened


@pytest.fixture(scope="session", autouse=True)
def _quiet_icechunk() -> None:
    # Icechunk warns at every opening of local storage; the lock that it asks for is taken.
    icechunk.set_logs_filter("icechunk=error")


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Three files of 10, 10 and 4 hours; with chunks of 4 hours, two boundaries lie within a chunk or on one."""
    folder = tmp_path / "sources"
    folder.mkdir()
    found = []
    for number, (start, stop) in enumerate([(0, 10), (10, 20), (20, 24)]):
        path = folder / f"part{number}.nc"
        hourly(start, stop).to_netcdf(path, engine="netcdf4")
        found.append(str(path))
    return found


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Where a repository is to be."""
    return tmp_path / "archive.icechunk"


@pytest.fixture
def serial() -> Iterator[frazil.SerialExecutor]:
    """The executor that runs calls in this process."""
    with frazil.SerialExecutor() as executor:
        yield executor


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(uncollected: None, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(name, value)
    made = boto3.resource("s3", endpoint_url=endpoint).Bucket("raw")
    made.create()
    yield made
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/moto-api/reset", method="POST"))  # noqa: S310
