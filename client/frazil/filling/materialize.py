"""What references of a group lead to, made the repository's own."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, Unpack

import icechunk

from frazil.costing.estimate import estimate_plan
from frazil.costing.memory import check_memory
from frazil.costing.telling import brief
from frazil.execution.executor import Executor
from frazil.filling.options import Publishing, near
from frazil.job import containers_of, several, spans
from frazil.planning.materialize import materialize_plan
from frazil.planning.options import Span
from frazil.planning.target import Target, plan_target
from frazil.report import Listener, Progress, Result, silent, tell_plan
from frazil.running import run
from frazil_functions.authorising import Named
from frazil_functions.plan import PlanTarget


def materialize(  # noqa: PLR0913 - as of a plan
    repo: Target,
    *,
    variables: str | Sequence[str] | None = None,
    region: Mapping[str, slice | Span] | Literal["auto"] = "auto",
    group: str = "",
    branch: str = "main",
    containers: Named | Iterable[Named] = (),
    executor: Executor | None = None,
    listener: Listener = silent,
    **options: Unpack[Publishing],
) -> Result:
    """Copy what references of a group lead to into the repository, as one commit; readers notice nothing.

    Chunks are copied byte for byte as the files store them. Whatever else is in the group stays as it is, and so do the
    files. If nothing refers to files where it was asked for, nothing is done.

    Parameters
    ----------
    repo
        The repository, open, or where it is. One that is open must be authorised to read its files.
    variables
        Which of the group's variables; by default all that refer to files.
    region
        The part of each dimension: a slice or (start, stop), in elements. Chunks that lie in it in part are copied
        whole.
    group, branch
        The group, and the branch that it is on and that is published on.
    containers
        The places that references may be followed to, as for `frazil.plan`.
    executor
        Where functions run. By default what Lithops is configured for; where that is this machine and there is one
        task, in this process.
    listener
        Told how far the work is.
    **options
        `verify`, `message`, `retry`, `run_id` and `run_directory` as for `frazil.run`. What is read back are chunks as
        they are stored.

    Raises
    ------
    InvalidInputError
        If there is no such group or variable, or the region does not lie in it.
    IncompleteRunError
        If a file has changed since it was referred to, is gone, or cannot be read; nothing was published.
    ConflictError, BackendError
        As `frazil.run` does.
    """
    with near(executor) as calls:
        listener(Progress("plan"))
        asked = PlanTarget(None, group.strip("/"), branch, None, "region", containers=containers_of(containers))
        target, existing = plan_target(repo, asked)
        assert existing is not None  # a region lies in one
        names = None if variables is None else several(variables)
        made = materialize_plan(existing, target, names, spans(region), workers=calls.workers)
        check_memory(made, calls.limits())
        expected = estimate_plan(made, calls.limits(), workers=calls.workers)
        made = tell_plan(replace(made, expected=brief(expected)))
        opened = repo if isinstance(repo, icechunk.Repository) else None
        return run(made, opened, executor=calls, listener=listener, **options)
