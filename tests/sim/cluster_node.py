"""One node of the simulated cluster: the real partition, replica rules and log, on a disk that forgets.

What is not here runs elsewhere: the quorum is a list in `cluster_sim`, the transport is the fake net. Messages are the
protobuf classes of the real one; a fetch is answered at once, and asked again after a moment if there was no news.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

from node.broker.partition import Partition
from node.broker.replica import IsrChange, Refusal
from node.broker.settings import topic_settings
from node.metadata.image import NO_LEADER, Delta, Image
from ottla.internal.v1 import controller_pb2 as rpc
from ottla.internal.v1.replication_pb2 import ReplicaFetchPartition
from ottla.internal.v1.view_pb2 import RecordBatchView
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb
from ottla.v1.record_pb2 import Record, Records
from storage.log import Log
from tests.sim.scheduler import Scheduler
from tests.storage.forgetful import ForgetfulFileSystem

HEARTBEAT_MS = 100
SESSION_MS = 600
LAG_MS = 400
RPC_RETRY_MS = 150
WALL_MS = 1_700_000_000_000
PAYLOAD = Records(records=[Record(value=b"v")]).SerializeToString()


@dataclass
class Fetch:
    ask: int
    broker_epoch: int
    wanted: ReplicaFetchPartition


@dataclass
class FetchAnswer:
    ask: int
    leader_epoch: int = -1
    data: bytes = b""
    high_watermark: int = 0
    log_start: int = 0
    diverging: tuple[int, int] | None = None
    error: int = 0


@dataclass
class Call:
    """A request to the controller; the answer carries the same number."""

    number: int
    request: Any


@dataclass
class Reply:
    number: int
    answer: Any
    error: ApiError | None = None


@dataclass
class Write:
    """One record a client sent; `value` is its timestamp, unique in a run."""

    value: int
    node_id: int
    offset: int
    epoch: int
    future: "asyncio.Future[None]" = field(repr=False)


class World(Protocol):
    """What a node asks of the simulation."""

    scheduler: Scheduler
    loop: asyncio.AbstractEventLoop
    topic_id: bytes

    def send(self, sender: int, receiver: int, message: object) -> None: ...
    def controller_id(self) -> int | None: ...


class Node:
    """A process and its disk. Only `fs`, `checkpoint` and `unreported_loss` (the open marker) outlive the process."""

    def __init__(self, world: World, node_id: int, rng: Random) -> None:
        self.world = world
        self.node_id = node_id
        self.rng = rng
        self.fs = ForgetfulFileSystem(rng.randrange(2**32))
        self.checkpoint = 0
        self.up = False
        self.incarnation = 0
        self.paused_until_ms = 0.0
        self.unclean = True
        self.unreported_loss = False

    # --- life

    def start(self, *, unclean: bool) -> None:
        self.up = True
        self.incarnation += 1
        self.unclean = self.unreported_loss = unclean
        self.image = Image.EMPTY
        self.broker_epoch: int | None = None
        self.active = False
        self.stopping = False
        self.may_stop = False
        self.partition: Partition | None = None
        self._ask = self.incarnation * 10**6  # an answer to an earlier process must not fit
        self._asked_by: dict[int, int] = {}
        self._calls: dict[int, Callable[[Reply], None]] = {}
        self._number = self.incarnation * 10**6
        self._want_log_ends: list[rpc.PartitionId] = []
        self._open_log()
        self._every(HEARTBEAT_MS, self.heartbeat)
        self._every(LAG_MS / 3, self._shrink)
        self._every(700, self._sync_now)
        self._every(900, self._save_checkpoint)

    def _open_log(self) -> None:
        settings = topic_settings({}, {}, 3)
        try:
            records = Log.open(self.fs, "/t-0", self.world.topic_id, 0, settings.log, now_ms=WALL_MS)
        except FileNotFoundError:
            self.fs.makedirs("/t-0")
            records = Log.open(self.fs, "/t-0", self.world.topic_id, 0, settings.log, now_ms=WALL_MS)
        self.partition = Partition(self, self.world.topic_id, 0, "t", records, settings)
        self.partition.restore_high_watermark(self.checkpoint)
        self.partition.rebuild_producers()

    def crash(self, *, power: bool) -> None:
        self.up = False
        if power:
            self.fs = self.fs.power_loss()
        else:
            self.fs = self.fs.kill()

    def close(self) -> None:
        assert self.partition is not None
        self.checkpoint = self.partition.high_watermark
        self.partition.log.close()
        self.up = False

    # --- time

    def after(self, delay_ms: float, call: Callable[..., None], *args: Any) -> None:
        """Runs in this process only, and not while it is frozen."""
        incarnation = self.incarnation

        def due() -> None:
            if not self.up or self.incarnation != incarnation:
                return
            if self.paused_until_ms > self.world.scheduler.now_ms:
                self.world.scheduler.after(self.paused_until_ms - self.world.scheduler.now_ms, due)
                return
            call(*args)

        self.world.scheduler.after(delay_ms, due)

    def _every(self, period_ms: float, call: Callable[[], None]) -> None:
        def again() -> None:
            call()
            self.after(period_ms * self.rng.uniform(0.8, 1.2), again)

        self.after(period_ms * self.rng.random(), again)

    # --- the host of the partition

    def clock_ms(self) -> int:
        return int(self.world.scheduler.now_ms)

    def sync_soon(self, partition: Partition) -> None:
        self.after(self.rng.expovariate(1 / 2), self._sync_now)

    def _sync_now(self) -> None:
        assert self.partition is not None
        if self.partition.offline is not None:
            return
        ticket = self.partition.log.begin_sync()
        if ticket is not None:
            self.after(self.rng.expovariate(1 / 3), self._synced, ticket)

    def _synced(self, ticket: Any) -> None:
        assert self.partition is not None
        ticket.run()
        self.partition.log.complete_sync(ticket)
        self.partition.synced()

    def position_moved(self, partition: Partition) -> None:
        pass  # the next fetch says it

    def log_failed(self, partition: Partition, error: Exception) -> None:
        raise AssertionError(f"node {self.node_id}: {error}")

    def suspect(self, partition: Partition, offset: int) -> None: ...

    def checkpoint_soon(self) -> None: ...

    def no_space(self) -> None: ...

    def log_cut(self, partition: Partition) -> None:
        pass

    def address_of(self, node_id: int) -> str:
        return f"n{node_id}"

    def alter_isr(self, partition: Partition, change: IsrChange) -> None:
        leader = partition.leader
        if leader is None or leader.pending is not change or self.broker_epoch is None:
            return
        item = rpc.AlterPartition(
            topic_id=partition.topic_id,
            partition=0,
            leader_epoch=change.leader_epoch,
            partition_epoch=change.partition_epoch,
            isr=[rpc.IsrMember(node_id=n, broker_epoch=e) for n, e in change.members],
            recovered=change.recovered,
        )
        request = rpc.AlterPartitionRequest(node_id=self.node_id, broker_epoch=self.broker_epoch, partitions=[item])

        def answered(reply: Reply) -> None:
            if partition.leader is not leader or leader.pending is not change:
                return
            if reply.error is not None:
                return  # unknown: asked again below
            result = reply.answer.partitions[0]
            if not result.HasField("error"):
                partition.isr_altered(change, list(result.isr), result.leader_epoch, result.partition_epoch)
            elif leader.refused(change, result.error.code) is Refusal.RETRY:
                self.after(RPC_RETRY_MS, self.alter_isr, partition, change)

        self.call(request, answered)
        self.after(RPC_RETRY_MS, self.alter_isr, partition, change)

    # --- the controller

    def call(self, request: Any, answered: Callable[[Reply], None]) -> None:
        controller = self.world.controller_id()
        if controller is None:
            return
        self._number += 1
        self._calls[self._number] = answered
        self.world.send(self.node_id, controller, Call(self._number, request))

    def heartbeat(self) -> None:
        if self.broker_epoch is None:
            self._register()
            return
        epoch = self.broker_epoch
        request = rpc.HeartbeatRequest(
            node_id=self.node_id,
            broker_epoch=epoch,
            metadata_index=self.image.index,
            want_shutdown=self.stopping,
            log_ends=self._log_ends(),
        )

        def answered(reply: Reply) -> None:
            if reply.error is not None:
                if reply.error.code in (pb.ERROR_CODE_STALE_BROKER_EPOCH, pb.ERROR_CODE_BROKER_ID_NOT_REGISTERED):
                    self.broker_epoch = None
                return
            self._want_log_ends = list(reply.answer.want_log_ends)
            self.may_stop = self.may_stop or (self.stopping and reply.answer.should_shutdown)

        self.call(request, answered)

    def _register(self) -> None:
        request = rpc.RegisterBrokerRequest(
            cluster_id=b"c" * 16,
            node_id=self.node_id,
            directory_id=bytes([self.node_id]) * 16,
            incarnation_id=(self.node_id * 10**6 + self.incarnation).to_bytes(16),
            client_address="h:1",
            replication_address="h:2",
            control_address="h:3",
            unclean_stop=self.unclean,
            min_metadata_version=1,
            max_metadata_version=1,
        )

        def answered(reply: Reply) -> None:
            if reply.error is None:
                self.broker_epoch = reply.answer.broker_epoch
                self.unreported_loss = False
                self._activate()

        self.call(request, answered)

    def _log_ends(self) -> list[rpc.LogEnd]:
        partition = self.partition
        if not self._want_log_ends or partition is None or partition.state is None or not self.active:
            return []
        latest = partition.log.epochs.latest_epoch
        return [
            rpc.LogEnd(
                topic_id=partition.topic_id,
                partition=0,
                last_epoch=-1 if latest is None else latest,
                log_end_offset=partition.log.log_end_offset,
                leader_epoch=partition.state.leader_epoch,
            )
        ]

    # --- metadata

    def apply(self, image: Image, delta: Delta) -> None:
        self.image = image
        if not self.active:
            self._activate()
        else:
            self._place()

    def _activate(self) -> None:
        """Nothing of the metadata counts before the own registration is in it."""
        own = self.image.brokers.get(self.node_id)
        if not self.active and own is not None and own.broker_epoch == self.broker_epoch:
            self.active = True
            self._place()

    def _place(self) -> None:
        partition, state = self.partition, self.image.partition(self.world.topic_id, 0)
        topic = self.image.topic(self.world.topic_id)
        if partition is None or state is None or topic is None:
            return
        live = {b.node_id: b.broker_epoch for b in self.image.live_brokers()}
        settings = topic_settings(topic.configs, {}, topic.replication_factor)
        if settings == partition.settings:
            settings = partition.settings
        partition.reconfigure(settings, live, LAG_MS)
        before = partition.state
        if state.leader == self.node_id:
            partition.lead(state, live, LAG_MS)
            return
        partition.follow(state)
        if state.leader != NO_LEADER and (before is None or before.leader_epoch != state.leader_epoch):
            self.fetch()

    # --- messages

    def deliver(self, sender: int, message: object) -> None:
        match message:
            case Fetch():
                self.world.send(self.node_id, sender, self._answer_fetch(sender, message))
            case FetchAnswer():
                self._take_fetched(sender, message)
            case Reply():
                answered = self._calls.pop(message.number, None)
                if answered is not None:
                    answered(message)
            case _:
                raise AssertionError(message)

    def fetch(self) -> None:
        """Asks the leader for what follows the own log; asked again if no answer comes."""
        partition = self.partition
        assert partition is not None
        follower = partition.follower
        if follower is None or follower.leader == NO_LEADER:
            return
        self._ask += 1
        self.after(100, self._ask_again, self._ask)
        if self.broker_epoch is None or not self.active:
            return
        latest = partition.log.epochs.latest_epoch
        wanted = ReplicaFetchPartition(
            topic_id=partition.topic_id,
            partition=0,
            current_leader_epoch=follower.leader_epoch,
            fetch_offset=partition.log.log_end_offset,
            last_fetched_epoch=-1 if latest is None else latest,
            log_start_offset=0,
            synced_end_offset=partition.log.synced_end_offset,
        )
        self.world.send(self.node_id, follower.leader, Fetch(self._ask, self.broker_epoch, wanted))

    def _ask_again(self, ask: int) -> None:
        if self._ask == ask:
            self.fetch()

    def _answer_fetch(self, sender: int, fetch: Fetch) -> FetchAnswer:
        answer = FetchAnswer(fetch.ask)
        partition, wanted = self.partition, fetch.wanted
        assert partition is not None
        key = sender * 10**9 + fetch.broker_epoch
        if fetch.ask <= self._asked_by.get(key, 0):
            answer.error = pb.ERROR_CODE_INVALID_REQUEST  # a stream keeps its order: this one came too late
            return answer
        self._asked_by[key] = fetch.ask
        try:
            leader = partition.leading(wanted.current_leader_epoch)
            broker = self.image.brokers.get(sender)
            current = broker is not None and broker.broker_epoch == fetch.broker_epoch
            answer.diverging = partition.follower_fetched(sender, wanted, fetch.broker_epoch if current else None)
            answer.leader_epoch = leader.leader_epoch
            answer.high_watermark = leader.high_watermark
            if answer.diverging is None and wanted.fetch_offset < leader.log_end:
                answer.data = bytes(partition.log.read(wanted.fetch_offset, 1000, leader.log_end, min_one=True).data)
        except ApiError as error:
            answer.error = error.code
        return answer

    def _take_fetched(self, sender: int, answer: FetchAnswer) -> None:
        partition = self.partition
        assert partition is not None
        follower = partition.follower
        if answer.ask != self._ask or follower is None or follower.leader != sender:
            return
        if answer.error or answer.leader_epoch != follower.leader_epoch:
            self.after(20, self.fetch)
            return
        if answer.diverging is not None:
            partition.diverged(answer.diverging)
        else:
            if answer.data:
                partition.append_from_leader(answer.data, WALL_MS)
            partition.observe_leader(answer.high_watermark, 0)
        if answer.data or answer.diverging is not None:
            self.fetch()
        else:
            self._ask += 1  # this answer is used up
            self.after(self.rng.uniform(2, 15), self.fetch)

    # --- clients

    def write(self, value: int) -> Write | None:
        partition = self.partition
        assert partition is not None
        batch = RecordBatchView(records=PAYLOAD, base_timestamp=value, max_timestamp=value)
        try:
            appended = partition.append(batch, acks=-1, current_leader_epoch=None, now_ms=WALL_MS)
        except ApiError:
            return None
        future = self.world.loop.create_future()
        partition.acknowledge(appended, self.clock_ms() + 5000, future)
        return Write(value, self.node_id, appended.base_offset, appended.leader_epoch, future)

    def _shrink(self) -> None:
        if self.partition is not None and self.active:
            self.partition.shrink_isr()

    def _save_checkpoint(self) -> None:
        if self.partition is not None:
            self.checkpoint = self.partition.high_watermark
