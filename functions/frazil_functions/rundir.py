"""The run directory: a place in object storage, or on disk, where one run keeps what it must not forget.

Every object is put there once, whole, and never changed; whoever is first is right. What lies there
is data, carries no secret, and is read as data: nothing but the types named here can come out of it.

On a local disk an object outlives the death of any process. It need not outlive a power failure,
no more than the chunks that Icechunk writes beside it.
"""

import hashlib
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Final

import obstore
from obstore.exceptions import BaseError

from frazil_functions.errors import BackendError, InvalidInputError, ReceiptError
from frazil_functions.immutable import ImmutableObjects, refused
from frazil_functions.locations import Location
from frazil_functions.records import RunOutcome, RunRecord, RunTarget, Wishes, dump_record, load_record
from frazil_functions.storage import RUN_PATIENCE, Patience, open_store
from frazil_functions.tasks import Receipt, dump_receipt, load_receipt

__all__ = ["RunDirectory", "RunOutcome", "RunRecord", "RunTarget", "check_outside", "list_runs"]

_PLAN: Final = "plan.json"
_WISHES: Final = "wishes.json"
_RECORD: Final = "run.json"
_OUTCOME: Final = "outcome.json"
_RECEIPTS: Final = "receipts"
_RECEIPT: Final = re.compile(r"receipts/(\d{6,})-([0-9a-f]{32})")
_WORK: Final = re.compile(r"fork-[0-9a-f]{16}|receipts/.+|clock")
_STORY: Final = r"(?:plan|wishes|run|outcome)\.json"
_OURS: Final = re.compile(rf"{_STORY}|{_WORK.pattern}")
_STAGED: Final = re.compile(rf"({_STORY}|fork-[0-9a-f]{{16}}|\d{{6,}}-[0-9a-f]{{32}})#\d+")
"""What a writer that was killed leaves on a local disk, which no list shows."""
_GETS: Final = 16
"""How many receipts are fetched, and held, at once."""


class RunDirectory:
    """What one run keeps, at a location. Opening it makes nothing.

    Every method raises BackendError if the storage does not answer, or refuses.

    Parameters
    ----------
    location
        Where it is.
    patience
        How long its storage is waited for.
    """

    def __init__(self, location: Location, patience: Patience = RUN_PATIENCE) -> None:
        self.location = location
        self._objects = ImmutableObjects(location, patience)

    @property
    def run_id(self) -> str:
        """The last part of the location."""
        return self.location.url.rstrip("/").rpartition("/")[2]

    def put_plan(self, data: bytes) -> None:
        """Keep the plan.

        Raises
        ------
        InvalidInputError
            If another plan lies there.
        """
        if self._objects.put(_PLAN, data) != data:
            raise InvalidInputError(
                f"another plan lies under the run id {self.run_id!r} ({self.location}/{_PLAN}); use another run id"
            )

    def put_wishes(self, wishes: Wishes) -> Wishes:
        """Keep what is asked for beside the plan; returns what stands, which is that of whoever was first."""
        return load_record(self._objects.put(_WISHES, dump_record(wishes)), Wishes, f"{self.location}/{_WISHES}")

    def wishes(self) -> Wishes | None:
        """What is asked for beside the plan; None if nothing was; raises as `record` does."""
        data = self._objects.get(_WISHES)
        return None if data is None else load_record(data, Wishes, f"{self.location}/{_WISHES}")

    def plan(self) -> bytes | None:
        """The plan; None if there is none."""
        return self._objects.get(_PLAN)

    def put_fork(self, data: bytes) -> str:
        """Keep a clean fork; returns the name that its content gives it."""
        name = _fork_name(data)
        self._put_same(name, data)
        return name

    def fork(self, name: str) -> bytes:
        """A clean fork by its name.

        Raises
        ------
        BackendError
            If it is not there.
        ReceiptError
            If its content is not what its name says.
        """
        data = self._objects.get(name)
        if data is None:
            raise BackendError(f"{self.location}/{name} is gone, and the run needs it; start another run")
        if _fork_name(data) != name:
            raise ReceiptError(f"{self.location}/{name} does not hold what its name says; it was damaged or replaced")
        return data

    def put_record(self, record: RunRecord) -> RunRecord:
        """Keep the record; returns the one that stands, which is that of whoever was first."""
        return load_record(self._objects.put(_RECORD, dump_record(record)), RunRecord, f"{self.location}/{_RECORD}")

    def record(self) -> RunRecord | None:
        """The record; None if there is none.

        Raises
        ------
        InvalidInputError
            If it is of another format, or is no record.
        """
        data = self._objects.get(_RECORD)
        return None if data is None else load_record(data, RunRecord, f"{self.location}/{_RECORD}")

    def put_outcome(self, outcome: RunOutcome) -> RunOutcome:
        """Keep the outcome; returns the one that stands, which is that of whoever was first."""
        return load_record(self._objects.put(_OUTCOME, dump_record(outcome)), RunOutcome, f"{self.location}/{_OUTCOME}")

    def outcome(self) -> RunOutcome | None:
        """The outcome; None if there is none; raises as `record` does."""
        data = self._objects.get(_OUTCOME)
        return None if data is None else load_record(data, RunOutcome, f"{self.location}/{_OUTCOME}")

    def put_receipt(self, receipt: Receipt) -> str:
        """Keep a receipt; returns its name, which its task and its content give it."""
        data = dump_receipt(receipt)
        name = f"{_RECEIPTS}/{receipt.number:06d}-{_digest(data)[:32]}"
        self._put_same(name, data)
        return name

    def list_receipts(self, task: int | None = None) -> list[str]:
        """The names of every receipt, or of one task's, sorted."""
        # The offset excludes itself, and "." is what follows "-": between the two lies what is the task's.
        first, behind = (None, "~") if task is None else (f"{_RECEIPTS}/{task:06d}-", f"{_RECEIPTS}/{task:06d}.")
        return sorted(name for name in self._objects.names(_RECEIPTS, first, behind) if _RECEIPT.fullmatch(name))

    def read_receipts(self, names: Sequence[str]) -> Iterator[tuple[str, Receipt | ReceiptError]]:
        """Receipts by their names, in that order; at most sixteen are held at once.

        One that is damaged, or gone, or is not what its name says, comes as the error that tells so.
        """
        with ThreadPoolExecutor(_GETS, "frazil-receipts") as pool:
            rest = iter(names)
            fetched: deque[tuple[str, Future[Receipt | ReceiptError]]] = deque(
                (name, pool.submit(self._receipt, name)) for name in islice(rest, _GETS)
            )
            try:
                while fetched:
                    name, future = fetched.popleft()
                    found = future.result()
                    del future
                    for following in islice(rest, 1):
                        fetched.append((following, pool.submit(self._receipt, following)))
                    yield name, found
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def remove_receipts(self, names: Iterable[str]) -> None:
        """Delete receipts that turned out to be wrong; what they name is missing from then on."""
        self._objects.remove([name for name in names if _RECEIPT.fullmatch(name)])

    def remove_work(self) -> None:
        """Delete receipts and forks, which a published run does not need any more."""
        self._objects.remove([name for name in self._objects.modified() if _WORK.fullmatch(name)])
        self._objects.remove_folder(_RECEIPTS, _STAGED)

    def modified(self) -> dict[str, float]:
        """What the run keeps, and when each was put: seconds since 1970, by the storage's clock."""
        return {name: put for name, put in self._objects.modified().items() if _OURS.fullmatch(name)}

    def remove(self) -> None:
        """Delete everything that the run keeps; a local folder goes too, if nothing else is in it.

        The outcome goes last, so that a run that has ended does not look as if it went on.
        """
        self.remove_work()
        names = self._objects.modified()
        for name in (_WISHES, _PLAN, _RECORD, _OUTCOME):
            self._objects.remove([name] if name in names else [])
        self._objects.remove_folder("", _STAGED)

    def _receipt(self, name: str) -> Receipt | ReceiptError:
        known = _RECEIPT.fullmatch(name)
        if known is None:
            return ReceiptError(f"{self.location}/{name} is not the name of a receipt")
        data = self._objects.get(name)
        if data is None:
            return ReceiptError(f"the receipt {self.location}/{name} is gone")
        if _digest(data)[:32] != known[2]:
            return ReceiptError(
                f"the receipt {self.location}/{name} does not hold what its name says; it was damaged or replaced"
            )
        try:
            receipt = load_receipt(data)
        except ReceiptError as error:
            return ReceiptError(f"{self.location}/{name}: {error}")
        if receipt.number != int(known[1]):
            return ReceiptError(f"the receipt {self.location}/{name} is of task {receipt.number}")
        return receipt

    def _put_same(self, name: str, data: bytes) -> None:
        if self._objects.put(name, data) != data:
            raise BackendError(
                f"{self.location}/{name} holds something else than its name says: it was damaged or replaced; delete it"
            )


def list_runs(parent: Location) -> list[str]:
    """The run ids directly below a location, sorted; files that lie beside them are no runs.

    Raises
    ------
    BackendError
        If it cannot be listed.
    """
    try:
        if parent.path is not None:
            return sorted(one.name for one in parent.path.iterdir() if one.is_dir()) if parent.path.is_dir() else []
        found = obstore.list_with_delimiter(open_store(parent))["common_prefixes"]
    except (BaseError, OSError) as error:
        raise refused(str(parent), "listed", error) from error
    return sorted(prefix.rstrip("/").rpartition("/")[2] for prefix in found)


def check_outside(directory: Location, repository: Location) -> None:
    """Refuse a run directory within a repository, whose garbage collection would own it, or around one.

    Raises
    ------
    InvalidInputError
        Naming both.
    """
    if directory.endpoint_url and repository.endpoint_url and directory.endpoint_url != repository.endpoint_url:
        return
    ours, theirs = _parts(directory), _parts(repository)
    shared = min(len(ours), len(theirs))
    if ours[:shared] == theirs[:shared]:
        how = "is the repository itself" if ours == theirs else ("lies in" if len(ours) > shared else "lies around")
        raise InvalidInputError(
            f"the run directory {directory} {how}{'' if ours == theirs else f' the repository {repository}'}; one "
            f"would delete what the other keeps. Use a place beside it, as {repository}.frazil is"
        )


def _parts(location: Location) -> tuple[str, ...]:
    if location.path is not None:
        return location.path.resolve().parts
    scheme, _, rest = location.url.partition("://")
    return (scheme, *(part for part in rest.split("/") if part))


def _fork_name(data: bytes) -> str:
    return f"fork-{_digest(data)[:16]}"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
