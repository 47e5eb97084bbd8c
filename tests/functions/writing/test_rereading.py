"""Files and servers that give zeros for what they have, as file systems over networks do, and are read again."""

import os
import pickle
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pytest
import xarray as xr
from tests.functions.conftest import (
    Site,
    commit_template,
    file_source,
    published_in,
    run_directory_of,
    write,
    write_task_of,
)

import frazil
from frazil.cli import main
from frazil.report import Progress
from frazil_functions.errors import InvalidInputError, MissingDataError, SourceError
from frazil_functions.forks import load_fork
from frazil_functions.grids import WriteGrid
from frazil_functions.locations import locate
from frazil_functions.missing import MissingCheck
from frazil_functions.reading.encoding import STRING, Attributes, Values
from frazil_functions.reading.opening import fingerprint
from frazil_functions.reading.sources import FileSources
from frazil_functions.regions import Region
from frazil_functions.rundir import RunDirectory
from frazil_functions.tasks import Carried, FileSource, Receipt
from frazil_functions.writing.carried import CarriedSource, PackedFileSlices
from frazil_functions.writing.lazy import pack
from frazil_functions.writing.rereading import missing_mask
from frazil_functions.writing.task import write_task

type Array = np.ndarray[Any, Any]

DIMS = ("time", "x")
VALUES = np.random.default_rng(5).uniform(1, 2, (8, 500)).astype("f4")
TEMPLATE: dict[str, Any] = {"shape": (8, 500), "chunks": (2, 500), "dtype": "<f4", "fill_value": 0}
ARRAYS = {
    name: TEMPLATE | {"dimension_names": DIMS, "attributes": {"_FillValue": "AAAAAAAAAAA="}} for name in ("a", "b")
}
GRID = WriteGrid("a", DIMS, (8, 500), (2, 500))
SOON = MissingCheck(2, backoff=0.001)


def dataset(values: Array = VALUES) -> xr.Dataset:
    """Two variables of which zeros are missing, as they are in a file whose writer has come so far."""
    found = xr.Dataset({"a": (DIMS, values), "b": (DIMS, values + 1)}, {"time": ("time", np.arange(8))})
    found["time"].attrs = {"units": "days since 2000-01-01", "calendar": "standard"}
    return found


def stored(path: Path, engine: Any = "h5netcdf", values: Array = VALUES, **options: Any) -> bytes:
    """A file in which values lie as they are."""
    encoding = {key: {"_FillValue": np.float32(0), **options} for key in ("a", "b")}
    dataset(values).to_netcdf(path, engine=engine, encoding=encoding)
    return path.read_bytes()


class Zeros:
    """What a server does that gives zeros for some rows of `a`, so many times, and says nothing."""

    def __init__(self, raw: bytes, rows: slice, times: int, values: Array = VALUES) -> None:
        self.times, self.given, held = times, 0, values.tobytes()
        width = values[0].nbytes
        self.start, self.stop = (raw.index(held) + row * width for row in (rows.start, rows.stop))

    def __call__(self, asked: BaseHTTPRequestHandler, data: bytes) -> None:
        first = int(asked.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        low, high = max(self.start - first, 0), min(self.stop - first, len(data))
        if low < high:
            self.given += 1
            if self.given <= self.times:
                data = data[:low] + bytes(high - low) + data[high:]
        asked.wfile.write(data)


@pytest.fixture(params=["http", "s3"])
def root(request: pytest.FixtureRequest, site: Site, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "http":
        return f"{site.url}/bucket"
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "AWS_ENDPOINT_URL": site.url,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }.items():
        monkeypatch.setenv(name, value)
    return "s3://bucket"


@pytest.fixture
def served(root: str, site: Site, tmp_path: Path) -> str:
    site.files["bucket/a.nc"] = stored(tmp_path / "a.nc")
    return f"{root}/a.nc"


def source_of(url: str, engine: str = "h5netcdf") -> FileSource:
    return file_source(url, 0, 8, engine=engine, fingerprint=fingerprint(url))


def merged(repo: icechunk.Repository, receipts: list[Receipt]) -> xr.Dataset:
    session = repo.writable_session("main")
    for receipt in receipts:
        session.merge(load_fork(receipt.forks[0]))
    return xr.open_zarr(session.store, consolidated=False, chunks=None, mask_and_scale=False).load()


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
def test_what_a_server_gave_as_zeros_is_read_and_written_again(
    repo: icechunk.Repository, site: Site, served: str, engine: str
) -> None:
    commit_template(repo, ARRAYS)
    site.send = Zeros(site.files["bucket/a.nc"], slice(3, 6), 1)
    (receipt,) = write(write_task_of(repo, GRID.cut(1), [source_of(served, engine)], missing=SOON))
    assert [one.region for one in receipt.regions] == list(GRID.cut(1))
    np.testing.assert_array_equal(merged(repo, [receipt])["a"], VALUES)


def test_without_the_check_what_a_server_gave_as_zeros_is_stored_as_missing(
    repo: icechunk.Repository, site: Site, served: str
) -> None:
    commit_template(repo, ARRAYS)
    site.send = Zeros(site.files["bucket/a.nc"], slice(3, 6), 1)
    receipts = write(write_task_of(repo, GRID.cut(1), [source_of(served)]))
    assert not merged(repo, receipts)["a"].values[3:6].any()


def test_zeros_that_the_second_reading_got_are_no_reason_to_keep_them(
    repo: icechunk.Repository, site: Site, served: str
) -> None:
    commit_template(repo, ARRAYS)
    zeros = Zeros(site.files["bucket/a.nc"], slice(3, 6), 2)
    zeros.times, site.send = 0, zeros
    task = write_task_of(repo, GRID.cut(1), [source_of(served)], missing=SOON)

    class SecondGoesWrong(FileSources):
        """Files of which the storage begins to give zeros once they were read."""

        def anew(self) -> FileSources:
            zeros.times, zeros.given = (1, 0) if zeros.times == 0 else (zeros.times, zeros.given)
            return super().anew()

    with SecondGoesWrong(task.sources, task.append_dim) as source:
        receipts = write(task, source)
    assert zeros.given == 3
    np.testing.assert_array_equal(merged(repo, receipts)["a"], VALUES)


def test_a_server_that_goes_on_giving_zeros_and_values_in_turn_is_an_error_that_says_where(
    repo: icechunk.Repository, site: Site, served: str
) -> None:
    labels = {"shape": (8,), "chunks": (8,), "dtype": "<i8", "dimension_names": ("time",), "attributes": TIME}
    commit_template(repo, ARRAYS | {"time": labels})
    session = repo.writable_session("main")
    xr.Dataset({"time": ("time", np.arange(8))}).to_zarr(session.store, mode="a", consolidated=False)
    session.commit("labels")
    zeros = Zeros(site.files["bucket/a.nc"], slice(3, 4), 0)
    site.send = lambda asked, data: alternate(zeros, asked, data)
    source = source_of(served)
    zeros.given = 0
    task = write_task_of(repo, GRID.cut(1), [source], missing=SOON)
    with pytest.raises(MissingDataError) as caught:
        write_task(task)
    said = str(caught.value)
    assert served in said
    assert "a[time 3:4, x 0:500]" in said
    assert "500 of 1000 elements are missing in" in said
    assert "time 2000-01-04T00:00:00" in said
    assert "after 2 retries" in said
    assert zeros.given == 4
    directory = RunDirectory(task.run_directory)
    kept = [one for _, one in directory.read_receipts(directory.list_receipts())]
    regions = {one.region for receipt in kept if isinstance(receipt, Receipt) for one in receipt.regions}
    assert regions == {region for region in GRID.cut(1) if region.ranges[0][1] != 2}


TIME = {"units": "days since 2000-01-01", "calendar": "standard"}


def alternate(zeros: Zeros, asked: BaseHTTPRequestHandler, data: bytes) -> None:
    zeros.times = zeros.given + 1 if zeros.given % 2 == 0 else 0
    zeros(asked, data)


def test_other_tasks_and_the_check_of_named_variables_read_no_more_than_once(
    repo: icechunk.Repository, site: Site, served: str
) -> None:
    commit_template(repo, ARRAYS)
    source = source_of(served)
    counts = {}
    for name, missing in {"off": MissingCheck(), "b": MissingCheck(1, ("b",)), "all": MissingCheck(1)}.items():
        site.requests.clear()
        where = run_directory_of(repo, name)
        write(write_task_of(repo, GRID.cut(1), [source], missing=missing, run_directory=where))
        counts[name] = site.requests.count("GET bucket/a.nc")
    assert counts["off"] == counts["b"]
    assert counts["all"] == 2 * counts["off"]


def test_a_type_that_cannot_be_missing_is_read_once(repo: icechunk.Repository, site: Site, tmp_path: Path) -> None:
    xr.Dataset({"a": (DIMS, np.ones((8, 500), "i4"))}).to_netcdf(tmp_path / "i.nc", engine="h5netcdf")
    site.files["i.nc"] = (tmp_path / "i.nc").read_bytes()
    commit_template(repo, {"a": TEMPLATE | {"dtype": "<i4", "dimension_names": DIMS}})
    source = source_of(f"{site.url}/i.nc")
    site.requests.clear()
    write(write_task_of(repo, GRID.cut(1), [source], missing=MissingCheck(1)))
    assert site.requests.count("GET i.nc") == 1


def mend(path: Path) -> None:
    """Fill the hole in the file, which is as large and as old as before."""
    stat, raw = path.stat(), path.read_bytes()
    with path.open("r+b") as file:
        file.seek(raw.index(HOLES[4:6].tobytes()))
        file.write(VALUES[4:6].tobytes())
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


HOLES = np.where(np.arange(8)[:, None] == 5, np.float32(0), VALUES)


class Mended(FileSources):
    """Files on a disk, that hold what they should once they were read."""

    def __init__(self, path: Path, file: FileSource) -> None:
        super().__init__([file], "time")
        self._path = path

    def read(self, region: Region, dtype: str, attributes: Attributes) -> Values:
        values = super().read(region, dtype, attributes)
        if region.ranges[0][1] == 6:
            mend(self._path)
        return values


# In HDF5 a file that is open, and a chunk that was read, are shared by all who open it in the process.
@pytest.mark.parametrize("engine", ["netcdf4", "h5netcdf"])
@pytest.mark.parametrize("missing", [SOON, MissingCheck()], ids=["checked", "unchecked"])
def test_a_file_that_is_mended_after_it_was_read_is_written_as_it_is_then(
    repo: icechunk.Repository, tmp_path: Path, engine: str, missing: MissingCheck
) -> None:
    path = tmp_path / "a.nc"
    stored(path, engine, HOLES, chunksizes=(4, 500))
    commit_template(repo, ARRAYS)
    file = source_of(str(path), engine)
    with Mended(path, file) as source:
        receipts = write(write_task_of(repo, GRID.cut(1), [file], missing=missing), source)
    np.testing.assert_array_equal(merged(repo, receipts)["a"], VALUES if missing.retries else HOLES)


# Chunks of HDF5 that fit into its cache are not read from the file again while anybody has it open.
@pytest.mark.parametrize("engine", ["netcdf4", "h5netcdf"])
def test_files_that_are_opened_anew_give_nothing_that_was_kept(tmp_path: Path, engine: Any) -> None:
    path = tmp_path / "a.nc"
    stored(path, engine, HOLES, chunksizes=(4, 500))
    region = Region("a", (("time", 4, 8), ("x", 0, 500)))
    file = source_of(str(path), engine)
    with FileSources([file], "time") as first:
        assert not first.read(region, "<f4", {})[1].any()
        mend(path)
        assert engine != "netcdf4" or not first.read(region, "<f4", {})[1].any()  # it keeps chunks
        with first.anew() as again:
            np.testing.assert_array_equal(again.read(region, "<f4", {}), VALUES[4:8])
        np.testing.assert_array_equal(first.read(region, "<f4", {}), VALUES[4:8])


def test_a_file_that_is_another_one_when_it_is_read_again_is_refused(repo: icechunk.Repository, tmp_path: Path) -> None:
    path = tmp_path / "a.nc"
    stored(path)
    commit_template(repo, ARRAYS)
    file = source_of(str(path))

    class Replaced(FileSources):
        """Files that are replaced between two readings."""

        def anew(self) -> FileSources:
            found = super().anew()
            stored(path, values=VALUES + 1)
            return found

    with pytest.raises(SourceError, match="has changed since the plan was made"), Replaced([file], "time") as source:
        write_task(write_task_of(repo, GRID.cut(1), [file], missing=SOON), source)


@pytest.mark.parametrize("engine", ["netcdf4", "h5netcdf"])
def test_slices_of_a_lazy_dataset_are_computed_from_files_that_are_opened_again(
    repo: icechunk.Repository, tmp_path: Path, engine: Any
) -> None:
    path = tmp_path / "a.nc"
    stored(path, engine, HOLES, chunksizes=(4, 500))
    commit_template(repo, ARRAYS)
    region = Region("a", (("time", 4, 8), ("x", 0, 500)))
    with xr.open_dataset(path, engine=engine, mask_and_scale=False) as lazy:
        slices = pickle.dumps(PackedFileSlices((("a", lazy["a"].variable[4:8]),)))
        source = CarriedSource(Carried(pack([slices]), ((),)), [region])
        assert not source.read(region, "<f4", {})[1].any()
        assert not lazy["a"][5].values.any()  # who has the dataset has it open here
        mend(path)
        assert engine != "netcdf4" or not source.read(region, "<f4", {})[1].any()
        with source.anew() as again:
            np.testing.assert_array_equal(again.read(region, "<f4", {}), VALUES[4:8])
        np.testing.assert_array_equal(lazy["a"].values, VALUES)  # and still can be read


def once(values: Array, mark: str) -> Array:
    """Values that are missing the first time that they are computed."""
    if Path(mark).exists():
        return values
    Path(mark).touch()
    return np.full_like(values, np.nan)


@pytest.mark.parametrize("retries", [0, 1])
def test_a_dask_graph_that_gave_nothing_at_first_is_computed_again(tmp_path: Path, retries: int) -> None:
    lazy = dataset()[["a"]].chunk(time=4)
    lazy["a"] = lazy["a"].copy(data=lazy["a"].data.map_blocks(once, str(tmp_path / "mark"), dtype="f4", meta=VALUES))
    target = tmp_path / "archive.icechunk"
    frazil.convert(lazy, target, executor=frazil.SerialExecutor(), retries_on_missing=retries)
    found = published_in(target).values
    assert found is not None
    assert bool(found["a"].isnull().any()) == (retries == 0)
    if retries:
        np.testing.assert_array_equal(found["a"], VALUES)


@pytest.mark.parametrize(
    ("dtype", "attributes", "values", "expected"),
    [
        ("<f4", {}, [1, np.nan, 0], [False, True, False]),
        ("<f4", {"_FillValue": -9.0, "missing_value": [7.0, 8.0]}, [-9, np.nan, 8], [True, True, True]),
        ("<i2", {"_FillValue": -9}, [-9, 0, 1], [True, False, False]),
        ("|u1", {"_FillValue": -1, "_Unsigned": "false"}, [255, 0, 1], [True, False, False]),
        ("<i2", {}, [0, 1], None),
        ("|b1", {"_FillValue": 0}, [True, False], None),
        ("<c8", {}, [1, complex(np.nan, 0)], [False, True]),
        ("|S2", {"_FillValue": "x"}, [b"x", b"y"], [True, False]),
        ("|S2", {}, [b"", b"y"], None),
        (STRING, {}, ["", "a"], [True, False]),
        (STRING, {"_FillValue": "none"}, ["none", ""], [True, False]),
    ],
)
def test_what_is_missing_is_told_by_nan_and_the_marks_of_the_array(
    dtype: str, attributes: Attributes, values: list[Any], expected: list[bool] | None
) -> None:
    found = missing_mask(np.array(values, object if dtype == STRING else dtype), dtype, attributes)
    assert (None if found is None else found.tolist()) == expected


def test_waits_double_and_never_take_longer_than_a_minute() -> None:
    check = MissingCheck(20)
    for tries in range(1, 6):
        assert 2 ** (tries - 1) <= check.delay(tries) <= 1.5 * 2 ** (tries - 1)
    assert check.delay(20) == 60
    assert len({check.delay(3) for _ in range(20)}) > 1


@pytest.mark.parametrize(
    ("retries", "names", "words"),
    [
        (-1, "all", "retries_on_missing is -1; use a whole number"),
        (True, "all", "retries_on_missing is True"),
        (1.5, "all", "retries_on_missing is 1.5"),
        (0, "a", "give retries_on_missing"),
        (1, [], "missing_check_vars is .*use 'all', or names"),
        (1, 3, "missing_check_vars is 3"),
        (1, ["a", 3], "missing_check_vars is"),
        (1, ["aa"], "missing_check_vars names 'aa'; did you mean 'a'"),
        (1, ["a", "time"], "names 'time', which is read and written once"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_written(
    tmp_path: Path, retries: Any, names: Any, words: str
) -> None:
    stored(tmp_path / "a.nc")
    target = tmp_path / "archive.icechunk"
    with pytest.raises(InvalidInputError, match=words):
        frazil.convert(
            tmp_path / "a.nc",
            target,
            executor=frazil.SerialExecutor(),
            retries_on_missing=retries,
            missing_check_vars=names,
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nc"]


@pytest.fixture
def from_writing_on(site: Site, tmp_path: Path) -> Callable[[int], Callable[[Progress], None]]:
    """Zeros so many times, once a run begins to write."""
    site.files["a.nc"] = stored(tmp_path / "a.nc")

    def listener(times: int) -> Callable[[Progress], None]:
        def listen(progress: Progress) -> None:
            if progress.stage == "write" and not progress.done and not isinstance(site.send, Zeros):
                site.send = Zeros(site.files["a.nc"], slice(3, 6), times)

        return listen

    return listener


@pytest.mark.parametrize("executor", ["serial", "localhost"])
def test_a_run_writes_again_what_was_missing(
    site: Site, tmp_path: Path, from_writing_on: Callable[[int], Callable[[Progress], None]], executor: str
) -> None:
    target = tmp_path / "archive.icechunk"
    with frazil.SerialExecutor() if executor == "serial" else frazil.LithopsExecutor(backend="localhost") as calls:
        frazil.convert(
            f"{site.url}/a.nc", target, engine="h5netcdf", executor=calls, retries_on_missing=1,
            listener=from_writing_on(1),
        )  # fmt: skip
    assert isinstance(site.send, Zeros)
    found = published_in(target).values
    assert found is not None
    np.testing.assert_array_equal(found["a"], VALUES)


def test_a_run_that_reads_other_values_each_time_publishes_nothing_and_can_be_resumed_with_the_same_check(
    site: Site, tmp_path: Path, from_writing_on: Callable[[int], Callable[[Progress], None]]
) -> None:
    target = tmp_path / "archive.icechunk"
    url = f"{site.url}/a.nc"
    listen = from_writing_on(0)

    def turns(progress: Progress) -> None:
        listen(progress)
        zeros = site.send
        if isinstance(zeros, Zeros):
            site.send = lambda asked, data: alternate(zeros, asked, data)

    options: dict[str, Any] = {"engine": "h5netcdf", "executor": frazil.SerialExecutor(), "retries_on_missing": 1}
    with pytest.raises(MissingDataError, match=r"a\.nc: .* after 1 retry.*Nothing was published; .* resume run"):
        frazil.convert(url, target, listener=turns, chunks={"time": 2}, **options)
    assert published_in(target).values is None
    (run,) = frazil.runs(target)
    site.send = Zeros(site.files["a.nc"], slice(3, 6), 1)
    frazil.resume(target, run.run_id, executor=frazil.SerialExecutor())
    found = published_in(target).values
    assert found is not None
    np.testing.assert_array_equal(found["a"], VALUES)
    assert site.send.given > 1


def test_the_command_line_and_job_files_ask_for_the_same(site: Site, tmp_path: Path) -> None:
    site.files["a.nc"] = stored(tmp_path / "a.nc")
    asked = ["--retries-on-missing", "1", "--missing-check-vars", "b,a", "--engine", "h5netcdf", "--run-id", "r"]
    target = str(tmp_path / "archive.icechunk")
    assert main(["convert", f"{site.url}/a.nc", target, "--backend", "serial", *asked]) == 0
    (tmp_path / "job.toml").write_text(
        f"sources = '{site.url}/a.nc'\nrepository = 'other.icechunk'\nengine = 'h5netcdf'\nretries_on_missing = 1\n"
        "missing_check_vars = ['a', 'b']"
    )
    other = tmp_path / "other.icechunk.frazil" / "r"
    arguments = ["--config", str(tmp_path / "job.toml"), "--run-dir", str(other), "--total", "1", "--index", "0"]
    assert main(["worker", *arguments]) == 0
    for where in (f"{target}.frazil/r", other):
        record = RunDirectory(locate(where)).record()
        assert record is not None
        assert record.missing == MissingCheck(1, ("a", "b"))


def test_the_second_reading_waits_for_the_time_of_a_receipt(repo: icechunk.Repository, tmp_path: Path) -> None:
    stored(tmp_path / "a.nc")
    commit_template(repo, ARRAYS)
    file = source_of(str(tmp_path / "a.nc"))
    opened = []

    class Counted(FileSources):
        """Files that are read slowly, and say when they are opened again."""

        def read(self, region: Region, dtype: str, attributes: Attributes) -> Values:
            time.sleep(0.05)
            return super().read(region, dtype, attributes)

        def anew(self) -> FileSources:
            opened.append(1)
            return super().anew()

    for flush, expected in ((3600.0, {1}), (0.01, {2, 3, 4})):
        opened.clear()
        with Counted([file], "time") as source:
            where = run_directory_of(repo, f"run-{flush}")
            task = write_task_of(repo, GRID.cut(1), [file], missing=SOON, flush_seconds=flush, run_directory=where)
            receipts = write(task, source)
        assert len(opened) in expected
        assert sum(len(one.regions) for one in receipts) == 4
