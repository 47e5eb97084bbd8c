"""Whether functions are there, answer, and are what this client takes them for."""

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from frazil.doctor.finding import Finding
from frazil.execution.asking import remote_versions
from frazil.execution.executor import Executor
from frazil.runtime import metadata
from frazil.runtime.configuration import LambdaRuntime
from frazil.runtime.connection import Connection
from frazil_functions.errors import BackendError


def described(runtime: LambdaRuntime, connection: Connection) -> Iterator[Finding]:
    """Whether the function's metadata is there, and says what this client and its configuration say."""
    found = metadata.read(runtime, connection)
    differs = metadata.difference(found.all_versions)
    if differs:
        raise metadata.differing(f"the metadata of {runtime.function}", differs)
    if found.timeout != runtime.timeout:
        yield Finding(
            "metadata",
            "wrong",
            f"the function may run for {found.timeout} s, and runtime_timeout in Lithops' configuration is "
            f"{runtime.timeout}: mend it, or set the function's timeout and run `frazil runtime deploy`",
        )
        return
    versions = "" if found.versions else "; it does not say which frazil, so each run asks first"
    yield Finding("metadata", "ok", f"{runtime.metadata_key}{versions}")


def callable_function(runtime: LambdaRuntime, connection: Connection) -> str:
    """Say whether the function exists and may be called, without calling it."""
    metadata.callable_function(runtime, connection)
    return f"{runtime.function} exists, and may be called"


def answering(executor: Executor, runtime: LambdaRuntime | None) -> Iterator[Finding]:
    """Whether a call comes back, and what it says of where it ran."""
    began = time.monotonic()
    answered = remote_versions(executor)
    took = time.monotonic() - began
    yield Finding("call", "ok", f"answered in {took:.1f} s")
    differs = metadata.difference(answered)
    if differs:
        yield Finding("versions", "wrong", str(metadata.differing("where calls run", differs)))
    else:
        said = ", ".join(f"{name} {answered[name]}" for name in metadata.SAME if name in answered)
        yield Finding("versions", "ok", f"{said}: the same here and there")
    if runtime is not None:
        yield _memory(answered, runtime)


def _memory(answered: Mapping[str, str], runtime: LambdaRuntime) -> Finding:
    memory = answered.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
    if memory is None:
        return Finding("memory", "skipped", "the function does not say what it has")
    if memory != str(runtime.memory):
        cure = "set the function's memory to it, for its name stands for that size"
        return Finding("memory", "wrong", f"it has {memory} MB, and runtime_memory is {runtime.memory}: {cure}")
    return Finding("memory", "ok", f"{memory} MB")


def temporary() -> str:
    """Say whether a process can keep files in the temporary directory, and start a program from there.

    Raises
    ------
    BackendError
        If not.
    """
    folder = Path(tempfile.gettempdir())
    try:
        with tempfile.TemporaryDirectory(prefix="frazil-") as made:
            file = Path(made, "probe")
            file.write_text("#!/bin/sh\n")
            file.chmod(0o700)
            startable = os.access(file, os.X_OK)
    except OSError as error:
        raise BackendError(
            f"{folder} cannot be written ({error.strerror or error}): set TMPDIR to another directory"
        ) from error
    if not startable:
        raise BackendError(f"no program can be started from {folder}: set TMPDIR to another directory")
    return f"{folder} can be written"
