"""Estimating: what a plan will take where an executor runs it."""

from pathlib import Path

from frazil.costing.estimate import Estimate, estimate_plan
from frazil.costing.prices import load_prices
from frazil.costing.rates import ASSUMED, Probe, calibrated
from frazil.execution.executor import Executor
from frazil.running import using
from frazil_functions.plan import Plan
from frazil_functions.records import Verify


def estimate(
    plan: Plan,
    *,
    executor: Executor | None = None,
    probe: Probe | None = None,
    prices: str | Path | None = None,
    verify: Verify = "sample",
) -> Estimate:
    """What running a plan is expected to take: calls, seconds, memory, requests, bytes, and what that costs.

    Writes nothing, and calls nobody.

    Parameters
    ----------
    plan
        What `plan` made.
    executor
        Where functions would run, whose configuration says what they may have; Lithops as it is configured by default.
    probe
        What `frazil.probe` measured, in place of assumptions.
    prices
        A file of prices (TOML), in place of the table that comes with Frazil.
    verify
        What is read back, as for `run`.

    Raises
    ------
    InvalidInputError
        If the file holds no price table.
    BackendError
        If the backend's configuration cannot be meant.
    """
    table = load_prices(prices)
    with using(executor) as calls:
        return estimate_plan(
            plan,
            calls.limits(),
            rates=ASSUMED if probe is None else calibrated(probe),
            prices=table,
            verify=verify,
            workers=calls.workers,
        )
