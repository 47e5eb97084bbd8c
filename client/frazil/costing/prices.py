"""The price table: what a cloud asks for each unit, where and when that was so, and which page says it."""

import math
import re
import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final, Literal, get_args

import msgspec

from frazil_functions.decoding import convert
from frazil_functions.errors import InvalidInputError

type Priced = Literal[
    "function_gb_second_x86_64",
    "function_gb_second_arm64",
    "function_call",
    "put_request",
    "get_request",
    "stored_gb_month",
    "logs_gb",
    "image_gb_month",
    "transfer_gb",
]
"""What has a price."""

_OWN: Final = "prices.toml"
_DATE: Final = re.compile(r"\d{4}-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?")


@dataclass(frozen=True, slots=True)
class Price:
    """What one thing costs.

    Attributes
    ----------
    what
        Of what it is the price.
    price
        In dollars for one unit.
    unit
        What a unit is, in words; GB are 10^9 bytes of storage, and 2^30 bytes of a function's memory.
    source
        The page that publishes it.
    """

    what: Priced
    price: float
    unit: str
    source: str


@dataclass(frozen=True, slots=True)
class PriceTable:
    """Prices in one region at one time.

    Attributes
    ----------
    date
        When they were read, in ISO 8601: a day or a month.
    region
        The cloud's region that they are of.
    prices
        One of each kind.
    """

    date: str
    region: str
    prices: tuple[Price, ...]

    def of(self, what: Priced) -> Price:
        """The price of something."""
        return next(one for one in self.prices if one.what == what)


@dataclass(frozen=True, slots=True)
class _File:
    date: str
    region: str
    price: tuple[Price, ...]


def load_prices(file: str | Path | None = None) -> PriceTable:
    """The price table of a TOML file, or the one that comes with Frazil.

    Raises
    ------
    InvalidInputError
        If there is no such file, or it is no price table, lacks a price, or has one for another unit.
    """
    where = str(file) if file is not None else _OWN
    try:
        text = files("frazil.costing").joinpath(_OWN).read_text() if file is None else Path(file).read_text("utf-8")
        found: _File = convert(tomllib.loads(text), _File)
    except OSError as error:
        raise InvalidInputError(f"the prices {where} cannot be read: {error.strerror or error}") from error
    except (msgspec.MsgspecError, ValueError) as error:  # ValueError: of TOML and of UTF-8
        raise InvalidInputError(f"{where} is no price table: {error}; docs/cost.md shows the form of one") from error
    names = [one.what for one in found.price]
    for name in get_args(Priced.__value__):
        if names.count(name) != 1:
            raise InvalidInputError(f"{where} has {names.count(name)} prices of {name!r}; give one")
    if not _DATE.fullmatch(found.date):
        raise InvalidInputError(f"{where} is of {found.date!r}; give a day or a month, as in 2026-06")
    units = {} if file is None else {one.what: one.unit for one in load_prices().prices}
    for one in found.price:
        if one.unit != units.get(one.what, one.unit):
            raise InvalidInputError(
                f"{where}: the price of {one.what!r} is that of one {one.unit!r}, and is taken for that of one "
                f"{units[one.what]!r}; give it for that unit"
            )
        if not 0 <= one.price < math.inf:
            raise InvalidInputError(
                f"{where}: the price of {one.what!r} is {one.price}; give dollars for one {one.unit}"
            )
    return PriceTable(found.date, found.region, found.price)
