"""Reading back: what was committed on the private branch against what the receipts say."""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from frazil_functions.errors import InvalidInputError, VerificationError
from frazil_functions.records import Verify
from frazil_functions.tasks import RegionReceipt
from frazil_functions.writing.verifying import RegionCheck, VerifyTask, verify_task

VERIFY: Final[tuple[Verify, ...]] = ("none", "sample", "full")

SAMPLE_REGIONS: Final = 8
SAMPLE_BYTES: Final = 128 << 20


def sample(written: Sequence[RegionReceipt], seed: str) -> list[RegionReceipt]:
    """A few regions, the same for the same run; at least one, at most `SAMPLE_BYTES` beyond it."""
    order = list(written)
    random.Random(seed).shuffle(order)  # noqa: S311 - which regions are read is no secret
    taken: list[RegionReceipt] = []
    nbytes = 0
    for one in order[:SAMPLE_REGIONS]:
        if taken and nbytes + one.nbytes > SAMPLE_BYTES:
            break
        taken.append(one)
        nbytes += one.nbytes
    return taken


type ReadBack = Callable[[Sequence[VerifyTask]], Iterable[RegionCheck]]
"""Reads the regions of tasks back, here or in functions, and gives their checksums."""


def read_here(tasks: Sequence[VerifyTask]) -> Iterable[RegionCheck]:
    """Read them back in this process, one after the other."""
    return (check for task in tasks for check in verify_task(task))


@dataclass(frozen=True, slots=True)
class Reading:
    """How much is read back, and by whom.

    Attributes
    ----------
    mode
        Nothing, a sample, or everything.
    read
        Who reads everything; a sample is read here.
    workers
        How many tasks to make of everything.
    """

    mode: Verify = "sample"
    read: ReadBack = read_here
    workers: int = 1

    def __post_init__(self) -> None:
        if self.mode not in VERIFY:
            raise InvalidInputError(f"verify is {self.mode!r}; choose from {', '.join(VERIFY)}")


def read_back(fork: bytes, group: str, written: Sequence[RegionReceipt], reading: Reading, seed: str) -> int:
    """Read regions of the committed snapshot and compare their checksums; return how many.

    Raises
    ------
    VerificationError
        Naming the first region that differs.
    """
    if reading.mode == "none" or not written:
        return 0
    some = sample(written, seed) if reading.mode == "sample" else list(written)
    parts = [tuple(some)] if reading.mode == "sample" else _split(some, reading.workers)
    tasks = [VerifyTask(group, fork, tuple(one.region for one in part)) for part in parts]
    checks = list(read_here(tasks) if reading.mode == "sample" else reading.read(tasks))
    # What a function says it was to read counts for nothing; what was written is known here.
    wanted = {one.region: one.crc32c for one in some}
    if len(checks) != len(wanted) or {check.region for check in checks} != wanted.keys():
        raise VerificationError("functions did not read every region back; nothing was published")
    wrong = [check for check in checks if check.problem or check.crc32c != wanted[check.region]]
    if wrong:
        check = wrong[0]
        what = (
            f"cannot be read back: {check.problem}"
            if check.problem
            else f"reads back with the checksum {check.crc32c:08x}, and {wanted[check.region]:08x} was written"
        )
        more = f" (and {len(wrong) - 1} more of {len(checks)})" if len(wrong) > 1 else ""
        raise VerificationError(
            f"{check.region} {what}{more}; nothing was published. The storage or the codec lost data, or a receipt "
            "lies. The receipts are removed: resuming the run writes these regions again",
            [check.region for check in wrong],
        )
    return len(checks)


def _split(written: Sequence[RegionReceipt], count: int) -> list[tuple[RegionReceipt, ...]]:
    per = -(-len(written) // max(1, min(count, len(written))))
    return [tuple(written[at : at + per]) for at in range(0, len(written), per)]
