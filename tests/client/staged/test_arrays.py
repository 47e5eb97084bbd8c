"""store_dask: dask arrays into arrays of a session."""

from typing import Any

import dask.array as da
import icechunk
import numpy as np
import pytest
import zarr

import frazil
from frazil_functions.errors import InvalidInputError, SourceError, UnalignedRegionError
from frazil_functions.regions import Region
from frazil_functions.writing.lazy import GraphSlice, GraphSlices


@pytest.fixture
def root(session: icechunk.Session) -> zarr.Group:
    return zarr.group(session.store)


def array(root: zarr.Group, name: str = "a", **options: Any) -> zarr.Array[Any]:
    return root.create_array(name, **({"shape": (100, 20), "chunks": (30, 20), "dtype": "f8"} | options))


def values(*shape: int) -> Any:
    return np.arange(1.0, np.prod(shape) + 1).reshape(shape)


def test_arrays_become_what_dask_computes(
    root: zarr.Group, session: icechunk.Session, repo: icechunk.Repository, serial: frazil.SerialExecutor
) -> None:
    targets = [array(root), array(root, "b", shape=(), chunks=()), array(root, "c/d", shards=(60, 20))]
    sources = [da.from_array(values(100, 20), chunks=(7, 20)), da.ones(()), da.from_array(values(100, 20), (30, 10))]
    frazil.store_dask(session, sources=sources, targets=targets, executor=serial)
    session.commit("all")
    stored = zarr.open_group(repo.readonly_session("main").store, mode="r")
    for path in ("a", "c/d"):
        np.testing.assert_array_equal(stored[path][:], values(100, 20))
    assert stored["b"][()] == 1


@pytest.mark.parametrize("chunks", [9, 40, 1])
def test_a_region_keeps_what_lies_beside_it_within_its_write_units(
    chunks: int, root: zarr.Group, session: icechunk.Session, serial: frazil.SerialExecutor
) -> None:
    target = array(root)
    target[:] = -1
    source = da.from_array(values(40, 20), chunks=(chunks, 20))
    frazil.store_dask(
        session, sources=[source], targets=[target], regions=[(slice(25, 65), slice(None))], executor=serial
    )
    expected = np.full((100, 20), -1.0)
    expected[25:65] = values(40, 20)
    np.testing.assert_array_equal(target[:], expected)


def test_sources_may_share_a_target_but_no_write_unit(
    root: zarr.Group, session: icechunk.Session, serial: frazil.SerialExecutor
) -> None:
    target = array(root)
    sources = [da.from_array(values(30, 20), 10), da.from_array(values(70, 20), 10)]
    frazil.store_dask(
        session,
        sources=sources,
        targets=[target, target],
        regions=[(slice(0, 30), slice(None)), (slice(30, 100), slice(None))],
        executor=serial,
    )
    np.testing.assert_array_equal(target[:], np.concatenate([values(30, 20), values(70, 20)]))
    with pytest.raises(UnalignedRegionError, match="share a write unit"):
        frazil.store_dask(
            session,
            sources=sources,
            targets=[target, target],
            regions=[(slice(0, 30), slice(None)), (slice(29, 99), slice(None))],
            executor=serial,
        )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sources": [np.ones((100, 20))]}, "ndarray and no dask array"),
        ({"sources": [da.ones((100, 20)), da.ones(3)]}, "2 sources, 1 targets"),
        ({"sources": [da.ones((90, 20))]}, "'a' has 90 along 'dim_0', and its region 0:100 has 100"),
        ({"sources": [da.ones(100)]}, "'a' has 2 dimensions, its source 1"),
        ({"sources": [da.ones((100, 20), dtype="c16")]}, "is complex128, and it stores float64"),
        ({"regions": [(slice(50, 150), slice(None))]}, "50:150 along 'dim_0' lies outside of 'a', which has 100"),
        ({"regions": [(slice(0, 100, 2), slice(None))]}, "takes steps of 2"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    options: Any, said: str, root: zarr.Group, session: icechunk.Session
) -> None:
    target = array(root)
    with pytest.raises(InvalidInputError, match=said):
        frazil.store_dask(session, **({"sources": [da.ones((100, 20))], "targets": [target]} | options))
    assert not session.status().updated_chunks


def test_a_target_of_another_session_is_refused(
    root: zarr.Group, session: icechunk.Session, repo: icechunk.Repository
) -> None:
    target = array(root)
    with pytest.raises(InvalidInputError, match="'a' was not opened in the session"):
        frazil.store_dask(repo.writable_session("main"), sources=[da.ones((100, 20))], targets=[target])
    forked = zarr.open_array(session.fork().store, path="a")
    with pytest.raises(InvalidInputError, match="'a' was not opened in the session"):
        frazil.store_dask(session, sources=[da.ones((100, 20))], targets=[forked])


def test_what_icechunk_s_own_accepts_is_accepted(
    root: zarr.Group, session: icechunk.Session, serial: frazil.SerialExecutor
) -> None:
    target = array(root)
    source = da.ones((100, 20))
    frazil.store_dask(
        session,
        sources=[source],
        targets=[target],
        regions=(slice(None), slice(None)),
        split_every=4,
        executor=serial,
        meta=None,
    )
    assert (target[:] == 1).all()
    with pytest.raises(InvalidInputError, match="takes no 'compute'"):
        frazil.store_dask(session, sources=[source], targets=[target], executor=serial, compute=False)


@pytest.mark.parametrize("shards", [None, (400, 500)])
@pytest.mark.parametrize("chunks", [(200, 500), (300, 1000), (400, 500), (100, 1000), (3000, 250)])
def test_large_chunks_of_dask_are_stored_as_small_ones_are(
    chunks: tuple[int, int],
    shards: tuple[int, int] | None,
    root: zarr.Group,
    session: icechunk.Session,
    serial: frazil.SerialExecutor,
) -> None:
    target = array(root, shape=(3100, 1000), chunks=(200, 500), shards=shards)
    target[:50] = -1
    source = da.from_array(values(3000, 1000), chunks=chunks)
    frazil.store_dask(
        session, sources=[source], targets=[target], regions=[(slice(50, 3050), slice(None))], executor=serial
    )
    np.testing.assert_array_equal(target[50:3050], values(3000, 1000))
    assert (target[:50] == -1).all()
    assert (target[3050:] == 0).all()


@pytest.mark.parametrize("rows", [199, 201])
def test_large_chunks_that_are_not_as_long_as_they_said_are_refused(
    rows: int, root: zarr.Group, session: icechunk.Session, serial: frazil.SerialExecutor
) -> None:
    target = array(root, shape=(800, 1000), chunks=(200, 1000))
    source = da.ones((800, 1000), chunks=(200, 1000)).map_blocks(
        lambda part, block_info: np.ones((rows, 1000)) if block_info[None]["chunk-location"][0] == 1 else part,
        dtype="f8",
        meta=np.empty((0, 0)),
    )
    with pytest.raises(SourceError, match=rf"was computed with the shape \({rows}, 1000\)"):
        frazil.store_dask(session, sources=[source], targets=[target], executor=serial)
    assert (target[:] == 0).all()


def whole(*lengths: int) -> GraphSlices:
    graph = {("a", at): np.full((length, 1000), float(at)) for at, length in enumerate(lengths)}
    keys = [("a", at) for at in range(len(lengths))]
    inside = (slice(10, sum(lengths)), slice(0, 1000))
    return GraphSlices(graph, (GraphSlice([[key] for key in keys], inside, (lengths, (1000,))),))


def test_large_chunks_are_not_put_together() -> None:
    region = Region("a", (("x", 10, 600), ("y", 0, 1000)))
    slices = whole(200, 200, 200)
    parts = slices.compute_parts([region], [(100, 1000)])
    assert [part.ranges[0] for part, _ in parts] == [("x", 10, 200), ("x", 200, 400), ("x", 400, 600)]
    assert all(np.shares_memory(found, slices.graph["a", at]) for at, (_, found) in enumerate(parts))


@pytest.mark.parametrize(
    ("lengths", "unit"),
    [((200, 200, 200), 300), ((200, 200, 200), 400), ((500, 50, 50), 50)],
    ids=["units of two", "the last alone", "small ones"],
)
def test_chunks_that_are_small_or_share_a_write_unit_are_put_together(lengths: tuple[int, ...], unit: int) -> None:
    region = Region("a", (("x", 10, 600), ("y", 0, 1000)))
    slices = whole(*lengths)
    ((found, together),) = slices.compute_parts([region], [(unit, 1000)])
    assert found == region
    np.testing.assert_array_equal(together, slices.compute()[0])
