"""How options are spelled where there is but text: on the command line, and in the environment."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, get_args

import msgspec
from cyclopts import Parameter

from frazil.labels.compare import Accept
from frazil.packing.rounding import assigned
from frazil.planning.options import MOST_WORKERS, Span


def _lengths(_: object, tokens: Sequence[Any]) -> dict[str, int]:
    """`time=24,lat=180` as a mapping."""
    found: dict[str, int] = {}
    for part in ",".join(str(token.value) for token in tokens).split(","):
        dim, equals, length = part.partition("=")
        if not equals or not dim.strip() or not length.strip().lstrip("-").isdigit():
            raise ValueError(f"{part!r} is not DIMENSION=LENGTH, as in time=24")
        if dim.strip() in found:
            raise ValueError(f"{dim.strip()!r} is given twice")
        found[dim.strip()] = int(length)
    return found


def _chunks(kind: object, tokens: Sequence[Any]) -> dict[str, int] | str:
    """Lengths as above, or what they are to be chosen for, as it is."""
    text = ",".join(str(token.value) for token in tokens)
    return text if text.partition(":")[0].strip() == "auto" else _lengths(kind, tokens)


def _names(_: object, tokens: Sequence[Any]) -> tuple[str, ...]:
    """`tas,pr` as names."""
    parts = ",".join(str(token.value) for token in tokens).split(",")
    return tuple(part.strip() for part in parts if part.strip())


def _checked(kind: object, tokens: Sequence[Any]) -> tuple[str, ...] | str:
    """Names as above, or the word that stands for all of them."""
    names = _names(kind, tokens)
    return "all" if names == ("all",) else names


def _as_told(_: object, tokens: Sequence[Any]) -> tuple[str, ...]:
    """Texts as they are; what they mean is said elsewhere."""
    return tuple(str(token.value) for token in tokens)


def _accepted(kind: object, tokens: Sequence[Any]) -> tuple[str, ...]:
    known = get_args(Accept.__value__)
    for name in _names(kind, tokens):
        if name not in known:
            raise ValueError(f"{name!r} cannot be accepted; choose from {', '.join(known)}")
    return _names(kind, tokens)


def _region(_: object, tokens: Sequence[Any]) -> dict[str, Span] | Literal["auto"]:
    """`time=0:100,lat=auto` as a mapping; `auto` for all dimensions."""
    text = ",".join(str(token.value) for token in tokens)
    if text == "auto":
        return "auto"
    found: dict[str, Span] = {}
    for part in text.split(","):
        dim, equals, span = (one.strip() for one in part.partition("="))
        start, colon, stop = span.partition(":")
        if not equals or not dim or (span != "auto" and not (colon and start.isdigit() and stop.isdigit())):
            raise ValueError(f"{part!r} is not DIMENSION=START:STOP, as in time=0:100, nor DIMENSION=auto")
        if dim in found:
            raise ValueError(f"{dim!r} is given twice")
        found[dim] = "auto" if span == "auto" else (int(start), int(stop))
    return found


def _ranges(_: object, tokens: Sequence[Any]) -> dict[str, tuple[float, float]]:
    """`tas=200:330` as a mapping."""
    found, text = {}, ",".join(str(token.value) for token in tokens)
    for name, span in assigned(text, "VARIABLE=LOW:HIGH, as in tas=200:330").items():
        low, _colon, high = span.partition(":")
        try:
            found[name] = (float(low), float(high))
        except ValueError as error:
            raise ValueError(f"{name}={span!r} is not VARIABLE=LOW:HIGH, as in tas=200:330") from error
    return found


def _bits(_: object, tokens: Sequence[Any]) -> dict[str, int | str]:
    """`tas=7,pr=auto` as a mapping."""
    found: dict[str, int | str] = {}
    text = ",".join(str(token.value) for token in tokens)
    for name, bits in assigned(text, "VARIABLE=BITS, as in tas=7, nor VARIABLE=auto").items():
        if bits != "auto" and not bits.isdigit():
            raise ValueError(f"{name}={bits!r} is not VARIABLE=BITS, as in tas=7, nor VARIABLE=auto")
        found[name] = "auto" if bits == "auto" else int(bits)
    return found


type Text = Annotated[str, msgspec.Meta(min_length=1)]
type Texts = Annotated[tuple[Text, ...], msgspec.Meta(min_length=1)]
type Count = Annotated[int, msgspec.Meta(ge=1)]
type Workers = Annotated[int, msgspec.Meta(ge=1, le=MOST_WORKERS)]
type Times = Annotated[int, msgspec.Meta(ge=0)]
type Seconds = Annotated[float, msgspec.Meta(gt=0)]
type Wait = Annotated[float, msgspec.Meta(ge=0)]
type Lengths = Annotated[
    Mapping[str, int], Parameter(converter=_lengths, n_tokens=1, accepts_keys=False, metavar="DIM=LENGTH,...")
]
type Chunks = Annotated[
    Mapping[str, int] | Text,
    Parameter(converter=_chunks, n_tokens=1, accepts_keys=False, metavar="DIM=LENGTH,...|auto:READING"),
]
type Names = Annotated[Texts, Parameter(converter=_names, n_tokens=1, negative=(), metavar="NAME,...")]
type Checked = Annotated[
    Texts | Text, Parameter(converter=_checked, n_tokens=1, accepts_keys=False, negative=(), metavar="NAME,...|all")
]
type Accepted = Annotated[
    tuple[Accept, ...], Parameter(converter=_accepted, n_tokens=1, negative=(), metavar="WORD,...")
]
type Codecs = Annotated[
    Texts | Text | Mapping[str, Text],
    Parameter(converter=_as_told, n_tokens=1, accepts_keys=False, negative=(), metavar="[NAME=]CODEC,..."),
]
type Packs = Annotated[
    bool | Texts | Text | Mapping[str, Text],
    Parameter(converter=_as_told, n_tokens=1, accepts_keys=False, negative=(), metavar="[NAME=TYPE,...]"),
]
type Ranges = Annotated[
    Mapping[str, tuple[float, float]],
    Parameter(converter=_ranges, n_tokens=1, accepts_keys=False, metavar="NAME=LOW:HIGH,..."),
]
type Bits = Annotated[
    Mapping[str, int | Text],
    Parameter(converter=_bits, n_tokens=1, accepts_keys=False, metavar="NAME=BITS|auto,..."),
]
type Region = Annotated[
    Mapping[str, Span] | Literal["auto"],
    Parameter(converter=_region, n_tokens=1, accepts_keys=False, metavar="DIM=START:STOP,..."),
]
type Several = Annotated[tuple[Text, ...], Parameter(negative=())]
