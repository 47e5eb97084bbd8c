"""Opening: the snapshot that is validated, in a session that can only read, and the containers that it may follow."""

from dataclasses import dataclass
from pathlib import Path

import icechunk

from frazil_functions.authorising import VirtualContainers, accesses_of
from frazil_functions.declaring import authorised
from frazil_functions.errors import BackendError, InvalidInputError
from frazil_functions.locations import LIMITS, Location, locate, storage_of
from frazil_functions.runs.publish import tip_of
from frazil_functions.text import words


@dataclass(frozen=True, slots=True)
class Opened:
    """What is validated.

    Attributes
    ----------
    session
        Of the snapshot; it can only read.
    containers
        The prefixes of the repository's containers, each with whether files there may be read.
    """

    session: icechunk.Session
    containers: dict[str, bool]


def opened(
    repo: str | Path | Location | icechunk.Repository,
    branch: str | None,
    snapshot: str | None,
    containers: VirtualContainers,
) -> Opened:
    """The snapshot that is meant.

    Raises
    ------
    InvalidInputError
        If there is no such repository, branch or snapshot, or it does not declare one of the containers.
    BackendError
        If the storage does not answer.
    """
    if branch is not None and snapshot is not None:
        raise InvalidInputError(
            f"both the branch {branch!r} and the snapshot {snapshot!r} are given; name the one to validate"
        )
    access = accesses_of(containers)
    found = repo if isinstance(repo, icechunk.Repository) else _opened(locate(repo))
    if access:
        given = {prefix: one.authorising for prefix, one in access.items() if one.credentials is not None}
        found = authorised(found, [one.container for one in access.values()], given)
    allowed = found.authorized_virtual_container_prefixes
    declared = {one.url_prefix for one in (found.config.virtual_chunk_containers or {}).values()}
    return Opened(_session(found, branch, snapshot), {prefix: prefix in allowed for prefix in sorted(declared)})


def _session(repo: icechunk.Repository, branch: str | None, snapshot: str | None) -> icechunk.Session:
    try:
        if snapshot is None:
            snapshot = tip_of(repo, branch or "main")
        repo.lookup_snapshot(snapshot)
        return repo.readonly_session(snapshot_id=snapshot)
    except icechunk.StorageError as error:
        if error.kind == icechunk.ErrorKind.OBJECT_NOT_FOUND:
            raise InvalidInputError(f"there is no snapshot {snapshot!r}, or its object is gone") from error
        raise BackendError(f"the snapshot {snapshot!r} could not be read just now: {words(error)}") from error
    except icechunk.IcechunkError as error:
        raise InvalidInputError(f"there is no snapshot {snapshot!r}: {words(error)}") from error


def _opened(location: Location) -> icechunk.Repository:
    """The repository, without a look at whether it could be written."""
    if location.path is not None and not location.path.is_dir():
        raise InvalidInputError(f"there is no repository at {location}")
    config = icechunk.RepositoryConfig.default()
    config.storage = LIMITS.settings if location.path is None else None
    try:
        return icechunk.Repository.open(storage_of(location), config=config)
    except icechunk.RepositoryNotFoundError as error:
        raise InvalidInputError(f"there is no repository at {location}") from error
    except icechunk.IcechunkError as error:
        raise BackendError(f"{location} cannot be opened: {words(error)}") from error
