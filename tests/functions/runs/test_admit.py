"""The last look before a commit: what the merged session changed against what the plan says."""

from pathlib import Path

import icechunk
import pytest
import zarr

import frazil
from frazil_functions.grids import WriteGrid
from frazil_functions.regions import Region
from frazil_functions.runs.admit import check_merged

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
