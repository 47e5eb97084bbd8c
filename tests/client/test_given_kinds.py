"""Datasets as scientists have them: odd shapes, types, attributes and packings; what cannot be stored is refused."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array
import icechunk
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import frazil

from .hourly import read, state


def plain(hours: int = 24) -> xr.Dataset:
    """A dataset that nobody has given an encoding, as it comes out of a notebook."""
    times = pd.date_range("2000-01-01", periods=hours, freq="h")
    values = np.random.default_rng(0).normal(size=(hours, 4))
    return xr.Dataset({"tas": (("time", "lat"), values)}, {"time": times, "lat": np.arange(4.0), "height": 2.0})


def in_memory(dataset: xr.Dataset, _: Path) -> xr.Dataset:
    return dataset


def behind_dask(dataset: xr.Dataset, _: Path) -> xr.Dataset:
    return dataset.chunk({"time": 5})


def in_files(dataset: xr.Dataset, folder: Path) -> xr.Dataset:
    dataset.to_netcdf(folder / "file.nc", engine="h5netcdf")
    return xr.open_dataset(folder / "file.nc", engine="h5netcdf", cache=False)


KINDS = pytest.mark.parametrize("kind", [in_memory, behind_dask, in_files], ids=lambda kind: kind.__name__)

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have a Zarr V3 specification")


@KINDS
@pytest.mark.parametrize(
    "shift", [pd.Timedelta(0), pd.Timedelta("90s"), None], ids=["round hours", "odd seconds", "noleap"]
)
def test_a_dataset_without_encoding_is_appended_to_its_own_kind(
    kind: Any, shift: pd.Timedelta | None, tmp_path: Path, target: Path, serial: frazil.SerialExecutor
) -> None:
    whole = plain(48)
    axis: Any = xr.date_range("2000-01-01", periods=48, freq="h", calendar="noleap", use_cftime=True)
    whole["time"] = whole["time"] + shift if shift is not None else axis
    frazil.convert(whole.isel(time=slice(0, 24)), target, chunks={"time": 5}, executor=serial)
    later = kind(whole.isel(time=slice(24, 48)), tmp_path)
    frazil.convert(later, target, mode="append", executor=serial, verify="full")
    xr.testing.assert_identical(read(target), whole)


@pytest.mark.parametrize("mode", ["modify", "add", "region"])
def test_a_dataset_without_encoding_is_written_into_its_own_kind(
    mode: Any, target: Path, serial: frazil.SerialExecutor
) -> None:
    frazil.convert(plain(), target, executor=serial)
    other = (plain()[["tas"]] + 1).drop_vars("height")
    name = "new" if mode == "add" else "tas"
    frazil.convert(other.rename(tas=name), target, mode=mode, executor=serial, verify="full")
    np.testing.assert_array_equal(read(target)[name], other["tas"])


def test_scalars_of_a_tree_keep_their_shape(target: Path, serial: frazil.SerialExecutor) -> None:
    tree = xr.DataTree.from_dict({"/": plain(), "/one": xr.Dataset({"s": ((), 3.0), "text": ((), "déjà")})})
    frazil.convert(tree, target, executor=serial, verify="full")
    xr.testing.assert_identical(read(target), plain())
    assert read(target, group="one")["s"].item() == 3.0


@KINDS
def test_dimensions_of_no_length_are_written(
    kind: Any, tmp_path: Path, target: Path, serial: frazil.SerialExecutor
) -> None:
    dataset = kind(plain().isel(time=slice(0, 0)).assign(flat=("x", np.zeros(0, "i2"))), tmp_path)
    frazil.convert(dataset, target, executor=serial, verify="full")
    xr.testing.assert_identical(read(target), dataset.load())


def too_large(dataset: xr.Dataset) -> xr.Dataset:
    return dataset.assign(count=dataset["count"].astype("i8") + 100_000)


def too_low(dataset: xr.Dataset) -> xr.Dataset:
    return dataset.assign(depth=dataset["depth"] - 5_000)


def missing(dataset: xr.Dataset) -> xr.Dataset:
    return dataset.assign(count=dataset["count"].where(dataset["time"].dt.hour != 3))


@pytest.mark.filterwarnings("ignore:saving variable count with floating point data as an integer")
@KINDS
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (too_large, r"'count' has values from 100000 to 100000, which do not fit into i2.*they would wrap"),
        (too_low, r"'depth' has values from -499\d\.\d+ to -499\d\.\d+, which do not fit into i2"),
        (missing, r"'count' has the type float32, and in .* <i2, .*\(astype\)"),
    ],
)
def test_numbers_that_would_wrap_are_refused(
    kind: Any,
    change: Callable[[xr.Dataset], xr.Dataset],
    says: str,
    tmp_path: Path,
    target: Path,
    serial: frazil.SerialExecutor,
) -> None:
    packed = xr.Variable(("time",), np.arange(48) / 10)
    packed.encoding = {"dtype": "int16", "scale_factor": 0.1, "_FillValue": -999}
    whole = plain(48).assign(count=("time", np.zeros(48, "i2")), depth=packed)
    frazil.convert(whole.isel(time=slice(0, 24)), target, chunks={"time": 24}, executor=serial)
    before = state(target)[0]
    later = kind(change(whole.isel(time=slice(24, 48))).drop_encoding(), tmp_path)
    with pytest.raises((frazil.InvalidInputError, frazil.IncompleteRunError), match=says):
        frazil.convert(later, target, mode="append", executor=serial)
    assert state(target)[0] == before


MARKED = [
    (np.array([0, 100, 255], "u1"), {"_FillValue": 255}, 255),
    (np.array([0.0, 1.5, 2.5], "f4"), {"_FillValue": np.float32(0)}, 0),
    (np.array([1.0, -99.9, 2.5]), {"dtype": "int16", "scale_factor": 0.1, "_FillValue": -999}, -999),
    (np.array([1.0, 255.0, 2.5]), {"dtype": "int8", "_Unsigned": "true", "_FillValue": -1}, 255),
    (np.array([1.0, -5.0, 2.5]), {"_FillValue": -5.0, "missing_value": -5.0}, -5),
    (np.array([0, 1, 2**53 + 1]), {"_FillValue": 2**53 + 1}, 2**53 + 1),
]


@KINDS
@pytest.mark.parametrize(("values", "encoding", "mark"), MARKED, ids=[str(values.dtype) for values, _, _ in MARKED])
def test_values_that_would_read_as_missing_are_refused(
    kind: Any,
    values: np.ndarray,
    encoding: dict[str, Any],
    mark: float,
    tmp_path: Path,
    target: Path,
    serial: frazil.SerialExecutor,
) -> None:
    like = xr.Dataset({"v": ("time", values[1:2] * 0 + 1)}, {"time": pd.date_range("2000", periods=1)})
    like["v"].encoding = encoding
    frazil.convert(like, target, executor=serial)
    before = state(target)[0]
    later = xr.Dataset({"v": ("time", values)}, {"time": pd.date_range("2000-01-02", periods=3)})
    with pytest.raises((frazil.InvalidInputError, frazil.IncompleteRunError), match=f"'v' .* stored as {mark}"):
        frazil.append(kind(later, tmp_path), target, executor=serial)
    assert state(target)[0] == before
    assert read(target).sizes["time"] == 1


@KINDS
def test_numbers_that_fit_their_packing_to_the_last_are_written(
    kind: Any, tmp_path: Path, target: Path, serial: frazil.SerialExecutor
) -> None:
    depth = xr.Variable(("time",), np.array([-3276.84, np.nan, 3276.74]))
    depth.encoding = {"dtype": "int16", "scale_factor": 0.1, "_FillValue": -32767}
    unsigned = xr.Variable(("time",), np.array([0.0, 254.0, np.nan]))
    unsigned.encoding = {"dtype": "int8", "_Unsigned": "true", "_FillValue": -1}
    nothing = xr.Variable(("time",), np.full(3, np.nan))
    nothing.encoding = {"dtype": "int16", "_FillValue": -1}
    dataset = plain(3).assign(depth=depth, unsigned=unsigned, nothing=nothing)
    frazil.convert(kind(dataset, tmp_path), target, executor=serial, verify="full")
    for name in ("depth", "unsigned", "nothing"):
        np.testing.assert_allclose(read(target)[name], dataset[name], rtol=0, atol=0.05)
    assert read(target)["depth"].encoding["dtype"] == np.dtype("i2")


def test_a_large_array_marks_what_is_missing_as_a_small_one_does(target: Path, serial: frazil.SerialExecutor) -> None:
    values = np.zeros((3, 1 << 20))
    values[1, 5] = np.nan
    dataset = xr.Dataset({"v": (("y", "x"), values)})
    dataset["v"].encoding = {"missing_value": -9.0}
    frazil.convert(dataset, target, executor=serial, verify="full")
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(target)))
    with xr.open_zarr(repo.readonly_session("main").store, consolidated=False, chunks=None, decode_cf=False) as raw:
        assert raw["v"][1, 5].item() == -9.0


def test_a_large_array_is_packed_with_little_room_beside_it(target: Path, serial: frazil.SerialExecutor) -> None:
    values = np.arange(64 << 17, dtype="f8").reshape(64, -1) % 30_000
    values[3, 5] = np.nan
    dataset = xr.Dataset({"v": (("y", "x"), values)})
    dataset["v"].encoding = {"dtype": "int16", "scale_factor": 1.0, "_FillValue": -1}
    tracemalloc.start()
    try:
        frazil.plan(dataset, target, executor=serial)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < values.nbytes * 1.5
    frazil.convert(dataset, target, executor=serial, verify="full")
    np.testing.assert_array_equal(read(target)["v"], values)


class Foreign:
    """An array of a library of its own, that turns into NumPy's only if it is asked for by name."""

    shape = (3,)
    ndim = 1
    dtype = np.dtype("f8")

    def __array_function__(self, *_: object) -> Any:
        return NotImplemented

    def __array_ufunc__(self, *_: object, **__: object) -> Any:
        return NotImplemented

    def __array_namespace__(self, **_: object) -> Any:
        return np

    def __array__(self, *_: object, **__: object) -> Any:
        raise RuntimeError("Cannot convert a sparse array to dense automatically")


def foreign_chunks() -> Any:
    array = dask.array.zeros(3, chunks=2)
    array._meta = Foreign()  # noqa: SLF001 - what dask infers of chunks that are another library's
    return array


def unknown() -> Any:
    array = dask.array.arange(10, chunks=5)
    return array[array > 3]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (Foreign(), r"'v' has its values in a .* Foreign.*Dataset.as_numpy"),
        (foreign_chunks(), r"'v' has its values in a .* Foreign.*map_blocks"),
        (unknown(), r"'v' is a dask array whose chunks have unknown lengths.*compute_chunk_sizes\(\)"),
        (pd.array([1, None], dtype="Int64"), r"'v' cannot be stored: .*Int64.*astype"),
        (np.array([1, 2], "f16"), r"'v' has the type float128, which Zarr cannot store.*astype"),
    ],
    ids=["foreign", "foreign chunks", "unknown", "pandas", "long"],
)
def test_arrays_that_are_not_numpys_are_refused_with_a_cure(
    data: Any, says: str, target: Path, serial: frazil.SerialExecutor
) -> None:
    with pytest.raises(frazil.InvalidInputError, match=says):
        frazil.convert(xr.Dataset({"v": ("x", data)}), target, executor=serial)
    assert not target.exists()


@pytest.mark.parametrize(
    "value", [{1, 2}, object(), pd.Timestamp("2000-01-01"), np.datetime64("2000-01-01"), 1j, [1, {"a": Path()}]]
)
def test_attributes_that_metadata_cannot_hold_are_refused(
    value: object, target: Path, serial: frazil.SerialExecutor
) -> None:
    for dataset, owner in (
        (plain().assign_attrs(note=value), "the dataset"),
        (plain().assign(tas=plain()["tas"].assign_attrs(note=value)), "'tas'"),
    ):
        with pytest.raises(frazil.InvalidInputError, match=f"the attribute 'note' of {owner} holds a .*leave it out"):
            frazil.convert(dataset, target, executor=serial)
    with pytest.raises(frazil.InvalidInputError, match="the attribute 1 of the dataset has a name that is no text"):
        frazil.convert(plain().assign_attrs({1: "a"}), target, executor=serial)


def test_attributes_of_numpy_read_back_as_numbers(target: Path, serial: frazil.SerialExecutor) -> None:
    given = {
        "real": np.float32(1.5),
        "whole": np.int64(3),
        "several": np.arange(3),
        "yes": np.bool_(True),  # noqa: FBT003 - NumPy's
        "none": None,
        "nested": {"a": [1, "b", None]},
        "texts": np.array(["a", "b"]),
    }
    frazil.convert(plain().assign_attrs(given), target, executor=serial)
    expected = {
        "real": 1.5,
        "whole": 3,
        "several": [0, 1, 2],
        "yes": True,
        "none": None,
        "nested": {"a": [1, "b", None]},
        "texts": ["a", "b"],
    }
    assert read(target).attrs == expected


@pytest.mark.parametrize(
    ("sources", "says"),
    [
        ([plain(), plain()], "several datasets; put them together first"),
        (None, "cannot be a NoneType; give paths, a Dataset"),
        (np.zeros(3), "cannot be a ndarray; give paths, a Dataset"),
        ({"a": plain()}, "cannot be a dict"),
        (pd.DataFrame({"a": [1]}), "cannot be a DataFrame"),
        ([1], "hold a int"),
        (xr.Dataset(attrs={"a": 1}), "has no variables, so there is nothing to write"),
        (xr.DataTree(), "has no variables, so there is nothing to write"),
        (xr.DataTree.from_dict({"/a": xr.Dataset({"v": ("x", np.array([{}], object))})}), "/a: 'v' cannot be stored"),
        (plain().stack(z=("time", "lat")), r"'z' is a MultiIndex.*reset_index\(\)"),  # noqa: PD013 - Xarray's
    ],
)
def test_what_is_no_source_is_refused(sources: Any, says: str, target: Path, serial: frazil.SerialExecutor) -> None:
    with pytest.raises(frazil.InvalidInputError, match=says):
        frazil.convert(sources, target, executor=serial)
    assert not target.exists()


@pytest.mark.parametrize("chunks", [None, 2])
def test_masked_values_are_missing(chunks: int | None, target: Path, serial: frazil.SerialExecutor) -> None:
    data: Any = np.ma.masked_array([1, 2, 3], [0, 1, 0])
    if chunks is not None:
        data = dask.array.from_array(data, chunks=chunks)
    frazil.convert(xr.Dataset({"v": ("x", data)}), target, executor=serial, verify="full")
    np.testing.assert_array_equal(read(target)["v"], [1, np.nan, 3])


@pytest.mark.parametrize("chunks", [None, {}], ids=["lazy", "dask"])
@pytest.mark.parametrize("tree", [False, True])
def test_a_group_can_be_overwritten_with_what_is_read_from_it(
    chunks: Any, tree: bool, target: Path, serial: frazil.SerialExecutor
) -> None:
    frazil.convert(xr.DataTree(plain()) if tree else plain(), target, executor=serial, chunks={"time": 5})
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(target)))
    store: Any = repo.readonly_session("main").store
    options: dict[str, Any] = {"engine": "zarr", "consolidated": False, "chunks": chunks}
    source = xr.open_datatree(store, **options) if tree else xr.open_dataset(store, **options)
    flipped = source.isel(lat=slice(None, None, -1))
    frazil.convert(flipped, target, mode="overwrite", chunks={"time": 7}, executor=serial, verify="full")
    xr.testing.assert_identical(read(target), plain().isel(lat=slice(None, None, -1)))
