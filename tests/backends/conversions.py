"""Plans of several small tasks, and what plain Icechunk and Xarray read when they are done."""

from collections.abc import Sequence
from typing import Any

import icechunk
import xarray as xr

import frazil
from frazil.planning.make import Options, make_plan
from frazil.planning.scan import Wanted, scan_sources
from frazil.report import silent
from frazil_functions.locations import locate
from frazil_functions.plan import Plan, PlanTarget


def planned(sources: Sequence[str], where: str, *, tasks: int) -> Plan:
    """A plan of 24 regions of one hour each, in as many tasks."""
    with frazil.SerialExecutor() as executor:
        found = scan_sources(list(sources), Wanted(), executor, silent)
    goal = PlanTarget(locate(where), "", "main", None, "create")
    return make_plan(found, goal, Options(chunks={"time": 1}, workers=tasks, region_bytes=1, task_bytes=1))


def read(bucket: Any, endpoint: str) -> xr.Dataset:
    """A repository's main branch in S3, with Icechunk and Xarray alone."""
    storage = icechunk.s3_storage(
        bucket=bucket.name,
        prefix="archive",
        endpoint_url=endpoint,
        allow_http=True,
        force_path_style=True,
        from_env=True,
    )
    store = icechunk.Repository.open(storage).readonly_session("main").store
    return xr.open_zarr(store, consolidated=False, chunks=None)
