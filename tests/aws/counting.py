"""What a request asks for, told from its head: service, operation and resource, as boto3 calls them."""

import re
from urllib.parse import parse_qs, unquote

from botocore.loaders import Loader
from botocore.model import ServiceModel

_CREDENTIAL = re.compile(r"Credential=([^/]+)/\d+/([^/]+)/([^/]+)/")
_OF_FUNCTIONS = re.compile("/(functions|tags)/")
_BUCKET = {
    "GET": {"uploads": "ListMultipartUploads", "versions": "ListObjectVersions", "": "ListObjects"},
    "HEAD": {"": "HeadBucket"},
    "PUT": {"": "CreateBucket"},
    "POST": {"delete": "DeleteObjects", "": "PostObject"},
    "DELETE": {"": "DeleteBucket"},
}
_KEY = {
    "GET": {"uploadId": "ListParts", "acl": "GetObjectAcl", "tagging": "GetObjectTagging", "": "GetObject"},
    "HEAD": {"": "HeadObject"},
    "PUT": {"partNumber": "UploadPart", "acl": "PutObjectAcl", "tagging": "PutObjectTagging", "": "PutObject"},
    "POST": {"uploads": "CreateMultipartUpload", "uploadId": "CompleteMultipartUpload", "": "PostObject"},
    "DELETE": {"uploadId": "AbortMultipartUpload", "": "DeleteObject"},
}


def signer(authorization: str) -> tuple[str, str, str] | None:
    """The id of the key that signed a request, and the service and the region that it was signed for."""
    found = _CREDENTIAL.search(authorization)
    return (found[1], found[3], found[2]) if found else None


def s3_operation(method: str, path: str, query: str, *, copied: bool) -> str:
    """The operation of S3, path style."""
    asked = parse_qs(query, keep_blank_values=True)
    _, bucket, *key = path.split("/", 2)
    if not bucket:
        return "ListBuckets"
    if key and key[0]:
        if copied:
            return "UploadPartCopy" if "partNumber" in asked else "CopyObject"
        named = _KEY
    else:
        if asked.get("list-type") == ["2"]:
            return "ListObjectsV2"
        for one in ("location", "versioning", "policy", "lifecycle", "encryption", "tagging", "publicAccessBlock"):
            if one in asked:
                return f"{method.capitalize()}Bucket{one.capitalize()}"
        named = _BUCKET
    names = named.get(method, {})
    return next((names[one] for one in names if one and one in asked), names.get("", method))


_lambda: list[tuple[str, re.Pattern[str], str]] = []


def lambda_operation(method: str, path: str) -> tuple[str, str | None]:
    """The operation of Lambda, and the function that it is about, if it is about one."""
    if not _lambda:
        model = ServiceModel(Loader().load_service_model("lambda", "service-2"), "lambda")
        for name in model.operation_names:
            http = model.operation_model(name).http
            pattern = re.sub(r"\\\{[^}]+\\\}", "([^/]+)", re.escape(http["requestUri"].rstrip("/")))
            _lambda.append((http["method"], re.compile(pattern + "/?$"), name))
    for wanted, pattern, name in _lambda:
        found = pattern.match(path)
        if wanted == method and found:
            groups = [unquote(one) for one in found.groups()]
            return name, _function(groups[0]) if groups and _OF_FUNCTIONS.search(path) else None
    return f"{method} {path}", None


def _function(name: str) -> str:
    """A function's name, from its name, its ARN, or either with a qualifier."""
    return name.rpartition(":function:")[2].partition(":")[0]
