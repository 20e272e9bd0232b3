"""The loads of `ottla bench`, and what they are measured by.

All of a load is one process and one event loop, as a client's own program would be; how much of a core it used is told
with the figures, for where that is all of it, it is the client that was measured. Times are of the monotonic clock.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ottla import Admin, Client, Consumer, Producer
from ottla.cli.failure import Failure

if TYPE_CHECKING:
    from ottla import ConsumerRecord, Delivery

AT_ONCE: Final = 100
"""Records that are handed over between two looks at the clock. The first of them is timed."""
FULL_CORE: Final = 0.9
SILENCE_S: Final = 10.0
"""A reader that gets nothing for so long has lost what it waits for."""
STAMP_BYTES: Final = 16
"""Of a record that says when it was sent."""


@dataclass(frozen=True)
class Load:
    """What is to be written. `records` 0: until `seconds` are over; `rate` 0: as fast as it goes."""

    seconds: float
    records: int
    size_bytes: int
    rate: float
    keys: int
    settings: dict[str, Any]


@dataclass
class Figures:
    """What a load gave. Times in ms; of `latencies_ms` there may be one for many records."""

    records: int = 0
    size_bytes: int = 0
    seconds: float = 0.0
    cpu_share: float = 0.0
    latencies_ms: list[float] = field(default_factory=list)
    each_second: list[dict[str, float]] = field(default_factory=list)

    def percentile_ms(self, share: float) -> float:
        """The latency that this share of the records had at most."""
        ordered = sorted(self.latencies_ms)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]

    def answer(self) -> dict[str, Any]:
        """The figures for programs."""
        named = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
        return {
            "records": self.records,
            "seconds": round(self.seconds, 3),
            "records_per_s": round(self.records / self.seconds, 1),
            "mb_per_s": round(self.size_bytes / self.seconds / 1e6, 3),
            "latency_ms": {name: round(self.percentile_ms(share), 3) for name, share in named.items()}
            if self.latencies_ms
            else None,
            "cpu_of_this_process": round(self.cpu_share, 2),
            "each_second": self.each_second,
        }


class Meter:
    """Counts records as they are done; tells `each` how it went, once a second."""

    def __init__(self, each: Callable[[dict[str, float]], None]) -> None:
        self._each = each
        self.figures = Figures()
        self.begin()

    def begin(self) -> None:
        """It is from now on that counts."""
        self._began_s = self._second_s = time.perf_counter()
        self._cpu_s = time.process_time()
        self._before = (0, 0, 0)

    def count(self, records: int, size_bytes: int) -> None:
        figures = self.figures
        figures.records += records
        figures.size_bytes += size_bytes
        if time.perf_counter() - self._second_s >= 1:
            self._tell()

    def _tell(self) -> None:
        figures, now_s = self.figures, time.perf_counter()
        records, size_bytes, samples = self._before
        took_s = now_s - self._second_s
        latest = sorted(figures.latencies_ms[samples:])
        line = {
            "second": round(now_s - self._began_s, 1),
            "records_per_s": round((figures.records - records) / took_s, 1),
            "mb_per_s": round((figures.size_bytes - size_bytes) / took_s / 1e6, 3),
        }
        if latest:
            line |= {"p50_ms": round(latest[len(latest) // 2], 3), "max_ms": round(latest[-1], 3)}
        figures.each_second.append(line)
        self._each(line)
        self._second_s = now_s
        self._before = (figures.records, figures.size_bytes, len(figures.latencies_ms))

    def end(self) -> Figures:
        """The whole."""
        self.figures.seconds = time.perf_counter() - self._began_s
        self.figures.cpu_share = (time.process_time() - self._cpu_s) / self.figures.seconds
        return self.figures


@asynccontextmanager
async def topic_of(
    client: Client, name: str | None, partitions: int, replication_factor: int | None
) -> AsyncIterator[str]:
    """The topic that was named, which must be there; else one of its own, which is deleted afterwards."""
    if name is not None:
        await client.topic(name)
        yield name
        return
    async with Admin(client) as admin:
        made = f"ottla-bench-{os.urandom(4).hex()}"
        await admin.create_topic(made, partitions=partitions, replication_factor=replication_factor)
        try:
            yield made
        finally:
            await admin.delete_topic(made)


async def produce(client: Client, topic: str, load: Load, meter: Meter) -> Figures:
    """Writes. The latency of a record is the time from `send` to its acknowledgement."""
    value = os.urandom(load.size_bytes)
    waiting: set[asyncio.Task[None]] = set()
    failed: list[BaseException] = []

    async def time_it(delivery: "Delivery", sent_s: float) -> None:
        await delivery
        meter.figures.latencies_ms.append((time.perf_counter() - sent_s) * 1000)

    def over(task: asyncio.Task[None]) -> None:
        waiting.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            failed.append(error)

    async with Producer(client, **load.settings) as producer:
        async for first, count in _portions(load):
            if failed:
                raise failed[0]
            sent_s = time.perf_counter()
            for number in range(first, first + count):
                key = b"%d" % (number % load.keys) if load.keys else None
                delivery = await producer.send(topic, value, key=key)
                if number == first:
                    task = asyncio.create_task(time_it(delivery, sent_s))
                    waiting.add(task)
                    task.add_done_callback(over)
            meter.count(count, count * load.size_bytes)
        await producer.flush()
        await asyncio.gather(*waiting)
        return meter.end()


async def _portions(load: Load) -> AsyncIterator[tuple[int, int]]:
    """(first, count) of the records that are due next, until there are enough."""
    began_s = time.perf_counter()
    sent = 0
    while not load.records or sent < load.records:
        passed_s = time.perf_counter() - began_s
        if not load.records and passed_s >= load.seconds:
            return
        due = int(passed_s * load.rate) - sent if load.rate else AT_ONCE
        if due <= 0:
            await asyncio.sleep((sent + 1) / load.rate - passed_s)
            continue
        count = min(due, AT_ONCE, load.records - sent if load.records else due)
        yield sent, count
        sent += count
        await asyncio.sleep(0)


async def consume(client: Client, topic: str, records: int, meter: Meter) -> Figures:
    """Reads from the start of a topic to the end that it has now, or so many records. There is no latency: that a
    record waited in a topic says nothing of who reads it."""
    async with Consumer(topic, bootstrap=client) as consumer:
        there = sum((await consumer.lag()).values())
        left = min(records or there, there)
        if not left:
            raise Failure("INVALID_REQUEST", f"topic {topic} is empty", f"fill it: `ottla bench produce {topic}`")
        while left > 0:
            found = await consumer.poll(max_records=AT_ONCE * 5, timeout_ms=1000)
            # What compaction took away is neither read nor missing.
            if not found and not any((await consumer.lag()).values()):
                break
            left -= len(found)
            meter.count(len(found), sum(map(_size, found)))
        return meter.end()


async def end_to_end(client: Client, topic: str, load: Load, meter: Meter) -> Figures:
    """Writes records and reads them. The latency of a record is the time from `send` to when its reader has it."""
    mark = os.urandom(8)
    """Of this load: others may write to the topic, too."""
    filling = os.urandom(load.size_bytes - STAMP_BYTES)

    async def write() -> int:
        sent = 0
        async with Producer(client, **load.settings) as producer:
            async for first, count in _portions(load):
                for number in range(first, first + count):
                    key = b"%d" % (number % load.keys) if load.keys else None
                    stamp = mark + time.perf_counter_ns().to_bytes(8, "big")
                    await producer.send(topic, stamp + filling, key=key)
                sent += count
        return sent

    async with Consumer(topic, bootstrap=client, auto_offset_reset="latest") as consumer:
        for place in await consumer.end_offsets():
            await consumer.position(*place)
        writing = asyncio.create_task(write())
        try:
            silent_since_s = time.perf_counter()
            while not writing.done() or meter.figures.records < writing.result():
                found = await consumer.poll(timeout_ms=100)
                now_ns = time.perf_counter_ns()
                ours = [record.value for record in found if record.value and record.value.startswith(mark)]
                meter.figures.latencies_ms += [(now_ns - int.from_bytes(v[8:STAMP_BYTES], "big")) / 1e6 for v in ours]
                meter.count(len(ours), len(ours) * load.size_bytes)
                if ours or not writing.done():
                    silent_since_s = time.perf_counter()
                elif time.perf_counter() - silent_since_s > SILENCE_S:
                    raise Failure(
                        "REQUEST_TIMED_OUT",
                        f"{meter.figures.records} of {writing.result()} acknowledged records were read, and none in "
                        f"{SILENCE_S:g} s",
                        f"look at the topic with `ottla topic describe {topic}`",
                    )
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
        return meter.end()


def _size(record: "ConsumerRecord") -> int:
    return len(record.value or b"") + len(record.key or b"")
