"""Ottla through its own Python client: records one at a time into the producer, and on to a consumer."""

import asyncio
import os
import struct
import time
from collections.abc import AsyncIterator, Mapping, Sequence

from bench.load import Cpu, Measured
from bench.ottla_cluster import TOPIC
from ottla import Consumer, Producer

NUMBER = struct.Struct("<q")
RECORDS_PER_LOOK = 500


def addresses(ports: list[int]) -> list[str]:
    return [f"127.0.0.1:{port}" for port in ports]


async def produce_records(
    ports: list[int],
    record_bytes: int,
    batch_bytes: int,
    roles: Mapping[str, Sequence[int]],
    warm_s: float,
    seconds: float,
) -> Measured:
    """Calls `Producer.send` as fast as it takes records, in batches of up to `batch_bytes`; else with its defaults.

    Everything sent in the measured time counts, and so does the time until the last of it is acknowledged. Latencies
    are those of one record in `RECORDS_PER_LOOK`.
    """
    values = [os.urandom(record_bytes) for _ in range(64)]
    async with Producer(addresses(ports), batch_size=batch_bytes) as producer:
        await _send_for(producer, values, warm_s)
        await producer.flush()
        cpu, started = Cpu(roles), time.perf_counter()
        sent, looks = await _send_for(producer, values, seconds)
        await producer.flush()
        measured = time.perf_counter() - started
        return Measured(measured, sent, [await look for look in looks], cpu.used())


async def _send_for(producer: Producer, values: list[bytes], seconds: float) -> tuple[int, list["asyncio.Task[float]"]]:
    """Sends for so long; how many records, and the latencies of some."""
    looks = []
    end = time.perf_counter() + seconds
    sent = 0
    while time.perf_counter() < end:
        looks.append(asyncio.ensure_future(_latency_ms(producer, values[0])))
        for number in range(1, RECORDS_PER_LOOK):
            await producer.send(TOPIC, values[number % len(values)])
        sent += RECORDS_PER_LOOK
    await asyncio.wait(looks)
    return sent, looks


async def _latency_ms(producer: Producer, value: bytes) -> float:
    due = time.perf_counter()
    await producer.send_and_wait(TOPIC, value)
    return (time.perf_counter() - due) * 1000


class EndToEnd:
    """A producer and a consumer, both with default settings; a record counts when the consumer hands it out."""

    def __init__(self, producer: Producer, consumer: Consumer) -> None:
        self._producer = producer
        self._consumer = consumer
        self._sent = 0

    @classmethod
    async def open(cls, ports: list[int]) -> "EndToEnd":
        producer, consumer = Producer(addresses(ports)), Consumer(TOPIC, bootstrap=addresses(ports))
        await producer.start()
        await consumer.start()
        return cls(producer, consumer)

    async def send(self, batch: bytes) -> None:
        await self._producer.send(TOPIC, NUMBER.pack(self._sent) + batch[NUMBER.size :])
        self._sent += 1

    async def acknowledged(self) -> AsyncIterator[list[int]]:
        async for record in self._consumer:
            assert record.value is not None
            yield list(NUMBER.unpack_from(record.value))

    async def close(self) -> None:
        await self._consumer.close()
        await self._producer.close()
