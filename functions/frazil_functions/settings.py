"""What comes from the environment, read here at the edge and passed on as values."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_AWS_CREDENTIALS: Final = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
"""What says that credentials come from the environment, or from what it names."""

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
    aws_profile
        Whether AWS credentials are to be found in the profiles of its command line, and not in the environment.
    """

    region: str | None
    endpoint_url: str | None
    azure_account: str | None
    job_completion_index: str | None
    aws_profile: bool


def environment() -> Environment:
    """The environment as it is now."""
    index = os.environ.get("JOB_COMPLETION_INDEX", "")
    return Environment(
        region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or None,
        endpoint_url=os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None,
        azure_account=os.environ.get("AZURE_STORAGE_ACCOUNT_NAME") or None,
        job_completion_index=index or None,
        aws_profile=_has_aws_profile(),
    )


def _has_aws_profile() -> bool:
    if any(os.environ.get(name) for name in _AWS_CREDENTIALS):
        return False
    files = (
        os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials",
        os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config",
    )
    return any(Path(file).expanduser().is_file() for file in files)


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


def named_options(prefix: str) -> dict[str, str]:
    """What the environment says of options, by their names in lower case.

    Parameters
    ----------
    prefix
        What stands before the names: "FRAZIL_".
    """
    return {name.removeprefix(prefix).lower(): value for name, value in os.environ.items() if name.startswith(prefix)}
