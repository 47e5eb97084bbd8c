"""What is written reads back, with Icechunk and Xarray alone, as Xarray reads the files themselves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import icechunk
import iris_sample_data
import netCDF4
import numpy as np
import pytest
import xarray as xr

import frazil

SAMPLES = Path(iris_sample_data.__file__).parent / "sample_data"
FILES = sorted(str(path.relative_to(SAMPLES)) for path in SAMPLES.rglob("*.nc"))


@pytest.mark.parametrize("name", FILES)
def test_every_netcdf_file_of_a_real_collection_reads_back_identical(
    name: str, samples: Path, convert: Any, opened: Any
) -> None:
    xr.testing.assert_identical(convert(samples / name), opened([samples / name]).load())


@pytest.mark.parametrize("lengths", [[240], [100, 140], [7, 1, 113, 119], [24] * 10])
@pytest.mark.parametrize("chunk", [24, 50, 240])
def test_files_on_a_360_day_calendar_join_whatever_their_boundaries(
    lengths: list[int], chunk: int, samples: Path, write: Any, split: Any, convert: Any, opened: Any
) -> None:
    paths = write(split(xr.open_dataset(samples / "A1B_north_america.nc"), "time", lengths))
    got = convert(paths, chunks={"time": chunk})
    assert got.air_temperature.encoding["chunks"] == (chunk, 37, 49)
    xr.testing.assert_identical(got, opened(paths, "time"))
    assert got.time.encoding["calendar"] == "360_day"


def test_files_are_put_in_order_by_their_labels_and_not_by_their_names(
    samples: Path, write: Any, split: Any, convert: Any
) -> None:
    source = xr.open_dataset(samples / "ostia_monthly.nc")
    first, second, third = split(source, "time", [20, 4, 30])
    paths = write([third, first, second])
    got = convert(paths, chunks={"time": 6})
    xr.testing.assert_identical(got, source)


@pytest.mark.parametrize("form", ["NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA", "NETCDF4_CLASSIC"])
def test_every_netcdf_format_is_read(form: str, series: Any, split: Any, write: Any, convert: Any, opened: Any) -> None:
    dataset = series(30)
    if form != "NETCDF3_64BIT_DATA":
        dataset["time"] = dataset.time.astype("i4").assign_attrs(dataset.time.attrs)
    paths = write(split(dataset, "time", [13, 17]), format=form, engine="netcdf4")
    xr.testing.assert_identical(convert(paths, chunks={"time": 5}), opened(paths, "time"))


@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3 specification")
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("consolidated", [True, False])
@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part")  # of Zarr 3; the source has it
def test_zarr_is_a_source_as_files_are(
    version: int,
    consolidated: bool,
    tmp_path: Path,
    series: Any,
    split: Any,
    convert: Any,
) -> None:
    dataset = series(30)
    dataset.tas[3, 2] = np.nan
    dataset["name"] = "time", [f"step {number}" for number in range(30)]
    paths = [tmp_path / f"{number}.zarr" for number in range(3)]
    for path, part in zip(paths, split(dataset, "time", [7, 11, 12]), strict=True):
        part.to_zarr(path, zarr_format=version, consolidated=consolidated)
    got = convert([str(path) for path in paths], chunks={"time": 4})
    xr.testing.assert_identical(got, xr.decode_cf(dataset))


@pytest.mark.parametrize(
    ("chunks", "shards"),
    [
        ({"time": 4}, {"time": 12}),
        ({"time": 4, "lat": 2}, {"time": 8, "lat": 4}),
        ({"time": 7, "lon": 2}, {"time": -1}),
        ({"time": 5, "lat": 1, "lon": 3}, {"time": 10, "lat": 3, "lon": 6}),
    ],
)
def test_sharded_arrays_are_written_by_whole_shards(
    chunks: dict[str, int], shards: dict[str, int], series: Any, split: Any, write: Any, convert: Any, opened: Any
) -> None:
    paths = write(split(series(31), "time", [3, 9, 19]))
    got = convert(paths, chunks=chunks, shards=shards, workers=4)
    assert got.tas.encoding["shards"] is not None
    xr.testing.assert_identical(got, opened(paths, "time"))


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 8, 13, 23, 24])
@pytest.mark.parametrize("lengths", [[24], [12, 12], [1, 23], [23, 1], [5, 5, 5, 5, 4], [1] * 24])
def test_chunks_cross_file_boundaries_in_every_way(
    chunk: int, lengths: list[int], series: Any, split: Any, write: Any, convert: Any
) -> None:
    source = series(24, lat=2, lon=3)
    got = convert(write(split(source, "time", lengths)), chunks={"time": chunk}, workers=3)
    xr.testing.assert_identical(got, xr.decode_cf(source))


def test_two_groups_of_one_repository_are_written_one_after_the_other(
    tmp_path: Path, series: Any, write: Any, convert: Any, open_group: Any
) -> None:
    first, second = series(10), series(20, start=100)
    got = convert(write([first], "first"), group="a/b")
    again = convert(write([second], "second"), group="/a/c/")
    xr.testing.assert_identical(got, xr.decode_cf(first))
    xr.testing.assert_identical(again, xr.decode_cf(second))
    xr.testing.assert_identical(open_group(tmp_path / "archive.icechunk", "a/b"), xr.decode_cf(first))


def test_a_run_is_one_commit_and_leaves_no_private_branch(
    tmp_path: Path, series: Any, split: Any, write: Any, convert: Any
) -> None:
    convert(write(split(series(24), "time", [10, 14])), chunks={"time": 6}, message="the archive")
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(tmp_path / "archive.icechunk")))
    assert repo.list_branches() == {"main"}
    commits = list(repo.ancestry(branch="main"))
    assert [commit.message for commit in commits] == ["the archive", "Repository initialized"]
    assert commits[0].metadata["frazil"]["sources"] == {"count": 2, "first": "part-000.nc", "last": "part-001.nc"}


def test_a_repository_that_is_open_already_is_written_to(tmp_path: Path, series: Any, write: Any) -> None:
    repo = frazil.open_repository(tmp_path / "own.icechunk")
    result = frazil.convert(write([series(5)]), repo, executor=frazil.SerialExecutor())
    assert repo.lookup_branch("main") == result.snapshot_id


def test_another_branch_than_main_can_be_published_on(tmp_path: Path, series: Any, write: Any) -> None:
    repo = frazil.open_repository(tmp_path / "own.icechunk")
    before = repo.lookup_branch("main")
    repo.create_branch("draft", before)
    result = frazil.convert(write([series(5)]), repo, branch="draft", executor=frazil.SerialExecutor())
    assert (repo.lookup_branch("main"), repo.lookup_branch("draft")) == (before, result.snapshot_id)


def test_selected_variables_bring_the_coordinates_that_they_need(samples: Path, convert: Any) -> None:
    path = samples / "hybrid_height.nc"
    got = convert(path, variables=["air_potential_temperature"])
    want = xr.open_dataset(path)
    assert set(got.variables) == set(want.variables)
    xr.testing.assert_identical(got, want)


def test_variables_that_are_not_selected_stay_out(series: Any, write: Any, convert: Any) -> None:
    dataset = series(6)
    dataset["pr"] = dataset.tas * 2
    dataset["mask"] = ("lat", "lon"), np.ones((4, 6), "i1")
    got = convert(write([dataset]), variables=["pr"])
    assert set(got.variables) == {"pr", "time", "lat", "lon"}
    xr.testing.assert_identical(got, xr.decode_cf(dataset[["pr"]]))


def test_a_type_that_zarr_does_not_have_can_be_left_out(tmp_path: Path, convert: Any) -> None:
    path = tmp_path / "compound.nc"
    with netCDF4.Dataset(path, "w") as file:
        kind = file.createCompoundType(np.dtype([("u", "f4"), ("v", "f4")]), "wind_t")
        file.createDimension("x", 3)
        file.createVariable("wind", kind, ("x",))
        file.createVariable("t", "f4", ("x",))[:] = [1, 2, 3]
    got = convert(path, variables=["t"])
    assert got.t.values.tolist() == [1, 2, 3]


@pytest.mark.parametrize("engine", ["netcdf4", "h5netcdf"])
def test_an_engine_can_be_named(engine: str, series: Any, split: Any, write: Any, convert: Any, opened: Any) -> None:
    paths = write(split(series(24), "time", [10, 14]))
    xr.testing.assert_identical(convert(paths, engine=engine), opened(paths, "time", engine=engine))


def test_many_files_are_scanned_by_functions(series: Any, split: Any, write: Any, convert: Any) -> None:
    source = series(70, lat=2, lon=2)
    paths = write(split(source, "time", [1] * 70))
    xr.testing.assert_identical(convert(paths, chunks={"time": 16}), xr.decode_cf(source))


def test_a_text_file_of_globs_names_sources(
    tmp_path: Path, series: Any, split: Any, write: Callable[..., list[Path]], convert: Any
) -> None:
    source = series(24)
    write(split(source, "time", [10, 14]))
    listing = tmp_path / "files.txt"
    listing.write_text("# the archive\n\nsources/part-*.nc\n")
    xr.testing.assert_identical(convert(listing), xr.decode_cf(source))
