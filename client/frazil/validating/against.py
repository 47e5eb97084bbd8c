"""Against: files that the target is compared with, placed by their labels as a write into a region would place them."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Final

import numpy as np

from frazil.execution.executor import Executor
from frazil.labels.compare import select
from frazil.planning.existing import Existing, scan_existing
from frazil.planning.fitted import Fitted
from frazil.planning.inputs import expand
from frazil.planning.into import fit_region
from frazil.planning.options import Options
from frazil.planning.scan import Sources, Wanted, scan_sources
from frazil.report import Listener
from frazil.validating.looking import REGION_BYTES, unit_bytes
from frazil.validating.report import Fault
from frazil.validating.tree import Member, Tree
from frazil_functions.errors import InvalidInputError, LabelError, MismatchedSourceError, nearest
from frazil_functions.reading.encoding import PACKING, STRING, Attributes, bounded_attributes
from frazil_functions.reading.rounding import ERROR, KEEPBITS
from frazil_functions.reading.scanning import FileMetadata, VariableMetadata
from frazil_functions.reading.times import calendar_name
from frazil_functions.validating.comparing import QUANTISED
from frazil_functions.validating.tasks import Against, Part

_LOSSES: Final = frozenset({*PACKING, ERROR, *QUANTISED, KEEPBITS})
"""What says how values are stored, and what they lose there."""
_OPTIONS: Final = Options(reorder=True, accept=frozenset({"units", "drift"}), on_attrs="keep")
"""Every value is compared under its own label, in whatever order and units they stand."""

_WRITING: Final = re.compile(r"--\w|\bfrazil \w")
"""How options and commands stand in messages."""

_LINKS: Final = ("coordinates", "bounds", "climatology")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Files, and the parts of the target that are compared with them."""

    against: Against
    parts: tuple[Part, ...]


def compared(
    tree: Tree, sources: Sequence[str], variables: Collection[str] | None, executor: Executor, listener: Listener
) -> tuple[list[Comparison], list[Fault]]:
    """What of a group is to be compared with files, and what cannot be because it is not there.

    Raises
    ------
    InvalidInputError
        If files cannot be read, or do not say how they follow each other.
    """
    existing = scan_existing(tree.session, f"group /{tree.group}", tree.group)
    wanted = Wanted() if variables is None else Wanted(variables=tuple(variables))
    found = scan_sources(expand(sources), wanted, executor, listener)
    names = dict.fromkeys(name for file in found.files for name in file.variables)
    faults = [
        Fault(
            "difference",
            name,
            f"{found.files[0].url} has this variable, and the group does not; {nearest(name, existing.file.variables)}",
            "Write it (--mode add), or leave it out (--variables)",
        )
        for name in names
        if name not in existing.file.variables
    ]
    common = [name for name in names if name in existing.file.variables]
    if not common:
        raise InvalidInputError(
            f"{found.files[0].url} has no variable that group /{tree.group} has, so there is nothing to compare"
        )
    if not found.append_dim or not any(found.append_dim in found.files[0].variables[name].dims for name in common):
        found = replace(found, append_dim=None)
    files = tuple(
        replace(file, variables={name: one for name, one in file.variables.items() if name in common})
        for file in select(found.files, None)
    )
    if len(files) == 1 or found.append_dim is not None:
        try:
            return [_placed(tree, existing, replace(found, files=files))], faults
        except (LabelError, MismatchedSourceError) as error:
            if len(files) == 1:
                return [], [*faults, _refused(error)]
    # Files that do not follow each other are compared one by one.
    comparisons = []
    for file in files:
        try:
            comparisons.append(_placed(tree, existing, replace(found, files=(file,))))
        except (LabelError, MismatchedSourceError) as error:
            faults.append(_refused(error))
    return comparisons, faults


def _refused(error: Exception) -> Fault:
    """What a write into a region would be refused for, less what helps those who write."""
    told = takewhile(lambda one: not _WRITING.search(one), re.split(r"(?<=[.;]) ", str(error)))
    return Fault("difference", "", " ".join(told).rstrip(".;") or str(error), "Nothing of these files was compared")


def _placed(tree: Tree, existing: Existing, sources: Sources) -> Comparison:
    meant = _meant(existing.file, sources.files)
    shown = replace(existing, file=_as_meant(_unlinked(existing.file), meant))
    alike = tuple(_as_meant(file, meant) for file in sources.files)
    fitted = fit_region(shown, replace(sources, files=alike), _OPTIONS, reading=True)
    placed = tuple(replace(one, recode=tuple(sorted({*one.recode, *meant}))) for one in fitted.sources)
    parts = tuple(_parts(tree.members, fitted))
    return Comparison(Against(placed, sources.append_dim, meant), parts)


def _parts(members: Mapping[str, Member], fitted: Fitted) -> Iterator[Part]:
    template = fitted.template
    for name, array in template.arrays.items():
        member = members.get(name)
        if member is None or member.is_label:  # labels were compared when the files were placed
            continue
        extents = {dim: template.extent(dim) for dim in array.dims if dim in template.extents}
        for region in member.grid.cut(max(1, REGION_BYTES // unit_bytes(member)), template.owned(name)):
            yield Part("compare", region.within(extents))


def _meant(group: FileMetadata, files: Sequence[FileMetadata]) -> dict[str, Attributes]:
    """Variables that a file stores in another way than the group, with the attributes that both are decoded to."""
    found: dict[str, Attributes] = {}
    own = {name: one.attributes for name, one in group.variables.items()}
    for name, variable in group.variables.items():
        if variable.dims == (name,) or not _numeric(variable):
            continue
        counted = bounded_attributes(name, own)
        for file in files:
            theirs = file.variables.get(name)
            if theirs is None or not _numeric(theirs):
                continue
            every = {key: one.attributes for key, one in file.variables.items()}
            if _storage(variable, counted) != _storage(theirs, bounded_attributes(name, every)):
                found[name] = {key: counted[key] for key in ("units", "calendar") if key in counted}
    return found


def _storage(variable: VariableMetadata, counted: Attributes) -> tuple[object, ...]:
    packing = [variable.attributes.get(key) for key in PACKING if key != "dtype"]
    return variable.dtype, str(packing), counted.get("units"), calendar_name(counted.get("calendar"))


def _as_meant(file: FileMetadata, meant: Mapping[str, Attributes]) -> FileMetadata:
    """A file, or the group, as if it stored the values themselves."""
    variables = {
        name: replace(
            one,
            dtype="<f8",
            decoded=None,
            digest=None,
            attributes={key: value for key, value in one.attributes.items() if key not in _LOSSES},
        )
        if name in meant
        else one
        for name, one in file.variables.items()
    }
    return replace(file, variables=variables)


def _unlinked(file: FileMetadata) -> FileMetadata:
    """The group without what links coordinates to variables: they are compared as any other variable.

    And without what it says of rounding, which matters only when values are compared.
    """

    def less(attributes: Attributes) -> Attributes:
        return {key: value for key, value in attributes.items() if key not in (*_LINKS, ERROR, *QUANTISED)}

    variables = {name: replace(one, attributes=less(one.attributes)) for name, one in file.variables.items()}
    return replace(file, attributes=less(file.attributes), variables=variables)


def _numeric(variable: VariableMetadata) -> bool:
    return variable.dtype != STRING and np.dtype(variable.dtype).kind in "iuf"
