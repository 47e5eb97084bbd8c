"""The estimate: what a plan will take and cost, from its tasks alone.

It writes nothing, calls nobody and reads no environment: a plan, what a function may have, rates and prices come in.
"""

from dataclasses import dataclass
from typing import Final

from frazil.costing.limits import AWS_LAMBDA, FunctionLimits
from frazil.costing.memory import LITHOPS, memory_need, nbytes_of
from frazil.costing.prices import Price, Priced, PriceTable, load_prices
from frazil.costing.rates import ASSUMED, Rates
from frazil.costing.requests import (
    Course,
    Requests,
    in_s3,
    owned_units,
    requests_of,
    source_bytes,
    task_units,
    units_of,
)
from frazil.costing.spread import Spread, total
from frazil_functions.locations import Location
from frazil_functions.plan import Plan, TaskPlan
from frazil_functions.records import Verify

_GB: Final = 1e9
_REFERENCE: Final = Spread(8, 200)
"""Bytes of a manifest that a reference takes, by how much the names of files have in common."""

_LOG_BYTES: Final = Spread(500, 10_000)
"""What AWS and a function log of one call."""


@dataclass(frozen=True, slots=True)
class Charge:
    """What one kind of thing costs.

    Attributes
    ----------
    price
        Of one unit.
    amount
        How many units.
    monthly
        Whether it is asked for every month, rather than once for the run.
    """

    price: Price
    amount: Spread
    monthly: bool = False

    @property
    def dollars(self) -> Spread:
        """What that is in dollars."""
        return self.amount.times(self.price.price)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What running a plan is expected to take. Every amount is a spread, from what to what it is expected to be.

    Attributes
    ----------
    plan_hash
        Of the plan.
    calls
        How many functions are called: one for each task, and those that read back.
    function_seconds
        Seconds of all functions together, their start included.
    work_seconds
        The same without their start: what receipts will say.
    longest_seconds
        Seconds of the longest task.
    memory_bytes
        The most that a function needs.
    limits
        What a function has; None where nothing limits it.
    gb_seconds
        Gigabytes (2^30) of functions' memory times seconds; None where functions have no fixed memory.
    requests
        Requests of object storage, by what they are for.
    bytes_read, bytes_stored
        Of files, and in all repositories together.
    charges
        What is paid for, as far as it has a price in the table.
    prices
        The table.
    rates
        How fast functions are taken to be.
    warnings
        What is likely to go wrong.
    left_out
        What is not in it.
    """

    plan_hash: str
    calls: Spread
    function_seconds: Spread
    work_seconds: Spread
    longest_seconds: Spread
    memory_bytes: int
    limits: FunctionLimits | None
    gb_seconds: Spread | None
    requests: tuple[Requests, ...]
    bytes_read: Spread
    bytes_stored: Spread
    charges: tuple[Charge, ...]
    prices: PriceTable
    rates: Rates
    warnings: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def puts(self) -> Spread:
        """PUT, COPY, POST and LIST requests of the run."""
        return total(one.puts for one in self.requests)

    @property
    def gets(self) -> Spread:
        """GET, HEAD and other requests of the run."""
        return total(one.gets for one in self.requests)

    @property
    def dollars(self) -> Spread:
        """What the run costs, once."""
        return total(one.dollars for one in self.charges if not one.monthly)

    @property
    def monthly_dollars(self) -> Spread:
        """What keeping the result costs, every month."""
        return total(one.dollars for one in self.charges if one.monthly)

    def __repr__(self) -> str:
        from frazil.costing.telling import text  # noqa: PLC0415 - which knows this class

        return text(self)

    def _repr_html_(self) -> str:
        from frazil.costing.telling import page  # noqa: PLC0415 - as above

        return page(self)


def estimate_plan(
    plan: Plan,
    limits: FunctionLimits | None = None,
    *,
    rates: Rates = ASSUMED,
    prices: PriceTable | None = None,
    verify: Verify = "sample",
    workers: int = 1,
) -> Estimate:
    """What running a plan is expected to take and cost.

    Parameters
    ----------
    plan
        What is written.
    limits
        What a function may have; None where nothing limits it, as on this machine.
    rates
        How fast functions are.
    prices
        What things cost; the table that comes with Frazil by default.
    verify
        What is read back.
    workers
        How many functions run at once.
    """
    processors = 1.0 if limits is None else limits.processors
    work = tuple(_work_seconds(plan, task, rates, processors) for task in plan.tasks)
    cloud = limits is not None and limits.backend == AWS_LAMBDA
    calls = Spread(len(work), len(work) + (min(workers, plan.region_count) if verify == "full" else 0))
    worked = total(work)
    reading = worked.times(Spread(0, 0.5)) if verify == "full" else Spread.exactly(0)
    spent = worked + reading + rates.start_seconds.times(calls)
    longest = max(work, key=lambda one: one.high, default=Spread.exactly(0)) + rates.start_seconds
    at_once = max(1, min(workers, len(work)))
    wall = Spread(min(longest.low, spent.low), max(longest.high, spent.high / at_once))
    course = Course(work, wall, verify, staging=cloud)
    gb_seconds = None if limits is None else spent.times(limits.memory_bytes / 2**30)
    stored = _stored(plan, rates).times(len(plan.target.locations))
    requests = requests_of(plan, course)
    table = prices or load_prices()
    own = LITHOPS if cloud else 0
    return Estimate(
        plan_hash=plan.hash,
        calls=calls,
        function_seconds=spent,
        work_seconds=worked,
        longest_seconds=longest,
        memory_bytes=memory_need(plan) + own if plan.tasks else 0,
        limits=limits,
        gb_seconds=gb_seconds,
        requests=requests,
        bytes_read=source_bytes(plan),
        bytes_stored=stored,
        charges=tuple(_charges(plan, limits, gb_seconds, calls, requests, stored, table)),
        prices=table,
        rates=rates,
        warnings=tuple(_warnings(plan, limits, rates, processors)),
        left_out=tuple(_left_out(plan, limits, table)),
    )


def _stored(plan: Plan, rates: Rates) -> Spread:
    """Bytes that are stored in one repository: compressed values, and what a reference takes of a manifest."""
    references = sum(
        owned_units(plan, array) for array in plan.template.arrays.values() if array.name in plan.referring
    )
    return rates.ratio.times(plan.copied_nbytes) + _REFERENCE.times(references)


def _work_seconds(plan: Plan, task: TaskPlan, rates: Rates, processors: float) -> Spread:
    """Opening files, then reading beside encoding: at best the longer of the two, at worst one after the other."""
    opened = rates.open_seconds.times(max(0, task.sources[1] - task.sources[0]))
    return opened + _values_seconds(task.nbytes, task_units(plan, task), rates, processors)


def _values_seconds(nbytes: int, units: int, rates: Rates, processors: float) -> Spread:
    read = rates.read_seconds.times(nbytes / min(1.0, processors))
    written = rates.write_seconds.times(nbytes / processors)
    return Spread(max(read.low, written.low), read.high + written.high) + rates.unit_seconds.times(units)


def _charges(  # noqa: PLR0917 - an amount each
    plan: Plan,
    limits: FunctionLimits | None,
    gb_seconds: Spread | None,
    calls: Spread,
    requests: tuple[Requests, ...],
    stored: Spread,
    table: PriceTable,
) -> list[Charge]:
    found = []
    if limits is not None and limits.backend == AWS_LAMBDA and gb_seconds is not None:
        kind: Priced = "function_gb_second_arm64" if limits.architecture == "arm64" else "function_gb_second_x86_64"
        found += [
            Charge(table.of(kind), gb_seconds),
            Charge(table.of("function_call"), calls),
            Charge(table.of("logs_gb"), calls.times(_LOG_BYTES).times(1 / _GB)),
        ]
    if requests and _on_aws(plan):
        found += [
            Charge(table.of("put_request"), total(one.puts for one in requests)),
            Charge(table.of("get_request"), total(one.gets for one in requests)),
        ]
    if _on_aws(plan):
        share = sum(in_s3(location) for location in plan.target.locations) / len(plan.target.locations)
        found.append(Charge(table.of("stored_gb_month"), stored.times(share / _GB), monthly=True))
    return found


def _on_aws(plan: Plan) -> bool:
    """Whether what is written lies in Amazon's S3, and not in what speaks as it does."""
    return any(_amazon(location) for location in plan.target.locations)


def _amazon(location: Location | None) -> bool:
    return (
        location is not None
        and in_s3(location)
        and (not location.endpoint_url or "amazonaws." in location.endpoint_url)
    )


def _elsewhere(location: Location | None) -> bool:
    """Whether a repository lies in object storage that is not Amazon's."""
    return location is not None and location.path is None and not _amazon(location)


def _warnings(plan: Plan, limits: FunctionLimits | None, rates: Rates, processors: float) -> list[str]:
    """Say of the largest region whether it ends in time: what a call writes of it before it ends is lost."""
    if limits is None or limits.timeout is None or not plan.region_count:
        return []
    largest = max(plan.regions, key=lambda region: nbytes_of(plan, region))
    nbytes = nbytes_of(plan, largest)
    seconds = rates.start_seconds + rates.open_seconds
    seconds += _values_seconds(nbytes, units_of(plan, largest), rates, processors)
    if seconds.high <= limits.timeout:
        return []
    sure = "will not" if seconds.low > limits.timeout else "may not"
    what = (
        f"{largest} {sure} be written in time: it takes {seconds} s by the estimate, and {limits.backend} ends a call "
        f"after {limits.timeout:g} s (runtime_timeout). Allow more, give functions more memory, or make chunks or "
        "shards smaller"
    )
    return [what]


def _left_out(plan: Plan, limits: FunctionLimits | None, table: PriceTable) -> list[str]:
    found = ["planning, calls that are made again, chunks that hold fill values alone and are not stored"]
    region = (limits.region if limits is not None else None) or (
        plan.target.location.region if plan.target.location is not None else None
    )
    if region not in {None, table.region}:
        found.append(f"that {region} has other prices than {table.region}, whose are taken")
    if limits is not None and limits.backend == AWS_LAMBDA:
        image, out = table.of("image_gb_month").price, table.of("transfer_gb").price
        found.append(
            f"the image in its registry (${image:g} a GB and month), transfer out of the region (${out:g} a GB)"
        )
    elif limits is not None:
        found.append(f"what {limits.backend} costs, of which the table knows nothing")
    if other := [str(location) for location in plan.target.locations if _elsewhere(location)]:
        found.append(f"requests to and storage of {', '.join(other)}, of which the table knows nothing")
    if _on_aws(plan):
        found.append("free tiers, discounts, old versions of objects")
    return found
