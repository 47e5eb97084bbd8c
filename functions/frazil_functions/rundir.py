"""The run directory: a place in object storage, or on disk, where one run keeps what it must not forget.

Every object is put there once, whole, and never changed; whoever is first is right. What lies there
is data, carries no secret, and is read as data: nothing but the types named here can come out of it.

On a local disk an object outlives the death of any process. It need not outlive a power failure,
no more than the chunks that Icechunk writes beside it.
"""

import hashlib
import re
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from typing import Final

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, ObjectStore

from frazil_functions.errors import BackendError, InvalidInputError, ReceiptError
from frazil_functions.reading.failures import is_transient
from frazil_functions.records import RunOutcome, RunRecord, RunTarget, Wishes, dump_record, load_record
from frazil_functions.repositories import Location
from frazil_functions.storage import open_store
from frazil_functions.tasks import Receipt, dump_receipt, load_receipt
from frazil_functions.text import words

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
_ERRORS: Final = (BaseError, OSError)
_GETS: Final = 16
"""How many receipts are fetched, and held, at once."""
_TRY_SECONDS: Final = 60.0
"""How long an object is put or read again and again over a network that fails."""
_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 5.0
"""What is waited before something is tried again: first, and at most."""
_LOOKS: Final = 5
"""How often to look for an object that is said to exist; a request that lost a race may be told so early."""


class RunDirectory:
    """What one run keeps, at a location. Opening it makes nothing.

    Every method raises BackendError if the storage does not answer, or refuses.
    """

    def __init__(self, location: Location) -> None:
        self.location = location
        self._opened: ObjectStore | None = None

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
        if self._put(_PLAN, data) != data:
            raise InvalidInputError(
                f"another plan lies under the run id {self.run_id!r} ({self.location}/{_PLAN}); use another run id"
            )

    def put_wishes(self, wishes: Wishes) -> Wishes:
        """Keep what is asked for beside the plan; returns what stands, which is that of whoever was first."""
        return load_record(self._put(_WISHES, dump_record(wishes)), Wishes, f"{self.location}/{_WISHES}")

    def wishes(self) -> Wishes | None:
        """What is asked for beside the plan; None if nothing was; raises as `record` does."""
        data = self._get(_WISHES)
        return None if data is None else load_record(data, Wishes, f"{self.location}/{_WISHES}")

    def plan(self) -> bytes | None:
        """The plan; None if there is none."""
        return self._get(_PLAN)

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
        data = self._get(name)
        if data is None:
            raise BackendError(f"{self.location}/{name} is gone, and the run needs it; start another run")
        if _fork_name(data) != name:
            raise ReceiptError(f"{self.location}/{name} does not hold what its name says; it was damaged or replaced")
        return data

    def put_record(self, record: RunRecord) -> RunRecord:
        """Keep the record; returns the one that stands, which is that of whoever was first."""
        return load_record(self._put(_RECORD, dump_record(record)), RunRecord, f"{self.location}/{_RECORD}")

    def record(self) -> RunRecord | None:
        """The record; None if there is none.

        Raises
        ------
        InvalidInputError
            If it is of another format, or is no record.
        """
        data = self._get(_RECORD)
        return None if data is None else load_record(data, RunRecord, f"{self.location}/{_RECORD}")

    def put_outcome(self, outcome: RunOutcome) -> RunOutcome:
        """Keep the outcome; returns the one that stands, which is that of whoever was first."""
        return load_record(self._put(_OUTCOME, dump_record(outcome)), RunOutcome, f"{self.location}/{_OUTCOME}")

    def outcome(self) -> RunOutcome | None:
        """The outcome; None if there is none; raises as `record` does."""
        data = self._get(_OUTCOME)
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
        names: list[str] = []
        store = self._store()
        if store is None:
            return names
        try:
            for page in obstore.list(store, _RECEIPTS, offset=first):
                paths = [meta["path"] for meta in page]
                names += [path for path in paths if path < behind and _RECEIPT.fullmatch(path)]
                if not isinstance(store, LocalStore) and any(path >= behind for path in paths):
                    break  # object storage lists in order, and so need not be asked for the rest
        except _ERRORS as error:
            raise self._refused(_RECEIPTS, "listed", error) from error
        return sorted(names)

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
        self._remove([name for name in names if _RECEIPT.fullmatch(name)])

    def remove_work(self) -> None:
        """Delete receipts and forks, which a published run does not need any more."""
        self._remove([name for name in self._names() if _WORK.fullmatch(name)])
        self._remove_folder(_RECEIPTS)

    def modified(self) -> dict[str, float]:
        """What the run keeps, and when each was put: seconds since 1970, by the storage's clock."""
        return {name: put for name, put in self._listed().items() if _OURS.fullmatch(name)}

    def remove(self) -> None:
        """Delete everything that the run keeps; a local folder goes too, if nothing else is in it.

        The outcome goes last, so that a run that has ended does not look as if it went on.
        """
        self.remove_work()
        names = self._names()
        for name in (_WISHES, _PLAN, _RECORD, _OUTCOME):
            self._remove([name] if name in names else [])
        self._remove_folder("")

    def _receipt(self, name: str) -> Receipt | ReceiptError:
        known = _RECEIPT.fullmatch(name)
        if known is None:
            return ReceiptError(f"{self.location}/{name} is not the name of a receipt")
        data = self._get(name)
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

    def _store(self, *, make: bool = False) -> ObjectStore | None:
        """The store; None for a local directory that does not exist, unless it is to be made."""
        path = self.location.path
        if self._opened is None or (path is not None and not path.is_dir()):
            if path is not None and not make and not path.exists():
                return None
            try:
                self._opened = open_store(self.location)
            except _ERRORS as error:
                raise self._refused("", "opened", error) from error
        return self._opened

    def _put(self, name: str, data: bytes) -> bytes:
        """Put an object unless it is there; returns the bytes that stand.

        A put on condition is tried again here, for the library does not where the connection broke. It may have been
        stored although nothing says so, and a request that lost a race may be told that an object exists before
        it does: what stands decides.
        """
        store = self._store(make=True)
        assert store is not None
        for pause in _pauses():
            try:
                obstore.put(store, name, data, mode="create", use_multipart=False)
            except AlreadyExistsError as error:
                # A repeated request whose first answer was lost is told this too, of its own bytes; and one that met
                # another of the same name is, although neither may have been done.
                standing = self._standing(name)
                if standing is not None:
                    return standing
                if pause is None:
                    raise self._refused(name, "stored", error) from error
            except _ERRORS as error:
                # A conditional request whose connection broke may have been done, so obstore does not repeat it.
                # Here it may be: whatever stands then is told apart by its bytes.
                if pause is None or not is_transient(error):
                    raise self._refused(name, "stored", error) from error
                time.sleep(pause)
            else:
                return data
        raise AssertionError  # the last pause is none

    def _standing(self, name: str) -> bytes | None:
        """The bytes of an object that is said to be there; None if it does not turn up."""
        for look in range(_LOOKS):
            standing = self._get(name)
            if standing is not None:
                return standing
            time.sleep(_PAUSE_SECONDS * 2**look)
        return None

    def _put_same(self, name: str, data: bytes) -> None:
        if self._put(name, data) != data:
            raise BackendError(
                f"{self.location}/{name} holds something else than its name says: it was damaged or replaced; delete it"
            )

    def _get(self, name: str) -> bytes | None:
        store = self._store()
        if store is None:
            return None
        for pause in _pauses():
            try:
                return bytes(obstore.get(store, name).bytes())
            except FileNotFoundError as error:  # what obstore raises in place of its own NotFoundError
                if "NoSuchBucket" in str(error):
                    raise self._refused(name, "read", error) from error
                return None
            except _ERRORS as error:
                # An answer that breaks off in its body is not asked for again by obstore.
                if pause is None or not is_transient(error):
                    raise self._refused(name, "read", error) from error
                time.sleep(pause)
        raise AssertionError  # the last pause is none

    def _names(self) -> list[str]:
        return list(self._listed())

    def _listed(self) -> dict[str, float]:
        store = self._store()
        if store is None:
            return {}
        try:
            return {meta["path"]: meta["last_modified"].timestamp() for page in obstore.list(store) for meta in page}
        except _ERRORS as error:
            raise self._refused("", "listed", error) from error

    def _remove(self, names: list[str]) -> None:
        store = self._store()
        if store is None or not names:
            return
        try:
            if isinstance(store, LocalStore):
                for name in names:
                    with suppress(FileNotFoundError):  # somebody else is removing it, too
                        obstore.delete(store, name)
            else:
                obstore.delete(store, names)
        except _ERRORS as error:
            raise self._refused(names[0], "deleted", error) from error

    def _remove_folder(self, name: str) -> None:
        """Delete a local folder that nothing is left in but what killed writers had not finished."""
        path = self.location.path
        if path is None or not (path / name).is_dir():
            return
        try:
            for file in (path / name).iterdir():
                if _STAGED.fullmatch(file.name):
                    file.unlink(missing_ok=True)
            (path / name).rmdir()
        except OSError:
            return  # something else is in it, and that is not ours to delete

    def _refused(self, name: str, what: str, error: Exception) -> BackendError:
        return _refused(f"{self.location}/{name}".rstrip("/"), what, error)


def _pauses() -> Iterator[float | None]:
    """The seconds to wait before each further try; None when there were enough."""
    until, pause = time.monotonic() + _TRY_SECONDS, _PAUSE_SECONDS
    while time.monotonic() + pause < until:
        yield pause
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
    yield None


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
    except _ERRORS as error:
        raise _refused(str(parent), "listed", error) from error
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


def _refused(where: str, what: str, error: Exception) -> BackendError:
    return BackendError(f"{where} cannot be {what}: {words(error)}")


def _fork_name(data: bytes) -> str:
    return f"fork-{_digest(data)[:16]}"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
