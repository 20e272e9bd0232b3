"""Configs of topics and brokers: changed key by key, all or none; shown with their sources."""

import pytest

from node.controller.state.draft import ControllerSettings
from node.controller.state.resource_configs import alter_configs, describe_configs
from node.controller.state.topics import create_topics
from ottla.v1 import admin_pb2 as admin
from tests.node.controller.support import Cluster, code

TOPIC = admin.CONFIG_RESOURCE_TYPE_TOPIC
BROKER = admin.CONFIG_RESOURCE_TYPE_BROKER
SET, DELETE = admin.CONFIG_OPERATION_SET, admin.CONFIG_OPERATION_DELETE
APPEND, SUBTRACT = admin.CONFIG_OPERATION_APPEND, admin.CONFIG_OPERATION_SUBTRACT


def change(
    kind: "admin.ConfigResourceType", name: str, *items: tuple[str, str, "admin.ConfigOperation"]
) -> admin.ResourceConfigChanges:
    return admin.ResourceConfigChanges(
        resource=admin.ConfigResource(type=kind, name=name),
        changes=[admin.ConfigChange(key=k, value=v, operation=o) for k, v, o in items],
    )


def alter(cluster: Cluster, *changes: admin.ResourceConfigChanges, validate_only: bool = False) -> list[str]:
    request = admin.AlterConfigsRequest(resources=changes, validate_only=validate_only)
    return [code(r.error) for r in cluster.do(alter_configs, request).resources]


def describe(cluster: Cluster, kind: "admin.ConfigResourceType", name: str, *keys: str) -> dict[str, admin.ConfigEntry]:
    request = admin.DescribeConfigsRequest(resources=[admin.ConfigResource(type=kind, name=name)], keys=keys)
    answer = cluster.do(describe_configs, request).resources[0]
    assert not answer.HasField("error"), answer.error
    return {entry.key: entry for entry in answer.entries}


def test_configs_are_changed_key_by_key() -> None:
    cluster = Cluster()
    cluster.create(retention_ms="1000", segment_bytes="2000000")
    items = (("retention.ms", "5", SET), ("segment.bytes", "", DELETE), ("flush", "ack", SET))
    assert alter(cluster, change(TOPIC, "t", *items)) == ["NONE"]
    assert dict(cluster.topic().configs) == {"retention.ms": "5", "flush": "ack"}
    before = cluster.index
    assert alter(cluster, change(TOPIC, "t", ("retention.ms", "5", SET))) == ["NONE"]
    assert cluster.index == before, "nothing changed, so nothing is written"


def test_items_are_added_to_and_taken_out_of_lists() -> None:
    cluster = Cluster()
    cluster.create()
    assert alter(cluster, change(TOPIC, "t", ("cleanup.policy", "compact", APPEND))) == ["NONE"]
    assert cluster.topic().configs["cleanup.policy"] == "delete,compact"
    assert alter(cluster, change(TOPIC, "t", ("cleanup.policy", "delete", SUBTRACT))) == ["NONE"]
    assert cluster.topic().configs["cleanup.policy"] == "compact"


@pytest.mark.parametrize(
    "item",
    [
        ("retention.ms", "x", SET),
        ("no.such", "1", SET),
        ("retention.ms", "1", APPEND),
        ("cleanup.policy", "keep", APPEND),
        ("", "", SET),
        ("x" * 10**6, "", SET),
        ("flush", "y" * 10**6, SET),
    ],
)
def test_one_bad_key_refuses_all_changes_of_its_resource_and_no_others(
    item: tuple[str, str, "admin.ConfigOperation"],
) -> None:
    cluster = Cluster()
    cluster.create("t")
    cluster.create("u")
    good = ("segment.ms", "5000", SET)
    answer = alter(cluster, change(TOPIC, "t", good, item), change(TOPIC, "u", good))
    assert answer == ["INVALID_CONFIG", "NONE"]
    assert dict(cluster.topic("t").configs) == {}
    assert dict(cluster.topic("u").configs) == {"segment.ms": "5000"}


def test_conflicting_changes_are_refused() -> None:
    cluster = Cluster()
    cluster.create()
    twice = change(TOPIC, "t", ("retention.ms", "1", SET), ("retention.ms", "2", SET))
    assert alter(cluster, twice) == ["INVALID_CONFIG"]
    one, other = change(TOPIC, "t", ("retention.ms", "1", SET)), change(TOPIC, "t", ("segment.ms", "2", SET))
    assert alter(cluster, one, other) == ["INVALID_REQUEST", "INVALID_REQUEST"]
    assert dict(cluster.topic().configs) == {}


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        ((TOPIC, "none"), "UNKNOWN_TOPIC_OR_PARTITION"),
        ((TOPIC, ""), "UNKNOWN_TOPIC_OR_PARTITION"),
        ((BROKER, "9"), "INVALID_REQUEST"),
        ((BROKER, "one"), "INVALID_REQUEST"),
        ((admin.CONFIG_RESOURCE_TYPE_NONE, "t"), "INVALID_REQUEST"),
        ((99, "t"), "INVALID_REQUEST"),
    ],
)
def test_an_unknown_resource_is_refused_by_both_calls(
    resource: tuple["admin.ConfigResourceType", str], expected: str
) -> None:
    cluster = Cluster()
    cluster.create()
    assert alter(cluster, change(*resource)) == [expected]
    request = admin.DescribeConfigsRequest(resources=[admin.ConfigResource(type=resource[0], name=resource[1])])
    assert code(cluster.do(describe_configs, request).resources[0].error) == expected


def test_validate_only_checks_and_changes_nothing() -> None:
    cluster = Cluster()
    cluster.create()
    before = cluster.index
    good, bad = change(TOPIC, "t", ("flush", "ack", SET)), change(BROKER, "", ("log.flush", "x", SET))
    assert alter(cluster, good, bad, validate_only=True) == ["NONE", "INVALID_CONFIG"]
    assert cluster.index == before


def test_brokers_have_defaults_for_topics_and_read_only_settings() -> None:
    static = {"node.id": "1", "log.retention.ms": "111"}
    cluster = Cluster(settings=ControllerSettings(static=static))
    assert alter(cluster, change(BROKER, "", ("log.retention.ms", "222", SET))) == ["NONE"]
    assert alter(cluster, change(BROKER, "2", ("log.retention.ms", "333", SET))) == ["NONE"]
    assert alter(cluster, change(BROKER, "2", ("node.id", "7", SET))) == ["INVALID_CONFIG"]
    assert alter(cluster, change(BROKER, "2", ("min.insync.replicas", "1", SET))) == ["INVALID_CONFIG"]
    entry = describe(cluster, BROKER, "2", "log.retention.ms")["log.retention.ms"]
    assert (entry.value, entry.source, entry.read_only) == ("333", admin.CONFIG_SOURCE_DYNAMIC_BROKER, False)
    assert [(s.value, s.source) for s in entry.synonyms] == [
        ("333", admin.CONFIG_SOURCE_DYNAMIC_BROKER),
        ("222", admin.CONFIG_SOURCE_DYNAMIC_DEFAULT_BROKER),
        ("111", admin.CONFIG_SOURCE_STATIC_BROKER),
        ("604800000", admin.CONFIG_SOURCE_DEFAULT),
    ]
    assert describe(cluster, BROKER, "1", "log.retention.ms")["log.retention.ms"].value == "222"
    read_only = describe(cluster, BROKER, "1", "node.id")["node.id"]
    assert (read_only.value, read_only.read_only) == ("1", True)


def test_a_topics_configs_show_where_each_value_comes_from() -> None:
    cluster = Cluster()
    cluster.create(retention_ms="5")
    alter(cluster, change(BROKER, "", ("log.segment.bytes", "2000000", SET)))
    entries = describe(cluster, TOPIC, "t")
    assert (entries["retention.ms"].value, entries["retention.ms"].source) == ("5", admin.CONFIG_SOURCE_TOPIC)
    assert entries["segment.bytes"].source == admin.CONFIG_SOURCE_DYNAMIC_DEFAULT_BROKER
    assert (entries["min.insync.replicas"].value, entries["min.insync.replicas"].source) == (
        "2",
        admin.CONFIG_SOURCE_DEFAULT,
    )
    assert all(entry.documentation and entry.synonyms for entry in entries.values())
    assert set(describe(cluster, TOPIC, "t", "flush")) == {"flush"}


def test_cluster_defaults_change_what_new_topics_get() -> None:
    cluster = Cluster()
    items = (("num.partitions", "4", SET), ("default.replication.factor", "2", SET))
    assert alter(cluster, change(BROKER, "", *items)) == ["NONE"]
    cluster.do(create_topics, admin.CreateTopicsRequest(topics=[admin.NewTopic(name="t")]))
    assert (len(cluster.topic().partitions), cluster.topic().replication_factor) == (4, 2)


def test_allowing_unclean_elections_elects_at_once_where_nobody_leads() -> None:
    cluster = Cluster()
    cluster.assign("t", [1, 2, 3])
    cluster.alter([1, 3])
    cluster.dead(1)
    cluster.dead(3)
    assert cluster.partition().leader == -1
    assert alter(cluster, change(TOPIC, "t", ("unclean.leader.election.enable", "true", SET))) == ["NONE"]
    assert cluster.partition().leader == 2


def test_a_min_isr_of_all_brokers_counts_for_every_topic() -> None:
    cluster = Cluster()
    cluster.assign("t", [1, 2, 3])
    cluster.alter([1])
    assert cluster.partition().elr == (2, 3)
    assert alter(cluster, change(BROKER, "", ("min.insync.replicas", "1", SET))) == ["NONE"]
    assert cluster.partition().elr == ()


def test_defaults_that_contradict_each_other_are_refused_and_hold_up_nothing_else() -> None:
    cluster = Cluster()
    low, high = "log.cleaner.min.compaction.lag.ms", "log.cleaner.max.compaction.lag.ms"
    cluster.create(min_compaction_lag_ms="5")
    assert alter(cluster, change(BROKER, "", (low, "3", SET), (high, "2", SET))) == ["INVALID_CONFIG"]
    assert alter(cluster, change(BROKER, "", (high, "2", SET))) == ["NONE"], "a topic's own value is not looked at"
    assert alter(cluster, change(BROKER, "", (low, "3", SET))) == ["INVALID_CONFIG"]
    assert alter(cluster, change(BROKER, "1", (low, "3", SET))) == ["INVALID_CONFIG"]
    assert alter(cluster, change(TOPIC, "t", ("retention.ms", "5", SET))) == ["NONE"], "that is another matter"
    assert alter(cluster, change(TOPIC, "t", ("min.compaction.lag.ms", "4", SET))) == ["INVALID_CONFIG"]
    wish = admin.NewTopic(name="u", configs={"min.compaction.lag.ms": "3"})
    refused = cluster.do(create_topics, admin.CreateTopicsRequest(topics=[wish])).topics[0]
    assert code(refused.error) == "INVALID_CONFIG"
