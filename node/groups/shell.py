"""Runs the coordinators of the groups whose partition of `__consumer_offsets` this node leads. Data loop only.

    leadership gained -> the log is read to its end -> active -> decisions are appended, answers leave when committed
    leadership lost, or an append of unknown outcome -> the state is thrown away, its sessions end, it is loaded anew

The decisions of one turn of the loop are appended as one; a large one is appended alone, so that what the log refuses
of it is refused to nobody else. A decision changes the state when its records are appended and before they are
committed; nobody is told before they are. One that raises, or whose records are refused, changes nothing. Answers of
one partition leave in the order of its appends, and a read waits for what it saw.
"""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar

import structlog

from node.broker.broker import Broker
from node.fail_stop import stop_if_broken
from node.groups.classic import ClassicGroup, Effect, Join, JoinAnswer, Reply, Store, SyncAnswer, join_error
from node.groups.classics import LIMITS
from node.groups.coordinator import Coordinator
from node.groups.model import Groups, Record, TopicView
from node.groups.offsets import ClassicCommitter
from node.groups.polling import Heartbeat, Told
from node.groups.stage import GroupSettings, Outcome
from node.groups.streams import Session
from node.history.groups import GroupHistory
from node.metadata.image import Delta, Image
from ottla.internal.v1 import view_pb2
from ottla.protocol.batch import CorruptBatch, read_batch
from ottla.protocol.errors import ApiError
from ottla.protocol.partitioner import murmur2
from ottla.v1 import error_pb2 as e
from ottla.v1 import group_pb2, record_pb2

OFFSETS_TOPIC = "__consumer_offsets"
LOOK_MS = 1_000
"""The state machine says when something is due. The wall clock may jump meanwhile: so often it is asked anyway."""
REFUSED_MS = 100
BATCH_MAX_BYTES = 512 * 1024
TOGETHER_MAX_BYTES = 32 * 1024
"""A decision with more has an append of its own."""
LOAD_READ_BYTES = 1 << 20
REPLAYED_AT_ONCE = 500
TOLD_AT_ONCE = 200
GATHERS_MS = 5
"""How long decisions wait for the batch before theirs at the longest."""
COMMIT_TIMEOUT_MS = 3_600_000  # callers have their own deadlines; the state waits for its log

log = structlog.get_logger(__name__)
T = TypeVar("T")


KEEPS_STATE = frozenset(
    {
        e.ERROR_CODE_NOT_ENOUGH_REPLICAS,
        e.ERROR_CODE_MESSAGE_TOO_LARGE,
        e.ERROR_CODE_RECORD_LIST_TOO_LARGE,
        e.ERROR_CODE_THROTTLING_QUOTA_EXCEEDED,
    }
)
"""Refusals of an append that say nothing about who leads: this node's state is still the one at the log's end."""


class Together:
    """Decisions that are appended as one. An ApiError in place of a result: none of them holds."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.appended: asyncio.Future[None] = loop.create_future()
        self.committed: asyncio.Future[None] = loop.create_future()
        for future in (self.appended, self.committed):
            future.add_done_callback(_seen)
        self.has_records = False

    def refuse(self, error: BaseException) -> None:
        for future in (self.appended, self.committed):
            if not future.done():
                future.set_exception(error)


class Shard:
    """The coordinator of one partition of the offsets topic, in one leader epoch."""

    def __init__(self, topic_id: bytes, partition: int, leader_epoch: int) -> None:
        self.topic_id = topic_id
        self.partition = partition
        self.leader_epoch = leader_epoch
        self.coordinator: Coordinator | None = None
        self.sessions: dict[int, Session] = {}
        self.last_append: asyncio.Future[None] | None = None
        self.together: Together | None = None
        """What was decided and is not appended yet."""
        self.task: asyncio.Task[None] | None = None
        self.wake = asyncio.Event()
        self.looks_ms = 0
        """When the state machine is asked for what is due; `wake` has it asked earlier."""


class GroupShell:
    """The shards that this node coordinates. `settings` hold the groups' bounds."""

    def __init__(self, broker: Broker, settings: GroupSettings, rng: random.Random) -> None:
        self._broker = broker
        self._settings = settings
        self._rng = rng
        self._shards: dict[int, Shard] = {}
        self._topics = TopicView.of({})
        self._count = 0
        self._session_ids = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self.history = GroupHistory()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # --- which groups are ours ------------------------------------------------------------------------------------

    def wall_ms(self) -> int:
        """What positions and groups are stamped with. Another coordinator may say when they are old."""
        return self._broker.clock.stamp_ms()

    def _old_ms(self) -> int:
        """The time by which positions are old: the cluster's. Where it is not known, none is."""
        return self._broker.clock.now_ms() or 0

    def partition_for(self, group_id: str) -> int:
        """The partition of the offsets topic that keeps the group. COORDINATOR_NOT_AVAILABLE before there is one."""
        if not self._count:
            raise ApiError(
                e.ERROR_CODE_COORDINATOR_NOT_AVAILABLE, f"topic {OFFSETS_TOPIC} is not there yet", retry_after_ms=50
            )
        return (murmur2(group_id.encode()) & 0x7FFFFFFF) % self._count

    def apply_metadata(self, image: Image, delta: Delta, node_id: int) -> None:
        """Loads what this node has come to lead, drops what it leads no longer, and tells groups of changed topics."""
        if self._stopping:
            return
        topic = image.topic_named(OFFSETS_TOPIC)
        self._count = 0 if topic is None else len(topic.partitions)
        led = {}
        if topic is not None:
            led = {p.partition: p.leader_epoch for p in topic.partitions if p.leader == node_id}
        for number, shard in list(self._shards.items()):
            if topic is None or shard.topic_id != topic.topic_id or led.get(number) != shard.leader_epoch:
                self._unload(shard, "the partition has another leader")
        for number, epoch in led.items():
            if topic is not None and number not in self._shards:
                self._load(topic.topic_id, number, epoch)
        topics = self._topics.after(image, delta)
        if topics is not self._topics:
            self._topics = topics
            for shard in self._shards.values():
                self._see_topics(shard)

    def shard(self, group_id: str) -> Shard:
        """The active shard of a group. Raises NOT_COORDINATOR or COORDINATOR_LOAD_IN_PROGRESS."""
        number = self.partition_for(group_id)
        shard = self._shards.get(number)
        if shard is None:
            raise ApiError(
                e.ERROR_CODE_NOT_COORDINATOR, f"this node does not lead partition {number} of {OFFSETS_TOPIC}"
            )
        if shard.coordinator is None:
            raise ApiError(
                e.ERROR_CODE_COORDINATOR_LOAD_IN_PROGRESS,
                f"partition {number} of {OFFSETS_TOPIC} is being read",
                retry_after_ms=20,
            )
        return shard

    def shards(self) -> list[Shard]:
        """All shards of this node, active or not."""
        return [shard for _, shard in sorted(self._shards.items())]

    # --- loading --------------------------------------------------------------------------------------------------

    def _load(self, topic_id: bytes, number: int, epoch: int, after_ms: int = 0) -> None:
        shard = Shard(topic_id, number, epoch)
        self._shards[number] = shard
        shard.task = asyncio.create_task(self._run(shard, after_ms), name=f"groups-{number}")
        self._tasks.add(shard.task)
        shard.task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            if not task.cancelling():  # by nobody: see `node.core_task`
                self._fail(RuntimeError(f"{task.get_name()} ended"))
        elif (error := task.exception()) is not None:
            self._fail(error)

    async def _run(self, shard: Shard, after_ms: int) -> None:
        """Reads the log to its end, then keeps time for the shard until it is unloaded."""
        await asyncio.sleep(after_ms / 1000)
        groups = Groups()
        waits_for = ""
        while self._is_ours(shard):
            try:
                count = await self._replay(shard, groups)
                break
            except ApiError as error:
                # The log is ours but cannot be read yet: a new leader withholds its high watermark, a disk is slow.
                if str(error) != waits_for:
                    waits_for = str(error)
                    log.info("group_load_waits", partition=shard.partition, error=waits_for)
                await asyncio.sleep(0.02)
                groups = Groups()
        if not self._is_ours(shard):
            return
        shard.coordinator = Coordinator(groups, self._settings, self._topics, self._broker.clock_ms())
        log.info("groups_loaded", partition=shard.partition, records=count, groups=len(groups.by_id))
        while self._is_ours(shard):
            try:
                self._tick_classics(shard)
                together, _ = self._decide(
                    shard, lambda c: (c.tick(self._broker.clock_ms(), self.wall_ms(), self._old_ms()), None)
                )
                await asyncio.shield(together.appended)
            except ApiError:  # refused: what is due stays due
                await asyncio.sleep(REFUSED_MS / 1000)
            else:
                await self._until_due(shard)

    def _see_topics(self, shard: Shard) -> None:
        """Tells the groups which topics there are now."""
        self._settle(shard)
        if shard.coordinator is not None:
            shard.coordinator.topics_changed(self._topics)
            self._look_in_time(shard)

    async def _until_due(self, shard: Shard) -> None:
        """Until the state machine has something to do."""
        delay_ms = min(LOOK_MS, self._due_ms(shard))
        shard.looks_ms = self._broker.clock_ms() + delay_ms
        shard.wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(delay_ms / 1000):
                await shard.wake.wait()

    def _due_ms(self, shard: Shard) -> int:
        due_ms = None
        if shard.coordinator is not None:
            due_ms = shard.coordinator.due_ms(self._broker.clock_ms(), self._old_ms())
        return LOOK_MS if due_ms is None else due_ms

    def _look_in_time(self, shard: Shard) -> None:
        """Something may have become due earlier than the shard's task knows."""
        if self._broker.clock_ms() + self._due_ms(shard) < shard.looks_ms:
            shard.wake.set()

    def _is_ours(self, shard: Shard) -> bool:
        """False once the shard was unloaded, or replaced by one of a later epoch."""
        return self._shards.get(shard.partition) is shard

    async def _replay(self, shard: Shard, groups: Groups) -> int:
        """Everything that was in the log when this node became its leader, in order. Returns how many records."""
        replica = self._broker.partition(shard.topic_id, shard.partition)
        if replica is None:
            raise ApiError(e.ERROR_CODE_KAFKA_STORAGE_ERROR, "the log is not open")
        end = replica.log.log_end_offset  # nobody else appends in our epoch, and we do not before it is replayed
        offset = replica.log.log_start_offset
        count = 0
        while offset < end:
            read = self._broker.read(
                shard.topic_id,
                shard.partition,
                offset,
                LOAD_READ_BYTES,
                min_one=True,
                current_leader_epoch=shard.leader_epoch,
                last_fetched_epoch=None,
            )
            if not read.data:
                waiter = self._broker.data_waiter([(shard.topic_id, shard.partition, offset)], 1, 500)
                await waiter
                continue
            for record in stored_records(read.data):
                groups.replay(record)
                count += 1
                if count % REPLAYED_AT_ONCE == 0:
                    await asyncio.sleep(0)
            offset = read.next_offset
            await asyncio.sleep(0)  # a large log must not hold up the loop
        return count

    def _unload(self, shard: Shard, reason: str) -> None:
        if self._shards.get(shard.partition) is shard:
            del self._shards[shard.partition]
        for session in shard.sessions.values():
            session.end(ApiError(e.ERROR_CODE_NOT_COORDINATOR, reason))
        shard.sessions.clear()
        if shard.coordinator is not None:
            for group in shard.coordinator.classics():
                _tell(group.drop(e.ERROR_CODE_NOT_COORDINATOR))
        shard.coordinator = None
        if shard.together is not None:
            shard.together.refuse(ApiError(e.ERROR_CODE_NOT_COORDINATOR, reason))
            shard.together = None

    def _reload(self, shard: Shard, reason: str) -> None:
        """The state may be ahead of the log: away with it. If this node still leads, it is read anew; not at once: what
        is due then would be refused again, as on a full disk, and again and again in one turn of the loop."""
        if self._shards.get(shard.partition) is not shard:
            return
        log.warning("groups_reloaded", partition=shard.partition, reason=reason)
        self._unload(shard, reason)
        self._load(shard.topic_id, shard.partition, shard.leader_epoch, REFUSED_MS)

    # --- decisions ------------------------------------------------------------------------------------------------

    def _decide(self, shard: Shard, decision: Callable[[Coordinator], tuple[Outcome, T]]) -> tuple[Together, T]:
        """Makes a decision, which is appended with the others of this turn (`_append_soon`). Returns what to wait for
        before anybody is told, and its answer.

        A decision that raises has changed nothing, and neither has one whose records are refused.
        """
        together = self._begun(shard)
        outcome, answer = self._decided(shard, decision)
        if (is_large := _bytes(outcome.records) > TOGETHER_MAX_BYTES) and together.has_records:
            self._append_together(shard, together)
            together = self._begun(shard)
            outcome, answer = self._decided(shard, decision)  # once more, for what it was based on may not hold now
        outcome.land()
        together.has_records |= bool(outcome.records)
        if is_large:
            self._append_together(shard, together)
        return together, answer

    def _begun(self, shard: Shard) -> Together:
        """The decisions that are to be appended next."""
        if shard.coordinator is None:
            raise ApiError(e.ERROR_CODE_COORDINATOR_LOAD_IN_PROGRESS, "the groups are being read", retry_after_ms=20)
        if shard.together is None:
            shard.together = Together()
            shard.coordinator.begin()
            self._append_soon(shard, shard.together)
        return shard.together

    def _append_soon(self, shard: Shard, together: Together) -> None:
        """At the end of this turn of the loop; while the batch before is on its way, when that is committed, or after a
        moment: gRPC hands over one call a turn, and a batch for each member of a crowd would cost more than they do."""
        loop = asyncio.get_running_loop()
        before = shard.last_append
        if before is None or before.done():
            loop.call_soon(self._append_together, shard, together)
        else:
            before.add_done_callback(lambda _: self._append_together(shard, together))
            loop.call_later(GATHERS_MS / 1000, self._append_together, shard, together)

    def _decided(self, shard: Shard, decision: Callable[[Coordinator], tuple[Outcome, T]]) -> tuple[Outcome, T]:
        assert shard.coordinator is not None, "it was begun"
        return decision(shard.coordinator)

    def _append_together(self, shard: Shard, together: Together) -> None:
        """They hold from here on, or none of them does."""
        if shard.together is not together or shard.coordinator is None:
            return  # appended already, or nobody's any more
        shard.together = None
        outcome = shard.coordinator.end()
        try:
            self._append(shard, outcome.records)
            outcome.land()
        except Exception as error:
            stop_if_broken(error)
            together.refuse(error)
            return
        together.appended.set_result(None)
        if shard.last_append is None:
            self._deliver(shard, outcome, together)
        else:
            # Futures of one log resolve in the order of its appends, and callbacks run in the order they are due.
            shard.last_append.add_done_callback(partial(self._committed, shard, outcome, together))
        self._look_in_time(shard)

    def _settle(self, shard: Shard) -> None:
        """What was decided so far is appended."""
        if shard.together is not None:
            self._append_together(shard, shard.together)

    def _fail(self, error: BaseException) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)

    def _append(self, shard: Shard, records: list[Record]) -> None:
        """Appends in batches of bounded size: each prefix of an outcome keeps the one-owner rule by itself. Where the
        log may hold a part of them, or has another leader, the state is thrown away."""
        start = 0
        while start < len(records):
            size, end = 0, start
            while end < len(records) and (end == start or size < BATCH_MAX_BYTES):
                size += len(records[end][0]) + len(records[end][1] or b"") + 16
                end += 1
            payload = record_pb2.Records(
                records=[record_pb2.Record(key=key, value=value) for key, value in records[start:end]]
            )
            try:
                appended = self._broker.append(
                    shard.topic_id,
                    shard.partition,
                    view_pb2.RecordBatchView(records=payload.SerializeToString()),
                    acks=-1,
                    current_leader_epoch=shard.leader_epoch,
                    now_ms=self._broker.wall_ms(),
                )
            except ApiError as error:
                if start or error.code not in KEEPS_STATE:
                    self._reload(shard, str(error))
                elif not error.retriable:
                    raise
                raise ApiError(
                    e.ERROR_CODE_COORDINATOR_NOT_AVAILABLE, error.message, retry_after_ms=REFUSED_MS // 2
                ) from None
            shard.last_append = self._broker.acknowledged(appended, COMMIT_TIMEOUT_MS)
            shard.last_append.add_done_callback(_seen)
            start = end

    def _committed(self, shard: Shard, outcome: Outcome, together: Together, committed: asyncio.Future[None]) -> None:
        if committed.cancelled():
            together.committed.cancel()
            return
        error = committed.exception()
        if error is None:
            self._deliver(shard, outcome, together)
            return
        together.refuse(error)
        if isinstance(error, ApiError):
            self._reload(shard, str(error))  # nobody was told; the members ask again
        else:
            self._fail(error)

    def _deliver(self, shard: Shard, outcome: Outcome, together: Together) -> None:
        together.committed.set_result(None)
        self.history.add(outcome.notes, self.wall_ms())
        for push in outcome.pushes:
            session = shard.sessions.get(push.session)
            if session is not None:
                session.tell(push.response, is_last=push.close)

    async def decide(self, group_id: str, decision: Callable[[Coordinator], tuple[Outcome, T]]) -> T:
        """Makes a decision for a group and returns its answer when it is committed."""
        together, answer = self._decide(self.shard(group_id), decision)
        await asyncio.shield(together.committed)  # the caller may give up, the append does not
        return answer

    async def look(self, shard: Shard, question: Callable[[Coordinator], T]) -> T:
        """An answer from the state at the log's end, when all it is based on is committed."""
        self._settle(shard)
        coordinator = shard.coordinator
        if coordinator is None:
            raise ApiError(e.ERROR_CODE_COORDINATOR_LOAD_IN_PROGRESS, "the groups are being read", retry_after_ms=20)
        answer = question(coordinator)
        if shard.last_append is not None:
            await asyncio.shield(shard.last_append)
        return answer

    # --- sessions -------------------------------------------------------------------------------------------------

    def open_session(self, join: group_pb2.Join, client_host: str) -> tuple[Shard, Session]:
        """A member's stream begins with `join`. Raises ApiError: no member then. The session is to be served when it
        has `joined`."""
        shard = self.shard(join.group_id)
        self._session_ids += 1
        session = Session(self._session_ids)
        shard.sessions[session.id] = session
        member_id = f"{join.client_id or 'member'}-{self._rng.getrandbits(64):016x}"
        try:
            together, _ = self._decide(
                shard, lambda c: (c.join(session.id, join, client_host, member_id, self._broker.clock_ms()), None)
            )
        except BaseException:
            shard.sessions.pop(session.id, None)
            raise
        session.joined = together.appended
        return shard, session

    def said(self, shard: Shard, session: Session, request: group_pb2.SessionRequest) -> bool:
        """A further message of a member. False: the session is over by its own wish."""
        now_ms = self._broker.clock_ms()
        match request.WhichOneof("message"):
            case "owned":
                self._decide_for(shard, session, lambda c: c.confirm(session.id, request.owned, now_ms))
            case "heartbeat" if shard.coordinator is not None:
                self._settle(shard)
                shard.coordinator.heartbeat(session.id, now_ms)
                self._look_in_time(shard)
            case "leave":
                self._decide_for(shard, session, lambda c: c.leave(session.id, now_ms, self.wall_ms()))
                return False
            case "join":
                raise ApiError(e.ERROR_CODE_INVALID_REQUEST, "a session has one join, as its first message")
            case None:
                raise ApiError(e.ERROR_CODE_INVALID_REQUEST, "the message is none of join, owned, leave and heartbeat")
        return True

    def _decide_for(self, shard: Shard, session: Session, decision: Callable[[Coordinator], Outcome]) -> None:
        """What a member said. Where the log refuses it, the session ends with a word."""

        def appended(future: asyncio.Future[None]) -> None:
            error = None if future.cancelled() else future.exception()
            if isinstance(error, ApiError):
                session.end(error)

        together, _ = self._decide(shard, lambda c: (decision(c), None))
        together.appended.add_done_callback(appended)

    def close_session(self, shard: Shard, session: Session, *, by_client: bool) -> None:
        """The stream ended. `by_client`: whoever held the client's connection saw it close."""
        shard.sessions.pop(session.id, None)
        self._settle(shard)
        if shard.coordinator is not None:
            shard.coordinator.closed(session.id, by_client=by_client, now_ms=self._broker.clock_ms())
            self._look_in_time(shard)

    # --- members without a stream ---------------------------------------------------------------------------------

    @property
    def heartbeat_interval_ms(self) -> int:
        return self._settings.heartbeat_interval_ms

    async def poll(self, group_id: str, said: Heartbeat) -> Told:
        """A heartbeat; what the member is told is committed. Raises ApiError."""
        shard = self.shard(group_id)
        if shard.together is None and shard.coordinator is not None:
            told = shard.coordinator.quiet(group_id, said, self._broker.clock_ms())
            if told is not None:
                return await self.look(shard, lambda _: told)
        self._session_ids += 1
        session, now_ms, wall_ms = self._session_ids, self._broker.clock_ms(), self.wall_ms()
        return await self.decide(group_id, lambda c: c.poll(group_id, session, said, now_ms, wall_ms))

    # --- members of the classic protocol --------------------------------------------------------------------------

    def new_member_id(self, client_id: str) -> str:
        return f"{client_id or 'member'}-{self._rng.getrandbits(128):032x}"

    def join_classic(self, group_id: str, request: Join, answer: Callable[[JoinAnswer], None]) -> None:
        """Raises ApiError: nobody joins."""
        shard = self.shard(group_id)
        found = self._classic(shard, group_id)
        error = join_error(request, LIMITS)
        if found is None and not error and request.member_id:
            error = e.ERROR_CODE_UNKNOWN_MEMBER_ID
        if error:  # a join that comes to nothing makes no group
            answer(JoinAnswer(error, request.member_id))
            return
        if found is None or not found[1].members:
            wall_ms = self.wall_ms()
            self._decide(shard, lambda c: (c.begin_classic(group_id, wall_ms), None))
            found = self._classic(shard, group_id)
        assert found is not None, "it was begun"
        coordinator, group = found
        if not coordinator.classic_has_room(sum(len(metadata) for _, metadata in request.protocols)):
            raise ApiError(
                e.ERROR_CODE_GROUP_MAX_SIZE_REACHED, "the groups of this partition say too much of their members"
            )
        self._act(shard, group_id, group, lambda now_ms: group.join(request, answer, now_ms))

    def sync_classic(
        self,
        group_id: str,
        who: ClassicCommitter,
        assignments: Mapping[str, bytes],
        protocol: tuple[str | None, str | None],
        answer: Callable[[SyncAnswer], None],
    ) -> None:
        """`protocol`: type and name, as the member was told. Raises ApiError."""
        shard = self.shard(group_id)
        found = self._classic(shard, group_id)
        if found is None:
            answer(SyncAnswer(e.ERROR_CODE_UNKNOWN_MEMBER_ID))
            return
        group = found[1]
        self._act(
            shard,
            group_id,
            group,
            lambda now_ms: group.sync(
                who.member_id, who.instance_id, who.generation, assignments, answer, now_ms, *protocol
            ),
        )

    def heartbeat_classic(self, group_id: str, who: ClassicCommitter) -> int:
        """The error code of the answer. Raises ApiError."""
        found = self._classic(self.shard(group_id), group_id)
        if found is None:
            return e.ERROR_CODE_UNKNOWN_MEMBER_ID
        return found[1].heartbeat(who.member_id, who.instance_id, who.generation, self._broker.clock_ms())

    def leave_classic(self, group_id: str, leaving: Sequence[tuple[str, str | None]]) -> list[int] | None:
        """Error codes in their order; None where there is no such group. Raises ApiError."""
        shard = self.shard(group_id)
        found = self._classic(shard, group_id)
        if found is None:
            return None
        group, codes = found[1], list[int]()

        def leave(now_ms: int) -> list[Effect]:
            told, effects = group.leave(leaving, now_ms)
            codes.extend(told)
            return effects

        self._act(shard, group_id, group, leave)
        return codes

    def heard_classic(self, group_id: str, member_id: str) -> None:
        """A member has committed: it lives."""
        shard = self._shards.get(self.partition_for(group_id))
        if shard is not None and (found := self._classic(shard, group_id)) is not None:
            found[1].heard(member_id, self._broker.clock_ms())

    def _classic(self, shard: Shard, group_id: str) -> tuple[Coordinator, ClassicGroup] | None:
        coordinator = shard.coordinator
        group = None if coordinator is None else coordinator.classic(group_id, self._broker.clock_ms())
        return None if coordinator is None or group is None else (coordinator, group)

    def _act(self, shard: Shard, group_id: str, group: ClassicGroup, action: Callable[[int], Sequence[Effect]]) -> None:
        """Lets something happen to a classic group, and does what follows from it."""
        coordinator = shard.coordinator
        if coordinator is None or not self._is_ours(shard):
            return  # it has another coordinator, and whoever waited here was told
        now_ms = self._broker.clock_ms()
        effects = coordinator.act(group_id, group, lambda: action(now_ms))
        for effect in effects:
            if isinstance(effect, Store):
                self._store_classic(shard, group_id, group, effect)
        _tell([effect for effect in effects if isinstance(effect, Reply)])
        self._look_in_time(shard)

    def _store_classic(self, shard: Shard, group_id: str, group: ClassicGroup, store: Store) -> None:
        """Makes a generation durable; the group hears when it is, or why not."""

        def stored(done: asyncio.Future[None]) -> None:
            error = asyncio.CancelledError() if done.cancelled() else done.exception()
            code = 0 if error is None else e.ERROR_CODE_UNKNOWN_SERVER_ERROR
            if isinstance(error, ApiError):
                code = error.code
            self._act(shard, group_id, group, lambda now_ms: group.stored(store.number, code, now_ms))

        wall_ms = self.wall_ms()
        try:
            together, _ = self._decide(shard, lambda c: (c.store_classic(group_id, store.generation, wall_ms), None))
        except ApiError as error:
            failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            failed.set_exception(error)
            failed.add_done_callback(stored)
        else:
            together.committed.add_done_callback(stored)

    def _tick_classics(self, shard: Shard) -> None:
        if shard.coordinator is not None:
            for group_id, group in shard.coordinator.classics_due(self._broker.clock_ms()):
                self._act(shard, group_id, group, group.tick)

    async def stop(self) -> None:
        """Ends all sessions, each with a word. Nothing is loaded any more."""
        self._stopping = True
        for shard in list(self._shards.values()):
            self._unload(shard, "the node is stopping")
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _tell(replies: Sequence[Reply]) -> None:
    """What each waits for: some at once, of a crowd the others in turns to come."""
    for reply in replies[:TOLD_AT_ONCE]:
        reply.token(reply.answer)  # type: ignore[operator]
    if len(replies) > TOLD_AT_ONCE:
        asyncio.get_running_loop().call_soon(_tell, replies[TOLD_AT_ONCE:])


def _seen(appended: "asyncio.Future[None]") -> None:
    """Who waits for a later append hears of this one's failure there: asyncio need not report it as never retrieved."""
    if not appended.cancelled():
        appended.exception()


def _bytes(records: list[Record]) -> int:
    return sum(len(key) + len(value or b"") for key, value in records)


def stored_records(data: bytes) -> list[Record]:
    """(key, value) of every record in a slice of the offsets topic, in order."""
    records: list[Record] = []
    at = 0
    while (batch := read_batch(data, at)) is not None:
        _, payload = batch.payload(data)
        for record in record_pb2.Records.FromString(bytes(payload)).records:
            if not record.HasField("key"):
                raise CorruptBatch(f"a record of {OFFSETS_TOPIC} at offset {batch.header.base_offset} has no key")
            records.append((record.key, record.value if record.HasField("value") else None))
        at = batch.end
    return records
