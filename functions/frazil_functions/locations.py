"""Locations: naming where repositories and runs are, and Icechunk's storage for them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import icechunk

from frazil_functions.errors import InvalidInputError
from frazil_functions.settings import environment


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """How long Icechunk waits for S3; all in seconds.

    Icechunk itself would wait for ever for a server that accepts a request and says nothing. The forks that functions
    get carry what their repository was opened with.

    Attributes
    ----------
    connecting
        For a connection.
    answering
        From the beginning of a request to the first byte of its answer, and so for the upload of an object, too: an
        object has at most 100 MiB, and parts that are uploaded apart if it has more.
    altogether
        For a request with all its repetitions, until the first byte of an answer.
    stalling
        For the next bytes of an object, up or down, in whole seconds. As long as some come, a download has no limit;
        one that stalls is begun again, nine times at most.
    """

    connecting: float = 10
    answering: float = 150
    altogether: float = 300
    stalling: int = 20

    @property
    def settings(self) -> icechunk.StorageSettings:
        """These limits, and all else as Icechunk has it."""
        return icechunk.StorageSettings(
            timeouts=icechunk.StorageTimeoutSettings(
                connect_timeout_ms=round(1000 * self.connecting),
                read_timeout_ms=round(1000 * self.answering),
                operation_timeout_ms=round(1000 * self.altogether),
            )
        )


LIMITS: Final = RequestLimits()
"""Two attempts within five minutes for a server that is silent; 0.7 MB/s are enough for the largest upload."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where a repository is, without any secret.

    Attributes
    ----------
    url
        An absolute local path, or an s3://, gs:// or az:// URL.
    region, endpoint_url
        Of S3 storage; None for what the environment says.
    """

    url: str
    region: str | None = None
    endpoint_url: str | None = None

    def __str__(self) -> str:
        return self.url

    @property
    def path(self) -> Path | None:
        """The directory of a local repository."""
        return None if "://" in self.url else Path(self.url)

    @property
    def parent(self) -> "Location":
        """The place that this one lies in."""
        return replace(self, url=self.url.rstrip("/").rpartition("/")[0])

    def below(self, name: str) -> "Location":
        """A place within this one."""
        return replace(self, url=f"{self.url.rstrip('/')}/{name}")


def locate(where: "str | Path | Location") -> Location:
    """The location that a path or URL names.

    Raises
    ------
    InvalidInputError
        If the URL is of a kind that no storage goes by.
    """
    if isinstance(where, Location):
        return where
    text = str(where)
    scheme = urlsplit(text).scheme if "://" in text else ""
    if scheme == "file":
        return Location(str(Path(unquote(urlsplit(text).path)).resolve()))
    if scheme in {"s3", "gs", "az"}:
        parts = urlsplit(text)
        if not parts.netloc or not parts.path.strip("/"):
            raise InvalidInputError(f"{text} names no place in a bucket; use {scheme}://BUCKET/PREFIX")
        if "//" in parts.path:
            raise InvalidInputError(f"{text} has an empty name between two slashes; is a variable empty in it?")
        env = environment()
        if scheme == "az" and env.azure_account is None:
            raise InvalidInputError(f"{text}: AZURE_STORAGE_ACCOUNT_NAME must name the account that has the container")
        return Location(text.rstrip("/"), *((env.region, env.endpoint_url) if scheme == "s3" else ()))
    if scheme:
        raise InvalidInputError(f"{text}: no storage goes by {scheme}://; use a local path, s3://, gs:// or az://")
    # One lock and one run directory for one repository, by whatever path it was named.
    path = Path(text).expanduser()
    dangling = path.is_symlink() and not path.exists()
    return Location(str(path.absolute() if dangling else path.resolve()))


def location_of(repo: icechunk.Repository) -> Location | None:
    """Where an open repository is; None for storage that cannot be named by a path or URL.

    Raises
    ------
    InvalidInputError
        If it is in memory, where no function can reach it.
    """
    lines = (line.strip().partition(": ") for line in str(repo.storage).splitlines())
    said = {name: value for name, _, value in lines if value}
    kind = said.get("type", "")
    if "memory" in kind:
        raise InvalidInputError(
            "the repository is in memory, and functions are processes of their own that cannot reach it; "
            "use a local directory"
        )
    if kind == "local filesystem":
        return locate(said["path"])
    if kind.startswith("S3"):
        url = "s3://" + "/".join(part for part in (said.get("bucket"), said.get("prefix")) if part)
        return Location(url, said.get("region"), said.get("endpoint_url"))
    return None


def spoken(repo: icechunk.Repository) -> str:
    """What a message calls an open repository: the place where it is, if that has a name."""
    try:
        return str(location_of(repo) or "the repository")
    except InvalidInputError:  # in memory
        return "the repository"


def storage_of(location: Location, limits: RequestLimits = LIMITS) -> icechunk.Storage:
    """Icechunk's storage for a location, with the credentials of the environment."""
    path = location.path
    if path is not None:
        return icechunk.local_filesystem_storage(str(path))
    parts = urlsplit(location.url)
    prefix = parts.path.strip("/")
    if parts.scheme == "gs":
        return icechunk.gcs_storage(bucket=parts.netloc, prefix=prefix, from_env=True)
    if parts.scheme == "az":
        return icechunk.azure_storage(
            account=environment().azure_account or "", container=parts.netloc, prefix=prefix, from_env=True
        )
    endpoint = location.endpoint_url
    return icechunk.s3_storage(
        bucket=parts.netloc,
        prefix=prefix,
        region=location.region,
        endpoint_url=endpoint,
        allow_http=bool(endpoint and endpoint.startswith("http://")),
        force_path_style=endpoint is not None,
        from_env=True,
        network_stream_timeout_seconds=limits.stalling,
    )
