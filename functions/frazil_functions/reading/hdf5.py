"""HDF5, and so NetCDF-4: how datasets are stored, and where their chunks lie in the file."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from frazil_functions.reading.remote import PATIENCE, Pages, RemoteFile, is_remote
from frazil_functions.reading.stored import Chunks, Stored, UnreferableError, grid_of, stored_as
from frazil_functions.storage import Patience
from frazil_functions.text import escaped

_DEFLATE: Final = 1
_SHUFFLE: Final = 2
_FLETCHER32: Final = 3
_BZIP2: Final = 307
_BLOSC: Final = 32001
_ZSTD: Final = 32015
"""Numbers of filters: https://github.com/HDFGroup/hdf5_plugins/blob/master/docs/RegisteredFilterPlugins.md."""

_BLOSC_COMPRESSORS: Final = {0: "blosclz", 1: "lz4", 2: "lz4hc", 4: "zlib", 5: "zstd"}  # Zarr's has no snappy
_BLOSC_VALUES: Final = 7
_CHECKSUM_BYTES: Final = 4
_HIDDEN: Final = "_nc4_non_coord_"
"""What the netCDF library puts before the name of a variable that is named like a dimension and is no coordinate."""

_BATCH: Final = 1 << 14


class Hdf5File:
    """An open HDF5 file.

    Parameters
    ----------
    file
        The open `h5py.File`.
    size
        The length of the file in bytes.
    """

    def __init__(self, file: Any, size: int) -> None:  # noqa: ANN401 - h5py has no types
        self._file = file
        self._size = size

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return self._size

    def stored(self, name: str, ndim: int) -> Stored:
        """How a variable is stored."""
        return _stored(self._dataset(name), ndim)

    def chunks(self, name: str, ndim: int) -> Chunks:
        """Where its chunks lie.

        One that a filter was left out of counts as not stored: HDF5 remembers that for each chunk, and Zarr cannot.
        """
        dataset = self._dataset(name)
        stored = _stored(dataset, ndim)
        found = Chunks.none(stored.grid)
        if dataset.chunks is None:
            offset = dataset.id.get_offset()
            if offset is not None and dataset.size:
                found.offsets[...], found.lengths[...] = offset, dataset.id.get_storage_size()
                found.stored[...] = found.lengths == math.prod(stored.shape) * stored.dtype.itemsize
            return found
        nbytes = math.prod(dataset.chunks) * dataset.dtype.itemsize
        filtered = dataset.id.get_create_plist().get_nfilters() > 0
        grid = grid_of(dataset.shape, dataset.chunks)
        flat = Chunks(found.offsets.reshape(-1), found.lengths.reshape(-1), found.stored.reshape(-1))
        for starts, masks, offsets, lengths in _batches(dataset):
            index = starts // np.array(dataset.chunks)
            inside = (index < np.array(grid)).all(axis=1)
            at = np.ravel_multi_index(tuple(index[inside].T), grid)
            flat.offsets[at], flat.lengths[at] = offsets[inside], lengths[inside]
            flat.stored[at] = (masks[inside] == 0) & (filtered | (lengths[inside] == nbytes))
        return found

    def _dataset(self, name: str) -> Any:  # noqa: ANN401 - as above
        import h5py  # noqa: PLC0415 - not every function reads HDF5, and it takes a while

        hidden = _HIDDEN + name
        found = self._file.get(hidden if hidden in self._file else name)
        if not isinstance(found, h5py.Dataset):
            raise UnreferableError("the file has no dataset of this name")
        if h5py.h5f.get_name(found.id) != h5py.h5f.get_name(self._file.id):
            raise UnreferableError("it is a link into another file")
        return found


@contextmanager
def open_hdf5(
    url: str, mark: str = "", pages: Pages | None = None, patience: Patience = PATIENCE
) -> Iterator[Hdf5File]:
    """An HDF5 file, here or behind a URL; raises what h5py does."""
    import h5py  # noqa: PLC0415 - as above

    if is_remote(url):
        with RemoteFile(url, mark, pages, patience) as remote, h5py.File(remote, "r") as file:
            yield Hdf5File(file, remote.size)
    else:
        with h5py.File(url, "r") as file:
            yield Hdf5File(file, Path(url).stat().st_size)


def _batches(dataset: Any) -> Iterator[tuple[Any, Any, Any, Any]]:  # noqa: ANN401 - as above
    """Of a dataset's chunks, some at a time: where they start, which filters were left out, offsets and lengths.

    HDF5 asks a function for each chunk; what that holds is turned into arrays before there is much of it.
    """
    batches: list[tuple[Any, Any, Any, Any]] = []
    kept: list[Any] = []

    def turn() -> None:
        starts, masks, offsets, lengths = zip(*kept, strict=True)
        kept.clear()
        batches.append(
            (np.array(starts, "i8"), np.array(masks, "u4"), np.array(offsets, "u8"), np.array(lengths, "u8"))
        )

    def take(chunk: Any) -> None:  # noqa: ANN401 - as above
        kept.append(chunk)
        if len(kept) == _BATCH:
            turn()

    dataset.id.chunk_iter(take)
    if kept:
        turn()
    yield from batches


def _stored(dataset: Any, ndim: int) -> Stored:  # noqa: ANN401 - as above
    import h5py  # noqa: PLC0415 - as above

    if dataset.shape is None:
        raise UnreferableError("it has no values")
    created = dataset.id.get_create_plist()
    kind = created.get_layout()
    if kind == h5py.h5d.COMPACT:
        raise UnreferableError("its values lie within the file's metadata (compact storage)")
    if kind == h5py.h5d.VIRTUAL:
        raise UnreferableError("its values lie in other datasets (a virtual dataset of HDF5)")
    if created.get_external_count():
        raise UnreferableError("its values lie in other files (external storage)")
    _check_type(dataset.id.get_type())
    dtype, shape = np.dtype(dataset.dtype.str), tuple(dataset.shape)
    contiguous = kind == h5py.h5d.CONTIGUOUS
    chunks = tuple(max(1, length) for length in shape) if contiguous else tuple(dataset.chunks)
    codecs = _codecs(created, math.prod(chunks) * dtype.itemsize)
    try:
        fill = dataset.fillvalue
    except RuntimeError:  # there is none
        fill = None
    if isinstance(fill, np.generic):
        fill = fill.item()
    return stored_as(dtype, shape, chunks, fill, codecs, contiguous=contiguous, ndim=ndim)


def _check_type(kind: Any) -> None:  # noqa: ANN401 - h5py has no types
    """Refuse what NumPy reads in another way than byte by byte."""
    from h5py import h5t  # noqa: PLC0415 - as above

    if kind.get_class() == h5t.ENUM:
        kind = kind.get_super()
    found = kind.get_class()
    if found in {h5t.INTEGER, h5t.FLOAT}:
        if not kind.equal(h5t.py_create(kind.dtype)):
            raise UnreferableError("its numbers are stored in a way that Zarr does not know")
        return
    if found != h5t.STRING:
        names = {h5t.COMPOUND: "compound", h5t.VLEN: "rows of differing lengths", h5t.OPAQUE: "opaque"}
        raise UnreferableError(f"its type is not one of Zarr's ({names.get(found, 'another class of HDF5')})")
    if kind.is_variable_str():
        raise UnreferableError("its strings have no fixed length, and lie elsewhere in the file")
    if kind.get_size() > 1 and (kind.get_strpad() != h5t.STR_NULLPAD or kind.get_cset() != h5t.CSET_ASCII):
        raise UnreferableError("its strings are padded or encoded in a way that Zarr does not know")


def _codecs(created: Any, nbytes: int) -> list[dict[str, Any]]:  # noqa: ANN401 - as above
    """Zarr's codecs for the filters of chunks of a length, in the order of encoding."""
    length: int | None = nbytes  # of what a filter is given, as long as that is the same for all chunks
    codecs = []
    for number in range(created.get_nfilters()):
        code, _, values, title = created.get_filter(number)
        codecs.append(_codec(code, values, title))
        if code == _SHUFFLE:
            if length is None or length % values[0]:  # HDF5 leaves the rest as it is; Zarr's codec refuses one
                raise UnreferableError(f"{length or 'any number of'} bytes are shuffled by {values[0]}")
        else:
            length = length + _CHECKSUM_BYTES if code == _FLETCHER32 and length is not None else None
    return codecs


def _codec(code: int, values: tuple[int, ...], title: bytes) -> dict[str, Any]:
    """What VirtualiZarr says of a filter; it takes further packages for those that are not HDF5's own."""
    said: dict[str, Any] | None = None
    if code == _DEFLATE:
        said = {"name": "zlib", "level": values[0]}
    elif code == _SHUFFLE:
        said = {"name": "shuffle", "elementsize": values[0]}
    elif code == _FLETCHER32:
        said = {"name": "fletcher32"}
    elif code == _BZIP2:
        said = {"name": "bz2", "level": values[0]}
    elif code == _ZSTD:
        said = {"name": "zstd", "level": values[0] if values else 0, "checksum": False}
    elif code == _BLOSC and len(values) >= _BLOSC_VALUES:
        _, _, _, blocksize, clevel, shuffle, compressor = values[:_BLOSC_VALUES]
        if compressor in _BLOSC_COMPRESSORS:
            compressed = {"cname": _BLOSC_COMPRESSORS[compressor], "clevel": clevel}
            said = {"name": "blosc", "blocksize": blocksize, "shuffle": shuffle, **compressed}
    if said is None:
        called = escaped(title.decode(errors="replace"))
        raise UnreferableError(f"none of Zarr's codecs undoes the HDF5 filter {code} ({called})")
    return {"name": f"numcodecs.{said.pop('name')}", "configuration": said}
