"""A Kubernetes cluster on this machine: Jobs as its controller keeps them, and pods whose containers are processes.

Of a Job it knows what Lithops uses: parallelism without completions, backoffLimit, activeDeadlineSeconds,
ttlSecondsAfterFinished. Of a container: command, args, env, and the limit of memory. How it is asked is in api.py.
"""

import copy
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

type Manifest = dict[str, Any]

TICK = 0.03  # seconds between two looks of the controller
POD = Path(__file__).with_name("pod")
_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


@dataclass(frozen=True, slots=True)
class Image:
    """What a container's file system holds: what lies at `/lithops`, and the programs on its PATH."""

    name: str
    lithops: Path
    env: Mapping[str, str]


@dataclass(slots=True)
class Pod:
    manifest: Manifest
    process: subprocess.Popen[bytes] | None = None
    peak: int = 0  # bytes

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    @property
    def job(self) -> str:
        return str(self.manifest["metadata"]["labels"]["job-name"])

    @property
    def phase(self) -> str:
        return str(self.manifest["status"]["phase"])

    @property
    def active(self) -> bool:
        return self.phase in {"Pending", "Running"}


@dataclass(frozen=True, slots=True)
class Event:
    kind: str
    type: str
    object: Manifest


@dataclass(slots=True)
class Cluster:
    """The state of a cluster.

    Parameters
    ----------
    image
        The only image that its nodes can pull.
    directory
        Where pods have their temporary directories and leave their logs.
    injected
        What an admission webhook adds to the environment of every pod, as for IAM roles for service accounts.
    capacity
        How many pods the nodes have room for; others are pending.
    """

    image: Image
    directory: Path
    injected: Mapping[str, str]
    capacity: int = 100
    jobs: dict[str, Manifest] = field(default_factory=dict)
    pods: dict[str, Pod] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    past: list[Pod] = field(default_factory=list)  # those that were deleted
    changed: threading.Condition = field(default_factory=lambda: threading.Condition(threading.RLock()))
    hurried: threading.Event = field(default_factory=threading.Event)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _network: str = field(default_factory=lambda: f"127.{secrets.randbelow(250) + 1}.{secrets.randbelow(250) + 1}")
    _made: int = 0

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._control, name="controller")
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopped.set()
        assert self._thread is not None
        self._thread.join()
        with self.changed:
            for name in list(self.jobs):
                self.delete(name)

    def create(self, job: Manifest) -> Manifest:
        """Take a Job; a name that is taken is a KeyError."""
        with self.changed:
            name = job["metadata"]["name"]
            if name in self.jobs:
                raise KeyError(name)
            made = copy.deepcopy(job)
            made["metadata"] |= {"uid": secrets.token_hex(8), "creationTimestamp": _now()}
            made["status"] = {"startTime": _now()}
            made["since"] = time.monotonic()
            self.jobs[name] = made
            self._tell("jobs", "ADDED", made)
            return made

    def delete(self, name: str) -> None:
        """Delete a Job and its pods; a name that is not there is a KeyError."""
        with self.changed:
            job = self.jobs.pop(name)
            self._tell("jobs", "DELETED", job)
            for pod in self.pods_of(name):
                self._remove(pod)

    def expire(self) -> None:
        """Let the time be up of every Job that has a pod whose image cannot be pulled, and end all watches."""
        with self.changed:
            for pod in self.pods.values():
                if pod.phase == "Pending" and "containerStatuses" in pod.manifest["status"]:
                    self.jobs[pod.job]["since"] = float("-inf")
        self.hurried.set()

    def pods_of(self, job: str) -> list[Pod]:
        return [pod for pod in list(self.pods.values()) if pod.job == job]

    def workers(self) -> list[Pod]:
        """The running pods of Lithops' maps."""
        return [pod for pod in list(self.pods.values()) if pod.phase == "Running" and "-master" not in pod.job]

    def kill(self, pod: Pod, reason: str) -> None:
        """End a pod's processes, as the kernel does for want of memory, or a node that is lost."""
        with self.changed:
            self._end(pod)
            self._set(pod, "Failed", reason=reason)

    def log(self, pod: Pod) -> str:
        return (self.directory / f"{pod.name}.log").read_text()

    def _control(self) -> None:
        while not self._stopped.wait(TICK):
            with self.changed:
                for pod in list(self.pods.values()):
                    self._look(pod)
                for name in list(self.jobs):
                    self._reconcile(name)
                room = self.capacity - sum(pod.phase == "Running" for pod in self.pods.values())
                pending = [pod for pod in self.pods.values() if pod.phase == "Pending"]
                for pod in pending[: max(room, 0)]:
                    self._start(pod)

    def _reconcile(self, name: str) -> None:
        job, pods = self.jobs[name], self.pods_of(name)
        spec, status = job["spec"], job["status"]
        if "conditions" in status:
            if time.monotonic() - job["finished"] > spec.get("ttlSecondsAfterFinished", float("inf")):
                self.delete(name)
            return
        active = [pod for pod in pods if pod.active]
        succeeded, failed = (sum(pod.phase == phase for pod in pods) for phase in ("Succeeded", "Failed"))
        done = _verdict(job, succeeded, failed, len(active))
        if done is None and not succeeded:  # a pod that succeeds says that there is no more to do
            active += [self._make(job) for _ in range(spec["parallelism"] - len(active) - failed)]
        if done is not None:
            for pod in active:  # a Job that failed takes down all of its pods
                self._remove(pod)
            failed += len(active)
            active = []
            job["finished"] = time.monotonic()
            status["conditions"] = [{"type": done[0], "status": "True", "reason": done[1]}]
        counts = {"active": len(active), "succeeded": succeeded, "failed": failed}
        now = {key: value for key, value in counts.items() if value}
        if done is not None or now != {key: status[key] for key in counts if key in status}:
            for key in counts:
                status.pop(key, None)
            status |= now
            self._tell("jobs", "MODIFIED", job)

    def _make(self, job: Manifest) -> Pod:
        self._made += 1
        name = job["metadata"]["name"]
        template = copy.deepcopy(job["spec"]["template"])
        template.setdefault("metadata", {}).update(
            name=f"{name}-{self._made}",
            namespace=job["metadata"]["namespace"],
            labels={**template["metadata"].get("labels", {}), "job-name": name, "batch.kubernetes.io/job-name": name},
        )
        pod = Pod({"apiVersion": "v1", "kind": "Pod", **template, "status": {"phase": "Pending"}})
        self.pods[pod.name] = pod
        self._tell("pods", "ADDED", pod.manifest)
        return pod

    def _start(self, pod: Pod) -> None:
        (container,) = pod.manifest["spec"]["containers"]
        status = pod.manifest["status"]
        if container["image"] != self.image.name:
            waiting = {"waiting": {"reason": "ImagePullBackOff"}}
            if "containerStatuses" not in status:
                status["containerStatuses"] = [_container_status(container, waiting)]
                self._tell("pods", "MODIFIED", pod.manifest)
            return
        status["podIP"] = f"{self._network}.{self._made % 250 + 1}"
        temporary = self.directory / pod.name
        temporary.mkdir()
        env = {**self.image.env, **self.injected, "TMPDIR": str(temporary), "PYTHONPATH": str(POD)}
        for one in container["env"]:
            source = one.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
            env[one["name"]] = status["podIP"] if source == "status.podIP" else one.get("value", "")
        words = [
            re.sub(r"\$\((\w+)\)", lambda found: env.get(found[1], found[0]), word)
            for word in (*container["command"], *container["args"])
        ]
        words = [re.sub(r"^/lithops(?=/)", str(self.image.lithops), word) for word in words]
        program = shutil.which(words[0], path=env["PATH"])
        assert program is not None
        try:
            with (self.directory / f"{pod.name}.log").open("wb") as log:
                pod.process = subprocess.Popen(
                    [program, *words[1:]], env=env, cwd=temporary, stdout=log, stderr=log, start_new_session=True
                )
        except OSError as error:
            self._set(pod, "Failed", reason="StartError", message=str(error))
            return
        self._set(pod, "Running")

    def _look(self, pod: Pod) -> None:
        if pod.process is None or not pod.active:
            return
        code = pod.process.poll()
        if code is not None:
            self._set(pod, "Failed" if code else "Succeeded", exitCode=code)
            return
        pod.peak = max(pod.peak, _memory(pod.process.pid))
        (container,) = pod.manifest["spec"]["containers"]
        if pod.peak > _bytes(container["resources"]["limits"]["memory"]):
            self.kill(pod, "OOMKilled")

    def _set(self, pod: Pod, phase: str, **terminated: object) -> None:
        pod.manifest["status"]["phase"] = phase
        (container,) = pod.manifest["spec"]["containers"]
        state = {"terminated": terminated} if terminated else {"running": {}}
        pod.manifest["status"]["containerStatuses"] = [_container_status(container, state)]
        self._tell("pods", "MODIFIED", pod.manifest)

    def _remove(self, pod: Pod) -> None:
        self._end(pod)
        self.past.append(self.pods.pop(pod.name))
        self._tell("pods", "DELETED", pod.manifest)

    @staticmethod
    def _end(pod: Pod) -> None:
        if pod.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(pod.process.pid, signal.SIGKILL)
            pod.process.wait()

    def _tell(self, kind: str, type_: str, one: Manifest) -> None:
        shown = copy.deepcopy({key: value for key, value in one.items() if key not in {"since", "finished"}})
        shown["metadata"]["resourceVersion"] = str(len(self.events) + 1)
        self.events.append(Event(kind, type_, shown))
        self.changed.notify_all()

    def listed(self, kind: str) -> list[Manifest]:
        """The objects of a kind as they are, in the order in which they were made."""
        there = list(self.jobs) if kind == "jobs" else list(self.pods)
        latest = {one.object["metadata"]["name"]: one.object for one in self.events if one.kind == kind}
        return [latest[name] for name in there]


def _verdict(job: Manifest, succeeded: int, failed: int, active: int) -> tuple[str, str] | None:
    """How a Job has ended, and why."""
    if failed > job["spec"]["backoffLimit"]:
        return "Failed", "BackoffLimitExceeded"
    if time.monotonic() - job["since"] > job["spec"]["activeDeadlineSeconds"]:
        return "Failed", "DeadlineExceeded"
    return ("Complete", "CompletionsReached") if succeeded and not active else None


def _container_status(container: Manifest, state: Manifest) -> Manifest:
    of_its_own = {"name": container["name"], "image": container["image"], "imageID": ""}
    return of_its_own | {"ready": "running" in state, "restartCount": 0, "state": state}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _bytes(quantity: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(Ki|Mi|Gi)", quantity).groups()  # type: ignore[union-attr]
    return int(number) * _UNITS[unit]


def _memory(session: int) -> int:
    """Bytes of memory that the processes of a session hold together; shared pages count once."""
    total = 0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):  # it ended meanwhile
            if os.getsid(int(process.name)) == session:
                rollup = (process / "smaps_rollup").read_text()
                total += int(re.search(r"^Pss_Anon:\s+(\d+)", rollup, re.MULTILINE)[1]) * 1024  # type: ignore[index]
    return total


def image_of(directory: Path, name: str) -> Image:
    """What `--target kubernetes` of infra/runtime holds: Lithops' entry point, and this Python with its packages."""
    package = find_spec("lithops")  # which is not imported for it
    assert package is not None
    assert package.origin is not None
    folder = directory / "lithops"
    folder.mkdir()
    shutil.copy(Path(package.origin).parent / "serverless/backends/k8s/entry_point.py", folder / "lithopsentry.py")
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    return Image(name, folder, {"PATH": path, "HOME": str(directory), "USER": "frazil", "PYTHONUNBUFFERED": "1"})
