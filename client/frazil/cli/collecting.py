"""The command that collects garbage."""

import json
import re
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from cyclopts import Parameter

import frazil.collecting
from frazil.cli.app import app
from frazil.cli.options import Shown
from frazil.cli.showing import listening, write_out
from frazil_functions.errors import BackendError, InvalidInputError
from frazil_functions.runs.garbage import Collected
from frazil_functions.text import size

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(s|min|h|d|w)|0")
_UNITS: Final = {"s": "seconds", "min": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_KINDS: Final = ("chunks", "manifests", "snapshots", "attributes", "transaction_logs")


@app.command(usage="Usage: frazil gc REPOSITORY [--delete] [OPTIONS]")
def gc(
    repository: str,
    /,
    *,
    delete: Annotated[bool, Parameter(negative=())] = False,
    older_than: str = "7d",
    abandon_after: str = "30d",
    shown: Shown | None = None,
) -> None:
    """Show what runs have left in a repository and beside it; with --delete, remove it.

    What a run in flight needs is never removed.

    Parameters
    ----------
    repository
        The repository.
    delete
        Remove it; by default, nothing is written.
    older_than
        Objects that nothing refers to, and directories of runs that have ended, go at this age (90s, 12h, 7d).
        Choose it longer than any session lasts that another program may have open.
    abandon_after
        A run that has not ended is abandoned this long after its last sign of life, and cannot be resumed then.
    """
    shown = shown or Shown()
    ages = {"older_than": _age("--older-than", older_than), "abandon_after": _age("--abandon-after", abandon_after)}
    with listening(shown):
        collected = frazil.collecting.gc(repository, delete=delete, **ages)
    if shown.json:
        write_out(json.dumps(asdict(collected) | {"complete": collected.complete}))
    else:
        write_out(_text(collected, repository))
    if not collected.complete:
        raise BackendError("not everything could be removed; mend what is said about it, and collect again")


def _age(option: str, text: str) -> timedelta:
    known = _DURATION.fullmatch(text.strip())
    try:
        if known is not None:
            return timedelta(**{_UNITS[known[2]]: float(known[1])}) if known[1] else timedelta()
    except OverflowError:
        pass  # longer than anything can be old
    raise InvalidInputError(
        f"{option} {text!r} is no age: use a number and one of {', '.join(_UNITS)}, as in 90s, 12h or 7d"
    )


def _text(collected: Collected, repository: str) -> str:
    objects = collected.objects
    counts = {kind.replace("_", " "): getattr(objects, kind) for kind in _KINDS}
    found = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    lines = [
        f"{'Removed' if collected.deleted else 'Would remove'} from {repository}",
        f"  objects      {found or 'none'}" + (f" ({size(objects.bytes)})" if found else ""),
        f"  runs         {_names(collected.abandoned)}, given up" if collected.abandoned else "",
        f"  branches     {_names(collected.branches)}" if collected.branches else "",
        f"  directories  {_names(collected.directories)}" if collected.directories else "",
        f"Kept everything since {datetime.fromtimestamp(collected.cutoff, UTC).isoformat(timespec='seconds')}"
        + (f", for {collected.held_by} may need it" if collected.held_by else ""),
        f"In flight: {_names(collected.in_flight)}" if collected.in_flight else "",
        f"Could not delete {objects.failed} objects: {'; '.join(objects.errors)}" if objects.failed else "",
        f"Did not try: {', '.join(objects.skipped)}, because of these; collect again" if objects.skipped else "",
        f"The storage asked {objects.throttled} times to go slower, and got it" if objects.throttled else "",
        *(f"Problem: {problem}" for problem in collected.problems),
        "" if collected.deleted else "Nothing was removed; --delete removes it",
    ]
    return "\n".join(line for line in lines if line)


def _names(names: tuple[str, ...]) -> str:
    shown = 10
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
