"""A probe measures one region where functions run, and leaves nothing behind."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import frazil
from frazil.cli import main
from frazil_functions.runs.probing import dump_probed, load_probed

from .conftest import smooth, store


def test_a_probe_measures_a_typical_region_and_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for start in range(2):
        store(smooth(32 * start, 32, 128, 128), folder / f"{start}.nc", compressed=True)
    before = sorted(tmp_path.rglob("*"))
    with frazil.LithopsExecutor(backend="localhost", workers=1) as executor:
        plan = frazil.plan(str(folder / "*.nc"), tmp_path / "archive", chunks={"time": 16}, executor=executor)
        probe = frazil.probe(plan, executor)
    assert sorted(tmp_path.rglob("*")) == before
    assert probe.region.startswith("tas[")
    assert probe.nbytes == plan.nbytes == 64 * 128 * 128 * 4
    assert probe.files == 2
    assert probe.units == 4
    assert probe.read_seconds > 0
    assert probe.write_seconds > 0
    assert probe.start_seconds > 0.1  # an interpreter was started
    assert probe.peak_memory_bytes > 50e6
    frazil.run(plan, executor=frazil.SerialExecutor())
    stored = sum(path.stat().st_size for path in (tmp_path / "archive" / "chunks").rglob("*") if path.is_file())
    assert probe.stored_bytes == pytest.approx(stored, rel=0.02)


def test_the_region_is_one_that_values_lie_in_and_not_one_of_many_small_ones(tmp_path: Path) -> None:
    small = {f"small{number}": ("time", np.arange(64, dtype="f4")) for number in range(5)}
    store(smooth(0, 64, 32, 32).assign(small), tmp_path / "a.nc", compressed=False)
    with frazil.SerialExecutor() as executor:
        plan = frazil.plan(tmp_path / "a.nc", tmp_path / "archive", executor=executor)
        assert plan.region_count == 6
        assert frazil.probe(plan, executor).region.startswith("tas[")


def test_a_group_that_exists_is_probed_without_being_touched(tmp_path: Path) -> None:
    first, second = (store(smooth(start, 5, 16, 16), tmp_path / f"{start}.nc", compressed=False) for start in (0, 5))
    with frazil.SerialExecutor() as executor:
        frazil.convert(first, tmp_path / "archive", chunks={"time": 3}, executor=executor)
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
        plan = frazil.plan(second, tmp_path / "archive", mode="append", executor=executor)
        probe = frazil.probe(plan, executor)
    assert probe.nbytes == 5 * 16 * 16 * 4
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before


def test_what_cannot_be_probed_is_refused(tmp_path: Path) -> None:
    dataset = smooth(0, 4, 8, 8)
    with frazil.SerialExecutor() as executor:
        given = frazil.plan(dataset, tmp_path / "archive", executor=executor)
        with pytest.raises(frazil.InvalidInputError, match="lies in no files"):
            frazil.probe(given, executor)
        source = store(dataset, tmp_path / "a.nc", compressed=False)
        plan = frazil.plan(source, tmp_path / "archive", executor=executor)
        source.write_bytes(b"something else")
        with pytest.raises(frazil.SourceError):
            frazil.probe(plan, executor)


def test_what_another_version_planned_is_not_probed(tmp_path: Path) -> None:
    source = store(smooth(0, 4, 8, 8), tmp_path / "a.nc", compressed=False)
    with frazil.SerialExecutor() as executor:
        plan = frazil.plan(source, tmp_path / "archive", executor=executor)
        plan.versions["frazil"] = "0.0.0"
        with pytest.raises(frazil.VersionError, match=r"0\.0\.0"):
            frazil.probe(plan, executor)


def test_what_a_probe_returns_is_read_as_data(tmp_path: Path) -> None:
    for data in (b"", b"\x80", dump_probed.__name__.encode()):
        with pytest.raises(frazil.ReceiptError, match="a probe returned"):
            load_probed(data)


def test_the_command_probes_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = store(smooth(0, 16, 32, 32), tmp_path / "a.nc", compressed=False)
    words = ["plan", str(source), str(tmp_path / "archive"), "--backend", "serial", "--probe", "-v"]
    assert main(words) == 0
    assert "measured: tas[" in capsys.readouterr().out
    assert not list(tmp_path.glob("archive*"))
    assert xr.open_dataset(source).sizes["time"] == 16
