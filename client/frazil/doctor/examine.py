"""The whole examination: what is looked at for a backend and a repository, and in which order."""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from frazil.doctor import account, buckets, functions
from frazil.doctor.finding import Finding, skipped, tried
from frazil.execution.configuration import secret_keys
from frazil.execution.executor import Executor
from frazil.execution.lithops import LithopsExecutor
from frazil.runtime.configuration import BACKEND, LambdaRuntime
from frazil.runtime.connection import Connection, identified
from frazil.runtime.names import JOBS
from frazil_functions.errors import BackendError, FrazilError, InvalidInputError
from frazil_functions.locations import Location
from frazil_functions.repositories import check_target, open_repository
from frazil_functions.settings import environment


def examine(executor: Executor, repository: Location | None = None) -> Iterator[Finding]:
    """Look at everything that a run needs, one after the other.

    Parameters
    ----------
    executor
        Where functions would run.
    repository
        Where a run would write; None to look at the backend alone.

    Yields
    ------
    Finding
        As soon as it is known. What is wrong raises nothing.
    """
    backend, runtime, usable = "serial", None, True
    if isinstance(executor, LithopsExecutor):
        try:
            config = executor.configuration()
            backend = str(config["lithops"]["backend"])
            runtime = LambdaRuntime.of(config) if backend == BACKEND else None
            yield from _configured(config)
        except FrazilError as error:
            usable = False
            yield Finding("configuration", "wrong", str(error), refused=isinstance(error, InvalidInputError))
            yield from skipped(("call",), "without a configuration nothing can be called")
    allowed = True
    connection, bucket = _connection(runtime, repository)
    if connection is not None:
        yield from tried("endpoint", partial(account.answers, connection, bucket))
        expected = runtime.account_id if runtime is not None else None
        findings = list(tried("credentials", partial(account.credentials, connection, expected)))
        yield from findings
        allowed = _well(findings)
    if repository is not None:
        yield from _repository(repository, allowed=allowed)
    if runtime is not None:
        yield from _lambda(runtime, executor, allowed=allowed)
    elif usable and isinstance(executor, LithopsExecutor):
        if backend == "localhost":
            yield from tried("temporary directory", functions.temporary)
        yield from tried("call", partial(functions.answering, executor, None))


def _connection(runtime: LambdaRuntime | None, repository: Location | None) -> tuple[Connection | None, str]:
    """The connection to AWS, if there is to be one, and a bucket to ask about."""
    if runtime is not None:
        return Connection.of(runtime), runtime.staging_bucket
    if repository is not None and urlsplit(repository.url).scheme == "s3":
        return Connection(repository.region), urlsplit(repository.url).netloc
    return None, ""


def _well(findings: Iterable[Finding]) -> bool:
    return all(finding.state in {"ok", "warning"} for finding in findings)


def _configured(config: Mapping[str, Any]) -> Iterator[Finding]:
    lithops = config["lithops"]
    local = lithops["backend"] == "localhost"
    names = [] if local else sorted(name for name in secret_keys(config) if not _copied(config, name))
    if names:
        yield Finding(
            "configuration",
            "warning",
            f"Lithops' configuration holds {', '.join(names)}, and travels in every call: remove them, and use a role, "
            "a profile or the environment",
        )
    else:
        yield Finding("configuration", "ok", f"backend {lithops['backend']}, storage {lithops.get('storage')}")
    section = config.get(BACKEND) or {}
    missing = [name for name in ("account_id", "user_id") if not section.get(name)]
    if lithops["backend"] == BACKEND and missing:
        yield Finding(
            "names",
            "warning",
            f"Lithops' configuration has no {' and no '.join(missing)}, so whoever calls looks for a function of their "
            "own: set them to those that the function was deployed with",
        )


def _copied(config: Mapping[str, Any], name: str) -> bool:
    """Whether a setting stands there because Lithops gives backends and storage what their provider's section says."""
    section, _, key = name.partition(".")
    provider, _, kind = section.partition("_")
    given = config.get(provider)
    return bool(kind) and isinstance(given, Mapping) and key in given and given[key] == config[section].get(key)


def _repository(repository: Location, *, allowed: bool) -> Iterator[Finding]:
    parts = urlsplit(repository.url)
    if parts.scheme == "s3":
        bucket, prefix = parts.netloc, parts.path.strip("/")
        runs, inside = f"permissions in s3://{bucket}/{prefix}.frazil/", f"permissions in s3://{bucket}/{prefix}/"
        if not allowed:
            yield from skipped((f"bucket {bucket}", runs, inside, "repository"), "it needs credentials")
            return
        connection = Connection(repository.region)
        findings = list(tried(f"bucket {bucket}", partial(_placed, connection, bucket)))
        yield from findings
        if not _well(findings):
            yield from skipped((runs, inside, "repository"), f"it needs the bucket {bucket}")
            return
        yield from tried(runs, partial(buckets.permissions, connection, bucket, f"{prefix}.frazil/"))
        yield from tried(inside, partial(buckets.growing, connection, bucket, f"{prefix}/"))
    yield from tried("repository", partial(_opened, repository))


def _placed(connection: Connection, bucket: str) -> Iterator[Finding]:
    """Where a repository's bucket lies; a profile that gives the credentials gives the region, too."""
    region, setting = connection.region, "AWS_REGION"
    if region is None and environment().aws_profile and (region := connection.session().region_name) is not None:
        setting = "the region of the AWS profile"
    yield from buckets.place(connection, bucket, region, setting)


def _opened(repository: Location) -> str:
    if not check_target(repository):
        return f"there is none at {repository} yet; the first run makes it"
    found = open_repository(repository, create=False)
    branches = sorted(found.list_branches())
    if "main" not in branches:
        raise BackendError(f"{repository} has no branch main, but {', '.join(branches)}")
    return f"{repository} opens; main is at {found.lookup_branch('main')}"


def _lambda(runtime: LambdaRuntime, executor: Executor, *, allowed: bool) -> Iterator[Finding]:
    bucket, jobs = runtime.staging_bucket, f"{JOBS}/"
    needing = (f"permissions in s3://{bucket}/{jobs}", "metadata", "function", "call")
    if not allowed:
        yield from skipped((f"bucket {bucket}", *needing), "it needs credentials")
        return
    connection = Connection.of(runtime)
    setting = "the region in Lithops' configuration"
    findings = list(tried(f"bucket {bucket}", partial(buckets.place, connection, bucket, runtime.region, setting)))
    yield from findings
    if not _well(findings):
        yield from skipped(needing, f"it needs the bucket {bucket}")
        return
    runtime = identified(runtime, connection)
    yield from (before := list(tried(needing[0], partial(buckets.permissions, connection, bucket, jobs))))
    yield from (known := list(tried("metadata", partial(functions.described, runtime, connection))))
    yield from (there := list(tried("function", partial(functions.callable_function, runtime, connection))))
    if _well([*before, *known, *there]):
        yield from tried("call", partial(functions.answering, executor, runtime))
    else:
        yield from skipped(("call",), "what it needs is not as it should be")
