"""The command that looks for what is wrong with where Frazil is to run."""

import json
from dataclasses import asdict, replace

import frazil.doctor
from frazil.cli.app import app
from frazil.cli.logs import harmless
from frazil.cli.options import Backend, Shown
from frazil.cli.showing import write_out
from frazil.doctor import Finding
from frazil_functions.errors import BackendError, InvalidInputError
from frazil_functions.locations import locate


@app.command(usage="Usage: frazil doctor [REPOSITORY] [OPTIONS]")
def doctor(repository: str | None = None, /, *, backend: Backend | None = None, shown: Shown | None = None) -> None:
    """Try everything that a run needs, and say of each whether it is ok or what helps.

    Credentials, endpoint, clock, regions, buckets, permissions, the repository, the function and its versions: what is
    allowed is tried, with objects that are removed again. Exits with 1 if anything is wrong, and with 2 if there is no
    such backend or Lithops' configuration cannot be meant.

    Parameters
    ----------
    repository
        Where a run would write.
    """
    backend, shown = backend or Backend(), shown or Shown()
    where = locate(repository) if repository is not None else None
    found = []
    with backend.chosen() as executor:
        for finding in frazil.doctor.examine(executor, where):
            one = replace(finding, said=" ".join(harmless(finding.said).split()))
            found.append(one)
            if not shown.json:
                write_out(_line(one))
    wrong = [one.check for one in found if one.state == "wrong"]
    if shown.json:
        write_out(json.dumps({"ok": not wrong, "findings": [asdict(one) for one in found]}))
    if wrong:
        kind = InvalidInputError if any(one.refused for one in found) else BackendError
        raise kind(f"not everything is as it should be: {', '.join(wrong)}")


def _line(one: Finding) -> str:
    return f"{one.state:<8} {one.check}: {one.said}"
