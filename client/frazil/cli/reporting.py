"""The command that tells of plans and runs, to people, to programs, and to the summary of a CI's job."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final, Literal

from frazil.cli.app import app
from frazil.cli.costing import Priced
from frazil.cli.given import FromFile
from frazil.cli.options import Backend, Shown, Where
from frazil.cli.pinning import check_pin, pin_of
from frazil.cli.rendering import as_markdown, as_text, plan_rows, run_rows, since
from frazil.cli.showing import compared_words, write_out
from frazil.costing.compare import compare
from frazil.costing.telling import brief, plain
from frazil.estimating import estimate
from frazil.report import Compared, Spent
from frazil_functions.errors import InvalidInputError
from frazil_functions.locations import locate
from frazil_functions.plan import Plan
from frazil_functions.rundir import RunDirectory
from frazil_functions.runs.reporting import RunReport
from frazil_functions.runs.reporting import report as report_of
from frazil_functions.runs.start import directory_of

_RECEIPTED: Final = frozenset({"work_seconds", "memory_bytes", "gb_seconds", "work_dollars"})
"""What the directory of a run tells of what it took; calls and requests only who made them can count."""


@app.command(
    usage="Usage: frazil report PLAN [OPTIONS]\n       frazil report REPOSITORY RUN [OPTIONS]\n"
    "       frazil report RUN-DIRECTORY [OPTIONS]"
)
def report(  # noqa: PLR0913 - each is a group of options
    what: str,
    run: str | None = None,
    /,
    *,
    format: Literal["text", "markdown", "json", "pin"] = "text",  # noqa: A002 - the option's name
    pin: Path | None = None,
    file: FromFile | None = None,
    where: Where | None = None,
    priced: Priced | None = None,
    shown: Shown | None = None,
) -> None:
    """Tell what a plan would do, or what a run has done: what was written, how fast, and what went wrong.

    What a plan is expected to take is told for the backend that is named here, or in the job file; and of a run, beside
    what it took, if one is named.

    Parameters
    ----------
    what
        A file that `frazil plan --out` kept; or a repository; or the directory of a run.
    run
        The run, if a repository is named.
    format
        Text, a table in Markdown, one JSON object, or of a plan its pin.
    pin
        A file that pins the plan that was reviewed; another one is refused.
    """
    where, priced = where or Where(), priced or Priced()
    priced.check()
    kind = "json" if shown is not None and shown.json else format
    if run is None and Path(what).is_file():
        plan = read_plan(Path(what))
        with (file or FromFile()).explaining():
            write_out(_of_plan(plan, kind, where, priced))
        if pin is not None:
            check_pin(plan, pin)
        return
    if kind == "pin" or pin is not None:
        raise InvalidInputError(f"a pin is of a plan, and {what} is no file of one: frazil plan ... --out plan.json")
    place = locate(what)
    directory = RunDirectory(place) if run is None else directory_of(place, run)
    found = report_of(directory)
    with (file or FromFile()).explaining():
        compared = () if where == Where() or found.state != "published" else _compared(directory, found, where, priced)
    if kind == "json":
        write_out(json.dumps(asdict(found) | {"compared": [asdict(one) for one in compared]}))
        return
    beside = [("estimated", ", ".join(compared_words(compared)))] if compared else []
    write_out((as_markdown if kind == "markdown" else as_text)(since(found), [*run_rows(found), *beside]))


def _compared(directory: RunDirectory, found: RunReport, where: Where, priced: Priced) -> tuple[Compared, ...]:
    """What a run was expected to take, beside what its receipts say."""
    data = directory.plan()
    if data is None:  # it was removed meanwhile
        return ()
    plan = Plan.from_json(data, proven=True)
    with Backend(**asdict(where)).executor() as executor:
        expected = estimate(plan, executor=executor, prices=priced.prices)
    spent = Spent(found.work.seconds, peak_memory_bytes=found.work.peak_memory_bytes)
    return tuple(one for one in compare(plan, expected, spent) if one.what in _RECEIPTED)


def read_plan(file: Path) -> Plan:
    """The plan that a file keeps.

    Raises
    ------
    InvalidInputError
        If it cannot be read, or is none.
    """
    try:
        return Plan.from_json(file.read_bytes())
    except OSError as error:
        raise InvalidInputError(f"the plan {file} cannot be read: {error.strerror or error}") from error
    except InvalidInputError as error:
        error.args = (f"{file}: {error}",)
        raise


def _of_plan(plan: Plan, kind: str, where: Where, priced: Priced) -> str:
    if kind == "pin":
        return pin_of(plan).removesuffix("\n")
    with Backend(**asdict(where)).executor() as executor:
        expected = estimate(plan, executor=executor, prices=priced.prices)
    if kind == "json":
        target = plan.target
        counts = {"regions": plan.region_count, "tasks": len(plan.tasks), "bytes": plan.nbytes}
        return json.dumps(
            {
                "plan_hash": plan.hash,
                "work_hash": plan.work_hash,
                "repository": str(target.location or ""),
                "branch": target.branch,
                "group": target.group,
                "mode": target.mode,
                "base": target.base or "",
                "sources": len(plan.sources),
                "nothing_new": plan.nothing_new,
                **counts,
                "estimate": plain(expected),
            }
        )
    return (as_markdown if kind == "markdown" else as_text)("Plan", plan_rows(replace(plan, expected=brief(expected))))
