import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass

import pytest

from frazil.execution.executor import Outcome
from frazil.execution.submitting import LithopsCalls
from frazil.execution.watching import Job, Surroundings, Watch
from frazil_functions.errors import BackendError


@dataclass
class Future:
    """What a Lithops future tells of a call elsewhere that has said nothing since it was invoked, or started."""

    call_id: str
    running: bool
    execution_timeout: float = 0.2
    job_key: str = "job"
    job_id: str = "M1"
    ready: bool = False
    success: bool = False
    done: bool = False

    @property
    def invoked(self) -> bool:
        return not self.running


class Lithops:
    """A backend of which each job is told in advance; it notes what is asked of it."""

    def __init__(self, *jobs: list[Future]) -> None:
        self.coming = list(jobs)
        self.started: list[int] = []
        self.discarded: list[str] = []
        self.forgotten: list[tuple[list[str], bool]] = []
        self.refusals: dict[str, str] = {}
        self.words: dict[str, str] = {}
        self.dead: dict[str, dict[str, str]] = {}

    def pickler(self) -> Callable[[object], bytes]:
        return lambda _: b""

    def start(self, name: str, call: object, packets: Sequence[tuple[bytes]]) -> list[Future]:
        assert call is not None
        self.started.append(len(packets))
        if not self.coming:
            raise BackendError(f"no room for {name}")
        return self.coming.pop(0)

    def refused(self, job: Job) -> str | None:
        return self.refusals.get(job.key)

    def said(self, job: Job) -> str | None:
        return self.words.get(job.key)

    def ended(self, job: Job) -> Mapping[str, str]:
        return self.dead.pop(job.key, {})

    def discard(self, jobs: Sequence[Job]) -> None:
        self.discarded += [job.key for job in jobs]

    def forget(self, jobs: Sequence[Job], *, idle: bool) -> None:
        self.forgotten.append(([job.key for job in jobs], idle))


def write(_: object) -> None:
    """A function that is never called."""


def calls_of(
    lithops: Lithops, *, workers: int, start_deadline: float, ahead: int | None = None
) -> LithopsCalls[object, None]:
    around = Surroundings(None, None, workers, 0.01, start_deadline, ahead, slack=0.1)
    watch = Watch(around, lithops)
    return LithopsCalls(write, lambda: watch)


def watched(futures: list[Future], *, workers: int, start_deadline: float) -> Generator[Outcome[None], None, None]:
    lithops = Lithops(futures)
    with calls_of(lithops, workers=workers, start_deadline=start_deadline) as calls:
        calls.submit(futures)
        for _ in futures:
            outcome = calls.next()
            assert outcome is not None
            yield outcome
    assert lithops.forgotten == [(["job"], True)]


@pytest.mark.timeout(60)
def test_a_call_that_runs_and_never_answers_is_given_up_after_its_time_limit() -> None:
    (outcome,) = watched([Future("0", running=True)], workers=2, start_deadline=300)
    assert isinstance(outcome.error, BackendError)
    assert outcome.killed
    message = str(outcome.error)
    assert message.startswith("Call 0 of write was lost: it ended without an answer, none came within 0.3 s")
    assert "memory limit" in message
    assert "raise call_timeout" in message


@pytest.mark.timeout(60)
def test_a_call_whose_invocation_ends_with_an_error_is_lost_at_once_and_alone() -> None:
    lithops = Lithops([Future(str(call), running=call != 1, execution_timeout=600) for call in range(3)])
    with calls_of(lithops, workers=3, start_deadline=300) as calls:
        calls.submit(range(3))
        lithops.dead["job"] = {"0": "503 Service Unavailable", "1": "Connection reset by peer"}
        outcomes = [calls.next(30), calls.next(30)]
        assert calls.next(0.1) is None
        assert list(calls.running()) == [2]
    assert [outcome.index for outcome in outcomes if outcome] == [0, 1]
    for outcome, said in zip(outcomes, ["503 Service Unavailable", "Connection reset by peer"], strict=True):
        assert outcome is not None
        assert outcome.killed
        assert f"was lost: what ran it ended before it could report: {said}. Its memory limit" in str(outcome.error)


@pytest.mark.timeout(60)
def test_a_call_that_reported_is_not_lost_however_its_invocation_ended() -> None:
    class Reported(Future):
        def result(self, **_: object) -> None:
            raise ValueError("half a value")

    lithops = Lithops([Reported("0", running=True, ready=True)])
    lithops.dead["job"] = {"0": "Connection reset by peer"}
    with calls_of(lithops, workers=1, start_deadline=300) as calls:
        calls.submit([0])
        outcome = calls.next(30)
        assert outcome is not None
        assert "half a value" in str(outcome.error)
        assert not calls.outstanding


@pytest.mark.timeout(60)
def test_a_call_that_never_starts_is_told_with_what_the_backend_last_said() -> None:
    lithops = Lithops([Future("0", running=False)])
    lithops.words["job"] = "Rate exceeded."
    with calls_of(lithops, workers=1, start_deadline=0.1) as calls:
        calls.submit([0])
        outcome = calls.next(30)
    assert outcome is not None
    assert not outcome.killed
    assert str(outcome.error).endswith("or raise start_deadline. It was last refused with: Rate exceeded.")


@pytest.mark.timeout(60)
def test_calls_that_hang_do_not_hide_one_that_never_starts() -> None:
    futures = [Future("0", running=True), Future("1", running=True), Future("2", running=False)]
    outcomes = sorted(watched(futures, workers=2, start_deadline=0.2), key=lambda outcome: outcome.index)
    assert "without an answer" in str(outcomes[0].error)
    assert "without an answer" in str(outcomes[1].error)
    assert "it had not started" in str(outcomes[2].error)
    assert [outcome.killed for outcome in outcomes] == [True, True, False]


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


@pytest.mark.timeout(60)
def test_a_call_that_queues_behind_those_of_another_job_is_not_late() -> None:
    lithops = Lithops(
        [Future("0", running=True, execution_timeout=1.5)], [Future("0", running=False, job_key="second")]
    )
    with calls_of(lithops, workers=1, start_deadline=0.05) as calls:
        calls.submit([1])
        assert calls.next(0.1) is None
        calls.submit([2])
        outcomes = [calls.next(), calls.next()]
    assert [outcome.index for outcome in outcomes if outcome] == [0, 1]
    assert lithops.discarded == ["second"]


@pytest.mark.timeout(60)
def test_a_call_submitted_late_has_the_whole_deadline_to_start() -> None:
    late = Future("0", running=False, job_key="second")
    lithops = Lithops([Future("0", running=False)], [late])
    with calls_of(lithops, workers=2, start_deadline=2.4) as calls:
        calls.submit([1])
        assert calls.next(1.6) is None
        calls.submit([2])
        first = calls.next()
        assert first is not None
        assert first.index == 0
        assert lithops.discarded == ["job"]
        assert calls.next(0.2) is None
        second = calls.next()
        assert second is not None
        assert second.index == 1


@pytest.mark.timeout(60)
def test_what_the_backend_refuses_is_raised_by_next_and_by_every_submission_after() -> None:
    lithops = Lithops([Future("0", running=True, execution_timeout=600)])
    with calls_of(lithops, workers=2, start_deadline=300) as calls:
        calls.submit([1])
        assert calls.next(0.1) is None
        calls.submit([2])
        for _ in range(2):
            with pytest.raises(BackendError, match="no room for write"):
                calls.next()
        with pytest.raises(BackendError, match="no room for write"):
            calls.submit([3])
    assert lithops.forgotten == [(["job"], True)]
    assert lithops.started == [1, 1]


@pytest.mark.timeout(60)
def test_calls_that_the_backend_will_never_start_end_the_wait_for_them() -> None:
    lithops = Lithops([Future("0", running=False), Future("1", running=False)])
    lithops.refusals["job"] = "Error 403: not allowed to perform lambda:InvokeFunction"
    with calls_of(lithops, workers=2, start_deadline=300) as calls:
        calls.submit([1, 2])
        with pytest.raises(BackendError, match=r"refuses calls of write: Error 403: .* needs the permission to invoke"):
            calls.next(30)


@pytest.mark.timeout(60)
def test_an_error_of_the_watch_is_raised_in_the_thread_that_waits() -> None:
    broken = Future("0", running=True)
    broken.execution_timeout = None  # type: ignore[assignment]
    with calls_of(Lithops([broken]), workers=1, start_deadline=300) as calls:
        calls.submit([1])
        with pytest.raises(BackendError, match="cannot be watched any longer: unsupported operand"):
            calls.next()


@pytest.mark.timeout(60)
def test_calls_that_do_not_fit_are_held_back_and_started_many_together() -> None:
    sizes = [4, 4, 2]
    jobs = [[Future(str(call), running=True, job_key=f"job {job}") for call in range(sizes[job])] for job in range(3)]
    lithops = Lithops(*jobs)
    with calls_of(lithops, workers=2, start_deadline=300, ahead=4) as calls:
        calls.submit(range(10))
        outcomes = [calls.next() for _ in range(10)]
    assert sorted(outcome.index for outcome in outcomes if outcome) == list(range(10))
    assert lithops.started == sizes
    assert [keys for keys, _ in lithops.forgotten] == [["job 0"], ["job 1"], ["job 2"]]


@pytest.mark.timeout(60)
def test_many_submissions_take_one_thread_and_few_jobs() -> None:
    before = threading.active_count()
    held = [Future("held", running=True, execution_timeout=600)]
    lithops = Lithops(held, [Future(str(call), running=True, execution_timeout=600) for call in range(499)])

    starting, submitted = threading.Event(), threading.Event()

    class Slow(Lithops):
        def start(self, name: str, call: object, packets: Sequence[tuple[bytes]]) -> list[Future]:
            starting.set()
            assert submitted.wait(30), "submissions wait for the one before to be started"
            return super().start(name, call, packets)

    slow = Slow(*lithops.coming)
    with calls_of(slow, workers=2, start_deadline=300) as calls:
        calls.submit([0])
        assert starting.wait(30)
        for number in range(499):
            calls.submit([number])
        submitted.set()
        assert calls.next(0.8) is None
        patience = time.monotonic() + 30
        while len(slow.started) < 2 and time.monotonic() < patience:
            time.sleep(0.01)
        assert slow.started == [1, 499]
        assert len(calls.running()) == calls.outstanding == 500
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


@pytest.mark.timeout(60)
def test_calls_left_while_they_are_submitted_do_not_start() -> None:
    class Left(Lithops):
        def pickler(self) -> Callable[[object], bytes]:
            def dumps(_: object) -> bytes:
                calls.__exit__()
                return b""

            return dumps

    before = threading.active_count()
    lithops = Left()
    with calls_of(lithops, workers=1, start_deadline=300) as calls:
        calls.submit([1])
        with pytest.raises(BackendError, match="left while its calls were running"):
            calls.next()
        time.sleep(0.2)  # the watch looks every 0.01 s
    assert lithops.started == []
    assert threading.active_count() == before


@pytest.mark.timeout(60)
def test_calls_left_by_the_thread_that_starts_them_are_forgotten() -> None:
    class Left(Lithops):
        def start(self, name: str, call: object, packets: Sequence[tuple[bytes]]) -> list[Future]:
            calls.__exit__()
            return super().start(name, call, packets)

    lithops = Left([Future("0", running=True, execution_timeout=600)])
    calls = calls_of(lithops, workers=1, start_deadline=300)
    calls.submit([1])
    with pytest.raises(BackendError, match="left while its calls were running"):
        calls.next()
    patience = time.monotonic() + 10
    while not lithops.forgotten and time.monotonic() < patience:
        time.sleep(0.01)
    assert lithops.forgotten == [(["job"], True)]
