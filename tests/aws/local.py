"""A local AWS: S3, IAM, STS and Lambda on loopback, with the roles, buckets and functions of a deployment.

`started` starts one and gives a `LocalAws`; the fixture `aws` shares one among the tests of a session. Its server is a
process of its own, which ends with this one. What this module knows is the outside: calls of boto3, and the server's
own requests below /local-aws.
"""

import base64
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Self

import boto3
from botocore.config import Config

from . import names
from .policies import Policies, policies

TOP = Path(__file__).parents[2]
REDIRECT = Path(__file__).parent / "redirect"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Keys as AWS hands them out.

    Attributes
    ----------
    access_key_id, secret_access_key, session_token
        As AWS calls them; the token is None for the keys of a user.
    """

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)

    def environment(self) -> dict[str, str]:
        """The variables that AWS' libraries read them from."""
        named = {
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_SESSION_TOKEN": self.session_token,
        }
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Request:
    """A request that the server answered.

    Attributes
    ----------
    service, operation
        Such as "s3" and "GetObject", as boto3 calls them.
    role
        The role or user whose key signed it, without the deployment's name: "worker", "client", "admin".
    status
        The HTTP status.
    path
        Bucket and key, or what else was asked for.
    """

    service: str
    operation: str
    role: str | None
    status: int
    path: str


@dataclass(frozen=True, slots=True)
class Invocation:
    """One invocation of a function, and what became of it.

    Attributes
    ----------
    request_id, function
        As Lambda names them.
    kind
        "Event" or "RequestResponse".
    outcome
        "throttled" (429, never accepted), "lost" (202, never run), "queued", "running", "succeeded", "failed" (the
        function raised, or could not be imported), "timed out", "out of memory", or "exited".
    attempts
        How often it was run.
    cold
        Whether its last attempt started an environment.
    seconds, peak_mb
        How long the last attempt took, and the most memory it had.
    payload, answer
        What went in and out.
    """

    request_id: str
    function: str
    kind: str
    outcome: str
    attempts: int
    cold: bool
    seconds: float
    peak_mb: float
    payload: bytes = field(repr=False)
    answer: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What a function of the local AWS does that no call of AWS asks for.

    Attributes
    ----------
    queue
        How many events may wait for an environment. One more is throttled (429). None for no bound, as Lambda has.
    throttle_every, lose_every
        Of so many invocations, throttle one, or accept one and never run it. 0 for none.
    retry_pause
        Seconds between the attempts of an event; one and two minutes in Lambda.
    idle
        Seconds after which an environment that nobody uses is ended.
    """

    queue: int | None = None
    throttle_every: int = 0
    lose_every: int = 0
    retry_pause: float = 0.05
    idle: float = 60.0


@dataclass(frozen=True, slots=True)
class LocalAws:
    """A running local AWS.

    Attributes
    ----------
    endpoint_url
        Of all its services.
    credentials
        Of each role (see `names.ROLES`), and of "admin", who may do anything.
    region, account_id, data_bucket, staging_bucket, raw_bucket
        As its parts are called. Sources are in the raw bucket, repositories below `repository` in the data bucket.
    """

    endpoint_url: str
    credentials: Mapping[str, Credentials]
    policies: Policies
    region: str = names.REGION
    account_id: str = names.ACCOUNT
    data_bucket: str = names.DATA
    staging_bucket: str = names.STAGING
    raw_bucket: str = names.RAW

    @property
    def repository(self) -> str:
        """The URL of a repository that the roles may use."""
        return f"s3://{self.data_bucket}/{names.REPOSITORIES[0]}"

    @property
    def another(self) -> str:
        """The URL of another one."""
        return f"s3://{self.data_bucket}/{names.REPOSITORIES[1]}"

    def environment(self, role: str = "client") -> dict[str, str]:
        """The variables with which a program is that role, and finds this server for AWS."""
        return self.credentials[role].environment() | {
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def shell(self, role: str = "client") -> dict[str, str]:
        """The same for a program of its own that may use Lithops: its invocations come here, too."""
        path = os.pathsep.join(filter(None, [str(REDIRECT), os.environ.get("PYTHONPATH")]))
        return self.environment(role) | {"PYTHONPATH": path}

    def client(self, service: str, role: str = "admin", **options: Any) -> Any:
        """A client of boto3 for a role, which repeats nothing unless told to."""
        keys = self.credentials[role]
        return boto3.client(
            service,
            endpoint_url=self.endpoint_url,
            region_name=self.region,
            aws_access_key_id=keys.access_key_id,
            aws_secret_access_key=keys.secret_access_key,
            aws_session_token=keys.session_token,
            config=Config(retries={"total_max_attempts": 1}, **options),
        )

    def lithops_config(self, memory: int = 1769, timeout: int = 120, **section: Any) -> dict[str, Any]:
        """Lithops' configuration, which holds no keys: `LithopsExecutor(backend="aws_lambda", config=...)`.

        Parameters
        ----------
        memory, timeout
            Of the function, in MB and seconds; it must have been made with `function`.
        section
            More settings for Lithops' section `aws_lambda`, such as `max_workers`.
        """
        return {
            "lithops": {"backend": "aws_lambda", "storage": "aws_s3"},
            "aws": {"region": self.region},
            "aws_lambda": {
                "account_id": self.account_id,
                "user_id": names.USER_ID,
                "execution_role": names.role_arn("worker"),
                "runtime": names.RUNTIME,
                "runtime_memory": memory,
                "runtime_timeout": timeout,
            }
            | section,
            "aws_s3": {"storage_bucket": self.staging_bucket},
        }

    def function(
        self,
        memory: int = 1769,
        *,
        timeout: int = 120,
        concurrency: int | None = None,
        retries: int = 0,
        handler: str = names.HANDLER,
        name: str | None = None,
        role: str = "worker",
        environment: Mapping[str, str] | None = None,
        behaviour: Behaviour | None = None,
    ) -> str:
        """Make a function anew, and give its name: by default the one that Lithops looks for.

        Parameters
        ----------
        memory, timeout
            In MB and seconds.
        concurrency
            How many environments there may be at once (reserved concurrency); by default as many as the account
            has, which is twice the number of this machine's CPUs.
        retries
            How often a failed event is run again, 0 to 2. Lambda's own default is 2.
        handler, name, role
            A module and function that can be imported, what it is called, and who it is.
        environment
            Variables of the function.
        """
        called = name or names.function_name(memory)
        client = self.client("lambda")
        self.remove(called)
        client.create_function(
            FunctionName=called,
            PackageType="Image",
            Code={"ImageUri": f"{self.account_id}.dkr.ecr.{self.region}.amazonaws.com/frazil:0.1.0"},
            ImageConfig={"Command": [handler]},
            Role=names.role_arn(role),
            MemorySize=memory,
            Timeout=timeout,
            Environment={"Variables": dict(environment or {})},
        )
        queue = f"arn:aws:sqs:{self.region}:{self.account_id}:{self.policies.failed_queue}"
        client.put_function_event_invoke_config(
            FunctionName=called,
            MaximumRetryAttempts=retries,
            DestinationConfig={"OnFailure": {"Destination": queue}},
        )
        if concurrency is not None:
            client.put_function_concurrency(FunctionName=called, ReservedConcurrentExecutions=concurrency)
        self.behave(called, behaviour or Behaviour())
        if name is None:
            self.client("s3").put_object(
                Bucket=self.staging_bucket,
                Key=names.metadata_key(memory),
                Body=json.dumps(
                    {
                        "preinstalls": [],
                        "python_version": names.python_version(),
                        "lithops_version": names.LITHOPS,
                        "runtime_timeout": timeout,
                    }
                ),
            )
        return called

    def remove(self, name: str) -> None:
        """End a function's environments and forget it, if there is one."""
        self._ask("end", {"function": name})
        client = self.client("lambda")
        try:
            client.delete_function(FunctionName=name)
        except client.exceptions.ResourceNotFoundException:
            return

    def behave(self, function: str, behaviour: Behaviour) -> None:
        """Change what a function does from now on; what was counted begins anew."""
        settings = {name: getattr(behaviour, name) for name in Behaviour.__dataclass_fields__}
        self._ask("behave", {"function": function, "behaviour": settings})

    def requests(self, role: str | None = None) -> Counter[str]:
        """How many requests of each kind there were since `reset`, such as {"s3:GetObject": 3, "lambda:Invoke": 1}.

        Those with which a `LocalAws` sets things up count as the admin's, and only if that role is asked for.
        """
        wanted = [one for one in self.log() if one.role == role or (role is None and one.role != "admin")]
        return Counter(f"{one.service}:{one.operation}" for one in wanted)

    def log(self) -> list[Request]:
        """Every request since `reset`, in the order of their answers."""
        return [Request(**one) for one in self._ask("requests")]

    def invocations(self, function: str | None = None) -> list[Invocation]:
        """Every invocation since `reset`, in the order of their arrival."""
        found = [
            Invocation(**one | {name: _bytes(one[name]) for name in ("payload", "answer")})
            for one in self._ask("invocations")
        ]
        return [one for one in found if function in {None, one.function}]

    def failures(self) -> list[dict[str, Any]]:
        """What went to the on-failure destination since `reset`: Lambda's records of events given up."""
        return list(self._ask("failures"))

    def logs(self, function: str) -> str:
        """What the environments of a function wrote, with Lambda's own lines of START, END and REPORT."""
        return str(self._ask("logs", {"function": function}))

    def environments(self) -> list[dict[str, Any]]:
        """The environments that live: `function`, `pid`, `busy`, `read_only`."""
        return list(self._ask("environments"))

    def reset(self) -> None:
        """Count from zero, and end every environment, so that the next start is a cold one."""
        self._ask("reset")

    def empty(self) -> None:
        """Forget every object of the data bucket and of the staging bucket."""
        s3 = self.client("s3")
        for bucket in (self.data_bucket, self.staging_bucket):
            for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
                if keys := [{"Key": one["Key"]} for one in page.get("Contents", [])]:
                    s3.delete_objects(Bucket=bucket, Delete={"Objects": keys})

    def settled(self, timeout: float = 60.0) -> Self:
        """Wait until no invocation is queued or running."""
        self.until(lambda: not self._ask("unsettled"), timeout)
        return self

    @staticmethod
    def until(condition: Callable[[], object], timeout: float = 60.0) -> None:
        """Wait until something is so, and fail if it does not become so in time, in seconds."""
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, "it did not become so in time"
            time.sleep(0.02)

    def _ask(self, what: str, argument: Mapping[str, Any] | None = None) -> Any:
        return _posted(f"{self.endpoint_url}/local-aws/{what}", json.dumps(argument or {}).encode())


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def _posted(url: str, body: bytes) -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, body), timeout=60) as answer:  # noqa: S310 - loopback
        return json.load(answer)


@cache
def redirect() -> None:
    """Send the invocations of Lithops in this process to AWS_ENDPOINT_URL, as `LocalAws.shell` does for others."""
    import importlib.util  # noqa: PLC0415 - for this alone

    spec = importlib.util.spec_from_file_location("frazil_tests_redirect", REDIRECT / "sitecustomize.py")
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


@contextmanager
def started(*, read_only: bool = True, port: int = 0) -> Iterator[LocalAws]:
    """Start a local AWS, with its roles and buckets, and end it.

    Parameters
    ----------
    read_only
        Whether environments see a read-only file system, where this machine can give them one.
    port
        Of loopback; 0 for any.
    """
    found = policies()
    command = [sys.executable, "-m", "tests.aws.server", "--port", str(port)]
    if not read_only:
        command.append("--writable")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,  # it ends when this end is closed
        stdout=subprocess.PIPE,
        cwd=TOP,
        env=environment | {"INITIAL_NO_AUTH_ACTION_COUNT": "1000000000"},
        text=True,
    )
    try:
        assert process.stdout is not None
        endpoint = process.stdout.readline().strip()
        assert endpoint, "the server did not start"
        yield _set_up(endpoint, found)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _set_up(endpoint: str, found: Policies) -> LocalAws:
    """Make users, roles, policies and buckets, as nobody in particular; and have permissions enforced from then on."""
    nobody = {
        "endpoint_url": endpoint,
        "region_name": names.REGION,
        "aws_access_key_id": "nobody",
        "aws_secret_access_key": "nobody",
    }
    iam, sts, s3, sqs = (boto3.client(service, **nobody) for service in ("iam", "sts", "s3", "sqs"))
    iam.create_user(UserName="admin")
    everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    iam.put_user_policy(UserName="admin", PolicyName="all", PolicyDocument=json.dumps(everything))
    key = iam.create_access_key(UserName="admin")["AccessKey"]
    credentials = {"admin": Credentials(key["AccessKeyId"], key["SecretAccessKey"])}
    for role in names.ROLES:
        iam.create_role(RoleName=f"{names.NAME}-{role}", AssumeRolePolicyDocument=found.trust[role])
        iam.put_role_policy(RoleName=f"{names.NAME}-{role}", PolicyName="frazil", PolicyDocument=found.roles[role])
        keys = sts.assume_role(RoleArn=names.role_arn(role), RoleSessionName="local")["Credentials"]
        credentials[role] = Credentials(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])
    for bucket in (names.DATA, names.STAGING, names.RAW):
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": names.REGION})
    for bucket, document in ((names.DATA, found.buckets["data"]), (names.STAGING, found.buckets["staging"])):
        s3.put_bucket_policy(Bucket=bucket, Policy=document)
    sqs.create_queue(QueueName=found.failed_queue)
    _put_image(boto3.client("ecr", **nobody))
    _posted(f"{endpoint}/local-aws/enforce", b"{}")
    _posted(f"{endpoint}/local-aws/reset", b"{}")
    return LocalAws(endpoint, credentials, found)


def _put_image(ecr: Any) -> None:
    """An image where `frazil runtime deploy` looks for it. There is nothing in it: functions run what is installed."""
    repository = (
        f"lithops_v{names.LITHOPS.replace('.', '')}_{names.USER_ID[-4:].lower()}/{names.RUNTIME.partition(':')[0]}"
    )
    ecr.create_repository(repositoryName=repository)
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": "sha256:0", "size": 1},
        "layers": [],
    }
    ecr.put_image(
        repositoryName=repository, imageTag=names.RUNTIME.partition(":")[2], imageManifest=json.dumps(manifest)
    )


def shown(variables: Mapping[str, str]) -> Sequence[str]:
    """Lines of a shell that set variables."""
    import shlex  # noqa: PLC0415 - for this alone

    return [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
