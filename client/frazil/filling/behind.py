"""Files behind what a group holds."""

from typing import Unpack

from frazil.execution.executor import Executor
from frazil.filling.options import AppendOptions, near
from frazil.job import Sources, convert
from frazil.planning.target import Target
from frazil.report import Listener, Result, silent


def append(
    sources: Sources,
    repo: Target,
    *,
    executor: Executor | None = None,
    listener: Listener = silent,
    **options: Unpack[AppendOptions],
) -> Result:
    """Write files behind what a group holds.

    Parameters
    ----------
    sources
        Files, or an Xarray dataset, as for `frazil.plan`.
    repo
        The repository, open, or where it is.
    executor
        Where functions run. By default what Lithops is configured for; where that is this machine and there is one
        task, in this process.
    listener
        Told how far the work is.
    **options
        `gaps`, `on_overlap`, `group`, `branch`, `append_dim`, `variables`, `engine`, `accept`, `reorder`, `on_attrs`,
        `virtual`, `load`, `fallback`, `containers`, `replicas` and `workers` as for `frazil.plan`; `verify`, `message`,
        `retry`, `run_id`, `run_directory` and `resume` as for `frazil.convert`.

    Raises
    ------
    InvalidInputError, ConflictError, IncompleteRunError, BackendError
        As `frazil.convert` does.

    Examples
    --------
    >>> import tempfile
    >>> import xarray, frazil
    >>> times = xarray.date_range("2000-01-01", periods=8, freq="6h", unit="ns")
    >>> days = xarray.Dataset({"tas": ("time", [280.0] * 8)}, {"time": times})
    >>> where = tempfile.mkdtemp() + "/archive"
    >>> first = frazil.convert(days.isel(time=slice(0, 6)), where, executor=frazil.SerialExecutor())
    >>> more = frazil.append(days.isel(time=slice(6, 8)), where)
    >>> store = frazil.open_repository(where).readonly_session("main").store
    >>> xarray.open_zarr(store, consolidated=False).sizes["time"]
    8
    """
    with near(executor) as calls:
        return convert(sources, repo, mode="append", executor=calls, listener=listener, **options)
