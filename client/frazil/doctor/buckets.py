"""Whether buckets are there, where they lie, and what may be done in them: tried, not guessed.

Whatever a trial makes, it removes, or says where it is left.
"""

import secrets
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

from frazil.doctor.account import headers
from frazil.doctor.finding import Finding
from frazil.runtime.connection import Connection, code_of, explained
from frazil_functions.errors import BackendError

_ABSENT: Final = {"404", "NoSuchBucket", "NotFound"}
_HELD: Final = {"412", "PreconditionFailed"}
_PROBE: Final = "frazil-doctor"
_BODY: Final = b"frazil doctor"


def place(connection: Connection, bucket: str, region: str | None, setting: str) -> Iterator[Finding]:
    """Say where a bucket lies.

    Parameters
    ----------
    connection
        To AWS.
    bucket
        Its name.
    region
        Where it should lie.
    setting
        What says so, for the message.

    Raises
    ------
    BackendError
        If there is no such bucket, or it lies elsewhere.
    """
    from botocore.exceptions import ClientError  # noqa: PLC0415 - it takes long to import, as boto3 does

    with explained(f"s3://{bucket} cannot be looked at"):
        try:
            answer: Mapping[str, Any] = connection.client("s3").head_bucket(Bucket=bucket)
        except ClientError as error:
            if code_of(error) in _ABSENT:
                raise BackendError(f"there is no bucket {bucket}: look at its name, or create it") from error
            answer = error.response  # not allowed, or elsewhere: it says where all the same
    lies, check = headers(answer).get("x-amz-bucket-region"), f"bucket {bucket}"
    if lies is None and "Error" in answer:
        yield Finding(
            check,
            "warning",
            f"s3://{bucket} refuses to be looked at ({code_of(ClientError(dict(answer), 'HeadBucket'))}), and does not "
            "say that it is there: look at its name, or allow s3:ListBucket",
        )
        return
    if lies is None:
        yield Finding(check, "ok", f"s3://{bucket} answers, and does not say in which region it lies")
        return
    if region is None:
        raise BackendError(f"s3://{bucket} lies in {lies}, and no region is set: set {setting} to {lies}")
    if lies != region:
        raise BackendError(f"s3://{bucket} lies in {lies}, and {setting} is {region}: set it to {lies}")
    yield Finding(check, "ok", f"s3://{bucket} in {lies}")


def permissions(connection: Connection, bucket: str, prefix: str) -> Iterator[Finding]:
    """What may be done below a prefix: list, put, get, put on a condition, tell what is absent, and delete.

    Parameters
    ----------
    connection
        To AWS.
    bucket
        The bucket.
    prefix
        Ends with a slash.
    """
    client, where = connection.client("s3"), f"s3://{bucket}/{prefix}"
    folder = f"{prefix}{_PROBE}-{secrets.token_hex(4)}/"
    one = {"Bucket": bucket, "Key": f"{folder}probe"}
    trials: dict[str, Callable[[], object]] = {
        "list": partial(client.list_objects_v2, Bucket=bucket, Prefix=folder, MaxKeys=1),
        "put": partial(client.put_object, **one, Body=_BODY),
        "get": partial(_get, client, one),
        "put if absent": partial(_refuses_second, client, one),
        "tell absent": partial(_absence, client, {**one, "Key": f"{folder}absent"}),
        "delete": partial(client.delete_object, **one),
    }
    done, failures, made = [], list[str](), False
    for name, trial in trials.items():
        if name in {"get", "put if absent", "delete"} and not made:
            continue  # there is nothing that it could be tried on
        try:
            with explained(f"{name} in {where}"):
                trial()
        except BackendError as error:
            left = f"; {one['Key']} is left there" if name == "delete" else ""
            failures.append(f"{error}{left}")
        else:
            done.append(name)
            made = made or name == "put"
    if failures:
        yield Finding(f"permissions in {where}", "wrong", " | ".join(failures))
    else:
        yield Finding(f"permissions in {where}", "ok", f"{', '.join(done)}: tried")


def growing(connection: Connection, bucket: str, prefix: str) -> str:
    """Say whether objects may be put below a prefix in which nothing may be deleted: an upload is begun and given up.

    Raises
    ------
    BackendError
        If not.
    """
    client, key = connection.client("s3"), f"{prefix}{_PROBE}"
    with explained(f"put in s3://{bucket}/{prefix}"):
        upload = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    with explained(f"give up an upload in s3://{bucket}/{prefix} (s3:AbortMultipartUpload), of which {key} is left"):
        client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)
    return "put: tried"


def _get(client: Any, one: Mapping[str, str]) -> None:  # noqa: ANN401 - boto3 has no types
    if client.get_object(**one)["Body"].read() != _BODY:
        raise BackendError("get: another object came back than was put")


def _refuses_second(client: Any, one: Mapping[str, str]) -> None:  # noqa: ANN401 - boto3 has no types
    from botocore.exceptions import ClientError  # noqa: PLC0415 - it takes long to import, as boto3 does

    try:
        client.put_object(**one, Body=_BODY, IfNoneMatch="*")
    except ClientError as error:
        if code_of(error) in _HELD:
            return
        raise
    raise BackendError(
        "put if absent: the storage overwrites what is there although it was asked not to, so two runs could undo each "
        "other; use a storage that keeps If-None-Match"
    )


def _absence(client: Any, one: Mapping[str, str]) -> None:  # noqa: ANN401 - boto3 has no types
    from botocore.exceptions import ClientError  # noqa: PLC0415 - it takes long to import, as boto3 does

    try:
        client.get_object(**one)
    except ClientError as error:
        if code_of(error) == "NoSuchKey":
            return
        raise BackendError(
            f"tell absent: what is not there is answered with {code_of(error)} and not with NoSuchKey, so it cannot be "
            "told from what is refused; allow s3:ListBucket on the bucket"
        ) from error
