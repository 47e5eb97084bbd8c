"""Copying: what references lead to is kept in the repository, byte for byte as the files store it.

Nothing is decoded, so nothing can be encoded otherwise, and codecs that only decode will do.
"""

import asyncio
from typing import Any, Final

import google_crc32c
import icechunk
import zarr
from zarr.core.buffer import Buffer, default_buffer_prototype

from frazil_functions.damage import file_damage
from frazil_functions.errors import BackendError, SourceError
from frazil_functions.grids import WriteGrid
from frazil_functions.regions import Region
from frazil_functions.tasks import RegionReceipt
from frazil_functions.text import words
from frazil_functions.writing.parts import Part

_AT_ONCE: Final = 32
"""How many chunks of a region are asked for at once."""


async def copy_region(region: Region, source: icechunk.ForkSession, part: Part) -> RegionReceipt:
    """Copy the chunks of a region as they are stored into every fork of a part; one that is not stored is removed.

    Parameters
    ----------
    region
        Of whole write units.
    source
        A fork of what is copied, of the same arrays.
    part
        Where they go.

    Raises
    ------
    SourceError
        If a file has changed since it was referred to, is gone, or is shorter than it was.
    BackendError
        If the repository cannot be read or written.
    """
    targets = [named[region.array] for named in part.targets]
    array, grid = targets[-1].array, targets[-1].grid
    found = await stored_chunks(source.store, region, array, grid)
    try:
        for target, fork in zip(targets, part.forks, strict=True):
            keys = [_key(target.array, index) for index in grid.units(region)]
            await asyncio.gather(
                *(
                    fork.store.delete(key) if chunk is None else fork.store.set(key, chunk)
                    for key, chunk in zip(keys, found, strict=True)
                )
            )
    except icechunk.IcechunkError as error:
        raise BackendError(f"{region} could not be written: {words(error)}") from error
    return RegionReceipt(region, len(found), region.size * array.dtype.itemsize, chunks_checksum(found))


async def stored_chunks(
    store: icechunk.IcechunkStore, region: Region, array: zarr.Array[Any], grid: WriteGrid
) -> list[Buffer | None]:
    """The chunks of a region as they are stored, in C order; None for one that is not.

    Raises
    ------
    SourceError, BackendError
        As `copy_region` does.
    """
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(index: tuple[int, ...]) -> Buffer | None:
        async with room:
            return await store.get(_key(array, index), default_buffer_prototype())

    try:
        return list(await asyncio.gather(*map(one, grid.units(region))))
    except icechunk.IcechunkError as error:
        gone = error.kind == icechunk.ErrorKind.OBJECT_NOT_FOUND  # a chunk that was copied before
        told = "its object is gone from the storage" if gone else file_damage(error)
        if told:
            raise SourceError(f"{region} could not be read: {told}") from error
        raise BackendError(f"{region} could not be read: {words(error)}") from error


def chunks_checksum(chunks: list[Buffer | None]) -> int:
    """A checksum of chunks as they are stored."""
    crc = 0
    for chunk in chunks:
        own = b"" if chunk is None else google_crc32c.value(chunk.to_bytes()).to_bytes(4)
        crc = google_crc32c.extend(crc, len(own).to_bytes(1) + own)
    return crc


def _key(array: zarr.Array[Any], index: tuple[int, ...]) -> str:
    return f"{array.path}/{array.metadata.encode_chunk_key(index)}"
