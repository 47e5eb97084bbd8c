"""What a user asks to be stored with loss: packed into whole numbers, or with fewer bits."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, Literal, get_args

import numpy as np

from frazil_functions.errors import InvalidInputError, nearest
from frazil_functions.plan import NEW_GROUP, Mode
from frazil_functions.reading.encoding import Attributes
from frazil_functions.reading.rounding import PACKED_TYPES

type Overflow = Literal["error", "clip"]
"""Of values out of the range that a variable is packed in: refuse them, or store the end of the range."""

type Keepbits = int | Literal["auto"]
"""How many bits of the mantissa are kept: so many, or those that hold 99 % of the information."""

type Pack = bool | str | Sequence[str] | Mapping[str, str]
"""What is packed: every variable of floating-point numbers (True, or the type), or some, each as its type, as a mapping
or as words (tas=int16)."""

DEFAULT_TYPE: Final = "int16"

PACK_ALL: Final = "all"
"""What an option says that asks for this type, where it has to say something."""

_GIVEN: Final = re.compile(rf"{PACK_ALL}|u?int[0-9]+|[^=,/]+=\w+(,[^=,/]+=\w+)*")
"""What may follow `--pack`; anything else is the next argument."""

_NAMES: Final = re.compile(r"\w+(,\w+)*")
"""Variables without their types, which may not."""


@dataclass(frozen=True, slots=True)
class Rounding:
    """What is to be stored with loss.

    Attributes
    ----------
    every
        The type that every variable of floating-point numbers is packed as; None for those alone that are named.
    pack
        The types of those that are named.
    ranges
        The least and the largest value of some of them.
    overflow
        What becomes of values out of that range.
    keepbits
        Variables that are rounded to some bits of their mantissa.
    """

    every: str | None = None
    pack: Mapping[str, str] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    overflow: Overflow = "error"
    keepbits: Mapping[str, Keepbits] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.every is not None or bool(self.pack) or bool(self.keepbits)

    def __post_init__(self) -> None:
        for dtype in (*self.pack.values(), self.every or DEFAULT_TYPE):
            if dtype not in PACKED_TYPES:
                raise InvalidInputError(f"pack cannot be {dtype!r}; {nearest(str(dtype), PACKED_TYPES)}")
        if self.overflow not in get_args(Overflow.__value__):
            known = get_args(Overflow.__value__)
            raise InvalidInputError(f"pack_overflow cannot be {self.overflow!r}; {nearest(str(self.overflow), known)}")
        for name, bits in self.keepbits.items():
            if bits != "auto" and not _is_count(bits):
                meant = " (did you mean 'auto'?)" if str(bits).lower() == "auto" else ""
                raise InvalidInputError(
                    f"keepbits of {name!r} cannot be {bits!r}; use a number of bits from 1, or 'auto'{meant}"
                )
            if name in self.pack:
                raise InvalidInputError(
                    f"{name!r} is to be packed and to keep {bits} bits, and is one or the other; leave out --pack or "
                    "--keepbits for it"
                )
        for name, (low, high) in self.ranges.items():
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise InvalidInputError(
                    f"the range of {name!r} is {low:g} to {high:g}; use --pack-range {name}=LOW:HIGH, finite numbers "
                    "of which the first is the lower"
                )

    @classmethod
    def of(
        cls,
        pack: Pack,
        pack_range: Mapping[str, Sequence[float]] | None,
        pack_overflow: Overflow,
        keepbits: Mapping[str, Keepbits] | None,
    ) -> "Rounding":
        """What the options of a plan ask for.

        Raises
        ------
        InvalidInputError
            Naming the option that cannot be meant.
        """
        every, named = _asked(pack)
        for option, one in (("pack_range", pack_range), ("keepbits", keepbits)):
            if one is not None and not isinstance(one, Mapping):
                raise InvalidInputError(f"{option} is {one!r}; use a mapping of variables")
        ranges = {name: _range(name, one) for name, one in (pack_range or {}).items()}
        return cls(every, named, ranges, pack_overflow, {name: _plain(bits) for name, bits in (keepbits or {}).items()})


@dataclass(frozen=True, slots=True)
class Stored:
    """How an array is stored instead of as its sources have it."""

    dtype: str
    attributes: Attributes


def check_rounding(mode: Mode, asked: Rounding) -> None:
    """Refuse what means nothing in a mode.

    Raises
    ------
    InvalidInputError
        Saying what does.
    """
    for name in asked.ranges if mode not in {"append", "region"} else ():
        if asked.every is None and name not in asked.pack:
            raise InvalidInputError(
                f"there is a range for {name!r} (--pack-range), which is not packed; add --pack {name}={DEFAULT_TYPE}"
            )
    if asked.overflow != "error" and not asked and mode in NEW_GROUP:
        raise InvalidInputError("pack_overflow says what becomes of values that are packed; pack some (--pack)")
    if (asked or asked.ranges) and mode in {"append", "region"}:
        raise InvalidInputError(
            f"mode {mode!r} stores values as the group does, packed or rounded where it does so, in the range that it "
            "has; leave out pack, pack_range and keepbits"
        )


def _asked(pack: Pack) -> tuple[str | None, Mapping[str, str]]:
    """The type that all are packed as, and those of some."""
    if isinstance(pack, Mapping):
        return None, dict(pack)
    if isinstance(pack, bool):
        return (DEFAULT_TYPE if pack else None), {}
    words: list[object] = [pack] if isinstance(pack, str) or not isinstance(pack, Sequence) else list(pack)
    if not words or not all(isinstance(one, str) for one in words):
        raise InvalidInputError(f"pack is {pack!r}; use True, a type, or a mapping of variables to types")
    text = ",".join(map(str, words))
    if not text:
        raise InvalidInputError("pack is empty; use True, a type, or a mapping of variables to types")
    if text in {PACK_ALL, "true"}:
        return DEFAULT_TYPE, {}
    if "=" not in text:
        return text, {}
    try:
        return None, assigned(text)
    except ValueError as error:
        raise InvalidInputError(f"pack is {text!r}: {error}") from error


def assigned(text: str, form: str = "VARIABLE=VALUE, as in tas=int16") -> dict[str, str]:
    """`tas=int16,pr=int8` as a mapping; `form` says how it should look.

    Raises
    ------
    ValueError
        If it is none, or names something twice.
    """
    found: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = (one.strip() for one in part.partition("="))
        if not (equals and name and value):
            raise ValueError(f"{part!r} is not {form}")
        if name in found:
            raise ValueError(f"{name!r} is given twice")
        found[name] = value
    return found


def spelled_out(tokens: Sequence[str]) -> list[str]:
    """Arguments of a command line with what a bare `--pack` stands for.

    Examples
    --------
    >>> spelled_out(["--pack", "a.nc", "--pack", "tas=int8", "archive"])
    ['--pack', 'all', 'a.nc', '--pack', 'tas=int8', 'archive']
    """
    found = []
    for word, after in zip(tokens, [*tokens[1:], ""], strict=True):
        found += [word, PACK_ALL] if word == "--pack" and not _GIVEN.fullmatch(after) else [word]
    return found


def taken_for_paths(tokens: Sequence[str]) -> list[str]:
    """Words behind a bare `--pack` that may have been meant as variables.

    Examples
    --------
    >>> taken_for_paths(["a.nc", "archive", "--pack", "tas,pr", "--pack", "b.nc", "--pack", "--quiet"])
    ['tas,pr']
    """
    return [
        after
        for word, after in pairwise(tokens)
        if word == "--pack" and not _GIVEN.fullmatch(after) and _NAMES.fullmatch(after)
    ]


def _range(name: str, given: object) -> tuple[float, float]:
    if isinstance(given, Sequence) and not isinstance(given, str) and len(given) == 2:  # noqa: PLR2004 - both ends
        ends = [float(one) for one in given if isinstance(one, int | float | np.number) and not isinstance(one, bool)]
        if len(ends) == 2:  # noqa: PLR2004 - as above
            return ends[0], ends[1]
    raise InvalidInputError(f"pack_range of {name!r} is {given!r}; use (LOW, HIGH)")


def _plain(bits: Any) -> Any:  # noqa: ANN401 - what a user gave, checked later
    """A number of NumPy's as one of Python's."""
    return int(bits) if isinstance(bits, np.integer) else bits


def _is_count(one: object) -> bool:
    return isinstance(one, int) and not isinstance(one, bool) and one >= 1
