"""What a kill -9 costs: `python -m bench.failover --kills 20`.

Three real nodes on loopback, a topic of six partitions with three replicas, and a producer of 1000 records of 1 KB
a second with acks=all. Node after node is killed and started again, whatever it leads. For each kill: the longest time
that any partition went without an acknowledgement. At the end every acknowledged record is read back, and the
nodes' logs must show one leader per partition and epoch. Exit code 0 only if nothing was lost or out of order.
"""

import argparse
import asyncio
import re
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final

from ottla import Admin, Consumer, Producer, TopicPartition
from ottla.client.producer import Delivery
from tests.cluster.harness import LocalCluster

TOPIC: Final = "failover"
PARTITIONS: Final = 6
RATE: Final = 1000
RECORD_BYTES: Final = 1000
WATCH_S: Final = 4.0
SETTLE_S: Final = 6.0
_LEADING: Final = re.compile(r"event=leading partition=(\S+) epoch=(\d+)")


@dataclass
class Ledger:
    """What was acknowledged when and where: (time, offset, number) per partition."""

    acknowledged: dict[int, list[tuple[float, int, int]]] = field(default_factory=lambda: defaultdict(list))
    failed: list[str] = field(default_factory=list)
    stopping: bool = False


async def write(bootstrap: str, ledger: Ledger) -> None:
    """Sends at a steady rate until told to stop; what the client's own time-out gives up is a failure."""
    async with Producer(bootstrap) as producer, asyncio.TaskGroup() as group:
        pending: asyncio.Queue[tuple[int, int, Delivery] | None] = asyncio.Queue(100_000)
        group.create_task(_note(pending, ledger))
        started, number = time.monotonic(), 0
        while not ledger.stopping:
            while number < (time.monotonic() - started) * RATE:
                value = f"{number:012d}".encode() + b"x" * (RECORD_BYTES - 12)
                delivery = await producer.send(TOPIC, value, partition=number % PARTITIONS)
                pending.put_nowait((number % PARTITIONS, number, delivery))
                number += 1
            await asyncio.sleep(0.002)
        await producer.flush()
        await pending.put(None)


async def _note(pending: "asyncio.Queue[tuple[int, int, Delivery] | None]", ledger: Ledger) -> None:
    """Deliveries of a partition become final in order, but partitions wait for each other no longer than a turn."""
    waiting: dict[int, list[tuple[int, Delivery]]] = defaultdict(list)
    ended = False
    while not ended or any(waiting.values()):
        await asyncio.sleep(0.002)
        while not pending.empty():
            item = pending.get_nowait()
            ended = item is None
            if item is not None:
                waiting[item[0]].append((item[1], item[2]))
        for partition, deliveries in waiting.items():
            done = 0
            for number, delivery in deliveries:
                if not delivery.done():
                    break
                done += 1
                try:
                    stored = await delivery
                    ledger.acknowledged[partition].append((time.monotonic(), stored.offset, number))
                except Exception as error:
                    ledger.failed.append(str(error))
            del deliveries[:done]


async def kill_and_watch(cluster: LocalCluster, victim: int, ledger: Ledger) -> tuple[float, bool]:
    """Kills a node, starts it again, and returns (the longest pause of a partition in s, whether it was controller)."""
    observer = victim % len(cluster.nodes) + 1
    controller = cluster.metadata(observer).controller_id
    at = time.monotonic()
    cluster[victim].kill()
    await asyncio.sleep(WATCH_S / 2)
    cluster[victim].start()
    await asyncio.sleep(WATCH_S / 2)
    worst = 0.0
    for acknowledged in list(ledger.acknowledged.values()):
        before = [t for t, _, _ in acknowledged if t <= at][-1:]
        after = [t for t, _, _ in acknowledged if t > at]
        worst = max(worst, max((b - a for a, b in pairwise([*before, *after, time.monotonic()])), default=0.0))
    await asyncio.to_thread(cluster.wait_ready)
    await asyncio.sleep(SETTLE_S)
    return worst, controller == victim


async def read_back(bootstrap: str, ledger: Ledger) -> list[str]:
    """Every acknowledged record must be at its offset, no number twice and none before an earlier one."""
    problems: list[str] = []
    async with Admin(bootstrap) as admin:
        places = [TopicPartition(TOPIC, p) for p in range(PARTITIONS)]
        ends = await admin.list_offsets(dict.fromkeys(places, -1))
    found: dict[int, dict[int, int]] = defaultdict(dict)
    left = {place: end for place, end in ends.items() if end}
    async with Consumer(bootstrap=bootstrap) as consumer:
        await consumer.assign(list(left))
        async for record in consumer:
            found[record.partition][record.offset] = int((record.value or b"")[:12])
            place = TopicPartition(TOPIC, record.partition)
            if record.offset + 1 >= left.get(place, 0):
                left.pop(place, None)
            if not left:
                break
    for partition, acknowledged in ledger.acknowledged.items():
        numbers = [number for _, number in sorted(found[partition].items())]
        if numbers != sorted(set(numbers)):
            problems.append(f"partition {partition}: duplicates or disorder")
        lost = [number for _, offset, number in acknowledged if found[partition].get(offset) != number]
        if lost:
            problems.append(f"partition {partition}: {len(lost)} acknowledged records lost, first {lost[0]}")
    return problems


def leaders_per_epoch(cluster: LocalCluster) -> list[str]:
    """Where the nodes' logs show two leaders of one partition in one epoch."""
    leaders: dict[tuple[str, str], set[int]] = defaultdict(set)
    for node_id, node in cluster.nodes.items():
        for partition, epoch in _LEADING.findall(node.log()):
            leaders[partition, epoch].add(node_id)
    return [f"{partition} epoch {epoch}: {who}" for (partition, epoch), who in leaders.items() if len(who) > 1]


async def run(kills: int) -> int:
    with tempfile.TemporaryDirectory() as scratch, LocalCluster(Path(scratch)) as cluster:
        cluster.start().wait_ready()
        cluster.create_topic(TOPIC, PARTITIONS, 3)
        ledger = Ledger()
        gaps: list[tuple[float, bool]] = []
        async with asyncio.TaskGroup() as group:
            group.create_task(write(cluster.bootstrap, ledger))
            await asyncio.sleep(3)
            for number in range(kills):
                victim = number % len(cluster.nodes) + 1
                gap, controller = await kill_and_watch(cluster, victim, ledger)
                gaps.append((gap, controller))
                print(
                    f"kill {number + 1:3}: node {victim}{' (controller)' if controller else ''}: {gap * 1000:.0f} ms",
                    file=sys.stderr,
                )
            ledger.stopping = True
        problems = await read_back(cluster.bootstrap, ledger) + leaders_per_epoch(cluster) + ledger.failed
        milliseconds = sorted(gap * 1000 for gap, _ in gaps)
        total = sum(map(len, ledger.acknowledged.values()))
        print(f"{kills} kills, {sum(c for _, c in gaps)} of the active controller; {total} records acknowledged")
        print(f"write gap: median {statistics.median(milliseconds):.0f} ms, longest {milliseconds[-1]:.0f} ms")
        print("problems: " + ("; ".join(problems[:5]) if problems else "none lost, none twice, one leader per epoch"))
        return 1 if problems else 0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.failover", description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    sys.exit(asyncio.run(run(parser.parse_args().kills)))


if __name__ == "__main__":
    main()
