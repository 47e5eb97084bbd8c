"""Publishing: a private branch, and one compare-and-swap of the branch that readers follow."""

import contextlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import Self

import icechunk

from frazil_functions.errors import ConflictError, InvalidInputError, nearest
from frazil_functions.locations import Location, spoken
from frazil_functions.locking import exclusive

logger = logging.getLogger(__name__)

PREFIX = "frazil/"
"""What the name of every private branch begins with; the run id follows."""


@dataclass(frozen=True, slots=True)
class PrivateBranch:
    """A run's own branch, which readers of the target branch do not see.

    Attributes
    ----------
    repo, location
        The repository, and where it is.
    name
        `frazil/<run id>`.
    target
        The branch that moves in the end.
    base
        The snapshot that the target branch must still be at then.
    """

    repo: icechunk.Repository
    location: Location | None
    name: str
    target: str
    base: str

    @classmethod
    def make(cls, repo: icechunk.Repository, location: Location | None, run_id: str, target: str, base: str) -> Self:
        """Make a branch of the run's own at the base; what an earlier attempt may have left is not touched."""
        for number in count(1):
            private = cls(repo, location, name_of(run_id, number), target, base)
            with exclusive(location):
                try:
                    repo.create_branch(private.name, base)
                except icechunk.AlreadyExistsError:
                    continue
                return private
        raise AssertionError  # there is always another number

    def commit_template(self, session: icechunk.Session, message: str) -> str:
        """Commit the template; return the snapshot, which is where the forks come from."""
        with exclusive(self.location):
            try:
                return session.commit(message, allow_empty=True)  # a region changes no metadata
            except icechunk.ConflictError:
                # Nobody else commits here: it was stored, and the answer was lost.
                tip = self.repo.lookup_branch(self.name)
                if next(iter(self.repo.ancestry(snapshot_id=tip))).parent_id != self.base:
                    raise
                return tip

    def commit_data(self, session: icechunk.Session, message: str, metadata: Mapping[str, object]) -> str:
        """Fold the merged data into the template's commit; return the snapshot that holds both."""
        with exclusive(self.location):
            return session.amend(message, metadata=dict(metadata), allow_empty=True)

    def publish(self, snapshot: str) -> None:
        """Move the target branch from the base to the snapshot, or not at all.

        Raises
        ------
        MovedError
            If the target branch is somewhere else.
        icechunk.NotFoundError
            If it is gone.
        """
        with exclusive(self.location):
            tip = self.repo.lookup_branch(self.target)
            if tip != self.base:
                raise MovedError(self.target, self.base, tip)
            try:
                self.repo.reset_branch(self.target, snapshot, from_snapshot_id=self.base)
            except (KeyboardInterrupt, icechunk.IcechunkError) as error:
                # The answer may have been lost, and another commit may then make it look like a conflict of its own;
                # only the branch knows.
                tip = self.repo.lookup_branch(self.target)
                if tip == snapshot:
                    return
                if isinstance(error, icechunk.ConflictError):
                    raise MovedError(self.target, self.base, tip) from error
                raise

    def delete(self) -> None:
        """Remove the branch; it may be gone."""
        delete_branch(self.repo, self.location, self.name)


class MovedError(ConflictError):
    """The target branch is not where it was; what is to be done about it, the run decides."""

    def __init__(self, branch: str, base: str, tip: str) -> None:
        super().__init__(f"the branch {branch!r} has moved from {base} to {tip}. Nothing was published; plan again.")


def name_of(run_id: str, number: int = 1) -> str:
    """The name of a run's private branch; of another one, if attempts before left theirs."""
    return f"{PREFIX}{run_id}" + (f"+{number}" if number > 1 else "")


def run_of(branch: str) -> str | None:
    """The run that a branch is private to, if it is one."""
    return branch.removeprefix(PREFIX).partition("+")[0] if branch.startswith(PREFIX) else None


def delete_branch(repo: icechunk.Repository, location: Location | None, name: str) -> None:
    """Remove a branch; it may be gone."""
    with exclusive(location), contextlib.suppress(icechunk.NotFoundError):
        repo.delete_branch(name)


def tip_of(repo: icechunk.Repository, branch: str) -> str:
    """The snapshot that a branch is at.

    Raises
    ------
    InvalidInputError
        If there is no such branch.
    """
    try:
        return repo.lookup_branch(branch)
    except icechunk.NotFoundError as error:
        known = sorted(repo.list_branches())
        raise InvalidInputError(f"{spoken(repo)} has no branch {branch!r}; {nearest(branch, known)}") from error
