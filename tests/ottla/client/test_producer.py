"""Producers against real nodes: what arrives, what is reported, and what happens when leaders move."""

import asyncio
import time

import pytest

from ottla import (
    BufferFull,
    Client,
    Closed,
    ConfigError,
    Consumer,
    DeliveryFailed,
    Producer,
    RecordTooLarge,
    TopicPartition,
    UnknownTopic,
)
from ottla.internal.v1 import metadata_pb2 as records
from ottla.protocol.partitioner import partition_for_key
from ottla.v1 import error_pb2 as pb
from tests.node.services.planes import Planes
from tests.ottla.client.conftest import addresses


async def read_all(client: Client, topic: str, count: int) -> list[bytes | None]:
    """The first `count` values of a topic, partition by partition."""
    async with Consumer(topic, bootstrap=client) as consumer:
        records = []
        while len(records) < count:
            got = await consumer.poll(timeout_ms=5000)
            assert got, f"{len(records)} of {count} records came"
            records += got
        extra = await consumer.poll(timeout_ms=300)
        assert extra == []
    return [record.value for record in sorted(records, key=lambda r: (r.partition, r.offset))]


async def test_what_is_sent_is_what_is_read(planes: Planes, client: Client) -> None:
    planes.create_topic("t", [1])
    headers = [("a", b"1"), ("a", None), ("b", b"")]
    async with Producer(client) as producer:
        first = await producer.send_and_wait("t", b"value", key=b"key", headers=headers, timestamp=1_700_000_000_000)
        await producer.send("t", None, key="text")
        await producer.send("t", b"")
    assert (first.topic, first.partition, first.offset, first.timestamp) == ("t", 0, 0, 1_700_000_000_000)
    assert first.replicas_holding >= 2
    async with Consumer("t", bootstrap=client) as consumer:
        one, two, three = [await anext(consumer) for _ in range(3)]
    assert (one.key, one.value, one.headers, one.timestamp) == (b"key", b"value", tuple(headers), 1_700_000_000_000)
    assert (two.key, two.value, two.headers) == (b"text", None, ())
    assert (three.key, three.value) == (None, b"")
    assert abs(three.timestamp - time.time() * 1000) < 10_000


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_every_codec_comes_back_as_it_was(planes: Planes, client: Client, codec: str) -> None:
    planes.create_topic("t", [2])
    values = [b"the same words again and again %d" % i for i in range(500)]
    async with Producer(client, compression_type=codec) as producer:  # type: ignore[arg-type]
        for value in values:
            await producer.send("t", value)
    assert await read_all(client, "t", 500) == values


async def test_a_key_decides_the_partition_and_keeps_its_order(planes: Planes, client: Client) -> None:
    planes.create_topic("t", [1, 2, 3])
    async with Producer(client) as producer:
        for i in range(300):
            await producer.send("t", b"%d" % i, key=b"key-%d" % (i % 7))
    async with Consumer("t", bootstrap=client) as consumer:
        records = [await anext(consumer) for _ in range(300)]
    for k in range(7):
        mine = [r for r in records if r.key == b"key-%d" % k]
        assert {r.partition for r in mine} == {partition_for_key(b"key-%d" % k, 3)}
        assert [int(r.value or b"") for r in mine] == list(range(k, 300, 7))


async def test_records_without_a_key_are_spread(planes: Planes, client: Client) -> None:
    planes.create_topic("t", [1, 2, 3])
    async with Producer(client, batch_size=4096) as producer:
        deliveries = [await producer.send("t", b"x" * 500) for _ in range(600)]
    counts = [0, 0, 0]
    for delivery in deliveries:
        counts[(await delivery).partition] += 1
    assert min(counts) > 100


async def test_an_unknown_topic_is_named_with_what_is_close(planes: Planes, client: Client) -> None:
    planes.create_topic("orders", [1])
    async with Producer(client) as producer:
        with pytest.raises(UnknownTopic, match="orders"):
            await producer.send("order", b"x")
        with pytest.raises(UnknownTopic, match="only 0 to 0"):
            await producer.send("orders", b"x", partition=1)


async def test_misuse_is_refused_before_anything_is_sent(planes: Planes, client: Client) -> None:
    planes.create_topic("t", [1])
    producer = Producer(client)
    with pytest.raises(Closed):
        await producer.send("t", b"x")
    async with producer:
        with pytest.raises(RecordTooLarge, match="max_request_size"):
            await producer.send("t", b"x" * 1024 * 1024)
        with pytest.raises(ConfigError, match=r"json\.dumps"):
            await producer.send("t", {"a": 1})  # type: ignore[arg-type]
        with pytest.raises(ConfigError):
            await producer.send("t", b"x", timestamp=0)
    with pytest.raises(Closed):
        await producer.send("t", b"x")


async def test_a_refused_batch_says_why_and_the_rest_goes_on(planes: Planes, client: Client) -> None:
    planes.create_topic("t", [1], cleanup_policy="compact")
    async with Producer(client) as producer:
        refused = await producer.send("t", b"no key")
        with pytest.raises(DeliveryFailed, match="key") as caught:
            await refused
        assert caught.value.code == pb.ERROR_CODE_INVALID_RECORD
        assert caught.value.maybe_written is False
        assert caught.value.record_errors[0][0] == 0
        stored = await producer.send_and_wait("t", b"with key", key=b"k")
        assert stored.offset == 0


async def test_flush_and_close_raise_what_nobody_looked_at(planes: Planes, client: Client) -> None:
    planes.create_topic("t", [1], cleanup_policy="compact")
    async with Producer(client) as producer:
        await producer.send("t", b"no key")
        with pytest.raises(DeliveryFailed):
            await producer.flush()
        await producer.flush()
    with pytest.raises(DeliveryFailed):
        async with Producer(client) as producer:
            await producer.send("t", b"no key")


async def test_a_full_buffer_blocks_and_then_raises(planes: Planes, client: Client) -> None:
    planes.create_topic("t", [-1])
    producer = Producer(client, buffer_memory=1024 * 1024, max_block_ms=300, delivery_timeout_ms=6000)
    await producer.start()
    began = time.monotonic()
    taken = 0
    while producer.buffered_bytes < 950_000:
        await producer.send("t", b"x" * 100_000)
        taken += 1
    with pytest.raises(BufferFull, match="buffer_memory"):
        await producer.send("t", b"x" * 100_000)
    assert 0.25 < time.monotonic() - began < 5
    assert 5 <= taken <= 10
    # There is a leader: room comes free, nothing taken is lost.
    planes.lead(planes.image.names["t"], 0, 2)
    await producer.send("t", b"last")
    await producer.close()
    assert len(await read_all(client, "t", taken + 1)) == taken + 1


def hide(planes: Planes, node_ids: set[int]) -> None:
    """These nodes give out an address where nobody listens: clients have to go through another one."""
    planes.change(
        *(
            records.MetadataRecord(
                register_broker=records.RegisterBrokerRecord(
                    node_id=broker.node_id,
                    directory_id=broker.directory_id,
                    broker_epoch=broker.broker_epoch + 10,
                    client_address="127.0.0.1:1",
                    replication_address=broker.replication_address,
                    control_address=broker.control_address,
                )
            )
            for broker in planes.image.brokers.values()
            if broker.node_id in node_ids
        )
    )
    for node_id in node_ids:
        planes[node_id].set_broker_epoch(node_id + 10)
    planes.change(
        *(
            records.MetadataRecord(
                broker_change=records.BrokerChangeRecord(node_id=node_id, broker_epoch=node_id + 10, fenced=False)
            )
            for node_id in node_ids
        )
    )


@pytest.mark.parametrize("via", [1, 3])
async def test_one_reachable_node_is_enough(planes: Planes, via: int) -> None:
    planes.create_topic("t", [1, 2, 3])
    hide(planes, {1, 2, 3} - {via})
    async with Client(addresses(planes, via)) as client:
        async with Producer(client) as producer:
            for partition in range(3):
                for i in range(20):
                    await producer.send("t", b"%d" % i, partition=partition)
        assert await read_all(client, "t", 60) == [b"%d" % i for i in range(20)] * 3


@pytest.mark.parametrize("acks", ["all", 1])
async def test_leaders_that_move_lose_and_repeat_nothing(planes: Planes, client: Client, acks: str | int) -> None:
    topic_id = planes.create_topic("t", [1])
    async with Producer(client, batch_size=2000, linger_ms=1, acks=acks) as producer:  # type: ignore[arg-type]
        deliveries = []
        for i in range(3000):
            deliveries.append(await producer.send("t", b"%06d" % i))
            if i % 500 == 499 and i < 2999:  # what comes after the last move is not lost by one
                await asyncio.sleep(0.02)
                planes.lead(topic_id, 0, 1 + (i // 500 + 1) % 3)
        offsets = [(await delivery).offset for delivery in deliveries]
        if acks == "all":
            assert await read_all(client, "t", 3000) == [b"%06d" % i for i in range(3000)]
            assert offsets == list(range(3000))
            return
    # A leader's word alone may be lost with its office; but nothing is repeated, and the order stays.
    async with Consumer("t", bootstrap=client) as consumer:
        values = []
        while records_read := await consumer.poll(timeout_ms=1000):
            values += [int(record.value or b"") for record in records_read]
    assert len(values) > 1000
    assert values == sorted(set(values))
    assert values[-1] == 2999


async def test_acks_0_gets_there_without_an_answer(planes: Planes, client: Client) -> None:
    planes.create_topic("t", [1])
    async with Producer(client, acks=0) as producer:
        assert (await producer.send_and_wait("t", b"x")).offset == -1
    assert await read_all(client, "t", 1) == [b"x"]


async def test_two_producers_share_a_client(planes: Planes, client: Client) -> None:
    planes.create_topic("t", [1])
    async with Producer(client) as one, Producer(client) as two:
        await asyncio.gather(*(p.send_and_wait("t", b"x") for p in (one, two) for _ in range(10)))
    assert len(await read_all(client, "t", 20)) == 20


async def test_a_topic_created_anew_takes_records_again(planes: Planes, client: Client) -> None:
    topic_id = planes.create_topic("t", [1])
    async with Producer(client) as producer:
        await producer.send_and_wait("t", b"old")
        planes.change(records.MetadataRecord(remove_topic=records.RemoveTopicRecord(topic_id=topic_id)))
        await asyncio.sleep(0.2)
        with pytest.raises(UnknownTopic):
            await producer.send("t", b"to nobody")
        new_id = b"another topic id"
        planes.change(
            records.MetadataRecord(topic=records.TopicRecord(topic_id=new_id, name="t")),
            records.MetadataRecord(
                partition=records.PartitionRecord(
                    topic_id=new_id,
                    replicas=[2, 1, 3],
                    directories=[bytes([node]) * 16 for node in (2, 1, 3)],
                    isr=[1, 2, 3],
                    leader=2,
                )
            ),
        )
        assert (await producer.send_and_wait("t", b"new")).offset == 0
    async with Consumer(bootstrap=client) as consumer:
        await consumer.assign([TopicPartition("t", 0)])
        assert (await anext(consumer)).value == b"new"
