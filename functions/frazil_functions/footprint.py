"""How many bytes a function handles, and holds at once, for a region."""

from collections.abc import Collection, Sequence
from typing import Final

from frazil_functions.regions import Region
from frazil_functions.tasks import FileSource
from frazil_functions.template import DatasetTemplate, itemsize_of

REFERENCE_BYTES: Final = 4096
"""What it takes to find and keep one reference, in bytes of values that could be copied meanwhile: some 20 µs."""

COPIED_BYTES: Final = 8 << 20
"""How many bytes of values are copied at once of a region that files do not hold whole, unless a chunk is larger."""


def referring(template: DatasetTemplate, sources: Sequence[FileSource]) -> frozenset[str]:
    """Arrays that refer to the chunks of all their sources, so that next to nothing of them is copied."""
    copied = {name for source in sources for name in source.copied}
    return frozenset(name for name, array in template.arrays.items() if array.refers and name not in copied)


def handled_nbytes(template: DatasetTemplate, region: Region, referring: Collection[str]) -> int:
    """The bytes that a function handles for a region: its values, or what stands for its references.

    Parameters
    ----------
    template, region
        What is written.
    referring
        Arrays that refer to the chunks of all their sources.
    """
    array = template.arrays[region.array]
    if region.array in referring:
        return REFERENCE_BYTES * array.grid.count(region)
    return region.size * itemsize_of(array.dtype)


def held_nbytes(template: DatasetTemplate, region: Region, referring: Collection[str]) -> int:
    """The bytes that a function holds at once for a region; of chunks that no file has whole, the values after all."""
    array = template.arrays[region.array]
    whole = region.size * itemsize_of(array.dtype)
    if region.array not in referring:
        return whole
    return max(handled_nbytes(template, region, referring), min(whole, max(COPIED_BYTES, array.chunk_nbytes)))
