"""The application: how it is called, and how it exits."""

import logging
import signal
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import icechunk
from cyclopts import App, CycloptsError

from frazil import __version__
from frazil.cli.given import fill_in
from frazil.cli.logs import Asked, harmless, logging_as
from frazil.packing.rounding import spelled_out, taken_for_paths
from frazil_functions.errors import BackendError, FrazilError, SourceError
from frazil_functions.remedies import remedy
from frazil_functions.settings import named_options

logger = logging.getLogger(__name__)

FAILED: Final = 1
REFUSED: Final = 2
INTERRUPTED: Final = 130
WORK: Final = 2
"""What `plan --detailed-exitcode` exits with where there is work; whatever is wrong is 1 then."""

_DETAILED: Final = "--detailed-exitcode"


class Exit(Exception):  # noqa: N818 - nothing is wrong
    """The command is done, and exits with a code of its own."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


app = App(
    name="frazil",
    help="Write arrays into Icechunk from many functions at once, and publish them as one commit.",
    version=__version__,
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
    config=fill_in,
)


def _terminated(_: int, __: object) -> None:
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code.

    0: done. 1: failed, and nothing was published. 2: bad usage, or input that was refused. 130:
    interrupted before anything was published.
    """
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    asked = Asked.of(tokens, named_options("FRAZIL_"))
    with logging_as(asked):
        began = time.perf_counter()
        command = next((token for token in tokens if token in app), "")
        logger.info("frazil %s begins", command, extra={"event": "begin", "command": command, "version": __version__})
        code = _run(tokens, asked)
        seconds = time.perf_counter() - began
        of = {"event": "end", "command": command, "exit_code": code, "seconds": round(seconds, 3)}
        logger.info("frazil %s ends with exit code %d after %.1f s", command, code, seconds, extra=of)
    return code


def _run(tokens: Sequence[str], asked: Asked) -> int:
    """Run what was asked for; return its exit code."""
    verbose = bool(asked.verbose)
    if not verbose and not sys.warnoptions:
        # Warnings of libraries are for their authors' users, and would tear the progress bar.
        warnings.simplefilter("ignore")
    for sign in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, _terminated)
    # Icechunk warns at every opening that local storage is not safe for commits at once; a lock makes it so.
    icechunk.set_logs_filter("icechunk=warn" if asked.verbose > 1 and asked.format == "text" else "icechunk=error")
    detailed = _DETAILED in tokens or "detailed_exitcode" in named_options("FRAZIL_")
    refused = FAILED if detailed else REFUSED
    try:
        app(spelled_out(tokens), exit_on_error=False, print_error=False, result_action="return_none")
    except Exit as done:
        return done.code
    except CycloptsError as error:
        return _say(error, refused, replace(asked, verbose=0))
    except FrazilError as error:
        meant = taken_for_paths(tokens) if isinstance(error, SourceError) else []
        if meant and not Path(meant[0]).exists():
            name = meant[0].split(",")[0]
            error.args = (
                f"{error} ({meant[0]!r} behind --pack is a path; a variable is packed by --pack {name}=int16)",
            )
        return _say(error, refused if error.exit_code == REFUSED else error.exit_code, asked)
    except (icechunk.IcechunkError, OSError) as error:
        # What Icechunk and the system say of the storage, where no step of the job could do anything about it.
        said = " ".join(str(error).split())
        return _say(BackendError(said + remedy(said)), FAILED, asked)
    except KeyboardInterrupt as interrupt:
        notes = "".join(f"; {note}" for note in getattr(interrupt, "__notes__", []))
        return _say(
            KeyboardInterrupt(f"interrupted; nothing was published{notes}"), INTERRUPTED, replace(asked, verbose=0)
        )
    return 0


def _say(error: BaseException, code: int, asked: Asked) -> int:
    """Say what went wrong: the last line, and before it where it comes from, if that is asked for."""
    traced = error if asked.verbose else None
    if asked.format == "json":
        of = {"event": "failed", "error": type(error).__name__, "exit_code": code}
        logger.error("%s", error, exc_info=traced, extra=of)
        return code
    if traced is not None:
        logger.error("failed", exc_info=traced)
    sys.stderr.write(f"frazil: {harmless(str(error))}\n")
    return code


def script() -> None:
    """The entry point of the installed command."""
    sys.exit(main())
