"""What reading takes, counted against Zarr itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import zarr
from hypothesis import given
from zarr.storage import MemoryStore

from frazil.advising.axes import map_dims, series_dim
from frazil.advising.cost import (
    Cut,
    Reads,
    Shape,
    chunk_count,
    files_per_object,
    map_reads,
    nbytes_of,
    objects,
    series_reads,
)

LENGTHS = st.tuples(*[st.integers(1, 9)] * 4)


class CountingStore(MemoryStore):
    """Counts the requests that read chunks or shards."""

    def __init__(self) -> None:
        super().__init__()
        self.requests = 0

    async def get(self, key: str, *arguments: Any, **options: Any) -> Any:
        self.requests += "/c/" in f"/{key}"
        return await super().get(key, *arguments, **options)

    def get_sync(self, key: str, *arguments: Any, **options: Any) -> Any:
        self.requests += "/c/" in f"/{key}"
        return super().get_sync(key, *arguments, **options)


@contextmanager
def nothing_merged() -> Iterator[None]:
    with zarr.config.set({"array.sharding_coalesce_max_gap_bytes": 0, "array.sharding_coalesce_max_bytes": 1}):
        yield


def shape(lengths: dict[str, int], itemsize: int = 4, own: int = 0) -> Shape:
    maps = frozenset({"lat", "lon"} & lengths.keys())
    return Shape("tas", lengths, itemsize, "time", maps, {"time": own} if own else {})


@given(lengths=LENGTHS, chunks=LENGTHS, factors=st.none() | st.tuples(*[st.integers(1, 3)] * 4))
def test_requests_are_those_that_zarr_makes(
    lengths: tuple[int, ...], chunks: tuple[int, ...], factors: tuple[int, ...] | None
) -> None:
    dims = ("time", "level", "lat", "lon")
    shards = None if factors is None else tuple(a * b for a, b in zip(chunks, factors, strict=True))
    cut = Cut(dict(zip(dims, chunks, strict=True)), None if shards is None else dict(zip(dims, shards, strict=True)))
    one = shape(dict(zip(dims, lengths, strict=True)))
    store = CountingStore()
    with nothing_merged():
        array = zarr.create_array(store, shape=lengths, chunks=chunks, shards=shards, dtype="f4", compressors=None)
        array[...] = np.arange(1, np.prod(lengths) + 1, dtype="f4").reshape(lengths)
        for reads, where in (
            (series_reads(one, cut), (slice(None), 0, 0, 0)),
            (map_reads(one, cut), (0, 0, slice(None), slice(None))),
        ):
            store.requests = 0
            array[where]
            assert store.requests == reads.requests
            assert reads.nbytes >= np.asarray(array[where]).nbytes


def test_everything_is_counted() -> None:
    one, cut = (
        shape({"time": 10, "lat": 5, "lon": 6}),
        Cut({"time": 4, "lat": 5, "lon": 3}, {"time": 8, "lat": 5, "lon": 3}),
    )
    assert (chunk_count(one, cut), objects(one, cut), nbytes_of(one, cut.unit)) == (6, 4, 480)
    assert series_reads(one, Cut(cut.chunks)) == Reads(3, 720)
    assert series_reads(one, Cut(cut.chunks)).seconds == pytest.approx(0.3 + 720 / 85e6)


def test_an_array_without_elements_takes_no_requests() -> None:
    assert series_reads(shape({"time": 5, "lat": 0}), Cut({"time": 5, "lat": 1})) == Reads(0, 0)


@pytest.mark.parametrize(
    ("unit", "own", "files"),
    [(24, 24, 1), (12, 24, 1), (48, 24, 2), (25, 24, 2), (26, 24, 3), (240, 24, 10), (7, 240, 1)],
)
def test_an_object_takes_its_values_from_so_many_files(unit: int, own: int, files: int) -> None:
    reached = max(len({at // own for at in range(start, min(start + unit, 240))}) for start in range(0, 240, unit))
    found = files_per_object(shape({"time": 240}, own=own), Cut({"time": unit}))
    assert found == files >= reached


@pytest.mark.parametrize(
    ("dims", "attributes", "append_dim", "wanted"),
    [
        ("run step y x", {"run": {"units": "hours since 2000-01-01"}}, "run", ("run", {"y", "x"})),
        ("x y t", {"t": {"axis": "T"}}, None, ("t", {"x", "y"})),
        (
            "time lat lon level",
            {"lat": {"units": "degrees_north"}, "lon": {"units": "degrees_east"}},
            "time",
            ("time", {"lat", "lon"}),
        ),
        (
            "lat time lon",
            {"time": {"standard_name": "time"}, "lat": {"axis": "Y"}, "lon": {"axis": "X"}},
            "lat",
            ("time", {"lat", "lon"}),
        ),
        (
            "time y x",
            {"y": {"standard_name": "projection_y_coordinate"}, "x": {"standard_name": "grid_longitude"}},
            "time",
            ("time", {"y", "x"}),
        ),
        ("t1 t2 cell", {"t1": {"axis": "T"}, "t2": {"axis": "T"}}, "t2", ("t2", {"t1", "cell"})),
        ("lat lon", {"lat": {"axis": "Y"}, "lon": {"axis": "X"}}, "lat", (None, {"lat", "lon"})),
        ("lat lon", {}, None, (None, {"lat", "lon"})),
        ("", {}, None, (None, set())),
    ],
)
def test_coordinates_tell_which_dimension_is_time_and_which_are_maps(
    dims: str, attributes: dict[str, Any], append_dim: str | None, wanted: tuple[str | None, set[str]]
) -> None:
    named = tuple(dims.split())
    series = series_dim(named, attributes, append_dim)
    assert (series, set(map_dims(named, attributes, series))) == wanted
