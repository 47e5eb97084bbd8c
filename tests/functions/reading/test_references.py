import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import icechunk
import iris_sample_data
import netCDF4
import numcodecs
import numpy as np
import pytest
import zarr
import zarr.codecs
from gribberish.virtualizarr import GribberishParser
from hypothesis import given, settings
from hypothesis import strategies as st
from obspec_utils.registry import ObjectStoreRegistry
from obstore.store import LocalStore
from tests.functions.conftest import Site
from tests.functions.reading.referring import Referring, check, compare, layout_in, raw, same, scanned
from virtualizarr.parsers import HDFParser, NetCDF3Parser

from frazil_functions.errors import InvalidInputError, SourceError
from frazil_functions.layouts import Layout
from frazil_functions.reading.references import ReferredFile, reference_checksum, reference_url
from frazil_functions.reading.stored import UnreferableError, plain_codecs

BIG = ({"name": "bytes", "configuration": {"endian": "big"}},)
PLAIN = ({"name": "bytes", "configuration": {"endian": "little"}},)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "files").mkdir()
    return tmp_path / "files"


def numbers(*shape: int) -> Any:
    values = np.random.default_rng(7).normal(size=shape)
    values.reshape(-1)[::7] = np.nan
    return values


def netcdf4_file(path: Path) -> None:
    values = numbers(9, 7, 11)
    whole = (np.nan_to_num(values) * 50).astype("i2")
    options: dict[str, Any] = {"dimensions": ("t", "y", "x"), "chunksizes": (2, 4, 6)}
    with netCDF4.Dataset(path, "w") as file:
        for dim, length in {"t": None, "y": 7, "x": 11, "s": 5}.items():
            file.createDimension(dim, length)
        for level in (1, 9):
            file.createVariable(f"zlib{level}", "f4", zlib=True, complevel=level, **options)[:] = values
        file.createVariable("unshuffled", "f8", zlib=True, shuffle=False, **options)[:] = values
        file.createVariable("checked", "f4", zlib=True, fletcher32=True, **options)[:] = values
        file.createVariable("odd", "i1", fletcher32=True, **options)[:] = whole.astype("i1")
        file.createVariable("zstd", "f4", compression="zstd", **options)[:] = values
        file.createVariable("bzip2", "f4", compression="bzip2", **options)[:] = values
        file.createVariable("plain", "i8", **options)[:] = whole
        file.createVariable("big", ">f4", endian="big", **options)[:] = values
        file.createVariable("contiguous", "f4", ("y", "x"))[:] = values[0]
        file.createVariable("scalar", "i4", ())[...] = 7
        file.createVariable("never", "f4", ("y", "x"), fill_value=-1)
        file.createVariable("x", "f8", ("x",))[:] = np.arange(11)
        part = file.createVariable("part", "f4", ("t", "y", "x"), chunksizes=(1, 7, 11), fill_value=-9.0, zlib=True)
        part[3], part[8] = values[3], values[8]
        packed = file.createVariable("packed", "i2", ("t", "y"), zlib=True, fill_value=-32768)
        packed.set_auto_maskandscale(False)
        packed.setncatts({"scale_factor": 0.1, "add_offset": 3.0})
        packed[:] = whole[:, :, 0]
        words = np.array([b"abc", b"abcde", b""] * 3, "S5")
        file.createVariable("words", "S1", ("t", "s"), chunksizes=(2, 5), zlib=True)[:] = netCDF4.stringtochar(words)
        file.createGroup("below").createVariable("apart", "f4", ("y",))[:] = 1


@pytest.mark.parametrize("engine", ["netcdf4", "h5netcdf"])
def test_netcdf4_reads_through_references_as_xarray_reads_it(engine: str, files: Path, tmp_path: Path) -> None:
    netcdf4_file(files / "a.nc")
    counts = check(files / "a.nc", tmp_path / "repo", engine)
    assert counts.pop("never") == (0, 1)
    assert counts.pop("part") == (2, 9)
    assert {referred == all_ for referred, all_ in counts.values()} == {True}
    assert counts.keys() >= {
        "zlib1",
        "checked",
        "odd",
        "zstd",
        "bzip2",
        "big",
        "contiguous",
        "scalar",
        "words",
        "packed",
    }


def test_hdf5_behind_a_user_block_reads_as_it_is(files: Path, tmp_path: Path) -> None:
    with h5py.File(files / "a.h5", "w", userblock_size=512) as file:
        file.create_dataset("cut", data=numbers(20, 6), chunks=(3, 4), compression="gzip")
        file.create_dataset("whole", data=numbers(20, 6))
    assert check(files / "a.h5", tmp_path / "repo", "h5netcdf") == {"cut": (14, 14), "whole": (1, 1)}


def test_a_chunk_that_a_filter_was_left_out_of_is_not_referred_to(files: Path, tmp_path: Path) -> None:
    values = numbers(20, 6).astype("f4")
    with h5py.File(files / "a.h5", "w") as file:
        dataset = file.create_dataset("v", data=values, chunks=(5, 6), compression="gzip")
        dataset.id.write_direct_chunk((5, 0), values[5:10].tobytes(), filter_mask=1)
    assert check(files / "a.h5", tmp_path / "repo", "h5netcdf") == {"v": (3, 4)}


CLASSIC = {"NETCDF3_CLASSIC": b"\1", "NETCDF3_64BIT_OFFSET": b"\2", "NETCDF3_64BIT_DATA": b"\5"}


def classic_file(path: Path, kind: Any) -> None:
    with netCDF4.Dataset(path, "w", format=kind) as file:
        for dim, length in {"t": None, "x": 5, "s": 3, "z": 3}.items():
            file.createDimension(dim, length)
        file.createVariable("bytes", "i1", ("t", "x"))[:] = np.arange(35).reshape(7, 5)
        file.createVariable("floats", "f4", ("t", "x"), fill_value=-1)[:] = numbers(7, 5)
        file.createVariable("letters", "S1", ("t", "z"))[:] = np.full((7, 3), b"q")
        file.createVariable("words", "S1", ("t", "s"))[:] = np.full((7, 3), b"w")
        file.createVariable("t", "f8", ("t",))[:] = np.arange(7)
        file.createVariable("fixed", "f8", ("x", "z"))[:] = numbers(5, 3)
        file.createVariable("scalar", "i2", ())[...] = 4
        if kind.endswith("DATA"):
            file.createVariable("long", "u8", ("t", "x"))[:] = np.arange(35).reshape(7, 5)


@pytest.mark.parametrize("kind", CLASSIC)
def test_classic_files_read_through_references_as_xarray_reads_them(kind: str, files: Path, tmp_path: Path) -> None:
    path = files / "a.nc"
    classic_file(path, kind)
    assert path.read_bytes()[3:4] == CLASSIC[kind]
    counts = check(path, tmp_path / "repo")
    assert {name: count for name, count in counts.items() if count != (7, 7)} == {"fixed": (1, 1), "scalar": (1, 1)}
    assert len(counts) == (8 if kind.endswith("DATA") else 7)
    assert layout_in(path, "words").chunks == (1,)
    assert layout_in(path, "fixed").contiguous
    store = NetCDF3Parser()(path.as_uri(), ObjectStoreRegistry({"file://": LocalStore("/")}))
    with ReferredFile(str(path), "netcdf4") as file:
        for name in counts.keys() - {"words"}:
            manifest = store._group.arrays[name].manifest  # noqa: SLF001 - there is no other way to ask for it
            layout = layout_in(path, name)
            found = file.references(name, layout)
            np.testing.assert_array_equal(found.offsets, manifest._offsets)  # noqa: SLF001 - as above
            np.testing.assert_array_equal(found.lengths, manifest._lengths)  # noqa: SLF001 - as above
            codecs = store._group.arrays[name].metadata.codecs  # noqa: SLF001 - as above
            assert layout.codecs == plain_codecs(codec.to_dict() for codec in codecs)


def test_records_of_the_only_variable_that_has_some_are_not_padded(files: Path, tmp_path: Path) -> None:
    with netCDF4.Dataset(files / "a.nc", "w", format="NETCDF3_CLASSIC") as file:
        file.createDimension("t", None)
        file.createDimension("x", 5)
        file.createVariable("v", "i1", ("t", "x"))[:] = np.arange(35).reshape(7, 5)
    assert check(files / "a.nc", tmp_path / "repo") == {"v": (7, 7)}


def test_records_that_were_never_counted_are_as_many_as_there_is_room_for(files: Path, tmp_path: Path) -> None:
    classic_file(files / "a.nc", "NETCDF3_CLASSIC")
    data = (files / "a.nc").read_bytes()
    (files / "a.nc").write_bytes(data[:4] + b"\xff" * 4 + data[8:])
    with ReferredFile(str(files / "a.nc"), "netcdf4") as file:
        assert file.references("floats", Layout((1, 5), BIG, -1.0)).stored.shape == (7, 1)


def hierarchy(path: Path, zarr_format: Any) -> None:
    values = numbers(10, 7)
    whole = (np.nan_to_num(values) * 10).astype("i4")
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)

    def create(name: str, values: Any, **options: Any) -> None:
        names = ("y", "x")[: values.ndim]
        options |= {"dimension_names": names} if zarr_format == 3 else {"attributes": {"_ARRAY_DIMENSIONS": names}}
        options = {"chunks": (3, 4)[: values.ndim], "dtype": values.dtype} | options
        group.create_array(name, shape=values.shape, **options)[...] = values

    create("usual", values)
    create("plain", values.astype("f4"), compressors=None)
    create("part", np.where(np.arange(10) < 5, whole[:, 1], 0), fill_value=0)
    create("scalar", np.array(3.0))
    create("flags", whole > 0)
    create("words", np.array([b"a", b"bc"] * 5))
    create("text", np.array(["a", "bc"] * 5, object), dtype=str)
    create("times", np.arange(10).astype("M8[s]"))
    if zarr_format == 2:
        create("big", values, dtype=">f8")
        create("columns", values, order="F")
        create("slashes", values, chunk_key_encoding={"name": "v2", "separator": "/"})
        create("blosc", values, compressors=numcodecs.Blosc("lz4", 5, 2))
        create("zlib", values, compressors=numcodecs.Zlib(3))
        create("delta", whole, filters=[numcodecs.Delta("i4")])
        create("shuffled", whole, filters=[numcodecs.Shuffle(4)])
    else:
        create("big", values, serializer=zarr.codecs.BytesCodec(endian="big"))
        create("columns", values, filters=[zarr.codecs.TransposeCodec(order=(1, 0))])
        create("dots", values, chunk_key_encoding={"name": "default", "separator": "."})
        create("old", values, chunk_key_encoding={"name": "v2", "separator": "/"})
        create("checked", values, compressors=[zarr.codecs.GzipCodec(), zarr.codecs.Crc32cCodec()])
        create("sharded", values, chunks=(3, 4), shards=(6, 8))
    group.create_group("below").create_array("part", shape=(3,), dtype="i4")[...] = 1


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.filterwarnings("ignore:Numcodecs codecs", "ignore:The data type", "ignore:Object at")
def test_hierarchies_read_through_references_as_xarray_reads_them(
    zarr_format: int, files: Path, tmp_path: Path
) -> None:
    hierarchy(files / "a b.zarr", zarr_format)
    counts = check(files / "a b.zarr", tmp_path / "repo")
    assert counts.pop("part") == (2, 4)
    assert {referred == all_ for referred, all_ in counts.values()} == {True}
    own = {"slashes", "blosc", "zlib", "delta"} if zarr_format == 2 else {"dots", "old", "checked"}
    assert counts.keys() == {"usual", "plain", "scalar", "flags", "words", "big", "columns"} | own
    reasons = {name: one.layout for name, one in scanned(files / "a b.zarr").variables.items()}
    assert "stored in another way" in str(reasons["times"])
    assert "shards" in str(reasons["sharded"]) if zarr_format == 3 else "Shuffle" in str(reasons["shuffled"])


def test_each_chunk_of_a_hierarchy_is_an_object_of_its_own(files: Path) -> None:
    group = zarr.open_group(files / "a.zarr", mode="w")
    group.create_array("v", shape=(4,), chunks=(2,), dtype="i2", compressors=None, dimension_names=("x",))[:2] = 1
    (files / "a.zarr" / "v" / "c" / "notes.txt").write_text("no chunk")
    with ReferredFile(str(files / "a.zarr"), "zarr") as file:
        found = file.references("v", layout_in(files / "a.zarr", "v"))
    assert found.urls() == [f"file://{files}/a.zarr/v/c/0", ""]
    assert found.part((slice(0, 1),)).lengths.tolist() == [4]


GRIB = Path(iris_sample_data.path) / "polar_stereo.grib2"
PRODUCT = 102
"""Where section 4 of its one message begins: https://www.nco.ncep.noaa.gov/pmb/docs/grib2/grib2_doc/."""


def message(hour: int = 6, pressure: int = 101500, surface: int = 100) -> bytes:
    data = bytearray(GRIB.read_bytes())
    data[PRODUCT + 18 : PRODUCT + 22] = hour.to_bytes(4, "big")
    data[PRODUCT + 22] = surface
    data[PRODUCT + 24 : PRODUCT + 28] = pressure.to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize(
    ("messages", "shape"),
    [
        ([message()], (1, 200, 247)),
        ([message(12), message(6)], (2, 200, 247)),
        ([message(6, 85000), message(12), message(12, 85000), message()], (2, 2, 200, 247)),
    ],
)
def test_grib_reads_through_references_as_xarray_reads_it(
    messages: list[bytes], shape: tuple[int, ...], files: Path, tmp_path: Path
) -> None:
    path = files / "a.grib2"
    path.write_bytes(b"".join(messages))
    assert check(path, tmp_path / "repo", "gribberish") == {"tmp": (len(messages), len(messages))}
    variables = scanned(path, "gribberish").variables
    assert variables["tmp"].shape == shape
    assert "headers of messages" in str(variables["latitude"].layout)
    parse = GribberishParser(collapse_groups=True)
    array = parse(path.as_uri(), ObjectStoreRegistry({"file://": LocalStore("/")}))._group.arrays["tmp"]  # noqa: SLF001
    layout = layout_in(path, "tmp", "gribberish")
    assert layout.codecs == plain_codecs(codec.to_dict() for codec in array.metadata.codecs)
    assert layout.chunks == array.metadata.chunks
    with ReferredFile(str(path), "gribberish") as file:
        found = file.references("tmp", layout)
    np.testing.assert_array_equal(found.offsets, array.manifest._offsets)  # noqa: SLF001 - there is no other way
    np.testing.assert_array_equal(found.lengths, array.manifest._lengths)  # noqa: SLF001 - as above


def test_messages_that_are_no_single_dataset_are_refused(files: Path) -> None:
    (files / "a.grib2").write_bytes(message() + message(surface=103))
    with (
        pytest.raises(UnreferableError, match="no single dataset"),
        ReferredFile(str(files / "a.grib2"), "gribberish") as file,
    ):
        file.references("tmp", Layout((1, 200, 247), (), "NaN"))


def test_messages_that_end_behind_the_file_are_refused(files: Path) -> None:
    (files / "a.grib2").write_bytes(message())
    layout = layout_in(files / "a.grib2", "tmp", "gribberish")
    (files / "a.grib2").write_bytes(message()[:-1000])
    with (
        pytest.raises(SourceError, match="is truncated"),
        ReferredFile(str(files / "a.grib2"), "gribberish") as file,
    ):
        file.references("tmp", layout)


@st.composite
def described(draw: st.DrawFn) -> tuple[tuple[int, ...], dict[str, Any], tuple[slice, ...]]:
    shape = tuple(draw(st.lists(st.integers(0, 9), min_size=1, max_size=3)))
    options: dict[str, Any] = {"dtype": draw(st.sampled_from(["<f4", ">f8", "<i2", ">u4", "|i1", "<f2", "?"]))}
    if draw(st.booleans()):
        options["chunks"] = tuple(draw(st.integers(1, 12)) for _ in shape)
        options["maxshape"] = tuple(None for _ in shape)
        options["compression"] = draw(st.sampled_from([None, "gzip"]))
        options["shuffle"], options["fletcher32"] = draw(st.booleans()), draw(st.booleans())
    options["fillvalue"] = draw(st.sampled_from([0, 1]))
    part = tuple(slice(*sorted((draw(st.integers(0, n)), draw(st.integers(0, n))))) for n in shape)
    return shape, options, part


@settings(max_examples=60)
@given(dataset=described())
def test_any_hdf5_dataset_reads_through_references(
    dataset: tuple[tuple[int, ...], dict[str, Any], tuple[slice, ...]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    shape, options, part = dataset
    where = tmp_path_factory.mktemp("any")
    (where / "files").mkdir()
    with h5py.File(where / "files" / "a.h5", "w") as file:
        made = file.create_dataset("v", shape=shape, **options)
        made[part] = np.random.default_rng(1).integers(0, 2, size=made[part].shape)
    check(where / "files" / "a.h5", where / "repo", "h5netcdf")


def test_chunks_lie_where_virtualizarr_finds_them(files: Path) -> None:
    netcdf4_file(files / "a.nc")
    parse = HDFParser(drop_variables=["zstd", "bzip2"])  # it needs packages for these that readers do not
    store = parse((files / "a.nc").as_uri(), ObjectStoreRegistry({"file://": LocalStore("/")}))
    with ReferredFile(str(files / "a.nc"), "h5netcdf") as file:
        for name in ("zlib1", "checked", "big", "plain", "part", "contiguous", "packed"):
            manifest = store._group.arrays[name].manifest  # noqa: SLF001 - there is no other way to ask for it
            found = file.references(name, layout_in(files / "a.nc", name, "h5netcdf"))
            at = found.stored
            theirs = manifest._offsets, manifest._lengths, np.asarray(manifest._paths) != ""  # noqa: SLF001
            np.testing.assert_array_equal(found.offsets[at], theirs[0][at])
            np.testing.assert_array_equal(found.lengths[at], theirs[1][at])
            np.testing.assert_array_equal(at, theirs[2])


@pytest.mark.parametrize(("rows", "referred"), [(1, 9), (3, 3), (4, 2), (9, 1), (20, 0)])
def test_contiguous_values_are_cut_along_the_first_dimension(
    rows: int, referred: int, files: Path, tmp_path: Path
) -> None:
    values = numbers(9, 4, 5)
    with h5py.File(files / "a.h5", "w") as file:
        file["v"] = values
    referring = Referring(files, tmp_path / "repo")
    stored = referring.refer(files / "a.h5", "v", values, Layout((rows, 4, 5), PLAIN, 0.0), "h5netcdf")
    assert (int(stored.sum()), stored.shape) == (referred, (-(-9 // rows), 1, 1))
    assert same(referring.read("v"), values)


def test_another_layout_is_refused_with_the_difference(files: Path) -> None:
    with h5py.File(files / "a.h5", "w") as file:
        file.create_dataset("v", data=np.zeros((4, 4)), chunks=(2, 2), compression="gzip")
    layout = layout_in(files / "a.h5", "v", "h5netcdf")
    with ReferredFile(str(files / "a.h5"), "h5netcdf") as file:
        with pytest.raises(SourceError, match=r"a\.h5: 'v' .*chunks \(2, 2\) instead of \(4, 4\)"):
            file.references("v", Layout((4, 4), layout.codecs, 0.0))
        with pytest.raises(SourceError, match=r"numcodecs\.zlib instead of no codec more"):
            file.references("v", Layout((2, 2), PLAIN, 0.0))
        with pytest.raises(UnreferableError, match=r"a\.h5: 'w' cannot be referred to: the file has no dataset"):
            file.references("w", layout)


def test_a_part_of_the_references_is_that_of_its_chunks(files: Path) -> None:
    with h5py.File(files / "a.h5", "w") as file:
        file.create_dataset("v", shape=(6, 6), chunks=(2, 2), dtype="i2")[:4] = 1
    layout = layout_in(files / "a.h5", "v", "h5netcdf")
    with ReferredFile(str(files / "a.h5"), "h5netcdf") as file:
        whole = file.references("v", layout)
    part = whole.part((slice(1, 3), slice(0, 2)))
    assert part.offsets.tolist() == whole.offsets[1:3, :2].tolist()
    url = reference_url(str(files / "a.h5"))
    assert part.urls() == [url, url, "", ""]


def spoil_nothing(path: Path) -> None:
    path.unlink()


def spoil_end(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def spoil_all(path: Path) -> None:
    path.write_bytes(b"this is text, and no more than that" * 100)


def classic(path: Path) -> None:
    classic_file(path, "NETCDF3_CLASSIC")


@pytest.mark.parametrize("make", [netcdf4_file, classic])
@pytest.mark.parametrize("spoil", [spoil_nothing, spoil_end, spoil_all])
def test_a_file_that_cannot_be_read_is_an_error(
    spoil: Callable[[Path], None], make: Callable[[Path], None], files: Path
) -> None:
    make(files / "a.nc")
    layout = layout_in(files / "a.nc", "scalar")
    spoil(files / "a.nc")
    with (
        pytest.raises(SourceError, match=r"a\.nc (cannot be read|is truncated)"),
        ReferredFile(str(files / "a.nc"), "netcdf4") as file,
    ):
        file.references("scalar", layout)


@pytest.mark.parametrize(
    "name",
    [
        "plain.h5",
        "sp ace.h5",
        "ha#sh.h5",
        "qu?.h5",
        "50%20.h5",
        "üñí.h5",
        "a+b&c=d;e,f@g!.h5",
        "~(1)[2]{3}.h5",
        "c:$'\"\\.h5",
    ],
)
def test_any_name_of_a_file_reads_back(name: str, files: Path, tmp_path: Path) -> None:
    (files / f"in {name}").mkdir()
    with h5py.File(files / f"in {name}" / name, "w") as file:
        file["v"] = numbers(3, 4)
    path = files / f"in {name}" / name
    referring = Referring(files, tmp_path / "repo")
    values = raw(path, "h5netcdf", ["v"])["v"]
    referring.refer(path, "v", values, layout_in(path, "v", "h5netcdf"), "h5netcdf")
    assert same(referring.read("v"), values)


def test_urls_are_those_that_icechunk_takes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert reference_url("a.nc") == f"file://{tmp_path}/a.nc"
    assert reference_url(str(tmp_path / "x" / ".." / "a.nc")) == f"file://{tmp_path}/a.nc"
    assert reference_url("s3://raw/in/a b#1?.nc") == "s3://raw/in/a%20b%231%3F.nc"
    assert reference_url("s3a://raw/a.nc") == "s3://raw/a.nc"
    assert reference_url("https://host/a%20b.nc") == "https://host/a%20b.nc"


@pytest.mark.parametrize(("nanoseconds", "second"), [(0, 100), (1, 101), (999_999_999, 101)])
def test_the_checksum_of_a_local_file_is_its_time_in_whole_seconds(
    nanoseconds: int, second: int, files: Path, tmp_path: Path
) -> None:
    with h5py.File(files / "a.h5", "w") as file:
        file["v"] = numbers(3, 4)
    path = files / "a.h5"
    os.utime(path, ns=(0, 100_000_000_000 + nanoseconds))
    assert reference_checksum(str(path)) == datetime.fromtimestamp(second, UTC)
    referring = Referring(files, tmp_path / "repo")
    values = raw(path, "h5netcdf", ["v"])["v"]
    referring.refer(path, "v", values, layout_in(path, "v", "h5netcdf"), "h5netcdf")
    assert same(referring.read("v"), values)
    os.utime(path, ns=(0, (second + 1) * 1_000_000_000))
    with pytest.raises(icechunk.StorageError, match="has changed"):
        referring.read("v")


def test_a_checksum_is_not_that_of_a_file_that_has_changed(files: Path) -> None:
    (files / "a").write_bytes(b"a")
    with pytest.raises(SourceError, match="has changed since the plan was made"):
        reference_checksum(str(files / "a"), "1:1")
    with pytest.raises(SourceError, match=r"gone cannot be read: No such file"):
        reference_checksum(str(files / "gone"))


def in_s3(bucket: Any, endpoint: str, where: Path) -> Referring:
    store = icechunk.s3_store(
        region="us-east-1", endpoint_url=endpoint, allow_http=True, force_path_style=True, s3_compatible=True
    )
    return Referring(f"s3://{bucket.name}/in", where, store, icechunk.s3_from_env_credentials())


def upload(bucket: Any, path: Path, key: str) -> str:
    bucket.upload_file(str(path), key)
    return f"s3://{bucket.name}/{key}"


@pytest.mark.parametrize("name", ["a.nc", "a b#1?50%ü.nc"])
@pytest.mark.parametrize(("make", "count"), [(netcdf4_file, 16), (classic, 7)])
def test_objects_in_s3_read_through_references_until_they_change(
    make: Callable[[Path], None], count: int, name: str, bucket: Any, s3_server: str, files: Path, tmp_path: Path
) -> None:
    make(files / "a.nc")
    url = upload(bucket, files / "a.nc", f"in/{name}")
    referring = in_s3(bucket, s3_server, tmp_path / "repo")
    assert len(compare(url, referring, "netcdf4")) == count
    assert reference_checksum(url) == bucket.Object(f"in/{name}").e_tag
    with (files / "a.nc").open("ab") as file:
        file.write(b"more")
    upload(bucket, files / "a.nc", f"in/{name}")
    with pytest.raises(icechunk.StorageError, match="has changed"):
        referring.read("scalar")


def test_a_hierarchy_in_s3_reads_through_references(bucket: Any, s3_server: str, files: Path, tmp_path: Path) -> None:
    group = zarr.open_group(files / "a.zarr", mode="w")
    group.create_array("v", shape=(9, 7), chunks=(3, 4), dtype="f8", dimension_names=("y", "x"))[:5] = numbers(5, 7)
    for path in (files / "a.zarr").rglob("*"):
        if path.is_file():
            upload(bucket, path, f"in/a.zarr/{path.relative_to(files / 'a.zarr')}")
    referring = in_s3(bucket, s3_server, tmp_path / "repo")
    assert compare(f"s3://{bucket.name}/in/a.zarr", referring) == {"v": (4, 6)}


def test_an_object_that_is_not_there_is_an_error(bucket: Any) -> None:
    with pytest.raises(SourceError, match="gone"), ReferredFile(f"s3://{bucket.name}/gone.nc", "h5netcdf") as file:
        file.references("v", Layout((1,), PLAIN, 0))


def test_a_web_server_is_asked_for_the_very_file(site: Site, files: Path, tmp_path: Path) -> None:
    classic_file(files / "a.nc", "NETCDF3_CLASSIC")
    site.files["in/a%20b.nc"] = (files / "a.nc").read_bytes()
    store = icechunk.http_store({"allow_http": "true"})
    referring = Referring(f"{site.url}/in", tmp_path / "repo", store, icechunk.credentials.HttpAccess)
    asked: list[dict[str, str]] = []

    def send(handler: Any, data: bytes) -> None:
        asked.append({key: value for key, value in handler.headers.items() if key.lower().startswith("if-")})
        handler.wfile.write(data)

    url = f"{site.url}/in/a%20b.nc"
    site.send = send
    assert len(compare(url, referring, "netcdf4")) == 7
    asked.clear()
    referring.read("scalar")
    assert asked == [{"if-unmodified-since": "Sat, 01 Jan 2022 00:00:00 GMT"}]


def test_without_virtualizarr_the_extra_to_install_is_named(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with h5py.File(files / "a.h5", "w") as file:
        file["v"] = numbers(3, 4)
    monkeypatch.setitem(sys.modules, "virtualizarr", None)
    with pytest.raises(InvalidInputError, match=r"install frazil\[virtual\] here and where functions run"):
        ReferredFile(str(files / "a.h5"), "h5netcdf")
    with pytest.raises(InvalidInputError, match=r"install frazil\[virtual\] here and where functions run"):
        scanned(files / "a.h5", "h5netcdf")
