"""What a user may ask about missing data: whether it is looked for in what was written, where, and how often."""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from frazil_functions.errors import InvalidInputError, nearest

_LONGEST_SECONDS: Final = 60.0

type CheckedVariables = str | Iterable[str]
"""Names of variables; "all" stands for all of them."""


@dataclass(frozen=True, slots=True)
class MissingCheck:
    """Whether values that are missing where their source has them, or the other way around, are looked for.

    Attributes
    ----------
    retries
        How often a region is written again because of it; 0 if it is not looked for at all.
    variables
        Those that are looked at; all if None.
    backoff
        Seconds before the first of these; each further one waits twice as long, at most a minute.
    """

    retries: int = 0
    variables: tuple[str, ...] | None = None
    backoff: float = 1.0

    @classmethod
    def of(cls, retries: object, variables: object) -> "MissingCheck":
        """What `retries_on_missing` and `missing_check_vars` ask for.

        Raises
        ------
        InvalidInputError
            If they cannot be meant.
        """
        if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
            raise InvalidInputError(
                f"retries_on_missing is {retries!r}; use a whole number, 0 for no check of missing data"
            )
        several = (variables,) if isinstance(variables, str) else variables
        names = tuple(several) if isinstance(several, Iterable) else ()
        if names == ("all",):
            return cls(retries)
        if not names or not all(isinstance(name, str) and name for name in names):
            raise InvalidInputError(f"missing_check_vars is {variables!r}; use 'all', or names of variables")
        if not retries:
            raise InvalidInputError(
                "missing_check_vars says where missing data is looked for, and it is not looked for; give "
                "retries_on_missing, too, or leave it out"
            )
        return cls(retries, tuple(sorted(set(names))))

    def check_known(self, written: Iterable[str], others: Iterable[str] = ()) -> None:
        """Refuse names of variables that no function writes.

        Parameters
        ----------
        written
            The variables that functions write.
        others
            Those that are written before, by who starts the run.

        Raises
        ------
        InvalidInputError
            Naming one of them.
        """
        known = sorted(written)
        for name in self.variables or ():
            if name in others and name not in known:
                raise InvalidInputError(
                    f"missing_check_vars names {name!r}, which is read and written once, as the run starts; functions "
                    "look at what they write alone. Leave it out"
                )
            if name == "all" and name not in known:
                raise InvalidInputError(
                    "missing_check_vars names 'all' beside others, and it stands alone, for every variable; leave out "
                    "either"
                )
            if name not in known:
                raise InvalidInputError(f"missing_check_vars names {name!r}; {nearest(name, known)}")

    def covers(self, name: str) -> bool:
        """Whether a variable is looked at."""
        return self.retries > 0 and (self.variables is None or name in self.variables)

    def delay(self, tries: int) -> float:
        """Seconds to wait after so many tries; up to half as long again by chance, and never longer than a minute."""
        return min(_LONGEST_SECONDS, self.backoff * 2.0 ** (tries - 1) * random.uniform(1.0, 1.5))  # noqa: S311 - chance, not secrecy
