"""Declaring containers in a repository that exists, and authorising them in one that is open.

Icechunk replaces a repository's configuration as a whole, whoever changed it meanwhile, so those who declare take
turns: on a local disk by the repository's lock, in object storage by a branch that one of them alone can make.
"""

import contextlib
import logging
import random
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

import icechunk
from icechunk.credentials import AnyCredential
from icechunk.ops import UpdateType

from frazil_functions.authorising import (
    VirtualContainers,
    accesses_of,
    agreed,
    check_declared,
    credentials_of,
    declaration,
    declared_in,
)
from frazil_functions.containers import Container, distinct
from frazil_functions.errors import BackendError
from frazil_functions.locations import Location, location_of, spoken
from frazil_functions.locking import exclusive
from frazil_functions.repositories import awaited, open_repository

logger = logging.getLogger(__name__)

TURN: Final = "frazil/containers~turn"
"""The branch that stands while somebody declares; no run can have its name."""

_TURN_SECONDS: Final = 60.0
"""How long a turn may take; whoever is not done by then was ended."""

_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0
_ATTEMPTS: Final = 5


def declare(
    repo: str | Path | Location | icechunk.Repository, virtual_containers: VirtualContainers
) -> icechunk.Repository:
    """Declare containers in a repository, so that references into them can be written and read.

    What is declared already is left as it is; several may declare at once.

    Parameters
    ----------
    repo
        The repository, open, or where it is.
    virtual_containers
        The containers, as `open_repository` takes them.

    Returns
    -------
    icechunk.Repository
        The repository, with access to the containers authorised.

    Raises
    ------
    InvalidInputError
        If there is no such repository, or it declares one of the prefixes with other storage; nothing was written.
    BackendError
        If its storage cannot be reached.

    Examples
    --------
    >>> _ = open_repository("archive-of-references.icechunk")
    >>> repo = declare("archive-of-references.icechunk", "s3://raw/=region=eu-west-1")
    >>> sorted(repo.config.virtual_chunk_containers)
    ['s3://raw/']
    """
    access = accesses_of(virtual_containers)
    opened = repo if isinstance(repo, icechunk.Repository) else open_repository(repo, create=False)
    containers = tuple(one.container for one in access.values())
    declare_all(opened, containers)
    given = {prefix: one.authorising for prefix, one in access.items() if one.credentials is not None}
    return authorised(opened, containers, given)


def declared_by(repo: icechunk.Repository) -> dict[str, Container]:
    """The containers that an open repository declares, by prefix, and that references of ours may lead into."""
    return {prefix: one for prefix, one in declared_in(repo.config).items() if one is not None}


def agreed_in(repo: icechunk.Repository, containers: Iterable[Container]) -> tuple[Container, ...]:
    """Containers as a repository declares them, or would; writes nothing.

    Raises
    ------
    InvalidInputError
        If it declares one of the prefixes with other storage.
    """
    containers = tuple(containers)
    if not containers:
        return ()
    config = _saved(repo)
    return distinct(agreed(one, config, spoken(repo)) for one in containers)


def declare_all(repo: icechunk.Repository, containers: Iterable[Container]) -> None:
    """Declare containers in a repository's saved configuration; the open repository does not know of it.

    Raises
    ------
    InvalidInputError
        If it declares one of the prefixes with other storage; nothing was written.
    BackendError
        If its storage does not answer.
    """
    wanted = tuple(containers)
    if not wanted:
        return
    wanted = agreed_in(repo, wanted)
    if not _lacking(_saved(repo), wanted):
        return
    for _ in range(_ATTEMPTS):
        with _turn(repo):
            config = _saved(repo)
            wanted = distinct(agreed(one, config, spoken(repo)) for one in wanted)
            for one in _lacking(config, wanted):
                config.set_virtual_chunk_container(declaration(one))
            _save(repo, config)
        if not _lacking(_saved(repo), wanted):  # another program may not take turns
            logger.info("declared %s in %s", ", ".join(map(str, wanted)), spoken(repo))
            return
    raise BackendError(f"other programs replace the configuration of {spoken(repo)} all the time; try again later")


def authorised(
    repo: icechunk.Repository,
    containers: Iterable[Container],
    given: Mapping[str, AnyCredential] | None = None,
) -> icechunk.Repository:
    """The repository, with access to containers authorised that its saved configuration declares.

    What else it has authorised stays so, with the environment's credentials. One that lacks nothing is returned as
    it is.

    Parameters
    ----------
    repo
        An open repository.
    containers
        The containers.
    given
        Credentials by prefix, in place of the environment's.

    Raises
    ------
    InvalidInputError
        If it does not declare one of them, or with other storage.
    """
    wanted = {one.prefix: one for one in containers}
    before = repo.authorized_virtual_container_prefixes
    if not given and wanted.keys() <= before and not _lacking(repo.config, wanted.values()):
        return repo
    config = repo.config
    for kept in (_saved(repo).virtual_chunk_containers or {}).values():
        config.set_virtual_chunk_container(kept)
    known = {prefix: one for prefix in before if (one := declared_in(config).get(prefix)) is not None}
    credentials: dict[str, AnyCredential | None] = {
        prefix: credentials_of(one) for prefix, one in (known | wanted).items()
    }
    opened = repo.reopen(config=config, authorize_virtual_chunk_access=credentials | dict(given or {}))
    check_declared(opened, accesses_of(wanted.values()), spoken(repo))
    return opened


def _lacking(config: icechunk.RepositoryConfig, containers: Iterable[Container]) -> list[Container]:
    """Those that a configuration does not declare."""
    declared = declared_in(config)
    return [one for one in containers if one.prefix not in declared]


def _saved(repo: icechunk.Repository) -> icechunk.RepositoryConfig:
    """The configuration that the repository keeps; an open one has that of when it was opened."""
    complaint = f"the configuration of {spoken(repo)} cannot be read"
    found = awaited(lambda: icechunk.Repository.fetch_config(repo.storage), complaint)
    return found or icechunk.RepositoryConfig.default()


def _save(repo: icechunk.Repository, config: icechunk.RepositoryConfig) -> None:
    """Keep a configuration, and nothing of what this one was opened with."""

    def save() -> None:
        icechunk.Repository.open(repo.storage, config=config).save_config()

    awaited(save, f"the containers of {spoken(repo)} cannot be declared")


@contextlib.contextmanager
def _turn(repo: icechunk.Repository) -> Iterator[None]:
    """Be the only one who declares."""
    location = location_of(repo)
    if location is not None and location.path is not None:
        with exclusive(location):
            yield
        return
    _begin_turn(repo)
    try:
        yield
    finally:
        _end_turn(repo)


def _begin_turn(repo: icechunk.Repository) -> None:
    seen: datetime | None = None
    until, pause = 0.0, _FIRST_PAUSE
    while True:
        try:
            repo.create_branch(TURN, repo.lookup_branch("main"))
        except icechunk.AlreadyExistsError:
            made = _turn_made(repo)
            if made != seen:
                seen, until = made, time.monotonic() + _TURN_SECONDS
            elif time.monotonic() > until:
                logger.warning("whoever declared containers in %s was ended; going on", spoken(repo))
                _end_turn(repo)
        else:
            return
        time.sleep(random.uniform(0.5, 1) * pause)  # noqa: S311 - chance, not secrecy
        pause = min(2 * pause, _LONGEST_PAUSE)


def _turn_made(repo: icechunk.Repository) -> datetime | None:
    """When the turn began that somebody has now."""
    for update in repo.ops_log():
        match update.kind:
            case UpdateType.BranchCreated() as made if made.name == TURN:
                return update.updated_at
    return None


def _end_turn(repo: icechunk.Repository) -> None:
    with contextlib.suppress(icechunk.NotFoundError):
        repo.delete_branch(TURN)
