"""What a little of a variable's data, or its metadata alone, say of compressing and packing it."""

from typing import Final

import numpy as np
import xarray as xr
import zarr
from zarr.abc.buffer import Buffer

from frazil.advising.analysis import Sampled
from frazil_functions.compression import Compression
from frazil_functions.reading.encoding import STRING, Attributes, Values, missing_marks, number
from frazil_functions.reading.opening import read_raw
from frazil_functions.reading.scanning import VariableMetadata
from frazil_functions.runs.template import compressors

SAMPLE_BYTES: Final = 4 << 20
"""How much of a variable is read for a sample, at most."""

STEPS: Final = 65_534
"""How many steps whole numbers of 16 bits have, less one for what is missing."""

_PAYS: Final = 1.25
"""How many times smaller packing must make a sample to be worth what it rounds off."""


def sample_of(
    dataset: xr.Dataset, url: str, name: str, metadata: VariableMetadata, compression: Compression
) -> Sampled | None:
    """What a part of a variable, from its middle, tells; None of values that are no numbers.

    Parameters
    ----------
    dataset, url
        A file that holds it, open as it is stored; or a dataset.
    name, metadata
        The variable, and what it says of itself.
    compression
        How it would be compressed.

    Raises
    ------
    SourceError
        If it cannot be read.
    """
    variable = dataset.variables[name]
    if variable.dtype.kind not in "biuf" or not variable.size:
        return None
    values = read_raw(dataset, url, name, _middle(variable.shape, variable.dtype.itemsize))
    ratio = values.nbytes / _compressed(values, compression)
    if values.dtype.kind != "f" or metadata.decoded is not None:
        return Sampled(values.nbytes, ratio)
    missing = ~np.isfinite(values)
    for mark in missing_marks(values.dtype.str, metadata.attributes):
        missing |= values == mark
    if missing.all():
        return Sampled(values.nbytes, ratio)
    low, high = float(values[~missing].min()), float(values[~missing].max())
    step = (high - low) / STEPS
    if not 0 < step < np.inf:
        return Sampled(values.nbytes, ratio)
    packed = np.where(missing, np.int16(-32768), np.round((np.where(missing, low, values) - low) / step) - 32767)
    return Sampled(values.nbytes, ratio, step, values.nbytes / _compressed(packed.astype("<i2"), compression))


def packing_of(metadata: VariableMetadata, dtype: str, sampled: Sampled | None) -> str:
    """What is advised about packing, in words; nothing where there is nothing to say.

    Parameters
    ----------
    metadata
        What the variable says of itself.
    dtype
        How it is stored.
    sampled
        What a sample tells, if one was read.
    """
    if metadata.decoded is not None and metadata.dtype == dtype:
        return f"is packed as {np.dtype(dtype)}, and stays so"
    if dtype == STRING or np.dtype(dtype).kind != "f":
        return ""
    units = str(metadata.attributes.get("units", "")).strip()
    if sampled is not None and sampled.step is not None and sampled.packed_ratio is not None:
        pays = sampled.packed_ratio / sampled.ratio >= _PAYS
        verdict = "pays where that is precise enough" if pays else "does not pay"
        return (
            f"a sample compresses {sampled.ratio:.1f} times as it is and {sampled.packed_ratio:.1f} times as 16-bit "
            f"numbers, in steps of {sampled.step:.2g} {units}".rstrip()
            + f" over its own range: packing {verdict}"
        )
    if sampled is not None:
        return f"a sample compresses {sampled.ratio:.1f} times, and holds no range to pack"
    span = _valid_range(metadata.attributes)
    if span is None:
        return "the metadata give no valid range, so none can be advised; --sample reads a little of the data"
    step = f"{(span[1] - span[0]) / STEPS:.2g} {units}".rstrip()
    return f"16-bit numbers over the valid range {span[0]:g} to {span[1]:g} would have steps of {step}"


def _valid_range(attributes: Attributes) -> tuple[float, float] | None:
    """The range that metadata give (CF conventions, chapter 2.5.1)."""
    both = attributes.get("valid_range")
    ends = both if isinstance(both, list) else [attributes.get("valid_min"), attributes.get("valid_max")]
    found = [value for one in ends if isinstance(value := number(one), int | float)]
    return (float(found[0]), float(found[1])) if len(found) == 2 and found[0] < found[1] else None  # noqa: PLR2004


def _middle(shape: tuple[int, ...], itemsize: int) -> tuple[slice, ...]:
    """A part that lies in the middle, as much of the last dimensions as fits."""
    room, found = max(1, SAMPLE_BYTES // itemsize), []
    for length in reversed(shape):
        taken = min(length, room)
        room //= taken
        found.append(slice((length - taken) // 2, (length - taken) // 2 + taken))
    return tuple(reversed(found))


def _compressed(values: Values, compression: Compression) -> int:
    """The size of values as Zarr stores them."""
    flat = values.reshape(-1)
    store: dict[str, Buffer] = {}
    zarr.create_array(store, data=flat, chunks=flat.shape, compressors=compressors(compression, flat.dtype.str))
    return max(1, sum(len(data) for key, data in store.items() if key.startswith("c/")))
