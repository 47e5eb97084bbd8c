"""The promises of a run: all or nothing, one writer a unit, one move of the branch, nothing secret, nothing left."""

import pickle
from dataclasses import replace
from pathlib import Path

import h5py
import icechunk
import numpy as np
import pytest
import xarray as xr
import zarr

import frazil
from frazil.planning.make import Options, make_plan
from frazil.planning.scan import Wanted, scan_sources
from frazil.report import silent
from frazil_functions.forks import dump_fork, load_fork
from frazil_functions.locations import locate
from frazil_functions.plan import PlanTarget
from frazil_functions.regions import Region
from frazil_functions.tasks import Receipt
from frazil_functions.writing.verifying import RegionCheck, dump_checks

from .hourly import read, series, state
from .meddling import Answering, Meddling

ONCE = frazil.Retry(attempts=1)


@pytest.fixture
def plan(files: list[str], target: Path, serial: frazil.SerialExecutor) -> frazil.Plan:
    return small_plan(files, target, serial)


def small_plan(files: list[str], target: Path, serial: frazil.SerialExecutor) -> frazil.Plan:
    """Regions of one write unit each, in two tasks."""
    found = scan_sources(files, Wanted(), serial, silent)
    goal = PlanTarget(locate(target), "", "main", None, "create")
    return make_plan(found, goal, Options(chunks={"time": 4}, workers=2, region_bytes=1, task_bytes=1))


def test_a_run_publishes_the_files_as_one_commit(
    plan: frazil.Plan, files: list[str], target: Path, serial: frazil.SerialExecutor
) -> None:
    result = frazil.run(plan, executor=serial, verify="full")
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(target)))
    history = list(repo.ancestry(branch="main"))
    assert [snapshot.id for snapshot in history][:1] == [result.snapshot_id]
    assert len(history) == 2
    assert sorted(repo.list_branches()) == ["main"]
    xr.testing.assert_identical(read(target), xr.decode_cf(series(0, 24)))
    told = history[0].metadata["frazil"]
    assert told["run_id"] == result.run_id
    assert told["plan_hash"] == plan.hash
    assert told["sources"] == {"count": 3, "first": "part0.nc", "last": "part2.nc"}
    assert result.verified == plan.region_count == 6


def test_a_plan_writes_nothing(plan: frazil.Plan, target: Path) -> None:
    assert plan.region_count
    assert not target.exists()
    assert list(target.parent.glob("*.icechunk*")) == []


def test_readers_of_main_see_nothing_until_the_run_is_published(
    plan: frazil.Plan, target: Path, serial: frazil.SerialExecutor
) -> None:
    frazil.open_repository(target)
    before = state(target)[0]
    seen = []

    def listen(progress: frazil.Progress) -> None:
        if progress.stage != "done":
            seen.append(state(target)[0])

    frazil.run(plan, executor=serial, listener=listen)
    assert set(seen) == {before}
    assert state(target)[0] != before


def test_a_missing_receipt_blocks_the_commit(plan: frazil.Plan, target: Path) -> None:
    lose_one = Meddling(lambda receipts: [] if receipts[0].number == 0 else receipts)
    with lose_one, pytest.raises(frazil.IncompleteRunError, match=r"task 0 failed 1 times.*not in the run directory"):
        frazil.run(plan, executor=lose_one, retry=ONCE)
    assert_nothing_published(target)


def test_a_receipt_whose_fork_lacks_a_chunk_is_refused(plan: frazil.Plan, target: Path) -> None:
    def forget(receipts: list[Receipt]) -> list[Receipt]:
        (run,) = frazil.runs(target)
        clean = next(Path(run.location).glob("fork-*")).read_bytes()
        return [replace(receipt, forks=(clean,)) for receipt in receipts]

    with Meddling(forget) as executor, pytest.raises(frazil.ReceiptError, match="lacks chunk"):
        frazil.run(plan, executor=executor, retry=ONCE)
    assert_nothing_published(target)


def test_a_fork_that_writes_another_tasks_chunk_is_refused(plan: frazil.Plan, target: Path) -> None:
    def trespass(receipts: list[Receipt]) -> list[Receipt]:
        fork = load_fork(receipts[0].forks[-1])
        array = zarr.open_group(fork.store, mode="r+")["tas"]
        assert isinstance(array, zarr.Array)
        array[20:24] = -1
        return [replace(receipts[0], forks=(dump_fork(fork),)), *receipts[1:]]

    with Meddling(trespass) as executor, pytest.raises(frazil.ReceiptError, match="which no region of it owns"):
        frazil.run(plan, executor=executor, retry=ONCE)
    assert_nothing_published(target)


def test_a_fork_that_changes_metadata_is_refused(plan: frazil.Plan, target: Path) -> None:
    def vandalise(receipts: list[Receipt]) -> list[Receipt]:
        fork = load_fork(receipts[0].forks[-1])
        zarr.open_group(fork.store, mode="r+").attrs["who"] = "me"
        return [replace(receipts[0], forks=(dump_fork(fork),)), *receipts[1:]]

    with Meddling(vandalise) as executor, pytest.raises(frazil.ReceiptError, match="metadata differ"):
        frazil.run(plan, executor=executor, retry=ONCE)
    assert_nothing_published(target)


@pytest.mark.parametrize("what", ["run_id", "plan_hash", "bases"])
def test_a_receipt_of_something_else_is_refused(plan: frazil.Plan, target: Path, what: str) -> None:
    with (
        Meddling(
            lambda receipts: [replace(receipts[0], **{what: ("another",) if what == "bases" else "another"})]
        ) as executor,
        pytest.raises(frazil.ReceiptError, match=r"'another'.*, and this is"),
    ):
        frazil.run(plan, executor=executor, retry=ONCE)
    assert_nothing_published(target)


def test_a_fork_of_another_repository_is_refused(
    plan: frazil.Plan, target: Path, tmp_path: Path, files: list[str], serial: frazil.SerialExecutor
) -> None:
    other = tmp_path / "other.icechunk"
    frazil.convert(files, other, chunks={"time": 4}, executor=serial)
    theirs = dump_fork(frazil.open_repository(other).writable_session("main").fork())
    with (
        Meddling(lambda receipts: [replace(receipt, forks=(theirs,)) for receipt in receipts]) as executor,
        pytest.raises(frazil.ReceiptError, match="its repository"),
    ):
        frazil.run(plan, executor=executor, retry=ONCE)
    assert_nothing_published(target)


def test_bytes_that_would_run_code_are_refused_and_do_not_run(plan: frazil.Plan, target: Path, tmp_path: Path) -> None:
    witness = tmp_path / "executed"

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (exec, (f"open({str(witness)!r}, 'w').close()",))

    bomb = pickle.dumps(Bomb())
    with (
        Meddling(lambda receipts: [replace(receipts[0], forks=(bomb,))]) as executor,
        pytest.raises(frazil.ReceiptError, match=r"name builtins\.exec"),
    ):
        frazil.run(plan, executor=executor, retry=ONCE)
    assert not witness.exists()
    assert_nothing_published(target)


def test_a_receipt_that_comes_twice_counts_once(plan: frazil.Plan, target: Path) -> None:
    with Meddling(lambda receipts: [*receipts, *receipts]) as executor:
        frazil.run(plan, executor=executor, verify="full")
    xr.testing.assert_identical(read(target), xr.decode_cf(series(0, 24)))


def test_two_functions_that_disagree_about_a_region_publish_nothing(plan: frazil.Plan, target: Path) -> None:
    def contradict(receipts: list[Receipt]) -> list[Receipt]:
        first = receipts[0].regions[0]
        lie = replace(first, crc32c=first.crc32c ^ 1)
        return [*receipts, replace(receipts[0], regions=(lie, *receipts[0].regions[1:]))]

    with Meddling(contradict) as executor, pytest.raises(frazil.ReceiptError, match="disagree about its values"):
        frazil.run(plan, executor=executor, retry=ONCE)
    assert_nothing_published(target)


@pytest.mark.parametrize("mode", ["sample", "full"])
def test_a_value_that_reads_back_otherwise_publishes_nothing(plan: frazil.Plan, target: Path, mode: str) -> None:
    def lie(receipts: list[Receipt]) -> list[Receipt]:
        regions = tuple(replace(one, crc32c=one.crc32c ^ 1) for one in receipts[0].regions)
        return [replace(receipts[0], regions=regions), *receipts[1:]]

    with Meddling(lie) as executor, pytest.raises(frazil.VerificationError, match="reads back with the checksum"):
        frazil.run(plan, executor=executor, verify=mode, retry=ONCE)  # type: ignore[arg-type]
    assert_nothing_published(target)
    (run,) = frazil.runs(target)
    assert run.done < run.regions, "the receipts that lied are gone"
    with frazil.SerialExecutor() as honest:
        frazil.resume(target, run.run_id, executor=honest, verify="full")
    xr.testing.assert_identical(read(target), xr.decode_cf(series(0, 24)))


@pytest.mark.parametrize("answer", [[], [RegionCheck(Region("tas", (("time", 0, 4),)), 1)]])
def test_functions_that_read_back_something_else_publish_nothing(
    plan: frazil.Plan, target: Path, answer: list[RegionCheck]
) -> None:
    with (
        Answering("verify", lambda _, __: dump_checks(answer)) as executor,
        pytest.raises(frazil.VerificationError, match="did not read every region back"),
    ):
        frazil.run(plan, executor=executor, verify="full")
    assert_nothing_published(target)


def test_a_private_branch_that_is_gone_already_does_not_matter(
    plan: frazil.Plan, target: Path, serial: frazil.SerialExecutor
) -> None:
    def vanish(progress: frazil.Progress) -> None:
        if progress.stage == "publish":  # the branch that cleaning up would remove is gone already
            repo = frazil.open_repository(target)
            (private,) = repo.list_branches() - {"main"}
            repo.delete_branch(private)

    result = frazil.run(plan, executor=serial, listener=vanish)
    assert state(target) == (result.snapshot_id, ["main"])


def test_a_chunk_that_vanished_from_the_storage_publishes_nothing(
    tmp_path: Path, target: Path, serial: frazil.SerialExecutor
) -> None:
    noise = np.random.default_rng(0).normal(size=(8, 1000))
    xr.Dataset({"noise": (("time", "x"), noise)}, coords={"time": np.arange(8)}).to_netcdf(tmp_path / "noise.nc")

    def vanish(progress: frazil.Progress) -> None:
        if progress.stage == "verify":
            for chunk in (target / "chunks").iterdir():
                chunk.unlink()

    plan = frazil.plan(tmp_path / "noise.nc", target, chunks={"time": 2}, executor=serial)
    with pytest.raises(frazil.VerificationError, match=r"noise\[time 0:8, x 0:1000\] cannot be read back"):
        frazil.run(plan, executor=serial, verify="full", listener=vanish)
    assert_nothing_published(target)
    (run,) = frazil.runs(target)
    frazil.resume(target, run.run_id, executor=serial, verify="full")
    np.testing.assert_array_equal(read(target)["noise"], noise)


def test_a_branch_that_moved_before_the_run_is_a_conflict(
    files: list[str], target: Path, serial: frazil.SerialExecutor
) -> None:
    repo = frazil.open_repository(target)
    plan = frazil.plan(files, repo, chunks={"time": 4}, executor=serial)
    tip = commit_something(repo)
    told: list[frazil.Progress] = []
    with pytest.raises(frazil.ConflictError, match="plan again"):
        frazil.run(plan, executor=serial, listener=told.append)
    assert [progress.stage for progress in told] == ["template"], "no function was called in vain"
    assert state(target) == (tip, ["main"])


@pytest.mark.parametrize("stage", ["write", "verify", "publish"])
def test_a_branch_that_moves_during_the_run_is_a_conflict_and_keeps_what_was_committed(
    files: list[str], target: Path, serial: frazil.SerialExecutor, stage: str
) -> None:
    repo = frazil.open_repository(target)
    plan = frazil.plan(files, repo, chunks={"time": 4}, executor=serial)
    tips = []

    def move(progress: frazil.Progress) -> None:
        if progress.stage == stage and not tips:
            tips.append(commit_something(frazil.open_repository(target)))

    with pytest.raises(frazil.ConflictError, match="Nothing was published"):
        frazil.run(plan, executor=serial, listener=move)
    assert state(target)[0] == tips[0]


def test_a_repository_that_somebody_else_created_meanwhile_is_a_conflict(
    plan: frazil.Plan, target: Path, serial: frazil.SerialExecutor
) -> None:
    tip = commit_something(frazil.open_repository(target))
    with pytest.raises(frazil.ConflictError, match="both write the group '/'"):
        frazil.run(plan, executor=serial)
    assert state(target) == (tip, ["main"])


def test_a_file_that_turns_bad_after_the_plan_fails_the_run_and_is_named(
    plan: frazil.Plan, files: list[str], target: Path, serial: frazil.SerialExecutor
) -> None:
    path = Path(files[1])
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(frazil.IncompleteRunError, match=r"part1\.nc has changed since the plan was made"):
        frazil.run(plan, executor=serial)
    assert_nothing_published(target)


def test_a_file_that_turns_bad_while_it_is_read_fails_the_run_and_is_named(
    files: list[str], target: Path, serial: frazil.SerialExecutor
) -> None:
    with h5py.File(files[2], "r+") as file:  # a compressed chunk that will not inflate
        values = file["tas"][...]
        del file["tas"]
        damaged = file.create_dataset("tas", data=values, chunks=values.shape, compression="gzip")
        for axis, dim in enumerate(("time", "lat", "lon")):
            damaged.dims[axis].attach_scale(file[dim])
        damaged.attrs["units"] = "K"
        offset = damaged.id.get_chunk_info(0).byte_offset
    with Path(files[2]).open("r+b") as raw:
        raw.seek(offset)
        raw.write(b"\xff" * 16)
    plan = frazil.plan(files, target, chunks={"time": 4}, executor=serial)
    with pytest.raises(frazil.IncompleteRunError, match=r"part2\.nc.*'tas'.*cannot be read"):
        frazil.run(plan, executor=serial)
    assert_nothing_published(target)


def test_a_plan_of_two_writers_of_one_unit_does_not_load(plan: frazil.Plan) -> None:
    task = plan.tasks[0]
    twice = replace(plan, tasks=(*plan.tasks, task))
    with pytest.raises(frazil.InvalidInputError, match="shares a write unit"):
        frazil.Plan.from_json(twice.to_json())


def test_a_plan_that_was_tampered_with_does_not_run(
    plan: frazil.Plan, target: Path, serial: frazil.SerialExecutor
) -> None:
    twice = replace(plan, tasks=(*plan.tasks, plan.tasks[0]))
    with pytest.raises(frazil.InvalidInputError, match="shares a write unit"):
        frazil.run(twice, executor=serial)
    assert not target.exists()


def test_an_interrupt_publishes_nothing_and_keeps_the_run(
    plan: frazil.Plan, target: Path, serial: frazil.SerialExecutor
) -> None:
    def interrupt(progress: frazil.Progress) -> None:
        if progress.stage == "verify":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        frazil.run(plan, executor=serial, listener=interrupt)
    assert_nothing_published(target)


def test_a_second_run_of_a_plan_is_a_conflict(plan: frazil.Plan, target: Path, serial: frazil.SerialExecutor) -> None:
    first = frazil.run(plan, executor=serial)
    with pytest.raises(frazil.ConflictError):
        frazil.run(plan, executor=serial)
    assert state(target) == (first.snapshot_id, ["main"])


def test_groups_and_branches_stand_beside_each_other(
    files: list[str], target: Path, serial: frazil.SerialExecutor
) -> None:
    frazil.convert(files, target, group="a", executor=serial)
    frazil.convert(files, target, group="b/c", executor=serial)
    repo = frazil.open_repository(target)
    repo.create_branch("other", repo.lookup_branch("main"))
    frazil.convert(files, target, group="d", branch="other", executor=serial)
    xr.testing.assert_identical(read(target, group="a"), read(target, group="b/c"))
    assert read(target, branch="other", group="d").sizes["time"] == 24
    with pytest.raises(frazil.ExistingGroupError, match="/b/c"):
        frazil.plan(files, target, group="b/c", executor=serial)


def commit_something(repo: icechunk.Repository) -> str:
    session = repo.writable_session("main")
    zarr.open_group(session.store, path="somebody/else", mode="a")
    return session.commit("something else")


def assert_nothing_published(target: Path) -> None:
    """Readers see what they saw before, and the run can be resumed."""
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(target)))
    assert len(list(repo.ancestry(branch="main"))) == 1
    (run,) = frazil.runs(target)
    assert run.state in {"writing", "written"}
    assert sorted(repo.list_branches()) == [f"frazil/{run.run_id}", "main"]
