"""How fast functions are: assumed, or measured by a probe."""

from dataclasses import dataclass, replace
from typing import Final

from frazil.costing.spread import Spread

_KNOWN: Final = Spread(0.7, 1.5)
"""How far another region may be from one that was measured."""


@dataclass(frozen=True, slots=True)
class Rates:
    """What a function takes for a task.

    Attributes
    ----------
    start_seconds
        Until a call has imported what it needs, and from when it returns until that is known.
    open_seconds
        To open a file and read its metadata.
    read_seconds
        To read and decode a byte of values, on one processor: reading takes no more than one.
    write_seconds
        To encode and store a byte of values, on one processor: encoding takes as many as there are.
    unit_seconds
        For each write unit besides.
    ratio
        Bytes that are stored for a byte of values.
    measured
        The region that a probe wrote; empty if nothing was measured.
    """

    start_seconds: Spread
    open_seconds: Spread
    read_seconds: Spread
    write_seconds: Spread
    unit_seconds: Spread
    ratio: Spread
    measured: str = ""


ASSUMED: Final = Rates(
    start_seconds=Spread(0.7, 5.0),
    open_seconds=Spread(0.005, 0.6),
    read_seconds=Spread(1 / 400e6, 1 / 30e6),
    write_seconds=Spread(1 / 300e6, 1 / 25e6),
    unit_seconds=Spread(0.0005, 0.02),
    ratio=Spread(0.2, 1.0),
)
"""Rates that hold between an idle machine and a busy one, and between plain files and compressed ones.

Reading was measured at 36 to 320 MB/s, encoding and writing at 35 to 290 MB/s a processor, the import of what a
function needs at 0.7 s with byte code and 2.7 s without; a cold start of an image comes on top.
"""


@dataclass(frozen=True, slots=True)
class Probe:
    """What a probe measured.

    Attributes
    ----------
    region
        The region that was written, in words.
    nbytes, stored_bytes
        The size of its values, and of what was stored of them.
    files, units
        How many files were opened for it, and how many write units it has.
    start_seconds
        What the call took besides: invocation, import, the way back.
    read_seconds, write_seconds
        What reading with opening took, and encoding.
    peak_memory_bytes
        The largest resident size of the function's process.
    processors
        How many processors encoded it.
    """

    region: str
    nbytes: int
    stored_bytes: int
    files: int
    units: int
    start_seconds: float
    read_seconds: float
    write_seconds: float
    peak_memory_bytes: int
    processors: float

    @property
    def ratio(self) -> float:
        """Bytes that are stored for a byte of values."""
        return self.stored_bytes / max(1, self.nbytes)


def calibrated(probe: Probe) -> Rates:
    """Rates as a probe found them, each between 0.7 and 1.5 times of what was measured.

    A probe stores nothing where others would see it, so the seconds that storing takes stay assumed, as part of the
    seconds of a write unit.
    """
    values = max(1, probe.nbytes)
    return replace(
        ASSUMED,
        start_seconds=_KNOWN.times(probe.start_seconds),
        open_seconds=Spread.exactly(0.0),  # in what reading took
        read_seconds=_KNOWN.times(probe.read_seconds / values),
        write_seconds=_KNOWN.times(probe.write_seconds * probe.processors / values),
        ratio=Spread(0.8 * probe.ratio, 1.25 * probe.ratio),
        measured=probe.region,
    )
