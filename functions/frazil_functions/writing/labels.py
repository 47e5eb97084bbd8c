"""Labels for people: what the coordinates of a group say of some indices, for messages."""

import warnings

import icechunk
import numpy as np
import xarray as xr
import zarr
import zarr.errors

from frazil_functions.forks import load_fork
from frazil_functions.regions import Region
from frazil_functions.tasks import WriteTask


def label_words(task: WriteTask, box: Region) -> str:
    """The labels that some indices have, as " (time 2000-01-01T03 to ..., lat 10.0)"; empty if none can be told."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", zarr.errors.UnstableSpecificationWarning)
        try:
            root = zarr.open_group(load_fork(task.forks[-1]).store, path=task.group, mode="r")
            told = [_ends(root, dim, start, stop) for dim, start, stop in box.ranges]
        except (icechunk.IcechunkError, OSError):  # it is a message that goes without them
            return ""
    said = ", ".join(one for one in told if one)
    return f" ({said})" if said else ""


def _ends(root: zarr.Group, dim: str, start: int, stop: int) -> str:
    array = root.get(dim)
    if not isinstance(array, zarr.Array) or array.ndim != 1 or array.shape[0] < stop:
        return ""
    stored = np.asarray([array[start], array[stop - 1]])
    try:
        decoded = xr.conventions.decode_cf_variable(dim, xr.Variable((dim,), stored, array.attrs.asdict())).values
    except (ValueError, OverflowError, TypeError):  # times that Xarray cannot decode are told as they are stored
        decoded = stored
    first, last = (_text(one) for one in decoded)
    return f"{dim} {first}" if stop - start == 1 else f"{dim} {first} to {last}"


def _text(label: object) -> str:
    if isinstance(label, np.datetime64):
        return str(np.datetime_as_string(label, unit="s"))
    return str(label)
