"""Repositories: opening and creating them."""

import math
import os
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import icechunk
from icechunk.credentials import AnyCredential

from frazil_functions.authorising import Access, VirtualContainers, accesses_of, check_declared, declaration, settled
from frazil_functions.errors import BackendError, InvalidInputError
from frazil_functions.locations import LIMITS, Location, RequestLimits, locate, storage_of
from frazil_functions.locking import exclusive, lock_file
from frazil_functions.remedies import remedy

_OPENINGS: Final = 3

FIRST_OBJECTS: Final = frozenset({"snapshots/1CECHNKREP0F1RSTCMT0", "transactions/1CECHNKREP0F1RSTCMT0"})
"""What Icechunk writes of a new repository before the object that makes it one; the same in each."""

_MANIFEST_SPAN: Final = 1000
"""Chunks along an array's first dimension that share a manifest in a repository of ours.

Icechunk writes manifests whole. One manifest of a million references takes it a quarter more time and
140 MB more memory to commit than many do, and is written again for every chunk that is appended.
"""

_MANIFEST_CHUNKS: Final = 10_000
"""Chunks that share a manifest at most, where the array is known when its repository is made."""


def manifest_span(counts: Sequence[int], *, refers: bool = False) -> int:
    """How many chunks along the first dimension share a manifest, in a repository that is made for an array.

    Parameters
    ----------
    counts
        How many chunks the array has along each dimension.
    refers
        Whether they lie in files. Icechunk learns for each manifest how the names of files are best compressed, which
        takes it three times as long for a thousand manifests as for a hundred that hold the same.

    Examples
    --------
    >>> manifest_span((100_000, 1, 1)), manifest_span((365, 20, 50)), manifest_span((100_000, 1, 1), refers=True)
    (1000, 10, 10000)
    """
    rows = _MANIFEST_CHUNKS // max(1, math.prod(counts[1:]))
    return max(1, rows if refers else min(_MANIFEST_SPAN, rows))


def check_target(location: Location, limits: RequestLimits = LIMITS) -> bool:
    """Whether a repository exists at a location; refuse one that could not be created or written.

    One that somebody is just creating looks like something else, so that is looked at again when
    they are done.

    Raises
    ------
    InvalidInputError
        If a local directory holds something else, or cannot be written.
    BackendError
        If the storage cannot be reached.
    """
    try:
        return _exists(location, limits)
    except InvalidInputError:
        if location.path is None or not lock_file(location.path).exists():
            raise
    with exclusive(location):
        return _exists(location, limits)


def _exists(location: Location, limits: RequestLimits) -> bool:
    path = location.path
    if path is not None:
        _check_directory(path)
        if not path.exists() or not any(path.iterdir()):
            return False
    try:
        exists = icechunk.Repository.exists(storage_of(location, limits), storage_settings=limits.settings)
    except icechunk.IcechunkError as error:
        raise BackendError(f"{location} cannot be reached: {_first_line(error)}{remedy(str(error))}") from error
    if path is not None and not exists and not _begun(path):
        raise InvalidInputError(
            f"{location} is a directory that holds something other than an Icechunk repository; name another"
        )
    return exists


def _begun(path: Path) -> bool:
    """Whether nothing is there but what is left of a creation that was ended, or is under way."""
    return {str(found.relative_to(path)) for found in path.rglob("*") if not found.is_dir()} <= FIRST_OBJECTS


def _check_directory(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise InvalidInputError(f"{path} is a file, and a repository is a directory; name another")
    if path.is_symlink() and not path.exists():
        raise InvalidInputError(f"{path} is a link to {path.readlink()}, which does not exist; name another")
    nearest = path
    while not nearest.exists():
        nearest = nearest.parent
    if not nearest.is_dir():
        raise InvalidInputError(f"{path} lies below {nearest}, which is a file")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InvalidInputError(f"{nearest} cannot be written; choose another target or change its permissions")


def open_repository(
    where: "str | Path | Location",
    *,
    create: bool = True,
    begun: bool = False,
    limits: RequestLimits = LIMITS,
    virtual_containers: VirtualContainers = None,
    spans: Mapping[str, int] = MappingProxyType({}),
) -> icechunk.Repository:
    """Open an Icechunk repository, and create it if there is none.

    Credentials come from the environment, as the cloud's own tools take them; none is kept.

    Parameters
    ----------
    where
        A local path, or an s3://, gs:// or az:// URL.
    create
        Whether to create a repository where there is none.
    begun
        Whether somebody has looked, and nothing is there but `FIRST_OBJECTS`. Icechunk itself refuses to create a
        repository beside anything, and so beside what is left of a creation that was ended.
    limits
        How long object storage is waited for, here and by whatever is done with the repository.
    virtual_containers
        The places that references may be followed to: a prefix ("s3://raw/", "file:///data/", with options as in
        "s3://raw/=region=eu-west-1,anonymous=true"), several, or a mapping of prefixes to Icechunk's credentials for
        them. None there stands for what the environment says; such credentials are no part of what is kept. A
        repository that is created declares them, one that exists has to.
    spans
        How many chunks along the first dimension share a manifest, for arrays that are to be made, by their paths; a
        repository that exists keeps to what it was made with.

    Returns
    -------
    icechunk.Repository
        Icechunk's own object.

    Raises
    ------
    InvalidInputError
        If there is something else, or nothing and `create` is off; or it does not declare one of the containers.
    BackendError
        If the storage cannot be reached.

    Examples
    --------
    >>> repo = open_repository("archive.icechunk")
    >>> sorted(repo.list_branches())
    ['main']

    References into one bucket may be followed, with the environment's credentials:

    >>> repo = open_repository("virtual.icechunk", virtual_containers="s3://raw/=region=eu-west-1")
    >>> sorted(repo.authorized_virtual_container_prefixes)
    ['s3://raw/']
    """
    location, access = locate(where), accesses_of(virtual_containers)
    exists = check_target(location, limits)
    if not exists and not create:
        raise InvalidInputError(f"there is no repository at {location}")
    try:
        if exists:
            return _open(location, limits, access)
        return _create(location, limits, access, _new_config(access, spans), begun=begun)
    except icechunk.IcechunkError as error:
        raise BackendError(f"{location} cannot be opened: {_first_line(error)}{remedy(str(error))}") from error


def _open(location: Location, limits: RequestLimits, access: Mapping[str, Access]) -> icechunk.Repository:
    config = icechunk.RepositoryConfig.default()
    config.storage = limits.settings if location.path is None else None
    credentials: dict[str, AnyCredential | None] = {prefix: one.authorising for prefix, one in access.items()}
    until = time.monotonic() + limits.altogether
    for left in reversed(range(_OPENINGS)):
        try:
            repo = icechunk.Repository.open(
                storage_of(location, limits), config=config, authorize_virtual_chunk_access=credentials or None
            )
        except icechunk.StorageError:
            # Icechunk does not ask again for an answer that broke off; for one that did not come it has asked enough.
            if not left or location.path is not None or time.monotonic() >= until:
                raise
            time.sleep(1.0)
        else:
            check_declared(repo, access, str(location))
            return repo
    raise AssertionError  # the last attempt returned or raised


def _create(
    location: Location,
    limits: RequestLimits,
    access: Mapping[str, Access],
    config: icechunk.RepositoryConfig,
    *,
    begun: bool,
) -> icechunk.Repository:
    """Create a repository, or open the one that somebody else has created at the same time."""
    with exclusive(location):
        if location.path is not None and _exists(location, limits):
            return _open(location, limits, access)
        try:
            if location.path is not None:
                icechunk.Repository.create(storage_of(location), config=config, check_clean_root=not begun)
            else:
                awaited(
                    lambda: icechunk.Repository.create(
                        storage_of(location, limits), config=config, check_clean_root=not begun
                    ),
                    f"{location} cannot be created",
                    limits,
                )
        except icechunk.IcechunkError:
            if location.path is not None or not _exists(location, limits):
                raise
        return _open(location, limits, access)


def awaited[T](ask: Callable[[], T], complaint: str, limits: RequestLimits = LIMITS) -> T:
    """Ask something of Icechunk without limits in the configuration, for that is kept; wait no longer than they say.

    Not by its coroutines: where the process ends within milliseconds of one, a thread of Icechunk's that still lets go
    of what the coroutine was called with ends it by a segmentation fault. What is not waited for any longer goes on in
    a thread that keeps no process alive.

    Raises
    ------
    BackendError
        If the storage does not answer.
    """
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            answer.set_exception(error)

    threading.Thread(target=run, name="frazil-await", daemon=True).start()
    try:
        return answer.result(limits.altogether)
    except TimeoutError as error:
        if answer.done():  # it is Icechunk's own
            raise
        raise BackendError(f"{complaint}: its storage did not answer for {limits.altogether:g} s") from error


def _new_config(access: Mapping[str, Access], spans: Mapping[str, int]) -> icechunk.RepositoryConfig:
    """The configuration that a new repository keeps; any other program that writes into it follows it, too."""
    config = icechunk.RepositoryConfig.default()
    condition, first = icechunk.ManifestSplitCondition, icechunk.ManifestSplitDimCondition.Axis(0)
    # The first condition that holds for an array counts.
    rules: dict[icechunk.ManifestSplitCondition, dict[Any, int]] = {
        condition.path_matches(f"^{re.escape(path)}$"): {first: span}
        for path, span in sorted(spans.items())
        if span != _MANIFEST_SPAN
    }
    rules[condition.AnyArray()] = {first: _MANIFEST_SPAN}
    config.manifest = icechunk.ManifestConfig(splitting=icechunk.ManifestSplittingConfig.from_dict(rules))
    for one in access.values():
        config.set_virtual_chunk_container(declaration(settled(one.container)))
    return config


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
