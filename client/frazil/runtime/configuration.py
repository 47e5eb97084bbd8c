"""What Lithops' configuration says of the function on Lambda, as values.

The configuration is the one that Lithops itself has completed; where it comes from is not known here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from frazil.runtime import names
from frazil_functions.errors import InvalidInputError

BACKEND: Final = "aws_lambda"

LEAST_MEMORY: Final = 128
MOST_MEMORY: Final = 10240
"""In MB; https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html."""

_IMAGE: Final = re.compile(r"[a-z0-9][a-z0-9._/-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Credentials in Lithops' configuration, where they should not be; they appear in no text."""

    access_key_id: str | None = field(default=None, repr=False)
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class LambdaRuntime:
    """The function that calls are to go to, and the bucket that they go through.

    Attributes
    ----------
    region
        Of the function.
    staging_bucket
        The bucket that Lithops keeps calls, results and the function's metadata in.
    runtime
        The name of the image, with its tag.
    memory
        In MB.
    timeout
        In seconds.
    role
        The ARN of the role that the function has.
    account_id
        The account's number; None for that of whoever calls.
    user_id
        What functions' names are made of; None for the id of whoever calls.
    namespace
        What functions' names begin with.
    architecture
        Of the machine: x86_64 or arm64.
    ephemeral_storage
        Of the function's /tmp, in MB.
    variables
        The function's environment.
    subnets, security_groups
        The network that the function is in, if it is in one.
    keys
        Credentials in the configuration.
    """

    region: str
    staging_bucket: str
    runtime: str
    memory: int
    timeout: int
    role: str
    account_id: str | None = None
    user_id: str | None = None
    namespace: str | None = None
    architecture: str = "x86_64"
    ephemeral_storage: int = 512
    variables: Mapping[str, str] = field(default_factory=dict)
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    keys: Keys = field(default_factory=Keys)

    @property
    def function(self) -> str:
        """The function's name; `user_id` must be known."""
        assert self.user_id is not None
        return names.function_name(self.runtime, self.memory, user_id=self.user_id, namespace=self.namespace)

    @property
    def metadata_key(self) -> str:
        """The key of the function's metadata in the staging bucket."""
        return names.metadata_key(self.region, self.function)

    @property
    def image(self) -> str:
        """The image in ECR, as Lithops names it; `account_id` and `user_id` must be known."""
        assert self.user_id is not None
        repository, tag = names.image_repository(self.runtime, user_id=self.user_id, namespace=self.namespace)
        return f"{self.registry}/{repository}:{tag}"

    @property
    def registry(self) -> str:
        """The host of the account's images."""
        return f"{self.account_id}.dkr.ecr.{self.region}.{_domain(self.region)}"

    def with_memory(self, memory: int) -> "LambdaRuntime":
        """The function of another memory size.

        Raises
        ------
        InvalidInputError
            If Lambda has no such size.
        """
        if not LEAST_MEMORY <= memory <= MOST_MEMORY:
            raise InvalidInputError(f"Lambda gives {LEAST_MEMORY} to {MOST_MEMORY} MB of memory, and not {memory}")
        return replace(self, memory=memory)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "LambdaRuntime":
        """What a configuration says that Lithops has completed.

        Raises
        ------
        InvalidInputError
            If it is of another backend, or leaves out what Frazil needs.
        """
        lithops = config.get("lithops") or {}
        backend, storage = lithops.get("backend"), lithops.get("storage")
        if backend != BACKEND or storage != "aws_s3":
            raise InvalidInputError(
                f"Lithops' configuration names the backend {backend!r} with the storage {storage!r}, and this is about "
                f"functions on Lambda: set backend: {BACKEND} and storage: aws_s3 in its section lithops"
            )
        own, bucket = config[BACKEND], config["aws_s3"].get("storage_bucket")
        if not bucket:
            raise InvalidInputError(
                "Lithops' configuration names no storage_bucket in its section aws_s3, and Lithops would make one of "
                "its own; name the staging bucket"
            )
        runtime = str(own.get("runtime") or "default")
        if runtime == "default" or runtime.startswith("default-runtime-") or not _IMAGE.fullmatch(runtime):
            raise InvalidInputError(
                f"Lithops' configuration has the runtime {runtime!r} in its section {BACKEND}, which is no image that "
                "holds frazil; name one with its tag, as in runtime: frazil:0.1.0"
            )
        network = own.get("vpc") or {}
        found = cls(
            region=str(own["region"]),
            staging_bucket=str(bucket),
            runtime=runtime,
            memory=LEAST_MEMORY,
            timeout=int(own["runtime_timeout"]),
            role=str(own["execution_role"]),
            account_id=_text(own.get("account_id")),
            user_id=_text(own.get("user_id")),
            namespace=_text(own.get("namespace")),
            architecture=str(own["architecture"]),
            ephemeral_storage=int(own["ephemeral_storage"]),
            variables={str(one["name"]): str(one["value"]) for one in own.get("env_vars") or ()},
            subnets=tuple(network.get("subnets") or ()),
            security_groups=tuple(network.get("security_groups") or ()),
            keys=Keys(**{name: own.get(name) for name in Keys.__slots__}),
        )
        return found.with_memory(int(own["runtime_memory"]))


def _text(value: object) -> str | None:
    # YAML reads an account's number as a number.
    return None if value is None or value == "" else str(value)


def _domain(region: str) -> str:
    return "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
