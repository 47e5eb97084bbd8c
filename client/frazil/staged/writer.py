"""DatasetWriter and to_icechunk: a dataset into a session, step by step or at once."""

from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any, Literal, Self, get_args

import icechunk
import xarray as xr

from frazil.execution.executor import Executor
from frazil.lazy.encoded import as_dataset
from frazil.lazy.slices import Lazy, Prepared, prepare
from frazil.running import using
from frazil.staged import checks, metadata
from frazil.staged.arrays import grid_of, region_of
from frazil.staged.fan_out import check_can_travel, check_session, fan_out
from frazil.staged.metadata import Addressed, Aim, Collected, Mode, Region
from frazil_functions.errors import InvalidInputError, nearest
from frazil_functions.grids import WriteGrid


class DatasetWriter:
    """Writes a dataset into a session in steps, each of which can be looked at before the next.

    First say where it goes (one of the `for_` methods, which write nothing), then call `write_metadata`, `write_eager`
    and `write_lazy`. Metadata and arrays in memory go into the session itself. Lazy arrays, in files or dask's, are
    computed and written by functions in forks of the session, which are merged into it when all have succeeded. The
    caller commits.

    Parameters
    ----------
    ds
        A Dataset or DataArray.
    session
        A writable session; changes that it holds already are kept.
    safe_chunks
        Whether to refuse dask chunks that meet within a chunk (shard) of the array, as Xarray does. No value is lost if
        not: no two functions write one chunk (shard).
    align_chunks
        Whether to rechunk dask arrays so that they do not.
    executor
        Where functions run; Lithops as it is configured by default, else on this machine.

    Raises
    ------
    InvalidInputError
        If the session cannot be written.

    Examples
    --------
    >>> import tempfile, icechunk, numpy as np, xarray as xr
    >>> repo = icechunk.Repository.create(icechunk.local_filesystem_storage(tempfile.mkdtemp()))
    >>> session = repo.writable_session("main")
    >>> writer = DatasetWriter(xr.Dataset({"tas": ("time", np.arange(4.0))}), session)
    >>> writer.for_create_or_overwrite().write_metadata()
    >>> writer.write_eager()
    >>> writer.write_lazy()
    >>> xr.open_zarr(session.store, consolidated=False, chunks=None)["tas"].values
    array([0., 1., 2., 3.])
    """

    def __init__(
        self,
        ds: xr.Dataset | xr.DataArray,
        session: icechunk.Session,
        *,
        safe_chunks: bool = True,
        align_chunks: bool = False,
        executor: Executor | None = None,
    ) -> None:
        check_session(session)
        self._dataset = as_dataset(ds)
        self._session = session
        self._safe_chunks = safe_chunks
        self._align_chunks = align_chunks
        self._executor = executor
        self._aim: Aim | None = None
        self._steps: _Steps | None = None

    @property
    def dataset(self) -> xr.Dataset:
        """What is written."""
        return self._dataset

    def for_create_or_overwrite(self, group: str | None = None, *, mode: Literal["w-", "w"] = "w-") -> Self:
        """Make a group: "w-" refuses one that exists, "w" removes it first, with all that it holds."""
        return self.aim(group=group, mode=mode)

    def for_modify(self, group: str | None = None, *, mode: Literal["a", "r+"] = "a") -> Self:
        """Replace the values of variables that a group has, and add those that it does not have ("r+": add none)."""
        return self.aim(group=group, mode=mode)

    def for_append(self, append_dim: Hashable, group: str | None = None, *, mode: Literal["a", "a-"] = "a") -> Self:
        """Add values behind those that a group has along a dimension.

        Variables without that dimension are replaced ("a") or left alone ("a-").
        """
        return self.aim(group=group, mode=mode, append_dim=append_dim)

    def for_region(self, region: Region = "auto", group: str | None = None, *, mode: Literal["r+", "a"] = "r+") -> Self:
        """Replace values within a region, given by slices or found by the labels ("auto")."""
        return self.aim(group=group, mode=mode, region=region)

    def aim(
        self,
        *,
        group: str | None = None,
        mode: Mode | None = None,
        append_dim: Hashable | None = None,
        region: Region | None = None,
    ) -> Self:
        """Say where the dataset goes as `Dataset.to_zarr` is told it; the `for_` methods each are a case of it.

        Raises
        ------
        InvalidInputError
            If it does not fit there, or if that was said already; nothing is written.
        """
        if self._aim is not None:
            raise InvalidInputError("this writer has been told where the dataset goes; make another writer")
        check_session(self._session)
        aim = Aim(
            (group or "").strip("/") or None,
            _mode(mode, append_dim, region),
            append_dim,
            region,
            self._safe_chunks,
            self._align_chunks,
        )
        self._aim = self._checked(aim)
        return self

    def drop_existing_vars(self) -> Self:
        """Write only variables that the group does not have yet. After `for_modify`.

        Raises
        ------
        LabelError
            If labels that are left out differ from those of the group.
        """
        aim = self._aim
        if aim is None or aim.mode != "a" or aim.append_dim is not None or aim.region is not None or self._steps:
            raise InvalidInputError("drop_existing_vars belongs between for_modify and write_metadata")
        held = metadata.existing(self._session.store, aim.group)
        if held is not None:
            checks.check_same_labels(self._dataset, held, aim.group)
            self._dataset = self._dataset.drop_vars(
                [name for name in self._dataset.variables if name in held.variables]
            )
        return self

    def write_metadata(self, encoding: Mapping[Any, Any] | None = None) -> None:
        """Write attributes, make new arrays and make those longer that are appended to; write no values.

        Parameters
        ----------
        encoding
            How new variables are stored, as `Dataset.to_zarr` has it.

        Raises
        ------
        InvalidInputError
            If anything does not fit, or a lazy array cannot be sent to functions. Nothing is written then.
        """
        aim = self._aimed()
        if self._steps is not None:
            raise InvalidInputError("the metadata has been written; make another writer to write something else")
        check_session(self._session)
        if aim.mode == "a" and aim.append_dim is None and aim.region is None:
            checks.check_modify(self._dataset, metadata.existing(self._session.store, aim.group), aim.group)
        # What fails, fails in a fork that nobody keeps, so the session has all of the metadata or none.
        rehearsal = self._session.fork()
        collected, encoded = metadata.write(self._dataset, rehearsal.store, aim, encoding)
        lazies = [lazy for one in collected.lazy if (lazy := _lazy(one)) is not None]
        prepared = prepare(lazies)
        if prepared:
            check_can_travel(rehearsal)
        collected, _ = metadata.write(self._dataset, self._session.store, aim, encoding, encoded)
        self._steps = _Steps(collected, prepared, [lazy.grid for lazy in lazies])

    def write_eager(self) -> None:
        """Write arrays in memory into the session."""
        steps = self._written("write_eager")
        if steps.eager_written:
            raise InvalidInputError("write_eager has been called; each step is done once")
        check_session(self._session)
        for one in steps.collected.eager:
            one.target[one.region or ...] = one.source
        steps.eager_written = True

    def write_lazy(self, executor: Executor | None = None) -> None:
        """Compute lazy arrays in functions, write them, and merge what they wrote into the session.

        Parameters
        ----------
        executor
            Where functions run, if not where the writer was told.

        Raises
        ------
        SourceError
            If a lazy array cannot be computed; the session holds nothing of what functions wrote.
        BackendError
            If the storage or the backend is at fault; the same.
        """
        steps = self._written("write_lazy")
        if steps.lazy_written:
            raise InvalidInputError("write_lazy has been called; each step is done once")
        check_session(self._session)
        if steps.prepared:
            with using(executor or self._executor) as calls:
                calls.warm()
                fan_out(self._session, steps.prepared, steps.grids, calls)
        steps.lazy_written = True

    def _aimed(self) -> Aim:
        if self._aim is None:
            raise InvalidInputError(
                "say first where the dataset goes: for_create_or_overwrite, for_modify, for_append or for_region"
            )
        return self._aim

    def _written(self, step: str) -> "_Steps":
        self._aimed()
        if self._steps is None:
            raise InvalidInputError(f"{step} needs arrays to write into; call write_metadata first")
        return self._steps

    def _checked(self, aim: Aim) -> Aim:
        """The aim, with the region found; refuses what does not fit."""
        if aim.append_dim is None and aim.region is None:
            return aim
        held = metadata.existing(self._session.store, aim.group)
        if aim.append_dim is not None:
            checks.check_append(self._dataset, held, aim.append_dim, aim.group)
        if aim.region is None:
            return aim
        given = None if isinstance(aim.region, str) else dict(aim.region)
        fixed = {dim: part for dim, part in (given or {}).items() if isinstance(part, slice)}
        if held is None or len(fixed) == len(given or ()) > 0:
            checks.check_region(self._dataset, held, fixed, aim.group)
        found = metadata.region_of(self._dataset, self._session.store, aim)
        checks.check_region(self._dataset, held, found, aim.group)
        return replace(aim, region=found)


class _Steps:
    """What is left to write once the metadata is there."""

    def __init__(self, collected: Collected, prepared: list[Prepared], grids: list[WriteGrid]) -> None:
        self.collected = collected
        self.prepared = prepared
        self.grids = grids
        self.eager_written = False
        self.lazy_written = False


def to_icechunk(  # noqa: PLR0913 - those of icechunk.xarray.to_icechunk, and the executor
    obj: xr.Dataset | xr.DataArray,
    session: icechunk.Session,
    *,
    group: str | None = None,
    mode: Mode | None = None,
    safe_chunks: bool = True,
    align_chunks: bool = False,
    append_dim: Hashable | None = None,
    region: Region | None = None,
    encoding: Mapping[Any, Any] | None = None,
    chunkmanager_store_kwargs: Mapping[Any, Any] | None = None,  # noqa: ARG001 - dask's own writer is not used
    split_every: int | None = None,  # noqa: ARG001 - forks are merged one by one
    executor: Executor | None = None,
) -> None:
    """Write a Dataset or DataArray into a group of a session, lazy arrays by functions; the caller commits.

    Parameters and meaning are those of `icechunk.xarray.to_icechunk`, and `executor`: where functions run.
    `chunkmanager_store_kwargs` and `split_every` are accepted and have no meaning here.

    Raises
    ------
    InvalidInputError
        If anything does not fit; nothing is written then.
    SourceError, BackendError
        If a lazy array cannot be computed or written; the session holds nothing of what functions wrote.
    """
    writer = DatasetWriter(obj, session, safe_chunks=safe_chunks, align_chunks=align_chunks, executor=executor)
    writer.aim(group=group, mode=mode, append_dim=append_dim, region=region)
    writer.write_metadata(encoding)
    writer.write_eager()
    writer.write_lazy()


def _mode(mode: Mode | None, append_dim: Hashable | None, region: Region | None) -> Mode:
    """The mode that is meant where none is given, as Xarray has it."""
    if mode is None:
        return "a" if append_dim is not None else "w-" if region is None else "r+"
    modes = get_args(Mode.__value__)
    if mode not in modes:
        raise InvalidInputError(f"mode cannot be {mode!r}; {nearest(str(mode), modes)}")
    if append_dim is not None and mode not in {"a", "a-"}:
        raise InvalidInputError(f"an append along {append_dim!r} has the mode 'a' or 'a-', and not {mode!r}")
    if region is not None and mode not in {"a", "a-", "r+"}:
        raise InvalidInputError(f"a region is written with the mode 'a', 'a-' or 'r+', and not {mode!r}")
    return mode


def _lazy(one: Addressed) -> Lazy | None:
    """A lazy array and its place in its target; None if it has no values."""
    grid = grid_of(one.target)
    region = region_of(grid, one.region or None, one.source.shape)
    return None if region is None else Lazy(one.source, grid, region)
