"""A dataset's metadata into a group, through Xarray's own writer for Zarr; its values are collected, not written.

So what becomes of encodings, attributes and existing variables is what `Dataset.to_zarr` makes of them.
"""

from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import icechunk
import numpy as np
import xarray as xr
import zarr
import zarr.errors
from xarray.backends.common import ArrayWriter
from xarray.backends.writers import _validate_dataset_names, dump_to_store
from xarray.backends.zarr import ZarrStore

from frazil.lazy.encoded import deferred, lies_in_files
from frazil.lazy.slices import Deferred, is_dask
from frazil_functions.errors import ExistingGroupError, InvalidInputError
from frazil_functions.reading.encoding import is_time_unit
from frazil_functions.reading.times import recount

type Mode = Literal["w", "w-", "a", "a-", "r+"]
type Region = Mapping[str, slice | Literal["auto"]] | Literal["auto"]

_COUNTED: Final = ("units", "scale_factor", "add_offset")
"""Attributes without which stored numbers mean something else."""


@dataclass(frozen=True, slots=True)
class Aim:
    """Where a dataset goes, and what becomes of what is there; as `Dataset.to_zarr` has it."""

    group: str | None
    mode: Mode
    append_dim: Hashable | None = None
    region: Region | None = None
    safe_chunks: bool = True
    align_chunks: bool = False


@dataclass(frozen=True, slots=True)
class Addressed:
    """Values, and where they belong."""

    source: Any
    target: zarr.Array[Any]
    region: tuple[slice, ...]


@dataclass(slots=True)
class Collected:
    """What is to be written, once the metadata is there."""

    eager: list[Addressed] = field(default_factory=list)
    lazy: list[Addressed] = field(default_factory=list)


class _Collector(ArrayWriter):
    """Xarray's writer of values, which writes none."""

    __slots__ = ("collected",)

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.collected = Collected()

    def add(self, source: Any, target: Any, region: Any = None) -> None:  # noqa: ANN401 - as Xarray has it
        lazy = isinstance(source, Deferred) or is_dask(source)
        (self.collected.lazy if lazy else self.collected.eager).append(Addressed(source, target, tuple(region or ())))


class _Store(ZarrStore):
    """Xarray's store of a group, which leaves variables in files where they are."""

    __slots__ = ("encoded",)

    encoded: dict[Hashable, xr.Variable]

    def encode(self, variables: Mapping[Any, Any], attributes: Mapping[Any, Any]) -> tuple[dict[Any, Any], Any]:
        """Encode variables, each once however often it is asked for."""
        new = {name: one for name, one in variables.items() if name not in self.encoded}
        files = {name: one for name, one in new.items() if lies_in_files(name, one)}
        rest, attributes = super().encode(  # type: ignore[no-untyped-call]
            {name: one for name, one in new.items() if name not in files}, attributes
        )
        self.encoded.update(rest)
        self.encoded.update({name: deferred(str(name), one) for name, one in files.items()})
        return {name: self.encoded[name].copy(deep=False) for name in variables}, attributes

    def set_variables(self, variables: Any, *args: Any, **options: Any) -> None:  # noqa: ANN401 - as Xarray has it
        """Make or find the arrays, unless values were encoded to other units than an array has."""
        if self._mode != "w":
            for name, one in variables.items():
                if name in self.members:
                    _check_counted(str(name), one.attrs, self.members[name].attrs)
        super().set_variables(variables, *args, **options)


def _check_counted(name: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    for key in _COUNTED:
        same = ours.get(key) == theirs.get(key) or (key == "units" and _same_count(name, ours, theirs))
        if key in ours and key in theirs and not same:
            raise InvalidInputError(
                f"the values of {name!r} need {key} {ours.get(key)!r}, and the group stores them with "
                f"{theirs.get(key)!r}; what is stored would mean something else. Bring them to what the group can hold"
            )


def _same_count(name: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Whether two units of time are one, written in two ways."""
    units = ours.get("units"), theirs.get("units")
    if not (is_time_unit(units[0]) and is_time_unit(units[1])):
        return False
    counted = recount(
        name, np.arange(2), (str(units[0]), str(units[1])), str(theirs.get("calendar", "standard")), "<f8"
    )
    return bool((counted == np.arange(2)).all())


def write(
    dataset: xr.Dataset,
    store: icechunk.IcechunkStore,
    aim: Aim,
    encoding: Mapping[Any, Any] | None = None,
    encoded: dict[Hashable, xr.Variable] | None = None,
) -> tuple[Collected, dict[Hashable, xr.Variable]]:
    """Write attributes, make new arrays and make those longer that are appended to.

    Parameters
    ----------
    dataset, store, aim, encoding
        What goes where, and how new variables are stored.
    encoded
        Encoded variables, if they are the same as those of another call.

    Returns
    -------
    Collected
        The values, none of which was written.
    dict
        The encoded variables.

    Raises
    ------
    InvalidInputError
        If Xarray does not write such a dataset there; part of the metadata may be written.
    """
    dataset = dataset.copy()
    for one in dataset.variables.values():
        if not one.size:
            one.load()  # no chunk of Zarr's is as long as those of dask are here
    with refused("write these variables there", aim):
        opened = _open(store, aim, aim.mode)
        opened.encoded = {} if encoded is None else encoded
        dataset = opened._validate_and_autodetect_region(dataset)  # noqa: SLF001 - as Icechunk does
        _validate_dataset_names(dataset)
        opened._validate_encoding(encoding or {})  # noqa: SLF001 - as Icechunk does
        collector = _Collector()
        dump_to_store(dataset, opened, collector, encoding=dict(encoding or {}))  # type: ignore[no-untyped-call, unused-ignore]
    return collector.collected, opened.encoded


def region_of(dataset: xr.Dataset, store: icechunk.IcechunkStore, aim: Aim) -> dict[str, slice]:
    """The region that is meant, with "auto" found by the labels.

    Raises
    ------
    InvalidInputError
        If there is none.
    """
    with refused("find the region", aim):
        opened = _open(store, aim, "r+")
        opened._validate_and_autodetect_region(dataset)  # noqa: SLF001 - as Icechunk does
        return dict(opened._write_region or {})  # noqa: SLF001 - what it found


def existing(store: icechunk.IcechunkStore, group: str | None) -> xr.Dataset | None:
    """What a group holds, lazily; None if there is no group.

    Raises
    ------
    InvalidInputError
        If Xarray cannot open it.
    """
    try:
        return xr.open_dataset(store, engine="zarr", group=group, consolidated=False, chunks=None)  # type: ignore[arg-type, unused-ignore]
    except (FileNotFoundError, zarr.errors.GroupNotFoundError):
        return None
    except ValueError as error:
        raise InvalidInputError(f"{place(group)} cannot be opened by Xarray as it is: {error}") from error


def place(group: str | None) -> str:
    """A group as errors name it."""
    name = (group or "").strip("/")
    return f"the group {name!r}" if name else "the root group"


@contextmanager
def refused(what: str, aim: Aim) -> Iterator[None]:
    """Raise InvalidInputError for what Xarray and Zarr raise for bad input."""
    try:
        yield
    except (zarr.errors.ContainsGroupError, zarr.errors.ContainsArrayError, FileExistsError) as error:
        raise ExistingGroupError(
            f'{place(aim.group)} exists already; mode="w" removes what is there, for_modify and for_append keep it'
        ) from error
    except FileNotFoundError as error:
        raise InvalidInputError(f"there is no {place(aim.group)[4:]} in the session: {error}") from error
    except (ValueError, TypeError, KeyError, IndexError, NotImplementedError, OverflowError) as error:
        said = error.args[0] if isinstance(error, KeyError) and error.args else error
        raise InvalidInputError(f"Xarray cannot {what} ({place(aim.group)}): {said}") from error


def _open(store: icechunk.IcechunkStore, aim: Aim, mode: Mode) -> _Store:
    opened = _Store.open_group(
        store=store,
        group=aim.group,
        mode=mode,
        zarr_format=3,
        append_dim=aim.append_dim,
        write_region=aim.region if aim.region is None or aim.region == "auto" else dict(aim.region),
        safe_chunks=aim.safe_chunks,
        align_chunks=aim.align_chunks,
        consolidated=False,
        consolidate_on_close=False,
    )
    assert isinstance(opened, _Store)
    return opened
