"""The function as a zip: built as documented, unpacked, and run with nothing else on Python's path."""

import json
import platform
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import xarray as xr

import frazil
from frazil_functions.versions import versions

pytestmark = [pytest.mark.checkout, pytest.mark.slow, pytest.mark.timeout(900)]

TOP = Path(__file__).parents[2]
if not (TOP / "client").is_dir():
    pytest.skip("an installed wheel has no package of a function", allow_module_level=True)
if (TOP / ".python-version").read_text().strip() != f"{sys.version_info[0]}.{sys.version_info[1]}":
    pytest.skip("the package is for the Python of .python-version", allow_module_level=True)
MACHINE = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())  # as Lambda names it
COMMAND = TOP / "infra" / "runtime" / "package"
LIMIT = 250e6  # bytes; https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
NORTH_AMERICA = TOP / "tests" / "data" / "north-america"

RUN = """
import json, sys
package, plan = sys.argv[1:]
sys.path.append(package)
from frazil_functions.handler import handle
started = handle({"action": "start", "plan": plan, "run_id": "zipped"}, None)
for task in started["missing"]:
    handle({"action": "write", "run": started["run"], "task": task}, None)
done = handle({"action": "finish", "run": started["run"]}, None)
from frazil_functions.versions import versions
files = [str(module.__file__) for module in list(sys.modules.values()) if getattr(module, "__file__", None)]
print(json.dumps({"done": done, "versions": versions(), "site": [one for one in files if "site-packages" in one]}))
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where Lambda would unpack it."""
    folder = tmp_path_factory.mktemp("package")
    subprocess.run([COMMAND, MACHINE, folder / "function.zip"], check=True, timeout=240)
    with zipfile.ZipFile(folder / "function.zip") as archive:
        archive.extractall(folder / "task")
    yield folder / "task"
    shutil.rmtree(folder)  # a quarter of a gigabyte


def test_it_is_as_small_unpacked_as_lambda_wants_it(package: Path) -> None:
    size = sum(path.stat().st_size for path in package.rglob("*") if path.is_file())
    assert LIMIT / 2 < size < LIMIT, f"{size / 1e6:.0f} MB"
    assert not [path for path in package.rglob("tests") if path.is_dir()]
    assert {path.read_bytes()[4:8] for path in (package / "frazil_functions").rglob("*.pyc")} == {
        b"\1\0\0\0"
    }  # PEP 552


def test_it_starts_writes_and_publishes_a_run_with_nothing_else_installed(package: Path, tmp_path: Path) -> None:
    with frazil.SerialExecutor() as executor:
        plan = frazil.plan(NORTH_AMERICA / "*.nc", tmp_path / "archive", executor=executor, workers=2)
    (tmp_path / "plan.json").write_bytes(plan.to_json())
    # Isolated: no environment, no site-packages, no current directory.
    command = [sys.executable, "-I", "-S", "-c", RUN, str(package), str(tmp_path / "plan.json")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 0, ran.stderr
    answer = json.loads(ran.stdout)
    assert answer["site"] == []
    assert answer["versions"] == versions()
    files = sorted(NORTH_AMERICA.glob("*.nc"))
    repository = frazil.open_repository(tmp_path / "archive")
    assert next(iter(repository.ancestry(branch="main"))).id == answer["done"]["snapshot_id"]
    session = repository.readonly_session("main")
    with (
        xr.open_zarr(session.store, consolidated=False) as stored,
        xr.open_mfdataset(files, data_vars="minimal", coords="minimal", compat="override", join="exact") as read,
    ):
        xr.testing.assert_equal(stored.compute(), read.compute())


def test_a_machine_that_lambda_does_not_have_is_refused() -> None:
    done = subprocess.run([COMMAND, "mips"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "x86_64 and arm64" in done.stderr
