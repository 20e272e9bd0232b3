"""What groups and idempotent producers promise, measured on real processes; prints the figures of docs/reliability.md.

`pytest -m long tests/cluster/test_group_promises.py -rP`, about ten minutes on a quiet machine.
"""

import asyncio
import itertools
import random
import re
import signal
import time
from collections import Counter, deque
from collections.abc import AsyncIterator

import grpc
import pytest

import ottla.testing
from ottla import Admin, Client, Consumer, Delivery, Producer
from ottla.v1 import data_pb2, group_pb2, group_pb2_grpc
from tests.cluster.group_members import members, until

pytestmark = [pytest.mark.long, pytest.mark.cluster, pytest.mark.timeout(600)]

KILLS = 50
LEADER_KILLS = 100
BACKLOG = 120
"""Records that wait for their acknowledgement: five batches of some eight on their way, and as many behind them."""
LAG_LINE = re.compile(r'^ottla_group_lag_seconds\{[^}]*partition="(\d+)"[^}]*\} (\S+)$', re.MULTILINE)


@pytest.fixture
async def cluster() -> AsyncIterator[ottla.testing.Cluster]:
    async with ottla.testing.cluster(3) as made:
        yield made


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


async def create(cluster: ottla.testing.Cluster, topic: str, partitions: int) -> None:
    async with Admin(cluster.bootstrap) as admin:
        await admin.create_topic(topic, partitions=partitions, replication_factor=3)


async def write_until(
    stop: asyncio.Event, cluster: ottla.testing.Cluster, topic: str, partitions: int, pause_s: float
) -> Counter[int]:
    """Writes to all partitions in turn; answers how many records each got."""
    written: Counter[int] = Counter()
    pending: deque[Delivery] = deque()
    turn = itertools.cycle(range(partitions))
    async with Producer(cluster.bootstrap) as producer:
        while not stop.is_set():
            pending.append(await producer.send(topic, b"x", partition=next(turn)))
            await asyncio.sleep(pause_s)
            while pending and pending[0].done():
                written[(await pending.popleft()).partition] += 1
        for delivery in pending:
            written[(await delivery).partition] += 1
    return written


async def test_a_killed_consumer_s_partitions_have_owners_within_a_second(cluster: ottla.testing.Cluster) -> None:
    partitions = 12
    await create(cluster, "killed", partitions)
    took: list[float] = []
    rng = random.Random(1)
    async with members(cluster.bootstrap, "killed", "killed") as group:
        living = [await group.join() for _ in range(3)]
        await until(lambda: group.even(partitions, 3))
        for _ in range(KILLS):
            spare = await group.spawn()
            await until(lambda spare=spare: spare.ready)
            victim = living.pop(rng.randrange(len(living)))
            victim.kill()
            took.append(await until(lambda: group.share(partitions)))
            spare.tell()
            living.append(spare)
            await until(lambda: group.even(partitions, 3))
            await victim.close()
            group.all.remove(victim)
    print(
        f"kill -9 of a consumer, {KILLS} times: all its partitions owned again after p50 {percentile(took, 0.5):.2f}, "
        f"p99 {percentile(took, 0.99):.2f}, max {max(took):.2f} s"
    )
    assert percentile(took, 0.99) < 1


async def test_a_member_that_blocks_its_loop_for_a_minute_keeps_its_partitions(cluster: ottla.testing.Cluster) -> None:
    await create(cluster, "blocked", 4)
    stop = asyncio.Event()
    async with members(cluster.bootstrap, "blocked", "blocked") as group, Admin(cluster.bootstrap) as admin:
        one, two = await group.join(), await group.join()
        await until(lambda: group.even(4, 2))
        writing = asyncio.create_task(write_until(stop, cluster, "blocked", 4, 0.02))
        await until(lambda: bool(one.read and two.read))
        before = await admin.describe_group("blocked")
        moves = len(one.moves), len(two.moves)
        one.tell("block 60")
        await until(lambda: bool(one.said), timeout_s=90)
        await asyncio.sleep(1)
        stop.set()
        written = await writing
        await until(lambda: len({*one.read, *two.read}) == written.total())
        after = await admin.describe_group("blocked")
        assert (len(one.moves), len(two.moves)) == moves, "no rebalance"
        assert after.group_epoch == before.group_epoch
        reads = Counter([*one.read, *two.read])
        assert set(reads) == {(p, o) for p, count in written.items() for o in range(count)}
        assert set(reads.values()) == {1}
        print(
            f"a consumer that blocked its event loop for 60 s (session time-out 10 s): 0 rebalances, {written.total()} "
            "records written meanwhile, all read, none twice"
        )


async def test_a_hundred_partitions_are_reassigned_within_a_second(cluster: ottla.testing.Cluster) -> None:
    partitions = 100
    await create(cluster, "hundred", partitions)
    joins: list[float] = []
    leaves: list[float] = []
    moved: list[int] = []

    async with Client(cluster.bootstrap) as client:
        consumers = [Consumer("hundred", group="hundred", bootstrap=client) for _ in range(10)]
        readers = []

        def even(count: int) -> bool:
            owned = [where for consumer in consumers for where in consumer.assignment()]
            sizes = [len(consumer.assignment()) for consumer in consumers]
            return len(owned) == len(set(owned)) == partitions and len(sizes) == count and max(sizes) - min(sizes) <= 1

        for consumer in consumers:
            await consumer.start()
            readers.append(asyncio.create_task(drain(consumer)))
        await until(lambda: even(10))
        for _ in range(10):
            before = {where: consumer for consumer in consumers for where in consumer.assignment()}
            eleventh = Consumer("hundred", group="hundred", bootstrap=client)
            consumers.append(eleventh)
            began = time.monotonic()
            await eleventh.start()
            reader = asyncio.create_task(drain(eleventh))
            await until(lambda: even(11))
            joins.append(time.monotonic() - began)
            now = {where: consumer for consumer in consumers for where in consumer.assignment()}
            moved.append(sum(before[where] is not now[where] for where in before))
            consumers.remove(eleventh)
            began = time.monotonic()
            await eleventh.close()
            await until(lambda: even(10))
            leaves.append(time.monotonic() - began)
            await reader
        await asyncio.gather(*(consumer.close() for consumer in consumers))
        await asyncio.gather(*readers)
    print(
        f"100 partitions, 10 consumers: the 11th owns its share after p50 {percentile(joins, 0.5):.2f}, max "
        f"{max(joins):.2f} s, {sorted(set(moved))} partitions move; after its leaving the others have all after p50 "
        f"{percentile(leaves, 0.5):.2f}, max {max(leaves):.2f} s (10 times)"
    )
    assert max(moved) <= 10
    assert max(joins) < 1
    assert max(leaves) < 1


async def drain(consumer: Consumer) -> None:
    async for _ in consumer:
        pass


async def test_more_consumers_than_partitions_leave_the_rest_idle(cluster: ottla.testing.Cluster) -> None:
    await create(cluster, "few", 2)
    async with members(cluster.bootstrap, "few", "few") as group:
        for _ in range(4):
            await group.join()
        await until(lambda: group.even(2, 2))
        await asyncio.sleep(1)
        assert sorted(len(member.owned) for member in group.all) == [0, 0, 1, 1]
        busy = next(member for member in group.all if member.owned)
        busy.tell("leave")
        took = await until(lambda: busy.process.returncode is not None and group.even(2, 2))
        print(
            f"4 consumers of 2 partitions: 2 idle; one of them stepped in {took:.2f} s after a busy one was told to go"
        )


async def test_a_rolling_restart_moves_nothing_between_the_living(cluster: ottla.testing.Cluster) -> None:
    partitions = 12
    await create(cluster, "rolled", partitions)
    stop = asyncio.Event()
    async with members(cluster.bootstrap, "rolled", "rolled") as group:
        for _ in range(4):
            await group.join()
        await until(lambda: group.even(partitions, 4))
        writing = asyncio.create_task(write_until(stop, cluster, "rolled", partitions, 0.005))
        await until(lambda: all(member.read for member in group.all))
        before = [(len(member.moves), member.owned) for member in group.all]
        for node_id in cluster.nodes:
            await cluster.restart(node_id)
            await asyncio.sleep(2)
        stop.set()
        written = await writing
        await until(lambda: len({at for member in group.all for at in member.read}) == written.total())
        assert [(len(member.moves), member.owned) for member in group.all] == before
        reads = Counter(at for member in group.all for at in member.read)
        assert set(reads.values()) == {1}, "nothing moved, so nothing is read twice"
        print(
            f"rolling restart of 3 nodes under load: {written.total()} records, 0 partitions moved between "
            "4 consumers, 0 records skipped, 0 read twice"
        )


async def test_a_zombie_cannot_commit_and_learns_it(cluster: ottla.testing.Cluster) -> None:
    await create(cluster, "zombie", 2)
    settings = {"session_timeout_ms": 3_000, "enable_auto_commit": False}
    async with members(cluster.bootstrap, "zombie", "zombie", **settings) as group, Admin(cluster.bootstrap) as admin:
        one, two = await group.join(), await group.join()
        await until(lambda: group.even(2, 2))
        (mine,) = one.owned
        one.process.send_signal(signal.SIGSTOP)
        frozen = one.owned
        took = await until(lambda: len(two.owned) == 2)
        two.tell(f"commit {mine} 7")
        await until(lambda: bool(two.said))
        assert two.said[0] == {"committed": True}
        one.tell(f"commit {mine} 3")
        began = time.monotonic()
        one.process.send_signal(signal.SIGCONT)
        await until(lambda: bool(one.said))
        assert one.said[0]["committed"] is False
        await until(lambda: one.owned != frozen)
        learned = time.monotonic() - began
        assert one.moves[-1][1] == "lost" or any(why == "lost" for _, why, _ in one.moves)
        group_now = await admin.describe_group("zombie")
        assert group_now.partitions["zombie", mine].committed_offset == 7
        print(
            f"a frozen consumer (SIGSTOP) was replaced after {took:.1f} s; let go, its commit was refused "
            f"({one.said[0]['error']}), and it knew {learned:.2f} s later that its partitions are another's"
        )


async def test_leader_kills_with_five_batches_in_flight_repeat_lose_and_reorder_nothing(
    cluster: ottla.testing.Cluster,
) -> None:
    await create(cluster, "chaos", 1)
    sent = 0
    stop = asyncio.Event()
    pending: deque[Delivery] = deque()
    offsets: list[int] = []

    async def write() -> None:
        nonlocal sent
        async with Producer(cluster.bootstrap, linger_ms=0, batch_size=2048) as producer:
            while not stop.is_set():
                while len(pending) < BACKLOG:
                    pending.append(await producer.send("chaos", b"%08d" % sent + b"." * 200))
                    sent += 1
                offsets.append((await pending.popleft()).offset)
            while pending:
                offsets.append((await pending.popleft()).offset)

    writing = asyncio.create_task(write())
    gaps: list[float] = []
    for _ in range(LEADER_KILLS):
        victim = await cluster.leader("chaos")
        done = len(offsets)
        cluster.kill(victim)
        gaps.append(await until(lambda done=done: len(offsets) > done + BACKLOG))
        await cluster.start(victim)
        async with Admin(cluster.bootstrap) as admin, asyncio.timeout(30):
            while len((await admin.describe_topic("chaos")).partitions[0].isr) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    stop.set()
    await writing
    values: list[int] = []
    async with Consumer("chaos", bootstrap=cluster.bootstrap) as consumer:
        async with asyncio.timeout(120):
            while len(values) < sent:
                values += [int((record.value or b"")[:8]) for record in await consumer.poll()]
            values += [int((record.value or b"")[:8]) for record in await consumer.poll(timeout_ms=1000)]
    duplicates = len(values) - len(set(values))
    missing = len(set(range(sent)) - set(values))
    reordered = sum(later < earlier for earlier, later in itertools.pairwise(values))
    print(
        f"{LEADER_KILLS} kills of the leader with five batches in flight: {sent} records, {duplicates} duplicates, "
        f"{missing} missing, {reordered} out of order; acknowledgements went on after p50 {percentile(gaps, 0.5):.2f}, "
        f"max {max(gaps):.2f} s"
    )
    assert (duplicates, missing, reordered) == (0, 0, 0)
    assert offsets == list(range(sent)), "each is where its acknowledgement says"


async def lags(node: ottla.testing.Node) -> dict[int, float]:
    """What a scrape shows: seconds by partition."""
    status, body = await node.http("/metrics")
    assert status == 200
    return {int(partition): float(seconds) for partition, seconds in LAG_LINE.findall(body)}


async def test_the_lag_of_a_thousand_partitions_is_true_and_scraped_at_once(cluster: ottla.testing.Cluster) -> None:
    partitions, looks = 1_000, 10
    await create(cluster, "wide", partitions)
    written_at: dict[int, float] = {}
    async with Producer(cluster.bootstrap) as producer:
        waiting = []
        for number in range(partitions):
            written_at[number] = time.time()
            waiting.append(await producer.send("wide", b"x", partition=number))
        for delivery in waiting:
            await delivery
    positions = [
        group_pb2.OffsetCommit(partition=data_pb2.TopicPartition(topic="wide", partition=number), offset=0)
        for number in range(partitions)
    ]
    async with grpc.aio.insecure_channel(cluster[1].address) as channel:
        request = group_pb2.CommitOffsetsRequest(group_id="behind", offsets=positions)
        answer = await group_pb2_grpc.GroupServiceStub(channel).CommitOffsets(request)
        assert not answer.error.code
    async with Admin(cluster.bootstrap) as admin:
        coordinator = cluster[(await admin.describe_group("behind")).coordinator_id]
    took, wrong = [], []
    for _ in range(looks):
        await asyncio.sleep(1)
        began = time.monotonic()
        shown = await lags(coordinator)
        took.append(time.monotonic() - began)
        now = time.time()
        assert len(shown) == partitions
        wrong.append(max(abs(now - written_at[number] - seconds) for number, seconds in shown.items()))
    print(
        f"lag of {partitions} partitions in /metrics, {looks} scrapes: {1000 * percentile(took, 0.5):.0f} ms (median),"
        f" {1000 * max(took):.0f} ms at most; off by {max(wrong):.2f} s at most"
    )
    assert max(wrong) < 1
    assert percentile(took, 0.5) < 0.2
