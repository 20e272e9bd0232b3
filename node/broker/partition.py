"""One partition on this node: its log, its replica state, its producers, and who waits for it.

Everything is synchronous and runs on the data loop: the order of calls is the order of the log, and no await lies
between reading state and writing it. `now_ms` is the wall clock, for records; waiting is measured by the host's
monotonic `clock_ms()`.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import structlog

from node.broker import door, refusals
from node.broker.door import Admit, Admitted, OnLoop, corrupt
from node.broker.host import ACKS_ALL, WITHHELD, Appended, Host, ReadResult, Watcher
from node.broker.producers import ProducerTable, StoredBatch
from node.broker.replica import (
    FollowerReplica,
    IsrChange,
    LeaderReplica,
    Refusal,
    divergence,
    truncation_offset,
)
from node.broker.settings import TopicSettings
from node.broker.waiters import AckQueue, AckWaiter, DataWaiter
from node.metadata.image import NO_LEADER
from node.metadata.image import Partition as PartitionState
from ottla.internal.v1.replication_pb2 import ReplicaFetchPartition
from ottla.protocol.batch import BatchHeader, CorruptBatch
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb
from storage.errors import BatchTooLarge, DiskFull, LogDamaged, LogFailed, OffsetOutOfRange, StorageError, passing
from storage.log import Log

log = structlog.get_logger(__name__)


class Partition:
    """See the module. `leader` is set while this node leads, `follower` while it does not; `state` is the last metadata
    that was taken over."""

    def __init__(
        self, host: Host, topic_id: bytes, number: int, topic: str, records: Log, settings: TopicSettings
    ) -> None:
        self.topic_id = topic_id
        self.number = number
        self.topic = topic
        self.log = records
        self.settings = settings
        self.producers = ProducerTable()
        self.state: PartitionState | None = None
        self.leader: LeaderReplica | None = None
        self.follower: FollowerReplica | None = None
        self.offline: str | None = None
        self.damaged = False
        """Offline because its log is damaged: it is to be opened again once another node leads."""
        self.closed = False
        self.cuts = 0
        self.watchers: dict[int, Watcher] = {}
        self.readers: dict[DataWaiter, None] = {}
        self.acks = AckQueue()
        self.follower_log_starts: dict[int, int] = {}
        self._host = host
        self._uncommitted: deque[tuple[int, int]] = deque()
        self._checkpointed_high_watermark = records.log_start_offset
        self._kept_log_start = records.log_start_offset
        self.deleted_before = records.log_start_offset
        """While this node leads: up to where records were deleted on request, or before it led. A clock has no part in
        it, so followers do the same; what retention took since, each decides for itself."""
        self._deadline: asyncio.TimerHandle | None = None
        self._deadline_ms = 0

    @property
    def name(self) -> str:
        return f"{self.topic}-{self.number}"

    @property
    def high_watermark(self) -> int:
        replica = self.leader or self.follower
        return self._checkpointed_high_watermark if replica is None else replica.high_watermark

    # --- roles

    def restore_high_watermark(self, offset: int) -> None:
        """What the checkpoint said, before the first role: never outside of the log (KAFKA-16452)."""
        self._checkpointed_high_watermark = max(self.log.log_start_offset, min(offset, self.log.log_end_offset))

    def lead(self, state: PartitionState, brokers: Mapping[int, int], lag_time_max_ms: int) -> None:
        """Leads in a new epoch, or takes over a change within the epoch."""
        if self.leader is not None and self.leader.leader_epoch == state.leader_epoch:
            self.state = state
            before = self.leader.isr
            if self.leader.metadata(state, self._host.clock_ms()):
                self.committed()
            self._after_isr_change(before)
            return
        self._leave_epoch(state)
        records = self.log
        if records.damaged_at is not None:
            # Its end is not the end of what was acknowledged: never lead with the shorter log (invariants.md 2.4, 60).
            self.leader = None
            self.fail(LogDamaged(f"{records.recovery.damage} at offset {records.damaged_at}"))
            return
        latest = records.epochs.latest_epoch
        if latest is not None and latest > state.leader_epoch:
            # Nobody was ever given that epoch: it is in the log by forgery, and the next leader's log cuts it off.
            self.leader = None
            self.fail(LogDamaged(f"its log has epoch {latest}, this partition is in epoch {state.leader_epoch}"))
            return
        if records.refetching:
            if not state.recovering:
                # The controller may have been told of the damage too late, or another one was told.
                self.leader = None
                self.fail(LogDamaged("what was cut from it as damaged has not been fetched again yet"))
                return
            records.refetched()  # the most complete log that is left, or an operator's choice
        self.leader = LeaderReplica(
            self._host.node_id,
            state,
            log_end=records.log_end_offset,
            synced_end=records.synced_end_offset,
            high_watermark=self.high_watermark,
            min_isr=self.settings.min_isr,
            flush_ack=self.settings.flush_ack,
            lag_time_max_ms=lag_time_max_ms,
            brokers=brokers,
            now_ms=self._host.clock_ms(),
        )
        self.follower = None
        self.follower_log_starts.clear()
        self.deleted_before = records.log_start_offset
        log.info("leading", partition=self.name, epoch=state.leader_epoch, log_end=records.log_end_offset)
        if self.settings.flush_ack and records.synced_end_offset < records.log_end_offset:
            self._host.sync_soon(self)
        self._propose(self.leader.propose_recovered())
        self._arm(self.leader)

    def follow(self, state: PartitionState) -> None:
        """Follows the epoch's leader, or waits for one to be elected."""
        if self.follower is not None and self.follower.leader_epoch == state.leader_epoch:
            self.state = state
            return
        mark = self.high_watermark
        self._leave_epoch(state)
        self.leader = None
        self.follower = FollowerReplica(state, log_end=self.log.log_end_offset, high_watermark=mark)
        if self.log.damaged_at is not None and state.leader != NO_LEADER:
            self._cut_damage()

    def _leave_epoch(self, state: PartitionState) -> None:
        self._checkpointed_high_watermark = self.high_watermark
        self.state = state
        self._uncommitted.clear()
        hint = self._leader_hint()
        self.acks.fail(lambda: refusals.leader_changed(self.name, hint))
        self.wake_readers()

    def _cut_damage(self) -> None:
        """A leader has what is damaged here: drop it and fetch it again. Never done for one that is to lead."""
        damaged_at = self.log.damaged_at
        assert damaged_at is not None
        log.error("damaged_log_refetched", partition=self.name, offset=damaged_at, damage=self.log.recovery.damage)
        try:
            saved, self.producers = self.producers, ProducerTable()  # it was opened, and not read behind what was saved
            self._truncate(damaged_at)
            self._read_producers(saved)
        except StorageError as error:
            # Alone: the other partitions of this node are to follow the metadata. What was refused for the moment is
            # opened again as any damaged log is, and cut then.
            self.fail(LogDamaged(str(error)) if passing(error) else error)

    def reconfigure(self, settings: TopicSettings, brokers: Mapping[int, int], lag_time_max_ms: int) -> None:
        """Topic configs or the brokers' states changed."""
        to_flush_ack = settings.flush_ack and not self.settings.flush_ack
        if settings is not self.settings:
            self.settings = settings
            self.log.update_config(settings.log)
        if self.leader is not None and self.leader.reconfigured(
            min_isr=settings.min_isr,
            flush_ack=settings.flush_ack,
            brokers=brokers,
            lag_time_max_ms=lag_time_max_ms,
            now_ms=self._host.clock_ms(),
        ):
            self.committed()
        self.take_in()
        if self.leader is not None:
            self._arm(self.leader)
        if to_flush_ack:
            # From now on a member that lost power keeps its place, so what it has must be on disk.
            self._host.sync_soon(self)

    # --- for clients

    def leading(self, current_leader_epoch: int | None) -> LeaderReplica:
        """The leader state, if the caller's epoch is this one (KIP-320). Raises NOT_LEADER_OR_FOLLOWER with the leader,
        FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH or KAFKA_STORAGE_ERROR."""
        leader = self.leader
        if self.offline is not None:
            raise refusals.offline(self.name, self.offline)
        if leader is None:
            raise refusals.not_leading(self.name, self._host.node_id, self._leader_hint())
        if current_leader_epoch is not None and current_leader_epoch != leader.leader_epoch:
            raise refusals.other_epoch(self.name, leader.leader_epoch, current_leader_epoch, self._leader_hint())
        return leader

    def serving(self, current_leader_epoch: int | None) -> LeaderReplica:
        """As `leading`, for clients: raises LEADER_NOT_AVAILABLE, too, while an import fills the topic."""
        leader = self.leading(current_leader_epoch)
        if self.settings.importing:
            raise refusals.importing(self.name, self.topic)
        return leader

    def append(
        self,
        batch: Any,
        admit: Admit = door.admit,
        *,
        acks: int,
        current_leader_epoch: int | None,
        now_ms: int,
        on_loop: OnLoop | None = None,
        admitted: Admitted | None = None,
    ) -> Appended:
        """Has `admit` check a producer's batch and appends it. `admitted`: what a thread made of it, if the topic's
        rules are still the same. Raises ApiError, or Heavy if there is not so much room `on_loop`; nothing is appended
        then."""
        leader = self.serving(current_leader_epoch)
        if acks == ACKS_ALL and not leader.enough_in_sync:
            raise refusals.not_enough_replicas(self.name, leader)
        if leader.full and (full := leader.without_room):
            raise refusals.disks_full(self.name, full, leader)
        if admitted is None or admitted.rules is not self.settings.door:
            admitted = admit(batch, self.settings.door, now_ms, on_loop)
        header = admitted.header
        if admitted.rules.log_append_time and header.max_timestamp != now_ms:
            header = header._replace(base_timestamp=now_ms, max_timestamp=now_ms)  # it is appended only now
        if header.producer_id:
            stored = self.producers.check(header)
            if stored is not None:
                return self._duplicate(leader, stored, acks)
            if header.base_sequence == 0:
                if not self._host.producer_id_given(header.producer_id):
                    # Whoever gets this id later must not find its first batches "stored before".
                    raise refusals.producer_id_not_given(header.producer_id)
                self.producers.check_room(header.producer_id, self._host.clock_ms())
        try:
            result = self.log.append_as_leader(
                header, admitted.payload, admitted.payload_field, leader_epoch=leader.leader_epoch, now_ms=now_ms
            )
        except CorruptBatch:
            raise corrupt(header.payload_crc, len(admitted.payload)) from None
        except BatchTooLarge as error:
            raise ApiError(pb.ERROR_CODE_MESSAGE_TOO_LARGE, str(error)) from None
        except StorageError as error:
            raise self.storage_error(error) from None
        end_offset = result.last_offset + 1
        clock_ms = self._host.clock_ms()
        self.producers.appended(header, result.base_offset, clock_ms, leader.high_watermark)
        self._grown(leader, end_offset, result.size_bytes, clock_ms)
        time_ms = header.max_timestamp if self.settings.door.log_append_time else -1
        epoch, start, size = leader.leader_epoch, self.log.log_start_offset, result.size_bytes
        return Appended(
            self.topic_id, self.number, epoch, result.base_offset, end_offset, time_ms, start, size, acks, False
        )

    def appended(self, leader: LeaderReplica, headers: Iterable[BatchHeader], size_bytes: int) -> None:
        """These batches are in the log, as an import brought them."""
        clock_ms = self._host.clock_ms()
        for header in headers:
            self.producers.appended(header, header.base_offset, clock_ms, leader.high_watermark)
        self._grown(leader, self.log.log_end_offset, size_bytes, clock_ms)

    def _grown(self, leader: LeaderReplica, end_offset: int, size_bytes: int, clock_ms: int) -> None:
        self._uncommitted.append((end_offset, size_bytes))
        if leader.appended(end_offset, clock_ms):
            self.committed()
        if self.settings.flush_ack:
            self._host.sync_soon(self)
        if self._deadline is None:
            self._arm(leader)
        for watcher in self.watchers.values():
            watcher.grew(self)

    def _duplicate(self, leader: LeaderReplica, stored: StoredBatch, acks: int) -> Appended:
        place, offsets = (self.topic_id, self.number), (stored.base_offset, stored.last_offset + 1)
        start = self.log.log_start_offset
        return Appended(*place, leader.leader_epoch, *offsets, stored.timestamp_ms, start, 0, acks, True)

    def acknowledge(self, appended: Appended, deadline_ms: int, future: asyncio.Future[None]) -> None:
        """Ends `future` when the batch is committed, or with why that is not known."""
        leader = self.leader
        if leader is None or leader.leader_epoch != appended.leader_epoch:
            future.set_exception(refusals.leader_changed(self.name, self._leader_hint()))
        elif appended.end_offset <= leader.high_watermark:
            future.set_result(None)
        else:
            self.acks.add(AckWaiter(appended.end_offset, deadline_ms, future))

    def read(
        self,
        offset: int,
        max_bytes: int,
        *,
        min_one: bool,
        current_leader_epoch: int | None,
        last_fetched_epoch: int | None,
    ) -> ReadResult:
        """Committed batches from the one that holds `offset`. Raises OFFSET_OUT_OF_RANGE, OFFSET_NOT_AVAILABLE and what
        `leading` does."""
        leader = self.serving(current_leader_epoch)
        records = self.log
        end = leader.high_watermark  # read once: it bounds everything below (KAFKA-9835)
        mark = end if leader.high_watermark_known else WITHHELD
        start = records.log_start_offset
        if last_fetched_epoch is not None:
            diverging = self._divergence(last_fetched_epoch, offset)
            if diverging is not None:
                return ReadResult(b"", mark, start, leader.leader_epoch, offset, diverging)
        if start <= offset < end:
            try:
                found = records.read(offset, max_bytes, end, min_one=min_one, verify=True)
            except CorruptBatch as error:
                raise self.damaged_read(offset, error) from None
            except (StorageError, OSError) as error:
                raise self.storage_error(error) from None
            return ReadResult(found.data, mark, start, leader.leader_epoch, found.next_offset, mixed=records.mixed)
        if mark == WITHHELD and offset >= end:
            raise refusals.offset_not_available(self.name, leader)
        if not start <= offset <= records.log_end_offset:
            raise refusals.out_of_range(self.name, offset, start, end)
        return ReadResult(b"", mark, start, leader.leader_epoch, offset)

    def _divergence(self, last_fetched_epoch: int, offset: int) -> tuple[int, int] | None:
        records = self.log
        epoch_end = records.epochs.end_offset_for(last_fetched_epoch, records.log_end_offset)
        return divergence(last_fetched_epoch, offset, epoch_end, records.log_start_offset)

    def latest_offset(self, current_leader_epoch: int | None) -> int:
        """The high watermark. Raises OFFSET_NOT_AVAILABLE while a new leader withholds it."""
        leader = self.serving(current_leader_epoch)
        if not leader.high_watermark_known:
            raise refusals.offset_not_available(self.name, leader)
        return leader.high_watermark

    def delete_records(self, before: int) -> int:
        """Trims the head up to `before` (-1: the high watermark); returns the new log start. Followers learn it with
        their next fetch. Raises OFFSET_OUT_OF_RANGE above the high watermark."""
        leader = self.serving(None)
        target = leader.high_watermark if before == -1 else before
        if not 0 <= target <= leader.high_watermark:
            raise refusals.out_of_range(f"records of {self.name} to delete", before, 0, leader.high_watermark)
        return self.trim(target)

    def trim(self, before: int) -> int:
        """As `delete_records`, up to an offset that is committed."""
        self.deleted_before = max(self.deleted_before, before)
        if self.log.advance_log_start(before):
            self._tell_marks()
            self._host.checkpoint_soon()
        return self.log.log_start_offset

    @property
    def kept_log_start(self) -> int:
        """The log start as it would be after a crash at this moment, at least."""
        return min(self._kept_log_start, self.log.log_start_offset)

    def checkpointed(self, log_start: int) -> None:
        """The log start is remembered."""
        if log_start > self._kept_log_start:
            self._kept_log_start = log_start
            if self.follower is not None:
                self._host.position_moved(self)

    @property
    def leads_alone(self) -> bool:
        """Whether no other replica has what this one has."""
        return self.leader is not None and self.leader.isr == {self._host.node_id}

    def damaged_read(self, offset: int, error: CorruptBatch) -> ApiError:
        """The answer to who has met a bad batch at or behind `offset`. Nobody gets it; the log is looked at."""
        self._host.suspect(self, offset)
        return ApiError(pb.ERROR_CODE_CORRUPT_MESSAGE, f"{self.name} at offset {offset}: {error}")

    # --- for the leader's followers

    def read_for_follower(self, offset: int, max_bytes: int, *, min_one: bool) -> bytes:
        """Batches up to the log end. Raises ApiError, OffsetOutOfRange. A log that cannot be read for a follower leads
        no longer: its followers would fall behind one that only they cannot read."""
        try:
            return self.log.read(offset, max_bytes, self.log.log_end_offset, min_one=min_one, verify=True).data
        except CorruptBatch as error:
            raise self.damaged_read(offset, error) from None
        except OffsetOutOfRange:
            raise
        except (StorageError, OSError) as error:
            raise self.storage_error(error) from None

    def follower_fetched(
        self,
        node_id: int,
        wanted: ReplicaFetchPartition,
        broker_epoch: int | None,
    ) -> tuple[int, int] | None:
        """Takes note of a follower's position, after `leading`; answers where its log diverges from this one, if it
        does. `broker_epoch` None: not the one in the metadata, so the position counts for nothing (KIP-903). Raises
        OFFSET_OUT_OF_RANGE for a position that this log does not reach."""
        leader = self.leader
        assert leader is not None
        records, offset = self.log, wanted.fetch_offset
        diverging = self._divergence(wanted.last_fetched_epoch, offset)
        if diverging is not None:
            return diverging
        if not records.log_start_offset <= offset <= records.log_end_offset:
            raise refusals.out_of_range(
                f"{self.name} at replica {node_id}", offset, records.log_start_offset, records.log_end_offset
            )
        if broker_epoch is None:
            return None
        self.follower_log_starts[node_id] = wanted.log_start_offset
        if leader.fetched(node_id, broker_epoch, offset, wanted.synced_end_offset, self._host.clock_ms()):
            self.committed()
        if node_id not in leader.maximal_isr:
            self._propose(leader.propose_expand(node_id))
        if self._deadline is None:
            self._arm(leader)
        return None

    def _arm(self, leader: LeaderReplica) -> None:
        """What only time changes is looked at when its time has come, though nothing else happens. An event may bring
        the next look forward, never put it off: who is late would stay for as long as something happens."""
        if self.offline is None:
            now_ms = self._host.clock_ms()
            deadline_ms = leader.deadline_ms(now_ms)
            if deadline_ms is not None and (self._deadline is None or deadline_ms < self._deadline_ms):
                self._disarm()
                self._deadline_ms = deadline_ms
                self._deadline = self._host.call_in(max(deadline_ms - now_ms, 0), self._time_has_come)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _time_has_come(self) -> None:
        self._deadline = None
        leader = self.leader
        if leader is None or self.offline is not None:
            return
        if leader.recheck(self._host.clock_ms()):
            self.committed()
        change = leader.propose_shrink(self._host.clock_ms())
        if change is not None:
            log.warning("isr_shrink", partition=self.name, isr=sorted(leader.isr), wanted=sorted(change.nodes))
        self._propose(change)
        self.take_in()
        self._arm(leader)

    def take_in(self) -> None:
        """Called when something has changed that may have kept a follower out when it asked: an idle follower asks once
        and then waits for data."""
        if self.leader is not None and self.offline is None:
            self._propose(self.leader.propose_join(self.watchers, self._host.clock_ms()))

    def disks_full(self, nodes: frozenset[int]) -> None:
        if self.leader is not None and self.leader.disks_full(nodes, self._host.clock_ms()):
            self.committed()
        self.take_in()

    def isr_altered(self, change: IsrChange, isr: list[int], leader_epoch: int, partition_epoch: int) -> None:
        """The controller's answer to a change."""
        if self.leader is None:
            return
        before = self.leader.isr
        if self.leader.altered(change, isr, leader_epoch, partition_epoch, self._host.clock_ms()):
            self.committed()
        self._after_isr_change(before)

    def isr_refused(self, change: IsrChange, code: int) -> Refusal:
        """The controller's refusal of a change, or its silence; answers what to do with the change."""
        if self.leader is None:
            return Refusal.AWAIT_METADATA
        now_ms = self._host.clock_ms()
        refusal = self.leader.refused(change, code, now_ms)
        if refusal is Refusal.REVERTED:
            if self.leader.recheck(now_ms):
                self.committed()
            self._arm(self.leader)
        return refusal

    def _after_isr_change(self, before: frozenset[int]) -> None:
        leader = self.leader
        assert leader is not None
        if leader.isr != before:
            log.info("isr_changed", partition=self.name, isr=sorted(leader.isr), before=sorted(before))
            if not leader.enough_in_sync:
                self.acks.fail(lambda: refusals.isr_shrank(self.name, leader))
        self.take_in()
        self._arm(leader)

    def _propose(self, change: IsrChange | None) -> None:
        if change is not None:
            self._host.alter_isr(self, change)

    # --- as a follower

    def append_from_leader(self, data: bytes | memoryview, now_ms: int) -> None:
        """Appends a slice of the leader's log, each batch checked: none of an epoch above the one that is followed.
        Raises CorruptBatch, StorageError."""
        follower = self.follower
        assert follower is not None
        headers = self.log.append_as_follower(data, leader_epoch=follower.leader_epoch, now_ms=now_ms)
        clock_ms = self._host.clock_ms()
        for header in headers:
            self.producers.appended(header, header.base_offset, clock_ms, follower.high_watermark)
        if self.settings.flush_ack:
            self._host.sync_soon(self)

    def observe_leader(self, high_watermark: int, deleted_before: int, *, has_all: bool) -> None:
        """The leader's marks, as far as the own log reaches: log start <= high watermark <= log end (KAFKA-9491).
        `deleted_before`: no more is dropped here on a leader's word. `has_all`: its log has no more than this one."""
        follower = self.follower
        assert follower is not None
        follower.observed(high_watermark, self.log.log_end_offset)
        if deleted_before > self.log.log_start_offset and self.log.advance_log_start(
            min(deleted_before, follower.high_watermark)
        ):
            self._host.checkpoint_soon()
        if self.log.refetching and has_all:  # whatever was once damaged, too
            log.info("damage_refetched", partition=self.name, log_end=self.log.log_end_offset)
            self.log.refetched()

    def diverged(self, diverging: tuple[int, int]) -> None:
        """The leader says where the logs part. Raises StorageError."""
        records = self.log
        own = records.epochs.end_offset_for(diverging[0], records.log_end_offset)
        cut = truncation_offset(diverging, own, records.log_start_offset)
        log.info("truncating", partition=self.name, log_end=records.log_end_offset, to=cut, diverging=diverging)
        if cut <= records.log_start_offset:
            self.restart_log(cut)
        else:
            self._truncate(cut)

    def restart_log(self, offset: int) -> None:
        """Drops everything: the leader's log has nothing in common with this one, or starts after its end."""
        records = self.log
        log.warning("log_restarted", partition=self.name, log_end=records.log_end_offset, at=offset)
        if offset > records.log_end_offset:
            # What its producers wrote in between is in no log any more. A batch of then, sent again, must not pass for
            # the next one: nobody is known.
            self._cut(records.reset_to, offset, ProducerTable())
        else:
            self._cut(records.reset_to, offset, *self.producers.until(offset))
        if self.follower is not None:
            # A leader's log starts no higher than its high watermark, so this one's mark is not below it either.
            self.follower.observed(offset, offset)

    def _truncate(self, offset: int) -> None:
        """Cuts the log, then the mark (KAFKA-14704), then what the producers wrote after it. Raises StorageError."""
        try:
            self._cut(self.log.truncate_to, offset, *self.producers.until(offset))
        except CorruptBatch as error:
            raise LogDamaged(str(error)) from None

    def _cut(
        self, cut: Callable[[int], None], offset: int, producers: ProducerTable, unknown: Collection[int] = ()
    ) -> None:
        """`producers` as they are afterwards, but for those `unknown`. They are written down first: what of theirs was
        trimmed no log has. Never goes on without them: this replica may lead next. Raises CorruptBatch and
        StorageError."""
        self.cuts += 1
        self._host.log_cut(self, None if unknown else producers)
        cut(offset)
        self._kept_log_start = self.log.log_start_offset  # a cut writes it down
        end = self.log.log_end_offset
        self.producers = producers
        if self.follower is not None and self.follower.truncated(end):
            log.error("committed_records_truncated", partition=self.name, log_end=end)
        if unknown:
            producers.take(self._replayed(ProducerTable(), self.high_watermark, unknown))

    def _read_producers(self, saved: ProducerTable) -> None:
        try:
            self.rebuild_producers(saved, self.high_watermark)
        except CorruptBatch as error:
            raise LogDamaged(str(error)) from None

    def saved_producers(self, producers: ProducerTable | None = None) -> dict[str, Any]:
        """What to write down of the producers, those of now or as they are to be; with what tells whose log it was."""
        table = self.producers if producers is None else producers
        epoch = self.log.epochs.epoch_at(table.end_offset - 1)
        saved = table.snapshot(self._host.clock_ms())
        return saved if epoch is None else {**saved, "leader_epoch": epoch}

    def rebuild_producers(self, saved: ProducerTable | None, high_watermark: int) -> None:
        """Replays the log after what `saved` covers; what was trimmed, too, where it is still there. Where the log lost
        what that is from, and has gone on with another leader's batches, it is of no use: within an epoch there is one
        log. Raises CorruptBatch."""
        records = self.log
        table = ProducerTable() if saved is None else saved
        epoch = records.epochs.epoch_at(table.end_offset - 1)
        is_another = table.saved_epoch is not None and epoch is not None and table.saved_epoch != epoch
        if is_another or table.end_offset < records.first_offset or table.truncated(records.log_end_offset):
            table = ProducerTable()
        try:
            self.producers = self._replayed(table, high_watermark)
        except CorruptBatch:
            if table.end_offset >= records.log_start_offset:
                raise
            table = ProducerTable()  # what nobody reads any more is no damage
            table.end_offset = records.log_start_offset
            self.producers = self._replayed(table, high_watermark)

    def _replayed(
        self, table: ProducerTable, high_watermark: int, wanted: Collection[int] | None = None
    ) -> ProducerTable:
        records = self.log
        end = records.log_end_offset
        headers = (batch.header for batch in records.scan(max(table.end_offset, records.first_offset), end))
        if wanted is not None:
            headers = (header for header in headers if header.producer_id in wanted)
        table.replay(headers, end, self._host.clock_ms(), high_watermark)
        return table

    # --- events

    def synced(self) -> None:
        """The log's `synced_end_offset` moved: on a follower that is news for the leader."""
        if self.leader is None:
            self._host.position_moved(self)
        elif self.leader.synced(self.log.synced_end_offset, self._host.clock_ms()):
            self.committed()

    def committed(self) -> None:
        """The high watermark moved: answer who waits for that."""
        leader = self.leader
        assert leader is not None
        mark = leader.high_watermark
        size = 0
        uncommitted = self._uncommitted
        while uncommitted and uncommitted[0][0] <= mark:
            size += uncommitted.popleft()[1]
        self.acks.committed(mark)
        if self.readers:
            for reader in list(self.readers):
                reader.missing_bytes -= size
                if reader.missing_bytes <= 0:
                    reader.wake()
        self._tell_marks()

    def _tell_marks(self) -> None:
        for watcher in self.watchers.values():
            watcher.marked(self)

    def wake_readers(self) -> None:
        for reader in list(self.readers):
            reader.wake()

    def storage_error(self, error: Exception) -> ApiError:
        """What a client is told of a log's error. A failed log goes offline, alone (protocol.md section 10)."""
        if isinstance(error, DiskFull):
            self._host.no_space()
        if passing(error):
            return ApiError(pb.ERROR_CODE_KAFKA_STORAGE_ERROR, str(error), retry_after_ms=1000)
        if isinstance(error, LogFailed | LogDamaged | OSError):
            self.fail(error)
        return ApiError(pb.ERROR_CODE_KAFKA_STORAGE_ERROR, f"{self.name}: {error}")

    def fail(self, error: Exception) -> None:
        """Takes the partition offline on this node."""
        if self.offline is not None:
            return
        self.offline = str(error)
        self.damaged = isinstance(error, LogDamaged)
        log.error("partition_offline", partition=self.name, error=str(error))
        self.acks.fail(lambda: refusals.log_failed(self.name))
        self.wake_readers()
        self._host.log_failed(self, error)

    def close(self, message: str, code: int) -> None:
        """Ends all waiting; the caller closes or deletes the log."""
        self.closed = True
        self._disarm()
        self.leader = None
        self.follower = None
        self.acks.fail(lambda: ApiError(code, message))
        self.wake_readers()

    def _leader_hint(self) -> refusals.Hint:
        state = self.state
        if state is None:
            return refusals.Hint()
        if state.leader == NO_LEADER:
            return refusals.Hint(epoch=state.leader_epoch)
        return refusals.Hint(state.leader, state.leader_epoch, self._host.address_of(state.leader))
