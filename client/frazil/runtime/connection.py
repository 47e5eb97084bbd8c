"""AWS, as its clients are made and its errors are told.

boto3 takes long to import, and is imported at its first use.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from frazil.runtime.configuration import Keys, LambdaRuntime
from frazil_functions.errors import BackendError
from frazil_functions.remedies import remedy

_CONNECTING: Final = 10
_READING: Final = 60


@dataclass(frozen=True, slots=True)
class Connection:
    """AWS with the credentials of the environment, or those of Lithops' configuration if it has some.

    Attributes
    ----------
    region
        That requests go to.
    keys
        The credentials of Lithops' configuration.
    """

    region: str | None
    keys: Keys = Keys()  # noqa: RUF009 - it is immutable

    @classmethod
    def of(cls, runtime: LambdaRuntime) -> "Connection":
        """The connection that Lithops would make."""
        return cls(runtime.region, runtime.keys)

    def session(self) -> Any:  # noqa: ANN401 - boto3 has no types
        """A session of boto3.

        Raises
        ------
        BackendError
            If a profile is named that does not exist.
        """
        import boto3  # noqa: PLC0415 - as said above

        keys = self.keys
        with explained("AWS cannot be used"):
            return boto3.Session(
                aws_access_key_id=keys.access_key_id,
                aws_secret_access_key=keys.secret_access_key,
                aws_session_token=keys.session_token,
                region_name=self.region,
            )

    def client(self, service: str, reading: float = _READING) -> Any:  # noqa: ANN401 - as above
        """A client of a service: s3, sts, lambda or ecr.

        Parameters
        ----------
        service
            Its name.
        reading
            Seconds to wait for the next bytes of an answer.

        Raises
        ------
        BackendError
            If no region is known.
        """
        from botocore.config import Config  # noqa: PLC0415 - as said above

        waits = Config(connect_timeout=_CONNECTING, read_timeout=reading, retries={"mode": "standard"})
        with explained(f"{service} of AWS cannot be used"):
            return self.session().client(service, config=waits)


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Raise BackendError, with the cure, for whatever boto3 raises; its own error is the cause.

    Parameters
    ----------
    what
        Of a sentence that says what does not work.
    """
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - as said above

    try:
        yield
    except ClientError as error:
        said = error.response.get("Error", {})
        text = f"{said.get('Code', '')}: {said.get('Message', '')}"
        raise BackendError(f"{what}: {text.strip(': ')}{remedy(text)}") from error
    except BotoCoreError as error:
        text = " ".join(str(error).split())
        raise BackendError(f"{what}: {text}{remedy(text)}") from error
    except RuntimeError as error:  # botocore has no class for credentials whose own time has run out
        if "still expired" not in str(error):
            raise
        raise BackendError(f"{what}: {error}{remedy(str(error))}") from error


def code_of(error: BaseException | None) -> str:
    """What AWS calls an error that `explained` has told, or boto3 has raised; empty if it was none of AWS'."""
    while isinstance(error, BackendError):
        error = error.__cause__
    response = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def region_of(bucket: str, connection: Connection) -> str | None:
    """Where a bucket lies; None if S3 does not say it."""
    from botocore.exceptions import ClientError  # noqa: PLC0415 - as said above

    with explained(f"s3://{bucket} cannot be looked at"):
        try:
            answer = connection.client("s3").head_bucket(Bucket=bucket)
        except ClientError as error:  # not allowed, or elsewhere: it says where all the same
            answer = error.response
    found: str | None = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("x-amz-bucket-region")
    return found


def identified(runtime: LambdaRuntime, connection: Connection) -> LambdaRuntime:
    """The function with account and user filled in as Lithops fills them in: from whoever calls.

    Raises
    ------
    BackendError
        If AWS does not say who calls.
    """
    if runtime.account_id and runtime.user_id:
        return runtime
    with explained("AWS does not say who calls"):
        who = connection.client("sts").get_caller_identity()
    return replace(
        runtime, account_id=runtime.account_id or who["Account"], user_id=runtime.user_id or str(who["UserId"])
    )
