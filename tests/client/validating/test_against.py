"""Values held against the files that they came from, under their labels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pytest
import xarray as xr
import zarr

import frazil

from ..hourly import series  # noqa: TID252 - tests are no package that has a name


@pytest.fixture
def validate(target: Path, serial: frazil.SerialExecutor) -> Callable[..., frazil.Validation]:
    def validate(against: Any, **options: Any) -> frazil.Validation:
        return frazil.validate(target, against=against, executor=serial, **options)

    return validate


def change(target: Path, alter: Callable[[zarr.Group], object]) -> None:
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(target)))
    session = repo.writable_session("main")
    alter(zarr.open_group(session.store, mode="r+"))
    session.commit("altered")


def save(dataset: xr.Dataset, path: Path, **encoding: Any) -> str:
    dataset.to_netcdf(path, engine="netcdf4", encoding=encoding)
    return str(path)


def store(dataset: xr.Dataset, target: Path, **encoding: Any) -> None:
    """As Xarray writes it, without frazil."""
    repo = icechunk.Repository.create(icechunk.local_filesystem_storage(str(target)))
    session = repo.writable_session("main")
    dataset.to_zarr(session.store, mode="w", consolidated=False, encoding=encoding)
    session.commit("of Xarray")


def test_what_was_converted_equals_its_files(
    files: list[str], target: Path, serial: frazil.SerialExecutor, validate: Callable[..., frazil.Validation]
) -> None:
    frazil.convert(files, target, chunks={"time": 7}, executor=serial)
    found = validate(files)
    assert found.ok, found.faults
    assert found.compared == 24 * 4 * 5
    one = validate(files[1])
    assert one.ok
    assert one.compared == 10 * 4 * 5
    # Files that do not follow each other have a place each.
    assert validate([files[0], files[2]]).compared == 14 * 4 * 5


def test_the_first_value_that_differs_is_named_with_its_label(
    files: list[str], target: Path, serial: frazil.SerialExecutor, validate: Callable[..., frazil.Validation]
) -> None:
    frazil.convert(files, target, chunks={"time": 7}, executor=serial)

    def alter(root: zarr.Group) -> None:
        root["tas"][13, 2, 1] = -5
        root["tas"][20:22, 0, 0] = -6

    change(target, alter)
    (fault,) = validate(files).faults
    assert (fault.kind, fault.array) == ("difference", "tas")
    assert fault.what.startswith("3 values differ from the files; the first is at index [13, 2, 1]")
    assert "time=2000-01-01 13:00:00, lat=20.0, lon=67.5" in fault.what
    assert "-5.0 here, and 1321.0 there" in fault.what
    assert validate(files[0]).ok


def test_files_are_placed_by_their_labels(
    tmp_path: Path, target: Path, validate: Callable[..., frazil.Validation]
) -> None:
    whole = series(0, 24)
    store(whole, target)
    other = whole.isel(time=slice(6, 12)).isel(lat=slice(None, None, -1), lon=[2, 3, 4, 0, 1])
    found = validate(save(other, tmp_path / "turned.nc"))
    assert found.ok, found.faults
    assert found.compared == 6 * 4 * 5
    recounted = whole.assign_coords(
        time=("time", whole["time"].values / 24, {"units": "days since 2000-01-01", "calendar": "standard"})
    )
    assert validate(save(recounted, tmp_path / "days.nc")).ok
    wrong = other.assign_coords(lat=other["lat"].values[::-1])
    (fault,) = validate(save(wrong, tmp_path / "wrong.nc")).faults
    assert fault.what.startswith("120 values differ")


def test_labels_and_variables_that_the_group_lacks_are_faults(
    tmp_path: Path, target: Path, validate: Callable[..., frazil.Validation]
) -> None:
    store(series(0, 20), target)
    (fault,) = validate(save(series(18, 24), tmp_path / "later.nc")).faults
    assert fault.kind == "difference"
    assert "has the label 2000-01-01 20:00:00, which" in fault.what
    more = series(0, 20).assign(tass=("time", np.zeros(20)))
    found = validate(save(more, tmp_path / "more.nc"))
    (fault,) = found.faults
    assert (fault.array, found.compared) == ("tass", 400)
    assert "did you mean 'tas'?" in fault.what
    assert validate(save(more, tmp_path / "again.nc"), variables=["tas", "time", "lat", "lon"]).ok


def test_packed_values_may_differ_by_half_a_step_and_no_more(
    tmp_path: Path, target: Path, validate: Callable[..., frazil.Validation]
) -> None:
    random = np.random.default_rng(3)
    whole = series(0, 24)
    whole["tas"] = whole["tas"].copy(data=random.uniform(200, 300, whole["tas"].shape).astype("f4"))
    whole["tas"][3, 0, 0] = np.nan
    store(whole, target, tas={"dtype": "i2", "scale_factor": 0.01, "add_offset": 250.0, "_FillValue": -32768})
    path = save(whole, tmp_path / "plain.nc")
    found = validate(path)
    assert found.ok, found.faults
    assert found.compared == 480
    # One step of 0.01 is more than half of one.
    change(target, lambda root: root["tas"].set_basic_selection((5, 1, 1), root["tas"][5, 1, 1] + 1))
    (fault,) = validate(path).faults
    assert fault.what.startswith("1 value differs from the files; the first is at index [5, 1, 1]")
    change(target, lambda root: root["tas"].set_basic_selection((3, 0, 0), 7))
    assert validate(path).faults[0].what.startswith("2 values differ")


def test_a_file_that_is_packed_equals_a_target_that_is_not(
    tmp_path: Path, target: Path, validate: Callable[..., frazil.Validation]
) -> None:
    packing = {"dtype": "i2", "scale_factor": 0.01, "add_offset": 1000.0, "_FillValue": -1}
    path = save(series(0, 24), tmp_path / "packed.nc", tas=packing)
    with xr.open_dataset(path, decode_times=False) as decoded:
        plain = decoded.load().drop_encoding()
    store(plain, target)
    assert validate(path).ok
    change(target, lambda root: root["tas"].set_basic_selection((5, 1, 1), 0.25))
    assert validate(path).faults[0].what.startswith("1 value differs")


@pytest.mark.parametrize(("bits", "fine"), [(7, True), (9, False)])
def test_values_that_were_rounded_may_differ_by_what_was_rounded_away(
    tmp_path: Path, target: Path, validate: Callable[..., frazil.Validation], bits: int, *, fine: bool
) -> None:
    values = np.random.default_rng(3).uniform(-300, 300, (24, 4, 5)).astype("f4")
    whole = series(0, 24)
    whole["tas"] = whole["tas"].copy(data=values)
    raw = values.view("u4")
    half = np.uint32((1 << 15) - 1)
    rounded = (raw + half + ((raw >> 16) & 1) & ~np.uint32((1 << 16) - 1)).view("f4")
    kept = whole.assign(tas=whole["tas"].copy(data=rounded))
    kept["tas"].attrs["_QuantizeBitRoundNumberOfSignificantBits"] = bits
    store(kept, target)
    assert validate(save(whole, tmp_path / "exact.nc")).ok == fine


def test_statics_strings_and_bounds_are_compared(
    tmp_path: Path, target: Path, serial: frazil.SerialExecutor, validate: Callable[..., frazil.Validation]
) -> None:
    hours = series(0, 6)
    hours["time"].attrs["bounds"] = "time_bnds"
    hours["time_bnds"] = (("time", "nv"), np.stack([np.arange(6), np.arange(6) + 1], 1).astype("i4"))
    hours["orog"] = (("lat", "lon"), np.arange(20.0).reshape(4, 5))
    hours["tas"][2, 1, 1] = np.nan
    hours["name"] = (("lat",), np.array(["a", "bb", "c", "d"], object))
    path = save(hours, tmp_path / "all.nc")
    frazil.convert(path, target, executor=serial)
    assert validate(path).ok
    assert validate(path).compared == 120 + 12 + 20 + 4

    def alter(root: zarr.Group) -> None:
        root["orog"][1, 1] = -1
        root["time_bnds"][2, 1] = -1
        root["name"][3] = "e"

    change(target, alter)
    assert {fault.array for fault in validate(path).faults} == {"orog", "time_bnds", "name"}
    # An append leaves values alone that stand outside of its dimension, and so does a comparison with a part of it.
    part = save(hours.isel(time=slice(0, 2)), tmp_path / "part.nc")
    assert {fault.array for fault in validate(part).faults} == {"orog", "name"}


def test_coordinates_of_two_dimensions_are_compared_as_values_are(
    tmp_path: Path, target: Path, serial: frazil.SerialExecutor, validate: Callable[..., frazil.Validation]
) -> None:
    hours = series(0, 6).drop_vars(["lat", "lon"]).rename(lat="y", lon="x")
    place = np.arange(120.0).reshape(6, 4, 5)
    hours = hours.assign_coords(where=(("time", "y", "x"), place), still=(("y", "x"), place[0]))
    path = save(hours, tmp_path / "all.nc")
    frazil.convert(path, target, executor=serial)
    change(target, lambda root: root["still"].set_basic_selection((1, 1), -1))
    (fault,) = validate(path).faults
    assert (fault.kind, fault.array) == ("difference", "still")
    change(target, lambda root: root["still"].set_basic_selection((1, 1), place[0, 1, 1]))
    change(target, lambda root: root["where"].set_basic_selection((1, 1, 1), -1))
    part = save(hours.isel(time=slice(0, 3)), tmp_path / "part.nc")
    for files in (path, part):
        (fault,) = validate(files).faults
        assert (fault.kind, fault.array) == ("difference", "where")
        assert "at index [1, 1, 1]" in fault.what


def test_damaged_labels_are_said_to_prevent_a_comparison(
    files: list[str], target: Path, serial: frazil.SerialExecutor, validate: Callable[..., frazil.Validation]
) -> None:
    hours = np.random.default_rng(1).uniform(0, 1, 2000).cumsum()
    store(xr.Dataset({"tas": ("x", np.arange(2000.0))}, {"x": hours}), target)
    path = save(xr.Dataset({"tas": ("x", np.arange(2000.0))}, {"x": hours}), target.parent / "x.nc")
    assert validate(path).ok
    for chunk in (target / "chunks").iterdir():
        chunk.unlink()
    kinds = [(fault.kind, fault.array) for fault in validate(path).faults]
    assert ("chunk", "x") in kinds
    assert ("difference", "x") in kinds


def test_no_files_are_none_to_compare_with_unless_nothing_was_asked(
    files: list[str], target: Path, serial: frazil.SerialExecutor, validate: Callable[..., frazil.Validation]
) -> None:
    frazil.convert(files[0], target, executor=serial)
    assert validate(None).ok
    for nothing in ([], "", [""]):
        with pytest.raises(frazil.InvalidInputError, match="no files were named"):
            validate(nothing)


def test_a_repository_that_was_never_written_says_so(
    files: list[str], target: Path, validate: Callable[..., frazil.Validation]
) -> None:
    frazil.open_repository(target)
    found = validate(None)
    assert (found.ok, found.notes) == (True, ("nothing was ever written to it",))
    (fault,) = validate(files).faults
    assert fault.kind == "difference"
    assert "holds no arrays" in fault.what


def many() -> xr.Dataset:
    return series(0, 6).assign(v=("x", np.arange(5.0)), s=1.5).assign_coords(x=np.arange(5.0))


def test_variables_are_compared_without_the_dimensions_of_others(
    tmp_path: Path, target: Path, validate: Callable[..., frazil.Validation]
) -> None:
    store(many(), target)
    path = save(many(), tmp_path / "same.nc")
    for name, count in {"lat": 0, "time": 0, "v": 5, "tas": 120, "s": 1}.items():
        found = validate(path, variables=name)
        assert (found.faults, found.compared, [one.path for one in found.arrays]) == ((), count, [name])
    change(target, lambda root: root["v"].set_basic_selection(3, -1))
    (fault,) = validate(path, variables="v").faults
    assert fault.what == "1 value differs from the files; the first is at index [3] (x=3.0): -1.0 here, and 3.0 there"


@pytest.mark.parametrize(
    ("dataset", "count"),
    [
        (xr.Dataset({"a": 1.5, "b": np.int32(3)}), 2),
        (xr.Dataset(coords={"x": np.arange(5.0), "y": np.arange(3)}), 0),
        (xr.Dataset({"a": 1.5}, {"x": np.arange(5.0)}), 1),
    ],
    ids=["scalars", "coordinates", "both"],
)
def test_what_a_write_would_find_nothing_in_is_compared(
    tmp_path: Path, target: Path, validate: Callable[..., frazil.Validation], dataset: xr.Dataset, count: int
) -> None:
    store(dataset, target)
    found = validate(save(dataset, tmp_path / "same.nc"))
    assert (found.faults, found.compared) == ((), count)
    other = dataset.assign_coords(x=dataset["x"] + 0.5) if "x" in dataset.coords else dataset.assign(b=np.int32(4))
    (fault,) = validate(save(other, tmp_path / "other.nc")).faults
    assert fault.kind == "difference"
    assert "append" not in fault.what


@pytest.mark.parametrize("wide", ["target", "file"])
def test_values_that_the_other_type_cannot_hold_are_a_fault_beside_the_rest(
    tmp_path: Path, target: Path, validate: Callable[..., frazil.Validation], wide: str
) -> None:
    whole = xr.Dataset({"v": ("x", np.array([2**53 + 1, 3])), "w": ("x", np.arange(2.0))}, {"x": np.arange(2.0)})
    other = whole.assign(v=whole["v"].astype("f8"), w=whole["w"] + [0, 1])
    store(whole if wide == "target" else other, target)
    found = validate(save(other if wide == "target" else whole, tmp_path / "other.nc"))
    assert {fault.array: fault.what.split(":")[0] for fault in found.faults} == {
        "w": "1 value differs from the files; the first is at index [1] (x=1.0)",
        "v": "cannot be compared",
    }
    assert found.compared == 2


@pytest.mark.parametrize("bits", [-100, 0, 24, 2.5, "many"])
def test_rounding_that_cannot_be_is_ignored(
    tmp_path: Path, target: Path, validate: Callable[..., frazil.Validation], bits: object
) -> None:
    store(series(0, 6), target)
    path = save(series(0, 6), tmp_path / "same.nc")
    name = "_QuantizeBitRoundNumberOfSignificantBits"

    def alter(root: zarr.Group) -> None:
        root["tas"].update_attributes({name: bits})

    change(target, alter)
    found = validate(path)
    assert found.ok, found.faults
    assert found.notes == (f"'tas' says {name} = {bits!r}, which cannot be for float32; it was ignored",)
    change(target, lambda root: root["tas"].set_basic_selection((5, 1, 1), 1.25))
    assert validate(path).faults[0].what.startswith("1 value differs")


@pytest.mark.parametrize(("said", "fine"), [(0.009, True), (0.0051, False), (1e9, False), (1e-9, False)])
def test_values_may_differ_by_the_error_that_a_packing_says_it_has_if_it_may(
    tmp_path: Path, target: Path, validate: Callable[..., frazil.Validation], said: float, *, fine: bool
) -> None:
    whole = series(0, 6)
    kept = whole.assign(tas=whole["tas"].astype("f8") + 0.008)
    kept["tas"].attrs["packing_maximum_absolute_error"] = said
    store(kept, target, tas={"dtype": "i4", "scale_factor": 0.01, "add_offset": 0.008, "_FillValue": -(2**31)})
    assert validate(save(whole, tmp_path / "plain.nc")).ok == fine
