"""Clients while real node processes die: nothing acknowledged is lost, nothing is repeated, reading goes on."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ottla import Admin, Client, Consumer, Producer
from tests.cluster.harness import LocalCluster

pytestmark = pytest.mark.cluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path) as made:
        made.start().wait_ready()
        yield made


async def test_kill_9_of_leaders_under_load(cluster: LocalCluster) -> None:
    """The home node and a leader die in turn while records flow at a steady pace."""
    acknowledged: list[int] = []
    latencies: list[float] = []
    async with Client(cluster.bootstrap) as client:
        await Admin(client).create_topic("t", partitions=1, replication_factor=3)
        stop = asyncio.Event()
        seen: list[int] = []

        async def write() -> None:
            number = 0
            async with Producer(client, linger_ms=1) as producer:
                watchers = set()
                while not stop.is_set():
                    began = time.monotonic()
                    delivery = await producer.send("t", b"%d" % number)

                    async def watch(number: int = number, began: float = began, delivery=delivery) -> None:
                        await delivery
                        acknowledged.append(number)
                        latencies.append(time.monotonic() - began)

                    task = asyncio.create_task(watch())
                    watchers.add(task)
                    task.add_done_callback(watchers.discard)
                    number += 1
                    await asyncio.sleep(0.002)
                await asyncio.gather(*watchers)

        async def read() -> None:
            async with Consumer("t", bootstrap=client) as consumer:
                async for record in consumer:
                    seen.append(int(record.value or b""))  # noqa: PERF401

        writing, reading = asyncio.create_task(write()), asyncio.create_task(read())
        await asyncio.sleep(1)
        for _ in range(2):
            leader = await asyncio.to_thread(cluster.leader, "t")
            cluster[leader].kill()
            await asyncio.sleep(4)
            cluster[leader].start()
            await asyncio.to_thread(cluster.wait_ready, [leader])
            await asyncio.sleep(1)
        stop.set()
        await writing
        async with asyncio.timeout(20):
            while len(seen) < len(acknowledged):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        reading.cancel()
    assert len(acknowledged) > 1000
    assert sorted(acknowledged) == list(range(len(acknowledged)))
    assert seen == list(range(len(acknowledged)))
    print(f"longest wait for an acknowledgement {max(latencies):.3f} s of {len(latencies)}")
    assert max(latencies) < 5


async def test_a_frozen_home_node_is_left(cluster: LocalCluster) -> None:
    leader_elsewhere = None
    async with Client(cluster[1].address()) as client:
        await Admin(client).create_topic("t", partitions=3, replication_factor=3)
        leader_elsewhere = next(p.partition for p in client.view.topics["t"].partitions if p.leader_id != 1)
        async with Producer(client) as producer:
            await producer.send_and_wait("t", b"before", partition=leader_elsewhere)
            cluster[1].pause()
            began = time.monotonic()
            await producer.send_and_wait("t", b"after", partition=leader_elsewhere)
            waited = time.monotonic() - began
            for partition in range(3):
                await producer.send_and_wait("t", b"everywhere", partition=partition)
            assert await client.home() != cluster[1].address()
            cluster[1].resume()
    print(f"a write to another leader took {waited:.3f} s while the home node was frozen")
    assert waited < 8
