"""One flipped bit on a disk, with real processes: found, never shown to a client, fetched anew."""

import time
from contextlib import suppress
from pathlib import Path

import grpc
import pytest

from ottla.v1 import cluster_pb2, cluster_pb2_grpc, data_pb2
from ottla.v1 import error_pb2 as pb
from tests.cluster.harness import LocalCluster, Node, data_stub, eventually
from tests.cluster.test_data import produce

pytestmark = pytest.mark.cluster
TOPIC = "precious"
RECORDS = 12
VALUE_BYTES = 300_000


def value(number: int) -> bytes:
    return b"%06d" % number * (VALUE_BYTES // 6)


def segments(node: Node, topic_id: bytes) -> list[Path]:
    return sorted((node.directory / "data" / f"{topic_id.hex()}-0").glob("*.log"))


def content(node: Node, topic_id: bytes) -> bytes:
    """All bytes of the log as they are on the disk; a replica that ends its log meanwhile takes files from under us."""
    while True:
        with suppress(FileNotFoundError):
            return b"".join(path.read_bytes() for path in segments(node, topic_id))


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0x04]))


def filled(tmp_path: Path, scrub_ms: int) -> tuple[LocalCluster, bytes]:
    cluster = LocalCluster(tmp_path, settings={"log.scrub.interval.ms": scrub_ms})
    cluster.start().wait_ready()
    topic_id = cluster.create_topic(TOPIC, 1, segment_bytes=str(2**20))
    for number in range(RECORDS):
        result = produce(cluster, 1, TOPIC, 0, value(number))
        assert not result.HasField("error"), result.error
    for node in cluster.nodes.values():
        eventually(lambda n=node: len(content(n, topic_id)) > RECORDS * VALUE_BYTES, True)  # type: ignore[misc]
        assert len(segments(node, topic_id)) > 2
    return cluster, topic_id


def read_whatever_is_served(cluster: LocalCluster, via: int, timeout_s: float = 30.0) -> int:
    """Reads everything, again and again where that is refused; returns how many refusals named damage."""
    offset = refused = 0
    deadline = time.monotonic() + timeout_s
    with cluster.channel(via) as channel:
        while offset < RECORDS:
            assert time.monotonic() < deadline, f"stuck at {offset}: {cluster.tail(via)}"
            want = data_pb2.FetchPartition(topic=TOPIC, partition=0, offset=offset)
            try:
                found = data_stub(channel).Fetch(data_pb2.FetchRequest(partitions=[want], max_wait_ms=100), timeout=5)
            except grpc.RpcError:
                continue
            result = found.partitions[0]
            if result.HasField("error"):
                assert result.error.retriable, result.error
                refused += result.error.code == pb.ERROR_CODE_CORRUPT_MESSAGE
                time.sleep(0.02)
                continue
            for batch in result.batches:
                for record in batch.records.records:
                    assert record.value == value(batch.base_offset), f"a bad record at {batch.base_offset}"
            offset = result.next_offset
    return refused


def told(node: Node, path: Path) -> None:
    """One metric counts it, and one line of the log names the file and the offset."""
    _, metrics = node.http("/metrics")
    assert "ottla_damage_found_total 1.0" in metrics.splitlines()
    lines = [line for line in node.log().splitlines() if "damage_found" in line]
    assert len(lines) == 1, lines
    assert str(path) in lines[0]
    assert "offset=" in lines[0]


@pytest.mark.parametrize("found_by", ["scrub", "read"])
def test_a_flipped_bit_on_the_leader_is_never_read_and_another_node_leads(tmp_path: Path, found_by: str) -> None:
    cluster, topic_id = filled(tmp_path, 200 if found_by == "scrub" else 3_600_000)
    with cluster:
        leader = cluster[cluster.leader(TOPIC)]
        whole = content(leader, topic_id)
        damaged = segments(leader, topic_id)[1]
        flip(damaged, VALUE_BYTES + 5000)
        refused = 0
        if found_by == "read":
            refused = read_whatever_is_served(cluster, leader.node_id)
            assert refused > 0
        eventually(lambda: cluster.leader(TOPIC) != leader.node_id, True, 20)
        read_whatever_is_served(cluster, leader.node_id)
        eventually(lambda: content(leader, topic_id) == whole, True, 20)
        told(leader, damaged)
        produce(cluster, 1, TOPIC, 0, value(RECORDS))
        isr = lambda: len(cluster.metadata(2, TOPIC).topics[0].partitions[0].isr)  # noqa: E731
        eventually(isr, 3, 20)


def test_a_flipped_bit_on_a_follower_is_found_and_fetched_anew(tmp_path: Path) -> None:
    cluster, topic_id = filled(tmp_path, 200)
    with cluster:
        leader = cluster.leader(TOPIC)
        follower = cluster[leader % 3 + 1]
        whole = content(follower, topic_id)
        damaged = segments(follower, topic_id)[0]
        flip(damaged, 40)
        eventually(lambda: "damage_found" in follower.log(), True, 20)
        eventually(lambda: content(follower, topic_id) == whole, True, 20)
        told(follower, damaged)
        isr = lambda: len(cluster.metadata(2, TOPIC).topics[0].partitions[0].isr)  # noqa: E731
        eventually(isr, 3, 20)
        assert read_whatever_is_served(cluster, follower.node_id) == 0


def test_the_only_copy_goes_on_serving_what_is_whole_of_it(tmp_path: Path) -> None:
    with LocalCluster(tmp_path, nodes=1, settings={"log.scrub.interval.ms": 200}) as cluster:
        cluster.start().wait_ready()
        topic_id = cluster.create_topic(TOPIC, 1, 1, segment_bytes=str(2**20))
        for number in range(RECORDS):
            produce(cluster, 1, TOPIC, 0, value(number))
        damaged = segments(cluster[1], topic_id)[1]
        flip(damaged, 5000)
        bad = int(damaged.stem)
        eventually(lambda: "damage_found" in cluster[1].log(), True, 20)
        with cluster.channel(1) as channel:
            for offset in range(RECORDS):
                want = data_pb2.FetchPartition(topic=TOPIC, partition=0, offset=offset, max_bytes=1)
                result = data_stub(channel).Fetch(data_pb2.FetchRequest(partitions=[want]), timeout=5).partitions[0]
                if offset == bad:
                    assert result.error.code == pb.ERROR_CODE_CORRUPT_MESSAGE
                else:
                    assert [r.value for b in result.batches for r in b.records.records] == [value(offset)]
        assert not produce(cluster, 1, TOPIC, 0, b"more").HasField("error")
        told(cluster[1], damaged)


def test_a_voter_with_a_mended_log_votes_like_any_other(tmp_path: Path) -> None:
    """One flipped bit, fetched again within moments, and yet its vote counted only together with all others."""
    with LocalCluster(tmp_path) as cluster:
        cluster.start().wait_ready()
        cluster.create_topic(TOPIC, 1)
        leader = described(cluster, 1).leader_id
        damaged = cluster[leader % 3 + 1]
        damaged.kill()
        (log,) = (damaged.directory / "data" / "quorum" / "log").glob("*.log")
        flip(log, log.stat().st_size // 2)
        damaged.start()
        cluster.wait_ready()
        assert "quorum_log_damaged" in damaged.log()
        end = described(cluster, leader).last_index
        eventually(lambda: described(cluster, damaged.node_id).commit_index >= end, True, 20)
        # The leader tells it with a heartbeat that it holds everything again.
        time.sleep(2)
        leader = described(cluster, damaged.node_id).leader_id
        cluster[leader].kill()
        others = [node_id for node_id in (1, 2, 3) if node_id != leader]
        eventually(lambda: described(cluster, others[0]).leader_id in others, True, 10)


def described(cluster: LocalCluster, via: int) -> cluster_pb2.DescribeQuorumResponse:
    with cluster.channel(via) as channel:
        stub = cluster_pb2_grpc.ClusterServiceStub(channel)
        return stub.DescribeQuorum(cluster_pb2.DescribeQuorumRequest(), timeout=5)
