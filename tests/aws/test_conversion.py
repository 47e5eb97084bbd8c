"""A conversion as a user runs it on AWS: the client in its role, Lithops as it is, functions in the worker's role."""

from collections import Counter
from collections.abc import Callable

import icechunk
import xarray as xr

import frazil

from .local import LocalAws


def opened(aws: LocalAws, repository: str) -> xr.Dataset:
    """What plain Icechunk and Xarray read."""
    bucket, _, prefix = repository.removeprefix("s3://").partition("/")
    keys = aws.credentials["admin"]
    storage = icechunk.s3_storage(
        bucket=bucket,
        prefix=prefix,
        region=aws.region,
        endpoint_url=aws.endpoint_url,
        allow_http=True,
        force_path_style=True,
        access_key_id=keys.access_key_id,
        secret_access_key=keys.secret_access_key,
    )
    store = icechunk.Repository.open(storage).readonly_session("main").store
    return xr.open_zarr(store, consolidated=False, chunks=None)


def test_a_dozen_files_become_one_commit_through_lithops_own_backend(
    as_client: LocalAws, repository: str, months: Callable[..., tuple[list[str], xr.Dataset]]
) -> None:
    aws = as_client
    sources, whole = months(hours=96)
    function = aws.function(1769, concurrency=3)
    with frazil.LithopsExecutor(backend="aws_lambda", config=aws.lithops_config(1769), workers=6) as executor:
        plan = frazil.plan(sources, repository, chunks={"time": 24}, executor=executor)
        result = frazil.run(plan, executor=executor)
    assert result.snapshot_id
    xr.testing.assert_identical(opened(aws, repository).load(), xr.decode_cf(whole).load())
    done = aws.settled().invocations(function)
    assert {one.outcome for one in done} == {"succeeded"}
    written = Counter(one.role for one in aws.log() if "/chunks/" in one.path and one.operation == "PutObject")
    assert written["worker"] == 48
    assert {name for name in aws.requests("client") if name.startswith("lambda:")} == {"lambda:Invoke"}
