"""Compaction and scrub in running brokers: keys on every replica, rot found and healed from the leader."""

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest

from node.broker import codecs
from node.broker.cleaner import Pacer
from ottla.internal.v1.view_pb2 import RecordBatchView
from ottla.protocol.errors import ApiError
from ottla.v1.record_pb2 import Record, Records, Segment
from tests.node.broker.cluster import FAST, TOPIC_ID, Cluster, running, until

SETTINGS = replace(FAST, cleaner_backoff_ms=50, scrub_interval_ms=50, high_watermark_checkpoint_interval_ms=100)
VALUE_BYTES = 300_000


def keyed(key: bytes, number: int) -> RecordBatchView:
    record = Record(key=key, value=b"%d" % number * (VALUE_BYTES // len(b"%d" % number)))
    return RecordBatchView(records=Records(records=[record]).SerializeToString())


def last_values(cluster: Cluster, node_id: int) -> dict[bytes, tuple[int, bytes]]:
    found = {}
    for batch in Segment.FromString(cluster.bytes_of(node_id)).batches:
        for place, record in enumerate(batch.records.records):
            delta = record.offset_delta if record.HasField("offset_delta") else place
            found[record.key] = (batch.base_offset + delta, record.value[:3])
    return found


def rot(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 0x10]))


def first_segment(tmp_path: Path, node_id: int) -> Path:
    return tmp_path / f"node{node_id}" / f"{TOPIC_ID.hex()}-0" / f"{0:020d}.log"


async def test_a_compacted_topic_shrinks_on_every_replica_and_keeps_every_key(tmp_path: Path) -> None:
    async with running(tmp_path, 3, SETTINGS) as cluster:
        cluster.create((1, 2, 3), cleanup_policy="compact", min_cleanable_dirty_ratio="0.01", segment_bytes=str(2**20))
        for number in range(14):
            await cluster.produce(1, keyed(b"same" if number % 3 else b"other%d" % (number % 2), number))
        expected = {b"other0": (12, b"121"), b"other1": (9, b"999"), b"same": (13, b"131")}
        await until(lambda: all(cluster.log(node).size_bytes < 8 * VALUE_BYTES for node in (1, 2, 3)), 20)
        for node in (1, 2, 3):
            assert last_values(cluster, node) == expected
            assert cluster.log(node).log_end_offset == 14
        # What is left still replicates: a new replica gets it with its gaps.
        await cluster.produce(1, keyed(b"same", 14))
        assert last_values(cluster, 2)[b"same"][0] == 14


async def test_a_roll_is_noticed_however_many_segments_compaction_took_away(tmp_path: Path) -> None:
    """What was rolled is synced, or it could neither be compacted nor be skipped by the next start's scan."""
    async with running(tmp_path, 1, FAST) as cluster:
        cluster.create((1,), cleanup_policy="compact", min_cleanable_dirty_ratio="0.01", segment_bytes=str(2**20))
        partition = cluster.nodes[1].broker.partitions[TOPIC_ID, 0]
        rolled, records = cluster.nodes[1].broker._housekeeping._rolled, partition.log
        for number in range(10):
            await cluster.produce(1, keyed(b"same", number))
        count = records.segment_count
        assert rolled(partition)
        assert not rolled(partition)
        ticket = records.begin_sync()
        assert ticket is not None
        ticket.run()
        records.complete_sync(ticket)
        run = records.begin_compaction(cluster.nodes[1].broker.wall_ms(), records.log_end_offset)
        assert run is not None
        run.run(codecs.decompress, codecs.compress, Pacer())
        records.complete_compaction(run)
        assert records.segment_count < count
        number = 10
        while records.segment_count < count:
            await cluster.produce(1, keyed(b"same", number))
            number += 1
        assert rolled(partition)


@pytest.mark.parametrize("at", [40, 5000])
async def test_rot_on_a_follower_is_found_and_fetched_again(tmp_path: Path, at: int) -> None:
    async with running(tmp_path, 3, SETTINGS) as cluster:
        cluster.create((1, 2, 3), segment_bytes=str(2**20))
        for number in range(8):
            await cluster.produce(1, keyed(b"k", number))
        whole = cluster.bytes_of(1)
        before = cluster.nodes[2].broker.partitions[TOPIC_ID, 0]
        rot(first_segment(tmp_path, 2), at)
        await until(lambda: cluster.nodes[2].broker.partitions.get((TOPIC_ID, 0)) not in (before, None), 20)
        await until(lambda: cluster.log(2).log_end_offset == 8, 20)
        assert cluster.bytes_of(2) == whole
        assert cluster.nodes[2].broker.offline_partitions() == []
        await cluster.produce(1, keyed(b"k", 8))
        await until(lambda: cluster.log(2).log_end_offset == 9)


async def test_rot_on_the_leader_ends_its_leading_and_is_healed_by_the_next_one(tmp_path: Path) -> None:
    async with running(tmp_path, 3, SETTINGS) as cluster:
        cluster.create((1, 2, 3), segment_bytes=str(2**20))
        for number in range(8):
            await cluster.produce(1, keyed(b"k", number))
        whole = cluster.bytes_of(2)
        rot(first_segment(tmp_path, 1), VALUE_BYTES + 1000)
        await until(lambda: cluster.nodes[1].broker.offline_partitions() == [(TOPIC_ID, 0)], 20)
        with pytest.raises(ApiError):
            await cluster.produce(1, keyed(b"k", 99))
        cluster.change(leader=2, isr=(2, 3))
        await cluster.produce(2, keyed(b"k", 8))
        await until(lambda: cluster.nodes[1].broker.offline_partitions() == [], 20)
        await until(lambda: cluster.log(1).log_end_offset == 9, 20)
        assert cluster.bytes_of(1)[: len(whole)] == whole
        assert cluster.bytes_of(1) == cluster.bytes_of(2)
        await until(lambda: cluster.isr() == (1, 2, 3))


async def test_what_the_only_copy_was_told_of_is_looked_at_again_when_there_are_others(tmp_path: Path) -> None:
    async with running(tmp_path, 1, replace(SETTINGS, scrub_interval_ms=3_600_000)) as cluster:
        cluster.create((1, 9), segment_bytes=str(2**20))
        cluster.change(isr=(1,))
        for number in range(8):
            await cluster.produce(1, keyed(b"k", number), acks=1)
        broker = cluster.nodes[1].broker
        partition = broker.partitions[TOPIC_ID, 0]
        rot(first_segment(tmp_path, 1), 5000)

        def is_offline_once_read() -> bool:
            with contextlib.suppress(ApiError):
                partition.read_for_follower(0, 2**20, min_one=True)
            return broker.offline_partitions() == [(TOPIC_ID, 0)]

        await until(lambda: not is_offline_once_read() and partition in broker._cleaner._told, 20)
        assert broker.offline_partitions() == []
        cluster.change(isr=(1, 9))
        await until(is_offline_once_read, 20)
