"""What a hostile function can leave for the client to run, where Lithops would run it."""

import base64
import importlib
import json
import pickle
import zlib
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from frazil.execution.channel import read_as_data
from frazil.execution.executor import Outcome
from frazil.execution.lithops import LithopsExecutor
from frazil.execution.wire import received, remote, returns_bytes
from frazil_functions import handler
from frazil_functions.errors import BackendError

HERE = str(Path(__file__).parent)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(HERE)
    return importlib.import_module("calls")


@pytest.mark.parametrize(
    ("place", "form"),
    [
        ("result", "pickle"),
        ("result", "code"),
        ("exc_info", "pickle"),
        ("exc_info", "code"),
        ("new_futures", "pickle"),
        ("new_futures", "code"),
        ("output", "pickle"),
    ],
)
def test_what_a_function_leaves_for_the_client_to_run_is_not_run(
    calls: ModuleType, tmp_path: Path, place: str, form: str
) -> None:
    trap = tmp_path / "sprung"
    with LithopsExecutor(backend="localhost", workers=1) as executor:
        (outcome,) = executor.map(calls.leave_for_the_client, [(place, form, str(trap))])
        assert list(executor.map(calls.same, [1])) == [Outcome(0, 1)]
    assert not trap.exists()
    assert isinstance(outcome.error, BackendError)
    assert "Call 0 of leave_for_the_client was lost" in str(outcome.error)


def test_what_a_function_of_ours_would_not_return_is_not_loaded(calls: ModuleType, tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    reply = ("pickle", pickle.dumps(calls.Trap(str(trap))), "", "")
    outcome = received(3, "write", reply, only_bytes=True)
    assert not trap.exists()
    assert isinstance(outcome.error, BackendError)
    received(3, "same", reply)
    assert trap.exists()  # so the trap is one


def test_the_functions_that_frazil_calls_return_bytes_and_others_need_not() -> None:
    assert returns_bytes(handler.write)
    assert returns_bytes(handler.scan)
    assert not returns_bytes(remote)
    assert not returns_bytes(pickle.dumps)


def evaluated(text: str) -> Any:
    """What Lithops makes of it."""
    return pickle.loads(eval(text))  # noqa: S301, S307


def channel(status: Any = None, output: bytes | None = None) -> Any:
    storage = SimpleNamespace(
        get_call_status=lambda *_: json.loads(json.dumps(status)), get_call_output=lambda *_: output
    )
    read_as_data(storage)
    return storage


def test_values_and_what_else_a_status_says_pass_as_they_are() -> None:
    reply = ("bytes", b"\x00receipt", "", "")
    status = {"type": "__end__", "worker_start_tstamp": 1.5, "result": str(pickle.dumps(reply))}
    told = channel(status).get_call_status("e", "A1", "00000")
    assert told["type"] == "__end__"
    assert told["worker_start_tstamp"] == 1.5
    assert evaluated(told["result"]) == reply
    assert channel(output=pickle.dumps(reply)).get_call_output("e", "A1", "00000") == pickle.dumps(reply)
    assert channel().get_call_status("e", "A1", "00000") is None
    assert channel().get_call_output("e", "A1", "00000") is None


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError("7 GiB"), "7 GiB"),
        (TimeoutError("HANDLER", "exceeded maximum time"), "exceeded maximum time"),
        (KeyError("tas", 3), "tas, 3"),
        (OSError(), "OSError"),
    ],
    ids=["one", "of Lithops", "two", "none"],
)
def test_an_error_is_told_in_its_words(error: Exception, says: str) -> None:
    try:
        raise error
    except (MemoryError, OSError, KeyError) as caught:
        told = pickle.dumps((type(caught), caught, None))
    status = channel({"exception": True, "exc_info": str(told)}).get_call_status("e", "A1", "00000")
    kind, rebuilt, trace = evaluated(status["exc_info"])
    assert (kind, str(rebuilt), trace) == (RuntimeError, says, None)


def test_an_error_that_could_not_be_pickled_is_told_in_its_words() -> None:
    told = pickle.dumps({"exc_type": "X", "exc_value": "lock", "exc_traceback": None, "pickle_exception": ""})
    status = {"exception": True, "exc_pickle_fail": True, "exc_info": str(told)}
    read = channel(status).get_call_status("e", "A1", "00000")
    assert str(evaluated(read["exc_info"])[1]) == "lock"
    assert "exc_pickle_fail" not in read


@pytest.mark.parametrize("text", ["b'", "1 + 1", "b'no pickle'", None, 7, "''"])
def test_what_cannot_be_read_is_an_error_of_its_call(text: object) -> None:
    for place in ("result", "exc_info"):
        read = channel({"type": "__end__", place: text}).get_call_status("e", "A1", "00000")
        assert read["exception"]
        assert "result" not in read
        assert isinstance(evaluated(read["exc_info"])[1], RuntimeError)


def test_a_status_that_is_none_is_no_status() -> None:
    with pytest.raises(ValueError, match="the status of a call is a list"):
        channel([1]).get_call_status("e", "A1", "00000")


def test_logs_that_unpack_into_more_than_a_client_holds_are_left_out() -> None:
    short, bomb = (base64.b64encode(zlib.compress(b"a" * size)).decode() for size in (1000, 17 << 20))
    assert channel({"logs": short}).get_call_status("e", "A1", "00000")["logs"] == short
    assert "logs" not in channel({"logs": bomb}).get_call_status("e", "A1", "00000")
    assert "logs" not in channel({"logs": "no log"}).get_call_status("e", "A1", "00000")
