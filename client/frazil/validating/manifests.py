"""Manifests: which chunks of an array are stored, and which of them are references, read in bulk."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Final

import icechunk
import numpy as np
import numpy.typing as npt
from zarr.core.sync import sync

type Mask = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
type Numbers = npt.NDArray[np.int64]

_VIRTUAL: Final = 2
"""What icechunk.ChunkType.virtual is among the kinds of chunks that `IcechunkStore.array_chunk_iterator` names."""


class Files:
    """The files that references lead into, each with a number, in the order in which they are met."""

    def __init__(self) -> None:
        self._numbers: defaultdict[str, int] = defaultdict()
        self._numbers.default_factory = self._numbers.__len__

    @property
    def urls(self) -> tuple[str, ...]:
        """By number."""
        return tuple(self._numbers)

    def numbered(self, urls: Sequence[str], which: Mask) -> Numbers:
        """The numbers of some of them; no Python runs for any one of a million."""
        return np.fromiter(map(self._numbers.__getitem__, compress(urls, which.tolist())), np.int64)


@dataclass(frozen=True, slots=True)
class Referred:
    """The chunks of an array that are references, in C order.

    Attributes
    ----------
    units
        Where each stands in the flattened grid of write units.
    files
        The number of the file that it leads into.
    ends
        Where it ends there, in bytes.
    """

    units: Numbers
    files: Numbers
    ends: npt.NDArray[np.uint64]

    def file_of(self, unit: int) -> int | None:
        """The number of the file that a write unit lies in; None if it is no reference."""
        at = int(np.searchsorted(self.units, unit))
        return int(self.files[at]) if at < len(self.units) and self.units[at] == unit else None

    def of(self, which: Mask) -> "Referred":
        """Some of them."""
        return Referred(self.units[which], self.files[which], self.ends[which])

    @property
    def last_of_each(self) -> "Referred":
        """The one that ends last in each file."""
        order = np.lexsort((self.ends, self.files))
        last = order[ends_of_runs(self.files[order])]
        return Referred(self.units[last], self.files[last], self.ends[last])

    @property
    def first_of_each(self) -> tuple[Numbers, Numbers, Numbers]:
        """Each file's number, its first chunk here, and how many it has."""
        numbers, firsts, counts = np.unique(self.files, return_index=True, return_counts=True)
        return numbers, self.units[firsts], counts


def ends_of_runs(values: Numbers) -> Mask:
    """Where a value is followed by another one, or by none."""
    found: Mask = np.ones(len(values), bool)
    found[:-1] = values[1:] != values[:-1]
    return found


@dataclass(frozen=True, slots=True)
class Held:
    """What a manifest says of an array: the write units that are stored, and which of them are references."""

    stored: Mask
    referred: Referred

    @classmethod
    def nothing(cls, counts: tuple[int, ...]) -> "Held":
        """Of an array of which nothing is stored, or known."""
        none: Numbers = np.zeros(0, np.int64)
        return cls(np.zeros(counts, bool), Referred(none, none, np.zeros(0, np.uint64)))


def read_manifest(session: icechunk.Session, path: str, counts: tuple[int, ...], files: Files) -> Held:
    """What is stored of an array; a chunk beyond its shape is left of when it was longer, and nobody reads it.

    Parameters
    ----------
    session
        Where it is read.
    path
        The array's, in the repository.
    counts
        How many write units it has along each dimension.
    files
        Where files get their numbers.

    Raises
    ------
    icechunk.IcechunkError
        If a manifest cannot be read.
    """
    return sync(_read(session, path, counts, files))


async def _read(session: icechunk.Session, path: str, counts: tuple[int, ...], files: Files) -> Held:
    held = Held.nothing(counts)
    flat = held.stored.reshape(-1)
    strides = np.cumprod([1, *counts[:0:-1]], dtype=np.int64)[::-1] if counts else np.zeros(0, np.int64)
    found = [held.referred]
    async for coords, kinds, urls, offsets, lengths, _ in session.store.array_chunk_iterator(f"/{path}"):
        inside = (coords < np.asarray(counts, np.int64)).all(axis=1)
        units = coords.astype(np.int64) @ strides
        flat[units[inside]] = True
        which: Mask = inside & (kinds == _VIRTUAL)
        if which.any():
            ends = offsets[which] + lengths[which]
            found.append(Referred(units[which], files.numbered(urls, which), ends))
    parts = [np.concatenate([getattr(one, name) for one in found]) for name in ("units", "files", "ends")]
    order = np.argsort(parts[0], kind="stable")
    return Held(held.stored, Referred(*(part[order] for part in parts)))
