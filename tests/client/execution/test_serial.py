import importlib
import math
import os
from pathlib import Path
from types import ModuleType

import pytest

from frazil.execution.executor import Executor, Outcome
from frazil.execution.serial import SerialExecutor
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
            "Call 0 of raise_stuck raised an error that cannot travel: calls.StuckError: tap",
        ),
        ("leave", 3, "Call 0 of leave raised an error that cannot travel: SystemExit: 3"),
    ],
)
def test_what_cannot_come_back_is_told_in_words(calls: ModuleType, name: str, argument: object, message: str) -> None:
    (outcome,) = SerialExecutor().map(getattr(calls, name), [argument])
    assert isinstance(outcome.error, BackendError)
    assert message in str(outcome.error)
    assert "On the other side" in outcome.error.__notes__[0]
