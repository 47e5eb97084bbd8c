"""Invocations that Lambda throttles, loses or refuses: nothing hangs, and nothing is lost."""

import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import xarray as xr

import frazil

from .local import Behaviour, LocalAws
from .plans import plan_of
from .test_run import MEMORY, executor, stored

type Months = Callable[..., tuple[list[str], xr.Dataset]]


def outcomes(aws: LocalAws) -> Counter[str]:
    return Counter(one.outcome for one in aws.settled().invocations())


@pytest.mark.slow
def test_thirty_tasks_are_written_although_many_invocations_are_throttled(
    as_client: LocalAws, repository: str, months: Months
) -> None:
    aws, (sources, whole) = as_client, months(1, hours=30)
    plan = plan_of(sources, repository, 30)
    aws.function(MEMORY, concurrency=2, behaviour=Behaviour(queue=4, throttle_every=3))
    began = time.monotonic()
    with executor(aws, workers=30) as lithops:  # more than there is room for
        frazil.run(plan, executor=lithops, verify="none", retry=frazil.Retry(backups=False))
    assert time.monotonic() - began < 250, "it waited for the deadline of calls that do not start"
    found = outcomes(aws)
    assert found["throttled"] >= 15
    assert found["succeeded"] == 30 + 1  # each task once, and what asks for the function's versions
    xr.testing.assert_identical(stored(aws), xr.decode_cf(whole).load())


def test_invocations_that_are_lost_are_made_again(
    as_client: LocalAws, repository: str, months: Months, caplog: pytest.LogCaptureFixture
) -> None:
    aws, (sources, whole) = as_client, months(1, hours=8)
    plan = plan_of(sources, repository, 8)
    aws.function(MEMORY, concurrency=2, behaviour=Behaviour(lose_every=3))
    with caplog.at_level(logging.WARNING), executor(aws, workers=8, start_deadline=6) as lithops:
        frazil.run(plan, executor=lithops, verify="none", retry=frazil.Retry(attempts=6, backoff=0.1))
    assert outcomes(aws)["lost"] >= 2
    assert "it had not started 6 s after the last call that started or ended" in caplog.text
    xr.testing.assert_identical(stored(aws), xr.decode_cf(whole).load())


def test_a_client_that_may_not_invoke_is_told_so_at_once(as_client: LocalAws, repository: str, months: Months) -> None:
    aws, (sources, _) = as_client, months(1, hours=2)
    # Of a size that Terraform does not know, so that the client's policy does not name it.
    unknown = 640
    aws.function(unknown)
    plan = plan_of(sources, repository, 2)
    config: dict[str, Any] = aws.lithops_config(unknown)
    with frazil.LithopsExecutor(backend="aws_lambda", config=config, workers=2) as lithops:
        began = time.monotonic()
        with pytest.raises(frazil.BackendError, match=r"cannot be called: .* lambda:InvokeFunction"):
            frazil.run(plan, executor=lithops)
    assert time.monotonic() - began < 200
    assert aws.invocations() == []
