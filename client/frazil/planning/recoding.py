"""Recoding: what the target must store in another way than the first file does."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from frazil.packing.rounding import Stored
from frazil.template.build import Recoding
from frazil_functions.errors import MismatchedSourceError
from frazil_functions.reading.encoding import PACKING, Attributes, bounded_attributes, is_time_unit, rounds
from frazil_functions.reading.rounding import BITS, ERROR, KEEPBITS
from frazil_functions.reading.scanning import FileMetadata


def recoding_of(
    files: Sequence[FileMetadata], recodes: Sequence[frozenset[str]], append_dim: str | None, *, rounded: bool = False
) -> Recoding:
    """What the target must store in another way than the first file does.

    Where scale or offset differ between files, no packing holds the values of all, so they are
    stored unpacked; unless the first says that it is stored with loss, and may be taken at its word (`rounded`).
    Strings of fixed length get the length of the longest.
    """
    first = files[0]
    dtypes: dict[str, str] = {}
    attributes: dict[str, Attributes] = {}
    own = {name: variable.attributes for name, variable in first.variables.items()}
    for name in frozenset[str]().union(*recodes):
        wanted = bounded_attributes(name, own)
        variables = [file.variables[name] for file in files]
        scales = {str([one.attributes.get(key) for key in ("scale_factor", "add_offset")]) for one in variables}
        lossy = rounded and rounds(first.variables[name].dtype, own[name])
        if len(scales) > 1 and not lossy:
            kinds = [np.dtype(one.decoded or one.dtype) for one in variables]
            # Single precision has no digits for times, nor for labels that a scale in doubles was chosen for.
            least = np.float64 if name == append_dim or is_time_unit(wanted.get("units")) else np.float32
            dtypes[name] = np.result_type(*kinds, least).newbyteorder("<").str
            wanted = {key: value for key, value in wanted.items() if key not in PACKING}
        if wanted != own[name]:
            attributes[name] = wanted
    for name, variable in first.variables.items():
        if variable.dtype.startswith("|S"):
            longest = max(np.dtype(file.variables[name].dtype).itemsize for file in files if name in file.variables)
            dtypes.setdefault(name, f"|S{longest}")
    return Recoding(dtypes, attributes)


def unclaimed(files: Sequence[FileMetadata]) -> tuple[FileMetadata, ...]:
    """The files without what only some of them say of having lost: it would not be true of the others' values.

    And without what a group that they were read from asked for: what is written into another is not rounded for that.
    """
    names = files[0].variables.keys()
    gone = {
        (name, key)
        for name in names
        for key in (ERROR, BITS)
        if len({str(one.attributes.get(key)) for file in files if (one := file.variables.get(name)) is not None}) > 1
    }
    gone |= {(name, KEEPBITS) for name in names if KEEPBITS in files[0].variables[name].attributes}
    if not gone:
        return tuple(files)
    kept = {
        name: replace(one, attributes={key: value for key, value in one.attributes.items() if (name, key) not in gone})
        for name, one in files[0].variables.items()
    }
    return replace(files[0], variables=kept), *files[1:]


def stored_so(recoding: Recoding, stored: Mapping[str, Stored]) -> Recoding:
    """A recoding, and what is stored in another way because somebody asked for it."""
    dtypes = {name: one.dtype for name, one in stored.items()}
    attributes = {name: one.attributes for name, one in stored.items()}
    return Recoding({**recoding.dtypes, **dtypes}, {**recoding.attributes, **attributes})


def units_of_bounds(existing: FileMetadata, recoding: Recoding) -> dict[str, Attributes]:
    """Units that bounds of a group take from their coordinate, and need in writing where files count otherwise."""
    own = {name: variable.attributes for name, variable in existing.variables.items()}
    return {
        name: {key: value for key, value in wanted.items() if key not in own[name]}
        for name, wanted in recoding.attributes.items()
        if wanted == bounded_attributes(name, own) != own[name]
    }


def check_kept(existing: FileMetadata, recoding: Recoding) -> None:
    """Refuse files that a group cannot hold as it stores what it has.

    Raises
    ------
    MismatchedSourceError
        Naming the variable.
    """
    own = existing.variables
    counted = units_of_bounds(existing, recoding)
    for name in (recoding.attributes.keys() - counted.keys()) | {
        n for n, dtype in recoding.dtypes.items() if dtype != own[n].dtype
    }:
        raise MismatchedSourceError(
            f"{name!r} is stored in another way in the files than in {existing.url} (units, scale, fill value or "
            "the length of strings), and what is there cannot be stored anew. Convert the files first"
        )
