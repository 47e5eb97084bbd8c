"""What overlapped work stands on: an event loop that an interrupt ends, and a bound on the bytes that are held."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Final

PATIENCE_SECONDS: Final = 2.0
"""How long an interrupted task goes on writing what it began, and then putting receipts of it."""

_LOOK_SECONDS: Final = 0.2
"""How often the caller's thread looks for signals while it waits."""


@dataclass(slots=True)
class Budget:
    """Bytes of values held at once; a region larger than all of it goes alone."""

    limit: int
    held: int = 0
    freed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def take(self, nbytes: int) -> None:
        """Wait until there is room for so many bytes, and hold them."""
        async with self.freed:
            await self.freed.wait_for(lambda: self.held == 0 or self.held + nbytes <= self.limit)
            self.held += nbytes

    async def give(self, nbytes: int) -> None:
        """Hold so many bytes less."""
        async with self.freed:
            self.held -= nbytes
            self.freed.notify_all()


def run_loop[R](work: Coroutine[Any, Any, R], stopping: threading.Event) -> R:
    """Run in an event loop of its own; the caller's thread may have one already, as notebooks do.

    An interrupt sets `stopping`, which the work looks at before every region, and cancels what it waits for.
    """
    running: SimpleQueue[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = SimpleQueue()

    async def main() -> R:
        task = asyncio.current_task()
        assert task is not None
        running.put((asyncio.get_running_loop(), task))
        return await work

    with ThreadPoolExecutor(1, "frazil-loop") as thread:
        done = thread.submit(lambda: asyncio.run(main()))
        try:
            # A signal may have met another thread, and this one, which is to handle it, sleeps until it is woken.
            while not wait([done], timeout=_LOOK_SECONDS).done:
                pass
            return done.result()
        except BaseException:
            # An interrupt ends this wait and not the loop, and leaving the pool waits for the loop.
            stopping.set()
            if done.cancel():
                work.close()
            elif not done.done():
                loop, task = running.get()
                with suppress(RuntimeError):  # the loop has ended meanwhile
                    loop.call_soon_threadsafe(task.cancel)
            raise
