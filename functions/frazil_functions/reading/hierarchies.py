"""Zarr hierarchies: how arrays are stored, and which objects hold their chunks."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import obstore
import zarr
import zarr.storage
from obstore.store import LocalStore, ObjectStore
from zarr.codecs import ShardingCodec
from zarr.core.metadata import ArrayV2Metadata, ArrayV3Metadata

from frazil_functions.layouts import Layout
from frazil_functions.reading.remote import PATIENCE, is_remote, store_below
from frazil_functions.reading.stored import (
    Chunks,
    Stored,
    UnreferableError,
    plain_codecs,
    require_virtualizarr,
    unwarned,
)
from frazil_functions.storage import Patience

_PAGE: Final = 1000


class Hierarchy:
    """An open Zarr hierarchy, of format 2 or 3.

    Parameters
    ----------
    group
        Its topmost group.
    store
        What it lies in.
    """

    size = None
    """Its chunks are objects of their own."""

    def __init__(self, group: zarr.Group, store: ObjectStore) -> None:
        self._group = group
        self._store = store

    def stored(self, name: str, ndim: int) -> Stored:
        """How an array is stored; it has `ndim` dimensions."""
        array = self._array(name)
        if array.ndim != ndim:
            raise UnreferableError(f"it has {array.ndim} dimensions instead of {ndim}")
        return Stored(array_layout(array.metadata), array.shape, np.dtype(array.dtype))

    def chunks(self, name: str, ndim: int) -> Chunks:
        """Which objects hold its chunks, as a listing has them."""
        found = Chunks.none(self.stored(name, ndim).grid)
        keys = np.full(found.stored.shape, "", object)
        array = self._array(name)
        prefix, separator = _naming(array.metadata)
        start = f"{array.path}/"
        for page in obstore.list(self._store, array.path, chunk_size=_PAGE):
            for meta in page:
                index = _index(meta["path"].removeprefix(start), prefix, separator, found.stored.shape)
                if index is not None and meta["size"]:
                    keys[index], found.lengths[index], found.stored[index] = meta["path"], meta["size"], True
        return Chunks(found.offsets, found.lengths, found.stored, keys)

    def _array(self, name: str) -> zarr.Array[Any]:
        with unwarned():
            found = self._group.get(name)
        if not isinstance(found, zarr.Array):
            raise UnreferableError("the hierarchy has no array of this name")
        return found


def _naming(metadata: ArrayV2Metadata | ArrayV3Metadata) -> tuple[str, str]:
    """What the names of chunks begin with, and what separates the numbers in them."""
    if isinstance(metadata, ArrayV2Metadata):
        return "", metadata.dimension_separator
    said: Any = metadata.chunk_key_encoding.to_dict()
    separator = str(said["configuration"]["separator"])
    return ("c" if said["name"] == "default" else ""), separator


def _index(key: str, prefix: str, separator: str, grid: tuple[int, ...]) -> tuple[int, ...] | None:
    """The chunk of a name; None if it is that of something else."""
    if not grid:
        return () if key == (prefix or "0") else None
    numbers = key.split(separator)
    if prefix and numbers.pop(0) != prefix:
        return None
    if len(numbers) != len(grid) or not all(number.isdecimal() for number in numbers):
        return None
    index = tuple(map(int, numbers))
    return index if all(map(int.__lt__, index, grid)) else None


@contextmanager
def open_hierarchy(url: str, patience: Patience = PATIENCE) -> Iterator[Hierarchy]:
    """A Zarr hierarchy, here or behind a URL; raises what Zarr does."""
    store = store_below(url, patience) if is_remote(url) else LocalStore(Path(url).absolute())
    with unwarned():
        group = zarr.open_group(zarr.storage.ObjectStore(store, read_only=True), mode="r")
    yield Hierarchy(group, store)


def array_layout(metadata: ArrayV2Metadata | ArrayV3Metadata) -> Layout:
    """How an array stores its chunks; one of Zarr 2 is said as Zarr 3 would say it.

    Raises
    ------
    UnreferableError
        If they are parts of shards, or of different shapes, or if Zarr 3 cannot say it.
    """
    if isinstance(metadata, ArrayV2Metadata):
        metadata = _as_zarr_3(metadata)
    if any(isinstance(codec, ShardingCodec) for codec in metadata.codecs):
        raise UnreferableError("its chunks lie in shards, and one reference leads to one whole chunk")
    with unwarned():
        said = metadata.to_dict()
    grid: Any = said["chunk_grid"]
    if grid["name"] != "regular":
        raise UnreferableError("its chunks are of different shapes")
    codecs: Any = said["codecs"]
    return Layout(tuple(grid["configuration"]["chunk_shape"]), plain_codecs(codecs), said["fill_value"])


def _as_zarr_3(metadata: ArrayV2Metadata) -> ArrayV3Metadata:
    require_virtualizarr()
    from virtualizarr.parsers.zarr.common import metadata_as_v3  # noqa: PLC0415 - optional, and it takes a while

    try:
        with unwarned():
            return metadata_as_v3(metadata)
    except (ValueError, TypeError, KeyError, NotImplementedError) as error:
        raise UnreferableError(f"Zarr 3 cannot say how it is stored: {error}") from error
