"""GRIB by way of gribberish: messages are chunks, and its codec decodes them."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from frazil_functions.errors import InvalidInputError
from frazil_functions.layouts import Layout
from frazil_functions.reading.remote import PATIENCE, Pages, RemoteFile, is_remote
from frazil_functions.reading.stored import Chunks, Stored, UnreferableError
from frazil_functions.storage import Patience

_PLANE: Final = 2
"""A message holds the last two dimensions of a variable."""


class GribFile:
    """The messages of a GRIB file, as gribberish sorts them into variables of one dataset.

    Parameters
    ----------
    variables
        What `gribberish.parse_grib_dataset` calls its data variables.
    size
        The length of the file in bytes.
    """

    def __init__(self, variables: dict[str, Any], size: int) -> None:
        self._variables = variables
        self._size = size

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return self._size

    def stored(self, name: str, ndim: int) -> Stored:
        """How a variable is stored."""
        shape, messages = self._messages(name)
        if len(shape) != ndim or len(messages) != math.prod(shape[:-_PLANE]):
            raise UnreferableError(f"its {len(messages)} messages do not fill its {len(shape)} dimensions")
        chunks = (*(1 for _ in shape[:-_PLANE]), *shape[-_PLANE:])
        # What the parser for VirtualiZarr that comes with gribberish says, and its codec repeats.
        codec = {"name": "gribberish", "configuration": {"var": name}}
        return Stored(Layout(chunks, (codec,), "NaN"), shape, np.dtype("<f8"))

    def chunks(self, name: str, ndim: int) -> Chunks:
        """Where its messages lie, in the order of its dimensions."""
        found = Chunks.none(self.stored(name, ndim).grid)
        places = np.array(self._messages(name)[1], np.uint64).reshape(*found.offsets.shape, 2)
        found.offsets[...], found.lengths[...], found.stored[...] = places[..., 0], places[..., 1], True
        return found

    def _messages(self, name: str) -> tuple[tuple[int, ...], list[tuple[int, int]]]:
        if name not in self._variables:
            raise UnreferableError("it is made from the headers of messages, and is no message itself")
        values = self._variables[name]["values"]
        return tuple(map(int, values["shape"])), values["offsets"]


@contextmanager
def open_grib(
    url: str, mark: str = "", pages: Pages | None = None, patience: Patience = PATIENCE
) -> Iterator[GribFile]:
    """A GRIB file, here or behind a URL; it is read whole, for it has no index.

    Raises
    ------
    InvalidInputError
        If gribberish is not installed.
    UnreferableError
        If its messages are no single dataset.
    """
    try:
        from gribberish import parse_grib_dataset  # noqa: PLC0415 - optional
    except ImportError as error:
        raise InvalidInputError(
            "references into GRIB files take gribberish: install frazil[grib] here and where functions run"
        ) from error
    with RemoteFile(url, mark, pages, patience) if is_remote(url) else Path(url).open("rb") as file:
        data = file.read() or b""
    found = parse_grib_dataset(data, collapse_groups=True, encode_coords=True)
    if found.get("groups"):
        raise UnreferableError("its messages are no single dataset, for levels or kinds of values differ")
    yield GribFile(found.get("data_vars", {}), len(data))
