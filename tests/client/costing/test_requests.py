"""The requests that are estimated are those that a server gets."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import frazil
from frazil.costing.estimate import estimate_plan
from frazil.costing.limits import FunctionLimits
from frazil.costing.requests import Requests
from frazil.costing.spread import total
from frazil.planning.cut import cut, group

from .conftest import Counted, smooth, store


def uploaded(s3: Any, folder: Path, files: int, *, first: int = 0, compressed: bool = False) -> str:
    for number in range(first, first + files):
        path = store(smooth(8 * number, 8, 96, 128), folder / f"{number:03}.nc", compressed=compressed)
        s3.upload_file(str(path), f"in/{first}/{path.name}")
    return f"s3://{s3.name}/in/{first}/*.nc"


def shared(plan: frazil.Plan, tasks: int, region_bytes: int = 1 << 18) -> frazil.Plan:
    """The same plan in more regions and tasks than so few values are worth."""
    spans = [(source.start, source.stop) for source in plan.sources]
    return replace(plan, tasks=group(plan.template, cut(plan.template, region_bytes), spans, tasks, 1))


CALLS = """
import lithops
with lithops.FunctionExecutor(config={config!r}, log_level=None) as executor:
    futures = executor.map(lambda number: 2 * number, [1, 2, 3], include_modules=None)
    print([future.result() for future in futures])
"""


def check(counted: Counted, expected: tuple[Requests, ...]) -> None:
    """Every purpose has as many requests as it was said to have, and no purpose was forgotten."""
    found = counted.by_purpose()
    found["template, commit and publishing"] = found.pop("repository")
    # Reading back, and the snapshot that each function opens, are requests of the repository, too.
    for purpose in ("template, commit and publishing", "chunks"):
        found.setdefault(purpose, found[purpose])
    theirs = {one.purpose: one for one in expected}
    assert found["chunks"]["puts"] >= theirs["chunks"].puts.low
    repository = [theirs[name] for name in ("chunks", "template, commit and publishing", "reading back")]
    both = found.pop("chunks") + found.pop("template, commit and publishing")
    for price, wanted in (
        ("puts", total(one.puts for one in repository)),
        ("gets", total(one.gets for one in repository)),
    ):
        assert wanted.low <= both[price] <= wanted.high, (price, both, wanted)
        assert wanted.high <= 2.5 * both[price], (price, both, wanted)
    for purpose, counts in found.items():
        one = theirs[purpose]
        assert one.puts.low <= counts["puts"] <= one.puts.high, (purpose, counts, one)
        assert one.gets.low <= counts["gets"] <= one.gets.high, (purpose, counts, one)


@pytest.mark.parametrize("verify", ["none", "sample", "full"])
@pytest.mark.parametrize(("tasks", "compressed"), [(1, False), (4, True)])
def test_a_run_makes_the_requests_of_the_estimate(
    tasks: int, compressed: bool, verify: Any, s3: Any, counted: Counted, tmp_path: Path
) -> None:
    sources = uploaded(s3, tmp_path, 4, compressed=compressed)
    with frazil.SerialExecutor() as executor:
        plan = frazil.plan(sources, f"s3://{s3.name}/archive", chunks={"time": 4}, executor=executor)
        plan = shared(plan, tasks)
        expected = estimate_plan(plan, verify=verify)
        counted.seen.clear()
        result = frazil.run(plan, executor=executor, verify=verify)
    check(counted, expected.requests)
    compared = {one.what: one for one in result.compared}
    assert compared["chunk_puts"].low == compared["chunk_puts"].high == compared["chunk_puts"].actual == 8


def test_functions_in_processes_of_their_own_make_them_too(s3: Any, counted: Counted, tmp_path: Path) -> None:
    sources = uploaded(s3, tmp_path, 4, compressed=True)
    with frazil.LithopsExecutor(backend="localhost", workers=2) as executor:
        plan = frazil.plan(sources, f"s3://{s3.name}/archive", chunks={"time": 4}, executor=executor)
        plan = shared(plan, 3)
        expected = frazil.estimate(plan, executor=executor)
        counted.seen.clear()
        frazil.run(plan, executor=executor)
    check(counted, expected.requests)


def test_an_append_makes_the_requests_of_its_estimate(s3: Any, counted: Counted, tmp_path: Path) -> None:
    where = f"s3://{s3.name}/archive"
    with frazil.SerialExecutor() as executor:
        frazil.convert(uploaded(s3, tmp_path, 2), where, chunks={"time": 6}, executor=executor)
        sources = uploaded(s3, tmp_path, 3, first=2)
        plan = frazil.plan(sources, where, mode="append", executor=executor)
        expected = estimate_plan(plan)
        counted.seen.clear()
        frazil.run(plan, executor=executor)
    check(counted, expected.requests)


def test_shards_are_one_object_and_every_repository_gets_its_own(s3: Any, counted: Counted, tmp_path: Path) -> None:
    sources = uploaded(s3, tmp_path, 4)
    with frazil.SerialExecutor() as executor:
        plan = frazil.plan(
            sources,
            f"s3://{s3.name}/archive",
            chunks={"time": 2},
            shards={"time": 8},
            replicas=[f"s3://{s3.name}/copy"],
            executor=executor,
        )
        expected = estimate_plan(plan)
        counted.seen.clear()
        frazil.run(plan, executor=executor)
    check(counted, expected.requests)
    chunks = next(one for one in expected.requests if one.purpose == "chunks")
    assert chunks.puts.low == chunks.puts.high == 2 * 4


def test_what_is_not_in_s3_makes_no_requests(tmp_path: Path) -> None:
    store(smooth(0, 8, 16, 16), tmp_path / "a.nc", compressed=False)
    with frazil.SerialExecutor() as executor:
        plan = frazil.plan(tmp_path / "a.nc", tmp_path / "archive", executor=executor)
    assert estimate_plan(plan).requests == ()
    assert estimate_plan(plan).charges == ()


def test_lithops_carries_calls_with_the_requests_of_the_estimate(s3: Any, counted: Counted, tmp_path: Path) -> None:
    # Its backend on this machine has no S3 in Frazil; the worker and the client are those of every backend.
    store(smooth(0, 24, 16, 16), tmp_path / "a.nc", compressed=False)
    with frazil.SerialExecutor() as executor:
        plan = frazil.plan(tmp_path / "a.nc", tmp_path / "archive", chunks={"time": 4}, executor=executor)
    plan = shared(plan, 3, region_bytes=1)
    assert len(plan.tasks) == 3
    limits = FunctionLimits("aws_lambda", 2 << 30, 900)
    (staging,) = estimate_plan(plan, limits, workers=3).requests
    config = {
        "lithops": {"backend": "localhost", "storage": "aws_s3", "data_cleaner": False, "monitoring_interval": 1},
        "aws": {"region": "us-east-1", "access_key_id": "key", "secret_access_key": "secret"},
        "aws_s3": {"storage_bucket": s3.name, "endpoint": counted.url, "region": "us-east-1"},
    }
    counted.seen.clear()
    done = subprocess.run(
        [sys.executable, "-c", CALLS.format(config=config)], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "[2, 4, 6]", done.stderr
    kept = [
        (method, path) for method, path, query in counted.seen if "list-type" not in query and "lithops.jobs" in path
    ]
    puts = [path for method, path in kept if method == "PUT"]
    reads = [path for method, path in kept if method == "GET" and not path.endswith("status.json")]
    # How often is listed and looked for a status depends on the time, and Lithops' own client does it more often.
    assert len(puts) == 2 * 3 + 2
    assert len(reads) == 2 * 3
    assert staging.puts.low <= len(puts) < staging.puts.high
    assert staging.gets.low <= len(reads) + 3 <= staging.gets.high
