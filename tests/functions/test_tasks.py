import pickle
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frazil_functions.errors import ReceiptError
from frazil_functions.locations import Location
from frazil_functions.logs import FunctionLog, LogLine
from frazil_functions.regions import Region
from frazil_functions.tasks import (
    WIRE_FORMAT,
    Receipt,
    RegionReceipt,
    WriteTask,
    Written,
    dump_receipt,
    dump_written,
    load_receipt,
    load_written,
)

RECEIPT = Receipt(
    run_id="run",
    plan_hash="hash",
    bases=("BASE",),
    number=3,
    regions=(RegionReceipt(Region("tas", (("time", 0, 4),)), 1, 16, 7), RegionReceipt(Region("crs", ()), 1, 4, 8)),
    forks=(b"\x80fork",),
    started=1.5,
    seconds=2.0,
    read_seconds=0.5,
    write_seconds=1.0,
    peak_memory_bytes=1 << 30,
    host="host",
    versions={"zarr": "3"},
)


WRITTEN = Written(3, ("receipts/000003-0123",), 2, 20, FunctionLog((LogLine(1.5, 20, "frazil_functions", "hello"),), 2))


def test_receipts_come_back_as_they_went() -> None:
    assert load_receipt(dump_receipt(RECEIPT)) == RECEIPT
    assert load_written(dump_written(WRITTEN)) == WRITTEN


@given(st.data())
def test_damaged_receipts_are_refused_or_are_receipts(data: st.DataObject) -> None:
    wire = dump_receipt(RECEIPT)
    at = data.draw(st.integers(0, len(wire) - 1))
    flipped = wire[:at] + bytes([wire[at] ^ data.draw(st.integers(1, 255))]) + wire[at + 1 :]
    for damaged in (wire[:at], flipped):
        try:
            assert isinstance(load_receipt(damaged), Receipt)
        except ReceiptError:
            continue


def test_a_receipt_of_a_region_that_is_none_is_refused() -> None:
    wire = dump_receipt(RECEIPT).replace(b"\xa4time\x00\x04", b"\xa4time\x04\x04")
    with pytest.raises(ReceiptError, match="empty or negative"):
        load_receipt(wire)


def test_a_receipt_that_lacks_the_fork_of_a_repository_is_refused() -> None:
    wire = dump_receipt(RECEIPT).replace(b"\xa5forks\x91\xc4\x05\x80fork", b"\xa5forks\x90")
    with pytest.raises(ReceiptError, match="0 forks and 1 bases"):
        load_receipt(wire)
    with pytest.raises(ValueError, match="1 forks and 2 bases"):
        WriteTask("run", "hash", 0, "", (b"",), ("A", "B"), None, (), (), 1, Location("/runs/run"))


@pytest.mark.parametrize("load", [load_receipt, load_written])
def test_what_has_another_format_is_refused(load: Callable[[bytes], object]) -> None:
    for format_ in (WIRE_FORMAT - 1, WIRE_FORMAT + 1):
        with pytest.raises(ReceiptError, match="same version of frazil"):
            load(msgspec.msgpack.encode({"format": format_, "receipts": []}))


def test_a_receipt_is_not_taken_for_what_a_task_returns() -> None:
    with pytest.raises(ReceiptError, match="what a function returned cannot be read"):
        load_written(dump_receipt(RECEIPT))
    with pytest.raises(ReceiptError, match="a receipt cannot be read"):
        load_receipt(dump_written(WRITTEN))


@pytest.mark.parametrize("answer", [None, "text", {"receipts": []}, RECEIPT, bytearray(b"x")])
@pytest.mark.parametrize("load", [load_receipt, load_written])
def test_an_answer_that_is_no_bytes_is_refused(load: Callable[[object], object], answer: object) -> None:
    with pytest.raises(ReceiptError, match="instead of bytes"):
        load(answer)


@pytest.mark.parametrize("load", [load_receipt, load_written])
def test_a_pickle_is_refused(load: Callable[[bytes], object]) -> None:
    with pytest.raises(ReceiptError, match="cannot be read"):
        load(pickle.dumps(RECEIPT))


@pytest.mark.parametrize("load", [load_receipt, load_written])
def test_deeply_nested_bytes_are_refused(load: Callable[[bytes], object]) -> None:
    with pytest.raises(ReceiptError):
        load(b"\x81\xa1x" * 100_000)
