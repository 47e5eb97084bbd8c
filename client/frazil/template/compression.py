"""Compression as users write it, and what each array of a template gets.

The presets are measured: `tests/benchmarks/compression.py` has the rules, docs/compression.md the numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from frazil_functions.compression import BLOSC_MOST_BYTES, COMPRESSORS, LEVELS, SHUFFLES, Compression
from frazil_functions.errors import InvalidInputError, nearest
from frazil_functions.reading.encoding import STRING
from frazil_functions.reading.scanning import coordinate_names
from frazil_functions.template import ArrayTemplate, DatasetTemplate

REST: Final = "*"
"""What stands for every variable that is not named."""

DEFAULT: Final = "balanced"

PRESETS: Final[Mapping[str, tuple[Compression, Compression]]] = {
    "fast": (Compression("blosc", 5, "lz4", "shuffle"), Compression("zstd", 1)),
    "balanced": (Compression("blosc", 2, "zstd", "shuffle"), Compression("zstd", 3)),
    "small": (Compression("blosc", 5, "zstd", "shuffle"), Compression("zstd", 9)),
}
"""For numbers of several bytes, and for anything else: single bytes and strings, where there is nothing to shuffle."""

_LEVEL: Final = {"zstd": 3, "gzip": 5, "blosc": 5}
"""The level of a codec that is named without one: zstd's own default, and Zarr's for the others."""


@dataclass(frozen=True, slots=True)
class CompressionChoice:
    """What a user asked for.

    Attributes
    ----------
    by_name
        A codec or the name of a preset, by variable; `REST` for all that are not named.
    """

    by_name: Mapping[str, Compression | str] = field(default_factory=dict)

    @classmethod
    def of(cls, asked: str | Sequence[str] | Mapping[str, str] | None) -> "CompressionChoice":
        """What is meant by a text, or by texts of variables.

        Raises
        ------
        InvalidInputError
            If it is no codec, level or preset, saying what there is.

        Examples
        --------
        >>> CompressionChoice.of("zstd:3,mask=none").by_name
        {'*': Compression(codec='zstd', level=3, compressor='', shuffle=''), 'mask': Compression(codec='none', \
level=0, compressor='', shuffle='')}
        """
        if asked is None:
            return cls()
        several = [asked] if isinstance(asked, str) else asked
        if not isinstance(several, Mapping) and not (
            isinstance(several, list | tuple) and all(isinstance(one, str) for one in several)
        ):
            raise InvalidInputError(
                f"compression is {asked!r}; give text, as in 'zstd:3', or a mapping of variables to such ({REST!r} for "
                "the others)"
            )
        texts = several if isinstance(several, Mapping) else _split(several)
        return cls({name: _parsed(name, text) for name, text in texts.items()})


def _split(several: Sequence[str]) -> dict[str, str]:
    """Texts such as `zstd:3` or `tas=blosc:lz4:5`, or several with commas between, by variable."""
    found: dict[str, str] = {}
    for part in (part for text in several for part in text.split(",")):
        before, equals, text = part.rpartition("=")  # names may have one, codecs have none
        name = before.strip() if equals else REST
        if name in found:
            whose = "all variables" if name == REST else repr(name)
            raise InvalidInputError(f"the compression of {whose} is given twice: {found[name]!r} and {text.strip()!r}")
        found[name] = text.strip()
    return found


def _parsed(name: object, text: object) -> Compression | str:
    """One codec or preset as it is written: `zstd:3`, `blosc:lz4:5:bitshuffle`, `gzip`, `none`, `small`."""
    whose = "" if name == REST else f" of {name!r}"
    if not isinstance(name, str) or not isinstance(text, str):
        raise InvalidInputError(f"compression{whose} is {text!r}; give text, as in 'zstd:3' or 'none'")
    if text in PRESETS:
        return text
    codec, *rest = text.split(":")
    if codec not in LEVELS:
        hint = (
            f"did you mean 'blosc:{codec.lower()}'?"
            if codec.lower() in {*COMPRESSORS} - {*LEVELS}
            else nearest(codec.lower(), (*LEVELS, *PRESETS))
        )
        raise InvalidInputError(f"compression{whose}: there is no codec {codec!r}; {hint}")
    try:
        return _compression(codec, rest)
    except InvalidInputError as error:
        raise InvalidInputError(f"compression{whose} is {text!r}, and {error}") from error


def _compression(codec: str, rest: list[str]) -> Compression:
    form = {"none": "none", "blosc": "blosc:COMPRESSOR:LEVEL:SHUFFLE"}.get(codec, f"{codec}:LEVEL")
    if len(rest) > form.count(":"):
        raise InvalidInputError(f"there is too much of it; write {form}")
    if codec == "none":
        return Compression("none")
    if codec == "blosc" and not rest:
        raise InvalidInputError(f"it does not say with what Blosc compresses: {', '.join(COMPRESSORS)}")
    compressor = rest.pop(0) if codec == "blosc" else ""
    level = rest.pop(0) if rest else str(_LEVEL[codec])
    if not (level.removeprefix("-").isascii() and level.removeprefix("-").isdigit()):
        raise InvalidInputError(f"{level!r} is no level; write {form}, with a whole number")
    shuffle = rest.pop(0) if rest else SHUFFLES[0] if codec == "blosc" else ""
    return Compression(codec, int(level), compressor, shuffle)


def compressed(template: DatasetTemplate, choice: CompressionChoice) -> DatasetTemplate:
    """The template with a compression for each array that it makes; those that are there keep theirs.

    Labels, and what others name as their coordinates or bounds, are small and keep Zarr's own default, unless they are
    named themselves.

    Raises
    ------
    InvalidInputError
        If a variable is named that is not made, or none is.
    """
    made = {name: array for name, array in template.arrays.items() if array.before is None}
    if choice.by_name and not made:
        raise InvalidInputError("no variable is new, and the others keep their compression; leave out compression")
    for name in choice.by_name:
        if name in template.arrays and name not in made:
            raise InvalidInputError(
                f"compression names {name!r}, which is there already and keeps its own; leave it out, or write the "
                "group anew (--mode overwrite)"
            )
        if name not in (*made, REST):
            raise InvalidInputError(
                f"compression names the variable {name!r}, which is not written; {nearest(name, made)}"
            )
    coordinates = coordinate_names({name: array.attributes for name, array in template.arrays.items()})
    rest = choice.by_name.get(REST, DEFAULT)
    arrays = {}
    for name, array in template.arrays.items():
        plain = name in coordinates or array.role == "labels"
        asked = choice.by_name.get(name, None if plain or name not in made else rest)
        arrays[name] = replace(array, compression=_of_array(array, asked))
    return replace(template, arrays=arrays)


def _of_array(array: ArrayTemplate, asked: Compression | str | None) -> Compression | None:
    if not isinstance(asked, str):
        return asked
    dtype = None if array.dtype == STRING else np.dtype(array.dtype)
    shuffles = dtype is not None and dtype.kind in "iufc" and dtype.itemsize > 1
    numbers, others = PRESETS[asked]
    return numbers if shuffles and array.chunk_nbytes <= BLOSC_MOST_BYTES else others
