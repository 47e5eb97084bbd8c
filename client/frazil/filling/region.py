"""A region of a group that others write into, too: each call a commit of its own, and nothing lost."""

import logging
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Unpack, get_args

import icechunk
import numpy as np
import xarray as xr
import zarr

from frazil.execution.executor import Executor
from frazil.filling.options import Publishing, RegionOptions, near
from frazil.job import Sources, plan
from frazil.planning.options import Span as Part
from frazil.planning.partial import check_units
from frazil.planning.target import Target
from frazil.report import Listener, Result, silent
from frazil.running import place_of, run
from frazil_functions.errors import ConflictError, InvalidInputError, MismatchedSourceError, nearest
from frazil_functions.locations import locate
from frazil_functions.plan import Plan
from frazil_functions.repositories import open_repository
from frazil_functions.runs.abandoning import abandon
from frazil_functions.runs.start import new_run_id

logger = logging.getLogger(__name__)

type Partial = Literal["error", "merge"]
"""Of write units that a region covers in part: refuse them, or complete them from what the group holds."""

PATIENCE: Final = 600.0
"""Seconds for which a region is written anew while others write the same write units."""

_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 5.0
"""Seconds before a region is written anew; each next one is up to twice as long."""


def write_region(
    sources: Sources,
    repo: Target,
    *,
    region: Mapping[str, slice | Part] | Literal["auto"] = "auto",
    partial: Partial = "error",
    patience: float = PATIENCE,
    executor: Executor | None = None,
    listener: Listener = silent,
    **options: Unpack[RegionOptions],
) -> Result:
    """Write files into their part of a group that exists; many processes may, each at once and on its own.

    Every call is a commit of its own that leaves alone what others write. Writing the same again is no error.

    Parameters
    ----------
    sources
        Files, or an Xarray dataset, as for `frazil.plan`.
    repo
        The repository, open, or where it is.
    region
        The part of each dimension that the files are written to: a slice, (start, stop), or "auto" for where their
        labels lie in the group.
    partial
        What becomes of write units (chunks, or shards) that the files cover in part: "error" refuses them before
        anything is written; "merge" completes them from what the group holds, and writes anew whenever somebody else
        has written one of them meanwhile, so that nothing is lost.
    patience
        Seconds for which the region is written anew at most.
    executor
        Where functions run. By default what Lithops is configured for; where that is this machine, in this process,
        for others may be writing other regions.
    listener
        Told how far the work is.
    **options
        `group`, `branch`, `append_dim`, `variables`, `engine`, `accept`, `reorder`, `on_attrs`, `pack_overflow`,
        `virtual`, `load`, `fallback`, `containers`, `replicas` and `workers` as for `frazil.plan`; `verify`, `message`,
        `retry`, `run_id` and `run_directory` as for `frazil.run`. Every variable of the group along the written
        dimensions is to be in the files, unless `variables` names those that are meant.

    Raises
    ------
    InvalidInputError
        If the files do not fit the group or their part of it; nothing was written.
    ConflictError
        If somebody else wrote the same write units meanwhile, and "partial" is not "merge" or patience is at an end.
    IncompleteRunError, BackendError
        As `frazil.run` does.

    Examples
    --------
    >>> import tempfile
    >>> import xarray, frazil
    >>> times = xarray.date_range("2000-01-01", periods=8, freq="6h", unit="ns")
    >>> days = xarray.Dataset({"tas": ("time", [280.0] * 8)}, {"time": times})
    >>> where = tempfile.mkdtemp() + "/archive"
    >>> label = {"global_start": "2000-01-01", "global_end": "2000-01-10T18"}
    >>> made = frazil.create_template(days, where, chunks={"time": 4}, **label)
    >>> result = frazil.write_region(days.isel(time=slice(4, 8)), where)
    >>> store = frazil.open_repository(where).readonly_session("main").store
    >>> xarray.open_zarr(store, consolidated=False).tas.values[2:6]
    array([ nan,  nan, 280., 280.])
    """
    if partial not in get_args(Partial.__value__):
        raise InvalidInputError(f"partial cannot be {partial!r}; {nearest(partial, get_args(Partial.__value__))}")
    _check_patience(patience)
    opened = repo if isinstance(repo, icechunk.Repository) else open_repository(locate(repo), create=False)
    publishing: dict[str, Any] = {key: value for key, value in options.items() if key in Publishing.__optional_keys__}
    planned: dict[str, Any] = {key: value for key, value in options.items() if key not in publishing}
    publishing["run_id"] = publishing.get("run_id") or new_run_id()
    with near(executor, workers=options.get("workers") or 1) as calls:
        writing = _Writing(sources, opened, calls, listener, {"region": region, **planned}, publishing)
        return writing.go(partial, patience)


def _check_patience(patience: object) -> None:
    if not isinstance(patience, int | float | np.integer | np.floating) or not 0 <= patience < float("inf"):
        raise InvalidInputError(f"patience of {patience!r} seconds is none; use a number, 0 or more")


def _check_variables(made: Plan, repo: icechunk.Repository) -> None:
    """Refuse files that would leave a part of the group's variables as it is, which hardly anybody means.

    Labels of dimensions do stay: they say where the files belong, or the region does.

    Raises
    ------
    MismatchedSourceError
        Naming the variables.
    """
    assert made.target.base is not None
    store = repo.readonly_session(snapshot_id=made.target.base).store
    written: set[str | None] = {*made.template.extents} or {made.template.append_dim}
    dims = {
        name: getattr(array.metadata, "dimension_names", None) or ()
        for name, array in zarr.open_group(store, path=made.target.group, mode="r").arrays()
    }
    lacking = [
        name
        for name, own in dims.items()
        if name not in made.template.arrays and written & set(own) and tuple(own) != (name,)
    ]
    if lacking:
        raise MismatchedSourceError(
            f"{made.sources[0].url} lacks {', '.join(map(repr, sorted(lacking)))}, which the group "
            f"'/{made.target.group}' has there and which would stay as it is. Give files with every variable, or name "
            "those that are meant (--variables)"
        )


@dataclass(slots=True)
class _Writing:
    """A region on its way into a group that others write into, too."""

    sources: Sources
    repo: icechunk.Repository
    executor: Executor
    listener: Listener
    planned: Mapping[str, Any]
    publishing: Mapping[str, Any]
    plan: Plan | None = None

    def go(self, partial: Partial, patience: float) -> Result:
        """Plan and run; again where others were faster, if what they wrote can be kept."""
        until, pause = time.monotonic() + patience, _FIRST_PAUSE
        while True:
            try:
                return self.begin(partial)
            except ConflictError as error:
                # Others have written something else, and were faster time and again: the run stays good, and is joined.
                moved = isinstance(error.__cause__, ConflictError | icechunk.ConflictError)
                if not moved and partial == "merge":
                    self.abandon(str(error))
                if time.monotonic() > until or not (moved or partial == "merge"):
                    raise
                logger.info("others write at the same time; trying again: %s", error)
            time.sleep(random.uniform(0, pause))  # noqa: S311 - chance, not secrecy
            pause = min(2 * pause, _LONGEST_PAUSE)

    def begin(self, partial: Partial) -> Result:
        """Plan against what the group holds now, and run."""
        self.plan = None
        made = plan(
            self.sources, self.repo, mode="region", executor=self.executor, listener=self.listener, **self.planned
        )
        if self.planned.get("variables") is None:
            _check_variables(made, self.repo)
        if partial == "error":
            check_units(made)
        self.plan = made
        return run(
            made,
            self.repo,
            source=self.sources if isinstance(self.sources, xr.Dataset | xr.DataArray | xr.DataTree) else None,
            executor=self.executor,
            listener=self.listener,
            **self.publishing,
        )

    def abandon(self, reason: str) -> None:
        """Leave nothing of a run whose write units others have written meanwhile."""
        if self.plan is not None:
            where = self.publishing.get("run_directory")
            abandon(place_of(self.plan, self.repo, self.publishing["run_id"], where), self.repo, reason)
