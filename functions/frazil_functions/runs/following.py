"""Following a run: its directory looked at again and again, and never more often than it bears."""

import time
from collections.abc import Iterable
from typing import Final

from frazil_functions.rundir import RunDirectory
from frazil_functions.runs.gather import Gathering
from frazil_functions.tasks import Receipt

LOOK_SECONDS: Final = 1.0
"""How long to wait between two looks, at least; each is one list of the receipts."""

LOOK_SHARE: Final = 0.05
"""Which share of the time may be spent looking, where a look takes long."""


class Following:
    """A run directory, and what is gathered of it.

    Parameters
    ----------
    directory, gathering
        Where receipts come, and where they go.
    """

    def __init__(self, directory: RunDirectory, gathering: Gathering) -> None:
        self.gathering = gathering
        self._directory = directory
        self._next = time.monotonic()

    @property
    def wait(self) -> float:
        """Seconds until the next look is due."""
        return max(0.0, self._next - time.monotonic())

    def look(self) -> list[Receipt]:
        """Gather what is new since the last look; what added regions."""
        begin = time.monotonic()
        names = self._directory.list_receipts()
        took = time.monotonic() - begin
        found = self.add(names)
        self._next = time.monotonic() + max(LOOK_SECONDS, took / LOOK_SHARE)
        return found

    def add(self, names: Iterable[str]) -> list[Receipt]:
        """Gather receipts by name; what added regions."""
        return self.gathering.read(self._directory, names)
