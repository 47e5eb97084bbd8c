"""Plans of many small tasks, where Frazil itself would make few that are worth a function each."""

from collections.abc import Sequence

import frazil
from frazil.planning.make import Options, make_plan
from frazil.planning.scan import Wanted, scan_sources
from frazil.report import silent
from frazil_functions.locations import locate
from frazil_functions.plan import Plan, PlanTarget


def plan_of(sources: Sequence[str], repository: str, tasks: int, *, hours: int = 1) -> Plan:
    """A plan to create a repository, of so many tasks, with a chunk and a region for so many hours each."""
    with frazil.SerialExecutor() as serial:
        found = scan_sources(sources, Wanted(), serial, silent)
    target = PlanTarget(locate(repository), "", "main", None, "create")
    plan = make_plan(found, target, Options(chunks={"time": hours}, workers=tasks, region_bytes=1, task_bytes=1))
    assert len(plan.tasks) == tasks
    return plan
