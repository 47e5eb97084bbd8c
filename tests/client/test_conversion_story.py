"""The whole story on the command line: advise, make a template, fill it from processes at once, append, validate."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pytest
import xarray as xr
import zarr

HOURS = 96


def year(start: int, stop: int) -> xr.Dataset:
    """Hours since 2020-01-01 whose values tell their place; one in ten is missing."""
    hours = np.arange(start, stop)
    values = (250 + hours[:, None, None] / 10 + np.arange(6)[:, None] + np.arange(8) / 8).astype("f4")
    values[hours % 10 == 3, 2, 2] = np.nan
    return xr.Dataset(
        {"tas": (("time", "lat", "lon"), values, {"units": "K", "standard_name": "air_temperature"})},
        {
            "time": ("time", hours.astype("i4"), {"units": "hours since 2020-01-01", "calendar": "standard"}),
            "lat": ("lat", np.linspace(-50, 50, 6), {"units": "degrees_north"}),
            "lon": ("lon", np.arange(8) * 45.0, {"units": "degrees_east"}),
        },
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, start in enumerate(range(0, HOURS, 24)):
        year(start, start + 24).to_netcdf(tmp_path / f"day{number}.nc")
    return tmp_path


def command(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "frazil.cli", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def done(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=240)
    assert process.returncode == code, f"{process.args}\n{out}\n{err}"
    return out, err


def frazil(folder: Path, *words: str, code: int = 0) -> tuple[str, str]:
    return done(command(folder, *words), code)


def read(folder: Path, **options: Any) -> xr.Dataset:
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(folder / "archive.icechunk")))
    with xr.open_zarr(repo.readonly_session("main").store, consolidated=False, chunks=None, **options) as found:
        return found.load()


def stored(folder: Path, name: str) -> zarr.Array[Any]:
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(folder / "archive.icechunk")))
    return zarr.open_array(repo.readonly_session("main").store, path=name, mode="r")


TEMPLATE = (
    *("create-template", "day0.nc", "archive.icechunk", "--global-start", "2020-01-01T00", "--global-end"),
    *("2020-01-05T23", "--chunks", "time=24", "--compression", "blosc:zstd:3", "--pack", "tas=int16"),
    *("--pack-range", "tas=200:350"),
)


@pytest.mark.slow
def test_a_template_is_filled_by_four_processes_at_once_and_appended_to_and_validated(folder: Path) -> None:
    frazil(folder, *TEMPLATE)
    empty = read(folder)
    assert empty.sizes["time"] == 120
    assert bool(empty["tas"].isnull().all())
    for process in [command(folder, "write-region", f"day{day}.nc", "archive.icechunk") for day in range(4)]:
        done(process)
    year(120, 144).to_netcdf(folder / "day5.nc")
    frazil(folder, "append", "day5.nc", "archive.icechunk")
    found, bound = read(folder), float(150 / (2**16 - 3))
    wanted = year(0, 144)
    assert found.sizes["time"] == 144
    filled = np.r_[0:96, 120:144]
    np.testing.assert_allclose(found["tas"].values[filled], wanted["tas"].values[filled], rtol=0, atol=bound)
    np.testing.assert_array_equal(np.isnan(found["tas"].values[filled]), np.isnan(wanted["tas"].values[filled]))
    assert np.isnan(found["tas"].values[96:120]).all()
    array = stored(folder, "tas")
    assert array.dtype == np.int16
    assert (
        array.compressors[0].to_dict()["configuration"] | {"cname": "zstd", "clevel": 3}
        == array.compressors[0].to_dict()["configuration"]
    )
    out, _ = frazil(folder, "validate", "archive.icechunk", "--full", "--json")
    told = json.loads(out)
    assert not told["faults"]
    frazil(folder, "validate", "archive.icechunk", "--against", "day0.nc", "day5.nc")


@pytest.mark.slow
def test_a_job_file_says_all_that_the_command_line_said(folder: Path) -> None:
    out, _ = frazil(folder, "analyze", "day0.nc", "day1.nc", "--reading", "temporal", "--json")
    json.loads(out)
    (folder / "job.toml").write_text(
        """
        sources = "day*.nc"
        repository = "archive.icechunk"
        chunks = "auto:temporal"
        compression = "gzip:5"
        message = "from a job file"
        """
    )
    assert tomllib.loads((folder / "job.toml").read_text())
    frazil(folder, "convert", "--config", "job.toml")
    xr.testing.assert_equal(read(folder)["tas"], xr.decode_cf(year(0, HOURS))["tas"])
    assert stored(folder, "tas").compressors[0].to_dict()["name"] == "gzip"


REFUSED = [
    (
        (
            "create-template",
            "day0.nc",
            "archive.icechunk",
            "--global-start",
            "2020-02-01",
            "--global-end",
            "2020-01-01",
        ),
        "before",
    ),
    (
        (
            "create-template",
            "day0.nc",
            "archive.icechunk",
            "--global-start",
            "2020-01-01",
            "--global-end",
            "2020-01-02T00:30",
            "--freq",
            "h",
        ),
        "2020-01-02",
    ),
    (("convert", "day0.nc", "archive.icechunk", "--pack", "time=int16"), "time"),
    (("convert", "day0.nc", "archive.icechunk", "--compression", "blosc:zst:3"), "zstd"),
    (("convert", "day0.nc", "archive.icechunk", "--compression", "zstdd:3"), "zstd"),
    (("convert", "day0.nc", "archive.icechunk", "--compression", "gzip:99"), "9"),
    (("convert", "day0.nc", "archive.icechunk", "--compression", "taz=gzip:5"), "tas"),
    (("convert", "day0.nc", "archive.icechunk", "--pack", "tas=int17"), "int16"),
    (("convert", "day0.nc", "archive.icechunk", "--keepbits", "tas=99"), "23"),
    (("convert", "day0.nc", "archive.icechunk", "--chunks", "auto:temporel"), "temporal"),
    (("convert", "day0.nc", "other.icechunk", "--config", "job.toml"), "job.toml"),
    (("convert", "--config", "job.toml", "--region", "time=0:2"), "region"),
    (("analyze", "day0.nc", "--reading", "temporally"), "temporal"),
    (("validate", "nowhere.icechunk"), "nowhere"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("words", "says"), REFUSED, ids=[" ".join(words[2:]) or words[0] for words, _ in REFUSED])
def test_bad_input_is_refused_with_two_and_nothing_is_written(folder: Path, words: tuple[str, ...], says: str) -> None:
    (folder / "job.toml").write_text('sources = "day0.nc"\nrepository = "archive.icechunk"\nmode = "create"\n')
    before = sorted(folder.rglob("*"))
    _, err = frazil(folder, *words, code=2)
    assert says in err
    assert sorted(folder.rglob("*")) == before


@pytest.mark.slow
def test_a_value_beyond_the_range_that_was_said_publishes_nothing(folder: Path) -> None:
    words = ("convert", "day0.nc", "archive.icechunk", "--pack", "tas=int16", "--pack-range", "tas=300:310")
    _, err = frazil(folder, *words, code=1)
    assert "'tas' has the value 250" in err
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(folder / "archive.icechunk")))
    assert len(list(repo.ancestry(branch="main"))) == 1


@pytest.mark.slow
def test_a_file_without_a_variable_of_the_template_is_refused_by_its_name(folder: Path) -> None:
    frazil(folder, *TEMPLATE)
    year(0, 24).rename(tas="other").to_netcdf(folder / "strange.nc")
    _, err = frazil(folder, "write-region", "strange.nc", "archive.icechunk", code=2)
    assert "other" in err or "tas" in err
    assert bool(read(folder)["tas"].isnull().all())


@pytest.mark.slow
def test_a_file_that_covers_part_of_a_write_unit_is_refused_or_merged_as_asked(folder: Path) -> None:
    frazil(folder, *TEMPLATE[:-4])
    for name, span in (("early", (0, 12)), ("late", (12, 24))):
        year(*span).to_netcdf(folder / f"{name}.nc")
    _, err = frazil(folder, "write-region", "early.nc", "archive.icechunk", code=2)
    assert "--partial merge" in err
    both = [
        command(folder, "write-region", f"{one}.nc", "archive.icechunk", "--partial", "merge")
        for one in ("early", "late")
    ]
    for process in both:
        done(process)
    xr.testing.assert_equal(read(folder)["tas"][:24], xr.decode_cf(year(0, 24))["tas"])
