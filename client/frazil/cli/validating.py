"""The command that validates what a repository holds."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from typing import Annotated, Any, Final

from cyclopts import Parameter

import frazil.validating.validate
from frazil.cli.app import app
from frazil.cli.given import FromFile
from frazil.cli.options import Backend, Shown
from frazil.cli.showing import listening, write_out
from frazil.jobfile.options import Contained
from frazil.jobfile.spelling import Names
from frazil.validating.report import ArrayFound, Span, Validation
from frazil_functions.errors import FrazilError

_SPANS: Final = 12
_FAULTS: Final = 50


class FaultsError(FrazilError):
    """Something is wrong with what a repository holds; standard output says what."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Look(Contained):
    """What is looked at.

    Attributes
    ----------
    group
        The group to look at, with all that lies below it; the root by default.
    branch
        Look at the tip of this branch; main by default.
    snapshot
        Look at this snapshot.
    against
        Files (paths, URLs, globs) to compare values with, label by label.
    variables
        Arrays to look at, by path within the group; all by default.
    full
        Decode every chunk; by default, see that every chunk is there, and decode a sample.
    complete
        Chunks that were never written are faults.
    """

    group: str = ""
    branch: str | None = None
    snapshot: str | None = None
    against: Annotated[tuple[str, ...] | None, Parameter(consume_multiple=True, negative=())] = None
    variables: Names | None = None
    full: Annotated[bool, Parameter(negative=())] = False
    complete: Annotated[bool, Parameter(negative=())] = False


@app.command(
    usage="Usage: frazil validate REPOSITORY [--against FILES...] [OPTIONS]\n"
    "       frazil validate --config FILE [--against FILES...] [OPTIONS]"
)
def validate(
    repository: str | None = None,
    /,
    *,
    file: FromFile | None = None,
    look: Look | None = None,
    backend: Backend | None = None,
    shown: Shown | None = None,
) -> None:
    """Look whether what a repository holds is whole, readable and consistent; write nothing.

    Exits with 1 if anything is wrong.

    Parameters
    ----------
    repository
        The repository, unless a job file names it; frazil need not have written it.
    """
    look, backend, shown, file = look or Look(), backend or Backend(), shown or Shown(), file or FromFile()
    if look.snapshot is not None and "branch" in file.config.origins:
        look = replace(look, branch=None)
    repository = file.repository(repository, "validate")
    options: dict[str, Any] = {one.name: getattr(look, one.name) for one in fields(look)}
    with file.explaining(), listening(shown) as listener, backend.executor() as executor:
        found = frazil.validating.validate.validate(repository, **options, executor=executor, listener=listener)
    write_out(json.dumps(asdict(found) | {"ok": found.ok}) if shown.json else _text(found, repository))
    if not found.ok:
        raise FaultsError(f"{repository} has faults ({len(found.faults)})")


def _text(found: Validation, repository: str) -> str:
    lines = [f"{repository}, snapshot {found.snapshot_id}, group /{found.group}"]
    lines += [line for array in found.arrays for line in _array(array)]
    lines += [] if found.arrays else ["  no arrays"]
    lines += [f"Note: {note}" for note in found.notes]
    lines += [f"Fault: {fault}" for fault in found.faults[:_FAULTS]]
    if len(found.faults) > _FAULTS:
        lines.append(f"and {len(found.faults) - _FAULTS} more faults; --json names all")
    how = "every chunk decoded" if found.full else "every chunk looked for, a sample decoded"
    if found.files:
        how += f", {found.files} file{'s' * (found.files != 1)} referred to"
    if found.compared:
        how += f", {found.compared} values compared with files"
    count = len(found.faults)
    lines.append(f"{count or 'No'} fault{'s' * (count != 1)} ({how}, {found.seconds:.1f} s)")
    return "\n".join(lines)


def _array(array: ArrayFound) -> Iterator[str]:
    dims = ", ".join(f"{dim} {size}" for dim, size in zip(array.dims, array.shape, strict=True))
    parts = [f"{array.dtype} ({dims})", f"{array.stored} of {array.units} write units stored"]
    if array.referred:
        parts[-1] += f" ({array.stored - array.referred} native, {array.referred} by reference to {array.files} "
        parts[-1] += f"file{'s' * (array.files != 1)}, {array.units - array.stored} missing)"
    summary = array.summary
    if summary.count:
        of = "" if array.whole else f" (of {array.decoded} decoded)"
        bounds = f"{summary.low:g} to {summary.high:g}, " if summary.low is not None else ""
        infinite = f", {summary.infinite} infinite" if summary.infinite else ""
        parts.append(f"{bounds}{summary.missing / summary.count:.1%} missing{infinite}{of}")
    yield f"  {array.path}: {'; '.join(parts)}"
    if any(span.state != "written" for span in array.coverage):
        yield from (f"    {_span(array, span)}" for span in array.coverage[:_SPANS])
        if len(array.coverage) > _SPANS:
            yield f"    and {len(array.coverage) - _SPANS} more ranges; --json names all"


def _span(array: ArrayFound, span: Span) -> str:
    named = f" ({span.labels[0]} to {span.labels[1]})" if span.labels else ""
    return f"{array.along} {span.start}:{span.stop} {span.state}{named}"
