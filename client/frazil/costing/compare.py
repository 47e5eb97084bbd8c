"""What was estimated beside what was measured."""

from frazil.costing.estimate import Estimate
from frazil.costing.requests import write_units
from frazil.costing.spread import Spread
from frazil.report import Compared, Spent
from frazil_functions.plan import Plan


def compare(plan: Plan, estimate: Estimate, spent: Spent) -> tuple[Compared, ...]:
    """An estimate, beside what the client knows that a run took.

    Receipts say how long tasks worked, not how long functions took to start; and they count what was written, not the
    requests of others. So only what both sides know is compared.

    Parameters
    ----------
    plan, estimate
        What was written, and what that was expected to take.
    spent
        What receipts say.
    """
    work, limits = estimate.work_seconds, estimate.limits
    chunks = next((one.puts for one in estimate.requests if one.purpose == "chunks"), None)
    found = [
        _compared("calls", "calls", Spread.exactly(len(plan.tasks)), spent.calls),
        _compared("work_seconds", "s", work, spent.seconds),
        _compared("memory_bytes", "B", Spread(0, estimate.memory_bytes), spent.peak_memory_bytes),
    ]
    if limits is not None:
        gigabytes = limits.memory_bytes / 2**30
        found.append(_compared("gb_seconds", "GB-s", work.times(gigabytes), spent.seconds * gigabytes))
        prices = [one.price for one in estimate.charges if one.price.what.startswith("function_gb_second")]
        found += [
            _compared(
                "work_dollars",
                "USD",
                work.times(gigabytes * price.price),
                spent.seconds * gigabytes * price.price,
            )
            for price in prices
        ]
    if chunks is not None and chunks.low == chunks.high:
        repositories = chunks.high / max(1, write_units(plan)) if chunks.high else 0
        found.append(_compared("chunk_puts", "PUT requests", chunks, spent.units * repositories))
    return tuple(found)


def _compared(what: str, unit: str, expected: Spread, actual: float) -> Compared:
    return Compared(what, unit, expected.low, expected.high, actual)
