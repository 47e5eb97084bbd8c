"""The command line: one of the two front doors. It parses, shows and exits; the work is `frazil.job`'s."""

# Their commands are part of the application.
from frazil.cli import (  # noqa: F401 - as said
    advice,
    collecting,
    describing,
    doctor,
    jobs,
    regions,
    reporting,
    runtime,
    validating,
    working,
)
from frazil.cli.app import FAILED, INTERRUPTED, REFUSED, app, main, script
from frazil.cli.showing import summary

__all__ = ["FAILED", "INTERRUPTED", "REFUSED", "app", "main", "script", "summary"]
