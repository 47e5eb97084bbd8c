"""The bound on a function's memory holds for real tasks; functions with less are refused before anything is written."""

from pathlib import Path
from typing import Any

import icechunk
import pytest
import xarray as xr

import frazil
from frazil.cli import main
from frazil.costing.memory import LITHOPS, check_memory, memory_need
from frazil_functions.locations import locate
from frazil_functions.runs.start import directory_of, start

from .conftest import smooth, store

LAMBDA = """
lithops: {{backend: {backend}, storage: aws_s3}}
aws: {{region: eu-west-1}}
{backend}: {{runtime_memory: {memory}, runtime_timeout: {timeout}, execution_role: "arn:aws:iam::123456789012:role/x"}}
aws_s3: {{storage_bucket: staging}}
"""


def configured(folder: Path, *, backend: str = "aws_lambda", memory: int = 2048, timeout: int = 900) -> Path:
    file = folder / "lithops.yaml"
    file.write_text(LAMBDA.format(backend=backend, memory=memory, timeout=timeout))
    return file


@pytest.mark.parametrize(
    ("hours", "size", "compressed", "options"),
    [
        (8, 64, False, {}),
        (64, 256, False, {"chunks": {"time": 16}}),
        (128, 256, True, {"chunks": {"time": 64, "lat": -1, "lon": -1}}),
        (256, 256, True, {"chunks": {"time": 1}, "shards": {"time": 256}}),
        (128, 256, True, {"chunks": {"time": 128}, "keepbits": {"tas": 7}}),
        (128, 256, True, {"chunks": {"time": 64}, "pack": True, "pack_range": {"tas": (-2000.0, 3000.0)}}),
    ],
    ids=["tiny", "plain", "compressed", "shards", "rounded", "packed"],
)
def test_the_bound_is_above_what_tasks_take_and_within_three_times_of_it(
    hours: int, size: int, compressed: bool, options: dict[str, Any], tmp_path: Path
) -> None:
    for number in range(2):
        store(smooth(hours * number, hours, size, size), tmp_path / f"{number}.nc", compressed=compressed)
    # A process of its own for each call, so that its peak is that of one task.
    with frazil.LithopsExecutor(backend="localhost", workers=1) as executor:
        plan = frazil.plan(str(tmp_path / "*.nc"), tmp_path / "archive", executor=executor, **options)
        result = frazil.run(plan, executor=executor, verify="none")
    assert result.peak_memory_bytes <= memory_need(plan) <= 3 * result.peak_memory_bytes


@pytest.mark.parametrize("backend", ["aws_lambda", "k8s", "gcp_cloudrun"])
def test_a_function_with_less_memory_than_a_region_needs_is_refused(backend: str, tmp_path: Path) -> None:
    source = store(smooth(0, 64, 128, 128), tmp_path / "a.nc", compressed=False)
    small = configured(tmp_path, backend=backend, memory=200)
    target = tmp_path / "archive"
    executor = frazil.LithopsExecutor(config_file=small)
    with pytest.raises(frazil.InvalidInputError, match=r"runtime_memory: 200.*runtime_memory: \d+.*--chunks") as caught:
        frazil.plan(source, target, executor=executor)
    assert f"section {backend}" in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nc", "lithops.yaml"]
    frazil.plan(source, target, executor=frazil.LithopsExecutor(config_file=configured(tmp_path, backend=backend)))


def test_neither_a_run_nor_a_probe_of_a_plan_calls_a_function_that_is_too_small(tmp_path: Path) -> None:
    source = store(smooth(0, 64, 128, 128), tmp_path / "a.nc", compressed=False)
    executor = frazil.LithopsExecutor(config_file=configured(tmp_path, memory=200))
    with frazil.SerialExecutor() as serial:
        plan = frazil.plan(source, tmp_path / "archive", executor=serial)
    with pytest.raises(frazil.InvalidInputError, match="runtime_memory"):
        frazil.run(plan, executor=executor)
    with pytest.raises(frazil.InvalidInputError, match="runtime_memory"):
        frazil.probe(plan, executor)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nc", "lithops.yaml"]


def test_the_command_exits_with_2_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = store(smooth(0, 64, 128, 128), tmp_path / "a.nc", compressed=False)
    small = configured(tmp_path, memory=200)
    for command in ("plan", "convert"):
        words = [command, str(source), str(tmp_path / "archive"), "--shards", "time=64", "--chunks", "time=8"]
        assert main([*words, "--lithops-config", str(small)]) == 2
        assert "--shards" in capsys.readouterr().err
    assert not list(tmp_path.glob("archive*"))


def test_a_run_is_not_resumed_by_functions_that_are_too_small(tmp_path: Path) -> None:
    source, target = store(smooth(0, 8, 64, 64), tmp_path / "a.nc", compressed=False), tmp_path / "archive"
    with frazil.SerialExecutor() as serial:
        plan = frazil.plan(source, target, executor=serial)
        start(plan, directory_of(locate(target), "stopped"))
        small = frazil.LithopsExecutor(config_file=configured(tmp_path, memory=200))
        with pytest.raises(frazil.InvalidInputError, match="runtime_memory"):
            frazil.resume(target, "stopped", executor=small)
        assert frazil.resume(target, "stopped", executor=serial).regions == 1


def test_remote_files_and_the_process_of_lithops_count(tmp_path: Path) -> None:
    source = store(smooth(0, 8, 64, 64), tmp_path / "a.nc", compressed=False)
    with frazil.SerialExecutor() as serial:
        plan = frazil.plan(source, tmp_path / "archive", executor=serial)
    need = memory_need(plan)
    check_memory(plan, frazil.FunctionLimits("k8s", need))
    check_memory(plan, frazil.FunctionLimits("aws_lambda", need + LITHOPS))
    for backend, short in (("k8s", need - 1), ("aws_lambda", need + LITHOPS - 1)):
        with pytest.raises(frazil.InvalidInputError, match="may need"):
            check_memory(plan, frazil.FunctionLimits(backend, short))


def test_limits_are_those_of_lithops_where_nothing_else_is_said(tmp_path: Path) -> None:
    config = {"lithops": {"backend": "aws_lambda"}, "aws": {"region": "eu-west-1"}, "aws_lambda": {}}
    assert frazil.LithopsExecutor(config=config).limits() == frazil.FunctionLimits(
        "aws_lambda", 256 << 20, 180, "eu-west-1", "x86_64"
    )
    found = frazil.LithopsExecutor(config={"lithops": {"backend": "k8s"}, "k8s": {"runtime_cpu": 2}}).limits()
    assert found == frazil.FunctionLimits("k8s", 512 << 20, 600, cpus=2)
    assert frazil.LithopsExecutor(backend="localhost").limits() is None
    assert frazil.LithopsExecutor(config={}).limits() is None
    assert frazil.SerialExecutor().limits() is None


@pytest.mark.parametrize("memory", ["lots", 0, -5, True, float("inf")])
def test_memory_that_cannot_be_meant_is_refused(memory: object) -> None:
    config = {"lithops": {"backend": "aws_lambda"}, "aws_lambda": {"runtime_memory": memory}}
    with pytest.raises(frazil.InvalidInputError, match="runtime_memory of aws_lambda"):
        frazil.LithopsExecutor(config=config).limits()


def test_a_function_of_lambda_has_processors_by_its_memory() -> None:
    assert frazil.FunctionLimits("aws_lambda", 1769 << 20).processors == 1
    assert frazil.FunctionLimits("aws_lambda", 10240 << 20).processors == pytest.approx(5.79, abs=0.01)
    assert frazil.FunctionLimits("k8s", 4 << 30, cpus=3).processors == 3


def test_of_a_backend_that_is_not_configured_nothing_is_known() -> None:
    assert frazil.LithopsExecutor(config={"lithops": {"backend": "aws_lambda"}}).limits() is None
    assert frazil.LithopsExecutor(config={"lithops": {"backend": "k8s"}}).limits() == frazil.FunctionLimits(
        "k8s", 512 << 20, 600, cpus=1
    )


def test_lazy_arrays_are_not_computed_by_functions_that_are_too_small(tmp_path: Path) -> None:
    class Small(frazil.SerialExecutor):
        def limits(self) -> frazil.FunctionLimits:
            return frazil.FunctionLimits("k8s", 128 << 20)

    store(smooth(0, 16, 32, 32), tmp_path / "a.nc", compressed=False)
    repo = icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path / "archive")))
    with xr.open_dataset(tmp_path / "a.nc", chunks={"time": 4}) as dataset:
        session = repo.writable_session("main")
        with pytest.raises(frazil.InvalidInputError, match=r"runtime_memory: \d+ .*or make the chunks"):
            frazil.to_icechunk(dataset, session, executor=Small())
        session = repo.writable_session("main")
        frazil.to_icechunk(dataset, session, executor=frazil.SerialExecutor())
        session.commit("written")
