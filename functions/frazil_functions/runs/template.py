"""Writing the template into a session: metadata of every array, and values of what is written once.

Arrays are made through Zarr itself, so that the time it takes does not grow with their chunks.
"""

import warnings
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, Final, Literal, cast

import icechunk
import numpy as np
import zarr
import zarr.errors
from zarr.abc.codec import ArrayArrayCodec, ArrayBytesCodec, BytesBytesCodec
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec
from zarr.codecs.blosc import BloscCnameLiteral, BloscShuffleLiteral
from zarr.registry import get_codec_class

from frazil_functions.compression import BLOSC_MOST_ITEM, Compression
from frazil_functions.errors import ConflictError, ExistingGroupError, InvalidInputError, SourceError
from frazil_functions.layouts import Layout
from frazil_functions.locations import spoken
from frazil_functions.plan import Mode
from frazil_functions.reading.encoding import STRING, Values, fill_of, native, stored_attributes
from frazil_functions.reading.opening import open_raw, read_raw
from frazil_functions.reading.scanning import Labels
from frazil_functions.regions import plain_dim
from frazil_functions.tasks import FileSource
from frazil_functions.template import ArrayTemplate, DatasetTemplate, check_group
from frazil_functions.text import escaped, words
from frazil_functions.writing.targets import open_targets

_INTO: Final[dict[Mode, str]] = {
    "append": "append to",
    "region": "write a region of",
    "modify": "modify",
    "add": "add to",
}


def check_free(repo: icechunk.Repository, snapshot: str, group: str, *, overwrite: bool = False) -> None:
    """Refuse a group that exists, unless it may be overwritten.

    Raises
    ------
    ExistingGroupError
        If there is an array or a group at that path.
    InvalidInputError
        If it lies below an array, or is no path of a group.
    """
    check_group(group)
    store = repo.readonly_session(snapshot_id=snapshot).store
    for parent in [str(path) for path in PurePosixPath(group).parents if str(path) != "."]:
        if isinstance(_node(store, parent), zarr.Array):
            raise InvalidInputError(f"the group '/{group}' cannot be made, for '/{parent}' is an array; name another")
    there = _node(store, group)
    if there is None or (overwrite and isinstance(there, zarr.Group)):
        return
    if isinstance(there, zarr.Group) and not list(there.array_keys()):
        raise ExistingGroupError(
            f"the group '/{group}' exists in {spoken(repo)} already and holds no arrays. Name another one "
            "(--group), write into it (--mode add), or replace it with all groups below it (--mode overwrite)."
        )
    raise ExistingGroupError(
        f"the group '/{group}' exists in {spoken(repo)} already. Name another one (--group), write into it (--mode "
        "append, region, modify or add), or replace it with all that it holds (--mode overwrite)."
    )


def check_present(repo: icechunk.Repository, snapshot: str, group: str, mode: Mode) -> None:
    """Refuse a group that does not exist, where one is to be written into.

    Raises
    ------
    InvalidInputError
        Saying what there is.
    """
    check_group(group)
    node = _node(repo.readonly_session(snapshot_id=snapshot).store, group)
    if isinstance(node, zarr.Array):
        raise InvalidInputError(f"'/{group}' is an array, so there is nothing to {_INTO[mode]}; name a group")
    if node is None:
        raise InvalidInputError(
            f"the group '/{group}' does not exist, so there is nothing to {_INTO[mode]}; use --mode create"
        )
    if mode not in {"add", "modify"} and not list(node.array_keys()):
        raise InvalidInputError(
            f"the group '/{group}' holds no arrays, so there is nothing to {_INTO[mode]}; use --mode add"
        )


def _node(store: icechunk.IcechunkStore, path: str) -> zarr.Group | zarr.Array[Any] | None:
    try:
        return zarr.open(store, path=path, mode="r")
    except (FileNotFoundError, zarr.errors.NodeNotFoundError):
        return None


def write_template(
    session: icechunk.Session, group: str, template: DatasetTemplate, static: Mapping[str, Values], mode: Mode
) -> None:
    """Bring the group into the shape that the plan gives it, and write labels and what functions do not write.

    Parameters
    ----------
    session, group
        Where.
    template
        What is made, made longer, or given other attributes.
    static
        The values of its static arrays.
    mode
        Whether the group is made, made anew, or there already.

    Raises
    ------
    InvalidInputError
        If a label or another value that the plan holds is not of its array's type and shape.
    ConflictError
        If the group is not what the plan was made against: somebody else has changed it.
    """
    eager = {name: labels.values() for name, labels in template.labels.items()} | dict(static)
    for name, values in eager.items():
        _check_eager(template, template.arrays[name], values)
    with warnings.catch_warnings():
        # Strings of fixed length have no specification in Zarr 3 yet; Xarray and Zarr read them all the same.
        warnings.simplefilter("ignore", zarr.errors.UnstableSpecificationWarning)
        root = _open_root(session, group, template, mode)
        for path, attributes in template.groups.items():
            root.create_group(path, attributes=dict(attributes))
        for array in template.arrays.values():
            opened = _create(root, array) if array.before is None else _extend(root, array)
            if array.name in eager and array.nbytes:
                opened[_within(template, array)] = eager[array.name]


def _open_root(session: icechunk.Session, group: str, template: DatasetTemplate, mode: Mode) -> zarr.Group:
    if mode == "create":
        return zarr.open_group(session.store, path=group, mode="a", attributes=dict(template.attributes))
    if mode == "overwrite":
        return zarr.open_group(session.store, path=group, mode="w", attributes=dict(template.attributes))
    try:
        root = zarr.open_group(session.store, path=group, mode="r+")
    except (FileNotFoundError, zarr.errors.NodeNotFoundError, zarr.errors.ContainsArrayError) as error:
        raise ConflictError(
            f"the group '/{group}' is gone, and the plan writes into it. Nothing was published; plan again."
        ) from error
    if template.changes:
        root.attrs.update(template.changes)
    return root


def _within(template: DatasetTemplate, array: ArrayTemplate) -> tuple[slice, ...]:
    return tuple(slice(*template.extent(dim)) for dim in array.dims)


def _extend(root: zarr.Group, planned: ArrayTemplate) -> zarr.Array[Any]:
    """An array that is there already, as long as it is to be, and with the attributes that it is to have."""
    array = root.get(planned.name)
    found = (array.shape, array.chunks, array.shards) if isinstance(array, zarr.Array) else None
    if not isinstance(array, zarr.Array) or found != (planned.before, planned.chunks, planned.shards):
        is_now = f"has the shape {found[0]} in chunks of {found[1]}" if found else "is gone"
        raise ConflictError(
            f"{planned.name!r} {is_now}, and the plan writes to {planned.before} in chunks of {planned.chunks}: "
            "somebody else has changed it. Nothing was published; plan again."
        )
    if planned.shape != planned.before:
        array.resize(planned.shape)
    if planned.changes:
        array.attrs.update(stored_attributes(planned.dtype, planned.changes))
    return array


def _create(root: zarr.Group, array: ArrayTemplate) -> zarr.Array[Any]:
    dtype = "string" if array.dtype == STRING else array.dtype
    if array.layout is not None:
        return _create_referring(root, array, array.layout)
    return root.create_array(
        array.name,
        shape=array.shape,
        dtype=dtype,
        chunks=array.chunks,
        shards=array.shards,
        dimension_names=[plain_dim(dim) for dim in array.dims],
        attributes=stored_attributes(array.dtype, array.attributes),
        fill_value=fill_of(array.dtype, array.attributes),
        compressors=compressors(array.compression, array.dtype),
    )


def _create_referring(root: zarr.Group, array: ArrayTemplate, layout: Layout) -> zarr.Array[Any]:
    """An array whose chunks are those of files, decoded as these are stored."""
    filters: list[ArrayArrayCodec] = []
    compressing: list[BytesBytesCodec] = []
    serializer: ArrayBytesCodec | Literal["auto"] = "auto"
    for said in layout.codecs:
        codec = codec_of(said)
        match codec:
            case ArrayArrayCodec():
                filters.append(codec)
            case ArrayBytesCodec():
                serializer = codec
            case _:
                compressing.append(codec)
    return root.create_array(
        array.name,
        shape=array.shape,
        dtype=array.dtype,
        chunks=layout.chunks,
        dimension_names=[plain_dim(dim) for dim in array.dims],
        attributes=stored_attributes(array.dtype, array.attributes),
        fill_value=fill_of(array.dtype, array.attributes),
        filters=filters,
        serializer=serializer,
        compressors=compressing,
    )


def codec_of(said: Mapping[str, Any]) -> ArrayArrayCodec | ArrayBytesCodec | BytesBytesCodec:
    """The codec that a layout names.

    Raises
    ------
    InvalidInputError
        If Zarr does not know it here, or cannot be told so of it.
    """
    try:
        with warnings.catch_warnings():
            # Codecs of NumCodecs have no Zarr specification; Zarr reads them all the same.
            warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)
            found = get_codec_class(str(said["name"])).from_dict(dict(said))
    except (KeyError, ValueError, TypeError, ImportError) as error:
        raise InvalidInputError(
            f"Zarr cannot decode {escaped(str(said.get('name')))!r} here ({words(error)}); install the package that "
            "brings this codec, here, where functions run, and where the archive is read"
        ) from error
    assert isinstance(found, ArrayArrayCodec | ArrayBytesCodec | BytesBytesCodec)
    return found


def compressors(asked: Compression | None, dtype: str) -> Literal["auto"] | BytesBytesCodec | None:
    """What Zarr compresses the chunks of an array of a type with, those in a shard included."""
    if asked is None:
        return "auto"
    item = 1 if dtype == STRING else np.dtype(dtype).itemsize
    match asked.codec:
        case "none":
            return None
        case "zstd":
            return ZstdCodec(level=asked.level)
        case "gzip":
            return GzipCodec(level=asked.level)
    # Shuffled by another length than that of an element, values compress worse than not shuffled at all.
    return BloscCodec(
        typesize=item if item <= BLOSC_MOST_ITEM else 1,
        cname=cast("BloscCnameLiteral", asked.compressor),
        clevel=asked.level,
        shuffle=cast("BloscShuffleLiteral", asked.shuffle),
    )


def _check_eager(template: DatasetTemplate, array: ArrayTemplate, values: Values) -> None:
    """Refuse what Zarr would cast or broadcast, whatever became of the values."""
    shape = tuple(part.stop - part.start for part in _within(template, array))
    if array.dtype == STRING:
        fits = values.dtype.kind in "OTU"
    else:
        dtype = np.dtype(array.dtype)
        shorter = values.dtype.kind == dtype.kind == "S" and values.dtype.itemsize <= dtype.itemsize
        fits = shorter or values.dtype.newbyteorder("=") == dtype.newbyteorder("=")
    if not fits or values.shape != shape:
        raise InvalidInputError(
            f"the plan holds {values.dtype} of shape {values.shape} for {array.name!r}, which is {array.dtype} of "
            f"shape {shape}; plan again"
        )


def read_static(template: DatasetTemplate, first: FileSource) -> dict[str, Values]:
    """The values of the template's static arrays, from the first file.

    Raises
    ------
    SourceError
        If the file has changed since the plan was made, or cannot be read.
    """
    names = [array for array in template.arrays.values() if array.role == "static"]
    if not names:
        return {}
    found: dict[str, Values] = {}
    with open_raw(first.url, first.engine) as dataset:
        for array in names:
            values = read_raw(dataset, first.url, array.name, (slice(None),) * len(array.dims))
            if Labels.of(values).digest != array.digest:
                raise SourceError(f"{first.url}: {array.name!r} has changed since the plan was made; plan again")
            found[array.name] = values
    return found


def stored_static(session: icechunk.Session, group: str, template: DatasetTemplate) -> dict[str, Values]:
    """The values of the template's static arrays as a snapshot holds them, whatever became of the file."""
    names = [array.name for array in template.arrays.values() if array.role == "static"]
    arrays = open_targets(session, group, names, "r")
    return {name: native(np.asarray(array[...])) for name, array in arrays.items()}
