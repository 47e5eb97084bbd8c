"""What an analysis says: for each variable, what chunks cost to read and to write, as data, as text and as a table."""

import html
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from frazil.advising.choose import Reading
from frazil.advising.cost import Reads
from frazil_functions.text import size

COLUMNS = ("", "chunks", "count", "chunk size", "object size", "time series", "map", "writing")


@dataclass(frozen=True, slots=True)
class Priced:
    """One way to cut a variable, and what it costs. Sizes are before compression.

    Attributes
    ----------
    name
        Which way it is: a reading, "together" (one choice for all variables), "default", or "files".
    chunks, shards
        The lengths along every dimension; no shards if None.
    chunk_count, object_count
        How many chunks there are, and how many objects that hold them: shards, chunks, or the files themselves.
    chunk_bytes, object_bytes
        The size of each; that of files is not known.
    series, map
        What reading one point of the whole series takes, and one map at one time.
    files_per_object
        How many files an object takes its values from, at most.
    """

    name: str
    chunks: dict[str, int]
    shards: dict[str, int] | None
    chunk_count: int
    object_count: int
    chunk_bytes: int
    object_bytes: int | None
    series: Reads
    map: Reads
    files_per_object: int


@dataclass(frozen=True, slots=True)
class Sampled:
    """What a little of a variable's data tells; another part of it may tell something else.

    Attributes
    ----------
    nbytes
        How much was read, before compression.
    ratio
        How many times smaller Frazil's default compression makes it.
    step
        What whole numbers of 16 bits would round to, over the range of what was read; None where they would not serve.
    packed_ratio
        How many times smaller it is when it is packed so and compressed; None likewise.
    """

    nbytes: int
    ratio: float
    step: float | None = None
    packed_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class Variable:
    """What is advised for one variable.

    Attributes
    ----------
    name, dtype
        As it is stored.
    sizes
        The length of every dimension, over all files.
    nbytes
        The size of all values.
    packing
        What its metadata, or a sample, say of packing it.
    choices
        The advised one first.
    sampled
        What a sample tells, if one was read.
    """

    name: str
    dtype: str
    sizes: dict[str, int]
    nbytes: int
    packing: str
    choices: tuple[Priced, ...]
    sampled: Sampled | None = None

    @property
    def advised(self) -> Priced:
        """The choice that costs the reading least."""
        return self.choices[0]


@dataclass(frozen=True, slots=True)
class Analysis:
    """Chunks, shards and packing that are advised, and what they cost.

    Attributes
    ----------
    reading, target_bytes
        What was asked for.
    sources
        In words.
    append_dim
        The dimension that files follow each other on.
    chunks, shards
        One choice for all variables, by dimension, as `frazil.plan` takes them.
    variables
        Those that hold data.
    """

    reading: Reading
    target_bytes: int
    sources: str
    append_dim: str | None
    chunks: dict[str, int]
    shards: dict[str, int]
    variables: tuple[Variable, ...]

    @property
    def options(self) -> str:
        """The choice for all variables, as options of the command line."""
        given = (("--chunks", self.chunks), ("--shards", self.shards))
        return " ".join(f"{option} {_lengths(lengths)}" for option, lengths in given if lengths)

    def to_json(self) -> bytes:
        """The analysis as JSON, equal for equal analyses."""
        return msgspec.json.encode({"options": self.options} | msgspec.to_builtins(self), order="deterministic")

    def __repr__(self) -> str:
        lines = ["<frazil.Analysis>", f"  {self._heading()}"]
        for names, one in self._alike():
            rows = [COLUMNS, *(_row(choice) for choice in one.choices)]
            widths = [max(len(row[at]) for row in rows) for at in range(len(COLUMNS))]
            lines += ["", f"  {names}: {_described(one)}"]
            lines += [
                "    " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
                for row in rows
            ]
            lines += [f"    packing: {one.packing}"] if one.packing else []
        return "\n".join([*lines, "", f"  for all variables: {self.options or 'nothing is to be cut'}"])

    def _repr_html_(self) -> str:
        parts = [f"<p>frazil.Analysis: {html.escape(self._heading())}</p>"]
        for names, one in self._alike():
            rows = "".join(
                "<tr>" + "".join(f"<td align='left'>{html.escape(cell)}</td>" for cell in _row(choice)) + "</tr>"
                for choice in one.choices
            )
            heads = "".join(f"<th align='left'>{name}</th>" for name in COLUMNS)
            caption = html.escape(f"{names}: {_described(one)}" + (f"; packing: {one.packing}" if one.packing else ""))
            parts.append(f"<table><caption>{caption}</caption><tr>{heads}</tr>{rows}</table>")
        return "".join(parts) + f"<p>for all variables: <code>{html.escape(self.options)}</code></p>"

    def _heading(self) -> str:
        along = f" along {self.append_dim}" if self.append_dim else ""
        most = f"chunks of {size(self.target_bytes)} at most"
        return f"{self.sources}{along}, for {self.reading} reading in {most}; sizes are before compression"

    def _alike(self) -> Iterator[tuple[str, Variable]]:
        """Variables of which all is alike but the name, together."""
        found: dict[bytes, list[Variable]] = {}
        for one in self.variables:
            same = {"choices": one.choices, "sizes": one.sizes, "dtype": one.dtype, "packing": one.packing}
            found.setdefault(msgspec.json.encode(same), []).append(one)
        return ((", ".join(one.name for one in alike), alike[0]) for alike in found.values())


def _described(one: Variable) -> str:
    lengths = ", ".join(f"{dim} {length}" for dim, length in one.sizes.items())
    ratio = f", about {size(one.nbytes / one.sampled.ratio)} compressed" if one.sampled else ""
    return f"{one.dtype} ({lengths}), {size(one.nbytes)}{ratio}"


def _row(one: Priced) -> tuple[str, ...]:
    shards = f" in shards {_lengths(one.shards)}" if one.shards else ""
    files = f", {one.files_per_object} files each" if one.files_per_object > 1 else ""
    return (
        one.name,
        (_lengths(one.chunks) or "one element") + shards,
        f"{one.chunk_count:,}",
        size(one.chunk_bytes),
        "" if one.object_bytes is None else size(one.object_bytes),
        _reads(one.series),
        _reads(one.map),
        "" if one.object_bytes is None else _counted(one.object_count, "object") + files,
    )


def _reads(reads: Reads) -> str:
    return f"{_counted(reads.requests, 'request')}, {size(reads.nbytes)}"


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _lengths(lengths: dict[str, int]) -> str:
    return ",".join(f"{dim}={length}" for dim, length in lengths.items())
