"""An executor whose receipts somebody changes in the run directory, before the client looks at them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import frazil
from frazil.execution.executor import Outcome
from frazil_functions.rundir import RunDirectory
from frazil_functions.tasks import Receipt, WriteTask, dump_written, load_written

type Change = Callable[[list[Receipt]], Sequence[Receipt]]


class Meddling(frazil.SerialExecutor):
    """A real executor, and somebody who can write where its receipts lie.

    Parameters
    ----------
    change
        What becomes of the receipts of one call.
    """

    def __init__(self, change: Change) -> None:
        self._change = change

    def calls[T, R](self, function: Callable[[T], R]) -> "Any":
        found = super().calls(function)
        return _Meddled(found, self._change) if function.__name__ == "write" else found


class _Meddled:
    def __init__(self, calls: Any, change: Change) -> None:
        self._calls = calls
        self._change = change
        self._tasks: list[WriteTask] = []

    def submit(self, tasks: Sequence[WriteTask]) -> None:
        self._tasks += tasks
        self._calls.submit(tasks)

    def next(self, timeout: float | None = None) -> Outcome[bytes] | None:
        outcome: Outcome[bytes] | None = self._calls.next(timeout)
        if outcome is None or outcome.value is None:
            return outcome
        written = load_written(outcome.value)
        directory = RunDirectory(self._tasks[outcome.index].run_directory)
        found = dict(directory.read_receipts(written.receipts))
        for name in found:
            (Path(directory.location.url) / name).unlink()
        receipts = [receipt for receipt in found.values() if isinstance(receipt, Receipt)]
        names = [directory.put_receipt(receipt) for receipt in self._change(receipts)]
        return replace(outcome, value=dump_written(replace(written, receipts=tuple(dict.fromkeys(names)))))

    @property
    def outstanding(self) -> int:
        return int(self._calls.outstanding)

    def running(self) -> Mapping[int, float]:
        return {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._calls.__exit__(*exc)
