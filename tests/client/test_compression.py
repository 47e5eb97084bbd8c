"""The codec that was asked for is the one that is stored: read back with Icechunk and Zarr alone."""

import json
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pytest
import xarray as xr
import zarr

import frazil
from frazil.cli import main
from frazil_functions.compression import COMPRESSORS, SHUFFLES

from .hourly import series, state

HOURS = 12

pytestmark = pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")  # strings of fixed length


@pytest.fixture
def mixed(tmp_path: Path) -> str:
    """Floats, integers, a packed variable, single bytes, strings of both kinds, and a coordinate of two dimensions."""
    hours, shape = np.arange(HOURS), (HOURS, 8)
    values = np.linspace(250, 300, HOURS * 8).reshape(shape)
    dataset = xr.Dataset(
        {
            "tas": (("time", "x"), values.astype("f4")),
            "count": (("time", "x"), values.astype("i4")),
            "packed": (("time", "x"), values),
            "flag": (("time", "x"), (values % 3).astype("u1")),
            "word": (("time",), np.array([f"hour {one} " * one for one in hours], object)),
            "code": (("time",), np.array([f"{one:02}" for one in hours], "S2")),
        },
        {"time": ("time", hours, {"units": "hours since 2000-01-01"}), "lat": (("time", "x"), values)},
    )
    dataset["packed"].encoding = {"dtype": "i2", "scale_factor": 0.01, "add_offset": 270.0, "_FillValue": -9999}
    path = tmp_path / "mixed.nc"
    dataset.to_netcdf(path, encoding={"code": {"char_dim_name": "two"}})
    return str(path)


DTYPES = {"tas": 4, "count": 4, "packed": 2, "flag": 1, "word": 1, "code": 2}
"""The data variables, and the bytes of an element."""


def arrays(target: Path) -> dict[str, zarr.Array[Any]]:
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(target)))
    return dict(zarr.open_group(repo.readonly_session("main").store, mode="r").arrays())


def codecs(array: zarr.Array[Any]) -> list[tuple[str, dict[str, Any]]]:
    """The compressors of the chunks as the metadata has them, in a shard or not."""
    found: Any = json.loads(json.dumps(array.metadata.to_dict()["codecs"]))
    if found[0]["name"] == "sharding_indexed":
        found = found[0]["configuration"]["codecs"]
    return [(one["name"], one["configuration"]) for one in found if one["name"] not in {"bytes", "vlen-utf8"}]


def stored_as(text: str, item: int) -> list[tuple[str, dict[str, Any]]]:
    name, *rest = text.split(":")
    match name:
        case "zstd":
            return [("zstd", {"level": int(rest[0]), "checksum": False})]
        case "gzip":
            return [("gzip", {"level": int(rest[0])})]
        case "blosc":
            settings = {"cname": rest[0], "clevel": int(rest[1]), "shuffle": rest[2]}
            return [("blosc", {"typesize": item, **settings, "blocksize": 0})]
        case _:
            return []


@pytest.mark.parametrize("shards", [None, {"time": 6, "x": 8}], ids=["chunked", "sharded"])
@pytest.mark.parametrize("text", ["zstd:7", "gzip:5", "none", "blosc:zstd:3:shuffle", "blosc:lz4:5:bitshuffle"])
def test_the_codec_that_is_asked_for_is_stored_and_read(
    text: str, shards: dict[str, int] | None, mixed: str, target: Path, convert: Any
) -> None:
    found = convert(mixed, chunks={"time": 3, "x": 4}, shards=shards, compression=text)
    stored = arrays(target)
    assert {name: codecs(stored[name]) for name in DTYPES} == {
        name: stored_as(text, item) for name, item in DTYPES.items()
    }
    assert all((stored[name].shards is None) == (shards is None) for name in DTYPES)
    assert codecs(stored["lat"]) == codecs(stored["time"]) == [("zstd", {"level": 0, "checksum": False})]
    with xr.open_dataset(mixed) as wanted:
        xr.testing.assert_identical(found.load().drop_encoding(), wanted.load().drop_encoding())


def test_every_compressor_and_shuffle_of_blosc_makes_values_smaller_and_is_read(target: Path, tmp_path: Path) -> None:
    """What is in the metadata says nothing of what was done to the values."""
    names = [f"{one}_{shuffle}" for one in COMPRESSORS for shuffle in SHUFFLES]
    values = np.linspace(0, 1, 4096).astype("f4").round(2)
    dataset = xr.Dataset(dict.fromkeys(names, ("x", values)))
    asked = {name: "blosc:{}:5:{}".format(*name.split("_")) for name in names}
    frazil.convert(dataset, target, compression=asked, executor=frazil.SerialExecutor())
    stored = arrays(target)
    for name in names:
        assert codecs(stored[name]) == stored_as(asked[name], 4)
        np.testing.assert_array_equal(stored[name][:], values)
        assert stored[name].nbytes_stored() < values.nbytes / 4, name


def test_elements_that_are_too_long_for_blosc_are_bytes_to_it(target: Path) -> None:
    words = np.array([f"{one} " * 60 for one in range(300, 340)], "S300")
    dataset = xr.Dataset({"word": ("x", words)})
    frazil.convert(dataset, target, compression="blosc:zstd:3", executor=frazil.SerialExecutor())
    stored = arrays(target)["word"]
    assert codecs(stored) == stored_as("blosc:zstd:3:shuffle", 1)
    np.testing.assert_array_equal(stored[:], words)


def test_without_the_option_numbers_are_shuffled_and_the_plan_says_so(mixed: str, target: Path, convert: Any) -> None:
    convert(mixed)
    stored = arrays(target)
    balanced = {
        name: stored_as("blosc:zstd:2:shuffle", item) if item > 1 and name != "code" else stored_as("zstd:3", item)
        for name, item in DTYPES.items()
    }
    assert {name: codecs(stored[name]) for name in DTYPES} == balanced
    plan = frazil.plan(mixed, target, group="other", executor=frazil.SerialExecutor(), compression="tas=gzip:2")
    shown = {line.split()[0]: line for line in repr(plan).splitlines()}
    assert "gzip:2" in shown["tas"]
    assert "blosc:zstd:2:shuffle" in shown["packed"]


def test_variables_that_are_named_get_their_own(mixed: str, target: Path) -> None:
    asked = ["--compression", "gzip:1,tas=blosc:lz4:5", "--compression", "lat=none,word=small"]
    assert main(["convert", mixed, str(target), "--backend", "serial", *asked]) == 0
    stored = arrays(target)
    found = {name: codecs(stored[name]) for name in ("tas", "count", "lat", "word", "time")}
    assert found == {
        "tas": stored_as("blosc:lz4:5:shuffle", 4),
        "count": stored_as("gzip:1", 4),
        "lat": [],
        "word": stored_as("zstd:9", 1),
        "time": [("zstd", {"level": 0, "checksum": False})],
    }


REFUSED = {
    "zsdt:3": "did you mean 'zstd'",
    "blosc:zstd:10": "use 1 to 9",
    "tass=zstd:3": "did you mean 'tas'",
    "": "there is no codec ''",
    "tas=zstd:3,tas=none": "'tas' is given twice",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_cannot_be_stored_is_refused_before_anything_is_written(
    text: str, files: list[str], target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", *files, str(target), "--backend", "serial", "--compression", text]) == 2
    said = capsys.readouterr().err
    assert "compression" in said
    assert REFUSED[text] in said
    assert not list(target.parent.glob("archive*"))


def test_a_job_file_says_it_as_text_or_as_a_table(files: list[str], target: Path, tmp_path: Path) -> None:
    for number, said in enumerate(["'gzip:1,tas=none'", "{ tas = 'none', '*' = 'gzip:1' }"]):
        job = tmp_path / "job.toml"
        job.write_text(f"sources = {files}\nrepository = '{target}{number}'\ncompression = {said}\n")
        run = str(tmp_path / f"run{number}")
        assert main(["worker", "--config", str(job), "--run-dir", run, "--total", "1", "--index", "0"]) == 0
        assert codecs(arrays(Path(f"{target}{number}"))["tas"]) == []


def test_a_template_without_values_has_the_codec_and_regions_are_written_with_it(
    files: list[str], target: Path
) -> None:
    days = ["--global-start", "2000-01-01", "--global-end", "2000-01-02T23:00"]
    asked = ["--chunks", "time=10", "--compression", "tas=blosc:lz4:5:bitshuffle"]
    assert main(["create-template", files[0], str(target), *days, *asked]) == 0
    assert codecs(arrays(target)["tas"]) == stored_as("blosc:lz4:5:bitshuffle", 4)
    assert main(["write-region", files[1], str(target), "--backend", "serial"]) == 0
    stored = arrays(target)["tas"]
    assert codecs(stored) == stored_as("blosc:lz4:5:bitshuffle", 4)
    np.testing.assert_array_equal(stored[10:20], series(10, 20)["tas"])


def test_what_is_there_keeps_its_codec_and_what_is_added_gets_the_one_asked_for(
    tmp_path: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def files(start: int, stop: int, *names: str) -> str:
        path = tmp_path / f"{start}-{stop}-{len(names)}.nc"
        whole = series(start, stop)
        whole.assign(dict.fromkeys(names, whole["tas"])).to_netcdf(path)
        return str(path)

    def call(path: str, mode: str, *asked: str) -> int:
        return main(["convert", path, str(target), "--backend", "serial", "--mode", mode, *asked])

    def stored() -> dict[str, list[str]]:
        return {name: [one for one, _ in codecs(array)] for name, array in arrays(target).items() if array.ndim == 3}

    assert call(files(0, 6), "create", "--compression", "gzip:1") == 0
    assert call(files(6, 9), "append") == 0
    assert call(files(2, 4), "region") == 0
    assert call(files(0, 9), "modify") == 0
    assert stored() == {"tas": ["gzip"]}
    assert call(files(0, 9, "pr"), "modify", "--compression", "none") == 0
    assert call(files(0, 9, "pr", "ua"), "add", "--compression", "blosc:lz4:1") == 0
    assert stored() == {"tas": ["gzip"], "pr": [], "ua": ["blosc"]}
    before = state(target)
    capsys.readouterr()
    for path, mode, text, says in (
        (files(9, 12, "pr", "ua"), "append", "gzip:1", "an append keeps the compression that arrays have"),
        (files(2, 4), "region", "gzip:1", "a region keeps the compression that arrays have"),
        (files(0, 9), "modify", "gzip:1", "no variable is new"),
        (files(0, 9, "va"), "modify", "tas=gzip:1", "'tas', which is there already"),
        (files(0, 9, "va"), "add", "tas=gzip:1", "'tas', which is not written"),
    ):
        assert call(path, mode, "--compression", text) == 2
        assert says in capsys.readouterr().err
    assert state(target) == before
