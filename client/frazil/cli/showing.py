"""What a person or a script sees: progress on standard error, results on standard output."""

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence

from frazil.cli.options import Shown
from frazil.costing.spread import Spread, number
from frazil.filling.made import TemplateResult
from frazil.progress_bar import progress_bar
from frazil.report import Compared, Listener, Result
from frazil_functions.runs.status import RunStatus
from frazil_functions.text import duration, escaped_lines, size


def write_out(text: str) -> None:
    """Write to standard output, if there is one; what came from files cannot drive a terminal."""
    if sys.stdout is not None:
        sys.stdout.write(escaped_lines(text) + "\n")
        sys.stdout.flush()


def summary(result: Result, repository: str) -> str:
    """What a person wants to know when a run is done."""
    if isinstance(result, TemplateResult):
        place = f"'/{result.group}' on {result.branch!r} of {repository}"
        title = f"Made {place}, without values, as {result.snapshot_id} (run {result.run_id})"
        return "\n  ".join((title, *str(result.made).splitlines()))
    if not result.regions and not result.tasks:
        return (
            f"No values were to be written: {result.branch!r} of {repository} is at {result.snapshot_id} (run "
            f"{result.run_id})"
        )
    group = f', group="{result.group}"' if result.group else ""
    containers = f", virtual_containers={json.dumps(result.containers)}" if result.containers else ""
    calls = f"{result.tasks} function calls, {result.verified} regions read back"
    compared = compared_words(result.compared)
    lines = (
        f"Published {result.snapshot_id} on {result.branch!r} of {repository}",
        f"  {result.regions} regions, {result.took}, {calls}",
        *([f"  {', '.join(compared)}"] if compared else []),
        f"  run {result.run_id}, plan {result.plan_hash[:16]}",
        "Read it with",
        f'  repo = frazil.open_repository("{repository}"{containers})',
        f'  xarray.open_zarr(repo.readonly_session("{result.branch}").store, consolidated=False{group})',
    )
    return "\n".join(lines)


def compared_words(compared: Sequence[Compared]) -> list[str]:
    """What was expected beside what came, of what a person pays for."""
    names = {"work_seconds": "s in functions", "gb_seconds": "GB-s", "work_dollars": "USD for these"}
    return [
        f"{number(one.actual)} {names[one.what]} ({Spread(one.low, one.high)} estimated)"
        for one in compared
        if one.what in names and one.actual is not None
    ]


def table(found: Sequence[RunStatus]) -> str:
    """Runs in columns."""
    rows = [("RUN", "STATE", "REGIONS", "BYTES", "AGE", "")]
    for one in found:
        share = f"{one.done}/{one.regions}"
        age = duration(one.age) if one.started else "?"
        rows.append(
            (
                one.run_id,
                one.state,
                share,
                f"{size(one.done_bytes)} of {size(one.bytes)}" if one.done < one.regions else size(one.bytes),
                age,
                one.snapshot_id or one.reason,
            )
        )
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


@contextlib.contextmanager
def listening(shown: Shown) -> Iterator[Listener]:
    """A progress bar on standard error, unless nobody looks or nobody wants it."""
    # Lines would tear it, and are read by programs.
    logs = shown.verbose or shown.log_format != "text"
    with progress_bar(hidden=shown.quiet or bool(logs) or not sys.stderr.isatty()) as listener:
        yield listener
