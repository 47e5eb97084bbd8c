"""Containers of real repositories: declaring them, authorising access, and reading through references."""

import asyncio
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import icechunk
import numpy as np
import pytest
import xarray as xr
import zarr
from icechunk.credentials import LocalFileSystemAccess

import frazil
from frazil.cli import main
from frazil.planning.target import plan_target
from frazil_functions.declaring import TURN
from frazil_functions.locations import locate, storage_of
from frazil_functions.plan import PlanTarget
from frazil_functions.rundir import RunDirectory

VALUES = np.arange(4, dtype="<i4")


@pytest.fixture
def raw(tmp_path: Path) -> str:
    """A directory of original files, as a container."""
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "values.bin").write_bytes(VALUES.tobytes())
    return f"file://{folder}/"


def refer(repo: icechunk.Repository, url: str) -> None:
    """Commit an array of one chunk, which is a reference."""
    session = repo.writable_session("main")
    zarr.create_array(session.store, name="x", shape=(4,), chunks=(4,), dtype="<i4", compressors=None)
    session.store.set_virtual_ref("x/c/0", url, offset=0, length=VALUES.nbytes)
    session.commit("a reference")


def read(repo: icechunk.Repository) -> list[int]:
    array = zarr.open_array(repo.readonly_session("main").store, path="x", mode="r")
    return np.asarray(array[:]).tolist()


def saved(where: Any) -> set[str]:
    """The containers that a repository keeps."""
    config = icechunk.Repository.fetch_config(storage_of(locate(where)))
    assert config is not None
    return set(config.virtual_chunk_containers or {})


def test_a_new_repository_declares_its_containers_and_an_old_one_authorises_them(raw: str, target: Path) -> None:
    refer(frazil.open_repository(target, virtual_containers=raw), f"{raw}values.bin")
    assert saved(target) == {raw}
    assert read(frazil.open_repository(target, virtual_containers=raw)) == VALUES.tolist()
    assert read(frazil.open_repository(target, virtual_containers={raw: None})) == VALUES.tolist()
    assert read(frazil.open_repository(target, virtual_containers={raw: LocalFileSystemAccess})) == VALUES.tolist()
    assert read(frazil.open_repository(target, virtual_containers=Path(raw[7:]))) == VALUES.tolist()


def test_without_authorisation_no_reference_is_followed(raw: str, target: Path) -> None:
    refer(frazil.open_repository(target, virtual_containers=raw), f"{raw}values.bin")
    with pytest.raises(icechunk.IcechunkError, match="authorize the virtual chunk container"):
        read(frazil.open_repository(target))


def test_a_container_that_is_not_declared_is_not_authorised(raw: str, target: Path) -> None:
    frazil.open_repository(target, virtual_containers=raw)
    before = saved(target)
    with pytest.raises(frazil.InvalidInputError, match=f"does not declare the container s3://other/.*declares {raw}"):
        frazil.open_repository(target, virtual_containers=[raw, "s3://other/"])
    assert saved(target) == before


def test_a_reference_out_of_its_container_is_refused(raw: str, target: Path) -> None:
    repo = frazil.open_repository(target, virtual_containers=f"{raw}sub/")
    with pytest.raises(icechunk.IcechunkError, match="no matching virtual chunk container"):
        refer(repo, f"{raw}values.bin")


def test_of_containers_within_each_other_the_longest_is_asked(raw: str, target: Path) -> None:
    folder = Path(raw[7:]) / "sub"
    folder.mkdir()
    (folder / "values.bin").write_bytes(VALUES[::-1].tobytes())
    inner = f"{raw}sub/"
    refer(frazil.open_repository(target, virtual_containers=[raw, inner]), f"{inner}values.bin")
    assert read(frazil.open_repository(target, virtual_containers=[raw, inner])) == VALUES[::-1].tolist()
    assert read(frazil.open_repository(target, virtual_containers=inner)) == VALUES[::-1].tolist()
    with pytest.raises(icechunk.IcechunkError, match="authorize the virtual chunk container"):
        read(frazil.open_repository(target, virtual_containers=raw))


def test_a_container_is_declared_in_a_repository_that_exists(raw: str, target: Path) -> None:
    frazil.open_repository(target)
    refer(frazil.declare(target, raw), f"{raw}values.bin")
    assert saved(target) == {raw}
    assert read(frazil.open_repository(target, virtual_containers=raw)) == VALUES.tolist()


def test_declaring_changes_nothing_else_of_the_configuration(target: Path) -> None:
    frazil.open_repository(target)
    storage = storage_of(locate(target))
    before = icechunk.Repository.fetch_config(storage)
    assert before is not None
    own = icechunk.VirtualChunkContainer("s3://own/", icechunk.s3_store(requester_pays=True))
    before.set_virtual_chunk_container(own)
    before.inline_chunk_threshold_bytes = 7
    icechunk.Repository.open(storage, config=before).save_config()
    opened = frazil.open_repository(target)
    frazil.declare(opened, "gs://b/")
    after = icechunk.Repository.fetch_config(storage)
    assert after is not None
    found = after.virtual_chunk_containers or {}
    assert set(found) == {"s3://own/", "gs://b/"}
    assert found["s3://own/"] == own
    after.clear_virtual_chunk_containers()
    before.clear_virtual_chunk_containers()
    assert str(after) == str(before)


def test_declaring_again_writes_nothing(target: Path, tree: Any) -> None:
    frazil.open_repository(target)
    frazil.declare(target, ["s3://a/=region=eu-west-1", "gs://b/"])
    before = tree(target)
    repo = frazil.declare(target, ["gs://b/", "s3://a/"])
    assert tree(target) == before
    assert repo.authorized_virtual_container_prefixes == {"gs://b/", "s3://a/"}


def test_a_container_with_other_storage_is_refused_before_anything_is_written(target: Path, tree: Any) -> None:
    frazil.open_repository(target, virtual_containers="s3://a/=region=eu-west-1")
    before = tree(target)
    with pytest.raises(frazil.InvalidInputError, match="region=eu-west-1, and region=us-east-1 is asked for"):
        frazil.declare(target, ["s3://new/", "s3://a/=region=us-east-1"])
    with pytest.raises(frazil.InvalidInputError, match="region=eu-west-1, and region=us-east-1 is asked for"):
        frazil.open_repository(target, virtual_containers="s3://a/=region=us-east-1")
    assert tree(target) == before


def test_what_was_authorised_before_stays_so(raw: str, target: Path) -> None:
    refer(frazil.open_repository(target, virtual_containers=raw), f"{raw}values.bin")
    repo = frazil.declare(frazil.open_repository(target, virtual_containers=raw), "s3://more/")
    assert repo.authorized_virtual_container_prefixes == {raw, "s3://more/"}
    assert read(repo) == VALUES.tolist()


def test_whoever_reads_may_read_anonymously(target: Path) -> None:
    frazil.open_repository(target, virtual_containers="s3://a/=region=eu-west-1")
    anonymous = {"s3://a/": icechunk.s3_credentials(anonymous=True)}
    repo = frazil.open_repository(target, virtual_containers=anonymous)
    assert b"anonymous" in pickle.dumps(repo.readonly_session("main"))


def test_declaring_in_a_loop_that_runs(target: Path) -> None:
    frazil.open_repository(target)

    async def notebook() -> None:
        frazil.declare(target, "s3://a/")

    asyncio.run(notebook())
    assert saved(target) == {"s3://a/"}


RACER = """
import sys
from frazil_functions.containers import Container
from frazil_functions.declaring import declare_all
from frazil_functions.repositories import open_repository
where, letter = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
for number in range(4):
    declare_all(open_repository(where, create=False), [Container(f"s3://{letter}{number}-x/")])
"""


def race(where: str) -> None:
    """Two processes declare at once."""
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, where, letter], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for letter in "ab"
    ]
    for one in racers:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    for one in racers:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    for one in racers:
        one.communicate(timeout=120)
    assert [one.returncode for one in racers] == [0, 0]
    assert saved(where) == {f"s3://{letter}{number}-x/" for letter in "ab" for number in range(4)}


def test_of_two_that_declare_at_once_both_are_heard(target: Path) -> None:
    frazil.open_repository(target)
    race(str(target))


def test_of_two_that_declare_at_once_in_s3_both_are_heard(bucket: Any) -> None:
    repo = frazil.open_repository("s3://raw/archive")
    race("s3://raw/archive")
    assert set(repo.list_branches()) == {"main"}


def test_a_turn_that_was_never_ended_holds_nobody_for_ever(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frazil_functions.declaring._TURN_SECONDS", 0.5)
    repo = frazil.open_repository("s3://raw/archive")
    repo.create_branch(TURN, repo.lookup_branch("main"))
    frazil.declare(repo, "s3://a/")
    assert saved("s3://raw/archive") == {"s3://a/"}
    assert set(repo.list_branches()) == {"main"}


@pytest.fixture
def other(bucket: Any) -> Iterator[Any]:
    """A bucket of original files."""
    made = boto3.resource("s3").Bucket("original")
    made.create()
    made.put_object(Key="in/values.bin", Body=VALUES.tobytes())
    return made


def test_references_into_s3_are_followed_from_a_repository_in_s3(bucket: Any, other: Any, endpoint: str) -> None:
    refer(
        frazil.open_repository("s3://raw/archive", virtual_containers="s3://original/in/"),
        "s3://original/in/values.bin",
    )
    assert read(frazil.open_repository("s3://raw/archive", virtual_containers="s3://original/in/")) == VALUES.tolist()
    with pytest.raises(icechunk.IcechunkError, match="authorize the virtual chunk container"):
        read(frazil.open_repository("s3://raw/archive"))
    # The environment's region and endpoint are declared, so a reader with nothing of ours needs credentials alone.
    storage = icechunk.s3_storage(
        bucket="raw", prefix="archive", endpoint_url=endpoint, allow_http=True, force_path_style=True, from_env=True
    )
    access = icechunk.containers_credentials({"s3://original/in/": icechunk.s3_credentials(from_env=True)})
    assert read(icechunk.Repository.open(storage, authorize_virtual_chunk_access=access)) == VALUES.tolist()


def test_a_repository_in_s3_keeps_no_limits_of_ours_when_containers_are_declared(bucket: Any) -> None:
    repo = frazil.open_repository("s3://raw/archive")
    before = icechunk.Repository.fetch_config(repo.storage)
    frazil.declare(repo, "s3://original/in/")
    after = icechunk.Repository.fetch_config(repo.storage)
    assert before is not None
    assert after is not None
    after.clear_virtual_chunk_containers()
    before.clear_virtual_chunk_containers()
    assert str(after) == str(before)


class TestPlans:
    """Plans that write into archives with references, and their runs."""

    def test_a_plan_has_its_containers_as_the_repository_declares_them(
        self, files: list[str], target: Path, serial: frazil.SerialExecutor
    ) -> None:
        frazil.open_repository(target, virtual_containers="s3://a/=region=eu-west-1")
        plan = frazil.plan(files, target, containers=["s3://b/=region=x", "s3://a/"], executor=serial)
        assert plan.target.containers == (frazil.Container("s3://a/", "eu-west-1"), frazil.Container("s3://b/", "x"))
        assert frazil.Plan.from_json(plan.to_json()) == plan

    def test_planning_declares_nothing_and_running_does(
        self, files: list[str], target: Path, serial: frazil.SerialExecutor, tree: Any, raw: str
    ) -> None:
        frazil.open_repository(target)
        before = tree(target)
        plan = frazil.plan(files, target, containers=raw, executor=serial)
        assert tree(target) == before
        result = frazil.run(plan, executor=serial)
        assert saved(target) == {raw}
        assert result.containers == (raw,)

    def test_functions_get_many_containers_in_any_order_and_what_they_return_is_admitted(
        self, files: list[str], target: Path, tmp_path: Path
    ) -> None:
        containers = [f"s3://{letter}-bucket/" for letter in "abcdefgh"]
        replica = tmp_path / "replica.icechunk"
        with frazil.LithopsExecutor(backend="localhost", workers=2) as executor:
            frazil.convert(
                files, target, chunks={"time": 4}, containers=containers, replicas=[replica], executor=executor
            )
        assert saved(target) == saved(replica) == set(containers)
        repo = frazil.open_repository(target, create=False)
        assert zarr.open_group(repo.readonly_session("main").store, mode="r")["tas"].shape[0] == 24

    def test_a_container_with_other_storage_is_refused_before_the_first_write(
        self, files: list[str], target: Path, serial: frazil.SerialExecutor, tree: Any
    ) -> None:
        frazil.open_repository(target)
        plan = frazil.plan(files, target, containers="s3://a/=region=us-east-1", executor=serial)
        frazil.declare(target, "s3://a/=region=eu-west-1")
        before = tree(target)
        with pytest.raises(frazil.InvalidInputError, match="region=eu-west-1, and region=us-east-1"):
            frazil.plan(files, target, containers="s3://a/=region=us-east-1", executor=serial)
        with pytest.raises(frazil.InvalidInputError, match="region=eu-west-1, and region=us-east-1"):
            frazil.run(plan, executor=serial)
        assert tree(target) == before

    def test_one_replica_with_other_storage_is_enough(
        self, files: list[str], target: Path, tmp_path: Path, serial: frazil.SerialExecutor
    ) -> None:
        replica = tmp_path / "replica.icechunk"
        frazil.open_repository(target, virtual_containers="s3://a/=region=us-east-1")
        frazil.open_repository(replica, virtual_containers="s3://a/=region=eu-west-1")
        with pytest.raises(frazil.InvalidInputError, match=r"replica.icechunk declares .* region=eu-west-1"):
            frazil.plan(files, target, containers="s3://a/", replicas=[replica], executor=serial)

    def test_a_repository_that_is_given_is_opened_again_with_what_is_needed(
        self, files: list[str], target: Path, serial: frazil.SerialExecutor, raw: str
    ) -> None:
        repo = frazil.open_repository(target)
        plan = frazil.plan(files, repo, containers=raw, executor=serial)
        frazil.run(plan, repo, executor=serial)
        assert saved(target) == {raw}
        assert not repo.authorized_virtual_container_prefixes

    def test_a_repository_that_is_given_with_keys_for_a_container_is_refused(
        self, files: list[str], target: Path, serial: frazil.SerialExecutor, tree: Any
    ) -> None:
        keys = icechunk.s3_credentials(access_key_id="AKIAKEY", secret_access_key="verysecret")  # noqa: S106 - none
        repo = frazil.open_repository(target, virtual_containers={"s3://a/": keys})
        before = tree(target)
        with pytest.raises(frazil.InvalidInputError, match="static credentials") as caught:
            frazil.plan(files, repo, containers="s3://a/", executor=serial)
        assert "verysecret" not in str(caught.value)
        plan = frazil.plan(files, target, containers="s3://a/", executor=serial)
        with pytest.raises(frazil.InvalidInputError, match="static credentials"):
            frazil.run(plan, repo, executor=serial)
        assert tree(target) == before

    def test_a_plan_holds_no_credentials(self, files: list[str], target: Path, serial: frazil.SerialExecutor) -> None:
        keys: Any = {"s3://a/": icechunk.s3_credentials(access_key_id="AKIAKEY", secret_access_key="verysecret")}  # noqa: S106 - none
        with pytest.raises(frazil.InvalidInputError, match="with credentials, which are no part of a plan"):
            frazil.plan(files, target, containers=keys, executor=serial)
        assert not target.exists()

    def test_a_run_that_fails_leaves_a_declaration_alone(
        self, files: list[str], target: Path, serial: frazil.SerialExecutor, raw: str
    ) -> None:
        repo = frazil.open_repository(target)
        tip = repo.lookup_branch("main")
        plan = frazil.plan(files, target, containers=raw, executor=serial)
        Path(files[1]).unlink()
        with pytest.raises(frazil.FrazilError):
            frazil.run(plan, executor=serial, retry=frazil.Retry(1))
        assert repo.lookup_branch("main") == tip
        assert saved(target) == {raw}

    def test_a_plan_that_cannot_be_started_declares_nothing(
        self, files: list[str], target: Path, serial: frazil.SerialExecutor, raw: str, tree: Any
    ) -> None:
        frazil.open_repository(target)
        plan = frazil.plan(files, target, containers=raw, executor=serial)
        frazil.convert(files[:1], target, executor=serial)
        before = tree(target)
        with pytest.raises(frazil.ConflictError):
            frazil.run(plan, executor=serial)
        assert tree(target) == before

    def test_a_run_is_resumed_with_its_containers(
        self, files: list[str], target: Path, serial: frazil.SerialExecutor, raw: str
    ) -> None:
        plan = frazil.plan(files, target, containers=raw, executor=serial)
        away = Path(files[1]).rename(target.parent / "away.nc")
        with pytest.raises(frazil.FrazilError):
            frazil.run(plan, executor=serial, run_id="r", retry=frazil.Retry(1))
        away.rename(files[1])
        assert frazil.resume(target, "r", executor=serial).containers == (raw,)


@pytest.fixture
def referring(files: list[str], target: Path, serial: frazil.SerialExecutor, tmp_path: Path) -> str:
    """An archive whose latitudes are a reference, and the container that it leads into."""
    frazil.convert(files[:2], target, chunks={"time": 4}, executor=serial)
    folder = tmp_path / "labels"
    folder.mkdir()
    prefix = f"file://{folder}/"
    repo = frazil.declare(target, prefix)
    session = repo.writable_session("main")
    group = zarr.open_group(session.store, mode="r+")
    found = group["lat"]
    assert isinstance(found, zarr.Array)
    values = np.asarray(found[:])
    (folder / "lat.bin").write_bytes(values.tobytes())
    attributes = dict(found.attrs)
    del group["lat"]
    made = zarr.create_array(
        session.store,
        name="lat",
        shape=values.shape,
        chunks=values.shape,
        dtype=values.dtype,
        compressors=None,
        fill_value=np.nan,
        dimension_names=["lat"],
        attributes=attributes,
    )
    assert made.nchunks == 1
    session.store.set_virtual_ref("lat/c/0", f"{prefix}lat.bin", offset=0, length=values.nbytes)
    session.commit("latitudes are referred to")
    return prefix


def test_an_archive_with_references_is_appended_to_with_its_containers(
    referring: str, files: list[str], target: Path, serial: frazil.SerialExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["append", files[2], str(target)]
    before = frazil.open_repository(target).lookup_branch("main")
    assert main(command) != 0
    said = capsys.readouterr().err
    assert "--container" in said, said
    assert referring in said
    assert frazil.open_repository(target).lookup_branch("main") == before
    assert main([*command, "--container", referring]) == 0
    said = capsys.readouterr().out
    assert f'virtual_containers=["{referring}"]' in said
    assert "cannot be shown" not in said
    repo = frazil.open_repository(target, virtual_containers=referring)
    found = xr.open_zarr(repo.readonly_session("main").store, consolidated=False, chunks=None)
    assert found.sizes["time"] == 24
    assert np.isfinite(found.lat.values).all()


def test_an_archive_with_references_is_validated_with_its_containers(
    referring: str, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", str(target), "--backend", "serial", "--container", referring]) == 0
    assert main(["validate", str(target), "--backend", "serial"]) != 0
    capsys.readouterr()
    assert main(["validate", str(target), "--backend", "serial", "--container", "s3://other/"]) == 2
    assert f"it declares {referring}" in capsys.readouterr().err


class TestVirtual:
    """What is refused of `virtual` and what belongs to it."""

    def test_a_file_in_no_container_is_named_with_the_option_to_add(
        self, files: list[str], target: Path, serial: frazil.SerialExecutor
    ) -> None:
        folder = f"file://{Path(files[0]).parent}/"
        with pytest.raises(frazil.InvalidInputError, match=f"part0.nc lies in no container .*--container {folder} "):
            frazil.plan(files, target, virtual=True, executor=serial)
        with pytest.raises(frazil.InvalidInputError, match=rf"\(s3://raw/\).*--container {folder} "):
            frazil.plan(files, target, virtual=True, containers="s3://raw/", executor=serial)
        assert not target.exists()

    def test_the_containers_of_the_repository_serve_its_files(self, files: list[str], target: Path) -> None:
        wide, narrow = f"file://{Path(files[0]).parents[1]}/", f"file://{Path(files[0]).parent}/"
        frazil.open_repository(target, virtual_containers=[wide, narrow, "s3://other/"])
        asked = PlanTarget(None, "", "main", None, "create")
        placed, _ = plan_target(target, asked, (), files)
        assert placed.containers == (frazil.Container(narrow),)
        placed, _ = plan_target(target, asked)
        assert placed.containers == ()

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"load": "tas"}, "load says what is copied"),
            ({"fallback": "native"}, "fallback says what is copied"),
            ({"virtual": True, "fallback": "copy"}, "fallback cannot be 'copy'"),
            ({"virtual": True, "pack": True}, r"name those that are packed \(--pack NAME=TYPE\) and copied"),
            ({"virtual": True, "pack": {"tas": "int16"}}, r"copy them \(--load tas\), or leave out pack"),
            ({"virtual": True, "keepbits": {"tas": 7}}, r"copy them \(--load tas\), or leave out keepbits"),
        ],
    )
    def test_what_cannot_be_meant_together_is_refused(
        self, options: Any, says: str, files: list[str], target: Path, serial: frazil.SerialExecutor
    ) -> None:
        with pytest.raises(frazil.InvalidInputError, match=says):
            frazil.plan(files, target, executor=serial, **options)

    def test_a_dataset_cannot_be_referred_to(self, target: Path, serial: frazil.SerialExecutor) -> None:
        with pytest.raises(frazil.InvalidInputError, match="the source is a Dataset; name the files"):
            frazil.plan(xr.Dataset({"a": ("x", [1.0])}), target, virtual=True, executor=serial)


def test_nothing_secret_is_in_what_a_run_with_containers_leaves(
    bucket: Any, other: Any, files: list[str], serial: frazil.SerialExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATHATMUSTNOTTRAVEL")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "Secret5ymbolThatMustNotTravel")
    containers = ["s3://original/in/", "s3://original/=anonymous=true", "gs://b/"]
    plan = frazil.plan(files, "s3://raw/archive", containers=containers, executor=serial)
    assert b"MustNotTravel" not in plan.to_json()
    kept: list[bytes] = []
    put = RunDirectory.put_fork

    def put_fork(self: RunDirectory, fork: bytes) -> str:
        kept.append(fork)
        return put(self, fork)

    monkeypatch.setattr(RunDirectory, "put_fork", put_fork)
    frazil.run(plan, executor=serial)
    assert kept
    assert all(b"s3://original/in/" in fork for fork in kept)
    for data in (*kept, *(item.get()["Body"].read() for item in bucket.objects.all())):
        assert b"MustNotTravel" not in data
        assert b"MUSTNOTTRAVEL" not in data
