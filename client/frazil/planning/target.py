"""What a plan is made against: repositories, their branches, and what is there already."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import icechunk

from frazil.planning.existing import Existing, scan_existing
from frazil_functions.errors import InvalidInputError
from frazil_functions.forks import check_no_secret, dump_fork, read_fork
from frazil_functions.plan import NEW_GROUP, PlanTarget, Replica
from frazil_functions.repositories import Location, check_target, locate, location_of, open_repository
from frazil_functions.runs.publish import tip_of
from frazil_functions.runs.template import check_free, check_present

type Target = str | Path | Location | icechunk.Repository
"""A repository: an open one, or where one is or is to be."""


def plan_target(repo: Target, asked: PlanTarget, replicas: Iterable[Target] = ()) -> tuple[PlanTarget, Existing | None]:
    """Where a plan writes, the snapshots that it is made against, and the group that it writes into, if one exists."""
    location, base, existing = _base_of(repo, asked)
    others, held = [], []
    for one in [replicas] if isinstance(replicas, str | Path | Location) else replicas:
        where, its_base, its = _base_of(one, asked)
        if where is None:
            raise InvalidInputError("a replica's storage has no name to open it by; use a path or a URL")
        others.append(Replica(where, its_base))
        held.extend([] if its is None else [its])
    target = replace(asked, location=location, base=base, replicas=tuple(others))
    return target, existing and existing.beside(held)


def _base_of(repo: Target, asked: PlanTarget) -> tuple[Location | None, str | None, Existing | None]:
    """Where one repository is, where its branch is at, and the group that is written into there.

    There is no base if the repository is still to be created.
    """
    if isinstance(repo, icechunk.Repository):
        opened, location = repo, location_of(repo)
    else:
        location = locate(repo)
        if not check_target(location):
            if asked.mode not in NEW_GROUP:
                raise InvalidInputError(
                    f"there is no repository at {location}, so there is no group to {asked.mode}; use --mode create"
                )
            if asked.branch != "main":
                raise InvalidInputError(
                    f"there is no repository at {location} yet, and a new one has the branch 'main' alone"
                )
            return location, None, None
        opened = open_repository(location, create=False)
    base = tip_of(opened, asked.branch)
    check_no_secret(read_fork(dump_fork(opened.writable_session(asked.branch).fork())))
    if asked.mode in NEW_GROUP:
        check_free(opened, base, asked.group, overwrite=asked.mode == "overwrite")
        return location, base, None
    check_present(opened, base, asked.group, asked.mode)
    session = opened.readonly_session(snapshot_id=base)
    return location, base, scan_existing(session, f"{location or 'the repository'}, group /{asked.group}", asked.group)
