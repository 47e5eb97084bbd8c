"""Replicas: other repositories that get the same values, and are published before the primary."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import icechunk
import pytest
import xarray as xr
import zarr

import frazil
from frazil.cli import main
from frazil_functions.locations import locate, storage_of

from .hourly import series

WHOLE = xr.decode_cf(series(0, 24))


@dataclass(frozen=True, slots=True)
class Seen:
    """What a reader of a repository sees."""

    snapshot: str
    messages: list[str]
    branches: list[str]


def seen(where: Path | str) -> Seen:
    repo = icechunk.Repository.open(storage_of(locate(where)))
    history = list(repo.ancestry(branch="main"))
    return Seen(history[0].id, [one.message for one in history], sorted(repo.list_branches()))


def values(where: Path | str, group: str | None = None) -> xr.Dataset:
    store = icechunk.Repository.open(storage_of(locate(where))).readonly_session("main").store
    with xr.open_zarr(store, consolidated=False, chunks=None, group=group) as found:
        return found.load()


def commit(where: Path | str, change: Callable[[zarr.Group], object], branch: str = "main") -> str:
    """Something that somebody else commits."""
    session = frazil.open_repository(where).writable_session(branch)
    change(zarr.open_group(session.store, mode="a"))
    return session.commit("of somebody else")


@pytest.fixture
def replica(tmp_path: Path) -> Path:
    return tmp_path / "replica.icechunk"


def test_every_repository_gets_the_same_values_in_one_commit(
    files: list[str], target: Path, replica: Path, tmp_path: Path, serial: frazil.SerialExecutor
) -> None:
    others = [replica, tmp_path / "other.icechunk"]
    result = frazil.convert(files, target, chunks={"time": 4}, replicas=others, executor=serial, verify="full")
    for where in (target, *others):
        assert len(seen(where).messages) == 2
        assert seen(where).branches == ["main"]
        xr.testing.assert_identical(values(where), WHOLE)
    assert result.snapshot_id == seen(target).snapshot
    assert len({seen(where).snapshot for where in (target, *others)}) == 3


def test_the_command_takes_replicas(files: list[str], target: Path, replica: Path, tmp_path: Path) -> None:
    others = ["--replica", str(replica), "--replica", str(tmp_path / "other.icechunk")]
    assert main(["convert", *files, str(target), "--backend", "serial", *others]) == 0
    for where in (target, replica, tmp_path / "other.icechunk"):
        xr.testing.assert_identical(values(where), WHOLE)


def test_repositories_may_hold_other_things_and_be_of_another_age(
    files: list[str], target: Path, replica: Path, serial: frazil.SerialExecutor
) -> None:
    """Their snapshots and the ids of their nodes have nothing in common."""
    commit(target, lambda root: root.create_array("mine", shape=(2,), dtype="i4"))
    commit(replica, lambda root: root.create_group("theirs"))
    commit(replica, lambda root: root.create_group("more"))
    frazil.convert(files, target, group="tas", replicas=[replica], executor=serial, verify="full")
    for where, commits in ((target, 3), (replica, 4)):
        assert len(seen(where).messages) == commits
        xr.testing.assert_identical(values(where, "tas"), WHOLE)


@pytest.mark.parametrize("remote", ["target", "replica"])
def test_a_repository_in_s3_and_one_on_disk_get_the_same(
    files: list[str], bucket: Any, tmp_path: Path, serial: frazil.SerialExecutor, remote: str
) -> None:
    places = ["s3://raw/archive", str(tmp_path / "local.icechunk")]
    target, replica = places if remote == "target" else reversed(places)
    frazil.convert(files, target, chunks={"time": 4}, replicas=[replica], executor=serial, verify="full")
    for where in places:
        assert (len(seen(where).messages), seen(where).branches) == (2, ["main"])
        xr.testing.assert_identical(values(where), WHOLE)


def test_replicas_are_published_before_the_primary_and_a_resumed_run_publishes_the_rest(
    files: list[str], target: Path, replica: Path, serial: frazil.SerialExecutor
) -> None:
    frazil.open_repository(target)
    frazil.open_repository(replica)
    old = seen(target)
    begun = 0

    def dying(progress: frazil.Progress) -> None:
        nonlocal begun
        begun += progress.stage == "publish"
        if begun == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        frazil.convert(
            files, target, chunks={"time": 4}, replicas=[replica], executor=serial, run_id="r", listener=dying
        )
    published = seen(replica)
    assert len(published.messages) == 2
    assert seen(target).snapshot == old.snapshot
    result = frazil.resume(target, "r", executor=serial, verify="full")
    assert seen(replica).snapshot == published.snapshot
    assert seen(target).snapshot == result.snapshot_id
    assert [seen(where).branches for where in (target, replica)] == [["main"], ["main"]]
    xr.testing.assert_identical(values(target), values(replica))


def between(target: Path, replica: Path, change: Callable[[], object]) -> Callable[[frazil.Progress], None]:
    """A listener that changes something once everything is written."""
    done: list[object] = []

    def listen(progress: frazil.Progress) -> None:
        if progress.stage == "verify" and not done:
            done.append(change())

    return listen


def test_a_replica_that_moved_elsewhere_keeps_both(
    files: list[str], target: Path, replica: Path, serial: frazil.SerialExecutor
) -> None:
    frazil.open_repository(replica)
    listen = between(target, replica, lambda: commit(replica, lambda root: root.create_group("theirs")))
    frazil.convert(files, target, group="tas", replicas=[replica], executor=serial, verify="full", listener=listen)
    assert len(seen(target).messages) == 2
    assert seen(replica).messages[1] == "of somebody else"
    assert "theirs" in zarr.open_group(frazil.open_repository(replica).readonly_session("main").store, mode="r")
    for where in (target, replica):
        xr.testing.assert_identical(values(where, "tas"), WHOLE)


@pytest.mark.parametrize("which", ["target", "replica"])
def test_a_repository_that_moved_under_the_run_is_named_by_the_conflict(
    files: list[str], target: Path, replica: Path, serial: frazil.SerialExecutor, which: str
) -> None:
    for where in (target, replica):
        frazil.open_repository(where)
    moved = {"target": target, "replica": replica}[which]
    listen = between(target, replica, lambda: commit(moved, lambda root: root.create_group("tas")))
    with pytest.raises(frazil.ConflictError, match=rf"of {moved} has moved.*both write the group '/tas'"):
        frazil.convert(files, target, group="tas", replicas=[replica], executor=serial, listener=listen)
    assert seen(moved).messages[0] == "of somebody else"
    assert len(seen(target).messages) == (2 if which == "target" else 1)


def test_a_repository_that_moved_before_the_run_is_named_by_the_conflict(
    files: list[str], target: Path, replica: Path, serial: frazil.SerialExecutor
) -> None:
    frazil.open_repository(replica)
    plan = frazil.plan(files, target, group="tas", replicas=[replica], executor=serial)
    commit(replica, lambda root: root.create_group("tas"))
    with pytest.raises(frazil.ConflictError, match=rf"of {replica} has moved.*both write the group '/tas'"):
        frazil.run(plan, executor=serial)
    assert not target.exists()


def test_a_replica_that_was_set_back_is_named_by_the_conflict(
    files: list[str], target: Path, replica: Path, serial: frazil.SerialExecutor
) -> None:
    first = seen_after(replica)
    commit(replica, lambda root: root.create_group("theirs"))
    plan = frazil.plan(files, target, group="tas", replicas=[replica], executor=serial)
    frazil.open_repository(replica).reset_branch("main", first)
    with pytest.raises(frazil.ConflictError, match=rf"of {replica} was set to"):
        frazil.run(plan, executor=serial)


def seen_after(where: Path) -> str:
    return str(frazil.open_repository(where).lookup_branch("main"))


def test_a_repository_that_is_named_twice_is_refused(
    files: list[str], target: Path, replica: Path, tmp_path: Path, serial: frazil.SerialExecutor
) -> None:
    for replicas in ([target], [replica, replica], [target.parent / "sources" / ".." / target.name]):
        with pytest.raises(frazil.InvalidInputError, match="is named twice"):
            frazil.convert(files, target, replicas=replicas, executor=serial)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sources"]


def test_an_open_repository_that_is_its_own_replica_is_refused(
    files: list[str], target: Path, serial: frazil.SerialExecutor
) -> None:
    repo = frazil.open_repository(target)
    for replicas in ([repo], [target]):
        with pytest.raises(frazil.InvalidInputError, match="is named twice"):
            frazil.convert(files, repo, replicas=replicas, executor=serial)


def test_a_replica_that_has_the_group_is_refused_before_anything_is_written(
    files: list[str], target: Path, replica: Path, serial: frazil.SerialExecutor
) -> None:
    commit(replica, lambda root: root.create_group("tas"))
    before = seen(replica)
    with pytest.raises(frazil.ExistingGroupError, match=str(replica)):
        frazil.convert(files, target, group="tas", replicas=[replica], executor=serial)
    assert seen(replica) == before
    assert not target.exists()
    assert not Path(f"{target}.frazil").exists()


def test_a_replica_without_the_branch_is_refused_before_anything_is_written(
    files: list[str], target: Path, replica: Path, serial: frazil.SerialExecutor
) -> None:
    repo = frazil.open_repository(target)
    repo.create_branch("next", repo.lookup_branch("main"))
    frazil.open_repository(replica)
    with pytest.raises(frazil.InvalidInputError, match=rf"{replica}.*no branch 'next'"):
        frazil.convert(files, target, branch="next", replicas=[replica], executor=serial)
    assert seen(replica).branches == ["main"]


def test_a_run_directory_within_a_replica_is_refused(
    files: list[str], target: Path, replica: Path, serial: frazil.SerialExecutor
) -> None:
    with pytest.raises(frazil.InvalidInputError, match="lies in the repository"):
        frazil.convert(files, target, replicas=[replica], executor=serial, run_directory=replica / "runs" / "r")
    assert not replica.exists()
    assert not target.exists()


def test_a_function_that_fails_leaves_every_repository_as_it_was(
    files: list[str], target: Path, replica: Path, serial: frazil.SerialExecutor
) -> None:
    for where in (target, replica):
        frazil.open_repository(where)
    before = [seen(where).snapshot for where in (target, replica)]
    plan = frazil.plan(files, target, replicas=[replica], executor=serial)
    good = Path(files[1]).read_bytes()
    Path(files[1]).write_bytes(good[:3000])
    with pytest.raises(frazil.IncompleteRunError):
        frazil.run(plan, executor=serial, run_id="r")
    assert [seen(where).snapshot for where in (target, replica)] == before
