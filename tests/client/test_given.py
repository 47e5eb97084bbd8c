"""Datasets as sources: in memory, in files, behind dask; each function gets its slice and no more."""

import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import dask.array
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import frazil
from frazil.lazy.planned import carrier_of
from frazil.planning.cut import group
from frazil_functions.writing.lazy import unpack

from .hourly import read, state


def varied(hours: int = 24) -> xr.Dataset:
    """Every kind of variable that a scientist has, decoded."""
    chance = np.random.default_rng(0)
    times = pd.date_range("2000-01-01", periods=hours, freq="h")
    packed = xr.Variable(("time", "lat"), np.arange(hours * 4).reshape(hours, 4) / 10, {"units": "m"})
    packed.encoding = {"dtype": "int16", "scale_factor": 0.1, "add_offset": 5.0, "_FillValue": -999}
    dates = xr.Variable(("time",), times + pd.Timedelta("30min"))
    dates.encoding = {"units": "minutes since 1999-12-31", "dtype": "int32"}
    found = xr.Dataset(
        {
            "tas": (("time", "lat", "lon"), chance.normal(size=(hours, 4, 5)).astype("f4"), {"units": "K"}),
            "depth": packed,
            "mid": dates,
            "flag": (("time", "lat"), np.arange(hours * 4).reshape(hours, 4) % 3 == 0),
            "count": (("lat", "time"), np.arange(4 * hours).reshape(4, hours)),
            "area": (("lat", "lon"), chance.normal(size=(4, 5))),
            "note": ("lat", ["a", "bb", "", "déjà"]),
            "crs": ((), 0, {"grid_mapping_name": "latitude_longitude"}),
        },
        {
            "time": times,
            "lat": np.linspace(-60, 60, 4),
            "lon": np.linspace(0, 270, 5),
            "day": ("time", times.day_of_year),
        },
        {"title": "varied"},
    )
    found["time"].encoding = {"units": "hours since 2000-01-01", "dtype": "int32", "calendar": "standard"}
    found["tas"][3, 1, 2] = np.nan
    return found


def in_memory(dataset: xr.Dataset, _: Path) -> xr.Dataset:
    return dataset


def behind_dask(dataset: xr.Dataset, _: Path) -> xr.Dataset:
    return dataset.chunk({dim: length for dim, length in (("time", 5), ("lat", 3)) if dim in dataset.dims})


def in_files(dataset: xr.Dataset, folder: Path) -> xr.Dataset:
    dataset.to_netcdf(folder / "file.nc", engine="netcdf4")
    return xr.open_dataset(folder / "file.nc", engine="netcdf4", chunks=None, cache=False)


def in_zarr(dataset: xr.Dataset, folder: Path) -> xr.Dataset:
    dataset.to_zarr(folder / "store.zarr", zarr_format=3, consolidated=False)
    return xr.open_zarr(folder / "store.zarr", consolidated=False, chunks=None)


def by_xarray(dataset: xr.Dataset, folder: Path) -> xr.Dataset:
    """What is read of a dataset that Xarray itself wrote."""
    dataset.to_zarr(folder / "oracle.zarr", zarr_format=3, consolidated=False)
    with xr.open_zarr(folder / "oracle.zarr", consolidated=False, chunks=None) as found:
        return found.load()


KINDS = [in_memory, behind_dask, in_files, in_zarr]

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have a Zarr V3 specification")


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def given(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[xr.Dataset], xr.Dataset]:
    def make(dataset: xr.Dataset) -> xr.Dataset:
        folder = tmp_path / "given"
        folder.mkdir(exist_ok=True)
        return request.param(dataset, folder)  # type: ignore[no-any-return]

    return make


def test_any_dataset_reads_back_as_it_is(
    given: Callable[[xr.Dataset], xr.Dataset], target: Path, serial: frazil.SerialExecutor
) -> None:
    dataset = given(varied())
    frazil.convert(dataset, target, chunks={"time": 7}, executor=serial, verify="full", workers=3)
    found = read(target)
    xr.testing.assert_identical(found, by_xarray(dataset, target.parent))
    assert found["depth"].encoding["dtype"] == np.dtype("i2")
    assert found["tas"].encoding["chunks"][0] == 7


@pytest.mark.slow
@pytest.mark.parametrize("kind", [behind_dask, in_files])
def test_functions_of_their_own_processes_compute_it(kind: Any, tmp_path: Path, target: Path) -> None:
    with frazil.LithopsExecutor(backend="localhost", workers=2) as executor:
        frazil.convert(kind(varied(), tmp_path), target, chunks={"time": 7}, executor=executor, verify="full")
    xr.testing.assert_identical(read(target), by_xarray(varied(), tmp_path))


def test_a_data_array_is_a_dataset_of_one(target: Path, serial: frazil.SerialExecutor) -> None:
    array = varied()["tas"]
    frazil.convert(array, target, executor=serial)
    xr.testing.assert_identical(read(target)["tas"], array)


def test_chosen_variables_bring_their_coordinates(target: Path, serial: frazil.SerialExecutor) -> None:
    frazil.convert(varied(), target, variables=["tas"], executor=serial)
    xr.testing.assert_identical(read(target), varied()[["tas"]])
    with pytest.raises(frazil.InvalidInputError, match=r"no variable 'tsa'.*'tas'"):
        frazil.plan(varied(), target, variables="tsa", group="other", executor=serial)


@pytest.mark.parametrize("kind", KINDS)
def test_every_mode_takes_datasets(kind: Any, tmp_path: Path, target: Path, serial: frazil.SerialExecutor) -> None:
    whole = varied(36).drop_vars(["area", "note", "crs", "flag", "count"])
    number = 0

    def put(dataset: xr.Dataset, **options: Any) -> None:
        nonlocal number
        number += 1
        folder = tmp_path / str(number)
        folder.mkdir()
        for name in dataset.variables:  # what a dataset is read with is not how the group stores it
            dataset[name].encoding = {}
        frazil.convert(kind(dataset, folder), target, executor=serial, verify="full", **options)

    frazil.convert(whole.isel(time=slice(0, 21)), target, chunks={"time": 5}, executor=serial)
    put(whole.isel(time=slice(21, 36)), mode="append")
    expected = whole.copy(deep=True)
    xr.testing.assert_allclose(read(target), expected, atol=1e-6)
    box = {"time": slice(8, 17), "lat": slice(1, 3)}
    part = (whole[["tas", "depth"]] + 1).isel(box).isel(lat=slice(None, None, -1)).drop_vars("day")
    put(part, mode="region", reorder=True, on_attrs="keep")
    expected["tas"][box] += 1
    expected["depth"][box] += 1
    xr.testing.assert_allclose(read(target), expected, atol=1e-6)
    put((whole[["tas"]] * 2).assign(pr=whole["tas"] * 3).drop_vars("day"), mode="modify", on_attrs="keep")
    expected = expected.assign(tas=(whole["tas"] * 2).assign_attrs(whole["tas"].attrs), pr=whole["tas"] * 3)
    xr.testing.assert_allclose(read(target), expected, atol=1e-6)
    put((whole[["tas"]] * 9).assign(ts=whole["tas"] * 4).drop_vars("day"), mode="add")
    xr.testing.assert_allclose(read(target), expected.assign(ts=whole["tas"] * 4), atol=1e-6)
    put(whole[["tas"]], mode="overwrite")
    np.testing.assert_array_equal(read(target)["tas"], whole["tas"])


def test_a_run_that_was_cut_off_goes_on_with_the_dataset_alone(
    given: Callable[[xr.Dataset], xr.Dataset], target: Path, serial: frazil.SerialExecutor
) -> None:
    dataset = given(varied())
    plan = frazil.plan(dataset, target, chunks={"time": 5}, executor=serial, workers=4)
    plan = replace(plan, tasks=group(plan.template, list(plan.regions), [(0, 24)], 4, 1))

    def cut(progress: frazil.Progress) -> None:
        if progress.stage == "write" and progress.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        frazil.run(plan, source=dataset, executor=serial, run_id="r", listener=cut)
    with pytest.raises(frazil.InvalidInputError, match=r"frazil.resume\(repo, run_id, source=dataset\)"):
        frazil.resume(target, "r", executor=serial)
    other = varied().assign(tas=varied()["tas"].astype("f8"))
    with pytest.raises(frazil.InvalidInputError, match="another dataset than the plan was made from"):
        frazil.resume(target, "r", source=other, executor=serial)
    frazil.resume(target, "r", source=dataset, executor=serial)
    xr.testing.assert_identical(read(target), by_xarray(dataset, target.parent))


def test_a_plan_of_a_dataset_needs_it_to_run(target: Path, tmp_path: Path, serial: frazil.SerialExecutor) -> None:
    plan = frazil.Plan.from_json(frazil.plan(varied(), target, executor=serial).to_json())
    with pytest.raises(frazil.InvalidInputError, match=r"frazil.run\(plan, source=dataset\)"):
        frazil.run(plan, executor=serial)
    assert not (tmp_path / "archive.icechunk.frazil").exists() or not list(target.parent.glob("*.frazil/*/run.json"))
    frazil.run(plan, source=varied(), executor=serial)
    varied().to_netcdf(tmp_path / "a.nc")
    plan = frazil.plan(tmp_path / "a.nc", target, group="g", executor=serial)
    with pytest.raises(frazil.InvalidInputError, match="made from files"):
        frazil.run(plan, source=varied(), executor=serial)


@pytest.mark.parametrize("chunks", [{"time": 1}, {"time": 4}])
def test_what_a_task_carries_does_not_grow_with_the_job(
    chunks: dict[str, int], target: Path, serial: frazil.SerialExecutor
) -> None:
    array = dask.array.map_blocks(
        lambda block_id: np.full((1, 8, 8), block_id[0], "f4"), dtype="f4", chunks=((1,) * 10_000, (8,), (8,))
    )
    dataset = xr.Dataset({"v": (("time", "y", "x"), array * 2 + 1)}, {"time": np.arange(10_000)})
    plan = frazil.plan(dataset, target, chunks=chunks, executor=serial, workers=64)
    carrier = carrier_of(plan, dataset)
    assert carrier is not None
    sizes = []
    for task in plan.tasks:
        carried = carrier.carry(task.regions)
        sizes.append(len(carried.packed) + sum(len(one) for own in carried.buffers for one in own))
        assert len(unpack(carried.packed)) == len(task.regions)
    assert max(sizes) < 64_000


def test_what_a_task_carries_of_files_is_where_they_lie(
    tmp_path: Path, target: Path, serial: frazil.SerialExecutor
) -> None:
    dataset = in_files(xr.Dataset({"v": (("time", "x"), np.zeros((100, 50_000)))}), tmp_path)
    plan = frazil.plan(dataset, target, chunks={"time": 10}, append_dim="time", executor=serial, workers=8)
    carrier = carrier_of(plan, dataset)
    assert carrier is not None
    assert max(len(pickle.dumps(carrier.carry(task.regions))) for task in plan.tasks) < 16_000


def test_a_dask_chunk_is_computed_on_threads_of_the_function_and_not_by_the_client(
    target: Path, serial: frazil.SerialExecutor
) -> None:
    seen: list[str] = []

    def computed(block: Any) -> Any:
        seen.append(threading.current_thread().name)
        return block

    array = dask.array.zeros((8, 4), chunks=(2, 4)).map_blocks(computed, meta=np.zeros((0, 0)))
    dataset = xr.Dataset({"v": (("time", "x"), array)}, {"time": np.arange(8)})
    plan = frazil.plan(dataset, target, chunks={"time": 2}, executor=serial)
    assert seen == []
    frazil.run(plan, source=dataset, executor=serial)


def test_dask_is_not_imported_where_no_data_is_dask(tmp_path: Path) -> None:
    code = """
import sys
sys.modules["dask"] = None  # as if it were not installed
import numpy as np, xarray as xr, frazil
dataset = xr.Dataset({"v": (("time", "x"), np.arange(12.0).reshape(6, 2))}, {"time": np.arange(6)})
dataset.to_netcdf(sys.argv[1] + "/a.nc")
with frazil.SerialExecutor() as executor:
    frazil.convert(dataset, sys.argv[1] + "/memory", executor=executor)
    frazil.convert(xr.open_dataset(sys.argv[1] + "/a.nc"), sys.argv[1] + "/files", executor=executor)
"""
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


class Sticky:
    def __reduce__(self) -> Any:
        raise TypeError("a lock is held")


def test_what_cannot_be_pickled_is_named_before_anything_is_written(
    target: Path, serial: frazil.SerialExecutor
) -> None:
    held = Sticky()
    array = dask.array.zeros((4, 4), chunks=2).map_blocks(lambda block, held=held: (block, held)[0], dtype="f8")
    dataset = xr.Dataset({"fine": (("y", "x"), np.zeros((4, 4))), "v": (("y", "x"), array)})
    frazil.open_repository(target)
    before = state(target)
    with pytest.raises(frazil.InvalidInputError, match=r"what computes 'v' cannot be pickled.*a lock is held"):
        frazil.convert(dataset, target, executor=serial)
    assert state(target) == before
    assert not list(target.parent.glob("*.frazil/*/*"))


def test_an_error_of_the_graph_names_the_region_and_publishes_nothing(
    target: Path, serial: frazil.SerialExecutor
) -> None:
    def fail(block: Any, block_info: Any = None) -> Any:
        if block_info and block_info[0]["chunk-location"] == (1, 0):
            raise ValueError("no such day")
        return block

    array = dask.array.zeros((4, 4), chunks=(2, 4)).map_blocks(fail, dtype="f8")
    dataset = xr.Dataset({"v": (("y", "x"), array)}, {"y": np.arange(4)})
    frazil.open_repository(target)
    before = state(target)[0]
    with pytest.raises(
        frazil.IncompleteRunError, match=r"v\[y 0:4, x 0:4\] could not be computed: ValueError: no such day"
    ):
        frazil.convert(dataset, target, chunks={"y": 2}, executor=serial)
    assert state(target)[0] == before


@pytest.mark.parametrize(
    ("dataset", "options", "says"),
    [
        (xr.Dataset({1: ("x", [1])}), {}, "1 is no text"),
        (xr.Dataset({"v": ("x", [1])}), {"engine": "zarr"}, "'zarr' opens files"),
        (xr.Dataset({"v": ("x", np.array([{}, 2], object))}), {}, "'v'"),
        (xr.Dataset(), {}, "no variables"),
    ],
)
def test_what_cannot_be_stored_is_refused(
    dataset: xr.Dataset, options: dict[str, Any], says: str, target: Path, serial: frazil.SerialExecutor
) -> None:
    with pytest.raises(frazil.InvalidInputError, match=says):
        frazil.convert(dataset, target, executor=serial, **options)
    assert not target.exists()


def test_labels_decide_for_datasets_as_for_files(target: Path, serial: frazil.SerialExecutor) -> None:
    whole = varied()[["tas"]]
    frazil.convert(whole, target, executor=serial)
    with pytest.raises(frazil.LabelError, match="'lat' is flipped"):
        frazil.convert(whole.isel(lat=slice(None, None, -1)), target, mode="modify", executor=serial)
    axis = xr.date_range("2001", periods=24, freq="h", calendar="noleap", use_cftime=True)
    later = whole.assign_coords(time=axis)
    with pytest.raises(frazil.LabelError, match="dates of the calendar 'noleap'"):
        frazil.convert(later, target, mode="append", executor=serial)


def forest(kind: Any, folder: Path) -> xr.DataTree:
    """Nodes that inherit, that have dimensions of one name and of other lengths, and that hold nothing."""
    nodes = {
        "/": xr.Dataset({"mask": ("lat", np.arange(4) % 2)}, {"lat": np.linspace(-60, 60, 4)}, {"title": "all"}),
        "/air": varied()[["tas", "depth"]].drop_vars(["lat", "day"]).assign_attrs(title="air"),
        "/air/monthly": xr.Dataset({"tas": (("month", "lat"), np.arange(8.0).reshape(2, 4))}, {"month": [1, 2]}),
        "/sea": xr.Dataset({"sst": (("time", "x"), np.arange(60.0).reshape(20, 3))}, {"time": np.arange(20) * 3}),
        "/sea/empty": xr.Dataset(attrs={"note": "nothing"}),
    }
    found = {}
    for number, (path, dataset) in enumerate(nodes.items()):
        place = folder / f"node{number}"
        place.mkdir()
        found[path] = kind(dataset, place) if dataset.variables else dataset
    return xr.DataTree.from_dict(found)


def chunked(dataset: xr.Dataset, _: Path) -> xr.Dataset:
    return dataset.chunk()


@pytest.mark.parametrize("kind", [in_memory, chunked, in_files], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("group", ["", "under/here"])
def test_every_node_of_a_tree_is_written_in_one_commit(
    kind: Any, group: str, tmp_path: Path, target: Path, serial: frazil.SerialExecutor
) -> None:
    tree = forest(kind, tmp_path)
    result = frazil.convert(tree, target, group=group, chunks={"time": 7}, executor=serial, verify="full")
    repo = frazil.open_repository(target)
    assert len(list(repo.ancestry(branch="main"))) == 2
    assert result.regions > 4
    store = repo.readonly_session("main").store
    with xr.open_datatree(store, engine="zarr", consolidated=False, group=group or None, chunks=None) as found:  # type: ignore[arg-type]
        tree.to_zarr(tmp_path / "oracle.zarr", zarr_format=3, consolidated=False)
        with xr.open_datatree(tmp_path / "oracle.zarr", engine="zarr", consolidated=False, chunks=None) as expected:
            xr.testing.assert_identical(found.load(), expected.load())
        assert found["air/tas"].encoding["chunks"][0] == 7
        assert found["sea/sst"].encoding["chunks"][0] == 7


def test_a_node_of_a_tree_can_be_written_as_a_tree(tmp_path: Path, target: Path, serial: frazil.SerialExecutor) -> None:
    air = forest(in_memory, tmp_path)["air"]
    assert isinstance(air, xr.DataTree)
    frazil.convert(air, target, executor=serial)
    assert "tas" in read(target, group="monthly")
    np.testing.assert_array_equal(read(target)["tas"], varied()["tas"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"append_dim": "time"}, "append_dim does not say of which node"),
        ({"variables": "tas"}, "variables does not say of which node"),
        ({"chunks": {"tme": 3}}, "'tme', which no variable has"),
        ({"mode": "append", "group": "there"}, "writes into none that exist"),
    ],
)
def test_what_means_nothing_for_a_tree_is_refused(
    options: dict[str, Any], says: str, tmp_path: Path, target: Path, serial: frazil.SerialExecutor
) -> None:
    frazil.convert(varied(), target, group="there", executor=serial)
    before = state(target)
    with pytest.raises(frazil.InvalidInputError, match=says):
        frazil.convert(forest(in_memory, tmp_path), target, executor=serial, **({"group": "new"} | options))
    assert state(target) == before


def test_a_name_that_would_make_a_group_is_refused(target: Path, serial: frazil.SerialExecutor) -> None:
    with pytest.raises(frazil.InvalidInputError, match="'a/b' has a '/' in it"):
        frazil.convert(xr.Dataset({"v": ("a/b", [1])}), target, executor=serial)


@pytest.mark.slow
def test_values_in_memory_are_not_all_on_their_way_at_once(tmp_path: Path) -> None:
    code = """
import resource, sys
import numpy as np, xarray as xr, frazil
rows = 400 * 128
dataset = xr.Dataset({"v": (("t", "x"), np.random.default_rng(0).random((rows, 1024)))}, {"t": np.arange(rows)})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
with frazil.LithopsExecutor(backend="localhost", workers=1) as executor:
    found = frazil.convert(dataset, sys.argv[1], executor=executor, verify="none")
print(found.tasks, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before)
"""
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "r")], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    tasks, more = map(int, ended.stdout.split())
    assert tasks > 5
    assert more < 340 << 20  # two tasks of 64 MB, packed and on their way; all of it would be 400 MB once and twice


@pytest.mark.parametrize("kind", [in_memory, behind_dask, in_files], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("order", [slice(None, None, -1), [2, 0, 1, 5, 4, 3]], ids=["flipped", "permuted"])
@pytest.mark.parametrize("mode", ["region", "modify"])
@pytest.mark.parametrize("dim", ["time", "lat"])
def test_labels_in_another_order_along_the_append_dimension_keep_their_values(
    kind: Any, order: Any, mode: str, dim: str, tmp_path: Path, target: Path, serial: frazil.SerialExecutor
) -> None:
    whole = xr.Dataset(
        {"v": (("time", "lat"), np.arange(36.0).reshape(6, 6))}, {"time": np.arange(6) * 2, "lat": np.arange(6.0)}
    )
    frazil.convert(whole, target, chunks={"time": 4, "lat": 2}, append_dim="time", executor=serial)
    turned = kind((whole * -1).assign_coords(whole.coords).isel({dim: order}), tmp_path)
    frazil.convert(turned, target, mode=mode, reorder=True, append_dim=dim, executor=serial, verify="full")  # type: ignore[arg-type]
    np.testing.assert_array_equal(read(target)["v"], -whole["v"])
    np.testing.assert_array_equal(read(target)["time"], whole["time"])


@pytest.mark.parametrize("mode", ["append", "region", "modify"])
@pytest.mark.parametrize(
    ("held", "given", "fits"),
    [
        ("f4", "f4", True), ("f8", "f4", True), ("f4", "f8", False), ("f8", "i4", True), ("f8", "i8", False),
        ("i4", "i2", True), ("i4", "i8", True), ("f4", "i2", True), ("f4", "i4", False), ("i4", "f8", False),
        ("f8", "c16", False), ("f8", "U3", False), ("i1", "bool", True), ("bool", "bool", True),
        ("bool", "i1", False), ("c16", "f8", True), ("U3", "U5", True),
    ],
)  # fmt: skip
def test_values_of_a_type_that_the_group_does_not_hold_are_refused(
    held: str, given: str, fits: bool, mode: str, target: Path, serial: frazil.SerialExecutor
) -> None:
    whole = xr.Dataset({"v": ("time", np.ones(4).astype(held))}, {"time": np.arange(4)})
    frazil.convert(whole, target, executor=serial)
    later = xr.Dataset({"v": ("time", np.ones(4).astype(given))}, {"time": np.arange(4) + 4 * (mode == "append")})
    if fits:
        frazil.convert(later, target, mode=mode, executor=serial)  # type: ignore[arg-type]
        assert (read(target)["v"].astype(held) == np.ones(1).astype(held)).all()
    else:
        with pytest.raises(frazil.InvalidInputError, match=r"'v' has the type .*astype"):
            frazil.plan(later, target, mode=mode, executor=serial)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [in_memory, behind_dask, in_files], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("mode", ["modify", "add"])
def test_what_is_written_once_stands_under_its_labels_too(
    kind: Any, mode: str, tmp_path: Path, target: Path, serial: frazil.SerialExecutor
) -> None:
    lat = np.linspace(75, -75, 6)
    whole = xr.Dataset(
        {"v": (("time", "lat"), np.arange(24.0).reshape(4, 6)), "mask": ("lat", np.arange(6))},
        {"time": np.arange(4), "lat": lat},
    )
    held = whole if mode == "modify" else whole[["v"]]
    frazil.convert(held, target, executor=serial)
    given = (whole * 2).assign_coords(whole.coords).isel(lat=slice(None, None, -1))
    for source in (kind(given, tmp_path), str(tmp_path / "again.nc")):
        if isinstance(source, str):
            given.to_netcdf(source)
        frazil.convert(held, target, mode="overwrite", executor=serial)
        frazil.convert(source, target, mode=mode, reorder=True, executor=serial, verify="full")  # type: ignore[arg-type]
        np.testing.assert_array_equal(read(target)["mask"], whole["mask"] * 2)


@pytest.mark.parametrize("kind", [in_memory, behind_dask, in_files], ids=lambda kind: kind.__name__)
def test_a_region_with_two_dimensional_coordinates_stands_under_them(
    kind: Any, tmp_path: Path, target: Path, serial: frazil.SerialExecutor
) -> None:
    whole = xr.Dataset(
        {"v": (("time", "y", "x"), np.arange(48.0).reshape(4, 3, 4))},
        {"time": np.arange(4), "where": (("y", "x"), np.arange(12.0).reshape(3, 4))},
    )
    frazil.convert(whole, target, executor=serial)
    box = {"time": slice(1, 3), "x": slice(2, 4)}
    part = kind((whole * -1).assign_coords(whole.coords).isel(box), tmp_path)
    frazil.convert(part, target, mode="region", region={"x": slice(2, 4)}, executor=serial)
    expected = whole.copy(deep=True)
    expected["v"][box] *= -1
    xr.testing.assert_equal(read(target), expected)
    with pytest.raises(frazil.LabelError, match="the coordinate 'where' has other values"):
        frazil.convert(part, target, mode="region", region={"x": slice(0, 2)}, executor=serial)


def test_gaps_before_a_dataset_are_not_filled(target: Path, serial: frazil.SerialExecutor) -> None:
    whole = xr.Dataset({"v": ("time", np.arange(4.0))}, {"time": np.arange(4)})
    frazil.convert(whole, target, executor=serial)
    later = whole.assign_coords(time=np.arange(8, 12))
    with pytest.raises(frazil.InvalidInputError, match=r"dataset.reindex\(time=...\)"):
        frazil.convert(later, target, mode="append", gaps="fill", executor=serial)


@pytest.mark.parametrize("mask", [False, True])
def test_add_does_not_look_at_what_is_there_already(mask: bool, target: Path, serial: frazil.SerialExecutor) -> None:
    held = xr.Dataset({"v": ("time", np.arange(4, dtype="f4"))}, {"time": np.arange(4)})
    frazil.convert(held, target, executor=serial)
    given = held.astype("c16").assign_coords(held.coords)
    given = given.assign(flag=("time", np.arange(4) > 1)) if mask else given.assign(new=held["v"] * 2)
    frazil.convert(given, target, mode="add", executor=serial)
    np.testing.assert_array_equal(read(target)["v"], held["v"])
    assert ("flag" if mask else "new") in read(target)
