"""Which dimension a time series runs along, and which ones a map lies in, as coordinates say of themselves."""

from collections.abc import Mapping, Sequence
from typing import Final

from frazil.advising.cost import Shape
from frazil_functions.reading.encoding import Attributes, is_time_unit

_DEGREES: Final = frozenset(
    {
        *(
            "degrees_north",
            "degree_north",
            "degree_N",
            "degrees_N",
            "degreeN",
            "degreesN",
        ),  # CF conventions, chapter 4.1
        *("degrees_east", "degree_east", "degree_E", "degrees_E", "degreeE", "degreesE"),  # chapter 4.2
    }
)
_HORIZONTAL: Final = frozenset(
    f"{name}{of}" for of in ("", "_angular") for name in ("projection_x", "projection_y")
) | frozenset({"latitude", "longitude", "grid_latitude", "grid_longitude"})
_MAP: Final = 2
"""How many dimensions a map has."""


def shape_of(
    name: str,
    lengths: Mapping[str, int],
    itemsize: int,
    coordinates: Mapping[str, Attributes],
    append_dim: str | None,
    file_length: int,
) -> Shape:
    """An array as far as cutting it matters.

    Parameters
    ----------
    name, lengths, itemsize
        Of the array, over all files.
    coordinates
        The attributes of variables, by name; those that are named like a dimension tell what it is.
    append_dim
        The dimension that files follow each other on.
    file_length
        The length of a file along it.
    """
    dims = tuple(lengths)
    series = series_dim(dims, coordinates, append_dim)
    own = {append_dim: file_length} if append_dim is not None and append_dim in lengths else {}
    return Shape(name, dict(lengths), itemsize, series, map_dims(dims, coordinates, series), own)


def series_dim(dims: Sequence[str], coordinates: Mapping[str, Attributes], append_dim: str | None) -> str | None:
    """The dimension of time: the one that files follow each other on if several are; else that one itself."""
    times = [dim for dim in dims if _is_time(coordinates.get(dim, {}))]
    others = times or [dim for dim in dims if not _is_horizontal(coordinates.get(dim, {}))]
    if append_dim in others:
        return append_dim
    return times[0] if times else None


def map_dims(dims: Sequence[str], coordinates: Mapping[str, Attributes], series: str | None) -> frozenset[str]:
    """The dimensions of latitude and longitude, or of a projection; the last two beside time where none says so."""
    told = [dim for dim in dims if _is_horizontal(coordinates.get(dim, {}))]
    return frozenset(told or [dim for dim in dims if dim != series][-_MAP:])


def _is_time(attributes: Attributes) -> bool:
    return (
        is_time_unit(attributes.get("units"))
        or attributes.get("axis") == "T"
        or attributes.get("standard_name") == "time"
    )


def _is_horizontal(attributes: Attributes) -> bool:
    standard = str(attributes.get("standard_name", "")).removesuffix("_coordinate")
    return attributes.get("units") in _DEGREES or attributes.get("axis") in {"X", "Y"} or standard in _HORIZONTAL
