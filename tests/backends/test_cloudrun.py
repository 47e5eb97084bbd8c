"""Lithops' own backend for Google Cloud Run, as it is, against a server on loopback that stands for Google."""

import json
import math
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

import frazil
from frazil_functions.errors import BackendError, InvalidInputError

from .conftest import documented
from .conversions import planned, read
from .credentials import shown_in

for _name in (
    "googleapiclient",
    "google_auth_httplib2",
    "trustme",
    "google.cloud.storage",
    "gunicorn",
    "gcp_storage_emulator",
):
    pytest.importorskip(_name, reason="what Lithops needs of Google is not installed")

from .google import Google, serving  # noqa: E402 - not before it is known that it can be imported

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def staging_host() -> Iterator[str]:
    """An emulator of Google's storage, with the staging bucket, which knows no service of another test."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        Path(sys.executable).with_name("gcp-storage-emulator"),
        "start",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    with subprocess.Popen([*command, "--in-memory", "--quiet", "--default-bucket", "frazil-staging"]) as emulator:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
        emulator.terminate()


@pytest.fixture
def google(
    lithops: None, aws: dict[str, str], staging_host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Google]:
    """What stands for Google, with the image of infra/runtime and the environment in which clients come to it."""
    directory = tmp_path / "google"
    directory.mkdir()
    package = find_spec("lithops")
    assert package is not None
    assert package.origin is not None
    (directory / "lithops").mkdir()
    backend = Path(package.origin).parent / "serverless/backends/gcp_cloudrun/entry_point.py"
    shutil.copy(backend, directory / "lithops" / "lithopsproxy.py")
    env = {
        **aws,
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(directory),
        "STORAGE_EMULATOR_HOST": staging_host,
    }
    # As the image's entry point says, but on loopback.
    command = (
        "exec python -m gunicorn --bind 127.0.0.1:$PORT --workers $CONCURRENCY --timeout $TIMEOUT lithopsproxy:proxy"
    )
    image = "europe-west1-docker.pkg.dev/project-of-tests/frazil/frazil:0.1.0"
    standing = Google(["sh", "-c", command], env, directory, image)
    with serving(standing) as proxy:
        authority = str(directory / "authority.pem")
        for name, value in {
            "HTTPS_PROXY": proxy,
            "https_proxy": proxy,
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
            "REQUESTS_CA_BUNDLE": authority,
            "STORAGE_EMULATOR_HOST": staging_host,
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
        monkeypatch.setattr("httplib2.CA_CERTS", authority)
        yield standing
        os.environ.pop("GOOGLE_APPLICATION_CREDENTIALS", None)  # Lithops sets it


@pytest.fixture
def account(google: Google) -> Iterator[str]:
    """The path of a key file that is there for this process and for none that it starts, as a client's is."""
    with tempfile.TemporaryFile() as file:
        file.write(json.dumps(google.account()).encode())
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


@pytest.fixture
def service(google: Google, account: str) -> Callable[..., frazil.LithopsExecutor]:
    """Executors with the page's own configuration."""

    def service(
        *, start_deadline: float = 60, call_timeout: float | None = None, **options: Any
    ) -> frazil.LithopsExecutor:
        (config,) = documented("lithops-cloud-run.md")
        config["gcp"]["credentials_path"] = account
        config["gcp_cloudrun"] |= options
        return frazil.LithopsExecutor(
            backend="gcp_cloudrun", config=config, start_deadline=start_deadline, call_timeout=call_timeout
        )

    return service


def once_begun(staging_host: str) -> Callable[[str], None]:
    """Waits until a call has told in staging that it began, so that it is killed in the middle."""
    asking = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def wait(sent: str) -> None:
        called = json.loads(sent)
        prefix = f"lithops.jobs/{called['job_key']}/{called['call_ids'][0]}/"
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with asking.open(f"{staging_host}/storage/v1/b/frazil-staging/o?prefix={prefix}") as answer:
                if b".init" in answer.read():
                    return
            time.sleep(0.01)

    return wait


def test_files_are_converted_by_instances_of_a_service(
    google: Google, service: Any, bucket: Any, server: str, uploaded: list[str], source: xr.Dataset, aws: dict[str, str]
) -> None:
    with service(max_workers=4) as executor:
        plan = planned(uploaded, f"s3://{bucket.name}/archive", tasks=6)
        frazil.run(plan, executor=executor, verify="full")
    xr.testing.assert_identical(read(bucket, server), xr.decode_cf(source))
    ((name, made),) = google.services.items()
    assert name.startswith("lithops-worker-380-")
    assert made["spec"]["template"]["spec"]["containerConcurrency"] == 1
    asked = [one.split("/", 3)[-1] for one in google.asked if ".a.run.app" in one]
    assert asked.count("metadata") == 1
    assert len(asked) - 1 >= 6
    assert 1 < len(google.instances) <= 4
    logs = [path.read_text() for path in google.directory.glob("*.log")]
    assert sum(text.count("Success function execution") for text in logs) == len(asked) - 1
    told = "".join(logs) + json.dumps(google.services) + "".join(google.bodies)
    assert not shown_in(told, aws["AWS_SECRET_ACCESS_KEY"])
    assert "PRIVATE KEY" not in told
    assert google.bodies


def test_a_service_that_exists_already_needs_no_admin_of_cloud_run(google: Google, service: Any) -> None:
    with service(max_workers=4) as executor:
        assert [one.value for one in executor.map(math.sqrt, [4.0])] == [2.0]
    before = len(google.asked)
    with service(max_workers=4) as executor:
        assert [one.value for one in executor.map(math.sqrt, [9.0])] == [3.0]
    later = [one for one in google.asked[before:] if "-run.googleapis.com" in one]
    assert later
    assert {one.split()[0] for one in later} == {"GET"}  # the service's address


def test_a_call_that_the_service_has_no_room_for_is_invoked_again_and_no_attempt_is_lost(
    google: Google, service: Any, bucket: Any, server: str, uploaded: list[str], source: xr.Dataset
) -> None:
    with service(max_workers=4) as executor:
        assert [one.value for one in executor.map(math.sqrt, [4.0])] == [2.0]
    google.refuse = 3
    with service(max_workers=4) as executor:
        plan = planned(uploaded, f"s3://{bucket.name}/archive", tasks=2)
        frazil.run(plan, executor=executor, verify="none", retry=frazil.Retry(attempts=1))
    assert not google.refuse
    xr.testing.assert_identical(read(bucket, server), xr.decode_cf(source))


def test_an_instance_killed_before_its_call_begins_costs_no_attempt(google: Google, service: Any) -> None:
    with service(max_workers=4) as executor:
        assert [one.value for one in executor.map(math.sqrt, [4.0])] == [2.0]
        google.kill = 1
        assert [one.value for one in executor.map(math.sqrt, [9.0])] == [3.0]
    assert not google.kill


def test_a_killed_instance_is_noticed_at_once_and_its_call_made_again(
    google: Google, service: Any, bucket: Any, server: str, uploaded: list[str], source: xr.Dataset, staging_host: str
) -> None:
    with service(max_workers=4) as executor:
        assert [one.value for one in executor.map(math.sqrt, [4.0])] == [2.0]
    google.kill, google.dying = 2, once_begun(staging_host)
    plan = planned(uploaded, f"s3://{bucket.name}/archive", tasks=4)
    began = time.monotonic()
    with service(max_workers=4, start_deadline=240) as executor:
        frazil.run(plan, executor=executor, verify="none", retry=frazil.Retry(attempts=2, backoff=0, backups=False))
    assert time.monotonic() - began < 200
    assert not google.kill
    xr.testing.assert_identical(read(bucket, server), xr.decode_cf(source))


def test_killed_instances_leave_room_for_the_calls_behind_them(google: Google, service: Any, staging_host: str) -> None:
    with service(max_workers=4) as executor:
        assert [one.value for one in executor.map(math.sqrt, [4.0])] == [2.0]
    google.kill, google.dying = 8, once_begun(staging_host)  # more than Lithops ever lets run at once
    began = time.monotonic()
    with service(max_workers=4, start_deadline=240) as executor:
        outcomes = list(executor.map(time.sleep, [2.0] * 10))
    assert time.monotonic() - began < 200
    assert [outcome.killed for outcome in outcomes if outcome.error] == [True] * 8
    assert len(outcomes) == 10


def test_a_service_that_was_deleted_is_told_of_at_once_and_the_client_ends(google: Google, service: Any) -> None:
    with service(max_workers=4) as executor:
        assert [one.value for one in executor.map(math.sqrt, [4.0])] == [2.0]
    google.services.clear()
    began = time.monotonic()
    with (
        service(max_workers=4, start_deadline=240) as executor,
        pytest.raises(BackendError, match=r"404[\s\S]*lithops.runtimes/"),
    ):
        list(executor.map(math.sqrt, [1.0, 4.0, 9.0]))
    assert time.monotonic() - began < 120


def test_a_key_file_is_needed(google: Google) -> None:
    (config,) = documented("lithops-cloud-run.md")
    del config["gcp"]["credentials_path"]
    with pytest.raises(InvalidInputError, match="credentials_path"):
        frazil.LithopsExecutor(backend="gcp_cloudrun", config=config).check()
