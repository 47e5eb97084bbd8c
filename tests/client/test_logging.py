"""What the command line and the library log: how much, in which form, and nothing that is secret."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.client.hourly import read

import frazil
from frazil.cli import main
from frazil.cli.logs import Asked, LogFormat, logging_as

type Said = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """The objects that a command logs, and how it must end."""

    def said(*arguments: str, code: int = 0) -> list[dict[str, Any]]:
        capsys.readouterr()
        assert main([*arguments, "--log-format", "json"]) == code
        return [json.loads(line) for line in capsys.readouterr().err.splitlines()]

    return said


def events(lines: list[dict[str, Any]]) -> list[str]:
    return [line["event"] for line in lines if "event" in line]


def test_a_line_of_json_says_when_how_grave_who_and_what(files: list[str], target: Path, said: Said) -> None:
    lines = said("convert", *files, str(target), "--backend", "serial", "--chunks", "time=4", "-v")
    for line in lines:
        assert list(line)[:4] == ["time", "level", "logger", "message"]
        assert line["time"].endswith("+00:00")
        assert line["level"] == "INFO"
    found = events(lines)
    assert found[0] == "begin"
    assert found[-1] == "end"
    assert found.count("source") == 3
    order = ["begin", "planned", "run", "progress", "published", "end"]
    assert [event for event in found if event in order] == order
    by = {line["event"]: line for line in lines if "event" in line}
    assert by["source"]["place"] == "time 20:24"
    assert by["source"]["source"] == files[2]
    assert (by["end"]["exit_code"], by["end"]["command"]) == (0, "convert")
    (run,) = frazil.runs(target)
    assert {by[event]["run_id"] for event in ("run", "progress", "published")} == {run.run_id}
    assert by["published"]["bytes_per_second"] > 0
    assert by["published"]["peak_memory_bytes"] > 1 << 20
    assert by["progress"]["regions"] == by["progress"]["total"] == run.regions


def test_what_a_template_determined_is_logged(files: list[str], target: Path, said: Said) -> None:
    span = ["--global-start", "2000-01-01", "--global-end", "2000-01-02"]
    lines = said("create-template", files[0], str(target), *span, "-v")
    (made,) = [line for line in lines if line.get("event") == "template"]
    assert (made["level"], made["append_dim"], made["labels"]) == ("INFO", "time", 25)
    assert (made["first_label"], made["last_label"]) == ("2000-01-01 00:00:00", "2000-01-02 00:00:00")
    assert (made["freq"], made["freq_inferred"], made["fill_values"]) == ("1h", True, {})


def test_more_is_logged_when_it_is_asked_for_twice(files: list[str], target: Path, said: Said) -> None:
    lines = said("convert", *files, str(target), "--backend", "serial", "-vv")
    assert {line["level"] for line in lines} == {"DEBUG", "INFO"}
    (receipt,) = [line for line in lines if line.get("event") == "receipt"]
    assert receipt["task"] == 0


def test_without_being_asked_only_warnings_and_errors_are_logged(
    files: list[str], target: Path, said: Said, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said("convert", *files, str(target), "--backend", "serial") == []
    (line,) = said("convert", *files, str(target), "--backend", "serial", code=2)
    assert (line["level"], line["event"], line["error"]) == ("ERROR", "failed", "ExistingGroupError")
    assert "exc_info" not in line
    lines = said("convert", *files, str(target), "--backend", "serial", "-v", code=2)
    assert "Traceback" in lines[-2]["exc_info"]
    assert lines[-1]["exit_code"] == 2
    assert main(["convert", *files, str(target), "--backend", "serial", "--mode", "append", "--resume"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_environment_can_ask_for_logs_too(
    target: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAZIL_LOG_FORMAT", "json")
    monkeypatch.setenv("FRAZIL_VERBOSE", "1")
    assert main(["runs", str(target)]) == 2
    assert events([json.loads(line) for line in capsys.readouterr().err.splitlines()]) == ["begin", "failed", "end"]
    assert main(["runs", str(target), "--log-format", "text"]) == 2
    assert " INFO frazil" in capsys.readouterr().err


def test_a_usage_that_is_wrong_is_one_object_too(said: Said) -> None:
    (line,) = said("convert", "--no-such-option", "a", "b", code=2)
    assert "no-such-option" in line["message"]


@pytest.mark.parametrize(
    "command",
    [["runs", "REPO"], ["gc", "REPO"], ["plan", "FILE", "REPO", "--mode", "overwrite", "--backend", "serial"]],
)
def test_every_command_says_when_it_begins_and_ends(
    command: list[str], files: list[str], target: Path, said: Said
) -> None:
    frazil.convert(files, target, executor=frazil.SerialExecutor())
    named = {"REPO": str(target), "FILE": files[0]}
    lines = said(*(named.get(word, word) for word in command), "-v")
    found = events(lines)
    assert (found[0], found[-1]) == ("begin", "end")
    assert lines[0]["command"] == lines[-1]["command"] == command[0]


def test_text_is_one_line_a_record_and_the_result_stays_on_standard_output(files: list[str], target: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "frazil.cli", "convert", *files, str(target), "--backend", "serial", "-v", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["regions"] == 1
    lines = done.stderr.splitlines()
    assert all(" INFO frazil" in line for line in lines), done.stderr
    assert any(f"{files[0]} -> time 0:10" in line for line in lines)
    assert any("is published as" in line and "/s)" in line for line in lines)


def test_a_log_format_that_is_not_known_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "a", "--log-format", "xml"]) == 2
    assert 'Choose from: "text", "json"' in capsys.readouterr().err


@pytest.mark.parametrize("backend", ["serial", "localhost"])
def test_what_functions_log_is_logged_here_if_that_is_asked_for(
    files: list[str], target: Path, said: Said, backend: str
) -> None:
    lines = said("convert", *files, str(target), "--backend", backend, "-v", "--function-logs")
    (run,) = frazil.runs(target)
    ours = [line for line in lines if line["logger"] == "frazil.functions"]
    assert len(ours) == 2
    for line in ours:
        assert (line["run_id"], line["task"]) == (run.run_id, 0)
        assert line["function_logger"] == "frazil_functions.writing.task"
    assert not [line for line in lines if line["logger"] == "frazil_functions.writing.task"]
    plain = said("convert", *files, str(target), "--backend", backend, "--mode", "overwrite", "-v")
    assert not [line for line in plain if line["logger"] == "frazil.functions"]


def test_what_a_function_logged_before_it_failed_is_logged_here(files: list[str], target: Path, said: Said) -> None:
    plan = target.parent / "plan.json"
    said("plan", *files, str(target), "--backend", "serial", "--out", str(plan))
    Path(files[2]).unlink()
    lines = said("apply", str(plan), "--backend", "serial", "-v", "--function-logs", code=1)
    assert next(line["message"] for line in lines if line["logger"] == "frazil.functions").endswith("from 3 sources")


def test_no_signature_of_a_url_is_logged(target: Path, said: Said) -> None:
    url = "https://me:hunter2@127.0.0.1:1/a.nc?X-Amz-Signature=c0ffee"
    text = json.dumps(said("convert", url, str(target), "--backend", "serial", "-vv", code=2))
    assert "127.0.0.1:1/a.nc" in text
    for secret in ("hunter2", "c0ffee"):
        assert secret not in text


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("verbose", [0, 1])
def test_whatever_logs_a_url_shows_no_secret_and_stays_in_its_line(
    form: LogFormat, verbose: int, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "https://me:hunter2@host/a.nc?X-Amz-Signature=c0ffee"
    with logging_as(Asked(verbose, form)):
        error = OSError(f"{url}\x1b[31m")
        logging.getLogger("frazil.any").warning("from %s\n\x1b[31m", url, exc_info=error, extra={"source": url})
        logging.getLogger("another.library").error(url)
    text = capsys.readouterr().err
    assert text.count("https://host/a.nc?...") == (3 if form == "json" else 2)
    for secret in ("hunter2", "c0ffee", "\x1b"):
        assert secret not in text
    assert "another" not in text


QUIET = """
import logging, sys, frazil
frazil.convert(sys.argv[1:-1], sys.argv[-1], executor=frazil.SerialExecutor(), function_logs=True)
for name in ("frazil", "frazil_functions"):
    logging.getLogger(name).info("nobody listens")
logging.getLogger("frazil").warning("this is shown")
assert not logging.getLogger().handlers
assert logging.getLogger("frazil").level == logging.NOTSET
"""


def test_the_library_leaves_logging_to_whoever_uses_it(files: list[str], target: Path) -> None:
    quiet = {**os.environ, "PYTHONWARNINGS": "ignore", "ICECHUNK_LOG": "icechunk=error"}
    done = subprocess.run(
        [sys.executable, "-c", QUIET, *files, str(target)], capture_output=True, text=True, check=False, env=quiet
    )
    assert (done.returncode, done.stderr) == (0, "this is shown\n")


def test_a_library_s_user_sees_what_is_logged_at_the_level_that_is_set(
    files: list[str], target: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "frazil")
    frazil.convert(files, target, executor=frazil.SerialExecutor(), function_logs=True)
    assert {record.name for record in caplog.records} >= {"frazil.report", "frazil.running", "frazil.functions"}
    assert read(target).sizes["time"] == 24


def test_logging_is_as_it_was_after_a_command(files: list[str], target: Path) -> None:
    before = [(one.level, list(one.handlers)) for one in map(logging.getLogger, ("", "frazil", "frazil_functions"))]
    assert main(["convert", *files, str(target), "--backend", "serial", "-vv"]) == 0
    after = [(one.level, list(one.handlers)) for one in map(logging.getLogger, ("", "frazil", "frazil_functions"))]
    assert after == before
