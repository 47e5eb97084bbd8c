"""A progress bar for a person: what is being done, how much of it, how fast, how long still."""

import contextlib
import time
from collections.abc import Iterator
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar

from frazil.report import Listener, Progress, Stage, silent
from frazil_functions.text import size

_WORDS: Final[dict[Stage, str]] = {
    "scan": "Scanning",
    "plan": "Planning",
    "template": "Initialising",
    "write": "Writing",
    "verify": "Reading back",
    "publish": "Publishing",
    "done": "Done",
}


@contextlib.contextmanager
def progress_bar(*, hidden: bool) -> Iterator[Listener]:
    """A listener that draws on standard error, or nothing at all."""
    if hidden:
        yield silent
        return
    bar = Bar(
        TextColumn("{task.description:<12}"),
        BarColumn(),
        TextColumn("{task.fields[count]}"),
        DownloadColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task("Starting", total=None, count="", rate="")
        began: dict[Stage, float] = {}

        def listen(progress: Progress) -> None:
            what = "files" if progress.stage == "scan" else "regions"
            count = f"{progress.done}/{progress.total} {what}" if progress.total else ""
            if progress.stage == "write":
                # Since the first region: functions end in bursts, which a sliding window shows as standstill.
                seconds = time.monotonic() - began.setdefault("write", time.monotonic())
                bar.update(task, rate=f"{size(progress.done_bytes / seconds)}/s" if seconds else "")
            bar.update(
                task,
                description=_WORDS[progress.stage],
                completed=progress.done_bytes,
                total=progress.total_bytes or None,
                count=count,
            )

        yield listen
