"""What is asked of a registry: each thing once, however many wait for it, in threads or on event loops."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, Generic, TypeVar

KEPT_MAX: Final = 1000
"""As many as other clients keep; the oldest goes first."""

K = TypeVar("K")
V = TypeVar("V")


class Loads(Generic[K, V]):
    """A function's answers by their one argument. A failure is told to all who wait for it, and not kept."""

    def __init__(self, load: Callable[[K], V]) -> None:
        self._load = load
        self._kept: dict[K, V] = {}
        # With the process: a forked child has none of the threads that would bring the answers.
        self._pending: dict[tuple[int, K], Future[V]] = {}

    def has(self, key: K) -> bool:
        """Whether `wait` would answer at once."""
        return key in self._kept

    def wait(self, key: K) -> V:
        """The answer; blocks until it is there. Raises what the function raises."""
        try:
            return self._kept[key]
        except KeyError:
            future, is_mine = self._future(key)
            if is_mine:
                self._run(key, future)
            return future.result()

    async def beside(self, key: K) -> V:
        """As `wait`, with the function in a thread, so that the event loop goes on."""
        if key in self._kept:
            return self.wait(key)
        future, is_mine = self._future(key)
        if is_mine:
            try:
                asyncio.get_running_loop().run_in_executor(None, self._run, key, future)
            except BaseException as error:  # the loop is at its end: nobody shall wait for what nobody brings
                self._pending.pop((os.getpid(), key), None)
                future.set_exception(error)
        # Shielded: whoever is cancelled must not cancel it for the others.
        return await asyncio.shield(asyncio.wrap_future(future))

    def _future(self, key: K) -> tuple[Future[V], bool]:
        mine: Future[V] = Future()
        future = self._pending.setdefault((os.getpid(), key), mine)
        return future, future is mine

    def _run(self, key: K, future: Future[V]) -> None:
        try:
            value = self._load(key)
            while len(self._kept) >= KEPT_MAX:
                self._kept.pop(next(iter(self._kept)), None)
            self._kept[key] = value
        except BaseException as error:
            self._pending.pop((os.getpid(), key), None)
            future.set_exception(error)
        else:
            self._pending.pop((os.getpid(), key), None)
            future.set_result(value)
