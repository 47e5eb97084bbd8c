"""Large stores are looked at by functions, whose answers are data and must be about what was asked."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pytest
import zarr

import frazil
from frazil.execution.serial import SerialCalls
from frazil.validating.looking import Effort
from frazil_functions.errors import ReceiptError
from frazil_functions.regions import Region
from frazil_functions.summaries import Summary
from frazil_functions.validating.task import validate_task
from frazil_functions.validating.tasks import (
    ChunkFault,
    Difference,
    Part,
    PartCheck,
    ValidateTask,
    dump_part_checks,
    dump_session,
    load_part_checks,
    load_session,
)

from .test_against import change

FAR = Effort(here_bytes=0, whole_bytes=0)
"""As for a store that is too large to be read here."""

FULL = replace(FAR, full=True)
NEAR = replace(FAR, here_bytes=1 << 30)


@pytest.fixture
def archive(files: list[str], target: Path, serial: frazil.SerialExecutor) -> Path:
    frazil.convert(files, target, chunks={"time": 4, "lat": 2}, executor=serial)
    return target


@pytest.mark.parametrize("effort", [FAR, FULL])
def test_functions_find_what_this_process_finds(
    archive: Path, files: list[str], serial: frazil.SerialExecutor, effort: Effort
) -> None:
    change(archive, lambda root: root["tas"].set_basic_selection((slice(0, 24), 0, 0), 1))
    # Objects of chunks have names, and those below 512 bytes lie in the manifest: make some of each.
    random = np.random.default_rng(1).normal(size=(64, 64)).astype("f4")
    repo = frazil.open_repository(archive)
    session = repo.writable_session("main")
    noise = zarr.open_group(session.store, mode="a").create_array(
        "noise", shape=(64, 64), chunks=(16, 64), dtype="f4", dimension_names=("u", "v")
    )
    noise[:] = random
    session.commit("noise")
    next(path for path in (archive / "chunks").iterdir() if path.stat().st_size > 3000).unlink()
    # Labels of the group are damaged by nobody, so that the comparison is made.
    far = frazil.validate(archive, executor=serial, effort=effort, against=files)
    here = frazil.validate(archive, executor=serial, effort=replace(effort, here_bytes=1 << 30), against=files)
    assert replace(far, seconds=0) == replace(here, seconds=0)
    assert {fault.kind for fault in far.faults} == {"chunk", "difference"}
    assert far.compared == 480


@pytest.mark.parametrize("effort", [FAR, FULL])
def test_what_was_never_written_is_not_looked_for(archive: Path, serial: frazil.SerialExecutor, effort: Effort) -> None:
    change(archive, lambda root: root["tas"].set_basic_selection((slice(4, 9), slice(0, 2)), np.nan))
    found = frazil.validate(archive, executor=serial, effort=effort)
    assert found.ok, found.faults
    (tas,) = (one for one in found.arrays if one.path == "tas")
    assert (tas.stored, tas.units) == (11, 12)
    if effort.full:
        assert (tas.summary.count, tas.summary.missing) == (480, 50)


@pytest.mark.slow
def test_lithops_functions_validate(archive: Path, files: list[str]) -> None:
    with frazil.LithopsExecutor(backend="localhost", workers=2) as executor:
        found = frazil.validate(archive, executor=executor, effort=FULL, against=files)
    assert found.ok, found.faults
    assert found.compared == 480


class Liar(frazil.SerialExecutor):
    """Functions run, and what they return is altered on the way."""

    def __init__(self, lie: Callable[[list[PartCheck]], object]) -> None:
        self.lie = lie

    def calls(self, function: Any) -> Any:
        lie = self.lie

        class Calls(SerialCalls[Any, Any]):
            def next(self, timeout: float | None = None) -> Any:
                outcome = super().next(timeout)
                if outcome is None or outcome.value is None:
                    return outcome
                told = lie(load_part_checks(outcome.value))
                return replace(outcome, value=told if isinstance(told, bytes) else dump_part_checks(told))  # type: ignore[arg-type]

        return Calls(function)


def first(checks: list[PartCheck], **changes: Any) -> list[PartCheck]:
    return [replace(checks[0], **changes), *checks[1:]]


@pytest.mark.parametrize(
    ("effort", "lie", "words"),
    [
        (FULL, lambda checks: checks[1:], "other parts than it was asked for"),
        (FULL, lambda checks: [*checks, checks[0]], "other parts than it was asked for"),
        (FULL, lambda checks: checks[::-1] if len(checks) > 1 else [], "other parts than it was asked for"),
        (FULL, lambda checks: first(checks, summary=None), "does not cover its"),
        (FULL, lambda checks: first(checks, summary=Summary(1)), "does not cover its"),
        (FAR, lambda checks: first(checks, stored=checks[0].stored - 1), "and the manifest"),
        (FULL, lambda checks: first(checks, failed=1), "counts 1 faults, and names 0"),
        (FULL, lambda checks: first(checks, faults=(ChunkFault((0,), "x"),)), "counts 0 faults, and names 1"),
        (
            FULL,
            lambda checks: first(checks, failed=1, faults=(ChunkFault((99, 0, 0), "x"),)),
            "names the chunk",
        ),
        (FULL, lambda checks: first(checks, difference=Difference(1, (99, 0, 0), "", "")), "does not lie in it"),
        (FULL, lambda _: b"\x80\x04cposix\nsystem\n", "cannot be read"),
        (FULL, lambda _: b"", "cannot be read"),
    ],
)
def test_a_crafted_answer_hides_nothing(archive: Path, effort: Effort, lie: Any, words: str) -> None:
    with pytest.raises(ReceiptError, match=words):
        frazil.validate(archive, variables=["tas"], executor=Liar(lie), effort=effort)


def test_checks_come_back_as_they_went() -> None:
    part = Part("decode", Region("tas", (("time", 0, 4),)))
    checks = [
        PartCheck(part, 1, Summary(4, 1, 0, 0.5, 2.5), Difference(1, (0,), "a", "b"), 1, (ChunkFault(None, "x"),))
    ]
    assert load_part_checks(dump_part_checks(checks)) == checks


@pytest.mark.parametrize("data", [b"", b"\xc0", b"\x91\xc0", b"\x91" * 200_000, "text"])
def test_bytes_that_are_no_checks_are_refused(data: Any) -> None:
    with pytest.raises(ReceiptError, match=r"cannot be read|instead of bytes"):
        load_part_checks(data)


def test_a_session_travels_without_a_right_to_write(archive: Path) -> None:
    repo = frazil.open_repository(archive)
    session = load_session(dump_session(repo.readonly_session("main")))
    assert session.read_only
    with pytest.raises(frazil.InvalidInputError, match="can write"):
        dump_session(repo.writable_session("main"))
    with pytest.raises(ReceiptError, match="cannot read a session"):
        load_session(b"nonsense")


def test_keys_do_not_travel(bucket: Any, endpoint: str) -> None:
    options = {"endpoint_url": endpoint, "allow_http": True, "force_path_style": True, "region": "us-east-1"}
    storage = icechunk.s3_storage(
        bucket="raw",
        prefix="keys",
        access_key_id="key",
        secret_access_key="secret",  # noqa: S106 - of a server in this process
        **options,
    )
    repo = icechunk.Repository.create(storage)
    session = repo.writable_session("main")
    zarr.open_group(session.store, mode="a").create_array("x", shape=(4,), dtype="i4", dimension_names=("y",))[:] = 7
    session.commit("x")
    with pytest.raises(frazil.InvalidInputError, match="static credentials"):
        frazil.validate(repo, executor=frazil.SerialExecutor(), effort=FULL)
    # Here nothing travels.
    assert frazil.validate(repo, full=True, executor=frazil.SerialExecutor()).ok


def test_a_task_that_asks_for_an_array_that_is_not_there_says_so(archive: Path) -> None:
    session = dump_session(frazil.open_repository(archive).readonly_session("main"))
    task = ValidateTask("", session, (Part("decode", Region("tax", (("x", 0, 1),))),))
    with pytest.raises(frazil.BackendError, match="tax"):
        validate_task(task)


@pytest.mark.parametrize("effort", [FAR, FULL])
def test_storage_that_refuses_to_answer_is_no_damage(bucket: Any, effort: Effort) -> None:
    repo = frazil.open_repository("s3://raw/archive")
    session = repo.writable_session("main")
    made = zarr.open_group(session.store, mode="a").create_array("x", shape=(4000,), dtype="f8", dimension_names=("y",))
    made[:] = np.random.default_rng(1).normal(size=4000)
    session.commit("x")
    (chunk,) = bucket.objects.filter(Prefix="archive/chunks/")
    # An archived object is there, and has to be restored before it can be read.
    chunk.put(Body=chunk.get()["Body"].read(), StorageClass="GLACIER")
    with pytest.raises(frazil.BackendError, match="could not be read just now"):
        frazil.validate("s3://raw/archive", executor=frazil.SerialExecutor(), effort=effort)


def test_chunks_in_other_files_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    source = tmp_path / "raw" / "values.bin"
    source.write_bytes(np.arange(100, dtype="<f8").tobytes())
    prefix = f"file://{tmp_path}/raw/"
    config = icechunk.RepositoryConfig.default()
    config.set_virtual_chunk_container(
        icechunk.VirtualChunkContainer(prefix, icechunk.local_filesystem_store(str(tmp_path / "raw")))
    )
    storage = icechunk.local_filesystem_storage(str(tmp_path / "archive"))
    repo = icechunk.Repository.create(
        storage,
        config=config,
        authorize_virtual_chunk_access=icechunk.containers_credentials(
            {prefix: icechunk.credentials.LocalFileSystemAccess}
        ),
    )
    session = repo.writable_session("main")
    zarr.open_group(session.store, mode="a").create_array(
        "x", shape=(100,), chunks=(50,), dtype="<f8", dimension_names=("y",), compressors=None
    )
    for at in (0, 1):
        session.store.set_virtual_ref(f"x/c/{at}", f"{prefix}values.bin", offset=400 * at, length=400)
    session.commit("virtual")
    for effort in (NEAR, replace(NEAR, full=True)):
        found = frazil.validate(repo, executor=frazil.SerialExecutor(), effort=effort)
        assert found.ok, found.faults
    (fault,) = frazil.validate(tmp_path / "archive", executor=frazil.SerialExecutor()).faults
    assert fault.kind == "container"
    source.write_bytes(source.read_bytes()[:600])
    for effort in (NEAR, replace(NEAR, full=True)):
        found = frazil.validate(repo, executor=frazil.SerialExecutor(), effort=effort)
        assert [(fault.array, fault.chunk) for fault in found.faults] == [("x", (1,))]
    source.unlink()
    (fault,) = frazil.validate(repo, executor=frazil.SerialExecutor()).faults
    assert fault.chunk == (0,)
    assert "file that it refers to is gone" in fault.what
