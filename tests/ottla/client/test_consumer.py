"""Consumers against real nodes: where they start, what a seek does, what they survive."""

import asyncio
import time

import pytest

from ottla import Client, Closed, ConfigError, Consumer, OffsetOutOfRange, Producer, UnknownTopic
from ottla.internal.v1 import metadata_pb2 as records
from tests.node.services.planes import Planes


async def fill(client: Client, topic: str, values: range, partition: int = 0, **settings: int) -> None:
    async with Producer(client, **settings) as producer:  # type: ignore[arg-type]
        for value in values:
            await producer.send(topic, b"%d" % value, partition=partition, timestamp=1_700_000_000_000 + value)


async def take(consumer: Consumer, count: int) -> list[int]:
    async with asyncio.timeout(15):
        return [int((await anext(consumer)).value or b"") for _ in range(count)]


async def nothing_comes(consumer: Consumer) -> bool:
    return await consumer.poll(timeout_ms=300) == []


async def test_it_starts_where_the_policy_says(planes: Planes, client: Client) -> None:
    planes.create_topic("t", [1])
    await fill(client, "t", range(10))
    async with Consumer("t", bootstrap=client) as earliest:
        assert await take(earliest, 10) == list(range(10))
        assert await earliest.position("t", 0) == 10
        assert earliest.high_watermark("t", 0) == 10
    async with Consumer("t", bootstrap=client, auto_offset_reset="latest") as latest:
        assert await latest.position("t", 0) == 10
        await fill(client, "t", range(10, 12))
        assert await take(latest, 2) == [10, 11]
    async with Consumer("t", bootstrap=client, auto_offset_reset="by_duration:PT1H") as recent:
        assert await recent.position("t", 0) == 12
    long_ago = f"by_duration:P{(int(time.time()) - 1_700_000_000) // 86400 + 1}D"
    async with Consumer("t", bootstrap=client, auto_offset_reset=long_ago) as old:
        assert await old.position("t", 0) == 0
    async with Consumer("t", bootstrap=client, auto_offset_reset="none") as none:
        with pytest.raises(OffsetOutOfRange):
            await anext(none)
        none.seek("t", 0, 11)
        assert await take(none, 1) == [11]


async def test_records_of_a_partition_come_in_order_from_every_leader(planes: Planes, client: Client) -> None:
    planes.create_topic("t", [1, 2, 3])
    for partition in range(3):
        await fill(client, "t", range(500), partition, batch_size=3000)
    async with Consumer("t", bootstrap=client) as consumer:
        seen: list[list[int]] = [[], [], []]
        async with asyncio.timeout(15):
            async for record in consumer:
                seen[record.partition].append(int(record.value or b""))
                assert record.offset == len(seen[record.partition]) - 1
                if sum(map(len, seen)) == 1500:
                    break
        assert seen == [list(range(500))] * 3
        assert await nothing_comes(consumer)


async def test_a_seek_forgets_what_was_read_ahead(planes: Planes, client: Client) -> None:
    planes.create_topic("t", [1])
    await fill(client, "t", range(1000), batch_size=3000)
    async with Consumer("t", bootstrap=client) as consumer:
        assert await take(consumer, 3) == [0, 1, 2]
        consumer.seek("t", 0, 900)
        assert await consumer.position("t", 0) == 900
        assert await take(consumer, 3) == [900, 901, 902]
        consumer.seek("t", 0, 5)
        assert await take(consumer, 995) == list(range(5, 1000))
        with pytest.raises(ConfigError):
            consumer.seek("t", 0, -1)
        with pytest.raises(ConfigError):
            consumer.seek("t", 7, 0)


async def test_seeking_by_time_and_to_the_ends(planes: Planes, client: Client) -> None:
    planes.create_topic("t", [2])
    await fill(client, "t", range(100))
    async with Consumer("t", bootstrap=client) as consumer:
        assert await consumer.seek_to_time("t", 0, 1_700_000_000_000 + 40) == 40
        assert await take(consumer, 1) == [40]
        assert await consumer.seek_to_time("t", 0, 1_700_000_000_000 + 40_000) == 100
        assert await consumer.seek_to_beginning("t", 0) == 0
        assert await take(consumer, 1) == [0]
        assert await consumer.seek_to_end("t", 0) == 100
        assert await nothing_comes(consumer)


async def test_a_paused_partition_waits_and_the_others_go_on(planes: Planes, client: Client) -> None:
    planes.create_topic("t", [1, 1])
    await fill(client, "t", range(100), 0)
    await fill(client, "t", range(1000, 1100), 1)
    async with Consumer("t", bootstrap=client) as consumer:
        consumer.pause("t", 0)
        assert await take(consumer, 100) == list(range(1000, 1100))
        assert await nothing_comes(consumer)
        consumer.resume("t", 0)
        assert await take(consumer, 100) == list(range(100))


async def test_an_assignment_can_change(planes: Planes, client: Client) -> None:
    planes.create_topic("t", [1, 2])
    await fill(client, "t", range(10), 0)
    await fill(client, "t", range(1000, 1010), 1)
    async with Consumer(bootstrap=client) as consumer:
        await consumer.assign([("t", 0)])
        assert await take(consumer, 4) == [0, 1, 2, 3]
        await consumer.assign([("t", 1)])
        assert await take(consumer, 10) == list(range(1000, 1010))
        assert consumer.assignment() == [("t", 1)]
        with pytest.raises(UnknownTopic):
            await consumer.assign([("t", 2)])
        with pytest.raises(UnknownTopic, match="close names: t"):
            await consumer.assign([("tt", 0)])


async def test_new_records_wake_a_waiting_reader(planes: Planes, client: Client) -> None:
    planes.create_topic("t", [3])
    async with Consumer("t", bootstrap=client, fetch_max_wait_ms=20_000) as consumer:
        waiting = asyncio.create_task(take(consumer, 1))
        await asyncio.sleep(0.3)
        began = time.monotonic()
        await fill(client, "t", range(1))
        assert await waiting == [0]
        assert time.monotonic() - began < 10


async def test_a_leader_that_moves_costs_no_record(planes: Planes, client: Client) -> None:
    topic_id = planes.create_topic("t", [1])
    async with Consumer("t", bootstrap=client) as consumer, Producer(client, batch_size=2000) as producer:
        for turn in range(6):
            for i in range(turn * 300, turn * 300 + 300):
                await producer.send("t", b"%d" % i)
            planes.lead(topic_id, 0, 1 + (turn + 1) % 3)
            assert await take(consumer, 200) == list(range(turn * 200, turn * 200 + 200))
        assert await take(consumer, 600) == list(range(1200, 1800))
        assert await nothing_comes(consumer)


async def test_partitions_added_later_are_read_from_their_start(planes: Planes, client: Client) -> None:
    topic_id = planes.create_topic("t", [1])
    async with Consumer("t", bootstrap=client, auto_offset_reset="latest") as consumer:
        assert await consumer.position("t", 0) == 0
        planes.change(
            records.MetadataRecord(
                partition=records.PartitionRecord(
                    topic_id=topic_id,
                    partition=1,
                    replicas=[2, 1, 3],
                    directories=[bytes([node]) * 16 for node in (2, 1, 3)],
                    isr=[1, 2, 3],
                    leader=2,
                )
            )
        )
        await fill(client, "t", range(5), 1)
        assert await take(consumer, 5) == list(range(5))


async def test_a_deleted_topic_is_an_error_not_silence(planes: Planes, client: Client) -> None:
    topic_id = planes.create_topic("t", [1])
    async with Consumer("t", bootstrap=client) as consumer:
        planes.change(records.MetadataRecord(remove_topic=records.RemoveTopicRecord(topic_id=topic_id)))
        with pytest.raises(UnknownTopic, match="deleted"):
            async with asyncio.timeout(10):
                await anext(consumer)


async def test_a_slow_reader_is_sent_no_more_than_its_credit(planes: Planes, client: Client) -> None:
    planes.create_topic("t", [1])
    async with Producer(client) as producer:
        for _ in range(400):
            await producer.send("t", b"x" * 10_000)
    async with Consumer("t", bootstrap=client, fetch_max_bytes=500_000) as consumer:
        await anext(consumer)
        async with asyncio.timeout(10):
            while consumer.buffered_bytes <= 100_000:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        assert consumer.buffered_bytes <= 800_000
        for _ in range(399):
            await anext(consumer)
        assert await consumer.position("t", 0) == 400


async def test_damaged_settings_and_closed_consumers(planes: Planes, client: Client) -> None:
    for wrong in ({"auto_offset_reset": "sometimes"}, {"auto_offset_reset": "by_duration:P"}, {"fetch_max_bytes": 0}):
        with pytest.raises(ConfigError):
            Consumer("t", bootstrap=client, **wrong)  # type: ignore[arg-type]
    with pytest.raises(UnknownTopic):
        await Consumer("nope", bootstrap=client).start()
    planes.create_topic("t", [1])
    consumer = Consumer("t", bootstrap=client)
    await consumer.start()
    waiting = asyncio.create_task(anext(consumer, None))
    await asyncio.sleep(0.05)
    await consumer.close()
    assert await waiting is None
    with pytest.raises(Closed):
        await consumer.start()
