import pickle

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frazil_functions.errors import ReceiptError
from frazil_functions.regions import Region
from frazil_functions.tasks import WIRE_FORMAT, Receipt, RegionReceipt, dump_receipts, load_receipts

RECEIPT = Receipt(
    run_id="run",
    plan_hash="hash",
    base="BASE",
    number=3,
    regions=(RegionReceipt(Region("tas", (("time", 0, 4),)), 1, 16, 7), RegionReceipt(Region("crs", ()), 1, 4, 8)),
    fork=b"\x80fork",
    started=1.5,
    seconds=2.0,
    read_seconds=0.5,
    write_seconds=1.0,
    peak_memory_bytes=1 << 30,
    host="host",
    versions={"zarr": "3"},
)


def test_receipts_come_back_as_they_went() -> None:
    assert load_receipts(dump_receipts([RECEIPT, RECEIPT])) == (RECEIPT, RECEIPT)
    assert load_receipts(dump_receipts([])) == ()


@given(st.data())
def test_damaged_receipts_are_refused_or_are_receipts(data: st.DataObject) -> None:
    wire = dump_receipts([RECEIPT])
    at = data.draw(st.integers(0, len(wire) - 1))
    flipped = wire[:at] + bytes([wire[at] ^ data.draw(st.integers(1, 255))]) + wire[at + 1 :]
    for damaged in (wire[:at], flipped):
        try:
            assert all(isinstance(receipt, Receipt) for receipt in load_receipts(damaged))
        except ReceiptError:
            continue


def test_a_receipt_of_a_region_that_is_none_is_refused() -> None:
    wire = dump_receipts([RECEIPT]).replace(b"\xa4time\x00\x04", b"\xa4time\x04\x04")
    with pytest.raises(ReceiptError, match="empty or negative"):
        load_receipts(wire)


def test_receipts_of_another_format_are_refused() -> None:
    wire = msgspec.msgpack.encode({"format": WIRE_FORMAT + 1, "receipts": []})
    with pytest.raises(ReceiptError, match="same version of frazil"):
        load_receipts(wire)


@pytest.mark.parametrize("answer", [None, "text", {"receipts": []}, RECEIPT, bytearray(b"x")])
def test_an_answer_that_is_no_bytes_is_refused(answer: object) -> None:
    with pytest.raises(ReceiptError, match="instead of the bytes"):
        load_receipts(answer)  # type: ignore[arg-type]


def test_a_pickle_in_place_of_receipts_is_refused() -> None:
    with pytest.raises(ReceiptError, match="cannot be read"):
        load_receipts(pickle.dumps(RECEIPT))


def test_deeply_nested_bytes_are_refused() -> None:
    with pytest.raises(ReceiptError):
        load_receipts(b"\x81\xa1x" * 100_000)
