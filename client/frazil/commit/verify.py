"""Reading back: what was committed on the private branch against what the receipts say."""

import random
from collections.abc import Sequence
from typing import Final, Literal

from frazil.execution.executor import Executor
from frazil.execution.results import results
from frazil_functions.errors import VerificationError
from frazil_functions.handler import verify as verify_call
from frazil_functions.tasks import RegionReceipt
from frazil_functions.verifying import VerifyTask, load_checks, verify_task

type Verify = Literal["none", "sample", "full"]
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


def read_back(
    executor: Executor,
    fork: bytes,
    group: str,
    written: Sequence[RegionReceipt],
    mode: Verify,
    seed: str,
) -> int:
    """Read regions of the committed snapshot and compare their checksums; return how many.

    A sample is read here; all of them are read by functions.

    Raises
    ------
    VerificationError
        Naming the first region that differs.
    """
    if mode == "none" or not written:
        return 0
    if mode == "sample":
        some = sample(written, seed)
        checks = verify_task(VerifyTask(group, fork, tuple(one.region for one in some)))
    else:
        parts = _split(written, executor.workers)
        tasks = [VerifyTask(group, fork, tuple(one.region for one in part)) for part in parts]
        checks = [check for _, value in results(executor, verify_call, tasks) for check in load_checks(value)]
        some = list(written)
    # What a function says it was to read counts for nothing; what was written is known here.
    wanted = {one.region: one.crc32c for one in some}
    if len(checks) != len(wanted) or {check.region for check in checks} != wanted.keys():
        raise VerificationError("functions did not read every region back; nothing was published")
    for check in checks:
        if check.crc32c != wanted[check.region]:
            raise VerificationError(
                f"{check.region} reads back with the checksum {check.crc32c:08x}, and {wanted[check.region]:08x} was "
                "written; nothing was published. The storage or the codec lost data."
            )
    return len(checks)


def _split(written: Sequence[RegionReceipt], count: int) -> list[tuple[RegionReceipt, ...]]:
    per = -(-len(written) // max(1, min(count, len(written))))
    return [tuple(written[at : at + per]) for at in range(0, len(written), per)]
