"""What the front doors that fill groups have in common: how a run goes, and where functions run."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, TypedDict

from frazil.execute import Retry
from frazil.execution.executor import Executor
from frazil.execution.near import NearExecutor
from frazil.labels.compare import Accept
from frazil.packing.rounding import Overflow
from frazil.planning.options import Fallback, OnAttrs, OnOverlap
from frazil.planning.target import Target
from frazil_functions.authorising import Named
from frazil_functions.locations import Location
from frazil_functions.missing import CheckedVariables
from frazil_functions.records import Verify


class Publishing(TypedDict, total=False):
    """How a run goes; `frazil.run` says what these mean."""

    verify: Verify
    message: str | None
    retries_on_missing: int
    missing_check_vars: CheckedVariables
    retry: Retry | None
    function_logs: bool
    run_id: str | None
    run_directory: str | Path | Location | None


class RegionOptions(Publishing, total=False):
    """What else can be said of a region; `frazil.plan` says what these mean."""

    group: str
    branch: str
    append_dim: str | None
    variables: str | Sequence[str] | None
    engine: str | None
    accept: Accept | Iterable[Accept]
    reorder: bool
    on_attrs: OnAttrs | None
    pack_overflow: Overflow
    virtual: bool
    load: str | Sequence[str] | None
    fallback: Fallback
    containers: Named | Iterable[Named]
    replicas: Iterable[Target]
    workers: int | None


class AppendOptions(RegionOptions, total=False):
    """What else can be said of an append."""

    gaps: Literal["error", "fill", "keep"]
    on_overlap: OnOverlap
    resume: bool


@contextlib.contextmanager
def near(executor: Executor | None, *, workers: int | None = None) -> Iterator[Executor]:
    """The given executor, which its owner closes, or one of our own."""
    if executor is not None:
        yield executor
    else:
        with NearExecutor(workers) as own:
            yield own
