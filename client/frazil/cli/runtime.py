"""The commands of the function on Lambda: its image built, the function deployed, its versions checked."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Final

from cyclopts import App, Parameter

from frazil.cli.app import app
from frazil.cli.options import Shown
from frazil.cli.showing import write_out
from frazil.execution.asking import remote_versions
from frazil.execution.lithops import LithopsExecutor
from frazil.runtime.build import build, checkout, push
from frazil.runtime.check import Checked, check
from frazil.runtime.configuration import BACKEND, LambdaRuntime
from frazil.runtime.connection import Connection, identified
from frazil.runtime.deploy import Deployed, Wanted, changes, deploy, image_of
from frazil.runtime.metadata import SAME
from frazil_functions.errors import VersionError

_START_SECONDS: Final = 120.0
"""How long a call may take to begin; an image that was just pushed starts slowly."""

runtime_app = App(name="runtime", help="Build, deploy and check the function on Lambda that calls go to.")
app.command(runtime_app)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Function:
    """Which function.

    Attributes
    ----------
    lithops_config
        Lithops' configuration file, which names it; by default the one that Lithops itself finds.
    memory
        Its size in MB, where it is not that of the configuration; each size is a function of its own. Can be given
        several times.
    """

    lithops_config: Path | None = None
    memory: Annotated[tuple[int, ...], Parameter(negative=())] = ()

    def executor(self) -> LithopsExecutor:
        """What calls it, and knows Lithops' configuration."""
        return LithopsExecutor(backend=BACKEND, config_file=self.lithops_config, start_deadline=_START_SECONDS)

    def all(self) -> Iterator[tuple[LambdaRuntime, Connection, Callable[[], Mapping[str, str]]]]:
        """The function of each size, the connection to AWS, and what asks it for its versions."""
        executor = self.executor()
        found = LambdaRuntime.of(executor.configuration())
        connection = Connection.of(found)
        found = identified(found, connection)
        for memory in self.memory or (found.memory,):
            one = found.with_memory(memory)
            yield one, connection, partial(_asked, executor, memory)


def _asked(executor: LithopsExecutor, memory: int) -> dict[str, str]:
    with executor.sized(memory) as sized:
        return remote_versions(sized)


@runtime_app.command(name="build")
def build_image(
    *,
    function: Function | None = None,
    checkout_folder: Annotated[Path | None, Parameter(name="--checkout")] = None,
    extra: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    push_image: Annotated[bool, Parameter(name="--push", negative=())] = False,
    shown: Shown | None = None,
) -> None:
    """Build the image of functions from infra/runtime of a checkout, with docker or podman.

    Parameters
    ----------
    checkout_folder
        The checkout; by default the one that this command runs from.
    extra
        What functions need besides: virtual for references into files, grib for those into GRIB. Can be given several
        times.
    push_image
        Push it to ECR, where `frazil runtime deploy` finds it.
    """
    function, shown = function or Function(), shown or Shown()
    found = LambdaRuntime.of(function.executor().configuration())
    folder = checkout(checkout_folder)
    connection = Connection.of(found)
    if push_image:
        found = identified(found, connection)  # before minutes are spent
    build(found, folder, extra)
    pushed = None
    if push_image:
        push(found, connection)
        pushed = image_of(found, connection)  # by its digest, which says what it is whatever becomes of the tag
    if shown.json:
        write_out(json.dumps({"image": found.runtime, "pushed": pushed}))
    else:
        write_out(f"Built {found.runtime}" + (f", and pushed it to {pushed}" if pushed else ""))


@runtime_app.command(name="deploy")
def deploy_function(
    *,
    function: Function | None = None,
    image: str | None = None,
    on_failure: str | None = None,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    shown: Shown | None = None,
) -> None:
    """Make the function that Lithops calls, or bring it up to date, and put its metadata into the staging bucket.

    A function that was made otherwise, as by Terraform, gets the image and keeps its settings. What is as it should
    be is left alone.

    Parameters
    ----------
    image
        The image's URI in ECR; by default the one that `frazil runtime build --push` pushes.
    on_failure
        The ARN of a queue or a topic that Lambda sends calls to which failed.
    dry_run
        Show what would be done, and change nothing.
    """
    function, shown = function or Function(), shown or Shown()
    done = []
    for runtime, connection, ask in function.all():
        wanted = Wanted(runtime, image or image_of(runtime, connection), on_failure)
        due = changes(wanted, connection)
        if dry_run:
            done.append(Deployed(runtime.function, wanted.image, due.steps, due.notes))
        else:
            done.append(deploy(wanted, connection, ask, due))
    if shown.json:
        write_out(json.dumps({"dry_run": dry_run, "functions": [asdict(one) for one in done]}))
    else:
        write_out("\n".join(line for one in done for line in _deployed(one, dry_run=dry_run)))


def _deployed(one: Deployed, *, dry_run: bool) -> Iterator[str]:
    yield f"{one.function} ({one.image})"
    if not one.steps:
        yield "  as it should be"
    yield from (f"  {'would ' if dry_run else ''}{step}{'' if dry_run else ': done'}" for step in one.steps)
    yield from (f"  Note: {note}" for note in one.notes)
    if one.versions:
        yield f"  it has {', '.join(f'{name} {version}' for name, version in one.versions.items())}"


@runtime_app.command(name="check")
def check_function(*, function: Function | None = None, shown: Shown | None = None) -> None:
    """Compare the versions of this client, of the function's metadata and of the function itself.

    Exits with 1 if anything differs.
    """
    function, shown = function or Function(), shown or Shown()
    found = [check(*one) for one in function.all()]
    if shown.json:
        write_out(
            json.dumps({"ok": not any(one.problems for one in found), "functions": [asdict(one) for one in found]})
        )
    else:
        write_out("\n".join(line for one in found for line in _checked(one)))
    wrong = [one.function for one in found if one.problems]
    if wrong:
        raise VersionError(f"not as it should be: {', '.join(wrong)}; see above what helps")


def _checked(one: Checked) -> Iterator[str]:
    yield one.function
    rows = [("", "CLIENT", "METADATA", "FUNCTION")]
    rows += [(name, one.client[name], one.metadata.get(name, "?"), one.answered.get(name, "?")) for name in SAME]
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    for row in rows:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    yield from (f"  wrong: {problem}" for problem in one.problems)
    if not one.problems:
        yield "  ok"
