"""Amounts that are known no better than between two bounds."""

from collections.abc import Iterable
from dataclasses import dataclass

_MANY = 100
_FEW = 10
_WHOLE = 1e15


@dataclass(frozen=True, slots=True)
class Spread:
    """From what to what an amount is expected to be.

    Attributes
    ----------
    low, high
        The least and the most, in the amount's unit.

    Examples
    --------
    >>> Spread(1, 2) + Spread.exactly(3)
    Spread(low=4, high=5)
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high:
            raise ValueError(f"a spread from {self.low} to {self.high} is none")

    @classmethod
    def exactly(cls, amount: float) -> "Spread":
        """An amount that is known."""
        return cls(amount, amount)

    def __add__(self, other: "Spread") -> "Spread":
        return Spread(self.low + other.low, self.high + other.high)

    def times(self, other: "Spread | float") -> "Spread":
        """So many times as much."""
        by = other if isinstance(other, Spread) else Spread.exactly(other)
        return Spread(self.low * by.low, self.high * by.high)

    def __str__(self) -> str:
        low, high = number(self.low), number(self.high)
        return low if low == high else f"{low} to {high}"


def total(amounts: Iterable[Spread]) -> Spread:
    """All of them together."""
    found = list(amounts)
    return Spread(sum(one.low for one in found), sum(one.high for one in found))


def number(amount: float) -> str:
    """An amount as a person reads it: two digits of what is small, whole numbers of what is large.

    Examples
    --------
    >>> number(0.00123), number(4.26), number(31.4), number(12345.6)
    ('0.0012', '4.3', '31', '12,346')
    """
    if amount == 0 or amount >= _MANY or (amount == int(amount) and amount < _WHOLE):
        return f"{amount:,.0f}"
    if amount >= _FEW:
        return f"{amount:.0f}"
    if amount >= 1:
        return f"{amount:.1f}"
    return f"{amount:.2g}" if amount >= 1e-4 else f"{amount:.1e}"  # noqa: PLR2004 - where zeros become many
