"""Internal topics reach three replicas when there are three brokers (features L22)."""

from node.controller.state.draft import ControllerSettings
from node.controller.state.repair import repair_internal_topics
from node.controller.state.topics import ensure_internal_topic
from node.metadata.apply import apply
from node.metadata.image import Image
from ottla.internal.v1 import controller_pb2 as rpc
from ottla.internal.v1 import metadata_pb2 as records
from ottla.v1 import admin_pb2 as admin
from tests.node.controller.support import Cluster

NAME = "__consumer_offsets"


def used_early(nodes: int, settings: ControllerSettings | None = None) -> Cluster:
    cluster = Cluster(nodes=nodes, settings=settings)
    wish = admin.NewTopic(name=NAME, num_partitions=8)
    cluster.do(ensure_internal_topic, rpc.EnsureInternalTopicRequest(topic=wish))
    return cluster


def test_a_topic_made_with_one_broker_grows_with_the_cluster() -> None:
    cluster = used_early(1)
    cluster.create("mine", factor=1)
    assert cluster.topic(NAME).replication_factor == 1
    cluster.start(2)
    cluster.do(repair_internal_topics)
    assert all(len(p.replicas) == 2 for p in cluster.topic(NAME).partitions)
    cluster.start(3)
    cluster.do(repair_internal_topics)
    for p in cluster.topic(NAME).partitions:
        assert sorted(p.replicas) == [1, 2, 3]
        assert (p.leader, p.isr, p.leader_epoch) == (1, (1,), 0), "new replicas must catch up first"
        assert len(p.directories) == 3
    assert cluster.topic("mine").replication_factor == 1
    assert list(cluster.alter([1, 3], name=NAME).isr) == [1, 3]


def test_it_writes_nothing_when_there_is_nothing_to_do() -> None:
    cluster = used_early(3)
    cluster.start(4, directory_id=b"4" * 16)
    before = cluster.index
    cluster.do(repair_internal_topics)
    assert cluster.index == before


def test_a_replica_that_is_away_keeps_its_place() -> None:
    cluster = used_early(2)
    cluster.dead(2)
    cluster.start(3)
    cluster.do(repair_internal_topics)
    assert all(len(p.replicas) == 2 for p in cluster.topic(NAME).partitions), "two are live, two have it"
    cluster.start(2)
    cluster.do(repair_internal_topics)
    assert all(sorted(p.replicas) == [1, 2, 3] for p in cluster.topic(NAME).partitions)


def test_new_replicas_are_spread() -> None:
    cluster = used_early(1)
    for node_id in (2, 3, 4, 5):
        cluster.register(node_id)
    for node_id in (2, 3, 4, 5):
        cluster.beat(node_id)
    cluster.do(repair_internal_topics)
    counts = [sum(n in p.replicas for p in cluster.topic(NAME).partitions) for n in (2, 3, 4, 5)]
    assert counts == [4, 4, 4, 4]


def test_the_partition_limit_holds_for_it_too() -> None:
    cluster = used_early(1, ControllerSettings(max_partitions_per_node=8))
    cluster.start(2)
    cluster.assign("other", [2])
    before = cluster.index
    cluster.do(repair_internal_topics)
    assert cluster.index == before
    assert cluster.topic(NAME).replication_factor == 1


def test_the_default_of_min_isr_follows_and_brokers_hear_of_it() -> None:
    cluster = used_early(1)
    cluster.start(2)
    cluster.start(3)
    cluster.do(repair_internal_topics)
    cluster.alter([1, 2], name=NAME)
    cluster.alter([1], name=NAME)
    assert cluster.partition(NAME).elr == (2,), "min ISR is 2 now"
    image, changed = Image.EMPTY, set[bytes]()
    for index, term, data in cluster.entries[:-2]:
        image, delta = apply(image, records.MetadataRecords.FromString(data), index, term)
        changed = set(delta.changed_config_topics)
    assert changed == {cluster.topic(NAME).topic_id}
