"""The survey: functions look at values before a plan is made, where their range or their bits decide it."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Final, Protocol

from frazil.execution.executor import Executor
from frazil.execution.results import results
from frazil.report import Listener, Progress
from frazil_functions.errors import ReceiptError
from frazil_functions.handler import survey as survey_call
from frazil_functions.plan import Plan
from frazil_functions.reading.encoding import Values
from frazil_functions.regions import Region
from frazil_functions.tasks import Carried
from frazil_functions.writing.surveying import Found, Surveyed, SurveyTask, load_found, survey

SAMPLE: Final = 1 << 20
"""About how many values of an array are looked at bit by bit, spread evenly over all of it."""

SAMPLE_LEAST: Final = 1 << 12
"""At least so many of each region."""


class Carrier(Protocol):
    """Who has the dataset that a plan was made from."""

    def carry(self, regions: Sequence[Region]) -> Carried:
        """What it takes to compute regions."""
        ...

    def held(self, name: str) -> Values | None:
        """The values of an array that lies in memory."""
        ...


def survey_plan(
    plan: Plan,
    names: Collection[str],
    sampled: Collection[str],
    calls: Executor,
    listener: Listener,
    carrier: Carrier | None,
) -> dict[str, Found]:
    """Look at arrays as a plan would write them.

    Parameters
    ----------
    plan
        A plan that writes them without loss.
    names, sampled
        The arrays, and those of them whose bits are looked at.
    calls
        Where functions run.
    listener
        Told how many regions were looked at.
    carrier
        Who has the dataset, if the plan was made from one.

    Raises
    ------
    InvalidInputError
        If values cannot be read.
    BackendError
        If functions cannot be called.
    """
    arrays = plan.template.arrays
    counts = {name: sum(1 for region in plan.regions if region.array == name) for name in names}
    wanted = {
        name: Surveyed(
            arrays[name].dtype,
            arrays[name].attributes,
            max(SAMPLE_LEAST, SAMPLE // max(1, counts[name])) if name in sampled else 0,
        )
        for name in names
    }
    found = dict.fromkeys(names, Found())
    if carrier is not None:
        for name in list(wanted):
            values = carrier.held(name)
            if values is not None:  # what is here already need not travel
                found[name] = survey(values, wanted.pop(name) if not wanted[name].sample else _whole(wanted.pop(name)))
    tasks = _tasks(plan, wanted, carrier)
    total, done = sum(len(task.regions) for task in tasks), 0
    listener(Progress("plan", 0, total))
    for number, value in results(calls, survey_call, tasks):
        told = load_found(value)
        if told.keys() != tasks[number].arrays.keys():
            raise ReceiptError("a function looked at other arrays than it was asked to")
        for name, one in told.items():
            found[name] = found[name].beside(one)
        done += len(tasks[number].regions)
        listener(Progress("plan", done, total))
    for name in names:
        if found[name].summary.count != math.prod(arrays[name].shape):
            raise ReceiptError(
                f"functions looked at {found[name].summary.count} values of {name!r}, which has {arrays[name].shape}"
            )
    return found


def _whole(array: Surveyed) -> Surveyed:
    return Surveyed(array.dtype, array.attributes, SAMPLE)


def _tasks(plan: Plan, arrays: Mapping[str, Surveyed], carrier: Carrier | None) -> list[SurveyTask]:
    tasks = []
    for task in plan.tasks:
        regions = tuple(region for region in task.regions if region.array in arrays)
        if not regions:
            continue
        named = {region.array for region in regions}
        tasks.append(
            SurveyTask(
                plan.template.append_dim,
                plan.sources[slice(*task.sources)],
                regions,
                {name: one for name, one in arrays.items() if name in named},
                plan.versions,
                carrier.carry(regions) if carrier is not None else None,
            )
        )
    return tasks
