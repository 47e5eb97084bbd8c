"""Xarray's own tests of its Zarr backend, with Frazil's writer in the place of `to_zarr`.

The tests are those of the installed Xarray (`xarray.tests.test_backends`); nothing of them is copied. Beside `to_zarr`,
this changes where they write (a session of Icechunk), and that what they read back is committed first.

Three tables say what differs. `EXCLUDED` tests fail, each for its reason, and fail this suite as soon as they pass.
`OTHER_ERRORS` tests are shown the error that Xarray would have raised in the place of ours, and fail this suite as soon
as they need not be. Tests that are in neither, nor in `WRITES_NOTHING`, fail unless they write through Frazil.
"""

import asyncio
import contextlib
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import dask
import icechunk
import pytest
import xarray as xr
import zarr
from xarray.tests import test_backends as suite
from xarray.tests.conftest import time_unit, use_dask

import frazil
from frazil.execution.executor import Executor
from frazil_functions.errors import InvalidInputError

xr.set_options(warn_for_unclosed_files=False)  # importing the suite turns it on for all tests that there are

__all__ = ["time_unit", "use_dask"]  # fixtures, which are found by their names

_WORDS: Final = "refused alike, in other words than the test looks for"
_LABELS: Final = "an append with other labels along another dimension is refused"
_LAZY: Final = "reads lazily from the writable session that it goes on with; functions cannot open such a one"

EXCLUDED: Final = {
    r"test_roundtrip_consolidated\[True\]": "Icechunk has no consolidated metadata, and to_icechunk no such option",
    r"test_write_region\[.*-True\]": "the same (the last parameter is `consolidated`)",
    r"test_write_region\[\w+-(True|False)-\w+-(None|False)\]": "to_icechunk has no option write_empty_chunks",
    r"test_append_with_append_dim_no_overwrite": _LABELS,
    r"test_write_read_select_write": _LAZY,
    r"test_append_with_invalid_dim_raises": _WORDS,
    r"test_append_with_no_dims_raises": _WORDS,
    r"test_append_with_append_dim_not_set_raises": _WORDS,
    r"test_append_with_mode_not_a_raises": _WORDS,
    r"test_append_string_length_mismatch_raises\[S\]": _WORDS,
    r"test_write_region_errors": _WORDS,
}
"""Why a test fails, by its name, a regular expression."""

OTHER_ERRORS: Final = {
    "test_roundtrip_string_with_fill_value_nchar": NotImplementedError,
    "test_multiindex_not_implemented": NotImplementedError,
    "test_invalid_dataarray_names_raise": TypeError,
    "test_attributes": TypeError,
    "test_chunk_encoding": TypeError,
    "test_zarr_region_auto_noncontiguous": KeyError,
    "test_zarr_region_append": KeyError,
    "test_encoding_kwarg": KeyError,
    "test_shard_encoding": ValueError,
    "test_shard_encoding_with_dask": ValueError,
    "test_chunk_encoding_with_dask": ValueError,
    "test_write_persistence_modes": FileExistsError,
    "test_append_with_mode_rplus_fails": ValueError,
    "test_append_with_existing_encoding_raises": ValueError,
    "test_append_string_length_mismatch_raises": ValueError,
    "test_zarr_region_chunk_partial": ValueError,
    "test_zarr_append_chunk_partial": ValueError,
    "test_zarr_region_chunk_partial_offset": ValueError,
    "test_zarr_safe_chunk_append_dim": ValueError,
    "test_zarr_safe_chunk_region": ValueError,
}
"""What a test wants to see raised where Frazil raises InvalidInputError."""

WRITES_NOTHING: Final = {
    "test_write_store": "writes through Xarray's store itself",
    "test_dimension_names": "the same",
    "test_cache_members": "makes arrays with Zarr alone",
    "test_roundtrip_boolean_dtype_legacy_int8": "the same",
    "test_non_existent_store": "reads alone",
    "test_encoding_kwarg_fixed_width_string": "is empty for Zarr",
    "test_roundtrip_bytes_with_fill_value": "is expected by Xarray to fail with this Zarr",
    r"test_roundtrip_mask_and_scale\[.*create_unsigned_false_.*": "is left out by Xarray but for NetCDF-4",
}
"""Why a test does not write with `to_zarr`, by its name, a regular expression."""

pytestmark = [
    # Strings of fixed length have no specification in Zarr's format 3, and much of the suite's data is such.
    pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning"),
    # Tests that read with chunks that do not meet those that are stored want to.
    pytest.mark.filterwarnings("ignore:The specified chunks separate the stored chunks:UserWarning"),
]


@dataclass(slots=True)
class Writer:
    """Frazil in the place of `to_zarr`, with the options that both have."""

    executor: Executor
    expects: type[Exception] | None = None
    written: int = 0
    shown: list[BaseException] = field(default_factory=list)

    def to_zarr(
        self,
        obj: xr.Dataset | xr.DataArray,
        store: icechunk.IcechunkStore,
        mode: Any = None,
        group: str | None = None,
        encoding: Mapping[str, Any] | None = None,
        *,
        compute: bool = True,
        consolidated: bool | None = None,
        zarr_format: int | None = None,
        **options: Any,
    ) -> object:
        unknown = options.keys() - {"append_dim", "region", "safe_chunks", "align_chunks"}
        if consolidated or zarr_format not in {None, 3} or any(options[name] is not None for name in unknown):
            pytest.fail("to_icechunk has no such option")
        aim = {"mode": mode, "group": group} | {
            name: options[name] for name in ("append_dim", "region") if name in options
        }
        chunks = {name: options[name] for name in ("safe_chunks", "align_chunks") if name in options}
        self.written += 1
        try:
            if compute:
                frazil.to_icechunk(obj, store.session, **aim, **chunks, encoding=encoding, executor=self.executor)
                return None
            writer = frazil.DatasetWriter(obj, store.session, **chunks, executor=self.executor).aim(**aim)
            writer.write_metadata(encoding)
            writer.write_eager()
            return dask.delayed(writer.write_lazy, pure=False)()
        except InvalidInputError as error:
            cause = error.__cause__ if error.__cause__ is not None else ValueError(str(error))
            if self.expects is None or isinstance(error, type(cause)):
                raise
            self.shown.append(cause)
            raise cause from None


def row[T](table: Mapping[str, T], node: pytest.Function) -> T | None:
    """What a table says of a test, by its name with or without its parameters."""
    names = (node.name, node.originalname)
    return next((found for name, found in table.items() if any(re.fullmatch(name, one) for one in names)), None)


@pytest.fixture
def executor() -> Executor:
    return frazil.SerialExecutor()


@pytest.fixture(autouse=True)
def writer(executor: Executor, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Writer]:
    node = request.node
    for marker in node.iter_markers("skip_if_param"):
        if marker.kwargs.get("default_zarr_format") == 3 and marker.kwargs["condition"]:
            pytest.skip(marker.kwargs["reason"])
    excluded = row(EXCLUDED, node)
    if excluded is not None:
        node.add_marker(pytest.mark.xfail(strict=True, reason=excluded))
    found = Writer(executor, row(OTHER_ERRORS, node))

    def to_zarr(obj: xr.Dataset | xr.DataArray, *args: Any, **options: Any) -> object:
        """A function, for only such a one becomes a method."""
        return found.to_zarr(obj, *args, **options)

    for kind in (xr.Dataset, xr.DataArray):
        monkeypatch.setattr(kind, "to_zarr", to_zarr)
    yield found
    if excluded is None and node.cls is not None:
        assert (found.written > 0) == (row(WRITES_NOTHING, node) is None), "does it write through Frazil?"
        shown = [one for one in found.shown if found.expects is not None and isinstance(one, found.expects)]
        assert (found.expects is not None) == bool(shown), "does it want to see another error than ours?"


@pytest.fixture
def default_zarr_format() -> Iterator[None]:
    """Icechunk stores Zarr's format 3 alone; Xarray's own fixture tries format 2, too."""
    with zarr.config.set(default_zarr_format=3):
        yield


@pytest.fixture
def tmp_store(tmp_path: Path) -> icechunk.IcechunkStore:
    return _store(tmp_path)


def _store(directory: Path) -> icechunk.IcechunkStore:
    repo = icechunk.Repository.create(icechunk.local_filesystem_storage(str(directory / "repo")))
    return repo.writable_session("main").store


class InSession:
    """Where the tests write, and how they read it back."""

    @contextlib.contextmanager
    def create_zarr_target(self) -> Iterator[icechunk.IcechunkStore]:
        with tempfile.TemporaryDirectory() as path:
            yield _store(Path(path))

    @contextlib.contextmanager
    def _committed(self, store: icechunk.IcechunkStore, options: Mapping[str, Any] | None) -> Iterator[xr.Dataset]:
        store.session.commit("written", allow_empty=True)
        with self.open(store, **(options or {})) as found:
            yield found

    @contextlib.contextmanager
    def roundtrip(
        self, data: xr.Dataset, save_kwargs: Any = None, open_kwargs: Any = None, **_: object
    ) -> Iterator[xr.Dataset]:
        with self.create_zarr_target() as store:
            self.save(data, store, **(save_kwargs or {}))
            with self._committed(store, open_kwargs) as found:
                yield found

    @contextlib.contextmanager
    def roundtrip_append(
        self, data: xr.Dataset, save_kwargs: Any = None, open_kwargs: Any = None, **_: object
    ) -> Iterator[xr.Dataset]:
        with self.create_zarr_target() as store:
            for number, name in enumerate(data.variables):
                self.save(data[[name]], store, mode="a" if number else "w", **(save_kwargs or {}))
            with self._committed(store, open_kwargs) as found:
                yield found


class TestZarr(InSession, suite.ZarrBase):
    def test_load_async(self) -> None:
        asyncio.run(suite.CFEncodedBase.test_load_async(self))

    def test_append_overwrite_values(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(suite, "create_tmp_file", lambda **_: self.create_zarr_target())
        super().test_append_overwrite_values()


class TestRegionAuto(InSession, suite.TestZarrRegionAuto):
    pass


class TestDataArray(suite.TestDataArrayToZarr):
    pass


ON_LITHOPS: Final = (
    (TestZarr, "test_chunk_encoding_with_dask"),
    (TestZarr, "test_shard_encoding_with_dask"),
    (TestZarr, "test_chunked_cftime_datetime"),
    (TestRegionAuto, "test_zarr_safe_chunk_append_dim"),
)
"""Tests of dask arrays, of dates too, of which the functions are to run in processes of their own."""


@pytest.mark.slow
class TestOnLithops:
    @pytest.fixture
    def executor(self) -> Iterator[Executor]:
        with frazil.LithopsExecutor(backend="localhost", workers=1) as executor:
            yield executor

    @pytest.mark.usefixtures("default_zarr_format")
    @pytest.mark.parametrize(("tests", "name"), ON_LITHOPS, ids=[name for _, name in ON_LITHOPS])
    def test_functions_elsewhere_write_what_the_suite_expects(
        self, tests: type[InSession], name: str, writer: Writer
    ) -> None:
        writer.expects = OTHER_ERRORS.get(name)
        getattr(tests(), name)()


def test_every_row_of_the_tables_names_a_test() -> None:
    for table in (EXCLUDED, OTHER_ERRORS, WRITES_NOTHING):
        for name in table:
            plain = name.partition("\\[")[0]
            assert any(hasattr(kind, plain) for kind in (TestZarr, TestRegionAuto, TestDataArray)), name
