"""Several that do the same at the same moment: clients that resume one run, start one run, or run one job twice."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zarr

import frazil
from frazil_functions.runs.following import LOOK_SECONDS

from .jobs import HOURS, TASKS, Clients, Files, Job, here
from .proxy import Kill, Proxy, Rule

AWAITED = r"^(?!.*/manifests/)"
"""Requests whose answer is waited for; Icechunk reads manifests ahead."""

type Place = Callable[[str], str]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files.make(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def clients() -> Iterator[Clients]:
    with Clients() as running:
        yield running


@pytest.fixture(params=["disk", "s3"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        return f"s3://{request.getfixturevalue('bucket')}/archive"
    return str(tmp_path / "archive")


def snapshots(said: list[dict[str, Any] | None]) -> set[str]:
    """What every client says was published; fail if any says anything else."""
    assert all(one is not None and "snapshot_id" in one for one in said), said
    return {one["snapshot_id"] for one in said if one is not None}


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("dies", [("write", 0), ("write", 12), ("write", HOURS), ("publish", 0)], ids=str)
def test_clients_that_resume_a_run_at_once_publish_it_once(
    files: Files, clients: Clients, where: str, dies: tuple[str, int], count: int
) -> None:
    job = Job.make(files, where)
    assert clients.say(job.run(dies=dies)) is None
    (snapshot,) = snapshots(clients.at_once(*[job.resume()] * count))
    job.assert_published(snapshot)


def test_functions_that_finish_a_run_at_once_publish_it_once(files: Files, clients: Clients, where: str) -> None:
    job = Job.make(files, where)
    assert clients.say(job.run(dies=("write", HOURS))) is None
    (snapshot,) = snapshots(clients.at_once(*[job.finish()] * 4))
    job.assert_published(snapshot)


@pytest.mark.parametrize("count", [2, 4])
def test_clients_that_start_a_run_of_one_name_at_once_share_it(
    files: Files, clients: Clients, where: str, count: int
) -> None:
    job = Job.make(files, where)
    (snapshot,) = snapshots(clients.at_once(*[job.run()] * count))
    job.assert_published(snapshot)
    assert [one.run_id for one in frazil.runs(job.where)] == [job.run_id]


def test_who_is_second_to_start_a_run_joins_it_and_writes_nothing_again(
    files: Files, clients: Clients, bucket: str, proxy: Proxy
) -> None:
    job = Job.make(files, f"s3://{bucket}/archive")
    faster = Kill(lambda _: clients.say(job.run(dies=("write", 12))))
    with proxy.injected(Rule(faster, method="PUT", target=r"run\.json", times=1)):
        said = clients.say(job.run())
    (snapshot,) = snapshots([said])
    job.assert_published(snapshot)
    assert job.chunks() == HOURS


@pytest.mark.parametrize(
    ("held", "skip"),
    [
        (r"wishes\.json", 0),
        (r"plan\.json", 0),
        (r"/clock", 0),
        (r"/archive/snapshots/", 1),  # behind the repository's own, that of the template on a private branch
    ],
)
def test_who_starts_a_run_that_is_published_meanwhile_finds_no_conflict_with_it(
    files: Files, clients: Clients, bucket: str, proxy: Proxy, held: str, skip: int
) -> None:
    job = Job.make(files, f"s3://{bucket}/archive")
    said: list[Any] = []
    faster = Kill(lambda _: said.append(clients.say(job.run())))
    with proxy.injected(Rule(faster, method="PUT", target=held, skip=skip, times=1)):
        slower = clients.say(job.run())
    (first,) = said
    assert first is not None
    assert slower == first | {"already": True}
    job.assert_published(first["snapshot_id"])


def test_who_is_second_to_start_a_run_leaves_no_branch(
    files: Files, clients: Clients, bucket: str, proxy: Proxy
) -> None:
    job = Job.make(files, f"s3://{bucket}/archive")
    start = {"action": "start", "plan": str(job.file), "run": job.directory.location.url}
    said = []
    faster = Kill(lambda _: said.append(clients.say({"action": "event", "event": start})))
    with proxy.injected(Rule(faster, method="PUT", target=r"run\.json", times=1)):
        slower = clients.say({"action": "event", "event": start})
    assert said == [slower]
    assert slower is not None
    assert slower["missing"] == list(range(TASKS))
    record = job.directory.record()
    assert record is not None
    assert set(job.repo.list_branches()) == {"main", record.targets[0].branch}


def test_a_run_that_is_started_again_when_it_is_published_says_so(files: Files, clients: Clients, where: str) -> None:
    job = Job.make(files, where)
    first = clients.say(job.run())
    again = clients.say(job.run())
    assert first is not None
    assert again == first | {"already": True}
    job.assert_published(first["snapshot_id"])


def test_a_published_run_whose_fork_is_still_there_is_not_written_again(
    files: Files, clients: Clients, tmp_path: Path
) -> None:
    job = Job.make(files, tmp_path / "archive")
    assert clients.say(job.run(dies=("write", HOURS))) is None
    (fork,) = Path(job.directory.location.url).glob("fork-*")
    kept = fork.read_bytes()
    done = here(job.resume())
    fork.write_bytes(kept)
    assert here(job.run()) == done | {"already": True}
    job.assert_published(done["snapshot_id"])
    assert job.chunks() == HOURS


def test_a_published_run_stays_so_whatever_became_of_the_branch(files: Files, tmp_path: Path) -> None:
    job = Job.make(files, tmp_path / "archive")
    done = here(job.run())
    first = list(job.repo.ancestry(branch="main"))[-1].id
    job.repo.reset_branch("main", first)
    other = here(job.named("other").run())
    assert here(job.resume()) == done | {"already": True}
    assert job.commits() == [other["snapshot_id"]]


def test_of_two_runs_of_one_job_one_is_published_and_the_other_is_a_conflict(
    files: Files, clients: Clients, where: str
) -> None:
    job = Job.make(files, where)
    one, two = job.named("one"), job.named("two")
    said = clients.at_once(one.run(), two.run())
    assert None not in said
    ends = {name: end for name, end in zip(("one", "two"), said, strict=True) if end is not None}
    (won,) = [name for name, end in ends.items() if "snapshot_id" in end]
    (lost,) = ends.keys() - {won}
    assert (ends[lost]["error"], ends[lost]["exit"]) == ("ConflictError", 1)
    assert "'/tas'" in ends[lost]["says"]
    assert job.commits() == [ends[won]["snapshot_id"]]
    states = {status.run_id: status.state for status in frazil.runs(job.where)}
    assert states[won] == "published"
    assert states.get(lost, "starting") in {"starting", "writing", "written"}


def test_a_run_that_another_client_publishes_meanwhile_is_left_alone(
    files: Files, clients: Clients, where: str
) -> None:
    """The slower client holds what it has gathered when the faster one removes all that it would need."""
    job = Job.make(files, where)
    assert clients.say(job.run(dies=("write", 8))) is None
    said = []

    def overtake(progress: frazil.Progress) -> None:
        if progress.stage == "write" and progress.done >= 12 and not said:
            said.append(clients.say(job.resume()))
            time.sleep(LOOK_SECONDS)  # more often, nobody looks

    with frazil.SerialExecutor() as executor:
        result = frazil.resume(job.where, job.run_id, executor=executor, listener=overtake)
    assert snapshots(said) == {result.snapshot_id}
    job.assert_published(result.snapshot_id)
    assert job.chunks() == HOURS


@pytest.mark.parametrize("stage", ["verify", "publish"])
def test_a_run_that_another_client_publishes_while_it_is_published_is_published_once(
    files: Files, clients: Clients, where: str, stage: str
) -> None:
    job = Job.make(files, where)
    assert clients.say(job.run(dies=("write", HOURS))) is None
    said = []

    def overtake(progress: frazil.Progress) -> None:
        if progress.stage == stage and not said:
            said.append(clients.say(job.resume()))

    with frazil.SerialExecutor() as executor:
        result = frazil.resume(job.where, job.run_id, executor=executor, listener=overtake)
    assert snapshots(said) == {result.snapshot_id}
    job.assert_published(result.snapshot_id)


@pytest.mark.parametrize("number", [4, 12, 20, 28, 36])
def test_a_finisher_that_is_overtaken_at_a_request_finds_the_run_published(
    files: Files, clients: Clients, bucket: str, proxy: Proxy, number: int
) -> None:
    """While one request of a finisher waits, another finishes the run and removes all that it leaves."""
    assert_overtaken(Job.make(files, f"s3://{bucket}/archive", group="model"), clients, proxy, number, moved=True)


@pytest.mark.parametrize("number", [10, 16, 22, 28, 34])
def test_a_finisher_that_is_overtaken_by_one_that_dies_before_it_says_so_finds_the_run_published(
    files: Files, clients: Clients, bucket: str, proxy: Proxy, number: int
) -> None:
    job = Job.make(files, f"s3://{bucket}/archive", group="model")
    assert clients.say(job.run(dies=("write", HOURS))) is None
    said = []
    faster = Kill(lambda _: said.append(clients.say(job.finish())))
    dies = Rule(Kill(), method="PUT", target=r"outcome\.json", times=1)
    with proxy.injected(Rule(faster, target=AWAITED, skip=number, times=1)), proxy.injected(dies):
        slower = clients.say(job.finish())
    assert said == [None]
    (snapshot,) = snapshots([slower])
    job.assert_published(snapshot)


@pytest.mark.parametrize("number", range(8, 20, 2))
def test_a_client_that_is_overtaken_while_it_opens_a_run_finds_it_published(
    files: Files, clients: Clients, bucket: str, proxy: Proxy, number: int
) -> None:
    job = Job.make(files, f"s3://{bucket}/archive", group="model")
    assert clients.say(job.run(dies=("write", HOURS))) is None
    said = []
    faster = Kill(lambda _: said.append(clients.say(job.finish())))
    with proxy.injected(Rule(faster, target=AWAITED, skip=number, times=1)):
        slower = clients.say(job.resume())
    (snapshot,) = snapshots([slower, *said])
    job.assert_published(snapshot)


def assert_overtaken(job: Job, clients: Clients, proxy: Proxy, number: int, *, moved: bool) -> bool:
    """Fail unless an overtaken finisher says what the other one does; False if it sent fewer requests."""
    assert clients.say(job.run(dies=("write", HOURS))) is None
    if moved:
        session = job.repo.writable_session("main")
        zarr.open_group(session.store, path="other", mode="a")
        session.commit("somebody else")
    said = []
    faster = Kill(lambda _: said.append(clients.say(job.finish())))
    with proxy.injected(Rule(faster, target=AWAITED, skip=number, times=1)) as rule:
        slower = clients.say(job.finish())
        # What Icechunk reads ahead is waited for by nobody, and then the slower one may be the first to end.
        until = time.monotonic() + 60
        while rule.struck and not said and time.monotonic() < until:
            time.sleep(0.05)
    (snapshot,) = snapshots([slower, *said])
    job.assert_published(snapshot)
    return bool(rule.struck)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("moved", [False, True])
def test_a_finisher_that_is_overtaken_at_any_request_finds_it_published(
    files: Files, clients: Clients, bucket: str, proxy: Proxy, moved: bool, every: int
) -> None:
    for number in range(0, 200, every):
        job = Job.make(files, f"s3://{bucket}/{number}", group="model")
        if not assert_overtaken(job, clients, proxy, number, moved=moved):
            break
    assert number > 20


def tree(folder: Path) -> dict[str, tuple[bytes | None, int]]:
    """Everything below a folder, byte for byte, and when it was last changed."""
    return {
        str(path.relative_to(folder)): (path.read_bytes() if path.is_file() else None, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
    }


def test_resuming_a_published_run_says_so_and_changes_nothing(files: Files, clients: Clients, tmp_path: Path) -> None:
    job = Job.make(files, tmp_path / "target" / "archive")
    done = here(job.run())
    before = tree(tmp_path / "target")
    said = here(job.resume())
    assert said == done | {"already": True}
    assert here(job.finish())["snapshot_id"] == done["snapshot_id"]
    told = clients.say(command("resume", str(job.where), job.run_id, "--backend", "serial"))
    assert told is not None
    assert told["exit"] == 0, told
    assert "was published before" in told["out"]
    lock = "archive.frazil/lock"  # taken, and not written
    assert {name: one for name, one in tree(tmp_path / "target").items() if name != lock} == {
        name: one for name, one in before.items() if name != lock
    }


def command(*arguments: str) -> dict[str, Any]:
    return {"action": "command", "arguments": list(arguments)}


def edited(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Somebody changes a JSON object in place."""
    found = json.loads(path.read_bytes())
    change(found)
    path.write_bytes(json.dumps(found).encode())


@pytest.mark.parametrize("name", ["frazil", "icechunk"])
@pytest.mark.parametrize("file", ["run.json", "plan.json"])
def test_a_run_of_another_version_is_not_resumed(
    files: Files, clients: Clients, tmp_path: Path, file: str, name: str
) -> None:
    job = Job.make(files, tmp_path / "target" / "archive")
    assert clients.say(job.run(dies=("write", 8))) is None
    folder = Path(job.directory.location.url)
    edited(folder / file, lambda found: found["versions"].update({name: "0.0.1"}))
    if file == "plan.json":
        (folder / "run.json").unlink()  # else the plan does not even match its record
    before = tree(tmp_path / "target")
    told = clients.say(command("resume", str(job.where), job.run_id, "--backend", "serial"))
    assert told is not None
    assert told["exit"] == 2, told
    assert f"{name} 0.0.1 there" in told["err"]
    assert tree(tmp_path / "target") == before
    assert job.unpublished()


@pytest.mark.parametrize("file", ["run.json", "plan.json"])
def test_a_run_whose_format_is_another_is_not_resumed(
    files: Files, clients: Clients, tmp_path: Path, file: str
) -> None:
    job = Job.make(files, tmp_path / "target" / "archive")
    assert clients.say(job.run(dies=("write", 8))) is None
    edited(Path(job.directory.location.url) / file, lambda found: found.update({"format": 99}))
    before = tree(tmp_path / "target")
    told = clients.say(command("resume", str(job.where), job.run_id, "--backend", "serial"))
    assert told is not None
    assert told["exit"] == 2, told
    assert "format" in told["err"]
    assert tree(tmp_path / "target") == before


def test_a_plan_that_somebody_changed_is_not_resumed(files: Files, clients: Clients, tmp_path: Path) -> None:
    job = Job.make(files, tmp_path / "target" / "archive")
    assert clients.say(job.run(dies=("write", 8))) is None
    edited(Path(job.directory.location.url) / "plan.json", lambda found: found["target"].update({"group": "other"}))
    before = tree(tmp_path / "target")
    said = here(job.resume())
    assert (said["error"], said["exit"]) == ("IncompleteRunError", 1)
    assert "not the one that run" in said["says"]
    assert tree(tmp_path / "target") == before


def test_a_run_that_does_not_exist_is_refused_and_the_nearest_named(
    files: Files, clients: Clients, tmp_path: Path
) -> None:
    job = Job.make(files, tmp_path / "target" / "archive")
    assert here(job.run())
    before = tree(tmp_path / "target")
    told = clients.say(command("resume", str(job.where), "nightlee", "--backend", "serial"))
    assert told is not None
    assert told["exit"] == 2, told
    assert "did you mean 'nightly'" in told["err"]
    assert tree(tmp_path / "target") == before


@pytest.mark.parametrize("inside", ["", "chunks", "runs/one", ".."])
def test_a_run_directory_in_or_around_the_repository_is_refused(
    files: Files, clients: Clients, tmp_path: Path, inside: str
) -> None:
    where = tmp_path / "target" / "archive"
    assert here(Job.make(files, where).run())
    before = tree(tmp_path / "target")
    arguments = [*files.paths, str(where), "--group", "g", "--backend", "serial", "--run-dir", str(where / inside)]
    told = clients.say(command("convert", *arguments))
    assert told is not None
    assert told["exit"] == 2, told
    assert "the run directory" in told["err"]
    assert tree(tmp_path / "target") == before
