"""Every error of Frazil's own, in one tree by what a caller does about it.

They live on the ground floor because functions raise them too; `frazil` exports them all.
"""

import difflib
from collections.abc import Iterable
from typing import ClassVar

from frazil_functions.regions import Region


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a name that is not known: the nearest one, or all there are."""
    names = list(known)
    close = difflib.get_close_matches(name, names, 1)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(map(repr, names)) or 'none'}"


class FrazilError(Exception):
    """The root of Frazil's own errors; catch it to catch them all.

    Attributes
    ----------
    exit_code
        What a command ends with because of it.
    transient
        Whether the same call, made again with the same input, may succeed. Wrong input stays wrong, a branch that
        moved stays moved, and what was stored wrongly stays so; a network or a backend recovers.
    """

    exit_code: ClassVar[int] = 1
    transient: ClassVar[bool] = False


class InvalidInputError(FrazilError):
    """The input is wrong: a file, an option, a label, an alignment. Nothing was written; mend it."""

    exit_code: ClassVar[int] = 2


class SourceError(InvalidInputError):
    """A source cannot be found, opened or read."""


class UnreachableSourceError(SourceError):
    """A source could not be read just now: the network, throttling or a server failed, for longer than was waited.

    An object that is missing, a file that is damaged or has changed, and credentials that are refused
    are no such cases: they raise a plain SourceError.
    """

    exit_code: ClassVar[int] = 1  # nothing about the input was refused
    transient: ClassVar[bool] = True


class MismatchedSourceError(InvalidInputError):
    """A source differs from the others in variables, dimensions, types, attributes or grid."""


class LabelError(InvalidInputError):
    """Labels overlap, repeat, run backwards, leave a gap, drift, or cannot be compared."""


class UnalignedRegionError(InvalidInputError):
    """A region splits a write unit, which two functions would then overwrite for each other."""


class OutOfRangeError(InvalidInputError):
    """A value lies out of the range that it is to be packed in, which is part of the plan."""


class ExistingGroupError(InvalidInputError):
    """The group that was to be created exists already."""


class IncompleteRunError(FrazilError):
    """Regions are missing: the run published nothing. It says which are missing, and why."""


class ReceiptError(IncompleteRunError):
    """A receipt does not belong to this run, or is not what a function of ours returns."""


class VerificationError(IncompleteRunError):
    """What was stored is not what was planned or written; nothing was published.

    Attributes
    ----------
    regions
        Those that are not what their receipts say, if it is these.
    """

    def __init__(self, message: str, regions: Iterable[Region] = ()) -> None:
        super().__init__(message)
        self.regions = tuple(regions)


class MissingDataError(IncompleteRunError):
    """Values are missing in the store where their source has them, or the other way around, however often it was read.

    What was asked to be tried again was tried; nothing was published, and regions that agree keep their receipts. Look
    at the source, and resume the run.
    """


class ConflictError(FrazilError):
    """The branch moved since the plan was made, and what the run writes was changed there.

    The run stays. Plan again; or, where the message says so, put the branch right and resume the run.
    """


class BackendError(FrazilError):
    """The environment is at fault: credentials, versions, limits, a backend that does not answer."""

    transient: ClassVar[bool] = True


class VersionError(BackendError):
    """Two ends hold different versions, or an installed version of a library is one that Frazil does not know."""

    transient: ClassVar[bool] = False
