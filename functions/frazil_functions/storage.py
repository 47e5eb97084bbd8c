"""Object stores, of runs and of sources alike: what region and endpoint they have, and how long they are waited for."""

import importlib.util
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, cast

import obstore
from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, LocalStore, ObjectStore, S3Store

from frazil_functions.errors import BackendError, InvalidInputError
from frazil_functions.locations import Location
from frazil_functions.settings import client_options, environment
from frazil_functions.text import with_remedy

if TYPE_CHECKING:
    from obstore.auth.boto3 import Boto3CredentialProvider
    from obstore.store import AzureConfig, ClientConfig, RetryConfig, S3Config  # types of the stubs alone

_ENVIRONMENT: Final = {"s3": "AWS_", "s3a": "AWS_", "gs": "GOOGLE_", "az": "AZURE_", "abfs": "AZURE_"}
_NO_LIMIT: Final = timedelta(minutes=15)
"""For one answer as a whole: as long as AWS lets a function live, for there is no word for never."""
_RETRIES: Final = 1000  # more than fit into the time for them, which is what counts


@dataclass(frozen=True, slots=True)
class Patience:
    """How long remote storage is waited for; all in seconds.

    A host that never answers, or stops in the middle of an answer, costs a request at most
    `retrying + idle + longest_pause`. An answer that keeps coming may take as long as a function lives.

    Attributes
    ----------
    connecting
        For a connection.
    idle
        For the next bytes of an answer, its first ones included.
    retrying
        How long after a request was first made it is still made again: after errors of the
        network, timeouts, and statuses 408, 429 and 5xx. What was received of a body is kept.
    first_pause, longest_pause, growth
        Between two of them: they grow at random from one to the next, by this factor at most.
    """

    connecting: float = 5
    idle: float = 20
    retrying: float = 60
    first_pause: float = 0.2
    longest_pause: float = 10
    growth: float = 3


RUN_PATIENCE: Final = Patience(idle=60, first_pause=0.1, longest_pause=5, growth=2)
"""For what runs keep: an object must be up within the time for an answer, and receipts can be large."""


def profile_credentials() -> "Boto3CredentialProvider | None":
    """Credentials of a profile of AWS' command line, which the library below does not read; None if there is none.

    A single sign-on, a role of a profile or a process that gives credentials work so, too, as they do for Icechunk.
    """
    if not environment().aws_profile or importlib.util.find_spec("boto3") is None:
        return None
    from obstore.auth.boto3 import Boto3CredentialProvider  # noqa: PLC0415 - boto3 takes long, and few need it

    try:
        return Boto3CredentialProvider()
    except ValueError:  # the files have no credentials for the profile
        return None


def open_store(location: Location, patience: Patience = RUN_PATIENCE) -> ObjectStore:
    """The store below a location, with the credentials of the environment; a local directory is made.

    Raises what obstore does: its BaseError, or OSError.
    """
    if location.path is not None:
        return LocalStore(location.path, mkdir=True)
    scheme, _, rest = location.url.partition("://")
    bucket, _, prefix = rest.partition("/")
    if scheme == "gs":
        return GCSStore(bucket, prefix=prefix, **connection_settings(scheme, patience))
    if scheme == "az":
        account: AzureConfig = {"account_name": environment().azure_account or ""}
        return AzureStore(bucket, prefix=prefix, config=account, **connection_settings(scheme, patience))
    config: S3Config = {}
    if location.region is not None:
        config["region"] = location.region
    if location.endpoint_url is not None:
        # What the environment has under this name would win over the plain "endpoint".
        config["aws_endpoint_url_s3"] = location.endpoint_url
        config["virtual_hosted_style_request"] = False
    endpoint = location.endpoint_url or environment().endpoint_url
    plain = bool(endpoint and endpoint.startswith("http://"))
    return S3Store(bucket, prefix=prefix, config=config, **connection_settings(scheme, patience, allow_http=plain))


def connection_settings(scheme: str, patience: Patience, *, allow_http: bool = False) -> dict[str, Any]:
    """What every remote store is opened with: options of connections, repetitions, and credentials of a profile.

    Parameters
    ----------
    scheme
        Of its URL: s3, s3a, gs, az, abfs, http or https.
    patience
        How long it is waited for.
    allow_http
        Whether it may be asked without encryption, even where the environment does not say so.
    """
    environs = _ENVIRONMENT.get(scheme)
    options: ClientConfig = {
        **cast("ClientConfig", client_options(environs) if environs else {}),
        "connect_timeout": timedelta(seconds=patience.connecting),
        "read_timeout": timedelta(seconds=patience.idle),
        "timeout": _NO_LIMIT,
    }
    if allow_http:
        options["allow_http"] = True
    retries: RetryConfig = {
        "max_retries": _RETRIES,
        "retry_timeout": timedelta(seconds=patience.retrying),
        "backoff": {
            "init_backoff": timedelta(seconds=patience.first_pause),
            "max_backoff": timedelta(seconds=patience.longest_pause),
            "base": patience.growth,
        },
    }
    settings: dict[str, Any] = {"client_options": options, "retry_config": retries}
    credentials = profile_credentials() if environs == "AWS_" else None
    if credentials is not None:
        settings["credential_provider"] = credentials
    return settings


def holds_only(location: Location, names: Collection[str]) -> bool:
    """Whether no object lies below a location but some of these.

    Raises
    ------
    BackendError
        If it cannot be listed.
    """
    if location.path is not None and not location.path.is_dir():
        return True
    try:
        return all(found["path"] in names for page in obstore.list(open_store(location)) for found in page)
    except (BaseError, OSError) as error:
        raise BackendError(f"{location} cannot be listed: {with_remedy(error)}") from error


def read_object(location: Location) -> bytes:
    """One object, or file.

    Raises
    ------
    InvalidInputError
        If there is none.
    BackendError
        If it cannot be read.
    """
    try:
        return bytes(obstore.get(open_store(location.parent), location.url.rpartition("/")[2]).bytes())
    except FileNotFoundError as error:
        raise InvalidInputError(f"there is nothing at {location}") from error
    except (BaseError, OSError) as error:
        raise BackendError(f"{location} cannot be read: {with_remedy(error)}") from error
