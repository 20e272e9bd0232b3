"""Background tasks with an owner that notices when one fails, and cancels and awaits them all."""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import ContextVar, copy_context
from typing import Any, Final

from ottla.client.errors import Closed

Inside = tuple[list["asyncio.Task[Any]"], ...]
_inside: Final[ContextVar[Inside]] = ContextVar("ottla_inside", default=())
"""The tasks in whose course this happens: what a user's listener calls, in a thread or a task of its own, too."""


class Tasks:
    """The tasks of one object. `on_failure` is called with the exception of a task that ends with one; a task that is
    cancelled by anybody but its owner has failed, too, with Closed: nothing would go on, and nobody would know."""

    def __init__(self, on_failure: Callable[[BaseException], None]) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._cancelled: set[asyncio.Task[Any]] = set()
        self._on_failure = on_failure

    def start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Runs `work` until it ends or `stop` is called."""
        task = _begin(work, name)
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
        """Cancels every task and waits until they have ended; not for one in whose course this is called."""
        tasks = list(self._tasks)
        if tasks and tasks[0].get_loop() is not asyncio.get_running_loop():
            self._tasks.clear()  # their loop is over, and so are they
            return
        for task in tasks:
            self.cancel(task)
        await asyncio.gather(*(task for task in tasks if not is_inside(task)), return_exceptions=True)


class Ending:
    """The end of an object: it comes once, and whoever asks for it waits until it is over."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    async def run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Does all of `work`, also when the caller is cancelled meanwhile: that comes afterwards. Whoever is cancelled
        twice cuts it short."""
        loop = asyncio.get_running_loop()
        if self._task is None:
            self._task = _begin(work(), "ottla-ending")
        elif self._task.done() or self._task.get_loop() is not loop or is_inside(self._task):
            return
        try:
            await asyncio.shield(self._task)
        except asyncio.CancelledError:
            await _ended(self._task)
            raise

    def is_inside(self) -> bool:
        """Whether this happens in its course."""
        return self._task is not None and is_inside(self._task)


async def _ended(task: "asyncio.Task[None]") -> None:
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:
            task.cancel()
    if not task.cancelled():
        task.exception()  # the cancellation is what is told


def is_inside(task: "asyncio.Task[Any]") -> bool:
    """Whether this happens in the course of the task."""
    return any(task in own for own in _inside.get())


def _begin(work: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
    own: list[asyncio.Task[Any]] = []
    context = copy_context()
    context.run(_inside.set, (*_inside.get(), own))
    task = asyncio.get_running_loop().create_task(work, name=name, context=context)
    own.append(task)
    task.add_done_callback(lambda _: own.clear())
    return task
