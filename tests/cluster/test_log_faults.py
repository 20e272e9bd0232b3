"""Logs that cannot be written, and what was deleted from them, with real processes."""

import contextlib
import random
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from ottla.v1 import admin_pb2, admin_pb2_grpc, data_pb2
from tests.cluster.harness import LocalCluster, data_stub, eventually
from tests.cluster.test_data import batch, produce, read_all

pytestmark = pytest.mark.cluster
TOPIC = "t"
KILLS = 12


def isr(cluster: LocalCluster, via: int) -> list[int]:
    try:
        return sorted(cluster.metadata(via, TOPIC).topics[0].partitions[0].isr)
    except grpc.RpcError:
        return []


def produce_until_acked(cluster: LocalCluster, via: int, value: bytes, timeout_s: float = 20.0) -> int:
    deadline = time.monotonic() + timeout_s
    while True:
        result = produce(cluster, via, TOPIC, 0, value)
        if not result.HasField("error"):
            return result.base_offset
        assert result.error.retriable, result.error
        assert time.monotonic() < deadline, result.error
        time.sleep(0.02)


def test_a_log_that_cannot_be_written_moves_to_another_node_and_takes_nothing_more(cluster: LocalCluster) -> None:
    cluster.start().wait_ready()
    topic_id = cluster.create_topic(TOPIC, 1)
    leader = cluster.leader(TOPIC)
    via = leader % 3 + 1
    payload = bytes(300_000)
    acked = [produce_until_acked(cluster, via, payload) for _ in range(3)]
    process = cluster[leader].process
    assert process is not None
    # From now on writes behind the first 2 MiB of any file of this process fail, with EFBIG: no disk is full.
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (2 * 2**20, resource.RLIM_INFINITY))
    acked += [produce_until_acked(cluster, via, payload) for _ in range(9)]
    assert acked == sorted(set(acked))
    assert cluster.leader(TOPIC, via=via) != leader
    eventually(lambda: leader in isr(cluster, via), False, 15)
    assert cluster.why(via, topic=TOPIC) == ("under-replicated", "log-failed")
    file = cluster[leader].directory / "data" / f"{topic_id.hex()}-0" / f"{0:020d}.log"
    size = file.stat().st_size
    assert size <= 2 * 2**20
    assert "partition_offline" in cluster[leader].log()
    # The limit is gone, but nobody knows what the file holds: nothing goes there until the node starts again.
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    produce_until_acked(cluster, via, payload)
    time.sleep(1)
    assert file.stat().st_size == size
    assert cluster[leader].running
    assert leader not in isr(cluster, via)
    cluster[leader].kill()
    cluster[leader].start()
    cluster.wait_ready([leader], 60)
    eventually(lambda: isr(cluster, via), [1, 2, 3], 60)
    assert len(read_all(cluster, leader, TOPIC)) >= 13


def test_deleted_records_stay_deleted_when_all_nodes_are_killed_at_once(cluster: LocalCluster) -> None:
    cluster.start().wait_ready()
    cluster.create_topic(TOPIC, 1)
    for number in range(10):
        produce_until_acked(cluster, 1, b"%d" % number)
    eventually(lambda: isr(cluster, 1), [1, 2, 3])
    with cluster.channel(2) as channel:
        where = data_pb2.TopicPartition(topic=TOPIC, partition=0)
        request = admin_pb2.DeleteRecordsRequest(
            partitions=[admin_pb2.DeleteRecordsPartition(partition=where, before_offset=7)]
        )
        answer = admin_pb2_grpc.AdminServiceStub(channel).DeleteRecords(request, timeout=10).partitions[0]
    assert answer.low_watermark == 7, answer
    for node in cluster.nodes.values():
        node.kill()
    cluster.start().wait_ready()
    for _ in range(3):
        # Whoever leads: each replica remembers it by itself.
        leader = cluster.leader(TOPIC)
        want = data_pb2.ListOffsetsPartition(topic=TOPIC, partition=0, timestamp_ms=-2)
        deadline = time.monotonic() + 15
        while True:
            with cluster.channel(leader) as channel:
                request = data_pb2.ListOffsetsRequest(partitions=[want])
                found = data_stub(channel).ListOffsets(request, timeout=5).partitions[0]
            if not found.HasField("error"):
                break
            assert time.monotonic() < deadline, found.error
            time.sleep(0.05)
        assert found.offset == 7
        cluster[leader].kill()
        eventually(lambda: cluster.leader(TOPIC) != leader, True, 60)  # noqa: B023 - called before the next turn
        cluster[leader].start()
        cluster.wait_ready([leader], 60)
        eventually(lambda: isr(cluster, leader), [1, 2, 3], 60)  # noqa: B023


class Load:
    """A stream of numbered batches of 20 KB, up to 64 on their way. `acked`: number by offset; `sent`: how many."""

    def __init__(self, cluster: LocalCluster, first: int) -> None:
        self.acked: dict[int, int] = {}
        self.sent = first
        self._cluster = cluster
        self._room = threading.Semaphore(64)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _requests(self) -> Iterator[data_pb2.ProduceRequest]:
        while self._room.acquire(timeout=0.5):
            value = b"%08d" % self.sent * 2500
            part = data_pb2.ProducePartition(topic=TOPIC, partition=0, batch=batch(value))
            request = data_pb2.ProduceRequest(request_id=self.sent, partitions=[part])
            self.sent += 1
            yield request

    def _run(self) -> None:
        with contextlib.suppress(grpc.RpcError), self._cluster.channel(1) as channel:
            for message in data_stub(channel).ProduceStream(self._requests(), timeout=60):
                for response in message.responses:
                    result = response.partitions[0]
                    if not result.HasField("error"):
                        self.acked[result.base_offset] = response.request_id
                    self._room.release()

    def join(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()


@pytest.mark.long
def test_a_node_killed_at_any_moment_of_its_load_serves_what_it_acknowledged_and_nothing_invented(
    tmp_path: Path,
) -> None:
    """One node and one copy: there is nobody to fetch anything from."""
    rng = random.Random(5)
    acked: dict[int, int] = {}
    first = 0
    with LocalCluster(tmp_path, nodes=1, settings={"replica.high.watermark.checkpoint.interval.ms": 300}) as cluster:
        cluster.start().wait_ready()
        cluster.create_topic(TOPIC, 1, 1, segment_bytes=str(2**20))
        for _ in range(KILLS):
            cluster.leader(TOPIC, timeout_s=60)
            load = Load(cluster, first)
            time.sleep(rng.uniform(0.05, 1.5))
            cluster[1].kill()
            load.join()
            acked.update(load.acked)
            first = load.sent
            cluster[1].start()
            cluster.wait_ready(timeout_s=90)
            cluster.leader(TOPIC, timeout_s=60)
            values = read_all(cluster, 1, TOPIC)
            numbers = [int(value[:8]) for value in values]
            assert all(value == b"%08d" % number * 2500 for value, number in zip(values, numbers, strict=True))
            assert numbers == sorted(set(numbers)), "out of order"
            assert numbers[-1] < first, "invented"
            assert {offset: numbers[offset] for offset in acked} == acked
        print(f"{KILLS} kills, {len(acked)} batches acknowledged, {len(numbers)} found, {first} sent")
        assert len(acked) > 20 * KILLS
