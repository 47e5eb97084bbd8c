"""What would lose values, labels or a group that exists: each is refused, or done right."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

import frazil

from .hourly import series
from .test_modes import WHOLE, Archive, negative
from .test_resume import stop_at

LEVELS = xr.Dataset({"q": ("plev", np.arange(4.0))}, {"plev": ("plev", [1000.0, 850.0, 700.0, 500.0])})


def archive_of(dataset: xr.Dataset, folder: Path, **options: Any) -> Archive:
    found = Archive.__new__(Archive)
    found.folder, found.target = folder / "in", folder / "archive.icechunk"
    found.put(dataset, **options)
    return found


def by_xarray(dataset: xr.Dataset, folder: Path, **options: Any) -> Archive:
    """A group that plain Xarray wrote."""
    found = Archive.__new__(Archive)
    found.folder, found.target = folder / "in", folder / "archive.icechunk"
    session = frazil.open_repository(found.target).writable_session("main")
    dataset.to_zarr(session.store, zarr_format=3, **{"consolidated": False} | options)
    session.commit("of somebody else")
    return found


@pytest.fixture
def archive(tmp_path: Path, target: Path) -> Archive:
    return Archive(tmp_path / "in", target)


def stations(names: list[str], notes: list[str]) -> xr.Dataset:
    return xr.Dataset(
        {"v": ("station", np.arange(float(len(names)))), "note": ("station", np.array(notes, object))},
        {"station": np.array(names, object)},
    )


# ---- strings


def test_strings_that_stand_beside_shorter_ones_in_a_chunk_are_kept_whole(tmp_path: Path) -> None:
    archive = archive_of(stations(["a", "b", "c"], ["x", "yy", "the longest"]), tmp_path)
    archive.put(stations(["d"], ["s"]), mode="append")
    archive.put(stations(["a"], ["t"]), mode="region")
    assert archive.read()["note"].values.tolist() == ["t", "yy", "the longest", "s"]


def test_strings_are_put_under_their_labels_whole(tmp_path: Path) -> None:
    names, notes = ["a", "b", "c"], ["x", "yy", "the longest"]
    archive = archive_of(stations(names, [""] * 3), tmp_path)
    archive.refuse("'station' has its labels in another order", stations(["b", "a", "c"], notes), mode="modify")
    archive.put(stations(names, notes).isel(station=[1, 2, 0]), mode="modify", reorder=True)
    assert archive.read()["note"].values.tolist() == notes


@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
def test_strings_of_fixed_length_may_stay_and_may_not_be_written(tmp_path: Path) -> None:
    held = xr.Dataset({"v": ("station", np.arange(2.0))}, {"station": np.array(["aa", "bb"], "U2")})
    archive = by_xarray(held, tmp_path)
    archive.put(-held, mode="region")
    assert archive.read()["v"].values.tolist() == [0.0, -1.0]
    later = held.assign_coords(station=np.array(["ccc", "ddd"], object))
    archive.refuse("'station' is stored as <U2, which would cut or shift", later, mode="append")


# ---- replacing


@pytest.mark.parametrize(
    "hours", [[5, 5.5, 6, 6.5], [20, 20.5, 21, 21.5], [20, 20.5, 21, 21.5, 22, 22.5]], ids=["middle", "end", "beyond"]
)
def test_replacing_puts_no_label_in_place_of_another(tmp_path: Path, hours: list[float]) -> None:
    whole = series(0, 24)
    archive = archive_of(whole.assign_coords(time=whole["time"].astype("f8")), tmp_path)
    other = negative(0, len(hours)).assign_coords(time=("time", np.array(hours), whole["time"].attrs))
    archive.refuse("in place of .* under their own labels alone", other, mode="append", on_overlap="replace")


def test_replacing_empties_no_place_that_holds_values(archive: Archive) -> None:
    parts = negative(5, 7), negative(8, 10)
    archive.refuse("leave out time 2000-01-01 07", *parts, mode="append", on_overlap="replace", gaps="fill")


def test_levels_that_fall_are_replaced_where_they_are(tmp_path: Path) -> None:
    archive = archive_of(LEVELS, tmp_path)
    new = xr.Dataset({"q": ("plev", [10.0, 11.0])}, {"plev": ("plev", [500.0, 400.0])})
    archive.put(new, mode="append", on_overlap="replace")
    assert archive.read()["plev"].values.tolist() == [1000, 850, 700, 500, 400]
    assert archive.read()["q"].values.tolist() == [0, 1, 2, 10, 11]


# ---- order


@pytest.mark.parametrize("mode", ["region", "modify"])
@pytest.mark.parametrize("order", [[3, 2, 1, 0], [2, 0, 3, 1]], ids=["flipped", "mixed"])
def test_the_dimension_that_files_follow_each_other_on_is_reordered_too(
    tmp_path: Path, mode: str, order: list[int]
) -> None:
    archive = archive_of(LEVELS, tmp_path, chunks={"plev": 3})
    archive.refuse("'plev' .*--reorder", (-LEVELS).isel(plev=order), mode=mode)
    archive.put((-LEVELS).isel(plev=order), mode=mode, reorder=True)
    xr.testing.assert_equal(archive.read(), -LEVELS)


def test_files_that_run_the_other_way_are_reordered_together(archive: Archive) -> None:
    parts = [negative(3, 9), negative(9, 12)]
    archive.put(*(part.isel(time=slice(None, None, -1)) for part in parts), mode="region", reorder=True)
    expected = WHOLE.copy(deep=True)
    expected["tas"][3:12] *= -1
    xr.testing.assert_identical(archive.read().drop_attrs(deep=False), expected)


@pytest.mark.parametrize("mode", ["region", "modify", "add", "append"])
def test_values_without_labels_are_not_taken_for_those_of_the_group_by_their_order(archive: Archive, mode: str) -> None:
    new = series(24, 27) if mode == "append" else negative(0, 24).rename({"tas": "pr"} if mode == "add" else {})
    if mode == "append":
        archive.put(series(0, 24).assign_attrs(title="of old"), mode="overwrite")
    bare = new.drop_vars("lat")
    archive.refuse("'lat' has no coordinate in .* --accept order", bare, mode=mode)
    archive.put(bare, mode=mode, accept="order")
    name = "pr" if mode == "add" else "tas"
    np.testing.assert_array_equal(archive.read()[name][-3:], new[name][-3:])
    np.testing.assert_array_equal(archive.read()["lat"], WHOLE["lat"])


def test_a_group_that_has_a_label_twice_does_not_say_where_values_belong(tmp_path: Path) -> None:
    twice = series(0, 4).assign_coords(time=("time", np.array([0, 1, 1, 2], "i4"), series(0, 4)["time"].attrs))
    archive = by_xarray(twice, tmp_path)
    archive.refuse("has the label 2000-01-01 01:00:00 twice", negative(1, 2), mode="region", on_attrs="keep")
    archive.put(negative(0, 1), mode="region", on_attrs="keep")


def test_bounds_that_count_the_globe_otherwise_are_not_put_beside_labels(tmp_path: Path) -> None:
    def globe(west: float, count: int) -> xr.Dataset:
        lon = west + 60 * np.arange(count)
        return xr.Dataset(
            {"t": (("time", "lon"), np.ones((1, count))), "edges": (("lon", "nv"), np.stack([lon - 30, lon + 30], 1))},
            {
                "time": ("time", [0], {"units": "days since 2000-01-01"}),
                "lon": ("lon", lon, {"units": "degrees_east", "bounds": "edges"}),
            },
        )

    archive = archive_of(globe(-180.0, 6), tmp_path)
    archive.refuse("'edges' counts the globe from another meridian", globe(180.0, 2), mode="region", reorder=True)
    archive.put(globe(180.0, 2).drop_vars("edges") * 5, mode="region", reorder=True, on_attrs="keep")
    assert archive.read()["t"].values.tolist() == [[5, 5, 1, 1, 1, 1]]


@pytest.mark.parametrize("timed", [True, False])
def test_two_dimensional_coordinates_say_whether_a_region_is_the_right_one(tmp_path: Path, timed: bool) -> None:
    grid = xr.Dataset(
        {"t": (("y", "x"), np.arange(12.0).reshape(3, 4))}, {"lat": (("y", "x"), np.arange(12.0).reshape(3, 4))}
    )
    if timed:
        grid["t"] = grid["t"].expand_dims(time=[0])
    archive = archive_of(grid, tmp_path, chunks={"y": 2, "x": 3})
    part = grid.isel(y=slice(1, 3), x=slice(2, 4)).assign(t=lambda one: -one["t"])
    archive.refuse("the coordinate 'lat' has other values", part, mode="region", region={"y": (0, 2), "x": (0, 2)})
    archive.put(part, mode="region", region={"y": (1, 3), "x": (2, 4)})
    expected = grid.copy(deep=True)
    expected["t"][{"y": slice(1, 3), "x": slice(2, 4)}] *= -1
    xr.testing.assert_equal(archive.read(), expected)


def test_files_of_a_region_must_agree_in_what_all_of_them_hold(archive: Archive) -> None:
    area = xr.DataArray(np.ones(4), dims="lat")
    archive.put(series(0, 24).assign(area=area), mode="add")
    parts = [negative(0, 9).assign(area=area), negative(9, 12).assign(area=area + 1)]
    cut = [part.isel(lat=slice(0, 2)) for part in parts]
    archive.refuse("'area' has other values", *cut, mode="region")


# ---- variables and groups


def test_an_append_need_not_bring_what_does_not_grow(archive: Archive) -> None:
    archive.put(series(0, 24).assign(area=("lat", np.ones(4))), mode="add")
    archive.put(series(24, 30), mode="append")
    assert dict(archive.read().sizes) == {"time": 30, "lat": 4, "lon": 5}
    assert (archive.read()["area"] == 1).all()
    new = series(30, 33).assign(other=("lat", np.ones(4)))
    archive.refuse("has 'other' besides, .* --mode add", new, mode="append")


def test_a_group_without_labels_yet_is_appended_to(tmp_path: Path) -> None:
    archive = by_xarray(series(0, 0), tmp_path)
    archive.refuse("there no labels. .* frazil append", series(0, 5).rename(tas="pr"), mode="add")
    archive.put(series(3, 5), series(0, 3), mode="append")
    xr.testing.assert_equal(archive.read(), xr.decode_cf(series(0, 5)))


@pytest.mark.parametrize("mode", ["add", "modify"])
@pytest.mark.parametrize("group", ["", "a"])
def test_a_group_that_holds_groups_alone_is_written_into(tmp_path: Path, mode: str, group: str) -> None:
    archive = archive_of(series(0, 3), tmp_path, group="a/b")
    with pytest.raises(frazil.InvalidInputError, match=r"holds no arrays\. .* write into it .--mode add"):
        archive.put(series(0, 3), group=group)
    archive.refuse("holds no arrays, .* use --mode add", series(0, 3), mode="append", group=group)
    archive.put(series(0, 4), mode=mode, group=group)
    np.testing.assert_array_equal(archive.read(group=group or None)["tas"], series(0, 4)["tas"])
    np.testing.assert_array_equal(archive.read(group="a/b")["tas"], series(0, 3)["tas"])


def test_a_variable_is_not_named_as_a_group_is(archive: Archive) -> None:
    archive.put(series(0, 3), group="below")
    archive.refuse("has a group named 'below'", series(0, 24).rename(tas="below"), mode="add")


def test_a_group_that_xarray_cannot_open_is_refused_with_the_reason(archive: Archive) -> None:
    session = frazil.open_repository(archive.target).writable_session("main")
    zarr.open_group(session.store).create_array("raw", shape=(3,), dtype="i4")
    session.commit("of somebody else")
    archive.refuse("'raw' does not name its dimensions", series(24, 30), mode="append")


def test_modify_sets_attributes_of_labels_and_needs_something_to_replace(archive: Archive) -> None:
    new = series(0, 24)
    new["lat"].attrs["standard_name"] = "latitude"
    archive.put(new, mode="modify")
    assert archive.read()["lat"].attrs == {"standard_name": "latitude"}
    archive.refuse("has labels alone .*--mode overwrite", new.drop_vars("tas"), mode="modify")


@pytest.mark.parametrize("mode", ["add", "modify"])
def test_new_coordinates_and_bounds_are_known_as_such(archive: Archive, mode: str) -> None:
    new = series(0, 24)
    new = new.assign(area=(("lat", "lon"), np.ones((4, 5)))).set_coords("area")
    hours = new["time"].values
    new["time"].attrs["bounds"] = "edges"
    new["edges"] = (("time", "nv"), np.stack([hours, hours + 1], 1))
    archive.put(new, mode=mode)
    found = archive.read()
    assert "area" in found.coords
    np.testing.assert_array_equal(found["edges"], xr.decode_cf(new)["edges"])
    assert found["edges"].dtype.kind == "M"


# ---- options


@pytest.mark.parametrize("span", [(0, 1, 2), 5, None, "3:9", (3.0, 9.0), (True, 9), slice(None)])
def test_what_is_no_range_is_refused(archive: Archive, span: Any) -> None:
    archive.refuse(
        r"the region of 'time' is .* use slice\(START, STOP\)", negative(3, 9), mode="region", region={"time": span}
    )


@pytest.mark.parametrize("span", [[3, 9], slice(np.int64(3), np.int64(9))])
def test_a_range_may_be_written_as_a_list_or_with_numbers_of_numpy(archive: Archive, span: Any) -> None:
    archive.put(negative(3, 9), mode="region", region={"time": span})
    assert (archive.read()["tas"].values[3:9] < 0).all()


# ---- two runs at once


def both(archive: Archive, one: tuple[xr.Dataset, dict[str, Any]], other: tuple[xr.Dataset, dict[str, Any]]) -> None:
    plans = []
    for number, (dataset, options) in enumerate((one, other)):
        beside = Archive.__new__(Archive)
        beside.folder, beside.target = archive.folder / str(number), archive.target
        beside.folder.mkdir()
        plans.append(frazil.plan(beside.files(dataset), archive.target, executor=frazil.SerialExecutor(), **options))
    for plan in plans:
        frazil.run(plan, executor=frazil.SerialExecutor())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            (xr.Dataset({"a": ("x", [0.0] * 3)}), {"mode": "add"}),
            (xr.Dataset({"b": ("x", [0.0] * 4)}), {"mode": "add"}),
        ),
        (
            (series(24, 30), {"mode": "append"}),
            (series(0, 24).rename(tas="pr").drop_vars(["time", "lat", "lon"]), {"mode": "add", "accept": "order"}),
        ),
    ],
    ids=["two dimensions of one name", "a dimension that grew"],
)
def test_what_nobody_could_open_together_conflicts(archive: Archive, one: Any, other: Any) -> None:
    with pytest.raises(frazil.ConflictError, match=r"the dimension .* which has the length"):
        both(archive, one, other)
    assert "a" in archive.read() or archive.read().sizes["time"] == 30


def test_variables_that_are_added_at_once_survive_each_other(archive: Archive) -> None:
    pr = series(0, 24).rename(tas="pr")
    both(archive, (pr, {"mode": "add"}), (pr.rename(pr="ps"), {"mode": "add"}))
    assert set(archive.read()) == {"tas", "pr", "ps"}


# ---- units, calendars, drift


@pytest.mark.parametrize("mode", ["append", "region"])
def test_bounds_are_counted_as_the_group_counts_them(tmp_path: Path, mode: str) -> None:
    def bounded(start: int, stop: int, shift: int) -> xr.Dataset:
        found = negative(start, stop).drop_attrs(deep=False)
        hours = found["time"].values + shift
        units = {
            "units": f"hours since {'1999-12-31' if shift else '2000-01-01'}",
            "calendar": "standard",
            "bounds": "edges",
        }
        found = found.assign_coords(time=("time", hours.astype("i4"), units))
        return found.assign(edges=(("time", "nv"), np.stack([hours, hours + 1], 1).astype("f8")))

    archive = archive_of(bounded(0, 24, 0), tmp_path, chunks={"time": 10})
    span = (24, 30) if mode == "append" else (3, 9)
    archive.refuse("--accept units", bounded(*span, 24), mode=mode)
    archive.put(bounded(*span, 24), mode=mode, accept="units")
    found = archive.read()
    np.testing.assert_array_equal(found["edges"][:, 0], found["time"])


def test_a_single_label_does_not_drift_by_a_thousandth_of_itself(tmp_path: Path) -> None:
    def at(hour: float) -> xr.Dataset:
        return xr.Dataset({"a": ("t", [hour])}, {"t": ("t", [hour], {"units": "hours since 1900-01-01"})})

    archive = archive_of(at(700000.0), tmp_path)
    archive.refuse("has the label", at(700500.0), mode="region", accept="drift")


def test_a_form_that_differs_is_refused_with_a_cure(archive: Archive) -> None:
    archive.refuse("transpose, expand_dims", negative(3, 5).transpose("lat", "time", "lon"), mode="region")
    archive.refuse("transpose, expand_dims", negative(3, 5).isel(time=0), mode="region")
    later = series(24, 27)
    later["time"].attrs["calendar"] = "noleap"
    archive.refuse("convert_calendar", later, mode="append")


# ---- runs that end early


@pytest.mark.parametrize("stage", ["write", "publish"])
@pytest.mark.parametrize("mode", ["create", "overwrite", "append", "region", "modify", "add"])
def test_a_run_of_any_mode_that_was_interrupted_goes_on(
    archive: Archive, mode: str, stage: str, tmp_path: Path
) -> None:
    new = {"append": series(24, 37), "region": negative(3, 19), "add": series(0, 24).rename(tas="pr")}.get(
        mode, negative(0, 24)
    )
    group = "new" if mode == "create" else ""
    plan = frazil.plan(
        archive.files(new),
        archive.target,
        mode=mode,
        group=group,
        executor=frazil.SerialExecutor(),
        workers=3,  # type: ignore[arg-type]
    )
    place = tmp_path / "runs" / "one"
    before = archive.read()
    with pytest.raises(KeyboardInterrupt):
        frazil.run(plan, executor=frazil.SerialExecutor(), run_directory=place, listener=stop_at(stage))
    xr.testing.assert_identical(archive.read(), before)
    frazil.resume(archive.target, "one", run_directory=place, executor=frazil.SerialExecutor(), verify="full")
    found, expected = archive.read(group=group or None), xr.decode_cf(new)
    name = "pr" if mode == "add" else "tas"
    np.testing.assert_array_equal(found[name].sel(time=expected["time"]), expected[name])
    if mode == "region":
        np.testing.assert_array_equal(found["tas"][19:], WHOLE["tas"][19:])
