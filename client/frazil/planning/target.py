"""What a plan is made against: repositories, their branches, and what is there already."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import icechunk

from frazil.planning.existing import Existing, scan_existing
from frazil_functions.authorising import naming_containers, settled
from frazil_functions.containers import Container, container_of, distinct, enclosing
from frazil_functions.declaring import agreed_in, authorised, declared_by
from frazil_functions.errors import InvalidInputError
from frazil_functions.forks import check_no_secret, dump_fork, read_fork
from frazil_functions.locations import Location, locate, location_of
from frazil_functions.plan import NEW_GROUP, PlanTarget, Replica
from frazil_functions.reading.references import reference_url
from frazil_functions.repositories import check_target, open_repository
from frazil_functions.runs.publish import tip_of
from frazil_functions.runs.template import check_free, check_present

type Target = str | Path | Location | icechunk.Repository
"""A repository: an open one, or where one is or is to be."""


def plan_target(
    repo: Target, asked: PlanTarget, replicas: Iterable[Target] = (), refers: Sequence[str] = ()
) -> tuple[PlanTarget, Existing | None]:
    """Where a plan writes, the snapshots that it is made against, and the group that it writes into, if one exists.

    Parameters
    ----------
    repo
        The primary repository.
    asked
        The group, the branch, the mode and the containers.
    replicas
        The other repositories.
    refers
        The files that references are written to. Each has to lie in one of the containers, or in one that the primary
        repository declares, which the plan then has, too.

    Raises
    ------
    InvalidInputError
        If there is no such repository, branch or group, a repository declares a container with other storage, or a file
        lies in none.
    """
    opened = _opened(repo)
    asked = replace(asked, containers=_containers(opened, asked.containers, refers))
    location, base, existing = _base_of(repo, opened, asked)
    others, held = [], []
    for one in [replicas] if isinstance(replicas, str | Path | Location) else replicas:
        where, its_base, its = _base_of(one, _opened(one), asked)
        if where is None:
            raise InvalidInputError("a replica's storage has no name to open it by; use a path or a URL")
        others.append(Replica(where, its_base))
        held.extend([] if its is None else [its])
    target = replace(asked, location=location, base=base, replicas=tuple(others))
    return target, existing and existing.beside(held)


def _opened(repo: Target) -> icechunk.Repository | None:
    """The open repository; None if it is still to be created."""
    if isinstance(repo, icechunk.Repository):
        return repo
    location = locate(repo)
    return open_repository(location, create=False) if check_target(location) else None


def _containers(
    opened: icechunk.Repository | None, asked: Iterable[Container], refers: Sequence[str]
) -> tuple[Container, ...]:
    """The containers of a plan, as the repository declares them or is to."""
    known = {} if opened is None else declared_by(opened)
    chosen = {one.prefix: one for one in (map(settled, asked) if opened is None else agreed_in(opened, asked))}
    for file in refers:
        url = reference_url(file)
        found = container_of(url, (known | chosen).values())
        if found is None:
            narrow = enclosing(url)
            cure = (
                f"add --container {narrow} (containers=[{narrow!r}])"
                if narrow is not None
                else "no container can hold it; copy the values"
            )
            others = ", ".join(sorted(known | chosen)) or "none"
            raise InvalidInputError(
                f"{file} lies in no container that references may lead into ({others}), so nobody could follow "
                f"references to it; {cure}"
            )
        chosen[found.prefix] = found
    return distinct(chosen.values())


def _base_of(
    repo: Target, opened: icechunk.Repository | None, asked: PlanTarget
) -> tuple[Location | None, str | None, Existing | None]:
    """Where one repository is, where its branch is at, and the group that is written into there.

    There is no base if the repository is still to be created.
    """
    location = location_of(repo) if isinstance(repo, icechunk.Repository) else locate(repo)
    if opened is None:
        if asked.mode not in NEW_GROUP:
            raise InvalidInputError(
                f"there is no repository at {location}, so there is no group to write into; frazil convert makes one"
            )
        if asked.branch != "main":
            raise InvalidInputError(
                f"there is no repository at {location} yet, and a new one has the branch 'main' alone"
            )
        return location, None, None
    base = tip_of(opened, asked.branch)
    check_no_secret(read_fork(dump_fork(opened.writable_session(asked.branch).fork())))
    if asked.containers:
        known = declared_by(opened)
        wanted = agreed_in(opened, asked.containers)
        opened = authorised(opened, [one for one in wanted if one.prefix in known])
    if asked.mode in NEW_GROUP:
        check_free(opened, base, asked.group, overwrite=asked.mode == "overwrite")
        return location, base, None
    check_present(opened, base, asked.group, asked.mode)
    session = opened.readonly_session(snapshot_id=base)
    where = f"{location or 'the repository'}, group /{asked.group}"
    with naming_containers(where):
        existing = scan_existing(session, where, asked.group)
    followed = frozenset(opened.authorized_virtual_container_prefixes)
    return location, base, replace(existing, containers=tuple(declared_by(opened).values()), followed=followed)
