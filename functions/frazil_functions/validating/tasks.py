"""What travels: which parts of arrays a function looks at, what it found, and their wire form."""

import pickle
from dataclasses import dataclass, field
from typing import Final, Literal

import icechunk
import msgspec

from frazil_functions.decoding import from_msgpack
from frazil_functions.errors import InvalidInputError, ReceiptError
from frazil_functions.forks import ForkState, check_no_secret
from frazil_functions.reading.encoding import Attributes
from frazil_functions.regions import Region
from frazil_functions.summaries import Summary
from frazil_functions.tasks import FileSource

type Look = Literal["present", "follow", "decode", "compare"]
"""Whether the chunks of a region are all there, to the last byte; whether the files that chunks refer to are, and have
not changed; what chunks hold; or whether files hold the same."""

_CHANGES: Final = 8
"""Where the changes stand in a session's state, as in a fork's."""


@dataclass(frozen=True, slots=True)
class Part:
    """A region of one array, of whole write units unless it is compared, and what is looked at.

    Attributes
    ----------
    look, region
        What is looked at, and where.
    units
        The indices of write units there that are looked for, if that is not all of them.
    """

    look: Look
    region: Region
    units: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Against:
    """Files that the target is compared with.

    Attributes
    ----------
    sources
        In the order of their labels, each with its place in the target.
    append_dim
        The dimension that they follow each other on.
    meant
        Variables that the files store in another way than the target; both are decoded to doubles, with these
        attributes, and compared by what they mean. Others are compared as they are stored.
    """

    sources: tuple[FileSource, ...]
    append_dim: str | None
    meant: dict[str, Attributes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ValidateTask:
    """What one function looks at.

    Attributes
    ----------
    group
        The path of the group that names of arrays are relative to.
    session
        `dump_session` of a read-only session.
    parts
        What to look at, in order.
    against
        The files, if there are some.
    """

    group: str
    session: bytes
    parts: tuple[Part, ...]
    against: Against | None = None


@dataclass(frozen=True, slots=True)
class ChunkFault:
    """One write unit that is damaged: its index, or no index where that cannot be told; and what is wrong with it."""

    index: tuple[int, ...] | None
    what: str


@dataclass(frozen=True, slots=True)
class Difference:
    """How the target differs from files in a region.

    Attributes
    ----------
    count
        How many elements differ.
    index
        Where the first of them lies in the array.
    target, source
        What both hold there.
    """

    count: int
    index: tuple[int, ...]
    target: str
    source: str


@dataclass(frozen=True, slots=True)
class PartCheck:
    """What was found in a part.

    Attributes
    ----------
    part
        The part.
    stored
        How many of its write units are stored; those that are not read as fill. Told where they were looked for, or
        the files that they refer to.
    summary
        Of its values, where they were decoded.
    difference
        Where it was compared.
    failed
        How many write units are damaged.
    faults
        The first of them; all of those whose files were looked for.
    refused
        Why it could not be compared, if so.
    """

    part: Part
    stored: int = 0
    summary: Summary | None = None
    difference: Difference | None = None
    failed: int = 0
    faults: tuple[ChunkFault, ...] = ()
    refused: str = ""


def dump_session(session: icechunk.Session) -> bytes:
    """A read-only session as data.

    Raises
    ------
    InvalidInputError
        If it is not read-only, or would carry keys or tokens.
    """
    if not session.read_only:
        raise InvalidInputError("a session that can write is not given to functions that only read")
    state = session.__getstate__()
    assert isinstance(state, dict)
    data: bytes = state["_session"]
    frame = from_msgpack(data, list[msgspec.Raw])
    rest = tuple(bytes(part) for at, part in enumerate(frame) if at != _CHANGES)
    check_no_secret(ForkState(data, rest, b""))
    return data


def load_session(data: bytes) -> icechunk.Session:
    """What `dump_session` wrote; nothing but a read-only session comes out.

    Raises
    ------
    ReceiptError
        If the bytes are anything else.
    """
    session = icechunk.Session.__new__(icechunk.Session)
    try:
        session.__setstate__({"_session": data})
    except (ValueError, icechunk.IcechunkError, pickle.UnpicklingError) as error:
        raise ReceiptError(f"icechunk cannot read a session: {error}") from error
    if not session.read_only:
        raise ReceiptError("a session that can write was sent to a function that only reads")
    return session


def dump_part_checks(checks: list[PartCheck]) -> bytes:
    """Checks in MessagePack."""
    return msgspec.msgpack.encode(checks)


def load_part_checks(data: bytes) -> list[PartCheck]:
    """What `dump_part_checks` wrote; data alone.

    Raises
    ------
    ReceiptError
        If the bytes are anything else.
    """
    if not isinstance(data, bytes):
        raise ReceiptError(f"what a function returned from validating is a {type(data).__name__} instead of bytes")
    try:
        return from_msgpack(data, list[PartCheck])
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        raise ReceiptError(f"what a function returned from validating cannot be read: {error}") from error
