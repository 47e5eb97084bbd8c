"""Images are built by whatever engine is there; here it writes down what it is called with."""

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from frazil.cli import main
from frazil.runtime import build
from frazil_functions.errors import BackendError, InvalidInputError

from .conftest import Account

type Calls = Callable[[], list[tuple[list[str], str, str]]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkout, as far as an engine would look."""
    file = tmp_path / "checkout" / build.DOCKERFILE
    file.parent.mkdir(parents=True)
    file.write_text("FROM scratch\n")
    return tmp_path / "checkout"


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Calls]:
    """An engine of that name, which fails at a command if one is named."""

    def engine(name: str, fails: str = "none") -> Calls:
        programs, written = tmp_path / "bin", tmp_path / "calls"
        programs.mkdir()
        program = programs / name
        program.write_text(
            '#!/bin/sh\ncase "$*" in *--password-stdin*) read -r given;; esac\n'
            f'printf "%s\\t%s\\t%s\\n" "$*" "$PWD" "$given" >> {written}\n'
            f'[ "$1" != {fails} ]\n'
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(programs))

        def calls() -> list[tuple[list[str], str, str]]:
            lines = [line.split("\t") for line in written.read_text().splitlines()]
            return [(arguments.split(), folder, given) for arguments, folder, given in lines]

        return calls

    return engine


def test_the_image_for_lambda_is_built_at_the_top_of_the_checkout(
    account: Account, engine: Callable[..., Calls], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = engine("docker")
    arguments = ["--lithops-config", str(account.config_file()), "--checkout", str(folder), "--json"]
    assert main(["runtime", "build", *arguments]) == 0
    ((made, where, _),) = calls()
    assert made[:3] == ["build", "-f", "infra/runtime/Dockerfile"]
    assert " ".join(made[3:]) == "--target lambda --platform linux/amd64 --provenance=false -t frazil:0.1.0 ."
    assert where == str(folder)
    assert json.loads(capsys.readouterr().out) == {"image": "frazil:0.1.0", "pushed": None}


def test_the_image_holds_the_extras_that_are_asked_for(
    tmp_path: Path, account: Account, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "new" / "podman"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nfor one in "$@"; do echo "$one" >> {tmp_path}/given; done\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    arguments = ["--lithops-config", str(account.config_file()), "--checkout", str(folder)]
    assert main(["runtime", "build", "--extra", "virtual", "--extra", "grib", *arguments]) == 0
    given = (tmp_path / "given").read_text().splitlines()
    assert given[:3] == ["build", "--build-arg", "EXTRAS=--extra virtual --extra grib"]
    assert main(["runtime", "build", "--extra", "virtaul", *arguments]) == 2
    assert "no extra 'virtaul'; did you mean 'virtual'" in capsys.readouterr().err


def test_an_image_is_pushed_where_lithops_looks_and_the_token_is_in_no_argument(
    account: Account, engine: Callable[..., Calls], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    account.push()
    calls = engine("podman")
    arguments = ["--lithops-config", str(account.config_file(architecture="arm64")), "--checkout", str(folder)]
    assert main(["runtime", "build", "--push", *arguments]) == 0
    token = account.client("ecr").get_authorization_token()["authorizationData"][0]["authorizationToken"]
    password = base64.b64decode(token).decode().partition(":")[2]
    registry = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
    image = f"{registry}/lithops_v380_mple/frazil:0.1.0"
    made = calls()
    assert "linux/arm64" in made[0][0]
    assert [one for one, _, _ in made[1:]] == [
        ["tag", "frazil:0.1.0", image],
        ["login", "--username", "AWS", "--password-stdin", registry],
        ["push", "--format", "docker", "--remove-signatures", image],
        ["logout", registry],
    ]
    assert [given for _, _, given in made] == ["", "", password, "", ""]
    assert f"lithops_v380_mple/frazil@sha256:{'1':0>64}" in capsys.readouterr().out


def test_an_engine_that_fails_is_logged_out_and_blamed(
    account: Account, engine: Callable[..., Calls], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = engine("docker", "push")
    arguments = ["--lithops-config", str(account.config_file()), "--checkout", str(folder)]
    assert main(["runtime", "build", "--push", *arguments]) == 1
    assert [one[0] for one, _, _ in calls()][-1] == "logout"
    assert "docker push` ended with 1" in capsys.readouterr().err


def test_docker_without_buildx_is_said_to_lack_it(
    tmp_path: Path, account: Account, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "old" / "docker"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 125\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    arguments = ["--lithops-config", str(account.config_file()), "--checkout", str(folder)]
    assert main(["runtime", "build", *arguments]) == 1
    assert "install Docker's plugin buildx, or podman without docker" in capsys.readouterr().err


def test_without_an_engine_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackendError, match=r"neither docker nor podman.*install"):
        build.engine()


def test_without_a_checkout_it_is_said_that_one_is_needed(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="--checkout"):
        build.checkout(tmp_path)


@pytest.mark.checkout
def test_this_checkout_is_found() -> None:
    assert (build.checkout() / "pyproject.toml").is_file()
