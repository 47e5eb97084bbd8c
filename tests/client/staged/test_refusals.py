"""Bad input is refused before the first write, with an error that names it."""

import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import icechunk
import numpy as np
import pytest
import xarray as xr
import zarr

import frazil
from frazil.execution.serial import SerialCalls
from frazil_functions.errors import ExistingGroupError, InvalidInputError, LabelError, SourceError
from frazil_functions.writing import slices
from frazil_functions.writing.slices import SliceTask, dump_slices_written

from .common import committed, dataset, read, repository


def later(**options: Any) -> xr.Dataset:
    return dataset(24, 6, **options)


def noleap() -> xr.Dataset:
    return later().convert_calendar("noleap")


APPENDS: dict[str, tuple[Callable[[], xr.Dataset], type[Exception], str]] = {
    "dtype": (lambda: later().assign(tas=later()["tas"].astype("f8")), InvalidInputError, "'tas' is float64"),
    "packed integers": (lambda: later().assign(pr=later()["pr"].astype("i2")), InvalidInputError, "'pr' is int16"),
    "sizes": (lambda: later().isel(lon=slice(3)), InvalidInputError, "'lon'"),
    "labels": (lambda: later().assign_coords(lat=[-10.0, 0.0, 11.0]), LabelError, "'lat' is 11.0"),
    "flipped labels": (lambda: later().isel(lat=slice(None, None, -1)), LabelError, "'lat' is 10.0"),
    "calendar": (noleap, LabelError, "'time' counts in the calendar '365_day'"),
    "missing variable": (lambda: later().drop_vars("pr"), InvalidInputError, "lacks 'pr'"),
    "new variable": (lambda: later().assign(new=later()["tas"]), InvalidInputError, "no 'new'"),
    "dimensions": (lambda: later().rename(lon="x"), InvalidInputError, "'x'"),
    "units": (
        lambda: later().assign(tas=later()["tas"].assign_attrs(units="degC")),
        InvalidInputError,
        "'tas' need units 'degC'",
    ),
    "units too coarse": (
        lambda: later().assign_coords(time=later()["time"] + np.timedelta64(1, "h")),
        InvalidInputError,
        "'time' need units",
    ),
}


@pytest.mark.parametrize("chunks", [None, {"time": 6}], ids=["memory", "dask"])
@pytest.mark.parametrize("case", APPENDS)
@pytest.mark.filterwarnings("ignore:Times can't be serialized faithfully")  # Xarray's words for what is refused
def test_what_does_not_fit_is_not_appended(case: str, chunks: dict[str, int] | None, held: icechunk.Session) -> None:
    make, kind, said = APPENDS[case]
    ds = make() if chunks is None else make().chunk(chunks)
    with pytest.raises(kind, match=said) as refused:
        frazil.to_icechunk(ds, held, append_dim="time", executor=frazil.SerialExecutor())
    assert refused.value.exit_code == 2  # type: ignore[attr-defined]
    assert not held.has_uncommitted_changes


@pytest.mark.parametrize("dim", ["day", "x"])
def test_an_append_along_what_is_not_there_is_refused(dim: str, held: icechunk.Session) -> None:
    ds = later() if dim == "day" else later().rename(lon="x")
    with pytest.raises(InvalidInputError, match=f"'{dim}'"):
        frazil.DatasetWriter(ds, held).for_append(dim)


def test_an_append_to_no_group_is_refused(session: icechunk.Session) -> None:
    with pytest.raises(InvalidInputError, match="no group 'a' in the session"):
        frazil.DatasetWriter(later(), session).for_append("time", "a")


@pytest.mark.parametrize(
    ("region", "said"),
    [
        ({"time": slice(22, 28)}, "22:28 along 'time' lies outside"),
        ({"time": slice(-6, None)}, "-6:24 along 'time' lies outside"),
        ({"time": slice(0, 5)}, "has 6 along 'time', and the region 0:5 has 5"),
        ({"day": slice(0, 6)}, "no dimension 'day'"),
        ("auto", "Not all values of coordinate 'time'"),
        ({"time": "auto"}, "Not all values of coordinate 'time'"),
    ],
)
@pytest.mark.parametrize("chunks", [None, {"time": 6}], ids=["memory", "dask"])
def test_a_region_that_is_not_there_is_refused(
    region: Any, said: str, chunks: dict[str, int] | None, held: icechunk.Session
) -> None:
    ds = later().drop_vars("mask")
    with pytest.raises(InvalidInputError, match=said):
        frazil.DatasetWriter(ds if chunks is None else ds.chunk(chunks), held).for_region(region)
    assert not held.has_uncommitted_changes


def test_a_region_under_other_labels_is_refused(held: icechunk.Session) -> None:
    ds = dataset(0, 6).drop_vars("mask").assign_coords(lat=[-10.0, 0.0, 11.0])
    with pytest.raises(LabelError, match=r"'lat' is 11\.0"):
        frazil.DatasetWriter(ds, held).for_region({"time": slice(0, 6)})
    with pytest.raises(LabelError, match="'time' is 2000-01-01"):
        frazil.DatasetWriter(dataset(0, 6).drop_vars("mask"), held).for_region({"time": slice(6, 12)})


def test_a_new_variable_of_another_length_is_refused(held: icechunk.Session) -> None:
    ds = xr.Dataset({"new": ("time", np.arange(7.0))})
    writer = frazil.DatasetWriter(ds, held).for_modify()
    with pytest.raises(InvalidInputError, match="'new' has 7 along 'time'"):
        writer.write_metadata()
    assert not held.has_uncommitted_changes


def test_an_existing_group_is_refused_and_kept(held: icechunk.Session) -> None:
    with pytest.raises(ExistingGroupError, match="root group exists already"):
        frazil.to_icechunk(dataset(), held)
    assert not held.has_uncommitted_changes


def test_a_graph_that_cannot_be_pickled_is_refused_by_name(held: icechunk.Session) -> None:
    lock = threading.Lock()
    ds = later().chunk(time=6)
    ds["pr"] = ds["pr"].copy(data=ds["pr"].data.map_blocks(lambda part: (part, lock)[0]))
    writer = frazil.DatasetWriter(ds, held).for_append("time")
    with pytest.raises(InvalidInputError, match=r"'pr'.*cannot be pickled.*lock"):
        writer.write_metadata()
    assert not held.has_uncommitted_changes


def test_a_lazy_variable_of_a_writable_session_is_refused_by_name(held: icechunk.Session) -> None:
    ds = xr.open_zarr(held.store, consolidated=False, chunks=None)[["tas"]]
    with pytest.raises(InvalidInputError, match="'tas' cannot be pickled"):
        frazil.to_icechunk(ds, held, group="copy")
    assert not held.has_uncommitted_changes


def test_what_xarray_refuses_leaves_nothing(session: icechunk.Session) -> None:
    ds = dataset()
    with pytest.raises(InvalidInputError, match=r"'(tas|pr)'.*overlap multiple Dask chunks"):
        frazil.to_icechunk(ds.chunk(time=7), session)
    with pytest.raises(InvalidInputError, match="unexpected encoding parameters"):
        frazil.to_icechunk(ds, session, encoding={"tas": {"nonsense": 1}})
    assert not session.has_uncommitted_changes


def test_a_session_that_cannot_be_written_is_refused(repo: icechunk.Repository, held: icechunk.Session) -> None:
    done = repo.writable_session("main")
    zarr.open_group(done.store, mode="a").attrs["a"] = 1
    done.commit("done")
    for session in (repo.readonly_session("main"), done):
        with pytest.raises(InvalidInputError, match="is read-only: it was opened so, or has been committed"):
            frazil.DatasetWriter(dataset(), session)
        with pytest.raises(InvalidInputError, match="is read-only"):
            frazil.store_dask(session, sources=[], targets=[])
    with pytest.raises(InvalidInputError, match="fork of a session"):
        frazil.to_icechunk(dataset(), held.fork())
    with pytest.raises(InvalidInputError, match="IcechunkStore"):
        frazil.to_icechunk(dataset(), held.store)  # type: ignore[arg-type]


def test_a_session_that_is_committed_between_two_steps_is_refused(session: icechunk.Session) -> None:
    writer = frazil.DatasetWriter(dataset().chunk(time=6), session).for_create_or_overwrite()
    writer.write_metadata()
    session.commit("too early")
    with pytest.raises(InvalidInputError, match="has been committed"):
        writer.write_eager()
    with pytest.raises(InvalidInputError, match="has been committed"):
        writer.write_lazy()


def test_steps_out_of_order_are_refused(session: icechunk.Session) -> None:
    writer = frazil.DatasetWriter(dataset(), session)
    for step in (writer.write_metadata, writer.write_eager, writer.write_lazy):
        with pytest.raises(InvalidInputError, match="say first where the dataset goes"):
            step()
    with pytest.raises(InvalidInputError, match="between for_modify and write_metadata"):
        writer.drop_existing_vars()
    writer.for_modify()
    with pytest.raises(InvalidInputError, match="has been told where"):
        writer.for_create_or_overwrite()
    for step in (writer.write_eager, writer.write_lazy):
        with pytest.raises(InvalidInputError, match="call write_metadata first"):
            step()
    writer.write_metadata()
    with pytest.raises(InvalidInputError, match="between for_modify and write_metadata"):
        writer.drop_existing_vars()
    with pytest.raises(InvalidInputError, match="has been written"):
        writer.write_metadata()
    for step in (writer.write_eager, writer.write_lazy):
        step()
        with pytest.raises(InvalidInputError, match="is done once"):
            step()


def test_modes_that_do_not_go_together_are_refused(held: icechunk.Session) -> None:
    with pytest.raises(InvalidInputError, match="mode cannot be 'x'"):
        frazil.to_icechunk(dataset(), held, mode="x")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="append along 'time'"):
        frazil.to_icechunk(later(), held, mode="w", append_dim="time")
    with pytest.raises(InvalidInputError, match="a region is written"):
        frazil.to_icechunk(later(), held, mode="w", region="auto")


def test_a_repository_in_memory_is_refused_where_functions_write() -> None:
    repo = icechunk.Repository.create(icechunk.in_memory_storage())
    session = repo.writable_session("main")
    with pytest.raises(InvalidInputError, match="functions cannot open the repository"):
        frazil.to_icechunk(dataset().chunk(time=6), session)
    assert not session.has_uncommitted_changes
    frazil.to_icechunk(dataset(), session)
    xr.testing.assert_equal(read(session), dataset())


def fails_at(location: tuple[int, ...]) -> Callable[..., Any]:
    def fail(part: Any, block_info: Any = None) -> Any:
        if block_info and block_info[0]["chunk-location"] == location:
            raise ZeroDivisionError("no such day")
        return part

    return fail


def test_a_function_that_fails_is_named_and_nothing_of_any_is_kept(
    session: icechunk.Session, serial: frazil.SerialExecutor
) -> None:
    days = da.ones((4, 1 << 22), chunks=(1, 1 << 22)).map_blocks(fails_at((3, 0)), dtype="f8", meta=np.empty((0, 0)))
    writer = frazil.DatasetWriter(xr.Dataset({"v": (("x", "y"), days)}), session, executor=serial)
    writer.for_create_or_overwrite().write_metadata()
    before = session.status()
    with pytest.raises(SourceError, match=r"v\[x 3:4, y 0:4194304\] could not be computed: ZeroDivisionError") as error:
        writer.write_lazy()
    assert "the session holds nothing" in error.value.__notes__[-1]
    assert session.status().updated_chunks == before.updated_chunks
    assert read(session, decode_cf=False)["v"][:, :3].isnull().all()


def test_a_step_that_failed_can_be_tried_again(
    session: icechunk.Session, serial: frazil.SerialExecutor, tmp_path: Path
) -> None:
    def unless_mended(part: Any) -> Any:
        if part.size and not (tmp_path / "mended").exists():
            raise FileNotFoundError("not yet")
        return part

    values = da.ones((4, 3), chunks=(2, 3)).map_blocks(unless_mended, dtype="f8", meta=np.empty((0, 0)))
    writer = frazil.DatasetWriter(xr.Dataset({"v": (("x", "y"), values)}), session, executor=serial)
    writer.for_create_or_overwrite().write_metadata()
    with pytest.raises(SourceError, match="not yet"):
        writer.write_lazy()
    (tmp_path / "mended").touch()
    writer.write_lazy()
    assert (read(session)["v"] == 1).all()


class Meddling(frazil.SerialExecutor):
    """An executor whose functions return what `meddle` makes of it."""

    def __init__(self, meddle: Callable[[SliceTask], bytes]) -> None:
        self.meddle = meddle

    def calls(self, function: Any) -> Any:
        meddle = self.meddle

        class Calls(SerialCalls[Any, Any]):
            def next(self, timeout: float | None = None) -> Any:  # noqa: ARG002 - nothing is waited for
                index, task = self._queue.popleft()
                return frazil.Outcome(index, value=meddle(task))

        return Calls(function)


def of_another_task(task: SliceTask) -> bytes:
    written = slices.write_slices(task)
    return dump_slices_written(slices.SlicesWritten(7, written.fork, 0, 0.0))


def of_another_repository(task: SliceTask) -> bytes:
    other = repository(Path(tempfile.mkdtemp()))
    committed(other, dataset())
    fork = slices.dump_fork(other.writable_session("main").fork())
    return dump_slices_written(slices.SlicesWritten(task.number, fork, 0, 0.0))


def of_nothing(task: SliceTask) -> bytes:
    return dump_slices_written(slices.SlicesWritten(task.number, task.fork, 0, 0.0))


def of_other_chunks(task: SliceTask) -> bytes:
    fork = slices.load_fork(slices.write_slices(task).fork)
    zarr.open_array(fork.store, path="other")[:] = 1
    return dump_slices_written(slices.SlicesWritten(task.number, slices.dump_fork(fork), 0, 0.0))


@pytest.mark.parametrize(
    ("meddle", "said"),
    [
        (of_another_task, "is of task 7"),
        (of_another_repository, "not one of this session's"),
        (of_nothing, "lacks chunk"),
        (of_other_chunks, "writes another array"),
        (lambda _: b"nonsense", "cannot be read"),
    ],
)
def test_what_does_not_come_from_the_task_is_not_merged(
    meddle: Callable[[SliceTask], bytes], said: str, session: icechunk.Session
) -> None:
    zarr.group(session.store).create_array("other", shape=(2,), chunks=(1,), dtype="f8")
    target = zarr.open_group(session.store, mode="a").create_array("v", shape=(4,), chunks=(2,), dtype="f8")
    before = session.status()
    with pytest.raises(frazil.ReceiptError, match=said):
        frazil.store_dask(session, sources=[da.ones(4, chunks=2)], targets=[target], executor=Meddling(meddle))
    assert session.status().updated_chunks == before.updated_chunks
