"""Failures that lost data elsewhere, one scenario each, with real logs and real replication (invariants.md 2.3)."""

import asyncio
import shutil
from pathlib import Path

import pytest

from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb
from tests.node.broker.cluster import TOPIC_ID, Cluster, batch, running, until


async def test_38_a_restarted_follower_keeps_what_lies_above_its_stale_high_watermark(tmp_path: Path) -> None:
    """KIP-101 (1): it truncated to its own mark, then the leader died, and the acknowledged record was gone."""
    async with running(tmp_path, nodes=2) as cluster:
        cluster.create([1, 2], min_insync_replicas="2")
        await cluster.produce(1, batch(b"acknowledged"))
        await cluster.nodes[2].kill()
        cluster.change(isr=(1,))
        await cluster.nodes[1].kill()
        await cluster.nodes[2].start()
        assert cluster.mark(2) == 0, "its mark was never checkpointed"
        cluster.register(2)
        cluster.change(leader=2, isr=(2,))
        assert cluster.log(2).log_end_offset == 1
        cluster.configure(min_insync_replicas="1")
        assert cluster.values(2) == [b"acknowledged"]


async def test_39_replicas_that_lost_different_tails_end_byte_equal(tmp_path: Path) -> None:
    """KIP-101 (2): both crashed, one lost its unsynced tail and led; without epochs they differ at the same offset."""
    async with running(tmp_path, nodes=2) as cluster:
        cluster.create([1, 2])
        await cluster.produce(1, batch(b"both"))
        await cluster.produce(1, batch(b"tail"))
        for node in cluster.nodes.values():
            await node.kill()
        _lose_tail(cluster, 2, batches=1)
        await cluster.nodes[2].start()
        cluster.register(2)
        cluster.change(leader=2, isr=(2,), recovering=True)
        await cluster.produce(2, batch(b"other"))
        await cluster.nodes[1].start()
        cluster.register(1)
        await until(lambda: cluster.isr() == (1, 2))
        assert cluster.values(2) == [b"both", b"other"]
        assert cluster.bytes_of(1) == cluster.bytes_of(2)


async def test_40_fast_failovers_with_short_epochs_leave_all_replicas_equal(tmp_path: Path) -> None:
    """KIP-279: an answer that did not say "I do not know that epoch" made replicas differ after two failovers."""
    async with running(tmp_path) as cluster:
        cluster.create([1, 2, 3])
        await cluster.produce(1, batch(b"common"))
        for leader in (1, 2, 3, 1, 2):
            # Each leads for a moment, alone, and writes what nobody replicates; one epoch stays empty.
            cluster.deaf = {1, 2, 3} - {leader}
            cluster.change(leader=leader)
            await _detach(cluster, leader)
            if leader != 3:
                await cluster.produce(leader, batch(b"alone"), acks=1)
        cluster.deaf = set()
        cluster.change(leader=3, isr=(3,))
        for node_id in cluster.nodes:
            cluster.hear(node_id)
        await until(lambda: cluster.isr() == (1, 2, 3))
        await cluster.produce(3, batch(b"end"))
        assert cluster.values(3) == [b"common", b"end"]
        await until(lambda: cluster.bytes_of(1) == cluster.bytes_of(2) == cluster.bytes_of(3))


async def test_41_and_51_idle_epochs_keep_nobody_busy(tmp_path: Path) -> None:
    """KAFKA-10706, KAFKA-15608: epochs without data made followers truncate or reset again and again."""
    async with running(tmp_path) as cluster:
        cluster.create([1, 2, 3])
        await cluster.produce(1, batch(b"a"))
        for leader in (2, 3, 1, 2, 1):
            cluster.change(leader=leader)
            await asyncio.sleep(0.02)
        await cluster.nodes[3].kill()
        await cluster.nodes[3].start()
        cluster.register(3)
        await asyncio.sleep(0.2)
        taken: list[int] = []
        for stream in cluster.nodes[1].broker.streams:
            original = stream.take
            stream.take = lambda request, original=original: (taken.append(1), original(request))  # type: ignore[method-assign,misc]
        await asyncio.sleep(0.5)
        assert len(taken) <= 4, "nothing happens, so nobody asks"
        await cluster.produce(1, batch(b"b"))
        assert cluster.values(1) == [b"a", b"b"]


async def test_48_what_is_only_on_the_leader_is_shown_to_nobody(tmp_path: Path) -> None:
    """redpanda 14794: acks=1 data was visible before a majority had it, and vanished with the leader."""
    async with running(tmp_path) as cluster:
        cluster.create([1, 2, 3])
        await cluster.produce(1, batch(b"safe"))
        await _detach(cluster, 1)
        await cluster.produce(1, batch(b"only here"), acks=1)
        assert cluster.values(1) == [b"safe"]
        found = cluster.nodes[1].broker.read(TOPIC_ID, 0, 1, 2**20, min_one=True)
        assert (found.data, found.next_offset) == (b"", 1)


async def test_50_one_odd_partition_does_not_stop_the_others(tmp_path: Path) -> None:
    """KAFKA-7414: an error in one partition ended the thread that fetched them all."""
    async with running(tmp_path, nodes=2) as cluster:
        cluster.create([1, 2], partitions=2)
        await _detach(cluster, 1)
        broker = cluster.nodes[1].broker
        for number in (0, 1):
            broker.append(TOPIC_ID, number, batch(b"x" * 500), acks=1, current_leader_epoch=None, now_ms=1)
        flip_last_bit(cluster.log(1, 0).directory)
        for number in (0, 1):
            cluster.change(number, leader=1)
        await until(lambda: cluster.mark(1, 1) == 1)
        for index in range(10):
            appended = broker.append(TOPIC_ID, 1, batch(b"%d" % index), acks=-1, current_leader_epoch=None, now_ms=1)
            await broker.acknowledged(appended, 2000)
        assert cluster.log(2, 0).log_end_offset == 0, "the bad batch is refused"
        flip_last_bit(cluster.log(1, 0).directory)
        await until(lambda: cluster.log(2, 0).log_end_offset == 1)


async def test_a_follower_behind_the_leaders_log_start_begins_again_there(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        cluster.create([1, 2, 3])
        await cluster.produce(1, batch(b"0"))
        await cluster.nodes[3].kill()
        cluster.change(isr=(1, 2))
        cluster.fence(3)
        for index in range(1, 5):
            await cluster.produce(1, batch(b"%d" % index))
        await cluster.nodes[1].broker.delete_records(TOPIC_ID, 0, 3)
        await cluster.nodes[3].start()
        cluster.register(3)
        await until(lambda: cluster.isr() == (1, 2, 3))
        assert (cluster.log(3).log_start_offset, cluster.log(3).log_end_offset) == (3, 5)
        await cluster.produce(1, batch(b"5", producer_id=4))
        cluster.change(leader=3)
        assert (await cluster.produce(3, batch(b"5", producer_id=4))).duplicate


async def test_a_leader_without_controller_goes_on_and_changes_the_isr_when_there_is_one_again(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        cluster.create([1, 2, 3])
        address, cluster.controller_address = cluster.controller_address, ""
        await cluster.produce(1, batch(b"a"))
        await cluster.nodes[3].kill()
        with pytest.raises(ApiError) as timed_out:
            await cluster.produce(1, batch(b"b"), timeout_ms=1500)
        assert timed_out.value.code == pb.ERROR_CODE_REQUEST_TIMED_OUT
        assert cluster.mark(1) == 1, "no shrink counts before the controller has made it"
        cluster.controller_address = address
        await until(lambda: cluster.mark(1) == 2, timeout_s=8)
        assert cluster.isr() == (1, 2)


async def test_a_restarted_node_leads_nothing_before_its_registration_is_in_the_metadata(tmp_path: Path) -> None:
    """KAFKA-10527: it led on in its old epoch with a log that had lost its end."""
    async with running(tmp_path) as cluster:
        cluster.create([1, 2, 3])
        await cluster.produce(1, batch(b"a"))
        await cluster.nodes[1].kill()
        await cluster.nodes[1].start()
        cluster.publish()
        with pytest.raises(ApiError) as refusal:
            await cluster.produce(1, batch(b"zombie"), acks=1)
        assert refusal.value.code == pb.ERROR_CODE_NOT_LEADER_OR_FOLLOWER
        cluster.change(leader=2, isr=(2, 3))
        cluster.register(1)
        await until(lambda: cluster.isr() == (1, 2, 3))


async def test_a_stream_of_another_incarnation_is_refused(tmp_path: Path) -> None:
    """KIP-903: what an earlier incarnation fetched must not count for this one."""
    async with running(tmp_path) as cluster:
        cluster.create([1, 2, 3])
        stale = cluster.nodes[3].broker
        cluster.register(3)
        assert stale.broker_epoch == cluster.image.brokers[3].broker_epoch
        await cluster.produce(1, batch(b"a"))
        stale._broker_epoch = 1
        stale._following.reconnect()
        await asyncio.sleep(0.1)
        appended = cluster.nodes[1].broker.append(
            TOPIC_ID, 0, batch(b"b"), acks=-1, current_leader_epoch=None, now_ms=1
        )
        await until(lambda: cluster.log(2).log_end_offset == 2)
        await asyncio.sleep(0.1)
        assert cluster.log(3).log_end_offset == 1
        assert cluster.mark(1) == 1
        assert cluster.nodes[1].broker.copies(appended).replicas_holding == 2


async def test_a_registration_that_the_leader_has_not_heard_of_counts_for_nothing(tmp_path: Path) -> None:
    """KIP-903: data is served, but the leader cannot know yet whether this incarnation may be in the ISR."""
    async with running(tmp_path) as cluster:
        cluster.create([1, 2, 3])
        await cluster.produce(1, batch(b"a"))
        await cluster.nodes[3].kill()
        cluster.deaf = {1}
        await cluster.nodes[3].start()
        cluster.register(3)
        broker = cluster.nodes[1].broker
        broker.append(TOPIC_ID, 0, batch(b"b"), acks=-1, current_leader_epoch=None, now_ms=1)
        await until(lambda: cluster.log(3).log_end_offset == cluster.log(2).log_end_offset == 2)
        await asyncio.sleep(0.1)
        assert cluster.mark(1) == 1
        cluster.hear(1)
        await until(lambda: cluster.mark(1) == 2)


async def test_a_full_follower_refuses_nothing_and_fetches_no_more_once_it_has_left_the_isr(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        cluster.create([1, 2, 3])
        await cluster.produce(1, batch(b"a"))
        leader = cluster.nodes[1].broker.partitions[TOPIC_ID, 0]
        cluster.nodes[2].broker.own_disk_full(True)
        await until(lambda: leader.leader is not None and leader.leader.full == {2})
        await cluster.produce(1, batch(b"b"))
        cluster.change(isr=(1, 3))  # what the controller does when it hears of it
        await cluster.produce(1, batch(b"c"), timeout_ms=1000)
        await cluster.produce(1, batch(b"d"), timeout_ms=1000)
        await asyncio.sleep(0.2)
        assert cluster.log(2).log_end_offset < 4
        assert cluster.isr() == (1, 3)
        leader.delete_records(1)
        await until(lambda: cluster.log(2).log_start_offset == 1)  # what makes room is heard of all the same
        cluster.nodes[2].broker.own_disk_full(False)
        await until(lambda: cluster.isr() == (1, 2, 3) and cluster.log(2).log_end_offset == 4)


async def test_full_disks_refuse_where_too_few_have_room(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        cluster.create([1, 2, 3], min_insync_replicas="2")
        await cluster.produce(1, batch(b"a"))
        leader = cluster.nodes[1].broker.partitions[TOPIC_ID, 0]
        for node_id in (2, 3):
            cluster.nodes[node_id].broker.own_disk_full(True)
        await until(lambda: leader.leader is not None and leader.leader.full == {2, 3})
        with pytest.raises(ApiError) as refusal:
            await cluster.produce(1, batch(b"b"))
        assert (refusal.value.code, refusal.value.retriable) == (pb.ERROR_CODE_KAFKA_STORAGE_ERROR, True)
        cluster.nodes[2].broker.own_disk_full(False)
        await until(lambda: leader.leader is not None and leader.leader.full == {3})
        await cluster.produce(1, batch(b"b"))


async def test_a_failed_log_on_a_follower_goes_offline_alone_and_leaves_the_isr(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        cluster.create([1, 2, 3], partitions=2)
        await cluster.produce(1, batch(b"a"))
        cluster.nodes[3].broker.partitions[TOPIC_ID, 0].fail(OSError(5, "Input/output error"))
        assert cluster.nodes[3].broker.offline_partitions() == [(TOPIC_ID, 0)]
        await cluster.produce(1, batch(b"b"), timeout_ms=8000)
        assert (cluster.isr(0), cluster.isr(1)) == ((1, 2), (1, 2, 3))


async def test_growth_that_the_controller_refuses_is_proposed_again(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        cluster.create([1, 2, 3])
        cluster.controller.refuse = pb.ERROR_CODE_INELIGIBLE_REPLICA
        cluster.change(isr=(1, 2))
        await cluster.produce(1, batch(b"a"))
        await until(lambda: len(cluster.controller.requests) > 0)
        cluster.controller.refuse = None
        await cluster.produce(1, batch(b"b"))
        await until(lambda: cluster.isr() == (1, 2, 3))


async def _detach(cluster: Cluster, leader: int) -> None:
    """Nobody fetches from this leader any more."""
    for node in cluster.nodes.values():
        await node.broker._following.detach(leader)


def flip_last_bit(directory: str) -> None:
    """Damages the last batch of a log, or heals it again."""
    path = next(Path(directory).glob("*.log"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _lose_tail(cluster: Cluster, node_id: int, *, batches: int) -> None:
    """What a power cut does to bytes that were not synced: the last batches are gone."""
    broker = cluster.nodes[node_id].broker
    stored = list(broker.partitions[TOPIC_ID, 0].log.scan(0, 2**62))
    path = next(Path(broker.directory.log_path(TOPIC_ID, 0)).glob("*.log"))
    path.write_bytes(path.read_bytes()[: stored[-batches].position])


async def test_a_node_that_registers_again_while_it_runs_goes_on_fetching(tmp_path: Path) -> None:
    """Its streams are opened anew, with the new broker epoch. A call that ends by our own `cancel` looks like the
    cancellation of the task that reads it: the fetcher ended without a word, and the replica never caught up."""
    async with running(tmp_path) as cluster:
        cluster.create([1, 2, 3])
        await cluster.produce(1, batch(b"a"))
        await until(lambda: cluster.log(3).log_end_offset == 1)
        cluster.register(3)
        await cluster.produce(1, batch(b"b"), acks=1)
        await until(lambda: cluster.log(3).log_end_offset == 2)
        await until(lambda: cluster.isr() == (1, 2, 3))


@pytest.mark.parametrize("led", [False, True])
async def test_a_log_whose_directory_was_deleted_leads_nothing_before_it_was_fetched_again(
    tmp_path: Path, led: bool
) -> None:
    async with running(tmp_path) as cluster:
        cluster.create([1, 2, 3])
        await cluster.produce(1, batch(b"a"))
        await until(lambda: cluster.mark(3) == 1)
        cluster.nodes[3].broker.checkpoint_soon()
        await asyncio.sleep(0.3)
        await cluster.nodes[3].kill()
        shutil.rmtree(cluster.log(3).directory)
        if led:
            cluster.change(leader=3, isr=(3,))
        await cluster.nodes[3].start()
        cluster.register(3)
        if led:
            await until(lambda: cluster.nodes[3].broker.offline_partitions() == [(TOPIC_ID, 0)])
            return
        await until(lambda: cluster.log(3).log_end_offset == 1 and not cluster.log(3).refetching)
        await until(lambda: cluster.isr() == (1, 2, 3))
