"""One partition with a real log: what clients and followers see at every boundary (invariants.md 2.3)."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from node import limits
from node.broker import codecs, lookup, times
from node.broker.host import WITHHELD
from node.broker.partition import Partition
from node.broker.producers import UNCOMMITTED_MAX
from node.broker.settings import topic_settings
from node.broker.waiters import DataWaiter
from node.metadata.image import Partition as PartitionState
from ottla.internal.v1.replication_pb2 import ReplicaFetchPartition
from ottla.internal.v1.view_pb2 import RecordBatchView
from ottla.protocol.batch import CorruptBatch, crc_seed
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb
from ottla.v1.record_pb2 import Codec, Record, Records, Segment
from storage.errors import LogDamaged, OffsetsOutOfOrder
from storage.fs import OsFile, OsFileSystem
from storage.log import Log
from tests.node.broker.host import Host

TOPIC = bytes([3] * 16)
NOW_MS = 1_700_000_000_000
BROKERS = {1: 11, 2: 12}


def make(host: Host, path: Path, **configs: str) -> Partition:
    settings = topic_settings({name.replace("_", "."): value for name, value in configs.items()}, {})
    records = Log.open(OsFileSystem(), str(path), TOPIC, 0, settings.log, now_ms=NOW_MS)
    return Partition(host, TOPIC, 0, "events", records, settings)


def state(leader: int = 1, epoch: int = 0, isr: tuple[int, ...] = (1, 2)) -> PartitionState:
    return PartitionState(TOPIC, 0, (1, 2), (), isr, leader=leader, leader_epoch=epoch)


def lead(partition: Partition, epoch: int = 0, isr: tuple[int, ...] = (1, 2)) -> None:
    partition.lead(state(1, epoch, isr), BROKERS, 1000)


def batch(*values: bytes, **fields: Any) -> RecordBatchView:
    return RecordBatchView(records=Records(records=[Record(value=v) for v in values]).SerializeToString(), **fields)


def append(partition: Partition, *values: bytes, **fields: Any) -> Any:
    acks = fields.pop("acks", -1)
    epoch = fields.pop("current_leader_epoch", None)
    now_ms = fields.pop("now_ms", NOW_MS)
    return partition.append(batch(*values, **fields), acks=acks, current_leader_epoch=epoch, now_ms=now_ms)


def fetched(partition: Partition, offset: int, *, epoch: int = 0, **fields: int) -> tuple[int, int] | None:
    wanted = ReplicaFetchPartition(fetch_offset=offset, last_fetched_epoch=epoch, synced_end_offset=offset, **fields)
    return partition.follower_fetched(2, wanted, 12)


def read(partition: Partition, offset: int, **fields: Any) -> Any:
    arguments = {"min_one": True, "current_leader_epoch": None, "last_fetched_epoch": None} | fields
    return partition.read(offset, 2**20, **arguments)


def for_time(partition: Partition, timestamp_ms: int) -> Any:
    search = times.offset_for_time(partition, timestamp_ms)
    try:
        look = next(search)
        while True:
            look = search.send(look())
    except StopIteration as end:
        return end.value


def refused(call: Any) -> ApiError:
    with pytest.raises(ApiError) as refusal:
        call()
    return refusal.value


class TestRead:
    @pytest.fixture
    def five(self, partition: Partition) -> Partition:
        """Offsets 1 to 4 of five records in batches 0-1, 2, 3, 4; the high watermark is 3, the log starts at 1."""
        lead(partition)
        append(partition, b"0", b"1")
        for value in (b"2", b"3", b"4"):
            append(partition, value)
        fetched(partition, 3)
        partition.delete_records(1)
        return partition

    @pytest.mark.parametrize(
        ("offset", "expected"),
        [
            (-1, pb.ERROR_CODE_OFFSET_OUT_OF_RANGE),
            (-(2**63), pb.ERROR_CODE_OFFSET_OUT_OF_RANGE),
            (0, pb.ERROR_CODE_OFFSET_OUT_OF_RANGE),
            (1, 3),
            (2, 3),
            (3, 3),
            (4, 4),
            (5, 5),
            (6, pb.ERROR_CODE_OFFSET_OUT_OF_RANGE),
            (2**63 - 1, pb.ERROR_CODE_OFFSET_OUT_OF_RANGE),
        ],
    )
    def test_every_boundary_has_an_answer(self, five: Partition, offset: int, expected: int) -> None:
        # KAFKA-725: between high watermark and log end there is an answer, too: nothing yet.
        if offset in (1, 2, 3, 4, 5):
            found = read(five, offset)
            assert found.next_offset == expected
            assert (found.data == b"") == (offset >= 3)
            assert found.high_watermark == 3
        else:
            assert refused(lambda: read(five, offset)).code == expected

    def test_nothing_above_the_high_watermark_is_served(self, five: Partition) -> None:
        values = [r.value for b in Segment.FromString(read(five, 1).data).batches for r in b.records.records]
        assert values == [b"0", b"1", b"2"], "whole batches, none that reaches the mark"

    def test_a_reader_of_another_epoch_is_told_so(self, five: Partition) -> None:
        lead(five, epoch=4)
        old = refused(lambda: read(five, 1, current_leader_epoch=3))
        assert (old.code, old.leader, old.epoch) == (pb.ERROR_CODE_FENCED_LEADER_EPOCH, 1, 4)
        assert refused(lambda: read(five, 1, current_leader_epoch=5)).code == pb.ERROR_CODE_UNKNOWN_LEADER_EPOCH

    def test_a_reader_whose_position_was_truncated_away_learns_where(self, five: Partition) -> None:
        lead(five, epoch=4)
        append(five, b"new")
        found = read(five, 6, last_fetched_epoch=2)
        assert (found.diverging, found.data) == ((0, 5), b"")

    def test_a_new_leader_withholds_its_mark_but_serves_what_is_committed_for_good(self, five: Partition) -> None:
        # KIP-207: an older client may have seen a higher mark from the last leader.
        lead(five, epoch=1)
        found = read(five, 1)
        assert found.data
        assert found.high_watermark == WITHHELD
        assert refused(lambda: read(five, 3)).code == pb.ERROR_CODE_OFFSET_NOT_AVAILABLE
        assert refused(lambda: read(five, 99)).code == pb.ERROR_CODE_OFFSET_NOT_AVAILABLE
        assert refused(lambda: five.latest_offset(None)).code == pb.ERROR_CODE_OFFSET_NOT_AVAILABLE
        fetched(five, 5)
        assert five.latest_offset(None) == 5

    def test_who_does_not_lead_names_the_leader(self, five: Partition) -> None:
        five.follow(state(leader=2, epoch=7))
        error = refused(lambda: read(five, 1))
        assert error.code == pb.ERROR_CODE_NOT_LEADER_OR_FOLLOWER
        assert (error.leader, error.epoch, error.address) == (2, 7, "host-2:9192")
        assert refused(lambda: append(five, b"x")).code == pb.ERROR_CODE_NOT_LEADER_OR_FOLLOWER
        five.follow(state(leader=-1, epoch=8))
        assert refused(lambda: read(five, 1)).leader is None

    def test_a_damaged_batch_is_an_error_never_wrong_bytes(self, five: Partition) -> None:
        path = next(Path(five.log.directory).glob("*.log"))
        data = bytearray(path.read_bytes())
        data[30] ^= 1
        path.write_bytes(data)
        assert refused(lambda: read(five, 1)).code == pb.ERROR_CODE_CORRUPT_MESSAGE


class TestAppend:
    def test_below_min_isr_nothing_is_appended_with_acks_all(self, host: Host, tmp_path: Path) -> None:
        partition = make(host, tmp_path / "log", min_insync_replicas="2")
        lead(partition, isr=(1,))
        error = refused(lambda: append(partition, b"x"))
        assert error.code == pb.ERROR_CODE_NOT_ENOUGH_REPLICAS
        assert partition.log.log_end_offset == 0
        assert append(partition, b"x", acks=1).base_offset == 0

    def test_a_repeated_batch_is_answered_with_its_first_place(self, partition: Partition) -> None:
        lead(partition)
        first = append(partition, b"a", b"b", producer_id=5)
        again = append(partition, b"a", b"b", producer_id=5)
        assert (again.base_offset, again.end_offset, again.duplicate) == (0, 2, True)
        assert (first.duplicate, partition.log.log_end_offset) == (False, 2)

    def test_a_new_producer_pushes_out_none_that_is_at_work(
        self, partition: Partition, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "PRODUCERS_MAX", 1)
        lead(partition)
        append(partition, b"a", producer_id=5)
        refusal = refused(lambda: append(partition, b"a", producer_id=6))
        assert refusal.code == pb.ERROR_CODE_THROTTLING_QUOTA_EXCEEDED
        assert append(partition, b"a", producer_id=5).duplicate
        assert append(partition, b"b").base_offset == 1, "who has no id needs no room"

    def test_a_producer_id_that_nobody_was_given_is_not_taken_from_anyone(self, partition: Partition) -> None:
        lead(partition)
        append(partition, b"a", producer_id=999)
        refusal = refused(lambda: append(partition, b"a", producer_id=1000))
        assert refusal.retriable, "this node may not have heard of it yet"
        assert "1000" in refusal.message
        assert partition.log.log_end_offset == 1

    def test_a_wrong_payload_checksum_is_refused(self, partition: Partition) -> None:
        lead(partition)
        assert refused(lambda: append(partition, b"a", payload_crc=1)).code == pb.ERROR_CODE_CORRUPT_MESSAGE
        assert partition.log.log_end_offset == 0

    def test_a_refused_batch_leaves_no_trace_in_the_producer_table(self, partition: Partition) -> None:
        lead(partition)
        refused(lambda: append(partition, b"a", producer_id=5, payload_crc=1))
        assert append(partition, b"a", producer_id=5).base_offset == 0

    def test_log_append_time_is_answered(self, host: Host, tmp_path: Path) -> None:
        partition = make(host, tmp_path / "log", message_timestamp_type="LogAppendTime")
        lead(partition)
        assert append(partition, b"a", base_timestamp=1).log_append_time_ms == NOW_MS

    def test_full_disks_refuse_where_fewer_than_min_isr_have_room(self, host: Host, tmp_path: Path) -> None:
        partition = make(host, tmp_path / "log", min_insync_replicas="2")
        lead(partition)
        partition.disks_full(frozenset({2}))
        error = refused(lambda: append(partition, b"x"))
        assert (error.code, error.retriable) == (pb.ERROR_CODE_KAFKA_STORAGE_ERROR, True)
        assert "[2]" in error.message
        partition.reconfigure(topic_settings({"min.insync.replicas": "1"}, {}), BROKERS, 1000)
        append(partition, b"x", acks=1)
        partition.disks_full(frozenset({1}))
        assert "node 1, which leads" in refused(lambda: append(partition, b"x", acks=1)).message
        partition.disks_full(frozenset())
        append(partition, b"x", acks=1)

    def test_a_failed_write_takes_this_partition_offline_and_nothing_else(
        self, partition: Partition, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # KAFKA-10778: after a failed append file and offsets disagree; nothing may follow.
        lead(partition)
        append(partition, b"a")

        def broken(*_: object) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(OsFile, "write_at", broken)
        assert refused(lambda: append(partition, b"b")).code == pb.ERROR_CODE_KAFKA_STORAGE_ERROR
        monkeypatch.undo()
        assert refused(lambda: append(partition, b"c")).code == pb.ERROR_CODE_KAFKA_STORAGE_ERROR
        assert len(host.failures) == 1

    def test_a_full_disk_refuses_one_batch_and_takes_the_next(
        self, partition: Partition, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lead(partition)

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(OsFile, "write_at", full)
        error = refused(lambda: append(partition, b"a", producer_id=5))
        assert (error.code, error.retriable) == (pb.ERROR_CODE_KAFKA_STORAGE_ERROR, True)
        monkeypatch.undo()
        assert append(partition, b"a", producer_id=5).base_offset == 0
        assert host.failures == []


class TestAcknowledgement:
    async def test_comes_with_the_high_watermark(self, partition: Partition) -> None:
        lead(partition)
        futures = []
        for value in (b"a", b"b"):
            future = asyncio.get_running_loop().create_future()
            partition.acknowledge(append(partition, value), 1000, future)
            futures.append(future)
        fetched(partition, 1)
        assert [future.done() for future in futures] == [True, False]
        fetched(partition, 2)
        assert futures[1].result() is None

    async def test_of_a_duplicate_waits_for_the_first_copy(self, partition: Partition) -> None:
        lead(partition)
        append(partition, b"a", producer_id=5)
        later = asyncio.get_running_loop().create_future()
        partition.acknowledge(append(partition, b"b", producer_id=5, base_sequence=1), 1000, later)
        again = asyncio.get_running_loop().create_future()
        partition.acknowledge(append(partition, b"a", producer_id=5), 1000, again)
        assert not again.done()
        fetched(partition, 1)
        assert again.done()
        assert not later.done()

    async def test_is_unknown_when_the_leader_changes(self, partition: Partition) -> None:
        # KAFKA-13574: "not leader" after the append does not mean that the record is not in the log.
        lead(partition)
        future = asyncio.get_running_loop().create_future()
        partition.acknowledge(append(partition, b"a"), 1000, future)
        partition.follow(state(leader=2, epoch=1))
        error = future.exception()
        assert isinstance(error, ApiError)
        assert (error.code, error.leader, error.retriable) == (pb.ERROR_CODE_NOT_LEADER_OR_FOLLOWER, 2, True)

    async def test_a_paused_leader_acknowledges_nothing_of_its_old_epoch(self, partition: Partition) -> None:
        # Features R5: stopped for a while, it wakes up and hears of its successor only then.
        lead(partition)
        appended = append(partition, b"a")
        partition.follow(state(leader=2, epoch=1))
        lead(partition, epoch=2)
        fetched(partition, 1)
        future = asyncio.get_running_loop().create_future()
        partition.acknowledge(appended, 1000, future)
        assert isinstance(future.exception(), ApiError)

    async def test_a_cancelled_waiter_does_not_disturb_the_others(self, partition: Partition) -> None:
        lead(partition)
        gone, stays = (asyncio.get_running_loop().create_future() for _ in range(2))
        partition.acknowledge(append(partition, b"a"), 1000, gone)
        partition.acknowledge(append(partition, b"b"), 1000, stays)
        gone.cancel()
        fetched(partition, 2)
        assert stays.done()


class TestLongPoll:
    async def test_wakes_when_enough_bytes_are_committed(self, partition: Partition) -> None:
        lead(partition)
        waiter = DataWaiter(asyncio.get_running_loop(), [partition], 250, 60_000)
        append(partition, b"a")
        append(partition, b"b")
        append(partition, b"c")
        fetched(partition, 1)
        assert not waiter.future.done(), "one batch of some 100 bytes is not enough"
        fetched(partition, 3)
        assert waiter.future.done()
        await asyncio.sleep(0)
        assert not partition.readers

    async def test_ends_after_its_time_and_when_cancelled(self, partition: Partition) -> None:
        lead(partition)
        await DataWaiter(asyncio.get_running_loop(), [partition], 1, 10).future
        waiter = DataWaiter(asyncio.get_running_loop(), [partition], 1, 60_000)
        waiter.future.cancel()
        await asyncio.sleep(0)
        assert not partition.readers

    async def test_wakes_when_the_leader_changes(self, partition: Partition) -> None:
        lead(partition)
        waiter = DataWaiter(asyncio.get_running_loop(), [partition], 1, 60_000)
        partition.follow(state(leader=2, epoch=1))
        assert waiter.future.done()


class TestFollowing:
    @pytest.fixture
    def ahead(self, host: Host, tmp_path: Path) -> Partition:
        """The leader's side: batches 0, 1, 2 of epoch 0."""
        made = make(Host(), tmp_path / "leader")
        made._host.node_id = 2
        made.lead(state(leader=2), BROKERS, 1000)
        for value in (b"0", b"1", b"2"):
            append(made, value, producer_id=5, base_sequence=int(value))
        return made

    def slice(self, ahead: Partition, start: int) -> bytes:
        return bytes(ahead.log.read(start, 2**20, ahead.log.log_end_offset, min_one=True).data)

    def test_keeps_the_leaders_bytes_and_learns_its_producers(self, partition: Partition, ahead: Partition) -> None:
        partition.follow(state(leader=2))
        partition.append_from_leader(self.slice(ahead, 0), NOW_MS)
        assert self.slice(partition, 0) == self.slice(ahead, 0)
        lead(partition, epoch=1)
        assert append(partition, b"1", producer_id=5, base_sequence=1).duplicate
        assert append(partition, b"3", producer_id=5, base_sequence=3).base_offset == 3

    def test_log_start_never_passes_the_high_watermark(self, partition: Partition, ahead: Partition) -> None:
        # KAFKA-9491: out of range on the new leader.
        partition.follow(state(leader=2))
        partition.append_from_leader(self.slice(ahead, 0), NOW_MS)
        partition.observe_leader(1, 2, has_all=False)
        assert (partition.log.log_start_offset, partition.high_watermark) == (1, 1)
        partition.observe_leader(3, 2, has_all=False)
        assert (partition.log.log_start_offset, partition.high_watermark) == (2, 3)

    def test_the_mark_never_passes_the_own_log_end(self, partition: Partition, ahead: Partition) -> None:
        partition.follow(state(leader=2))
        partition.append_from_leader(self.slice(ahead, 0), NOW_MS)
        partition.observe_leader(99, 0, has_all=False)
        assert partition.high_watermark == 3

    def test_a_diverging_answer_cuts_log_mark_and_producers(self, partition: Partition, host: Host) -> None:
        # KAFKA-14704, KAFKA-13141: the log first, then the mark; what was cut is not counted.
        lead(partition)
        append(partition, b"a", producer_id=5)
        append(partition, b"b", producer_id=5, base_sequence=1)
        partition.follow(state(leader=2, epoch=1))
        partition.diverged((0, 1))
        assert (partition.log.log_end_offset, host.cuts) == (1, 1)
        lead(partition, epoch=2)
        other = append(partition, b"other", producer_id=5, base_sequence=1)
        assert (other.base_offset, other.duplicate) == (1, False)

    def test_a_cut_at_the_log_start_keeps_who_wrote_before_it(self, partition: Partition) -> None:
        """Its last batch below the cut is trimmed, and five newer ones are cut: only the table knows of it."""
        lead(partition)
        append(partition, b"0", producer_id=5)
        append(partition, b"1", producer_id=5, base_sequence=1)
        fetched(partition, 2)
        for number in range(2, 8):
            append(partition, b"x", producer_id=5, base_sequence=number)
        partition.delete_records(2)
        partition.follow(state(leader=2, epoch=1))
        partition.diverged((0, 2))
        assert (partition.log.log_start_offset, partition.log.log_end_offset) == (2, 2)
        lead(partition, epoch=2)
        assert append(partition, b"1", producer_id=5, base_sequence=1).duplicate
        assert append(partition, b"other", producer_id=5, base_sequence=2).base_offset == 2

    def test_who_wrote_before_a_gap_is_not_known_behind_it(self, partition: Partition) -> None:
        """Where the leader's log starts behind this one's end, nobody knows what was written in between: a batch of
        then, sent again, is stored."""
        lead(partition)
        append(partition, b"0", producer_id=5)
        partition.follow(state(leader=2, epoch=1))
        partition.restart_log(4)
        lead(partition, epoch=2)
        refusal = refused(lambda: append(partition, b"1", producer_id=5, base_sequence=1))
        assert refusal.code == pb.ERROR_CODE_OUT_OF_ORDER_SEQUENCE_NUMBER

    def test_nothing_in_common_means_starting_again_where_the_leader_says(self, partition: Partition) -> None:
        lead(partition, epoch=5)
        append(partition, b"a")
        partition.follow(state(leader=2, epoch=6))
        partition.diverged((3, 0))
        assert partition.log.log_end_offset == 0
        assert partition.log.epochs.latest_epoch is None

    def test_a_bad_batch_is_refused_whole(self, partition: Partition, ahead: Partition) -> None:
        partition.follow(state(leader=2))
        data = bytearray(self.slice(ahead, 0))
        data[-1] ^= 1
        with pytest.raises(CorruptBatch):
            partition.append_from_leader(bytes(data), NOW_MS)
        assert partition.log.log_end_offset == 0
        with pytest.raises(OffsetsOutOfOrder):
            partition.append_from_leader(self.slice(ahead, 0) * 2, NOW_MS)
        assert partition.log.log_end_offset == 0

    def test_the_leader_counts_no_position_of_another_incarnation(self, ahead: Partition) -> None:
        # KIP-903: the stream's broker epoch is not the one in the metadata.
        wanted = ReplicaFetchPartition(fetch_offset=3, last_fetched_epoch=0)
        assert ahead.follower_fetched(1, wanted, None) is None
        assert ahead.high_watermark == 0
        assert ahead.follower_fetched(1, wanted, 11) is None
        assert ahead.high_watermark == 3

    def test_a_diverged_position_is_not_counted(self, ahead: Partition) -> None:
        # KAFKA-13141
        wanted = ReplicaFetchPartition(fetch_offset=4, last_fetched_epoch=0)
        assert ahead.follower_fetched(1, wanted, 11) == (0, 3)
        assert ahead.high_watermark == 0

    def test_a_position_outside_of_the_log_is_out_of_range(self, ahead: Partition) -> None:
        wanted = ReplicaFetchPartition(fetch_offset=9, last_fetched_epoch=-1)
        assert refused(lambda: ahead.follower_fetched(1, wanted, 11)).code == pb.ERROR_CODE_OFFSET_OUT_OF_RANGE


class TestDamage:
    @pytest.fixture
    def damaged(self, host: Host, tmp_path: Path) -> Partition:
        """Three batches, synced; then a bit flips in the second one."""
        first = make(host, tmp_path / "log")
        lead(first)
        for value in (b"0", b"1", b"2"):
            append(first, value, producer_id=5, base_sequence=int(value))
        first.log.close(clean=False)
        path = next((tmp_path / "log").glob("*.log"))
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        settings = topic_settings({}, {})
        records = Log.open(
            OsFileSystem(), str(tmp_path / "log"), TOPIC, 0, settings.log, now_ms=NOW_MS, complete_is_damage=True
        )
        assert records.damaged_at == 1
        return Partition(host, TOPIC, 0, "events", records, settings)

    def test_a_damaged_log_never_leads(self, damaged: Partition, host: Host) -> None:
        # FAST'18, NATS 2.12: damage taken for the end, and then led with the shorter log.
        lead(damaged, epoch=1)
        assert damaged.leader is None
        assert len(host.failures) == 1
        assert refused(lambda: append(damaged, b"x")).code == pb.ERROR_CODE_KAFKA_STORAGE_ERROR
        assert damaged.log.damaged_at == 1, "nothing was cut"

    def test_a_log_whose_damage_was_cut_never_leads_before_it_was_fetched_again(
        self, damaged: Partition, host: Host, tmp_path: Path
    ) -> None:
        """Its ISR membership may be older than the damage: the controller hears of it late, or another one does."""
        damaged.follow(state(leader=2, epoch=1))
        damaged.log.close()
        again = make(host, tmp_path / "log")  # not even a clean restart makes it forget
        lead(again, epoch=2)
        assert again.leader is None
        assert again.offline is not None

    def test_an_operator_may_have_it_lead_all_the_same(self, damaged: Partition) -> None:
        damaged.follow(state(leader=2, epoch=1))
        damaged.lead(replace(state(1, epoch=2), recovering=True), BROKERS, 1000)
        assert damaged.leader is not None
        assert not damaged.log.refetching

    def test_a_follower_fetches_the_damaged_part_again(self, damaged: Partition) -> None:
        damaged.follow(state(leader=2, epoch=1))
        assert (damaged.log.damaged_at, damaged.log.log_end_offset) == (None, 1)
        damaged.observe_leader(0, 0, has_all=True)
        lead(damaged, epoch=2)
        assert append(damaged, b"0", producer_id=5).duplicate
        assert append(damaged, b"1", producer_id=5, base_sequence=1).base_offset == 1

    def test_a_second_damage_below_the_first_takes_the_partition_offline_alone(
        self, damaged: Partition, host: Host, tmp_path: Path
    ) -> None:
        """What lies below the damage that is known is read for its producers, the first time since the start."""
        path = next((tmp_path / "log").glob("*.log"))
        data = bytearray(path.read_bytes())
        data[10] ^= 0x40  # in the first header: the batch's size
        path.write_bytes(data)
        damaged.follow(state(leader=2, epoch=1))
        assert damaged.offline is not None
        assert damaged.damaged, "to be opened again"
        assert len(host.failures) == 1

    def test_a_cut_of_the_damage_that_fails_takes_the_partition_offline_alone(
        self, damaged: Partition, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(self: OsFile, size: int) -> None:
            raise OSError(5, "injected")

        monkeypatch.setattr(OsFile, "truncate", broken)
        damaged.follow(state(leader=2, epoch=1))
        assert damaged.offline is not None
        assert len(host.failures) == 1

    def test_damage_met_by_a_truncation_takes_the_partition_offline(
        self, partition: Partition, host: Host, tmp_path: Path
    ) -> None:
        """A cut that takes all remembered batches of a producer reads the log for the earlier ones. Never go on without
        them: this replica may lead next, and would store a repeated batch again."""
        lead(partition)
        append(partition, b"0", producer_id=5)
        for number in range(UNCOMMITTED_MAX):
            append(partition, b"x", producer_id=5, base_sequence=1 + number)
        path = next((tmp_path / "own").glob("*.log"))
        data = bytearray(path.read_bytes())
        data[10] ^= 0x40
        path.write_bytes(data)
        partition.follow(state(leader=2, epoch=1))
        with pytest.raises(LogDamaged):
            partition.diverged((0, 1))


class TestLookUp:
    def test_the_first_record_at_or_after_a_time(self, partition: Partition) -> None:
        lead(partition)
        payload = Records(records=[Record(value=b"a"), Record(value=b"b", timestamp_delta=10)]).SerializeToString()
        made = RecordBatchView(records=payload, base_timestamp=NOW_MS, max_timestamp=NOW_MS + 10)
        partition.append(made, acks=1, current_leader_epoch=None, now_ms=NOW_MS)
        append(partition, b"c", base_timestamp=NOW_MS + 20, max_timestamp=NOW_MS + 20)
        fetched(partition, 2)
        assert for_time(partition, 0) == (0, NOW_MS)
        assert for_time(partition, NOW_MS + 1) == (1, NOW_MS + 10)
        assert for_time(partition, NOW_MS + 11) == (None, None), "the third record is not committed"
        fetched(partition, 3)
        assert for_time(partition, NOW_MS + 11) == (2, NOW_MS + 20)
        assert for_time(partition, -3) == (2, NOW_MS + 20)
        assert for_time(partition, NOW_MS + 21) == (None, None)

    def test_of_an_empty_log_finds_nothing(self, partition: Partition) -> None:
        lead(partition)
        assert for_time(partition, -3) == (None, None)
        assert for_time(partition, 5) == (None, None)

    @pytest.mark.parametrize("codec", [Codec.CODEC_GZIP, Codec.CODEC_SNAPPY, Codec.CODEC_LZ4, Codec.CODEC_ZSTD])
    def test_a_reader_without_codecs_gets_plain_records_at_the_same_offsets(
        self, partition: Partition, codec: int
    ) -> None:
        lead(partition)
        append(partition, b"plain")
        packed = codecs.compress(codec, batch(b"x" * 100, b"y" * 100).records)
        partition.append(
            RecordBatchView(compressed_records=packed, attributes=codec),
            acks=1,
            current_leader_epoch=None,
            now_ms=NOW_MS,
        )
        append(partition, b"last")
        fetched(partition, 4)
        stored = read(partition, 0).data
        assert lookup.readable(stored, lookup.Reader(frozenset({codec}), 2**20), crc_seed(TOPIC, 0), 0, 0) == (
            stored,
            None,
        )
        plain, cut = lookup.readable(stored, lookup.Reader(frozenset(), 2**20), crc_seed(TOPIC, 0), 0, 0)
        assert cut is None
        batches = Segment.FromString(plain).batches
        assert [b.base_offset for b in batches] == [0, 1, 3]
        assert [r.value for b in batches for r in b.records.records] == [b"plain", b"x" * 100, b"y" * 100, b"last"]
        assert not any(b.attributes for b in batches)
        copy = Log.open(
            OsFileSystem(), partition.log.directory + "-copy", TOPIC, 0, partition.settings.log, now_ms=NOW_MS
        )
        copy.append_as_follower(plain, leader_epoch=9, now_ms=NOW_MS)
        assert copy.log_end_offset == 4, "both checksums of every batch are right"
        copy.close()
        first, cut = lookup.readable(stored, lookup.Reader(frozenset(), 120), crc_seed(TOPIC, 0), 0, 0)
        assert (cut, len(Segment.FromString(first).batches)) == (1, 1), "a slice that grows too much is cut short"
