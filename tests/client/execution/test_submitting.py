import gc
import importlib
import itertools
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import pytest

from frazil.execution.executor import Calls, Executor, Outcome
from frazil.execution.lithops import LithopsExecutor
from frazil.execution.serial import SerialExecutor
from frazil_functions.errors import BackendError, InvalidInputError


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("calls")


@pytest.fixture
def executor(calls: ModuleType) -> Iterator[LithopsExecutor]:
    with LithopsExecutor(backend="localhost", workers=2) as opened:
        yield opened


@pytest.fixture(params=["serial", "localhost"])
def either(request: pytest.FixtureRequest, calls: ModuleType) -> Iterator[Executor]:
    with SerialExecutor() if request.param == "serial" else LithopsExecutor(backend="localhost", workers=2) as opened:
        yield opened


def await_true(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    patience = time.monotonic() + seconds
    while not condition() and time.monotonic() < patience:
        time.sleep(0.01)
    return condition()


def pids(file: Path) -> list[int]:
    assert await_true(file.exists), "the call did not start"
    return [int(pid) for pid in file.read_text().split()]


def gone(pid: int) -> bool:
    try:
        # A zombie whose parent was killed belongs to init, which may take its time.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def rest(open_calls: Calls[Any, Any]) -> list[Outcome[Any]]:
    """The outcomes that are outstanding, by index."""
    found = [outcome for _ in range(open_calls.outstanding) if (outcome := open_calls.next()) is not None]
    return sorted(found, key=lambda outcome: outcome.index)


# What every executor does


def test_calls_are_numbered_in_the_order_of_all_submissions(either: Executor, calls: ModuleType) -> None:
    with either.calls(calls.same) as submitted:
        assert submitted.outstanding == 0
        assert submitted.next() is None
        submitted.submit(["a", "b"])
        submitted.submit([])
        submitted.submit(["c"])
        assert submitted.outstanding == 3
        assert rest(submitted) == [Outcome(0, "a"), Outcome(1, "b"), Outcome(2, "c")]
        submitted.submit(["d"])
        assert rest(submitted) == [Outcome(3, "d")]
        assert submitted.outstanding == 0
        assert submitted.next() is None
        assert not submitted.running()


def test_calls_that_were_left_take_no_more(either: Executor, calls: ModuleType) -> None:
    with either.calls(calls.same) as submitted:
        submitted.submit([1])
    with pytest.raises(InvalidInputError, match="The calls of same were left"):
        submitted.submit([2])


def test_an_argument_that_cannot_be_pickled_leaves_the_calls_usable(either: Executor, calls: ModuleType) -> None:
    def submit_and_read(arguments: list[object]) -> list[object]:
        submitted.submit(arguments)
        return [outcome.value for outcome in rest(submitted)]

    with either.calls(calls.same) as submitted:
        assert submit_and_read([1]) == [1]
        with pytest.raises(InvalidInputError, match="The argument of call 1 of same cannot be pickled"):
            submit_and_read([calls.lock(None)])
        assert submit_and_read([3]) == [3]


def test_an_executor_of_ones_own_maps_by_its_calls(calls: ModuleType) -> None:
    class Plain(Executor):
        workers = 1

        def warm(self) -> None:
            """Nothing to warm."""

        def calls(self, function: Callable[[Any], Any]) -> Calls[Any, Any]:
            return SerialExecutor().calls(function)

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *exc: object) -> None:
            """Nothing to end."""

    with Plain() as own:
        assert list(own.map(calls.refuse_odd, [0, 2])) == [Outcome(0, 0), Outcome(1, 2)]


def test_leaving_serial_calls_runs_nothing(calls: ModuleType, tmp_path: Path) -> None:
    with SerialExecutor().calls(os.mkdir) as submitted:
        submitted.submit([tmp_path / "a"])
    assert submitted.outstanding == 0
    assert submitted.next() is None
    assert not list(tmp_path.iterdir())


# On processes


def test_a_call_submitted_while_another_runs_starts_at_once(
    executor: LithopsExecutor, calls: ModuleType, tmp_path: Path
) -> None:
    file = tmp_path / "go on"
    with executor.calls(calls.wait_for) as submitted:
        submitted.submit([str(file)])
        assert await_true(lambda: 0 in submitted.running())
        submitted.submit([""])
        assert submitted.next() == Outcome(1, "")
        file.touch()
        assert submitted.next() == Outcome(0, str(file))


def test_no_more_calls_than_workers_run_however_they_were_submitted(
    executor: LithopsExecutor, calls: ModuleType, tmp_path: Path
) -> None:
    with executor.calls(calls.running_beside) as submitted:
        for _ in range(6):
            submitted.submit([str(tmp_path)])
            time.sleep(0.05)
        assert max(outcome.value for outcome in rest(submitted)) == 2


def test_next_waits_no_longer_than_its_timeout(executor: LithopsExecutor, calls: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "go on"
    with executor.calls(calls.wait_for) as submitted:
        submitted.submit([str(file)])
        for timeout in (0.2, 0.0, -1.0):
            begin = time.monotonic()
            assert submitted.next(timeout) is None
            assert time.monotonic() - begin < timeout + 10
        assert submitted.outstanding == 1
        file.touch()
        assert submitted.next(60) == Outcome(0, str(file))


def test_a_killed_call_is_told_while_others_run_and_succeeds_when_submitted_again(
    executor: LithopsExecutor, calls: ModuleType, tmp_path: Path
) -> None:
    file = tmp_path / "pids"
    with executor.calls(calls.write_pid_and_hang) as submitted:
        submitted.submit([str(tmp_path / "long"), str(file)])
        pids(tmp_path / "long")
        os.kill(pids(file)[0], signal.SIGKILL)
        lost = submitted.next(60)
        assert lost is not None
        assert lost.index == 1
        assert isinstance(lost.error, BackendError)
        assert "SIGKILL" in str(lost.error)
        submitted.submit([""])
        assert submitted.next(60) == Outcome(2)
        assert submitted.outstanding == 1


def test_a_killed_worker_leaves_room_for_the_call_that_takes_its_place(calls: ModuleType, tmp_path: Path) -> None:
    with (
        LithopsExecutor(backend="localhost", workers=1) as executor,
        executor.calls(calls.kill_its_worker) as submitted,
    ):
        for attempt in range(3):
            submitted.submit([str(tmp_path / "pids"), ""])
            lost, fine = rest(submitted)
            assert "was killed by SIGKILL before it could report" in str(lost.error)
            assert fine == Outcome(2 * attempt + 1, "alive")


def test_leaving_ends_all_that_was_submitted(executor: LithopsExecutor, calls: ModuleType, tmp_path: Path) -> None:
    files = [tmp_path / name for name in "abcd"]
    with executor.calls(calls.write_pid_and_hang) as submitted:
        for file in files:
            submitted.submit([str(file)])
        running = pids(files[0]) + pids(files[1])
    assert await_true(lambda: all(map(gone, running)))
    assert list(executor.map(calls.same, [1])) == [Outcome(0, 1)]
    assert not files[2].exists()
    assert not files[3].exists()


def test_leaving_calls_leaves_those_of_other_functions_running(
    executor: LithopsExecutor, calls: ModuleType, tmp_path: Path
) -> None:
    file = tmp_path / "go on"
    with executor.calls(calls.wait_for) as waiting:
        waiting.submit([str(file)])
        with executor.calls(calls.write_pid_and_hang) as hanging:
            hanging.submit([str(tmp_path / "a"), str(tmp_path / "b")])
            running = pids(tmp_path / "a")
        assert await_true(lambda: all(map(gone, running)))
        waiting.submit([""])
        assert waiting.next(60) == Outcome(1, "")
        file.touch()
        assert waiting.next(60) == Outcome(0, str(file))


def test_leaving_the_executor_wakes_who_waits_and_refuses_more(calls: ModuleType, tmp_path: Path) -> None:
    with LithopsExecutor(backend="localhost", workers=1) as executor:
        submitted = executor.calls(calls.write_pid_and_hang)
        submitted.submit([str(tmp_path / "a")])
        leaver = threading.Thread(target=lambda: pids(tmp_path / "a") and executor.__exit__())
        leaver.start()
        with pytest.raises(BackendError, match="left while its calls were running"):
            submitted.next()
        leaver.join()
        with pytest.raises(BackendError, match="left while its calls were running"):
            submitted.submit([""])
    assert await_true(lambda: all(map(gone, pids(tmp_path / "a"))))


def test_running_tells_how_long_each_call_runs(executor: LithopsExecutor, calls: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "go on"
    begin = time.monotonic()
    with executor.calls(calls.wait_for) as submitted:
        submitted.submit([str(file), str(file), ""])
        assert await_true(lambda: set(submitted.running()) == {0, 1})
        before = time.monotonic()
        earlier = submitted.running()
        time.sleep(0.5)
        later = submitted.running()
        passed = time.monotonic() - before
        assert set(later) == {0, 1}
        assert all(0.5 <= later[index] - earlier[index] <= passed for index in later)
        assert max(later.values()) < time.monotonic() - begin
        file.touch()
        rest(submitted)
        assert not submitted.running()


def test_two_executors_take_calls_at_once(executor: LithopsExecutor, calls: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "go on"
    with LithopsExecutor(backend="localhost", workers=1) as other:
        with executor.calls(calls.wait_for) as here, other.calls(calls.wait_for) as there:
            here.submit([str(file)])
            there.submit([""])
            here.submit([""])
            assert here.next(60) == Outcome(1, "")
            assert there.next(60) == Outcome(0, "")
        with other.calls(calls.same) as there:
            there.submit([1])
            assert there.next(60) == Outcome(0, 1)


def test_a_submission_does_not_wait_for_calls_however_many_run(executor: LithopsExecutor, calls: ModuleType) -> None:
    with executor.calls(calls.nap) as submitted:
        begin = time.monotonic()
        submitted.submit([60.0] * 10_000)
        submitted.submit([60.0])
        assert await_true(lambda: bool(submitted.running()))
        # Given all of them in one job, Lithops starts the first after minutes.
        assert time.monotonic() - begin < 50
        assert submitted.outstanding == 10_001


def test_calls_held_back_run_all(calls: ModuleType) -> None:
    with LithopsExecutor(backend="localhost", workers=2) as executor:
        outcomes = sorted(executor.map(calls.same, range(40)), key=lambda outcome: outcome.index)
    assert outcomes == [Outcome(index, index) for index in range(40)]


def test_leaving_leaves_no_thread(calls: ModuleType) -> None:
    threads = set(threading.enumerate())
    with LithopsExecutor(backend="localhost", workers=2) as executor:
        list(executor.map(calls.same, [1]))
        opened = set(threading.enumerate())
        for _ in range(3):
            with executor.calls(calls.same) as submitted:
                for number in range(3):
                    submitted.submit([number])
                rest(submitted)
        # Lithops ends its own monitor in its own time.
        assert await_true(lambda: len(threading.enumerate()) <= len(opened))
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("frazil-lithops-calls")]
    assert await_true(lambda: set(threading.enumerate()) <= threads)


def test_calls_keep_nothing_of_what_ended(executor: LithopsExecutor, calls: ModuleType) -> None:
    # What Lithops keeps can be seen in it alone.
    lithops = executor._lazy.open().result()._executor  # noqa: SLF001
    monitors = weakref.WeakSet[Any]()
    with executor.calls(calls.same) as submitted:
        for _ in range(5):
            # Workers end after they reported, and the thread that waits for them after that.
            assert await_true(lambda: lithops.compute_handler.job_manager is None)
            submitted.submit([bytes(1 << 20)])
            rest(submitted)
            monitors.add(lithops.job_monitor.monitor)
            assert await_true(lambda: not lithops.job_monitor.monitor.should_run, 10)
            assert not lithops.futures
        # Those of the last job stay until the next.
        assert await_true(lambda: gc.collect() >= 0 and len(monitors) <= 1)
        assert len(lithops.compute_handler.env.jobs) == 1
        bucket = lithops.internal_storage
        assert await_true(
            lambda: not bucket.storage.list_keys(bucket.bucket, "lithops.jobs/" + str(lithops.executor_id) + "-")
        )


def test_no_jobs_name_is_how_anothers_begins(executor: LithopsExecutor, calls: ModuleType) -> None:
    lithops = executor._lazy.open().result()._executor  # noqa: SLF001  Lithops numbers jobs there
    names = sorted(lithops._create_job_id("M") for _ in range(2000))  # noqa: SLF001
    assert not [name for name, after in itertools.pairwise(names) if after.startswith(name)]
