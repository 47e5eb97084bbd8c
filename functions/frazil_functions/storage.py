"""The object store below a location: what region and endpoint it has, and how long storage may fail."""

from collections.abc import Collection
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import obstore
from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, LocalStore, ObjectStore, S3Store

from frazil_functions.errors import BackendError, InvalidInputError
from frazil_functions.repositories import Location
from frazil_functions.settings import environment
from frazil_functions.text import words

if TYPE_CHECKING:
    from obstore.store import RetryConfig, S3Config  # types of the stubs alone

_RETRY: "Final[RetryConfig]" = {
    "retry_timeout": timedelta(seconds=60),
    "max_retries": 100,  # the ten that there are by default can be over within two seconds
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5), "base": 2},
}
"""How long a request is repeated before storage counts as down."""


def open_store(location: Location) -> ObjectStore:
    """The store below a location, with the credentials of the environment; a local directory is made.

    Raises what obstore does: its BaseError, or OSError.
    """
    scheme, _, rest = location.url.partition("://")
    bucket, _, prefix = rest.partition("/")
    if location.path is not None:
        return LocalStore(location.path, mkdir=True)
    if scheme == "gs":
        return GCSStore(bucket, prefix=prefix, retry_config=_RETRY)
    if scheme == "az":
        return AzureStore(
            bucket,
            prefix=prefix,
            config={"account_name": environment().azure_account or ""},
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
    return S3Store(
        bucket,
        prefix=prefix,
        config=config,
        client_options={"allow_http": bool(endpoint and endpoint.startswith("http://"))},
        retry_config=_RETRY,
    )


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
