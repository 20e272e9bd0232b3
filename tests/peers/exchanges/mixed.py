"""Requests of several parts, of which some fail, and requests one after the other without waiting."""

from tests.peers.batches import batch
from tests.peers.exchange import exchange
from tests.peers.exchanges.cluster import NOBODY
from tests.peers.exchanges.data import fetched, fetching
from tests.peers.exchanges.groups import GENERATION
from tests.peers.exchanges.topics import TOPIC, without_synonyms
from tests.peers.side import Side


@exchange("Produce")
def produce_to_many(s: Side, v: int) -> None:
    a, b = s.topic("a", 2), s.topic("b")
    no = s.name("no")
    parts = [{"index": number, "records": batch([b"x"])} for number in (0, 1, 5)]
    named = [
        {"name": name, "topic_id": s.ids.get(name, NOBODY), "partition_data": parts[:count]}
        for name, count in ((a, 3), (b, 1), (no, 1))
    ]
    s.ask("Produce", v, acks=-1, timeout_ms=10_000, topic_data=named)
    s.ask("Produce", v, label="nothing", acks=-1, timeout_ms=10_000, topic_data=[])


@exchange("Fetch")
def fetch_from_many(s: Side, v: int) -> None:
    a, b = s.topic("a", 2), s.topic("b")
    s.put(a, [b"1"], 1)
    s.put(b, [b"2"])
    topics = [fetching(s, v, name)["topics"][0] for name in (a, b, s.name("no"))]
    topics[0]["partitions"] += [topics[0]["partitions"][0] | {"partition": number} for number in (1, 6)]
    s.ask("Fetch", v, keep=fetched, max_wait_ms=0, min_bytes=0, topics=topics)


@exchange("ListOffsets")
def list_offsets_of_many(s: Side, v: int) -> None:
    a, b = s.topic("a", 2), s.topic("b")
    s.put(a, [b"1"], 1)
    parts = [{"partition_index": number, "timestamp": -1} for number in (0, 1, 7)]
    topics = [{"name": name, "partitions": parts} for name in (a, b, s.name("no"))]
    s.ask("ListOffsets", v, replica_id=-1, topics=topics)


@exchange("OffsetCommit")
def offset_commit_of_many(s: Side, v: int) -> None:
    a, b = s.topic("a", 2), s.topic("b")
    parts = [
        {"partition_index": number, "committed_offset": 4, "committed_metadata": text}
        for number, text in ((0, None), (1, "x"), (8, ""))
    ]
    topics = [{"name": name, "topic_id": s.ids.get(name, NOBODY), "partitions": parts} for name in (a, b, s.name("no"))]
    s.ask("OffsetCommit", v, group_id=s.name("g"), member_id="", topics=topics)
    s.ask("OffsetCommit", v, label="nothing", group_id=s.name("g"), member_id="", topics=[])
    s.ask("OffsetCommit", v, label="nothing of a generation", group_id=s.name("g"), topics=[], **{GENERATION: 5})
    s.ask("OffsetFetch", 5, label="what is kept", group_id=s.name("g"), topics=None)


@exchange("DescribeConfigs")
def describe_configs_of_many(s: Side, v: int) -> None:
    t = s.topic(retention_ms="77")
    asked = [
        {"resource_type": kind, "resource_name": name, "configuration_keys": ["retention.ms"]}
        for kind, name in ((TOPIC, t), (TOPIC, s.name("no")), (77, s.name("kind")))
    ]
    s.ask("DescribeConfigs", v, keep=without_synonyms, resources=asked)
    s.ask("DescribeConfigs", v, label="nothing", resources=[])


@exchange("ApiVersions")
def answers_come_in_order(s: Side, v: int) -> None:
    """The codec says where an answer is not the one to the oldest request."""
    t = s.topic()
    s.send("Fetch", 12, **fetching(s, 12, t, min_bytes=1, max_wait_ms=300))
    s.send("ApiVersions", v, client_software_name="peer", client_software_version="1")
    s.send("Metadata", 9, topics=[])
    s.note("a fetch that waits", s.receive(), fetched)
    s.note("versions", s.receive(), lambda a: a["error_code"])
    s.note("metadata", s.receive())


@exchange("Metadata", 4)
def metadata_of_many(s: Side, v: int) -> None:
    t = s.topic()
    names = [t, s.name("no"), "bad name", *(s.name(f"no{number}") for number in range(50))]
    s.ask("Metadata", v, topics=[{"name": name} for name in names], allow_auto_topic_creation=False)


@exchange("CreateTopics")
def create_topics_of_which_some_are_wrong(s: Side, v: int) -> None:
    new = [
        {"name": s.name(name), "num_partitions": partitions, "replication_factor": replicas}
        for name, partitions, replicas in (("a", 1, 1), ("b", 0, 1), ("c", 1, 9), ("d", 2, 1))
    ]
    s.ask(
        "CreateTopics", v, timeout_ms=10_000, topics=new,
        keep=lambda a: {each["name"]: (each["error_code"], each.get("num_partitions")) for each in a["topics"]},
    )  # fmt: skip


@exchange("FindCoordinator", 4)
def find_coordinators_of_many(s: Side, v: int) -> None:
    s.ask("FindCoordinator", v, key_type=0, coordinator_keys=[s.name(f"g{number}") for number in range(20)])


@exchange("OffsetFetch", 8)
def offset_fetch_of_many_groups(s: Side, v: int) -> None:
    t = s.topic()
    part = {"partition_index": 0, "committed_offset": 4, "committed_metadata": "m"}
    for name in ("a", "b"):
        named = [{"name": t, "partitions": [part]}]
        s.quiet("OffsetCommit", 8, group_id=s.name(name), member_id="", topics=named)
    groups = [{"group_id": s.name(name), "topics": None} for name in ("a", "b", "none")]
    s.ask("OffsetFetch", v, groups=groups, require_stable=True)
