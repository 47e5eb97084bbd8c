"""Building the template from what the files say of themselves; no data is read and none is made."""

from collections.abc import Mapping
from dataclasses import dataclass

from frazil.advising.axes import shape_of
from frazil.advising.cost import Shape
from frazil.template.chunking import (
    ChunkChoice,
    chunk_shape,
    fit_shards,
    label_chunk,
    made,
    shard_shape,
)
from frazil_functions.reading.encoding import Attributes
from frazil_functions.reading.scanning import FileMetadata, Labels, coordinate_names
from frazil_functions.template import ArrayTemplate, DatasetTemplate, Role, itemsize_of


@dataclass(frozen=True, slots=True)
class Recoding:
    """What cannot be copied as it is: types and attributes that the target has instead."""

    dtypes: Mapping[str, str]
    attributes: Mapping[str, Attributes]


def build(
    first: FileMetadata,
    labels: Mapping[str, Labels],
    append_dim: str | None,
    choice: ChunkChoice,
    recoding: Recoding,
) -> DatasetTemplate:
    """The template for files that are like `first` in all but their labels on the append dimension.

    Parameters
    ----------
    first
        The file that gives dimensions, types and attributes.
    labels
        The labels of every dimension that has some, by dimension.
    append_dim
        The dimension that the files follow each other on.
    choice
        Chunks and shards.
    recoding
        What the target stores in another way than the first file does.

    Raises
    ------
    InvalidInputError
        If chunks or shards do not fit.
    """
    sizes = first.sizes | {dim: len(found.values()) for dim, found in labels.items()}
    used = {dim for variable in first.variables.values() for dim in variable.dims}
    sizes = {dim: size for dim, size in sizes.items() if dim in used}
    coordinates = coordinate_names({name: variable.attributes for name, variable in first.variables.items()})
    dtypes = {name: recoding.dtypes.get(name, variable.dtype) for name, variable in first.variables.items()}
    roles = {
        name: role_of(name, variable.dims, append_dim, variable.digest, labelled=name in labels)
        for name, variable in first.variables.items()
    }
    # What a user asks for is meant for data; labels and bounds of 24 elements would be a request each.
    data = {name for name, role in roles.items() if role == "data" and name not in coordinates}
    chosen = made(choice, [shape_in(first, name, sizes, dtypes[name], append_dim) for name in sorted(data)], sizes)
    arrays = {}
    for name, variable in first.variables.items():
        dtype, role = dtypes[name], roles[name]
        shape = tuple(sizes[dim] for dim in variable.dims)
        own = chosen if name in data else ChunkChoice({}, {})
        chunks = chunk_shape(variable.dims, shape, itemsize_of(dtype), own.chunks, append_dim)
        chunks = fit_shards(variable.dims, chunks, own)
        if role == "labels" and name == append_dim:
            chunks = (label_chunk(shape[0]),)
        arrays[name] = ArrayTemplate(
            name=name,
            dims=variable.dims,
            shape=shape,
            dtype=dtype,
            chunks=chunks,
            shards=shard_shape(name, variable.dims, shape, chunks, own.shards),
            attributes=recoding.attributes.get(name, variable.attributes),
            role=role,
            digest=labels[name].digest if role == "labels" else variable.digest,
        )
    return DatasetTemplate(sizes, append_dim, first.attributes, arrays, dict(labels))


def shape_in(file: FileMetadata, name: str, sizes: Mapping[str, int], dtype: str, append_dim: str | None) -> Shape:
    """A variable as far as cutting it matters.

    Parameters
    ----------
    file
        One that has it, as long as it is itself.
    name
        The variable.
    sizes
        The length of every dimension, over all files.
    dtype
        The type that the target gives it.
    append_dim
        The dimension that files follow each other on.
    """
    variable = file.variables[name]
    lengths = {dim: sizes[dim] for dim in variable.dims}
    own = dict(zip(variable.dims, variable.shape, strict=True)).get(append_dim or "", 0)
    coordinates = {dim: file.variables[dim].attributes for dim in variable.dims if dim in file.variables}
    return shape_of(name, lengths, itemsize_of(dtype), coordinates, append_dim, own)


def role_of(
    name: str,
    dims: tuple[str, ...],
    append_dim: str | None,
    digest: str | None,
    *,
    labelled: bool,
) -> Role:
    """Who writes an array, by its dimensions and what is known of its values."""
    if dims == (name,) and labelled:
        return "labels"
    # A digest was taken of what is small enough to be read once by the client.
    if append_dim not in dims and digest is not None:
        return "static"
    return "data"
