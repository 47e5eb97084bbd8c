"""Plans and runs as rows of names and values, and these as text and as Markdown."""

import html
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from frazil_functions.plan import Plan
from frazil_functions.runs.reporting import RunReport
from frazil_functions.text import duration, escaped, size

type Rows = Sequence[tuple[str, str]]

_MARKDOWN: Final = re.compile(r"([\\`*_\[\]#|~@:]|(?<=www)\.)")
"""What could make of a file's name or an attribute a link, an image, a mention or another cell; HTML is escaped."""


def plan_rows(plan: Plan) -> Rows:
    """What a person wants to know of a plan, and what tells it from others."""
    rows = [row for row in plan.describe() if row[0] != "hash"]
    rows.append(("does", "nothing: all of it is there" if plan.nothing_new else f"mode {plan.target.mode}"))
    return [*rows, ("plan", plan.hash), ("work", plan.work_hash)]


def run_rows(run: RunReport) -> Rows:
    """What a person wants to know of a run."""
    work = run.work
    share = f"{run.done} of {run.regions}" if run.done < run.regions else str(run.regions)
    rate = f", {size(run.bytes_per_second)}/s" if run.bytes_per_second else ""
    rows = [
        ("run", run.run_id),
        ("state", run.state),
        ("why", run.reason),
        ("snapshot", run.snapshot_id),
        ("target", f"{run.repository or 'a repository'} {run.branch}:/{run.group} ({run.mode})"),
        ("base", run.base or "new repository"),
        ("message", run.message),
        ("started", _moment(run.started)),
        ("took", f"{run.seconds:.1f} s{rate}" if run.started else ""),
        ("regions", f"{share} in {run.tasks} tasks, {size(run.done_bytes)} of values"),
        ("read back", f"{run.verified} regions" if run.snapshot_id else ""),
        ("functions", f"{work.seconds:.1f} s, reading {work.read_seconds:.1f} s, writing {work.write_seconds:.1f} s"),
        ("memory", f"{size(work.peak_memory_bytes)} at most" if work.peak_memory_bytes else ""),
        ("receipts", f"{work.receipts}" + (f", and {work.refused} refused" if work.refused else "")),
        ("failed calls", str(work.failures)),
        *((f"fault {number}", fault) for number, fault in enumerate(work.faults, 1)),
        ("plan", run.plan_hash),
        ("versions", ", ".join(f"{name} {version}" for name, version in sorted(run.versions.items()))),
        ("directory", run.location),
    ]
    return [row for row in rows if row[1]]


def as_text(title: str, rows: Rows) -> str:
    """Rows in two columns."""
    width = max(len(name) for name, _ in rows)
    return "\n".join((escaped(title), *(escaped(f"  {name:<{width}}  {value}") for name, value in rows)))


def as_markdown(title: str, rows: Rows) -> str:
    r"""Rows as a table, as GitHub and GitLab show it; whatever the values say, they stay text.

    Examples
    --------
    >>> print(as_markdown("Plan", [("sources", "a|b.nc")]))
    ### Plan
    <BLANKLINE>
    | | |
    |---|---|
    | sources | a\|b.nc |
    """
    lines = (f"| {_cell(name)} | {_cell(value)} |" for name, value in rows)
    return "\n".join((f"### {_cell(title)}", "", "| | |", "|---|---|", *lines))


def since(run: RunReport) -> str:
    """A run in a line, for a title."""
    if run.state == "published":
        return f"Run {run.run_id} is published"
    return f"Run {run.run_id} is {run.state}" + (f" since {duration(run.seconds)}" if run.started else "")


def _cell(text: str) -> str:
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    # Two dollar signs make a formula of what stands between them, unless they stand in elements of their own.
    return html.escape(_MARKDOWN.sub(r"\\\1", line), quote=False).replace("$", "<span>$</span>")


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(" ", "seconds") if seconds else ""
