"""Versions of the client, of the function's metadata, and of the function itself, side by side."""

from collections.abc import Mapping
from dataclasses import dataclass

from frazil.runtime.configuration import LambdaRuntime
from frazil.runtime.connection import Connection
from frazil.runtime.deploy import Ask
from frazil.runtime.metadata import SAME, callable_function, difference, own_versions, read
from frazil_functions.errors import BackendError


@dataclass(frozen=True, slots=True)
class Checked:
    """What client and function have.

    Attributes
    ----------
    function
        The function's name.
    client, metadata, answered
        Versions by name: those installed here, those that its metadata says, and those that the function itself
        answered; the last is empty if it did not.
    problems
        What differs or does not work, each with its cure; empty if all is well.
    """

    function: str
    client: Mapping[str, str]
    metadata: Mapping[str, str]
    answered: Mapping[str, str]
    problems: tuple[str, ...]


def check(runtime: LambdaRuntime, connection: Connection, ask: Ask) -> Checked:
    """Compare the versions of client, metadata and function; nothing is changed but by the call that asks.

    Raises
    ------
    BackendError
        If there is no metadata, or no function.
    """
    described = read(runtime, connection)
    callable_function(runtime, connection)
    said, answered, problems = described.all_versions, dict[str, str](), []
    differs = difference(said)
    if differs:
        problems.append(
            f"the metadata says other versions ({differs}): build and deploy the image of this checkout (frazil "
            "runtime build --push; frazil runtime deploy), or install the function's versions here"
        )
    try:
        answered = {name: version for name, version in ask().items() if name in SAME}
    except BackendError as error:
        problems.append(f"the function does not answer: {error}")
    else:
        differs = difference(answered)
        if differs:
            problems.append(f"the function answers with other versions ({differs}): deploy the image of this checkout")
        stale = [name for name in SAME if name in said and not answered[name].startswith(said[name])]
        if stale:
            problems.append(f"the metadata is not the function's ({', '.join(stale)}): run `frazil runtime deploy`")
    return Checked(runtime.function, own_versions(), said, answered, tuple(problems))
