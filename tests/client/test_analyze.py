"""Advice on chunks, as the command line and Python give it, and plans that take it."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dask.array
import h5py
import numpy as np
import pytest
import xarray as xr

import frazil
from frazil.advising.analysis import Sampled
from frazil.advising.sample import packing_of
from frazil.cli import main
from frazil_functions.reading.scanning import VariableMetadata

from .hourly import read, series

SHOWN = ("chunks", "count", "chunk size", "object size", "time series", "map", "writing")


def choice(found: frazil.Analysis, variable: str, name: str) -> Any:
    (one,) = (one for one in found.variables if one.name == variable)
    (priced,) = (priced for priced in one.choices if priced.name == name)
    return priced


@pytest.fixture
def days(tmp_path: Path) -> list[str]:
    """Ten files of a day each, stored in chunks of an hour."""
    folder = tmp_path / "sources"
    folder.mkdir()
    paths = [folder / f"day{number}.nc" for number in range(10)]
    for number, path in enumerate(paths):
        day = series(24 * number, 24 * number + 24)
        day.to_netcdf(path, encoding={"tas": {"chunksizes": (1, 4, 5)}})
    return [str(path) for path in paths]


def test_files_count_with_all_that_they_hold_together(days: list[str]) -> None:
    found = frazil.analyze(days, reading="temporal", target_size="4kB")
    (one,) = found.variables
    assert (one.name, one.dtype, one.sizes, one.nbytes) == ("tas", "float32", {"time": 240, "lat": 4, "lon": 5}, 19200)
    assert (found.sources, found.append_dim) == ("10 files", "time")
    advised = one.advised
    assert advised.name == "temporal"
    assert advised.chunks == {"time": 240, "lat": 4, "lon": 1}
    assert (advised.chunk_count, advised.chunk_bytes, advised.object_count) == (5, 3840, 5)
    assert (advised.series.requests, advised.map.requests, advised.files_per_object) == (1, 5, 10)


def test_the_files_own_chunks_and_the_default_are_shown_beside_the_advice(days: list[str]) -> None:
    found = frazil.analyze(days)
    own = choice(found, "tas", "files")
    assert (own.chunks, own.chunk_count, own.object_count) == ({"time": 1, "lat": 4, "lon": 5}, 240, 10)
    assert (own.series.requests, own.map.requests, own.map.nbytes) == (240, 1, 80)
    assert choice(found, "tas", "default").chunks == {"time": 240, "lat": 4, "lon": 5}
    assert [one.name for one in found.variables[0].choices] == [
        "balanced", "temporal", "spatial", "together", "default", "files"
    ]  # fmt: skip


def test_chunks_that_do_not_fill_a_file_end_with_it(tmp_path: Path) -> None:
    paths = []
    for number in range(3):
        paths.append(tmp_path / f"part{number}.nc")
        series(10 * number, 10 * number + 10).to_netcdf(paths[-1], encoding={"tas": {"chunksizes": (4, 4, 5)}})
    own = choice(frazil.analyze(paths), "tas", "files")
    assert (own.chunk_count, own.series.requests, own.series.nbytes) == (9, 9, 9 * 4 * 4 * 5 * 4)


@pytest.mark.parametrize("wish", ["auto:temporal:4kB", "auto:spatial:4kB", "auto:balanced:4kB"])
def test_a_plan_takes_the_chunks_that_the_analysis_shows(wish: str, days: list[str], target: Path) -> None:
    _, reading, nbytes = wish.split(":")
    found = frazil.analyze(days, reading=reading, target_size=nbytes)  # type: ignore[arg-type]
    with frazil.SerialExecutor() as executor:
        asked = frazil.plan(days, target, chunks=wish, executor=executor)
        given = frazil.plan(days, target, chunks=found.chunks, executor=executor)
    assert asked.template.arrays["tas"].chunks == tuple(found.chunks.values())
    assert asked.hash == given.hash


def test_what_is_advised_can_be_given_to_the_command_line(
    days: list[str], target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = frazil.analyze(days, reading="balanced", target_size="1kB")
    assert main(["convert", *days, str(target), "--backend", "serial", *found.options.split()]) == 0
    other = target.with_name("auto.icechunk")
    assert main(["convert", *days, str(other), "--backend", "serial", "--chunks", "auto:balanced:1kB"]) == 0
    assert "Published" in capsys.readouterr().out
    assert read(other)["tas"].encoding["chunks"] == tuple(found.chunks.values())
    xr.testing.assert_identical(read(target), read(other))
    xr.testing.assert_identical(read(target), xr.decode_cf(series(0, 240)))


def test_a_job_file_takes_it_too(days: list[str], target: Path, tmp_path: Path) -> None:
    job = tmp_path / "job.toml"
    job.write_text(f'sources = {days}\nrepository = "{target}"\nchunks = "auto:spatial:2kB"\n')
    assert (
        main(["worker", "--config", str(job), "--run-dir", str(tmp_path / "run"), "--total", "1", "--index", "0"]) == 0
    )
    assert read(target)["tas"].encoding["chunks"] == (24, 4, 5)


def test_chosen_chunks_divide_shards_that_somebody_chose(days: list[str], target: Path) -> None:
    with frazil.SerialExecutor() as executor:
        made = frazil.plan(days, target, chunks="auto:balanced:2kB", shards={"time": 70}, executor=executor)
    array = made.template.arrays["tas"]
    assert array.shards is not None
    assert array.shards[0] == 70
    assert 70 % array.chunks[0] == 0
    assert array.chunks[0] > 1


@pytest.mark.parametrize("mode", ["append", "region"])
def test_chunks_of_a_group_that_is_there_are_not_chosen_again(mode: Any, days: list[str], target: Path) -> None:
    with frazil.SerialExecutor() as executor:
        frazil.convert(days[:1], target, executor=executor)
        with pytest.raises(frazil.InvalidInputError, match="leave out chunks and shards"):
            frazil.plan(days[1:], target, mode=mode, chunks="auto:temporal", executor=executor)
        with pytest.raises(frazil.InvalidInputError, match="leave out chunks and shards"):
            frazil.plan(days[:1], target, mode="modify", chunks="auto:temporal", executor=executor)


def test_one_choice_serves_variables_with_other_dimensions() -> None:
    big, flat = np.zeros((200, 5, 30, 40), "f4"), np.zeros((200, 30, 40), "f8")
    dataset = xr.Dataset(
        {
            "ta": (("time", "level", "lat", "lon"), big),
            "ps": (("time", "lat", "lon"), flat),
            "mask": (("lat", "lon"), np.zeros((30, 40), "i1")),
            "area": (("cell",), dask.array.zeros(5000, chunks=1000)),
        },
        {"time": ("time", np.arange(200), {"units": "days since 2000-01-01"})},
    )
    found = frazil.analyze(dataset, reading="temporal", target_size="16kB")
    assert found.sources == "a dataset"
    assert found.chunks.keys() == {"time", "level", "lat", "lon", "cell"}
    assert {one.name for one in found.variables} == {"ta", "ps", "area"}, "what is written once has no choice"
    assert choice(found, "ps", "together").series.requests == 1
    for one in found.variables:
        assert all(priced.chunk_bytes <= 16_000 for priced in one.choices if priced.name not in {"default", "files"})


def test_values_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "damaged.nc"
    dataset = series(0, 24)
    dataset.to_netcdf(path, encoding={"tas": {"fletcher32": True, "chunksizes": (24, 4, 5)}})
    with h5py.File(path) as file:
        where = file["tas"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[where.byte_offset] ^= 255
    path.write_bytes(content)
    assert frazil.analyze(path).chunks == {"time": 24, "lat": 4, "lon": 5}
    with pytest.raises(frazil.InvalidInputError, match=r"damaged.nc: 'tas'.* cannot be read"):
        frazil.analyze(path, sample=True)


def test_a_lazy_dataset_is_not_computed() -> None:
    def fail(values: Any) -> Any:
        raise AssertionError("it was computed")

    lazy = dask.array.zeros((100, 20, 30), chunks=(10, 20, 30)).map_blocks(fail, dtype="f8", meta=np.zeros(0))
    found = frazil.analyze(xr.DataArray(lazy, dims=("time", "lat", "lon"), name="tas"))
    assert choice(found, "tas", "files").chunks == {"time": 10, "lat": 20, "lon": 30}


@pytest.mark.parametrize(
    ("values", "attributes", "says"),
    [
        ("random", {}, "packing pays"),
        ("constant", {}, "holds no range to pack"),
        ("missing", {}, "holds no range to pack"),
    ],
)
def test_a_sample_tells_whether_packing_pays(
    values: str, attributes: dict[str, Any], says: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    shape = (40, 50, 60)
    given = {
        "random": rng.normal(280, 10, shape),
        "constant": np.full(shape, 3.0),
        "missing": np.full(shape, np.nan),
    }[values]
    path = tmp_path / "a.nc"
    xr.Dataset({"tas": (("time", "y", "x"), given.astype("f4"), attributes)}).to_netcdf(path)
    (one,) = frazil.analyze(path, sample=True).variables
    assert one.sampled is not None
    assert one.sampled.ratio > 1
    assert says in one.packing


def test_packing_pays_where_it_makes_a_sample_much_smaller() -> None:
    metadata = VariableMetadata(("x",), (9,), "<f4", {"units": "K"}, None)
    assert packing_of(metadata, "<f4", Sampled(100, 2.0, 0.5, 2.6)).endswith(
        "packing pays where that is precise enough"
    )
    assert (
        "2.0 times as it is and 2.4 times as 16-bit numbers, in steps of 0.5 K over its own range: packing does not"
        in (packing_of(metadata, "<f4", Sampled(100, 2.0, 0.5, 2.4)))
    )


def test_a_sample_is_a_small_part_of_a_variable(tmp_path: Path) -> None:
    path = tmp_path / "a.nc"
    xr.Dataset({"tas": (("time", "y", "x"), np.random.default_rng(0).random((3, 2000, 1000)))}).to_netcdf(path)
    (one,) = frazil.analyze(path, sample=True).variables
    assert one.sampled is not None
    assert one.sampled.nbytes <= 4 << 20


def test_metadata_say_what_packing_would_round_to(tmp_path: Path) -> None:
    path = tmp_path / "a.nc"
    both = {"valid_min": 0.0, "valid_max": 655.34, "units": "K"}
    xr.Dataset(
        {
            "t": (("y",), np.ones(9)),
            "u": (("y",), np.ones(9), both),
            "p": (("y",), np.ones(9)),
            "n": (("y",), np.ones(9, "i4")),
        }
    ).to_netcdf(path, encoding={"p": {"dtype": "i2", "scale_factor": 0.1, "_FillValue": -1}})
    packing = {one.name: one.packing for one in frazil.analyze(path).variables}
    assert packing["u"] == "16-bit numbers over the valid range 0 to 655.34 would have steps of 0.01 K"
    assert packing["p"] == "is packed as int16, and stays so"
    assert "no valid range" in packing["t"]
    assert packing["n"] == ""


def test_it_shows_as_text_as_a_table_and_as_json(days: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", *days, "--reading", "temporal", "--target-size", "4kB"]) == 0
    text = capsys.readouterr().out
    found = frazil.analyze(days, reading="temporal", target_size="4kB")
    assert text == f"{found!r}\n"
    for word in (*SHOWN, "before compression", "10 files along time", "temporal", "files", "default", found.options):
        assert word in text
    page = found._repr_html_()
    assert page.count("<table>") == page.count("</table>") == 1
    assert all(word in page for word in SHOWN)
    assert main(["analyze", *days, "--reading", "temporal", "--target-size", "4kB", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads(found.to_json())
    assert (told["reading"], told["target_bytes"], told["options"]) == (
        "temporal",
        4000,
        "--chunks time=240,lat=4,lon=1",
    )
    assert told["variables"][0]["choices"][0]["series"]["requests"] == 1


def test_names_in_a_table_are_text_and_no_markup() -> None:
    dataset = xr.Dataset({"<b>x": (("y",), np.zeros(3))})
    assert "<b>x" not in frazil.analyze(dataset)._repr_html_()


def test_variables_that_are_alike_stand_together(tmp_path: Path) -> None:
    same = xr.Dataset({name: (("time", "y", "x"), np.zeros((3, 4, 5))) for name in ("u", "v")})
    found = frazil.analyze(same)
    assert repr(found).count("chunk size") == 1
    assert "u, v: float64" in repr(found)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--reading", "tempral"], "--reading cannot be for 'tempral' reading; did you mean 'temporal'?"),
        (["--target-size", "0"], "--target-size '0' is no size that a chunk can have; use about 16MiB"),
        (["--target-size", "16 apples"], "--target-size '16 apples' is no size; use a number and a unit"),
        (["--append-dim", "tim"], "has no dimension 'tim'; did you mean 'time'?"),
        (["--variables", "tos"], "there is no variable 'tos'; did you mean 'tas'?"),
        (["--engine", "nonesuch"], "nonesuch"),
    ],
)
def test_bad_options_are_refused_with_the_cure(
    options: Sequence[str], says: str, days: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(days[0]).parent
    before = sorted(folder.iterdir())
    assert main(["analyze", *days, *options]) == 2
    assert says in capsys.readouterr().err
    assert sorted(folder.iterdir()) == before


def test_files_without_data_are_refused(days: list[str]) -> None:
    with pytest.raises(frazil.InvalidInputError, match=r"day0.nc holds labels and coordinates alone"):
        frazil.analyze(days[0], variables="lat")


@pytest.mark.parametrize(
    ("paths", "says"),
    [([], "name the files to look at"), (["none.nc"], "none.nc does not exist"), (["*.none"], "no files match")],
)
def test_files_that_are_not_there_are_refused(
    paths: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["analyze", *paths]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("sources", [3, [xr.Dataset()], xr.DataTree(), []])
def test_what_is_no_source_is_refused(sources: Any) -> None:
    with pytest.raises(frazil.InvalidInputError):
        frazil.analyze(sources)


@pytest.mark.parametrize(
    ("chunks", "says"),
    [
        ("auto:tempral", "did you mean 'temporal'"),
        ("auto:temporal:none", "'none' is no size"),
        ("auto", "auto:READING"),
        ("auto:temporal,lat=3", "'temporal,lat=3' reading"),
    ],
)
def test_chunks_that_cannot_be_meant_are_refused_everywhere(
    chunks: str, says: str, days: list[str], target: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *days, str(target), "--chunks", chunks]) == 2
    assert says in capsys.readouterr().err
    with pytest.raises(frazil.InvalidInputError, match=says.partition("'")[0]):
        frazil.plan(days, target, chunks=chunks)
    job = tmp_path / "job.toml"
    job.write_text(f'sources = {days}\nrepository = "{target}"\nchunks = "{chunks}"\n')
    assert (
        main(["worker", "--config", str(job), "--run-dir", str(tmp_path / "run"), "--total", "1", "--index", "0"]) == 2
    )
    assert says in capsys.readouterr().err
    assert list(target.parent.glob("archive*")) == []


def test_a_tree_is_analyzed_node_by_node() -> None:
    tree = xr.DataTree(xr.Dataset({"v": (("x",), np.zeros(3))}))
    with pytest.raises(frazil.InvalidInputError, match="analyze its nodes one by one"):
        frazil.analyze(tree)


def test_a_dimension_may_be_named_like_the_wish(target: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.nc"
    xr.Dataset({"v": (("auto_x",), np.zeros(8))}).to_netcdf(path)
    assert main(["convert", str(path), str(target), "--backend", "serial", "--chunks", "auto_x=4"]) == 0
    assert read(target)["v"].encoding["chunks"] == (4,)


def test_a_dimension_without_elements_needs_no_chunks() -> None:
    dataset = xr.Dataset({"v": (("time", "x"), dask.array.zeros((0, 5)))})
    found: Callable[..., Any] = frazil.analyze
    assert found(dataset).chunks == {"x": 5}


@pytest.mark.parametrize("reading", [None, 3, "time"])
def test_what_is_no_reading_is_refused(days: list[str], reading: Any) -> None:
    with pytest.raises(frazil.InvalidInputError, match="reading cannot be for"):
        frazil.analyze(days, reading=reading)
