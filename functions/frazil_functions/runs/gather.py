"""Gathering: merge what is admitted, as it arrives; the first receipt of a region wins."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import icechunk

from frazil_functions.errors import ReceiptError
from frazil_functions.forks import ForkState
from frazil_functions.logs import redacted
from frazil_functions.records import Work
from frazil_functions.regions import Region
from frazil_functions.rundir import RunDirectory
from frazil_functions.runs.admit import Expected, admit, check_merged
from frazil_functions.runs.publish import PrivateBranch
from frazil_functions.tasks import Receipt, RegionReceipt
from frazil_functions.text import escaped

logger = logging.getLogger(__name__)

_FAULTS: Final = 10
"""How many faults are kept of a run, and how long each may be."""
_FAULT_LENGTH: Final = 500


def added_up(work: Work, receipt: Receipt) -> Work:
    """What functions have done, with what one more receipt says."""
    return replace(
        work,
        receipts=work.receipts + 1,
        seconds=work.seconds + receipt.seconds,
        read_seconds=work.read_seconds + receipt.read_seconds,
        write_seconds=work.write_seconds + receipt.write_seconds,
        peak_memory_bytes=max(work.peak_memory_bytes, receipt.peak_memory_bytes),
    )


PART_BYTES: Final = 32 << 20
"""Bytes of forks that are merged before a part is committed, where a run is committed in parts: some 400,000 references
into files. To commit as many took a client 0.2 GB beside what it held."""


@dataclass(slots=True)
class Sink:
    """Where the forks of one repository are merged.

    Attributes
    ----------
    session
        A session of the snapshot that they were made from; or, with `onto`, of another one.
    onto, nodes
        The state of a clean fork of that other one, and what every array's node is called there.
    private
        The branch that the session is of.
    parted
        Whether what is merged is committed to it part by part, for all of it together would not fit into memory. No
        other driver has such a branch.
    regions, nbytes
        What was merged since the last part, and the size of its forks in bytes.
    """

    session: icechunk.Session
    onto: ForkState | None = None
    nodes: Mapping[bytes, bytes] = field(default_factory=dict)
    private: PrivateBranch | None = None
    parted: bool = False
    regions: set[Region] = field(default_factory=set)
    nbytes: int = 0

    def fork(self, state: ForkState) -> icechunk.ForkSession:
        """What an admitted fork is merged as.

        Raises
        ------
        ReceiptError
            If Icechunk cannot read it.
        """
        placed = state if self.onto is None else state.placed(self.onto, self.nodes)
        return placed.session_object()

    def merge(self, fork: icechunk.ForkSession, regions: Iterable[Region], nbytes: int) -> None:
        """Merge a fork that holds the chunks of some regions."""
        self.session.merge(fork)
        self.regions.update(regions)
        self.nbytes += nbytes

    def commit_part(self, check: Callable[[icechunk.Session, frozenset[Region]], None]) -> None:
        """Commit what was merged if it is much, into the one commit that will be published.

        Parameters
        ----------
        check
            Raises if the session has changed anything but the chunks of some regions, or not all of them.
        """
        if not self.parted or self.private is None or self.nbytes < PART_BYTES:
            return
        check(self.session, frozenset(self.regions))
        self.private.commit_data(self.session, "frazil: a part", {})
        self.session = self.private.repo.writable_session(self.private.name)
        self.regions.clear()
        self.nbytes = 0


@dataclass(slots=True)
class Gathering:
    """What has been admitted so far.

    Attributes
    ----------
    expected
        What receipts must agree with.
    sinks
        Where their forks are merged, by the repository's position in the run.
    written
        The receipt of each region that was admitted first.
    refused
        Why receipts were not admitted, by name.
    seen
        Names of the receipts that were looked at.
    names
        The receipt that each region was taken from first, by name.
    nbytes
        The size of the values of what is written.
    work
        What functions did for that.
    """

    expected: Expected
    sinks: Mapping[int, Sink]
    written: dict[Region, RegionReceipt] = field(default_factory=dict)
    refused: dict[str, ReceiptError] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    names: dict[Region, str] = field(default_factory=dict)
    nbytes: int = 0
    work: Work = field(default_factory=Work)

    @property
    def missing(self) -> list[Region]:
        """Regions of the plan that no admitted receipt holds, in the plan's spelling, sorted."""
        return sorted(self.expected.regions - self.written.keys(), key=lambda region: (region.array, region.ranges))

    @property
    def missing_count(self) -> int:
        """How many regions no admitted receipt holds."""
        return len(self.expected.regions) - len(self.written)

    def read(self, directory: RunDirectory, names: Iterable[str]) -> list[Receipt]:
        """Admit receipts of the run directory that were not looked at before; those that added regions.

        One that is damaged or does not belong here is refused, and what it names stays missing.

        Raises
        ------
        ReceiptError
            If two receipts disagree about a region's values.
        BackendError
            If the directory cannot be read.
        """
        new = sorted(set(names) - self.seen)
        added = []
        for name, receipt in directory.read_receipts(new):
            self.seen.add(name)
            try:
                if isinstance(receipt, ReceiptError):
                    raise receipt
                forks = self._forks(receipt, admit(receipt, self.expected))
            except ReceiptError as error:
                logger.warning("the receipt %s is refused: %s", name, error)
                self.refused[name] = error
                self.work = replace(self.work, refused=self.work.refused + 1)
                self._keep_fault(error)
                continue
            self.work = added_up(self.work, receipt)
            if self._merge(receipt, forks):
                added.append(receipt)
                for written in receipt.regions:
                    self.names.setdefault(written.region, name)
        return added

    def failed(self, error: Exception) -> None:
        """Keep in mind that a call failed."""
        self.work = replace(self.work, failures=self.work.failures + 1)
        self._keep_fault(error)

    def _keep_fault(self, error: Exception) -> None:
        text = escaped(redacted(" ".join(str(error).split()))[:_FAULT_LENGTH])
        self.work = replace(self.work, faults=(*self.work.faults, text)[-_FAULTS:])

    def _forks(self, receipt: Receipt, states: tuple[ForkState, ...]) -> list[tuple[Sink, icechunk.ForkSession]]:
        """What is to be merged of a receipt, less the regions that are held already.

        Every fork is made before one is merged, for a merge cannot be taken back; those that nobody merges, too, so
        that what Icechunk cannot read is refused by all.
        """
        held = [written.region for written in receipt.regions if written.region in self.written]
        found = []
        for at, state in enumerate(states):
            sink = self.sinks.get(at)
            if sink is None or len(held) == len(receipt.regions):
                state.session_object()
            else:
                found.append((sink, sink.fork(state.without(self._chunks(at, held)) if held else state)))
        return found

    def _merge(self, receipt: Receipt, forks: Iterable[tuple[Sink, icechunk.ForkSession]]) -> int:
        for written in receipt.regions:
            before = self.written.get(written.region)
            if before is not None and before.crc32c != written.crc32c:
                raise ReceiptError(
                    f"two functions wrote {written.region} and disagree about its values (checksums "
                    f"{before.crc32c:08x} and {written.crc32c:08x}); the source changed while it was read, or reading "
                    "it does not give the same twice. Plan again"
                )
        new = [written for written in receipt.regions if written.region not in self.written]
        for sink, fork in forks:
            sink.merge(fork, (written.region for written in new), sum(map(len, receipt.forks)))
            sink.commit_part(self._check)
        self.written.update((written.region, written) for written in new)
        self.nbytes += sum(written.nbytes for written in new)
        return len(new)

    def _check(self, session: icechunk.Session, regions: frozenset[Region]) -> None:
        check_merged(session, self.expected.group, list(self.expected.grids.values()), regions)

    def _chunks(self, at: int, regions: Iterable[Region]) -> dict[bytes, set[tuple[int, ...]]]:
        """The chunks of some regions, by node."""
        nodes = {name: node for node, name in self.expected.forks[at].nodes.items()}
        found: dict[bytes, set[tuple[int, ...]]] = {}
        for region in regions:
            found.setdefault(nodes[region.array], set()).update(self.expected.grids[region.array].units(region))
        return found
