"""CarriedSource: the values of a dataset that the client has, computed from the slices that a task carries.

Xarray encodes them, and lets numbers wrap that do not fit into whole ones; `Packing` refuses these.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import xarray as xr

from frazil_functions.errors import InvalidInputError, SourceError
from frazil_functions.reading.encoding import STRING, Attributes, Values, native
from frazil_functions.regions import Region
from frazil_functions.tasks import WriteTask
from frazil_functions.writing.lazy import FileSlices, computed, unpack

_NUMBERS: Final = "iuf"


@dataclass(frozen=True, slots=True)
class Packing:
    """Whole numbers that a variable is stored as.

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
    """

    name: str
    dtype: str
    scale: float | None
    offset: float | None
    fill: bool

    @classmethod
    def of(cls, name: str, variable: xr.Variable) -> "Packing | None":
        """The packing that a variable's encoding asks for; None if every one of its values fits."""
        own = variable.encoding
        if "dtype" not in own or own["dtype"] is str or variable.dtype.kind not in _NUMBERS:
            return None
        dtype = np.dtype(own["dtype"])
        scale, offset = own.get("scale_factor"), own.get("add_offset")
        plain = scale is None and offset is None
        if dtype.kind not in "iu" or (plain and np.can_cast(variable.dtype, dtype, "safe")):
            return None
        kind = {"true": "u", "false": "i"}.get(str(own.get("_Unsigned")).lower(), dtype.kind)
        fill = any(own.get(key) is not None for key in ("_FillValue", "missing_value"))
        return cls(name, f"{kind}{dtype.itemsize}", _number(scale), _number(offset), fill)

    def check(self, values: Values) -> Values:
        """The values, if all of them can be stored.

        Raises
        ------
        InvalidInputError
            If one would wrap, or is missing and nothing stands for that.
        """
        if values.dtype.kind == "f" and not self.fill and np.isnan(values).any():
            raise InvalidInputError(
                f"{self.name!r} has missing values, and it is stored as {self.dtype} without a number that stands for "
                "them; give it a _FillValue, or another dtype (its encoding)"
            )
        if not values.size:
            return values
        low, high = (least.reduce(values, axis=None).item() for least in (np.fmin, np.fmax))
        limits = np.iinfo(self.dtype)
        packed = [self._packed(end) for end in (low, high)]
        # Where all are missing both ends are NaN.
        if low == low and not limits.min <= min(packed) <= max(packed) <= limits.max:  # noqa: PLR0124 - as said
            raise InvalidInputError(
                f"{self.name!r} has values from {low} to {high}, which do not fit into {self.dtype} as it is packed; "
                "they would wrap. Give it another dtype, scale_factor or add_offset (its encoding)"
            )
        return values

    def _packed(self, value: float) -> float:
        packed = value if self.offset is None else value - self.offset
        packed = packed if self.scale is None else packed / self.scale
        return packed if isinstance(packed, int) else float(np.rint(packed))


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
    task
        A task with slices for each of its regions.

    Raises
    ------
    SourceError
        If it has not as many as regions.
    """

    def __init__(self, task: WriteTask) -> None:
        assert task.carried is not None
        pickled, regions = unpack(task.carried.packed), [region.within(task.extents) for region in task.regions]
        if not len(pickled) == len(task.carried.buffers) == len(regions):
            raise SourceError(
                f"task {task.number} carries slices for {len(pickled)} of {len(regions)} regions; plan again"
            )
        self._slices = dict(zip(regions, zip(pickled, task.carried.buffers, strict=True), strict=True))

    def read(self, region: Region, dtype: str, attributes: Attributes) -> Values:  # noqa: ARG002 - encoded by the client
        """The region's values, as its array stores them.

        Raises
        ------
        SourceError
            If they cannot be computed, or are of another type; an UnreachableSourceError if that may pass.
        """
        (values,) = computed(*self._slices[region], [region])
        if values.shape == region.shape and _fits(values, dtype):
            return native(values if dtype == STRING else values.astype(dtype, copy=False))
        raise SourceError(
            f"{region} was computed as {values.dtype} of shape {values.shape}, and was planned to be {dtype} of shape "
            f"{region.shape}; what computes it does not do what it says"
        )


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
