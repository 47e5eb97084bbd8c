"""Clients that are killed while they write into a group that exists: readers see the old one until all is there."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import frazil
from frazil.planning.cut import group
from frazil_functions.locations import locate
from frazil_functions.plan import Mode, Plan

from .jobs import HOURS, Clients, Job, dataset
from .proxy import Kill, Proxy, Rule

MODES: tuple[Mode, ...] = ("overwrite", "append", "region", "modify", "add")


def changed() -> xr.Dataset:
    """Other values under the same labels."""
    return dataset().assign(tas=-dataset()["tas"])


def given(mode: Mode) -> xr.Dataset:
    """What is written in each mode."""
    match mode:
        case "append":
            later = changed().isel(time=slice(0, 5))
            return later.assign_coords(time=later["time"] + HOURS)
        case "region":
            return changed().isel(time=slice(3, 9), lat=slice(2, 11)).drop_vars("mask")
        case "add":
            return changed().rename(tas="pr")
        case _:
            return changed()


def wanted(mode: Mode) -> xr.Dataset:
    """What readers see in the end."""
    old, new = dataset(), given(mode)
    match mode:
        case "append":
            return xr.concat([old, new], "time", data_vars="minimal")
        case "region":
            old["tas"][3:9, 2:11] = new["tas"]
            return old
        case "add":
            return old.assign(pr=new["pr"])
        case _:
            return new


@dataclass(frozen=True, slots=True)
class Change:
    """A plan of many tasks that writes into a group, and what is read of that."""

    job: Job
    mode: Mode
    before: str

    @classmethod
    def make(cls, folder: Path, where: str, mode: Mode) -> "Change":
        old, new = folder / f"{secrets.token_hex(4)}.nc", folder / f"{secrets.token_hex(4)}.nc"
        dataset().to_netcdf(old)
        given(mode).to_netcdf(new)
        cut = {"time": 2} if mode in {"overwrite", "add"} else None
        with frazil.SerialExecutor() as executor:
            first = frazil.convert(old, locate(where), chunks={"time": 4, "lat": 8}, executor=executor)
            made = frazil.plan(new, locate(where), mode=mode, append_dim="time", chunks=cut, executor=executor)
            made = parted(made)
        file = folder / f"{secrets.token_hex(4)}.json"
        file.write_bytes(made.to_json())
        return cls(Job(made, file), mode, first.snapshot_id)

    def assert_old(self) -> None:
        assert self.job.repo.lookup_branch("main") == self.before
        xr.testing.assert_equal(self.job.read()[list(dataset().variables)], dataset())

    def assert_new(self) -> None:
        found, expected = self.job.read(), wanted(self.mode)
        assert set(found.variables) == set(expected.variables)
        for name in expected.variables:
            np.testing.assert_array_equal(found[name], expected[name])
        history = list(self.job.repo.ancestry(branch="main"))
        assert history[1].id == self.before
        assert set(self.job.repo.list_branches()) == {"main"}


def parted(plan: Plan) -> Plan:
    """The same in a task for every write unit, so that there is something to be cut off."""
    regions = []
    for region in plan.regions:
        grid = plan.template.arrays[region.array].grid
        regions += grid.cut(1, grid.unit_slices(region))
    spans = [(source.start, source.stop) for source in plan.sources]
    return replace(plan, tasks=group(plan.template, regions, spans, len(regions), 1))


@pytest.fixture(scope="module")
def clients() -> Iterator[Clients]:
    with Clients() as running:
        yield running


@pytest.fixture(params=["disk", "s3"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        return f"s3://{request.getfixturevalue('bucket')}/archive"
    return str(tmp_path / "archive")


@pytest.mark.parametrize("dies", [("write", 0), ("write", 3), ("verify", 0), ("publish", 0)], ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_a_client_that_is_killed_leaves_the_old_group_and_resuming_makes_the_new_one(
    mode: Mode, dies: tuple[str, int], where: str, tmp_path: Path, clients: Clients
) -> None:
    change = Change.make(tmp_path, where, mode)
    assert change.job.plan.region_count > 3
    assert clients.say(change.job.run(dies=dies)) is None
    change.assert_old()
    said = clients.say(change.job.resume(options={"verify": "full"}))
    assert said is not None
    assert said.get("snapshot_id") == change.job.repo.lookup_branch("main"), said
    change.assert_new()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", MODES)
def test_a_client_that_is_killed_at_any_write_request_leaves_the_old_group_or_the_new_one(
    mode: Mode, tmp_path: Path, clients: Clients, bucket: str, proxy: Proxy, every: int
) -> None:
    at = 0
    while True:
        change = Change.make(tmp_path, f"s3://{bucket}/{secrets.token_hex(4)}", mode)
        rule = Rule(Kill(), method="PUT|POST|DELETE", skip=at, times=1)
        with proxy.injected(rule):
            said = clients.say(change.job.run())
        if rule.struck == 0:
            assert said is not None
            break
        if change.job.repo.lookup_branch("main") == change.before:
            change.assert_old()
        said = clients.say(change.job.resume() if "plan.json" in change.job.left() else change.job.run())
        assert said is not None
        assert "snapshot_id" in said, said
        change.assert_new()
        at += every
    assert at > 10
