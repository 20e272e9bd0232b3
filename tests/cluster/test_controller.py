"""The controller on real nodes: it dies with what it controls, brokers restart in turn, machines lose power."""

import time
from pathlib import Path

import pytest

from ottla.internal.v1 import controller_pb2 as controller
from ottla.internal.v1.controller_pb2_grpc import ControllerServiceStub
from ottla.v1 import admin_pb2 as admin
from ottla.v1 import data_pb2
from ottla.v1.admin_pb2_grpc import AdminServiceStub
from storage.durable import write_durable
from storage.fs import OsFileSystem
from tests.cluster.harness import LocalCluster, eventually
from tests.cluster.test_data import produce, read_all
from tests.cluster.test_failover import Writer, check

pytestmark = pytest.mark.cluster


def leaders(cluster: LocalCluster, topic: str, via: int) -> list[int | None]:
    found = cluster.metadata(via, topic).topics[0].partitions
    return [p.leader_id if p.HasField("leader_id") else None for p in found]


def test_a_controller_that_dies_together_with_what_it_leads_is_replaced(cluster: LocalCluster) -> None:
    """KAFKA-18138: a broker that died with the controller must be fenced by the next one."""
    cluster.start().wait_ready()
    cluster.create_topic("t", 6)
    with Writer(cluster, "t", 6) as writer:
        for _ in range(2):
            writer.more(60)
            victim = cluster.controller()
            cluster[victim].kill()
            other = victim % 3 + 1
            eventually(lambda other=other, victim=victim: victim not in leaders(cluster, "t", other), True)  # type: ignore[misc]
            assert cluster.controller() != victim
            writer.more(60)
            cluster.start([victim]).wait_ready([victim])
    check(cluster, writer, "t", 1)
    print(f"longest gap {writer.longest_gap_s:.2f} s over 2 deaths of controller and leader")
    assert writer.longest_gap_s < 6, (writer.longest_gap_s, writer.errors[-5:])


def test_controlled_restarts_in_turn_lose_nothing_and_leadership_comes_back(cluster: LocalCluster) -> None:
    cluster.start().wait_ready()
    cluster.create_topic("t", 6)
    preferred = leaders(cluster, "t", 1)
    with Writer(cluster, "t", 6) as writer:
        for node_id in (1, 2, 3):
            writer.more(30)
            assert cluster[node_id].stop() == 0
            assert node_id not in leaders(cluster, "t", node_id % 3 + 1), "it stopped while it led"
            assert cluster.why(node_id % 3 + 1, topic="t") == ("under-replicated", "node-stopped")
            writer.more(30)
            cluster.start([node_id]).wait_ready([node_id])
            for n in range(6):
                eventually(lambda n=n: len(cluster.metadata(1, "t").topics[0].partitions[n].isr), 3)  # type: ignore[misc]
        eventually(lambda: leaders(cluster, "t", 1), preferred, timeout_s=20)
        writer.more(30)
    check(cluster, writer, "t", 2)
    print(f"longest gap {writer.longest_gap_s:.2f} s over 3 controlled restarts")
    assert writer.longest_gap_s < 3, (writer.longest_gap_s, writer.errors[-5:])


def test_after_a_power_loss_of_all_the_most_complete_logs_lead_without_an_operator(cluster: LocalCluster) -> None:
    """The data is in the page cache, but the nodes cannot know: another boot id, so nobody keeps its place."""
    cluster.start().wait_ready()
    cluster.create_topic("t", 3)
    with Writer(cluster, "t", 3) as writer:
        writer.more(90)
    for node in cluster.nodes.values():
        node.kill()
        write_durable(OsFileSystem(), str(marker(node.directory)), {"boot_id": "another"})
    cluster.start().wait_ready()
    for n in range(3):
        cluster.leader("t", n)
    assert any("are back" in node.log() for node in cluster.nodes.values()), "it did not take the careful way"
    for n in range(3):
        eventually(lambda n=n: len(cluster.metadata(1, "t").topics[0].partitions[n].isr), 3, timeout_s=20)  # type: ignore[misc]
    check(cluster, writer, "t", 1)
    for n in range(3):
        assert not produce(cluster, 1, "t", n, b"0").HasField("error")


def marker(directory: Path) -> Path:
    found = list((directory / "data").glob("**/open"))
    assert len(found) == 1, found
    return found[0]


def test_a_topic_made_again_while_a_replica_was_away_has_nothing_of_the_old_one(cluster: LocalCluster) -> None:
    """KAFKA-12257, features L10."""
    cluster.start().wait_ready()
    cluster.create_topic("t", 1)
    with Writer(cluster, "t", 1) as writer:
        writer.more(50)
    cluster[3].kill()
    with cluster.channel(1) as channel:
        stub = AdminServiceStub(channel)
        request = admin.DeleteTopicsRequest(topics=[admin.TopicRef(name="t")])
        assert not stub.DeleteTopics(request, timeout=10).topics[0].HasField("error")
    cluster.create_topic("t", 1, replication_factor=2)
    cluster.start([3]).wait_ready([3])
    assert read_all(cluster, 3, "t", 0) == []
    with Writer(cluster, "t", 1) as writer:
        writer.more(20)
    check(cluster, writer, "t", 3)


def test_configs_take_effect_on_every_node_and_say_where_they_come_from(standing: LocalCluster) -> None:
    standing.create_topic("configured", 3)
    resource = admin.ConfigResource(type=admin.CONFIG_RESOURCE_TYPE_TOPIC, name="configured")
    for via, limit in ((1, 300), (2, 100_000), (3, 400)):
        change = admin.ConfigChange(key="max.message.bytes", value=str(limit))
        with standing.channel(via) as channel:
            stub = AdminServiceStub(channel)
            changes = admin.ResourceConfigChanges(resource=resource, changes=[change])
            started = time.monotonic()
            answer = stub.AlterConfigs(admin.AlterConfigsRequest(resources=[changes]), timeout=5)
            assert not answer.resources[0].HasField("error"), answer
            assert time.monotonic() - started < 3
            shown = stub.DescribeConfigs(
                admin.DescribeConfigsRequest(resources=[resource], keys=["max.message.bytes"]), timeout=5
            )
        assert shown.resources[0].entries[0].value == str(limit)
        assert shown.resources[0].entries[0].source == admin.CONFIG_SOURCE_TOPIC
        for n in range(3):
            result = produce(standing, via, "configured", n, b"x" * 1000)
            assert result.HasField("error") == (limit < 1000), result


@pytest.mark.parametrize("via", [1, 2, 3])
def test_elections_are_held_through_any_node(standing: LocalCluster, via: int) -> None:
    name = f"elected-{via}"
    standing.create_topic(name, 3)
    with standing.channel(via) as channel:
        partitions = [data_pb2.TopicPartition(topic=name, partition=n) for n in range(3)]
        answer = AdminServiceStub(channel).ElectLeaders(admin.ElectLeadersRequest(partitions=partitions), timeout=5)
    assert [p.error.code for p in answer.partitions] == [84, 84, 84]  # ELECTION_NOT_NEEDED


def test_an_internal_topic_made_by_two_nodes_gets_its_third_replica_later(cluster: LocalCluster) -> None:
    cluster.start().wait_ready()
    cluster[3].kill()
    eventually(lambda: len([b for b in cluster.metadata(1).brokers if not b.fenced]), 2)
    request = controller.EnsureInternalTopicRequest(topic=admin.NewTopic(name="__ottla_kept", num_partitions=4))
    with cluster.channel(cluster.controller(), "control") as channel:
        answer = ControllerServiceStub(channel).EnsureInternalTopic(request, timeout=10)
    assert not answer.HasField("error"), answer

    def replicas() -> set[tuple[int, int]]:
        found = cluster.metadata(1, "__ottla_kept").topics[0].partitions
        return {(len(p.replicas), len(p.isr)) for p in found}

    assert replicas() == {(2, 2)}
    cluster.start([3]).wait_ready([3])
    eventually(replicas, {(3, 3)}, timeout_s=20)
