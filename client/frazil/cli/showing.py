"""What a person or a script sees: progress on standard error, results on standard output."""

import contextlib
import logging
import sys
from collections.abc import Iterator, Sequence

from frazil.cli.options import Shown
from frazil.progress_bar import progress_bar
from frazil.report import Listener, Result
from frazil_functions.runs.status import RunStatus
from frazil_functions.text import duration, size


def write_out(text: str) -> None:
    """Write to standard output, if there is one."""
    if sys.stdout is not None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def summary(result: Result, repository: str) -> str:
    """What a person wants to know when a run is done."""
    if not result.regions and not result.tasks:
        return f"Nothing is new: {result.branch!r} of {repository} stays at {result.snapshot_id} (run {result.run_id})"
    group = f', group="{result.group}"' if result.group else ""
    rate = result.bytes / max(result.seconds, 1e-9)
    took = f"{size(result.bytes)} in {result.seconds:.1f} s ({size(rate)}/s)"
    calls = f"{result.tasks} function calls, {result.verified} regions read back"
    lines = (
        f"Published {result.snapshot_id} on {result.branch!r} of {repository}",
        f"  {result.regions} regions, {took}, {calls}",
        f"  run {result.run_id}, plan {result.plan_hash[:16]}",
        "Read it with",
        f'  repo = frazil.open_repository("{repository}")',
        f'  xarray.open_zarr(repo.readonly_session("{result.branch}").store, consolidated=False{group})',
    )
    return "\n".join(lines)


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
    if shown.verbose:
        logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    with progress_bar(hidden=shown.quiet or not sys.stderr.isatty()) as listener:
        yield listener
