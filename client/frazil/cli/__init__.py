"""The command line: one of the two front doors. It parses, shows and exits; the work is `frazil.job`'s."""

from frazil.cli import collecting, jobs, working  # noqa: F401 - their commands are part of the application
from frazil.cli.app import FAILED, INTERRUPTED, REFUSED, app, main, script
from frazil.cli.showing import summary

__all__ = ["FAILED", "INTERRUPTED", "REFUSED", "app", "main", "script", "summary"]
