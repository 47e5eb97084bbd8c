"""A shell's way to the entry points: one JSON event in, one JSON answer out, and nothing of the client.

python -m frazil_functions '{"action": "status", "run": "archive.icechunk.frazil/nightly"}'
python -m frazil_functions < event.json
"""

import json
import logging
import sys

import icechunk

from frazil_functions.errors import FrazilError
from frazil_functions.handler import handle

_FAILED = 1
_REFUSED = 2


def main(arguments: list[str]) -> int:
    """Answer one event; return the exit code: 0 done, 1 failed, 2 refused."""
    if len(arguments) > 1:
        sys.stderr.write("usage: python -m frazil_functions [EVENT], with the event as JSON or on standard input\n")
        return _REFUSED
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    icechunk.set_logs_filter("icechunk=error")
    try:
        event = json.loads(arguments[0] if arguments else sys.stdin.read())
    except ValueError as error:
        sys.stderr.write(f"frazil: the event is not JSON: {error}\n")
        return _REFUSED
    try:
        said = handle(event)
    except FrazilError as error:
        sys.stderr.write(f"frazil: {error}\n")
        return error.exit_code
    except (icechunk.IcechunkError, OSError) as error:
        sys.stderr.write(f"frazil: {error}\n")
        return _FAILED
    sys.stdout.write(json.dumps(said) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
