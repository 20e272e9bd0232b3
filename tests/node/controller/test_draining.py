"""A drained node gets nothing new, and what it has goes elsewhere (invariants.md 1, 38)."""

import pytest

from node.controller.state.draining import begin, drained
from node.controller.state.leaders import balance, elect_leaders
from node.controller.state.moves import reassign_partitions
from node.controller.state.repair import repair_internal_topics
from node.controller.state.resource_configs import alter_configs, describe_configs
from node.controller.state.topics import create_partitions, create_topics, ensure_internal_topic
from ottla.internal.v1 import controller_pb2 as rpc
from ottla.protocol.errors import ApiError
from ottla.v1 import admin_pb2 as admin
from ottla.v1 import data_pb2 as data
from tests.node.controller.support import Cluster, code
from tests.node.controller.test_moves import cluster_of, joins, move


def moves_of(cluster: Cluster, node_id: int) -> admin.ReassignPartitionsRequest:
    return drained(cluster.image, admin.ReassignPartitionsRequest(drain_node_id=node_id))


def drain(cluster: Cluster, node_id: int) -> None:
    cluster.do(begin, node_id)


def configure(cluster: Cluster, node_id: str, operation: int, value: str = "") -> admin.AlterConfigsResult:
    change = admin.ResourceConfigChanges(
        resource=admin.ConfigResource(type=admin.CONFIG_RESOURCE_TYPE_BROKER, name=node_id),
        changes=[admin.ConfigChange(key="broker.draining", operation=operation, value=value)],  # type: ignore[arg-type]
    )
    return cluster.do(alter_configs, admin.AlterConfigsRequest(resources=[change])).resources[0]


class TestTheMoves:
    def test_moves_every_replica_to_the_rack_then_the_node_with_the_fewest(self) -> None:
        cluster = cluster_of(nodes=6, racks=["a", "b", "c", "a", "b", "c"])
        cluster.assign("t", [1, 2, 3], [2, 1, 3], [4, 5, 6])
        moves = [list(m.replicas) for m in moves_of(cluster, 1).partitions]
        assert moves == [[4, 2, 3], [2, 4, 3]]

    def test_of_single_replicas(self) -> None:
        cluster = cluster_of(nodes=3)
        cluster.assign("t", [1], [1], [2])
        assert sorted(m.replicas[0] for m in moves_of(cluster, 1).partitions) == [2, 3]

    def test_is_refused_where_the_replication_factor_cannot_be_kept(self) -> None:
        cluster = cluster_of(nodes=3)
        cluster.assign("t", [1, 2, 3])
        with pytest.raises(ApiError, match=r"t-0 has 3 replicas.* only \[2, 3\] are live and not drained"):
            moves_of(cluster, 1)

    def test_of_an_unknown_node_or_with_partitions_is_refused(self) -> None:
        cluster = cluster_of(nodes=3)
        with pytest.raises(ApiError, match="9 is not registered"):
            moves_of(cluster, 9)
        request = admin.ReassignPartitionsRequest(drain_node_id=1, partitions=[admin.PartitionMove()])
        with pytest.raises(ApiError, match="not both"):
            drained(cluster.image, request)

    def test_two_drains_do_not_go_to_each_other(self) -> None:
        cluster = cluster_of(nodes=4)
        cluster.assign("t", [1], [1], [1])
        drain(cluster, 2)
        assert {n for m in moves_of(cluster, 1).partitions for n in m.replicas} == {3, 4}

    def test_all_that_cannot_go_is_named_up_to_five(self) -> None:
        cluster = cluster_of(nodes=3)
        cluster.assign("t", *[[1, 2, 3]] * 7)
        with pytest.raises(ApiError, match=r"t-0 .*t-4 has 3 replicas, \[1, 2, 3\] and 2 more: without node 1"):
            moves_of(cluster, 1)

    def test_each_says_why(self) -> None:
        cluster = cluster_of(nodes=4)
        cluster.assign("t", [1, 2, 3])
        request = moves_of(cluster, 1)
        answer = cluster.do(reassign_partitions, request)
        assert answer.partitions[0].reason == "node 1 is drained"
        assert cluster.last_records()[0].partition_change.cause.endswith("4, 2, 3: node 1 is drained")


class TestNothingNew:
    """It is drained, and has no replica: whatever is new goes elsewhere."""

    def drained(self, nodes: int = 4, node_id: int = 1) -> Cluster:
        cluster = cluster_of(nodes=nodes)
        drain(cluster, node_id)
        return cluster

    def everywhere(self, cluster: Cluster) -> set[int]:
        return {n for topic in cluster.image.topics.values() for p in topic.partitions for n in p.replicas}

    def test_new_topics_and_partitions(self) -> None:
        cluster = self.drained()
        cluster.create("t", partitions=12)
        grow = admin.CreatePartitionsRequest(topics=[admin.GrowTopic(name="t", total_count=24)])
        assert not cluster.do(create_partitions, grow).topics[0].HasField("error")
        assert self.everywhere(cluster) == {2, 3, 4}

    def test_topics_that_do_not_say_how_many_replicas_they_want(self) -> None:
        cluster = self.drained(nodes=3)
        answer = cluster.do(create_topics, admin.CreateTopicsRequest(topics=[admin.NewTopic(name="t")]))
        assert answer.topics[0].replication_factor == 2

    def test_internal_topics_and_their_repair(self) -> None:
        cluster = self.drained(nodes=3)
        wish = admin.NewTopic(name="__consumer_offsets", num_partitions=3)
        cluster.do(ensure_internal_topic, rpc.EnsureInternalTopicRequest(topic=wish))
        cluster.do(repair_internal_topics)
        assert self.everywhere(cluster) == {2, 3}
        configure(cluster, "1", admin.CONFIG_OPERATION_DELETE)
        cluster.do(repair_internal_topics)
        assert self.everywhere(cluster) == {1, 2, 3}

    def test_what_names_it_is_refused(self) -> None:
        cluster = self.drained()
        assignment = [admin.ReplicaAssignment(partition=0, replicas=[1, 2])]
        wish = admin.NewTopic(name="t", assignments=assignment)
        answer = cluster.do(create_topics, admin.CreateTopicsRequest(topics=[wish]))
        assert code(answer.topics[0].error) == "INVALID_REPLICA_ASSIGNMENT"
        cluster.assign("u", [2, 3])
        refused = move(cluster, 1, 3, name="u").error
        assert (code(refused), "[1] are drained" in refused.message) == ("INVALID_REPLICA_ASSIGNMENT", True)
        assert "ottla node resume 1" in refused.message

    def test_too_many_replicas_says_why(self) -> None:
        cluster = self.drained(nodes=3)
        wish = admin.NewTopic(name="t", num_partitions=1, replication_factor=3)
        error = cluster.do(create_topics, admin.CreateTopicsRequest(topics=[wish])).topics[0].error
        assert code(error) == "INVALID_REPLICATION_FACTOR"
        assert "3 brokers are live, of which 1 are drained" in error.message

    def test_a_move_that_keeps_it_or_is_called_off_is_taken(self) -> None:
        cluster = cluster_of(nodes=4)
        cluster.assign("t", [1, 2, 3])
        move(cluster, 4, 2, 3)
        drain(cluster, 1)
        assert not move(cluster, cancel=True).HasField("error")
        assert not move(cluster, 2, 1, 3).HasField("error")


class TestLeaderships:
    def test_are_handed_over_a_few_at_a_time_and_stay_away(self) -> None:
        cluster = cluster_of(nodes=3)
        cluster.assign("t", *[[1, 2, 3]] * 30)
        drain(cluster, 1)
        cluster.do(balance)
        assert sum(p.leader == 1 for p in cluster.topic().partitions) == 10
        for _ in range(20):
            cluster.wait(1000, 1, 2, 3)
            cluster.do(balance)
        assert sum(p.leader == 1 for p in cluster.topic().partitions) == 0
        assert all(1 in p.isr for p in cluster.topic().partitions)

    def test_come_back_after_the_drain(self) -> None:
        cluster = cluster_of(nodes=3)
        cluster.assign("t", [1, 2, 3])
        drain(cluster, 1)
        cluster.do(balance)
        assert configure(cluster, "1", admin.CONFIG_OPERATION_DELETE).error.code == 0
        for _ in range(8):
            cluster.wait(1000, 1, 2, 3)
            cluster.do(balance)
        assert cluster.partition().leader == 1

    def test_stay_where_nobody_else_is_in_sync(self) -> None:
        cluster = cluster_of(nodes=3)
        cluster.assign("t", [1, 2, 3])
        cluster.dead(2)
        cluster.dead(3)
        drain(cluster, 1)
        cluster.do(balance)
        assert cluster.partition().leader == 1

    def test_of_who_dies_go_to_another_one_while_there_is_one(self) -> None:
        cluster = cluster_of(nodes=3)
        cluster.assign("t", [1, 2, 3])
        drain(cluster, 2)
        cluster.dead(1)
        assert cluster.partition().leader == 3
        cluster.dead(3)
        assert cluster.partition().leader == 2

    def test_an_operator_may_elect_it(self) -> None:
        cluster = cluster_of(nodes=3)
        cluster.assign("t", [1, 2, 3])
        drain(cluster, 1)
        cluster.do(balance)
        assert cluster.partition().leader == 2
        ref = data.TopicPartition(topic="t")
        cluster.do(elect_leaders, admin.ElectLeadersRequest(partitions=[ref]))
        assert cluster.partition().leader == 1


class TestTheConfig:
    def test_is_of_one_broker_and_survives_its_restart(self) -> None:
        cluster = cluster_of(nodes=3)
        assert code(configure(cluster, "", admin.CONFIG_OPERATION_SET, "true").error) == "INVALID_CONFIG"
        assert configure(cluster, "2", admin.CONFIG_OPERATION_SET, "TRUE").error.code == 0
        cluster.start(2)
        cluster.take_over()
        cluster.create("t", partitions=6, factor=2)
        assert {n for p in cluster.topic().partitions for n in p.replicas} == {1, 3}

    def test_is_shown_with_its_broker_alone(self) -> None:
        cluster = cluster_of(nodes=3)
        drain(cluster, 2)
        found = []
        for name in ("2", "3", ""):
            resource = admin.ConfigResource(type=admin.CONFIG_RESOURCE_TYPE_BROKER, name=name)
            request = admin.DescribeConfigsRequest(resources=[resource], keys=["broker.draining"])
            found.append([e.value for e in cluster.do(describe_configs, request).resources[0].entries])
        assert found == [["true"], ["false"], []]

    def test_begins_with_the_level_of_moves_and_a_node_that_is_there(self) -> None:
        cluster = cluster_of(level=4)
        with pytest.raises(ApiError, match=r"from metadata.version 5 on"):
            drain(cluster, 1)
        cluster = cluster_of()
        with pytest.raises(ApiError, match="node 9 is not registered"):
            drain(cluster, 9)
        drain(cluster, 1)
        before = cluster.index
        drain(cluster, 1)
        assert cluster.index == before


def test_a_drained_node_that_is_empty_stays_so_when_a_move_ends() -> None:
    cluster = cluster_of(nodes=4)
    cluster.assign("t", [1, 2, 3])
    drain(cluster, 1)
    cluster.do(reassign_partitions, moves_of(cluster, 1))
    joins(cluster, 4)
    assert (cluster.partition().replicas, cluster.partition().leader) == ((4, 2, 3), 4)
    assert list(moves_of(cluster, 1).partitions) == []
