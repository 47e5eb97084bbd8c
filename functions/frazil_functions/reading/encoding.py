"""From what a source holds to what the target array stores, and what tells two of them apart.

Values are copied as they are stored (packed integers stay packed, times stay numbers), so
nothing is lost on the way. Only where a source stores a variable in another way than the target
does (another scale, offset, fill value or time unit) are its values decoded and encoded again; and
nothing is rounded, unless the target's attributes say that it is stored with loss.
"""

import base64
import math
import struct
from collections.abc import Mapping
from typing import Any, Final

import google_crc32c
import numpy as np
import xarray as xr

from frazil_functions.errors import InvalidInputError
from frazil_functions.reading.rounding import ERROR, KEEPBITS, Clipped, Packing, bit_rounded, bits_of
from frazil_functions.reading.times import calendar_name, recount, same_dates

type JSON = bool | int | float | str | list[JSON] | dict[str, JSON] | None
type Attributes = dict[str, Any]  # JSON values; msgspec reads no recursive aliases
type Values = np.ndarray[Any, np.dtype[Any]]

STRING: Final = "string"
"""The name of the type of strings of any length, Zarr's own."""

PACKING: Final = ("scale_factor", "add_offset", "_FillValue", "missing_value", "_Unsigned", "dtype")
"""Attributes that say how numbers are stored (CF conventions, chapters 2.5 and 8.1)."""

_SCALING: Final = ("scale_factor", "add_offset")

_NOISE: Final = 1e-6
"""The part of a packing's step that unpacking and packing in doubles may lose; more is another number."""

_PIECE: Final = 1 << 18
"""How many elements are searched for NaN at once; few enough to stay in the processor's cache."""


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
    if kind in "iu":
        return _bits(declared, dtype) or 0
    return None if kind in "SUcV" else False if kind == "b" else 0


def has_fill(dtype: str, attributes: Attributes) -> bool:
    """Whether an element that nobody wrote can be told from data."""
    if dtype == STRING:
        return True
    kind = np.dtype(dtype).kind
    if kind in "iu":
        return _bits(number(attributes.get("_FillValue", attributes.get("missing_value"))), dtype) is not None
    return kind == "f" or (kind == "S" and "_FillValue" in attributes)


def stored_attributes(dtype: str, attributes: Attributes) -> Attributes:
    """Attributes as Xarray's Zarr (format 3) reader expects them.

    It reads `_FillValue` of floating-point arrays as the base64 of a little-endian double
    (xarray.backends.zarr.FillValueCoder). A `missing_value` of NaN says nothing that NaN does
    not say itself, and Zarr's metadata cannot hold it as a number, so it goes; an infinite one
    becomes the fill value.
    """
    kind = "U" if dtype == STRING else np.dtype(dtype).kind
    stored = dict(attributes) if kind in "US" else _with_plain_marks(kind, attributes)
    if "_FillValue" in stored:
        fill = _stored_fill(kind, dtype, stored.pop("_FillValue"), attributes)
        if fill is not None:
            stored["_FillValue"] = fill
    return stored


def _with_plain_marks(kind: str, attributes: Attributes) -> Attributes:
    """The attributes with a `missing_value` of numbers that JSON can hold, or without one."""
    stored = dict(attributes)
    declared = stored.pop("missing_value", [])
    marks = declared if isinstance(declared, list) else [declared]
    plain = [mark for mark in marks if not isinstance(mark, str)]
    if plain:
        stored["missing_value"] = plain if isinstance(declared, list) else plain[0]
    infinite = next((mark for mark in marks if mark in {"Infinity", "-Infinity"}), None)
    if kind == "f" and infinite is not None:
        stored.setdefault("_FillValue", infinite)
    return stored


def _stored_fill(kind: str, dtype: str, declared: JSON, attributes: Attributes) -> JSON:
    """The fill value as Xarray reads it; None if the type has none such."""
    fill = number(declared)
    if kind == "f" and isinstance(fill, int | float):
        return _fill_bytes(float(fill))
    if kind in "iu" and isinstance(fill, int | float):
        if not np.isfinite(fill):
            return None
        half = 1 << (8 * np.dtype(dtype).itemsize - 1)
        # Xarray compares it with the values' signed reading.
        signed = kind == "u" and attributes.get("_Unsigned") == "false" and fill >= half
        return int(fill) - 2 * half if signed else int(fill)
    if kind == "S" and isinstance(fill, str):
        return base64.standard_b64encode(fill.encode()).decode()
    if kind == "b":
        return bool(fill)
    return None if kind in "cU" else declared  # Xarray cannot read these back; the array's own fill says it


def _fill_bytes(fill: float) -> str:
    return base64.standard_b64encode(struct.pack("<d", fill)).decode()


def plain_attributes(dtype: str, stored: Attributes) -> Attributes:
    """What `stored_attributes` was given: the fill value as a number again."""
    fill = stored.get("_FillValue")
    if dtype != STRING and np.dtype(dtype).kind == "f" and isinstance(fill, str):
        return stored | {"_FillValue": json_value(struct.unpack("<d", base64.standard_b64decode(fill))[0])}
    return stored


def checksum(values: Values) -> int:
    """CRC-32C (RFC 3720, appendix B.4) of the elements in C order, in little-endian byte order.

    NaNs count as one value whatever their bits are, for a chunk of nothing but NaN is not
    stored and reads back as the fill value's NaN. Strings count with their lengths.
    """
    if values.dtype.kind in "OTU":
        crc = 0
        for text in values.ravel():
            encoded = str(text).encode()
            crc = google_crc32c.extend(crc, len(encoded).to_bytes(8, "little") + encoded)
        return int(crc)
    flat = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"), copy=False)).reshape(-1)
    if flat.dtype.kind not in "fc":
        return int(google_crc32c.value(_bytes(flat)))
    crc = 0
    for start in range(0, flat.size, _PIECE):
        piece = flat[start : start + _PIECE]
        missing = np.isnan(piece)
        if missing.any():
            piece = np.where(missing, flat.dtype.type(np.nan), piece).astype(flat.dtype, copy=False)
        crc = google_crc32c.extend(crc, _bytes(piece))
    return int(crc)


def _bytes(values: Values) -> Values:
    raw = values.view("u1") if values.size else np.empty(0, "u1")
    raw.flags.writeable = False  # the library takes nothing else; a view, so nothing is copied
    return raw


def rounds(dtype: str, attributes: Attributes) -> bool:
    """Whether an array says that it is stored with loss: packed, or with fewer bits."""
    if dtype == STRING or not {ERROR, KEEPBITS} & attributes.keys():
        return False
    return Packing.of(dtype, attributes) is not None or bits_of(dtype, attributes) is not None


def recode(name: str, source: xr.Variable, target: Attributes, dtype: str, clip: Clipped | None = None) -> Values:
    """A variable as its file stores it, turned into what the target's type and attributes say.

    Parameters
    ----------
    name
        The variable's name.
    source
        Its values and attributes, nothing decoded.
    target, dtype
        What its array says of itself.
    clip
        Told of values out of the range of a packing with loss, which become its ends; they are refused without it.

    Raises
    ------
    InvalidInputError
        If a value cannot be stored in the target's type: it would wrap, be rounded though the target does not say
        that it is stored with loss, lose digits that the type does not have, or read as missing.
    """
    if dtype == STRING or np.dtype(dtype).kind not in "iuf":
        plain: Values = xr.conventions.decode_cf_variable(
            name, source, concat_characters=False, decode_times=False, decode_timedelta=False
        ).values
        return plain.astype(object if dtype == STRING else dtype)
    own = json_attributes(source.attrs)
    if own.get("units") == target.get("units") and _scaling(own) == _scaling(target):
        # What both pack alike is compared and copied packed, for unpacking would cost digits.
        own, target = ({k: v for k, v in one.items() if k not in _SCALING} for one in (own, target))
        source = xr.Variable(source.dims, source.values, own)
    packing, bits = Packing.of(dtype, target), bits_of(dtype, target)
    if packing is not None:
        return _packed_with_loss(name, source, own, target, packing, clip)
    if bits is not None and _stored_alike(source.dtype, own, dtype, target):
        return bit_rounded(source.values, bits, missing_marks(dtype, target), valid_range(target))
    values, missing = _unpacked(name, source, own)
    present = _recounted(name, values[~missing], own, target, dtype)
    if missing.any() and not has_fill(dtype, target):
        raise InvalidInputError(
            f"{name!r} has missing values, and the target's type {dtype} has no fill value for them"
        )
    packed = _packed(name, present, target, dtype)
    if np.isin(packed, np.array(missing_marks(dtype, target), dtype)).any():
        raise InvalidInputError(
            f"{name!r} has a value that the target stores as its fill value ({fill_of(dtype, target)}); it would read "
            "as missing"
        )
    stored = np.empty(values.shape, dtype)
    stored[~missing] = packed
    if missing.any():
        stored[missing] = fill_of(dtype, target)
    return stored if bits is None else bit_rounded(stored, bits, missing_marks(dtype, target), valid_range(target))


def _packed_with_loss(
    name: str, source: xr.Variable, own: Attributes, target: Attributes, packing: Packing, clip: Clipped | None
) -> Values:
    """Values in a packing that rounds them."""
    if is_time_unit(own.get("units")) or is_time_unit(target.get("units")):
        raise InvalidInputError(f"{name!r} counts time, which is never rounded; write it into an array of its own")
    if source.dtype.kind == "f" and _scaling(own) == [None, None]:
        return packing.pack(name, source.values, missing_marks(source.dtype.str, own), clip)
    values, missing = _unpacked(name, source, own)
    plain = values.astype("f8")
    plain[missing] = np.nan
    return packing.pack(name, plain, (), clip)


def _stored_alike(held: "np.dtype[Any]", own: Attributes, dtype: str, target: Attributes) -> bool:
    """Whether numbers mean the same in both, and the same ones mean that they are missing."""
    return (
        held == np.dtype(dtype)
        and _scaling(own) == _scaling(target) == [None, None]
        and own.get("units") == target.get("units")
        and missing_marks(dtype, own) == missing_marks(dtype, target)
    )


def _scaling(attributes: Attributes) -> list[object]:
    return [number(attributes.get(key)) for key in _SCALING]


def _unpacked(name: str, source: xr.Variable, own: Attributes) -> tuple[Values, Values]:
    """What the stored numbers mean, and where they are missing; whole numbers stay whole if they are not scaled."""
    raw: Values = source.values
    if _scaling(own) != [None, None]:
        plain: Values = xr.conventions.decode_cf_variable(
            name, source, concat_characters=False, decode_times=False, decode_timedelta=False
        ).values
        return plain, np.isnan(plain)
    missing = np.isin(raw, np.array(missing_marks(raw.dtype.str, own), raw.dtype))
    if raw.dtype.kind == "f":
        missing |= np.isnan(raw)
    return raw.view(meant_type(raw.dtype, own)), missing


def _recounted(name: str, values: Values, own: Attributes, target: Attributes, dtype: str) -> Values:
    units, wanted = own.get("units"), target.get("units")
    if is_time_unit(units) != is_time_unit(wanted):
        raise InvalidInputError(f"{name!r} counts {units!r}, which cannot be turned into {wanted!r}")
    if not is_time_unit(wanted):
        return values
    calendar, other = (calendar_name(one.get("calendar")) for one in (own, target))
    least = float(values.min()) if values.size else 0.0
    if not same_dates((units, calendar), (wanted, other), (least, 0.0)):
        raise InvalidInputError(
            f"{name!r} counts in the calendar {calendar!r}, and the target in {other!r}; dates do not compare"
        )
    if _scaling(target) != [None, None]:
        dtype = "<f8"  # what is still to be packed may be fractions
    if units == wanted and values.dtype.kind == np.dtype(dtype).kind:
        return values
    return recount(name, values, (str(units), str(wanted)), calendar, dtype)


def _packed(name: str, values: Values, target: Attributes, dtype: str) -> Values:
    """Numbers as the target stores them, none of them missing."""
    scale, offset = number(target.get("scale_factor")), number(target.get("add_offset"))
    packed = values
    if isinstance(offset, int | float) and offset:
        packed = packed.astype("f8") - offset
    if isinstance(scale, int | float) and scale != 1:
        packed = packed.astype("f8") / scale
    meant = meant_type(np.dtype(dtype), target)
    low, high = (packed.min().item(), packed.max().item()) if packed.size else (0, 0)
    if meant.kind == "f":
        digits = np.finfo(meant).nmant + 1
        if packed.dtype.kind in "iu" and max(-low, high) > 1 << digits:
            raise InvalidInputError(f"{name!r} has values from {low} to {high}, which {dtype} does not have digits for")
        limits = np.finfo(meant)
        finite = packed[np.isfinite(packed)]
        if finite.size and float(max(-finite.min(), finite.max())) > float(limits.max):
            raise InvalidInputError(f"{name!r} has values from {low} to {high}, which do not fit into {dtype}")
        return packed.astype(meant)
    if packed.dtype.kind == "f":
        between, packed = packed, np.rint(packed)
        if (np.abs(packed[np.isfinite(packed)] - between[np.isfinite(packed)]) > _NOISE).any():
            raise InvalidInputError(
                f"{name!r} has values that {dtype} with the target's packing cannot hold; they would be rounded"
            )
        low, high = (packed.min().item(), packed.max().item()) if packed.size else (0, 0)
    # Python compares a double with a whole number exactly; NumPy rounds the whole number first.
    if not np.iinfo(meant).min <= low <= high <= np.iinfo(meant).max:
        raise InvalidInputError(
            f"{name!r} has values from {low} to {high}, which do not fit into {dtype}; they would wrap"
        )
    return packed.astype(meant).view(dtype)


def meant_type(dtype: "np.dtype[Any]", attributes: Attributes) -> "np.dtype[Any]":
    """The type that stored whole numbers stand for: NetCDF-3 has no unsigned ones and marks them `_Unsigned`."""
    unsigned = str(attributes.get("_Unsigned", "")).lower()
    if dtype.kind == "i" and unsigned == "true":
        return np.dtype(f"u{dtype.itemsize}")
    if dtype.kind == "u" and unsigned == "false":
        return np.dtype(f"i{dtype.itemsize}")
    return dtype


def valid_range(attributes: Attributes) -> tuple[float, float]:
    """The least and the largest stored number that is valid, as far as attributes say so (CF, chapter 2.5.1)."""
    both = attributes.get("valid_range")
    ends = both if isinstance(both, list) and len(both) == 2 else [None, None]  # noqa: PLR2004 - both ends
    ends = [attributes.get(key, end) for key, end in zip(("valid_min", "valid_max"), ends, strict=True)]
    low, high = (number(end[0] if isinstance(end, list) and len(end) == 1 else end) for end in ends)
    return (
        float(low) if isinstance(low, int | float) and not math.isnan(low) else -math.inf,
        float(high) if isinstance(high, int | float) and not math.isnan(high) else math.inf,
    )


def missing_marks(dtype: str, attributes: Attributes) -> list[float | int]:
    """Stored numbers besides NaN that mean "missing", as far as the type has them."""
    declared = [attributes.get("_FillValue"), attributes.get("missing_value")]
    flat = [item for value in declared for item in (value if isinstance(value, list) else [value])]
    marks = [number(item) for item in flat]
    if np.dtype(dtype).kind == "f":
        most = float(np.finfo(dtype).max)
        return [mark for mark in marks if isinstance(mark, int | float) and (abs(mark) <= most or np.isinf(mark))]
    return [bits for mark in marks if (bits := _bits(mark, dtype)) is not None]


def _bits(declared: object, dtype: str) -> int | None:
    """A number as an integer type stores it, or None if the type does not have it.

    A signed number under an unsigned type (or the reverse, with _Unsigned) keeps its bits.
    """
    if not isinstance(declared, int | float) or not float(declared).is_integer():
        return None
    limits = np.iinfo(dtype)
    if not -(1 << (limits.bits - 1)) <= declared < 1 << limits.bits:
        return None
    bits = int(declared) % (1 << limits.bits)
    return bits if bits <= limits.max else bits - (1 << limits.bits)


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
            return {key: own[key] for key in ("units", "calendar") if key in own} | attributes[name]
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
