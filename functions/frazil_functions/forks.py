"""A fork to bytes and back, without executing what the bytes say.

Icechunk pickles a fork as one object whose state is a MessagePack array: the repository's
configuration and storage, the base snapshot, and the changes made. Unpickling can run
anything, so bytes from elsewhere are never unpickled as they are: the state is taken out
by a loader that constructs nothing, and compared with the fork that the run sent out.
Whatever is not a reference to a chunk must be equal, byte for byte; so a fork of another
repository, base or array, one with other credentials, and one that changes metadata are all
found before Icechunk sees them.
"""

import io
import pickle
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Annotated, Any, Final, Never

import msgspec
from icechunk import ForkSession, IcechunkError

from frazil_functions.decoding import from_msgpack
from frazil_functions.errors import InvalidInputError, ReceiptError, VersionError

type _Index = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
type ChunkIndex = tuple[_Index, ...]
type _Extent = tuple[tuple[int, int], ...]

_ADMITTED: Final = ("icechunk.session", "ForkSession")
_CHANGES: Final = 8
"""Where the changes stand in a fork's state, as icechunk 2.3 writes it."""
_CHUNKS: Final = 4
"""Where the references to chunks stand in the changes."""
_COUNT: Final = 5
"""Where their number stands."""
_FRAME_PARTS: Final = 8
"""How many parts of the frame stand before those of the changes."""
_REPOSITORY: Final = 4
"""Where the repository stands in the frame: its virtual chunk containers, what authorises them, ..."""
_OUTSIDE: Final = b"Virtual"
"""What stands in the references of a fork that lead into files."""
_UNKNOWN_LAYOUT: Final = (
    "the installed version of icechunk lays out forks in a way that this version of frazil does not know; "
    "install the version of icechunk that frazil asks for"
)
_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_NO_SECRET: Final = ("from_env", "anonymous", "local_file_system_access", "http_access")
_CONTAINERS: Final = 7
"""Where the containers stand in the configuration, which is the first part of the frame; by prefix."""
_SECRET: Final = re.compile(r"header|key|secret|token|password|credential|authorization", re.IGNORECASE)
"""What the options of a container's storage that hold a secret are named by."""


class _Reference(msgspec.Struct):
    """A reference to a chunk, as far as it leads out of the repository: URL, offset, length, and a mark of the file."""

    outside: tuple[str, int, int, msgspec.Raw] | None = msgspec.field(default=None, name="Virtual")


class _Captured:
    """What the loader makes in place of a ForkSession: its state, and nothing else."""

    state: dict[str, object]

    def __setstate__(self, state: object) -> None:
        self.state = state if isinstance(state, dict) else {}


class _StateUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type[_Captured]:
        if (module, name) != _ADMITTED:
            raise ReceiptError(
                f"the bytes of a fork name {module}.{name}, which no fork contains; they were not loaded. "
                "Somebody else may be writing where the results of this run's functions lie."
            )
        return _Captured

    def persistent_load(self, pid: object) -> Never:
        raise ReceiptError(f"the bytes of a fork refer to an object outside of them ({pid!r}); not loaded")


@dataclass(frozen=True, slots=True)
class ForkState:
    """A fork's state, taken apart but not interpreted.

    Attributes
    ----------
    session
        The state as Icechunk wrote it.
    frame
        Everything in it but the references to chunks, what has no order of its own in one.
    chunks
        The references to chunks: `{(node id, extent): {chunk index: reference}}` in MessagePack.
    """

    session: bytes
    frame: tuple[bytes, ...]
    chunks: bytes

    def session_object(self) -> ForkSession:
        """The fork itself. Only for a state that was made here, or that was admitted.

        Raises
        ------
        ReceiptError
            If Icechunk cannot read it.
        """
        fork = ForkSession.__new__(ForkSession)
        try:
            fork.__setstate__({"_session": self.session})
        except (ValueError, IcechunkError) as error:
            raise ReceiptError(f"icechunk cannot read a fork: {error}") from error
        return fork

    def written(self) -> dict[bytes, list[ChunkIndex]]:
        """The chunk indices that the fork wrote or deleted, by the array's node id.

        Raises
        ------
        ReceiptError
            If the references are not laid out as Icechunk lays them out.
        """
        try:
            nodes = from_msgpack(self.chunks, dict[tuple[bytes, _Extent], dict[ChunkIndex, msgspec.Raw]])
        except msgspec.MsgspecError as error:
            raise ReceiptError(f"the chunk references of a fork cannot be read: {error}") from error
        written: dict[bytes, list[ChunkIndex]] = {}
        for (node, _), indices in nodes.items():
            written.setdefault(node, []).extend(indices)
        return written

    def referred(self) -> dict[bytes, set[str]]:
        """The URLs of files that the fork refers to, by the array's node id.

        Raises
        ------
        ReceiptError
            If the references are not laid out as Icechunk lays them out.
        """
        if _OUTSIDE not in self.chunks:
            return {}  # as in nearly every run, and this costs next to nothing
        try:
            nodes = from_msgpack(self.chunks, dict[tuple[bytes, _Extent], dict[ChunkIndex, _Reference | None]])
        except msgspec.MsgspecError as error:
            raise ReceiptError(f"the chunk references of a fork cannot be read: {error}") from error
        found: dict[bytes, set[str]] = {}
        for (node, _), indices in nodes.items():
            urls = {one.outside[0] for one in indices.values() if one is not None and one.outside is not None}
            if urls:
                found.setdefault(node, set()).update(urls)
        return found

    def placed(self, onto: "ForkState", nodes: Mapping[bytes, bytes]) -> "ForkState":
        """The same references in another clean fork of the same repository, under its own nodes.

        A fork can be merged only into a session of its own base. Where a run has to be published on another
        base, the template is committed there again, with the same arrays as new nodes, and what was written
        is referred to from there. No chunk is written again.

        Parameters
        ----------
        onto
            A clean fork of the other base.
        nodes
            The node there that each node here stands for.

        Raises
        ------
        ReceiptError
            If the references are not laid out as Icechunk lays them out, or are of another node.
        """
        try:
            found = from_msgpack(self.chunks, dict[tuple[bytes, _Extent], msgspec.Raw])
            placed = {(nodes[node], extent): references for (node, extent), references in found.items()}
            _, parts = _changes(self.session)
            count = parts[_COUNT]
        except (msgspec.MsgspecError, KeyError) as error:
            raise ReceiptError(f"the chunk references of a fork cannot be read: {error}") from error
        return _with(onto, msgspec.msgpack.encode(placed), count)

    def without(self, chunks: Mapping[bytes, Collection[ChunkIndex]]) -> "ForkState":
        """The fork less its references to some chunks, given by node.

        Raises
        ------
        ReceiptError
            If the references are not laid out as Icechunk lays them out.
        """
        try:
            found = from_msgpack(self.chunks, dict[tuple[bytes, _Extent], dict[ChunkIndex, msgspec.Raw]])
        except msgspec.MsgspecError as error:
            raise ReceiptError(f"the chunk references of a fork cannot be read: {error}") from error
        kept = {
            (node, extent): left
            for (node, extent), references in found.items()
            if (left := {at: one for at, one in references.items() if at not in chunks.get(node, ())})
        }
        count = sum(map(len, kept.values()))
        return _with(self, msgspec.msgpack.encode(kept), msgspec.Raw(msgspec.msgpack.encode(count)))


def _with(state: ForkState, chunks: bytes, count: msgspec.Raw) -> ForkState:
    """The frame of a state around other references."""
    frame = from_msgpack(state.session, list[msgspec.Raw])
    kind, parts = _changes(state.session)
    parts[_CHUNKS], parts[_COUNT] = msgspec.Raw(chunks), count
    frame[_CHANGES] = msgspec.Raw(msgspec.msgpack.encode({kind: parts}))
    return ForkState(msgspec.msgpack.encode(frame), state.frame, chunks)


def _changes(session: bytes) -> tuple[str, list[msgspec.Raw]]:
    """What kind of changes a fork's state holds, and their parts."""
    frame = from_msgpack(session, list[msgspec.Raw])
    ((kind, parts),) = from_msgpack(frame[_CHANGES], dict[str, list[msgspec.Raw]]).items()
    return kind, parts


def dump_fork(fork: ForkSession) -> bytes:
    """The fork's pickle."""
    return pickle.dumps(fork, protocol=5)


def read_fork(data: bytes) -> ForkState:
    """The state in the bytes that `dump_fork` made; constructs nothing and runs nothing.

    Raises
    ------
    ReceiptError
        If the bytes are not a fork's pickle, name anything else, or are damaged.
    """
    try:
        captured = _StateUnpickler(io.BytesIO(data)).load()
        session = captured.state["_session"]
        frame = from_msgpack(session, list[msgspec.Raw])
        changes = from_msgpack(frame[_CHANGES], dict[str, list[msgspec.Raw]])
        (kind, parts), *more = changes.items()
        chunks = bytes(parts[_CHUNKS])
    except (
        pickle.UnpicklingError,
        msgspec.MsgspecError,
        EOFError,
        ValueError,
        TypeError,
        AttributeError,
        KeyError,
        IndexError,
        MemoryError,
        OverflowError,
        RecursionError,
    ) as error:  # what the loaders raise for bytes that are truncated or garbled
        raise ReceiptError(
            f"the bytes of a fork cannot be read ({type(error).__name__}: {error}): they are damaged, or another "
            "version of icechunk wrote them"
        ) from error
    if more or not isinstance(session, bytes):
        raise ReceiptError("the bytes of a fork do not have the layout that icechunk 2.3 writes")
    rest = [bytes(part) for at, part in enumerate(frame) if at != _CHANGES]
    rest[:_FRAME_PARTS] = map(_ordered, rest[:_FRAME_PARTS])
    rest += [kind.encode(), *(bytes(part) for at, part in enumerate(parts) if at not in (_CHUNKS, _COUNT))]
    return ForkState(session, tuple(rest), chunks)


def _ordered(part: bytes) -> bytes:
    """A part of the frame with its mappings in order, for Icechunk writes them in another one each time.

    What would not be all there then, as where a name stands twice, stays as it is.
    """
    try:
        value = from_msgpack(part, Any)
        if isinstance(value, list) and _holds_containers(value):
            # The longest prefix is asked first; those of one length stand in any order.
            alike = groupby(value[0], key=lambda one: len(one[1]))
            value[0] = [one for _, some in alike for one in sorted(some, key=lambda one: one[1])]
        ordered = msgspec.msgpack.encode(value, order="sorted")
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError):  # of bytes that are damaged
        return part
    return ordered if len(ordered) == len(part) else part


def _holds_containers(value: list[Any]) -> bool:
    """Whether a part of the frame begins with containers: names, prefixes and storage."""
    return bool(value) and isinstance(value[0], list) and all(_is_container(one) for one in value[0])


def _is_container(one: object) -> bool:
    return isinstance(one, list) and len(one) == 3 and isinstance(one[1], str)  # noqa: PLR2004 - as said


def load_fork(data: bytes) -> ForkSession:
    """The fork in the bytes that `dump_fork` made; nothing but a ForkSession can come out.

    Raises
    ------
    ReceiptError
        If the bytes are not a fork's.
    """
    return read_fork(data).session_object()


def check_no_secret(state: ForkState) -> None:
    """Refuse a fork that carries credentials: it travels to functions and into storage.

    Raises
    ------
    InvalidInputError
        If the repository was opened with keys or tokens of its own.
    VersionError
        If the fork is not laid out as icechunk 2.3 lays it out, so that nobody can tell.
    """
    parts: list[Any] = [from_msgpack(part, Any) for part in state.frame[:_FRAME_PARTS]]
    kinds = [kind for part in parts for kind in _credentials(part)]
    match parts[_REPOSITORY : _REPOSITORY + 1]:
        case [[_, dict(authorised), *_]]:
            kinds += [_access(one) for one in authorised.values() if one is not None]
        case _:
            raise VersionError(_UNKNOWN_LAYOUT)
    for prefix in _secret_stores(parts):
        raise InvalidInputError(
            f"the repository declares the container {prefix} with headers or keys of its own, which would travel in "
            "plain text with every task; declare it without them"
        )
    for kind in kinds:
        if kind not in _NO_SECRET:
            raise InvalidInputError(
                f"the repository was opened with {kind} credentials, for itself or for virtual chunks, which would "
                "travel in plain text with every task. Open it with `from_env=True` (as frazil.open_repository does), "
                "or with `get_credentials=` and scatter_initial_credentials=False."
            )


def _credentials(value: object) -> list[str]:
    """What kinds of credentials of its storage stand anywhere in a value: "from_env", "static", ..."""
    if isinstance(value, dict):
        found = [_kind(item) for key, item in value.items() if key == "credentials" and item is not None]
        return found + [kind for key, item in value.items() if key != "credentials" for kind in _credentials(item)]
    if isinstance(value, list):
        return [kind for item in value for kind in _credentials(item)]
    return []


def _kind(credentials: object) -> str:
    if isinstance(credentials, dict):
        # A function that fetches credentials is itself no secret; what it fetched once is.
        return "from_env" if credentials.get("initial", True) is None else "scattered"
    if isinstance(credentials, list) and credentials:
        return str(credentials[0]).lower()
    return str(credentials).lower()


def _access(one: object) -> str:
    """What kind of credentials authorise a container: ["s3", "from_env"], or ["http_access"] where there are none."""
    return _kind(one[1:] if isinstance(one, list) and len(one) > 1 else one)


def _secret_stores(parts: Sequence[Any]) -> list[str]:
    """The containers whose storage is declared with something that may be secret."""
    match parts:
        case [[*_] as config, *_] if len(config) > _CONTAINERS:
            declared = config[_CONTAINERS] or {}
        case _:
            raise VersionError(_UNKNOWN_LAYOUT)
    found = []
    for prefix, one in declared.items():
        match one:
            case [_, str(), {**store}]:
                options = [name for each in store.values() if isinstance(each, dict) for name, at in each.items() if at]
            case _:
                raise VersionError(_UNKNOWN_LAYOUT)
        authority = prefix.partition("://")[2].partition("/")[0]
        if "@" in authority or any(_SECRET.search(name) for name in options):
            found.append(f"{prefix.partition('://')[0]}://{prefix.partition('://')[2].rpartition('@')[2]}")
    return found


def node_id(name: str) -> bytes:
    """The eight bytes of an Icechunk node id, which Icechunk shows in Crockford's base 32."""
    bits = 0
    for letter in name:
        bits = bits << 5 | _CROCKFORD.index(letter)
    return (bits >> (5 * len(name) - 64)).to_bytes(8)


def require_layout(state: ForkState) -> None:
    """Refuse an Icechunk whose forks are laid out in another way than this module reads.

    Raises
    ------
    VersionError
        If a clean fork of the installed version does not look like one.
    """
    if state.chunks != b"\x80" or b"Edit" not in state.frame:
        raise VersionError(_UNKNOWN_LAYOUT)
