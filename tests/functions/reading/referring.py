"""References in a repository on disk, and what plain Icechunk and Zarr read through them."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import zarr

from frazil_functions.layouts import Layout
from frazil_functions.reading.encoding import Values
from frazil_functions.reading.opening import fingerprint, open_raw
from frazil_functions.reading.references import ReferredFile, reference_checksum, reference_url
from frazil_functions.reading.scanning import FileMetadata, ScanTask, scan_task


def scanned(path: Path | str, engine: str | None = None) -> FileMetadata:
    (file,) = scan_task(ScanTask((str(path),), engine, None, digests=False, layouts=True)).files
    assert file.error is None, file.error
    return file


def layout_in(path: Path | str, name: str, engine: str | None = None) -> Layout:
    layout = scanned(path, engine).variables[name].layout
    assert isinstance(layout, Layout), layout
    return layout


def create_array(group: zarr.Group, name: str, values: Values, layout: Layout) -> None:
    """An array that stores as a layout says, by the metadata that Zarr has in JSON."""
    dtype = values.dtype.newbyteorder("<")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = group.create_array(name, shape=values.shape, chunks=layout.chunks, dtype=dtype, compressors=None)
        said = array.metadata.to_dict() | {"codecs": layout.codecs, "fill_value": layout.fill}
        del group[name]
        metadata = type(array.metadata).from_dict(said)
        stored = zarr.AsyncArray(metadata=metadata, store_path=array.store_path)
        zarr.core.sync.sync(stored._save_metadata(metadata))  # noqa: SLF001 - there is no other way to say codecs


class Referring:
    """A new repository that refers to files below a URL; a directory if nothing else is said."""

    def __init__(self, files: Path | str, where: Path, store: Any = None, credentials: Any = None) -> None:
        prefix = f"{reference_url(str(files))}/"
        config = icechunk.RepositoryConfig.default()
        config.set_virtual_chunk_container(
            icechunk.VirtualChunkContainer(prefix, store or icechunk.local_filesystem_store(str(files)))
        )
        access = {prefix: icechunk.credentials.LocalFileSystemAccess if credentials is None else credentials}
        storage = icechunk.local_filesystem_storage(str(where))
        self.repo = icechunk.Repository.create(storage, config, icechunk.containers_credentials(access))

    def refer(self, path: Path | str, name: str, values: Values, layout: Layout, engine: str) -> Any:
        """Which chunks are referred to now; the others are copied."""
        url = str(path)
        session = self.repo.writable_session("main")
        group = zarr.open_group(session.store, mode="a")
        create_array(group, name, values, layout)
        with ReferredFile(url, engine, fingerprint(url)) as file:
            found = file.references(name, layout)
        grid = found.stored.shape
        for index in np.argwhere(~found.stored):
            part = tuple(slice(i * n, (i + 1) * n) for i, n in zip(index, layout.chunks, strict=True))
            assert not any(codec["name"] == "gribberish" for codec in layout.codecs)
            group[name][part] = values[part]  # type: ignore[index]
        failed = session.store.set_virtual_refs_arr(
            f"/{name}",
            grid,
            found.urls(),
            found.offsets.ravel(),
            found.lengths.ravel(),
            checksum=reference_checksum(url, fingerprint(url)),
        )
        assert failed is None
        session.commit(f"refer to {name}")
        return found.stored

    def read(self, name: str) -> Values:
        """What a reader of Icechunk and Zarr alone reads."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            store = self.repo.readonly_session("main").store
            return np.asarray(zarr.open_group(store, mode="r")[name][...])  # type: ignore[index]


def raw(path: Path | str, engine: str, names: Iterable[str]) -> dict[str, Values]:
    with open_raw(str(path), engine) as dataset:
        return {name: np.asarray(dataset.variables[name].values) for name in names}


def same(one: Values, other: Values) -> bool:
    """Whether values are equal bit by bit."""
    native = other.astype(other.dtype.newbyteorder("<"))
    ours = one.astype(one.dtype.newbyteorder("<"))
    return ours.dtype == native.dtype and ours.shape == native.shape and ours.tobytes() == native.tobytes()


def check(path: Path, where: Path, engine: str | None = None) -> dict[str, tuple[int, int]]:
    """`compare` with a file, by way of a new repository."""
    return compare(path, Referring(path.parent, where), engine)


def compare(path: Path | str, referring: Referring, engine: str | None = None) -> dict[str, tuple[int, int]]:
    """Refer to every variable that can be referred to and compare; how many chunks are referred to, of how many."""
    file = scanned(path, engine)
    layouts = {name: one.layout for name, one in file.variables.items() if isinstance(one.layout, Layout)}
    values, counts = raw(path, file.engine, layouts), {}
    for name, layout in layouts.items():
        stored = referring.refer(path, name, values[name], layout, file.engine)
        assert same(referring.read(name), values[name]), name
        counts[name] = int(stored.sum()), stored.size
    return counts
