"""Regions written into a group that was made empty: by whom, how often and at once; and what is refused."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pytest
import xarray as xr

import frazil
from frazil.cli import main

from .hourly import read, series, state

HOURS = 24


@pytest.fixture
def archive(tmp_path: Path, target: Path) -> Path:
    """A day of hours in chunks of 6, empty."""
    path = tmp_path / "template.nc"
    series(0, 2).to_netcdf(path)
    frazil.create_template(
        path, target, global_start="2000-01-01", global_end="2000-01-01T23", chunks={"time": 6, "lat": 4, "lon": 5}
    )
    return target


@pytest.fixture
def hours(tmp_path: Path) -> Callable[..., Path]:
    """A file of some hours."""

    def hours(start: int, stop: int, **attributes: object) -> Path:
        path = tmp_path / f"hours-{start}-{stop}.nc"
        series(start, stop, **attributes).to_netcdf(path)
        return path

    return hours


def written(target: Path) -> list[int]:
    """The hours that are there, each with the values that tell it."""
    found = read(target)["tas"]
    there = [at for at in range(HOURS) if bool(found[at].notnull().all())]
    expected = xr.decode_cf(series(0, HOURS))["tas"]
    for at in there:
        assert np.array_equal(found[at], expected[at])
    assert bool(found[np.setdiff1d(np.arange(HOURS), there).astype(int)].isnull().all())
    return there


def messages(target: Path) -> list[str]:
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(target)))
    return [one.message for one in repo.ancestry(branch="main")][::-1]


def test_a_file_lands_under_its_labels_and_the_rest_stays_missing(archive: Path, hours: Callable[..., Path]) -> None:
    result = frazil.write_region(hours(6, 12), archive)
    assert written(archive) == list(range(6, 12))
    assert state(archive) == (result.snapshot_id, ["main"])


def test_a_dataset_lands_there_too(archive: Path) -> None:
    frazil.write_region(xr.decode_cf(series(6, 12)).chunk(), archive, region={"time": slice(6, 12)})
    assert written(archive) == list(range(6, 12))


def test_several_files_are_one_commit(archive: Path, hours: Callable[..., Path]) -> None:
    before = len(messages(archive))
    frazil.write_region([hours(6, 9), hours(9, 12)], archive, message="morning")
    assert written(archive) == list(range(6, 12))
    assert messages(archive)[before:] == ["morning"]


def test_writing_the_same_again_is_no_error(archive: Path, hours: Callable[..., Path]) -> None:
    for _ in range(2):
        frazil.write_region(hours(6, 12), archive)
    assert written(archive) == list(range(6, 12))


def test_other_values_under_the_same_labels_are_those_of_the_last(archive: Path, tmp_path: Path) -> None:
    for sign in (-1, 1):
        path = tmp_path / "same.nc"
        (series(6, 12).assign(tas=lambda one, sign=sign: (one.tas * sign).assign_attrs(one.tas.attrs))).to_netcdf(path)
        frazil.write_region(path, archive)
    assert written(archive) == list(range(6, 12))


@pytest.mark.parametrize(
    ("start", "stop", "ranges"),
    [(5, 10, "time 0:12;"), (5, 12, "time 0:12, or 6:12;"), (6, 23, "time 6:24, or 6:18;"), (1, 2, "time 0:6;")],
)
def test_a_part_of_a_write_unit_is_refused_with_the_ranges_that_would_do(
    archive: Path, hours: Callable[..., Path], capsys: pytest.CaptureFixture[str], start: int, stop: int, ranges: str
) -> None:
    before = state(archive)
    path = hours(start, stop)
    with pytest.raises(frazil.UnalignedRegionError) as refused:
        frazil.write_region(path, archive)
    assert f"cover time {start}:{stop}, and 'tas' is written in units of 6 along 'time'" in str(refused.value)
    assert f"Give files for {ranges}" in str(refused.value)
    assert "--partial merge" in str(refused.value)
    assert main(["write-region", str(path), str(archive), "--backend", "serial"]) == 2
    assert str(refused.value) in capsys.readouterr().err
    assert state(archive) == before
    assert len(frazil.runs(archive)) == 1


def test_the_end_of_an_array_is_no_part(tmp_path: Path, target: Path, hours: Callable[..., Path]) -> None:
    frazil.create_template(
        hours(0, 2), target, global_start="2000-01-01", global_end="2000-01-01T23", chunks={"time": 7}
    )
    frazil.write_region(hours(21, 24), target)
    assert written(target) == [21, 22, 23]


def test_shards_are_the_write_units(target: Path, hours: Callable[..., Path]) -> None:
    frazil.create_template(
        hours(0, 2),
        target,
        global_start="2000-01-01",
        global_end="2000-01-01T23",
        chunks={"time": 2},
        shards={"time": 12},
    )
    with pytest.raises(frazil.UnalignedRegionError, match=r"units of 12 along 'time'.* Give files for time 0:12;"):
        frazil.write_region(hours(2, 4), target)
    frazil.write_region(hours(2, 4), target, partial="merge")
    frazil.write_region(hours(4, 13), target, partial="merge")
    assert written(target) == list(range(2, 13))


def test_merge_completes_a_write_unit_from_what_is_there(archive: Path, hours: Callable[..., Path]) -> None:
    for start, stop in ((0, 5), (10, 15), (5, 10)):
        frazil.write_region(hours(start, stop), archive, partial="merge")
    assert written(archive) == list(range(15))


class Interrupted:
    """A listener that lets somebody else write at a stage of a run, some times."""

    def __init__(self, stage: str, acts: Sequence[Callable[[], object]]) -> None:
        self.stage = stage
        self.acts = list(acts)
        self.stages: list[str] = []

    def __call__(self, progress: frazil.Progress) -> None:
        self.stages.append(progress.stage)
        if progress.stage == self.stage and self.acts:
            self.acts.pop(0)()


@pytest.mark.parametrize("stage", ["plan", "template", "write", "verify", "publish"])
def test_who_merges_keeps_what_others_write_into_the_same_unit_at_any_moment(
    archive: Path, hours: Callable[..., Path], stage: str
) -> None:
    others = [(0, 2), (4, 6), (10, 11)]
    listener = Interrupted(
        stage, [lambda span=span: frazil.write_region(hours(*span), archive, partial="merge") for span in others]
    )
    frazil.write_region(hours(2, 4), archive, partial="merge", listener=listener)
    assert len(listener.acts) < len(others)
    acted = others[: len(others) - len(listener.acts)]
    assert written(archive) == sorted(hour for span in [(2, 4), *acted] for hour in range(*span))
    assert {run.state for run in frazil.runs(archive)} == {"published"}
    assert state(archive)[1] == ["main"]


def test_who_has_no_patience_is_told_of_the_conflict_and_leaves_nothing(
    archive: Path, hours: Callable[..., Path]
) -> None:
    other = Interrupted("publish", [lambda: frazil.write_region(hours(0, 2), archive, partial="merge")])
    with pytest.raises(frazil.ConflictError, match="both write the array '/tas', chunk"):
        frazil.write_region(hours(2, 4), archive, partial="merge", patience=0, listener=other)
    assert written(archive) == [0, 1]
    assert {run.state for run in frazil.runs(archive)} == {"published"}
    assert state(archive)[1] == ["main"]


def test_without_merge_two_who_write_the_same_unit_at_once_conflict(archive: Path, hours: Callable[..., Path]) -> None:
    other = Interrupted("publish", [lambda: frazil.write_region(hours(0, 6), archive)])
    with pytest.raises(frazil.ConflictError):
        frazil.write_region(hours(0, 6), archive, listener=other)
    assert written(archive) == list(range(6))


def test_a_branch_that_moves_again_and_again_is_waited_for(
    archive: Path, hours: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frazil_functions.runs.finish.TRIES", 1)
    spans = [(6, 12), (12, 18), (18, 24)]
    others = Interrupted("publish", [lambda span=span: frazil.write_region(hours(*span), archive) for span in spans])
    frazil.write_region(hours(0, 6), archive, listener=others)
    assert others.stages.count("write") >= 1
    assert written(archive) == list(range(HOURS))
    assert {run.state for run in frazil.runs(archive)} == {"published"}


def test_threads_fill_an_archive_at_once(archive: Path, hours: Callable[..., Path]) -> None:
    paths = [hours(start, min(HOURS, start + 5)) for start in range(0, HOURS, 5)]
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda path: frazil.write_region(path, archive, partial="merge"), paths))
    assert written(archive) == list(range(HOURS))
    assert len(messages(archive)) == 2 + len(paths)


def test_a_variable_of_the_group_that_files_lack_is_refused_unless_others_are_named(
    target: Path, tmp_path: Path
) -> None:
    both = series(0, 6).assign(pr=lambda one: one.tas * 2)
    frazil.create_template(
        xr.decode_cf(both), target, global_start="2000-01-01", global_end="2000-01-01T23", chunks={"time": 6}
    )
    path = tmp_path / "one.nc"
    series(0, 6).to_netcdf(path)
    with pytest.raises(frazil.MismatchedSourceError, match=r"lacks 'pr', .*--variables"):
        frazil.write_region(path, target)
    frazil.write_region(path, target, variables="tas")
    assert written(target) == list(range(6))


def test_static_variables_need_not_be_in_the_files(target: Path, hours: Callable[..., Path]) -> None:
    whole = series(0, 6).assign(mask=("lat", np.ones(4)))
    frazil.create_template(
        xr.decode_cf(whole), target, global_start="2000-01-01", global_end="2000-01-01T23", chunks={"time": 6}
    )
    frazil.write_region(hours(0, 6), target)
    assert written(target) == list(range(6))
    assert read(target).mask.values.tolist() == [1, 1, 1, 1]


def test_files_without_labels_are_written_where_the_region_says(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "unlabelled.nc"
    series(6, 12).drop_vars("time").to_netcdf(path)
    assert main(["write-region", str(path), str(archive), "--backend", "serial"]) == 2
    assert "--region time=START:STOP" in capsys.readouterr().err
    assert main(["write-region", str(path), str(archive), "--region", "time=6:12", "--backend", "serial"]) == 0
    assert written(archive) == list(range(6, 12))


def test_files_whose_labels_fall_are_written_into_what_rises_with_reorder(archive: Path, tmp_path: Path) -> None:
    path = tmp_path / "falling.nc"
    series(6, 12).isel(time=slice(None, None, -1)).to_netcdf(path)
    frazil.write_region(path, archive, reorder=True)
    assert written(archive) == list(range(6, 12))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"partial": "merg"}, "partial cannot be 'merg'; did you mean 'merge'?"),
        ({"patience": -1}, "patience of -1 seconds is none"),
        ({"patience": "x"}, "patience of 'x' seconds is none; use a number"),
        ({"region": {"time": (18, 30)}}, "use START:STOP within that, or frazil append"),
        (
            {"retries_on_missing": 1, "missing_check_vars": ["all", "tas"]},
            "missing_check_vars names 'all' beside others, and it stands alone",
        ),
        ({"region": {"time": (0, 6)}}, "the labels of 'time' are those of 6:12"),
        ({"region": {"tim": (0, 6)}}, "did you mean 'time'?"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(
    archive: Path, hours: Callable[..., Path], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(frazil.InvalidInputError, match=said.replace("?", r"\?")):
        frazil.write_region(hours(6, 12), archive, **options)
    assert written(archive) == []


def test_labels_that_the_group_does_not_have_are_refused(archive: Path, hours: Callable[..., Path]) -> None:
    with pytest.raises(frazil.LabelError, match=r"which .* does not have.* go behind the others with frazil append;"):
        frazil.write_region(hours(24, 30), archive)
    with pytest.raises(frazil.InvalidInputError, match="no repository"):
        frazil.write_region(hours(0, 6), archive.with_name("nowhere"))


def test_the_caller_s_executor_stays_open(archive: Path, hours: Callable[..., Path]) -> None:
    with frazil.LithopsExecutor(backend="localhost", workers=1) as executor:
        for start in (0, 6):
            frazil.write_region(hours(start, start + 6), archive, executor=executor)
    assert written(archive) == list(range(12))


@pytest.mark.parametrize("command", ["write-region", "append"])
def test_a_single_task_on_this_machine_needs_no_other_interpreter(
    archive: Path, hours: Callable[..., Path], command: str
) -> None:
    program = (
        "import subprocess, sys\n"
        "begin = subprocess.Popen.__init__\n"
        "def refuse(self, words, *more, **options):\n"
        "    assert sys.executable not in words, 'an interpreter was started'\n"
        "    begin(self, words, *more, **options)\n"
        "subprocess.Popen.__init__ = refuse\n"
        "from frazil.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    path = hours(6, 12) if command == "write-region" else hours(24, 30)
    done = subprocess.run(
        [sys.executable, "-c", program, command, path, archive, "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["snapshot_id"] == state(archive)[0]
    assert said["regions"] == 1


def test_several_tasks_go_to_lithops(archive: Path, hours: Callable[..., Path]) -> None:
    from frazil.execution.near import NearExecutor  # noqa: PLC0415
    from frazil_functions.handler import scan  # noqa: PLC0415
    from frazil_functions.reading.scanning import ScanTask  # noqa: PLC0415

    tasks = [ScanTask((str(hours(start, start + 6)),), None, None, digests=False) for start in (0, 6)]
    with NearExecutor() as executor, executor.calls(scan) as calls:
        calls.submit(tasks)
        assert type(calls._chosen).__name__ == "LithopsCalls"  # noqa: SLF001 - nothing else shows it
        assert sorted(outcome.index for _ in tasks if (outcome := calls.next()) is not None) == [0, 1]


def test_append_grows_a_group_and_skips_what_is_there(archive: Path, hours: Callable[..., Path]) -> None:
    frazil.append(hours(24, 27), archive)
    frazil.append([hours(24, 27), hours(27, 30)], archive, on_overlap="skip")
    assert read(archive).sizes["time"] == 30
    assert main(["append", str(hours(24, 27)), str(archive), "--on-overlap", "skip", "--backend", "serial"]) == 0
    assert main(["append", str(hours(24, 27)), str(archive), "--backend", "serial"]) == 2
    assert main(["append", str(archive), "--backend", "serial"]) == 2


def test_the_guide_s_commands_and_python_run(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "template-and-regions.md").read_text()
    for year in range(2020, 2025):
        times = xr.date_range(f"{year}-01-01", f"{year}-12-31", freq="D", unit="ns")
        xr.Dataset({"tas": ("time", np.full(len(times), float(year)))}, {"time": times}).to_netcdf(
            tmp_path / f"data_{year}.nc", encoding={"time": {"units": "days since 2020-01-01"}}
        )
    commands = page.partition("```sh\n")[2].partition("```")[0]
    shell = f'frazil() {{ "{sys.executable}" -m frazil.cli "$@" -q; }}; set -e; {commands}'
    done = subprocess.run(["sh", "-c", shell], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = read(tmp_path / "archive.icechunk").tas
    assert np.array_equal(found, found.time.dt.year)
    assert found.sizes["time"] == 5 * 365 + 2
    example = tmp_path / "example.py"
    example.write_text(page.partition("```python\n")[2].partition("```")[0].replace("archive.", "other."))
    done = subprocess.run([sys.executable, example], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(read(tmp_path / "other.icechunk").tas, found[: 4 * 365 + 1])
