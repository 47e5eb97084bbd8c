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


class Answering(frazil.SerialExecutor):
    """A real executor whose answers somebody changes on their way back.

    Parameters
    ----------
    name
        The function whose answers are changed.
    change
        What becomes of an answer, given the argument and the value.
    """

    def __init__(self, name: str, change: Callable[[Any, Any], Any]) -> None:
        self._name = name
        self._change = change

    def calls[T, R](self, function: Callable[[T], R]) -> "Any":
        found = super().calls(function)
        return _Changed(found, self._change) if function.__name__ == self._name else found


class Meddling(Answering):
    """A real executor, and somebody who can write where its receipts lie.

    Parameters
    ----------
    change
        What becomes of the receipts of one call.
    """

    def __init__(self, change: Change) -> None:
        def meddle(task: WriteTask, value: bytes) -> bytes:
            written = load_written(value)
            directory = RunDirectory(task.run_directory)
            found = dict(directory.read_receipts(written.receipts))
            for name in found:
                (Path(directory.location.url) / name).unlink()
            receipts = [receipt for receipt in found.values() if isinstance(receipt, Receipt)]
            names = [directory.put_receipt(receipt) for receipt in change(receipts)]
            return dump_written(replace(written, receipts=tuple(dict.fromkeys(names))))

        super().__init__("write", meddle)


class _Changed:
    def __init__(self, calls: Any, change: Callable[[Any, Any], Any]) -> None:
        self._calls = calls
        self._change = change
        self._arguments: list[Any] = []

    def submit(self, arguments: Sequence[Any]) -> None:
        self._arguments += arguments
        self._calls.submit(arguments)

    def next(self, timeout: float | None = None) -> Outcome[Any] | None:
        outcome: Outcome[Any] | None = self._calls.next(timeout)
        if outcome is None or outcome.value is None:
            return outcome
        return replace(outcome, value=self._change(self._arguments[outcome.index], outcome.value))

    @property
    def outstanding(self) -> int:
        return int(self._calls.outstanding)

    def running(self) -> Mapping[int, float]:
        return {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._calls.__exit__(*exc)
