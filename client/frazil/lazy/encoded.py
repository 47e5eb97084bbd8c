"""Datasets as Zarr stores them: what lies in files and behind dask stays there."""

import pickle
from collections.abc import Hashable, Mapping
from typing import Any, Final

import numpy as np
import xarray as xr
from xarray.backends.api import DATAARRAY_NAME, DATAARRAY_VARIABLE
from xarray.backends.zarr import encode_zarr_variable
from xarray.coding.times import _cleanup_netcdf_time_units, infer_calendar_name
from xarray.core import indexing

from frazil.lazy.slices import Deferred, is_dask, pickled
from frazil_functions.errors import InvalidInputError, LabelError
from frazil_functions.reading.encoding import is_time_unit
from frazil_functions.reading.times import calendar_name
from frazil_functions.writing.carried import Packing

_NUMBERS: Final = "biufc"
"""Kinds of types that are encoded alike, whatever their values are."""

_CARRIED: Final = 64_000
"""A lazy variable that carries more bytes than this is in memory behind what looks like a file."""

_CHANGING: Final = frozenset({"scale_factor", "add_offset", "_FillValue", "missing_value", "_Unsigned"})
"""What changes numbers on their way into a store, though their type stays."""

_AT_ONCE: Final = 16 << 20
"""More bytes than this are encoded one part after another."""

_ZARR_FORMAT: Final = 3


def as_dataset(obj: xr.Dataset | xr.DataArray) -> xr.Dataset:
    """A dataset; a DataArray becomes one under the names that `xarray.open_dataarray` knows.

    Raises
    ------
    InvalidInputError
        If it is neither.
    """
    if isinstance(obj, xr.Dataset):
        return obj
    if not isinstance(obj, xr.DataArray):
        raise InvalidInputError(f"a Dataset or DataArray is needed, and this is a {type(obj).__name__}")
    if obj.name is None:
        return obj.to_dataset(name=DATAARRAY_VARIABLE)
    if obj.name in obj.coords or obj.name in obj.dims:
        found = obj.to_dataset(name=DATAARRAY_VARIABLE)
        found.attrs[DATAARRAY_NAME] = obj.name
        return found
    return obj.to_dataset()


def lies_in_files(name: Hashable, variable: xr.Variable) -> bool:
    """Whether a variable's numbers are still to be read, by whoever has the variable.

    Raises
    ------
    InvalidInputError
        If they are, and the variable cannot be pickled.
    """
    data = variable._data  # noqa: SLF001 - whatever else tells it reads the data
    lazy = isinstance(data, indexing.ExplicitlyIndexed) and not variable._in_memory  # noqa: SLF001 - as above
    if not lazy or variable.dtype.kind not in _NUMBERS or not variable.size:
        return False
    content, buffers = pickled(variable, f"the lazy variable {name!r}", pickle.dumps)
    return len(content) + sum(map(len, buffers)) <= _CARRIED


def encode_all(dataset: xr.Dataset, encodings: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, xr.Variable], Any]:
    """The variables and attributes of a dataset as Zarr stores them.

    Parameters
    ----------
    dataset
        Any; its index variables and what lies in memory are encoded here.
    encodings
        How variables are stored, in place of their own encoding, by name.

    Returns
    -------
    dict
        The variables, encoded: arrays in memory, dask's, or `Deferred` ones.
    dict
        The attributes.

    Raises
    ------
    InvalidInputError
        If a variable cannot be stored so.
    """
    try:
        variables, attributes = xr.conventions.encode_dataset_coordinates(dataset)
    except ValueError as error:
        raise InvalidInputError(f"the dataset cannot be stored: {error}") from error
    found = {}
    for key, variable in variables.items():
        name = str(key)
        own = variable.copy(deep=False)
        own.encoding = dict(encodings.get(name, variable.encoding))
        _check_array(name, own)
        _check_calendar(name, own)
        try:
            found[name] = _encoded(name, own)
        except (ValueError, TypeError, OverflowError, NotImplementedError) as error:
            cure = "" if isinstance(own.dtype, np.dtype) else "; convert it to a type of NumPy first (astype)"
            raise InvalidInputError(f"{name!r} cannot be stored: {error}{cure}") from error
        _check_type(name, found[name].dtype)
        _keep_units(found[name], own)
    return found, attributes


def _keep_units(encoded: xr.Variable, asked: xr.Variable) -> None:
    """Call the units of time what they are called where they are stored: Xarray shortens the date in them.

    Where it counts in others, for those asked for cannot hold the values, they stay what they are.
    """
    units = asked.encoding.get("units")
    if (
        isinstance(units, str)
        and is_time_unit(units)
        and encoded.attrs.get("units") == _cleanup_netcdf_time_units(units)
    ):
        encoded.attrs["units"] = units


def check_attributes(owner: str, attributes: Mapping[Any, object]) -> None:
    """Refuse attributes that would not be the same when they are read, or not in another process.

    Raises
    ------
    InvalidInputError
        Naming the attribute.
    """
    for key, value in attributes.items():
        if not isinstance(key, str):
            raise InvalidInputError(f"the attribute {key!r} of {owner} has a name that is no text; rename it")
        odd = _odd(value)
        if odd is not None:
            raise InvalidInputError(
                f"the attribute {key!r} of {owner} holds a {type(odd).__name__}, which Zarr's metadata cannot; make it "
                "text or numbers, or leave it out"
            )


def _odd(value: object) -> object | None:
    """What JSON cannot hold of a value; None if that is nothing."""
    if isinstance(value, np.ndarray | np.generic):
        return None if value.dtype.kind in "biufSU" else _odd(value.tolist()) if value.dtype.kind == "O" else value
    if isinstance(value, list | tuple):
        return next((odd for item in value if (odd := _odd(item)) is not None), None)
    if isinstance(value, Mapping):
        return _odd(list(value.values()))
    return None if value is None or isinstance(value, bool | int | float | str | bytes) else value


def _check_array(name: str, variable: xr.Variable) -> None:
    """Refuse arrays that are neither NumPy's, nor in files, nor dask's of NumPy's; and those of unknown shape."""
    data: Any = variable._data  # noqa: SLF001 - `data` would load it
    if is_dask(data):
        if any(length != length for length in data.shape):  # noqa: PLR0124 - dask's unknown lengths are NaN
            raise InvalidInputError(
                f"{name!r} is a dask array whose chunks have unknown lengths, so nobody knows where its values belong; "
                "call its compute_chunk_sizes() before it is put into the dataset"
            )
        data = data._meta  # noqa: SLF001 - nothing else says what its chunks are
    elif not hasattr(data, "__array_function__") or not isinstance(variable.dtype, np.dtype):
        return
    if not isinstance(data, np.ndarray | indexing.ExplicitlyIndexed):
        raise InvalidInputError(
            f"{name!r} has its values in a {type(data).__module__.partition('.')[0]} {type(data).__name__}, and arrays "
            "of NumPy are stored; convert it first (Dataset.as_numpy, or map_blocks of dask)"
        )


def _check_type(name: str, dtype: "np.dtype[Any]") -> None:
    """Refuse floating-point numbers of more digits than Zarr has."""
    if dtype.kind in "fc" and dtype.itemsize > np.dtype({"f": "f8", "c": "c16"}[dtype.kind]).itemsize:
        raise InvalidInputError(f"{name!r} has the type {dtype}, which Zarr cannot store; convert it first (astype)")


def _check_calendar(name: str, variable: xr.Variable) -> None:
    """Refuse dates of another calendar than they are to be counted in."""
    calendar = variable.encoding.get("calendar")
    if calendar is None or not is_time_unit(variable.encoding.get("units")):
        return
    if variable.dtype.kind == "M":
        own = "standard"  # and so they are in the proleptic one, but for those of long ago
    elif variable.dtype.kind == "O" and variable.size:
        own = infer_calendar_name(variable.data)
    else:
        return
    known = {"standard", "proleptic_gregorian"}
    if calendar_name(own) != calendar_name(calendar) and not {calendar_name(own), calendar_name(calendar)} <= known:
        raise LabelError(
            f"{name!r} has dates of the calendar {own!r}, and is to be counted in {calendar!r}; dates of two "
            "calendars do not compare. Convert them first (Dataset.convert_calendar), if that is meant"
        )


def _encoded(name: str, variable: xr.Variable) -> xr.Variable:
    if lies_in_files(name, variable):
        return deferred(name, variable)
    if not is_dask(variable._data) and variable.dtype.kind in _NUMBERS and variable.nbytes > _AT_ONCE:  # noqa: SLF001 - as below
        return _in_pieces(name, variable)
    variable = _fitting(name, variable)
    encoded = encode_zarr_variable(variable, name=name, zarr_format=_ZARR_FORMAT)
    return encoded if is_dask(encoded._data) else xr.Variable(encoded.dims, np.asarray(encoded.values), encoded.attrs)  # noqa: SLF001 - `data` would load it


def _in_pieces(name: str, variable: xr.Variable) -> xr.Variable:
    """A large variable in memory, encoded piece by piece: encoding takes several times the room of what it encodes."""
    whole = variable.load()
    sample = deferred(name, whole)
    if sample.dtype == whole.dtype and not _CHANGING & whole.encoding.keys():
        return xr.Variable(whole.dims, whole.values, sample.attrs)
    values = np.empty(whole.shape, sample.dtype)
    step = max(1, whole.shape[0] * _AT_ONCE // whole.nbytes)
    for start in range(0, whole.shape[0], step):
        piece = whole[start : start + step]
        piece.encoding = dict(whole.encoding)
        values[start : start + step] = encode_zarr_variable(
            _fitting(name, piece), name=name, zarr_format=_ZARR_FORMAT
        ).values
    return xr.Variable(whole.dims, values, sample.attrs)


def _fitting(name: str, variable: xr.Variable) -> xr.Variable:
    """The variable, of which values that its packing cannot hold are refused: here, or by whoever computes them."""
    packing = Packing.of(name, variable)
    if packing is None:
        return variable
    data: Any = variable._data  # noqa: SLF001 - `data` would load it
    if is_dask(data):
        checked = data.map_blocks(packing.check, dtype=data.dtype, meta=data._meta)  # noqa: SLF001 - as above
        return variable.copy(deep=False, data=checked)
    packing.check(variable.load().values)
    return variable


def deferred(name: str, variable: xr.Variable) -> xr.Variable:
    """A variable in files, which functions encode."""
    # Numbers are encoded alike whatever they are, so a zero shows what they become.
    zero = xr.Variable(variable.dims, np.zeros((1,) * variable.ndim, variable.dtype), variable.attrs)
    zero.encoding = dict(variable.encoding)
    one = encode_zarr_variable(zero, name=name, zarr_format=_ZARR_FORMAT)
    encoded = xr.Variable(variable.dims, Deferred(name, variable, one.dtype), one.attrs)
    encoded.encoding = one.encoding
    return encoded
