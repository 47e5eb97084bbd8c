"""What is known of a function without calling it: the object in the staging bucket that Lithops reads."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from frazil.runtime.configuration import LambdaRuntime
from frazil.runtime.connection import Connection, code_of, explained, region_of
from frazil.runtime.names import lithops_version
from frazil_functions.errors import BackendError, VersionError
from frazil_functions.versions import versions

_OURS: Final = "frazil"
SAME: Final = ("python", "lithops", "frazil", "icechunk")
"""What client and function must have the same of; of Python, major and minor."""

_CURE: Final = (
    "build the image from the client's own checkout and deploy it (frazil runtime build --push; frazil runtime "
    "deploy), or install the function's versions here"
)


@dataclass(frozen=True, slots=True)
class Metadata:
    """A function's metadata.

    Attributes
    ----------
    python
        Major and minor version, "3.13".
    lithops
        Version.
    timeout
        How long a call may take, in seconds; Lithops plans with it.
    preinstalls
        The modules there, each with whether it is a package.
    versions
        Of frazil, icechunk and others, as the function itself has answered; empty if it was not asked.
    """

    python: str
    lithops: str
    timeout: int
    preinstalls: tuple[tuple[str, bool], ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """As Lithops reads it; it passes over what it does not know."""
        return {
            "preinstalls": [list(one) for one in self.preinstalls],
            "python_version": self.python,
            "lithops_version": self.lithops,
            "runtime_timeout": self.timeout,
            _OURS: dict(self.versions),
        }

    @classmethod
    def of(cls, found: Mapping[str, Any], timeout: int | None = None) -> "Metadata":
        """What an object or an answer of Lithops' entry point says; `timeout` where it does not.

        Raises
        ------
        KeyError, TypeError, ValueError
            If it says something else.
        """
        return cls(
            python=str(found["python_version"]),
            lithops=str(found["lithops_version"]),
            timeout=int(found["runtime_timeout"] if timeout is None else timeout),
            preinstalls=tuple((str(name), bool(package)) for name, package in found["preinstalls"]),
            versions={str(name): str(one) for name, one in dict(found.get(_OURS) or {}).items()},
        )

    @property
    def all_versions(self) -> dict[str, str]:
        """Every version that is known."""
        return {**self.versions, "python": self.python, "lithops": self.lithops}


def own_versions() -> dict[str, str]:
    """What is installed here, of what client and function must have the same."""
    found = versions() | {"lithops": lithops_version()}
    return {name: found[name] for name in SAME}


def difference(theirs: Mapping[str, str]) -> str:
    """How a function's versions differ from those installed here; empty if they do not."""
    ours = own_versions()
    other = [
        name for name in SAME if name in theirs and _comparable(name, theirs[name]) != _comparable(name, ours[name])
    ]
    return ", ".join(f"{name} {theirs[name]} in the function and {ours[name]} here" for name in other)


def _comparable(name: str, version: str) -> str:
    return ".".join(version.split(".")[:2]) if name == "python" else version


def differing(what: str, differs: str) -> VersionError:
    """The error about other versions.

    Parameters
    ----------
    what
        Who has them.
    differs
        As `difference` gives it.
    """
    return VersionError(f"{what} has other versions ({differs}); {_CURE}")


def read(runtime: LambdaRuntime, connection: Connection) -> Metadata:
    """A function's metadata, from the staging bucket.

    Raises
    ------
    BackendError
        If there is none, it cannot be read, or it is no such thing.
    """
    where = f"s3://{runtime.staging_bucket}/{runtime.metadata_key}"
    try:
        with explained(f"{where} cannot be read"):
            answer = connection.client("s3").get_object(Bucket=runtime.staging_bucket, Key=runtime.metadata_key)
            body = answer["Body"].read()
    except BackendError as error:
        if code_of(error) != "NoSuchKey":
            raise
        lies = region_of(runtime.staging_bucket, connection)  # requests follow a bucket to where it lies
        if lies not in {None, runtime.region}:
            raise BackendError(
                f"s3://{runtime.staging_bucket} lies in {lies}, and the region in Lithops' configuration is "
                f"{runtime.region}: set it to {lies}"
            ) from error
        raise BackendError(
            f"there is no metadata of {runtime.function} at {where}, so the function of {runtime.runtime} with "
            f"{runtime.memory} MB is not deployed in {runtime.region} for Lithops {lithops_version()}, or under "
            "another user_id: run `frazil runtime deploy`, or mend region, runtime, runtime_memory or user_id in "
            "Lithops' configuration"
        ) from error
    try:
        return Metadata.of(json.loads(body))
    except (KeyError, TypeError, ValueError) as error:
        raise BackendError(f"{where} is not what Lithops keeps of a function; run `frazil runtime deploy`") from error


def put(runtime: LambdaRuntime, connection: Connection, metadata: Metadata) -> None:
    """Put a function's metadata into the staging bucket.

    Raises
    ------
    BackendError
        If it cannot be put there.
    """
    where = f"s3://{runtime.staging_bucket}/{runtime.metadata_key}"
    with explained(f"{where} cannot be written"):
        connection.client("s3").put_object(
            Bucket=runtime.staging_bucket,
            Key=runtime.metadata_key,
            Body=json.dumps(metadata.as_json()).encode(),
            ContentType="application/json",
        )


def adopted(runtime: LambdaRuntime, connection: Connection) -> Metadata:
    """A function's metadata, if this client can call the function; asks for what calls need, and no more.

    Raises
    ------
    BackendError
        If the function is missing, its metadata is, or whoever calls is not allowed to call it.
    VersionError
        If it has other versions.
    """
    found = read(runtime, connection)
    differs = difference(found.all_versions)
    if differs:
        raise differing(f"The function {runtime.function}", differs)
    callable_function(runtime, connection)
    return found


def callable_function(runtime: LambdaRuntime, connection: Connection) -> None:
    """Refuse a function that is missing or must not be called; a dry run, which needs InvokeFunction alone.

    Raises
    ------
    BackendError
        As said.
    """
    try:
        with explained(f"The function {runtime.function} cannot be called"):
            connection.client("lambda").invoke(FunctionName=runtime.function, InvocationType="DryRun")
    except BackendError as error:
        if code_of(error) != "ResourceNotFoundException":
            raise
        raise BackendError(
            f"there is no function {runtime.function} in {runtime.region}, which {runtime.runtime} with "
            f"{runtime.memory} MB has: run `frazil runtime deploy`, or mend the region, runtime or runtime_memory in "
            "Lithops' configuration"
        ) from error
