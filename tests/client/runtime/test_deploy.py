"""Functions are made and updated with real requests; what they answer is what Lithops' entry point answers."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from lithops.invokers import _verify_runtime_meta
from moto.awslambda_simple.models import lambda_simple_backends

import frazil
from frazil.runtime.deploy import Deployed, Wanted, changes, deploy, image_of
from frazil.runtime.metadata import own_versions, read
from frazil_functions.errors import BackendError

from .conftest import ACCOUNT, REGION, USER_ID, Account


def go(account: Account, ask: Callable[[], Mapping[str, str]] = own_versions, **options: Any) -> Deployed:
    runtime = account.runtime()
    wanted = Wanted(runtime, image_of(runtime, account.connection), **options)
    return deploy(wanted, account.connection, ask)


def seen(account: Account) -> tuple[Any, ...]:
    name = account.runtime().function
    found = account.client("lambda").get_function(FunctionName=name)
    # The server keeps every configuration that was put, and answers with the first; on AWS the last one counts.
    kept = lambda_simple_backends[ACCOUNT][REGION].get_function(name).event_invoke_config
    asynchronous = kept[-1].response()
    return found["Configuration"], found["Code"], asynchronous


def test_a_function_is_made_as_lithops_expects_it(account: Account, described: Callable[..., Any]) -> None:
    account.push()
    account.answer(described())
    done = go(account)
    assert done.steps == ("make the function", "turn off Lambda's own retries", "put its metadata")
    configuration, code, asynchronous = seen(account)
    assert configuration["FunctionName"].startswith(f"lithops-worker-{USER_ID[-4:].lower()}-380-")
    assert (configuration["MemorySize"], configuration["Timeout"]) == (2048, 900)
    assert configuration["Role"].endswith("role/frazil-worker")
    assert code["ImageUri"].endswith(f"@sha256:{'1':0>64}")
    assert asynchronous["MaximumRetryAttempts"] == 0


def test_lithops_adopts_what_was_deployed(account: Account, described: Callable[..., Any]) -> None:
    account.push()
    account.answer(described())
    go(account)
    (body,) = account.objects("staging").values()
    adopted = json.loads(body.decode("ascii"))  # as lithops.storage.InternalStorage.get_runtime_meta reads it
    _verify_runtime_meta(adopted, "frazil:0.1.0")
    assert adopted["runtime_timeout"] == 900
    assert adopted["preinstalls"] == [["os", False]]


def test_deploying_again_changes_nothing(account: Account, described: Callable[..., Any]) -> None:
    account.push()
    account.answer(described())
    go(account)
    before = seen(account), account.objects("staging")
    assert go(account).steps == ()
    assert (seen(account)[0]["LastModified"], account.objects("staging")) == (before[0][0]["LastModified"], before[1])


def test_another_image_and_settings_are_taken_over(account: Account, described: Callable[..., Any]) -> None:
    account.push()
    account.answer(described(), described())
    go(account)
    account.push(content="2")
    runtime = account.runtime(runtime_timeout=600)
    wanted = Wanted(runtime, image_of(runtime, account.connection))
    done = deploy(wanted, account.connection, own_versions)
    assert done.steps == ("give it the image", "set its Timeout", "put its metadata")
    configuration, code, _ = seen(account)
    assert configuration["Timeout"] == 600
    assert code["ImageUri"].endswith(f"@sha256:{'2':0>64}")
    assert read(runtime, account.connection).timeout == 600


def test_a_function_that_somebody_else_made_keeps_its_settings_and_its_queue(
    account: Account, described: Callable[..., Any]
) -> None:
    account.push(content="2")
    account.answer(described())
    account.create_function(account.runtime(), Timeout=300)
    queue = "arn:aws:sqs:us-east-1:123456789012:failed"
    account.client("sqs").create_queue(QueueName="failed")
    account.client("lambda").put_function_event_invoke_config(
        FunctionName=account.runtime().function,
        MaximumRetryAttempts=2,
        DestinationConfig={"OnFailure": {"Destination": queue}},
    )
    done = go(account)
    assert done.steps == ("give it the image", "turn off Lambda's own retries", "put its metadata")
    assert any("Timeout is 300 and 900" in note for note in done.notes)
    configuration, code, asynchronous = seen(account)
    assert configuration["Timeout"] == read(account.runtime(), account.connection).timeout == 300
    assert code["ImageUri"].endswith(f"@sha256:{'2':0>64}")
    assert asynchronous["MaximumRetryAttempts"] == 0
    assert asynchronous["DestinationConfig"]["OnFailure"]["Destination"] == queue


def test_failed_calls_go_to_the_queue_that_is_named(account: Account, described: Callable[..., Any]) -> None:
    account.push()
    account.answer(described())
    account.client("sqs").create_queue(QueueName="failed")
    queue = "arn:aws:sqs:us-east-1:123456789012:failed"
    go(account, on_failure=queue)
    assert seen(account)[2]["DestinationConfig"]["OnFailure"]["Destination"] == queue


def test_a_dry_run_changes_nothing(
    account: Account, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from frazil.cli import main  # noqa: PLC0415 - the command, of this test alone

    account.push()
    assert main(["runtime", "deploy", "--dry-run", "--json", "--lithops-config", str(account.config_file())]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["dry_run"]
    assert "make the function" in said["functions"][0]["steps"]
    assert account.client("lambda").list_functions()["Functions"] == []
    assert account.objects("staging") == {}


def test_each_size_that_is_named_is_a_function(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    from frazil.cli import main  # noqa: PLC0415 - as above

    account.push()
    file = str(account.config_file())
    arguments = ["runtime", "deploy", "--dry-run", "--json", "--memory", "512", "--memory", "1769"]
    assert main([*arguments, "--lithops-config", file]) == 0
    functions = [one["function"] for one in json.loads(capsys.readouterr().out)["functions"]]
    assert functions == [account.runtime(runtime_memory=size).function for size in (512, 1769)]


def test_an_image_that_is_missing_is_named_with_the_cure(account: Account) -> None:
    with pytest.raises(BackendError, match=r"no image .*lithops_v380_mple/frazil:0\.1\.0.*runtime build --push"):
        go(account)
    assert account.client("lambda").list_functions()["Functions"] == []


def test_an_image_without_lithops_is_refused(account: Account) -> None:
    account.push()
    account.answer({"errorMessage": "no module named lithops"})
    with pytest.raises(BackendError, match=r"no module named lithops.*runtime build"):
        go(account)
    assert account.objects("staging") == {}


def test_metadata_goes_without_versions_that_could_not_be_asked(
    account: Account, described: Callable[..., Any]
) -> None:
    def ask() -> dict[str, str]:
        raise BackendError("not allowed to")

    account.push()
    account.answer(described(), described())
    assert any("not allowed to" in note for note in go(account, ask).notes)
    assert read(account.runtime(), account.connection).versions == {}
    assert go(account).steps == ("put its metadata",)
    assert read(account.runtime(), account.connection).versions == own_versions()


def test_a_function_made_of_an_archive_is_not_touched(account: Account) -> None:
    account.push()
    zipped = {"Code": {"ZipFile": b"x"}, "PackageType": "Zip", "Runtime": "python3.13", "Handler": "a.b"}
    account.create_function(account.runtime(), **zipped)
    runtime = account.runtime()
    with pytest.raises(frazil.BackendError, match="archive"):
        changes(Wanted(runtime, image_of(runtime, account.connection)), account.connection)
