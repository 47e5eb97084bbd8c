"""Options that say how the cost of a plan is estimated."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from frazil.costing.estimate import Estimate
from frazil.costing.prices import load_prices
from frazil.estimating import estimate
from frazil.execution.executor import Executor
from frazil.probing import probe
from frazil_functions.plan import Plan

_COST = Group("What it is expected to take", sort_key=3)


@Parameter(name="*", group=_COST)
@dataclass(frozen=True, kw_only=True)
class Priced:
    """What things cost.

    Attributes
    ----------
    prices
        A file of prices, in place of those that Frazil has.
    """

    prices: Path | None = None

    def check(self) -> None:
        """Refuse a file that holds no prices, before anything is read."""
        load_prices(self.prices)


@Parameter(name="*", group=_COST)
@dataclass(frozen=True, kw_only=True)
class Costing(Priced):
    """How the cost of a plan is estimated.

    Attributes
    ----------
    probe
        Have a function read and encode one region, and store nothing, to measure what is assumed otherwise.
    """

    probe: Annotated[bool, Parameter(negative=())] = False

    def estimate(self, plan: Plan, executor: Executor) -> Estimate:
        """What running the plan is expected to take."""
        measured = probe(plan, executor) if self.probe and not plan.nothing_new else None
        return estimate(plan, executor=executor, probe=measured, prices=self.prices)
