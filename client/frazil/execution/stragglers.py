"""Which calls are stragglers: the rule of Cubed's runtime, which is that of MapReduce's backup tasks.

See `cubed.runtime.backup.should_launch_backup` and Dean and Ghemawat, "MapReduce: Simplified Data Processing on Large
Clusters" (2004), section 3.6.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

ENOUGH_CALLS: Final = 10
"""With fewer calls than this, a median says little."""

DONE_SHARE: Final = 0.5
"""How much must be done before the rest can be called late."""

SLOW_FACTOR: Final = 3.0
"""How many medians a call takes before it is late."""


def late(running: Mapping[int, float], durations: Sequence[float], known: Iterable[int] = ()) -> list[int]:
    """The calls that deserve a backup, the slowest first.

    Parameters
    ----------
    running
        Seconds that each call runs already, by its number.
    durations
        Seconds that each call took that has ended.
    known
        Calls that have a backup, or are one.

    Examples
    --------
    >>> late({10: 31.0, 11: 8.0}, [10.0] * 10)
    [10]
    """
    total = len(running) + len(durations)
    if total < ENOUGH_CALLS or len(durations) < total * DONE_SHARE:
        return []
    limit = SLOW_FACTOR * statistics.median(durations)
    slow = [number for number in running.keys() - set(known) if running[number] > limit]
    return sorted(slow, key=lambda number: (-running[number], number))
