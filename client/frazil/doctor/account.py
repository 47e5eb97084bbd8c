"""Who calls AWS, from which machine, and whether it answers."""

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

from frazil.doctor.finding import Finding
from frazil.runtime.connection import Connection, explained
from frazil_functions.errors import BackendError
from frazil_functions.text import duration

_REFUSED_SECONDS: Final = 300.0
"""By how much a clock may be wrong before S3 refuses a request:
https://docs.aws.amazon.com/AmazonS3/latest/API/RESTAuthentication.html allows 15 minutes, other services 5."""

_WRONG_SECONDS: Final = 60.0
_SOON: Final = timedelta(minutes=30)


def credentials(connection: Connection, account_id: str | None = None) -> Iterator[Finding]:
    """Whether there are credentials, whose, and for how long.

    Parameters
    ----------
    connection
        To AWS.
    account_id
        The account that they should be of.
    """
    check = "credentials"
    session = connection.session()
    with explained("the credentials cannot be read"):
        found = session.get_credentials()
    if found is None:
        raise BackendError(
            "there are none: log in (aws sso login), or set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    with explained(f"those of {found.method} are refused"):
        who = connection.client("sts").get_caller_identity()
    said = f"{who['Arn']}, by {found.method}"
    if account_id is not None and who["Account"] != account_id:
        yield Finding(
            check,
            "wrong",
            f"{said}, are of another account than {account_id}, which Lithops' configuration names: use a profile of "
            "that, or mend account_id",
        )
        return
    # botocore keeps the time under no public name. It renews what it can; what the environment holds it cannot.
    ends = getattr(found, "_expiry_time", None)
    left = ends - datetime.now(UTC) if isinstance(ends, datetime) else None
    if left is not None and found.method == "env" and left < _SOON:
        yield Finding(check, "warning", f"{said}, end in {duration(max(left.total_seconds(), 0))}: log in again")
        return
    yield Finding(check, "ok", said)


def answers(connection: Connection, bucket: str) -> Iterator[Finding]:
    """Whether S3 answers at all, and whether its clock and this one agree; asks without credentials."""
    from botocore import UNSIGNED  # noqa: PLC0415 - it takes long to import, as boto3 does
    from botocore.config import Config  # noqa: PLC0415 - as above
    from botocore.exceptions import ClientError  # noqa: PLC0415 - as above

    with explained("S3 does not answer"):
        config = Config(
            signature_version=UNSIGNED, connect_timeout=10, read_timeout=10, retries={"total_max_attempts": 2}
        )
        client = connection.session().client("s3", config=config)
        began = time.time()
        try:
            answer = client.head_bucket(Bucket=bucket)
        except ClientError as error:  # refused, which is an answer, too
            answer = error.response
    took = time.time() - began
    yield Finding("endpoint", "ok", f"{client.meta.endpoint_url} answers in {took * 1000:.0f} ms")
    yield _clock(headers(answer), began, took)


def _clock(said: Mapping[str, str], began: float, took: float) -> Finding:
    date = said.get("date")
    if date is None:
        return Finding("clock", "skipped", "the answer of S3 has no date")
    # The answer's date has whole seconds, and was made while the answer was waited for.
    off = began - parsedate_to_datetime(date).timestamp()
    off = 0.0 if -1.0 - took <= off <= 1.0 + took else off
    cure = "set it, and keep it set by NTP"
    if abs(off) > _WRONG_SECONDS:
        state, text = ("wrong", "AWS refuses") if abs(off) >= _REFUSED_SECONDS else ("warning", "AWS soon refuses")
        ahead = "ahead" if off > 0 else "behind"
        what = f"this machine's clock is {duration(abs(off))} {ahead}, and {text} what it signs: {cure}"
        return Finding("clock", "wrong" if state == "wrong" else "warning", what)
    return Finding("clock", "ok", f"within {max(abs(off), 1):.0f} s of S3's")


def headers(answer: Mapping[str, Any]) -> Mapping[str, str]:
    """The headers of an answer of boto3, or of an error's."""
    found: Mapping[str, str] = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return found
