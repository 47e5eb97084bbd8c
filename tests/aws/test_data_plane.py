"""The local Lambda does to functions and their callers what Lambda does."""

import base64
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import psutil
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from . import names, sandbox
from .local import Behaviour, LocalAws


class Function:
    """A function of the tests' own."""

    def __init__(self, aws: LocalAws, name: str) -> None:
        self.aws, self.name, self.client = aws, name, aws.client("lambda", read_timeout=60)

    def call(self, event: Any = None, **options: Any) -> Any:
        """Invoke it and wait."""
        return self.client.invoke(FunctionName=self.name, Payload=json.dumps(event), **options)

    def ask(self, event: Any = None) -> Any:
        """What it returns."""
        return json.load(self.call(event)["Payload"])

    def send(self, event: Any = None) -> Any:
        """Invoke it and do not wait."""
        return self.call(event, InvocationType="Event")


@pytest.fixture
def made(aws: LocalAws) -> Callable[..., Function]:
    """Functions of the module `functions`."""

    def made(handler: str, **options: Any) -> Function:
        options = {"memory": 256, "timeout": 20, "concurrency": 1} | options
        return Function(aws, aws.function(name=f"test-{handler}", handler=f"tests.aws.functions.{handler}", **options))

    return made


def status(error: pytest.ExceptionInfo[ClientError]) -> int:
    return int(error.value.response["ResponseMetadata"]["HTTPStatusCode"])


def test_an_environment_is_reused_while_it_is_warm(made: Callable[..., Function]) -> None:
    function = made("echo")
    first, second = function.ask(1), function.ask(2)
    assert (first["event"], second["event"]) == (1, 2)
    assert first["pid"] == second["pid"]
    assert second["invocations"] == 2
    assert [one.cold for one in function.aws.invocations()] == [True, False]


def test_an_environment_is_frozen_between_invocations_and_ended_when_it_is_not_used(
    made: Callable[..., Function],
) -> None:
    function = made("echo", behaviour=Behaviour(idle=8))
    function.ask()
    (one,) = function.aws.environments()
    assert not one["busy"]
    frozen = psutil.Process(one["pid"])
    function.aws.until(lambda: frozen.status() == psutil.STATUS_STOPPED, timeout=6)
    function.aws.until(lambda: not function.aws.environments())
    assert not psutil.pid_exists(one["pid"])
    assert function.ask()["invocations"] == 1


def test_a_function_has_the_variables_of_lambda_and_of_its_role_and_none_of_ours(
    made: Callable[..., Function], monkeypatch: pytest.MonkeyPatch
) -> None:
    function = made("echo", environment={"OF_THE_FUNCTION": "yes"})
    variables = set(function.ask()["variables"])
    assert {"OF_THE_FUNCTION", "AWS_SESSION_TOKEN", "AWS_LAMBDA_FUNCTION_NAME", "AWS_REGION"} <= variables
    ours = {"PYTEST_CURRENT_TEST", "USER", "LOGNAME", "VIRTUAL_ENV", "INITIAL_NO_AUTH_ACTION_COUNT"}
    assert not variables & ours


def test_what_takes_longer_than_the_timeout_is_killed(made: Callable[..., Function]) -> None:
    function = made("sleep", timeout=3)
    began = time.monotonic()
    answer = function.call({"seconds": 60}, LogType="Tail")
    assert time.monotonic() - began < 55
    assert answer["FunctionError"] == "Unhandled"
    assert json.load(answer["Payload"])["errorMessage"].endswith("Task timed out after 3.00 seconds")
    assert "Status: timeout" in base64.b64decode(answer["LogResult"]).decode()
    assert function.aws.environments() == []
    assert function.ask({"seconds": 0}) == "slept"
    assert [one.outcome for one in function.aws.invocations()] == ["timed out", "succeeded"]
    assert function.aws.invocations()[-1].cold


def test_what_takes_more_memory_than_the_function_has_is_killed(made: Callable[..., Function]) -> None:
    function = made("allocate")
    assert function.ask({"megabytes": 32}) == 32 * 2**20
    answer = function.call({"megabytes": 512}, LogType="Tail")
    assert json.load(answer["Payload"])["errorType"] == "Runtime.ExitError"
    assert "signal: killed" in json.dumps(function.aws.invocations()[-1].answer.decode())
    assert "Runtime.OutOfMemory" in base64.b64decode(answer["LogResult"]).decode()
    assert [one.outcome for one in function.aws.invocations()] == ["succeeded", "out of memory"]
    assert function.aws.invocations()[-1].peak_mb > 256 > function.aws.invocations()[0].peak_mb > 32


def test_what_a_function_raises_is_an_answer_and_its_environment_stays(made: Callable[..., Function]) -> None:
    function = made("fail")
    answer = function.call()
    assert answer["FunctionError"] == "Unhandled"
    said = json.load(answer["Payload"])
    assert (said["errorType"], said["errorMessage"]) == ("ValueError", "as asked")
    assert len(function.aws.environments()) == 1
    assert "ValueError" in function.aws.logs(function.name)


def test_a_process_that_ends_by_itself_is_an_error_of_the_runtime(made: Callable[..., Function]) -> None:
    function = made("leave")
    assert json.load(function.call()["Payload"])["errorMessage"].endswith("exit status 3")
    assert function.aws.environments() == []


def test_a_handler_that_cannot_be_imported_fails_each_invocation(made: Callable[..., Function]) -> None:
    function = made("nothing_of_that_name")
    assert function.ask()["errorType"] == "Runtime.HandlerNotFound"


@pytest.mark.skipif(not sandbox.available(), reason="this machine grants no mount namespace to a user")
def test_only_tmp_can_be_written_to_and_each_environment_has_its_own(made: Callable[..., Function]) -> None:
    function = made("write")
    for path in ("/here", "/usr/here", __file__ + ".here", "/dev/shm/here"):  # noqa: S108
        assert function.ask({"path": path}) == "OSError 30", path
    assert function.ask({"path": "/tmp/here"}) == "written"  # noqa: S108
    assert function.ask({"path": "/tmp/here/within"}) == "NotADirectoryError 20"  # noqa: S108
    function.aws.reset()
    assert function.ask({"path": "/tmp/here/within"}) == "FileNotFoundError 2"  # noqa: S108


def test_a_call_above_the_concurrency_is_throttled(made: Callable[..., Function]) -> None:
    function = made("sleep")
    function.ask({"seconds": 0})
    with ThreadPoolExecutor(1) as threads:
        long = threads.submit(function.ask, {"seconds": 6})
        function.aws.until(lambda: any(one["busy"] for one in function.aws.environments()))
        with pytest.raises(ClientError, match="TooManyRequestsException") as error:
            function.call({"seconds": 0})
        assert status(error) == 429
        assert long.result() == "slept"
    assert [one.outcome for one in function.aws.invocations()] == ["succeeded", "succeeded", "throttled"]


def test_events_wait_for_an_environment_and_are_throttled_when_too_many_wait(made: Callable[..., Function]) -> None:
    function = made("sleep", behaviour=Behaviour(queue=2))
    function.ask({"seconds": 0})
    for seconds in (6, 0, 0):
        assert function.send({"seconds": seconds})["StatusCode"] == 202
    with pytest.raises(ClientError, match="TooManyRequestsException"):
        function.send({"seconds": 0})
    done = function.aws.settled().invocations()
    assert [one.outcome for one in done] == ["succeeded"] * 4 + ["throttled"]
    assert [one.cold for one in done[:4]] == [True, False, False, False]


def test_as_many_events_run_at_once_as_the_concurrency_allows(made: Callable[..., Function]) -> None:
    function = made("sleep", concurrency=3)
    for _ in range(9):
        function.send({"seconds": 0.2})
    most = 0
    while any(one.outcome in {"queued", "running"} for one in function.aws.invocations()):
        most = max(most, len(function.aws.environments()))
    assert most == 3
    assert sum(one.cold for one in function.aws.invocations()) == 3


def test_every_nth_invocation_is_throttled_on_demand(made: Callable[..., Function]) -> None:
    function = made("echo", behaviour=Behaviour(throttle_every=2))
    function.ask()
    with pytest.raises(ClientError, match="TooManyRequestsException"):
        function.ask()
    function.ask()


def test_a_lost_invocation_is_accepted_and_never_run(made: Callable[..., Function]) -> None:
    function = made("echo", behaviour=Behaviour(lose_every=2))
    assert [function.send(number)["StatusCode"] for number in range(4)] == [202] * 4
    done = function.aws.settled().invocations()
    assert [one.outcome for one in done] == ["succeeded", "lost"] * 2
    assert [one.attempts for one in done] == [1, 0, 1, 0]


@pytest.mark.parametrize("retries", [0, 2])
def test_an_event_that_fails_is_tried_again_and_then_given_to_its_destination(
    made: Callable[..., Function], retries: int
) -> None:
    function = made("fail", retries=retries)
    function.send({"task": 7})
    (one,) = function.aws.settled().invocations()
    assert (one.outcome, one.attempts) == ("failed", 1 + retries)
    sqs = function.aws.client("sqs")
    queue = sqs.get_queue_url(QueueName=function.aws.policies.failed_queue)["QueueUrl"]
    function.aws.until(function.aws.failures)
    (message,) = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    record = json.loads(message["Body"])
    assert [record] == function.aws.failures()
    assert record["requestPayload"] == {"task": 7}
    assert record["responsePayload"]["errorType"] == "ValueError"
    assert record["requestContext"]["approximateInvokeCount"] == 1 + retries


def test_what_is_to_be_tried_again_is_forgotten_at_a_reset(made: Callable[..., Function]) -> None:
    function = made("fail", retries=2, behaviour=Behaviour(retry_pause=0.5))
    function.send()
    function.aws.until(lambda: function.aws.invocations()[0].attempts == 1)
    function.aws.reset()
    time.sleep(1)
    assert function.aws.environments() == []


class TestWhoMayInvoke:
    def test_the_client_may_and_the_worker_may_not(self, aws: LocalAws) -> None:
        name = aws.function(512, handler="tests.aws.functions.echo")
        assert aws.client("lambda", "client").invoke(FunctionName=name, Payload=b"1")["StatusCode"] == 200
        with pytest.raises(ClientError, match="AccessDeniedException") as error:
            aws.client("lambda", "worker").invoke(FunctionName=name, Payload=b"1")
        assert status(error) == 403
        assert len(aws.invocations()) == 1

    def test_nobody_may_invoke_what_the_policy_does_not_name(self, aws: LocalAws) -> None:
        aws.function(name="another", handler="tests.aws.functions.echo")
        with pytest.raises(ClientError, match="AccessDeniedException"):
            aws.client("lambda", "client").invoke(FunctionName="another", Payload=b"1")

    def test_a_signature_with_another_secret_is_refused(self, aws: LocalAws) -> None:
        name = aws.function(512, handler="tests.aws.functions.echo")
        client = aws.client("lambda", "client")
        client._request_signer._credentials.secret_key = "guessed"  # noqa: S105, SLF001
        with pytest.raises(ClientError, match="InvalidSignatureException") as error:
            client.invoke(FunctionName=name, Payload=b"1")
        assert status(error) == 403
        assert aws.invocations() == []

    def test_a_key_that_nobody_has_is_refused(self, aws: LocalAws) -> None:
        name = aws.function(512, handler="tests.aws.functions.echo")
        client = aws.client("lambda")
        client._request_signer._credentials.access_key = "AKIANOBODY"  # noqa: SLF001
        with pytest.raises(ClientError, match="UnrecognizedClientException") as error:
            client.invoke(FunctionName=name, Payload=b"1")
        assert status(error) == 403

    def test_what_is_not_there_is_not_found(self, aws: LocalAws) -> None:
        with pytest.raises(ClientError, match="ResourceNotFoundException") as error:
            aws.client("lambda").invoke(FunctionName="gone", Payload=b"1")
        assert status(error) == 404

    def test_the_client_may_not_look_at_functions_and_the_deployer_may(self, aws: LocalAws) -> None:
        name = aws.function(512)
        with pytest.raises(ClientError, match="AccessDeniedException"):
            aws.client("lambda", "client").get_function(FunctionName=name)
        found = aws.client("lambda", "deployer").get_function(FunctionName=name)["Configuration"]
        assert (found["MemorySize"], found["State"]) == (512, "Active")


def test_requests_are_counted_by_role_and_operation(aws: LocalAws) -> None:
    client = aws.client("s3", "client")
    with pytest.raises(ClientError):
        client.get_object(Bucket=aws.data_bucket, Key="archive/snapshots/one")
    client.put_object(Bucket=aws.data_bucket, Key="archive/snapshots/one", Body=b"")
    client.list_objects_v2(Bucket=aws.data_bucket)
    aws.client("s3", "worker").head_bucket(Bucket=aws.staging_bucket)
    assert aws.requests("client") == {"s3:GetObject": 1, "s3:PutObject": 1, "s3:ListObjectsV2": 1}
    assert aws.requests() == {"s3:GetObject": 1, "s3:PutObject": 1, "s3:ListObjectsV2": 1, "s3:HeadBucket": 1}
    assert [one.status for one in aws.log()] == [404, 200, 200, 200]


class TestPoliciesAsTerraformRendersThem:
    def test_functions_have_the_names_that_lithops_looks_for(self, aws: LocalAws) -> None:
        assert aws.policies.function_names == {one: names.function_name(one) for one in names.MEMORY_SIZES}
        assert aws.policies.metadata_keys == {one: names.metadata_key(one) for one in names.MEMORY_SIZES}

    def test_a_bucket_refuses_to_replace_what_a_run_keeps(self, aws: LocalAws) -> None:
        client = aws.client("s3", "client")
        key = {"Bucket": aws.data_bucket, "Key": "archive.frazil/run/plan.json", "Body": b""}
        client.put_object(**key, IfNoneMatch="*")
        with pytest.raises(ClientError, match="AccessDenied") as error:
            client.put_object(**key)
        assert status(error) == 403
        with pytest.raises(ClientError) as error:
            client.create_multipart_upload(Bucket=key["Bucket"], Key=key["Key"])
        assert status(error) == 403

    def test_the_deployer_makes_functions_in_the_worker_s_role_and_in_no_other(self, aws: LocalAws) -> None:
        name = names.function_name(512)
        aws.remove(name)
        client = aws.client("lambda", "deployer")
        image = f"{aws.account_id}.dkr.ecr.{aws.region}.amazonaws.com/frazil:0.1.0"
        asked = {"FunctionName": name, "PackageType": "Image", "Code": {"ImageUri": image}}
        for role in ("client", "maintenance"):
            with pytest.raises(ClientError, match="iam:PassRole"):
                client.create_function(**asked, Role=names.role_arn(role))
        client.create_function(**asked, Role=names.role_arn("worker"))

    def test_permissions_of_other_services_are_for_the_resources_that_they_name(self, aws: LocalAws) -> None:
        repository = f"lithops_v{names.LITHOPS.replace('.', '')}_{names.USER_ID[-4:]}/frazil"
        aws.client("ecr").create_repository(repositoryName="other")
        client = aws.client("ecr", "deployer")
        assert len(client.describe_images(repositoryName=repository)["imageDetails"]) == 1
        with pytest.raises(ClientError, match="not authorized"):
            client.describe_images(repositoryName="other")

    def test_a_request_that_nobody_signed_is_refused(self, aws: LocalAws) -> None:
        aws.client("s3").put_object(Bucket=aws.data_bucket, Key="archive/snapshots/one", Body=b"")
        unsigned = boto3.client(
            "s3", endpoint_url=aws.endpoint_url, region_name=aws.region, config=Config(signature_version=UNSIGNED)
        )
        for ask in (unsigned.get_object, unsigned.put_object):
            with pytest.raises(ClientError) as error:
                ask(Bucket=aws.data_bucket, Key="archive/snapshots/one")
            assert status(error) == 403

    def test_of_many_objects_deleted_at_once_each_is_decided_by_itself(self, aws: LocalAws) -> None:
        keys = ["lithops.jobs/one", "lithops.runtimes/two"]
        for key in keys:
            aws.client("s3").put_object(Bucket=aws.staging_bucket, Key=key, Body=b"")
        asked = {"Objects": [{"Key": key} for key in keys]}
        answer = aws.client("s3", "client").delete_objects(Bucket=aws.staging_bucket, Delete=asked)
        assert [one["Key"] for one in answer["Deleted"]] == keys[:1]
        assert [one["Key"] for one in answer["Errors"]] == keys[1:]
