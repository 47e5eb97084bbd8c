"""The server of the local AWS: moto for S3, IAM, STS and Lambda's control plane, and our own data plane for Lambda.

`python -m tests.aws.server` prints its endpoint, and ends when its standard input does.
"""

import argparse
import base64
import contextlib
import io
import json
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import moto.iam.access_control as moto_access
from flask import g as flask_context
from flask import request as flask_request
from moto import settings as moto_settings
from moto.awslambda.models import lambda_backends
from moto.awslambda.responses import LambdaResponse
from moto.core.authorization import ActionAuthenticatorMixin
from moto.core.responses import BaseResponse
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.s3.exceptions import BucketAccessDeniedError
from moto.s3.models import FakeBucket, s3_backends
from moto.sqs.models import sqs_backends
from moto.sts.models import sts_backends
from werkzeug.exceptions import HTTPException
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from . import counting, names, permissions, sandbox
from .data_plane import DataPlane, Settings
from .environment import Function
from .local import Behaviour

_CONTROL = "/local-aws/"
_PASSING = {"CreateFunction", "UpdateFunctionConfiguration"}
"""What gives a role to a function, for which Lambda asks whether the caller may."""
_REFUSALS = {
    "SignatureDoesNotMatch": "InvalidSignatureException",
    "InvalidClientTokenId": "UnrecognizedClientException",
}
"""Errors of IAM by the names that Lambda has for them."""


class _Statement(moto_access.IAMPolicyStatement):  # type: ignore[misc]  # moto has no types
    """A statement of a policy, decided by `permissions`."""

    def is_action_permitted(
        self, action: str, resource: str = "*", principal: str | None = None, *args: Any
    ) -> moto_access.PermissionResult:
        results = moto_access.PermissionResult
        if "Resource" not in self._statement:  # a trust policy
            return super().is_action_permitted(action, resource, principal, *args)
        assert self._statement.get("Principal", "*") == "*", "the local AWS knows bucket policies for all alone"
        if not permissions.applies(self._statement, action, resource, _context()):
            return results.NEUTRAL
        return results.PERMITTED if self._statement["Effect"] == "Allow" else results.DENIED


class _S3Request(moto_access.S3IAMRequest):  # type: ignore[misc]  # moto has no types
    """A signed request to S3. Of one that deletes many objects, each is decided by itself, as AWS does."""

    def check_action_permitted(self, resource: str) -> None:
        if self._action == "s3:DeleteObject" and "/" not in resource:
            flask_context.caller = self
            return
        super().check_action_permitted(resource)


def _permission(bucket: Any, action: str, resource: str) -> moto_access.PermissionResult:
    """What moto asks a bucket for, and, where `_S3Request` put it off, what the caller's own policies say."""
    caller = getattr(flask_context, "caller", None)
    if caller is not None:
        try:
            super(_S3Request, caller).check_action_permitted(resource)
        except BucketAccessDeniedError:
            return moto_access.PermissionResult.DENIED
    decided: moto_access.PermissionResult = _bucket_permission(bucket, action, resource)
    if caller is None and decided == moto_access.PermissionResult.DENIED:
        raise BucketAccessDeniedError(bucket=bucket.name)  # else moto answers with a status and no error
    return decided


_bucket_permission = FakeBucket.get_permission


def _context() -> dict[str, str]:
    """The keys of conditions that a request fills, as far as a policy of ours names them."""
    context = {
        "aws:securetransport": "true",  # as if: loopback stands for AWS' own endpoints
        "aws:requestedregion": names.REGION,
        "iam:passedtoservice": "lambda.amazonaws.com",
        "aws:principalaccount": names.ACCOUNT,
        "aws:resourceaccount": names.ACCOUNT,
        "s3:resourceaccount": names.ACCOUNT,
    }
    if flask_request:
        context |= {f"s3:{name}": value for name, value in flask_request.args.items()}
        context |= {
            name.lower().replace("x-amz-", "s3:x-amz-", 1): value
            for name, value in flask_request.headers.items()
            if name.lower().startswith("x-amz-")
        }
        for name, key in (("If-None-Match", "s3:if-none-match"), ("If-Match", "s3:if-match")):
            if name in flask_request.headers:
                context[key] = flask_request.headers[name]
    return context


def _refused(request: Request, payload: bytes, operation: str, name: str | None) -> Response | None:
    """Why the caller may not do that in Lambda: its key, its signature, or its policy.

    moto would take each call's body for something else than was signed, and ask for all functions.
    """
    if ActionAuthenticatorMixin.request_count < moto_settings.INITIAL_NO_AUTH_ACTION_COUNT:
        return None
    if "Authorization" not in request.headers:
        return _refusal(403, "MissingAuthenticationTokenException", "Missing Authentication Token")
    resource = f"arn:aws:lambda:{names.REGION}:{names.ACCOUNT}:function:{name}" if name else "*"
    try:
        asked = moto_access.IAMRequest(
            account_id=names.ACCOUNT,
            method=request.method,
            path=request.full_path.rstrip("?"),
            data={},
            body=payload,
            headers=request.headers,
            action="InvokeFunction" if operation == "Invoke" else operation,
        )
        asked.check_signature()
        asked.check_action_permitted(resource)
        passed = json.loads(payload).get("Role") if operation in _PASSING else None
        if passed is not None:
            asked._action = "iam:PassRole"  # noqa: SLF001 - moto never asks for it
            asked.check_action_permitted(passed)
    except HTTPException as error:
        kind = _REFUSALS.get(str(getattr(error, "error_type", "")), "AccessDeniedException")
        return _refusal(403, kind, str(getattr(error, "message", error)))
    return None


def _authorize(self: Any, resource: str = "*") -> None:
    """Ask for the very resource where moto would ask for all of them."""
    asked = {**self.querystring, **(_decoded(self.body) or {})}
    for parameter, arn in _RESOURCES.items():
        given = asked.get(parameter)
        if resource == "*" and given:
            name = str(given[0] if isinstance(given, list) else given)
            if parameter == "QueueUrl":
                name = name.rpartition("/")[2]
            resource = arn.format(region=names.REGION, account=names.ACCOUNT, name=name)
    _authorize_all(self, resource)


_authorize_all = BaseResponse._authenticate_and_authorize_normal_action  # noqa: SLF001 - there is no other way in
_RESOURCES = {
    "repositoryName": "arn:aws:ecr:{region}:{account}:repository/{name}",
    "QueueUrl": "arn:aws:sqs:{region}:{account}:{name}",
    "logGroupName": "arn:aws:logs:{region}:{account}:log-group:{name}:*",
    "RoleName": "arn:aws:iam::{account}:role/{name}",
}
"""Parameters of requests that name what they are about."""


def _decoded(body: Any) -> dict[str, Any] | None:
    try:
        found = json.loads(body)
    except (TypeError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _misplaced(environ: Mapping[str, Any], bucket: str) -> Response | None:
    """What S3 answers about a bucket that does not exist, whoever asks, and to whom takes it to be in another region.

    moto would ask for permissions first, and takes any region.
    """
    found = s3_backends[names.ACCOUNT]["aws"].buckets.get(bucket)
    if found is None:
        return _s3_refusal(environ, 404, "NoSuchBucket", "The specified bucket does not exist", "")
    signed = counting.signer(environ.get("HTTP_AUTHORIZATION", ""))
    if signed is None or signed[2] == found.region_name:
        return None
    said = f"The authorization header is malformed; the region '{signed[2]}' is wrong; expecting '{found.region_name}'"
    return _s3_refusal(environ, 400, "AuthorizationHeaderMalformed", said, found.region_name)


def _s3_refusal(environ: Mapping[str, Any], status: int, code: str, message: str, region: str) -> Response:
    place = f"<Region>{region}</Region>" if region else ""
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message>{place}</Error>'
    )
    headers = {"x-amz-bucket-region": region} if region else {}
    return Response(
        "" if environ["REQUEST_METHOD"] == "HEAD" else body, status, headers, content_type="application/xml"
    )


def _placed(started: Callable[..., Any], region: str) -> Callable[..., Any]:
    """Say where a bucket lies, as S3 does to those, too, who may not look at it."""

    def placed(status: str, headers: Any, *more: Any) -> Any:
        given = [(name, value) for name, value in headers if name.lower() != "x-amz-bucket-region"]
        return started(status, [*given, ("x-amz-bucket-region", region)], *more)

    return placed


class Server:
    """The WSGI application, and what it counts."""

    def __init__(self, folder: Path, *, read_only: bool) -> None:
        self.endpoint = ""
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._read_only = read_only
        self._plane = DataPlane(self._look_up, _give_up, folder)
        self._requests: list[dict[str, Any]] = []
        self._roles: dict[str, str | None] = {}
        self._keys: dict[str, dict[str, str]] = {}

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path.startswith(_CONTROL):
            return self._control(path.removeprefix(_CONTROL), environ)(environ, start_response)
        service, operation, role = self._asked(environ)
        seen = {"service": service, "operation": operation, "role": role, "path": path}

        def started(status: str, headers: Any, *more: Any) -> Any:
            self._requests.append(seen | {"status": int(status.split(maxsplit=1)[0])})
            return start_response(status, headers, *more)

        if service == "lambda":
            return self._lambda(environ, operation, started)
        if service == "s3" and operation not in {"ListBuckets", "CreateBucket"}:
            bucket = path.split("/", 2)[1]
            misplaced = _misplaced(environ, bucket)
            if misplaced is not None:
                return misplaced(environ, started)
            if operation == "HeadBucket":
                started = _placed(started, s3_backends[names.ACCOUNT]["aws"].buckets[bucket].region_name)
        return self._moto(environ, started)  # type: ignore[no-any-return]  # moto has no types

    def _asked(self, environ: Mapping[str, Any]) -> tuple[str, str, str | None]:
        method, path, query = environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["QUERY_STRING"]
        signed = counting.signer(environ.get("HTTP_AUTHORIZATION", ""))
        service = signed[1] if signed else "s3"
        role = self._role(signed[0]) if signed else None
        if service == "s3":
            copied = "HTTP_X_AMZ_COPY_SOURCE" in environ
            return service, counting.s3_operation(method, path, query, copied=copied), role
        if service == "lambda":
            return service, counting.lambda_operation(method, path)[0], role
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        return service, target.rpartition(".")[2] or "Call", role

    def _role(self, key: str) -> str | None:
        if key not in self._roles:
            assumed = sts_backends[names.ACCOUNT]["aws"].get_assumed_role_from_access_key(key)
            if assumed is not None:
                self._roles[key] = assumed.role_arn.rpartition("/")[2].removeprefix(f"{names.NAME}-")
            else:
                self._roles[key] = "admin" if key.startswith("AKIA") else None
        return self._roles[key]

    def _lambda(self, environ: dict[str, Any], operation: str, started: Callable[..., Any]) -> Iterable[bytes]:
        request = Request(environ)
        payload = request.get_data()
        environ["wsgi.input"] = io.BytesIO(payload)
        _, name = counting.lambda_operation(request.method, request.path)
        if operation == "CreateFunction":
            name = json.loads(payload).get("FunctionName")
        refused = _refused(request, payload, operation, name)
        if refused is not None:
            return refused(environ, started)
        if operation == "Invoke":
            assert name is not None
            return self._invoke(request, payload, name)(environ, started)
        return self._moto(environ, started)  # type: ignore[no-any-return]  # moto has no types

    def _invoke(self, request: Request, payload: bytes, name: str) -> Response:
        kind = request.headers.get("X-Amz-Invocation-Type", "RequestResponse")
        signed = counting.signer(request.headers.get("Authorization", ""))
        region = signed[2] if signed else names.REGION
        if region != names.REGION or self._look_up(name) is None:  # each region has functions of its own
            said = f"Function not found: arn:aws:lambda:{region}:{names.ACCOUNT}:function:{name}"
            return _refusal(404, "ResourceNotFoundException", said)
        if kind == "DryRun":
            return _response(204, b"")
        record, result = self._plane.invoke(name, payload, kind)
        if record.outcome == "throttled":
            reason = "ReservedFunctionConcurrentInvocationLimitExceeded"
            return _refusal(429, "TooManyRequestsException", "Rate Exceeded.", Reason=reason)
        headers = {"x-amzn-RequestId": record.request_id}
        if result is None:
            return _response(202, b"", headers)
        headers["X-Amz-Executed-Version"] = "$LATEST"
        if result.outcome != "succeeded":
            headers["X-Amz-Function-Error"] = "Unhandled"
        if request.headers.get("X-Amz-Log-Type") == "Tail":
            headers["X-Amz-Log-Result"] = base64.b64encode(result.log.encode()[-4096:]).decode()
        return _response(200, result.answer, headers)

    def _look_up(self, name: str) -> Settings | None:
        """A function as it was created, with keys of its role."""
        backend = lambda_backends[names.ACCOUNT][names.REGION]
        if name not in {one.function_name for one in backend.list_functions()}:
            return None
        found = backend.get_function(name)
        event = found.event_invoke_config[-1].response() if found.event_invoke_config else {}
        command = [*found.image_config.entry_point, *found.image_config.cmd] or [found.handler or names.HANDLER]
        arn = f"arn:aws:lambda:{names.REGION}:{names.ACCOUNT}:function:{name}"
        variables = self._variables(found, name)
        function = Function(
            name=name,
            arn=arn,
            handler=command[-1],
            memory=int(found.memory_size),
            timeout=float(found.timeout),
            variables=variables | found.environment_vars,
            read_only=self._read_only,
        )
        return Settings(
            function=function,
            revision=json.dumps(
                [command, found.memory_size, found.timeout, found.environment_vars, found.last_modified]
            ),
            concurrency=int(found.reserved_concurrency or 2 * (os.cpu_count() or 1)),
            retries=int(event.get("MaximumRetryAttempts", 2)),
            destination=event.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination"),
        )

    def _variables(self, found: Any, name: str) -> dict[str, str]:
        """What Lambda sets, and what stands for the image's own settings; nothing of this process' environment."""
        if found.role not in self._keys:
            assumed = sts_backends[names.ACCOUNT]["aws"].assume_role(
                region_name=names.REGION,
                role_session_name=name,
                role_arn=found.role,
                policy="",
                duration=3600,
                external_id="",
            )
            self._keys[found.role] = {
                "AWS_ACCESS_KEY_ID": assumed.access_key_id,
                "AWS_SECRET_ACCESS_KEY": assumed.secret_access_key,
                "AWS_SESSION_TOKEN": assumed.session_token,
            }
        return {
            **self._keys[found.role],
            "AWS_REGION": names.REGION,
            "AWS_DEFAULT_REGION": names.REGION,
            "AWS_EXECUTION_ENV": f"AWS_Lambda_python{names.python_version()}",
            "AWS_LAMBDA_FUNCTION_NAME": name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(found.memory_size),
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{name}",
            "AWS_LAMBDA_LOG_STREAM_NAME": "local",
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "HOME": "/tmp",  # noqa: S108 - as the image has it
            "LANG": "C.UTF-8",
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": _checkout(),
            "PYTHONUNBUFFERED": "1",
            "TZ": ":UTC",
        }

    def _control(self, what: str, environ: dict[str, Any]) -> Response:
        asked = json.loads(Request(environ).get_data() or b"{}")
        plane = self._plane
        answers: dict[str, Callable[[], Any]] = {
            "requests": lambda: list(self._requests),
            "invocations": lambda: [_shown(asdict(one)) for one in plane.records()],
            "unsettled": lambda: sum(one.outcome in {"queued", "running"} for one in plane.records()),
            "failures": plane.failures,
            "logs": lambda: plane.logs(asked["function"]),
            "environments": plane.environments,
            "behave": lambda: plane.behave(asked["function"], Behaviour(**asked["behaviour"])),
            "end": lambda: plane.end(asked["function"]),
            "enforce": self._enforce,
            "reset": self._reset,
        }
        if what not in answers:
            return _refusal(404, "NotFound", what)
        return _response(200, json.dumps(answers[what]()).encode())

    @staticmethod
    def _enforce() -> None:
        moto_settings.INITIAL_NO_AUTH_ACTION_COUNT = ActionAuthenticatorMixin.request_count = 0

    def _reset(self) -> None:
        self._requests.clear()
        self._plane.reset()

    def close(self) -> None:
        """End every environment."""
        self._plane.close()


def _give_up(destination: str | None, record: Mapping[str, Any]) -> None:
    """Send what became of an event to its on-failure destination, if that is a queue."""
    if destination is not None and ":sqs:" in destination:
        queue = destination.rpartition(":")[2]
        sqs_backends[names.ACCOUNT][names.REGION].send_message(queue, json.dumps(record))


def _checkout() -> str:
    """Where functions of the tests themselves are imported from, and what stands in the image beside packages."""
    top = Path(__file__).parents[2]
    return os.pathsep.join((str(top), str(top / "infra" / "runtime")))


def _shown(record: dict[str, Any]) -> dict[str, Any]:
    for name in ("payload", "answer"):
        if record[name] is not None:
            record[name] = base64.b64encode(record[name]).decode()
    return record


def _response(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> Response:
    return Response(body, status, dict(headers or {}), content_type="application/json")


def _refusal(status: int, kind: str, message: str, **more: str) -> Response:
    body = {"Type": "User", "Message": message, "message": message, **more}
    return _response(status, json.dumps(body).encode(), {"x-amzn-ErrorType": kind})


class _Handler(MotoRequestHandler):  # type: ignore[misc]  # moto has no types
    """Keeps connections open, and says nothing of requests."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing: requests are counted."""


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--writable", action="store_true")
    options = parser.parse_args()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto_access.IAMPolicyStatement = _Statement
    moto_access.S3IAMRequest = _S3Request
    FakeBucket.get_permission = _permission
    BaseResponse._authenticate_and_authorize_normal_action = _authorize  # noqa: SLF001 - as above
    LambdaResponse._authenticate_and_authorize_normal_action = lambda *_: None  # noqa: SLF001 - `_refused` did
    with tempfile.TemporaryDirectory(prefix="frazil-aws-", ignore_cleanup_errors=True) as folder:
        server = Server(Path(folder), read_only=not options.writable and sandbox.available())
        http = make_server("127.0.0.1", options.port, server, threaded=True, request_handler=_Handler)
        http.daemon_threads = True
        server.endpoint = f"http://127.0.0.1:{http.server_port}"
        threading.Thread(target=http.serve_forever, daemon=True).start()
        sys.stdout.write(f"{server.endpoint}\n")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            sys.stdin.read()
        server.close()
    os._exit(0)


if __name__ == "__main__":
    main()
