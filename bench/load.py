"""The loads: batches through a window, single messages at a steady rate. Every system is loaded by the same code."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import psutil

KIB = 1024
RATE_PER_S = 1000
FIRST_ANSWER_S = 20.0


@dataclass(frozen=True)
class Case:
    """One measurement: `kind` is `batches` (prebuilt ones of up to `batch_bytes`), `latency` (one record a batch, at a
    steady rate), `records` (one record at a time through the client library), `publish` (the same through nats-py's
    simpler call) or `end_to_end` (to a consumer)."""

    system: str
    kind: str
    record_bytes: int
    batch_bytes: int

    @property
    def records_per_batch(self) -> int:
        if self.kind != "batches":
            return 1
        # What Ottla adds to a record and to a batch must fit too; the others get as many records.
        return (self.batch_bytes - 512) // (self.record_bytes + 8)

    def __str__(self) -> str:
        return f"{self.system} {self.kind} {self.record_bytes} B in {self.batch_bytes // KIB} KB"


class Link(Protocol):
    """A client's connection to one system."""

    async def send(self, batch: bytes) -> None:
        """Hands over one batch; returns when the connection can take the next."""

    def acknowledged(self) -> AsyncIterator[Sequence[int]]:
        """The numbers (0, 1, 2, in the order sent) of batches that all replicas hold, as that becomes known."""

    async def close(self) -> None:
        """Ends the connection."""


@dataclass
class Measured:
    """One measurement. Latencies in milliseconds, CPU in seconds by role."""

    seconds: float
    batches: int
    latencies_ms: list[float]
    cpu_s: dict[str, float]


class Cpu:
    """CPU seconds that this process and others, named by role, use from now on."""

    def __init__(self, roles: Mapping[str, Sequence[int]]) -> None:
        self._roles = {role: [psutil.Process(pid) for pid in pids] for role, pids in roles.items()}
        self._roles["client"] = [psutil.Process()]
        self._start = self._read()

    def _read(self) -> dict[str, float]:
        times = {role: [process.cpu_times() for process in processes] for role, processes in self._roles.items()}
        return {role: sum(each.user + each.system for each in of_role) for role, of_role in times.items()}

    def used(self) -> dict[str, float]:
        return {role: now - self._start[role] for role, now in self._read().items()}


async def _measure(
    link: Link,
    batches: Sequence[bytes],
    roles: Mapping[str, Sequence[int]],
    warm_s: float,
    seconds: float,
    load: Callable[["_Flow"], Coroutine[Any, Any, None]],
) -> Measured:
    """Runs `load` once a first batch went through; counts what is acknowledged in `seconds` after the warm-up."""
    flow = _Flow(link, batches)

    async def first_then_load() -> None:
        await flow.send(time.perf_counter())
        await flow.one_returned()
        warming.set_result(None)
        await load(flow)

    warming: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    tasks = [asyncio.ensure_future(flow.read()), asyncio.ensure_future(first_then_load())]

    async def unless_ended(pause_s: float) -> None:
        done, _ = await asyncio.wait(tasks, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
            raise RuntimeError("the connection ended in the middle of the measurement")

    try:
        await asyncio.wait([warming, *tasks], timeout=FIRST_ANSWER_S, return_when=asyncio.FIRST_COMPLETED)
        await unless_ended(warm_s)
        cpu, started, flow.batches, flow.latencies_ms = Cpu(roles), time.perf_counter(), 0, []
        await unless_ended(seconds)
        return Measured(time.perf_counter() - started, flow.batches, flow.latencies_ms, cpu.used())
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await link.close()


class _Flow:
    """What is in flight on one link."""

    def __init__(self, link: Link, batches: Sequence[bytes]) -> None:
        self.link = link
        self._batches = itertools.cycle(batches)
        self.batches = 0
        self.latencies_ms: list[float] = []
        self._due: list[float] = []
        self._returned = asyncio.Semaphore(0)

    async def send(self, due: float) -> None:
        self._due.append(due)
        await self.link.send(next(self._batches))

    async def one_returned(self) -> None:
        await self._returned.acquire()

    async def read(self) -> None:
        async for numbers in self.link.acknowledged():
            now = time.perf_counter()
            for number in numbers:
                self.latencies_ms.append((now - self._due[number]) * 1000)
                self._returned.release()
            self.batches += len(numbers)


async def throughput(
    link: Link, batches: Sequence[bytes], window: int, roles: Mapping[str, Sequence[int]], warm_s: float, seconds: float
) -> Measured:
    """Sends `batches` over and over with `window` of them in flight."""

    async def load(flow: _Flow) -> None:
        sent = 0
        while True:
            if sent >= window:
                await flow.one_returned()
            await flow.send(time.perf_counter())
            sent += 1

    return await _measure(link, batches, roles, warm_s, seconds, load)


async def latency(
    link: Link, batches: Sequence[bytes], roles: Mapping[str, Sequence[int]], warm_s: float, seconds: float
) -> Measured:
    """Sends `RATE_PER_S` messages a second whatever comes back.

    A latency counts from when its message was due, so that a stall is seen by every message it delayed.
    """

    async def load(flow: _Flow) -> None:
        due = time.perf_counter()
        while True:
            due += 1 / RATE_PER_S
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await flow.send(due)

    return await _measure(link, batches, roles, warm_s, seconds, load)
