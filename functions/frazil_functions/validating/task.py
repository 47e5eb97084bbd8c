"""validate_task: look at parts of arrays in a read-only session, and say what was found."""

from contextlib import ExitStack
from typing import Any, Final

import icechunk
import zarr
from zarr.core.sync import sync

from frazil_functions.errors import InvalidInputError, SourceError
from frazil_functions.reading.sources import FileSources, Source
from frazil_functions.text import words
from frazil_functions.validating.comparing import compare_region
from frazil_functions.validating.presence import find_missing
from frazil_functions.validating.tasks import Against, Part, PartCheck, ValidateTask, load_session
from frazil_functions.validating.values import read_values, summary_of
from frazil_functions.writing.targets import open_targets

_FAULTS: Final = 20
"""How many faults of one part are told one by one."""


def validate_task(task: ValidateTask, session: icechunk.Session | None = None) -> list[PartCheck]:
    """Look at every part of the task, in order.

    Parameters
    ----------
    task
        What to look at.
    session
        The session, if it is open already.

    Raises
    ------
    BackendError
        If the storage does not answer, or refuses; that says nothing of what it holds.
    SourceError
        If a file to compare with cannot be read.
    """
    opened = session or load_session(task.session)
    arrays = open_targets(opened, task.group, (part.region.array for part in task.parts), "r")
    with ExitStack() as stack:
        source: Source | None = None
        if task.against is not None:
            source = stack.enter_context(FileSources(task.against.sources, task.against.append_dim))
        return [_look(part, opened.store, arrays[part.region.array], source, task.against) for part in task.parts]


def _look(
    part: Part, store: icechunk.IcechunkStore, array: zarr.Array[Any], source: Source | None, against: Against | None
) -> PartCheck:
    if part.look in {"present", "follow"}:
        stored, missing = sync(find_missing(store, array, part))
        named = missing if part.look == "follow" else missing[:_FAULTS]
        return PartCheck(part, stored, failed=len(missing), faults=tuple(named))
    pieces, damaged = read_values(array, part.region)
    failed, faults = len(damaged), tuple(damaged[:_FAULTS])
    if part.look == "decode":
        return PartCheck(part, summary=summary_of(array, pieces), failed=failed, faults=faults)
    if damaged:
        return PartCheck(part, failed=failed, faults=faults)
    assert source is not None
    assert against is not None
    meant = against.meant.get(part.region.array)
    try:
        return PartCheck(part, difference=compare_region(source, array, part.region, pieces[0], meant))
    except SourceError:
        raise
    except InvalidInputError as error:  # values of the files, or of the target, that the other cannot be told in
        return PartCheck(part, refused=words(error))
