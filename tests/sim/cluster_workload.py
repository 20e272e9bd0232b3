"""What clients do in a run: the real Producer, Consumer and Admin in processes of their own, and what they saw.

Everything on topic `s` (strong: acks=all) goes into a history for the checker that real runs use too. `w` is written
with acks 0 and 1, `r` is trimmed and retained, `k` is compacted, `d` is deleted and made again and again.
"""

import asyncio
import logging
from collections import Counter, defaultdict
from random import Random
from typing import TYPE_CHECKING, Any, Final

from ottla.client.admin import Admin
from ottla.client.connection import Client
from ottla.client.consumer import Consumer
from ottla.client.errors import CorruptRecords, DeliveryFailed, LogTruncation, OttlaError
from ottla.client.producer import Producer
from ottla.v1.admin_pb2 import DeleteRecordsPartition, DeleteRecordsRequest
from ottla.v1.admin_pb2_grpc import AdminServiceStub
from ottla.v1.data_pb2 import TopicPartition
from ottla.verify.history import Operation
from tests.sim.cluster_loop import Process, SimLoop, Violation, World
from tests.sim.cluster_moves import Mover

if TYPE_CHECKING:
    from tests.sim.cluster_sim import ClusterSim

BOOTSTRAP: Final = "n1:9192,n2:9193,n3:9194"
GROUP: Final = "g"
PARTITIONS: Final = 2
RETENTION_MS: Final = 1_800_000
"""Of `s`: longer than any run, and shorter than a clock may jump."""


class ClientProcess(Process):
    """A client's process: one loop, killed and started again under another name."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self.loop: SimLoop | None = None

    def begin(self, work: Any) -> None:
        self.up = True
        self.incarnation += 1
        self.loop = self.make_loop("")
        task = self.loop.spawn(work, self.name)
        task.add_done_callback(self._over)

    def _over(self, task: "asyncio.Task[Any]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None and self.up:
            raise Violation(f"client {self.name} ended with {error!r}") from error


class _Bugs(logging.Handler):
    """Clients say of themselves at level ERROR only what must not happen."""

    def emit(self, record: logging.LogRecord) -> None:
        raise Violation(f"a client says: {record.getMessage()}") from (record.exc_info[1] if record.exc_info else None)


class Workload:
    """See the module. `stop_writing` ends producers and groups in order; `read_all` then reads every partition."""

    def __init__(self, sim: "ClusterSim", rng: Random) -> None:
        self.sim = sim
        self.rng = rng
        self.counts: Counter[str] = sim.counts
        self.history: list[Operation] = []
        self.delivered: dict[tuple[str, int], set[int]] = defaultdict(set)
        """What members of the group got, by partition of `s`."""
        self.acknowledged: dict[tuple[str, int], dict[int, bytes]] = defaultdict(dict)
        self.last_of_key: dict[bytes, int] = {}
        self.processes: dict[str, ClientProcess] = {}
        self.writing = True
        self.paused_until_ms = 0.0
        self.ending = False
        self.finals: dict[str, int] = {}
        self.unresolved: Counter[tuple[str, int]] = Counter()
        """Sends to a partition of `s` without an outcome, by process."""
        self._clock = 0
        self._values = 0
        self._names = 0
        self._work: dict[str, Any] = {}
        handler = _Bugs(logging.ERROR)
        for name in ("ottla.producer", "ottla.consumer", "ottla.client", "ottla.group"):
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate = [handler], False
            logger.setLevel(logging.ERROR)

    def close(self) -> None:
        for name in ("ottla.producer", "ottla.consumer", "ottla.client", "ottla.group"):
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate = [], True
            logger.setLevel(logging.NOTSET)

    # --- processes

    def start(self) -> None:
        plan = self.sim.swarm
        self._start("admin", self._admin)
        for number in range(plan.producers):
            self._start(f"p{number}", self._produce_strong)
        self._start("r0", self._read)
        for number in range(plan.members):
            self._start(f"m{number}", self._member)
        if "w" in plan.topics:
            self._start("pw", self._produce_weak)
        for topic in ("r", "k", "d"):
            if topic in plan.topics:
                self._start(f"p{topic}", lambda name, topic=topic: self._produce_other(name, topic))
        if "r" in plan.topics:
            self._start("rr", self._read_trimmed)
        if self.sim.moves:
            self._start("mover", Mover(self.sim, Random(f"{self.sim.seed} moves")).run)

    def _start(self, name: str, work: Any) -> None:
        process = self.processes.get(name)
        if process is None:
            process = self.processes[name] = ClientProcess(self.sim.world, name)
        self._work[name] = work
        process.begin(work(name))

    def kill(self, name: str) -> None:
        """A client dies, and another one takes its place."""
        process = self.processes[name]
        if not process.up:
            return
        process.end()
        for key in [key for key in self.unresolved if key[0].partition(".")[0] == name]:
            del self.unresolved[key]
        self.sim.net.process_ended(process, silent=False)
        if not self.ending:
            self.sim.world.scheduler.after(self.rng.uniform(50, 1000), self._again, name)

    def _again(self, name: str) -> None:
        if not self.processes[name].up and not self.ending:
            self._start(name, self._work[name])

    def sends_on_their_way(self, topic: str, partition: int) -> int:
        return sum(count for (_, number), count in self.unresolved.items() if topic == "s" and number == partition)

    def _new_name(self, name: str) -> str:
        self._names += 1
        return f"{name}.{self._names}"

    def _now(self) -> int:
        self._clock += 1
        return self._clock

    async def _sleep(self, mean_ms: float) -> None:
        await asyncio.sleep(self.rng.expovariate(1 / mean_ms) / 1000)

    async def _pause(self) -> None:
        if self.paused_until_ms > self.sim.world.now_ms and self.writing:
            await asyncio.sleep((self.paused_until_ms - self.sim.world.now_ms) / 1000)

    async def _forever(self) -> None:
        await asyncio.get_running_loop().create_future()

    # --- administration

    async def _admin(self, name: str) -> None:
        rng, plan = self.rng, self.sim.swarm
        configs = {"flush": plan.flush}
        fast = configs | {"segment.ms": "400"}
        async with (
            Client(BOOTSTRAP, connect_timeout_ms=60_000) as client,
            Admin(client, request_timeout_ms=4000) as admin,
        ):
            aged = {"retention.ms": str(RETENTION_MS)}
            await self._make(admin, "s", PARTITIONS, aged | (fast if plan.rolls else configs))
            if "w" in plan.topics:
                await self._make(admin, "w", 1, configs | {"min.insync.replicas": "1"})
            if "r" in plan.topics:
                await self._make(admin, "r", 1, fast | {"retention.bytes": "4000", "file.delete.delay.ms": "500"})
            if "k" in plan.topics:
                dirty = {"min.cleanable.dirty.ratio": "0.01", "max.compaction.lag.ms": "300"}
                await self._make(admin, "k", 1, fast | dirty | {"cleanup.policy": "compact"})
            while True:
                await self._sleep(1500)
                if not self.writing:
                    if self.ending:
                        return
                    continue
                if "d" in plan.topics:
                    await self._delete(admin, "d")
                    await self._sleep(200)
                    await self._make(admin, "d", 1, configs)
                if "r" in plan.topics and rng.random() < 0.5:
                    await self._delete_records(client)
                if plan.flips and rng.random() < 0.3:
                    await self._alter(admin, rng.choice(("ack", "replica")) if plan.flush == "replica" else "ack")

    async def _make(self, admin: Admin, name: str, partitions: int, configs: dict[str, str]) -> None:
        while True:
            try:
                await admin.create_topic(name, partitions=partitions, replication_factor=3, configs=configs)
            except OttlaError as error:
                if name in self.sim.log.image.names:
                    return
                self.counts[f"admin: {type(error).__name__}"] += 1
                await self._sleep(100)
            else:
                return

    async def _delete(self, admin: Admin, name: str) -> None:
        try:
            await admin.delete_topic(name)
            self.counts["topics deleted"] += 1
        except OttlaError as error:
            self.counts[f"admin: {type(error).__name__}"] += 1

    async def _alter(self, admin: Admin, flush: str) -> None:
        try:
            await admin.alter_topic_configs("s", {"flush": flush})
            self.counts["flush mode changed"] += 1
        except OttlaError as error:
            self.counts[f"admin: {type(error).__name__}"] += 1

    async def _delete_records(self, client: Client) -> None:
        where = DeleteRecordsPartition(partition=TopicPartition(topic="r", partition=0), before_offset=-1)
        request = DeleteRecordsRequest(partitions=[where], timeout_ms=1000)
        try:
            await client.on_any_node(lambda channel: AdminServiceStub(channel).DeleteRecords(request, timeout=2), 2000)
            self.counts["records deleted"] += 1
        except OttlaError as error:
            self.counts[f"admin: {type(error).__name__}"] += 1

    # --- writing

    def _producer(self, client: Client, **given: Any) -> Producer:
        plan = self.sim.swarm
        options = {
            "linger_ms": plan.linger_ms,
            "request_timeout_ms": plan.request_timeout_ms,
            "delivery_timeout_ms": plan.delivery_timeout_ms,
            "batch_size": plan.batch_size,
            "retry_backoff_max_ms": 300,
        }
        return Producer(client, **(options | given))

    async def _topic_is_there(self, client: Client, name: str) -> None:
        while name not in client.view.topics:
            await self._sleep(100)

    async def _produce_strong(self, name: str) -> None:
        rng, plan = self.rng, self.sim.swarm
        process = self._new_name(name)
        async with Client(BOOTSTRAP, connect_timeout_ms=60_000) as client:
            await self._topic_is_there(client, "s")
            async with self._producer(client) as producer:
                pending: set[asyncio.Task[None]] = set()
                while self.writing:
                    for _ in range(rng.choice((1, 1, 3, 8))):
                        partition = rng.randrange(PARTITIONS)
                        self._values += 1
                        value = f"{process}-{self._values}"
                        op = Operation(process, "send", self._now(), entries=[(f"s-{partition}", None, value)])
                        self.history.append(op)
                        try:
                            delivery = await producer.send("s", value, partition=partition)
                        except OttlaError as error:
                            op.outcome, op.end_ns, op.error = "fail", self._now(), str(error)
                            continue
                        task = asyncio.create_task(self._outcome(op, delivery, partition, value))
                        pending.add(task)
                        task.add_done_callback(pending.discard)
                    await self._sleep(plan.send_ms)
                    await self._pause()
                while pending:
                    await asyncio.wait(pending)
        self.finals[name] = 1
        await self._forever()

    async def _outcome(self, op: Operation, delivery: Any, partition: int, value: str) -> None:
        self.unresolved[op.process, partition] += 1
        try:
            metadata = await delivery
        except DeliveryFailed as error:
            op.outcome = "unknown" if error.maybe_written else "fail"
            op.error = str(error)
            self.counts[f"sends {op.outcome}"] += 1
        else:
            op.outcome = "ok"
            offset = metadata.offset if metadata.offset >= 0 else None
            op.entries = [(f"s-{partition}", offset, value)]
            self.counts["acknowledged"] += 1
            if metadata.duplicate:
                self.counts["rare: producers told of a repeated batch"] += 1
            if offset is not None:
                self.sim.invariants.acknowledged("s", partition, offset, value.encode())
                self.acknowledged["s", partition][offset] = value.encode()
        self.unresolved[op.process, partition] -= 1
        op.end_ns = self._now()

    async def _produce_weak(self, name: str) -> None:
        """acks 0 and 1: what was acknowledged may go, but nothing comes twice or in another order."""
        rng = self.rng
        async with Client(BOOTSTRAP, connect_timeout_ms=60_000) as client:
            await self._topic_is_there(client, "w")
            while self.writing:
                try:
                    async with self._producer(client, acks=rng.choice((0, 1))) as producer:
                        await self._send_weakly(producer, name)
                except OttlaError as error:  # its last flush says what failed unseen
                    self.counts[f"send on w: {type(error).__name__}"] += 1
        await self._forever()

    async def _send_weakly(self, producer: Producer, name: str) -> None:
        for _ in range(self.rng.randrange(10, 60)):
            if not self.writing:
                return
            self._values += 1
            await producer.send("w", f"{name}-{self._values}")
            self.counts["sent with acks 0 or 1"] += 1
            await self._sleep(self.sim.swarm.send_ms * 2)
            await self._pause()

    async def _produce_other(self, name: str, topic: str) -> None:
        async with Client(BOOTSTRAP, connect_timeout_ms=60_000) as client:
            try:
                async with self._producer(client) as producer:
                    while self.writing:
                        await self._sleep(self.sim.swarm.send_ms * 2)
                        await self._pause()
                        await self._send_other(producer, name, topic)
            except OttlaError as error:
                self.counts[f"send on {topic}: {type(error).__name__}"] += 1
        await self._forever()

    async def _send_other(self, producer: Producer, name: str, topic: str) -> None:
        self._values += 1
        key = f"k{self.rng.randrange(8)}".encode() if topic == "k" else None
        try:
            delivery = await producer.send(topic, f"{name}-{self._values}", key=key)
            if self.rng.random() < 0.3:
                await delivery
                self.counts[f"acknowledged on {topic}"] += 1
        except OttlaError as error:
            self.counts[f"send on {topic}: {type(error).__name__}"] += 1

    # --- reading

    async def _read(self, name: str) -> None:
        """Reads all of `s` in order, again from the beginning at times."""
        rng = self.rng
        async with Client(BOOTSTRAP, connect_timeout_ms=60_000) as client:
            await self._topic_is_there(client, "s")
            while not self.ending:
                process = self._new_name(name)
                async with Consumer(bootstrap=client, fetch_max_wait_ms=200, request_timeout_ms=1500) as consumer:
                    await consumer.assign([("s", p) for p in range(PARTITIONS)])
                    moved: list[str] = []
                    sought: set[int] = set()
                    for _ in range(rng.randrange(50, 400)):
                        if self.ending:
                            break
                        op = Operation(process, "poll", self._now(), moved=moved)
                        try:
                            records = await consumer.poll(max_records=rng.choice((1, 10, 500)), timeout_ms=300)
                        except OttlaError as error:
                            self._check_refusal(error)
                            break
                        self._polled(op, records)
                        for partition in list(sought):
                            first = next((r.offset for r in records if r.partition == partition), None)
                            if first is not None:
                                sought.discard(partition)
                                if first:
                                    raise Violation(f"a reader of s-{partition} sought offset 0 and got {first}")
                        if records:
                            moved = []
                        if rng.random() < 0.01:
                            partition = rng.randrange(PARTITIONS)
                            consumer.seek("s", partition, 0)
                            sought.add(partition)
                            moved = [*moved, f"s-{partition}"]
                        if rng.random() < 0.2:
                            await self._sleep(50)
        await self._forever()

    def _check_refusal(self, error: OttlaError) -> None:
        """A consumer of `s` may only be told of lost records where some were lost."""
        self.counts[f"reader: {type(error).__name__}"] += 1
        truths = [t for t in self.sim.invariants.truths.values() if t.name == "s"]
        if type(error).__name__ in ("LogTruncation", "OffsetOutOfRange") and not any(t.cuts for t in truths):
            raise Violation(f"a reader of s, which lost nothing, was told: {error}")

    def _polled(self, op: Operation, records: Any) -> None:
        op.end_ns, op.outcome = self._now(), "ok"
        if not records:
            return
        for record in records:
            self.sim.invariants.consumed(record.topic, record.partition, record.offset, record.value)
            op.entries.append((f"{record.topic}-{record.partition}", record.offset, record.value.decode()))
        self.counts["consumed"] += len(records)
        self.history.append(op)

    async def _read_trimmed(self, name: str) -> None:
        """Behind retention at times: it starts again where the log does."""
        async with Client(BOOTSTRAP, connect_timeout_ms=60_000) as client:
            await self._topic_is_there(client, "r")
            while not self.ending:
                async with Consumer("r", bootstrap=client, fetch_max_wait_ms=200, request_timeout_ms=1500) as consumer:
                    for _ in range(self.rng.randrange(5, 60)):
                        if self.ending:
                            break
                        try:
                            for record in await consumer.poll(max_records=20, timeout_ms=300):
                                self.sim.invariants.consumed("r", 0, record.offset, record.value)
                        except OttlaError as error:
                            self.counts[f"reader of r: {type(error).__name__}"] += 1
                            break
                        await self._sleep(300)
        await self._forever()

    # --- the group

    async def _member(self, name: str) -> None:
        rng = self.rng
        async with Client(BOOTSTRAP, connect_timeout_ms=60_000) as client:
            await self._topic_is_there(client, "s")
            while not self.ending:
                automatic = rng.random() < 0.6
                consumer = Consumer(
                    "s",
                    group=GROUP,
                    bootstrap=client,
                    session_timeout_ms=1500,
                    enable_auto_commit=automatic,
                    auto_commit_interval_ms=rng.choice((100, 400)),
                    fetch_max_wait_ms=200,
                    request_timeout_ms=1500,
                    group_instance_id=name if rng.random() < 0.2 else "",
                    assignor=rng.choice(("uniform", "range")),
                )
                try:
                    async with consumer:
                        await self._take_part(consumer, automatic, rng.randrange(20, 200))
                except OttlaError as error:
                    self.counts[f"member: {type(error).__name__}"] += 1
                    await self._sleep(50)
                self.counts["members left"] += 1
                await self._sleep(200)
        await self._forever()

    async def _take_part(self, consumer: Consumer, automatic: bool, polls: int) -> None:
        while not self.ending and (polls > 0 or not self.writing):
            polls -= 1
            try:
                records = await consumer.poll(max_records=20, timeout_ms=300)
            except LogTruncation as error:
                # As the error says: without that, every member in turn would be told of the group's old position.
                self._check_refusal(error)
                consumer.seek(error.topic, error.partition, error.safe_offset)
                continue
            for record in records:
                self.sim.invariants.consumed(record.topic, record.partition, record.offset, record.value)
                self.delivered[record.topic, record.partition].add(record.offset)
                self.counts["delivered to members"] += 1
            if self.rng.random() < 0.3:
                await self._sleep(40)
            if not automatic and self.rng.random() < 0.3:
                try:
                    await consumer.commit()
                    self.counts["commits"] += 1
                except OttlaError as error:
                    self.counts[f"commit: {type(error).__name__}"] += 1

    # --- the end

    def read_all(self) -> ClientProcess:
        """A last reader, from the beginning to the end of every partition of `s`."""
        process = ClientProcess(self.sim.world, "final")
        process.begin(self._read_all())
        return process

    async def _read_all(self) -> None:
        name = "final"
        async with Client(BOOTSTRAP, connect_timeout_ms=60_000) as client:
            async with Consumer(bootstrap=client, fetch_max_wait_ms=100, request_timeout_ms=1500) as consumer:
                await consumer.assign([("s", p) for p in range(PARTITIONS)])
                ends = {p: truth.end for p in range(PARTITIONS) if (truth := self.sim.invariants.by_name("s", p))}
                while any([await consumer.position("s", p) < end for p, end in ends.items()]):
                    op = Operation(name, "poll", self._now())
                    try:
                        self._polled(op, await consumer.poll(max_records=500, timeout_ms=300))
                    except CorruptRecords:  # of a leader whose rot no scrub has met yet: another one will lead
                        self.counts["rot met by a reader"] += 1
                        for p in ends:
                            consumer.seek("s", p, await consumer.position("s", p))
                        await self._sleep(200)
            self.finals["read"] = 1
