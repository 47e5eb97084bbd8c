"""What comes from the environment, read here at the edge and passed on as values."""

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Environment:
    """What the environment says of object storage, beside credentials, which stay where they are.

    Attributes
    ----------
    region
        The AWS region, from AWS_REGION or AWS_DEFAULT_REGION.
    endpoint_url
        An S3 endpoint other than AWS's, from AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL.
    azure_account
        The Azure storage account, from AZURE_STORAGE_ACCOUNT_NAME.
    """

    region: str | None
    endpoint_url: str | None
    azure_account: str | None


def environment() -> Environment:
    """The environment as it is now."""
    return Environment(
        region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or None,
        endpoint_url=os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None,
        azure_account=os.environ.get("AZURE_STORAGE_ACCOUNT_NAME") or None,
    )
