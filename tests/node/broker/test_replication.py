"""Replication between brokers with real logs, over real gRPC on loopback."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from node.broker import snapshots
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb
from tests.node.broker.cluster import TOPIC_ID, Cluster, batch, running, until


async def test_acknowledged_by_all_means_on_every_in_sync_replica(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        cluster.create([1, 2, 3])
        appended = await cluster.produce(1, batch(b"a", b"b"))
        assert (appended.base_offset, appended.end_offset) == (0, 2)
        assert [cluster.log(node).log_end_offset for node in (1, 2, 3)] == [2, 2, 2]
        assert cluster.mark(1) == 2
        await until(lambda: cluster.mark(2) == cluster.mark(3) == 2)
        assert cluster.bytes_of(1) == cluster.bytes_of(2) == cluster.bytes_of(3)
        assert cluster.values(1) == [b"a", b"b"]
        receipt = cluster.nodes[1].broker.copies(appended)
        assert (receipt.high_watermark, receipt.replicas_holding) == (2, 3)


async def test_many_partitions_and_batches_arrive_whole(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        cluster.create([1, 2, 3], partitions=8)
        broker = cluster.nodes[1].broker
        waiting = []
        for round_ in range(40):
            for number in range(8):
                records = batch(b"%d" % round_ * 2000, b"x" * 3000)
                appended = broker.append(
                    TOPIC_ID, number, records, acks=-1, current_leader_epoch=None, now_ms=broker.wall_ms()
                )
                waiting.append(broker.acknowledged(appended, 5000))
            await asyncio.sleep(0)
        await asyncio.gather(*waiting)
        for number in range(8):
            assert cluster.mark(1, number) == 80
            assert cluster.bytes_of(1, number) == cluster.bytes_of(2, number) == cluster.bytes_of(3, number)


async def test_a_follower_that_was_away_catches_up_and_joins_the_isr_again(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        cluster.create([1, 2, 3])
        await cluster.produce(1, batch(b"a"))
        await cluster.nodes[3].kill()
        cluster.change(isr=(1, 2))
        cluster.fence(3)
        for index in range(50):
            await cluster.produce(1, batch(b"%d" % index))
        await cluster.nodes[3].start()
        cluster.register(3)
        await until(lambda: cluster.isr() == (1, 2, 3))
        await until(lambda: cluster.bytes_of(3) == cluster.bytes_of(1))


async def test_a_silent_follower_leaves_the_isr_after_the_lag_time(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        cluster.create([1, 2, 3])
        await cluster.produce(1, batch(b"a"))
        await cluster.nodes[3].kill()
        before = asyncio.get_running_loop().time()
        await cluster.produce(1, batch(b"b"), timeout_ms=10_000)
        waited = asyncio.get_running_loop().time() - before
        assert cluster.isr() == (1, 2)
        assert 1.0 <= waited < 8.0, "it waits for the whole lag time, then not any longer"


async def test_too_few_in_sync_replicas_refuse_before_and_tell_after_the_append(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        cluster.create([1, 2, 3])
        await cluster.produce(1, batch(b"a"))
        await cluster.nodes[2].kill()
        await cluster.nodes[3].kill()
        with pytest.raises(ApiError) as after:
            await cluster.produce(1, batch(b"b"), timeout_ms=10_000)
        assert after.value.code == pb.ERROR_CODE_NOT_ENOUGH_REPLICAS_AFTER_APPEND
        assert cluster.isr() == (1,)
        end = cluster.log(1).log_end_offset
        with pytest.raises(ApiError) as before:
            await cluster.produce(1, batch(b"c"))
        assert before.value.code == pb.ERROR_CODE_NOT_ENOUGH_REPLICAS
        assert cluster.log(1).log_end_offset == end == 2
        assert cluster.mark(1) == 1, "the high watermark does not move below min ISR"
        appended = await cluster.produce(1, batch(b"d"), acks=1)
        assert appended.base_offset == 2
        assert cluster.values(1) == [b"a"]


async def test_a_timed_out_write_says_that_its_outcome_is_unknown(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        cluster.create([1, 2, 3])
        cluster.controller.refuse = pb.ERROR_CODE_NETWORK_EXCEPTION
        await cluster.nodes[3].kill()
        with pytest.raises(ApiError) as timed_out:
            await cluster.produce(1, batch(b"a"), timeout_ms=300)
        assert timed_out.value.code == pb.ERROR_CODE_REQUEST_TIMED_OUT
        assert timed_out.value.retriable


async def test_an_old_leader_truncates_its_unreplicated_tail_to_the_epoch_boundary(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        cluster.create([1, 2, 3])
        await cluster.produce(1, batch(b"kept"))
        cluster.deaf.add(1)
        await _cut_off(cluster, 1)
        await cluster.produce(1, batch(b"lost 1", b"lost 2"), acks=1)
        cluster.change(leader=2, isr=(2, 3))
        await cluster.produce(2, batch(b"new 1"))
        cluster.hear(1)
        await until(lambda: cluster.isr() == (1, 2, 3))
        await cluster.produce(2, batch(b"new 2"))
        assert cluster.values(2) == [b"kept", b"new 1", b"new 2"]
        await until(lambda: cluster.bytes_of(1) == cluster.bytes_of(2) == cluster.bytes_of(3))


async def test_group_commit_counts_only_what_every_in_sync_replica_has_synced(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        cluster.create([1, 2, 3], flush="ack")
        appended = await cluster.produce(1, batch(b"a"))
        assert [cluster.log(node).synced_end_offset for node in (1, 2, 3)] == [1, 1, 1]
        receipt = cluster.nodes[1].broker.copies(appended)
        assert receipt.replicas_synced == 3


async def test_what_is_synced_is_told_without_breaking_the_stream(tmp_path: Path) -> None:
    """Two writes at once break a gRPC call: the answer to what came, and the news of the thread that syncs."""
    async with running(tmp_path) as cluster:
        cluster.create([1, 2, 3], partitions=8, flush="ack")
        broker = cluster.nodes[1].broker
        await cluster.produce(1, batch(b"first"))
        before = set(broker.streams)
        for index in range(30):
            waiting = []
            for number in range(8):
                records = batch(b"%d" % index)
                appended = broker.append(
                    TOPIC_ID, number, records, acks=-1, current_leader_epoch=None, now_ms=broker.wall_ms()
                )
                waiting.append(broker.acknowledged(appended, 5000))
                await asyncio.sleep(0.0005)
            await asyncio.gather(*waiting)
        assert set(broker.streams) == before


async def test_clean_stop_and_start_scans_nothing_and_keeps_everything(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        cluster.create([1, 2, 3])
        for index in range(5):
            await cluster.produce(1, batch(b"%d" % index, producer_id=9, sequence=index))
        before = cluster.bytes_of(1)
        for node in cluster.nodes.values():
            assert await node.stop()
        for node in cluster.nodes.values():
            await node.start()
        for node_id in cluster.nodes:
            assert cluster.log(node_id).recovery.clean
            cluster.register(node_id)
        cluster.change(leader=1)
        assert cluster.bytes_of(1) == before
        repeated = await cluster.produce(1, batch(b"3", producer_id=9, sequence=3))
        assert (repeated.duplicate, repeated.base_offset) == (True, 3)


async def test_delete_and_recreate_serves_nothing_of_the_old_topic(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        cluster.create([1, 2, 3])
        await cluster.produce(1, batch(b"old"))
        cluster.delete()
        assert cluster.nodes[1].broker.partitions == {}
        with pytest.raises(ApiError) as gone:
            await cluster.produce(1, batch(b"late"))
        assert gone.value.code == pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION
        other = bytes([8] * 16)
        cluster.create([1, 2, 3], topic_id=other)
        broker = cluster.nodes[1].broker
        appended = broker.append(other, 0, batch(b"new"), acks=-1, current_leader_epoch=None, now_ms=broker.wall_ms())
        await broker.acknowledged(appended, 5000)
        assert appended.base_offset == 0
        for node in cluster.nodes.values():
            assert node.broker.directory.logs() == [(other, 0)]


async def test_a_topic_deleted_while_a_node_was_away_is_removed_there_after_registration(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        cluster.create([1, 2, 3])
        await cluster.produce(1, batch(b"old"))
        assert await cluster.nodes[3].stop()
        cluster.delete()
        await cluster.nodes[3].start()
        assert (TOPIC_ID, 0) in cluster.nodes[3].broker.partitions
        cluster.register(3)
        assert cluster.nodes[3].broker.partitions == {}
        assert cluster.nodes[3].broker.directory.logs() == []


async def test_deleted_records_go_on_every_replica(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        cluster.create([1, 2, 3])
        await cluster.produce(1, batch(b"a"))
        await cluster.produce(1, batch(b"b"))
        assert await cluster.nodes[1].broker.delete_records(TOPIC_ID, 0, 1) == 1
        assert [cluster.log(node).log_start_offset for node in (1, 2, 3)] == [1, 1, 1]
        with pytest.raises(ApiError) as below:
            cluster.nodes[1].broker.read(TOPIC_ID, 0, 0, 1000, min_one=True)
        assert below.value.code == pb.ERROR_CODE_OFFSET_OUT_OF_RANGE


async def test_producer_ids_come_from_blocks_and_are_unique(tmp_path: Path) -> None:
    async with running(tmp_path, nodes=2) as cluster:
        brokers = [node.broker for node in cluster.nodes.values()]
        ids = await asyncio.gather(*(broker.allocate_producer_id() for broker in brokers * 5))
        assert sorted(ids) == [1, 2, 3, 4, 5, 1001, 1002, 1003, 1004, 1005]


async def _cut_off(cluster: Cluster, node_id: int) -> None:
    """Nobody fetches from the node any more."""
    for other in cluster.nodes.values():
        await other.broker._following.detach(node_id)


async def test_producers_that_are_written_down_while_the_log_is_cut_are_gone_with_what_was_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, nodes=1) as cluster:
        cluster.create([1])
        await cluster.produce(1, batch(b"a"))
        broker = cluster.nodes[1].broker
        partition = broker.partitions[TOPIC_ID, 0]
        housekeeping = broker._housekeeping
        monkeypatch.setattr(housekeeping, "_rolled", lambda _: True)
        await housekeeping._checkpoint()
        assert snapshots.load(broker.fs, partition.log.directory, 0) is not None
        save = snapshots.save

        def and_cut(*args: Any) -> None:
            save(*args)
            partition.cuts += 1

        monkeypatch.setattr(snapshots, "save", and_cut)
        await housekeeping._checkpoint()
        assert snapshots.load(broker.fs, partition.log.directory, 0) is None
