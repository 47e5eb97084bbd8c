"""The image: built from a checkout by whatever engine is there, and pushed to ECR.

What is in it, the Dockerfile of `infra/runtime` says.
"""

import base64
import logging
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from frazil.runtime import names
from frazil.runtime.configuration import LambdaRuntime
from frazil.runtime.connection import Connection, explained
from frazil_functions.errors import BackendError, InvalidInputError, nearest

logger = logging.getLogger(__name__)

DOCKERFILE: Final = Path("infra", "runtime", "Dockerfile")
TARGET: Final = "lambda"
_ENGINES: Final = ("docker", "podman")
EXTRAS: Final = ("virtual", "grib")
"""Extras of Frazil that an image can hold for functions."""
_PLATFORMS: Final = {"x86_64": "linux/amd64", "arm64": "linux/arm64"}


def engine() -> Path:
    """The program that builds images.

    Raises
    ------
    BackendError
        If there is none.
    """
    for name in _ENGINES:
        found = shutil.which(name)
        if found:
            return Path(found)
    raise BackendError(
        f"there is neither {' nor '.join(_ENGINES)} to build an image with: install one of them, or "
        "build it where there is one, as in a CI"
    )


def checkout(start: Path | None = None) -> Path:
    """The checkout that an image is built from: the given folder, or the one that this package runs from.

    Raises
    ------
    InvalidInputError
        If it is none.
    """
    found = start.resolve() if start is not None else Path(__file__).resolve().parents[3]
    if not (found / DOCKERFILE).is_file():
        raise InvalidInputError(
            f"an image is built from a checkout of Frazil, and {found} is none (it has no {DOCKERFILE}): name one with "
            "--checkout"
        )
    return found


def build_command(engine: Path, runtime: LambdaRuntime, extras: Sequence[str] = ()) -> list[str]:
    """What the engine is called with, at the top of a checkout.

    Raises
    ------
    InvalidInputError
        If there is no such architecture or extra.
    """
    for extra in extras:
        if extra not in EXTRAS:
            raise InvalidInputError(f"an image has no extra {extra!r}; {nearest(extra, EXTRAS)}")
    platform = _PLATFORMS.get(runtime.architecture)
    if platform is None:
        raise InvalidInputError(
            f"Lithops' configuration has the architecture {runtime.architecture!r}; there are {', '.join(_PLATFORMS)}"
        )
    # Lambda takes an image, and not the index that Docker makes to add where an image comes from.
    single = ["--provenance=false"] if engine.name == "docker" else ["--format", "docker"]
    what = ["-f", str(DOCKERFILE), "--target", TARGET, "--platform", platform, *single, "-t", runtime.runtime, "."]
    wanted = " ".join(f"--extra {extra}" for extra in dict.fromkeys(extras))
    return [str(engine), "build", *(["--build-arg", f"EXTRAS={wanted}"] if wanted else []), *what]


def build(runtime: LambdaRuntime, folder: Path, extras: Sequence[str] = ()) -> None:
    """Build the image with some extras, under the name that Lithops' configuration has for it.

    Raises
    ------
    InvalidInputError, BackendError
        If there is no such extra or no engine, or it fails.
    """
    program = engine()
    command = build_command(program, runtime, extras)
    try:
        _run(command, folder)
    except BackendError as error:
        if program.name == "docker" and not _has_buildx(program):
            raise BackendError(
                f"{program} has no buildx, and its old builder cannot build the image: install Docker's plugin buildx, "
                "or podman without docker"
            ) from error
        raise


def _has_buildx(program: Path) -> bool:
    return subprocess.run([str(program), "buildx", "version"], check=False, capture_output=True).returncode == 0  # noqa: S603 - found by `engine`


def push(runtime: LambdaRuntime, connection: Connection) -> None:
    """Push an image that was built to ECR, where Lithops looks for it.

    The engine is logged in for as long as it takes, with a token that goes to it through a pipe.

    Raises
    ------
    BackendError
        If ECR has no such repository, gives no token, or the engine fails.
    """
    assert runtime.user_id is not None
    repository, _ = names.image_repository(runtime.runtime, user_id=runtime.user_id, namespace=runtime.namespace)
    program, ecr = engine(), connection.client("ecr")
    with explained(f"images cannot be pushed to {runtime.registry}/{repository}"):
        ecr.describe_repositories(repositoryNames=[repository])
        token = ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    user, _, password = base64.b64decode(token).decode().partition(":")
    _run([str(program), "tag", runtime.runtime, runtime.image])
    _run([str(program), "login", "--username", user, "--password-stdin", runtime.registry], given=password)
    try:
        extra = ["--format", "docker", "--remove-signatures"] if program.name == "podman" else []
        _run([str(program), "push", *extra, runtime.image])
    finally:
        _run([str(program), "logout", runtime.registry])


def _run(command: Sequence[str], folder: Path | None = None, given: str | None = None) -> None:
    logger.info("runs %s", " ".join(command))
    try:
        # What it says is for people, so it goes where progress goes.
        subprocess.run(command, cwd=folder, check=True, stdout=2, input=given, text=True)  # noqa: S603 - made here
    except OSError as error:
        raise BackendError(f"{command[0]} cannot be started: {error.strerror or error}") from error
    except subprocess.CalledProcessError as error:
        raise BackendError(
            f"`{' '.join(command[:2])}` ended with {error.returncode}; what it wrote above says why"
        ) from error
