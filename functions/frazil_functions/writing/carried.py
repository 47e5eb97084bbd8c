"""CarriedSource: the values of a dataset that the client has, computed from the slices that a task carries.

Xarray encodes them, lets numbers wrap that do not fit into whole ones, and stores values that mean "missing" there;
`Packing` refuses these. Where an array says
that it is stored with loss, they are computed as they are, and rounded here.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import xarray as xr

from frazil_functions.errors import InvalidInputError, SourceError
from frazil_functions.reading.encoding import (
    STRING,
    Attributes,
    Values,
    json_value,
    meant_type,
    missing_marks,
    native,
    recode,
)
from frazil_functions.reading.rounding import Clipped
from frazil_functions.reading.sources import Source
from frazil_functions.regions import Region
from frazil_functions.tasks import Carried
from frazil_functions.writing.lazy import FileSlices, computed, computed_anew, unpack

_NUMBERS: Final = "iuf"
_MARKS: Final = ("_FillValue", "missing_value")


@dataclass(frozen=True, slots=True)
class Packing:
    """Numbers that a variable is stored as, and that not all of its values can be.

    Attributes
    ----------
    name
        The variable.
    dtype
        Their type; without a sign if they stand for such numbers.
    scale, offset
        What a stored number is multiplied with, and what is added to it.
    fill
        Whether one of them stands for what is missing.
    marks
        Those that do.
    """

    name: str
    dtype: str
    scale: float | None
    offset: float | None
    fill: bool
    marks: tuple[float, ...] = ()

    @classmethod
    def of(cls, name: str, variable: xr.Variable) -> "Packing | None":
        """The packing that a variable's encoding asks for; None if every one of its values fits."""
        own = variable.encoding
        if own.get("dtype") is str or variable.dtype.kind not in _NUMBERS:
            return None
        scale, offset = own.get("scale_factor"), own.get("add_offset")
        plain = scale is None and offset is None
        dtype = np.dtype(own.get("dtype", variable.dtype if plain else "f8"))
        if dtype.kind not in _NUMBERS:
            return None
        told = {key: json_value(own[key]) for key in _MARKS if own.get(key) is not None}
        meant = meant_type(dtype, {"_Unsigned": own.get("_Unsigned")})
        stored = np.array(missing_marks(dtype.str, told), dtype).view(meant)
        marks = tuple(one for one in stored.tolist() if one == one)  # noqa: PLR0124 - NaN is missing as it is
        wraps = dtype.kind in "iu" and not (plain and np.can_cast(variable.dtype, dtype, "safe"))
        if not wraps and not marks:
            return None
        return cls(name, meant.str[1:], _number(scale), _number(offset), bool(told), marks)

    def check(self, values: Values) -> Values:
        """The values, if all of them can be stored.

        Raises
        ------
        InvalidInputError
            If one would wrap or read as missing, or is missing and nothing stands for that.
        """
        whole = np.dtype(self.dtype).kind in "iu"
        if whole and values.dtype.kind == "f" and not self.fill and np.isnan(values).any():
            raise InvalidInputError(
                f"{self.name!r} has missing values, and it is stored as {self.dtype} without a number that stands for "
                "them; give it a _FillValue, or another dtype (its encoding)"
            )
        if not values.size:
            return values
        low, high = (least.reduce(values, axis=None).item() for least in (np.fmin, np.fmax))
        if low != low:  # noqa: PLR0124 - where all are missing both ends are NaN
            return values
        least, most = sorted(self._packed(end) for end in (low, high))
        if whole and not np.iinfo(self.dtype).min <= least <= most <= np.iinfo(self.dtype).max:
            raise InvalidInputError(
                f"{self.name!r} has values from {low} to {high}, which do not fit into {self.dtype} as it is packed; "
                "they would wrap. Give it another dtype, scale_factor or add_offset (its encoding)"
            )
        for mark in self.marks:
            if least <= mark <= most and (self._stored(values) == mark).any():
                raise InvalidInputError(
                    f"{self.name!r} has a value that is stored as {mark}, which means missing there (_FillValue or "
                    "missing_value); it would read as missing. Give the array another fill value, or set the value to "
                    "NaN if it is missing"
                )
        return values

    def _packed(self, value: float) -> float:
        packed = value if self.offset is None else value - self.offset
        packed = packed if self.scale is None else packed / self.scale
        return packed if isinstance(packed, int) else float(self._rounded(np.float64(packed)))

    def _stored(self, values: Values) -> Values:
        """All of them as they will be stored, but for the type of whole numbers."""
        packed = values if self.offset is None else values - self.offset
        packed = packed if self.scale is None else packed / self.scale
        return packed if packed.dtype.kind in "iu" else self._rounded(packed)

    def _rounded(self, packed: Any) -> Any:  # noqa: ANN401 - one number, or an array of them
        dtype = np.dtype(self.dtype)
        with np.errstate(over="ignore"):
            return np.rint(packed) if dtype.kind in "iu" else packed.astype(dtype)


def _number(one: Any) -> float | None:  # noqa: ANN401 - a number, or an array of one
    return None if one is None else float(np.ravel(one)[0])


@dataclass(frozen=True, slots=True)
class PackedFileSlices(FileSlices):
    """Slices of variables that lie in files, of which values that do not fit are refused."""

    def compute(self) -> list[Any]:
        """Read and encode them.

        Raises
        ------
        InvalidInputError
            If a value cannot be stored.
        """
        loaded = []
        for name, variable in self.variables:
            packing = Packing.of(name, variable)
            loaded.append((name, variable if packing is None else variable.load()))
            if packing is not None:
                packing.check(variable.values)
        return FileSlices(tuple(loaded)).compute()


class CarriedSource:
    """What a task carries, as a source.

    Parameters
    ----------
    carried
        Slices for each of some regions.
    regions
        These, in order.
    clip
        Variables whose values become the ends of the range that they are packed in, where they lie out of it.

    Raises
    ------
    SourceError
        If there are not as many slices as regions.
    """

    def __init__(self, carried: Carried, regions: Sequence[Region], clip: Sequence[str] = ()) -> None:
        pickled = unpack(carried.packed)
        if not len(pickled) == len(carried.buffers) == len(regions):
            raise SourceError(f"a task carries slices for {len(pickled)} of {len(regions)} regions; plan again")
        self._slices = dict(zip(regions, zip(pickled, carried.buffers, strict=True), strict=True))
        self._attributes, self._clip = carried.attributes, clip
        self.clipped = Clipped()

    def read(self, region: Region, dtype: str, attributes: Attributes) -> Values:
        """The region's values, as its array stores them.

        Raises
        ------
        SourceError
            If they cannot be computed, or are of another type; an UnreachableSourceError if that may pass.
        """
        return self._fitted(computed(*self._slices[region], [region]), region, dtype, attributes, self.clipped)

    def anew(self) -> AbstractContextManager[Source]:
        """The same slices, computed from files that are opened again."""
        return nullcontext(_Anew(self))

    def read_anew(self, region: Region, dtype: str, attributes: Attributes) -> Values:
        """As `read`, from files that are opened again."""
        return self._fitted(computed_anew(*self._slices[region], [region]), region, dtype, attributes, Clipped())

    def _fitted(
        self, computed: list[Values], region: Region, dtype: str, attributes: Attributes, clipped: Clipped
    ) -> Values:
        (values,) = computed
        own = self._attributes.get(region.array)
        if own is not None and values.shape == region.shape:
            plain = xr.Variable(region.dims, native(values), own)
            return recode(region.array, plain, attributes, dtype, clipped if region.array in self._clip else None)
        if values.shape == region.shape and _fits(values, dtype):
            return native(values if dtype == STRING else values.astype(dtype, copy=False))
        raise SourceError(
            f"{region} was computed as {values.dtype} of shape {values.shape}, and was planned to be {dtype} of shape "
            f"{region.shape}; what computes it does not do what it says"
        )


@dataclass(frozen=True, slots=True)
class _Anew:
    """What a task carries, computed again."""

    source: CarriedSource

    def read(self, region: Region, dtype: str, attributes: Attributes) -> Values:
        return self.source.read_anew(region, dtype, attributes)


def _fits(values: Values, dtype: str) -> bool:
    """Whether values may be stored as a type, at the cost of digits alone."""
    if dtype == STRING:
        return values.dtype.kind in "OTU"
    wanted = np.dtype(dtype)
    if values.dtype.kind == wanted.kind == "S":
        return values.dtype.itemsize <= wanted.itemsize
    if values.dtype.kind in "iu" and wanted.kind in "iu":
        # Xarray counts times in 64 bits whatever type they are to have.
        return bool((values.astype(wanted) == values).all())
    return bool(np.can_cast(values.dtype, wanted, "same_kind"))
