"""What comes from the environment, read here at the edge and passed on as values."""

import os
from dataclasses import dataclass
from typing import Final

_CLIENT: Final = ("allow_http", "allow_invalid_certificates", "proxy_url", "proxy_ca_certificate", "proxy_excludes")


@dataclass(frozen=True, slots=True)
class Environment:
    """What the environment says, beside credentials, which stay where they are.

    Attributes
    ----------
    region
        The AWS region, from AWS_REGION or AWS_DEFAULT_REGION.
    endpoint_url
        An S3 endpoint other than AWS's, from AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL.
    azure_account
        The Azure storage account, from AZURE_STORAGE_ACCOUNT_NAME.
    job_completion_index
        Which worker of an indexed Kubernetes Job this is, from JOB_COMPLETION_INDEX.
    """

    region: str | None
    endpoint_url: str | None
    azure_account: str | None
    job_completion_index: int | None


def environment() -> Environment:
    """The environment as it is now."""
    index = os.environ.get("JOB_COMPLETION_INDEX", "")
    return Environment(
        region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or None,
        endpoint_url=os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None,
        azure_account=os.environ.get("AZURE_STORAGE_ACCOUNT_NAME") or None,
        job_completion_index=int(index) if index.isascii() and index.isdigit() else None,
    )


def client_options(prefix: str) -> dict[str, str]:
    """What the environment says of connections to object storage, by obstore's names for it.

    Options that are given to a store replace those that it would read itself, so they are read here.

    Parameters
    ----------
    prefix
        What stands before the names: "AWS_", "GOOGLE_" or "AZURE_".
    """
    found = {name: os.environ.get(f"{prefix}{name.upper()}") for name in _CLIENT}
    return {name: value for name, value in found.items() if value}
