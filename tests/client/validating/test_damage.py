"""Real damage to real objects, on a disk and in S3: each kind is found, and named."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pytest
import zarr
from zarr.codecs.numcodecs import BZ2

import frazil
from frazil.cli import main
from frazil.validating.looking import Effort

LARGE = Effort(whole_bytes=0, sample_bytes=0, sample_units=1)
"""Every array is looked at as if it were large: its chunks' presence, and the values of one."""

type Objects = dict[str, bytes]


def fill(repo: icechunk.Repository) -> None:
    """Arrays of random numbers, whose objects can be told by their length."""
    session = repo.writable_session("main")
    root = zarr.open_group(session.store, mode="a")
    random = np.random.default_rng(1)
    options: dict[str, Any] = {"dtype": "f4", "dimension_names": ("y", "x")}
    plain = root.create_array("plain", shape=(40, 100), chunks=(10, 100), compressors=None, **options)
    packed = root.create_array("packed", shape=(40, 200), chunks=(10, 200), **(options | {"dimension_names": "yz"}))
    sharded = root.create_array(
        "sharded", shape=(40, 300), chunks=(10, 100), shards=(20, 300), **(options | {"dimension_names": "yw"})
    )
    for array in (plain, packed, sharded):
        array[:] = random.normal(size=array.shape).astype("f4")
    session.commit("data")


def cut(data: bytes) -> bytes:
    return data[:-1]


def garbage(data: bytes) -> bytes:
    return b"\x07" * len(data)


def spoilt_index(data: bytes) -> bytes:
    return data[:-30] + b"\xff" + data[-29:]


def spoilt_chunk(data: bytes) -> bytes:
    return b"\xff" * 50 + data[50:]


@pytest.fixture(params=["disk", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Where a repository is, and ways to list, replace and delete its chunks' objects."""
    if request.param == "disk":
        folder = tmp_path / "archive" / "chunks"

        def put(name: str, data: bytes | None) -> None:
            (folder / name).unlink() if data is None else (folder / name).write_bytes(data)

        return tmp_path / "archive", lambda: {one.name: one.read_bytes() for one in folder.iterdir()}, put
    bucket = request.getfixturevalue("bucket")

    def put_object(name: str, data: bytes | None) -> None:
        bucket.Object(name).delete() if data is None else bucket.Object(name).put(Body=data)

    def objects() -> Objects:
        return {one.key: one.get()["Body"].read() for one in bucket.objects.filter(Prefix="archive/chunks/")}

    return "s3://raw/archive", objects, put_object


SIZES = {"plain": (3900, 4100), "packed": (7000, 8100), "sharded": (20_000, 30_000)}


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    ("array", "change", "words", "seldom"),
    [
        ("plain", None, "its object is gone", False),
        ("packed", None, "its object is gone", False),
        ("sharded", None, "its object is gone", False),
        ("plain", cut, "cut off|cannot be decoded", False),
        ("packed", cut, "cut off|cannot be decoded", False),
        ("sharded", cut, "cut off|cannot be decoded", False),
        ("packed", garbage, "cannot be decoded", True),
        ("sharded", spoilt_index, "shard's index|cannot be decoded", False),
        ("sharded", spoilt_chunk, "cannot be decoded", True),
    ],
)
def test_damage_is_found_and_named(
    storage: Any, array: str, change: Callable[[bytes], bytes] | None, words: str, *, seldom: bool, full: bool
) -> None:
    where, objects, put = storage
    fill(frazil.open_repository(where))
    low, high = SIZES[array]
    name, data = next((name, data) for name, data in sorted(objects().items()) if low <= len(data) <= high)
    put(name, None if change is None else change(data))
    found = frazil.validate(where, effort=Effort(full=True) if full else LARGE, executor=frazil.SerialExecutor())
    if not full and seldom:  # a sample may miss what decoding alone can tell
        assert {fault.array for fault in found.faults} <= {array}
        return
    (fault,) = found.faults
    assert (fault.kind, fault.array) == ("chunk", array)
    assert fault.chunk is not None
    seen, decoded = words.split("|", maxsplit=1)[0], words.rsplit("|", maxsplit=1)[-1]
    assert (decoded if full else seen) in fault.what
    assert "--mode region" in fault.cure
    (told,) = (one for one in found.arrays if one.path == array)
    if full:
        assert told.decoded == told.stored - 1
        assert told.summary.count == (1 - 1 / told.units) * np.prod(told.shape)


def test_what_is_whole_has_no_faults(storage: Any) -> None:
    where, _, _ = storage
    fill(frazil.open_repository(where))
    for effort in (LARGE, Effort(full=True), Effort()):
        found = frazil.validate(where, effort=effort, executor=frazil.SerialExecutor())
        assert found.ok, found.faults
        assert {one.path: (one.stored, one.units) for one in found.arrays} == {
            "plain": (4, 4),
            "packed": (4, 4),
            "sharded": (2, 2),
        }
        assert [one.whole for one in found.arrays] == [effort is not LARGE] * 3


def test_a_manifest_that_is_gone_is_found(tmp_path: Path) -> None:
    fill(frazil.open_repository(tmp_path / "archive"))
    for manifest in (tmp_path / "archive" / "manifests").iterdir():
        manifest.unlink()
    found = frazil.validate(tmp_path / "archive", executor=frazil.SerialExecutor())
    assert {(fault.kind, fault.array) for fault in found.faults} >= {
        ("manifest", name) for name in ("plain", "packed", "sharded")
    }


def test_a_store_that_nobody_may_write_is_validated(tmp_path: Path) -> None:
    fill(frazil.open_repository(tmp_path / "archive"))
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    for path in [tmp_path / "archive", *(tmp_path / "archive").rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    if os.geteuid():
        assert frazil.validate(tmp_path / "archive", full=True, executor=frazil.SerialExecutor()).ok
    assert frazil.validate(tmp_path / "archive", executor=frazil.SerialExecutor()).ok
    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")) == before
    for path in [tmp_path / "archive", *(tmp_path / "archive").rglob("*")]:
        path.chmod(0o755)


def reversed_bits(path: Path, at: float) -> None:
    data = bytearray(path.read_bytes())
    data[int(at * len(data))] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr")
@pytest.mark.parametrize("codec", ["gzip", "bz2"])
def test_what_a_codec_finds_wrong_is_a_fault_and_the_rest_is_looked_at(tmp_path: Path, codec: str) -> None:
    repo = frazil.open_repository(tmp_path / "archive")
    session = repo.writable_session("main")
    root = zarr.open_group(session.store, mode="a")
    compressor = {"gzip": {"name": "gzip", "configuration": {"level": 5}}, "bz2": BZ2()}[codec]
    array = root.create_array(
        "v", shape=(4, 3000), chunks=(1, 3000), dtype="f4", dimension_names="yx", compressors=compressor
    )
    array[:] = np.random.default_rng(1).normal(size=array.shape)
    session.commit("data")
    reversed_bits(next((tmp_path / "archive" / "chunks").iterdir()), 0.5)
    (fault,) = frazil.validate(tmp_path / "archive", executor=frazil.SerialExecutor()).faults
    assert (fault.kind, fault.array) == ("chunk", "v")
    assert fault.chunk is not None
    assert "cannot be decoded" in fault.what


def spoil(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:39] + b"\xff" * (path.stat().st_size - 39))


def test_a_manifest_that_is_corrupt_is_found_and_the_rest_is_looked_at(tmp_path: Path) -> None:
    fill(frazil.open_repository(tmp_path / "archive"))
    (manifest, *_) = (tmp_path / "archive" / "manifests").iterdir()
    spoil(manifest)
    found = frazil.validate(tmp_path / "archive", executor=frazil.SerialExecutor())
    (fault,) = found.faults
    assert (fault.kind, fault.array in {"plain", "packed", "sharded"}) == ("manifest", True)
    assert "its object is corrupt" in fault.what
    assert [one.decoded == one.units for one in found.arrays if one.path != fault.array] == [True, True]


@pytest.mark.parametrize(
    ("change", "words"),
    [(Path.unlink, "gone from the storage"), (spoil, "corrupt"), (lambda path: path.write_bytes(b""), "header size")],
)
def test_a_snapshot_that_cannot_be_read_is_a_fault(
    tmp_path: Path, change: Callable[[Path], object], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(frazil.open_repository(tmp_path / "archive"))
    for snapshot in (tmp_path / "archive" / "snapshots").iterdir():
        change(snapshot)
    (fault,) = frazil.validate(tmp_path / "archive", executor=frazil.SerialExecutor()).faults
    assert fault.kind == "snapshot"
    assert words in fault.what
    assert "Reset the branch" in fault.cure
    assert main(["validate", str(tmp_path / "archive"), "--backend", "serial"]) == 1
    assert words in capsys.readouterr().out
