"""A client that is closed while others share it: they hear of it at once, whatever they wait for."""

import asyncio

import pytest

from ottla import Client, Closed, Consumer, DeliveryFailed, Producer
from tests.node.services.planes import Planes


@pytest.mark.parametrize("leader", [1, -1])
async def test_a_producer_hears_that_its_client_was_closed(planes: Planes, client: Client, leader: int) -> None:
    """Also while nobody leads its partition, so that no stream breaks."""
    planes.create_topic("t", [leader])
    producer = Producer(client)
    await producer.start()
    await producer.send("t", b"x")
    flushing = asyncio.create_task(producer.flush())
    await asyncio.sleep(0)
    await client.close()
    async with asyncio.timeout(10):
        await asyncio.gather(flushing, return_exceptions=True)
        with pytest.raises(Closed, match="client is closed"):
            await producer.send("t", b"y")
        await producer.close()
        await producer.close()


async def test_what_was_lost_with_the_client_is_told_by_close(planes: Planes, client: Client) -> None:
    planes.create_topic("t", [-1])

    async def block() -> None:
        async with Producer(client) as producer:
            await producer.send("t", b"x")
            await client.close()

    async with asyncio.timeout(10):
        with pytest.raises(DeliveryFailed, match="client is closed"):
            await block()


@pytest.mark.parametrize("cut", ["its client", "ottla-producer"])
async def test_a_producer_that_is_closing_hears_that_it_can_not(planes: Planes, client: Client, cut: str) -> None:
    planes.create_topic("t", [-1])
    producer = Producer(client)
    await producer.start()
    await producer.send("t", b"x")
    closing = asyncio.create_task(producer.close())
    await asyncio.sleep(0)
    for task in asyncio.all_tasks():
        if task.get_name() == cut:
            task.cancel()
    if cut == "its client":
        await client.close()
    async with asyncio.timeout(10):
        with pytest.raises(DeliveryFailed, match="has stopped"):
            await closing


async def test_a_consumer_of_nothing_hears_that_its_client_was_closed(client: Client) -> None:
    consumer = Consumer(bootstrap=client)
    await consumer.start()
    polling = asyncio.create_task(consumer.poll(timeout_ms=60_000))
    await asyncio.sleep(0)
    await client.close()
    async with asyncio.timeout(10):
        with pytest.raises(Closed, match="client is closed"):
            await polling
        await consumer.close()
        with pytest.raises(Closed):
            await consumer.assign([("t", 0)])
