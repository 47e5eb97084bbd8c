"""What is wrong with the account is said before a run writes anything, by the run itself."""

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

import frazil
from frazil.cli import main
from frazil.runtime.configuration import LambdaRuntime
from frazil.runtime.metadata import own_versions
from frazil_functions.errors import BackendError, VersionError

from .conftest import Account, config


@pytest.fixture
def attempt(account: Account, series: Any, write: Any) -> Callable[..., None]:
    """Convert a file through functions on Lambda, by plan and run, and see that nothing was written."""
    (path,) = write([series(6)])

    def attempt(**own: object) -> None:
        plan = frazil.plan(path, "s3://raw/archive", executor=frazil.SerialExecutor())
        try:
            with frazil.LithopsExecutor(config=config(**own)) as executor:
                frazil.run(plan, executor=executor)
        finally:
            assert account.objects("raw") == {}

    return attempt


def test_a_function_that_is_not_deployed(attempt: Callable[..., None], account: Account) -> None:
    with pytest.raises(BackendError, match=r"no metadata of .*frazil:0\.1\.0 with 2048 MB.*frazil runtime deploy"):
        attempt()
    assert account.objects("staging") == {}
    assert account.client("lambda").list_functions()["Functions"] == []


def test_a_function_that_is_gone(
    attempt: Callable[..., None], account: Account, deployed: Callable[..., LambdaRuntime]
) -> None:
    deployed()
    account.lose_functions()
    with pytest.raises(BackendError, match=r"there is no function .*frazil runtime deploy"):
        attempt()


def test_a_function_of_another_memory_size(
    attempt: Callable[..., None], deployed: Callable[..., LambdaRuntime]
) -> None:
    deployed()
    with pytest.raises(BackendError, match=r"with 512 MB.*runtime_memory"):
        attempt(runtime_memory=512)


@pytest.mark.parametrize("name", ["frazil", "icechunk", "lithops"])
def test_a_function_of_another_version(
    name: str, attempt: Callable[..., None], deployed: Callable[..., LambdaRuntime]
) -> None:
    deployed(**{name: "0.0.7"})
    says = rf"{name} 0\.0\.7 in the function and {own_versions()[name]} here.*runtime deploy"
    with pytest.raises(VersionError, match=says):
        attempt()


def test_a_staging_bucket_that_is_missing_is_not_made(account: Account, attempt: Callable[..., None]) -> None:
    account.client("s3").delete_bucket(Bucket="staging")
    with pytest.raises(BackendError, match="there is no such bucket"):
        attempt()
    assert [one["Name"] for one in account.client("s3").list_buckets()["Buckets"]] == ["raw"]


def test_a_runtime_that_holds_no_frazil(attempt: Callable[..., None]) -> None:
    with pytest.raises(frazil.InvalidInputError, match=r"runtime 'default'.*runtime: frazil:0\.1\.0"):
        attempt(runtime="default")


def test_a_data_bucket_that_is_missing(
    account: Account, series: Any, write: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = write([series(6)])
    assert main(["convert", str(path), "s3://absent/archive", "--backend", "serial"]) == 1
    said = capsys.readouterr().err
    assert "NoSuchBucket" in said
    assert "there is no such bucket: look at its name, or create it" in said
    assert "RequestId" not in said


def test_credentials_that_are_missing(
    account: Account, series: Any, write: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = write([series(6)])
    with monkeypatch.context() as changed:
        changed.delenv("AWS_ACCESS_KEY_ID")
        changed.delenv("AWS_SECRET_ACCESS_KEY")
        changed.setenv("AWS_EC2_METADATA_DISABLED", "true")
        assert main(["convert", str(path), "s3://raw/archive", "--backend", "serial"]) == 1
    assert "there are no credentials: log in" in capsys.readouterr().err
    assert account.objects("raw") == {}


class _Elsewhere(BaseHTTPRequestHandler):
    """S3 as it answers requests for a bucket of another region."""

    def _answer(self) -> None:
        body = (
            b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>PermanentRedirect</Code><Message>The bucket you are '
            b"attempting to access must be addressed using the specified endpoint.</Message></Error>"
        )
        self.send_response(301)
        self.send_header("x-amz-bucket-region", "eu-central-1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = _answer  # noqa: N815 - as the base calls them

    def log_message(self, *_: object) -> None:
        pass


def test_a_bucket_of_another_region(
    account: Account, series: Any, write: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = write([series(6)])
    with ThreadingHTTPServer(("127.0.0.1", 0), _Elsewhere) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        with monkeypatch.context() as changed:
            changed.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
            assert main(["convert", str(path), "s3://raw/archive", "--backend", "serial"]) == 1
        server.shutdown()
    assert "the bucket lies in another region: set AWS_REGION" in capsys.readouterr().err


def test_a_plan_made_against_another_repository(
    account: Account, series: Any, write: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = write([series(6)])
    plan, job = tmp_path / "plan.json", tmp_path / "job.toml"
    plan.write_bytes(frazil.plan(path, "s3://raw/archive", executor=frazil.SerialExecutor()).to_json())
    job.write_text('repository = "s3://raw/another"\n')
    assert main(["apply", str(plan), "--config", str(job), "--backend", "serial"]) == 2
    assert "s3://raw/another, and this one is s3://raw/archive" in capsys.readouterr().err
    another = frazil.open_repository("s3://raw/another")
    before = account.objects("raw")
    with pytest.raises(frazil.FrazilError, match="another"):
        frazil.run(frazil.Plan.from_json(plan.read_bytes()), another, executor=frazil.SerialExecutor())
    assert account.objects("raw") == before
