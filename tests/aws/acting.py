"""What somebody in a role tries, and whether it is done or refused."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import icechunk
from botocore.exceptions import ClientError

from frazil_functions.errors import FrazilError

from .local import LocalAws

type Call = Callable[["Acting"], object]

_REFUSALS = {"AccessDenied", "AccessDeniedException", "403"}  # the last where a bucket refuses, as moto has it
_SAID = (
    "AccessDenied",
    "Access Denied",
    "403 Forbidden",
    "not authorized",
    "PermissionDenied",
    "lacked the required permissions",
)


@dataclass(frozen=True, slots=True)
class Acting:
    """Somebody in a role of a local AWS.

    Attributes
    ----------
    aws, role
        Where, and as who.
    """

    aws: LocalAws
    role: str

    def client(self, service: str) -> Any:
        """A client of boto3."""
        return self.aws.client(service, self.role)

    def get(self, bucket: str, key: str) -> bytes:
        """Read an object."""
        body: bytes = self.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
        return body

    def put(self, bucket: str, key: str, **options: Any) -> None:
        """Put an object with nothing in it."""
        self.client("s3").put_object(Bucket=bucket, Key=key, Body=b"", **options)

    def put_new(self, bucket: str, key: str) -> None:
        """Put one that is not there yet, as run directories do."""
        self.put(bucket, key, IfNoneMatch="*")

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object."""
        self.client("s3").delete_object(Bucket=bucket, Key=key)

    def delete_many(self, bucket: str, *keys: str) -> None:
        """Delete objects in one request; refused if any is."""
        asked = {"Objects": [{"Key": key} for key in keys]}
        answer = self.client("s3").delete_objects(Bucket=bucket, Delete=asked)
        for error in answer.get("Errors", ()):
            raise ClientError({"Error": {"Code": error["Code"], "Message": error["Message"]}}, "DeleteObjects")

    def list(self, bucket: str) -> None:
        """List a bucket."""
        self.client("s3").list_objects_v2(Bucket=bucket)

    def upload_in_parts(self, bucket: str, key: str, *, finish: bool = True) -> None:
        """Put an object in parts, as large ones are, or begin to and take it back."""
        s3 = self.client("s3")
        of = {"Bucket": bucket, "Key": key}
        upload = of | {"UploadId": s3.create_multipart_upload(**of)["UploadId"]}
        part = s3.upload_part(**upload, PartNumber=1, Body=b"x")
        if finish:
            parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
            s3.complete_multipart_upload(**upload, MultipartUpload=parts)
        else:
            s3.abort_multipart_upload(**upload)

    def repository(self) -> icechunk.Repository:
        """The repository, opened with Icechunk alone."""
        bucket, _, prefix = self.aws.repository.removeprefix("s3://").partition("/")
        keys = self.aws.credentials[self.role]
        storage = icechunk.s3_storage(
            bucket=bucket,
            prefix=prefix,
            region=self.aws.region,
            endpoint_url=self.aws.endpoint_url,
            allow_http=True,
            force_path_style=True,
            access_key_id=keys.access_key_id,
            secret_access_key=keys.secret_access_key,
            session_token=keys.session_token,
        )
        return icechunk.Repository.open(storage)


def tried(acting: Acting, calls: Mapping[str, Call]) -> dict[str, str]:
    """What became of each call: "done", or "refused"; anything else is raised."""
    return {name: _tried(acting, call) for name, call in calls.items()}


def _tried(acting: Acting, call: Call) -> str:
    try:
        call(acting)
    except PermissionError:
        return "refused"
    except ClientError as error:
        if error.response["Error"]["Code"] in _REFUSALS:
            return "refused"
        raise
    except (FrazilError, icechunk.IcechunkError) as error:
        if any(said in str(error) for said in _SAID):
            return "refused"
        raise
    return "done"
