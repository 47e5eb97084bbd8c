"""Labels, metadata and coverage of real repositories, most of which frazil did not write."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

import frazil

type Validate = Callable[..., frazil.Validation]


@pytest.fixture
def where(tmp_path: Path) -> Path:
    return tmp_path / "archive"


@pytest.fixture
def validate(where: Path) -> Validate:
    def validate(**options: Any) -> frazil.Validation:
        return frazil.validate(where, executor=frazil.SerialExecutor(), **options)

    return validate


def commit(where: Path, change: Callable[[zarr.Group], object]) -> str:
    repo = icechunk.Repository.open_or_create(icechunk.local_filesystem_storage(str(where)))
    session = repo.writable_session("main")
    change(zarr.open_group(session.store, mode="a"))
    return str(session.commit("of somebody else"))


def written(where: Path, dataset: xr.Dataset, group: str | None = None) -> None:
    repo = icechunk.Repository.open_or_create(icechunk.local_filesystem_storage(str(where)))
    session = repo.writable_session("main")
    dataset.to_zarr(session.store, group=group, mode="a", consolidated=False)
    session.commit("of Xarray")


def along(name: str, labels: Any, **attributes: Any) -> xr.Dataset:
    values = np.arange(len(labels), dtype="f8")
    return xr.Dataset({"tas": (name, values)}, {name: (name, labels, attributes)})


HOURS = {"units": "hours since 2000-01-01", "calendar": "standard"}
MONTHS = np.cumsum([0, *itertools.islice(itertools.cycle([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]), 23)])


@pytest.mark.parametrize(
    ("labels", "attributes", "words"),
    [
        ([0, 1, 3, 2, 4, 5], HOURS, "2000-01-01 03:00:00 at index 2 is followed by 2000-01-01 02:00:00"),
        ([0, 1, 1, 2], HOURS, "at index 1 is followed by 2000-01-01 01:00:00"),
        ([0.0, 1.0, np.nan, 3.0], {}, "1 of 4 labels are missing or not finite; the first is nan at index 2"),
        ([0.0, 1.0, np.inf, 3.0], {}, "the first is inf at index 2"),
        ([0, 1, 2, 6, 7, 8], HOURS, "lacks 3 labels: 3 between 2000-01-01 02:00:00 (index 2)"),
        ([90.0, 60.0, 30.0, -30.0, -60.0], {}, "lacks 1 label:"),
        (np.delete(MONTHS, 7), {"units": "days since 2001-01-01"}, "1 between 2001-07-01"),
        (np.array([3, 1, 2], "u1"), {}, "3 at index 0 is followed by 1"),
        (["a", "b", "a"], {}, "'a' stands at index 0 and again at 2"),
    ],
)
def test_labels_out_of_order_missing_or_with_gaps_are_found(
    where: Path, validate: Validate, labels: Any, attributes: dict[str, Any], words: str
) -> None:
    written(where, along("x", np.array(labels), **attributes))
    found = validate()
    assert [(fault.kind, fault.array) for fault in found.faults] == [("label", "x")]
    assert words in found.faults[0].what


@pytest.mark.parametrize(
    ("labels", "attributes"),
    [
        (MONTHS, {"units": "days since 2001-01-01"}),  # months are of different lengths
        ([5, 4, 3, 2], {}),
        ([1000.0, 925.0, 850.0, 700.0, 500.0, 300.0], {"units": "hPa"}),
        (
            [0, 1, 2, 3, 4, 7, 8, 9, 10, 11, 14, 15, 16, 17, 18, 21, 22],
            {"units": "days since 2001-01-01"},
        ),  # no weekends
        ([0.5, 345.5, 350.5, 355.5], {"units": "degrees_east"}),  # on both sides of Greenwich
        ([9000.0, 109000.0, 149000.0, 189000.0, 229000.0, 269000.0], {"units": "m"}),
        ([0, 1, 4, 5, 7, 10, 11, 19], HOURS),
        ([0.0, 5.0], {}),
        ([7], HOURS),
        (["b", "a"], {}),
        (np.array([3, 2, 1], "u1"), {}),
    ],
)
def test_axes_that_are_as_they_should_be_have_no_faults(
    where: Path, validate: Validate, labels: Any, attributes: dict[str, Any]
) -> None:
    written(where, along("x", np.array(labels), **attributes))
    assert validate(full=True).faults == ()


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"units": "hours since yesterday"}, "'hours since yesterday' in the calendar 'standard' cannot be read"),
        ({"units": "hours since 2000-01-01", "calendar": "julianic"}, "did you mean 'julian'?"),
        ({"units": 3}, "its units are 3 and no text"),
    ],
)
def test_units_and_calendars_that_nobody_can_read_are_found(
    where: Path, validate: Validate, attributes: dict[str, Any], words: str
) -> None:
    written(where, along("time", np.arange(4)))
    commit(where, lambda root: root["time"].update_attributes(attributes))
    found = validate()
    assert [(fault.kind, fault.array) for fault in found.faults] == [("units", "time")]
    assert words in found.faults[0].what


@pytest.mark.parametrize(
    ("key", "value", "missing"),
    [
        ("bounds", "x_bnds", ["x_bnds"]),
        ("coordinates", "tass x lat", ["tass", "lat"]),
        ("grid_mapping", "crs: x y", ["crs", "y"]),
        ("climatology", "clim", ["clim"]),
    ],
)
def test_attributes_that_name_no_variable_are_found(
    where: Path, validate: Validate, key: str, value: str, missing: list[str]
) -> None:
    written(where, along("x", np.arange(4)))
    commit(where, lambda root: root["tas"].update_attributes({key: value}))
    faults = validate().faults
    named = [fault.what.split(" names ")[1].split("'")[1] for fault in faults if fault.kind == "attribute"]
    assert named == missing
    assert all(f"{key!r} names" in fault.what for fault in faults if fault.kind == "attribute")


def test_attributes_that_name_what_lies_above_are_fine(where: Path, validate: Validate) -> None:
    written(where, xr.Dataset({"crs": 0}))
    written(where, along("x", np.arange(4)), "deep/below")
    commit(where, lambda root: root["deep/below/tas"].update_attributes({"grid_mapping": "crs", "coordinates": "/crs"}))
    assert validate().faults == ()


def test_dimensions_that_differ_in_length_are_found(where: Path, validate: Validate) -> None:
    written(where, along("x", np.arange(4)))
    commit(where, lambda root: root["tas"].resize((6,)))
    (fault,) = validate().faults
    assert (fault.kind, fault.array) == ("dimension", "tas")
    assert "'x' has the length 6, and 4 in 'x'" in fault.what


@pytest.mark.parametrize("attributes", [{"scale_factor": "ten"}, {"_FillValue": "no base64"}])
def test_what_xarray_cannot_decode_is_found(where: Path, validate: Validate, attributes: dict[str, Any]) -> None:
    written(where, along("x", np.arange(4)))
    commit(where, lambda root: root["tas"].update_attributes(attributes))
    (fault,) = validate().faults
    assert fault.kind == "xarray"
    assert "Xarray cannot decode it" in fault.what


def test_coverage_tells_ranges_with_their_labels(where: Path, validate: Validate) -> None:
    hours = xr.Dataset(coords={"time": ("time", np.arange(12), HOURS), "y": [1.0, 2.0]})
    written(where, hours)

    def fill(root: zarr.Group) -> None:
        made = root.create_array("tas", shape=(12, 2), chunks=(3, 1), dtype="f4", dimension_names=("time", "y"))
        made[0:3] = 1
        made[6:12, 0] = 2

    commit(where, fill)
    found = validate()
    assert found.ok
    (tas,) = (one for one in found.arrays if one.path == "tas")
    assert (tas.stored, tas.units, tas.along) == (4, 8, "time")
    assert [(span.start, span.stop, span.state) for span in tas.coverage] == [
        (0, 3, "written"),
        (3, 6, "empty"),
        (6, 12, "partly"),
    ]
    assert tas.coverage[1].labels == ("2000-01-01 03:00:00", "2000-01-01 05:00:00")
    # The fill value is zero, and no missing value is declared; what was never written counts as it reads.
    assert (tas.summary.count, tas.summary.low, tas.summary.high) == (24, 0, 2)
    (fault,) = validate(complete=True).faults
    assert fault.kind == "coverage"
    assert "4 of 8 write units were never written" in fault.what
    assert "tas[time 3:6, y 0:1]" in fault.what


def test_an_array_that_was_never_written_reads_as_fill(where: Path, validate: Validate) -> None:
    def fill(root: zarr.Group) -> None:
        root.create_array("never", shape=(6, 2), chunks=(2, 2), dtype="f4", fill_value=7, dimension_names=("x", "y"))
        root.create_array("x", shape=(1,), dtype="i4", dimension_names=("x",))[:] = 0
        root.create_array("scalar", shape=(), dtype="i4")[...] = 0

    commit(where, lambda root: fill(root.create_group("inside")))
    commit(where, lambda root: root["inside/x"].resize((6,)))
    commit(where, lambda root: root["inside/x"].set_basic_selection(slice(None), np.arange(6)))
    never = next(one for one in validate(full=True).arrays if one.path == "inside/never")
    assert (never.stored, never.decoded, never.whole) == (0, 0, True)
    assert (never.summary.count, never.summary.low, never.summary.high) == (12, 7, 7)
    assert [(span.start, span.stop, span.state) for span in never.coverage] == [(0, 6, "empty")]
    # The first label and the scalar are the fill value, which Icechunk does not store; they are complete all the same.
    assert [fault.array for fault in validate(complete=True).faults] == ["inside/never"]


def test_chunks_beyond_the_end_of_an_array_are_nobody_s(where: Path, validate: Validate) -> None:
    commit(where, lambda root: root.create_array("x", shape=(6,), chunks=(2,), dtype="i4").set_basic_selection((), 5))

    def shrink(root: zarr.Group) -> None:
        (data,) = (sync(root.store.get("x/zarr.json", default_buffer_prototype())),)
        shorter = data.to_bytes().replace(b"6", b"3", 1)
        sync(root.store.set("x/zarr.json", default_buffer_prototype().buffer.from_bytes(shorter)))

    commit(where, shrink)
    found = validate(full=True)
    assert found.ok, found.faults
    (array,) = found.arrays
    assert (array.shape, array.stored, array.units) == ((3,), 2, 2)


def test_summaries_are_of_decoded_values(where: Path, validate: Validate) -> None:
    values = np.array([[1.5, np.nan, 2.5], [3.5, 4.5, np.inf]])
    data = xr.Dataset({"tas": (("x", "y"), values)})
    data["tas"].encoding = {"chunks": (1, 3)}
    packed = xr.Dataset({"pr": (("z",), [0.5, np.nan, 1.5])})
    packed["pr"].encoding = {"dtype": "i2", "scale_factor": 0.5, "add_offset": 1.0, "_FillValue": -999}
    written(where, data.merge(packed))
    found = {one.path: one.summary for one in validate(full=True).arrays}
    assert (found["tas"].count, found["tas"].missing, found["tas"].infinite) == (6, 1, 1)
    assert (found["tas"].low, found["tas"].high) == (1.5, 4.5)
    assert (found["pr"].count, found["pr"].missing, found["pr"].low, found["pr"].high) == (3, 1, 0.5, 1.5)


def test_anything_that_zarr_stores_is_looked_at(where: Path, validate: Validate) -> None:
    def fill(root: zarr.Group) -> None:
        root.create_array("nameless", shape=(5, 4), chunks=(2, 2), dtype="i4")[:] = 3
        root.create_array("empty", shape=(0, 4), chunks=(1, 4), dtype="f4", dimension_names=("none", "y"))
        root.create_array("scalar", shape=(), dtype="f8")[...] = 2.5
        root.create_array("text", shape=(3,), dtype=str)[:] = np.array(["a", "bb", "ccc"])
        root.create_array("dates", shape=(2,), dtype="M8[ns]")[:] = np.array(["2000-01-01", "NaT"], "M8[ns]")
        root.create_array("complex", shape=(2,), dtype="c8")[:] = 1j
        root.create_array("truth", shape=(2,), dtype=bool)[:] = [True, False]
        root.create_group("hollow")
        root.create_group("deep/below").create_array("bytes", shape=(2,), dtype="S3")[:] = [b"ab", b"abc"]

    with pytest.warns(match="does not have a Zarr V3 specification"):
        commit(where, fill)
    found = validate(full=True)
    assert found.faults == ()
    assert {one.path: one.stored for one in found.arrays} == {
        "complex": 1, "dates": 1, "deep/below/bytes": 1, "empty": 0, "nameless": 6, "scalar": 1, "text": 1, "truth": 1,
    }  # fmt: skip
    assert {one.path: one.summary.count for one in found.arrays}["nameless"] == 20
    assert any("'nameless' does not name its dimensions" in note for note in found.notes)
    below = validate(group="deep")
    assert [one.path for one in below.arrays] == ["below/bytes"]
    assert validate(group="hollow").arrays == ()
    assert [one.path for one in validate(variables=["deep/below/bytes", "text"]).arrays] == ["deep/below/bytes", "text"]


def test_an_empty_repository_has_no_faults(where: Path, validate: Validate) -> None:
    frazil.open_repository(where)
    assert validate().ok


def test_a_snapshot_is_validated_as_it_was(where: Path, validate: Validate) -> None:
    written(where, along("x", np.arange(4)))
    good = frazil.open_repository(where).lookup_branch("main")
    commit(where, lambda root: root["tas"].update_attributes({"bounds": "nothing"}))
    assert validate(snapshot=good).ok
    assert not validate().ok


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"group": "deap"}, "no group 'deap'.*did you mean 'deep'"),
        ({"group": "deep/tas"}, "no group 'deep/tas'|is an array"),
        ({"group": "a//b"}, "no path of a group"),
        ({"variables": ["deep/tax"]}, "no variable 'deep/tax'.*did you mean 'deep/tas'"),
        ({"variables": []}, "no variables were named"),
        ({"branch": "mian"}, "no branch 'mian'; did you mean 'main'"),
        ({"snapshot": "nonsense"}, "no snapshot 'nonsense'"),
        ({"snapshot": "KRNDE2DK2QFJGBTYG690"}, "no snapshot 'KRNDE2DK2QFJGBTYG690'"),
        ({"snapshot": "KRNDE2DK2QFJGBTYG690", "branch": "main"}, "name the one to validate"),
        ({"against": ["nowhere.nc"]}, "nowhere.nc does not exist"),
    ],
)
def test_bad_input_is_refused(where: Path, validate: Validate, options: dict[str, Any], words: str) -> None:
    written(where, along("x", np.arange(4)), "deep")
    with pytest.raises(frazil.InvalidInputError, match=words):
        validate(**options)


def test_what_is_no_repository_is_refused_and_nothing_is_made(where: Path, validate: Validate) -> None:
    with pytest.raises(frazil.InvalidInputError, match="no repository"):
        validate()
    assert not where.exists()
    where.mkdir()
    (where / "something").write_text("else")
    with pytest.raises(frazil.InvalidInputError, match="no repository"):
        validate()
    assert [path.name for path in where.iterdir()] == ["something"]


@pytest.mark.parametrize(
    ("units", "words"),
    [
        ("days sinse 2000-01-01", "its units 'days sinse 2000-01-01' count none"),
        ("fortnights after xmas", "its units 'fortnights after xmas' count none"),
        ("days since once", "cannot be read"),
    ],
)
@pytest.mark.parametrize("how", ["name", "axis", "standard_name"])
def test_units_of_times_that_count_none_are_faults(
    where: Path, validate: Validate, units: str, words: str, how: str
) -> None:
    own = {"axis": {"axis": "T"}, "standard_name": {"standard_name": "time"}}.get(how, {})
    name = "time" if how == "name" else "t"
    written(where, along(name, np.arange(4), **own))  # Xarray writes no units that it knows to be wrong
    commit(where, lambda root: root[name].update_attributes({"units": units}))
    (fault,) = validate().faults
    assert (fault.kind, fault.array) == ("units", name)
    assert words in fault.what


def test_units_of_times_along_other_dimensions_are_read(where: Path, validate: Validate) -> None:
    written(where, xr.Dataset({"when": ("y", np.arange(4), {"standard_name": "time"})}))
    commit(where, lambda root: root["when"].update_attributes({"units": "days since once"}))
    (fault,) = validate().faults
    assert (fault.kind, fault.array) == ("units", "when")


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        (along("time", np.arange(4)), "'time' holds times and has no units"),
        (along("time", np.arange(4.0), units="days"), "'time' holds times in 'days', which begin at no date"),
        (along("lat", np.arange(4.0), units="m"), "'lat' is a latitude, and its units 'm' are no degrees"),
        (
            along("x", np.arange(4.0), units="rad", standard_name="longitude"),
            "'x' is a longitude, and its units 'rad' are no degrees",
        ),
    ],
)
def test_units_that_a_reader_has_to_guess_are_noted(
    where: Path, validate: Validate, dataset: xr.Dataset, words: str
) -> None:
    written(where, dataset)
    found = validate()
    assert found.ok, found.faults
    assert len(found.notes) == 1
    assert words in found.notes[0]


@pytest.mark.parametrize(
    ("name", "attributes", "fine"),
    [
        ("lat", {"units": "degrees_north"}, False),
        ("lat", {}, False),
        ("y", {"units": "degrees_north"}, False),
        ("y", {"standard_name": "latitude", "units": "degrees"}, False),
        ("y", {"units": "m"}, True),
        ("rlat", {"standard_name": "grid_latitude", "units": "degrees"}, True),
        ("lon", {"units": "degrees_east"}, True),
    ],
)
def test_latitudes_lie_between_the_poles(
    where: Path, validate: Validate, name: str, attributes: dict[str, str], *, fine: bool
) -> None:
    written(where, along(name, np.array([60.0, 75.0, 90.0, 105.0]), **attributes))
    found = validate()
    assert found.ok == fine
    assert found.notes == ()
    for fault in found.faults:
        assert fault.what == "it is a latitude and holds 105, which does not lie within -90 to 90"
    written(where, along(name, np.array([60.0, 75.0, 90.0], "f4"), **attributes), "whole")
    assert validate(group="whole").ok


def test_latitudes_of_two_dimensions_lie_between_the_poles(where: Path, validate: Validate) -> None:
    lat = xr.Variable(("y", "x"), np.array([[9000, 3000], [-9100, 0]], "i2"), {"standard_name": "latitude"})
    written(where, xr.Dataset({"where": lat.copy(data=lat.values)}))
    commit(where, lambda root: root["where"].update_attributes({"units": "degrees_north", "scale_factor": 0.01}))
    (fault,) = validate().faults
    assert fault.what == "it is a latitude and holds -91, which does not lie within -90 to 90"


@pytest.mark.parametrize(
    ("options", "checked"),
    [
        ({}, False),
        ({"compressors": None}, False),
        ({"compressors": zarr.codecs.BloscCodec()}, False),
        ({"compressors": zarr.codecs.ZstdCodec(checksum=True)}, True),
        ({"compressors": zarr.codecs.GzipCodec()}, True),
        ({"compressors": zarr.codecs.Crc32cCodec()}, True),
        ({"compressors": zarr.codecs.GzipCodec(), "shards": (4,)}, True),
        ({"shards": (4,)}, False),  # the index alone has one
    ],
)
def test_decoding_every_chunk_notes_which_hold_no_checksum(
    where: Path, validate: Validate, options: dict[str, Any], *, checked: bool
) -> None:
    def fill(root: zarr.Group) -> None:
        root.create_array("v", shape=(8,), chunks=(2,), dtype="f4", dimension_names="x", **options)[:] = 1

    commit(where, fill)
    assert validate().notes == ()
    notes = validate(full=True).notes
    assert [note.startswith("the chunks of 'v' hold no checksum") for note in notes] == ([] if checked else [True])
