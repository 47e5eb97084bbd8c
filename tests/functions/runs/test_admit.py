"""What receipts may refer to; and the last look before a commit: what the merged session changed against the plan."""

from dataclasses import replace
from pathlib import Path

import icechunk
import numpy as np
import pytest
import xarray as xr
import zarr

import frazil
from frazil_functions.forks import dump_fork, load_fork
from frazil_functions.grids import WriteGrid
from frazil_functions.locations import locate
from frazil_functions.regions import Region
from frazil_functions.rundir import RunDirectory
from frazil_functions.runs.admit import admit, check_merged
from frazil_functions.runs.run import Run
from frazil_functions.runs.start import start
from frazil_functions.tasks import Receipt, RegionReceipt

GRID = WriteGrid("a", ("x",), (10,), (2,))


@pytest.fixture
def session(tmp_path: Path) -> icechunk.Session:
    """A session above a committed template of one array of five chunks in the group g."""
    repo = icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path / "r")))
    writing = repo.writable_session("main")
    group = zarr.open_group(writing.store, path="g", mode="a")
    group.create_array("a", shape=(10,), chunks=(2,), dtype="f4", dimension_names=("x",), fill_value=0)
    writing.commit("template")
    return repo.writable_session("main")


def array(session: icechunk.Session) -> zarr.Array:
    found = zarr.open_group(session.store, path="g", mode="r+")["a"]
    assert isinstance(found, zarr.Array)
    return found


def test_exactly_the_planned_chunks_pass(session: icechunk.Session) -> None:
    array(session)[0:4] = 1
    check_merged(session, "g", [GRID], frozenset({Region("a", (("x", 0, 4),))}))


def test_chunks_of_nothing_but_fill_count_as_written(session: icechunk.Session) -> None:
    array(session)[0:4] = 0
    check_merged(session, "g", [GRID], frozenset({Region("a", (("x", 0, 4),))}))


def test_a_chunk_that_was_not_planned_is_found(session: icechunk.Session) -> None:
    array(session)[0:6] = 1
    with pytest.raises(frazil.VerificationError, match=r"writes chunk \(2,\) of 'a', which no region"):
        check_merged(session, "g", [GRID], frozenset({Region("a", (("x", 0, 4),))}))


def test_a_chunk_that_is_missing_is_found(session: icechunk.Session) -> None:
    array(session)[0:2] = 1
    with pytest.raises(frazil.VerificationError, match=r"lacks chunk \(1,\) of 'a'"):
        check_merged(session, "g", [GRID], frozenset({Region("a", (("x", 0, 4),))}))


def test_changed_metadata_is_found(session: icechunk.Session) -> None:
    array(session)[0:4] = 1
    zarr.open_group(session.store, path="g", mode="r+").attrs["who"] = "me"
    with pytest.raises(frazil.VerificationError, match="changes '/g'"):
        check_merged(session, "g", [GRID], frozenset({Region("a", (("x", 0, 4),))}))


def test_a_chunk_of_an_array_that_was_not_planned_is_found(session: icechunk.Session) -> None:
    array(session)[0:4] = 1
    with pytest.raises(frazil.VerificationError, match="changes '/g/a'"):
        check_merged(session, "g", [], frozenset())


@pytest.fixture
def referring(tmp_path: Path) -> Run:
    """A run that has been started: `large` refers to the one file of its plan, and `small` is copied."""
    raw = tmp_path / "raw"
    raw.mkdir()
    values = {"large": (("time", "x"), np.ones((2, 20_000), "f4")), "small": (("time",), np.ones(2, "f4"))}
    xr.Dataset(values, {"time": [0, 1]}).to_netcdf(raw / "a.nc", format="NETCDF3_CLASSIC")
    plan = frazil.plan(raw / "a.nc", tmp_path / "r", virtual=True, containers=[raw], executor=frazil.SerialExecutor())
    assert set(plan.layouts) == {"large"}
    return start(plan, RunDirectory(locate(tmp_path / "r.frazil" / "run")))


def receipt_with(run: Run, array: str, url: str) -> Receipt:
    """The receipt of a function that lets every chunk of an array refer to a URL."""
    (fork,) = map(load_fork, run.forks)
    regions = [region for region in run.plan.regions if region.array == array]
    grid = run.expected.grids[array]
    for region in regions:
        for index in grid.units(region):
            fork.store.set_virtual_ref(
                f"{array}/c/{'/'.join(map(str, index))}", url, offset=0, length=4, validate_container=False
            )
    written = tuple(RegionReceipt(region, grid.count(region), 0, 0) for region in regions)
    whose = (run.run_id, run.record.plan_hash, (run.record.targets[0].snapshot,), 0)
    return Receipt(*whose, written, (dump_fork(fork),), 0.0, 0.0, 0.0, 0.0, 0, "", {})


def test_references_into_the_plans_files_are_admitted(referring: Run) -> None:
    (place,) = referring.expected.places
    admit(receipt_with(referring, "large", place), referring.expected)


@pytest.mark.parametrize("name", ["b.nc", "a.nc/x", "a.nc.bak", "../a.nc", "a.nc/../b.nc", ""])
def test_a_reference_to_a_file_that_the_plan_does_not_name_is_refused(referring: Run, name: str) -> None:
    (place,) = referring.expected.places
    elsewhere = f"{place.rpartition('/')[0]}/{name}"  # the repository's container holds it
    with pytest.raises(frazil.ReceiptError, match=r"lets 'large' refer to .* none of the plan's files"):
        admit(receipt_with(referring, "large", elsewhere), referring.expected)


def test_a_reference_in_an_array_that_is_copied_is_refused(referring: Run) -> None:
    (place,) = referring.expected.places
    with pytest.raises(frazil.ReceiptError, match="lets 'small' refer to"):
        admit(receipt_with(referring, "small", place), referring.expected)


def test_references_below_a_hierarchy_of_the_plan_are_admitted_and_those_out_of_it_are_not(referring: Run) -> None:
    place = "file:///data/a.zarr/"
    expected = replace(referring.expected, places=frozenset({place}))
    admit(receipt_with(referring, "large", f"{place}large/c/0/0"), expected)
    for outside in ("file:///data/a.zarr", "file:///data/b.zarr/large/c/0/0", f"{place}large/../../b.zarr/large/c/0/0"):
        assert not expected.holds(outside)
