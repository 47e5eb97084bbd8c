"""A group over a full range of labels, without values: what it is like, and what is refused."""

import json
import re
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pytest
import xarray as xr

import frazil
from frazil.cli import main
from frazil_functions.plan import Plan

from .hourly import read, series, state


def apart(freq: str) -> Any:
    """A timedelta of Pandas."""
    before, after = xr.date_range("2000-01-01", periods=2, freq=freq, unit="ns")
    return after - before


YEAR = {"global_start": "2000-01-01", "global_end": "2000-12-31T23"}


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """Ten hours, of 8784."""
    path = tmp_path / "template.nc"
    series(0, 10).to_netcdf(path)
    return path


def stored(target: Path, **options: Any) -> xr.Dataset:
    """What a reader sees that decodes nothing."""
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(target)))
    store = repo.readonly_session("main").store
    with xr.open_zarr(store, consolidated=False, chunks=None, decode_cf=False, **options) as found:
        return found.load()


def sizes(target: Path) -> dict[str, int]:
    """The length of every dimension; no value is read."""
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(target)))
    with xr.open_zarr(repo.readonly_session("main").store, consolidated=False, chunks=None) as found:
        return {str(dim): length for dim, length in found.sizes.items()}


def timed(
    path: Path, labels: Any, units: str = "days since 2000-01-01", calendar: str = "standard", **variables: Any
) -> Path:
    """A file with certain labels of time."""
    labels = np.asarray(labels)
    xr.Dataset(
        {"tas": ("time", np.zeros(len(labels), "f4"))} | variables,
        {"time": ("time", labels, {"units": units, "calendar": calendar})},
    ).to_netcdf(path)
    return path


def assert_untouched(target: Path) -> None:
    assert not list(target.parent.glob(f"{target.name}*"))


def test_a_template_has_every_label_and_reads_as_missing(template: Path, target: Path) -> None:
    result = frazil.create_template(template, target, chunks={"time": 24}, **YEAR)
    found = read(target)
    assert found.sizes == {"time": 8784, "lat": 4, "lon": 5}
    assert np.array_equal(found.time, xr.date_range("2000-01-01", periods=8784, freq="h", unit="ns"))
    assert bool(found.tas.isnull().all())
    xr.testing.assert_identical(found[["lat", "lon"]], xr.decode_cf(series(0, 10))[["lat", "lon"]])
    assert found.tas.attrs == {"units": "K"}
    assert stored(target).time.attrs == {"units": "hours since 2000-01-01", "calendar": "standard"}
    assert stored(target).time.dtype == np.dtype("i4")
    tip, branches = state(target)
    assert (tip, branches) == (result.snapshot_id, ["main"])


def test_a_template_is_one_commit_that_runs_list(template: Path, target: Path) -> None:
    result = frazil.create_template(template, target, message="all of it", **YEAR)
    repo = frazil.open_repository(target)
    assert [one.message for one in repo.ancestry(branch="main")] == ["all of it", "Repository initialized"]
    (run,) = frazil.runs(target)
    assert (run.run_id, run.state, run.snapshot_id) == (result.run_id, "published", result.snapshot_id)


def test_a_template_of_any_lazy_or_loaded_dataset_is_that_of_its_file(template: Path, target: Path) -> None:
    frazil.create_template(template, target, **YEAR)
    with xr.open_dataset(template) as lazy:
        frazil.create_template(lazy, target, group="lazy", **YEAR)
        frazil.create_template(lazy.load(), target, group="loaded", **YEAR)
        frazil.create_template(lazy.chunk(), target, group="dask", **YEAR)
    for group in ("lazy", "loaded", "dask"):
        xr.testing.assert_identical(read(target, group=group), read(target))
        assert stored(target, group=group).time.attrs == stored(target).time.attrs


def test_fifty_years_of_hours_take_well_under_two_seconds(template: Path, target: Path) -> None:
    began = time.process_time()
    frazil.create_template(
        template, target, global_start="2000-01-01", global_end="2049-12-31T23", chunks={"time": 1, "lat": 1}
    )
    assert time.process_time() - began < 2  # what else the machine does counts for nothing
    assert sizes(target)["time"] == 438312


def test_memory_does_not_grow_with_chunks(template: Path, target: Path) -> None:
    program = (
        "import resource, sys, frazil\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "frazil.create_template(sys.argv[1], sys.argv[2], global_start='2000-01-01', global_end='2049-12-31T23',"
        " chunks={'time': int(sys.argv[3]), 'lat': 1, 'lon': 1})\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    grown = [
        int(subprocess.check_output([sys.executable, "-c", program, template, target.with_name(name), steps]))
        for name, steps in (("few", "438312"), ("many", "1"))
    ]
    assert grown[1] < grown[0] + 30_000  # kB, for 8.8 million chunks more


@pytest.mark.parametrize(
    ("dtype", "fill"),
    [("i1", -127), ("u1", 255), ("i2", -32767), ("i4", -2147483647), ("i8", -9223372036854775806), ("u8", 2**64 - 2)],
)
def test_whole_numbers_without_a_fill_value_get_that_of_netcdf(
    tmp_path: Path, target: Path, dtype: str, fill: int
) -> None:
    path = timed(tmp_path / "whole.nc", np.arange(4), count=("time", np.arange(4).astype(dtype)))
    frazil.create_template(path, target, global_start="2000-01-01", global_end="2000-01-10")
    raw = stored(target)["count"]
    assert raw.attrs["_FillValue"] == fill
    assert (raw.values == np.array(fill, dtype)).all()
    assert bool(read(target)["count"].isnull().all())
    frazil.write_region(path, target, executor=frazil.SerialExecutor(), partial="merge")
    assert read(target)["count"].values[:5].tolist()[:4] == [0, 1, 2, 3]


def test_a_value_that_would_read_as_missing_is_refused_when_it_is_written(tmp_path: Path, target: Path) -> None:
    path = timed(tmp_path / "whole.nc", [0, 1], count=("time", np.array([0, -32767], "i2")))
    frazil.create_template(path, target, global_start="2000-01-01", global_end="2000-01-02")
    with pytest.raises(frazil.FrazilError, match="would read as missing"):
        frazil.write_region(path, target)
    assert bool(read(target)["count"].isnull().all())


@pytest.mark.parametrize("values", [np.zeros(2, "bool"), np.zeros(2, "c8")], ids=["bool", "complex"])
def test_a_type_without_a_value_for_missing_is_refused_with_the_cure(target: Path, values: Any) -> None:
    times = xr.date_range("2000-01-01", periods=2, freq="D", unit="ns")
    dataset = xr.Dataset({"flag": ("time", values), "tas": ("time", [0.0, 1.0])}, {"time": times})
    with pytest.raises(frazil.InvalidInputError, match=r"'flag' has the type .* no value means missing.*--variables"):
        frazil.create_template(dataset, target, global_start="2000-01-01", global_end="2000-01-10")
    assert_untouched(target)
    frazil.create_template(dataset, target, global_start="2000-01-01", global_end="2000-01-10", variables="tas")


def test_text_that_is_not_written_yet_has_no_letters(target: Path) -> None:
    times = xr.date_range("2000-01-01", periods=2, freq="D", unit="ns")
    dataset = xr.Dataset({"name": ("time", ["one", "two"])}, {"time": times})
    frazil.create_template(dataset, target, global_start="2000-01-01", global_end="2000-01-03", chunks={"time": 2})
    frazil.write_region(dataset, target)
    assert read(target)["name"].values.tolist() == ["one", "two", ""]


def test_static_variables_and_packed_and_scalar_ones_are_as_in_the_template(tmp_path: Path, target: Path) -> None:
    path = timed(
        tmp_path / "all.nc",
        [0, 1],
        mask=("x", np.array([1, 0, 1], "i1")),
        height=((), 2.0),
        packed=("time", np.array([1, 2], "i2"), {"scale_factor": 0.5, "_FillValue": np.int16(-1)}),
    )
    frazil.create_template(path, target, global_start="2000-01-01", global_end="2000-01-04")
    found = read(target)
    assert found.mask.values.tolist() == [1, 0, 1]
    assert float(found.height) == 2.0
    assert bool(found.packed.isnull().all())
    assert stored(target).packed.attrs["_FillValue"] == -1


def day(*texts: str) -> list[int]:
    return [
        int((np.datetime64(text) - np.datetime64("2000-01-01")).astype("timedelta64[D]").astype(int)) for text in texts
    ]


@pytest.mark.parametrize(
    ("labels", "start", "end", "freq", "expected"),
    [
        (day("2000-01-01", "2000-01-08"), "2000-01-01", "2000-01-22", None, ["2000-01-01", "2000-01-08", "2000-01-15"]),
        (day("2000-01-01", "2000-02-01", "2000-03-01"), "2000-01-01", "2000-04-01", None, ["2000-01-01", "2000-02-01"]),
        (day("2000-01-31", "2000-02-29", "2000-03-31"), "1999-12-31", "2001-02-28", None, ["1999-12-31", "2000-01-31"]),
        (day("2000-01-15", "2000-02-15", "2000-03-15"), "1999-11-15", "2000-04-15", None, ["1999-11-15", "1999-12-15"]),
        (day("2000-01-01", "2001-01-01", "2002-01-01"), "1998-01-01", "2010-01-01", None, ["1998-01-01", "1999-01-01"]),
        (day("2000-01-01", "2000-02-01"), "2000-01-01", "2000-12-01", "MS", ["2000-01-01", "2000-02-01"]),
        (day("2000-03-31", "2000-06-30"), "2000-03-31", "2000-12-31", "QE", ["2000-03-31", "2000-06-30", "2000-09-30"]),
        (day("2000-07-01"), "1999-07-01", "2003-07-01", "YS-JUL", ["1999-07-01", "2000-07-01", "2001-07-01"]),
    ],
    ids=["weeks", "months", "month ends", "mid-months", "years", "MS", "QE", "YS-JUL"],
)
def test_the_frequency_is_told_by_all_labels_or_by_its_name_in_pandas(
    tmp_path: Path, target: Path, labels: list[int], start: str, end: str, freq: str | None, expected: list[str]
) -> None:
    path = timed(tmp_path / "some.nc", labels)
    frazil.create_template(path, target, global_start=start, global_end=end, freq=freq)
    found = read(target).time.values.astype("M8[D]")
    assert found[: len(expected)].astype(str).tolist() == expected
    assert str(found[-1]) == end


@pytest.mark.parametrize(
    "freq",
    [
        "W",
        "7d",
        timedelta(weeks=1),
        np.timedelta64(7, "D"),
        np.timedelta64(168 * 3600 * 10**9, "ns"),
        apart("7D"),
    ],
    ids=str,
)
def test_a_week_is_seven_days_from_the_first_label_however_it_is_said(target: Path, freq: Any) -> None:
    times = xr.date_range("2000-01-05", periods=1, unit="ns")
    weeks = xr.Dataset({"tas": ("time", [1.0])}, {"time": times})
    result = frazil.create_template(weeks, target, global_start="2000-01-05", global_end="2000-01-19", freq=freq)
    assert read(target).time.values.astype("M8[D]").astype(str).tolist() == ["2000-01-05", "2000-01-12", "2000-01-19"]
    assert (result.made.freq, result.made.freq_inferred) == (freq if isinstance(freq, str) else "7D", False)


@pytest.mark.parametrize(
    ("freq", "said"),
    [
        (np.timedelta64(1, "M"), "no certain time; use an offset, as in 'MS'"),
        (np.timedelta64("NaT", "s"), "no certain time"),
        (np.timedelta64(1500, "ns"), "counted in whole microseconds"),
        (apart("1500ns"), "counted in whole microseconds"),
        (timedelta(days=-1), "'-1D' is no frequency: -1 is not positive"),
        (timedelta(0), "0 is not positive"),
    ],
    ids=str,
)
def test_timedeltas_that_are_no_step_are_refused(template: Path, target: Path, freq: Any, said: str) -> None:
    with pytest.raises(frazil.InvalidInputError, match=said):
        frazil.create_template(template, target, freq=freq, **YEAR)
    assert_untouched(target)


@pytest.mark.parametrize(
    ("calendar", "end", "length"), [("360_day", "2000-02-30T18", 240), ("noleap", "2000-03-01T18", 240)]
)
def test_calendars_of_models_are_counted_as_they_are(
    tmp_path: Path, target: Path, calendar: str, end: str, length: int
) -> None:
    path = timed(tmp_path / "some.nc", [0.0, 0.25, 0.5], calendar=calendar)
    frazil.create_template(path, target, global_start="2000-01-01", global_end=end)
    expected = xr.date_range("2000-01-01", end, freq="6h", calendar=calendar, use_cftime=True)
    assert len(expected) == length
    assert read(target).time.values.tolist() == expected.tolist()


def test_labels_far_from_today_and_fractions_of_days_are_exact(tmp_path: Path, target: Path) -> None:
    path = timed(tmp_path / "far.nc", np.arange(24) / 24, "days since 0850-01-01", "proleptic_gregorian")
    frazil.create_template(path, target, global_start="0850-01-01", global_end="0899-12-31T23")
    found = stored(target).time.values
    assert len(found) == 438288
    assert np.array_equal(found, np.arange(438288) / 24)
    with xr.open_dataset(path, decode_times=False) as own:
        assert np.array_equal(found[:24], own.time.values)


@pytest.mark.parametrize(
    ("labels", "start", "end", "freq", "expected"),
    [
        (np.array([0, 10, 20], "i2"), "-20", "100", None, np.arange(-20, 101, 10, "i2")),
        (np.array([0.0, 0.1, 0.2]), 0, 1.2, None, np.arange(13) / 10),
        (np.array([0.0, 0.1, 0.2], "f4"), 0, "1.2", None, (np.arange(13) / 10).astype("f4")),
        (np.array([5], "u4"), 5, 11, 2, np.array([5, 7, 9, 11], "u4")),
        ((1 << 60) + np.arange(3), 1 << 60, (1 << 60) + 5, None, (1 << 60) + np.arange(6)),
    ],
    ids=["i2", "f8", "f4", "one", "more than doubles tell apart"],
)
def test_labels_that_are_numbers_step_by_numbers(
    tmp_path: Path, target: Path, labels: Any, start: Any, end: Any, freq: Any, expected: Any
) -> None:
    path = tmp_path / "depth.nc"
    xr.Dataset({"salt": ("depth", np.zeros(len(labels)))}, {"depth": labels}).to_netcdf(path)
    frazil.create_template(
        path, target, global_start=start, global_end=end, freq=freq, append_dim="depth", chunks={"depth": 1}
    )
    found = read(target).depth.values
    assert found.dtype == expected.dtype
    assert found.tolist() == expected.tolist()
    frazil.write_region(path, target, append_dim="depth")


HOURS = np.arange(4)
REFUSED = {
    "end before start": (HOURS, "h", {"global_start": "2000-01-02", "global_end": "2000-01-01"}, "before it begins"),
    "a range that is not divided": (
        HOURS,
        "h",
        {"global_end": "2000-01-02", "freq": "5h"},
        r"none of the labels .* 5h apart.* use 2000-01-01 20:00:00 or 2000-01-02 01:00:00",
    ),
    "a start between labels": (
        6 + HOURS * 6,
        "h",
        {"global_start": "2000-01-01T00:30", "global_end": "2000-01-03T00:30"},
        "not on the grid of .* 6h apart from 2000-01-01 06:00:00 on; take 2000-01-01 00:00:00 or 2000-01-01 06:00:00",
    ),
    "irregular labels": (
        np.array([0, 1, 2, 4, 5]),
        "h",
        {},
        "not evenly apart: 2000-01-01 02:00:00 is followed by 2000-01-01 04:00:00, 2h later, where 1h is usual.*--freq",
    ),
    "a month or thirty-one days": (np.array([0, 31]), "d", {}, r"31D apart, and 1 month as well.*--freq"),
    "a single label": (HOURS[:1], "h", {}, r"has 1 label of 'time', which tells no frequency.*--freq"),
    "a template beside the range": (
        HOURS,
        "h",
        {"global_start": "2000-01-01T02"},
        r"could never be written: .* \(4 labels\), and what is made .*; widen or shift .*-start, --global-end\)$",
    ),
    "a template of other steps": (
        HOURS,
        "h",
        {"freq": "2h"},
        "could never be written: .*; say another --freq, or none$",
    ),
    "a template of longer steps": (HOURS * 24, "h", {"freq": "6h"}, "could never be written: .*; say another --freq"),
    "labels that fall": (
        HOURS[::-1],
        "h",
        {},
        "fall: 2000-01-01 03:00:00 is followed by 2000-01-01 02:00:00, and those that are made rise. Sort the template",
    ),
    "no frequency": (
        HOURS,
        "h",
        {"freq": "2 hours"},
        r"--freq '2 hours' is no frequency: .* in 6h, D or MS: there are 'W', 'D',",
    ),
    "business days": (HOURS, "h", {"freq": "B"}, r"--freq 'B' is no frequency: .*there are 'W', 'D', 'h'.*'YE'"),
    "weeks of a certain day": (HOURS, "h", {"freq": "W-SUN"}, "weeks are counted from --global-start.*use W$"),
    "a frequency of none": (
        HOURS,
        "h",
        {"freq": "0h"},
        "--freq '0h' is no frequency: 0 is not positive.* use 1h or more",
    ),
    "a frequency below none": (HOURS, "h", {"freq": "-1d"}, "--freq '-1d' is no frequency: -1 is not positive"),
    "a frequency that is not whole": (
        HOURS,
        "h",
        {"freq": "1.5h"},
        "'1.5h' is no frequency: 1.5 is not whole; .*90min",
    ),
    "a frequency with a space": (HOURS, "h", {"freq": "+6 h"}, "'.6 h' is no frequency: write 6h$"),
    "no date": (HOURS, "h", {"global_start": "yesterday"}, "--global-start 'yesterday' is no date"),
    "a date that the calendar lacks": (HOURS, "h", {"global_end": "2001-02-29"}, "is no date of the calendar"),
    "hours in a coordinate of days": (
        np.array([0, 1], "i4"),
        "d",
        {"freq": "6h"},
        "'time' is stored as <i4 in 'days since 2000-01-01', which cannot hold every label exactly.*finer unit",
    ),
    "a type that ends before": (
        HOURS.astype("i1"),
        "h",
        {"global_end": "2000-12-31T23"},
        "stored as .i1 .* cannot hold every label",
    ),
    "single precision": (
        (HOURS / 24).astype("f4"),
        "d",
        {"freq": "1h", "global_end": "2050-12-31T23"},
        "would round labels",
    ),
    "more labels than fit": (HOURS, "h", {"freq": "us"}, r"would have [\d,]+ labels.*larger --freq"),
    "a start that an offset does not have": (
        HOURS,
        "h",
        {"global_start": "2000-01-02", "freq": "MS"},
        "--global-start 2000-01-02 is no label of --freq MS, which has the first day of every month",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_range_that_does_not_fit_is_refused_and_nothing_written(
    tmp_path: Path, target: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    labels, unit, options, said = REFUSED[case]
    path = timed(tmp_path / "some.nc", labels, {"h": "hours", "d": "days"}[unit] + " since 2000-01-01")
    asked: dict[str, str] = {"global_start": "2000-01-01", "global_end": "2000-01-10"} | options
    words = [word for key, value in asked.items() for word in (f"--{key.replace('_', '-')}", value)]
    assert main(["create-template", str(path), str(target), *words]) == 2
    with pytest.raises(frazil.InvalidInputError, match=said) as refused:
        frazil.create_template(path, target, **asked)  # type: ignore[arg-type]
    assert capsys.readouterr().err == f"frazil: {refused.value}\n"
    assert_untouched(target)


@pytest.mark.parametrize(
    ("labels", "options", "said"),
    [
        (["a", "b"], {}, "are names, and nothing says which follow"),
        ([1.0, 2.0, 4.0], {}, "do not rise evenly: 2.0 is followed by 4.0"),
        ([2.0, 1.0], {}, "labels of 'depth' fall: 2.0 is followed by 1.0, .* Sort the template along 'depth'"),
        (
            [1, 1 << 60, (1 << 60) + 1],
            {},
            "do not rise evenly: 1 is followed by 1152921504606846976, where a step of 1 ",
        ),
        ([0, 1], {"global_start": 1 << 64, "global_end": (1 << 64) + 4}, "do not fit into 64 bits"),
        ([0.0, 1.0], {"freq": timedelta(hours=6)}, "--freq '6h' is no number, and the labels"),
        ([0.0, 1.0], {"global_end": 2.5}, "none of the labels from 0 on, 1 apart"),
        ([0.0, 1.0], {"freq": -1}, "--freq -1 is no step"),
        ([0.0, 1.0], {"freq": "D"}, "--freq 'D' is no number"),
        ([0.0, 1.0], {"global_start": 0.5, "global_end": 2.5}, "could never be written"),
        (None, {}, "has no coordinate along 'depth'"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(
    tmp_path: Path, target: Path, labels: Any, options: dict[str, Any], said: str
) -> None:
    dataset = xr.Dataset({"salt": ("depth", [0.0] * (3 if labels is None else len(labels)))})
    dataset = dataset if labels is None else dataset.assign_coords(depth=labels)
    with pytest.raises(frazil.InvalidInputError, match=said):
        frazil.create_template(dataset, target, append_dim="depth", **({"global_start": 0, "global_end": 4} | options))
    assert_untouched(target)


def test_a_template_is_one_file(template: Path, tmp_path: Path, target: Path) -> None:
    series(10, 20).to_netcdf(tmp_path / "template2.nc")
    with pytest.raises(frazil.InvalidInputError, match="a template is one file"):
        frazil.create_template(f"{tmp_path}/template*.nc", target, **YEAR)
    with pytest.raises(frazil.InvalidInputError, match="a template cannot be a list"):
        frazil.create_template([template], target, **YEAR)  # type: ignore[arg-type]
    with pytest.raises(frazil.InvalidInputError, match="mode cannot be 'append'"):
        frazil.create_template(template, target, mode="append", **YEAR)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        (["a.nc", "b.nc", "archive"], "a template is one file, and 2 are named before the repository archive"),
        (["archive"], "a template is one file, and 0 are named before the repository archive"),
        ([], "a template is one file; .* create-template TEMPLATE REPOSITORY"),
    ],
)
def test_the_command_takes_one_template(capsys: pytest.CaptureFixture[str], paths: list[str], said: str) -> None:
    assert main(["create-template", *paths, "--global-start", "2000-01-01", "--global-end", "2000-01-02"]) == 2
    assert re.search(said, capsys.readouterr().err)


@pytest.mark.parametrize("option", ["--verify", "--retries-on-missing", "--missing-check-vars"])
def test_what_concerns_functions_alone_is_no_option_of_a_template(
    template: Path, target: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    given = ["--global-start", "2000-01-01", "--global-end", "2000-01-02", option, "1"]
    assert main(["create-template", str(template), str(target), *given]) == 2
    assert option in capsys.readouterr().err
    assert_untouched(target)


def test_a_template_of_scalars_alone_has_no_dimension(target: Path) -> None:
    with pytest.raises(frazil.InvalidInputError, match="has no dimension whose labels could go on"):
        frazil.create_template(xr.Dataset({"height": 2.0}), target, **YEAR)
    assert_untouched(target)


def test_the_summary_says_what_was_made(
    template: Path, target: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    span = ["--global-start", "2000-01-01", "--global-end", "2000-01-02"]
    assert main(["create-template", str(template), str(target), *span]) == 0
    shown = capsys.readouterr().out
    (run,) = frazil.runs(target)
    assert shown.startswith(f"Made '/' on 'main' of {target}, without values, as {run.snapshot_id} (run {run.run_id})")
    labels = "'time' from 2000-01-01 00:00:00 to 2000-01-02 00:00:00: 25 labels"
    assert f"\n  {labels}, 1h apart (as the template's labels are)\n\n" in shown
    assert "_FillValue" not in shown
    path = timed(tmp_path / "whole.nc", [0, 31], count=("time", np.array([1, 2], "i2")))
    asked = ["--global-start", "2000-01-01", "--global-end", "2000-12-01", "--freq", "MS", "--group", "monthly"]
    assert main(["create-template", str(path), str(target), *asked]) == 0
    shown = capsys.readouterr().out
    assert "Made '/monthly' on 'main'" in shown
    assert "12 labels, MS apart (as given)\n  _FillValue, for what is not written yet: count=-32767\n" in shown
    assert main(["create-template", str(path), str(target), *asked, "--mode", "overwrite", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)["made"]
    assert (made["labels"], made["freq"], made["fill_values"]) == (12, "MS", {"count": -32767})


def test_a_group_that_exists_is_replaced_only_on_request(template: Path, target: Path) -> None:
    frazil.create_template(template, target, **YEAR)
    with pytest.raises(frazil.ExistingGroupError):
        frazil.create_template(template, target, **YEAR)
    frazil.create_template(template, target, mode="overwrite", global_start="2000-01-01", global_end="2000-01-01T09")
    assert read(target).sizes["time"] == 10


def test_a_plan_that_leaves_an_array_empty_without_a_fill_value_does_not_prove(template: Path, target: Path) -> None:
    frazil.create_template(template, target, **YEAR)
    (run,) = frazil.runs(target)
    plan = json.loads(Path(run.location, "plan.json").read_bytes())
    assert Plan.from_json(json.dumps(plan)).region_count == 0
    plan["template"]["arrays"]["tas"] |= {"dtype": "<i4"}
    with pytest.raises(frazil.InvalidInputError, match="would read as zeros"):
        Plan.from_json(json.dumps(plan))
    plan["template"]["arrays"]["tas"] |= {"dtype": "<f4", "before": [8784, 4, 5]}
    with pytest.raises(frazil.InvalidInputError, match="left empty, and is there already"):
        Plan.from_json(json.dumps(plan))


def test_a_template_that_was_begun_is_resumed(
    template: Path, target: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def dies(progress: frazil.Progress) -> None:
        if progress.stage == "publish":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        frazil.create_template(template, target, run_id="full", listener=dies, **YEAR)
    assert [run.state for run in frazil.runs(target)] != ["published"]
    assert main(["resume", str(target), "full"]) == 0
    assert read(target).sizes["time"] == 8784
    assert "tas" in capsys.readouterr().out


def test_a_template_of_several_axes_without_a_time_is_asked_along_which_it_goes_on(target: Path) -> None:
    grid = xr.Dataset({"v": (("lat", "lon"), np.ones((2, 3)))}, {"lat": [0, 1], "lon": [0, 1, 2]})
    with pytest.raises(frazil.InvalidInputError, match=r"labels along 'lat', 'lon', .*--append-dim"):
        frazil.create_template(grid, target, global_start=0, global_end=10)
    assert not target.exists()
    frazil.create_template(grid, target, global_start=0, global_end=10, append_dim="lat")
    assert sizes(target) == {"lat": 11, "lon": 3}


def test_what_readers_will_find_odd_is_told(target: Path, caplog: pytest.LogCaptureFixture) -> None:
    days = xr.Dataset(
        {"count": ("time", np.arange(3)), "run": ("time", np.arange(3.0), {"units": "days since 2000-01-01"})},
        {"time": ("time", np.arange(3), {"units": "days since 2000-01-01", "calendar": "360_day"})},
    )
    days["run"].attrs["calendar"] = "360_day"
    frazil.create_template(days, target, global_start="2000-01-01", global_end="2000-02-30")
    told = "\n".join(record.message for record in caplog.records if record.levelname == "WARNING")
    assert "count got a _FillValue" in told
    assert "Xarray cannot decode run (calendar 360_day)" in told
