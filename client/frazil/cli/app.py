"""The application: how it is called, and how it exits."""

import logging
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import Final

import icechunk
from cyclopts import App, CycloptsError

from frazil import __version__
from frazil_functions.errors import BackendError, FrazilError

logger = logging.getLogger(__name__)

FAILED: Final = 1
REFUSED: Final = 2
INTERRUPTED: Final = 130

app = App(
    name="frazil",
    help="Write arrays into Icechunk from many functions at once, and publish them as one commit.",
    version=__version__,
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
)


def _terminated(_: int, __: object) -> None:
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code.

    0: done. 1: failed, and nothing was published. 2: bad usage, or input that was refused. 130:
    interrupted before anything was published.
    """
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    verbose = bool({"-v", "--verbose"} & set(tokens))
    if not verbose and not sys.warnoptions:
        # Warnings of libraries are for their authors' users, and would tear the progress bar.
        warnings.simplefilter("ignore")
    for sign in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, _terminated)
    # Icechunk warns at every opening that local storage is not safe for commits at once; a lock makes it so.
    icechunk.set_logs_filter("icechunk=error" if not verbose else "icechunk=warn")
    try:
        app(tokens, exit_on_error=False, print_error=False, result_action="return_none")
    except CycloptsError as error:
        return _say(error, REFUSED, verbose=False)
    except FrazilError as error:
        return _say(error, error.exit_code, verbose=verbose)
    except (icechunk.IcechunkError, OSError) as error:
        # What Icechunk and the system say of the storage, where no step of the job could do anything about it.
        return _say(BackendError(" ".join(str(error).split())), FAILED, verbose=verbose)
    except KeyboardInterrupt as interrupt:
        notes = "".join(f"; {note}" for note in getattr(interrupt, "__notes__", []))
        sys.stderr.write(f"frazil: interrupted; nothing was published{notes}\n")
        return INTERRUPTED
    return 0


def _say(error: Exception, code: int, *, verbose: bool) -> int:
    if verbose:
        logger.error("failed", exc_info=error)
    sys.stderr.write(f"frazil: {error}\n")
    return code


def script() -> None:
    """The entry point of the installed command."""
    sys.exit(main())
