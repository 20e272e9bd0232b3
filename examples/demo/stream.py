"""The demo's stream: a producer, a consumer and a kill in the middle, on one event loop.

The nodes are processes, and so are the consumers of a group beside it.
"""

import asyncio
import time
from collections.abc import Iterable
from typing import Final

from examples.demo.flights import Event, number_of
from examples.demo.group import Group
from examples.demo.ledger import Ledger
from examples.demo.report import Health, Kill
from examples.demo.screen import Screen
from examples.demo.shares import GroupVerdict
from ottla import Admin, Consumer, Delivery, Producer
from ottla.cli.failure import Failure
from ottla.cli.local import LocalCluster, LocalNode
from ottla.protocol.partitioner import partition_for_key

TOPIC: Final = "flights"
PARTITIONS: Final = 6
REPLICAS: Final = 3
CONFIGS: Final = {"min.insync.replicas": "2"}
# Where in the stream the kill comes, and how long the node stays down.
KILL_AT: Final = 0.3
DOWN_S: Final = 3.0
# Without any progress for so long the demo gives up.
PATIENCE_S: Final = 60.0
LATEST: Final = -1
_SHOW_EVERY_S: Final = 0.1
_POLL_MS: Final = 100
# Events sent before the other tasks get their turn even if nothing has to be waited for.
_TURN: Final = 200


class Stream:
    """Runs once. `ledger`, `kill` and `group` are the result."""

    def __init__(self, cluster: LocalCluster, total: int, screen: Screen) -> None:
        self._cluster = cluster
        self._total = total
        self._screen = screen
        self._mid_stream = asyncio.Event()
        self._produced = False
        self.ledger = Ledger(total, PARTITIONS)
        self.kill: Kill | None = None
        self.group: GroupVerdict | None = None
        self.consumer_killed = 0

    @property
    def _complete(self) -> bool:
        return self._produced and self.ledger.read >= self.ledger.acknowledged

    async def run(self, events: Iterable[Event]) -> Health:
        """Creates the topic, streams, kills, reads to the end, waits until the cluster is whole. Raises Failure."""
        async with Admin(self._cluster.bootstrap) as admin:
            await admin.create_topic(TOPIC, partitions=PARTITIONS, replication_factor=REPLICAS, configs=CONFIGS)
            self._screen.say(f"topic {TOPIC}: {PARTITIONS} partitions, {REPLICAS} replicas each, 2 must be in sync")
            async with self._group() as group:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._watch())
                    tasks.create_task(self._read())
                    tasks.create_task(self._strike(admin))
                    tasks.create_task(group.strike())
                    tasks.create_task(self._produce(events))
                health = await self._whole_again(admin)
                ends = await admin.list_offsets({(TOPIC, number): LATEST for number in range(PARTITIONS)})
                self.group = await group.finish([end or 0 for _, end in sorted(ends.items())])
                self.consumer_killed = group.victim
            return health

    def _group(self) -> Group:
        cluster = self._cluster
        return Group(cluster.bootstrap, TOPIC, PARTITIONS, self._total, self._screen, cluster.directory)

    async def _produce(self, events: Iterable[Event]) -> None:
        """Sends everything with acks=all; `send` waits by itself when too much is unacknowledged."""
        # A queue for each partition: acknowledgements come in order there, and one without a leader holds up no other.
        queues: list[asyncio.Queue[tuple[int, Delivery] | None]] = [asyncio.Queue() for _ in range(PARTITIONS)]
        async with Producer(self._cluster.bootstrap, acks="all") as producer, asyncio.TaskGroup() as tasks:
            for queue in queues:
                tasks.create_task(self._note_acknowledgements(queue))
            for event in events:
                self.ledger.on_sent(event.number, event.value)
                delivery = await producer.send(TOPIC, event.value, key=event.key)
                queues[partition_for_key(event.key, PARTITIONS)].put_nowait((event.number, delivery))
                if event.number % _TURN == 0:
                    await asyncio.sleep(0)
            await producer.flush()
            for queue in queues:
                queue.put_nowait(None)
        self._produced = True

    async def _note_acknowledgements(self, queue: "asyncio.Queue[tuple[int, Delivery] | None]") -> None:
        while (item := await queue.get()) is not None:
            number, delivery = item
            stored = await delivery
            self.ledger.on_acknowledged(number, stored.partition, stored.offset, time.monotonic())
            if self.ledger.acknowledged >= KILL_AT * self._total:
                self._mid_stream.set()

    async def _read(self) -> None:
        """Reads until everything that was acknowledged was read. Duplicates are counted as they come."""
        async with Consumer(TOPIC, bootstrap=self._cluster.bootstrap) as consumer:
            # Not `async for`: the last record may be read before its acknowledgement is noted.
            while not self._complete:
                for record in await consumer.poll(timeout_ms=_POLL_MS):
                    value = record.value or b""
                    self.ledger.on_read(number_of(value), record.partition, record.offset, value)

    async def _strike(self, admin: Admin) -> None:
        """Kills the leader of partition 0 in mid-stream, and starts it again."""
        await self._mid_stream.wait()
        topic = await admin.describe_topic(TOPIC)
        victim = next(node for node in self._cluster.nodes if node.node_id == topic.partitions[0].leader_id)
        led = ", ".join(str(p.partition) for p in topic.partitions if p.leader_id == victim.node_id)
        killed_s = time.monotonic()
        self._cluster.kill(victim)
        self._screen.say(f"kill -9 node {victim.node_id}, the leader of partitions {led}")
        await asyncio.sleep(DOWN_S)
        self._screen.say(f"starting node {victim.node_id} again: {victim.command}")
        self._cluster.start_node(victim)
        took_s = await self._ready(victim)
        self._screen.say(f"node {victim.node_id} is back, {took_s:.1f} s after its start")
        self.kill = Kill(victim.node_id, killed_s, took_s)

    async def _ready(self, node: LocalNode) -> float:
        """Seconds until the node is ready. Raises Failure if it ends or takes too long."""
        started_s = time.monotonic()
        while not await asyncio.to_thread(node.ready):
            if not node.running or time.monotonic() - started_s > PATIENCE_S:
                message = f"node {node.node_id} is not ready after its start: it {node.state}"
                raise Failure("NODE_FAILED", message, f"look into {node.log}")
            await asyncio.sleep(0.05)
        return time.monotonic() - started_s

    async def _watch(self) -> None:
        """Shows progress; raises Failure when there is none for a minute. Ends when all is read."""
        seen, changed_s = (0, 0, 0), time.monotonic()
        while not self._complete:
            self._screen.show(self.ledger)
            now = (self.ledger.sent, self.ledger.acknowledged, self.ledger.read)
            if now != seen:
                seen, changed_s = now, time.monotonic()
            elif time.monotonic() - changed_s > PATIENCE_S:
                raise Failure("REQUEST_TIMED_OUT", f"no progress for {PATIENCE_S:.0f} s", "look into the nodes' logs")
            await asyncio.sleep(_SHOW_EVERY_S)
        self._screen.show(self.ledger)

    async def _whole_again(self, admin: Admin) -> Health:
        """The cluster once every node is up and every replica in sync, or as it is when patience ends."""
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            topic = await admin.describe_topic(TOPIC)
            brokers = (await admin.describe_cluster()).brokers.values()
            health = Health(
                nodes_up=sum(not broker.fenced for broker in brokers),
                nodes=len(self._cluster.nodes),
                partitions_in_sync=sum(len(p.isr) == REPLICAS for p in topic.partitions),
                partitions=PARTITIONS,
            )
            if health.ok or time.monotonic() > deadline_s:
                return health
            await asyncio.sleep(0.2)
