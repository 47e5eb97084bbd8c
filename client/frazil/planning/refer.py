"""Referring: which arrays refer to the chunks of their files, and which files are stored otherwise.

A chunk can be referred to if one file holds it whole, at its place in the write grid, and stored as the array says that
its chunks are. Everything else is copied, if that is asked for, or refused before anything is written.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from frazil.advising.wish import TARGET_BYTES
from frazil.planning.existing import Existing
from frazil.planning.fitted import Fitted
from frazil.planning.options import Options, Virtual
from frazil.planning.scan import Sources
from frazil_functions.errors import InvalidInputError, MismatchedSourceError, nearest
from frazil_functions.layouts import Layout
from frazil_functions.reading.scanning import FileMetadata, coordinate_names
from frazil_functions.runs.template import codec_of
from frazil_functions.tasks import FileSource
from frazil_functions.template import ArrayTemplate, DatasetTemplate, itemsize_of

SMALL_BYTES: Final = 64 << 10
"""A variable that is smaller in a file is copied: its references would be read one by one, and be as large as it is."""

_READ_ONLY: Final = frozenset({"gribberish"})
"""Codecs that decode and cannot encode, so that nothing can be copied into their arrays."""


@dataclass(frozen=True, slots=True)
class _Problem:
    """Why an array cannot refer to what a file holds of it; or not to the last chunk, of which it has only a part."""

    name: str
    url: str
    reason: str
    only_last: bool = False


def refer(fitted: Fitted, sources: Sources, options: Options, existing: Existing | None) -> Fitted:
    """The same with arrays that refer to the chunks of their files.

    Labels, other coordinates, what is written once and what is small are copied, and so is what `load` names.

    Parameters
    ----------
    fitted
        The sources as they lie in the target, and the target, as if all were copied.
    sources
        What the files say of themselves.
    options
        What was chosen; with `virtual`.
    existing
        The group, where one is written into.

    Raises
    ------
    InvalidInputError
        If a variable cannot be referred to, none can, or what was chosen is not of arrays that refer to files.
    MismatchedSourceError
        If a file is stored otherwise than its array, and is not to be copied.
    """
    virtual, template = options.virtual or Virtual(), fitted.template
    for name in sorted(virtual.load - template.arrays.keys()):
        raise InvalidInputError(f"load names {name!r}, which is not written; {nearest(name, template.arrays)}")
    files = {file.url: file for file in sources.files}
    first = files[fitted.sources[0].url] if fitted.sources else sources.files[0]
    names = _candidates(template, first, virtual, existing)
    if not names:
        raise InvalidInputError(
            f"there is nothing to refer to: every variable is named by load, is a coordinate, or has less than "
            f"{SMALL_BYTES >> 10} KiB in {first.url}; leave out --virtual"
        )
    arrays = dict(template.arrays)
    for name in names:
        arrays[name] = _referring(arrays[name], first, fitted, options, existing)
    _check_choices(template, names, options)
    template = replace(template, arrays=arrays)
    problems = [_problems(template, source, files[source.url], names) for source in fitted.sources]
    found = [problem for several in problems for problem in several]
    if found and virtual.fallback == "refuse":
        raise _differing(found, len(fitted.sources))
    _check_encodes(arrays, found)
    copied = [tuple(problem.name for problem in several if not problem.only_last) for several in problems]
    return replace(
        fitted,
        template=template,
        sources=tuple(replace(source, copied=own) for source, own in zip(fitted.sources, copied, strict=True)),
    )


def _candidates(
    template: DatasetTemplate, first: FileMetadata, virtual: Virtual, existing: Existing | None
) -> list[str]:
    """The variables that are to refer to files."""
    coordinates = coordinate_names({name: array.attributes for name, array in template.arrays.items()})
    return [
        name
        for name, array in template.arrays.items()
        if array.role == "data"
        and name not in coordinates
        and name not in virtual.load
        and (_is_large(array, first) or _is_alike(array, first, existing))
    ]


def _is_large(array: ArrayTemplate, first: FileMetadata) -> bool:
    return math.prod(first.variables[array.name].shape) * itemsize_of(array.dtype) >= SMALL_BYTES


def _is_alike(array: ArrayTemplate, first: FileMetadata, existing: Existing | None) -> bool:
    """Whether an array that is there already can refer to a file, however short that is."""
    if array.before is None or existing is None:
        return False
    held, own = (file.variables[array.name].layout for file in (existing.file, first))
    return isinstance(held, Layout) and isinstance(own, Layout) and not held.difference(own)


def _referring(
    array: ArrayTemplate,
    first: FileMetadata,
    fitted: Fitted,
    options: Options,
    existing: Existing | None,
) -> ArrayTemplate:
    """An array as the first file stores it; one that is there already as it is."""
    if array.before is not None and existing is not None:
        layout = existing.file.variables[array.name].layout
        if not isinstance(layout, Layout):
            raise InvalidInputError(
                f"{array.name!r} of {existing.file.url} cannot refer to files: {layout or 'it does not say how'}. "
                f"Copy it (--load {array.name}), or leave out --virtual"
            )
        return replace(array, layout=layout)
    layout = first.variables[array.name].layout
    if not isinstance(layout, Layout):
        raise InvalidInputError(
            f"{first.url}: nothing can refer to {array.name!r}: {layout or 'nobody looked how it is stored'}. Copy it "
            f"(--load {array.name}), or leave it out (--variables)"
        )
    for codec in layout.codecs:
        codec_of(codec)  # refused here if Zarr does not know it
    if layout.contiguous:
        length = _length(array, layout, fitted.sources, options, fitted.template.append_dim)
        layout = replace(layout, chunks=(length, *layout.chunks[1:]))
    return replace(array, layout=layout, chunks=layout.chunks, shards=None, compression=None)


def _length(
    array: ArrayTemplate, layout: Layout, sources: Sequence[FileSource], options: Options, append_dim: str | None
) -> int:
    """The length of chunks along the first dimension of values that stand behind each other in every file.

    They can be cut anywhere between two rows: evenly in all files, and into chunks of 16 MiB at most.
    """
    dim, common = array.dims[0], layout.chunks[0]
    if dim == append_dim:
        common = math.gcd(*(edge for source in sources for edge in (source.start, source.stop)))
    known = options.chunks.get(dim)
    if known is not None:
        length = common if known == -1 else known
        if common % length:
            raise InvalidInputError(
                f"chunks of {known} along {dim!r} do not divide what the files hold of {array.name!r}, which are "
                f"multiples of {common}; choose a divisor of that, or copy it (--load {array.name})"
            )
        return length
    row = itemsize_of(array.dtype) * math.prod(layout.chunks[1:])
    return max(length for length in _divisors(common) if length == 1 or length * row <= TARGET_BYTES)


def _divisors(number: int) -> Iterator[int]:
    for low in range(1, math.isqrt(number) + 1):
        if number % low == 0:
            yield low
            yield number // low


def _check_choices(template: DatasetTemplate, names: Sequence[str], options: Options) -> None:
    """Refuse what was chosen of arrays that are stored as their files are.

    Raises
    ------
    InvalidInputError
        Saying so.
    """
    for name in names:
        if name in options.compression.by_name:
            raise InvalidInputError(
                f"compression names {name!r}, which refers to files that are compressed already; leave it out, or copy "
                f"the values (--load {name})"
            )
    copied = [array for array in template.arrays.values() if array.role == "data" and array.name not in names]
    firsts = {template.arrays[name].dims[0] for name in names if template.arrays[name].dims}
    asked = (options.chunks.keys() - firsts) | options.shards.keys()
    if (asked or options.auto is not None) and not copied:
        what = "auto" if options.auto is not None else ", ".join(sorted(asked))
        raise InvalidInputError(
            f"chunks or shards are chosen ({what}), and every variable refers to files, whose chunks cannot be "
            "changed; leave them out, or name variables whose values are copied (--load)"
        )


def _problems(
    template: DatasetTemplate, source: FileSource, file: FileMetadata, names: Sequence[str]
) -> list[_Problem]:
    """Which arrays cannot refer to all that a file holds of them, and why."""
    arrays = [template.arrays[name] for name in names if name in file.variables]
    found = (
        _problem(template, array, source, file) for array in arrays if array.dims == file.variables[array.name].dims
    )
    return [problem for problem in found if problem is not None]


def _problem(
    template: DatasetTemplate, array: ArrayTemplate, source: FileSource, file: FileMetadata
) -> _Problem | None:
    reason = _stored_otherwise(array, source, file)
    if reason:
        return _Problem(array.name, file.url, reason)
    for dim, length, chunk in zip(array.dims, array.shape, array.chunks, strict=True):
        start, stop = (
            (source.start, source.stop) if dim == template.append_dim else template.extents.get(dim, (0, length))
        )
        if start % chunk or (stop % chunk and stop != length):
            said = f"it lies at {dim} {start}:{stop}, and chunks there are {chunk} long"
            return _Problem(array.name, file.url, said, only_last=start % chunk == 0)
    return None


def _stored_otherwise(array: ArrayTemplate, source: FileSource, file: FileMetadata) -> str:
    """Why references into a file would not read as its values; empty if they would."""
    layout = file.variables[array.name].layout
    assert array.layout is not None
    if not isinstance(layout, Layout):
        return layout or "nobody looked how it is stored"
    if array.name in source.recode:
        return "its values mean something else as they are stored (packing, units or type)"
    moved = [dim for dim in array.dims if dim in source.places]
    if moved:
        dim, pieces = moved[0], source.places[moved[0]]
        if len(pieces) == 1 and pieces[0].step == 1:
            return f"its labels along {dim!r} are a part of those of the group"
        return f"its labels along {dim!r} stand in another order"
    differs = array.layout.difference(layout)
    if differs:
        return f"it is stored in {differs}" if differs.startswith("chunks") else f"it is stored with {differs}"
    return ""


def _check_encodes(arrays: Mapping[str, ArrayTemplate], problems: Sequence[_Problem]) -> None:
    for problem in problems:
        layout = arrays[problem.name].layout
        codecs = [codec["name"] for codec in layout.codecs] if layout is not None else []
        unable = next((codec for codec in codecs if codec in _READ_ONLY), None)
        if unable is not None:
            raise MismatchedSourceError(
                f"{problem.url}: {problem.name!r} cannot be referred to ({problem.reason}), and cannot be copied "
                f"beside references, for {unable} only decodes; copy the variable from all files (--load "
                f"{problem.name})"
            )


def _differing(problems: Sequence[_Problem], count: int) -> MismatchedSourceError:
    first = problems[0]
    files = list(dict.fromkeys(problem.url for problem in problems))
    names = list(dict.fromkeys(problem.name for problem in problems))
    others = f" Of {count} files {len(files)} differ" + (
        f", in {', '.join(map(repr, names))}" if len(names) > 1 else ""
    )
    listed = f": {', '.join(files[1:4])}{', ...' if len(files) > 4 else ''}" if len(files) > 1 else ""  # noqa: PLR2004 - a few
    return MismatchedSourceError(
        f"{first.url}: {first.name!r} cannot be referred to, for {first.reason}."
        f"{others + listed + '.' if len(files) > 1 or len(names) > 1 else ''} Copy the values of such files "
        f"(--fallback native), or the variable from all files (--load {first.name})"
    )
