"""Steps out to functions, forks in, and all of them merged into the caller's session, or none."""

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

import icechunk

from frazil.costing.limits import FunctionLimits
from frazil.costing.memory import bound, check_need
from frazil.execution.executor import Executor
from frazil.execution.results import results
from frazil.lazy.slices import Prepared
from frazil.planning.cut import MEMORY_REGIONS, TASK_BYTES, TASK_MOST_BYTES
from frazil_functions import handler, versions
from frazil_functions.errors import FrazilError, InvalidInputError, ReceiptError
from frazil_functions.forks import ForkState, check_no_secret, dump_fork, load_fork, node_id, read_fork, require_layout
from frazil_functions.grids import WriteGrid
from frazil_functions.regions import Region
from frazil_functions.runs.admit import difference
from frazil_functions.text import size, words
from frazil_functions.writing.lazy import pack
from frazil_functions.writing.slices import SliceTask, load_slices_written

TASK_PAYLOAD: Final = 60_000
"""How many bytes a task takes at most, beside the data in memory that its slices are made of."""


def check_session(session: icechunk.Session) -> None:
    """Refuse a session that nothing can be written into.

    Raises
    ------
    InvalidInputError
        If it is read-only, was committed, or is none.
    """
    if isinstance(session, icechunk.ForkSession):
        raise InvalidInputError(
            "this is a fork of a session, which cannot be committed; pass the session, which is forked where functions "
            "write"
        )
    if not isinstance(session, icechunk.Session):
        raise InvalidInputError(
            f"a session of Icechunk is needed, and this is a {type(session).__name__}; "
            'use repo.writable_session("main") and pass the session rather than its store'
        )
    if session.mode != icechunk.SessionMode.writable:
        raise InvalidInputError(
            f"the session is {'read-only' if session.read_only else 'one that moves nodes'}: it was opened so, or has "
            'been committed. Nothing can be written into it; open another one with repo.writable_session("main")'
        )


def check_can_travel(fork: icechunk.ForkSession) -> None:
    """Refuse a fork that functions cannot open, or that would take secrets along.

    Raises
    ------
    InvalidInputError
        If the repository was opened with keys of its own, or lives in the memory of this process.
    """
    data = dump_fork(fork)
    check_no_secret(read_fork(data))
    try:
        load_fork(data).status()
        load_fork(data).get_node_id("/")
    except icechunk.IcechunkError as error:
        raise InvalidInputError(
            f"functions cannot open the repository ({words(error)}); if it lives in memory, create it on a disk or in "
            "object storage, or load lazy arrays before you write them"
        ) from error


@dataclass(frozen=True, slots=True)
class _Clean:
    """The fork that every function is given, and what a fork that comes back must agree with."""

    data: bytes
    state: ForkState
    nodes: dict[bytes, str]
    grids: dict[str, WriteGrid]


def fan_out(
    session: icechunk.Session, prepared: Sequence[Prepared], grids: Sequence[WriteGrid], executor: Executor
) -> None:
    """Compute every step and write it; merge what was written into the session when all is.

    Parameters
    ----------
    session
        Its metadata is written; changes that are not committed are kept.
    prepared
        What to compute.
    grids
        The write grids of the arrays that are written, by their paths.
    executor
        Where functions run.

    Raises
    ------
    InvalidInputError
        If functions have less memory than they may need.
    FrazilError
        If a function failed, or wrote anything but its slices. Then the session holds nothing of any of them.
    """
    if not prepared:
        return
    clean = _clean(session, grids)
    tasks = list(_tasks(prepared, clean.data, executor.workers))
    _check_memory(tasks, executor.limits())
    forks: dict[int, ForkState] = {}
    try:
        for number, value in results(executor, handler.write_slices, tasks):
            forks[number] = _admit(value, tasks[number], clean)
    except FrazilError as error:
        missing = [str(region) for task in tasks if task.number not in forks for region in _regions(task)]
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        error.add_note(f"{missing[0]}{more} had not been written; the session holds nothing of what functions wrote")
        raise
    # A merge that fails half-way leaves what it merged before; this one is nobody's.
    merged = load_fork(clean.data)
    for _, state in sorted(forks.items(), key=lambda item: item[0]):
        merged.merge(state.session_object())
    session.merge(merged)


def _check_memory(tasks: Sequence[SliceTask], limits: FunctionLimits | None) -> None:
    """Refuse functions that have less memory than a task may need; what slices are computed from may be remote."""
    for task in tasks:
        largest = max(task.steps, key=lambda step: step.nbytes)
        need = bound(largest.nbytes, sum(step.nbytes for step in task.steps), remote=True)
        what = f"{largest.regions[0]} ({size(largest.nbytes)} of values)"
        check_need(need, limits, what, "make the chunks of the dataset, or of the arrays, smaller")


def _clean(session: icechunk.Session, grids: Sequence[WriteGrid]) -> _Clean:
    data = dump_fork(session.fork())
    state = read_fork(data)
    require_layout(state)
    check_no_secret(state)
    nodes = {node_id(session.get_node_id(f"/{grid.array}")): grid.array for grid in grids}
    return _Clean(data, state, nodes, {grid.array: grid for grid in grids})


def _tasks(prepared: Sequence[Prepared], fork: bytes, workers: int) -> Iterator[SliceTask]:
    """Steps in tasks of about as many bytes each, one for each worker unless they would be too small or too large."""
    total = sum(one.step.nbytes for one in prepared)
    count = max(1, min(workers, len(prepared), -(-total // TASK_BYTES)), -(-total // TASK_MOST_BYTES))
    groups: list[list[Prepared]] = [[] for _ in range(count)]
    done = 0
    for one in prepared:
        groups[min(count - 1, int((done + one.step.nbytes / 2) * count / max(1, total)))].append(one)
        done += one.step.nbytes
    number = 0
    waiting = [group for group in reversed(groups) if group]
    while waiting:
        group = waiting.pop()
        task = _task(number, group, fork)
        if len(group) > 1 and _payload(task) > TASK_PAYLOAD:
            middle = len(group) // 2
            waiting += [group[middle:], group[:middle]]
            continue
        yield task
        number += 1


def _task(number: int, group: Sequence[Prepared], fork: bytes) -> SliceTask:
    return SliceTask(
        number=number,
        fork=fork,
        steps=tuple(one.step for one in group),
        slices=pack([one.pickled for one in group]),
        memory_bytes=MEMORY_REGIONS * max(one.step.nbytes for one in group),
        versions=versions.versions(),
    )


def _payload(task: SliceTask) -> int:
    carried = sum(len(buffer) for step in task.steps for buffer in step.buffers)
    return len(pickle.dumps(task)) - carried


def _regions(task: SliceTask) -> list[Region]:
    return list(chain.from_iterable(step.regions for step in task.steps))


def _admit(value: bytes, task: SliceTask, clean: _Clean) -> ForkState:
    """The fork that a function returned, if it holds the chunks of its task and nothing else.

    Raises
    ------
    ReceiptError
        Saying what does not agree.
    """
    written = load_slices_written(value)
    if written.number != task.number:
        raise ReceiptError(f"what task {task.number} returned is of task {written.number}")
    state = read_fork(written.fork)
    if state.frame != clean.state.frame:
        raise ReceiptError(
            f"the fork that task {task.number} returned is not one of this session's: its repository, credentials, "
            "base snapshot or metadata differ from the fork that it was given"
        )
    owned: dict[str, list[Region]] = {}
    for region in _regions(task):
        owned.setdefault(region.array, []).append(_widened(region, clean.grids[region.array]))
    found: dict[str, list[tuple[int, ...]]] = {}
    for node, indices in state.written().items():
        if node not in clean.nodes:
            raise ReceiptError(f"the fork that task {task.number} returned writes another array (node {node.hex()})")
        found[clean.nodes[node]] = indices
    for array in owned.keys() | found.keys():
        problem = difference(clean.grids[array], owned.get(array, []), found.get(array, []))
        if problem:
            raise ReceiptError(f"the fork that task {task.number} returned {problem}")
    return state


def _widened(region: Region, grid: WriteGrid) -> Region:
    """The region with all of the write units that it touches; it alone touches them."""
    parts = zip(region.ranges, grid.shape, grid.unit, strict=True)
    return Region(
        region.array,
        tuple(
            (dim, start - start % unit, min(length, -(-stop // unit) * unit))
            for (dim, start, stop), length, unit in parts
        ),
    )
