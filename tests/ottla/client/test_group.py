"""Groups against real node processes: who reads what, what is committed, who takes over when."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

import pytest

from ottla import (
    Admin,
    Client,
    ConfigError,
    Consumer,
    OttlaError,
    Producer,
    RebalanceListener,
    TopicPartition,
)
from ottla.v1 import error_pb2 as pb
from tests.cluster.harness import ROOT, LocalCluster

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path_factory.mktemp("groups")) as made:
        made.start().wait_ready()
        yield made


async def fill(client: Client, topic: str, values: range, partitions: int = 1) -> None:
    async with Producer(client) as producer:
        for value in values:
            await producer.send(topic, b"%d" % value, partition=value % partitions)


async def take(consumer: Consumer, count: int, timeout_s: float = 20) -> list[int]:
    async with asyncio.timeout(timeout_s):
        return [int((await anext(consumer)).value or b"") for _ in range(count)]


async def test_a_group_goes_on_where_it_stopped(cluster: LocalCluster) -> None:
    async with Client(cluster.bootstrap) as client:
        await Admin(client).create_topic("stops", partitions=1, replication_factor=3)
        await fill(client, "stops", range(10))
        async with Consumer("stops", group="stops", bootstrap=client) as consumer:
            assert await take(consumer, 4) == [0, 1, 2, 3]
        async with Consumer("stops", group="stops", bootstrap=client) as consumer:
            assert await consumer.committed("stops", 0) == 4
            assert await take(consumer, 3) == [4, 5, 6]
            await consumer.commit()
            assert await consumer.committed("stops", 0) == 7
        # A handler that fails has not processed its record: the next member gets it again.
        with pytest.raises(ZeroDivisionError):
            await fail_at_the_second(client)
        async with Consumer("stops", group="stops", bootstrap=client) as consumer:
            assert await take(consumer, 2) == [8, 9]
        async with Consumer("stops", group="another", bootstrap=client) as consumer:
            assert await take(consumer, 1) == [0]


async def fail_at_the_second(client: Client) -> None:
    async with Consumer("stops", group="stops", bootstrap=client) as consumer:
        assert await take(consumer, 2) == [7, 8]
        raise ZeroDivisionError


async def test_without_auto_commit_only_commit_counts(cluster: LocalCluster) -> None:
    async with Client(cluster.bootstrap) as client:
        await Admin(client).create_topic("manual", partitions=1, replication_factor=3)
        await fill(client, "manual", range(10))
        async with Consumer("manual", group="manual", bootstrap=client, enable_auto_commit=False) as consumer:
            assert await take(consumer, 5) == list(range(5))
            assert await consumer.committed("manual", 0) is None
            await consumer.commit({("manual", 0): 2})
        async with Consumer("manual", group="manual", bootstrap=client) as consumer:
            assert await take(consumer, 1) == [2]


async def test_members_share_and_a_leaver_is_replaced_at_once(cluster: LocalCluster) -> None:
    async with Client(cluster.bootstrap) as client:
        await Admin(client).create_topic("shared", partitions=4, replication_factor=3)
        await fill(client, "shared", range(400), partitions=4)
        seen: list[tuple[str, int]] = []

        async def read(name: str, consumer: Consumer) -> None:
            async for record in consumer:
                seen.append((name, int(record.value or b"")))  # noqa: PERF401

        one = Consumer("shared", group="shared", bootstrap=client)
        two = Consumer("shared", group="shared", bootstrap=client)
        await one.start()
        first = asyncio.create_task(read("one", one))
        async with asyncio.timeout(20):
            while len(seen) < 400:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await two.start()
        second = asyncio.create_task(read("two", two))
        async with asyncio.timeout(10):
            while len(two.assignment()) != 2 or len(one.assignment()) != 2:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert not set(one.assignment()) & set(two.assignment())
        await fill(client, "shared", range(400, 800), partitions=4)
        async with asyncio.timeout(20):
            while len(seen) < 800:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        # Nothing was read twice by the move: the first member committed what it gave back.
        assert sorted(value for _, value in seen) == list(range(800))
        assert {name for name, value in seen if value >= 400} == {"one", "two"}
        began = time.monotonic()
        await one.close()
        async with asyncio.timeout(10):
            while len(two.assignment()) != 4:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        took = time.monotonic() - began
        await fill(client, "shared", range(800, 900), partitions=4)
        async with asyncio.timeout(20):
            while len(seen) < 900:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert sorted(value for _, value in seen) == list(range(900))
        await two.close()
        await asyncio.gather(first, second)
        print(f"takeover after leaving took {took * 1000:.0f} ms")
        assert took < 8


class Listener(RebalanceListener):
    """Notes what it is told; `on_assigned` runs what a test wants done."""

    def __init__(self, on_assigned: Callable[[], None] = lambda: None) -> None:
        self.told: list[tuple[str, list[int]]] = []
        self._do = on_assigned

    def _note(self, what: str, partitions: Sequence[TopicPartition]) -> None:
        self.told.append((what, sorted(where.partition for where in partitions)))

    async def on_assigned(self, partitions: Sequence[TopicPartition]) -> None:
        self._note("assigned", partitions)
        await asyncio.sleep(0.05)
        self._do()

    async def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        self._note("revoked", partitions)

    async def on_lost(self, partitions: Sequence[TopicPartition]) -> None:
        self._note("lost", partitions)


async def test_a_listener_hears_of_every_move_before_it_counts(cluster: LocalCluster) -> None:
    async with Client(cluster.bootstrap) as client:
        await Admin(client).create_topic("heard", partitions=2, replication_factor=3)
        await fill(client, "heard", range(20), partitions=2)
        listener = Listener(lambda: [one.seek("heard", number, 7) for number in (0, 1)] and None)
        one = Consumer("heard", group="heard", bootstrap=client, rebalance_listener=listener)
        async with one:
            assert sorted(await take(one, 6)) == [14, 15, 16, 17, 18, 19], "what it sought in on_assigned"
            other = Listener()
            async with Consumer("heard", group="heard", bootstrap=client, rebalance_listener=other) as two:
                reading = asyncio.ensure_future(anext(one))  # the last record is done: its partition may go
                async with asyncio.timeout(20):
                    while not other.told:  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
                (gone,) = {where.partition for where in two.assignment()}
                assert listener.told == [("assigned", [0, 1]), ("revoked", [gone])]
                assert await two.committed("heard", gone) == 10, "committed after on_revoked"
                reading.cancel()
            assert other.told == [("assigned", [gone]), ("revoked", [gone])]


async def test_a_listener_that_fails_ends_the_iteration(cluster: LocalCluster) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    async with Client(cluster.bootstrap) as client:
        await Admin(client).create_topic("fails", partitions=1, replication_factor=3)
        await fill(client, "fails", range(3))
        async with Consumer("fails", group="fails", bootstrap=client, rebalance_listener=Listener(fail)) as consumer:
            with pytest.raises(OttlaError, match="ZeroDivisionError") as caught:
                await take(consumer, 1)
            assert isinstance(caught.value.__cause__, ZeroDivisionError)


MEMBER = """
import asyncio, sys
from ottla import Consumer

async def main(bootstrap, topic, session_timeout_ms):
    consumer = Consumer(
        topic, group=topic, bootstrap=bootstrap, session_timeout_ms=int(session_timeout_ms), auto_commit_interval_ms=50
    )
    async with consumer:
        async for record in consumer:
            print(record.partition, int(record.value), flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


@contextlib.asynccontextmanager
async def member_process(
    cluster: LocalCluster, topic: str, session_timeout_ms: int
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A member of group `topic` in a process of its own; prints partition and value of each record."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        MEMBER,
        cluster.bootstrap,
        topic,
        str(session_timeout_ms),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def printed(process: asyncio.subprocess.Process, count: int) -> list[tuple[int, int]]:
    assert process.stdout is not None
    lines = []
    async with asyncio.timeout(30):
        while len(lines) < count:
            partition, value = (await process.stdout.readline()).split()
            lines.append((int(partition), int(value)))
    return lines


async def test_a_killed_member_is_replaced_within_a_second(cluster: LocalCluster) -> None:
    async with Client(cluster.bootstrap) as client:
        await Admin(client).create_topic("killed", partitions=2, replication_factor=3)
        async with member_process(cluster, "killed", 10_000) as process:
            await fill(client, "killed", range(10), partitions=2)
            assert sorted(value for _, value in await printed(process, 10)) == list(range(10))
            await asyncio.sleep(0.5)  # it commits every 50 ms what it has asked beyond
            async with Consumer("killed", group="killed", bootstrap=client) as heir:
                async with asyncio.timeout(10):
                    while len(heir.assignment()) != 1:  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                process.kill()
                began = time.monotonic()
                async with asyncio.timeout(15):
                    while len(heir.assignment()) != 2:  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                took = time.monotonic() - began
                await fill(client, "killed", range(10, 20), partitions=2)
                got = await take(heir, 10)
        print(f"takeover after kill -9 took {took * 1000:.0f} ms")
        assert took < 8
        assert sorted(got) == list(range(10, 20))


async def test_a_frozen_member_loses_its_partitions_and_finds_out(cluster: LocalCluster) -> None:
    async with Client(cluster.bootstrap) as client:
        await Admin(client).create_topic("frozen", partitions=1, replication_factor=3)
        async with member_process(cluster, "frozen", 2_000) as process:
            await fill(client, "frozen", range(10))
            await printed(process, 10)
            await asyncio.sleep(0.5)
            process.send_signal(signal.SIGSTOP)
            began = time.monotonic()
            async with Consumer("frozen", group="frozen", bootstrap=client, session_timeout_ms=2_000) as heir:
                async with asyncio.timeout(30):
                    while not heir.assignment():  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
                took = time.monotonic() - began
                await fill(client, "frozen", range(10, 20))
                assert await take(heir, 10) == list(range(10, 20))
                await heir.commit()
                process.send_signal(signal.SIGCONT)
                await asyncio.sleep(1)
                # One partition, two members: one of them idles. Nothing is read twice, whoever it is.
                await fill(client, "frozen", range(20, 30))
                mine = await heir.poll(timeout_ms=3000)
                theirs = [] if mine else await printed(process, 10)
                assert [int(r.value or b"") for r in mine] + [value for _, value in theirs] == list(range(20, 30))
        print(f"takeover from a frozen member took {took:.1f} s")


async def test_the_coordinator_dies_and_nobody_notices(cluster: LocalCluster) -> None:
    async with Client(cluster.bootstrap) as client:
        await Admin(client).create_topic("moves", partitions=2, replication_factor=3)
        async with (
            Consumer("moves", group="moves", bootstrap=client) as consumer,
            Producer(client) as producer,
        ):
            for value in range(10):
                await producer.send("moves", b"%d" % value)
            assert sorted(await take(consumer, 10)) == list(range(10))
            await consumer.commit()
            for node_id in (1, 2, 3):
                await asyncio.to_thread(cluster[node_id].kill)
                for value in range(10 * node_id, 10 * node_id + 10):
                    await producer.send("moves", b"%d" % value)
                got = await take(consumer, 10, timeout_s=30)
                assert sorted(got) == list(range(10 * node_id, 10 * node_id + 10))
                await consumer.commit()
                cluster[node_id].start()
                await asyncio.to_thread(cluster.wait_ready, [node_id])


async def test_groups_are_listed_described_reset_and_deleted(cluster: LocalCluster) -> None:
    async with Client(cluster.bootstrap) as client:
        admin = Admin(client)
        await admin.create_topic("looked", partitions=2, replication_factor=3)
        await fill(client, "looked", range(20), partitions=2)
        async with Consumer("looked", group="looked", bootstrap=client, client_id="reader") as consumer:
            assert len(await take(consumer, 6)) == 6
            await consumer.commit()
            group = await admin.describe_group("looked")
            assert (group.state, group.assignor, len(group.members)) == ("stable", "uniform", 1)
            assert group.members[0].client_id == "reader"
            assert sorted(group.members[0].owned) == [("looked", 0), ("looked", 1)]
            assert sum(lag.lag_records or 0 for lag in group.partitions.values()) == 14
            with pytest.raises(OttlaError) as caught:
                await admin.reset_offsets("looked", offset=0)
            assert caught.value.code == pb.ERROR_CODE_NON_EMPTY_GROUP
            with pytest.raises(OttlaError) as caught:
                await admin.delete_group("looked")
            assert caught.value.code == pb.ERROR_CODE_NON_EMPTY_GROUP
        assert ("looked", "empty") in [(g.group_id, g.state) for g in await admin.list_groups()]
        # The group is empty by now: its lag is still told, by describe and by the coordinator's metrics.
        group = await admin.describe_group("looked")
        assert sum(lag.lag_records or 0 for lag in group.partitions.values()) == 20 - 6 - sum(
            10 for number in (0, 1) if ("looked", number) not in group.partitions
        )
        status, text = await asyncio.to_thread(cluster[group.coordinator_id].http, "/metrics", 5.0)
        assert status == 200
        scraped = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        for (topic, number), lag in group.partitions.items():
            labels = f'{{group="looked",partition="{number}",topic="{topic}"}}'
            assert float(scraped[f"ottla_group_lag_records{labels}"]) == lag.lag_records
            assert lag.lag_ms is not None
            assert abs(float(scraped[f"ottla_group_lag_seconds{labels}"]) - lag.lag_ms / 1000) < 5
        dry = await admin.reset_offsets("looked", [("looked", 0), ("looked", 1)], timestamp_ms=-1, validate_only=True)
        assert {moved.new_offset for moved in dry.values()} == {10}
        await admin.reset_offsets("looked", [("looked", 0), ("looked", 1)], offset=9)
        async with Consumer("looked", group="looked", bootstrap=client) as consumer:
            assert sorted(await take(consumer, 2)) == [18, 19]
        await admin.delete_group("looked")
        with pytest.raises(OttlaError) as caught:
            await admin.describe_group("looked")
        assert caught.value.code == pb.ERROR_CODE_GROUP_ID_NOT_FOUND
        with pytest.raises(ConfigError):
            await admin.reset_offsets("looked", offset=1, shift_by=1)


async def test_a_handler_that_blocks_the_loop_is_not_a_dead_member(cluster: LocalCluster) -> None:
    async with Client(cluster.bootstrap) as client:
        await Admin(client).create_topic("busy", partitions=1, replication_factor=3)
        await fill(client, "busy", range(10))
        async with Consumer("busy", group="busy", bootstrap=client, session_timeout_ms=1_000) as consumer:
            assert await take(consumer, 3) == [0, 1, 2]
            before = await Admin(client).describe_group("busy")
            time.sleep(4)  # noqa: ASYNC251 - the point of the test
            assert await take(consumer, 7) == list(range(3, 10))
            after = await Admin(client).describe_group("busy")
            assert after.group_epoch == before.group_epoch
            assert [m.member_id for m in after.members] == [m.member_id for m in before.members]


async def test_growth_and_new_topics_under_load_skip_nothing_whatever_the_policy(cluster: LocalCluster) -> None:
    """C22, C23: with `latest`, records written before a partition was discovered would be skipped (KIP-1327)."""
    async with Client(cluster.bootstrap) as client:
        admin = Admin(client)
        await admin.create_topic("grows", partitions=1, replication_factor=3)
        await fill(client, "grows", range(5))
        got: dict[TopicPartition, list[int]] = {}
        async with Consumer(
            topic_regex="grows.*", group="grows", bootstrap=client, auto_offset_reset="latest"
        ) as consumer:

            async def read() -> None:
                async for record in consumer:
                    got.setdefault(record.topic_partition, []).append(record.offset)

            reading = asyncio.create_task(read())
            async with asyncio.timeout(20):
                while not consumer.assignment():  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            assert await consumer.position("grows", 0) == 5, "what was there before is old"
            written: Counter[TopicPartition] = Counter()
            async with Producer(client) as producer:
                for step in range(120):
                    if step == 30:
                        await admin.create_partitions("grows", 4)
                    if step == 60:
                        await admin.create_topic("grows-too", partitions=2, replication_factor=3)
                    # At once, before any consumer has heard of them.
                    for topic, first, last in (("grows", 30, 4), ("grows-too", 60, 2)):
                        for number in range(last) if step >= first else range(1 if topic == "grows" else 0):
                            sent = await producer.send_and_wait(topic, b"%d" % step, partition=number)
                            written[TopicPartition(topic, number)] += 1
                            assert sent.partition == number
            async with asyncio.timeout(30):
                while sum(map(len, got.values())) < written.total():  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            reading.cancel()
        first = {where: 5 if where == ("grows", 0) else 0 for where in written}
        assert got == {where: list(range(first[where], first[where] + count)) for where, count in written.items()}
        assert len(written) == 6


async def test_misuse_is_named(cluster: LocalCluster) -> None:
    with pytest.raises(ConfigError):
        Consumer(group="g")
    with pytest.raises(ConfigError):
        Consumer("t", topic_regex="x")
    async with Client(cluster.bootstrap) as client:
        await Admin(client).create_topic("plain", partitions=1, replication_factor=3)
        async with Consumer("plain", group="plain", bootstrap=client) as consumer:
            with pytest.raises(ConfigError):
                await consumer.assign([("plain", 0)])
        async with Consumer("plain", bootstrap=client) as consumer:
            with pytest.raises(ConfigError):
                await consumer.commit()
