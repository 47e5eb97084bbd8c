"""Reading back: what was committed on the private branch against what the receipts say."""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from frazil_functions.errors import InvalidInputError, VerificationError
from frazil_functions.footprint import held_nbytes
from frazil_functions.plan import Plan, sources_of
from frazil_functions.records import Verify
from frazil_functions.regions import Region
from frazil_functions.tasks import RegionReceipt
from frazil_functions.writing.verifying import Referred, RegionCheck, VerifyTask, verify_task

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


def read_back(fork: bytes, plan: Plan, written: Sequence[RegionReceipt], reading: Reading, seed: str) -> int:
    """Read regions of the committed snapshot and compare their checksums; return how many.

    Regions that refer to files are held against these.

    Raises
    ------
    VerificationError
        Naming the first region that differs.
    """
    if reading.mode == "none" or not written:
        return 0
    if plan.layouts:  # what is read of references is a few chunks of each region
        written = [replace(one, nbytes=held_nbytes(plan.template, one.region, plan.referring)) for one in written]
    some = sample(written, seed) if reading.mode == "sample" else list(written)
    parts = [tuple(some)] if reading.mode == "sample" else _split(some, reading.workers)
    tasks = [_task(fork, plan, [one.region for one in part], every=reading.mode == "full") for part in parts]
    checks = list(read_here(tasks) if reading.mode == "sample" else reading.read(tasks))
    # What a function says it was to read counts for nothing; what was written is known here.
    wanted = {one.region: 0 if one.region.array in plan.layouts else one.crc32c for one in some}
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


def _task(fork: bytes, plan: Plan, regions: Sequence[Region], *, every: bool) -> VerifyTask:
    template, referred = plan.template, None
    names = tuple(name for name in plan.layouts if any(region.array == name for region in regions))
    if names:
        spans = [(source.start, source.stop) for source in plan.sources]
        inner = [region.within(template.extents) for region in regions]
        first, behind = sources_of(inner, template.append_dim, spans)
        sources = plan.sources[first:behind]
        referred = Referred(names, sources, template.append_dim, template.extents, every=every)
    return VerifyTask(plan.target.group, fork, tuple(regions), referred, stored=plan.materializes)


def _split(written: Sequence[RegionReceipt], count: int) -> list[tuple[RegionReceipt, ...]]:
    per = -(-len(written) // max(1, min(count, len(written))))
    return [tuple(written[at : at + per]) for at in range(0, len(written), per)]
