"""Publishing: a private branch, and one compare-and-swap of the branch that readers follow."""

import contextlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass

import icechunk

from frazil_functions.errors import ConflictError, InvalidInputError, nearest
from frazil_functions.repositories import Location, exclusive

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

    def create(self) -> None:
        """Make the branch at the base.

        Raises
        ------
        ConflictError
            If the target branch is not at the base any more.
        """
        with exclusive(self.location):
            self.check_base()
            self.repo.create_branch(self.name, self.base)

    def check_base(self) -> None:
        """Refuse a target branch that has moved since the plan was made.

        Raises
        ------
        ConflictError
            Naming both snapshots.
        """
        tip = tip_of(self.repo, self.target)
        if tip != self.base:
            raise ConflictError(
                f"the branch {self.target!r} has moved since the plan was made: from {self.base} to {tip}. "
                "Nothing was published; plan again."
            )

    def commit_template(self, session: icechunk.Session, message: str) -> str:
        """Commit the template; return the snapshot, which is where the forks come from."""
        with exclusive(self.location):
            return session.commit(message)

    def commit_data(self, session: icechunk.Session, message: str, metadata: Mapping[str, object]) -> str:
        """Fold the merged data into the template's commit; return the snapshot that holds both."""
        with exclusive(self.location):
            return session.amend(message, metadata=dict(metadata), allow_empty=True)

    def publish(self, snapshot: str) -> None:
        """Move the target branch from the base to the snapshot, or not at all.

        Raises
        ------
        ConflictError
            If somebody else has moved it.
        """
        with exclusive(self.location):
            self.check_base()
            try:
                self.repo.reset_branch(self.target, snapshot, from_snapshot_id=self.base)
            except KeyboardInterrupt:
                # The answer may have been on its way; only the branch knows.
                if tip_of(self.repo, self.target) != snapshot:
                    raise
            except icechunk.ConflictError as error:
                raise ConflictError(
                    f"the branch {self.target!r} moved away from {self.base} at the last moment. "
                    "Nothing was published; plan again."
                ) from error

    def delete(self) -> None:
        """Remove the branch; it may be gone."""
        with exclusive(self.location), contextlib.suppress(icechunk.NotFoundError):
            self.repo.delete_branch(self.name)


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
        raise InvalidInputError(f"the repository has no branch {branch!r}; {nearest(branch, known)}") from error
