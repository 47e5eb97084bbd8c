"""CarriedSource: the values of a dataset that the client has, computed from the slices that a task carries."""

import numpy as np

from frazil_functions.errors import SourceError
from frazil_functions.reading.encoding import STRING, Attributes, Values, native
from frazil_functions.regions import Region
from frazil_functions.tasks import WriteTask
from frazil_functions.writing.lazy import computed, unpack


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
