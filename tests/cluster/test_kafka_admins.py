"""Unchanged administrative clients of Apache Kafka walk through everything that they can ask of a cluster.

kafka-python is always here. confluent-kafka and aiokafka are walked where they are installed.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewPartitions, NewTopic

from tests.cluster.harness import LocalCluster

pytestmark = pytest.mark.cluster
RECORDS = 10
KEPT_FROM = 4


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path_factory.mktemp("admins"), kafka=True) as made:
        made.start().wait_ready()
        made.wait_all_known()
        yield made


def send(cluster: LocalCluster, topic: str) -> None:
    producer = KafkaProducer(bootstrap_servers=cluster.kafka_bootstrap, acks="all")
    for _ in range(RECORDS):
        producer.send(topic, b"x", partition=0)
    producer.close(10)


def test_kafka_python(cluster: LocalCluster) -> None:
    admin = KafkaAdminClient(bootstrap_servers=cluster.kafka_bootstrap)

    def configs() -> Any:
        return admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, "kp")], config_filter="all")["topic"][
            "kp"
        ]

    def alter(**values: str) -> Any:
        changed = ConfigResource(
            ConfigResourceType.TOPIC, "kp", configs={k.replace("_", "."): v for k, v in values.items()}
        )
        return admin.alter_configs([changed])["topic"]["kp"]

    try:
        admin.create_topics([NewTopic("kp", 2, 3, topic_configs={"flush.messages": "5"})])
        admin.create_partitions({"kp": NewPartitions(3)})
        assert admin.describe_cluster()["controller_id"] in (1, 2, 3)
        assert len(configs()) > 30
        assert alter(retention_ms="7777") == "OK"
        assert configs()["retention.ms"]["value"] == "7777"
        admin.reset_configs([ConfigResource(ConfigResourceType.TOPIC, "kp", configs=["retention.ms"])])
        assert configs()["retention.ms"]["value"] == str(7 * 86_400_000)
        send(cluster, "kp")
        [deleted] = admin.delete_records({TopicPartition("kp", 0): KEPT_FROM}).values()
        assert (deleted["error_code"], deleted["low_watermark"]) == (0, KEPT_FROM)
        dirs = {each["broker"]: each["log_dirs"] for each in admin.describe_log_dirs()}
        assert dirs.keys() == {1, 2, 3}
        topics = {topic["name"]: topic["partitions"] for [one] in dirs.values() for topic in one["topics"]}
        assert [part["partition_index"] for part in topics["kp"]] == [0, 1, 2]
        [topic] = admin.describe_topics(["kp"])
        assert [len(part["replica_nodes"]) for part in topic["partitions"]] == [3, 3, 3]
        assert admin.elect_leaders(0, [TopicPartition("kp", 0)], raise_errors=False)
        quorum = admin.describe_metadata_quorum()["topics"][0]["partitions"][0]
        assert quorum["leader_id"] in (1, 2, 3)
        assert [each["replica_id"] for each in quorum["current_voters"]] == [1, 2, 3]
        admin.delete_topics(["kp"])
    finally:
        admin.close()


def test_confluent_kafka(cluster: LocalCluster) -> None:
    ck = pytest.importorskip("confluent_kafka")
    of = pytest.importorskip("confluent_kafka.admin")
    admin = of.AdminClient({"bootstrap.servers": ",".join(cluster.kafka_bootstrap)})
    resource = of.ConfigResource(of.ResourceType.TOPIC, "ck")

    def one(futures: dict[Any, Any]) -> Any:
        [future] = futures.values()
        return future.result(10)

    def configs() -> dict[str, Any]:
        return {name: each.value for name, each in one(admin.describe_configs([resource])).items()}

    one(admin.create_topics([of.NewTopic("ck", 2, 3, config={"flush.messages": "5"})]))
    one(admin.create_partitions([of.NewPartitions("ck", 3)], validate_only=True))
    one(admin.create_partitions([of.NewPartitions("ck", 3)]))
    with pytest.raises(ck.KafkaException, match="INVALID_PARTITIONS"):
        one(admin.create_partitions([of.NewPartitions("ck", 3)]))
    assert [node.id for node in admin.describe_cluster().result(10).nodes] == [1, 2, 3]
    assert len(configs()) > 30
    kind = of.AlterConfigOpType
    changes = [
        of.ConfigEntry("retention.ms", "7777", incremental_operation=kind.SET),
        of.ConfigEntry("cleanup.policy", "compact", incremental_operation=kind.APPEND),
    ]
    one(admin.incremental_alter_configs([of.ConfigResource(of.ResourceType.TOPIC, "ck", incremental_configs=changes)]))
    assert (configs()["retention.ms"], configs()["cleanup.policy"]) == ("7777", "delete,compact")
    with pytest.warns(DeprecationWarning, match="alter_configs"):
        one(admin.alter_configs([of.ConfigResource(of.ResourceType.TOPIC, "ck", set_config={"segment.ms": "60000"})]))
    assert (configs()["segment.ms"], configs()["cleanup.policy"]) == ("60000", "delete")
    send(cluster, "ck")
    assert one(admin.delete_records([ck.TopicPartition("ck", 0, KEPT_FROM)])).low_watermark == KEPT_FROM
    [earliest] = admin.list_offsets({ck.TopicPartition("ck", 0): of.OffsetSpec.earliest()}).values()
    assert earliest.result(10).offset == KEPT_FROM
    [elected] = admin.elect_leaders(ck.ElectionType.PREFERRED, [ck.TopicPartition("ck", 0)]).result(10).values()
    assert elected is None or elected.name() == "ELECTION_NOT_NEEDED"
    assert admin.elect_leaders(ck.ElectionType.PREFERRED).result(10) == {}
    one(admin.delete_topics(["ck"]))


def test_aiokafka(cluster: LocalCluster) -> None:
    of = pytest.importorskip("aiokafka.admin")
    resources = pytest.importorskip("aiokafka.admin.config_resource")
    records = pytest.importorskip("aiokafka.admin.records_to_delete")
    structs = pytest.importorskip("aiokafka")

    def resource(**configs: str) -> Any:
        named = {name.replace("_", "."): value for name, value in configs.items()}
        return resources.ConfigResource(resources.ConfigResourceType.TOPIC, "aio", configs=named or None)

    async def walk() -> None:
        admin = of.AIOKafkaAdminClient(bootstrap_servers=cluster.kafka_bootstrap)
        await admin.start()
        try:
            await admin.create_topics([of.NewTopic("aio", 2, 3)])
            grown = await admin.create_partitions({"aio": of.NewPartitions(3)})
            assert [each[1] for each in grown.topic_errors] == [0]
            assert len((await admin.describe_cluster())["brokers"]) == 3
            altered = await admin.alter_configs([resource(retention_ms="7777")])
            assert [each.resources[0][0] for each in altered] == [0]
            [told] = await admin.describe_configs([resource()])
            assert {entry[0]: entry[1] for entry in told.resources[0][4]}["retention.ms"] == "7777"
            send(cluster, "aio")
            at = structs.TopicPartition("aio", 0)
            assert await admin.delete_records({at: records.RecordsToDelete(KEPT_FROM)}) == {at: KEPT_FROM}
            await admin.delete_topics(["aio"])
        finally:
            await admin.close()

    asyncio.run(walk())
