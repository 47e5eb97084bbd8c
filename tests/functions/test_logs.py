"""What functions log comes back as data: bounded, without secrets, and harmless whoever made it."""

import logging
import threading
from typing import Any

import pytest

from frazil.report import relay
from frazil_functions.errors import SourceError
from frazil_functions.logs import FunctionLog, LogLine, LogRequest, captured, log_in, redacted, this_process
from frazil_functions.tasks import Written, dump_written, load_written
from frazil_functions.text import escaped

LOGGER = logging.getLogger("frazil_functions.writing.task")
INFO = LogRequest(logging.INFO, "another")


def test_what_is_logged_meanwhile_is_kept_from_the_asked_level_on_and_of_every_thread() -> None:
    with captured(INFO) as capture:
        LOGGER.debug("too little")
        LOGGER.info("read %d", 3)
        thread = threading.Thread(target=LOGGER.warning, args=("from a thread",))
        thread.start()
        thread.join()
    LOGGER.error("afterwards")
    found = capture.log()
    assert [(line.level, line.logger, line.message) for line in found.lines] == [
        (logging.INFO, LOGGER.name, "read 3"),
        (logging.WARNING, LOGGER.name, "from a thread"),
    ]
    assert found.dropped == 0


def test_nothing_is_kept_or_changed_if_nobody_asks() -> None:
    with captured(LogRequest()) as capture:
        LOGGER.error("unasked")
    assert capture.log() == FunctionLog()


@pytest.mark.parametrize(("process", "shown"), [("another", True), (this_process(), False)], ids=["another", "own"])
def test_who_asks_in_the_same_process_alone_shows_it(
    process: str, shown: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    ours = logging.getLogger("frazil_functions")
    before = (ours.level, ours.propagate, list(ours.handlers))
    with captured(LogRequest(logging.INFO, process)), captured(LogRequest(logging.DEBUG, process)):
        LOGGER.info("inside")
    assert ("inside" in caplog.text) == shown
    assert (ours.level, ours.propagate, ours.handlers) == before


def test_the_last_lines_are_kept_and_no_more_bytes_than_there_may_be() -> None:
    with captured(INFO) as capture:
        for number in range(500):
            LOGGER.info("line %d", number)
    assert [capture.log().lines[at].message for at in (0, -1)] == ["line 300", "line 499"]
    assert capture.log().dropped == 300
    with captured(INFO) as capture:
        for _ in range(100):
            LOGGER.info("x" * 10_000)
    log = capture.log()
    assert sum(len(line.message) for line in log.lines) <= 64_000
    assert len(log.lines) + log.dropped == 100
    assert len(dump_written(Written(0, (), 0, 0, log))) < 80_000


def test_a_message_whose_arguments_do_not_fit_ends_no_task() -> None:
    with captured(LogRequest(logging.INFO, this_process())) as capture:
        LOGGER.info("%d regions", "many")
    assert capture.log().lines[0].message == "%d regions"


def fail() -> None:
    LOGGER.info("opening\nthe file")
    raise SourceError("no")


def test_a_function_that_fails_says_what_it_had_logged() -> None:
    with pytest.raises(SourceError) as caught, captured(INFO):
        fail()
    caught.value.add_note("log of the function: {}\nlog of the function: [")
    assert [line.message for line in log_in(caught.value).lines] == [r"opening\nthe file"]
    assert log_in(SourceError("another")) == FunctionLog()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://host/a.nc?X-Amz-Signature=ab&b=c d", "https://host/a.nc?... d"),
        ("'http://host/a?sig=x'", "'http://host/a?...'"),
        ("s3://key:secret@bucket/a@b.nc", "s3://bucket/a@b.nc"),
        ("https://me@host/x", "https://host/x"),
        ("s3://bucket/what?.nc, and a@b", "s3://bucket/what?.nc, and a@b"),
    ],
)
def test_no_secret_of_a_url_is_shown(text: str, expected: str) -> None:
    assert redacted(text) == expected
    with captured(INFO) as capture:
        LOGGER.info("%s", text)
    assert capture.log().lines[0].message == expected


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "\x1b[2Jb", "a\u202eb", "a\x00b", "a\x9bb", "a\u2028b", "\ud800"])
def test_what_could_move_a_terminal_s_cursor_is_written_as_its_code(text: str) -> None:
    assert escaped(text).isprintable()
    assert "\\" in escaped(text)
    assert escaped("straße, 北 x") == "straße, 北 x"


HOSTILE = [
    {"level": 10**18, "time": float("nan")},
    {"level": -5, "time": float("inf")},
    {"message": "\x1b]0;owned\x07\nERROR frazil: give me your keys"},
    {"logger": "root\n\x1b[31m"},
    {"message": "%s %d %(name)s {0}"},
    {"message": "z" * 10**6},
]


@pytest.mark.parametrize("fields", HOSTILE, ids="-".join)
def test_a_hostile_function_can_only_make_lines_of_text(
    fields: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    line = LogLine(**({"time": 1.0, "level": 20, "logger": "a", "message": "b"} | fields))
    written = load_written(dump_written(Written(0, (), 0, 0, FunctionLog((line,) * 300, -7))))
    relay(written.log, "run", 4)
    records = [record for record in caplog.records if record.name == "frazil.functions"]
    assert len(records) == 201  # and what says that there were more
    for record in records:
        assert record.getMessage().isprintable()
        assert len(record.getMessage()) < 10_000
        assert record.levelno in range(10, 51)
        assert (record.run_id, record.task) == ("run", 4)  # type: ignore[attr-defined]
