"""Attributes that give values their meaning: where files differ in them, one array cannot hold both.

The target has the attributes of the first file. Titles, histories and comments may differ; what
says which quantity a number is may not.
"""

from typing import Final

from frazil_functions.errors import MismatchedSourceError
from frazil_functions.reading.encoding import JSON
from frazil_functions.reading.scanning import FileMetadata

_DECIDING: Final = ("flag_values", "flag_meanings", "flag_masks", "positive", "grid_mapping")
"""What a reader needs to read the numbers at all (CF conventions, chapters 3.5, 4.3 and 5.6)."""

_TELLING: Final = ("standard_name", "cell_methods")
"""What names the quantity (CF, chapters 3.3 and 7.3); a file that does not say contradicts none that does."""

_DESCRIBING: Final = frozenset({"long_name", "comment", "history", "spatial_ref", "crs_wkt", "GeoTransform"})
"""What a grid mapping says besides its parameters (CF, appendix F), or says again in words of another's."""


def check_meaning(name: str, first: FileMetadata, file: FileMetadata) -> None:
    """Refuse a variable that means something else than in the first file.

    Raises
    ------
    MismatchedSourceError
        Naming the file, the variable, the attribute and both values.
    """
    ours, theirs = first.variables[name].attributes, file.variables[name].attributes
    deciding = set(_DECIDING)
    if "grid_mapping_name" in ours or "grid_mapping_name" in theirs:
        deciding |= (ours.keys() | theirs.keys()) - _DESCRIBING
    for key in sorted(deciding | set(_TELLING)):
        own, other = _plain(ours.get(key)), _plain(theirs.get(key))
        if own == other or (key not in deciding and None in {own, other}):
            continue
        raise MismatchedSourceError(
            f"{file.url}: {name!r} has the {key} {theirs.get(key)!r}, and in {first.url} {ours.get(key)!r}; one array "
            "would give the values of both the first file's meaning. Make the attributes equal, or leave the variable "
            "out (--variables)."
        )


def _plain(value: JSON) -> str | None:
    """What is written alike where it means the same: one number for a list of one, one space for several."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None:
        return None
    return " ".join(value.split()) if isinstance(value, str) else repr(value)
