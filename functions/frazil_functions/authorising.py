"""What Icechunk makes of containers: their storage, and what authorises reading from them; never a secret of ours."""

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, cast

import icechunk
from icechunk.credentials import (
    AnyCredential,
    Credentials,
    GcsCredentials,
    HttpAccess,
    LocalFileSystemAccess,
    S3Credentials,
    containers_credentials,
    gcs_anonymous_credentials,
    gcs_from_env_credentials,
    s3_anonymous_credentials,
    s3_from_env_credentials,
)
from icechunk.storage import gcs_store

from frazil_functions.containers import Container
from frazil_functions.errors import InvalidInputError
from frazil_functions.settings import environment

type Named = str | os.PathLike[str] | Container
"""A container, or its prefix with or without options, as `Container.parse` takes it."""

type VirtualContainers = Named | Iterable[Named] | Mapping[str, object] | None
"""Containers to authorise: one, several, or prefixes with Icechunk's credentials for them, or None for what the
environment says."""

_KINDS: Final[Mapping[str, tuple[str, type]]] = {
    "s3": ("icechunk.s3_credentials(...)", Credentials.S3),
    "gs": ("icechunk.gcs_credentials(...)", Credentials.Gcs),
    "http": ("icechunk.credentials.HttpAccess", Credentials.HttpAccess),
    "https": ("icechunk.credentials.HttpAccess", Credentials.HttpAccess),
    "file": ("icechunk.credentials.LocalFileSystemAccess", Credentials.LocalFileSystemAccess),
}

_UNAUTHORISED: Final = re.compile(
    r"resolves to the url prefix (\S+), to be able to fetch the chunk you need to authorize"
)
"""What Icechunk says of a reference into a container that access is not authorised to."""


@dataclass(frozen=True, slots=True)
class Access:
    """A container, and what authorises reading from it.

    Attributes
    ----------
    container
        The container.
    credentials
        Icechunk's; None for those that the container says.
    """

    container: Container
    credentials: AnyCredential | None = None

    @property
    def authorising(self) -> AnyCredential:
        """What Icechunk is given."""
        return credentials_of(self.container) if self.credentials is None else self.credentials


def accesses_of(given: VirtualContainers) -> dict[str, Access]:
    """What is asked for, by prefix.

    Raises
    ------
    InvalidInputError
        If a prefix is none, or its credentials are of another storage.
    """
    if given is None:
        return {}
    if isinstance(given, Mapping):
        asked = [_given(prefix, value) for prefix, value in given.items()]
    elif isinstance(given, str | os.PathLike | Container) or not isinstance(given, Iterable):
        asked = [Access(_named(given))]
    else:
        asked = [Access(_named(one)) for one in given]
    found: dict[str, Access] = {}
    for one in asked:
        if found.setdefault(one.container.prefix, one) != one:
            raise InvalidInputError(f"the container {one.container} is given twice, in different ways; give it once")
    return found


def _named(one: object) -> Container:
    if isinstance(one, Container):
        return one
    if isinstance(one, str | os.PathLike):
        return Container.parse(one)
    raise InvalidInputError(f"a container cannot be a {type(one).__name__}; give a prefix, as 's3://raw/'")


def _given(prefix: object, value: object) -> Access:
    """An entry of a mapping, as Icechunk's own `containers_credentials` takes it or makes it."""
    container = _named(prefix)
    if value is None:
        return Access(container)
    words, kind = _KINDS[container.scheme]
    try:
        # Credentials that are wrapped already are what `containers_credentials` returns.
        wrapped = value if isinstance(value, kind) else containers_credentials({"": cast("None", value)})[""]
    except ValueError:
        wrapped = None
    if not isinstance(wrapped, kind):
        raise InvalidInputError(
            f"the container {container} has a {type(value).__name__} for credentials; give {words}, or None for those "
            "of the environment"
        )
    anonymous = getattr(wrapped, "_0", None)
    if isinstance(anonymous, S3Credentials.Anonymous | GcsCredentials.Anonymous):
        container = replace(container, anonymous=True)
    return Access(container, cast("AnyCredential", wrapped))


def credentials_of(container: Container) -> AnyCredential:
    """What authorises reading from a container: nothing secret, for the secret stays in the environment."""
    match container.scheme:
        case "s3":
            return Credentials.S3(s3_anonymous_credentials() if container.anonymous else s3_from_env_credentials())
        case "gs":
            google = gcs_anonymous_credentials() if container.anonymous else gcs_from_env_credentials()
            return Credentials.Gcs(cast("GcsCredentials", google))
        case "file":
            return LocalFileSystemAccess
        case _:
            return HttpAccess


def settled(container: Container) -> Container:
    """The container with what it leaves to the environment."""
    if container.scheme != "s3":
        return container
    env = environment()
    return replace(
        container,
        region=container.region or env.region,
        endpoint_url=container.endpoint_url or env.endpoint_url,
    )


def declaration(container: Container) -> icechunk.VirtualChunkContainer:
    """What Icechunk keeps of a container in a repository's configuration."""
    match container.scheme:
        case "s3":
            endpoint = container.endpoint_url
            return icechunk.VirtualChunkContainer(
                container.prefix,
                icechunk.s3_store(
                    region=container.region,
                    endpoint_url=endpoint,
                    allow_http=bool(endpoint and endpoint.startswith("http://")),
                    force_path_style=endpoint is not None,
                    anonymous=container.anonymous,
                ),
            )
        case "gs":
            return icechunk.VirtualChunkContainer(container.prefix, gcs_store())
        case "file":
            path = container.prefix.removeprefix("file://")
            return icechunk.VirtualChunkContainer(container.prefix, icechunk.local_filesystem_store(path))
        case _:
            return icechunk.VirtualChunkContainer(container.prefix, icechunk.http_store())


def declared_in(config: icechunk.RepositoryConfig) -> dict[str, Container | None]:
    """The containers of a configuration by prefix; None for one that is no container of ours."""
    return {one.url_prefix: _found(one) for one in (config.virtual_chunk_containers or {}).values()}


def _found(one: icechunk.VirtualChunkContainer) -> Container | None:
    kinds, store = icechunk.ObjectStoreConfig, one.store
    try:
        if isinstance(store, kinds.S3 | kinds.S3Compatible):
            options = cast("icechunk.S3Options", getattr(store, "_0"))  # noqa: B009 - the stubs do not know it
            return Container(one.url_prefix, options.region, options.endpoint_url, options.anonymous)
        if isinstance(store, kinds.Gcs | kinds.Http | kinds.LocalFileSystem):
            return Container(one.url_prefix)
    except InvalidInputError:  # of a prefix that Icechunk takes and we do not
        return None
    return None


def agreed(container: Container, config: icechunk.RepositoryConfig, where: str) -> Container:
    """A container as a repository declares it; as it was asked for and the environment says, if it does not.

    Raises
    ------
    InvalidInputError
        If the repository declares that prefix with other storage.
    """
    declared = declared_in(config)
    if container.prefix not in declared:
        return settled(container)
    found = declared[container.prefix]
    if found is None:
        raise InvalidInputError(
            f"{where} declares the container {container} with storage that Frazil writes no references into; use "
            "another prefix"
        )
    for name in ("region", "endpoint_url", "anonymous"):
        asked, has = getattr(container, name), getattr(found, name)
        if asked and asked != has and not (name == "anonymous" and container.scheme == "gs"):
            raise InvalidInputError(
                f"{where} declares the container {container} with {name}={_said(has)}, and {name}={_said(asked)} is "
                f"asked for; leave out {name}, or use another prefix"
            )
    return replace(found, anonymous=found.anonymous or container.anonymous)


def _said(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value or "none")


def check_declared(repo: icechunk.Repository, asked: Mapping[str, Access], where: str) -> None:
    """Refuse to authorise a prefix that a repository does not declare, or declares with other storage.

    Raises
    ------
    InvalidInputError
        Saying which ones it declares.
    """
    declared = declared_in(repo.config)
    for prefix, one in asked.items():
        if prefix not in declared:
            known = ", ".join(sorted(declared)) or "none"
            raise InvalidInputError(
                f"{where} does not declare the container {prefix}, so no reference leads there; it declares {known}. "
                "Whatever writes references there declares it, and so does frazil.declare"
            )
        # Whether a request is signed is up to who reads.
        agreed(replace(one.container, anonymous=False), repo.config, where)


@contextlib.contextmanager
def naming_containers(where: str) -> Iterator[None]:
    """An error about values that were not read because nobody authorised it says which container to add.

    Raises
    ------
    InvalidInputError
        In its place.
    """
    try:
        yield
    except InvalidInputError as error:
        found = _UNAUTHORISED.search(str(error))
        if found is None:
            raise
        raise InvalidInputError(
            f"{where} holds references into {found[1]}, which are followed by those alone who say so; add --container "
            f"{found[1]} (containers=[{found[1]!r}])"
        ) from error
