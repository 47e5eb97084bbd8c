import io
from pathlib import Path
from typing import Any

import h5py
import icechunk
import netCDF4
import numpy as np
import pytest
import zarr
from obspec_utils.registry import ObjectStoreRegistry
from obstore.store import LocalStore
from tests.functions.reading.referring import layout_in, scanned
from virtualizarr.parsers import HDFParser

from frazil_functions.layouts import Layout
from frazil_functions.reading.hdf5 import Hdf5File, open_hdf5
from frazil_functions.reading.scanning import ScanTask, dump_scan, load_scan, scan_store, scan_task
from frazil_functions.reading.stored import UnreferableError, plain_codecs

HDF5 = ("netcdf4", "h5netcdf")


def why(path: Path, name: str, engine: str = "h5netcdf") -> str:
    reason = scanned(path, engine).variables[name].layout
    assert isinstance(reason, str)
    return reason


@pytest.fixture
def filtered(tmp_path: Path) -> Path:
    path = tmp_path / "filtered.nc"
    values = np.random.default_rng(0).normal(size=(6, 10)).astype("f4")
    options: dict[str, dict[str, Any]] = {
        "plain": {"chunks": (4, 4)},
        "zlib": {"chunks": (4, 4), "compression": "gzip", "compression_opts": 7},
        "shuffled": {"chunks": (4, 4), "compression": "gzip", "shuffle": True},
        "checked": {"chunks": (4, 4), "compression": "gzip", "shuffle": True, "fletcher32": True},
        "whole": {},
        "filled": {"chunks": (4, 4), "fillvalue": np.nan},
    }
    with h5py.File(path, "w") as file:
        for name, option in options.items():
            file.create_dataset(name, data=values, **option)
        file.create_dataset("big", data=values.astype(">i2"), chunks=(6, 10))
        file.create_dataset("scalar", data=np.int64(3))
    return path


@pytest.mark.parametrize("name", ["plain", "zlib", "shuffled", "checked", "whole", "filled", "big", "scalar"])
def test_layouts_are_what_virtualizarr_says(name: str, filtered: Path) -> None:
    store = HDFParser()(filtered.as_uri(), ObjectStoreRegistry({"file://": LocalStore("/")}))
    said = store._group.arrays[name].metadata.to_dict()  # noqa: SLF001 - there is no other way to ask for it
    layout = layout_in(filtered, name, "h5netcdf")
    assert layout.chunks == said["chunk_grid"]["configuration"]["chunk_shape"]
    assert layout.codecs == plain_codecs(said["codecs"])
    assert layout.fill == said["fill_value"]
    assert layout.contiguous == (name in {"whole", "scalar"})


@pytest.mark.parametrize("engine", HDF5)
@pytest.mark.parametrize(
    ("compression", "codec"),
    [
        ("zlib", {"name": "numcodecs.zlib", "configuration": {"level": 4}}),
        ("zstd", {"name": "numcodecs.zstd", "configuration": {"level": 4, "checksum": False}}),
        ("bzip2", {"name": "numcodecs.bz2", "configuration": {"level": 4}}),
    ],
)
def test_the_netcdf_librarys_own_compression_has_a_codec(
    compression: Any, codec: dict[str, Any], engine: str, tmp_path: Path
) -> None:
    path = tmp_path / "compressed.nc"
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("x", 100)
        file.createVariable("v", "i1", ("x",), compression=compression, complevel=4, shuffle=False)[:] = 1
    assert layout_in(path, "v", engine).codecs == ({"name": "bytes"}, codec)


def test_a_chunk_is_as_large_as_the_file_says_even_if_the_variable_is_smaller(tmp_path: Path) -> None:
    path = tmp_path / "over.nc"
    with h5py.File(path, "w") as file:
        file.create_dataset("v", data=np.arange(5.0), chunks=(512,), maxshape=(None,))
    assert layout_in(path, "v", "h5netcdf").chunks == (512,)


@pytest.mark.parametrize("engine", HDF5)
def test_characters_are_the_strings_that_xarray_makes_of_them(engine: str, tmp_path: Path) -> None:
    path = tmp_path / "chars.nc"
    with netCDF4.Dataset(path, "w") as file:
        for dim, length in {"n": 6, "s": 5}.items():
            file.createDimension(dim, length)
        file.createVariable("whole", "S1", ("n", "s"), chunksizes=(3, 5), zlib=True)
        file.createVariable("cut", "S1", ("n", "s"), chunksizes=(3, 2), zlib=True)
        file.createVariable("text", "S1", ("n", "s"), zlib=True).setncattr("_Encoding", "utf-8")
    assert layout_in(path, "whole", engine).chunks == (3,)
    assert "cut into chunks of 2" in why(path, "cut", engine)
    assert "of the type object are stored in another way" in why(path, "text", engine)


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    path = tmp_path / "odd.h5"
    with h5py.File(path, "w") as file:
        file["text"] = ["of", "any", "length"]
        file["complex"] = np.zeros(3, "c8")
        file["long"] = np.zeros(3, "longdouble")
        file["opaque"] = np.void(b"abc")
        file["nothing"] = h5py.Empty("f4")
        file.create_dataset("lzf", data=np.arange(10), compression="lzf")
        file.create_dataset("offset", data=np.arange(10), scaleoffset=3)
        file.create_dataset("outside", shape=(4,), dtype="i4", external=[(str(tmp_path / "x.raw"), 0, 16)])
        file.create_dataset("uneven", data=np.arange(10.0), chunks=(5,), compression="gzip")
        layout = h5py.VirtualLayout((10,), "f8")
        layout[:] = h5py.VirtualSource(file["uneven"])
        file.create_virtual_dataset("virtual", layout)
        low(file, "compact", h5py.h5t.NATIVE_INT32, compact=True)
        spaced = h5py.h5t.C_S1.copy()
        spaced.set_size(4)
        spaced.set_strpad(h5py.h5t.STR_SPACEPAD)
        low(file, "spaced", spaced)
        narrow = h5py.h5t.STD_I32LE.copy()
        narrow.set_precision(20)
        low(file, "narrow", narrow)
    with netCDF4.Dataset(tmp_path / "checked.nc", "w") as other:
        other.createDimension("x", 10)
        other.createVariable("v", "f8", ("x",), zlib=True, fletcher32=True)
    return path


def low(file: Any, name: str, kind: Any, *, compact: bool = False) -> None:
    created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    if compact:
        created.set_layout(h5py.h5d.COMPACT)
    h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple((4,)), created)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("text", "no fixed length"),
        ("complex", "compound"),
        ("long", "float128"),
        ("opaque", "opaque"),
        ("nothing", "no values"),
        ("lzf", r"filter 32000 (lzf)"),
        ("offset", "filter 6 (scaleoffset)"),
        ("outside", "external storage"),
        ("virtual", "virtual dataset"),
        ("compact", "compact storage"),
        ("spaced", "padded or encoded"),
        ("narrow", "in a way that Zarr does not know"),
    ],
)
def test_what_nothing_can_refer_to_says_why(name: str, reason: str, odd: Path) -> None:
    assert reason in why(odd, name)


def test_a_link_into_another_file_is_refused(odd: Path) -> None:
    with h5py.File(odd.with_name("links.h5"), "w") as file:
        file["v"] = h5py.ExternalLink(str(odd), "/uneven")
    with (
        open_hdf5(str(odd.with_name("links.h5"))) as opened,
        pytest.raises(UnreferableError, match="link into another file"),
    ):
        opened.stored("v", 1)


def test_a_shuffle_with_a_rest_is_refused_which_zarrs_codec_cannot_undo(odd: Path) -> None:
    assert "84 bytes are shuffled by 8" in why(odd.with_name("checked.nc"), "v")


@pytest.mark.parametrize("engine", HDF5)
def test_a_variable_with_fewer_records_than_others_is_refused(engine: str, tmp_path: Path) -> None:
    path = tmp_path / "short.nc"
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("time", None)
        file.createVariable("long", "f4", ("time",))[:] = np.zeros(9)
        file.createVariable("short", "f4", ("time",))[:3] = np.zeros(3)
    assert layout_in(path, "long", engine)
    assert "shape (9,), and the file stores float32 of the shape (3,)" in why(path, "short", engine)


def test_a_variable_that_is_named_like_a_dimension_of_others_is_found(tmp_path: Path) -> None:
    path = tmp_path / "hidden.nc"
    with netCDF4.Dataset(path, "w") as file:
        for dim, length in {"x": 6, "y": 5}.items():
            file.createDimension(dim, length)
        file.createVariable("y", "f4", ("x", "y"))[:] = 1
    assert layout_in(path, "y").chunks == (6, 5)


class Counting(io.FileIO):
    """A file that counts the bytes that are read."""

    read_bytes = 0

    def readinto(self, buffer: Any, /) -> int:
        count = super().readinto(buffer)
        self.read_bytes += count
        return count


def test_however_many_chunks_there_are_nobody_looks_at_them(tmp_path: Path) -> None:
    looked = []
    for length in (10, 20_000):
        with h5py.File(tmp_path / "many.h5", "w") as made:
            made.create_dataset("v", shape=(length, 2), chunks=(1, 2), dtype="f4")[...] = 1
        with Counting(tmp_path / "many.h5") as file, h5py.File(file, "r") as opened:
            assert Hdf5File(opened, 1 << 30).stored("v", 2).layout.chunks == (1, 2)
            looked.append(file.read_bytes)
            assert Hdf5File(opened, 1 << 30).chunks("v", 2).stored.sum() == length
    assert looked[0] == looked[1]


def test_layouts_survive_the_wire(filtered: Path) -> None:
    scan = scan_task(ScanTask((str(filtered),), "h5netcdf", None, digests=False, layouts=True))
    assert load_scan(dump_scan(scan)) == scan


def test_nobody_looks_for_layouts_unasked(filtered: Path) -> None:
    (file,) = scan_task(ScanTask((str(filtered),), "h5netcdf", None, digests=False)).files
    assert {one.layout for one in file.variables.values()} == {None}


def test_an_array_of_a_repository_says_how_it_is_stored(repo: icechunk.Repository) -> None:
    store = repo.writable_session("main").store
    group = zarr.open_group(store, path="deep", mode="a")
    options: dict[str, Any] = {"shape": (4, 6), "dtype": "f4", "dimension_names": ("y", "x")}
    group.create_array("plain", chunks=(2, 3), compressors=None, fill_value=np.nan, **options)
    group.create_array("sharded", chunks=(2, 3), shards=(4, 6), **options)
    found, _ = scan_store(store, "here", "deep")
    bytes_ = {"name": "bytes", "configuration": {"endian": "little"}}
    assert found.variables["plain"].layout == Layout((2, 3), (bytes_,), "NaN")
    assert "shards" in str(found.variables["sharded"].layout)
