"""Nodes find each other in any order, stop cleanly, and come back."""

import itertools
import time

import pytest

from ottla.sync import Consumer, Producer
from ottla.v1 import cluster_pb2, cluster_pb2_grpc
from tests.cluster.harness import LocalCluster, eventually

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize("order", list(itertools.permutations((1, 2, 3)))[::2], ids=str)
def test_three_nodes_form_one_cluster_in_any_order(cluster: LocalCluster, order: tuple[int, ...]) -> None:
    for node_id in order:
        cluster.start([node_id])
        time.sleep(0.2)
    cluster.wait_ready()
    seen = {cluster.metadata(i).cluster_id for i in cluster.nodes}
    assert len(seen) == 1
    assert len(seen.pop()) == 32
    for node_id in cluster.nodes:
        eventually(
            lambda node_id=node_id: [(b.node_id, b.fenced) for b in cluster.metadata(node_id).brokers],
            [(1, False), (2, False), (3, False)],
        )


def test_two_of_three_wait_for_the_third_and_name_it(cluster: LocalCluster) -> None:
    cluster.start([1, 2])
    missing = cluster[3].address("control")
    eventually(lambda: all("waits_for_initial_voters" in cluster[i].log() for i in (1, 2)), True)
    eventually(lambda: any(f"3 at {missing}" in cluster[i].log() for i in (1, 2)), True)
    waiting = (503, "not ready: the quorum has not formed yet\n")  # said once the node's own logs are open
    eventually(lambda: [cluster[i].http("/readyz") for i in (1, 2)], [waiting] * 2)
    assert [cluster[i].http("/healthz")[0] for i in (1, 2)] == [200, 200]
    cluster.start([3]).wait_ready()


def test_a_controlled_stop_exits_with_0_and_the_node_comes_back_without_a_scan(cluster: LocalCluster) -> None:
    cluster.start().wait_ready()
    cluster.create_topic("t", 3)
    for node_id in (1, 2, 3):
        started = time.monotonic()
        assert cluster[node_id].stop() == 0, cluster.tail(node_id)
        assert time.monotonic() - started < 10
        cluster.start([node_id]).wait_ready([node_id])
        assert "clean=true" in cluster[node_id].log().rsplit("event=starting", 1)[1].splitlines()[0]


def test_a_single_node_is_a_cluster(tmp_path_factory: pytest.TempPathFactory) -> None:
    with LocalCluster(tmp_path_factory.mktemp("one"), nodes=1) as cluster:
        cluster.start().wait_ready()
        cluster.create_topic("t", 2, 1)
        assert cluster.leader("t", 1) == 1
        assert cluster[1].stop() == 0, cluster.tail(1)


def test_a_fourth_node_joins_as_an_observer_and_takes_partitions(cluster: LocalCluster) -> None:
    cluster.start().wait_ready()
    cluster.add_broker(4)
    cluster.start([4]).wait_ready([4])
    cluster.create_topic("t", 4, 3)
    assert {cluster.leader("t", number) for number in range(4)} == {1, 2, 3, 4}
    for via in cluster.nodes:
        with cluster.channel(via) as channel:
            stub = cluster_pb2_grpc.ClusterServiceStub(channel)
            quorum = stub.DescribeQuorum(cluster_pb2.DescribeQuorumRequest(), timeout=5)
        assert [voter.node_id for voter in quorum.voters] == [1, 2, 3]
        assert [observer.node_id for observer in quorum.observers] == [4]
        assert all(len(replica.directory_id) == 16 for replica in (*quorum.voters, *quorum.observers))
        assert all(replica.HasField("lag_records") for replica in quorum.voters)


def test_a_node_without_a_vote_is_a_broker_like_the_others(cluster: LocalCluster) -> None:
    """It leads, follows and serves; and it neither votes nor becomes controller, whoever is gone."""
    cluster.start().wait_ready()
    broker = cluster.add_broker(4)
    cluster.start([4]).wait_ready([4])
    cluster.create_topic("led", replicas=(4, 1, 2))
    cluster.create_topic("followed", replicas=(1, 2, 4))
    sent: dict[str, list[bytes]] = {"led": [], "followed": []}

    def send(text: str) -> None:
        with Producer(broker.address()) as producer:
            for topic, values in sent.items():
                values.append(f"{topic} {text}".encode())
                producer.send(topic, values[-1]).result(20)

    def read(topic: str, via: int) -> list[bytes]:
        """Until all is there that was sent."""
        read: list[bytes] = []
        with Consumer(topic, bootstrap=cluster[via].address()) as consumer:
            while len(read) < len(sent[topic]) and (records := consumer.poll(timeout_ms=10_000)):
                read += [record.value or b"" for record in records]
        return read

    def in_sync() -> list[list[int]]:
        return [sorted(cluster.metadata(1, topic).topics[0].partitions[0].isr) for topic in sent]

    send("in the beginning")
    assert [cluster.leader(topic) for topic in sent] == [4, 1]
    # Killed, its partition moves on; back again, it is in sync and leads.
    broker.kill()
    eventually(lambda: cluster.leader("led", via=1) in (1, 2), True)
    cluster.start([4]).wait_ready([4])
    eventually(in_sync, [[1, 2, 4], [1, 2, 4]], timeout_s=20)
    eventually(lambda: cluster.leader("led", via=1), 4, timeout_s=20)
    send("after a kill")
    # Without two of three voters there is no controller, however well it does itself; it goes on serving what is there.
    for voter in (2, 3):
        cluster[voter].kill()
    eventually(lambda: cluster.metadata(4).HasField("controller_id"), False, timeout_s=20)
    assert read("led", 4) == sent["led"]
    cluster.start([2, 3]).wait_ready([2, 3])
    assert cluster.controller() in (1, 2, 3)
    assert "controller_active" not in broker.log()
    eventually(in_sync, [[1, 2, 4], [1, 2, 4]], timeout_s=20)
    send("in the end")
    assert {topic: read(topic, 2) for topic in sent} == sent


def test_the_quorum_is_described_without_a_leader_too(cluster: LocalCluster) -> None:
    cluster.start().wait_ready()
    left = 1
    for node_id in (2, 3):
        cluster[node_id].kill()
    with cluster.channel(left) as channel:
        stub = cluster_pb2_grpc.ClusterServiceStub(channel)

        def leaderless() -> bool:
            quorum = stub.DescribeQuorum(cluster_pb2.DescribeQuorumRequest(), timeout=5)
            return not quorum.HasField("leader_id") and quorum.leaderless_ms > 500

        eventually(leaderless, True)
        metadata = stub.GetMetadata(cluster_pb2.GetMetadataRequest(), timeout=5)
        assert not metadata.HasField("controller_id")
        assert metadata.age_ms > 500
    cluster.start([2]).wait_ready([2])


def test_a_second_process_on_the_same_directory_is_refused(cluster: LocalCluster) -> None:
    cluster.start().wait_ready()
    second = LocalCluster.__new__(LocalCluster)
    second.nodes = {1: type(cluster[1])(1, 1, cluster[1].directory / "second", cluster[1].settings)}
    second[1].start()
    assert second[1].process is not None
    assert second[1].process.wait(15) == 1
    assert "is in use by another process" in second[1].log()
    assert cluster[1].ready
