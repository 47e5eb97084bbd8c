"""From what a source holds to what the target array stores, and what tells two of them apart.

Values are copied as they are stored (packed integers stay packed, times stay numbers), so
nothing is lost on the way. Only where a source stores a variable in another way than the target
does (another scale, offset, fill value or time unit) are its values decoded and encoded again.
"""

import base64
import struct
from collections.abc import Mapping
from typing import Any, Final

import cftime
import google_crc32c
import numpy as np
import xarray as xr

from frazil_functions.errors import InvalidInputError

type JSON = bool | int | float | str | list[JSON] | dict[str, JSON] | None
type Attributes = dict[str, Any]  # JSON values; msgspec reads no recursive aliases
type Values = np.ndarray[Any, np.dtype[Any]]

STRING: Final = "string"
"""The name of the type of strings of any length, Zarr's own."""

PACKING: Final = ("scale_factor", "add_offset", "_FillValue", "missing_value", "_Unsigned", "dtype")
"""Attributes that say how numbers are stored (CF conventions, chapters 2.5 and 8.1)."""

TIME_UNITS: Final = ("units", "calendar")
"""Attributes that say how times are stored (CF conventions, chapter 4.4)."""


def is_time_unit(units: JSON) -> bool:
    """Whether `units` counts time from an epoch, as "days since 2000-01-01" does."""
    return isinstance(units, str) and " since " in units


def json_value(value: object) -> JSON:
    """One attribute as JSON can hold it.

    Numbers that JSON cannot hold become the strings that Zarr writes for them: "NaN",
    "Infinity" and "-Infinity".
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    if isinstance(value, dict):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, float) and not np.isfinite(value):
        return "NaN" if np.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def json_attributes(attributes: Mapping[Any, object]) -> Attributes:
    """Attributes as JSON can hold them; see `json_value`."""
    return {str(name): json_value(value) for name, value in attributes.items()}


def number(value: JSON) -> float | int | str | None:
    """The number that `json_value` wrote: the first of a list, and "NaN" as itself."""
    if isinstance(value, list):
        return number(value[0]) if value else None
    if isinstance(value, str) and value in {"NaN", "Infinity", "-Infinity"}:
        return float(value)
    if isinstance(value, bool | int | float | str):
        return value
    return None


def fill_of(dtype: str, attributes: Attributes) -> float | int | str | bool | None:
    """What an element that nobody wrote reads as: the CF fill value, else NaN, zero or "".

    An array's own fill value is set to its CF fill value so that what is unwritten is missing.
    """
    declared = number(attributes.get("_FillValue", attributes.get("missing_value")))
    if dtype == STRING:
        return declared if isinstance(declared, str) else ""
    kind = np.dtype(dtype).kind
    if kind == "f":
        return float(declared) if isinstance(declared, int | float) else float("nan")
    if kind in "iu" and isinstance(declared, int | float) and float(declared).is_integer():
        limits = np.iinfo(dtype)
        # A signed fill under an unsigned type (or the reverse, with _Unsigned) keeps its bits.
        bits = int(declared) % (1 << limits.bits)
        return bits if bits <= limits.max else bits - (1 << limits.bits)
    return None if kind in "SUcV" else False if kind == "b" else 0


def has_fill(dtype: str, attributes: Attributes) -> bool:
    """Whether an element that nobody wrote can be told from data."""
    if dtype == STRING:
        return True
    return np.dtype(dtype).kind == "f" or "_FillValue" in attributes or "missing_value" in attributes


def stored_attributes(dtype: str, attributes: Attributes) -> Attributes:
    """Attributes as Xarray's Zarr (format 3) reader expects them.

    It reads `_FillValue` of floating-point arrays as the base64 of a little-endian double
    (xarray.backends.zarr.FillValueCoder). A `missing_value` of NaN says nothing that NaN does
    not say itself, and Zarr's metadata cannot hold it as a number, so it goes.
    """
    stored = dict(attributes)
    kind = "U" if dtype == STRING else np.dtype(dtype).kind
    if "_FillValue" in stored:
        fill = number(stored["_FillValue"])
        if kind == "f" and isinstance(fill, int | float):
            stored["_FillValue"] = base64.standard_b64encode(struct.pack("<d", float(fill))).decode()
        elif kind == "S" and isinstance(fill, str):
            stored["_FillValue"] = base64.standard_b64encode(fill.encode()).decode()
        elif kind in "iu" and isinstance(fill, int | float):
            stored["_FillValue"] = int(fill)
            half = 1 << (8 * np.dtype(dtype).itemsize - 1)
            if kind == "u" and attributes.get("_Unsigned") == "false" and fill >= half:
                stored["_FillValue"] = int(fill) - 2 * half  # Xarray compares it with the values' signed reading
        elif kind == "b":
            stored["_FillValue"] = bool(fill)
        elif kind in "cU":  # Xarray cannot read it back; the array's own fill value says it
            del stored["_FillValue"]
    if kind == "f" and stored.get("missing_value") == "NaN":
        del stored["missing_value"]
    return stored


def plain_attributes(dtype: str, stored: Attributes) -> Attributes:
    """What `stored_attributes` was given: the fill value as a number again."""
    fill = stored.get("_FillValue")
    if dtype != STRING and np.dtype(dtype).kind == "f" and isinstance(fill, str):
        return stored | {"_FillValue": json_value(struct.unpack("<d", base64.standard_b64decode(fill))[0])}
    return stored


def checksum(values: Values) -> int:
    """CRC-32C (RFC 3720, appendix B.4) of the elements in C order, in the array's own byte order.

    NaNs count as one value whatever their bits are, for a chunk of nothing but NaN is not
    stored and reads back as the fill value's NaN. Strings count with their lengths.
    """
    if values.dtype.kind in "OTU":
        crc = 0
        for text in values.ravel():
            encoded = str(text).encode()
            crc = google_crc32c.extend(crc, len(encoded).to_bytes(8, "little") + encoded)
        return int(crc)
    if values.dtype.kind in "fc":
        missing = np.isnan(values)
        if missing.any():
            values = values.copy()
            values[missing] = np.nan
    raw = np.ascontiguousarray(values).reshape(-1).view("u1")
    raw.flags.writeable = False  # the library takes nothing else; a view, so nothing is copied
    return int(google_crc32c.value(raw))


def recode(name: str, source: xr.Variable, target: Attributes, dtype: str) -> Values:
    """A variable as its file stores it, turned into what the target's type and attributes say.

    Raises
    ------
    InvalidInputError
        If a value cannot be stored in the target's type: it would wrap or be rounded away.
    """
    times = xr.coders.CFDatetimeCoder(use_cftime=True)
    plain: Values = xr.conventions.decode_cf_variable(name, source, decode_times=times, decode_timedelta=False).values
    if is_time_unit(target.get("units")):
        return _encode_times(name, plain, target, dtype)
    if dtype == STRING or np.dtype(dtype).kind not in "iuf":
        return plain.astype(object if dtype == STRING else dtype)
    scale, offset = number(target.get("scale_factor")), number(target.get("add_offset"))
    packed: Values = plain.astype("f8")
    if isinstance(offset, int | float):
        packed = packed - offset
    if isinstance(scale, int | float):
        packed = packed / scale
    missing = np.isnan(packed)
    if missing.any():
        if not has_fill(dtype, target):
            raise InvalidInputError(
                f"{name!r} has missing values, and the target's type {dtype} has no fill value for them"
            )
        packed[missing] = fill_of(dtype, target)
    if np.dtype(dtype).kind in "iu":
        packed = np.rint(packed)
        limits = np.iinfo(dtype)
        if packed.size and (packed.min() < limits.min or packed.max() > limits.max):
            raise InvalidInputError(
                f"{name!r} has values from {packed.min()} to {packed.max()}, which do not fit into {dtype}; "
                "they would wrap"
            )
    return packed.astype(dtype)


def _encode_times(name: str, dates: Values, target: Attributes, dtype: str) -> Values:
    units, calendar = str(target["units"]), str(target.get("calendar", "standard"))
    exact = np.asarray(cftime.date2num(dates, units, calendar))
    stored = exact.astype(dtype)
    if not np.array_equal(stored, exact):
        raise InvalidInputError(f"{name!r} has times that {dtype} cannot hold in {units!r}; they would be rounded")
    return stored


def native(values: Values) -> Values:
    """The same values in the machine's byte order, dates as numbers (see `native_attributes`)."""
    if values.dtype.kind in "mM":
        return values.astype(f"{values.dtype.kind}8[ns]").astype("i8")
    if values.dtype.kind == "T":  # strings of any length have no byte order
        return values.astype(object)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def bounded_attributes(name: str, attributes: Mapping[str, Attributes]) -> Attributes:
    """A variable's attributes, with the time units that bounds take from their coordinate (CF, chapter 7.1)."""
    for own in attributes.values():
        if name in {own.get("bounds"), own.get("climatology")} and is_time_unit(own.get("units")):
            return {key: own[key] for key in TIME_UNITS if key in own} | attributes[name]
    return attributes[name]


def native_attributes(dtype: "np.dtype[Any]", attributes: Attributes) -> Attributes:
    """Attributes that give the numbers of `native` their meaning.

    An engine that hands out dates rather than numbers leaves nothing to copy; dates are stored
    as nanoseconds since 1970.
    """
    if dtype.kind == "M":
        return attributes | {"units": "nanoseconds since 1970-01-01", "calendar": "proleptic_gregorian"}
    if dtype.kind == "m":
        return attributes | {"units": "nanoseconds"}
    return attributes
