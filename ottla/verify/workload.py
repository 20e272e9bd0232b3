"""What clients do while things break: idempotent producers, readers, and one that asks for the ends of the log.

Every value is unique, says who sent it, and is padded to its size by bytes that follow from its name, so that a reader
knows a changed one. All that is done and seen becomes operations of a history (`ottla.verify.history`).
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import IO, Final

from ottla.client.admin import Admin
from ottla.client.records import TopicPartition
from ottla.verify.checker import FINAL, TRUNCATED
from ottla.verify.doors import TOPIC, Door, Failed, Sink, Stored
from ottla.verify.history import HistoryWriter, Kind, Operation

_ENDS_EVERY_S: Final = 0.3
_PAUSE_S: Final = 0.2
_TICK_S: Final = 0.002
# Sends that a producer may have under way. Above it, it waits: a partition without a leader must not fill the memory.
_UNDER_WAY_MAX: Final = 20_000
_FINAL_S: Final = 60.0


@dataclass
class Counts:
    """What the screen shows while it runs."""

    sent: int = 0
    acknowledged: int = 0
    read: int = 0
    unknown: int = 0
    failed: int = 0


@dataclass
class Log:
    """The history of this run: in memory for the checker, and on disk as it happens."""

    writer: HistoryWriter
    operations: list[Operation] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    last_ack_ns: dict[int, int] = field(default_factory=dict)

    @classmethod
    def to(cls, file: IO[str]) -> "Log":
        return cls(HistoryWriter(file))

    def begin(self, process: str, kind: Kind, **facts: object) -> Operation:
        operation = Operation(process, kind, time.monotonic_ns(), **facts)  # type: ignore[arg-type]
        self.operations.append(operation)
        self.writer.invoke(operation)
        return operation

    def end(self, operation: Operation) -> None:
        operation.end_ns = time.monotonic_ns()
        self.writer.complete(operation)


def key_of(partition: int) -> str:
    """How the history names a partition."""
    return f"{TOPIC}-{partition}"


def value_of(name: str, size: int) -> bytes:
    """A record's value: its name, and padding that only it has."""
    head = f"{name}|".encode()
    filler = (name.encode() * (size // len(name) + 1))[: max(0, size - len(head))]
    return head + filler


def name_in(value: bytes | None) -> str:
    """The name in a value that was read; of one that was changed on the way, a name that nobody sent."""
    name = (value or b"").partition(b"|")[0].decode(errors="replace")
    if value is None or not name or value != value_of(name, len(value)):
        return f"damaged:{(value or b'')[:60]!r}"
    return name


class Writer:
    """One producer. Sends at a steady rate to all partitions in turn; replaced after a send of unknown outcome."""

    def __init__(self, name: str, door: Door, partitions: int, rate: float, size: int, log: Log) -> None:
        self._name = f"{name}-{door.name}"
        self._door = door
        self._partitions = partitions
        self._rate = rate
        self._size = size
        self._log = log
        self._life = 0
        self._number = 0
        self._lost = False
        self._under_way: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Until told to stop; returns when every outcome is known."""
        while not stop.is_set():
            self._life, self._lost = self._life + 1, False
            try:
                async with self._door.sink() as sink:
                    await self._send(sink, stop)
                    await sink.flush()
            except Failed:
                await asyncio.sleep(_PAUSE_S)
        if self._under_way:
            await asyncio.wait(self._under_way)

    async def _send(self, sink: Sink, stop: asyncio.Event) -> None:
        process = f"{self._name}.{self._life}"
        due = time.monotonic()
        while not (stop.is_set() or self._lost):
            now = time.monotonic()
            # What could not be sent in time is not made up for: the rate is an upper bound.
            due = max(due, now - 0.1)
            while due <= now and len(self._under_way) < _UNDER_WAY_MAX:
                due += 1 / self._rate
                await self._send_one(sink, process)
            await asyncio.sleep(_TICK_S)

    async def _send_one(self, sink: Sink, process: str) -> None:
        self._number += 1
        partition = self._number % self._partitions
        name = f"{self._name}-{self._number:07d}"
        operation = self._log.begin(process, "send", entries=[(key_of(partition), None, name)], number=self._number)
        self._log.counts.sent += 1
        try:
            outcome = await sink.send(partition, value_of(name, self._size))
        except Failed as error:
            self._failed(operation, error)
            return
        task = asyncio.get_running_loop().create_task(self._follow(operation, partition, name, outcome))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _follow(self, operation: Operation, partition: int, name: str, outcome: Awaitable[Stored]) -> None:
        key = key_of(partition)
        try:
            stored = await outcome
        except Failed as error:
            self._failed(operation, error)
            return
        operation.outcome = "ok"
        operation.entries = [(key, stored.offset, name)]
        if stored.high_watermark is not None:
            operation.marks = {key: stored.high_watermark}
        self._log.end(operation)
        self._log.counts.acknowledged += 1
        assert operation.end_ns is not None
        self._log.last_ack_ns[partition] = operation.end_ns

    def _failed(self, operation: Operation, error: Failed) -> None:
        operation.outcome, operation.error = ("fail" if error.certain else "unknown"), str(error)
        self._log.end(operation)
        self._log.counts.failed += error.certain
        self._log.counts.unknown += not error.certain
        self._lost = True


class Reader:
    """One consumer of all partitions, from their start. Told of a truncation, or broken, it starts over as another."""

    def __init__(self, name: str, door: Door, partitions: int, log: Log) -> None:
        self.name = f"{name}-{door.name}"
        self._door = door
        self._partitions = range(partitions)
        self._log = log
        self._life = 0
        self.next: dict[int, int] = {}
        """Behind the last record that was read, by partition."""

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self._life += 1
            with contextlib.suppress(Failed):
                await self._read(stop)
            if not stop.is_set():
                await asyncio.sleep(_PAUSE_S)

    async def _read(self, stop: asyncio.Event) -> None:
        process = f"{self.name}.{self._life}"
        async with self._door.source(len(self._partitions)) as source:
            self._log.end(self._log.begin(process, "assign", outcome="ok"))
            marks: dict[str, int] = {}
            while not stop.is_set():
                operation = self._log.begin(process, "poll")
                try:
                    records = await source.poll()
                except Failed as error:
                    operation.error = str(error)
                    operation.outcome = "fail"
                    if error.truncated is not None:
                        operation.error = f"{TRUNCATED}: {error}"
                        operation.keys = [key_of(error.truncated)]
                    self._log.end(operation)
                    raise
                operation.outcome = "ok"
                operation.entries = [(key_of(r.partition), r.offset, name_in(r.value)) for r in records]
                for partition in self._partitions:
                    mark, key = source.high_watermark(partition), key_of(partition)
                    if mark is not None and marks.get(key) != mark:
                        operation.marks[key] = marks[key] = mark
                self._log.end(operation)
                for record in records:
                    self.next[record.partition] = record.offset + 1
                self._log.counts.read += len(records)
                if self.is_done():
                    return

    def is_done(self) -> bool:
        """Never, while writers write."""
        return False


class FinalReader(Reader):
    """Reads all of the log up to the ends that it is given. `run` raises TimeoutError where that takes too long."""

    def __init__(self, door: Door, ends: dict[int, int], log: Log) -> None:
        super().__init__(FINAL, door, len(ends), log)
        self._ends = ends

    async def run(self, stop: asyncio.Event) -> None:
        async with asyncio.timeout(_FINAL_S):
            while not self.is_done():
                self.next = {}
                self._life += 1
                with contextlib.suppress(Failed):
                    await self._read(stop)

    def is_done(self) -> bool:
        return all(self.next.get(partition, 0) >= end for partition, end in self._ends.items())


class EndsReader:
    """Asks again and again for the end of every partition: what any client sees of the high watermark."""

    def __init__(self, door: Door, partitions: int, log: Log, rng: random.Random) -> None:
        self._door = door
        self._partitions = range(partitions)
        self._log = log
        self._rng = rng

    async def run(self, stop: asyncio.Event) -> None:
        async with self._door.ends() as asked:
            while not stop.is_set():
                partition = self._rng.choice(self._partitions)
                operation = self._log.begin(f"ends-{self._door.name}", "ends")
                try:
                    end = await asked.end(partition)
                    operation.outcome = "ok"
                    operation.marks = {} if end is None else {key_of(partition): end}
                except Failed as error:
                    operation.outcome, operation.error = "fail", str(error)
                self._log.end(operation)
                await asyncio.sleep(_ENDS_EVERY_S / len(self._partitions))


async def ends_of(bootstrap: str, partitions: Sequence[int]) -> dict[int, int]:
    """The end of every partition, once all can be asked."""
    async with Admin(bootstrap) as admin:
        ends = await admin.list_offsets({TopicPartition(TOPIC, p): -1 for p in partitions})
    return {tp.partition: end or 0 for tp, end in ends.items()}
