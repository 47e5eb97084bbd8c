"""How a task's time is spent: reading, and encoding and writing, stretch by stretch."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class Busy:
    """Seconds in which at least one thing of a kind was under way."""

    under_way: int = 0
    since: float = 0.0
    spent: float = 0.0

    @contextmanager
    def one(self) -> Iterator[None]:
        """While one of them is under way."""
        self._count()
        self.under_way += 1
        try:
            yield
        finally:
            self._count()
            self.under_way -= 1

    def take(self) -> float:
        """The seconds since the last take."""
        self._count()
        spent, self.spent = self.spent, 0.0
        return spent

    def _count(self) -> None:
        now = time.perf_counter()
        if self.under_way:
            self.spent += now - self.since
        self.since = now


@dataclass(frozen=True, slots=True)
class Stretch:
    """When a stretch of a task's time began (seconds since 1970), and what it was spent on, in seconds."""

    started: float
    seconds: float
    read_seconds: float
    write_seconds: float


@dataclass(slots=True)
class Clock:
    """A task's time; `lap` cuts it into stretches without a gap."""

    reading: Busy = field(default_factory=Busy)
    writing: Busy = field(default_factory=Busy)
    started: float = field(default_factory=time.time)
    begin: float = field(default_factory=time.perf_counter)

    def lap(self) -> Stretch:
        """The stretch that ends now; the next begins."""
        now = time.perf_counter()
        seconds = now - self.begin
        stretch = Stretch(self.started, seconds, self.reading.take(), self.writing.take())
        self.started, self.begin = self.started + seconds, now
        return stretch
