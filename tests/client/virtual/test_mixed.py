"""Files that are stored otherwise than their array: refused by name, or copied where they are."""

from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import xarray as xr

import frazil

from .archives import LAT, LON, container, days, kinds, read, together, write, written

DEFLATED = {"chunksizes": (2, LAT, LON), "zlib": True, "shuffle": True}


def refer(files: Any, where: Path, folder: Path, **options: Any) -> frazil.Result:
    options = {"executor": frazil.SerialExecutor(), "verify": "full"} | options
    return frazil.convert(files, where, virtual=True, containers=[container(folder)], **options)


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        (
            {"chunksizes": (5, LAT, LON), "zlib": True, "shuffle": True},
            r"chunks \(5, 80, 100\) instead of \(2, 80, 100\)",
        ),
        ({"chunksizes": (2, LAT, LON), "zlib": True, "shuffle": False}, "shuffle"),
        ({"chunksizes": (2, LAT, LON)}, "shuffle"),
        ({**DEFLATED, "dtype": "f8"}, "tas"),
        ({**DEFLATED, "dtype": "i2", "scale_factor": 0.1, "_FillValue": -9999}, "tas"),
    ],
)
def test_a_file_that_is_stored_otherwise_is_named_before_anything_is_written(
    tmp_path: Path, encoding: dict[str, Any], words: str
) -> None:
    files = written(tmp_path / "in", (0, 10), (10, 20))
    files += written(tmp_path / "in", (20, 30), encoding={"tas": encoding})
    with pytest.raises(frazil.MismatchedSourceError, match=words) as error:
        refer(files, tmp_path / "out", tmp_path / "in")
    assert "020-030.nc" in str(error.value)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.frazil").exists()


def test_how_hard_a_file_was_compressed_makes_no_difference(tmp_path: Path) -> None:
    files = written(tmp_path / "in", (0, 10))
    files += written(tmp_path / "in", (10, 20), encoding={"tas": {**DEFLATED, "complevel": 9}})
    refer(files, tmp_path / "out", tmp_path / "in")
    assert set(kinds(tmp_path / "out", "tas").values()) == {"virtual"}
    xr.testing.assert_identical(read(tmp_path / "out", tmp_path / "in").load(), together(files))


def test_files_that_are_stored_otherwise_are_copied_where_that_is_asked_for(tmp_path: Path) -> None:
    files = written(tmp_path / "in", (0, 10))
    files += written(tmp_path / "in", (10, 20), encoding={"tas": {"chunksizes": (5, LAT, LON)}})
    files += written(tmp_path / "in", (20, 30))
    refer(files, tmp_path / "out", tmp_path / "in", fallback="native")
    found = kinds(tmp_path / "out", "tas")
    assert [found[at, 0, 0] for at in range(15)] == ["virtual"] * 5 + ["native"] * 5 + ["virtual"] * 5
    xr.testing.assert_identical(read(tmp_path / "out", tmp_path / "in").load(), together(files))


def test_chunks_that_two_files_share_are_refused_or_copied(tmp_path: Path) -> None:
    files = written(tmp_path / "in", (0, 9), (9, 20))
    with pytest.raises(frazil.MismatchedSourceError, match="it lies at time 0:9, and chunks there are 2 long"):
        refer(files, tmp_path / "out", tmp_path / "in")
    refer(files, tmp_path / "out", tmp_path / "in", fallback="native")
    found = kinds(tmp_path / "out", "tas")
    assert [found[at, 0, 0] for at in range(10)] == ["virtual"] * 4 + ["native"] * 6
    xr.testing.assert_identical(read(tmp_path / "out", tmp_path / "in").load(), together(files))


def test_an_append_completes_a_chunk_that_refers_to_a_file(tmp_path: Path) -> None:
    first, later = written(tmp_path / "in", (0, 9)), written(tmp_path / "in", (9, 20))
    refer(first, tmp_path / "out", tmp_path / "in")
    assert set(kinds(tmp_path / "out", "tas").values()) == {"virtual"}
    with pytest.raises(frazil.MismatchedSourceError, match="chunks there are 2 long"):
        refer(later, tmp_path / "out", tmp_path / "in", mode="append")
    refer(later, tmp_path / "out", tmp_path / "in", mode="append", fallback="native")
    xr.testing.assert_identical(read(tmp_path / "out", tmp_path / "in").load(), together(first + later))


def test_what_a_file_does_not_store_reads_as_missing(tmp_path: Path) -> None:
    file = write(tmp_path / "in", days(0, 10), "sparse.nc")
    with netCDF4.Dataset(file, "a") as opened:
        sparse = opened.createVariable("pr", "f4", ("time", "lat", "lon"), chunksizes=(1, LAT, LON), fill_value=-1.0)
        sparse[3] = 5.0
    refer([file], tmp_path / "out", tmp_path / "in")
    assert kinds(tmp_path / "out", "pr") == {(3, 0, 0): "virtual"}
    xr.testing.assert_identical(read(tmp_path / "out", tmp_path / "in").load(), xr.open_dataset(file).load())


def test_values_without_a_reference_can_be_appended_to_an_array_of_references(tmp_path: Path) -> None:
    first, later = written(tmp_path / "in", (0, 10)), written(tmp_path / "in", (10, 20))
    refer(first, tmp_path / "out", tmp_path / "in")
    frazil.append(later, tmp_path / "out", containers=[container(tmp_path / "in")], executor=frazil.SerialExecutor())
    assert list(kinds(tmp_path / "out", "tas").values()) == ["virtual"] * 5 + ["native"] * 5
    xr.testing.assert_identical(read(tmp_path / "out", tmp_path / "in").load(), together(first + later))


def test_a_flipped_file_is_copied_and_never_referred_to(tmp_path: Path) -> None:
    files = written(tmp_path / "in", (0, 10))
    flipped = write(tmp_path / "in", days(10, 20).isel(lat=slice(None, None, -1)), "flipped.nc")
    options: dict[str, Any] = {"reorder": True}
    with pytest.raises(frazil.MismatchedSourceError, match="'lat' stand in another order"):
        refer([*files, flipped], tmp_path / "out", tmp_path / "in", **options)
    refer([*files, flipped], tmp_path / "out", tmp_path / "in", fallback="native", **options)
    found = read(tmp_path / "out", tmp_path / "in").tas
    np.testing.assert_array_equal(found[10:], days(10, 20).tas)


def test_a_file_with_a_part_of_a_dimension_is_named_as_such_and_can_be_copied(tmp_path: Path) -> None:
    halves = {"tas": {**DEFLATED, "chunksizes": (2, LAT // 2, LON)}}
    refer(written(tmp_path / "in", (0, 10), encoding=halves), tmp_path / "out", tmp_path / "in")
    south = write(tmp_path / "in", (days(2, 4) + 1).isel(lat=slice(LAT // 2)), "south.nc", encoding=halves)
    options: dict[str, Any] = {"mode": "region", "on_attrs": "keep", "variables": ["tas"]}
    with pytest.raises(frazil.MismatchedSourceError, match="labels along 'lat' are a part of those of the group"):
        refer([south], tmp_path / "out", tmp_path / "in", **options)
    refer([south], tmp_path / "out", tmp_path / "in", fallback="native", **options)
    found = read(tmp_path / "out", tmp_path / "in").tas
    np.testing.assert_array_equal(found[2:4, : LAT // 2], (days(2, 4) + 1).tas[:, : LAT // 2])
    np.testing.assert_array_equal(found[2:4, LAT // 2 :], days(0, 10).tas[2:4, LAT // 2 :])


def test_a_result_tells_values_that_are_referred_to_from_those_that_are_copied(tmp_path: Path) -> None:
    files = written(tmp_path / "in", (0, 10), (10, 20))
    whole = refer(files, tmp_path / "out", tmp_path / "in")
    one = 10 * LAT * LON * 4
    assert (whole.bytes, whole.referred_bytes) == (2 * one, 2 * one)
    assert "by reference" in whole.took
    other = written(tmp_path / "in", (20, 30), encoding={"tas": {**DEFLATED, "chunksizes": (5, LAT, LON)}})
    mixed = refer(files + other, tmp_path / "mixed", tmp_path / "in", fallback="native")
    assert (mixed.bytes, mixed.referred_bytes) == (3 * one, 2 * one)
    copied = frazil.convert(files, tmp_path / "copied", executor=frazil.SerialExecutor())
    assert copied.referred_bytes == 0
    assert "/s)" in copied.took
