"""Receipts that are wrong: never published wrongly; what they lack is written again, and the next resume finishes."""

import hashlib
import pickle
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

import frazil
from frazil_functions.forks import read_fork
from frazil_functions.runs.run import open_run
from frazil_functions.tasks import Receipt

from .datasets import Conversion, Noise, conversion

TASKS = 4
REGIONS = 12


@pytest.fixture
def job(tmp_path: Path) -> Conversion:
    """A run whose receipts are all there, one a task, and which nobody has finished."""
    made = conversion(Noise(), str(tmp_path / "archive"), tmp_path, tasks=TASKS)
    interrupted(made)
    assert len(made.receipts()) == TASKS
    return made


class StopError(Exception):
    """Ends a client where it is told of a stage."""


def interrupted(job: Conversion) -> None:
    def stop(progress: frazil.Progress) -> None:
        if progress.stage == "verify":
            raise StopError

    with pytest.raises(StopError):
        job.run(listener=stop)
    job.assert_untouched()


def files(job: Conversion) -> list[Path]:
    """The receipts, as files."""
    return sorted(Path(job.directory.location.url, "receipts").iterdir())


def named(path: Path, data: bytes | bytearray) -> Path:
    """A receipt's file with other content, under the name that this content gives it."""
    return path.with_name(path.name[:7] + hashlib.sha256(data).hexdigest()[:32])


def list_sources(job: Conversion) -> list[str]:
    return [source.url for source in job.plan.sources]


def chunks(job: Conversion) -> int:
    return len(list(Path(job.target, "chunks").iterdir()))


def test_receipts_under_more_than_one_name_and_in_any_order_count_once(job: Conversion) -> None:
    written = chunks(job)
    found = job.receipts()
    for number, receipt in enumerate(reversed(found.values())):
        job.directory.put_receipt(replace(receipt, seconds=number + 0.5))
    assert len(files(job)) == 2 * TASKS
    result = job.resume()
    assert result.regions == result.verified == REGIONS
    assert chunks(job) == written, "nothing was written again"
    job.assert_published()


@pytest.mark.parametrize("kept", [0, 1, 40, -1])
def test_a_truncated_receipt_is_refused_and_its_regions_are_written_again(job: Conversion, kept: int) -> None:
    written = chunks(job)
    path = files(job)[1]
    lost = REGIONS // TASKS
    path.write_bytes(path.read_bytes()[:kept])
    assert job.receipted().total() == REGIONS - lost
    job.resume()
    assert chunks(job) == written + lost
    job.assert_published()


def test_a_receipt_cut_short_under_the_name_of_what_is_left_is_refused(job: Conversion) -> None:
    written = chunks(job)
    path = files(job)[1]
    data = path.read_bytes()[:-1]
    path.unlink()
    named(path, data).write_bytes(data)
    job.resume()
    assert chunks(job) == written + REGIONS // TASKS
    job.assert_published()


@pytest.mark.parametrize("seed", range(3))
def test_a_flipped_byte_is_seen_by_the_name(job: Conversion, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - the same ones every time
    for path in files(job):
        data = bytearray(path.read_bytes())
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
    assert job.receipts() == {}
    written = chunks(job)
    job.resume()
    assert chunks(job) == written + REGIONS
    job.assert_published()


@pytest.mark.parametrize("seed", range(12))
def test_a_flipped_byte_under_a_name_made_for_it_is_never_published_wrongly(job: Conversion, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - as above
    path = files(job)[2]
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.unlink()
    forged = named(path, data)
    forged.write_bytes(data)
    try:
        job.resume()
    except frazil.IncompleteRunError:
        job.assert_untouched()
        forged.unlink(missing_ok=True)  # it is removed where reading back shows that it lies
        job.resume()
    job.assert_published()


def test_no_flipped_byte_under_a_name_made_for_it_stops_the_gathering(job: Conversion) -> None:
    chance = random.Random(0)  # noqa: S311 - as above
    path = files(job)[2]
    good = path.read_bytes()
    path.unlink()
    run = open_run(job.directory)
    refused = 0
    for _ in range(150):
        data = bytearray(good)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        forged = named(path, data)
        forged.write_bytes(data)
        gathering = run.gathering()
        gathering.read(job.directory, job.directory.list_receipts())
        refused += bool(gathering.missing)
        forged.unlink()
    assert refused > 75


def of_another_run(receipt: Receipt) -> Receipt:
    return replace(receipt, run_id="another")


def of_another_plan(receipt: Receipt) -> Receipt:
    return replace(receipt, plan_hash="0" * len(receipt.plan_hash))


def of_another_base(receipt: Receipt) -> Receipt:
    return replace(receipt, bases=("1CECHNKREP0F1RSTCMT0",))


def of_a_region_too_many(receipt: Receipt) -> Receipt:
    return replace(receipt, regions=(*receipt.regions, receipt.regions[0]))


def of_a_region_too_few(receipt: Receipt) -> Receipt:
    return replace(receipt, regions=receipt.regions[1:])


def of_no_fork_that_can_be_read(receipt: Receipt) -> Receipt:
    return replace(receipt, forks=(receipt.forks[0][:-3],))


@pytest.mark.parametrize(
    "change",
    [
        of_another_run,
        of_another_plan,
        of_another_base,
        of_a_region_too_many,
        of_a_region_too_few,
        of_no_fork_that_can_be_read,
    ],
)
def test_a_receipt_of_something_else_is_refused_and_its_regions_are_written_again(
    job: Conversion, change: Callable[[Receipt], Receipt]
) -> None:
    written = chunks(job)
    path = files(job)[1]
    receipt = job.receipts()[f"receipts/{path.name}"]
    path.unlink()
    job.directory.put_receipt(change(receipt))
    job.resume()
    assert chunks(job) == written + REGIONS // TASKS
    job.assert_published()


def test_receipts_that_another_run_of_the_same_plan_left_are_refused(job: Conversion, tmp_path: Path) -> None:
    other = conversion(job.noise, str(tmp_path / "other"), tmp_path, sources=list_sources(job), tasks=TASKS)
    interrupted(other)
    written = chunks(job)
    for path in files(job):
        path.unlink()
    for path in files(other):
        shutil.copy(path, Path(job.directory.location.url, "receipts"))
    job.resume()
    assert chunks(job) == written + REGIONS
    job.assert_published()


def test_files_that_are_no_receipts_are_left_out(job: Conversion) -> None:
    written = chunks(job)
    folder = files(job)[0].parent
    for name, data in {
        "notes.txt": b"mine",
        "000000-": b"",
        "000000-" + "g" * 32: b"text",
        "000000-" + "0" * 32: b"\x81\xa6format\x02",
        "999999-" + "1" * 32: bytes(1000),
        "000001-" + "a" * 32 + "#1": b"half of one, of a killed writer",
    }.items():
        (folder / name).write_bytes(data)
    (folder / "000002").mkdir()
    job.resume()
    assert chunks(job) == written
    job.assert_published()


def test_every_receipt_gone_costs_all_the_work_and_nothing_else(job: Conversion) -> None:
    written = chunks(job)
    for path in files(job):
        path.unlink()
    job.resume()
    assert chunks(job) == written + REGIONS
    job.assert_published()


@pytest.mark.parametrize("what", ["an index beyond all", "a reference that is none"])
def test_a_forged_fork_costs_its_receipt_and_no_more(job: Conversion, what: str) -> None:
    name, found = next(iter(job.receipts().items()))
    frame = msgspec.msgpack.decode(read_fork(found.forks[0]).session, type=list[msgspec.Raw])
    ((kind, parts),) = msgspec.msgpack.decode(frame[8], type=dict[str, list[msgspec.Raw]]).items()
    nodes = msgspec.msgpack.decode(parts[4], type=dict[tuple[bytes, tuple[()]], dict[tuple[int, ...], msgspec.Raw]])
    for references in nodes.values():
        index, reference = references.popitem()
        if what == "an index beyond all":
            references[(2**63, *index[1:])] = reference
        else:
            references[index] = msgspec.Raw(msgspec.msgpack.encode({"Nothing": []}))
    parts[4] = msgspec.Raw(msgspec.msgpack.encode(nodes))
    frame[8] = msgspec.Raw(msgspec.msgpack.encode({kind: parts}))
    data = forged(msgspec.msgpack.encode(frame))
    (Path(job.directory.location.url) / name).unlink()
    job.directory.put_receipt(replace(found, forks=(data,)))
    job.resume()
    job.assert_published()


def forged(session: bytes) -> bytes:
    """The pickle of a fork with another state, which Icechunk itself would not make."""
    fork = pickle.dumps({"_session": session}, protocol=2)[2:-1]
    return b"\x80\x02cicechunk.session\nForkSession\n)\x81" + fork + b"b."
