"""scan_task: read what files hold besides their data: dimensions, variables, attributes, labels.

Labels (the coordinates of dimensions) come back whole, once for all files that share them. Other
variables that stand outside of the append dimension come back as digests, so that files can be
compared without carrying them around.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import icechunk
import msgspec
import numpy as np
import xarray as xr

from frazil_functions.decoding import from_msgpack
from frazil_functions.errors import ReceiptError, SourceError, UnreachableSourceError
from frazil_functions.layouts import Layout
from frazil_functions.reading.encoding import (
    STRING,
    Attributes,
    Values,
    json_attributes,
    native_attributes,
)
from frazil_functions.reading.layouts_of import layouts_in, layouts_of
from frazil_functions.reading.opening import (
    HalfPrecisionError,
    RaggedError,
    check_unchanged,
    fingerprint,
    guess_engine,
    open_raw,
    open_raw_store,
    read_raw,
)
from frazil_functions.reading.remote import PATIENCE, Pages
from frazil_functions.storage import Patience

UNSUPPORTED: Final = "unsupported "
"""What stands before the name of a type that Zarr does not have."""

DIGEST_BYTES: Final = 64 << 20
"""The largest variable beside the coordinates that is compared between files, in bytes."""


@dataclass(frozen=True, slots=True)
class ScanTask:
    """Files whose metadata one function reads.

    Attributes
    ----------
    urls
        Where they are.
    engine
        The Xarray engine for all of them; None to tell by the first bytes of each.
    append_dim
        The dimension that they follow each other on, once it is known.
    digests
        Whether to read and digest the variables that stand outside of it.
    layouts
        Whether to look how their chunks are stored.
    """

    urls: tuple[str, ...]
    engine: str | None
    append_dim: str | None
    digests: bool
    layouts: bool = False


@dataclass(frozen=True, slots=True)
class Labels:
    """Values of one coordinate, as data.

    Attributes
    ----------
    dtype
        A NumPy type in little-endian order ("<f8", "<U12").
    shape
        One length for each dimension.
    data
        The elements in C order.
    """

    dtype: str
    shape: tuple[int, ...]
    data: bytes

    @classmethod
    def of(cls, values: Values) -> "Labels":
        """The values as data; strings at the length of the longest."""
        if values.dtype.kind in "OT":
            values = values.astype(object).astype(str)  # by way of objects, for NumPy does not know the length else
        little = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"), copy=False))
        return cls(little.dtype.str, values.shape, little.tobytes())

    def values(self) -> Values:
        """The values again, an array of `shape` and `dtype`."""
        return np.frombuffer(self.data, self.dtype).reshape(self.shape)

    @property
    def digest(self) -> str:
        """Equal for equal types, shapes and elements."""
        return hashlib.sha256(f"{self.dtype}{self.shape}".encode() + self.data).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class VariableMetadata:
    """What a file says of one variable.

    Attributes
    ----------
    dims, shape
        Names and lengths of its dimensions.
    dtype
        A NumPy type in little-endian order, or "string".
    attributes
        As stored in the file, nothing decoded.
    digest
        Of its values: those of a dimension's labels always, others if the task asked for them.
    decoded
        The type that a packed variable has when it is unpacked; None if it is not packed.
    layout
        How its chunks are stored, or why nothing can refer to them; None if the task did not ask.
    sorted_digest
        Of its values as they would stand if all labels rose, where `digest` is of others than labels.
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    attributes: Attributes
    digest: str | None
    decoded: str | None = None
    layout: Layout | str | None = None
    sorted_digest: str | None = None


@dataclass(frozen=True, slots=True)
class FileMetadata:
    """What a file holds besides its data; `error` alone if it cannot be read."""

    url: str
    engine: str = ""
    fingerprint: str = ""
    sizes: dict[str, int] = field(default_factory=dict)
    attributes: Attributes = field(default_factory=dict)
    variables: dict[str, VariableMetadata] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Scan:
    """What a scan found.

    Attributes
    ----------
    files
        One for each URL, in the task's order.
    labels
        The labels that the files' digests name.
    """

    files: tuple[FileMetadata, ...]
    labels: dict[str, Labels]


def scan_task(task: ScanTask, patience: Patience = PATIENCE) -> Scan:
    """Read the metadata of the task's files. A file that cannot be read is an entry, not an error.

    Raises
    ------
    UnreachableSourceError
        If the storage of one does not answer; the same call may succeed later.
    """
    labels: dict[str, Labels] = {}
    files = []
    for url in task.urls:
        try:
            files.append(_scan_file(url, task, labels, patience))
        except UnreachableSourceError:
            raise
        except SourceError as error:
            files.append(FileMetadata(url, error=str(error)))
    return Scan(tuple(files), labels)


def scan_store(
    store: icechunk.IcechunkStore, url: str, group: str, append_dim: str | None = None
) -> tuple[FileMetadata, dict[str, Labels]]:
    """What a group of a repository holds besides its data, as a file would say it; and its labels.

    It says how the chunks of every variable are stored. What stands outside of the append dimension is digested, once
    that is given.

    Raises
    ------
    SourceError
        If it cannot be read.
    """
    labels: dict[str, Labels] = {}
    task = ScanTask((url,), "zarr", append_dim, digests=append_dim is not None)
    with open_raw_store(store, url, group) as dataset:
        sizes = {str(dim): length for dim, length in dataset.sizes.items()}
        variables = dict(_variables(dataset, url, task, labels, layouts_in(store, url, group)))
        return FileMetadata(url, "zarr", "", sizes, json_attributes(dataset.attrs), variables), labels


def _scan_file(url: str, task: ScanTask, labels: dict[str, Labels], patience: Patience) -> FileMetadata:
    engine = task.engine or guess_engine(url, patience)
    try:
        return _scan_with(engine, url, task, labels, patience)
    except HalfPrecisionError:
        if task.engine is not None:
            raise
        return _scan_with("h5netcdf", url, task, labels, patience)


def _scan_with(engine: str, url: str, task: ScanTask, labels: dict[str, Labels], patience: Patience) -> FileMetadata:
    mark, pages = fingerprint(url, patience), Pages()
    with open_raw(url, engine, mark, pages, patience) as dataset:
        variables = {str(name): variable for name, variable in dataset.variables.items()}
        layouts = layouts_of(url, engine, variables, mark, pages, patience) if task.layouts else {}
        found = FileMetadata(
            url=url,
            engine=engine,
            fingerprint=mark,
            sizes={str(dim): length for dim, length in dataset.sizes.items()},
            attributes=json_attributes(dataset.attrs),
            variables=dict(_variables(dataset, url, task, labels, layouts)),
        )
    check_unchanged(url, mark, patience)
    return found


def _variables(
    dataset: xr.Dataset, url: str, task: ScanTask, labels: dict[str, Labels], layouts: dict[str, Layout | str]
) -> Iterator[tuple[str, VariableMetadata]]:
    coordinates = coordinate_names({str(k): json_attributes(v.attrs) for k, v in dataset.variables.items()})
    orders: dict[str, Values | None] = {}
    for key, variable in dataset.variables.items():
        name, dims = str(key), tuple(str(dim) for dim in variable.dims)
        attributes = native_attributes(variable.dtype, json_attributes(variable.attrs))
        dtype, digest, rising = stored_dtype(variable), None, None
        if dims == (name,) or _is_digested(name, variable, task, coordinates):
            try:
                found = Labels.of(read_raw(dataset, url, name, (slice(None),) * len(dims)))
            except RaggedError:  # Xarray tells the type of the elements alone; it matters if the variable is wanted
                dtype = f"{UNSUPPORTED}{variable.dtype} in rows of differing lengths"
            else:
                digest = found.digest
                if dims == (name,):
                    labels[digest] = found
                else:
                    rising = _sorted(found, dims, dataset, url, orders).digest
        decoded = decoded_dtype(variable, url, name)
        shape = tuple(variable.shape)  # some engines have a list
        yield name, VariableMetadata(dims, shape, dtype, attributes, digest, decoded, layouts.get(name), rising)


def _sorted(
    found: Labels, dims: tuple[str, ...], dataset: xr.Dataset, url: str, orders: dict[str, Values | None]
) -> Labels:
    """Values as they would stand if the labels of every dimension rose; `orders` are those that are known."""
    values = found.values()
    for axis, dim in enumerate(dims):
        if dim not in orders:
            orders[dim] = _order(dim, dataset, url)
        order = orders[dim]
        if order is not None:
            values = np.take(values, order, axis)
    return Labels.of(values)


def _order(dim: str, dataset: xr.Dataset, url: str) -> Values | None:
    """The order in which the labels of a dimension rise; None if they do, or there are none."""
    variable = dataset.variables.get(dim)
    if variable is None or variable.dims != (dim,) or stored_dtype(variable).startswith(UNSUPPORTED):
        return None
    try:
        labels = Labels.of(read_raw(dataset, url, dim, (slice(None),))).values()
    except RaggedError:  # they are no labels, which matters if they are wanted
        return None
    order = np.argsort(labels, kind="stable")
    return None if (order == np.arange(len(order))).all() else order


def _is_digested(name: str, variable: xr.Variable, task: ScanTask, coordinates: frozenset[str]) -> bool:
    if not task.digests or task.append_dim in variable.dims or stored_dtype(variable).startswith(UNSUPPORTED):
        return False
    return name in coordinates or variable.nbytes <= DIGEST_BYTES


def coordinate_names(attributes: dict[str, Attributes]) -> frozenset[str]:
    """Variables that others name as their coordinates or bounds (CF conventions, chapters 5 and 7.1)."""
    named = (
        str(own[key]).split()
        for own in attributes.values()
        for key in ("coordinates", "bounds", "climatology", "formula_terms")
        if isinstance(own.get(key), str)
    )
    return frozenset(name.rstrip(":") for names in named for name in names) & attributes.keys()


def stored_dtype(variable: xr.Variable) -> str:
    """The type that the target gives a variable: its own in little-endian order, or "string".

    A type that Zarr does not have comes back behind `UNSUPPORTED`; it matters only if the
    variable is wanted.
    """
    kind = variable.dtype.kind
    if kind in "UT" or (kind == "O" and _is_text(variable)):
        return STRING
    if kind in "mM":
        return "<i8"
    if kind in "biufcS":
        return str(variable.dtype.newbyteorder("<").str)
    return f"{UNSUPPORTED}{variable.dtype}"


def decoded_dtype(variable: xr.Variable, url: str, name: str) -> str | None:
    """The type that a packed variable has when it is unpacked; None if it is not packed.

    Raises
    ------
    SourceError
        If its attributes do not say.
    """
    if not {"scale_factor", "add_offset"} & variable.attrs.keys():
        return None
    empty = xr.Variable(variable.dims, np.empty((0,) * variable.ndim, variable.dtype), variable.attrs)
    try:
        decoded = xr.conventions.decode_cf_variable(name, empty, concat_characters=False, decode_times=False)
    except (ValueError, TypeError) as error:
        raise SourceError(f"{url}: the packing of {name!r} cannot be read from its attributes: {error}") from error
    if decoded.dtype.kind not in "iuf":
        raise SourceError(f"{url}: scale_factor and add_offset of {name!r} are no numbers")
    return str(decoded.dtype.newbyteorder("<").str)


def _is_text(variable: xr.Variable) -> bool:
    metadata = variable.dtype.metadata or {}
    declared = metadata.get("vlen", metadata.get("element_type", variable.encoding.get("dtype")))
    return declared is str


def dump_scan(scan: Scan) -> bytes:
    """A scan in MessagePack."""
    return msgspec.msgpack.encode(scan)


def load_scan(data: bytes) -> Scan:
    """What `dump_scan` wrote; data alone.

    Raises
    ------
    ReceiptError
        If the bytes are anything else.
    """
    try:
        return from_msgpack(data, Scan)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ReceiptError(f"what a function returned from reading metadata cannot be read: {error}") from error
