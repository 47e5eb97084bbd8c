"""Versions of what both ends of a pickle, and all drivers of a run, must agree on."""

import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Final

from frazil_functions import __version__

_SAID: Final = ("icechunk", "zarr", "xarray")
_SAME: Final = ("frazil", "icechunk")
"""These two decide what plans, receipts and forks look like."""


def versions() -> dict[str, str]:
    """What is installed here."""
    return {"python": platform.python_version(), "frazil": __version__} | {name: version(name) for name in _SAID}


def difference(theirs: Mapping[str, str]) -> str:
    """How other versions of frazil or icechunk differ from those installed here; empty if they do not."""
    ours = versions()
    other = [name for name in _SAME if theirs.get(name, ours[name]) != ours[name]]
    return ", ".join(f"{name} {theirs[name]} there and {ours[name]} here" for name in other)
