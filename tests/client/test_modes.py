"""Writing into groups that exist: each mode, and what becomes of coordinates, attributes, new and missing variables."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import frazil
from frazil.cli import main

from .hourly import read, series, state

WHOLE = xr.decode_cf(series(0, 24))


class Archive:
    """A repository that a group was written into, and files to write into it."""

    def __init__(self, folder: Path, target: Path, **options: Any) -> None:
        self.folder, self.target = folder, target
        self.put(series(0, 24).assign_attrs(title="of old"), **{"chunks": {"time": 10, "lat": 3}} | options)

    def put(self, *datasets: xr.Dataset, **options: Any) -> frazil.Result:
        return frazil.convert(
            self.files(*datasets), self.target, **{"executor": frazil.SerialExecutor(), "verify": "full"} | options
        )

    def files(self, *datasets: xr.Dataset) -> list[str]:
        self.folder.mkdir(exist_ok=True)
        paths = []
        for number, dataset in enumerate(datasets):
            path = self.folder / f"{number}.nc"
            path.unlink(missing_ok=True)
            dataset.to_netcdf(path)
            paths.append(str(path))
        return paths

    def read(self, **options: Any) -> xr.Dataset:
        return read(self.target, **options)

    def refuse(self, says: str, *datasets: xr.Dataset, **options: Any) -> None:
        """Fail unless it is refused with such words, and nothing at all is changed or left."""
        before = state(self.target), sorted(self.target.parent.rglob("*"))
        files = self.files(*datasets)
        before = state(self.target), sorted(self.target.parent.rglob("*"))
        with pytest.raises(frazil.InvalidInputError, match=says):
            frazil.convert(files, self.target, executor=frazil.SerialExecutor(), **options)
        assert (state(self.target), sorted(self.target.parent.rglob("*"))) == before


@pytest.fixture
def archive(tmp_path: Path, target: Path) -> Archive:
    return Archive(tmp_path / "in", target)


def negative(start: int, stop: int, **attributes: object) -> xr.Dataset:
    """The same hours with other values."""
    found = series(start, stop, **attributes)
    return found.assign(tas=-found["tas"]).assign_attrs(title="of old")


# ---- region


@pytest.mark.parametrize(("start", "stop"), [(0, 24), (0, 1), (3, 7), (9, 21), (20, 24), (23, 24)])
def test_a_region_replaces_what_its_labels_name_and_nothing_beside_it(archive: Archive, start: int, stop: int) -> None:
    archive.put(negative(start, stop), mode="region")
    expected = WHOLE.copy(deep=True)
    expected["tas"][start:stop] *= -1
    xr.testing.assert_identical(archive.read().drop_attrs(deep=False), expected)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_box_lands_under_its_own_labels_whatever_the_chunks(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("box")
    chunks = {dim: data.draw(st.integers(1, length)) for dim, length in (("time", 24), ("lat", 4), ("lon", 5))}
    archive = Archive(folder / "in", folder / "archive", chunks=chunks)
    box = {}
    for dim, length in (("time", 24), ("lat", 4), ("lon", 5)):
        low = data.draw(st.integers(0, length - 1))
        box[dim] = slice(low, data.draw(st.integers(low + 1, length)))
    whole = negative(0, 24)
    expected = WHOLE.copy(deep=True)
    expected["tas"][box] *= -1
    parts = [whole.isel(box)]
    middle = (box["time"].start + box["time"].stop) // 2
    if middle > box["time"].start:
        parts = [
            whole.isel(box | {"time": slice(*ends)})
            for ends in ((middle, box["time"].stop), (box["time"].start, middle))
        ]
    turned = data.draw(st.sampled_from([None, "lat", "lon"]))
    if turned is not None:
        parts = [part.isel({turned: slice(None, None, -1)}) for part in parts]
    named = data.draw(st.booleans())
    region: Any = dict(box) if named else "auto"
    archive.put(*parts, mode="region", append_dim="time", region=region, reorder=turned is not None, workers=3)
    xr.testing.assert_identical(archive.read().drop_attrs(deep=False), expected)


def test_a_region_may_mix_slices_with_labels(archive: Archive) -> None:
    part = negative(0, 24).isel(time=slice(3, 9), lat=slice(1, 3))
    archive.put(part.drop_vars("lat"), mode="region", region={"lat": slice(1, 3), "time": "auto"})
    expected = WHOLE.copy(deep=True)
    expected["tas"][3:9, 1:3] *= -1
    xr.testing.assert_identical(archive.read().drop_attrs(deep=False), expected)


def test_the_command_takes_a_region(archive: Archive) -> None:
    files = archive.files(negative(3, 9))
    arguments = ["--mode", "region", "--region", "time=3:9,lat=auto", "--backend", "serial"]
    assert main(["convert", *files, str(archive.target), *arguments]) == 0
    expected = WHOLE.copy(deep=True)
    expected["tas"][3:9] *= -1
    xr.testing.assert_identical(archive.read().drop_attrs(deep=False), expected)


@pytest.mark.parametrize(
    ("change", "options", "says"),
    [
        (
            lambda one: one.assign_coords(time=one["time"] + 30),
            {},
            "has the label 2000-01-02 09:00:00, which .* does not",
        ),
        (lambda one: one, {"region": {"time": slice(4, 10)}}, "labels of 'time' are those of 3:9 .* region is 4:10"),
        (lambda one: one, {"region": {"lat": slice(0, 2)}}, "labels of 'lat' are those of 0:4 .* region is 0:2"),
        (lambda one: one.drop_vars("time"), {"region": {"time": slice(20, 26)}}, "does not lie in"),
        (lambda one: one.drop_vars("time"), {"region": {"time": slice(2, 4)}}, "has 2 places, and .* holds 6"),
        (lambda one: one.drop_vars("time"), {}, "no coordinate .* --region time=START:STOP"),
        (lambda one: one, {"region": {"depth": slice(0, 2)}}, "names 'depth', which no variable has"),
        (lambda one: one, {"region": {"time": slice(0, 8, 2)}}, "use slice.START, STOP."),
        (lambda one: one, {"region": {"time": slice(-3, -1)}}, "use slice.START, STOP."),
        (lambda one: one, {"region": "time"}, "use 'auto', or a mapping"),
        (lambda one: one, {"chunks": {"time": 4}}, "keeps the chunks"),
        (lambda one: one.assign(new=one["tas"]), {}, "has 'new', which .* does not have.*--mode add"),
        (lambda one: one.assign(tas=one["tas"].astype("f8")), {}, "has the type <f8"),
        (lambda one: one.isel(lat=slice(None, None, -1)), {}, "'lat' is flipped"),
        (lambda one: one.isel(lon=[3, 4, 0, 1, 2]), {}, "'lon' goes around the globe from another start"),
        (lambda one: one.isel(lat=[0, 2]), {}, "leaves out some"),
        (lambda one: one.isel(time=[0, 1, 4]), {}, "leaves out some"),
        (lambda one: one[["lat", "lon"]], {}, "nothing to write|no variable"),
        (lambda one: one.assign_coords(time=one["time"].assign_attrs(calendar="noleap")), {}, "calendar"),
        (lambda one: one.assign_coords(time=one["time"].assign_attrs(units="days since 2000-01-01")), {}, "counts in"),
        (lambda one: one.assign_attrs(title="new"), {}, "attribute 'title' of the group is 'new', .*--on-attrs"),
        (lambda one: one.assign(tas=one["tas"].assign_attrs(more="x")), {}, "attribute 'more' of 'tas'"),
        (lambda one: one.assign(tas=one["tas"].assign_attrs(units="degC")), {"on_attrs": "update"}, "is in 'degC'"),
    ],
)
def test_a_region_that_does_not_fit_is_refused_before_anything_is_written(
    archive: Archive, change: Callable[[xr.Dataset], xr.Dataset], options: dict[str, Any], says: str
) -> None:
    archive.refuse(says, change(negative(3, 9)), mode="region", **options)


def test_what_does_not_have_the_dimensions_of_a_region_must_be_the_same(tmp_path: Path, target: Path) -> None:
    archive = Archive(tmp_path / "in", target)
    area = xr.DataArray(np.ones(4), dims="lat")
    archive.put(series(0, 24).assign(area=area).assign_attrs(title="of old"), mode="overwrite")
    archive.put(negative(3, 5).assign(area=area), mode="region")
    assert (archive.read()["area"] == 1).all()
    archive.refuse("'area' has other values", negative(3, 5).assign(area=area + 1), mode="region")


def test_a_region_keeps_or_updates_attributes_as_it_is_told(archive: Archive) -> None:
    new = negative(3, 9, note="of new").assign_attrs(title="of new")
    archive.put(new, mode="region", on_attrs="keep")
    assert (archive.read().attrs["title"], "note" in archive.read()["tas"].attrs) == ("of old", False)
    archive.put(new, mode="region", on_attrs="update")
    assert (archive.read().attrs["title"], archive.read()["tas"].attrs["note"]) == ("of new", "of new")
    assert archive.read()["tas"].attrs["units"] == "K"
    expected = WHOLE.copy(deep=True)
    expected["tas"][3:9] *= -1
    np.testing.assert_array_equal(archive.read()["tas"], expected["tas"])


def test_a_region_leaves_variables_alone_that_the_files_do_not_have(archive: Archive) -> None:
    archive.put(series(0, 24).rename(tas="pr"), mode="add")
    archive.put(negative(3, 9), mode="region")
    np.testing.assert_array_equal(archive.read()["pr"], WHOLE["tas"])
    assert archive.read()["tas"].values[3, 1, 1] < 0


# ---- modify


def test_modify_replaces_variables_with_their_attributes_and_adds_others(archive: Archive) -> None:
    new = negative(0, 24, note="new").assign_attrs(title="of new", more=1)
    new = new.assign(pr=new["tas"] * 2, lat_weight=("lat", np.arange(4.0)))
    result = archive.put(new.isel(time=slice(0, 9)), new.isel(time=slice(9, 24)), mode="modify", chunks={"time": 5})
    found = archive.read()
    np.testing.assert_array_equal(found["tas"], new["tas"])
    np.testing.assert_array_equal(found["pr"], new["pr"])
    np.testing.assert_array_equal(found["lat_weight"], new["lat_weight"])
    assert found["tas"].attrs == {"units": "K", "note": "new"}
    assert found.attrs == {"title": "of new", "more": 1}
    assert found["tas"].encoding["chunks"] == (10, 3, 5)  # of what is there, chunks stay
    assert found["pr"].encoding["chunks"][0] == 5
    assert result.regions > 1
    archive.put(new.assign(lat_weight=("lat", np.arange(4.0) + 1)), mode="modify")
    np.testing.assert_array_equal(archive.read()["lat_weight"], np.arange(4.0) + 1)


def test_modify_keeps_what_the_files_do_not_have(archive: Archive) -> None:
    archive.put(series(0, 24).rename(tas="pr"), mode="add")
    archive.put(negative(0, 24), mode="modify")
    np.testing.assert_array_equal(archive.read()["pr"], WHOLE["tas"])


@pytest.mark.parametrize("mode", ["modify", "add"])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda one: one.isel(time=slice(0, 9)), "whole variables need all of them; .*--mode region"),
        (lambda one: one.isel(lat=slice(0, 2)), "is a part of .*frazil write-region"),
        (lambda one: one.isel(lat=slice(None, None, -1)), "'lat' is flipped"),
        (lambda one: one.assign_coords(lat=one["lat"] + 1), "has the label -59"),
        (lambda one: one.drop_vars("lat").isel(lat=slice(0, 2)), "2 along 'lat'|has 2|lat"),
    ],
)
def test_variables_on_another_grid_are_refused(
    archive: Archive, mode: str, change: Callable[[xr.Dataset], xr.Dataset], says: str
) -> None:
    new = negative(0, 24)
    archive.refuse(says, change(new.assign(pr=new["tas"])), mode=mode, append_dim="time")


def test_modify_refuses_another_type(archive: Archive) -> None:
    archive.refuse("has the type <f8", negative(0, 24).astype("f8").assign_coords(series(0, 24).coords), mode="modify")


def test_modify_puts_values_under_their_labels_where_that_is_asked_for(archive: Archive) -> None:
    archive.put(negative(0, 24).isel(lat=slice(None, None, -1)), mode="modify", reorder=True)
    np.testing.assert_array_equal(archive.read()["tas"], negative(0, 24)["tas"])


# ---- add


def test_add_writes_only_what_is_not_there(archive: Archive) -> None:
    new = negative(0, 24).assign_attrs(title="of new")
    new = new.assign(pr=new["tas"] * 2, level=("plev", [1.0, 2.0]), plev=("plev", [850, 500]))
    archive.put(new, mode="add", append_dim="time")
    found = archive.read()
    np.testing.assert_array_equal(found["tas"], WHOLE["tas"])
    np.testing.assert_array_equal(found["pr"], new["pr"])
    np.testing.assert_array_equal(found["level"], new["level"])
    np.testing.assert_array_equal(found["plev"], new["plev"])
    assert found.attrs["title"] == "of old"
    archive.refuse("has every variable .* nothing to add; --mode modify", new, mode="add", append_dim="time")


def test_what_is_added_must_have_a_name_of_its_own_when_it_is_published(archive: Archive) -> None:
    new = negative(0, 24)
    plan = frazil.plan(
        archive.files(new.assign(pr=new["tas"])), archive.target, mode="add", executor=frazil.SerialExecutor()
    )
    session = frazil.open_repository(archive.target).writable_session("main")
    zarr.open_group(session.store, mode="a").create_array("pr", shape=(3,), dtype="i4")
    session.commit("of somebody else")
    with pytest.raises(frazil.ConflictError, match="'/pr'"):
        frazil.run(plan, executor=frazil.SerialExecutor())


def test_add_puts_values_under_their_labels_where_that_is_asked_for(archive: Archive) -> None:
    new = negative(0, 24).rename(tas="pr").isel(lat=slice(None, None, -1))
    archive.refuse("'lat' is flipped", new, mode="add")
    archive.put(new, mode="add", reorder=True)
    np.testing.assert_array_equal(archive.read()["pr"], negative(0, 24)["tas"])


# ---- overwrite


def test_overwrite_replaces_the_group_with_all_that_it_holds(archive: Archive) -> None:
    archive.put(series(0, 24).rename(tas="pr"), mode="add")
    archive.put(series(0, 4), group="below")
    before = archive.read()
    old = state(archive.target)[0]
    new = negative(0, 6).rename(tas="ts").assign_attrs({"only": "this"})
    archive.put(new, mode="overwrite")
    found = archive.read()
    assert set(found.variables) == {"ts", "time", "lat", "lon"}
    assert found.attrs == {"title": "of old", "only": "this"}
    np.testing.assert_array_equal(found["ts"], new["ts"])
    with pytest.raises(FileNotFoundError):
        archive.read(group="below")
    store = frazil.open_repository(archive.target).readonly_session(snapshot_id=old).store
    with xr.open_zarr(store, consolidated=False, chunks=None) as history:
        xr.testing.assert_identical(history.load(), before)


def test_overwrite_of_a_group_leaves_its_neighbours(archive: Archive) -> None:
    archive.put(series(0, 4), group="a")
    archive.put(series(0, 4), group="b")
    archive.put(negative(0, 2), group="a", mode="overwrite")
    np.testing.assert_array_equal(archive.read(group="a")["tas"], negative(0, 2)["tas"])
    np.testing.assert_array_equal(archive.read(group="b")["tas"], series(0, 4)["tas"])
    np.testing.assert_array_equal(archive.read()["tas"], WHOLE["tas"])


def test_overwrite_makes_what_is_not_there(tmp_path: Path, target: Path) -> None:
    frazil.convert(
        Archive(tmp_path / "in", tmp_path / "other").files(series(0, 4)),
        target,
        mode="overwrite",
        executor=frazil.SerialExecutor(),
    )
    np.testing.assert_array_equal(read(target)["tas"], series(0, 4)["tas"])


def test_overwrite_does_not_take_away_what_somebody_else_has_just_written(archive: Archive) -> None:
    files = archive.files(negative(0, 2))
    plan = frazil.plan(files, archive.target, mode="overwrite", executor=frazil.SerialExecutor())
    archive.put(negative(3, 5), mode="region")
    with pytest.raises(frazil.ConflictError, match="'/tas'"):
        frazil.run(plan, executor=frazil.SerialExecutor())


# ---- append


def test_an_append_that_would_leave_a_store_that_nobody_can_open_is_refused(archive: Archive) -> None:
    archive.put(series(0, 24).rename(tas="pr"), mode="add")
    later = series(24, 30)
    archive.refuse("lacks 'pr'", later, mode="append")
    both = later.assign(pr=later["tas"])
    archive.refuse("has 'new' besides", both.assign(new=later["tas"]), mode="append")
    archive.put(both, mode="append")
    assert archive.read().sizes["time"] == 30


def test_files_that_overlap_the_end_replace_it_where_that_is_asked_for(archive: Archive) -> None:
    overlapping = negative(18, 27)
    archive.refuse("overlap", overlapping, mode="append")
    archive.put(overlapping, mode="append", on_overlap="replace")
    expected = np.concatenate([series(0, 18)["tas"], overlapping["tas"]])
    np.testing.assert_array_equal(archive.read()["tas"], expected)
    np.testing.assert_array_equal(archive.read()["time"], xr.decode_cf(series(0, 27))["time"])


def test_files_in_the_middle_are_replaced_there(archive: Archive) -> None:
    archive.put(negative(5, 9), negative(9, 12), mode="append", on_overlap="replace")
    expected = WHOLE.copy(deep=True)
    expected["tas"][5:12] *= -1
    xr.testing.assert_identical(archive.read().drop_attrs(deep=False), expected)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ([(30, 32)], "gap"),
        ([(18, 20), (22, 27)], "gap"),
        ([(0, 30)], "nothing lies before them.*--mode overwrite"),
    ],
)
def test_replacing_leaves_no_gap(archive: Archive, files: list[tuple[int, int]], says: str) -> None:
    archive.refuse(says, *(negative(*span) for span in files), mode="append", on_overlap="replace")


def test_an_append_goes_under_its_labels_where_that_is_asked_for(archive: Archive) -> None:
    later = series(24, 30)
    archive.refuse("'lat' is flipped", later.isel(lat=slice(None, None, -1)), mode="append")
    archive.put(later.isel(lat=slice(None, None, -1)), mode="append", reorder=True)
    np.testing.assert_array_equal(archive.read()["tas"], series(0, 30)["tas"])


def relief(start: int, stop: int) -> xr.Dataset:
    """Hours with a height that has no time."""
    found = series(start, stop)
    height = np.arange(float(found.sizes["lat"] * found.sizes["lon"])).reshape(found.sizes["lat"], -1)
    return found.assign(height=(("lat", "lon"), height))


@pytest.mark.parametrize("mode", ["append", "region"])
def test_what_is_written_once_is_compared_under_its_labels(tmp_path: Path, target: Path, mode: str) -> None:
    archive = Archive(tmp_path / "in", target)
    archive.put(relief(0, 24), mode="overwrite")
    span = (24, 30) if mode == "append" else (6, 12)
    turned = relief(*span).isel(lat=slice(None, None, -1), lon=[2, 0, 1, 4, 3])
    archive.refuse("'height' has other values", turned.assign(height=turned["height"] + 1), mode=mode, reorder=True)
    archive.refuse(
        "'height' has other values",
        turned.assign(height=turned["height"].copy(data=relief(*span)["height"].values)),
        mode=mode,
        reorder=True,
    )
    archive.put(turned, mode=mode, reorder=True)
    np.testing.assert_array_equal(archive.read()["tas"], series(0, 30 if mode == "append" else 24)["tas"])
    np.testing.assert_array_equal(archive.read()["height"], relief(0, 1)["height"])
    result = frazil.validate(target, against=archive.files(turned))
    assert result.ok, result.faults


@pytest.mark.parametrize("first", [0, 1])
def test_what_is_written_once_lands_under_its_labels_whichever_file_is_named_first(
    tmp_path: Path, target: Path, first: int
) -> None:
    archive = Archive(tmp_path / "in", tmp_path / "other")
    files = archive.files(relief(0, 4), relief(4, 8).isel(lat=slice(None, None, -1)))
    files = files[first:] + files[:first]
    frazil.convert(files, target, reorder=True, executor=frazil.SerialExecutor(), verify="full")
    found = read(target)
    assert (found["lat"].values[0] == series(0, 1)["lat"].values[0]) == (first == 0)
    np.testing.assert_array_equal(found.sortby("lat")["height"], relief(0, 1).sortby("lat")["height"])
    np.testing.assert_array_equal(found.sortby("lat")["tas"], series(0, 8).sortby("lat")["tas"])


# ---- all modes


@pytest.mark.parametrize("mode", ["append", "region", "modify", "add"])
def test_what_is_not_there_cannot_be_written_into(archive: Archive, mode: str, tmp_path: Path) -> None:
    archive.refuse("'/else' does not exist, so there is nothing to", series(0, 3), mode=mode, group="else")
    with pytest.raises(frazil.InvalidInputError, match="there is no repository"):
        frazil.plan(archive.files(series(0, 3)), tmp_path / "none", mode=mode, executor=frazil.SerialExecutor())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"mode": "create", "region": {"time": slice(0, 1)}}, "region means something with mode 'region' alone"),
        ({"mode": "region", "on_overlap": "skip"}, "on_overlap means something with mode 'append' alone"),
        ({"mode": "overwrite", "on_attrs": "keep"}, "on_attrs means something with mode 'append' or 'region'"),
        ({"mode": "append", "on_attrs": "drop"}, "on_attrs cannot be 'drop'"),
        ({"mode": "update"}, "mode cannot be 'update'"),
    ],
)
def test_options_that_mean_nothing_are_refused(archive: Archive, options: dict[str, Any], says: str) -> None:
    archive.refuse(says, series(24, 30), **options)


@pytest.mark.parametrize("mode", ["overwrite", "append", "region", "modify", "add"])
def test_every_mode_writes_on_another_branch_and_into_a_group_below(archive: Archive, mode: str) -> None:
    archive.put(series(0, 24), group="a/b")
    repo = frazil.open_repository(archive.target)
    repo.create_branch("other", repo.lookup_branch("main"))
    new = series(24, 30) if mode == "append" else negative(0, 24).assign(pr=series(0, 24)["tas"])
    new = new.drop_vars("pr") if mode == "region" else new
    before = state(archive.target)[0]
    archive.put(new, mode=mode, group="a/b", branch="other", on_attrs=None if mode == "overwrite" else "keep")
    assert state(archive.target)[0] == before
    found = archive.read(group="a/b", branch="other")
    if mode == "append":
        assert found.sizes["time"] == 30
    elif mode == "add":
        np.testing.assert_array_equal(found["pr"], series(0, 24)["tas"])
    else:
        np.testing.assert_array_equal(found["tas"], new["tas"])


def test_regions_that_are_disjoint_survive_each_other(archive: Archive) -> None:
    """Two plans against the same snapshot, in different chunks."""
    plans = []
    for number, span in enumerate([(0, 10), (10, 20)]):
        folder = Archive.__new__(Archive)
        folder.folder, folder.target = archive.folder / str(number), archive.target
        folder.folder.mkdir()
        plans.append(
            frazil.plan(folder.files(negative(*span)), archive.target, mode="region", executor=frazil.SerialExecutor())
        )
    for plan in plans:
        frazil.run(plan, executor=frazil.SerialExecutor())
    expected = WHOLE.copy(deep=True)
    expected["tas"][0:20] *= -1
    xr.testing.assert_identical(archive.read().drop_attrs(deep=False), expected)


def test_regions_that_share_a_chunk_conflict(archive: Archive) -> None:
    files = archive.files(negative(0, 12))
    plan = frazil.plan(files, archive.target, mode="region", executor=frazil.SerialExecutor())
    archive.put(negative(14, 18), mode="region")
    files = archive.files(negative(0, 12))
    with pytest.raises(frazil.ConflictError, match="'/tas', 2 chunks"):
        frazil.run(plan, executor=frazil.SerialExecutor())


@pytest.mark.parametrize("reorder", [False, True])
def test_files_of_one_group_that_lie_otherwise_are_placed_or_refused(
    tmp_path: Path, target: Path, reorder: bool
) -> None:
    archive = Archive(tmp_path / "in", tmp_path / "other")
    turned = [series(0, 4), series(4, 8).isel(lat=slice(None, None, -1)), series(8, 12).isel(lon=[3, 4, 0, 1, 2])]
    files = archive.files(*turned)
    if not reorder:
        with pytest.raises(frazil.InvalidInputError, match="flipped"):
            frazil.convert(files, target, executor=frazil.SerialExecutor())
        return
    frazil.convert(files, target, reorder=True, executor=frazil.SerialExecutor(), verify="full")
    np.testing.assert_array_equal(read(target)["tas"], series(0, 12)["tas"])


def test_replicas_get_regions_too(tmp_path: Path, target: Path) -> None:
    replica = tmp_path / "replica"
    archive = Archive(tmp_path / "in", target, replicas=[replica])
    archive.put(negative(3, 9), mode="region", replicas=[replica])
    xr.testing.assert_identical(read(replica), archive.read())
    assert archive.read()["tas"].values[3, 1, 1] < 0


@pytest.mark.parametrize(
    ("span", "options", "says"),
    [
        ((-10, -5), {}, "before what .* holds.*only adds behind it.*--mode overwrite"),
        ((-5, 0), {}, "before what .* holds"),
        ((-5, 5), {}, "overlap.*--on-overlap skip .*--on-overlap replace"),
        ((20, 30), {"on_overlap": "skip"}, "overlap.*--on-overlap replace"),
        ((30, 35), {}, "leaves 1 gap"),
        ((0, 3), {"on_overlap": "replace"}, "nothing lies before them.*--mode region"),
        ((-5, 5), {"on_overlap": "replace"}, "nothing lies before them.*--mode overwrite"),
        ((0, 30), {"on_overlap": "replace"}, "nothing lies before them.*--mode overwrite"),
    ],
)
def test_appends_that_go_back_overlap_or_leave_a_gap_are_told_apart(
    archive: Archive, span: tuple[int, int], options: dict[str, Any], says: str
) -> None:
    archive.refuse(says, series(*span), mode="append", **options)
