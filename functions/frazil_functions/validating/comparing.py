"""Comparing: what the target holds of a region against what files hold of it.

What both store alike is compared as it is stored, NaN equal to NaN. What they store differently is decoded to doubles
and may differ by what the target's way of storing it loses: half a step of its packing, the bits that were rounded
away, the digits that its type does not have.
"""

from typing import Any, Final

import numpy as np
import xarray as xr
import zarr

from frazil_functions.errors import InvalidInputError
from frazil_functions.reading.encoding import STRING, Attributes, Values, number, recode
from frazil_functions.reading.rounding import ERROR, Packing
from frazil_functions.reading.sources import Source
from frazil_functions.regions import Region
from frazil_functions.validating.tasks import Difference
from frazil_functions.validating.values import attributes_of, dtype_of

QUANTISED: Final = {
    "_QuantizeBitRoundNumberOfSignificantBits": (2.0, 1),
    "_QuantizeBitGroomNumberOfSignificantDigits": (10.0, 0),
    "_QuantizeGranularBitRoundNumberOfSignificantDigits": (10.0, 0),
}
"""Attributes of netCDF-C that say how far values are rounded: the base of the digits that are kept, and by how many of
them the error is smaller than the last that is kept."""

_MOST: Final = {"_QuantizeBitRoundNumberOfSignificantBits": {2: 10, 4: 23, 8: 52}}
_MOST_DIGITS: Final = {2: 3, 4: 7, 8: 15}
"""How many bits, and how many digits, numbers of so many bytes have (netCDF-C, docs/quantize.md)."""

_SCALING: Final = ("scale_factor", "add_offset")
_DOUBLE: Final = float(np.finfo("f8").eps)


def compare_region(
    source: Source, array: zarr.Array[Any], region: Region, held: Values, meant: Attributes | None
) -> Difference | None:
    """Where the target differs from the files in a region; None if it does not.

    Parameters
    ----------
    source
        The files.
    array, region, held
        The target, the region, and what it holds there as it is stored.
    meant
        The attributes that both are decoded to, where they are stored differently.
    """
    dtype, attributes = dtype_of(array), attributes_of(array)
    unlikely = implausible(dtype, attributes)
    attributes = {key: value for key, value in attributes.items() if key not in unlikely}
    if meant is None:
        given = source.read(region, dtype, attributes)
        return _first(region, _unequal(held, given) & ~_rounded(held, given, attributes), held, given)
    given = source.read(region, "<f8", meant)
    # Bounds count in the units of their coordinate, which they need not have themselves.
    counted = attributes | {key: meant[key] for key in ("units", "calendar") if key in meant}
    decoded = recode(region.array, xr.Variable(region.plain_dims, held, counted), meant, "<f8")
    differ = ~((decoded == given) | (np.isnan(decoded) & np.isnan(given)))
    with np.errstate(invalid="ignore"):  # infinities that are equal were found to be so
        differ &= ~(np.abs(decoded - given) <= _lost(given, array.dtype, attributes))
    return _first(region, differ, decoded, given)


def implausible(dtype: str, attributes: Attributes) -> list[str]:
    """Attributes of an array that say that it was rounded, and that cannot be true.

    Nobody's values are compared less closely for their sake.
    """
    kind = "" if dtype == STRING else np.dtype(dtype).kind
    found = []
    for name in QUANTISED.keys() & attributes.keys():
        kept = number(attributes[name])
        most = _MOST.get(name, _MOST_DIGITS)[np.dtype(dtype).itemsize] if kind == "f" else 0
        if isinstance(kept, bool) or not isinstance(kept, int) or not 1 <= kept <= most:
            found.append(name)
    if ERROR in attributes:
        try:
            packing = Packing.of(dtype, attributes) if kind else None
        except InvalidInputError:
            packing = None
        if packing is None or attributes[ERROR] > packing.step:
            found.append(ERROR)
    return sorted(found)


def _unequal(held: Values, given: Values) -> Values:
    if held.dtype.kind in "OTU":
        unequal: Values = np.asarray(held.astype(object) != given.astype(object), bool)
        return unequal
    differ: Values = np.asarray(held != given)
    return differ & ~(np.isnan(held) & np.isnan(given)) if held.dtype.kind in "fc" else differ


def _rounded(held: Values, given: Values, attributes: Attributes) -> Values:
    """Where values of one type differ by no more than the target is said to be rounded."""
    if held.dtype.kind != "f" or not QUANTISED.keys() & attributes.keys():
        return np.zeros(held.shape, bool)
    wide = given.astype("f8")
    with np.errstate(invalid="ignore"):
        near: Values = np.abs(held.astype("f8") - wide) <= _quantised(wide, attributes)
    return near


def _quantised(values: Values, attributes: Attributes) -> Values:
    lost: Values = np.zeros(values.shape)
    for name, (base, more) in QUANTISED.items():
        kept = number(attributes.get(name))
        if isinstance(kept, int | float):
            lost = np.maximum(lost, np.abs(values) * base ** -(kept + more))
    return lost


def _lost(given: Values, dtype: "np.dtype[Any]", attributes: Attributes) -> Values:
    """What the target's way of storing values may lose of each (CF conventions, chapter 8.1)."""
    packing = Packing.of(dtype.str, attributes)
    scale, offset = (number(attributes.get(key)) for key in _SCALING)
    large: Values = np.maximum(np.abs(given), abs(offset) if isinstance(offset, int | float) else 0.0)
    lost: Values = 4 * _DOUBLE * large + _quantised(given, attributes)
    if packing is not None:
        lost = lost + float(attributes[ERROR])
    elif isinstance(scale, int | float):
        lost = lost + abs(scale) / 2
    elif dtype.kind == "f":
        # The last digit, twice: once for the file's own decoding, in single precision as readers do it, once for ours.
        lost = lost + float(np.finfo(dtype).eps) * large
    return lost


def _first(region: Region, differ: Values, held: Values, given: Values) -> Difference | None:
    count = int(np.count_nonzero(differ))
    if not count:
        return None
    at = tuple(int(one) for one in np.unravel_index(int(np.argmax(differ)), differ.shape))
    index = tuple(start + one for (_, start, _), one in zip(region.ranges, at, strict=True))
    return Difference(count, index, str(held[at]), str(given[at]))
