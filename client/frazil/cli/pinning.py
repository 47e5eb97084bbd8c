"""Pins: files in version control that say which plan was reviewed, so that no other is applied."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cyclopts import Parameter

from frazil_functions.errors import InvalidInputError
from frazil_functions.plan import Plan
from frazil_functions.text import escaped

_WORK: Final = re.compile(r"work = ([0-9a-f]{64})")
_VOLATILE: Final = frozenset({"base", "regions", "hash"})
"""What a plan shows that may change while its work stays the same."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Pinned:
    """Which plan was reviewed.

    Attributes
    ----------
    pin
        A file that pins the plan that was reviewed; another one is refused.
    """

    pin: Path | None = None

    def check(self, plan: Plan) -> None:
        """Refuse a plan that is not the one which was reviewed, if one is named.

        Raises
        ------
        InvalidInputError
            Saying what differs, or that the pin cannot be read.
        """
        if self.pin is not None:
            check_pin(plan, self.pin)


def pin_of(plan: Plan) -> str:
    """A plan's pin: what is written and where, by its hash, below it in words for whoever reviews it.

    The snapshot that the plan was made against, the versions, and how regions are shared among tasks are no part of it.
    """
    words = "\n".join(f"# {line}" for line in _words(plan))
    return f"# The plan that was reviewed. `frazil apply --pin` refuses any other.\nwork = {plan.work_hash}\n{words}\n"


def check_pin(plan: Plan, pin: Path) -> None:
    """Refuse a plan that is not the one which was reviewed.

    Raises
    ------
    InvalidInputError
        Saying what differs, or that the pin cannot be read.
    """
    try:
        text = pin.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(
            f"the pin {pin} cannot be read: {getattr(error, 'strerror', None) or error}; make it with "
            f"`frazil report PLAN --format pin > {pin}`, and have it reviewed. Nothing was written"
        ) from error
    found = [known[1] for line in text.splitlines() if (known := _WORK.fullmatch(line.strip()))]
    if len(found) != 1:
        raise InvalidInputError(
            f"{pin} is no pin of a plan: it names {len(found)} hashes as `work = ...`, and one is needed; make it with "
            f"`frazil report PLAN --format pin > {pin}`. Nothing was written"
        )
    if found[0] == plan.work_hash:
        return
    pinned = {line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ")}
    new = [line for line in _words(plan) if line not in pinned]
    what = f"it differs in: {'; '.join(new)}" if new else "its files, labels or attributes have changed"
    raise InvalidInputError(
        f"this is not the plan that was reviewed: {pin} pins {found[0][:16]}, and the plan's work is "
        f"{plan.work_hash[:16]}; {what}. Nothing was written; review the plan, and pin it anew"
    )


def _words(plan: Plan) -> list[str]:
    rows = (f"{name.strip()}: {value}" for name, value in plan.describe() if name not in _VOLATILE)
    return [escaped(row) for row in rows]
