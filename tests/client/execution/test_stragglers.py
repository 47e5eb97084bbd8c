"""Which calls are called late; that a late call is really doubled is shown in tests/faults."""

import statistics

from hypothesis import given
from hypothesis import strategies as st

from frazil.execution.stragglers import DONE_SHARE, ENOUGH_CALLS, SLOW_FACTOR, late

seconds = st.floats(0.001, 1e6)
running = st.dictionaries(st.integers(0, 10_000), seconds, max_size=60)
durations = st.lists(seconds, max_size=60)


@given(running, durations, st.sets(st.integers(0, 10_000)))
def test_what_is_late_takes_much_longer_than_others_and_has_no_backup(
    running: dict[int, float], durations: list[float], known: set[int]
) -> None:
    found = late(running, durations, known)
    assert len(set(found)) == len(found)
    for number in found:
        assert number not in known
        assert running[number] > SLOW_FACTOR * statistics.median(durations)
    assert [running[number] for number in found] == sorted((running[number] for number in found), reverse=True)


@given(running, durations)
def test_nothing_is_late_while_less_than_half_is_done_or_there_are_few_calls(
    running: dict[int, float], durations: list[float]
) -> None:
    total = len(running) + len(durations)
    if total < ENOUGH_CALLS or len(durations) < DONE_SHARE * total:
        assert late(running, durations) == []


@given(durations.filter(lambda found: len(found) >= ENOUGH_CALLS), st.floats(1.01, 100))
def test_the_last_call_is_late_after_three_medians_and_not_before(durations: list[float], factor: float) -> None:
    limit = SLOW_FACTOR * statistics.median(durations)
    assert late({7: limit * factor}, durations) == [7]
    assert late({7: limit / factor}, durations) == []
    assert late({7: limit * factor}, durations, known=[7]) == []
