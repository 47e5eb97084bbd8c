"""Modes one after another, in any order, on one group: what is read is what the same would be in memory."""

import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import frazil

from .hourly import read, state

LAT, LON = np.array([-60.0, -20.0, 20.0, 60.0]), np.array([0.0, 90.0, 180.0])
NAMES = ("tas", "pr", "ts")
ORDERS = st.sampled_from(["straight", "lat", "lon"])


def turned(dataset: xr.Dataset, order: str) -> xr.Dataset:
    """The same values under the same labels, in another order."""
    if order == "lat":
        return dataset.isel(lat=slice(None, None, -1))
    return dataset.isel(lon=np.roll(np.arange(dataset.sizes["lon"]), 1)) if order == "lon" else dataset


class Group(RuleBasedStateMachine):
    """A group of a repository, and a dataset in memory that the same is done to."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="frazil-modes-")
        self.target = Path(self.folder.name) / "archive.icechunk"
        self.count = 0
        self.model = xr.Dataset()

    def teardown(self) -> None:
        self.folder.cleanup()

    def values(self, names: tuple[str, ...], start: int, stop: int) -> xr.Dataset:
        """New values, that no other write has."""
        self.count += 1
        shape = (stop - start, len(LAT), len(LON))
        numbers = self.count * 1e4 + np.arange(start * 12, stop * 12, dtype="f8").reshape(shape)
        return xr.Dataset(
            {name: (("time", "lat", "lon"), numbers + at / 10, {"units": "K"}) for at, name in enumerate(names)},
            {
                "time": ("time", np.arange(start, stop)),
                "lat": LAT,
                "lon": LON,
                "step": ("time", np.arange(start, stop) * 2),
            },
        ).set_coords("step")

    def files(self, dataset: xr.Dataset, cuts: int) -> list[str]:
        """The dataset in files, cut along time, and named against their order."""
        edges = np.unique(np.linspace(0, dataset.sizes["time"], cuts + 1).astype(int))
        paths = []
        for number, (start, stop) in enumerate(pairwise(edges)):
            path = Path(self.folder.name) / f"{self.count}-{9 - number}.nc"
            dataset.isel(time=slice(start, stop)).to_netcdf(path)
            paths.append(str(path))
        return paths[::-1]

    def convert(self, dataset: xr.Dataset, cuts: int, **options: Any) -> None:
        options = {"executor": frazil.SerialExecutor(), "verify": "full", "append_dim": "time", "workers": 3} | options
        frazil.convert(self.files(dataset, cuts), self.target, **options)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name in NAMES if name in self.model)

    @property
    def hours(self) -> int:
        return self.model.sizes["time"]

    @initialize(hours=st.integers(1, 7), chunks=st.integers(1, 5), sharded=st.booleans(), cuts=st.integers(1, 3))
    def create(self, hours: int, chunks: int, sharded: bool, cuts: int) -> None:
        self.model = self.values(("tas",), 0, hours)
        layout = {"chunks": {"time": min(chunks, hours), "lat": 2}}
        if sharded:
            layout["shards"] = {"time": 2 * min(chunks, hours), "lat": 4}
        self.convert(self.model, cuts, **layout)

    @precondition(lambda self: self.hours < 30)
    @rule(more=st.integers(1, 6), cuts=st.integers(1, 3), order=ORDERS)
    def append(self, more: int, cuts: int, order: str) -> None:
        new = self.values(self.names, self.hours, self.hours + more)
        self.convert(turned(new, order), cuts, mode="append", reorder=order != "straight")
        self.model = xr.concat([self.model, new], "time")

    @rule(data=st.data(), cuts=st.integers(1, 2))
    def replace_behind(self, data: st.DataObject, cuts: int) -> None:
        start = data.draw(st.integers(1, self.hours))
        stop = data.draw(st.integers(start + 1, self.hours + 3))
        new = self.values(self.names, start, stop)
        self.convert(new, cuts, mode="append", on_overlap="replace")
        parts = [self.model.isel(time=slice(0, start)), new, self.model.isel(time=slice(stop, None))]
        self.model = xr.concat(parts, "time")

    @rule(data=st.data(), cuts=st.integers(1, 3), order=ORDERS, sliced=st.booleans())
    def region(self, data: st.DataObject, cuts: int, order: str, sliced: bool) -> None:
        box = {}
        for dim, length in self.model.sizes.items():
            low = data.draw(st.integers(0, length - 1))
            box[str(dim)] = slice(low, data.draw(st.integers(low + 1, length)))
        names = tuple(data.draw(st.lists(st.sampled_from(self.names), min_size=1, unique=True)))
        new = self.values(names, 0, self.hours).isel(box)
        asked: Any = {"lat": box["lat"], "time": "auto"} if sliced else "auto"
        file = new.drop_vars("lat") if sliced and order != "lat" else new
        self.convert(turned(file, order), cuts, mode="region", region=asked, reorder=order != "straight")
        for name in names:
            self.model[name][box] = new[name].values

    @rule(data=st.data(), cuts=st.integers(1, 3), order=ORDERS, note=st.integers())
    def modify(self, data: st.DataObject, cuts: int, order: str, note: int) -> None:
        names = tuple(data.draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True)))
        new = self.values(names, 0, self.hours).assign_attrs(note=note % 1000)
        self.convert(turned(new, order), cuts, mode="modify", reorder=order != "straight")
        self.model = self.model.assign({name: new[name] for name in names}).assign_attrs(new.attrs)

    @precondition(lambda self: len(self.names) < len(NAMES))
    @rule(cuts=st.integers(1, 3), order=ORDERS)
    def add(self, cuts: int, order: str) -> None:
        new = self.values(NAMES, 0, self.hours).assign_attrs(note=-1)
        self.convert(turned(new, order), cuts, mode="add", reorder=order != "straight", chunks={"lat": 3})
        self.model = self.model.assign({name: new[name] for name in NAMES if name not in self.names})

    @rule(hours=st.integers(1, 7), cuts=st.integers(1, 3))
    def overwrite(self, hours: int, cuts: int) -> None:
        self.model = self.values(("tas",), 0, hours)
        self.convert(self.model, cuts, mode="overwrite", chunks={"time": -(-hours // 2)})

    @rule(case=st.sampled_from(["gap", "backwards", "outside", "lacking", "flipped", "short"]))
    def refuse(self, case: str) -> None:
        """What does not fit leaves everything as it is."""
        end = self.hours
        other = self.values((*self.names,), end + 5, end + 9)
        mode, new = {
            "gap": ("append", other),
            "backwards": ("append", other.assign_coords(time=other["time"] - end - 50)),
            "outside": ("region", other),
            "lacking": ("append", self.values((), end, end + 1)),
            "flipped": ("region", turned(self.values(self.names, 0, end), "lat")),
            "short": ("modify", self.values(self.names, 0, end).isel(lat=slice(0, 2))),
        }[case]
        before = state(self.target)
        if case == "gap" and end < 2:
            return  # one label alone has no spacing that a step could be wider than
        with pytest.raises(frazil.InvalidInputError):
            self.convert(new, 1, mode=mode)
        assert state(self.target) == before

    @invariant()
    def what_is_read_is_what_was_written(self) -> None:
        if self.model:
            found = read(self.target)
            xr.testing.assert_equal(found, self.model)
            assert found.attrs == self.model.attrs
            assert set(found.coords) == {"time", "lat", "lon", "step"}


TestGroup = Group.TestCase
TestGroup.settings = settings(max_examples=12, stateful_step_count=8, deadline=None)
