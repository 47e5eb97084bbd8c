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
        if dtype == STRING:
            fits = values.dtype.kind in "OTU"
        else:
            wanted = np.dtype(dtype)
            fits = values.dtype == wanted.newbyteorder("=") or (
                values.dtype.kind == wanted.kind == "S" and values.dtype.itemsize <= wanted.itemsize
            )
        if not fits:
            raise SourceError(f"{region} was computed as {values.dtype}, and was planned to be {dtype}; plan again")
        return native(values if dtype == STRING else values.astype(dtype, copy=False))
