"""Topics: names, numbers, placement, limits, growth, deletion; bad input of every kind changes nothing."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.controller.state import topics
from node.controller.state.draft import ControllerSettings
from ottla.internal.v1 import controller_pb2 as rpc
from ottla.protocol.errors import ApiError
from ottla.v1 import admin_pb2 as admin
from tests.node.controller.support import Cluster, code


def create(cluster: Cluster, *wishes: admin.NewTopic, validate_only: bool = False) -> admin.CreateTopicsResponse:
    request = admin.CreateTopicsRequest(topics=wishes, validate_only=validate_only)
    return cluster.do(topics.create_topics, request)


def test_a_topic_gets_the_clusters_defaults() -> None:
    cluster = Cluster()
    result = create(cluster, admin.NewTopic(name="t")).topics[0]
    assert (result.num_partitions, result.replication_factor, len(result.topic_id)) == (1, 3, 16)
    p = cluster.partition()
    assert (p.isr, p.leader, p.leader_epoch, p.partition_epoch) == (p.replicas, p.replicas[0], 0, 0)


@pytest.mark.parametrize(("nodes", "factor"), [(1, 1), (2, 2), (3, 3), (5, 3)])
def test_the_default_replication_factor_is_the_number_of_live_brokers_at_most_3(nodes: int, factor: int) -> None:
    cluster = Cluster(nodes=nodes)
    assert create(cluster, admin.NewTopic(name="t", replication_factor=-1)).topics[0].replication_factor == factor


@given(nodes=st.integers(1, 7), partitions=st.integers(1, 40), factor=st.integers(1, 5), before=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_no_broker_leads_more_than_its_share_and_replicas_are_even(
    nodes: int, partitions: int, factor: int, before: int
) -> None:
    factor = min(factor, nodes)
    cluster = Cluster(nodes=nodes)
    if before:
        cluster.create("before", partitions=before, factor=1)
    topic = cluster.create(partitions=partitions, factor=factor)
    leaders = Counter(p.leader for p in topic.partitions)
    assert max(leaders.values()) <= -(-partitions // nodes)
    assert all(len(set(p.replicas)) == factor for p in topic.partitions)
    total = Counter(n for t in cluster.image.topics.values() for p in t.partitions for n in p.replicas)
    counts = [total[n] for n in cluster.live()]
    assert max(counts) - min(counts) <= max(2, factor)


@given(partitions=st.integers(1, 30), per_rack=st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_with_three_racks_each_partition_has_one_replica_in_each(partitions: int, per_rack: int) -> None:
    racks = ["a", "b", "c"] * per_rack
    cluster = Cluster(nodes=len(racks), racks=racks)
    topic = cluster.create(partitions=partitions, factor=3)
    assert all({cluster.racks[n] for n in p.replicas} == {"a", "b", "c"} for p in topic.partitions)


def test_a_rack_on_some_brokers_only_is_refused() -> None:
    cluster = Cluster(racks=["a", "", "b"])
    error = create(cluster, admin.NewTopic(name="t")).topics[0].error
    assert code(error) == "INVALID_REPLICATION_FACTOR"
    assert "brokers 2 have no broker.rack" in error.message


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "../../x", "/etc/passwd", "a\0b", "a b", "ä", "a" * 250, "x" * 10**6, "a\n", "топик", "a:b"],
)
def test_a_name_that_is_not_allowed_is_refused_without_an_echo_of_any_size(name: str) -> None:
    cluster = Cluster()
    before = cluster.index
    result = create(cluster, admin.NewTopic(name=name)).topics[0]
    assert code(result.error) == "INVALID_TOPIC_EXCEPTION"
    assert result.ByteSize() < 2000
    assert cluster.index == before


def test_names_that_collide_are_refused_also_within_one_request() -> None:
    cluster = Cluster()
    cluster.create("a.b")
    answer = create(cluster, *(admin.NewTopic(name=n) for n in ("a_b", "a.b", "c_d", "c.d", "A.b", "same", "same")))
    assert [code(t.error) for t in answer.topics] == [
        "INVALID_TOPIC_EXCEPTION",
        "TOPIC_ALREADY_EXISTS",
        "NONE",
        "INVALID_TOPIC_EXCEPTION",
        "NONE",
        "INVALID_REQUEST",
        "INVALID_REQUEST",
    ]
    assert "collides with 'c_d'" in answer.topics[3].error.message


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("__consumer_offsets", "INVALID_TOPIC_EXCEPTION"),
        ("__consumer.offsets", "INVALID_TOPIC_EXCEPTION"),
        ("__transaction_state", "INVALID_TOPIC_EXCEPTION"),
        ("__cluster_metadata", "INVALID_TOPIC_EXCEPTION"),
        ("__ottla_anything", "INVALID_TOPIC_EXCEPTION"),
        ("__debezium-heartbeat.x", "NONE"),
        ("__", "NONE"),
    ],
)
def test_names_of_the_cluster_itself_are_reserved_and_no_others(name: str, expected: str) -> None:
    assert code(create(Cluster(), admin.NewTopic(name=name)).topics[0].error) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"num_partitions": 0}, "INVALID_PARTITIONS"),
        ({"num_partitions": -2}, "INVALID_PARTITIONS"),
        ({"num_partitions": -(2**31)}, "INVALID_PARTITIONS"),
        ({"num_partitions": 10**6}, "POLICY_VIOLATION"),
        ({"num_partitions": 2**31 - 1}, "POLICY_VIOLATION"),
        ({"replication_factor": 0}, "INVALID_REPLICATION_FACTOR"),
        ({"replication_factor": 4}, "INVALID_REPLICATION_FACTOR"),
        ({"replication_factor": -2}, "INVALID_REPLICATION_FACTOR"),
        ({"configs": {"retention.ms": "soon"}}, "INVALID_CONFIG"),
        ({"configs": {"no.such.key": "1"}}, "INVALID_CONFIG"),
        ({"configs": {"min.compaction.lag.ms": "2", "max.compaction.lag.ms": "1"}}, "INVALID_CONFIG"),
        ({"assignments": [(0, [])]}, "INVALID_REPLICA_ASSIGNMENT"),
        ({"assignments": [(0, [1, 1])]}, "INVALID_REPLICA_ASSIGNMENT"),
        ({"assignments": [(0, [1, 9])]}, "INVALID_REPLICA_ASSIGNMENT"),
        ({"assignments": [(1, [1])]}, "INVALID_REPLICA_ASSIGNMENT"),
        ({"assignments": [(0, [1]), (0, [2])]}, "INVALID_REPLICA_ASSIGNMENT"),
        ({"assignments": [(0, [1]), (2, [2])]}, "INVALID_REPLICA_ASSIGNMENT"),
        ({"assignments": [(-1, [1])]}, "INVALID_REPLICA_ASSIGNMENT"),
        ({"assignments": [(0, [1, 2]), (1, [1])]}, "INVALID_REPLICA_ASSIGNMENT"),
        ({"assignments": [(0, [1])], "num_partitions": 1}, "INVALID_REQUEST"),
    ],
)
def test_a_topic_that_cannot_be_is_refused_and_changes_nothing(fields: dict[str, object], expected: str) -> None:
    cluster = Cluster()
    before = cluster.index
    values = dict(fields)
    if "assignments" in values:
        values["assignments"] = [
            admin.ReplicaAssignment(partition=n, replicas=r)
            for n, r in values["assignments"]  # type: ignore[attr-defined]
        ]
    answer = create(cluster, admin.NewTopic(name="t", **values), admin.NewTopic(name="good"))  # type: ignore[arg-type]
    assert [code(t.error) for t in answer.topics] == [expected, "NONE"]
    assert answer.topics[0].error.message
    assert set(cluster.image.names) == {"good"}
    assert cluster.index == before + 1


def test_more_replicas_than_live_brokers_says_both_numbers() -> None:
    cluster = Cluster()
    cluster.dead(3)
    error = create(cluster, admin.NewTopic(name="t", replication_factor=3)).topics[0].error
    assert "replication factor 3, 2 brokers are live" in error.message


def test_a_manual_assignment_is_kept_as_it_is() -> None:
    cluster = Cluster()
    topic = cluster.assign("t", [3, 1], [2, 3])
    assert [p.replicas for p in topic.partitions] == [(3, 1), (2, 3)]
    assert [p.leader for p in topic.partitions] == [3, 2]


def test_the_partition_limit_of_a_node_holds_over_topics_and_requests() -> None:
    cluster = Cluster(settings=ControllerSettings(max_partitions_per_node=5))
    cluster.create("a", partitions=4)
    answer = create(cluster, admin.NewTopic(name="b"), admin.NewTopic(name="c"))
    assert [code(t.error) for t in answer.topics] == ["NONE", "POLICY_VIOLATION"]
    assert "has 5 partitions and would get 1 more, max.partitions.per.node is 5" in answer.topics[1].error.message
    assert code(grow(cluster, "a", 5)) == "POLICY_VIOLATION"
    assert len(cluster.topic("a").partitions) == 4


def test_a_broker_gets_no_more_than_it_said_that_it_carries() -> None:
    cluster = Cluster()
    cluster.create("a", partitions=4)
    cluster.register(1, max_partitions=5)
    cluster.beat(1, metadata_index=cluster.index)
    answer = create(
        cluster, admin.NewTopic(name="b", replication_factor=3), admin.NewTopic(name="c", replication_factor=3)
    )
    assert [code(t.error) for t in answer.topics] == ["NONE", "POLICY_VIOLATION"]
    assert "broker 1 has 5 partitions and would get 1 more, its file descriptors are enough for 5" in (
        answer.topics[1].error.message
    )
    assert cluster.image.brokers[1].max_partitions == 5


def test_a_thousand_topics_at_once() -> None:
    cluster = Cluster()
    answer = create(cluster, *(admin.NewTopic(name=f"t{i}") for i in range(1000)))
    assert not any(t.HasField("error") for t in answer.topics)
    leaders = Counter(p.leader for t in cluster.image.topics.values() for p in t.partitions)
    assert max(leaders.values()) - min(leaders.values()) <= 1


def test_validate_only_checks_everything_and_changes_nothing() -> None:
    cluster = Cluster()
    before = cluster.index
    wishes = (admin.NewTopic(name="t", num_partitions=4), admin.NewTopic(name="u", num_partitions=0))
    answer = create(cluster, *wishes, validate_only=True)
    assert [code(t.error) for t in answer.topics] == ["NONE", "INVALID_PARTITIONS"]
    assert (answer.topics[0].num_partitions, answer.topics[0].topic_id) == (4, b"")
    assert cluster.index == before


def grow(cluster: Cluster, name: str, total: int, *assignments: list[int], validate_only: bool = False) -> object:
    wish = admin.GrowTopic(name=name, total_count=total)
    for replicas in assignments:
        wish.assignments.add(partition=len(cluster.topic(name).partitions) + len(wish.assignments), replicas=replicas)
    request = admin.CreatePartitionsRequest(topics=[wish], validate_only=validate_only)
    return cluster.do(topics.create_partitions, request).topics[0].error


def test_a_topic_grows_and_its_old_partitions_stay_as_they_are() -> None:
    cluster = Cluster()
    before = cluster.create(partitions=2).partitions
    assert code(grow(cluster, "t", 5)) == "NONE"
    after = cluster.topic().partitions
    assert after[:2] == before
    assert [p.partition for p in after] == [0, 1, 2, 3, 4]
    assert all(len(p.replicas) == 3 and p.isr == p.replicas for p in after)
    assert code(grow(cluster, "t", 6, [2, 1, 3])) == "NONE"
    assert cluster.partition(n=5).replicas == (2, 1, 3)


@pytest.mark.parametrize("total", [3, 2, 0, -1, -(2**31)])
def test_a_topic_never_shrinks(total: int) -> None:
    cluster = Cluster()
    cluster.create(partitions=3)
    error = grow(cluster, "t", total)
    assert code(error) == "INVALID_PARTITIONS"
    assert f"has 3 partitions, {total} are wanted" in error.message  # type: ignore[attr-defined]


def test_growth_that_cannot_be_is_refused() -> None:
    cluster = Cluster()
    cluster.create()
    assert code(grow(cluster, "t", 2, [1, 2])) == "INVALID_REPLICA_ASSIGNMENT"
    assert code(grow(cluster, "t", 3, [1, 2, 3])) == "INVALID_REPLICA_ASSIGNMENT"
    assert code(grow(cluster, "t", 10**6)) == "POLICY_VIOLATION"
    cluster.dead(3)
    assert code(grow(cluster, "t", 2)) == "INVALID_REPLICATION_FACTOR"
    request = admin.CreatePartitionsRequest(topics=[admin.GrowTopic(name="none", total_count=3)])
    answer = cluster.do(topics.create_partitions, request)
    assert code(answer.topics[0].error) == "UNKNOWN_TOPIC_OR_PARTITION"
    assert len(cluster.topic().partitions) == 1


def delete(cluster: Cluster, *refs: admin.TopicRef, validate_only: bool = False) -> list[str]:
    request = admin.DeleteTopicsRequest(topics=refs, validate_only=validate_only)
    return [code(t.error) for t in cluster.do(topics.delete_topics, request).topics]


def test_a_topic_is_deleted_by_name_or_id_or_both_together() -> None:
    cluster = Cluster()
    ids = [cluster.create(f"t{i}").topic_id for i in range(3)]
    assert delete(cluster, admin.TopicRef(name="t0", topic_id=ids[1])) == ["UNKNOWN_TOPIC_ID"]
    assert delete(cluster, admin.TopicRef(name="t0"), admin.TopicRef(topic_id=ids[1])) == ["NONE", "NONE"]
    assert delete(cluster, admin.TopicRef(name="t2", topic_id=ids[2])) == ["NONE"]
    assert not cluster.image.topics
    assert not cluster.image.names


def test_deleting_what_is_not_there_is_refused() -> None:
    cluster = Cluster()
    cluster.create()
    refs = [admin.TopicRef(name="t"), admin.TopicRef(name="t"), admin.TopicRef(), admin.TopicRef(topic_id=b"x" * 40)]
    assert delete(cluster, *refs) == ["NONE"] + ["UNKNOWN_TOPIC_OR_PARTITION"] * 2 + ["UNKNOWN_TOPIC_ID"]


def test_validate_only_deletes_nothing() -> None:
    cluster = Cluster()
    cluster.create()
    assert delete(cluster, admin.TopicRef(name="t"), admin.TopicRef(name="u"), validate_only=True) == [
        "NONE",
        "UNKNOWN_TOPIC_OR_PARTITION",
    ]
    assert cluster.topic()


def test_a_topic_with_dead_replicas_is_deleted_all_the_same() -> None:
    cluster = Cluster()
    cluster.create()
    for node_id in (1, 2, 3):
        cluster.dead(node_id)
    assert delete(cluster, admin.TopicRef(name="t")) == ["NONE"]


def test_an_internal_topic_is_made_once_with_as_many_replicas_as_there_are_brokers() -> None:
    cluster = Cluster(nodes=2)
    wish = admin.NewTopic(name="__consumer_offsets", num_partitions=8, configs={"cleanup.policy": "compact"})
    request = rpc.EnsureInternalTopicRequest(topic=wish)
    assert not cluster.do(topics.ensure_internal_topic, request).HasField("error")
    topic = cluster.topic("__consumer_offsets")
    assert (len(topic.partitions), topic.replication_factor, topic.internal) == (8, 2, True)
    assert dict(topic.configs) == {"flush": "ack", "cleanup.policy": "compact"}
    before = cluster.index
    cluster.do(topics.ensure_internal_topic, request)
    assert cluster.index == before


def test_an_internal_topic_needs_an_internal_name_and_is_not_deleted_or_grown_by_clients() -> None:
    cluster = Cluster()
    with pytest.raises(ApiError, match="INVALID_TOPIC_EXCEPTION"):
        cluster.do(topics.ensure_internal_topic, rpc.EnsureInternalTopicRequest(topic=admin.NewTopic(name="t")))
    request = rpc.EnsureInternalTopicRequest(topic=admin.NewTopic(name="__ottla_x"))
    cluster.do(topics.ensure_internal_topic, request)
    assert delete(cluster, admin.TopicRef(name="__ottla_x")) == ["INVALID_REQUEST"]
    assert code(grow(cluster, "__ottla_x", 4)) == "INVALID_REQUEST"


def test_an_internal_topic_cannot_be_made_without_a_live_broker() -> None:
    cluster = Cluster(nodes=0)
    with pytest.raises(ApiError, match="INVALID_REPLICATION_FACTOR"):
        cluster.do(topics.ensure_internal_topic, rpc.EnsureInternalTopicRequest(topic=admin.NewTopic(name="__ottla_x")))
