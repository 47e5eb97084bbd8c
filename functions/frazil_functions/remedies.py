"""What helps when object storage or AWS refuses: the cure that belongs to what it says."""

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class _Remedy:
    """What helps, and by which words it is known that it does."""

    words: tuple[str, ...]
    cure: str

    def fits(self, text: str) -> bool:
        return any(re.search(one, text) for one in self.words)


_REMEDIES: Final = (
    _Remedy(
        ("no providers in chain", "[Uu]nable to locate credentials", "credential provider was not enabled"),
        "there are no credentials: log in (aws sso login), or set AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY",
    ),
    _Remedy(
        ("security-credentials", "latest/api/token", "InstanceMetadata", "instance metadata"),
        "there are no credentials, and this is no machine on AWS that has a role: log in (aws sso login), or set "
        "AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    ),
    _Remedy(
        ("Expired ?Token", "RequestExpired", "[Tt]oken has expired", "still expired"),
        "the credentials have expired: log in again",
    ),
    _Remedy(
        ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidClientTokenId", "UnrecognizedClient", "InvalidToken"),
        "the credentials are not valid: log in again, and look which ones the environment or the profile names",
    ),
    _Remedy(
        ("while loading credentials", "sts:AssumeRole", "SSO session", "loading SSO Token", "retrieving token from"),
        "the profile gives no credentials: log in (aws sso login), or look whether the profile's role may be taken",
    ),
    _Remedy(
        ("RequestTimeTooSkewed",),
        "this machine's clock is wrong by more than AWS accepts: set it, and keep it set by NTP",
    ),
    _Remedy(("NoSuchBucket",), "there is no such bucket: look at its name, or create it"),
    _Remedy(
        ("PermanentRedirect", "AuthorizationHeaderMalformed", "redirect without LOCATION", "301 Moved"),
        "the bucket lies in another region: set AWS_REGION, and the region of Lithops' configuration, to the bucket's",
    ),
    _Remedy(
        ("Access ?Denied", "UnauthorizedOperation", "403 Forbidden"),
        "whoever calls is not allowed to: call with the role that may, or allow it",
    ),
    _Remedy(
        ("RepositoryNotFound",),
        "ECR has no such repository of images: create it, or mend runtime or user_id in Lithops' configuration",
    ),
    _Remedy(("You must specify a region",), "no region is known: set AWS_REGION, or the region of the profile"),
    _Remedy(("config profile .* could not be found",), "set AWS_PROFILE to a profile that exists"),
    _Remedy(
        (
            "Could not connect",
            "error sending request",
            "dns error",
            "Connect timeout",
            "dispatch failure",
            "tcp connect",
        ),
        "the endpoint cannot be reached: look at the region, at AWS_ENDPOINT_URL if it is set, and at the network",
    ),
)
"""In this order: a text can name several, as one of a refusal that also tells of the connection."""


def remedy(text: str) -> str:
    """What to do about an error, to stand behind its words; empty if nothing is known of it.

    Examples
    --------
    >>> remedy("404 Not Found: NoSuchBucket: The specified bucket does not exist")
    '; there is no such bucket: look at its name, or create it'
    >>> remedy("something else")
    ''
    """
    return next((f"; {one.cure}" for one in _REMEDIES if one.fits(text)), "")
