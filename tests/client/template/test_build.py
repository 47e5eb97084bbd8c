"""The template has the final shapes, types and roles, and costs nothing to make or to write."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

import frazil
from frazil_functions.reading.scanning import Labels
from frazil_functions.runs.template import check_free, write_template
from frazil_functions.template import ArrayTemplate, DatasetTemplate


@pytest.fixture
def made(series: Any, split: Any, write: Any, plan_of: Callable[..., frazil.Plan]) -> frazil.Plan:
    dataset = series(10)
    dataset["orography"] = ("lat", "lon"), np.ones((4, 6), "f4")
    dataset["crs"] = (), np.int32(0)
    dataset["time_bnds"] = ("time", "bnds"), np.zeros((10, 2))
    dataset.time.attrs["bounds"] = "time_bnds"
    return plan_of(write(split(dataset, "time", [4, 6])), chunks={"time": 2, "lat": 2}, shards={"time": 4})


def test_each_array_has_who_writes_it(made: frazil.Plan) -> None:
    assert {name: array.role for name, array in made.template.arrays.items()} == {
        "tas": "data",
        "time_bnds": "data",
        "orography": "static",
        "crs": "static",
        "time": "labels",
        "lat": "labels",
        "lon": "labels",
    }


def test_shapes_are_those_of_all_files_together(made: frazil.Plan) -> None:
    assert made.template.sizes == {"time": 10, "lat": 4, "lon": 6, "bnds": 2}
    assert made.template.arrays["tas"].shape == (10, 4, 6)
    assert made.template.labels["time"].values().tolist() == list(range(10))


def test_what_was_chosen_is_for_data_and_not_for_bounds_and_labels(made: frazil.Plan) -> None:
    arrays = made.template.arrays
    assert (arrays["tas"].chunks, arrays["tas"].shards) == ((2, 2, 6), (4, 2, 6))
    assert (arrays["time_bnds"].chunks, arrays["time_bnds"].shards) == ((10, 2), None)
    assert (arrays["time"].chunks, arrays["lat"].chunks) == ((1024,), (4,))


def test_the_write_unit_is_the_shard(made: frazil.Plan) -> None:
    assert made.template.arrays["tas"].grid.unit == (4, 2, 6)
    assert made.template.arrays["time_bnds"].grid.unit == (10, 2)


def test_dimensions_that_no_variable_has_are_left_out(series: Any, write: Any, plan_of: Any) -> None:
    assert "lat" not in plan_of(write([series(3)]), variables=["time"]).template.sizes


def many(chunks: int) -> DatasetTemplate:
    array = ArrayTemplate("t", ("time",), (chunks,), "<f4", (1,), None, {}, "data")
    return DatasetTemplate({"time": chunks}, "time", {}, {"t": array}, {})


def test_a_template_of_ten_million_chunks_is_written_without_any(tmp_path: Path) -> None:
    repo = frazil.open_repository(tmp_path / "archive")
    session = repo.writable_session("main")
    write_template(session, "", many(10_000_000), {}, "create")
    assert session.status().updated_chunks == {}
    session.commit("template")
    array = zarr.open_group(repo.readonly_session("main").store, mode="r")["t"]
    assert isinstance(array, zarr.Array)
    assert array.nchunks == 10_000_000
    assert np.isnan(array[123])


def test_static_values_that_changed_since_the_plan_are_refused(made: frazil.Plan, tmp_path: Path) -> None:
    first = Path(made.sources[0].url)
    dataset = xr.load_dataset(first)
    dataset["orography"] = dataset.orography * 2
    dataset.to_netcdf(first)
    with pytest.raises(frazil.SourceError, match="'orography' has changed since the plan was made; plan again"):
        frazil.run(made, executor=frazil.SerialExecutor())
    assert not (tmp_path / "archive.icechunk").exists()
    assert not list(tmp_path.glob("archive.icechunk.frazil/*/*"))


def test_an_absent_group_passes_and_an_existing_one_does_not(tmp_path: Path) -> None:
    repo = frazil.open_repository(tmp_path / "archive")
    tip = repo.lookup_branch("main")
    for group in ("", "a", "a/b"):
        check_free(repo, tip, group)
    session = repo.writable_session("main")
    write_template(session, "a/b", many(3), {}, "create")
    tip = session.commit("template")
    for group in ("a", "a/b", "a/b/t"):
        with pytest.raises(frazil.ExistingGroupError, match=f"'/{group}' exists"):
            check_free(repo, tip, group)
    with pytest.raises(frazil.InvalidInputError, match="'/a/b/t' is an array"):
        check_free(repo, tip, "a/b/t/u")
    check_free(repo, tip, "a/c")


@pytest.mark.parametrize("values", [np.arange(3), np.arange(3, dtype="f4"), np.zeros((1, 3)), np.zeros(1)])
def test_labels_that_zarr_would_cast_or_broadcast_are_refused(values: Any, tmp_path: Path) -> None:
    array = ArrayTemplate("x", ("x",), (3,), "<f8", (3,), None, {}, "labels")
    template = DatasetTemplate({"x": 3}, "x", {}, {"x": array}, {"x": Labels.of(values)})
    session = frazil.open_repository(tmp_path / "archive").writable_session("main")
    with pytest.raises(frazil.InvalidInputError, match=r"the plan holds .* for 'x', which is <f8 .*; plan again"):
        write_template(session, "", template, {}, "create")


def test_labels_of_strings_may_be_shorter_than_their_array(tmp_path: Path) -> None:
    array = ArrayTemplate("x", ("x",), (2,), "|S4", (2,), None, {}, "labels")
    template = DatasetTemplate({"x": 2}, "x", {}, {"x": array}, {"x": Labels.of(np.array([b"a", b"bc"]))})
    session = frazil.open_repository(tmp_path / "archive").writable_session("main")
    write_template(session, "", template, {}, "create")
    stored = zarr.open_group(session.store, mode="r")["x"]
    assert isinstance(stored, zarr.Array)
    assert np.asarray(stored[...]).tolist() == [b"a", b"bc"]
