"""Advice on chunks, before anything is written: what sources hold, and what reading that costs, cut in several ways."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, Final, get_args

import numpy as np
import xarray as xr

from frazil.advising.analysis import Analysis, Priced, Variable
from frazil.advising.choose import READINGS, Reading, choose, choose_shards
from frazil.advising.cost import (
    Cut,
    Lengths,
    Reads,
    Shape,
    chunk_count,
    files_per_object,
    map_reads,
    nbytes_of,
    objects,
    series_reads,
)
from frazil.advising.sample import packing_of, sample_of
from frazil.advising.wish import TARGET_BYTES, Auto, reading_of, size_of
from frazil.execution.executor import Executor
from frazil.execution.serial import SerialExecutor
from frazil.job import Sources, named_files
from frazil.labels.compare import Accept
from frazil.lazy.encoded import as_dataset
from frazil.lazy.planned import given_sources
from frazil.planning.fresh import fit_new
from frazil.planning.inputs import expand
from frazil.planning.options import Options
from frazil.planning.scan import Sources as Scanned
from frazil.planning.scan import Wanted, scan_sources
from frazil.report import Listener, Progress, silent
from frazil.template.build import shape_in
from frazil.template.compression import DEFAULT, PRESETS
from frazil_functions.errors import InvalidInputError
from frazil_functions.reading.encoding import STRING
from frazil_functions.reading.opening import open_raw
from frazil_functions.reading.scanning import coordinate_names
from frazil_functions.template import ArrayTemplate, DatasetTemplate

_ACCEPTED: Final[frozenset[Accept]] = frozenset(get_args(Accept.__value__))
"""What files may differ in: it changes nothing about how long they are together."""


def analyze(  # noqa: PLR0913 - as many as `plan` has of them
    sources: Sources,
    *,
    reading: Reading = "balanced",
    target_size: str | int = TARGET_BYTES,
    append_dim: str | None = None,
    variables: str | Sequence[str] | None = None,
    engine: str | None = None,
    sample: bool = False,
    executor: Executor | None = None,
    listener: Listener = silent,
) -> Analysis:
    """Advise on chunks, shards and packing of files or a dataset. Reads metadata and labels alone; writes nothing.

    Parameters
    ----------
    sources
        Files or a dataset, as `frazil.plan` takes them; files count with all that they hold together.
    reading
        What is to be read fast: "temporal" (a time series at a point), "spatial" (a map at one time), or "balanced"
        (both).
    target_size
        The most bytes that a chunk has before compression: a number, or text as in "16MiB".
    append_dim, variables, engine
        As in `frazil.plan`.
    sample
        Whether to read up to 4 MiB of every variable, to estimate how well it compresses and packs.
    executor
        What reads the metadata of many files; this process by default.
    listener
        Told how far the work is.

    Raises
    ------
    InvalidInputError
        If the reading or the size is none, files cannot be read or do not go together, or nothing holds data.
    """
    auto = Auto(reading_of(reading), size_of(target_size))
    names = None if variables is None else (variables,) if isinstance(variables, str) else tuple(variables)
    wanted = Wanted(engine, append_dim, names)
    if isinstance(sources, xr.DataTree):
        raise InvalidInputError("a tree has no chunks of its own; analyze its nodes one by one (tree['/node'].dataset)")
    if isinstance(sources, xr.Dataset | xr.DataArray):
        found, words = given_sources(sources, wanted, None, "create")[0], "a dataset"
        opened: AbstractContextManager[xr.Dataset] = nullcontext(as_dataset(sources))
    else:
        urls = expand(named_files(sources))
        words = f"{len(urls)} file{'s' * (len(urls) > 1)}"
        with nullcontext(executor) if executor is not None else SerialExecutor() as calls:
            found = scan_sources(urls, wanted, calls, listener)
        first = found.files[0]
        opened = open_raw(first.url, first.engine, first.fingerprint)
    listener(Progress("plan"))
    with opened as dataset:
        return _analysis(found, dataset, auto, words, sample=sample)


def _analysis(found: Scanned, dataset: xr.Dataset, auto: Auto, words: str, *, sample: bool) -> Analysis:
    template = fit_new(found, Options(gaps="keep", accept=_ACCEPTED)).template
    arrays = _data(template)
    if not arrays:
        raise InvalidInputError(
            f"{found.files[0].url} holds labels and coordinates alone, and nothing that chunks matter to"
        )
    first, dim = found.files[0], found.append_dim
    shapes = {one.name: shape_in(first, one.name, template.sizes, one.dtype, dim) for one in arrays}
    together = auto.lengths(list(shapes.values()))
    shards = choose_shards([one for one in shapes.values() if one.nbytes], together)
    variables = []
    for one in arrays:
        shape, metadata = shapes[one.name], first.variables[one.name]
        own = dataset.variables[one.name]
        sampled = (
            sample_of(dataset, first.url, one.name, metadata, PRESETS[DEFAULT][shape.itemsize == 1]) if sample else None
        )
        choices = _choices(one, shape, auto, Cut(together, shards), own)
        packing = packing_of(metadata, one.dtype, sampled)
        variables.append(
            Variable(one.name, _type(one.dtype), dict(shape.lengths), shape.nbytes, packing, choices, sampled)
        )
    return Analysis(auto.reading, auto.target, words, dim, together, shards, tuple(variables))


def _type(dtype: str) -> str:
    return dtype if dtype == STRING else str(np.dtype(dtype))


def _data(template: DatasetTemplate) -> list[ArrayTemplate]:
    """The arrays that chunks are chosen for."""
    coordinates = coordinate_names({name: one.attributes for name, one in template.arrays.items()})
    return [one for one in template.arrays.values() if one.role == "data" and one.name not in coordinates]


def _choices(array: ArrayTemplate, shape: Shape, auto: Auto, together: Cut, own: xr.Variable) -> tuple[Priced, ...]:
    """The advised cut, and those that it may be compared with."""
    readings = [auto.reading, *(one for one in READINGS if one != auto.reading)]
    found = []
    for reading in readings:
        chunks = choose(shape, reading, auto.target)
        shards = choose_shards([shape], chunks)
        found.append(_priced(reading, shape, _cut(shape, chunks, shards)))
    common = _cut(shape, together.chunks, together.shards or {})
    found.append(_priced("together", shape, common))
    chosen = dict(zip(array.dims, array.chunks, strict=True))
    found.append(_priced("default", shape, Cut(chosen)))
    held = _held(own, array.dims)
    if held is not None:
        found.append(_in_files(shape, held))
    return tuple(found)


def _cut(shape: Shape, chunks: Lengths, shards: Lengths) -> Cut:
    lengths = {dim: chunks.get(dim, 1) for dim in shape.lengths}
    if not shards.keys() & lengths.keys():
        return Cut(lengths)
    return Cut(lengths, {dim: shards.get(dim, length) for dim, length in lengths.items()})


def _priced(name: str, shape: Shape, cut: Cut) -> Priced:
    return Priced(
        name,
        dict(cut.chunks),
        None if cut.shards is None else dict(cut.shards),
        chunk_count(shape, cut),
        objects(shape, cut),
        nbytes_of(shape, cut.chunks),
        nbytes_of(shape, cut.unit),
        series_reads(shape, cut),
        map_reads(shape, cut),
        files_per_object(shape, cut),
    )


def _held(variable: xr.Variable, dims: tuple[str, ...]) -> Cut | None:
    """How the first file, or a dataset, holds a variable; None if it is not cut."""
    said: Mapping[Any, Any] = variable.encoding
    chunks = said.get("chunksizes") or said.get("chunks") or said.get("preferred_chunks")
    if variable.chunks is not None:  # dask's own
        chunks = [max(lengths) for lengths in variable.chunks]
    if isinstance(chunks, Mapping):
        chunks = [chunks.get(dim, 1) for dim in dims]
    if not isinstance(chunks, list | tuple) or len(chunks) != len(dims) or not all(chunks):
        return None
    shards = said.get("shards") if variable.chunks is None else None
    lengths = {dim: int(length) for dim, length in zip(dims, chunks, strict=True)}
    return Cut(lengths, dict(zip(dims, map(int, shards), strict=True)) if shards else None)


def _in_files(shape: Shape, cut: Cut) -> Priced:
    """What the files' own chunks cost: none of them reaches from one file into the next."""
    each, times = shape, 1
    series, maps = 1, 1
    for dim, own in shape.file_lengths.items():
        if 0 < own < shape.lengths[dim]:
            each = replace(shape, lengths={**shape.lengths, dim: own})
            times = -(-shape.lengths[dim] // own)
            series, maps = times if dim == shape.series else 1, times if dim in shape.maps else 1
    priced = _priced("files", each, cut)
    return replace(
        priced,
        chunk_count=priced.chunk_count * times,
        object_count=times,
        object_bytes=None,
        series=Reads(priced.series.requests * series, priced.series.nbytes * series),
        map=Reads(priced.map.requests * maps, priced.map.nbytes * maps),
        files_per_object=1,
    )
