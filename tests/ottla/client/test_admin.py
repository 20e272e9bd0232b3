"""Administration against a real node: what it changes, and what it refuses by name."""

from collections.abc import Iterator

import pytest

from ottla import Admin, Client, ConfigError, Consumer, OttlaError, Producer, TopicAlreadyExists, UnknownTopic
from ottla.v1 import error_pb2 as pb
from tests.cluster.harness import LocalCluster

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with LocalCluster(tmp_path_factory.mktemp("admin")) as cluster:
        cluster.start().wait_ready()
        yield cluster.bootstrap


async def test_topics(bootstrap: str) -> None:
    async with Admin(bootstrap) as admin:
        dry = await admin.create_topic("a", partitions=2, validate_only=True)
        assert dry.num_partitions == 2
        assert await admin.list_topics() == []
        created = await admin.create_topic("a", partitions=2, replication_factor=3, configs={"retention.ms": "1000"})
        assert (created.name, created.num_partitions, created.replication_factor) == ("a", 2, 3)
        with pytest.raises(TopicAlreadyExists):
            await admin.create_topic("a")
        there = await admin.create_topic("a", partitions=7, exists_ok=True)
        assert (there.topic_id, there.num_partitions, there.replication_factor) == (created.topic_id, 2, 3)
        assert (created.is_new, there.is_new) == (True, False)
        assert (await admin.create_topic("not-yet", exists_ok=True)).is_new
        await admin.delete_topic("not-yet", missing_ok=True)
        with pytest.raises(OttlaError) as caught:
            await admin.create_topic("../a")
        assert caught.value.code == pb.ERROR_CODE_INVALID_TOPIC_EXCEPTION
        topic = await admin.describe_topic("a")
        assert topic.topic_id == created.topic_id
        assert [sorted(p.replicas) for p in topic.partitions] == [[1, 2, 3]] * 2
        await admin.create_partitions("a", 3)
        assert len((await admin.describe_topic("a")).partitions) == 3
        await admin.create_topic("placed", assignments={0: [2, 3]})
        assert (await admin.describe_topic("placed")).partitions[0].replicas == (2, 3)
        await admin.delete_topic("a")
        with pytest.raises(UnknownTopic):
            await admin.delete_topic("a")
        await admin.delete_topic("a", missing_ok=True)
        assert await admin.list_topics() == ["placed"]


async def test_configs(bootstrap: str) -> None:
    async with Admin(bootstrap) as admin:
        await admin.create_topic("c")
        await admin.alter_topic_configs("c", {"retention.ms": "86400000", "cleanup.policy": "compact"})
        shown = await admin.describe_topic_configs("c")
        assert (shown["retention.ms"].value, shown["retention.ms"].source) == ("86400000", "TOPIC")
        await admin.alter_topic_configs("c", {"retention.ms": None})
        again = await admin.describe_topic_configs("c", "retention.ms", "cleanup.policy")
        assert set(again) == {"retention.ms", "cleanup.policy"}
        assert again["retention.ms"].source != "TOPIC"
        assert again["cleanup.policy"].value == "compact"
        with pytest.raises(ConfigError, match=r"retention\.ms"):
            await admin.alter_topic_configs("c", {"retention.ms": "soon"})


async def test_records_and_offsets(bootstrap: str) -> None:
    async with Client(bootstrap) as client:
        admin = Admin(client)
        await admin.create_topic("r", partitions=1, replication_factor=3, configs={"retention.ms": "-1"})
        async with Producer(client) as producer:
            for i in range(10):
                await producer.send("r", b"%d" % i, timestamp=1_700_000_000_000 + i)
        assert await admin.list_offsets({("r", 0): -1}) == {("r", 0): 10}
        assert await admin.list_offsets({("r", 0): 1_700_000_000_004}) == {("r", 0): 4}
        assert await admin.list_offsets({("r", 0): 1_800_000_000_000}) == {("r", 0): None}
        assert await admin.delete_records("r", 0, 6) == 6
        assert await admin.list_offsets({("r", 0): -2}) == {("r", 0): 6}
        async with Consumer("r", bootstrap=client) as consumer:
            assert (await anext(consumer)).offset == 6
            consumer.seek("r", 0, 2)  # gone: the policy finds what is there
            assert (await anext(consumer)).offset == 6
        with pytest.raises(OttlaError) as caught:
            await admin.delete_records("r", 0, 99)
        assert caught.value.code == pb.ERROR_CODE_OFFSET_OUT_OF_RANGE


async def test_the_cluster_and_its_quorum(bootstrap: str) -> None:
    async with Admin(bootstrap) as admin:
        view = await admin.describe_cluster()
        assert sorted(view.brokers) == [1, 2, 3]
        assert view.controller_id in (1, 2, 3)
        quorum = await admin.describe_quorum()
        assert quorum.leader_id == view.controller_id
        assert [voter.node_id for voter in quorum.voters] == [1, 2, 3]
        await admin.create_topic("e", partitions=1, replication_factor=3)
        leader = (await admin.describe_topic("e")).partitions[0].leader_id
        assert await admin.elect_leader("e", 0) == leader
