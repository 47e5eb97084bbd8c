import hashlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from frazil_functions.errors import BackendError, InvalidInputError, ReceiptError
from frazil_functions.locations import Location
from frazil_functions.regions import Region
from frazil_functions.rundir import RunDirectory, RunOutcome, RunRecord, RunTarget, check_outside, list_runs
from frazil_functions.storage import profile_credentials
from frazil_functions.tasks import Receipt, RegionReceipt, dump_receipt

RECORD = RunRecord(
    run_id="run",
    plan_hash="hash",
    work_hash="work",
    started=1.5,
    versions={"frazil": "0.1"},
    targets=(
        RunTarget(None, "BASE", "frazil/run", "SNAPSHOT", "fork-1"),
        RunTarget(Location("s3://b/r", "r", "http://e"), "BASE2", "frazil/run", "SNAPSHOT2", "fork-2"),
    ),
    regions=3,
    nbytes=12,
    tasks=2,
    message="message",
    verify="sample",
    job="digest",
)
OUTCOME = RunOutcome("published", ("SNAPSHOT",), 2.5, regions=3, nbytes=12, verified=1)


def receipt(number: int = 3, start: int = 0) -> Receipt:
    return Receipt(
        run_id="run",
        plan_hash="hash",
        bases=("BASE",),
        number=number,
        regions=(RegionReceipt(Region("tas", (("time", start, start + 1),)), 1, 4, 7),),
        forks=(b"\x80fork",),
        started=1.5,
        seconds=2.0,
        read_seconds=0.5,
        write_seconds=1.0,
        peak_memory_bytes=1 << 30,
        host="host",
        versions={"zarr": "3"},
    )


@pytest.fixture(params=["disk", "s3"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> RunDirectory:
    """A run directory on disk, or in a local S3."""
    if request.param == "disk":
        return RunDirectory(Location(str(tmp_path / "archive.frazil/a run #1")))
    return RunDirectory(s3(request.getfixturevalue("bucket"), request.getfixturevalue("s3_server")))


def s3(bucket: Any, endpoint: str) -> Location:
    return Location(f"s3://{bucket.name}/archive.frazil/a run #1", "us-east-1", endpoint)


def on_disk(directory: RunDirectory, name: str) -> Path:
    assert directory.location.path is not None
    return directory.location.path / name


def local(tmp_path: Path) -> RunDirectory:
    return RunDirectory(Location(str(tmp_path / "archive.frazil/run")))


def found(directory: RunDirectory, names: list[str] | None = None) -> list[Receipt | ReceiptError]:
    names = directory.list_receipts() if names is None else names
    pairs = list(directory.read_receipts(names))
    assert [name for name, _ in pairs] == names
    return [one for _, one in pairs]


def test_a_run_directory_that_is_only_looked_at_is_not_made(directory: RunDirectory) -> None:
    assert (directory.plan(), directory.record(), directory.outcome()) == (None, None, None)
    assert directory.list_receipts() == directory.list_receipts(1) == []
    directory.remove_work()
    directory.remove()
    with pytest.raises(BackendError, match="fork-0123456789abcdef is gone"):
        directory.fork("fork-0123456789abcdef")
    assert directory.location.path is None or not directory.location.path.parent.exists()


def test_everything_that_is_put_comes_back(directory: RunDirectory) -> None:
    directory.put_plan(b"{}")
    assert directory.put_record(RECORD) == RECORD
    fork = directory.put_fork(b"\x80clean")
    assert directory.put_outcome(OUTCOME) == OUTCOME
    name = directory.put_receipt(receipt())
    again = RunDirectory(directory.location)
    assert again.run_id == "a run #1"
    assert (again.plan(), again.record(), again.outcome()) == (b"{}", RECORD, OUTCOME)
    assert again.fork(fork) == b"\x80clean"
    assert fork == f"fork-{hashlib.sha256(b'\x80clean').hexdigest()[:16]}"
    assert again.list_receipts() == [name]
    assert name == f"receipts/000003-{hashlib.sha256(dump_receipt(receipt())).hexdigest()[:32]}"
    assert found(again) == [receipt()]


def test_the_same_may_be_put_again(directory: RunDirectory) -> None:
    for _ in range(2):
        directory.put_plan(b"{}")
        assert directory.put_fork(b"\x80clean") == directory.put_fork(b"\x80clean")
        assert directory.put_receipt(receipt()) == directory.put_receipt(receipt())
    assert len(directory.list_receipts()) == 1


def test_another_plan_under_the_same_run_id_is_refused(directory: RunDirectory) -> None:
    directory.put_plan(b"{}")
    with pytest.raises(InvalidInputError, match=r"another plan lies under the run id 'a run #1' .*use another run id"):
        directory.put_plan(b"{ }")
    assert directory.plan() == b"{}"


def test_the_first_record_and_the_first_outcome_stand(directory: RunDirectory) -> None:
    directory.put_record(RECORD)
    directory.put_outcome(OUTCOME)
    assert directory.put_record(replace(RECORD, started=9.0)) == RECORD == directory.record()
    abandoned = RunOutcome("abandoned", (), 3.0, "somebody gave up")
    assert directory.put_outcome(abandoned) == OUTCOME == directory.outcome()


RACING = """
import sys, time, msgspec
from dataclasses import replace
from frazil_functions.locations import Location
from frazil_functions.rundir import RunDirectory, RunRecord
location, record = msgspec.json.decode(sys.stdin.readline(), type=tuple[Location, RunRecord])
directory = RunDirectory(location)
directory.record()
print("ready", flush=True)
sys.stdin.readline()
print(directory.put_record(record).started, flush=True)
"""


def test_processes_that_race_agree_on_one_record(directory: RunDirectory) -> None:
    options: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with ExitStack() as stack:
        racers = [
            stack.enter_context(subprocess.Popen([sys.executable, "-c", RACING], text=True, **options))
            for _ in range(4)
        ]
        for number, one in enumerate(racers):
            record = replace(RECORD, started=float(number))
            one.stdin.write(msgspec.json.encode((directory.location, record)).decode() + "\n")
            one.stdin.flush()
        assert [one.stdout.readline() for one in racers] == ["ready\n"] * 4
        for one in racers:
            one.stdin.write("go\n")
            one.stdin.flush()
        said = [float(one.stdout.readline()) for one in racers]
    record = directory.record()
    assert record is not None
    assert said == [record.started] * 4


def test_receipts_of_one_task_are_listed_alone(directory: RunDirectory) -> None:
    names = {number: directory.put_receipt(receipt(number)) for number in (0, 1, 2, 10, 999_999, 1_000_000)}
    twice = directory.put_receipt(receipt(1, 5))
    assert directory.list_receipts() == sorted([*names.values(), twice])
    for number, name in names.items():
        assert directory.list_receipts(number) == sorted([name, twice] if number == 1 else [name])
    assert directory.list_receipts(3) == []


def test_more_receipts_than_are_fetched_at_once_come_in_the_order_of_their_names(directory: RunDirectory) -> None:
    names = [directory.put_receipt(receipt(number)) for number in reversed(range(40))]
    assert [one.number for one in found(directory, names) if isinstance(one, Receipt)] == list(reversed(range(40)))
    reading = directory.read_receipts(names)
    next(reading)
    reading.close()  # type: ignore[attr-defined]


def test_a_page_of_a_list_is_not_all_of_it(bucket: Any, s3_server: str) -> None:
    directory = RunDirectory(s3(bucket, s3_server))
    names = [f"receipts/{number // 300:06d}-{number:032x}" for number in range(1200)]
    for name in names:
        bucket.put_object(Key=f"archive.frazil/a run #1/{name}", Body=b"")
    assert directory.list_receipts() == names
    assert directory.list_receipts(3) == names[900:]
    assert directory.list_receipts(0) == names[:300]


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def replaced(path: Path) -> None:
    path.write_bytes(dump_receipt(receipt(3, 7)))


@pytest.mark.parametrize("damage", [truncated, emptied, replaced])
def test_a_receipt_that_is_not_what_its_name_says_is_an_error_beside_the_others(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    directory = local(tmp_path)
    names = [directory.put_receipt(receipt(number)) for number in (2, 3, 4)]
    damage(on_disk(directory, names[1]))
    first, error, last = found(directory)
    assert (first, last) == (receipt(2), receipt(4))
    assert isinstance(error, ReceiptError)
    assert names[1] in str(error)
    assert "does not hold what its name says" in str(error)


def named(directory: RunDirectory, data: bytes, number: int = 3) -> str:
    """Put bytes under the name of a receipt that fits them."""
    name = f"receipts/{number:06d}-{hashlib.sha256(data).hexdigest()[:32]}"
    on_disk(directory, "receipts").mkdir(parents=True, exist_ok=True)
    on_disk(directory, name).write_bytes(data)
    return name


@pytest.mark.parametrize(
    ("data", "number", "says"),
    [
        (b"garbled", 3, "cannot be read"),
        (b"", 3, "cannot be read"),
        (b"\x80\x04\x95c__builtin__\nprint\n", 3, "cannot be read"),
        (msgspec.msgpack.encode({"format": 1, "receipts": []}), 3, "same version of frazil"),
        (dump_receipt(receipt(3)), 4, "is of task 3"),
    ],
)
def test_bytes_that_are_no_receipt_of_their_task_are_an_error(
    tmp_path: Path, data: bytes, number: int, says: str
) -> None:
    directory = local(tmp_path)
    named(directory, data, number)
    (error,) = found(directory)
    assert isinstance(error, ReceiptError)
    assert says in str(error)
    assert str(directory.location) in str(error)


def test_a_receipt_that_vanished_and_a_name_that_is_none_are_errors(directory: RunDirectory) -> None:
    name = directory.put_receipt(receipt())
    gone, foreign, there = found(directory, [name[:-1] + ("1" if name[-1] == "0" else "0"), "../../secret", name])
    assert "is gone" in str(gone)
    assert "is not the name of a receipt" in str(foreign)
    assert there == receipt()


def test_files_that_are_no_receipts_are_not_listed(tmp_path: Path) -> None:
    directory = local(tmp_path)
    name = directory.put_receipt(receipt())
    for other in ("receipts/.DS_Store", "receipts/notes", f"{name}.bak", f"{name}#1"):
        on_disk(directory, other).write_bytes(b"x")
    assert directory.list_receipts() == [name]


def test_a_fork_that_is_not_what_its_name_says_is_refused(tmp_path: Path) -> None:
    directory = local(tmp_path)
    name = directory.put_fork(b"\x80clean")
    on_disk(directory, name).write_bytes(b"\x80other")
    with pytest.raises(ReceiptError, match="does not hold what its name says"):
        directory.fork(name)
    with pytest.raises(BackendError, match="something else than its name says"):
        directory.put_fork(b"\x80clean")


@pytest.mark.parametrize("name", ["run.json", "outcome.json"])
@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", r"is not what frazil [\d.]+ writes there"),
        (b"[]", "is not what frazil"),
        (b"\xff{}", "is not what frazil"),
        (b'{"x": ' + b"[" * 100_000, "is not what frazil"),
        (b'{"format": 1, "versions": {"frazil": "\xff"}}', "is not what frazil"),
        (b'{"format": 1, "state": "lost", "run_id": 7}', "is not what frazil"),
        (
            b'{"format": 9, "versions": {"frazil": "7.0"}}',
            r"has format 9 \(frazil 7.0\), and this is frazil [\d.]+ with format 1",
        ),
    ],
)
def test_a_record_that_is_none_is_refused_by_its_name_and_versions(
    tmp_path: Path, name: str, data: bytes, says: str
) -> None:
    directory = local(tmp_path)
    directory.put_plan(b"{}")
    on_disk(directory, name).write_bytes(data)
    read, put = {
        "run.json": (directory.record, lambda: directory.put_record(RECORD)),
        "outcome.json": (directory.outcome, lambda: directory.put_outcome(OUTCOME)),
    }[name]
    for doing in (read, put):
        with pytest.raises(InvalidInputError, match=rf"{name} {says}"):
            doing()  # type: ignore[operator]


def test_a_published_run_keeps_its_record_and_not_its_work(directory: RunDirectory) -> None:
    filled(directory)
    directory.remove_work()
    assert directory.list_receipts() == []
    assert directory.fork(directory.put_fork(b"\x80other")) == b"\x80other", "it is still a run directory"
    assert (directory.plan(), directory.record(), directory.outcome()) == (b"{}", RECORD, OUTCOME)


def filled(directory: RunDirectory) -> None:
    directory.put_plan(b"{}")
    directory.put_record(RECORD)
    directory.put_fork(b"\x80clean")
    directory.put_outcome(OUTCOME)
    for number in range(3):
        directory.put_receipt(receipt(number))


def test_nothing_is_left_of_a_run_that_is_removed(directory: RunDirectory, request: pytest.FixtureRequest) -> None:
    filled(directory)
    directory.remove()
    directory.remove()
    if directory.location.path is None:
        assert list(request.getfixturevalue("bucket").objects.all()) == []
    else:
        assert not directory.location.path.exists()
        assert directory.location.path.parent.is_dir()


def test_what_is_not_the_runs_is_never_removed(tmp_path: Path) -> None:
    directory = local(tmp_path)
    filled(directory)
    name = directory.list_receipts()[0]
    for mine in ("notes.txt", "receipts/notes.txt"):
        on_disk(directory, mine).write_text("mine")
    on_disk(directory, f"{name}#1").write_bytes(b"half")
    on_disk(directory, "plan.json#2").write_bytes(b"half")
    on_disk(directory, "notes#1").write_text("mine")
    directory.remove()
    assert sorted(path.name for path in on_disk(directory, "").iterdir()) == ["notes#1", "notes.txt"]


def test_runs_are_the_folders_below_a_location(directory: RunDirectory, request: pytest.FixtureRequest) -> None:
    parent = replace(directory.location, url=directory.location.url.rpartition("/")[0])
    assert list_runs(parent) == []
    filled(directory)
    RunDirectory(replace(parent, url=f"{parent.url}/b")).put_plan(b"{}")
    if parent.path is not None:
        (parent.path / "lock").touch()
    else:
        request.getfixturevalue("bucket").put_object(Key="archive.frazil/lock")
    assert list_runs(parent) == ["a run #1", "b"]


def test_storage_that_refuses_is_an_error_of_the_environment(s3_server: str, bucket: Any) -> None:
    directory = RunDirectory(Location("s3://missing-bucket/run", None, s3_server))
    for doing in (
        lambda: directory.put_plan(b"{}"),
        directory.plan,
        directory.list_receipts,
        directory.remove,
        lambda: list_runs(directory.location),
        lambda: directory.put_receipt(receipt()),
        lambda: list(directory.read_receipts([f"receipts/000003-{'0' * 32}"])),
    ):
        with pytest.raises(BackendError, match=r"s3://missing-bucket/run.*cannot be.*NoSuchBucket") as caught:
            doing()
        assert "Debug source" not in str(caught.value)


def test_a_file_in_the_place_of_a_run_directory_is_an_error_of_the_environment(tmp_path: Path) -> None:
    (tmp_path / "archive.frazil").write_text("in the way")
    with pytest.raises(BackendError, match=r"archive\.frazil/run.*cannot be"):
        local(tmp_path).put_plan(b"{}")
    (tmp_path / "archive.frazil").unlink()
    (tmp_path / "archive.frazil").mkdir()
    (tmp_path / "archive.frazil/run").write_text("in the way")
    with pytest.raises(BackendError, match=r"archive\.frazil/run.*cannot be"):
        local(tmp_path).plan()


def test_the_endpoint_of_a_location_wins_over_that_of_the_environment(
    bucket: Any, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"):
        monkeypatch.setenv(name, "https://127.0.0.1:9")
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    directory = RunDirectory(s3(bucket, s3_server))
    directory.put_plan(b"{}")
    assert directory.plan() == b"{}"


def test_the_endpoint_of_the_environment_is_used_where_a_location_has_none(
    bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    RunDirectory(Location(f"s3://{bucket.name}/run")).put_plan(b"{}")
    assert [one.key for one in bucket.objects.all()] == ["run/plan.json"]


def test_an_object_holds_no_secret_of_the_environment(bucket: Any, s3_server: str) -> None:
    filled(RunDirectory(s3(bucket, s3_server)))
    for one in bucket.objects.all():
        data = one.get()["Body"].read()
        assert b"AKIAENVIRONMENT" not in data
        assert b"of-the-environment" not in data


PUTTING = """
import sys
from frazil_functions.locations import Location
from frazil_functions.rundir import RunDirectory
directory = RunDirectory(Location(sys.argv[1]))
number = 0
while True:
    directory.put_fork(number.to_bytes(4) * 2_000_000)
    number += 1
    print(number, flush=True)
"""


def test_a_killed_writer_leaves_nothing_half_under_a_final_name(tmp_path: Path) -> None:
    directory = local(tmp_path)
    for delay in (0.0, 0.003, 0.006):
        with subprocess.Popen([sys.executable, "-c", PUTTING, str(directory.location)], stdout=subprocess.PIPE) as one:
            assert one.stdout is not None
            one.stdout.readline()
            time.sleep(delay)
            one.send_signal(signal.SIGKILL)
    names = [path.name for path in on_disk(directory, "").iterdir() if "#" not in path.name]
    assert names
    for name in names:
        assert len(directory.fork(name)) == 8_000_000
    directory.remove()
    assert not on_disk(directory, "").exists()


@pytest.mark.parametrize(
    ("directory", "repository", "how"),
    [
        ("/a/r", "/a/r", "is the repository itself"),
        ("/a/r/runs/1", "/a/r", "lies in the repository /a/r"),
        ("/a", "/a/r", "lies around the repository"),
        ("/a/x/../r/1", "/a/r", "lies in"),
        ("s3://b/r", "s3://b/r/", "is the repository itself"),
        ("s3://b/r//x", "s3://b/r", "lies in"),
        ("s3://b/r", "s3://b/r/deep", "lies around"),
    ],
)
def test_a_run_directory_within_or_around_its_repository_is_refused(directory: str, repository: str, how: str) -> None:
    with pytest.raises(InvalidInputError, match=how):
        check_outside(Location(directory), Location(repository))


@pytest.mark.parametrize(
    ("directory", "repository"),
    [
        (Location("/a/r.frazil/1"), Location("/a/r")),
        (Location("s3://b/r.frazil/1"), Location("s3://b/r")),
        (Location("s3://c/r/1"), Location("s3://b/r")),
        (Location("gs://b/r/1"), Location("s3://b/r")),
        (Location("/b/r"), Location("s3://b/r")),
        (Location("s3://b/r", None, "http://one"), Location("s3://b/r", None, "http://two")),
    ],
)
def test_a_run_directory_beside_its_repository_is_taken(directory: Location, repository: Location) -> None:
    check_outside(directory, repository)


def test_an_endpoint_that_is_not_named_may_be_the_same() -> None:
    for endpoints in ((None, "http://one"), ("http://one", None)):
        directory, repository = (Location("s3://b/r", None, one) for one in endpoints)
        with pytest.raises(InvalidInputError, match="is the repository itself"):
            check_outside(directory, repository)


def test_a_link_into_the_repository_is_seen_through(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "runs").symlink_to(tmp_path / "r")
    with pytest.raises(InvalidInputError, match="lies in"):
        check_outside(Location(str(tmp_path / "runs/1")), Location(str(tmp_path / "r")))


def test_credentials_of_a_profile_are_found_where_the_environment_has_none(
    bucket: Any, s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    assert profile_credentials() is None
    (tmp_path / "credentials").write_text("[lab]\naws_access_key_id = key\naws_secret_access_key = secret\n")
    assert profile_credentials() is None, "the profile that is asked for has none"
    monkeypatch.setenv("AWS_PROFILE", "lab")
    directory = RunDirectory(s3(bucket, s3_server))
    directory.put_plan(b"plan")
    assert directory.plan() == b"plan"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    assert profile_credentials() is None, "the environment wins"
