"""How an estimate is told: in a line or two, as text, as a page, and as plain data."""

import html
from typing import Any, Final

from frazil.costing.estimate import Estimate
from frazil.costing.spread import Spread, number
from frazil_functions.text import size

_CENT: Final = 0.01


def brief(estimate: Estimate) -> tuple[tuple[str, str], ...]:
    """One line of what functions take, and one of what that costs if it has a price."""
    took = f"{_calls(estimate.calls)}, {estimate.function_seconds} s together"
    if estimate.limits is not None:
        took += f" ({estimate.gb_seconds} GB-s at {estimate.limits.memory_mb:,} MB)"
    took += f", at most {size(estimate.memory_bytes)} of memory each"
    rows = [("estimate", took)]
    if estimate.charges:
        parts = [f"{dollars(estimate.dollars)} for the run"]
        if any(one.monthly for one in estimate.charges):
            parts.append(f"{dollars(estimate.monthly_dollars)} a month to keep {_sizes(estimate.bytes_stored)}")
        rows.append(("cost", f"{', '.join(parts)} (prices of {estimate.prices.region}, {estimate.prices.date})"))
    rows += [("warning", one) for one in estimate.warnings]
    return tuple(rows)


def rows_of(estimate: Estimate) -> list[tuple[str, str]]:
    """All of it, as names and values."""
    rows = [
        ("calls", f"{estimate.calls}"),
        ("function seconds", f"{estimate.function_seconds} s, of them {estimate.work_seconds} s of work"),
        ("longest call", f"{estimate.longest_seconds} s{_of_timeout(estimate)}"),
        ("memory", f"{size(estimate.memory_bytes)} at most{_of_memory(estimate)}"),
    ]
    if estimate.gb_seconds is not None:
        rows.append(("GB-seconds", f"{estimate.gb_seconds}"))
    rows += [
        ("read", _sizes(estimate.bytes_read)),
        ("stored", _sizes(estimate.bytes_stored)),
        *((f"requests: {one.purpose}", f"{one.puts} PUT and LIST, {one.gets} GET") for one in estimate.requests),
        *((f"cost: {one.price.unit}", _charge(one.amount, one.price.price, one.dollars)) for one in estimate.charges),
    ]
    if estimate.charges:
        rows += [
            ("cost of the run", dollars(estimate.dollars)),
            *([("cost of a month", dollars(estimate.monthly_dollars))] if estimate.monthly_dollars.high else []),
            ("prices", f"{estimate.prices.region}, {estimate.prices.date}"),
        ]
    rows.append(("rates", f"measured: {estimate.rates.measured}" if estimate.rates.measured else "assumed"))
    rows += [("not in it", one) for one in estimate.left_out]
    rows += [("warning", one) for one in estimate.warnings]
    return rows


def text(estimate: Estimate) -> str:
    """All of it, as a person reads it."""
    rows = rows_of(estimate)
    width = max(len(name) for name, _ in rows)
    return "<frazil.Estimate>\n" + "\n".join(f"  {name:<{width}}  {value}" for name, value in rows)


def page(estimate: Estimate) -> str:
    """All of it, as a table of a page."""
    rows = "".join(
        f"<tr><th align='left'>{html.escape(name)}</th><td align='left'>{html.escape(value)}</td></tr>"
        for name, value in rows_of(estimate)
    )
    return f"<table><caption>frazil.Estimate</caption>{rows}</table>"


def plain(estimate: Estimate) -> dict[str, Any]:
    """What programs want to know of it: two numbers for each amount, from what to what."""
    return {
        "calls": _pair(estimate.calls),
        "function_seconds": _pair(estimate.function_seconds),
        "work_seconds": _pair(estimate.work_seconds),
        "longest_seconds": _pair(estimate.longest_seconds),
        "memory_bytes": estimate.memory_bytes,
        "gb_seconds": None if estimate.gb_seconds is None else _pair(estimate.gb_seconds),
        "bytes_read": _pair(estimate.bytes_read),
        "bytes_stored": _pair(estimate.bytes_stored),
        "requests": {one.purpose: {"puts": _pair(one.puts), "gets": _pair(one.gets)} for one in estimate.requests},
        "charges": {one.price.what: _pair(one.dollars) for one in estimate.charges},
        "dollars": _pair(estimate.dollars) if estimate.charges else None,
        "monthly_dollars": _pair(estimate.monthly_dollars) if estimate.charges else None,
        "prices": {"date": estimate.prices.date, "region": estimate.prices.region},
        "measured": estimate.rates.measured,
        "warnings": list(estimate.warnings),
        "left_out": list(estimate.left_out),
    }


def _calls(amount: Spread) -> str:
    return f"{amount} call{'s' * (amount.high != 1)}"


def dollars(amount: Spread) -> str:
    """An amount of money as a person reads it: cents where there are any."""
    low, high = (f"{one:,.2f}" if one >= _CENT else number(one) for one in (amount.low, amount.high))
    return f"${low}" if low == high else f"${low} to ${high}"


def _charge(amount: Spread, price: float, paid: Spread) -> str:
    return f"{amount} at ${price:.10f}".rstrip("0").rstrip(".") + f": {dollars(paid)}"


def _sizes(amount: Spread) -> str:
    low, high = size(amount.low), size(amount.high)
    return low if low == high else f"{low} to {high}"


def _of_timeout(estimate: Estimate) -> str:
    timeout = None if estimate.limits is None else estimate.limits.timeout
    return "" if timeout is None else f"; one is ended after {timeout:g} s, and the next goes on from its last receipt"


def _of_memory(estimate: Estimate) -> str:
    return "" if estimate.limits is None else f", of {size(estimate.limits.memory_bytes)} that a function has"


def _pair(amount: Spread) -> list[float]:
    return [amount.low, amount.high]
