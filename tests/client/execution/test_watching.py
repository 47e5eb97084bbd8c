import threading
from collections.abc import Generator
from dataclasses import dataclass

import pytest

from frazil.execution.executor import Outcome
from frazil.execution.watching import Calls, Surroundings
from frazil_functions.errors import BackendError


@dataclass
class Future:
    """What a Lithops future tells of a call elsewhere that has said nothing since it was invoked, or started."""

    call_id: str
    running: bool
    execution_timeout: float = 0.2
    job_key: str = "job"
    ready: bool = False
    success: bool = False
    done: bool = False

    @property
    def invoked(self) -> bool:
        return not self.running


class Monitor:
    def remove(self, futures: list[Future]) -> None:
        """Lithops stops looking for these."""


def watched(futures: list[Future], *, workers: int, start_deadline: float) -> Generator[Outcome[object], None, None]:
    around = Surroundings(None, Monitor(), None, workers, 0.01, start_deadline, slack=0.1)
    forgotten = threading.Event()
    calls = Calls("write", futures, around, lambda _: forgotten.set())
    try:
        for _ in futures:
            yield calls.next()
    finally:
        calls.end()
    assert forgotten.is_set()


@pytest.mark.timeout(60)
def test_a_call_that_runs_and_never_answers_is_given_up_after_its_time_limit() -> None:
    (outcome,) = watched([Future("0", running=True)], workers=2, start_deadline=300)
    assert isinstance(outcome.error, BackendError)
    message = str(outcome.error)
    assert message.startswith("Call 0 of write was lost: it ended without an answer, none came within 0.3 s")
    assert "memory limit" in message
    assert "raise call_timeout" in message


@pytest.mark.timeout(60)
def test_calls_that_hang_do_not_hide_one_that_never_starts() -> None:
    futures = [Future("0", running=True), Future("1", running=True), Future("2", running=False)]
    outcomes = sorted(watched(futures, workers=2, start_deadline=0.2), key=lambda outcome: outcome.index)
    assert "without an answer" in str(outcomes[0].error)
    assert "without an answer" in str(outcomes[1].error)
    assert "it had not started" in str(outcomes[2].error)


@pytest.mark.timeout(60)
def test_a_call_that_queues_behind_another_is_not_late() -> None:
    outcomes = watched([Future("0", running=False), Future("1", running=True)], workers=1, start_deadline=0.05)
    assert [outcome.index for outcome in outcomes] == [1, 0]


@pytest.mark.timeout(60)
def test_a_call_within_its_time_limit_is_waited_for() -> None:
    futures = [Future("0", running=True, execution_timeout=600), Future("1", running=True)]
    outcomes = watched(futures, workers=2, start_deadline=0.01)
    assert next(outcomes).index == 1
    outcomes.close()
