"""A local AWS to try by hand: `python -m tests.aws` starts one and says how a shell finds it.

It runs until it is interrupted, or for as long as `--for` says.
"""

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from . import names
from .local import LocalAws, shown, started
from .policies import missing

EXAMPLE = Path(__file__).parents[1] / "data" / "north-america"


def main() -> int:
    """Start it, say so, and wait."""
    parser = argparse.ArgumentParser(
        prog="just local-aws", description="A local AWS, to try `--backend aws_lambda` on."
    )
    parser.add_argument("--for", type=float, dest="seconds", metavar="SECONDS", help="end after so long")
    parser.add_argument("--port", type=int, default=0, help="of loopback; by default any that is free")
    parser.add_argument("--role", choices=["admin", *names.ROLES], default="client", help="whose keys are printed")
    parser.add_argument("--memory", type=int, choices=names.MEMORY_SIZES, default=1769, help="of the function, in MB")
    parser.add_argument("--timeout", type=int, default=300, help="of the function, in seconds")
    parser.add_argument("--concurrency", type=int, help="environments at once; by default twice the CPUs")
    options = parser.parse_args()
    if why := missing():
        sys.stderr.write(f"{why}\n")
        return 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with (
        contextlib.suppress(KeyboardInterrupt),
        tempfile.TemporaryDirectory(prefix="frazil-local-aws-") as folder,
        started(port=options.port) as aws,
    ):
        aws.function(options.memory, timeout=options.timeout, concurrency=options.concurrency)
        for file in sorted(EXAMPLE.glob("*.nc")):
            aws.client("s3").upload_file(str(file), aws.raw_bucket, f"example/{file.name}")
        config = Path(folder) / "lithops.yaml"
        config.write_text(json.dumps(aws.lithops_config(options.memory, options.timeout)))  # JSON is YAML
        for role in ("admin", *names.ROLES):
            file = Path(folder) / f"{role}.sh"
            file.touch(mode=0o600)
            file.write_text("\n".join(_variables(aws, role, config)) + "\n")
        sys.stdout.write(_said(aws, options.role, config))
        sys.stdout.flush()
        end = time.monotonic() + (options.seconds or float("inf"))
        while time.monotonic() < end:
            time.sleep(min(1.0, max(0.0, end - time.monotonic())))
    return 0


def _said(aws: LocalAws, role: str, config: Path) -> str:
    sources = f"'s3://{aws.raw_bucket}/example/*.nc'"
    lines = [
        f"# A local AWS on {aws.endpoint_url}. Put these lines into another shell, whose role is {role} from then on:",
        *_variables(aws, role, config),
        "# and then:",
        f"#   frazil convert {sources} {aws.repository} --chunks time=12 --backend aws_lambda",
        f"# Another shell is in another role with `. {config.parent}/ROLE.sh`: {', '.join(('admin', *names.ROLES))}",
        f"# process {os.getpid()} runs until Ctrl-C",
    ]
    return "\n".join(lines) + "\n"


def _variables(aws: LocalAws, role: str, config: Path) -> list[str]:
    """Lines of a shell that put it into a role, whichever it was in."""
    given = shown(aws.shell(role) | {"LITHOPS_CONFIG_FILE": str(config)})
    return [*given] if any("AWS_SESSION_TOKEN=" in line for line in given) else ["unset AWS_SESSION_TOKEN", *given]


if __name__ == "__main__":
    sys.exit(main())
