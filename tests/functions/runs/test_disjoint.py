"""What somebody else committed against what a plan writes: what is told apart, and what is named."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pytest
import xarray as xr
import zarr

import frazil
from frazil.planning.make import Options, make_plan
from frazil.planning.scan import Wanted, scan_sources
from frazil.report import silent
from frazil_functions.errors import ConflictError
from frazil_functions.locations import locate
from frazil_functions.plan import Plan, PlanTarget
from frazil_functions.runs.disjoint import check_disjoint

GROUP = "a/model"


@pytest.fixture
def repo(tmp_path: Path) -> icechunk.Repository:
    """A repository that has the plan's group, as if it were to be written into, and others beside it."""
    made = icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path / "repo")))
    session = made.writable_session("main")
    for path in (GROUP, "b", "a/modelled"):
        group = zarr.open_group(session.store, path=path, mode="a")
        group.create_array("tas", shape=(8, 6), chunks=(2, 3), dtype="f4", fill_value=np.nan)
        group.create_array("lat", shape=(6,), chunks=(6,), dtype="f8", fill_value=0.0)
    session.commit("arrays")
    return made


@pytest.fixture
def plan(tmp_path: Path, repo: icechunk.Repository) -> Plan:
    """A plan of all of `tas`; `lat` is written once."""
    values = np.zeros((8, 6), "f4")
    xr.Dataset({"tas": (("time", "lat"), values)}, {"time": np.arange(8), "lat": np.arange(6.0)}).to_netcdf(
        tmp_path / "x.nc", engine="netcdf4"
    )
    with frazil.SerialExecutor() as executor:
        found = scan_sources([str(tmp_path / "x.nc")], Wanted(append_dim="time"), executor, silent)
    target = PlanTarget(locate(tmp_path / "repo"), GROUP, "main", repo.lookup_branch("main"), "create")
    return make_plan(found, target, Options(chunks={"time": 2, "lat": 3}, region_bytes=1, task_bytes=1))


type Change = Callable[[icechunk.Session], object]


def array(session: icechunk.Session, path: str) -> Any:
    return zarr.open_array(session.store, path=path, mode="r+")


def chunks(path: str, *where: Any) -> Change:
    def change(session: icechunk.Session) -> None:
        for one in where:
            array(session, path)[one] = 1

    return change


def group_at(path: str) -> Change:
    return lambda session: zarr.open_group(session.store, path=path, mode="a")


def array_at(path: str) -> Change:
    return lambda session: zarr.create_array(session.store, name=path, shape=(2,), dtype="i4")


def attribute(path: str) -> Change:
    return lambda session: zarr.open(session.store, path=path, mode="r+").attrs.update({"by": "somebody"})


def deleted(path: str) -> Change:
    def change(session: icechunk.Session) -> None:
        parent, _, name = path.rpartition("/")
        del zarr.open_group(session.store, path=parent, mode="r+")[name]

    return change


def moved(before: str, after: str) -> Change:
    return lambda session: session.move(before, after)


def somebody(repo: icechunk.Repository, change: Change, branch: str = "main") -> str:
    """Somebody's commit of a change."""
    session = repo.rearrange_session(branch) if "move" in change.__code__.co_names else repo.writable_session(branch)
    change(session)
    return session.commit("somebody else")


APART: dict[str, Change] = {
    "another group's chunks": chunks("b/tas", np.s_[:]),
    "a new group beside": group_at("c/d"),
    "a new group whose name begins alike": group_at("a/model2"),
    "a new array beside in the group": array_at(f"{GROUP}/pr"),
    "attributes of another group": attribute("b"),
    "attributes of a group whose name begins alike": attribute("a/modelled"),
    "attributes of a group above": attribute("a"),
    "another group's removal": deleted("b"),
    "another group's move": moved("/b", "/c"),
}


@pytest.mark.parametrize("change", APART.values(), ids=APART.keys())
def test_commits_that_leave_alone_what_the_plan_writes_are_disjoint(
    repo: icechunk.Repository, plan: Plan, change: Change
) -> None:
    base = repo.lookup_branch("main")
    check_disjoint(repo, plan, base, somebody(repo, change))


SHARED: dict[str, tuple[Change, str]] = {
    "one chunk": (chunks(f"{GROUP}/tas", np.s_[2:4, 3:]), r"write the array '/a/model/tas', chunk \(1, 1\)\. "),
    "several chunks": (
        chunks(f"{GROUP}/tas", np.s_[2:4, 3:], np.s_[6:, :3]),
        r"write the array '/a/model/tas', 2 chunks between \(1, 0\) and \(3, 1\)\. ",
    ),
    "labels": (chunks(f"{GROUP}/lat", np.s_[:]), r"write the array '/a/model/lat', chunk \(0,\)\. "),
    "two arrays": (
        lambda session: (chunks(f"{GROUP}/tas", np.s_[:2, :3])(session), chunks(f"{GROUP}/lat", 0)(session)),
        r"write the array '/a/model/tas', chunk \(0, 0\); the array '/a/model/lat', chunk \(0,\)\. ",
    ),
    "an array's attributes": (attribute(f"{GROUP}/tas"), "write the array '/a/model/tas'. "),
    "the group's attributes": (attribute(GROUP), "write the group '/a/model'. "),
    "an array's removal": (deleted(f"{GROUP}/tas"), "write the array '/a/model/tas'"),
    "the group's removal": (deleted(GROUP), "write the group '/a/model'; "),
    "the removal of the group above": (deleted("a"), "the group '/a' above it"),
    "an array's move": (moved(f"/{GROUP}/tas", "/b/was"), "write the array '/a/model/tas'"),
    "the group's move": (moved(f"/{GROUP}", "/c"), "write the group '/a/model'"),
    "the move of the group above": (moved("/a", "/c"), "the group '/a' above it"),
    "an array of the group that comes from elsewhere": (
        array_at(f"{GROUP}/time"),
        "write the array '/a/model/time'",
    ),
    "an array below one that is to be": (array_at(f"{GROUP}/time/x"), "write the array '/a/model/time'"),
}


@pytest.mark.parametrize(("change", "named"), SHARED.values(), ids=SHARED.keys())
def test_commits_that_write_what_the_plan_writes_are_named(
    repo: icechunk.Repository, plan: Plan, change: Change, named: str
) -> None:
    base = repo.lookup_branch("main")
    tip = somebody(repo, change)
    with pytest.raises(ConflictError, match=named) as caught:
        check_disjoint(repo, plan, base, tip)
    assert f"from {base} to {tip}" in str(caught.value)


def test_chunks_of_an_array_that_no_region_owns_are_disjoint(repo: icechunk.Repository, plan: Plan) -> None:
    half = replace(plan, tasks=tuple(replace(one, regions=one.regions[: len(one.regions) // 2]) for one in plan.tasks))
    owned = 4
    base = repo.lookup_branch("main")
    check_disjoint(repo, half, base, somebody(repo, chunks(f"{GROUP}/tas", np.s_[owned:])))
    with pytest.raises(ConflictError, match=r"'/a/model/tas', 2 chunks between \(1, 0\) and \(1, 1\)"):
        check_disjoint(repo, half, base, somebody(repo, chunks(f"{GROUP}/tas", np.s_[owned - 2 : owned])))


def test_every_commit_since_the_base_counts(repo: icechunk.Repository, plan: Plan) -> None:
    base = repo.lookup_branch("main")
    somebody(repo, APART["a new group beside"])
    somebody(repo, SHARED["one chunk"][0])
    tip = somebody(repo, APART["another group's removal"])
    with pytest.raises(ConflictError, match="'/a/model/tas', chunk"):
        check_disjoint(repo, plan, base, tip)


def test_what_was_committed_and_taken_back_by_another_commit_is_still_a_conflict(
    repo: icechunk.Repository, plan: Plan
) -> None:
    """Whoever read the values in between may hold them for true."""
    base = repo.lookup_branch("main")
    somebody(repo, chunks(f"{GROUP}/tas", np.s_[:2, :3]))

    def back(session: icechunk.Session) -> None:
        array(session, f"{GROUP}/tas")[:2, :3] = np.nan

    with pytest.raises(ConflictError, match=r"chunk \(0, 0\)"):
        check_disjoint(repo, plan, base, somebody(repo, back))


def test_a_branch_that_has_not_moved_is_disjoint(repo: icechunk.Repository, plan: Plan) -> None:
    base = repo.lookup_branch("main")
    check_disjoint(repo, plan, base, base)


def test_a_tip_that_does_not_descend_from_the_base_is_a_conflict(repo: icechunk.Repository, plan: Plan) -> None:
    base = repo.lookup_branch("main")
    first = list(repo.ancestry(branch="main"))[-1].id
    repo.create_branch("side", first)
    aside = somebody(repo, group_at("c"), "side")
    for tip in (first, aside):
        with pytest.raises(ConflictError, match=f"was set to {tip}, which does not descend from {base}"):
            check_disjoint(repo, plan, base, tip)
