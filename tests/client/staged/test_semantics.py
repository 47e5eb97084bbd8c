"""What becomes of coordinates, attributes, new, missing and static variables: the table in docs/staged-writer.md."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pytest
import xarray as xr
import zarr

import frazil
from frazil.staged.writer import DatasetWriter
from frazil_functions.errors import InvalidInputError, LabelError

from .common import committed, dataset, read, repository

type Aim = Callable[[DatasetWriter], DatasetWriter]

OVERWRITE: Aim = lambda writer: writer.for_create_or_overwrite(mode="w")  # noqa: E731 - one of a table
MODIFY: Aim = lambda writer: writer.for_modify()  # noqa: E731
APPEND: Aim = lambda writer: writer.for_append("time")  # noqa: E731
APPEND_ONLY: Aim = lambda writer: writer.for_append("time", mode="a-")  # noqa: E731
AUTO: Aim = lambda writer: writer.for_region()  # noqa: E731
REGION: Aim = lambda writer: writer.for_region({"time": slice(6, 12), "lat": slice(0, 3), "lon": slice(0, 4)})  # noqa: E731
APPENDS = pytest.mark.parametrize("aim", [APPEND, APPEND_ONLY], ids=["a", "a-"])
REGIONS = pytest.mark.parametrize("aim", [AUTO, REGION], ids=["auto", "explicit"])
CHUNKS = pytest.mark.parametrize("chunks", [None, {"time": 6}], ids=["memory", "dask"])


def other(start: int = 24, steps: int = 6) -> xr.Dataset:
    """Differs from what is held in every attribute and in the static variable."""
    ds = dataset(start, steps)
    ds["mask"] = ds["mask"] + 100
    for one in (ds, *ds.variables.values()):
        one.attrs = {"changed": 1}
    return ds


def write(ds: xr.Dataset, session: icechunk.Session, aim: Aim, chunks: Any = None) -> xr.Dataset:
    writer = aim(frazil.DatasetWriter(ds if chunks is None else ds.chunk(chunks), session))
    writer.write_metadata()
    writer.write_eager()
    writer.write_lazy(frazil.SerialExecutor())
    return read(session)


@CHUNKS
def test_an_overwrite_keeps_nothing(chunks: Any, held: icechunk.Session) -> None:
    found = write(other().drop_vars("pr").rename(mask="new"), held, OVERWRITE, chunks)
    xr.testing.assert_identical(found, other().drop_vars("pr").rename(mask="new"))


@CHUNKS
def test_a_modification_replaces_values_and_group_attributes_and_keeps_those_of_variables(
    chunks: Any, held: icechunk.Session
) -> None:
    ds = other(0, 24).drop_vars("pr")
    ds["new"] = ds["tas"] * 2
    found = write(ds, held, MODIFY, chunks)
    assert found.attrs == {"changed": 1}
    assert found["tas"].attrs == dataset()["tas"].attrs
    np.testing.assert_array_equal(found["mask"], ds["mask"])
    np.testing.assert_array_equal(found["new"], ds["new"])
    xr.testing.assert_identical(found["pr"], dataset()["pr"])


def test_a_modification_replaces_coordinates(held: icechunk.Session) -> None:
    found = write(other(0, 24).assign_coords(lat=[1.0, 2.0, 3.0]), held, MODIFY)
    assert found["lat"].values.tolist() == [1.0, 2.0, 3.0]


def test_a_modification_of_values_alone_makes_no_variables_and_keeps_attributes(held: icechunk.Session) -> None:
    found = write(other(0, 24), held, lambda writer: writer.for_modify(mode="r+"))
    assert found.attrs == dataset().attrs
    np.testing.assert_array_equal(found["mask"], other()["mask"])
    with pytest.raises(InvalidInputError, match="non-pre-existing"):
        write(other(0, 24).rename(mask="new"), held, lambda writer: writer.for_modify(mode="r+"))


@CHUNKS
def test_dropping_what_exists_leaves_only_what_is_new(chunks: Any, held: icechunk.Session) -> None:
    ds = other(0, 24)
    ds["new"] = ds["tas"] * 2
    found = write(ds, held, lambda writer: writer.for_modify().drop_existing_vars(), chunks)
    xr.testing.assert_identical(found.drop_vars("new").drop_attrs(deep=False), dataset().drop_attrs(deep=False))
    np.testing.assert_array_equal(found["new"], ds["new"])
    with pytest.raises(LabelError, match=r"'lat' is 1\.0"):
        frazil.DatasetWriter(ds.assign_coords(lat=[1.0, 2.0, 3.0]), held).for_modify().drop_existing_vars()


@CHUNKS
@APPENDS
def test_an_append_replaces_group_attributes_and_keeps_those_of_variables(
    aim: Aim, chunks: Any, held: icechunk.Session
) -> None:
    found = write(other(), held, aim, chunks)
    assert found.attrs == {"changed": 1}
    assert found["tas"].attrs == dataset()["tas"].attrs
    assert found["lat"].attrs == dataset()["lat"].attrs


@CHUNKS
@APPENDS
def test_an_append_adds_to_what_has_the_dimension(aim: Aim, chunks: Any, held: icechunk.Session) -> None:
    found = write(other(), held, aim, chunks)
    for name in ("time", "tas", "pr"):
        np.testing.assert_array_equal(found[name], dataset(0, 30)[name])


@CHUNKS
@pytest.mark.parametrize(("aim", "change"), [(APPEND, 100), (APPEND_ONLY, 0)], ids=["a", "a-"])
def test_an_append_replaces_static_variables_or_leaves_them(
    aim: Aim, change: int, chunks: Any, held: icechunk.Session
) -> None:
    np.testing.assert_array_equal(write(other(), held, aim, chunks)["mask"], dataset()["mask"] + change)


@APPENDS
def test_an_append_may_lack_static_variables(aim: Aim, held: icechunk.Session) -> None:
    found = write(other().drop_vars(["mask", "lat", "lon"]), held, aim)
    xr.testing.assert_equal(found, dataset(0, 30))


@CHUNKS
@APPENDS
def test_an_append_takes_no_new_variables_and_wants_all_others(aim: Aim, chunks: Any, held: icechunk.Session) -> None:
    with pytest.raises(InvalidInputError, match="no 'new'"):
        write(other().assign(new=other()["tas"]), held, aim, chunks)
    with pytest.raises(InvalidInputError, match="no 'new'"):
        write(other().assign(new=other()["mask"]), held, aim, chunks)
    with pytest.raises(InvalidInputError, match="lacks 'pr'"):
        write(other().drop_vars("pr"), held, aim, chunks)
    with pytest.raises(InvalidInputError, match="lacks 'time'"):
        write(other().drop_vars("time"), held, aim, chunks)
    assert not held.has_uncommitted_changes


@CHUNKS
@REGIONS
def test_a_region_keeps_all_attributes_and_coordinates(aim: Aim, chunks: Any, held: icechunk.Session) -> None:
    found = write(other(6, 6).drop_vars("mask"), held, aim, chunks)
    xr.testing.assert_identical(found, dataset())


@CHUNKS
@REGIONS
def test_a_region_may_lack_variables(aim: Aim, chunks: Any, held: icechunk.Session) -> None:
    ds = other(6, 6)[["tas"]]
    found = write(ds * 2, held, aim, chunks)
    expected = dataset()
    expected["tas"][6:12] *= 2
    xr.testing.assert_identical(found, expected)


@REGIONS
def test_a_region_takes_no_new_variables(aim: Aim, held: icechunk.Session) -> None:
    with pytest.raises(InvalidInputError, match="no 'new'"):
        write(other(6, 6).drop_vars("mask").rename(tas="new"), held, aim)
    assert not held.has_uncommitted_changes


def test_static_variables_are_refused_beside_an_explicit_region_and_replaced_by_one_that_is_found(
    held: icechunk.Session,
) -> None:
    with pytest.raises(InvalidInputError, match="'mask'"):
        write(other(6, 6).drop_vars(["lat", "lon"]), held, lambda writer: writer.for_region({"time": slice(6, 12)}))
    assert not held.has_uncommitted_changes
    np.testing.assert_array_equal(write(other(6, 6), held, AUTO)["mask"], other()["mask"])


@pytest.mark.parametrize("chunks", [None, {"time": 6}], ids=["memory", "dask"])
def test_numbers_are_stored_in_a_type_that_holds_them_all(
    chunks: dict[str, int] | None, held: icechunk.Session, serial: frazil.SerialExecutor
) -> None:
    more = dataset(24, 6)
    more["tas"] = (more["tas"] * 10).astype("i2")
    more["tas"].encoding["chunks"] = (6, 3, 4)

    frazil.to_icechunk(more if chunks is None else more.chunk(chunks), held, append_dim="time", executor=serial)

    found = read(held)["tas"]
    assert found.dtype == "f4"
    np.testing.assert_array_equal(found[24:], more["tas"])


@pytest.mark.parametrize("kind", ["i4", "f8", "c8"])
def test_numbers_that_a_type_does_not_hold_are_refused(kind: str, held: icechunk.Session) -> None:
    more = dataset(24, 6)
    more["tas"] = more["tas"].astype(kind)
    with pytest.raises(InvalidInputError, match=r"'tas' is .*holds float32"):
        frazil.to_icechunk(more, held, append_dim="time")
    assert not held.has_uncommitted_changes


def test_a_dask_array_without_values_is_stored_as_xarray_stores_it(
    tmp_path: Path, session: icechunk.Session, serial: frazil.SerialExecutor
) -> None:
    def empty() -> xr.Dataset:
        return xr.Dataset({"x": (("a", "b"), np.empty((5, 0))), "y": ("a", np.arange(5))}).chunk({})

    given = empty()
    frazil.to_icechunk(given, session, executor=serial)

    assert given["x"].chunks is not None  # Xarray itself loads what it is given
    theirs = repository(tmp_path / "theirs")
    committed(theirs, empty())
    expected = zarr.open_group(theirs.readonly_session("main").store, mode="r")
    found = zarr.open_group(session.store, mode="r")
    assert found["x"].metadata == expected["x"].metadata
    xr.testing.assert_identical(read(session), read(theirs.readonly_session("main")))
