"""Background tasks with an owner that notices when one fails, and cancels and awaits them all."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from ottla.client.errors import Closed


class Tasks:
    """The tasks of one object. `on_failure` is called with the exception of a task that ends with one; a task that is
    cancelled by anybody but its owner has failed, too, with Closed: nothing would go on, and nobody would know."""

    def __init__(self, on_failure: Callable[[BaseException], None]) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._cancelled: set[asyncio.Task[Any]] = set()
        self._on_failure = on_failure

    def start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Runs `work` until it ends or `stop` is called."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def cancel(self, task: asyncio.Task[Any]) -> None:
        """The owner ends one of them."""
        self._cancelled.add(task)
        task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task in self._cancelled:
            self._cancelled.discard(task)
        elif task.cancelled():
            self._on_failure(
                Closed(
                    f"somebody cancelled the background task {task.get_name()}, or its event loop has ended. Next: "
                    "close clients before their loop ends, and spare the tasks called ottla-*"
                )
            )
            return
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_failure(error)

    async def stop(self) -> None:
        """Cancels every task and waits until they have ended."""
        tasks = list(self._tasks)
        if tasks and tasks[0].get_loop() is not asyncio.get_running_loop():
            self._tasks.clear()  # their loop is over, and so are they
            return
        for task in tasks:
            self.cancel(task)
        await asyncio.gather(*tasks, return_exceptions=True)


async def to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Does all of `work`, which must be bounded, also when the caller is cancelled meanwhile: that comes afterwards."""
    task = asyncio.get_running_loop().create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        raise
