"""What a run asks of AWS, counted by the server."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import xarray as xr

import frazil

from .local import LocalAws
from .plans import plan_of
from .test_run import MEMORY, executor

type Months = Callable[..., tuple[list[str], xr.Dataset]]

FOR_A_TASK = 12
"""Requests of S3 that a task makes at most besides chunks and sources, if it takes no more than a minute: 2 for what
it is to do and 2 for what came of it, 2 of Lithops for its bucket, 1 for the fork's snapshot, and a receipt at
the end and after 2, 6, 14 and 30 seconds."""

FOR_A_SOURCE = 4
"""And for each task and source, besides what its values take: to open it."""


@dataclass(frozen=True, slots=True)
class Counted:
    """Requests of one run."""

    client: Counter[str]
    chunks: int
    others: int
    sources: int


def counted(aws: LocalAws, sources: list[str], tasks: int, hours: int) -> Counted:
    """Write the sources with chunks of so many hours, anew."""
    aws.empty()
    aws.function(MEMORY, concurrency=2)
    with executor(aws) as lithops:
        plan = plan_of(sources, aws.repository, tasks, hours=hours)
        aws.reset()
        frazil.run(plan, executor=lithops, verify="none")
    aws.settled()
    asked = [one for one in aws.log() if one.role == "worker"]
    assert {one.service for one in asked} == {"s3"}
    chunks = sum(one.operation == "PutObject" and "/chunks/" in one.path for one in asked)
    sourced = sum(one.path.startswith(f"/{aws.raw_bucket}/") for one in asked)
    return Counted(aws.requests("client"), chunks, len(asked) - chunks - sourced, sourced)


def test_requests_grow_by_one_with_each_chunk_and_the_control_plane_is_not_asked(
    as_client: LocalAws, repository: str, months: Months
) -> None:
    aws, (sources, _) = as_client, months(1, hours=48)
    few, many = (counted(aws, sources, tasks=2, hours=hours) for hours in (6, 1))
    assert (few.chunks, many.chunks) == (8, 48)  # each chunk is put once
    for one in (few, many):
        assert one.others <= (2 + 1) * FOR_A_TASK
    assert many.others + many.chunks - few.others - few.chunks <= 1.2 * (48 - 8)
    assert few.sources == many.sources <= 2 * FOR_A_SOURCE + 48 * 128 * 256 * 4 // 2**20 + 1  # in pages of 1 MiB
    for one in (few, many):
        assert {name for name in one.client if not name.startswith("s3:")} == {"lambda:Invoke"}
        assert one.client["lambda:Invoke"] == 2 + 2  # a dry run before, and what asks for the function's versions
    # What the client asks for depends on how long the run takes, and not on how many chunks there are.
    puts = ("s3:PutObject", "s3:CopyObject", "s3:DeleteObjects")
    assert {name: few.client[name] for name in puts} == {name: many.client[name] for name in puts}
