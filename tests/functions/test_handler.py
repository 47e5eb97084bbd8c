"""Entry points as Lambda, EventBridge, SQS and a shell call them; and that a function needs nothing of the client."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import icechunk
import pytest

import frazil
import frazil_functions
from frazil_functions.errors import FrazilError
from frazil_functions.handler import handle
from frazil_functions.locations import locate

from .conftest import plan_small, published_in

TOP = Path(__file__).parents[2]


def bridged(detail: object) -> dict[str, object]:
    """An event as EventBridge delivers it."""
    return {
        "version": "0",
        "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718",
        "detail-type": "frazil",
        "source": "my.scheduler",
        "account": "111122223333",
        "time": "2026-01-02T06:00:00Z",
        "region": "us-east-1",
        "resources": [],
        "detail": detail,
    }


def queued(*bodies: object) -> dict[str, object]:
    """Messages as SQS delivers them."""
    return {
        "Records": [
            {
                "messageId": f"message-{number}",
                "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a",
                "body": body if isinstance(body, str) else json.dumps(body),
                "attributes": {"ApproximateReceiveCount": "1"},
                "messageAttributes": {},
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:us-east-1:111122223333:frazil",
                "awsRegion": "us-east-1",
            }
            for number, body in enumerate(bodies)
        ]
    }


def test_an_event_of_eventbridge_is_answered_by_its_detail(small_plan: frazil.Plan) -> None:
    started = handle(bridged({"action": "start", "plan": json.loads(small_plan.to_json()), "run_id": "nightly"}))
    assert started["run_id"] == "nightly"
    assert handle(bridged({"action": "status", "run": started["run"]}))["state"] == "writing"


def test_messages_of_sqs_are_answered_one_by_one(small_plan: frazil.Plan) -> None:
    run = handle({"action": "start", "plan": json.loads(small_plan.to_json())})
    writes = [{"action": "write", "run": run["run"], "task": task} for task in run["missing"]]
    assert handle(queued(*writes)) == {"batchItemFailures": []}
    assert handle({"action": "status", "run": run["run"]})["state"] == "written"


def test_a_message_may_hold_an_event_of_eventbridge(small_plan: frazil.Plan) -> None:
    run = handle({"action": "start", "plan": json.loads(small_plan.to_json())})
    assert handle(queued(bridged({"action": "write", "run": run["run"], "task": 0}))) == {"batchItemFailures": []}
    assert handle({"action": "status", "run": run["run"]})["done"] > 0


def test_messages_that_fail_are_named_and_the_others_are_done(
    small_plan: frazil.Plan, caplog: pytest.LogCaptureFixture
) -> None:
    run = handle({"action": "start", "plan": json.loads(small_plan.to_json())})
    first, second, *_ = ({"action": "write", "run": run["run"], "task": task} for task in run["missing"])
    bad = ["no JSON", {"action": "write", "run": run["run"], "task": 999}, {"action": "dance"}]
    said = handle(queued(first, *bad, second))
    assert said == {"batchItemFailures": [{"itemIdentifier": f"message-{number}"} for number in (1, 2, 3)]}
    assert "no task 999" in caplog.text
    left = handle({"action": "start", "plan": json.loads(small_plan.to_json()), "run": run["run"]})["missing"]
    assert left == run["missing"][2:]


def test_a_message_of_a_repository_that_lost_its_snapshots_is_named_and_the_others_are_done(
    small_plan: frazil.Plan, tmp_path: Path
) -> None:
    other = replace(small_plan, target=replace(small_plan.target, location=locate(tmp_path / "other.icechunk")))
    runs = [handle({"action": "start", "plan": json.loads(plan.to_json())})["run"] for plan in (other, small_plan)]
    shutil.rmtree(tmp_path / "other.icechunk" / "snapshots")
    with pytest.raises(icechunk.IcechunkError):
        handle({"action": "write", "run": runs[0], "task": 0})
    said = handle(queued(*({"action": "write", "run": run, "task": 0} for run in runs)))
    assert said == {"batchItemFailures": [{"itemIdentifier": "message-0"}]}
    assert handle({"action": "status", "run": runs[1]})["done"] > 0


@pytest.mark.parametrize(
    "records",
    [
        [{"Sns": {"Message": "{}"}}],
        [{"eventSource": "aws:s3", "s3": {"object": {"key": "a.nc"}}}],
        [{"messageId": "1", "body": {"action": "status"}}],
        ["text"],
    ],
)
def test_records_of_another_service_are_refused(records: list[object]) -> None:
    with pytest.raises(frazil.InvalidInputError, match="not those of SQS"):
        handle({"Records": records})


def test_no_messages_are_no_failure() -> None:
    assert handle({"Records": []}) == {"batchItemFailures": []}


def test_lambda_passes_a_context_too(small_plan: frazil.Plan) -> None:
    assert handle({"action": "start", "plan": json.loads(small_plan.to_json())}, object())["missing"]


type Shell = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def function_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with what is locked of the dependency group `function`, and no distribution of ours."""
    where = tmp_path_factory.mktemp("function")
    environment = os.environ | {"UV_PROJECT_ENVIRONMENT": str(where / "venv")}
    environment.pop("VIRTUAL_ENV", None)
    command = ["uv", "sync", "--quiet", "--frozen", "--only-group", "function", "--no-install-project"]
    subprocess.run([*command, "--python", sys.executable, "--project", TOP], env=environment, check=True)
    return where / "venv" / "bin" / "python"


@pytest.fixture(params=["here", pytest.param("function", marks=[pytest.mark.slow, pytest.mark.checkout])])
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Shell:
    """`python -m frazil_functions`, where the tests run and where nothing is but what a function needs."""
    python, environment = Path(sys.executable), dict(os.environ)
    if request.param == "function":
        python = request.getfixturevalue("function_python")
        environment |= {"PYTHONPATH": str(TOP / "functions")}

    def shell(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [python, "-m", "frazil_functions", *arguments],
            input=given,
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return shell


def test_a_shell_drives_a_run_from_its_start_to_its_end(
    shell: Shell, small_plan: frazil.Plan, tmp_path: Path, published: Callable[[], Any]
) -> None:
    (tmp_path / "plan.json").write_bytes(small_plan.to_json())
    started = shell(json.dumps({"action": "start", "plan": "plan.json", "run_id": "nightly", "verify": "full"}))
    assert started.returncode == 0, started.stderr
    run = json.loads(started.stdout)
    assert started.stderr == ""
    early = shell(json.dumps({"action": "finish", "run": run["run"]}))
    assert early.returncode == 1
    assert "regions of run nightly are missing" in early.stderr
    assert early.stdout == ""
    for task in run["missing"]:
        written = shell(given=json.dumps({"action": "write", "run": run["run"], "task": task}))
        assert written.returncode == 0, written.stderr
        assert json.loads(written.stdout)["regions"] > 0
    done = shell(json.dumps({"action": "finish", "run": run["run"]}))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verified"] == run["regions"]
    assert published().snapshot == json.loads(done.stdout)["snapshot_id"]


@pytest.mark.parametrize(
    ("arguments", "given", "says"),
    [
        (("{",), "", "the event is not JSON"),
        ((), "", "the event is not JSON"),
        (('{"action": "dance"}',), "", "dance"),
        (('{"action": "status"}', "more"), "", "usage: python -m frazil_functions"),
        (('{"action": "status", "run": "ftp://x/y"}',), "", "no storage goes by ftp://"),
    ],
)
def test_a_shell_is_told_what_is_wrong_with_its_event(
    arguments: tuple[str, ...], given: str, says: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "frazil_functions", *arguments],
        input=given,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.mark.slow
@pytest.mark.checkout
def test_a_function_s_environment_has_nothing_of_the_client(function_python: Path) -> None:
    program = (
        "import importlib.util, sys, frazil_functions.handler, frazil_functions.versions as v; "
        "print(*(n for n in ('frazil', 'lithops', 'cyclopts', 'rich', 'boto3', 'pytest') "
        "if importlib.util.find_spec(n))); print(v.versions()['frazil'])"
    )
    done = subprocess.run(
        [function_python, "-c", program],
        env=os.environ | {"PYTHONPATH": str(TOP / "functions")},
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["", frazil_functions.__version__]


DOCUMENT = TOP / "docs" / "direct-invocation.md"

CASES = [FrazilError]
for case in CASES:  # grows while it is walked
    CASES += case.__subclasses__()


def documented() -> list[dict[str, Any]]:
    """What the guide shows as JSON, in order, one object a line or one for all lines."""
    found = []
    for block in re.findall(r"^```json\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL):
        lines = block.splitlines() if not block.startswith("{\n") else [block]
        found += [json.loads(line) for line in lines]
    return found


@pytest.fixture
def account(bucket: Any, hours: list[str]) -> Iterator[Any]:
    """The bucket that the guide speaks of, with a plan in it."""
    made = boto3.resource("s3").create_bucket(Bucket="bucket")
    made.put_object(Key="plans/nightly.json", Body=plan_small(hours, "s3://bucket/archive").to_json())
    yield made
    made.objects.all().delete()
    made.delete()


class Machine:
    """As much of Amazon States Language as the guide's state machine uses.

    https://states-language.net/spec.html

    Parameters
    ----------
    invoke
        Calls the function.
    """

    def __init__(self, invoke: Callable[[Any], Any]) -> None:
        self._invoke = invoke
        self.waited: list[str] = []

    def run(self, machine: dict[str, Any], given: Any, context: Mapping[str, Any] | None = None) -> Any:
        name: str | None = machine["StartAt"]
        while name is not None:
            state = machine["States"][name]
            given = {"Task": self._task, "Map": self._map}[state["Type"]](state, given, dict(context or {}))
            assert ("Next" in state) != ("End" in state)
            name = state.get("Next")
        return given

    def _task(self, state: dict[str, Any], given: Any, context: dict[str, Any]) -> Any:
        assert state["Resource"] == "arn:aws:states:::lambda:invoke"
        asked = filled(state["Parameters"], given, context)
        assert asked.keys() == {"FunctionName", "Payload"}
        tries: dict[int, int] = {}
        while True:
            try:
                answer = {"Payload": json.loads(json.dumps(self._invoke(json.loads(json.dumps(asked["Payload"])))))}
            except Exception as error:
                name = type(error).__name__
                at, rule = next(
                    (at, rule)
                    for at, rule in enumerate(state["Retry"])
                    if {name, "States.ALL"} & set(rule["ErrorEquals"])
                )
                tries[at] = tries.get(at, 0) + 1
                if tries[at] > rule["MaxAttempts"]:
                    raise
                self.waited.append(name)
            else:
                return chosen(state.get("OutputPath", "$"), answer, context)

    def _map(self, state: dict[str, Any], given: Any, context: dict[str, Any]) -> Any:
        items = chosen(state["ItemsPath"], given, context)
        contexts = [context | {"Map": {"Item": {"Index": at, "Value": item}}} for at, item in enumerate(items)]
        inputs = [filled(state["ItemSelector"], given, one) for one in contexts]
        # One after the other: a function is a process, and not every library reads in several threads of one.
        done = [self.run(state["ItemProcessor"], one) for one in inputs]
        assert len(done) == len(items)
        assert state["ResultPath"] is None  # so the input is the output
        return given


def chosen(path: str, given: Any, context: Mapping[str, Any]) -> Any:
    """What a path of the form $.a.b or $$.a.b leads to."""
    found = context if path.startswith("$$") else given
    for name in path.lstrip("$").split(".")[1:]:
        found = found[name]
    return found


def filled(template: dict[str, Any], given: Any, context: Mapping[str, Any]) -> dict[str, Any]:
    """A payload template with its paths followed."""
    return {
        name.removesuffix(".$"): chosen(value, given, context)
        if name.endswith(".$")
        else filled(value, given, context)
        if isinstance(value, dict)
        else value
        for name, value in template.items()
    }


def the_machine() -> dict[str, Any]:
    (found,) = [one for one in documented() if "StartAt" in one]
    return found


def the_input() -> dict[str, Any]:
    (found,) = re.findall(r"`(\{\"plan\".*?\})`", DOCUMENT.read_text())
    return dict(json.loads(found))


@pytest.mark.checkout
def test_the_guide_s_events_drive_a_run_in_the_order_that_they_are_shown(account: Any) -> None:
    for event in documented():
        if event.get("action") == "finish" and handle(event | {"action": "status"})["state"] == "writing":
            with pytest.raises(frazil.IncompleteRunError):
                handle(event)
        elif "action" in event:
            handle(event)
    events = [event for event in documented() if "action" in event]
    assert {event["action"] for event in events} == {"start", "write", "finish", "status"}
    assert published_in("s3://bucket/archive").commits == 2
    (status,) = {event["run"] for event in events if event["action"] == "status"}
    for text in re.findall(r"(?:--payload|python -m frazil_functions) '([^']+)'", DOCUMENT.read_text()):
        assert handle(json.loads(text))["run"] == status


@pytest.mark.checkout
def test_the_guide_s_answer_is_what_a_start_says(account: Any) -> None:
    (shown,) = [one for one in documented() if "missing" in one]
    assert handle(documented()[0]) == shown


@pytest.mark.checkout
def test_the_guide_s_state_machine_runs_and_may_run_again(account: Any) -> None:
    machine = Machine(handle)
    first = machine.run(the_machine(), the_input())
    assert machine.run(the_machine(), the_input()) == first
    seen = published_in("s3://bucket/archive")
    assert (seen.snapshot, seen.commits, seen.branches) == (first["snapshot_id"], 2, ["main"])
    assert machine.waited == []


@pytest.mark.checkout
def test_the_guide_s_state_machine_tries_again_what_may_get_better_and_nothing_else(account: Any) -> None:
    calls: list[Any] = []

    def flaky(event: Any) -> Any:
        calls.append(event)
        if len(calls) % 2:
            raise frazil.BackendError("throttled") if len(calls) % 4 == 1 else TimeoutError
        return handle(event)

    machine = Machine(flaky)
    machine.run(the_machine(), the_input())
    assert len(machine.waited) >= 5
    assert set(machine.waited) == {"BackendError", "TimeoutError"}
    assert published_in("s3://bucket/archive").commits == 2
    machine = Machine(handle)
    with pytest.raises(frazil.InvalidInputError):
        machine.run(the_machine(), the_input() | {"plan": "s3://bucket/plans/none.json"})
    assert machine.waited == []


@pytest.mark.checkout
def test_the_guide_s_state_machine_goes_on_where_an_execution_failed(account: Any) -> None:
    written: list[int] = []

    def dying(event: Any) -> Any:
        if event["action"] == "write" and event["task"] == 1:
            raise frazil.SourceError("a file is damaged")
        return counting(event)

    def counting(event: Any) -> Any:
        answer = handle(event)
        if event["action"] == "write":
            written.append(answer["task"])
        return answer

    with pytest.raises(frazil.SourceError):
        Machine(dying).run(the_machine(), the_input())
    assert published_in("s3://bucket/archive").commits == 1
    Machine(counting).run(the_machine(), the_input())
    assert sorted(written) == [0, 1, 2]
    assert published_in("s3://bucket/archive").commits == 2


@pytest.mark.checkout
def test_the_guide_s_state_machine_names_every_error_that_stays_what_it_is() -> None:
    machine = the_machine()
    states = [*machine["States"].values(), *machine["States"]["Write"]["ItemProcessor"]["States"].values()]
    rules = [state["Retry"] for state in states if state["Type"] == "Task"]
    assert len(rules) == 3
    stays = sorted(
        case.__name__
        for case in CASES
        if case.__module__.startswith("frazil_functions.") and case is not FrazilError and not case.transient
    )
    for never, other in rules:
        assert (never["ErrorEquals"], never["MaxAttempts"]) == (stays, 0)
        assert other["ErrorEquals"] == ["States.ALL"]


@pytest.mark.checkout
def test_the_guide_s_machine_keeps_to_the_limits_of_an_inline_map() -> None:
    state = the_machine()["States"]["Write"]
    assert state["ItemProcessor"]["ProcessorConfig"] == {"Mode": "INLINE"}
    assert state["MaxConcurrency"] <= 40
