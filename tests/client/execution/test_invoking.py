import threading
import time
from collections.abc import Mapping
from typing import Any

import pytest
import requests

from frazil.execution.invoking import Invoking, unlocking

PAYLOAD: Mapping[str, Any] = {"job_key": "job", "call_ids": ["00000"]}


class Answers:
    """A backend that answers invocations one after the other with what is given, and the last for ever."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked = 0

    def __call__(self, payload: Mapping[str, Any]) -> str:
        assert payload is PAYLOAD
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer.startswith("name"):
            return answer
        raise Exception(answer)  # noqa: TRY002 - as Lithops does


@pytest.mark.parametrize("status", ["429", "500", "502", "503"])
def test_a_call_for_which_there_is_no_room_is_invoked_again(status: str) -> None:
    backend = Answers(f"Error {status}: later", f"Error {status}: later", "name")
    assert Invoking(backend)(PAYLOAD) == "name"
    assert backend.asked == 3


def test_pauses_grow_from_one_invocation_to_the_next() -> None:
    began = time.monotonic()
    assert Invoking(Answers("Error 429: ", "Error 429: ", "Error 429: ", "name"))(PAYLOAD) == "name"
    assert time.monotonic() - began >= 0.5 * (0.2 + 0.4 + 0.8)


@pytest.mark.parametrize(
    "answer",
    ["Error 403: no", "Error 413: too large", "Unauthorized - Invalid API Key", "Lithops Runtime: a:1 not deployed"],
)
def test_a_call_that_can_never_start_is_told_of_at_once(answer: str) -> None:
    backend = Answers(answer)
    invoking = Invoking(backend)
    assert invoking(PAYLOAD) == "none"
    assert backend.asked == 1
    assert invoking.refused("job") == answer
    assert invoking.refused("another") is None
    invoking.drop(["job"])
    assert invoking.refused("job") is None


class Ending:
    """A backend that answers when calls have ended; the errors of its invocations come one after the other."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.asked = 0
        self.begun: list[dict[str, bool]] = []

    def __call__(self, payload: Mapping[str, Any]) -> str:
        assert payload["job_key"] == "job"
        self.asked += 1
        if self.errors:
            raise self.errors.pop(0)
        return "name"

    def seen(self, payload: Mapping[str, Any]) -> Mapping[str, bool]:
        assert payload["job_key"] == "job"
        return self.begun.pop(0)


def test_calls_that_began_and_whose_invocation_failed_are_told_of_once_and_not_invoked_again() -> None:
    backend = Ending(ConnectionError("Connection\n reset by peer"))
    backend.begun = [{"00001": True, "00002": False}]
    invoking = Invoking(backend, backend.seen)
    assert invoking({"job_key": "job", "call_ids": ["00001", "00002", "00003"]}) == "none"
    assert backend.asked == 1
    assert invoking.ended("another") == []
    assert invoking.ended("job") == [(("00002", "00003"), "Connection reset by peer")]
    assert invoking.ended("job") == []


def test_calls_that_reported_do_not_depend_on_how_their_invocation_ended() -> None:
    backend = Ending(ConnectionError("reset"))
    backend.begun = [{"00000": True}]
    invoking = Invoking(backend, backend.seen)
    assert invoking(PAYLOAD) == "none"
    assert backend.asked == 1
    assert invoking.ended("job") == []


def test_calls_that_did_not_begin_are_invoked_again_whatever_was_said() -> None:
    backend = Ending(Exception("Rate exceeded."), ConnectionError(""))
    backend.begun = [{}, {}]
    invoking = Invoking(backend, backend.seen)
    assert invoking(PAYLOAD) == "name"
    assert backend.asked == 3
    assert invoking.ended("job") == []
    assert invoking.said("job") == "ConnectionError"
    invoking.drop(["job"])
    assert invoking.said("job") is None


def test_a_call_that_takes_longer_than_its_invocation_is_waited_for_goes_on() -> None:
    backend = Ending(requests.ReadTimeout("Read timed out. (read timeout=120)"))
    invoking = Invoking(backend, backend.seen)
    assert invoking(PAYLOAD) == "none"
    assert backend.asked == 1
    assert invoking.ended("job") == []


def test_a_function_that_is_not_there_is_told_of_at_once_also_where_the_error_has_its_status_apart() -> None:
    class HttpError(Exception):
        """As `googleapiclient` has it."""

        status_code = 404

    backend = Ending(HttpError("<HttpError 404 when requesting its address>"))
    invoking = Invoking(backend, backend.seen)
    assert invoking(PAYLOAD) == "none"
    assert backend.asked == 1
    assert invoking.refused("job") == "<HttpError 404 when requesting its address>"


invoke_mutex = threading.Lock()
"""Named as in Lithops' modules for Google Cloud."""


class Locking:
    """Asks for an address as those do."""

    def _get_url_and_token(self, service: str) -> str:
        invoke_mutex.acquire()
        if service == "deleted":
            raise LookupError(service)
        invoke_mutex.release()
        return f"https://{service}"


def test_an_address_that_cannot_be_had_leaves_no_lock() -> None:
    backend = Locking()
    unlocking(backend)
    with pytest.raises(LookupError):
        backend._get_url_and_token("deleted")  # noqa: SLF001
    assert not invoke_mutex.locked()
    assert backend._get_url_and_token("there") == "https://there"  # noqa: SLF001


def test_what_else_goes_wrong_is_not_tried_again() -> None:
    backend = Answers("some error of another backend: Error 429: of no one")
    with pytest.raises(Exception, match="some error"):
        Invoking(backend)(PAYLOAD)
    assert backend.asked == 1


@pytest.mark.timeout(60)
@pytest.mark.parametrize("ended", ["closed", "dropped"])
def test_no_call_is_invoked_again_once_nobody_waits_for_it(ended: str) -> None:
    backend = Answers("Error 429: later")
    invoking = Invoking(backend)
    threading.Timer(0.3, invoking.close if ended == "closed" else lambda: invoking.drop(["job"])).start()
    assert invoking(PAYLOAD) == "none"
    asked = backend.asked
    time.sleep(0.5)
    assert backend.asked == asked
