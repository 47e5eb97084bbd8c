"""Files that chunks refer to: there, whole, unchanged, and where they may be read; told once each if they are not."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import h5py
import icechunk
import numpy as np
import pytest
import xarray as xr
import zarr
from icechunk.credentials import AnyCredential, LocalFileSystemAccess, containers_credentials

import frazil
from frazil.execution.serial import SerialCalls
from frazil.validating.looking import Effort
from frazil_functions.errors import ReceiptError
from frazil_functions.validating.tasks import PartCheck, dump_part_checks, load_part_checks

ROWS, LAT, LON = 6, 16, 32
"""Of one file, in chunks of two rows."""

FAR = Effort(here_bytes=0, whole_bytes=0, sample_units=2)
"""As for a store that is too large to be read here, of which only some chunks are decoded."""
EFFORTS = [Effort(), FAR, replace(FAR, files=0), Effort(full=True)]

type Check = Callable[..., frazil.Validation]


@dataclass(frozen=True, slots=True)
class Raw:
    """Where the files lie: a local folder, or below a bucket's prefix."""

    prefix: str
    folder: Path
    bucket: Any = None

    def put(self, name: str, body: bytes) -> None:
        """Write a file; on a disk, some time after whatever was there."""
        if self.bucket is not None:
            self.bucket.put_object(Key=f"in/{name}", Body=body)
            return
        path = self.folder / name
        path.write_bytes(body)
        os.utime(path, (time.time() + 60, time.time() + 60))

    def get(self, name: str) -> bytes:
        return (self.folder / name).read_bytes() if self.bucket is None else self._object(name).get()["Body"].read()

    def drop(self, name: str) -> None:
        if self.bucket is None:
            (self.folder / name).unlink()
        else:
            self._object(name).delete()

    def mark(self, name: str) -> str | datetime:
        if self.bucket is None:
            when = datetime.fromtimestamp((self.folder / name).stat().st_mtime, UTC)
            return when.replace(microsecond=0) + timedelta(seconds=1)
        return str(self._object(name).e_tag)

    @property
    def container(self) -> icechunk.VirtualChunkContainer:
        if self.bucket is None:
            return icechunk.VirtualChunkContainer(self.prefix, icechunk.local_filesystem_store(str(self.folder)))
        endpoint = os.environ["AWS_ENDPOINT_URL"]
        store = icechunk.s3_store(region="us-east-1", endpoint_url=endpoint, allow_http=True, force_path_style=True)
        return icechunk.VirtualChunkContainer(self.prefix, store)

    @property
    def access(self) -> dict[str, AnyCredential | None]:
        credentials = LocalFileSystemAccess if self.bucket is None else icechunk.s3_credentials(from_env=True)
        return containers_credentials({self.prefix: credentials})

    def _object(self, name: str) -> Any:
        return self.bucket.Object(f"in/{name}")


@pytest.fixture(params=["disk", "s3"])
def raw(request: pytest.FixtureRequest, tmp_path: Path) -> Raw:
    folder = tmp_path / "raw"
    folder.mkdir()
    if request.param == "disk":
        return Raw(f"file://{folder}/", folder)
    return Raw("s3://raw/in/", folder, request.getfixturevalue("bucket"))


def written(raw: Raw, number: int, *names: str) -> dict[str, Any]:
    """A NetCDF-4 file, and where the chunks of its variables lie."""
    path = raw.folder / f"{number}.nc"
    rng = np.random.default_rng(number)
    variables = {name: (("time", "lat", "lon"), rng.normal(size=(ROWS, LAT, LON)).astype("f4")) for name in names}
    encoding = {name: {"chunksizes": (2, LAT, LON)} for name in names}
    xr.Dataset(variables).to_netcdf(path, engine="h5netcdf", encoding=encoding)
    with h5py.File(path) as file:
        found = {
            name: [file[name].id.get_chunk_info(at) for at in range(file[name].id.get_num_chunks())] for name in names
        }
    if raw.bucket is not None:
        raw.put(path.name, path.read_bytes())
    return found


def referring(raw: Raw, where: Path, *, files: int = 3, names: tuple[str, ...] = ("tas", "pr")) -> None:
    """A repository that refers to files for all of each variable, and has labels of its own."""
    config = icechunk.RepositoryConfig.default()
    config.set_virtual_chunk_container(raw.container)
    repo = icechunk.Repository.create(icechunk.local_filesystem_storage(str(where)), config=config)
    session = repo.writable_session("main")
    root = zarr.open_group(session.store, mode="a")
    length = files * ROWS
    label = root.create_array("time", shape=(length,), chunks=(length,), dtype="i4", dimension_names=("time",))
    label[:] = np.arange(length)
    for name in names:
        root.create_array(
            name,
            shape=(length, LAT, LON),
            chunks=(2, LAT, LON),
            dtype="<f4",
            compressors=None,
            dimension_names=("time", "lat", "lon"),
        )
    for number in range(files):
        for name, chunks in written(raw, number, *names).items():
            session.store.set_virtual_refs_arr(
                f"/{name}",
                (len(chunks), 1, 1),
                [f"{raw.prefix}{number}.nc"] * len(chunks),
                np.array([one.byte_offset for one in chunks], "u8"),
                np.array([one.size for one in chunks], "u8"),
                validate_containers=True,
                arr_offset=(number * len(chunks), 0, 0),
                checksum=raw.mark(f"{number}.nc"),
            )
    session.commit("refer")


@pytest.fixture
def check(raw: Raw, target: Path, serial: frazil.SerialExecutor) -> Check:
    """Validate, with authority for the files unless there is to be none."""

    def check(**options: Any) -> frazil.Validation:
        return frazil.validate(target, **({"containers": raw.access, "executor": serial} | options))

    return check


def change(where: Path, alter: Callable[[icechunk.Session], None]) -> None:
    session = icechunk.Repository.open(icechunk.local_filesystem_storage(str(where))).writable_session("main")
    alter(session)
    session.commit("change")


@pytest.mark.parametrize("effort", EFFORTS)
def test_files_that_are_whole_have_no_faults(raw: Raw, target: Path, check: Check, effort: Effort) -> None:
    referring(raw, target)
    found = check(effort=effort)
    assert found.ok, found.faults
    assert found.files == 3
    tas = next(one for one in found.arrays if one.path == "tas")
    assert (tas.units, tas.stored, tas.referred, tas.files) == (9, 9, 9, 3)
    assert tas.decoded == (2 if effort.sample_units == 2 else 9)


@pytest.mark.parametrize("effort", EFFORTS)
def test_a_file_that_is_gone_is_one_fault(raw: Raw, target: Path, check: Check, effort: Effort) -> None:
    referring(raw, target)
    raw.drop("1.nc")
    (fault,) = check(effort=effort).faults
    assert (fault.kind, fault.array, fault.chunk) == ("file", "pr", (3, 0, 0))
    assert f"is gone: {raw.prefix}1.nc" in fault.what
    assert "3 chunks of it refer there, and chunks of 'tas'" in fault.what


@pytest.mark.parametrize("effort", EFFORTS)
def test_a_file_that_was_replaced_by_another_of_its_size_is_one_fault(
    raw: Raw, target: Path, check: Check, effort: Effort
) -> None:
    referring(raw, target)
    raw.put("2.nc", raw.get("1.nc"))
    (fault,) = check(effort=effort).faults
    assert (fault.kind, fault.array, fault.chunk) == ("file", "pr", (6, 0, 0))
    assert f"has changed since: {raw.prefix}2.nc" in fault.what


@pytest.mark.parametrize("effort", EFFORTS)
def test_a_file_that_was_cut_off_is_one_fault(raw: Raw, target: Path, check: Check, effort: Effort) -> None:
    referring(raw, target)
    body = raw.get("0.nc")
    raw.put("0.nc", body[: len(body) // 2])
    (fault,) = check(effort=effort).faults
    assert (fault.kind, fault.array, fault.chunk) == ("file", "pr", (0, 0, 0))
    assert f"{raw.prefix}0.nc" in fault.what


@pytest.mark.parametrize("effort", EFFORTS)
def test_a_file_that_never_reached_as_far_is_one_fault(raw: Raw, target: Path, check: Check, effort: Effort) -> None:
    referring(raw, target)
    size = len(raw.get("1.nc"))

    def alter(session: icechunk.Session) -> None:
        url, mark = f"{raw.prefix}1.nc", raw.mark("1.nc")
        session.store.set_virtual_ref("tas/c/4/0/0", url, offset=size - 100, length=4096, checksum=mark)

    change(target, alter)
    (fault,) = check(effort=effort).faults
    assert (fault.kind, fault.array, fault.chunk) == ("file", "tas", (4, 0, 0))
    assert f"ends before it does: {raw.prefix}1.nc (1 chunk of it refers there)" in fault.what


@pytest.mark.parametrize("effort", EFFORTS)
def test_what_was_referred_to_anew_is_told_from_what_was_not(
    raw: Raw, target: Path, check: Check, effort: Effort
) -> None:
    referring(raw, target)
    raw.put("1.nc", raw.get("1.nc")[:-1] + b"\x01")

    def alter(session: icechunk.Session) -> None:
        for unit, one in enumerate(written(replace(raw, bucket=None, folder=raw.folder.parent), 1, "tas", "pr")["tas"]):
            url, mark = f"{raw.prefix}1.nc", raw.mark("1.nc")
            key = f"tas/c/{3 + unit}/0/0"
            session.store.set_virtual_ref(key, url, offset=one.byte_offset, length=one.size, checksum=mark)

    change(target, alter)
    (fault,) = check(effort=effort).faults
    assert (fault.kind, fault.array, fault.chunk) == ("file", "pr", (3, 0, 0))
    assert "tas" not in fault.what


def test_a_thousand_chunks_of_files_that_are_gone_are_as_many_faults_as_files(
    raw: Raw, target: Path, check: Check
) -> None:
    referring(raw, target, files=8)
    for number in range(8):
        raw.drop(f"{number}.nc")
    for effort in EFFORTS:
        found = check(effort=effort)
        assert [fault.kind for fault in found.faults] == ["file"] * 8
        assert [fault.chunk for fault in found.faults] == [(3 * number, 0, 0) for number in range(8)]


@pytest.mark.parametrize("effort", EFFORTS)
def test_without_authority_for_a_container_the_rest_is_looked_at(
    raw: Raw, target: Path, check: Check, effort: Effort
) -> None:
    referring(raw, target)

    def alter(session: icechunk.Session) -> None:
        zarr.open_group(session.store)["time"][3] = 40

    change(target, alter)
    found = check(containers=None, effort=effort)
    assert {fault.kind for fault in found.faults} == {"container", "label"}
    (fault,) = (one for one in found.faults if one.kind == "container")
    assert (
        f"nobody authorised reading from the container {raw.prefix}, so 3 files there were not looked at" in fault.what
    )
    assert f"--container {raw.prefix}" in fault.cure
    assert {one.decoded for one in found.arrays if one.referred} == {0}


@pytest.mark.parametrize("raw", ["s3"], indirect=True)
@pytest.mark.parametrize("effort", EFFORTS)
def test_a_container_whose_storage_refuses_is_one_fault(raw: Raw, target: Path, check: Check, effort: Effort) -> None:
    referring(raw, target)
    raw.bucket.objects.all().delete()
    raw.bucket.delete()
    (fault,) = check(effort=effort).faults
    assert (fault.kind, fault.array, fault.chunk) == ("container", "pr", (0, 0, 0))
    assert f"reading 3 files in the container {raw.prefix} was refused (NoSuchBucket): {raw.prefix}0.nc" in fault.what
    assert "9 chunks of it refer there, and chunks of 'tas'" in fault.what


def test_an_open_repository_keeps_what_it_authorises(raw: Raw, target: Path, check: Check) -> None:
    referring(raw, target)
    storage = icechunk.local_filesystem_storage(str(target))
    repo = icechunk.Repository.open(storage, authorize_virtual_chunk_access=raw.access)
    serial = frazil.SerialExecutor()
    assert frazil.validate(repo, executor=serial).ok
    assert frazil.validate(icechunk.Repository.open(storage), containers=raw.access, executor=serial).ok
    assert not frazil.validate(icechunk.Repository.open(storage), executor=serial).ok


def test_a_container_that_is_not_declared_is_refused(raw: Raw, target: Path, check: Check) -> None:
    referring(raw, target)
    with pytest.raises(frazil.InvalidInputError, match="s3://other/"):
        check(containers="s3://other/=region=us-east-1")


@pytest.mark.parametrize("effort", EFFORTS)
def test_references_outside_of_containers_are_one_fault(raw: Raw, target: Path, check: Check, effort: Effort) -> None:
    referring(raw, target)

    def alter(session: icechunk.Session) -> None:
        for unit in (0, 4):
            url = f"s3://elsewhere/data/{unit}.nc"
            session.store.set_virtual_ref(f"tas/c/{unit}/0/0", url, offset=0, length=4096, validate_container=False)

    change(target, alter)
    found = check(effort=effort)
    (fault,) = found.faults
    assert (fault.kind, fault.array, fault.chunk) == ("container", "tas", (0, 0, 0))
    assert "2 files lie in no container of the repository" in fault.what
    assert "s3://elsewhere/data/0.nc and others" in fault.what
    assert "s3://elsewhere/data/" in fault.cure
    (tas,) = (one for one in found.arrays if one.path == "tas")
    assert tas.decoded == (2 if effort.sample_units == 2 else 7)


@pytest.mark.parametrize("effort", EFFORTS)
def test_chunks_of_an_array_are_native_referred_to_and_missing(
    raw: Raw, target: Path, check: Check, effort: Effort
) -> None:
    referring(raw, target, names=("tas",))

    def alter(session: icechunk.Session) -> None:
        array = zarr.open_group(session.store)["tas"]
        assert isinstance(array, zarr.Array)
        array[0:4] = 7
        array.resize((20, LAT, LON))
        time = zarr.open_group(session.store)["time"]
        assert isinstance(time, zarr.Array)
        time.resize(20)
        time[:] = np.arange(20)

    change(target, alter)
    found = check(effort=effort)
    assert found.ok, found.faults
    (tas,) = (one for one in found.arrays if one.path == "tas")
    assert (tas.units, tas.stored, tas.referred, tas.files) == (10, 9, 7, 3)
    # Those of the repository's own are looked for as ever.
    for path in (target / "chunks").iterdir():
        path.unlink()
    assert ("chunk", "tas", (0, 0, 0)) in {(one.kind, one.array, one.chunk) for one in check(effort=effort).faults}


@pytest.mark.parametrize("effort", EFFORTS)
def test_values_are_compared_where_files_can_be_read(
    raw: Raw, target: Path, tmp_path: Path, check: Check, effort: Effort
) -> None:
    referring(raw, target, names=("tas",))
    store = (
        icechunk.Repository.open(
            icechunk.local_filesystem_storage(str(target)), authorize_virtual_chunk_access=raw.access
        )
        .readonly_session("main")
        .store
    )
    with xr.open_zarr(store, consolidated=False, chunks=None) as whole:
        whole.to_netcdf(tmp_path / "all.nc")
    found = check(effort=effort, against=tmp_path / "all.nc")
    assert (found.ok, found.compared) == (True, 3 * ROWS * LAT * LON)
    raw.drop("1.nc")
    found = check(effort=effort, against=tmp_path / "all.nc")
    assert [one.kind for one in found.faults] == ["file"]
    assert found.compared == 2 * ROWS * LAT * LON


def test_labels_in_files_that_cannot_be_read_are_no_end(raw: Raw, target: Path, check: Check, tmp_path: Path) -> None:
    referring(raw, target, names=("tas",))
    raw.put("labels.bin", np.arange(3 * ROWS, dtype="<i4").tobytes())

    def alter(session: icechunk.Session) -> None:
        zarr.open_group(session.store).create_array(
            "time", shape=(18,), chunks=(18,), dtype="<i4", dimension_names=("time",), compressors=None, overwrite=True
        )
        session.store.set_virtual_ref("time/c/0", f"{raw.prefix}labels.bin", offset=0, length=72)

    change(target, alter)
    assert check().ok
    assert [one.kind for one in check(containers=None).faults] == ["container"]
    raw.drop("labels.bin")
    assert [(one.kind, one.array) for one in check().faults] == [("file", "time")]
    assert check(variables="tas").ok
    xr.Dataset({"tas": (("time",), [1])}, {"time": [1]}).to_netcdf(tmp_path / "one.nc")
    assert [one.kind for one in check(against=tmp_path / "one.nc").faults] == ["difference", "file"]


@pytest.fixture
def lying() -> Callable[[Callable[[list[PartCheck]], list[PartCheck]]], frazil.SerialExecutor]:
    """Functions run, and what they return is altered on the way."""

    def lying(lie: Callable[[list[PartCheck]], list[PartCheck]]) -> frazil.SerialExecutor:
        class Calls(SerialCalls[Any, Any]):
            def next(self, timeout: float | None = None) -> Any:
                outcome = super().next(timeout)
                if outcome is None or outcome.value is None:
                    return outcome
                return replace(outcome, value=dump_part_checks(lie(load_part_checks(outcome.value))))

        class Liar(frazil.SerialExecutor):
            def calls(self, function: Any) -> Any:
                return Calls(function)

        return Liar()

    return lying


@pytest.mark.parametrize("raw", ["disk"], indirect=True)
@pytest.mark.parametrize(
    ("lie", "says"),
    [
        (lambda one: replace(one, stored=0), "and the manifest"),
        (lambda one: replace(one, failed=2), "than it was asked for"),
        (lambda one: replace(one, faults=(replace(one.faults[0], index=None),)), "than it was asked for"),
        (lambda one: replace(one, faults=(replace(one.faults[0], index=(0, 0, 0)),)), "than it was asked for"),
        (lambda one: replace(one, faults=one.faults * 2, failed=2), "than it was asked for"),
    ],
)
def test_a_crafted_answer_about_files_hides_nothing(
    raw: Raw, target: Path, check: Check, lying: Any, lie: Callable[[PartCheck], PartCheck], says: str
) -> None:
    referring(raw, target, names=("tas",))
    raw.drop("1.nc")

    def every(checks: list[PartCheck]) -> list[PartCheck]:
        return [lie(one) if one.part.look == "follow" and one.faults else one for one in checks]

    with pytest.raises(ReceiptError, match=says):
        check(executor=lying(every), effort=FAR)


@pytest.mark.parametrize("raw", ["s3"], indirect=True)
def test_keys_for_a_container_do_not_travel(raw: Raw, target: Path, check: Check) -> None:
    referring(raw, target)
    keys = icechunk.s3_credentials(access_key_id="key", secret_access_key="secret")  # noqa: S106 - of no real server
    assert check(containers={raw.prefix: keys}).ok
    with pytest.raises(frazil.InvalidInputError, match="static credentials") as caught:
        check(containers={raw.prefix: keys}, effort=FAR)
    assert "secret_access_key" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("raw", ["disk"], indirect=True)
def test_lithops_functions_look_at_files(raw: Raw, target: Path, check: Check) -> None:
    referring(raw, target)
    with frazil.LithopsExecutor(backend="localhost", workers=2) as executor:
        assert check(executor=executor, effort=FAR).ok
        raw.drop("1.nc")
        assert [one.kind for one in check(executor=executor, effort=FAR).faults] == ["file"]


@pytest.mark.slow
@pytest.mark.parametrize("raw", ["disk"], indirect=True)
def test_a_million_references_are_looked_at_file_by_file(raw: Raw, target: Path, check: Check) -> None:
    files, each = 1000, 1000
    for number in range(files):
        path = raw.folder / f"{number}.bin"
        path.touch()
        os.truncate(path, each * 8)  # a hole, which takes no space
    config = icechunk.RepositoryConfig.default()
    config.set_virtual_chunk_container(raw.container)
    repo = icechunk.Repository.create(icechunk.local_filesystem_storage(str(target)), config=config)
    session = repo.writable_session("main")
    zarr.open_group(session.store, mode="a").create_array(
        "x", shape=(files, each), chunks=(1, 1), dtype="<i8", compressors=None, dimension_names=("u", "v")
    )
    urls = [f"{raw.prefix}{number}.bin" for number in range(files) for _ in range(each)]
    offsets = np.tile(np.arange(each, dtype="u8") * 8, files)
    session.store.set_virtual_refs_arr(
        "/x", (files, each), urls, offsets, np.full(files * each, 8, "u8"), validate_containers=True
    )
    session.commit("a million")
    told: list[int] = []
    found = check(effort=replace(FAR, here_bytes=1 << 30), listener=lambda progress: told.append(progress.total_bytes))
    assert found.ok, found.faults
    (array,) = found.arrays
    assert (array.referred, array.files, array.decoded) == (files * each, files, 2)
    # A thousand files were asked, and two chunks decoded.
    assert max(told) == files * (16 << 10)
    for number in range(files):
        (raw.folder / f"{number}.bin").unlink()
    assert [one.chunk for one in check(effort=FAR).faults] == sorted(
        ((number, 0) for number in range(files)), key=lambda one: f"{raw.prefix}{one[0]}.bin"
    )
    assert [one.kind for one in check(containers=None).faults] == ["container"]
