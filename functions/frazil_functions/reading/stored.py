"""What files say of their chunks: how one variable is stored, and where each of its chunks lies.

Each format has a module of its own that reads this. A variable that nothing can refer to is an error that says why.
"""

import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from frazil_functions.errors import InvalidInputError, SourceError
from frazil_functions.layouts import Layout

type Sizes = npt.NDArray[np.uint64]
type Mask = npt.NDArray[np.bool_]
type Keys = npt.NDArray[np.object_]


class UnreferableError(SourceError):
    """Nothing can refer to a variable, for a reason that its message is: its values have to be copied."""


@dataclass(frozen=True, slots=True)
class Stored:
    """How a file stores a variable, in the shape and type that Xarray reads it in.

    Attributes
    ----------
    layout
        How its chunks are stored.
    shape, dtype
        Of the variable; the type in the file's byte order.
    """

    layout: Layout
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def grid(self) -> tuple[int, ...]:
        """How many chunks there are along each dimension."""
        return grid_of(self.shape, self.layout.chunks)


@dataclass(frozen=True, slots=True)
class Chunks:
    """Where the chunks of a variable lie; arrays of the shape of its chunk grid.

    Attributes
    ----------
    offsets, lengths
        In bytes.
    stored
        False where the file has no chunk that can be referred to.
    keys
        Where chunks are objects of their own, the paths of those below the file's URL.
    """

    offsets: Sizes
    lengths: Sizes
    stored: Mask
    keys: Keys | None = None

    @classmethod
    def none(cls, grid: tuple[int, ...]) -> "Chunks":
        """No chunk is stored yet; the arrays are there to be filled."""
        return cls(np.zeros(grid, np.uint64), np.zeros(grid, np.uint64), np.zeros(grid, np.bool_))


class Referable(Protocol):
    """An open file whose chunks can be referred to."""

    @property
    def size(self) -> int | None:
        """Its length in bytes; None if its chunks are objects of their own."""

    def stored(self, name: str, ndim: int) -> Stored:
        """How a variable is stored, by metadata alone; an UnreferableError says why nothing can refer to it.

        Characters that are read in one dimension less than there are become strings, as Xarray has them.
        """

    def chunks(self, name: str, ndim: int) -> Chunks:
        """Where its chunks lie, on the grid of its own layout; raises as `stored` does."""


def grid_of(shape: Sequence[int], chunks: Sequence[int]) -> tuple[int, ...]:
    """How many chunks it takes along each dimension."""
    return tuple(-(-length // chunk) for length, chunk in zip(shape, chunks, strict=True))


def stored_as(
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    fill: object,
    codecs: Sequence[dict[str, Any]] = (),
    *,
    contiguous: bool,
    ndim: int,
) -> Stored:
    """What a Zarr array would have to say to read a variable of a NetCDF file.

    Parameters
    ----------
    dtype, shape
        Of the values; the type in the file's byte order.
    chunks
        The shape of a chunk.
    fill
        The value of what is not stored; None for the type's own.
    codecs
        What turns bytes into bytes, in the order of encoding.
    contiguous
        As in the layout.
    ndim
        In how many dimensions it is read; if they are one less than it has, characters become strings.

    Raises
    ------
    UnreferableError
        If Zarr does not have the type, or the value in that type, or if strings are spread over chunks.
    """
    if dtype == np.dtype("S1") and len(shape) == ndim + 1:
        *shape_, length = shape
        *chunks_, whole = chunks
        if whole != length:
            raise UnreferableError(f"its strings of {length} characters are cut into chunks of {whole}")
        dtype, shape, chunks = np.dtype(f"S{length}"), tuple(shape_), tuple(chunks_)
        fill = fill * length if isinstance(fill, bytes) else None
    said, filled = _said(dtype.str, chunks, fill, json.dumps([*codecs]))
    return Stored(Layout(chunks, said, filled, contiguous), shape, dtype)


@lru_cache(maxsize=256, typed=True)  # files of a series say the same, and Zarr takes a while to
def _said(dtype: str, chunks: tuple[int, ...], fill: object, codecs: str) -> tuple[tuple[dict[str, Any], ...], Any]:
    """All codecs and the fill value, as Zarr 3 has them in JSON."""
    require_virtualizarr()
    from virtualizarr.manifests.utils import create_v3_array_metadata  # noqa: PLC0415 - optional, and it takes a while

    try:
        with unwarned():
            said: dict[str, Any] = create_v3_array_metadata(
                shape=chunks, data_type=np.dtype(dtype), chunk_shape=chunks, fill_value=fill, codecs=json.loads(codecs)
            ).to_dict()
    except (ValueError, TypeError, KeyError) as error:
        message = f"Zarr cannot say how its values of the type {np.dtype(dtype)} are stored: {error}"
        raise UnreferableError(message) from error
    return plain_codecs(said["codecs"]), said["fill_value"]


def plain_codecs(codecs: Iterable[Any]) -> tuple[dict[str, Any], ...]:
    """Codecs as JSON has them: with lists in place of tuples."""
    return tuple(_like_json(codec) for codec in codecs)


def _like_json(value: object) -> Any:  # noqa: ANN401 - whatever JSON holds
    if isinstance(value, dict):
        return {str(key): _like_json(one) for key, one in value.items()}
    return [_like_json(one) for one in value] if isinstance(value, list | tuple) else value


@contextmanager
def unwarned() -> Iterator[None]:
    """Without Zarr's warnings that other readers may not know a codec or a type; these arrays are read by Zarr."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Numcodecs codecs are not in the Zarr version 3 specification")
        warnings.filterwarnings("ignore", "The data type .* does not have a Zarr V3 specification")
        warnings.filterwarnings("ignore", "The codec .* is currently not part in the Zarr format 3 specification")
        yield


def require_virtualizarr() -> None:
    """Refuse to go on without the extra that references take.

    Raises
    ------
    InvalidInputError
        If VirtualiZarr is not installed.
    """
    try:
        import virtualizarr  # noqa: F401, PLC0415 - optional
    except ImportError as error:
        raise InvalidInputError(
            "references into files take VirtualiZarr: install frazil[virtual] here and where functions run"
        ) from error
