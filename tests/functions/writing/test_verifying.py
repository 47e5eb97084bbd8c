from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pytest
import zarr
from tests.functions.conftest import clean_fork, commit_template, write, write_task_of
from zarr.codecs import GzipCodec

from frazil_functions.errors import ReceiptError, VerificationError
from frazil_functions.forks import load_fork
from frazil_functions.reading.encoding import Attributes
from frazil_functions.regions import Region
from frazil_functions.tasks import Receipt
from frazil_functions.writing.verifying import RegionCheck, VerifyTask, dump_checks, load_checks, verify_task

PLAIN = Region("plain", (("x", 0, 4096),))
REGIONS = [PLAIN, Region("name", (("x", 0, 2),)), Region("code", (("x", 0, 2),)), Region("crs", ())]


class Known:
    def read(self, region: Region, dtype: str, attributes: Attributes) -> np.ndarray[Any, Any]:  # noqa: ARG002 - of the protocol
        if dtype == "string":
            return np.array(["a", "straße"], object)
        if dtype == "|S3":
            return np.array([b"abc", b"d"])
        values = np.random.default_rng(5).normal(size=region.shape).astype(dtype)
        return np.where(values < 0, np.nan, values) if region == PLAIN else values


@pytest.fixture
def written(repo: icechunk.Repository) -> Receipt:
    with pytest.warns(match="does not have a Zarr V3 specification"):
        commit_template(
            repo,
            {
                "plain": {"shape": (4096,), "chunks": (2048,), "dtype": ">f4", "dimension_names": ("x",)},
                "name": {"shape": (2,), "dtype": "string", "dimension_names": ("x",)},
                "code": {"shape": (2,), "dtype": "S3", "dimension_names": ("x",)},
                "crs": {"shape": (), "dtype": "i4", "dimension_names": ()},
            },
        )
    (receipt,) = write(write_task_of(repo, REGIONS), Known())
    session = repo.writable_session("main")
    session.merge(load_fork(receipt.forks[0]))
    session.commit("data")
    return receipt


def task(repo: icechunk.Repository, receipt: Receipt) -> VerifyTask:
    return VerifyTask("", clean_fork(repo), tuple(one.region for one in receipt.regions))


def equal(checks: list[RegionCheck], receipt: Receipt) -> list[bool]:
    return [check.crc32c == one.crc32c for check, one in zip(checks, receipt.regions, strict=True)]


def chunks(path: Path) -> list[Path]:
    return sorted((path / "repo/chunks").iterdir(), key=lambda file: file.stat().st_size)


def test_what_was_written_reads_back_as_its_receipts_say(repo: icechunk.Repository, written: Receipt) -> None:
    checks = verify_task(task(repo, written))
    assert [check.region for check in checks] == REGIONS
    assert equal(checks, written) == [True] * len(REGIONS)


def test_a_chunk_that_is_deleted_is_found(written: Receipt, tmp_path: Path) -> None:
    chunks(tmp_path)[-1].unlink()
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(tmp_path / "repo")))
    checks = verify_task(task(repo, written))
    assert [str(check.region) for check in checks if check.problem] == ["plain[x 0:4096]"]


@pytest.mark.parametrize("at", [0, 0.3, 0.7, 0.99])
def test_a_chunk_that_is_altered_is_found(
    repo: icechunk.Repository, written: Receipt, tmp_path: Path, at: float
) -> None:
    path = chunks(tmp_path)[-1]
    data = bytearray(path.read_bytes())
    data[int(at * len(data))] ^= 0xFF
    path.write_bytes(data)
    checks = verify_task(task(repo, written))
    assert equal(checks, written) == [False, True, True, True]


def test_a_chunk_that_gzip_finds_altered_is_found(tmp_path: Path) -> None:
    repo = icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path / "repo")))
    session = repo.writable_session("main")
    values = np.random.default_rng(0).normal(size=3000)
    zarr.create_array(session.store, name="v", data=values, compressors=GzipCodec(), dimension_names=["x"])
    session.commit("data")
    path = chunks(tmp_path)[-1]
    data = bytearray(path.read_bytes())
    data[-6] ^= 1  # in the checksum of the stream
    path.write_bytes(data)
    (check,) = verify_task(VerifyTask("", clean_fork(repo), (Region("v", (("x", 0, 3000),)),)))
    assert "CRC check failed" in check.problem


def test_chunks_that_changed_places_are_found(repo: icechunk.Repository, written: Receipt, tmp_path: Path) -> None:
    first, second = chunks(tmp_path)[-2:]
    one, two = first.read_bytes(), second.read_bytes()
    length = max(len(one), len(two))
    first.write_bytes(two.ljust(length, b"\0"))
    second.write_bytes(one.ljust(length, b"\0"))
    try:
        found = equal(verify_task(task(repo, written)), written)
    except VerificationError:
        return
    assert not found[0]


def test_checks_come_back_as_they_went(repo: icechunk.Repository, written: Receipt) -> None:
    checks = verify_task(task(repo, written))
    assert load_checks(dump_checks(checks)) == checks


@pytest.mark.parametrize("data", [b"", b"\xc0", b"\x91\xc0", b"\x91" * 200_000])
def test_bytes_that_are_no_checks_are_refused(data: bytes) -> None:
    with pytest.raises(ReceiptError, match="cannot be read"):
        load_checks(data)
