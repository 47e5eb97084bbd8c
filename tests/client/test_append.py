"""Appending: what is new goes behind what is there, whatever the chunks, and nothing else changes."""

import json
import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import frazil
from frazil.lazy.planned import carrier_of
from frazil_functions.locations import locate
from frazil_functions.runs.start import directory_of
from frazil_functions.runs.start import start as start_run
from frazil_functions.writing.task import write_task

from .hourly import read, series, state


def written(folder: Path, *spans: tuple[int, int]) -> list[str]:
    folder.mkdir(exist_ok=True)
    paths = []
    for start, stop in spans:
        path = folder / f"{start:04d}-{stop:04d}.nc"
        series(start, stop).to_netcdf(path)
        paths.append(str(path))
    return paths


@pytest.mark.parametrize("first", [4, 8, 10, 11])
@pytest.mark.parametrize("chunks", [{"time": 4}, {"time": 100}, {"time": 1}])
def test_an_append_reads_back_as_if_all_had_been_written_at_once(
    tmp_path: Path, target: Path, serial: frazil.SerialExecutor, first: int, chunks: dict[str, int]
) -> None:
    chunks = {"time": min(chunks["time"], first)}
    frazil.convert(written(tmp_path / "in", (0, first)), target, chunks=chunks, executor=serial)
    later = written(tmp_path / "in", (first, 20), (20, 24))
    result = frazil.convert(later, target, mode="append", executor=serial, verify="full")
    xr.testing.assert_identical(read(target), xr.decode_cf(series(0, 24)))
    assert state(target) == (result.snapshot_id, ["main"])
    repo = frazil.open_repository(target)
    assert len(list(repo.ancestry(branch="main"))) == 3, "one commit more"


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_sequence_of_appends_equals_one_write(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    tmp_path = tmp_path_factory.mktemp("appends")
    edges = [0, *sorted(data.draw(st.sets(st.integers(1, 23), min_size=1, max_size=4))), 24]
    chunk = data.draw(st.integers(1, edges[1]))
    shard = chunk * data.draw(st.integers(1, 3)) if data.draw(st.booleans()) else None
    target = tmp_path / "a.icechunk"
    with frazil.SerialExecutor() as executor:
        for at, span in enumerate(pairwise(edges)):
            files = written(tmp_path / "in", span)
            if at:
                frazil.convert(files, target, mode="append", executor=executor, workers=3)
            else:
                shards = {"time": shard} if shard else None
                frazil.convert(files, target, chunks={"time": chunk}, shards=shards, executor=executor)
    xr.testing.assert_identical(read(target), xr.decode_cf(series(0, 24)))


def test_a_unit_that_was_half_full_belongs_to_one_region(
    tmp_path: Path, target: Path, serial: frazil.SerialExecutor
) -> None:
    frazil.convert(written(tmp_path / "in", (0, 10)), target, chunks={"time": 4}, executor=serial)
    plan = frazil.plan(written(tmp_path / "in", (10, 24)), target, mode="append", executor=serial)
    assert plan.template.extent("time")[0] == 10
    spans = sorted(region.span("time") or (0, 0) for region in plan.regions)
    assert (spans[0][0], spans[-1][1]) == (8, 24)
    assert plan.nbytes == 16 * 4 * 5 * 4
    assert frazil.Plan.from_json(plan.to_json()) == plan
    assert "time 10:24" in repr(plan)


def test_what_is_not_along_the_append_dimension_stays_as_it_is(
    tmp_path: Path, target: Path, serial: frazil.SerialExecutor
) -> None:
    frazil.convert(written(tmp_path / "in", (0, 8)), target, chunks={"time": 4}, executor=serial)
    repo = frazil.open_repository(target)
    before = repo.lookup_branch("main")
    frazil.convert(written(tmp_path / "in", (8, 12)), target, mode="append", executor=serial)
    diff = repo.diff(from_snapshot_id=before, to_snapshot_id=repo.lookup_branch("main"))
    assert set(diff.updated_chunks) == {"/tas", "/time"}
    assert (diff.new_arrays, diff.new_groups, diff.deleted_arrays, diff.updated_groups) == (set(), set(), set(), set())
    assert {tuple(index) for index in diff.updated_chunks["/tas"]} == {(2, 0, 0)}


def test_what_is_there_already_is_skipped_if_that_is_wished(
    tmp_path: Path, target: Path, serial: frazil.SerialExecutor
) -> None:
    folder = tmp_path / "in"
    frazil.convert(written(folder, (0, 10)), target, chunks={"time": 4}, executor=serial)
    written(folder, (10, 20))
    with pytest.raises(frazil.LabelError, match=r"overlap: .*--on-overlap skip"):
        frazil.convert(f"{folder}/*.nc", target, mode="append", executor=serial)
    frazil.convert(f"{folder}/*.nc", target, mode="append", on_overlap="skip", executor=serial)
    before = state(target)
    result = frazil.convert(f"{folder}/*.nc", target, mode="append", on_overlap="skip", executor=serial)
    assert (result.regions, result.snapshot_id) == (0, before[0])
    assert state(target) == before, "nothing is new, so nothing is committed"
    written(folder, (20, 24))
    frazil.convert(f"{folder}/*.nc", target, mode="append", on_overlap="skip", executor=serial)
    xr.testing.assert_identical(read(target), xr.decode_cf(series(0, 24)))


@pytest.mark.parametrize(
    ("change", "spans", "words"),
    [
        ({}, (4, 12), "overlap"),
        ({}, (12, 16), "leaves 1 gap"),
        ({"on_overlap": "skip"}, (4, 12), "overlap"),
        ({"chunks": {"time": 2}}, (8, 12), "keeps the chunks"),
        ({"group": "other"}, (8, 12), "does not exist"),
        ({"group": "tas"}, (8, 12), "is an array"),
        ({"mode": "apend"}, (8, 12), "did you mean 'append'"),
        ({"on_overlap": "skipp"}, (8, 12), "did you mean 'skip'"),
    ],
)
def test_what_cannot_be_appended_is_refused_and_changes_nothing(
    tmp_path: Path,
    target: Path,
    serial: frazil.SerialExecutor,
    change: dict[str, object],
    spans: tuple[int, int],
    words: str,
) -> None:
    frazil.convert(written(tmp_path / "in", (0, 8)), target, chunks={"time": 4}, executor=serial)
    before = state(target)
    files = written(tmp_path / "in", spans)
    with pytest.raises(frazil.InvalidInputError, match=words):
        frazil.convert(files, target, **{"mode": "append", "executor": serial, **change})  # type: ignore[arg-type]
    assert state(target) == before
    assert len(frazil.runs(target)) == 1


def test_files_in_front_of_what_is_there_are_refused(
    tmp_path: Path, target: Path, serial: frazil.SerialExecutor
) -> None:
    frazil.convert(written(tmp_path / "in", (8, 16)), target, chunks={"time": 4}, executor=serial)
    with pytest.raises(frazil.LabelError, match="an append only adds behind it"):
        frazil.convert(written(tmp_path / "in", (0, 8)), target, mode="append", executor=serial)


def altered(path: Path, what: str) -> str:
    dataset = series(8, 12)
    match what:
        case "lacks":
            dataset = dataset.drop_vars("tas").assign(pr=dataset["tas"])
        case "more":
            dataset = dataset.assign(pr=dataset["tas"])
        case "grid":
            dataset = dataset.assign_coords(lat=dataset["lat"] + 1)
        case "flipped":
            dataset = dataset.isel(lat=slice(None, None, -1))
        case "units":
            dataset["tas"].attrs["units"] = "degC"
        case "dtype":
            dataset["tas"] = dataset["tas"].astype("f8")
        case "packed":
            dataset["tas"].attrs |= {"scale_factor": 0.5}
    dataset.to_netcdf(path)
    return str(path)


@pytest.mark.parametrize("what", ["lacks", "more", "grid", "flipped", "units", "dtype", "packed"])
def test_files_that_do_not_go_with_what_is_there_are_refused(
    tmp_path: Path, target: Path, serial: frazil.SerialExecutor, what: str
) -> None:
    frazil.convert(written(tmp_path / "in", (0, 8)), target, chunks={"time": 4}, executor=serial)
    before = state(target)
    with pytest.raises(frazil.InvalidInputError):
        frazil.convert(altered(tmp_path / "b.nc", what), target, mode="append", executor=serial)
    assert state(target) == before


def test_an_append_that_lost_its_place_says_plan_again(
    tmp_path: Path, target: Path, serial: frazil.SerialExecutor
) -> None:
    frazil.convert(written(tmp_path / "in", (0, 8)), target, chunks={"time": 4}, executor=serial)
    files = written(tmp_path / "in", (8, 12))
    plan = frazil.plan(files, target, mode="append", executor=serial)
    first = frazil.run(plan, executor=serial)
    with pytest.raises(frazil.ConflictError, match=r"both write.*'/tas'.*plan again"):
        frazil.run(plan, executor=serial)
    assert state(target) == (first.snapshot_id, ["main"])
    xr.testing.assert_identical(read(target), xr.decode_cf(series(0, 12)))


def test_an_append_and_a_commit_elsewhere_both_survive(
    tmp_path: Path, target: Path, serial: frazil.SerialExecutor
) -> None:
    frazil.convert(written(tmp_path / "in", (0, 10)), target, chunks={"time": 4}, group="g", executor=serial)
    plan = frazil.plan(written(tmp_path / "in", (10, 24)), target, mode="append", group="g", executor=serial)

    def meddle(progress: frazil.Progress) -> None:
        if progress.stage == "verify" and "other" not in groups(target):
            repo = frazil.open_repository(target)
            session = repo.writable_session("main")
            zarr.open_group(session.store, path="other", mode="a")
            session.commit("somebody else")

    frazil.run(plan, executor=serial, listener=meddle, verify="full")
    assert "other" in groups(target)
    xr.testing.assert_identical(read(target, group="g"), xr.decode_cf(series(0, 24)))


def groups(target: Path) -> set[str]:
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(target)))
    return set(zarr.open_group(repo.readonly_session("main").store, mode="r").group_keys())


def test_a_variable_that_somebody_added_meanwhile_is_a_conflict(
    tmp_path: Path, target: Path, serial: frazil.SerialExecutor
) -> None:
    frazil.convert(written(tmp_path / "in", (0, 8)), target, chunks={"time": 4}, executor=serial)
    plan = frazil.plan(written(tmp_path / "in", (8, 12)), target, mode="append", executor=serial)
    session = frazil.open_repository(target).writable_session("main")
    root = zarr.open_group(session.store, mode="a")
    root.create_array("pr", shape=(8, 4, 5), chunks=(8, 4, 5), dtype="f4", dimension_names=("time", "lat", "lon"))
    session.commit("a new variable")
    with pytest.raises(frazil.ConflictError, match="the new array '/pr'"):
        frazil.run(plan, executor=serial)


def test_values_of_a_half_full_unit_are_kept_to_the_bit(
    tmp_path: Path, target: Path, serial: frazil.SerialExecutor
) -> None:
    first, second = series(0, 3), series(3, 5)
    first["tas"][1, 2, 3] = np.nan
    paths = [tmp_path / "a.nc", tmp_path / "b.nc"]
    for dataset, path in zip((first, second), paths, strict=True):
        dataset.to_netcdf(path)
    frazil.convert(paths[0], target, chunks={"time": 3}, executor=serial)
    frazil.convert(paths[1], target, mode="append", executor=serial)
    frazil.convert(written(tmp_path / "in", (5, 7)), target, mode="append", executor=serial)
    expected = xr.concat([first, second, series(5, 7)], "time")
    np.testing.assert_array_equal(read(target)["tas"], expected["tas"])


def test_the_command_line_appends(
    tmp_path: Path, target: Path, serial: frazil.SerialExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    from frazil.cli import main  # noqa: PLC0415 - it sets signal handlers

    frazil.convert(written(tmp_path / "in", (0, 8)), target, chunks={"time": 4}, executor=serial)
    (path,) = written(tmp_path / "in", (8, 12))
    options = ["--mode", "append", "--on-overlap", "skip", "--backend", "serial", "--json"]
    assert main(["convert", path, str(target), *options]) == 0
    assert json.loads(capsys.readouterr().out)["regions"] == 1
    assert main(["convert", path, str(target), *options]) == 0
    assert json.loads(capsys.readouterr().out)["regions"] == 0


def on_a_grid(start: int, stop: int, shift: float = 0.0) -> xr.Dataset:
    """Hourly values on a grid whose places are variables of two dimensions."""
    lat2, lon2 = np.meshgrid(np.arange(4.0) + shift, np.arange(5.0), indexing="ij")
    dataset = series(start, stop).drop_vars(("lat", "lon")).rename(lat="y", lon="x")
    return dataset.assign_coords(lat2=(("y", "x"), lat2), lon2=(("y", "x"), lon2))


def test_coordinates_of_any_shape_are_compared_with_the_groups(
    tmp_path: Path, target: Path, serial: frazil.SerialExecutor
) -> None:
    for name, dataset in {"a": on_a_grid(0, 8), "b": on_a_grid(8, 12), "c": on_a_grid(12, 16, shift=100.0)}.items():
        dataset.to_netcdf(tmp_path / f"{name}.nc")
    frazil.convert(tmp_path / "a.nc", target, chunks={"time": 4}, executor=serial)
    frazil.convert(tmp_path / "b.nc", target, mode="append", executor=serial)
    before = state(target)
    with pytest.raises(frazil.InvalidInputError, match="'lat2' has other values"):
        frazil.convert(tmp_path / "c.nc", target, mode="append", executor=serial)
    assert state(target) == before


def test_labels_alone_can_be_appended(tmp_path: Path, target: Path, serial: frazil.SerialExecutor) -> None:
    for at, (start, stop) in enumerate(((0, 5), (5, 8))):
        xr.Dataset(coords={"time": ("time", np.arange(start, stop))}).to_netcdf(tmp_path / f"{at}.nc")
    frazil.convert(tmp_path / "0.nc", target, executor=serial)
    frazil.convert(tmp_path / "1.nc", target, mode="append", executor=serial)
    np.testing.assert_array_equal(read(target)["time"], np.arange(8))


@pytest.mark.parametrize(
    ("values", "kind"),
    [(np.array(["aa", "bb"]), "<U2"), (np.array([0, 1], "M8[s]"), r"datetime64\[s\]")],
)
@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
def test_a_group_whose_types_would_cut_or_shift_values_is_refused(
    tmp_path: Path, target: Path, serial: frazil.SerialExecutor, values: np.ndarray, kind: str
) -> None:
    repo = frazil.open_repository(target)
    session = repo.writable_session("main")
    root = zarr.open_group(session.store, mode="a")
    made = root.create_array("name", shape=(2,), chunks=(2,), dtype=values.dtype, dimension_names=("name",))
    made[...] = values
    session.commit("somebody's")
    xr.Dataset(coords={"name": ("name", ["ccccc", "ddddd"])}).to_netcdf(tmp_path / "a.nc")
    with pytest.raises(frazil.InvalidInputError, match=f"is stored as {kind}, which would cut or shift"):
        frazil.convert(tmp_path / "a.nc", target, mode="append", append_dim="name", executor=serial)


def test_what_repositories_hold_in_a_half_full_unit_must_be_the_same(
    tmp_path: Path, target: Path, serial: frazil.SerialExecutor
) -> None:
    replica = tmp_path / "replica.icechunk"
    files = written(tmp_path / "in", (0, 5))
    frazil.convert(files, target, chunks={"time": 4}, replicas=[replica], executor=serial)
    session = frazil.open_repository(replica).writable_session("main")
    array = zarr.open_group(session.store, mode="r+")["tas"]
    assert isinstance(array, zarr.Array)
    array[4:5] = 7
    session.commit("a correction")
    before = state(target), state(replica)
    later = written(tmp_path / "in", (5, 8))
    with pytest.raises(
        frazil.IncompleteRunError,
        match=r"hold different values of tas\[time 4:5, .*in a write unit that the run completes",
    ):
        frazil.convert(later, target, mode="append", replicas=[replica], executor=serial)
    assert (state(target)[0], state(replica)[0]) == (before[0][0], before[1][0])


def test_a_replica_with_other_values_beside_the_append_dimension_is_refused(
    tmp_path: Path, target: Path, serial: frazil.SerialExecutor
) -> None:
    replica = tmp_path / "replica.icechunk"
    for folder, span in (("first", (0, 4)), ("later", (4, 8))):
        (tmp_path / folder).mkdir()
        area = xr.DataArray(np.ones((4, 5)), dims=("lat", "lon"))
        series(*span).assign(area=area).to_netcdf(tmp_path / folder / "a.nc")
    frazil.convert(tmp_path / "first" / "a.nc", target, append_dim="time", replicas=[replica], executor=serial)
    session = frazil.open_repository(replica).writable_session("main")
    array = zarr.open_group(session.store, mode="r+")["area"]
    assert isinstance(array, zarr.Array)
    array[0] = 7
    session.commit("a correction")
    before = state(target), state(replica)
    with pytest.raises(frazil.InvalidInputError, match=r"the replica .* holds something else than .* \('area'\)"):
        frazil.plan(tmp_path / "later" / "a.nc", target, mode="append", replicas=[replica], executor=serial)
    assert (state(target), state(replica)) == before


def test_functions_that_append_read_nothing_of_the_labels(
    tmp_path: Path, target: Path, serial: frazil.SerialExecutor
) -> None:
    """The chunks of every label are hidden while the functions run."""
    hours = 100_000
    many = xr.Dataset(
        {"tas": ("time", np.zeros(hours, "f4"))}, {"time": np.random.default_rng(0).random(hours).cumsum()}
    )
    frazil.convert(many, target, chunks={"time": 7_000}, executor=serial)
    labels = [path for path in (target / "chunks").iterdir() if path.stat().st_size > 100_000]
    assert labels
    plan = frazil.plan(
        many.isel(time=[-1]).assign_coords(time=[1e9]), target, mode="append", gaps="keep", executor=serial
    )
    run = start_run(
        plan,
        directory_of(locate(target), "r"),
        carrier=carrier_of(plan, many.isel(time=[-1]).assign_coords(time=[1e9])),
    )
    task = run.task(0)
    assert task is not None
    assert len(pickle.dumps(task)) < 20_000
    for path in labels:
        path.rename(path.with_suffix(".hidden"))
    write_task(task)
    for path in labels:
        path.with_suffix(".hidden").rename(path)
    frazil.resume(target, "r", executor=serial)
    assert read(target).sizes["time"] == hours + 1


@pytest.mark.parametrize("mode", ["append", "region"])
@pytest.mark.parametrize("held", ["i4", "i8", "f8", "f4"])
@pytest.mark.parametrize("given", ["i2", "i4", "i8", "f8", "f4"])
def test_labels_of_another_type_are_the_same_labels(
    tmp_path: Path, target: Path, serial: frazil.SerialExecutor, held: str, given: str, mode: Any
) -> None:
    def typed(start: int, stop: int, dtype: str) -> str:
        found = series(start, stop)
        path = tmp_path / f"{start}.nc"
        found.assign_coords(time=found["time"].astype(dtype)).to_netcdf(path, encoding={"time": {"_FillValue": None}})
        return str(path)

    first, later = (0, 8) if mode == "append" else (0, 12), (8, 12)
    frazil.convert(typed(*first, held), target, chunks={"time": 4}, executor=serial)
    frazil.convert(typed(*later, given), target, mode=mode, executor=serial, verify="full")
    found = read(target)
    xr.testing.assert_equal(found, xr.decode_cf(series(0, 12)))
    assert found["time"].encoding["dtype"] == np.dtype(held)
    if mode == "append":
        again = frazil.plan(typed(*later, given), target, mode="append", on_overlap="skip", executor=serial)
        assert again.region_count == 0


def test_labels_that_the_type_of_the_group_cannot_hold_are_refused(
    tmp_path: Path, target: Path, serial: frazil.SerialExecutor
) -> None:
    frazil.convert(written(tmp_path / "in", (0, 8)), target, executor=serial)
    found = series(8, 12)
    found.assign_coords(time=("time", found["time"].values + 0.5, found["time"].attrs)).to_netcdf(tmp_path / "a.nc")
    with pytest.raises(frazil.InvalidInputError, match="'time' has times that <i4 cannot hold"):
        frazil.convert(tmp_path / "a.nc", target, mode="append", gaps="keep", executor=serial)


def test_nothing_is_skipped_that_only_looks_like_what_is_there(
    tmp_path: Path, target: Path, serial: frazil.SerialExecutor
) -> None:
    frazil.convert(written(tmp_path / "in", (0, 8)), target, chunks={"time": 4}, executor=serial)
    other = series(0, 8)
    other["time"].attrs["calendar"] = "noleap"
    other.to_netcdf(tmp_path / "noleap.nc")
    with pytest.raises(frazil.LabelError, match="calendar"):
        frazil.convert(tmp_path / "noleap.nc", target, mode="append", on_overlap="skip", executor=serial)
    bare = tmp_path / "bare.nc"
    series(0, 4).drop_vars("time").to_netcdf(bare)
    elsewhere = tmp_path / "bare.icechunk"
    options = {"append_dim": "time", "accept": ["order"], "executor": serial}
    frazil.convert(bare, elsewhere, **options)  # type: ignore[arg-type]
    with pytest.raises(frazil.LabelError, match="nothing says which files are there"):
        frazil.convert(bare, elsewhere, mode="append", on_overlap="skip", **options)  # type: ignore[arg-type]


def test_one_file_that_is_there_to_the_last_label_is_skipped(
    tmp_path: Path, target: Path, serial: frazil.SerialExecutor
) -> None:
    files = written(tmp_path / "in", (0, 8))
    first = frazil.convert(files, target, chunks={"time": 4}, executor=serial)
    again = frazil.convert(files, target, mode="append", on_overlap="skip", executor=serial)
    assert (again.regions, again.snapshot_id) == (0, first.snapshot_id)


def test_nothing_new_behind_a_half_full_unit_commits_nothing(
    tmp_path: Path, target: Path, serial: frazil.SerialExecutor
) -> None:
    files = written(tmp_path / "in", (0, 5), (5, 10))
    first = frazil.convert(files, target, chunks={"time": 4}, executor=serial)
    again = frazil.convert(files, target, mode="append", on_overlap="skip", executor=serial)
    assert (again.regions, again.snapshot_id) == (0, first.snapshot_id)
