"""A function that is killed at its memory limit: the run says so, and what it takes."""

import re
from pathlib import Path

import netCDF4
import numpy as np
import pytest

import frazil

from .local import LocalAws
from .plans import plan_of

MEMORY = 512


def a_file_of_one_large_chunk(aws: LocalAws, folder: Path) -> str:
    """60 fields of 10 MB in a single compressed chunk of 600 MB, all of which is unpacked to read any of it."""
    path = folder / "large.nc"
    with netCDF4.Dataset(path, "w") as file:
        for name, size in {"time": 60, "lat": 1250, "lon": 2000}.items():
            file.createDimension(name, size)
            labels = file.createVariable(name, "f8", (name,))
            labels[:] = np.arange(size)
        file["time"].units = "hours since 2000-01-01"
        values = file.createVariable(
            "tas", "f4", ("time", "lat", "lon"), zlib=True, complevel=1, chunksizes=(60, 1250, 2000)
        )
        values[:] = np.zeros((60, 1250, 2000), "f4")
    aws.client("s3").upload_file(str(path), aws.raw_bucket, path.name)
    return f"s3://{aws.raw_bucket}/{path.name}"


@pytest.mark.slow
def test_a_function_that_was_killed_is_reported_with_its_limit_and_what_it_needs(
    as_client: LocalAws, repository: str, tmp_path: Path
) -> None:
    aws, source = as_client, a_file_of_one_large_chunk(as_client, tmp_path)
    function = aws.function(MEMORY, concurrency=1)
    plan = plan_of([source], repository, 60)
    with (
        frazil.LithopsExecutor(
            backend="aws_lambda", config=aws.lithops_config(MEMORY), workers=2, call_timeout=20
        ) as executor,
        pytest.raises(frazil.IncompleteRunError) as error,
    ):
        frazil.run(plan, executor=executor, retry=frazil.Retry(attempts=1))
    said = str(error.value)
    assert re.match(r"task \d+ failed 1 times", said)
    assert "killed at its memory limit of 536.9 MB (runtime_memory: 512)" in said
    assert "by the plan 439.1 MB (its largest region, tas[time " in said
    assert "Give functions more (runtime_memory: 1024 in Lithops' configuration, section aws_lambda)" in said
    assert "0 of 60 regions are written and kept" in said
    assert "out of memory" in {one.outcome for one in aws.invocations(function)}
