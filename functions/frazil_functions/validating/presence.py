"""Presence: whether every chunk that manifests promise is in the storage, to its last byte, without reading it.

Icechunk knows each object's length, so the last byte of a chunk comes back only if the object is there and
long enough: one small request a chunk. Of a shard, the index at its end is read, and its checksum compared.

The same request for a chunk that lies in a file tells of the file: whether it is there, reaches as far, and is still
the one that was referred to, for Icechunk asks its storage for no other.
"""

import asyncio
import math
from collections.abc import Iterable
from typing import Any, Final

import google_crc32c
import icechunk
import zarr
from zarr.abc.store import SuffixByteRequest
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec
from zarr.core.buffer import default_buffer_prototype

from frazil_functions.damage import CUT_OFF, damage
from frazil_functions.validating.tasks import ChunkFault, Part
from frazil_functions.validating.values import grid_of

_AT_ONCE: Final = 64
_ENTRY: Final = 16
"""Bytes of a shard's index for each chunk in it: offset and length (Zarr's sharding codec, version 1.0)."""
_CHECKSUM: Final = 4


async def find_missing(
    store: icechunk.IcechunkStore, array: zarr.Array[Any], part: Part
) -> tuple[int, list[ChunkFault]]:
    """How many write units of a part are stored, and those of them that are damaged.

    Raises
    ------
    BackendError
        If the storage does not answer.
    """
    region = part.region
    length = _index_length(array) if part.look == "present" else 0
    room = asyncio.Semaphore(_AT_ONCE)

    async def look(index: tuple[int, ...]) -> tuple[bool, ChunkFault | None]:
        key = "/".join((*filter(None, array.path.split("/")), array.metadata.encode_chunk_key(index)))
        async with room:
            try:
                found = await store.get(key, default_buffer_prototype(), byte_range=SuffixByteRequest(length or 1))
            except Exception as error:  # noqa: BLE001 - `damage` raises what is none
                return True, ChunkFault(index, damage(error, f"the chunk {list(index)} of {region.array!r}"))
        if found is None:
            return False, None
        return True, _fault_of_index(index, found.to_bytes(), length) if length else None

    units: Iterable[tuple[int, ...]] = part.units or grid_of(array, region.array, region.dims).units(region)
    stored, faults, waiting = 0, [], list(units)
    for start in range(0, len(waiting), _AT_ONCE * _AT_ONCE):  # a million tasks at once take a gigabyte
        for here, fault in await asyncio.gather(*map(look, waiting[start : start + _AT_ONCE * _AT_ONCE])):
            stored += here
            faults += [fault] if fault is not None else []
    return stored, faults


def _index_length(array: zarr.Array[Any]) -> int:
    """The bytes of the index at the end of each shard; 0 if it has none that is known."""
    codecs: tuple[object, ...] = getattr(array.metadata, "codecs", ())
    sharding = codecs[0] if len(codecs) == 1 else None
    if array.shards is None or not isinstance(sharding, ShardingCodec):
        return 0
    plain = [type(codec) for codec in sharding.index_codecs] == [BytesCodec, Crc32cCodec]
    location: object = sharding.index_location  # an enumeration in some versions of Zarr, its text in others
    if not plain or getattr(location, "value", location) != "end":
        return 0
    counts = (-(-shard // chunk) for shard, chunk in zip(array.shards, sharding.chunk_shape, strict=True))
    return _ENTRY * math.prod(counts) + _CHECKSUM


def _fault_of_index(index: tuple[int, ...], data: bytes, length: int) -> ChunkFault | None:
    if len(data) < length:  # a range that reaches beyond an object gives what there is of it
        return ChunkFault(index, CUT_OFF)
    if google_crc32c.value(data[:-_CHECKSUM]) == int.from_bytes(data[-_CHECKSUM:], "little"):
        return None
    return ChunkFault(index, "the checksum of the shard's index does not match; it is damaged")
