import importlib
import math
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import xarray as xr

import frazil
from frazil.execution.executor import Executor, Outcome
from frazil.execution.results import results
from frazil.execution.serial import SerialExecutor
from frazil.execution.wire import received, remote
from frazil_functions.errors import BackendError, InvalidInputError, LabelError


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("calls")


def test_calls_run_here_and_in_order() -> None:
    executor: Executor = SerialExecutor()
    executor.warm()
    with executor:
        assert list(executor.map(math.sqrt, [4.0, 9.0])) == [Outcome(0, 2.0), Outcome(1, 3.0)]
    assert executor.workers == 1


def test_an_error_is_an_outcome_and_the_calls_after_it_run(calls: ModuleType) -> None:
    outcomes = list(SerialExecutor().map(calls.refuse_odd, [0, 1, 2]))
    assert [outcome.value for outcome in outcomes] == [0, None, 2]
    error = outcomes[1].error
    assert isinstance(error, LabelError)
    assert str(error) == "time[1] repeats. Drop one of the two"
    assert "in refuse_odd" in error.__notes__[0]


def test_a_value_is_another_object_than_the_function_returned(calls: ModuleType) -> None:
    argument = [1]
    (outcome,) = SerialExecutor().map(calls.same, [argument])
    assert outcome.value == argument
    assert outcome.value is not argument


def test_bytes_are_never_unpickled(calls: ModuleType, tmp_path: Path) -> None:
    made = tmp_path / "made"
    trap = pickle.dumps(calls.Trap(str(made)))
    reply = remote(pickle.dumps(calls.same))(pickle.dumps(trap))
    assert reply == ("bytes", trap, "", "")
    assert received(0, "same", reply).value == trap
    assert not made.exists()


def test_an_error_is_rebuilt_here_from_words_alone(calls: ModuleType, tmp_path: Path) -> None:
    made = tmp_path / "made"
    (outcome,) = SerialExecutor().map(calls.raise_trap, [str(made)])
    assert type(outcome.error) is LabelError
    assert str(outcome.error) == "a trap"
    assert "calls.TrapError: a trap" in outcome.error.__notes__[0]
    assert not made.exists()


def test_an_error_of_another_kind_is_named() -> None:
    (outcome,) = SerialExecutor().map(math.sqrt, [-1.0])
    assert isinstance(outcome.error, BackendError)
    assert "Call 0 of sqrt failed: ValueError: " in str(outcome.error)


def test_an_interrupt_is_no_outcome(calls: ModuleType) -> None:
    with pytest.raises(KeyboardInterrupt):
        list(SerialExecutor().map(calls.interrupt, [1]))


def test_an_interrupt_ends_a_long_task_at_once_and_publishes_nothing(tmp_path: Path) -> None:
    steps = 40_000
    values = np.random.default_rng(0).random((steps, 16, 16), "f4")  # chunks of 1 KiB, for a minute of work
    xr.Dataset({"tas": (("time", "lat", "lon"), values)}, {"time": np.arange(steps)}).to_netcdf(tmp_path / "in.nc")
    store = tmp_path / "out.icechunk"
    convert = ["convert", str(tmp_path / "in.nc"), str(store), "--chunks", "time=1", "--backend", "serial"]
    # Shells start background jobs with interrupts ignored, and this test may run in one.
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from frazil.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    with subprocess.Popen([sys.executable, "-c", code, *convert], stderr=subprocess.PIPE, text=True) as client:
        patience = time.monotonic() + 60
        while len(list(store.glob("chunks/*"))) < 20 and time.monotonic() < patience:
            time.sleep(0.02)
        written = len(list(store.glob("chunks/*")))
        client.send_signal(signal.SIGINT)
        _, stderr = client.communicate(timeout=60)
    assert client.returncode == 130
    assert stderr.startswith("frazil: interrupted; nothing was published; run ")
    assert 20 <= written < steps / 2
    assert len(list(store.glob("chunks/*"))) < steps / 2


def test_a_call_runs_when_its_outcome_is_asked_for(tmp_path: Path) -> None:
    outcomes = SerialExecutor().map(os.mkdir, [tmp_path / "a", tmp_path / "b"])
    assert not list(tmp_path.iterdir())
    next(outcomes)
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_what_cannot_be_pickled_is_refused(calls: ModuleType) -> None:
    with pytest.raises(InvalidInputError, match=r"The function .*lambda.* cannot be pickled"):
        list(SerialExecutor().map(lambda value: value, [1]))
    with pytest.raises(InvalidInputError, match="The argument of call 1 of same cannot be pickled"):
        list(SerialExecutor().map(calls.same, [1, calls.lock(None)]))


@pytest.mark.parametrize(
    ("name", "argument", "message"),
    [
        ("lock", None, "Call 0 of lock returned a value that cannot be pickled: TypeError"),
        (
            "raise_stuck",
            None,
            "Call 0 of raise_stuck failed: calls.StuckError: tap",
        ),
        ("leave", 3, "Call 0 of leave failed: SystemExit: 3"),
    ],
)
def test_what_cannot_come_back_is_told_in_words(calls: ModuleType, name: str, argument: object, message: str) -> None:
    (outcome,) = SerialExecutor().map(getattr(calls, name), [argument])
    assert isinstance(outcome.error, BackendError)
    assert message in str(outcome.error)
    assert "On the other side" in outcome.error.__notes__[0]


def test_a_call_that_only_reads_is_made_again_if_its_failure_may_pass(tmp_path: Path) -> None:
    (tmp_path / "fails").write_text("2")
    with frazil.SerialExecutor() as executor:
        assert dict(results(executor, fail_so_often, [(str(tmp_path / "fails"), "a"), ("", "b")])) == {0: "a", 1: "b"}
        (tmp_path / "fails").write_text("3")
        with pytest.raises(frazil.BackendError, match="not yet"):
            list(results(executor, fail_so_often, [(str(tmp_path / "fails"), "a")]))


def fail_so_often(argument: tuple[str, str]) -> str:
    path, value = argument
    left = int(Path(path).read_text()) if path else 0
    if left:
        Path(path).write_text(str(left - 1))
        raise frazil.BackendError("not yet")
    return value
