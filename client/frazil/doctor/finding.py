"""What a check finds, and how checks are made one after the other, none of which hides another."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from frazil_functions.errors import FrazilError

type State = Literal["ok", "warning", "wrong", "skipped"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found.

    Attributes
    ----------
    check
        What was looked at.
    state
        "ok"; "warning" for what works and should be mended; "wrong"; "skipped" where something else is wrong first.
    said
        What was found, and the cure where there is something to mend.
    refused
        Whether what was asked for cannot be meant, such as a backend that does not exist, so that no retry helps.
    """

    check: str
    state: State
    said: str
    refused: bool = False


def tried(check: str, trial: Callable[[], Iterable[Finding] | str]) -> Iterator[Finding]:
    """What a trial finds: its findings, what it says if all is well, or the error that it raises.

    Parameters
    ----------
    check
        What is looked at.
    trial
        Tries it.
    """
    try:
        found = trial()
        if isinstance(found, str):
            yield Finding(check, "ok", found)
        else:
            yield from found
    except (FrazilError, OSError) as error:
        yield Finding(check, "wrong", str(error))


def skipped(checks: Iterable[str], why: str) -> Iterator[Finding]:
    """Checks that make no sense until something else is mended."""
    return (Finding(check, "skipped", why) for check in checks)
