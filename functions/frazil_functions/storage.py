"""The object store below a location: what region and endpoint it has, and how long storage may fail."""

import importlib.util
from collections.abc import Collection
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, cast

import obstore
from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, LocalStore, ObjectStore, S3Store

from frazil_functions.errors import BackendError, InvalidInputError
from frazil_functions.repositories import Location
from frazil_functions.settings import client_options, environment
from frazil_functions.text import words

if TYPE_CHECKING:
    from obstore.auth.boto3 import Boto3CredentialProvider
    from obstore.store import ClientConfig, RetryConfig, S3Config  # types of the stubs alone

_RETRY: "Final[RetryConfig]" = {
    "retry_timeout": timedelta(seconds=60),
    "max_retries": 100,  # the ten that there are by default can be over within two seconds
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5), "base": 2},
}
"""How long a request is repeated before storage counts as down."""


CONNECT_SECONDS: Final = 5.0
IDLE_SECONDS: Final = 60.0
"""How long a server may take to accept a connection, and how long it may say nothing, before that is tried again."""


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


def open_store(location: Location) -> ObjectStore:
    """The store below a location, with the credentials of the environment; a local directory is made.

    Raises what obstore does: its BaseError, or OSError.
    """
    scheme, _, rest = location.url.partition("://")
    bucket, _, prefix = rest.partition("/")
    if location.path is not None:
        return LocalStore(location.path, mkdir=True)
    if scheme == "gs":
        return GCSStore(bucket, prefix=prefix, client_options=_options("GOOGLE_"), retry_config=_RETRY)
    if scheme == "az":
        return AzureStore(
            bucket,
            prefix=prefix,
            config={"account_name": environment().azure_account or ""},
            client_options=_options("AZURE_"),
            retry_config=_RETRY,
        )
    return _open_s3(location, bucket, prefix)


def _open_s3(location: Location, bucket: str, prefix: str) -> S3Store:
    config: S3Config = {}
    if location.region is not None:
        config["region"] = location.region
    if location.endpoint_url is not None:
        # What the environment has under this name would win over the plain "endpoint".
        config["aws_endpoint_url_s3"] = location.endpoint_url
        config["virtual_hosted_style_request"] = False
    endpoint = location.endpoint_url or environment().endpoint_url
    options = _options("AWS_")
    if endpoint and endpoint.startswith("http://"):
        options["allow_http"] = True
    credentials = profile_credentials()
    given: dict[str, Any] = {} if credentials is None else {"credential_provider": credentials}
    return S3Store(bucket, prefix=prefix, config=config, client_options=options, retry_config=_RETRY, **given)


def _options(prefix: str) -> "ClientConfig":
    return {
        **cast("ClientConfig", client_options(prefix)),
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        "read_timeout": timedelta(seconds=IDLE_SECONDS),
        "timeout": timedelta(minutes=15),  # of a request as a whole; the usual 30 s are too few for a large receipt
    }


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
        raise BackendError(f"{location} cannot be listed: {words(error)}") from error


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
        raise BackendError(f"{location} cannot be read: {words(error)}") from error
