"""Nodes die; what was acknowledged stays."""

import contextlib
import threading
import time
from collections.abc import Iterator

import grpc
import pytest

from ottla.v1 import data_pb2, record_pb2
from tests.cluster.harness import LocalCluster, data_stub, eventually
from tests.cluster.test_data import batch, read_all

pytestmark = pytest.mark.cluster


class Writer:
    """An idempotent producer in a thread that sends numbers and keeps what was acknowledged, through any live node."""

    def __init__(self, cluster: LocalCluster, topic: str, partitions: int) -> None:
        self.acknowledged: dict[int, dict[int, int]] = {n: {} for n in range(partitions)}
        self.longest_gap_s = 0.0
        self.errors: list[str] = []
        self._cluster = cluster
        self._topic = topic
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    @property
    def count(self) -> int:
        return sum(map(len, self.acknowledged.values()))

    def more(self, count: int, timeout_s: float = 20.0) -> None:
        """Waits until so many more are acknowledged."""
        wanted = self.count + count
        deadline = time.monotonic() + timeout_s
        while self.count < wanted:
            assert time.monotonic() < deadline, f"{self.count} of {wanted} acknowledged; {self.errors[-3:]}"
            time.sleep(0.02)

    def _run(self) -> None:
        channels = {i: grpc.insecure_channel(node.address()) for i, node in self._cluster.nodes.items()}
        via = 1
        producer_id = 0
        sequences = dict.fromkeys(self.acknowledged, 0)
        number = 0
        last = time.monotonic()
        while not self._stop.is_set() or number == 0:
            partition = number % len(self.acknowledged)
            while True:
                try:
                    stub = data_stub(channels[via])
                    if not producer_id:
                        answer = stub.InitProducerId(data_pb2.InitProducerIdRequest(), timeout=2)
                        assert not answer.HasField("error"), answer.error
                        producer_id = answer.producer_id
                    part = data_pb2.ProducePartition(
                        topic=self._topic,
                        partition=partition,
                        batch=batch(str(number).encode(), producer_id=producer_id, base_sequence=sequences[partition]),
                    )
                    request = data_pb2.ProduceRequest(partitions=[part], timeout_ms=1500)
                    result = stub.Produce(request, timeout=2).partitions[0]
                    if not result.HasField("error"):
                        self.acknowledged[partition][number] = result.base_offset
                        break
                    self.errors.append(result.error.message)
                    assert result.error.retriable, result.error
                except (grpc.RpcError, AssertionError) as error:
                    self.errors.append(str(error))
                    via = via % len(channels) + 1
                time.sleep(0.02)
            sequences[partition] += 1
            now = time.monotonic()
            self.longest_gap_s = max(self.longest_gap_s, now - last)
            last = now
            number += 1
        for channel in channels.values():
            channel.close()


def check(cluster: LocalCluster, writer: Writer, topic: str, via: int) -> None:
    """Every acknowledged number is there once, at its offset, and in order."""
    for partition, acknowledged in writer.acknowledged.items():
        values = [int(value) for value in read_all(cluster, via, topic, partition)]
        for number, offset in acknowledged.items():
            assert values[offset] == number
        assert values == sorted(set(values)), "duplicates or disorder"


def test_kill_9_of_a_leader_loses_nothing(cluster: LocalCluster) -> None:
    cluster.start().wait_ready()
    cluster.create_topic("t", 3)
    with Writer(cluster, "t", 3) as writer:
        for _ in range(3):
            writer.more(100)
            victim = cluster.leader("t", 0)
            cluster[victim].kill()
            writer.more(100)
            eventually(lambda n=victim: cluster.why(n % 3 + 1, node_id=n), ("fenced", "node-died"))  # type: ignore[misc]
            cluster.start([victim]).wait_ready([victim])
    assert writer.count > 600
    check(cluster, writer, "t", 1)
    assert writer.longest_gap_s < 5, (writer.longest_gap_s, writer.errors[-5:])


def test_all_nodes_killed_at_once_come_back_with_everything(cluster: LocalCluster) -> None:
    cluster.start().wait_ready()
    cluster.create_topic("t", 3)
    with Writer(cluster, "t", 3) as writer:
        writer.more(200)
        for node in cluster.nodes.values():
            node.signal(9)
        for node in cluster.nodes.values():
            node.kill()
        cluster.start().wait_ready()
        writer.more(100)
    check(cluster, writer, "t", 3)


def test_a_frozen_leader_is_replaced_and_acknowledges_nothing_when_it_wakes(cluster: LocalCluster) -> None:
    cluster.start().wait_ready()
    cluster.create_topic("t", 1)
    with Writer(cluster, "t", 1) as writer:
        writer.more(100)
        victim = cluster.leader("t", 0)
        others = [i for i in cluster.nodes if i != victim]
        cluster[victim].pause()
        writer.more(100, 30)
        assert cluster.leader("t", 0, via=others[0]) != victim
        assert cluster.why(others[0], topic="t") == ("under-replicated", "node-silent")
        cluster[victim].resume()
        cluster.wait_ready([victim])
        writer.more(100)
    check(cluster, writer, "t", others[0])
    assert writer.longest_gap_s < 8, writer.longest_gap_s


def test_a_stream_without_producer_id_never_reorders_over_a_failover(cluster: LocalCluster) -> None:
    cluster.start().wait_ready()
    cluster.create_topic("t", 1)
    leader = cluster.leader("t", 0)
    via = next(i for i in cluster.nodes if i != leader)
    killed = threading.Event()
    acknowledged: dict[int, int] = {}

    def requests() -> Iterator[data_pb2.ProduceRequest]:
        for number in range(2000):
            if number == 300:
                # A busy machine answers later; the kill is to come in the middle of answers, not before the first.
                eventually(lambda: len(acknowledged) >= 200, True, 20)
                cluster[leader].kill()
                killed.set()
            yield data_pb2.ProduceRequest(
                request_id=number,
                partitions=[
                    data_pb2.ProducePartition(
                        topic="t",
                        batch=record_pb2.RecordBatch(
                            records=record_pb2.Records(records=[record_pb2.Record(value=str(number).encode())])
                        ),
                    )
                ],
            )
            time.sleep(0.001)

    with cluster.channel(via) as channel, contextlib.suppress(grpc.RpcError):
        for message in data_stub(channel).ProduceStream(requests(), timeout=40):
            for response in message.responses:
                if not response.partitions[0].HasField("error"):
                    acknowledged[response.request_id] = response.partitions[0].base_offset
    assert killed.is_set()
    assert len(acknowledged) >= 200
    values = [int(value) for value in read_all(cluster, via, "t")]
    assert values == sorted(values)
    for number, offset in acknowledged.items():
        assert values[offset] == number
