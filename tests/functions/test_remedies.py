"""What is said to help fits what went wrong."""

import pytest

from frazil_functions.remedies import remedy

LOG_IN = "; the profile gives no credentials: log in (aws sso login), or look whether the profile's role may be taken"


@pytest.mark.parametrize(
    "said",
    [
        "object store error dispatch failure: other: an error occurred while loading credentials: service error",
        "AccessDenied: User: arn:aws:iam::123456789012:user/me is not authorized to perform: sts:AssumeRole",
        "The SSO session associated with this profile has expired or is otherwise invalid.",
        "Error loading SSO Token: Token for example does not exist",
        "Error when retrieving token from sso: Token refresh failed",
    ],
)
def test_a_profile_that_gives_no_credentials_is_not_taken_for_a_network_or_a_permission_that_lacks(said: str) -> None:
    assert remedy(said) == LOG_IN


@pytest.mark.parametrize(
    ("said", "cure"),
    [
        ("dispatch failure: io error: client error (Connect): tcp connect error", "the endpoint cannot be reached"),
        ("AccessDenied: not authorized to perform: lambda:InvokeFunction", "whoever calls is not allowed to"),
        ("while loading credentials: ExpiredToken: The security token has expired", "the credentials have expired"),
    ],
)
def test_what_sounds_alike_keeps_its_own_cure(said: str, cure: str) -> None:
    assert remedy(said).startswith(f"; {cure}")
