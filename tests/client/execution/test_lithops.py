import gc
import importlib
import logging
import math
import operator
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from frazil.execution.configuration import completed
from frazil.execution.executor import Executor, Outcome
from frazil.execution.lithops import LithopsExecutor
from frazil_functions.errors import BackendError, InvalidInputError, LabelError

HERE = str(Path(__file__).parent)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(HERE)
    return importlib.import_module("calls")


@pytest.fixture
def executor(calls: ModuleType) -> Iterator[LithopsExecutor]:
    with LithopsExecutor(backend="localhost", workers=2) as opened:
        yield opened


@pytest.fixture
def run_client(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start Python clients of their own; each has `tmp_path` as its home and temporary directory."""
    clients = []

    def run(code: str, *arguments: str) -> subprocess.Popen[str]:
        path = os.pathsep.join([HERE, *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = os.environ | {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PYTHONPATH": path}
        client = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", code, *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        clients.append(client)
        return client

    yield run
    for client in clients:
        client.kill()
        client.communicate()


def by_index(outcomes: Iterator[Outcome[object]]) -> list[Outcome[object]]:
    return sorted(outcomes, key=lambda outcome: outcome.index)


def lives(pid: int) -> bool:
    status = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    # A zombie whose parent was killed belongs to init, which may take its time.
    return bool(status.stdout.strip()) and not status.stdout.strip().startswith("Z")


def await_true(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    patience = time.monotonic() + seconds
    while not condition() and time.monotonic() < patience:
        time.sleep(0.01)
    return condition()


def pids(file: Path) -> list[int]:
    assert await_true(file.exists), "the call did not start"
    return [int(pid) for pid in file.read_text().split()]


# What arrives


def test_an_executor_is_what_the_protocol_says(executor: LithopsExecutor) -> None:
    same: Executor = executor
    assert same.workers == 2


def test_outcomes_arrive_as_calls_end(executor: LithopsExecutor, calls: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "go on"
    outcomes = executor.map(calls.wait_for, [str(file), ""])
    assert next(outcomes) == Outcome(1, "")
    file.touch()
    assert next(outcomes) == Outcome(0, str(file))
    assert next(outcomes, None) is None


def test_arguments_and_values_arrive_as_they_were_sent(executor: LithopsExecutor, calls: ModuleType) -> None:
    sent = [(1, 2), {"value": 1}, [None], None, {"id", "obj"}, b"", calls.same]
    outcomes = by_index(executor.map(calls.same, sent))
    assert [outcome.value for outcome in outcomes] == sent
    assert [outcome.error for outcome in outcomes] == [None] * len(sent)


def test_no_value_is_a_value(executor: LithopsExecutor, calls: ModuleType) -> None:
    assert by_index(executor.map(calls.nothing, [1, 2])) == [Outcome(0), Outcome(1)]


def test_a_function_with_a_positional_parameter_is_called(executor: LithopsExecutor) -> None:
    assert list(executor.map(operator.neg, [1])) == [Outcome(0, -1)]


def test_what_a_script_defines_reaches_workers(run_client: Callable[..., subprocess.Popen[str]]) -> None:
    client = run_client(
        "from frazil.execution.lithops import LithopsExecutor\n"
        "class Sum:\n"
        "    def __init__(self, *terms): self.terms = terms\n"
        "def total(terms): return sum(terms.terms)\n"
        "with LithopsExecutor() as executor:\n"
        "    print([outcome.value for outcome in executor.map(total, [Sum(1, 2)])])\n"
    )
    assert client.communicate() == ("[3]\n", "")


def test_arguments_and_values_may_be_large(executor: LithopsExecutor, calls: ModuleType) -> None:
    size = 6 << 20  # above every limit of Lithops: 8 kB inline, 4 MiB of arguments
    assert next(executor.map(calls.length, [bytes(size)])).value == size
    assert next(executor.map(calls.zeros, [size])).value == bytes(size)


def test_nothing_to_call_starts_nothing() -> None:
    executor = LithopsExecutor(backend="no such backend")
    with executor:
        assert list(executor.map(math.sqrt, [])) == []


def test_workers_import_nothing_of_the_client(executor: LithopsExecutor, calls: ModuleType) -> None:
    (outcome,) = executor.map(calls.modules, [None])
    assert outcome.value is not None
    assert not {name for name in outcome.value if name.partition(".")[0] in {"frazil", "xarray", "icechunk"}}


# What goes wrong in a function


def test_an_error_arrives_as_itself_and_stops_no_other_call(executor: LithopsExecutor, calls: ModuleType) -> None:
    outcomes = by_index(executor.map(calls.refuse_odd, [0, 1, 2, 4]))
    assert [outcome.value for outcome in outcomes] == [0, None, 2, 4]
    error = outcomes[1].error
    assert isinstance(error, LabelError)
    assert str(error) == "time[1] repeats. Drop one of the two"
    (note,) = error.__notes__
    assert note.startswith("Call 1 of refuse_odd, on the other side:\nTraceback")
    assert "in refuse_odd" in note


@pytest.mark.parametrize(
    ("name", "argument", "message"),
    [
        ("lock", None, "Call 0 of lock returned a value that cannot be pickled: TypeError"),
        (
            "raise_shy",
            None,
            "Call 0 of raise_shy failed: calls.ShyError: tap: dry",
        ),
        (
            "raise_stuck",
            None,
            "Call 0 of raise_stuck failed: calls.StuckError: tap",
        ),
        ("leave", 3, "Call 0 of leave failed: SystemExit: 3"),
    ],
)
def test_what_cannot_come_back_is_told_in_words(
    executor: LithopsExecutor, calls: ModuleType, name: str, argument: object, message: str
) -> None:
    (outcome,) = executor.map(getattr(calls, name), [argument])
    assert isinstance(outcome.error, BackendError)
    assert message in str(outcome.error)
    assert "On the other side" in outcome.error.__notes__[0]


def test_a_module_that_workers_lack_is_named(executor: LithopsExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("only_here")
    exec("def double(value): return 2 * value", module.__dict__)  # noqa: S102  a module with no file
    monkeypatch.setitem(sys.modules, "only_here", module)
    (outcome,) = executor.map(module.double, [1])
    assert isinstance(outcome.error, BackendError)
    assert "No module named 'only_here'" in str(outcome.error)
    assert "Install" in str(outcome.error)


def test_an_argument_that_cannot_be_pickled_is_refused_before_any_call(
    executor: LithopsExecutor, calls: ModuleType, tmp_path: Path
) -> None:
    arguments = [tmp_path / "made", calls.lock(None)]
    with pytest.raises(InvalidInputError, match="The argument of call 1 of mkdir cannot be pickled"):
        list(executor.map(os.mkdir, arguments))
    assert not arguments[0].exists()


# What goes wrong around it


def test_a_killed_function_is_lost_at_once_and_alone(executor: LithopsExecutor, calls: ModuleType) -> None:
    hook = sys.excepthook
    lost, *others = by_index(executor.map(calls.kill_itself, ["now", "", "", ""]))
    assert isinstance(lost.error, BackendError)
    assert "Call 0 of kill_itself was lost" in str(lost.error)
    assert "SIGKILL" in str(lost.error)
    assert [outcome.value for outcome in others] == ["alive"] * 3
    assert sys.excepthook is hook


def test_a_killed_worker_is_seen_at_once_and_its_function_ended(calls: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "pids"
    # With one worker, the others wait for what the killed one left running.
    with LithopsExecutor(backend="localhost", workers=1) as executor:
        lost, *others = by_index(executor.map(calls.kill_its_worker, [str(file), "", ""]))
        assert str(lost.error) == (
            "Call 0 of kill_its_worker was lost: its process was killed by SIGKILL before it could report"
        )
        assert [outcome.value for outcome in others] == ["alive"] * 2
        assert await_true(lambda: not any(map(lives, pids(file))))
        assert list(executor.map(calls.same, [1])) == [Outcome(0, 1)]


def test_a_call_that_runs_too_long_is_ended(calls: ModuleType) -> None:
    with LithopsExecutor(backend="localhost", workers=1, call_timeout=0.5) as executor:
        (outcome,) = executor.map(calls.nap, [60.0])
    assert isinstance(outcome.error, BackendError)
    assert "exceeded maximum time of 0.5 seconds" in str(outcome.error)


def test_calls_that_do_not_start_are_given_up(calls: ModuleType) -> None:
    # No interpreter starts within a millisecond.
    with LithopsExecutor(backend="localhost", workers=3, start_deadline=0.001) as executor:
        outcomes = by_index(executor.map(calls.same, [1, 2]))
        assert [type(outcome.error) for outcome in outcomes] == [BackendError] * 2
        assert "Call 1 of same was lost: it had not started 0.001 s after" in str(outcomes[1].error)


def test_a_backend_that_does_not_exist_is_the_environments_fault(calls: ModuleType) -> None:
    executor = LithopsExecutor(backend="nowhere")
    with executor, pytest.raises(BackendError, match=r"Lithops cannot use nowhere: .*lithops hello"):
        list(executor.map(calls.same, [1]))


# Ending


def test_closing_the_iterator_ends_what_runs_and_the_executor_works_on(
    executor: LithopsExecutor, calls: ModuleType, tmp_path: Path
) -> None:
    files = [tmp_path / name for name in "abc"]
    outcomes = executor.map(calls.write_pid_and_hang, ["", *map(str, files)])
    assert next(outcomes) == Outcome(0)
    running = pids(files[0]) + pids(files[1])
    outcomes.close()
    assert await_true(lambda: not any(map(lives, running)))
    assert by_index(executor.map(calls.same, [1, 2, 3])) == [Outcome(0, 1), Outcome(1, 2), Outcome(2, 3)]
    assert not files[2].exists()


def test_an_error_while_an_outcome_is_awaited_ends_what_runs(
    executor: LithopsExecutor, calls: ModuleType, tmp_path: Path
) -> None:
    files = [tmp_path / "a", tmp_path / "b"]
    with pytest.raises(TimeoutError):
        next_until(executor.map(calls.write_pid_and_hang, [*map(str, files)]), files)
    assert await_true(lambda: not any(map(lives, pids(files[0]) + pids(files[1]))))
    assert list(executor.map(calls.same, [1])) == [Outcome(0, 1)]


def next_until(outcomes: Iterator[Outcome[object]], files: list[Path]) -> Outcome[object]:
    """The next outcome, or TimeoutError in this thread once all files exist, as from a signal handler."""

    def interrupt(*_: object) -> None:
        raise TimeoutError

    def signal_when_all_exist() -> None:
        await_true(lambda: all(file.exists() for file in files), 60)
        os.kill(os.getpid(), signal.SIGUSR1)

    usual = signal.signal(signal.SIGUSR1, interrupt)
    thread = threading.Thread(target=signal_when_all_exist)
    thread.start()
    try:
        return next(outcomes)
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, usual)


def test_an_interrupt_ends_workers_and_removes_the_directory(
    run_client: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    client = run_client(
        "import signal, sys, calls\n"
        "from frazil.execution.lithops import LithopsExecutor\n"
        # Shells start background jobs with interrupts ignored, and this test may run in one.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "with LithopsExecutor(workers=2) as executor:\n"
        "    for outcome in executor.map(calls.write_pid_and_hang, sys.argv[1:]): print(outcome)\n",
        str(tmp_path / "a"),
        str(tmp_path / "b"),
    )
    running = pids(tmp_path / "a") + pids(tmp_path / "b")
    assert all(map(lives, running))
    client.send_signal(signal.SIGINT)
    stdout, stderr = client.communicate(timeout=60)
    assert client.returncode == -signal.SIGINT
    assert stdout == ""
    assert stderr.rstrip().endswith("KeyboardInterrupt")
    assert "Error" not in stderr
    assert await_true(lambda: not any(map(lives, running)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_leaving_ends_calls_whose_outcomes_nobody_reads(calls: ModuleType, tmp_path: Path) -> None:
    files = [tmp_path / "a", tmp_path / "b"]
    with LithopsExecutor(backend="localhost", workers=2) as executor:
        outcomes = executor.map(calls.write_pid_and_hang, [*map(str, files)])
        leaver = threading.Thread(target=lambda: pids(files[0]) and executor.__exit__())
        leaver.start()
        with pytest.raises(BackendError, match="left while its calls were running"):
            next(outcomes)
        leaver.join()
    assert await_true(lambda: not any(map(lives, pids(files[0]))))


def test_leaving_leaves_nothing(calls: ModuleType) -> None:
    threads, environment = set(threading.enumerate()), dict(os.environ)
    level, handlers = logging.root.level, list(logging.root.handlers)
    with LithopsExecutor(backend="localhost", workers=2) as executor:
        temporary = [Path(str(outcome.value)) for outcome in executor.map(calls.temporary, [1, 2])]
        assert temporary[0] == temporary[1]
        assert temporary[0].stat().st_mode & 0o777 == 0o700
        assert next(executor.map(calls.leave, [1])).error is not None
    assert not temporary[0].exists()
    assert await_true(lambda: set(threading.enumerate()) <= threads)
    assert dict(os.environ) == environment
    assert (logging.root.level, logging.root.handlers) == (level, handlers)
    children = subprocess.run(
        ["ps", "-o", "args=", "--ppid", str(os.getpid())], capture_output=True, text=True, check=False
    )
    assert "localhost-runner" not in children.stdout
    assert "defunct" not in children.stdout


def test_leaving_one_of_two_executors_leaves_the_other_working(executor: LithopsExecutor, calls: ModuleType) -> None:
    with LithopsExecutor(backend="localhost") as other:
        assert list(other.map(calls.same, [1])) == [Outcome(0, 1)]
        assert list(executor.map(calls.same, [2])) == [Outcome(0, 2)]
    assert list(executor.map(calls.same, [3])) == [Outcome(0, 3)]


@pytest.mark.parametrize("held", ["", "kept = executor\n"])
def test_an_executor_that_nobody_closes_leaves_nothing(
    run_client: Callable[..., subprocess.Popen[str]], tmp_path: Path, held: str
) -> None:
    client = run_client(
        "import calls, pathlib, tempfile\n"
        "from frazil.execution.lithops import LithopsExecutor\n"
        "def run(executor):\n"
        "    global kept\n"
        f"    {held or 'pass'}\n"
        "    return list(executor.map(calls.same, [1]))\n"
        "print(run(LithopsExecutor(workers=1)))\n"
        "print(len(list(pathlib.Path(tempfile.gettempdir()).iterdir())))\n"
    )
    stdout, stderr = client.communicate(timeout=60)
    assert stderr == ""
    assert stdout == f"[Outcome(index=0, value=1, error=None)]\n{int(bool(held))}\n"
    assert not list(tmp_path.iterdir())


def test_a_closed_executor_says_so(calls: ModuleType) -> None:
    with LithopsExecutor(backend="localhost", workers=1) as executor:
        outcomes = executor.map(calls.same, [1])
    for use in (lambda: next(outcomes), executor.warm):
        with pytest.raises(InvalidInputError, match="executor is closed"):
            use()
    executor.__exit__()


def test_an_executor_that_was_never_used_can_be_left() -> None:
    with LithopsExecutor():
        pass
    with LithopsExecutor(backend="localhost") as executor:
        executor.warm()


@pytest.mark.slow
def test_maps_leave_neither_memory_nor_files(executor: LithopsExecutor, calls: ModuleType) -> None:
    def repeat(times: int) -> int:
        for _ in range(times):
            list(executor.map(calls.same, [bytes(1 << 20)]))
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    home = Path(str(next(executor.map(calls.temporary, [None])).value))
    tracemalloc.start()
    try:
        before = repeat(5)
        after = repeat(20)
    finally:
        tracemalloc.stop()
    assert after - before < 20 * 10_000
    assert await_true(lambda: not list(home.rglob("aggdata.pickle")))


# Neighbours


def test_importing_the_module_does_not_import_lithops(
    run_client: Callable[..., subprocess.Popen[str]],
) -> None:
    client = run_client("import sys, frazil.execution.lithops; print('lithops' in sys.modules)")
    assert client.communicate() == ("False\n", "")


def test_warming_up_is_in_the_background(run_client: Callable[..., subprocess.Popen[str]]) -> None:
    client = run_client(
        "import sys, time, math\n"
        "from frazil.execution import lithops, opening\n"
        "with lithops.LithopsExecutor() as executor:\n"
        "    with opening.OPENING:\n"  # what opening takes first
        "        executor.warm(); executor.warm()\n"
        "        print('lithops.executors' not in sys.modules)\n"
        "    while 'lithops.executors' not in sys.modules: time.sleep(0.01)\n"
        "    print(list(executor.map(math.sqrt, [4.0])))\n"
    )
    assert client.communicate() == ("True\n[Outcome(index=0, value=2.0, error=None)]\n", "")


def test_lithops_says_nothing_unasked(run_client: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    client = run_client(
        "import sys, calls\n"
        "from frazil.execution.lithops import LithopsExecutor\n"
        "with LithopsExecutor() as executor:\n"
        "    for function in calls.raise_shy, calls.kill_itself, calls.kill_its_worker:\n"
        "        list(executor.map(function, sys.argv[1:]))\n",
        str(tmp_path / "pids"),
    )
    assert client.communicate() == ("", "")


def test_a_map_works_in_any_thread_and_leaves_alarms_alone(executor: LithopsExecutor, calls: ModuleType) -> None:
    alarm = signal.getsignal(signal.SIGALRM)
    outcomes: list[Outcome[object]] = []
    thread = threading.Thread(target=lambda: outcomes.extend(executor.map(calls.same, [1])))
    thread.start()
    thread.join()
    assert outcomes == [Outcome(0, 1)]
    assert signal.getsignal(signal.SIGALRM) is alarm


def test_clients_at_once_do_not_disturb_each_other(
    run_client: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    code = (
        "import calls\n"
        "from frazil.execution.lithops import LithopsExecutor\n"
        "for _ in range(2):\n"
        "    with LithopsExecutor(workers=2) as executor:\n"
        "        print(sorted(outcome.value for outcome in executor.map(calls.same, range(2))))\n"
    )
    clients = [run_client(code) for _ in range(3)]
    assert [client.communicate() for client in clients] == [("[0, 1]\n" * 2, "")] * 3
    assert not list(tmp_path.iterdir())


def test_somebody_elses_lithops_keeps_its_directory(
    run_client: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    client = run_client(
        "import lithops, calls\n"
        "from frazil.execution.lithops import LithopsExecutor\n"
        "with LithopsExecutor() as executor:\n"
        "    print(*[outcome.value for outcome in executor.map(calls.temporary, [None])])\n"
    )
    assert client.communicate() == (f"{tmp_path.resolve()}\n", "")
    (left,) = tmp_path.iterdir()
    assert left.name.startswith("lithops-")
    assert not [path for name in ("jobs", "storage") for path in left.joinpath(name).rglob("*") if path.is_file()]


def test_importing_lithops_leaves_the_temporary_directory_as_it_was(
    executor: LithopsExecutor, calls: ModuleType
) -> None:
    (outcome,) = executor.map(calls.temporary, [None])
    assert outcome.value != tempfile.gettempdir()
    assert tempfile.gettempdir() not in {outcome.value, str(outcome.value)}


# Settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"workers": 0}, "workers is 0"),
        ({"start_deadline": -1.0}, "start_deadline is -1.0"),
        ({"call_timeout": 0.0}, "call_timeout is 0.0"),
        ({"config": {}, "config_file": Path("x")}, "given twice"),
        ({"config_file": Path("missing.yaml")}, "no Lithops configuration file 'missing.yaml'"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        LithopsExecutor(**settings)  # type: ignore[arg-type]


def test_a_configuration_file_chooses_the_backend(tmp_path: Path, calls: ModuleType) -> None:
    file = tmp_path / "lithops.yaml"
    file.write_text("lithops: {backend: localhost, storage: localhost, monitoring_interval: 60}")
    with LithopsExecutor(config_file=file) as executor:
        assert executor.workers == len(os.sched_getaffinity(0))
        assert list(executor.map(calls.same, [1])) == [Outcome(0, 1)]


def test_a_configuration_file_may_be_named_by_a_string(tmp_path: Path) -> None:
    file = tmp_path / "lithops.yaml"
    file.write_text("lithops: {backend: localhost, storage: localhost}")
    with LithopsExecutor(config_file=str(file)) as executor:
        assert executor.workers == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("section", "workers"),
    [("aws_lambda: {max_workers: 7}", 7), ("aws_lambda: {}", 1000), ("k8s: {max_workers: 3}", 3), ("k8s:", 100)],
)
def test_workers_are_read_from_the_configuration_and_nothing_is_connected_to(
    run_client: Callable[..., subprocess.Popen[str]], tmp_path: Path, section: str, workers: int
) -> None:
    file = tmp_path / "lithops.yaml"
    file.write_text(f"lithops: {{backend: {section.partition(':')[0]}, storage: aws_s3}}\n{section}")
    client = run_client(
        "import sys, threading\n"
        "from frazil.execution.lithops import LithopsExecutor\n"
        "executor = LithopsExecutor(config_file=sys.argv[1])\n"
        "print(executor.workers, threading.active_count(), 'boto3' in sys.modules, 'kubernetes' in sys.modules)\n",
        str(file),
    )
    assert client.communicate(timeout=60) == (f"{workers} 1 False False\n", "")
    assert list(tmp_path.iterdir()) == [file]


def test_secrets_in_a_configuration_are_named_once_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    found = {
        "lithops": {"backend": "aws_lambda", "storage": "aws_s3"},
        "aws": {"access_key_id": "AKIA-1", "secret_access_key": "hush", "region": "eu-west-1"},
        "aws_lambda": {"execution_role": "arn:x", "env_vars": {"API_TOKEN": "t0k3n"}},
        "gcp": {"credentials_path": "/key.json"},
    }
    with LithopsExecutor(config=found) as executor:
        executor.check()
        assert executor.workers
        assert not executor.local
        assert executor.limits() is not None
        assert executor.configuration()["aws"] == found["aws"]
        with executor.sized(512) as another:
            assert another.configuration()["aws_lambda"]["runtime_memory"] == 512
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    text = record.getMessage()
    assert "aws.access_key_id, aws.secret_access_key, aws_lambda.env_vars.API_TOKEN." in text
    assert not [value for value in ("AKIA-1", "hush", "t0k3n", "/key.json") if value in text]


def test_a_chosen_backend_wins_over_the_configuration() -> None:
    config, local = completed({"lithops": {"mode": "localhost", "storage": "localhost"}}, "aws_lambda")
    assert not local
    assert config["lithops"]["backend"] == "aws_lambda"
    assert "storage" not in config["lithops"]
    assert completed({"lithops": {"backend": "k8s", "storage": "aws_s3"}}, "localhost")[1]
    assert completed({}, None)[1]
