"""Bad input is refused by `frazil.plan`: by class, naming what is wrong and the cure, with nothing left behind."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import iris_sample_data
import netCDF4
import numpy as np
import pytest
import xarray as xr

import frazil

SAMPLES = Path(iris_sample_data.__file__).parent / "sample_data"


@dataclass(frozen=True)
class Bad:
    """One bad input: how to make it in a folder, the error's class, and what its message holds."""

    make: Callable[[Path], Any]
    error: type[frazil.FrazilError]
    says: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)


def series(hours: Any = 6, start: int = 0, **more: Any) -> xr.Dataset:
    stamps = np.arange(start, start + hours) if isinstance(hours, int) else np.asarray(hours)
    told = {"units": "hours since 2000-01-01", "calendar": "standard"} | more
    return xr.Dataset(
        {"tas": (("time", "lat", "lon"), np.ones((len(stamps), 3, 4), "f4"), {"units": "K"})},
        {"time": ("time", stamps, told), "lat": [-45.0, 0.0, 45.0], "lon": [0.0, 90.0, 180.0, 270.0]},
    )


def files(*datasets: xr.Dataset, **options: Any) -> Callable[[Path], list[Path]]:
    def make(folder: Path) -> list[Path]:
        paths = [folder / f"part-{number}.nc" for number in range(len(datasets))]
        for path, dataset in zip(paths, datasets, strict=True):
            dataset.to_netcdf(path, **options)
        return paths

    return make


def beside(change: Callable[[xr.Dataset], xr.Dataset]) -> Callable[[Path], list[Path]]:
    """Two files that follow each other, the second one changed."""
    return files(series(), change(series(start=6)))


def truncated(form: str) -> Callable[[Path], list[Path]]:
    def make(folder: Path) -> list[Path]:
        good, bad = files(
            series(), series(400, start=6).astype("f4").assign_coords(time=np.arange(6, 406, dtype="i4")), format=form
        )(folder)
        os.truncate(bad, bad.stat().st_size // 3)
        return [good, bad]

    return make


def content(name: str, text: bytes) -> Callable[[Path], list[Path]]:
    def make(folder: Path) -> list[Path]:
        (folder / name).write_bytes(text)
        return [*files(series())(folder), folder / name]

    return make


def locked(folder: Path) -> list[Path]:
    paths = files(series(), series(start=6))(folder)
    paths[1].chmod(0)
    if os.access(paths[1], os.R_OK):
        pytest.skip("this user reads every file, whatever its mode")
    return paths


def dangling(folder: Path) -> list[Path]:
    (folder / "gone.nc").symlink_to(folder / "nowhere.nc")
    return [*files(series())(folder), folder / "gone.nc"]


def dangling_glob(folder: Path) -> str:
    dangling(folder)
    return str(folder / "*.nc")


def directory(folder: Path) -> list[Path]:
    (folder / "folder.nc").mkdir()
    return [*files(series())(folder), folder / "folder.nc"]


def compound(folder: Path) -> Path:
    path = folder / "compound.nc"
    with netCDF4.Dataset(path, "w") as file:
        kind = file.createCompoundType(np.dtype([("u", "f4"), ("v", "f4")]), "wind_t")
        file.createDimension("x", 3)
        file.createVariable("wind", kind, ("x",))
        file.createVariable("t", "f4", ("x",))[:] = 1
    return path


def twice(folder: Path) -> Path:
    path = folder / "twice.nc"
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("x", 3)
        file.createVariable("cov", "f4", ("x", "x"))[:] = 1
    return path


def samples(pattern: str) -> Callable[[Path], list[Path]]:
    return lambda _: sorted(SAMPLES.glob(pattern))


def renamed(**names: str) -> Callable[[xr.Dataset], xr.Dataset]:
    return lambda dataset: dataset.rename(names)


def label(dim: str, values: Any, **attributes: Any) -> Callable[[xr.Dataset], xr.Dataset]:
    return lambda dataset: dataset.assign_coords({dim: (dim, values, dataset[dim].attrs | attributes)})


def scaled(dataset: xr.Dataset) -> xr.Dataset:
    dataset["tas"] = dataset.tas.astype("i8").assign_attrs(scale_factor=2.0)
    return dataset


TABLE: dict[str, Bad] = {
    # what is named
    "nothing": Bad(lambda _: [], frazil.SourceError, ("no source files",)),
    "glob without match": Bad(lambda at: str(at / "*.nc"), frazil.SourceError, ("no files match", "*.nc")),
    "missing file": Bad(lambda at: at / "gone.nc", frazil.SourceError, ("gone.nc does not exist",)),
    "empty list": Bad(
        lambda at: (at / "list.txt").write_text("# none\n") and at / "list.txt",
        frazil.SourceError,
        ("list.txt lists no files",),
    ),
    "same file twice": Bad(lambda at: files(series())(at) * 2, frazil.SourceError, ("part-0.nc is given twice",)),
    # files that cannot be read
    "locked": Bad(locked, frazil.SourceError, ("part-1.nc cannot be read", "Permission denied")),
    "dangling link": Bad(dangling, frazil.SourceError, ("gone.nc", "does not exist")),
    "dangling link in a glob": Bad(dangling_glob, frazil.SourceError, ("gone.nc cannot be read", "No such file")),
    "directory": Bad(directory, frazil.SourceError, ("folder.nc is a directory", "Zarr")),
    "truncated NetCDF-4": Bad(truncated("NETCDF4"), frazil.SourceError, ("part-1.nc",)),
    "truncated classic": Bad(truncated("NETCDF3_CLASSIC"), frazil.SourceError, ("part-1.nc", "truncated")),
    "truncated 64-bit": Bad(truncated("NETCDF3_64BIT"), frazil.SourceError, ("part-1.nc", "truncated")),
    "empty file": Bad(content("empty.nc", b""), frazil.SourceError, ("empty.nc is empty",)),
    "text": Bad(
        content("text.nc", b"not a file of data\n"), frazil.SourceError, ("text.nc is not a NetCDF", "--engine")
    ),
    "header alone": Bad(content("head.nc", b"\x89HDF\r\n\x1a\n"), frazil.SourceError, ("head.nc cannot be opened",)),
    "wrong engine": Bad(
        files(series()), frazil.SourceError, ("part-0.nc cannot be opened", "'zarr'"), {"engine": "zarr"}
    ),
    # files that do not go together
    "other variable": Bad(
        beside(renamed(tas="pr")),
        frazil.MismatchedSourceError,
        ("part-1.nc lacks 'tas'", "'pr' besides", "--variables"),
    ),
    "more variables": Bad(
        beside(lambda ds: ds.assign(pr=ds.tas)),
        frazil.MismatchedSourceError,
        ("part-1.nc has 'pr' besides", "--variables"),
    ),
    "other dimensions": Bad(
        beside(lambda ds: ds.transpose("lat", "time", "lon")),
        frazil.MismatchedSourceError,
        ("part-1.nc: 'tas' has the dimensions", "('lat', 'time', 'lon')"),
    ),
    "other dtype": Bad(
        beside(lambda ds: ds.astype("f8")),
        frazil.MismatchedSourceError,
        ("part-1.nc: 'tas' has the type <f8", "<f4", "--variables"),
    ),
    "other length": Bad(
        beside(lambda ds: ds.isel(lat=slice(2))),
        frazil.LabelError,
        ("part-1.nc has another grid", "'lat' has 2 labels and not 3"),
    ),
    "other length without labels": Bad(
        files(series().drop_vars("lat"), series(start=6).isel(lat=[0]).drop_vars("lat")),
        frazil.MismatchedSourceError,
        ("part-1.nc: 'tas' has 1 along 'lat'", "3"),
        {"append_dim": "time"},
    ),
    "other units": Bad(
        beside(lambda ds: ds.assign(tas=ds.tas.assign_attrs(units="degC"))),
        frazil.MismatchedSourceError,
        ("part-1.nc: 'tas' is in 'degC'", "'K'"),
    ),
    "64-bit integers packed in two ways": Bad(beside(scaled), frazil.MismatchedSourceError, ("part-1.nc: 'tas'",)),
    "other values of what has no time": Bad(
        files(series().assign(mask=("lat", [1, 0, 1])), series(start=6).assign(mask=("lat", [1, 1, 1]))),
        frazil.MismatchedSourceError,
        ("'mask' has other values in", "part-1.nc", "--variables"),
    ),
    "other scale of what has no time": Bad(
        files(
            series().assign(height=("lat", [1, 2, 3], {"scale_factor": 1.0})),
            series(start=6).assign(height=("lat", [1, 2, 3], {"scale_factor": 2.0})),
        ),
        frazil.MismatchedSourceError,
        ("'height' is stored in another way", "part-1.nc", "--variables"),
    ),
    "other units of a time that has no time": Bad(
        files(
            series().assign_coords(reference=((), 0.0, {"units": "days since 2000-01-01"})),
            series(start=6).assign_coords(reference=((), 0.0, {"units": "days since 2001-01-01"})),
        ),
        frazil.MismatchedSourceError,
        ("'reference' is stored in another way", "part-1.nc", "--variables"),
        {"accept": ("units",)},
    ),
    "a dimension twice": Bad(twice, frazil.InvalidInputError, ("'cov' has a dimension twice", "--variables")),
    # labels
    "overlap": Bad(
        files(series(6), series(6, 3)),
        frazil.LabelError,
        ("overlap", "part-0.nc and", "part-1.nc", "2000-01-01 03:00:00", "leave one of the files out"),
    ),
    "repeated label": Bad(
        files(series(6), series(6, 5)), frazil.LabelError, ("'time' repeat", "part-0.nc ends and", "05:00:00")
    ),
    "same labels": Bad(
        samples("*_north_america.nc"),
        frazil.LabelError,
        ("no dimension tells A1B_north_america.nc and E1_north_america.nc apart", "--group"),
    ),
    "same labels, dimension named": Bad(
        samples("*_north_america.nc"),
        frazil.LabelError,
        ("'time' are the same in", "leave one of the files out"),
        {"append_dim": "time"},
    ),
    "one time of 0.0 in every file": Bad(
        samples("NEMO/*.nc"), frazil.LabelError, ("time_counter = 0.0", "nemo_1m_20150101", "--group")
    ),
    "gap": Bad(
        files(series(6), series(6, 9)),
        frazil.LabelError,
        ("'time' leaves 1 gap", "between", "part-0.nc and", "05:00:00 is followed by 2000-01-01 09:00:00", "--gaps"),
    ),
    "unsorted": Bad(
        files(series([0, 1, 3, 2, 4])),
        frazil.LabelError,
        ("part-0.nc: 'time' is not sorted: at index 3", "02:00:00", "Sort"),
    ),
    "constant": Bad(
        files(series([0, 1, 1, 2])), frazil.LabelError, ("part-0.nc: 'time' is", "01:00:00", "both at index 1 and at 2")
    ),
    "all constant": Bad(
        files(series([4, 4, 4])), frazil.LabelError, ("part-0.nc: 'time' is", "both at index 0 and at 1")
    ),
    "flipped time": Bad(
        files(series(6), series([11, 10, 9, 8, 7, 6])), frazil.LabelError, ("'time' rises in", "falls in", "flipped")
    ),
    "NaN among the times": Bad(
        files(series([0.0, 1.0, np.nan])), frazil.LabelError, ("part-0.nc: 'time' is NaN at index 2",)
    ),
    "NaN in a coordinate": Bad(
        beside(label("lat", [-45.0, np.nan, 45.0])), frazil.LabelError, ("part-1.nc: 'lat' is NaN at index 1",)
    ),
    "NaN in the only file": Bad(
        files(label("lon", [0.0, 90.0, np.nan, 270.0])(series())),
        frazil.LabelError,
        ("part-0.nc: 'lon' is NaN at index 2",),
    ),
    "fill value among the times": Bad(
        files(series([0.0, -999.0, 2.0], _FillValue=-999.0)),
        frazil.LabelError,
        ("part-0.nc: 'time' is missing at index 1",),
    ),
    "other calendar": Bad(
        beside(label("time", np.arange(6, 12), calendar="noleap")),
        frazil.LabelError,
        ("part-1.nc: 'time' counts in the calendar '365_day'", "'standard'"),
    ),
    "other time units": Bad(
        beside(label("time", np.arange(6, 12) / 24, units="days since 2000-01-01")),
        frazil.LabelError,
        ("part-1.nc: 'time'", "'days since 2000-01-01'", "--accept units"),
    ),
    "other epoch, same numbers": Bad(
        files(series(), series(units="hours since 2000-01-01 06:00")),
        frazil.LabelError,
        ("part-1.nc: 'time' counts in", "--accept units"),
    ),
    "flipped latitude": Bad(
        beside(lambda ds: ds.isel(lat=slice(None, None, -1))),
        frazil.LabelError,
        ("part-1.nc has another grid", "'lat' is flipped", "45.0 to -45.0"),
    ),
    "flipped latitude alone": Bad(
        files(series(), series().isel(lat=slice(None, None, -1))), frazil.LabelError, ("'lat'", "flipped")
    ),
    "permuted latitude": Bad(
        beside(lambda ds: ds.isel(lat=[1, 0, 2])),
        frazil.LabelError,
        ("part-1.nc", "'lat' has the same labels in another order"),
    ),
    "float drift": Bad(
        beside(label("lat", [-45.0, 1e-6, 45.0])),
        frazil.LabelError,
        ("part-1.nc", "'lat' drifts by up to 1e-06, first at index 1", "--accept drift"),
    ),
    "cyclic longitudes": Bad(
        beside(label("lon", [-180.0, -90.0, 0.0, 90.0])),
        frazil.LabelError,
        ("part-1.nc", "'lon' goes around the globe from another start: -180.0 to 90.0"),
    ),
    "other latitudes": Bad(
        beside(label("lat", [-45.0, 7.0, 45.0])),
        frazil.LabelError,
        ("part-1.nc", "'lat' differs first at index 1: 7.0 and not 0.0"),
    ),
    "no coordinate": Bad(
        files(series().drop_vars("time"), series(5).drop_vars("time")),
        frazil.LabelError,
        ("'time' has no coordinate in", "part-0.nc", "--accept order"),
    ),
    "no coordinate, same length": Bad(
        files(series().drop_vars("time"), series().drop_vars("time")),
        frazil.LabelError,
        ("no dimension tells", "--append-dim time --accept order"),
    ),
    "empty file of times": Bad(
        files(series(), series(0)), frazil.LabelError, ("part-1.nc has no labels along 'time'; leave it out",)
    ),
    # options
    "chunks of nothing": Bad(
        files(series()), frazil.InvalidInputError, ("chunks of 0 along 'time'", "at least 1"), {"chunks": {"time": 0}}
    ),
    "negative chunks": Bad(
        files(series()), frazil.InvalidInputError, ("chunks of -5 along 'time'", "-1 for all"), {"chunks": {"time": -5}}
    ),
    "chunks larger than the dimension": Bad(
        files(series()),
        frazil.InvalidInputError,
        ("chunks of 7 along 'time' do not fit: it has 6",),
        {"chunks": {"time": 7}},
    ),
    "chunks of an unknown dimension": Bad(
        files(series()), frazil.InvalidInputError, ("'tiem'", "did you mean 'time'?"), {"chunks": {"tiem": 2}}
    ),
    "chunks that are no number": Bad(
        files(series()),
        frazil.InvalidInputError,
        ("chunks of 2.5 along 'time'", "whole number"),
        {"chunks": {"time": 2.5}},
    ),
    "shards that split chunks": Bad(
        files(series()),
        frazil.InvalidInputError,
        ("shards of 5 along 'time'", "whole chunks of 2", "use 4"),
        {"chunks": {"time": 2}, "shards": {"time": 5}},
    ),
    "negative shards": Bad(
        files(series()), frazil.InvalidInputError, ("shards of -2 along 'time'",), {"shards": {"time": -2}}
    ),
    "shards of an unknown dimension": Bad(
        files(series()), frazil.InvalidInputError, ("shards", "'tiem'", "did you mean 'time'?"), {"shards": {"tiem": 2}}
    ),
    "unknown engine": Bad(
        files(series()), frazil.SourceError, ("'netcdf5'", "did you mean 'netcdf4'?"), {"engine": "netcdf5"}
    ),
    "unknown variable": Bad(
        files(series()), frazil.InvalidInputError, ("no variable 'tsa'", "did you mean 'tas'?"), {"variables": ["tsa"]}
    ),
    "no variables": Bad(files(series()), frazil.InvalidInputError, ("no variables", "'tas'"), {"variables": []}),
    "unknown dimension": Bad(
        files(series()), frazil.InvalidInputError, ("no dimension 'tme'", "did you mean 'time'?"), {"append_dim": "tme"}
    ),
    "unknown gaps": Bad(
        files(series()), frazil.InvalidInputError, ("gaps", "'fil'", "did you mean 'fill'?"), {"gaps": "fil"}
    ),
    "unknown accept": Bad(
        files(series()), frazil.InvalidInputError, ("accept", "'unit'", "did you mean 'units'?"), {"accept": ["unit"]}
    ),
    "no workers": Bad(files(series()), frazil.InvalidInputError, ("workers", "-1", "1 to 100000"), {"workers": -1}),
    "unsupported dtype": Bad(compound, frazil.InvalidInputError, ("compound.nc: 'wind' has the type", "--variables")),
    "group outside of the repository": Bad(
        files(series()), frazil.InvalidInputError, ("'../a'", "group"), {"group": "../a"}
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_bad_input_is_refused_before_anything_is_written(name: str, tmp_path: Path, tree: Any) -> None:
    bad = TABLE[name]
    (tmp_path / "in").mkdir()
    sources = bad.make(tmp_path / "in")
    before = tree(tmp_path)
    with pytest.raises(frazil.InvalidInputError) as caught:
        frazil.plan(sources, tmp_path / "out" / "archive", executor=frazil.SerialExecutor(), **bad.options)
    assert (caught.type, caught.value.exit_code) == (bad.error, 2)
    for part in bad.says:
        assert re.search(re.escape(part), str(caught.value)), (part, str(caught.value))
    assert tree(tmp_path) == before


def test_the_same_refusals_hold_against_an_existing_repository(tmp_path: Path, tree: Any) -> None:
    repo = frazil.open_repository(tmp_path / "archive")
    paths = files(series(6), series(6, 3))(tmp_path)
    before = tree(tmp_path)
    with pytest.raises(frazil.LabelError):
        frazil.plan(paths, repo, executor=frazil.SerialExecutor())
    assert tree(tmp_path) == before
    assert repo.list_branches() == {"main"}


def test_a_file_that_holds_groups_or_attributes_alone_is_refused(tmp_path: Path) -> None:
    with netCDF4.Dataset(tmp_path / "groups.nc", "w") as file:
        file.title = "nothing"
        file.createGroup("below").createDimension("x", 2)
    with pytest.raises(frazil.InvalidInputError, match=r"groups\.nc has no variables; groups below the root"):
        frazil.plan(tmp_path / "groups.nc", tmp_path / "r", executor=frazil.SerialExecutor())
    assert not (tmp_path / "r").exists()


def test_nothing_suggests_to_stack_times_along_another_dimension(tmp_path: Path) -> None:
    for number in range(2):
        data = {"t": ("time", [0.0]), "v": (("time", "y"), [[1.0, 2.0]])}
        xr.Dataset(data, coords={"time": [0.0]}).to_netcdf(tmp_path / f"{number}.nc")
    with pytest.raises(frazil.LabelError) as error:
        frazil.plan(tmp_path / "*.nc", tmp_path / "r", executor=frazil.SerialExecutor())
    assert "--append-dim y" not in str(error.value)
