"""Gathering: merge what is admitted, as it arrives; the first receipt of a region wins."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import icechunk

from frazil_functions.errors import ReceiptError
from frazil_functions.forks import ForkState
from frazil_functions.regions import Region
from frazil_functions.rundir import RunDirectory
from frazil_functions.runs.admit import Expected, admit
from frazil_functions.tasks import Receipt, RegionReceipt

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sink:
    """Where the forks of one repository are merged.

    Attributes
    ----------
    session
        A session of the snapshot that they were made from; or, with `onto`, of another one.
    onto, nodes
        The state of a clean fork of that other one, and what every array's node is called there.
    """

    session: icechunk.Session
    onto: ForkState | None = None
    nodes: Mapping[bytes, bytes] = field(default_factory=dict)

    def fork(self, state: ForkState) -> icechunk.ForkSession:
        """What an admitted fork is merged as.

        Raises
        ------
        ReceiptError
            If Icechunk cannot read it.
        """
        placed = state if self.onto is None else state.placed(self.onto, self.nodes)
        return placed.session_object()


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
    """

    expected: Expected
    sinks: Mapping[int, Sink]
    written: dict[Region, RegionReceipt] = field(default_factory=dict)
    refused: dict[str, ReceiptError] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    names: dict[Region, str] = field(default_factory=dict)
    nbytes: int = 0

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
                continue
            if self._merge(receipt, forks):
                added.append(receipt)
                for written in receipt.regions:
                    self.names.setdefault(written.region, name)
        return added

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
        for sink, fork in forks:
            sink.session.merge(fork)
        new = [written for written in receipt.regions if written.region not in self.written]
        self.written.update((written.region, written) for written in new)
        self.nbytes += sum(written.nbytes for written in new)
        return len(new)

    def _chunks(self, at: int, regions: Iterable[Region]) -> dict[bytes, set[tuple[int, ...]]]:
        """The chunks of some regions, by node."""
        nodes = {name: node for node, name in self.expected.forks[at].nodes.items()}
        found: dict[bytes, set[tuple[int, ...]]] = {}
        for region in regions:
            found.setdefault(nodes[region.array], set()).update(self.expected.grids[region.array].units(region))
        return found
