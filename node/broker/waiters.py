"""Who waits for a partition: producers for their acknowledgement, readers for data. Woken once, cancelled safely."""

import asyncio
from bisect import insort
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb


class AckWaiter:
    """A produce request that waits until everything before `end_offset` is committed. `deadline_ms` is monotonic."""

    __slots__ = ("deadline_ms", "end_offset", "future")

    def __init__(self, end_offset: int, deadline_ms: int, future: asyncio.Future[None]) -> None:
        self.end_offset = end_offset
        self.deadline_ms = deadline_ms
        self.future = future


class AckQueue:
    """A partition's waiting producers, by the offset they wait for."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: deque[AckWaiter] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, waiter: AckWaiter) -> None:
        if self._waiting and waiter.end_offset < self._waiting[-1].end_offset:
            insort(self._waiting, waiter, key=lambda other: other.end_offset)  # a duplicate of an earlier batch
        else:
            self._waiting.append(waiter)

    def committed(self, high_watermark: int) -> None:
        """Answers those whose records are below the high watermark."""
        waiting = self._waiting
        while waiting and waiting[0].end_offset <= high_watermark:
            future = waiting.popleft().future
            if not future.done():
                future.set_result(None)

    def expire(self, now_ms: int) -> None:
        """Answers those whose time is over: REQUEST_TIMED_OUT, the outcome is unknown."""
        late = [waiter for waiter in self._waiting if waiter.deadline_ms <= now_ms]
        if not late:
            return
        self._waiting = deque(waiter for waiter in self._waiting if waiter.deadline_ms > now_ms)
        for waiter in late:
            _fail(
                waiter.future,
                ApiError(
                    pb.ERROR_CODE_REQUEST_TIMED_OUT,
                    "the batch is in the leader's log, but not all in-sync replicas had it in time",
                ),
            )

    def fail(self, error: Callable[[], ApiError]) -> None:
        """Answers all, each with an error of its own: an exception must not be shared between tracebacks."""
        while self._waiting:
            _fail(self._waiting.popleft().future, error())


def _fail(future: asyncio.Future[None], error: ApiError) -> None:
    if not future.done():
        future.set_exception(error)


class Readable(Protocol):
    """What a `DataWaiter` registers with."""

    readers: dict["DataWaiter", None]


class DataWaiter:
    """A long poll: its future ends when enough bytes were committed, the leadership changed or the time is over."""

    __slots__ = ("_partitions", "_timer", "future", "missing_bytes")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, partitions: Iterable[Readable], min_bytes: int, timeout_ms: int
    ) -> None:
        self.future: asyncio.Future[None] = loop.create_future()
        self.missing_bytes = min_bytes
        self._partitions = list(partitions)
        self._timer = loop.call_later(max(timeout_ms, 0) / 1000, self.wake)
        for partition in self._partitions:
            partition.readers[self] = None
        self.future.add_done_callback(self._done)

    def wake(self) -> None:
        if not self.future.done():
            self.future.set_result(None)

    def _done(self, _: asyncio.Future[None]) -> None:
        self._timer.cancel()
        for partition in self._partitions:
            partition.readers.pop(self, None)
