"""The function on Lambda: made, or brought up to date, so that clients need no more than to call it.

A function that somebody else made, such as Terraform, keeps its settings: only its image follows.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from frazil.runtime import names
from frazil.runtime.configuration import LambdaRuntime
from frazil.runtime.connection import Connection, code_of, explained
from frazil.runtime.metadata import SAME, Metadata, put, read
from frazil_functions.errors import BackendError

type Ask = Callable[[], Mapping[str, str]]
"""Asks a function for its versions, by a call as a client makes it."""

_MADE_BY: Final = ("made-by", "frazil runtime deploy")
"""The tag of functions that are made here, and whose settings are therefore changed here."""

_ANSWERING: Final = 150.0
"""Seconds for the first answer of a function: an image that was just pushed starts slowly."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to become of a function.

    Attributes
    ----------
    runtime
        The function, with account and user.
    image
        The image's URI, by its digest.
    on_failure
        The ARN of the queue or topic that calls go to which failed; None to leave that as it is.
    """

    runtime: LambdaRuntime
    image: str
    on_failure: str | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """What is to be done for that.

    Attributes
    ----------
    create
        Whether there is no function yet.
    image
        Whether it has another image.
    settings
        What is to be changed of its settings, as Lambda names them.
    retries
        How asynchronous calls are to be configured; empty if they are.
    metadata
        Whether its metadata has to be made anew.
    timeout
        Of the function as it will be, in seconds.
    notes
        What is not as the configuration has it, and stays.
    """

    create: bool
    image: bool
    settings: Mapping[str, Any]
    retries: Mapping[str, Any]
    metadata: bool
    timeout: int
    notes: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[str, ...]:
        """What is done, in words."""
        said = {
            "make the function": self.create,
            "give it the image": self.image,
            f"set its {', '.join(self.settings)}": bool(self.settings),
            "turn off Lambda's own retries": bool(self.retries),
            "put its metadata": self.metadata,
        }
        return tuple(step for step, due in said.items() if due)


@dataclass(frozen=True, slots=True)
class Deployed:
    """What was done to a function, or would be.

    Attributes
    ----------
    function
        Its name.
    image
        The image that it has, by its digest.
    steps
        What was done, or would be; empty where everything is as it should be.
    notes
        What is to be known besides.
    versions
        What the function has answered to have; empty if it was not asked.
    """

    function: str
    image: str
    steps: tuple[str, ...]
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)


def image_of(runtime: LambdaRuntime, connection: Connection) -> str:
    """The URI of the image in ECR that Lithops would look for, by its digest.

    Raises
    ------
    BackendError
        If it is not there.
    """
    assert runtime.user_id is not None
    repository, tag = names.image_repository(runtime.runtime, user_id=runtime.user_id, namespace=runtime.namespace)
    try:
        with explained(f"the image {runtime.image} cannot be found"):
            answer = connection.client("ecr").describe_images(repositoryName=repository, imageIds=[{"imageTag": tag}])
    except BackendError as error:
        if code_of(error) != "ImageNotFoundException":
            raise
        raise BackendError(
            f"there is no image {runtime.image}: build and push it with `frazil runtime build --push`, or name another "
            "with --image"
        ) from error
    return f"{runtime.registry}/{repository}@{answer['imageDetails'][0]['imageDigest']}"


def changes(wanted: Wanted, connection: Connection) -> Changes:
    """What would have to be done; changes nothing.

    Raises
    ------
    BackendError
        If AWS refuses to say how things are, or the function is none that has an image.
    """
    runtime, client = wanted.runtime, connection.client("lambda")
    before = _metadata(runtime, connection)
    try:
        with explained(f"the function {runtime.function} cannot be looked at"):
            found = client.get_function(FunctionName=runtime.function)
    except BackendError as error:
        if code_of(error) != "ResourceNotFoundException":
            raise
        retries = _retries({}, wanted.on_failure)
        return Changes(create=True, image=False, settings={}, retries=retries, metadata=True, timeout=runtime.timeout)
    now, code = found["Configuration"], found.get("Code") or {}
    if now.get("PackageType", "Zip") != "Image":
        raise BackendError(
            f"the function {runtime.function} is made of an archive and not of an image: delete it, and deploy it again"
        )
    other = {name: value for name, value in _settings(runtime).items() if _comparable(now.get(name), value) != value}
    ours = (found.get("Tags") or {}).get(_MADE_BY[0]) == _MADE_BY[1]
    image = wanted.image not in {code.get("ResolvedImageUri"), code.get("ImageUri")}
    timeout = runtime.timeout if ours else int(now["Timeout"])
    known = before is not None and before.timeout == timeout and bool(before.versions)
    return Changes(
        create=False,
        image=image,
        settings=other if ours else {},
        retries=_retries(_asynchronous(client, runtime), wanted.on_failure),
        metadata=image or not known,
        timeout=timeout,
        notes=() if ours else tuple(_note(name, now.get(name), value) for name, value in other.items()),
    )


def deploy(wanted: Wanted, connection: Connection, ask: Ask, due: Changes | None = None) -> Deployed:
    """Make a function that Lithops calls, or bring it up to date, and put its metadata where Lithops reads it.

    Parameters
    ----------
    wanted
        What is to become of it.
    connection
        To AWS.
    ask
        Asks the function for its versions. Where that fails, the metadata goes without, and a client asks itself.
    due
        What `changes` has found.

    Raises
    ------
    BackendError
        If AWS refuses, or the function does not start.
    """
    runtime, client = wanted.runtime, connection.client("lambda", reading=_ANSWERING)
    due = changes(wanted, connection) if due is None else due
    function, versions, notes = {"FunctionName": runtime.function}, dict[str, str](), list(due.notes)
    with explained(f"the function {runtime.function} cannot be deployed"):
        if due.create:
            tags = {"runtime_name": runtime.runtime, "lithops_version": names.lithops_version()} | dict([_MADE_BY])
            client.create_function(
                **function,
                **_settings(runtime),
                Code={"ImageUri": wanted.image},
                PackageType="Image",
                Architectures=[runtime.architecture],
                Description=f"Lithops {names.lithops_version()} with {runtime.runtime}",
                Tags=tags,
            )
            client.get_waiter("function_active_v2").wait(**function)
        if due.settings:
            client.update_function_configuration(**function, **due.settings)
            client.get_waiter("function_updated_v2").wait(**function)
        if due.image:
            client.update_function_code(**function, ImageUri=wanted.image, Architectures=[runtime.architecture])
            client.get_waiter("function_updated_v2").wait(**function)
        if due.retries:
            client.put_function_event_invoke_config(**function, **due.retries)
    if due.metadata:
        described = _described(runtime, client, due.timeout)
        put(runtime, connection, described)  # without it the call below would not find the function
        try:
            answered = ask()
        except BackendError as error:
            notes.append(f"it could not be asked for its versions by a call, so its metadata goes without: {error}")
        else:
            versions = {name: answered[name] for name in SAME if name in answered}
            put(runtime, connection, replace(described, versions=versions))
    return Deployed(runtime.function, wanted.image, due.steps, tuple(notes), versions)


def _metadata(runtime: LambdaRuntime, connection: Connection) -> Metadata | None:
    try:
        return read(runtime, connection)
    except BackendError as error:
        if code_of(error) != "NoSuchKey" and not isinstance(error.__cause__, KeyError | TypeError | ValueError):
            raise
        return None


def _described(runtime: LambdaRuntime, client: Any, timeout: int) -> Metadata:  # noqa: ANN401 - boto3 has no types
    """What Lithops' entry point in the function says of itself."""
    with explained(f"the function {runtime.function} cannot be called"):
        answer = client.invoke(FunctionName=runtime.function, Payload=json.dumps({"get_metadata": {}}).encode())
        said = answer["Payload"].read()
    try:
        return Metadata.of(json.loads(said), timeout)
    except (KeyError, TypeError, ValueError) as error:
        raise BackendError(
            f"the function {runtime.function} was asked for its metadata, and said "
            f"{said[:500].decode(errors='replace')}: its image is none for Lithops; build it with `frazil runtime "
            "build`, and look at the function's log"
        ) from error


def _settings(runtime: LambdaRuntime) -> dict[str, Any]:
    network = {"SubnetIds": list(runtime.subnets), "SecurityGroupIds": list(runtime.security_groups)}
    return {
        "Role": runtime.role,
        "Timeout": runtime.timeout,
        "MemorySize": runtime.memory,
        "EphemeralStorage": {"Size": runtime.ephemeral_storage},
        "Environment": {"Variables": dict(runtime.variables)},
        "VpcConfig": network,
    }


def _comparable(value: Any, like: Any) -> Any:  # noqa: ANN401 - what Lambda answers
    """A setting as Lambda answers it, in the form that it is set in; Lambda leaves out what is empty, and adds more."""
    if isinstance(like, dict):
        return {name: (value or {}).get(name) or type(one)() for name, one in like.items()}
    return value


def _note(name: str, now: object, wanted: object) -> str:
    return f"its {name} is {now} and {wanted} in Lithops' configuration; who made the function has to change it"


def _asynchronous(client: Any, runtime: LambdaRuntime) -> Mapping[str, Any]:  # noqa: ANN401 - boto3 has no types
    try:
        with explained(f"the retries of {runtime.function} cannot be looked at"):
            found: Mapping[str, Any] = client.get_function_event_invoke_config(FunctionName=runtime.function)
            return found
    except BackendError as error:
        if code_of(error) != "ResourceNotFoundException":
            raise
        return {}


def _retries(now: Mapping[str, Any], on_failure: str | None) -> dict[str, Any]:
    """How asynchronous calls are to be configured; empty if they are.

    A call that failed is made again by the client, which knows what of it is done; Lambda's would be a third writer.
    """
    destinations = dict(now.get("DestinationConfig") or {})
    if on_failure is not None:
        destinations["OnFailure"] = {"Destination": on_failure}
    same = now.get("MaximumRetryAttempts") == 0 and destinations == dict(now.get("DestinationConfig") or {})
    if same:
        return {}
    kept = {name: now[name] for name in now.keys() & {"MaximumEventAgeInSeconds"}}
    return {"MaximumRetryAttempts": 0, **kept, **({"DestinationConfig": destinations} if destinations else {})}
