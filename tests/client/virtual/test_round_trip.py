"""What refers to files reads as the files do, with Icechunk and Xarray alone."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import frazil

from .archives import LAT, LON, container, days, kinds, read, together, write, written


def refer(files: Any, where: Path, folder: Path, **options: Any) -> frazil.Result:
    options = {"executor": frazil.SerialExecutor(), "verify": "full"} | options
    return frazil.convert(files, where, virtual=True, containers=[container(folder)], **options)


def test_files_become_references_and_coordinates_are_copied(tmp_path: Path) -> None:
    files = written(tmp_path / "in", (0, 10), (10, 20), (20, 25))
    result = refer(files, tmp_path / "out", tmp_path / "in")
    assert result.verified
    found = kinds(tmp_path / "out", "tas")
    assert len(found) == 13
    assert set(found.values()) == {"virtual"}
    assert set(kinds(tmp_path / "out", "time").values()) <= {"native", "inline"}
    xr.testing.assert_identical(read(tmp_path / "out", tmp_path / "in").load(), together(files))


@pytest.mark.parametrize(
    ("encoding", "options"),
    [
        ({"zlib": True, "complevel": 1, "chunksizes": (5, LAT, LON)}, {}),
        ({"zlib": True, "fletcher32": True, "shuffle": True, "chunksizes": (5, 20, 10)}, {}),
        ({"dtype": "i2", "scale_factor": 0.01, "add_offset": 280.0, "_FillValue": -32768, "zlib": True}, {}),
        ({"contiguous": True}, {}),
        ({"dtype": ">f4", "chunksizes": (5, LAT, LON)}, {"engine": "h5netcdf"}),
        ({"chunksizes": (1, LAT, LON), "dtype": "f8"}, {}),
        ({}, {"format": "NETCDF3_CLASSIC"}),
        ({}, {"format": "NETCDF3_64BIT"}),
        ({}, {"format": "NETCDF3_CLASSIC", "unlimited_dims": ["time"]}),
    ],
)
def test_every_way_of_storing_reads_as_xarray_reads_it(
    tmp_path: Path, encoding: dict[str, Any], options: dict[str, Any]
) -> None:
    files = written(tmp_path / "in", (0, 10), (10, 20), encoding={"tas": encoding}, **options)
    refer(files, tmp_path / "out", tmp_path / "in")
    assert set(kinds(tmp_path / "out", "tas").values()) == {"virtual"}
    xr.testing.assert_identical(read(tmp_path / "out", tmp_path / "in").load(), together(files))


def test_months_of_different_lengths_that_are_stored_in_one_piece_are_cut_into_days(tmp_path: Path) -> None:
    files = written(tmp_path / "in", (0, 31), (31, 59), (59, 90), encoding={"tas": {"contiguous": True}})
    refer(files, tmp_path / "out", tmp_path / "in")
    assert len(kinds(tmp_path / "out", "tas")) == 90
    xr.testing.assert_identical(read(tmp_path / "out", tmp_path / "in").load(), together(files))


def test_what_stands_in_one_piece_is_cut_as_chunks_say(tmp_path: Path) -> None:
    files = written(tmp_path / "in", (0, 12), (12, 24), encoding={"tas": {"contiguous": True}})
    refer(files, tmp_path / "out", tmp_path / "in", chunks={"time": 4})
    assert read(tmp_path / "out").tas.encoding["chunks"] == (4, LAT, LON)
    xr.testing.assert_identical(read(tmp_path / "out", tmp_path / "in").load(), together(files))


def test_what_is_appended_by_reference_follows_what_is_there(tmp_path: Path) -> None:
    first, later = written(tmp_path / "in", (0, 10)), written(tmp_path / "in", (10, 14), (14, 21))
    refer(first, tmp_path / "out", tmp_path / "in")
    refer(later, tmp_path / "out", tmp_path / "in", mode="append")
    assert set(kinds(tmp_path / "out", "tas").values()) == {"virtual"}
    every = together(first + later)
    xr.testing.assert_identical(read(tmp_path / "out", tmp_path / "in").load(), every)


def test_a_region_is_written_by_reference_where_its_labels_lie(tmp_path: Path) -> None:
    refer(written(tmp_path / "in", (0, 10), (10, 20)), tmp_path / "out", tmp_path / "in")
    again = write(tmp_path / "in", days(4, 8) + 1, "again.nc")
    refer([again], tmp_path / "out", tmp_path / "in", mode="region", on_attrs="keep", variables=["tas"])
    found = read(tmp_path / "out", tmp_path / "in").tas.load()
    np.testing.assert_array_equal(found[4:8], xr.open_dataset(again).tas)
    np.testing.assert_array_equal(found[:4], days(0, 10).tas[:4])
    assert set(kinds(tmp_path / "out", "tas").values()) == {"virtual"}


def test_variables_that_are_loaded_are_copied_and_may_be_cut_otherwise(tmp_path: Path) -> None:
    extra = {"pr": (("time", "lat", "lon"), np.arange(10.0 * LAT * LON, dtype="f4").reshape(10, LAT, LON))}
    file = write(tmp_path / "in", days(0, 10, **extra), "both.nc")
    refer([file], tmp_path / "out", tmp_path / "in", load=["pr"], chunks={"time": 10, "lat": 8}, compression="zstd:3")
    assert set(kinds(tmp_path / "out", "tas").values()) == {"virtual"}
    assert set(kinds(tmp_path / "out", "pr").values()) == {"native"}
    stored = read(tmp_path / "out", tmp_path / "in")
    assert stored.pr.encoding["chunks"] == (10, 8, LON)
    assert stored.tas.encoding["chunks"] == (2, LAT, LON)
    xr.testing.assert_identical(stored.load(), xr.open_dataset(file).load())


def test_groups_and_branches_are_written_as_with_copies(tmp_path: Path) -> None:
    files = written(tmp_path / "in", (0, 10))
    refer(files, tmp_path / "out", tmp_path / "in", group="model/daily")
    found = read(tmp_path / "out", tmp_path / "in", group="model/daily").load()
    xr.testing.assert_identical(found, xr.open_dataset(files[0]).load())


def test_zarr_hierarchies_are_referred_to_chunk_by_chunk(tmp_path: Path) -> None:
    source = tmp_path / "in" / "part.zarr"
    days(0, 10).chunk({"time": 5}).to_zarr(source, zarr_format=3, consolidated=False)
    refer([source], tmp_path / "out", tmp_path / "in")
    assert set(kinds(tmp_path / "out", "tas").values()) == {"virtual"}
    xr.testing.assert_identical(
        read(tmp_path / "out", tmp_path / "in").load(), xr.open_zarr(source, consolidated=False).load()
    )


def test_lithops_functions_write_the_references(tmp_path: Path) -> None:
    files = written(tmp_path / "in", *((start, start + 10) for start in range(0, 60, 10)))
    with frazil.LithopsExecutor() as executor:
        refer(files, tmp_path / "out", tmp_path / "in", executor=executor, verify="sample")
    xr.testing.assert_identical(read(tmp_path / "out", tmp_path / "in").load(), together(files))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_files_read_as_xarray_reads_them_with_what_does_not_fit_copied(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("files")
    edges = [0, *sorted(data.draw(st.sets(st.integers(3, 29), max_size=4))), 30]
    files = []
    for start, stop in pairwise(edges):
        rows = data.draw(st.integers(1, stop - start))
        columns = data.draw(st.sampled_from([LON, 50, 34]))
        stored = data.draw(
            st.sampled_from(
                [
                    {"chunksizes": (rows, LAT, columns), "zlib": True},
                    {"chunksizes": (3 if rows > 2 else rows, LAT, LON)},
                    {"contiguous": True},
                ]
            )
        )
        files += written(folder / "in", (start, stop), encoding={"tas": stored})
    options = {"virtual": True, "fallback": "native", "containers": [container(folder / "in")]}
    frazil.convert(files, folder / "out", executor=frazil.SerialExecutor(), verify="full", **options)
    xr.testing.assert_identical(read(folder / "out", folder / "in").load(), together(files))
