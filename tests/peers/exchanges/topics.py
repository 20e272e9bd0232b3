"""CreateTopics, DeleteTopics, CreatePartitions, the configs, ElectLeaders."""

from typing import Any

from tests.peers.exchange import exchange
from tests.peers.exchanges.cluster import NOBODY
from tests.peers.side import Side
from tests.peers.wire import Tree

TOPIC, BROKER = 2, 4


def new(name: str, partitions: int = 1, replicas: int = 1, configs: dict[str, str | None] | None = None) -> Tree:
    pairs = [{"name": key, "value": value} for key, value in (configs or {}).items()]
    return {"name": name, "num_partitions": partitions, "replication_factor": replicas, "configs": pairs}


def created(answer: Tree) -> Any:
    """The configs of a new topic are DescribeConfigs' matter."""
    for topic in answer["topics"]:
        if topic.get("configs"):
            topic["configs"] = "some"
    return answer


def make(s: Side, v: int, label: str, *topics: Tree, **more: Any) -> None:
    s.ask("CreateTopics", v, label=label, keep=created, topics=list(topics), timeout_ms=10_000, **more)


@exchange("CreateTopics")
def create_topics(s: Side, v: int) -> None:
    make(s, v, "one", new(s.name("a"), 3))
    make(s, v, "again", new(s.name("a"), 3))
    make(s, v, "with configs", new(s.name("c"), configs={"retention.ms": "1000", "cleanup.policy": "compact"}))
    if v >= 4:
        make(s, v, "with defaults", new(s.name("d"), -1, -1))
    make(s, v, "twice", new(s.name("e")), new(s.name("e")))
    make(s, v, "none")
    given = new(s.name("f"), -1, -1) | {"assignments": [{"partition_index": 0, "broker_ids": [1]}]}
    make(s, v, "assigned", given)
    make(s, v, "only looked at", new(s.name("b")), validate_only=v >= 1)


@exchange("CreateTopics")
def create_topics_is_refused(s: Side, v: int) -> None:
    for number, (label, topic) in enumerate((
        ("no partitions", new("", 0)), ("fewer", new("", -2)), ("no replicas", new("", 1, 0)),
        ("too many replicas", new("", 1, 5)), ("unknown config", new("", configs={"no.such": "1"})),
        ("bad config", new("", configs={"retention.ms": "soon"})),
        ("bad policy", new("", configs={"cleanup.policy": "x"})),
        ("no value", new("", configs={"retention.ms": None})),
        ("unknown broker", new("", -1, -1) | {"assignments": [{"partition_index": 0, "broker_ids": [9]}]}),
        ("a gap", new("", -1, -1) | {"assignments": [{"partition_index": 1, "broker_ids": [1]}]}),
        ("a broker twice", new("", -1, -1) | {"assignments": [{"partition_index": 0, "broker_ids": [1, 1]}]}),
        ("no broker", new("", -1, -1) | {"assignments": [{"partition_index": 0, "broker_ids": []}]}),
        ("assigned and counted", new("", 1, 1) | {"assignments": [{"partition_index": 0, "broker_ids": [1]}]}),
    )):  # fmt: skip
        make(s, v, label, topic | {"name": s.name(f"t{number}")})
    for name in ("", ".", "..", "bad/name", "bad name", "x" * 250):
        make(s, v, f"name {name[:8]!r}", new(name))


@exchange("CreateTopics")
def create_topics_that_collide(s: Side, v: int) -> None:
    make(s, v, "a dot", new(s.name("a.b")))
    make(s, v, "an underscore", new(s.name("a_b")))


def deleting(v: int, *names: str) -> Tree:
    asked = {"topics": [{"name": name} for name in names]} if v >= 6 else {"topic_names": list(names)}
    return asked | {"timeout_ms": 10_000}


@exchange("DeleteTopics")
def delete_topics(s: Side, v: int) -> None:
    a, b = s.topic("a"), s.topic("b")
    s.ask("DeleteTopics", v, label="one", **deleting(v, a))
    s.ask("DeleteTopics", v, label="an unknown and one", **deleting(v, s.name("no"), b))
    s.ask("DeleteTopics", v, label="none", **deleting(v))
    s.until(lambda x: x["topics"][0]["error_code"] == 3, "Metadata", 9, topics=[{"name": a}],
            allow_auto_topic_creation=False)  # fmt: skip
    s.ask("DeleteTopics", v, label="again", **deleting(v, a))


@exchange("DeleteTopics", 6)
def delete_topics_by_id(s: Side, v: int) -> None:
    t = s.topic()
    for label, each in (
        ("unknown", {"topic_id": NOBODY}), ("both", {"name": t, "topic_id": s.ids[t]}), ("neither", {}),
        ("id", {"topic_id": s.ids[t]}),
    ):  # fmt: skip
        s.ask("DeleteTopics", v, label, label, topics=[each], timeout_ms=10_000)


@exchange("DeleteTopics")
def delete_topics_named_twice(s: Side, v: int) -> None:
    t = s.topic()
    s.ask("DeleteTopics", v, **deleting(v, t, t))


@exchange("CreatePartitions")
def create_partitions(s: Side, v: int) -> None:
    t = s.topic(partitions=2)
    for label, name, count, places in (
        ("fewer", t, 1, None), ("as many", t, 2, None), ("none", t, 0, None), ("unknown", s.name("no"), 3, None),
        ("too few places", t, 4, [[1]]), ("an unknown broker", t, 3, [[9]]), ("more", t, 3, None),
        ("placed", t, 4, [[1]]),
    ):  # fmt: skip
        each = {"name": name, "count": count, "assignments": places and [{"broker_ids": p} for p in places]}
        s.ask("CreatePartitions", v, label=label, topics=[each], timeout_ms=10_000)
    only = {"name": t, "count": 9, "assignments": None}
    s.ask("CreatePartitions", v, label="only looked at", topics=[only], timeout_ms=10_000, validate_only=True)
    s.ask("CreatePartitions", v, label="twice", topics=[only, only], timeout_ms=10_000)
    s.served(t, 4)
    s.ask("Metadata", 9, topics=[{"name": t}])


KEPT = ("cleanup.policy", "retention.ms", "retention.bytes", "max.message.bytes", "compression.type",
        "message.timestamp.type", "delete.retention.ms", "min.compaction.lag.ms")  # fmt: skip


def describing(kind: int, name: str, *keys: str) -> Tree:
    return {"resources": [{"resource_type": kind, "resource_name": name, "configuration_keys": list(keys) or None}]}


def without_synonyms(answer: Tree) -> Any:
    for each in answer["results"]:
        for config in each["configs"]:
            config.pop("synonyms", None)
    return answer


@exchange("DescribeConfigs")
def describe_configs(s: Side, v: int) -> None:
    t = s.topic(retention_ms="1234")
    for key in KEPT:
        s.ask("DescribeConfigs", v, key, key, without_synonyms, **describing(TOPIC, t, key))
    s.ask("DescribeConfigs", v, label="an unknown key", **describing(TOPIC, t, "no.such"))
    s.ask("DescribeConfigs", v, label="unknown", **describing(TOPIC, s.name("no")))
    s.ask("DescribeConfigs", v, label="a bad name", **describing(TOPIC, "bad/name"))
    s.ask("DescribeConfigs", v, label="an unknown broker", **describing(BROKER, "77"))
    s.ask("DescribeConfigs", v, label="no broker", **describing(BROKER, "x"))
    s.ask("DescribeConfigs", v, label="an unknown kind", **describing(77, t))


@exchange("DescribeConfigs")
def describe_configs_names_all(s: Side, v: int) -> None:
    t = s.topic()
    s.ask(
        "DescribeConfigs", v, keep=lambda a: {each["name"]: "there" for each in a["results"][0]["configs"]},
        **describing(TOPIC, t),
    )  # fmt: skip


@exchange("DescribeConfigs", 1)
def describe_configs_with_synonyms(s: Side, v: int) -> None:
    t = s.topic(retention_ms="1234")
    s.ask("DescribeConfigs", v, include_synonyms=True, **describing(TOPIC, t, "retention.ms"))


def altering(kind: int, name: str, *configs: tuple[str, str | None, int]) -> Tree:
    each = [{"name": key, "value": value, "config_operation": operation} for key, value, operation in configs]
    return {"resources": [{"resource_type": kind, "resource_name": name, "configs": each}]}


@exchange("IncrementalAlterConfigs")
def incremental_alter_configs(s: Side, v: int) -> None:
    t = s.topic()
    for label, configs in (
        ("set", [("retention.ms", "5000", 0)]), ("append", [("cleanup.policy", "compact", 2)]),
        ("subtract", [("cleanup.policy", "delete", 3)]), ("delete", [("retention.ms", None, 1)]),
        ("delete what is not set", [("retention.bytes", None, 1)]), ("no list", [("retention.ms", "1", 2)]),
        ("unknown", [("no.such", "1", 0)]), ("bad", [("retention.ms", "soon", 0)]),
        ("no value", [("retention.ms", None, 0)]),
        ("no such operation", [("retention.ms", "1", 9)]),
        ("twice", [("retention.ms", "1", 0), ("retention.ms", "2", 0)]),
        ("nothing", []),
    ):  # fmt: skip
        s.ask("IncrementalAlterConfigs", v, label=label, **altering(TOPIC, t, *configs))
    s.ask(
        "IncrementalAlterConfigs", v, label="no such topic", **altering(TOPIC, s.name("no"), ("retention.ms", "1", 0))
    )
    s.ask("IncrementalAlterConfigs", v, label="no such kind", **altering(77, t, ("retention.ms", "1", 0)))
    only = altering(TOPIC, t, ("retention.ms", "7", 0))
    s.ask("IncrementalAlterConfigs", v, label="only looked at", validate_only=True, **only)
    for key in ("retention.ms", "cleanup.policy"):
        s.ask("DescribeConfigs", 4, key, key, without_synonyms, **describing(TOPIC, t, key))


@exchange("AlterConfigs")
def alter_configs(s: Side, v: int) -> None:
    t = s.topic(retention_ms="1234")

    def alter(label: str, kind: int, name: str, *configs: tuple[str, str | None], only: bool = False) -> None:
        each = [{"name": key, "value": value} for key, value in configs]
        named = {"resource_type": kind, "resource_name": name, "configs": each}
        s.ask("AlterConfigs", v, label=label, resources=[named], validate_only=only)

    alter("set", TOPIC, t, ("retention.bytes", "5000"))
    alter("bad", TOPIC, t, ("retention.ms", "soon"))
    alter("unknown", TOPIC, t, ("no.such", "1"))
    alter("no value", TOPIC, t, ("retention.ms", None))
    alter("no such topic", TOPIC, s.name("no"), ("retention.ms", "1"))
    alter("no such kind", 77, t, ("retention.ms", "1"))
    alter("only looked at", TOPIC, t, ("retention.ms", "9"), only=True)
    for key in ("retention.ms", "retention.bytes"):
        s.ask("DescribeConfigs", 4, key, key, without_synonyms, **describing(TOPIC, t, key))


@exchange("ElectLeaders")
def elect_leaders(s: Side, v: int) -> None:
    t = s.topic()
    for kind in (0, 1) if v >= 1 else (0,):
        for label, name, parts in (
            ("needless", t, [0]),
            ("no such partition", t, [9]),
            ("no such topic", s.name("no"), [0]),
        ):
            asked = [{"topic": name, "partitions": parts}]
            s.ask(
                "ElectLeaders", v, label=f"{kind} {label}", election_type=kind, topic_partitions=asked, timeout_ms=5000
            )
    s.ask("ElectLeaders", v, label="none", topic_partitions=[], timeout_ms=5000)
