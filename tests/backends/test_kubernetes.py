"""Lithops' own backend for Kubernetes, as it is, against a cluster on this machine; its pods are processes."""

import json
import math
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

import frazil
from frazil_functions.errors import BackendError

from .conftest import TOKEN
from .conversions import planned, read
from .credentials import shown_in

pytest.importorskip("kubernetes", reason="the client of Kubernetes is not installed")

type Start = Callable[..., Any]

pytestmark = pytest.mark.timeout(180)


def executor(reached: Any, **options: Any) -> frazil.LithopsExecutor:
    return frazil.LithopsExecutor(backend="k8s", config=reached.config, **{"start_deadline": 90.0} | options)


def up(reached: Any) -> None:
    """Have the image described and Lithops' first pod running, as after any earlier run."""
    with executor(reached) as pods:
        assert [one.value for one in pods.map(math.sqrt, [4.0])] == [2.0]


def wait_for(what: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def the_pod(reached: Any) -> Any:
    """The only pod, once its container has a state; where the machine is busy, Lithops asks for it only late."""
    wait_for(lambda: any("containerStatuses" in pod.manifest["status"] for pod in list(reached.cluster.pods.values())))
    (pod,) = reached.cluster.pods.values()
    return pod


@contextmanager
def meanwhile(what: Callable[[], None]) -> Iterator[None]:
    """Something else that happens at the same time, and has happened at the end."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            what()
        except BaseException as error:  # noqa: BLE001 - raised in the test's own thread
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join()
    assert not failures, failures


def test_files_are_converted_by_pods(
    kubernetes: Start, bucket: Any, server: str, uploaded: list[str], source: xr.Dataset, aws: dict[str, str]
) -> None:
    with kubernetes(max_workers=2) as reached:
        with executor(reached) as pods:
            plan = planned(uploaded, f"s3://{bucket.name}/archive", tasks=6)
            result = frazil.run(plan, executor=pods, verify="full")
        xr.testing.assert_identical(read(bucket, server), xr.decode_cf(source))
        assert result.snapshot_id
        made = [*reached.cluster.past, *reached.cluster.pods.values()]
        kinds = [pod.job.rsplit("-", 1)[-1][:4] for pod in made]
        assert kinds.count("meta") == 1  # Lithops has described the image
        assert sum("-master-" in pod.name for pod in made) == 1
        writers = [pod for pod in made if "-m100000-" in pod.name]
        assert len(writers) == 2
        said = [reached.cluster.log(pod) for pod in writers]
        assert all("Received range: " in text for text in said)
        assert sum(text.count("Success function execution") for text in said) == 6
        assert all(pod.peak for pod in made)
        told = "".join(reached.cluster.log(pod) for pod in made) + repr([one.object for one in reached.cluster.events])
        assert not shown_in(told, aws["AWS_SECRET_ACCESS_KEY"])


def test_the_command_line_needs_the_file_alone(
    kubernetes: Start, bucket: Any, server: str, uploaded: list[str], source: xr.Dataset, tmp_path: Path
) -> None:
    from frazil import cli  # noqa: PLC0415 - of use here alone

    with kubernetes(max_workers=1) as reached:
        file = tmp_path / "lithops.yaml"
        file.write_text(reached.written)
        code = cli.main(["convert", *uploaded, f"s3://{bucket.name}/archive", "--lithops-config", str(file), "--quiet"])
        assert code == 0
    xr.testing.assert_identical(read(bucket, server), xr.decode_cf(source))


def test_an_image_that_cannot_be_pulled_ends_the_run_and_does_not_hang_it(
    kubernetes: Start, bucket: Any, uploaded: list[str]
) -> None:
    with kubernetes(runtime="registry.example/frazil:0.0.9") as reached, executor(reached, start_deadline=3) as pods:
        began = time.monotonic()
        with pytest.raises(BackendError, match=r"within 3 s: the backend builds or pulls the image") as caught:
            frazil.convert(uploaded, f"s3://{bucket.name}/archive", executor=pods)
        assert time.monotonic() - began < 80
        assert "start_deadline" in str(caught.value)
        pod = the_pod(reached)
        assert pod.manifest["status"]["containerStatuses"][0]["state"] == {"waiting": {"reason": "ImagePullBackOff"}}
        with pytest.raises(BackendError, match="within 3 s"):  # at once: Lithops waits still
            list(pods.map(math.sqrt, [4.0]))
        reached.cluster.capacity = 0
    repo = frazil.open_repository(f"s3://{bucket.name}/archive", create=False)
    assert [len(list(repo.ancestry(branch=branch))) for branch in ["main"]] == [1]  # as it was created


def test_a_cluster_without_room_for_lithops_first_pod_does_not_hang_the_run(kubernetes: Start) -> None:
    with kubernetes(max_workers=1) as reached:
        up(reached)
        reached.cluster.delete(next(name for name in reached.cluster.jobs if "-master-" in name))
        reached.cluster.capacity = 0
        with executor(reached, start_deadline=3) as pods, pytest.raises(BackendError, match="has no room"):
            list(pods.map(math.sqrt, [4.0]))


def test_calls_whose_pods_are_pending_are_given_up_and_made_again_when_there_is_room(
    kubernetes: Start, bucket: Any, server: str, uploaded: list[str], source: xr.Dataset
) -> None:
    with kubernetes(max_workers=2) as reached:
        up(reached)
        reached.cluster.capacity = 1  # which the master takes
        seen = set(reached.cluster.jobs)

        def make_room() -> None:
            wait_for(lambda: set(reached.cluster.jobs) - seen)
            (first,) = set(reached.cluster.jobs) - seen
            wait_for(lambda: first not in reached.cluster.jobs)  # given up, and deleted
            assert not any("Received range" in reached.cluster.log(pod) for pod in reached.cluster.workers())
            reached.cluster.capacity = 100

        plan = planned(uploaded, f"s3://{bucket.name}/archive", tasks=2)
        with executor(reached, start_deadline=8) as pods, meanwhile(make_room):
            frazil.run(plan, executor=pods, verify="none", retry=frazil.Retry(attempts=8, backoff=0))
    xr.testing.assert_identical(read(bucket, server), xr.decode_cf(source))


def test_calls_that_never_get_room_end_the_run_which_is_finished_later(
    kubernetes: Start, bucket: Any, server: str, uploaded: list[str], source: xr.Dataset
) -> None:
    target = f"s3://{bucket.name}/archive"
    with kubernetes(max_workers=1) as reached:
        up(reached)
        reached.cluster.capacity = 1
        plan = planned(uploaded, target, tasks=2)
        with executor(reached, start_deadline=3) as pods, pytest.raises(frazil.IncompleteRunError) as caught:
            frazil.run(plan, executor=pods, run_id="pending", retry=frazil.Retry(attempts=2, backoff=0))
        assert "it had not started 3 s after" in str(caught.value)
        reached.cluster.capacity = 100
        with executor(reached) as pods:
            frazil.resume(target, "pending", executor=pods)
    xr.testing.assert_identical(read(bucket, server), xr.decode_cf(source))


def test_a_killed_pod_takes_its_job_down_and_its_calls_are_made_again(
    kubernetes: Start, bucket: Any, server: str, uploaded: list[str], source: xr.Dataset
) -> None:
    with kubernetes(max_workers=2) as reached:
        up(reached)

        def kill_one() -> None:
            wait_for(lambda: len(reached.cluster.workers()) == 2)
            killed = reached.cluster.workers()[0]
            reached.cluster.kill(killed, "OOMKilled")
            wait_for(lambda: not reached.cluster.workers())  # the other pod of the Job goes with it
            failed = [one.object for one in reached.cluster.events if one.object["metadata"]["name"] == killed.job]
            assert failed[-1]["status"]["conditions"][0]["reason"] == "BackoffLimitExceeded"

        plan = planned(uploaded, f"s3://{bucket.name}/archive", tasks=2)
        with executor(reached, start_deadline=15) as pods, meanwhile(kill_one):
            frazil.run(plan, executor=pods, verify="none", retry=frazil.Retry(attempts=6, backoff=0))
    xr.testing.assert_identical(read(bucket, server), xr.decode_cf(source))


def test_a_pod_that_is_killed_in_the_middle_of_a_call_is_noticed_by_its_time_limit(kubernetes: Start) -> None:
    with kubernetes(max_workers=1) as reached, executor(reached, call_timeout=10) as pods:

        def kill_it() -> None:
            wait_for(lambda: any("Execution ID" in reached.cluster.log(one) for one in reached.cluster.workers()))
            time.sleep(4)  # so that the client has seen it run
            reached.cluster.kill(reached.cluster.workers()[0], "OOMKilled")

        with meanwhile(kill_it):
            (outcome,) = pods.map(time.sleep, [600])
        assert isinstance(outcome.error, BackendError)
        assert "ended without an answer" in str(outcome.error)
        assert "memory limit" in str(outcome.error)


def test_a_range_of_calls_that_is_lost_on_its_way_to_a_pod_is_given_up(kubernetes: Start) -> None:
    with kubernetes(max_workers=1) as reached:
        up(reached)
        reached.cluster.capacity = 1
        seen = set(reached.cluster.jobs)

        def take_a_range() -> None:
            wait_for(lambda: set(reached.cluster.jobs) - seen)
            master = next(pod for pod in reached.cluster.pods.values() if "-master-" in pod.name)
            (job,) = set(reached.cluster.jobs) - seen
            key = job.removeprefix("lithops-").replace("-m", "-M")
            address = f"http://{master.manifest['status']['podIP']}:8080/get-range/{key}/2/1"
            with urllib.request.urlopen(address) as answer:
                assert answer.read() == b"0-1"
            reached.cluster.capacity = 100

        with executor(reached, start_deadline=20) as pods, meanwhile(take_a_range):
            outcomes = sorted(pods.map(math.sqrt, [4.0, 9.0]), key=lambda one: one.index)
    assert "it had not started" in str(outcomes[0].error)
    assert outcomes[1].value == 3.0


def test_what_the_role_does_not_allow_is_refused_and_told(kubernetes: Start) -> None:
    with kubernetes(without="create") as reached, executor(reached) as pods:
        with pytest.raises(BackendError, match=r'cannot create resource \\*"jobs'):
            list(pods.map(math.sqrt, [4.0]))
        assert not reached.cluster.jobs


def test_an_image_of_another_registry_needs_docker_server(kubernetes: Start) -> None:
    with kubernetes(docker_server="docker.io") as reached, executor(reached, start_deadline=3) as pods:
        with pytest.raises(BackendError, match="within 3 s"):
            list(pods.map(math.sqrt, [4.0]))
        pod = the_pod(reached)
        assert pod.manifest["spec"]["containers"][0]["image"] == "docker.io/registry.example/frazil:0.1.0"


@pytest.mark.parametrize(
    ("token", "spec", "code"),
    [
        (TOKEN, {"templat": {}}, 422),
        ("of-a-stranger", {"templat": {}}, 401),
    ],
    ids=["no-job", "stranger"],
)
def test_the_api_refuses_what_a_cluster_refuses(kubernetes: Start, token: str, spec: object, code: int) -> None:
    with kubernetes() as reached:
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, "spec": spec}
        request = urllib.request.Request(  # noqa: S310 - on loopback
            f"{reached.url}/apis/batch/v1/namespaces/frazil/jobs",
            data=json.dumps(job).encode(),
            headers={"Authorization": f"Bearer {token}"},
        )
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request)  # noqa: S310 - as above
        caught.value.close()
        assert caught.value.code == code
        assert not reached.cluster.jobs
